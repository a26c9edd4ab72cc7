"""--zombie_period with real servers: what counts is what their pages say."""

from __future__ import annotations

import pytest

from tests.kit.programs import User

pytestmark = pytest.mark.timeout(60)

WAITS_THEN_IDLES = """
    import asyncio
    import dispycos

    async def waits(seconds, *, task):
        await task.sleep(seconds)
        return "waited"

    async def main():
        async with dispycos.Client([waits], pulse_interval=0.5) as client:
            print(await (await client.io_rtask(waits, 1.7)), flush=True)
            while await client.servers():
                await asyncio.sleep(0.1)
            await client.rtask(waits, 0)

    try:
        dispycos.run(main)
    except (dispycos.ScheduleError, dispycos.TaskLost) as error:
        print(error)  # or it is submitted before that is known
"""


@pytest.mark.parametrize("who", ["node", "scheduler"])
def test_an_io_task_that_waits_keeps_the_cluster_and_who_runs_nothing_loses_it(user: User, who: str) -> None:
    zombie = ["--zombie_period", "1"]
    user.scheduler(*(zombie if who == "scheduler" else []))
    user.node("n", *(zombie if who == "node" else []), "--min_pulse_interval", "0.5", cpus=1)
    client = user.script("idles.py", WAITS_THEN_IDLES)
    out = client.succeed(15)
    assert out.startswith("waited\n"), out
    assert "for 1 s, the --zombie_period of " + who in out
    assert "the lease has ended: " in client.err
