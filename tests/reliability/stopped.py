"""A client that is stopped, or in C code with the GIL, finds everything as it was: `python -m tests.reliability.stopped 90 40`.

The first number is for how many seconds it is stopped by SIGSTOP, the second for how many it keeps the GIL. Both with a private
scheduler, and with a scheduler and a node of their own, linked by ipc and linked by tcp; all six at once.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import psutil

from tests.kit.programs import Program, User, port_of

WAYS = ("private", "ipc", "tcp")
KINDS = ("stopped", "GIL")
AFTERWARDS_S = 30.0  # from the end of the silence to the end of the program

CLIENT = """
import asyncio, collections, ctypes, os, sys, time
import dispycos

kind, seconds, peer = sys.argv[1], float(sys.argv[2]), sys.argv[3]

def work(number, path):
    with open(path, "a") as file:
        file.write(f"{number}\\n")
    time.sleep(0.02)
    return number * number

async def count_until_end(*, task):
    count = 0
    while await task.receive() != "end":
        count += 1
    return count, os.getpid()

async def imports_late(after, *, task):
    await task.sleep(after)
    import came_late
    return came_late.VALUE

def imports_late_in_a_step(after):
    time.sleep(after)
    import came_late
    return came_late.VALUE

async def main(*, task):
    path = os.path.abspath(f"started-{os.getpid()}")
    client = dispycos.Client()
    host, _, port = peer.partition(":")
    await client.schedule(dispycos.Location(host, int(port)) if peer else None)
    async with client:
        io = await client.io_rtask(count_until_end)
        io.send("before")
        pids = [str(server) for server in await client.servers()]
        late = [await client.io_rtask(imports_late, seconds / 2), await client.rtask(imports_late_in_a_step, seconds / 2)]
        tasks = [client.submit(work, number, path) for number in range(300)]
        await asyncio.gather(*tasks[:20])
        before = time.monotonic()
        print("silent", flush=True)
        if kind == "GIL":
            ctypes.PyDLL(None).sleep(int(seconds))
        else:
            while time.monotonic() - before < seconds / 2:  # it is stopped here, or was since it said so
                before = time.monotonic()
                await asyncio.sleep(0.01)
        print("back", flush=True)
        assert await asyncio.gather(*tasks) == [number * number for number in range(300)]
        assert await asyncio.gather(*late) == ["it came", "it came"]
        io.send("after")
        io.send("end")
        assert (await io)[0] == 2
        assert [str(server) for server in await client.servers()] == pids
    with open(path) as file:
        starts = collections.Counter(map(int, file))
    assert starts == collections.Counter(range(300)), starts
    print("whole", flush=True)

dispycos.run(main)
"""


@dataclass
class Case:
    """One client and what it runs on."""

    name: str
    seconds: float
    client: Program
    kind: str


def start(user: User, way: str, kind: str, seconds: float) -> Case:
    user.write({"client.py": CLIENT, "came_late.py": "VALUE = 'it came'\n"})
    peer, variables = "", {}
    if way == "ipc":
        user.scheduler()
        user.node("a", cpus=2)
    elif (
        way == "tcp"
    ):  # what is at another runtime folder is not found there, so it is linked as it was named
        peer = f"127.0.0.1:{port_of(user.scheduler())}"
        for name in ("nodes-run", "clients-run"):
            (user.folder / name).mkdir(mode=0o700)
        node = user.command(
            "node", "--name", "a", "--cpus", "2", "--tcp_ports", "0", "--daemon", "--peer", peer,
            XDG_RUNTIME_DIR=str(user.folder / "nodes-run"),
        )  # fmt: skip
        node.wait_line("node a: ")
        variables = {"XDG_RUNTIME_DIR": str(user.folder / "clients-run")}
    client = user.script("client.py", None, kind, str(seconds), peer, **variables)
    client.wait_line("silent", 30)
    if peer:
        links = psutil.Process(client.pid).net_connections("tcp")
        assert any(link.raddr and link.raddr.port == int(peer.partition(":")[2]) for link in links), links
    return Case(f"{kind}, {way}", seconds, client, kind)


def play(stopped_s: float, gil_s: float) -> Iterator[str]:
    """One line for each case that held; raises AssertionError at the first that did not."""
    with ExitStack() as stack:
        cases = []
        for way in WAYS:
            for kind, seconds in zip(KINDS, (stopped_s, gil_s), strict=True):
                cases.append(start(stack.enter_context(User()), way, kind, seconds))
                if kind == "stopped":
                    os.kill(cases[-1].client.pid, signal.SIGSTOP)
        time.sleep(stopped_s)
        for case in cases:
            if case.kind == "stopped":
                os.kill(case.client.pid, signal.SIGCONT)
        for case in cases:
            case.client.succeed(max(0.0, case.seconds - stopped_s) + AFTERWARDS_S)
            said = case.client.out + case.client.err
            assert "whole" in said and not re.search("gone|lost|silent for|abandon", said), case.client.told()
            yield f"{case.name}: silent for {case.seconds:g} s, nothing was lost"


if __name__ == "__main__":
    for line in play(float(sys.argv[1]), float(sys.argv[2])):
        print(line, flush=True)
