"""How busy the servers of a node are that is 20 ms away, each way, with tasks of 5 ms."""

from __future__ import annotations

import json
import sys

from tests.bench.measure import SERVERS, Row, options, say
from tests.integration.test_two_hosts import give_secret, secret_of, wait
from tests.kit import distance, netns
from tests.kit.distance import Wire
from tests.kit.netns import Hosts

GIVEN = options()
AWAY_S = 0.02
TASK_S = 0.005
COUNT = 1000 if GIVEN.quick else 4000  # 2.5 s, or 10, of two busy servers
DISPYCOS = [sys.executable, "-m", "dispycos"]
TOLD_WITHIN_S = 20.0
PROGRAM = f"""
import asyncio, time
import dispycos

def nap(seconds):
    time.sleep(seconds)

async def main():
    async with dispycos.Client([nap]) as client:
        await client.submit(nap, {TASK_S})
        start = time.perf_counter()
        await asyncio.gather(*(client.submit(nap, {TASK_S}) for _ in range({COUNT})))
        print(time.perf_counter() - start)

dispycos.run(main)
"""


def measure() -> float:
    """Seconds that all tasks took."""
    with Hosts(2) as (near, far), Wire(near, far, AWAY_S):
        give_secret(far, secret_of(near))
        far.start([*DISPYCOS, "node", "--cpus", str(SERVERS), "--daemon"])
        near.start([*DISPYCOS, "scheduler", "--daemon", "--node", Wire.far])

        def is_known() -> bool:
            status = near.run([*DISPYCOS, "status", "--json"])
            known = json.loads(status.stdout)["schedulers"] if status.returncode == 0 else []
            return bool(known) and bool(known[0]["nodes"])

        wait(is_known, TOLD_WITHIN_S)
        script = near.folder / "program.py"
        script.write_text(PROGRAM)
        done = near.run([sys.executable, str(script)], timeout=50)
        assert done.returncode == 0, done.stderr
        return float(done.stdout)


def main() -> None:
    why = netns.why_unavailable() or distance.why_unavailable()
    if why:
        print(f"far: left out, {why}")
        return
    busy = 100 * COUNT * TASK_S / SERVERS / measure()
    alone = 100 * TASK_S / (TASK_S + 2 * AWAY_S)
    say(Row("servers busy with 5 ms tasks, 20 ms away", "%", busy, [("one task at a time", alone)]))


if __name__ == "__main__":
    main()
