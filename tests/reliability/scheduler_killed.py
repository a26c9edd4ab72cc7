"""A scheduler that is killed and started again costs nobody anything: `python -m tests.reliability.scheduler_killed 20 10000 5 75`.

The first number is how often it is killed under a running client, the second how many tasks of 5 ms that has on two nodes; the
third how often it is killed while two clients wait for a third to end; the fourth for how many seconds it is away then.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from collections.abc import Iterator

from tests.kit.programs import User, free_port

GAP_S = 0.2  # between the ends of two tasks, whatever becomes of the scheduler
GRANTED_S = 5.0  # from its start until the next client has the cluster
APART_S = (0.5, 1.0)
BACK_S = 6.0  # that the client goes on after it: longer than a scheduler that is started anew grants nothing
TASKS_A_SECOND = 400  # no machine ends more of 5 ms on two servers

RUNNING = """
import asyncio, collections, json, os, sys, time
import dispycos

count, host, port = int(sys.argv[1]), "127.0.0.1", int(sys.argv[2])

def work(number, path):
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(file, f"{number}\\n".encode())
    os.close(file)
    time.sleep(0.005)
    return number * number

async def main(*, task):
    path = os.path.abspath("started")
    ends = []
    client = dispycos.Client()
    await client.schedule(dispycos.Location(host, port))
    async with client:
        tasks = [client.submit(work, number, path) for number in range(count)]
        for one in tasks:
            one.add_done_callback(lambda done: ends.append(time.monotonic()))
        await tasks[0]
        print("running", flush=True)
        values = await asyncio.gather(*tasks)
        print("done", flush=True)
    assert values == [number * number for number in range(count)]
    with open(path) as file:
        starts = collections.Counter(map(int, file))
    assert starts == collections.Counter(range(count)), [item for item in starts.items() if item[1] != 1]
    gap = max(after - before for before, after in zip(ends, ends[1:]))
    print(json.dumps({"gap": gap, "seconds": ends[-1] - ends[0]}), flush=True)

dispycos.run(main)
"""

QUEUED = """
import asyncio, sys
import dispycos

async def main(*, task):
    async with dispycos.Client(name=sys.argv[1]) as client:
        await client.schedule(dispycos.Location("127.0.0.1", int(sys.argv[2])))
        print("granted", flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    print("released", flush=True)

dispycos.run(main)
"""


class Head:
    """A scheduler at one place, in one life after the other."""

    def __init__(self, user: User) -> None:
        self.user, self.port, self.started_at = user, free_port(), 0.0
        self.start()
        self.process.wait_line("scheduler ")

    def start(self) -> None:
        self.started_at = time.monotonic()
        self.process = self.user.command("scheduler", "--tcp_port", str(self.port), "--daemon")

    def kill(self) -> None:
        self.process.kill()


def under_a_running_client(kills: int, tasks: int, gap_s: float) -> str:
    """Raises AssertionError when a task was lost, ran twice, or there was a gap."""
    with User() as user:
        head = Head(user)
        for name in ("a", "b"):
            user.node(name, cpus=1)
        client = user.script("running.py", RUNNING, str(tasks), str(head.port))
        client.wait_line("running", 30)
        for _ in range(kills):
            time.sleep(random.uniform(*APART_S))
            head.kill()
            head.start()
        assert "done" not in client.out, f"all was done before the last kill: {client.told()}"
        said = json.loads(client.succeed(30 + tasks * 0.006).splitlines()[-1])
        assert said["gap"] <= gap_s, f"nothing ended for {said['gap']:.3f} s: {client.told()}"
        return (
            f"{kills} kills, {tasks} tasks in {said['seconds']:.1f} s: 0 lost, 0 twice, "
            f"at most {said['gap']:.3f} s between two ends"
        )


def away(seconds: float, gap_s: float) -> str:
    """Raises AssertionError when a task was lost, ran twice, or there was a gap, though the scheduler was away for so long."""
    with User() as user:
        head = Head(user)
        for name in ("a", "b"):
            user.node(name, cpus=1)
        client = user.script(
            "running.py", RUNNING, str(int((seconds + BACK_S) * TASKS_A_SECOND)), str(head.port)
        )
        client.wait_line("running", 30)
        head.kill()
        time.sleep(seconds)
        assert "done" not in client.out, f"all was done before it was back: {client.told()}"
        head.start()
        said = json.loads(client.succeed(60 + seconds).splitlines()[-1])
        assert said["gap"] <= gap_s, f"nothing ended for {said['gap']:.3f} s: {client.told()}"
        return f"away for {seconds:g} s: 0 lost, 0 twice, at most {said['gap']:.3f} s between two ends"


class Waiting:
    """A client that ends when it is told to."""

    def __init__(self, user: User, head: Head, name: str) -> None:
        self.name = name
        typed, self._types = os.pipe()
        self.program = user.python("queued.py", name, str(head.port), stdin=typed)
        os.close(typed)

    def end(self) -> None:
        os.close(self._types)

    def has_cluster(self) -> bool:
        return "granted" in self.program.out


def with_a_queue(kills: int, granted_s: float) -> str:
    """Raises AssertionError when the next one was not granted in time, or it was not its turn."""
    with User() as user:
        user.write({"queued.py": QUEUED})
        head = Head(user)
        user.node("a", cpus=1)
        line: list[Waiting] = []

        def join() -> None:
            line.append(Waiting(user, head, f"client-{len(line)}"))
            line[-1].program.wait_line("granted" if len(line) == 1 else "in the queue", 30)

        for _ in range(3):
            join()
        longest = 0.0
        for number in range(kills):
            holder, following, last = line[number : number + 3]
            head.kill()
            holder.end()
            time.sleep(random.uniform(*APART_S))
            head.start()
            granted = following.program.wait_line("granted", 30).at - head.started_at
            assert granted <= granted_s, f"after {granted:.1f} s: {following.program.told()}"
            longest = max(longest, granted)
            assert not last.has_cluster(), f"it was not its turn: {last.program.told()}"
            assert "released" in holder.program.succeed(10), holder.program.told()
            join()
        for one in line[kills:]:
            one.program.wait_line("granted", 30)
            one.end()
            one.program.succeed(30)
        return f"{kills} kills with two in the queue: the next had the cluster after at most {longest:.1f} s, in order"


def play(
    kills: int,
    tasks: int,
    kills_with_a_queue: int,
    away_s: int,
    gap_s: float = GAP_S,
    granted_s: float = GRANTED_S,
) -> Iterator[str]:
    """One line for each case that held; raises AssertionError at the first that did not."""
    yield under_a_running_client(kills, tasks, gap_s)
    yield with_a_queue(kills_with_a_queue, granted_s)
    yield away(away_s, gap_s)


if __name__ == "__main__":
    for line in play(*map(int, sys.argv[1:])):
        print(line, flush=True)
