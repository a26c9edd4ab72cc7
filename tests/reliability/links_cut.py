"""Links between hosts are cut at random, every 250 ms: nothing is lost, doubled or reordered.

`python -m tests.reliability.links_cut 100000` sends so many messages, to tasks on two nodes and back, while tasks run there that
note their starts. Client, scheduler and nodes are hosts of their own; a cut resets all TCP connections between two of them.
"""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from subprocess import Popen

from tests.integration.test_two_hosts import give_secret, secret_of, wait
from tests.kit.netns import Host, Hosts

CUT_EVERY_S = 0.25
TOLD_WITHIN_S = 40.0  # that all nodes are there
ENDS_WITHIN_S = 300.0
DISPYCOS = [sys.executable, "-m", "dispycos"]
PROGRAM = """
import asyncio, os, sys, time
import dispycos

PART, PAUSE_S, LARGE = 50, 0.05, bytes(300_000)
total = int(sys.argv[1])

async def echo(count, *, task):
    for n in range(count):
        sender, number, data = await task.receive()
        assert number == n, (number, n)
        sender.send((task, number, data))
    return len(os.environ["HOME"])

def note(number):
    with open(os.path.join(os.environ["HOME"], "started"), "a") as file:
        file.write(f"{number}\\n")
    time.sleep(0.005)
    return number

async def feed(to, count, *, task):
    for n in range(count):
        to.send((task, n, LARGE if n % 1000 == 7 else b""))
        if n % PART == 0:
            await asyncio.sleep(PAUSE_S)

async def main(*, task):
    client = dispycos.Client()
    await client.schedule(dispycos.Location(sys.argv[2], 9705))
    async with client:
        echoes = [await client.io_rtask(echo, total // 4) for _ in range(2)]
        awaited = dict.fromkeys(echoes, 0)
        notes = [client.submit(note, number) for number in range(total // 50)]
        print("runs", flush=True)
        feeding = [asyncio.create_task(feed(to, total // 4, task=task)) for to in echoes]
        for _ in range(2 * (total // 4)):
            sender, number, data = await task.receive()
            assert number == awaited[sender], (number, awaited[sender])
            awaited[sender] += 1
        await asyncio.gather(*feeding, *echoes)
        assert await asyncio.gather(*notes) == list(range(total // 50))
    print("whole", flush=True)

dispycos.run(main)
"""


def start_cluster(head: Host, nodes: dict[str, Host], others: list[Host]) -> Popen[str]:
    """A scheduler and nodes of two servers, each on its host, when all are there; the scheduler's process."""
    secret = secret_of(head)
    for host in (*nodes.values(), *others):
        give_secret(host, secret)
    for name, host in nodes.items():
        host.start([*DISPYCOS, "node", "--cpus", "2", "--daemon", "--name", name])
    named = [word for host in nodes.values() for word in ("--node", host.address)]
    scheduler = head.start([*DISPYCOS, "scheduler", "--daemon", *named])

    def are_there() -> bool:
        status = head.run([*DISPYCOS, "status", "--json"])
        known = json.loads(status.stdout)["schedulers"] if status.returncode == 0 else []
        return bool(known) and len(known[0]["nodes"]) == len(nodes)

    wait(are_there, TOLD_WITHIN_S)
    return scheduler


def cut(one: Host, other: Host) -> int:
    """Resets what TCP connections there are between the two; how many that were."""
    told = subprocess.run(
        ["ip", "netns", "exec", one.namespace, "ss", "-KHtn", "dst", other.address],
        capture_output=True,
        text=True,
    )
    return len(re.findall("^ESTAB", told.stdout, re.M))


def play(messages: int, seed: int = 0) -> str:
    """What was done, in a line; AssertionError when anything is not as it should."""
    dice = random.Random(seed)
    with Hosts(4) as (near, head, a, b):
        start_cluster(head, {"a": a, "b": b}, [near])
        script = near.folder / "program.py"
        script.write_text(PROGRAM)
        program = near.start([sys.executable, str(script), str(messages), head.address])
        assert program.stdout is not None
        assert program.stdout.readline() == "runs\n", program.communicate(timeout=20)
        pairs = [(near, a), (near, b), (near, a), (near, b), (near, head), (head, a), (head, b)]
        began, cuts = time.monotonic(), Counter[str]()
        while program.poll() is None:
            assert time.monotonic() < began + ENDS_WITHIN_S, f"it still runs, after {cuts}"
            one, other = dice.choice(pairs)
            cuts["client" if one is near and other is not head else "scheduler"] += cut(one, other)
            time.sleep(CUT_EVERY_S)
        seconds = time.monotonic() - began
        out, err = program.communicate(timeout=20)
        assert program.returncode == 0 and out.endswith("whole\n"), (out, err)
        started = Counter(number for host in (a, b) for number in _lines_of(host.folder / "started"))
        assert started == Counter(str(number) for number in range(messages // 50)), started
        assert all(host.folder.joinpath("started").exists() for host in (a, b)), "one node had nothing to do"
    assert cuts["client"] and cuts["scheduler"], cuts
    return (
        f"{messages} messages and {messages // 50} tasks in {seconds:.0f} s, {cuts['client']} links from the client to a node cut "
        f"and {cuts['scheduler']} to the scheduler: nothing lost, nothing twice, all in order"
    )


def _lines_of(path: Path) -> list[str]:
    return path.read_text().split() if path.exists() else []


if __name__ == "__main__":
    print(play(int(sys.argv[1])), flush=True)
