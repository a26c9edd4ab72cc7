"""Ctrl-C, once and more often, at programs that wait for tasks: each ends soon, with what Python says of it and nothing else."""

from __future__ import annotations

import signal
import time

import pytest

from tests.kit.programs import User

pytestmark = pytest.mark.timeout(60)

WAITS = """
    import asyncio, sys, time
    import dispycos

    def nap():
        print("task runs", flush=True)
        time.sleep(30)

    def refuse():
        print("task runs", flush=True)
        while True:
            try:
                time.sleep(100)
            except KeyboardInterrupt:
                pass

    async def gather(client):
        await asyncio.gather(*(client.submit(nap) for _ in range(6)))

    async def gather_refusing(client):
        await asyncio.gather(client.submit(refuse), client.submit(nap))

    async def take_values(client):
        async for _ in client.map(lambda _: nap(), range(6)):
            pass

    async def close(client):
        client.submit(nap)

    async def close_refusing(client):
        client.submit(refuse)

    async def main():
        async with dispycos.Client() as client:
            await globals()[sys.argv[2]](client)

    dispycos.run(main) if sys.argv[1] == "dispycos" else asyncio.run(main())
"""

KILLED_S = 5.0  # what a task has to end in
KILLED = "killed by SIGKILL"
AT_THE_END = "lost sys.stderr"  # Python's own, below "object ..." lines, of a Ctrl-C that comes while it ends


@pytest.mark.parametrize("runner", ["dispycos", "asyncio"])
@pytest.mark.parametrize(
    ("what", "pauses"),
    [
        ("gather", []),
        ("gather", [0.05]),
        ("take_values", []),
        ("close", []),
        ("close", [0.02, 0.02]),
        ("gather_refusing", [0.8]),
        ("gather_refusing", [0.3, 0.3]),
        ("close_refusing", [0.3, 0.3]),
    ],
)
def test_it_ends(runner: str, what: str, pauses: list[float]) -> None:
    with User() as user:  # it sees to it that no process is left
        program = user.script("waits.py", WAITS, runner, what)
        program.wait_line("task runs")
        program.interrupt()
        for pause in pauses:
            time.sleep(pause)
            if program.is_alive():
                program.interrupt()
        last = time.monotonic()
        code = program.wait()
        assert code in (130, -signal.SIGINT)
        if len(pauses) > 1:  # the third ends it at once, whatever its tasks do
            assert time.monotonic() - last < KILLED_S, program.told()
        if not pauses:
            assert KILLED not in program.err, program.told()
        said = [line for line in program.err.splitlines() if KILLED not in line]
        if runner == "dispycos":
            assert said == ["interrupted"], program.told()
        else:
            traces = (" ", "Traceback", "During", "object ")
            ends = {line for line in said if line and not line.startswith(traces)}
            assert ends <= {"KeyboardInterrupt", "asyncio.exceptions.CancelledError", AT_THE_END}, (
                program.told()
            )
