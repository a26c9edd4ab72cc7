"""Processes of one host are killed under a running client: `python -m tests.reliability.killed 25 [KIND ...]`.

The number is how often each kind is killed: a server, the zygote that servers are forked from, a node, a private process. Tasks
write down when they begin and when they end, so it is known whom a dead server had begun.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

import psutil

from tests.kit.programs import Program, User, is_running, wait_until

KINDS = ("server", "zygote", "node", "private")
TOLD_S = 1.0  # from the kill until all that is lost by it is heard of
APART_S = (0.4, 0.8)

CLIENT = """
import asyncio, itertools, json, os, sys, time
import dispycos

open_max = 40
path = os.path.abspath("begun")
ends = {}

def work(number, path):
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(file, f"begun {number} {os.getpid()}\\n".encode())
    time.sleep(0.02)
    os.write(file, f"ended {number} {os.getpid()}\\n".encode())
    os.close(file)
    return number * number

def note(number, handle):
    lost = handle.exception()
    assert lost is not None or handle.result() == number * number
    assert lost is None or isinstance(lost, dispycos.TaskLost), lost
    ends[number] = None if lost is None else (time.monotonic(), lost.started, str(lost))

async def submit_until_stopped(client, numbers):
    handles = set()
    while not os.path.exists("stop"):
        while len(handles) < open_max:
            number = next(numbers)
            handle = client.submit(work, number, path)
            handles.add(handle)
            handle.add_done_callback(lambda handle, number=number: note(number, handle))
        _, handles = await asyncio.wait(handles, timeout=0.1, return_when=asyncio.FIRST_COMPLETED)
    if handles:
        await asyncio.wait(handles)

async def main():
    async with dispycos.Client() as client:
        print("running", flush=True)
        await submit_until_stopped(client, itertools.count())
    with open("ends", "w") as file:
        json.dump(ends, file)

asyncio.run(main())
"""


@dataclass
class Strike:
    """What was killed, and when; with it these servers die."""

    at: float
    servers: set[int]


class Stage:
    """A client with two servers, and what they run on."""

    def __init__(self, user: User, kind: str) -> None:
        self.user, self.kind = user, kind
        self.nodes: dict[str, Program] = {}
        if kind != "private":
            user.scheduler()
            self.nodes = {name: user.node(name, cpus=1) for name in ("a", "b")}
        self.client = user.script("client.py", CLIENT, DISPYCOS_CPUS="2")
        self.client.wait_line("running", 30)

    def agents(self) -> dict[str, int]:
        """The processes that servers descend from, with their names."""
        if self.kind == "private":
            children = psutil.Process(self.client.pid).children()
            living = [child.pid for child in children if is_running(child)]
            return {"private": living[0]} if living else {}
        return {name: node.pid for name, node in self.nodes.items()}

    def wait_whole(self) -> None:
        """Until all servers are there."""
        wait_until(lambda: sum(len(servers) for _, _, servers in self.families()) == 2, 30, "two servers")

    def families(self) -> list[tuple[str, psutil.Process, list[psutil.Process]]]:
        """Of each agent that has servers: its name, their zygote, and they themselves."""
        found = []
        for name, pid in self.agents().items():
            with suppress(psutil.NoSuchProcess):  # it ends while we look
                for child in psutil.Process(pid).children():
                    if servers := child.children():  # else it is the template
                        found.append((name, child, servers))
        return found

    def strike(self) -> Strike:
        name, zygote, servers = random.choice(self.families())
        victims = {"server": servers[0].pid, "zygote": zygote.pid}
        strike = Strike(time.monotonic(), {server.pid for server in servers})
        victim = psutil.Process(victims.get(self.kind) or self.agents()[name])
        victim.kill()
        wait_until(lambda: is_dead(victim), 5, "its end")
        if self.kind == "node":
            self.nodes[name].wait()
            self.nodes[name] = self.user.node(name, cpus=1)
        return strike

    def end(self) -> dict[int, tuple[float, bool, str] | None]:
        """How each task ended: nothing to say, or when it was heard that it is lost, and whether it had started."""
        self.user.write({"stop": ""})
        self.client.succeed(60)
        ends = json.loads((self.user.folder / "ends").read_text())
        return {int(number): end for number, end in ends.items()}


def is_dead(process: psutil.Process) -> bool:
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def play_one(kind: str, kills: int) -> str:
    with User() as user:
        stage = Stage(user, kind)
        strikes = []
        for _ in range(kills):
            stage.wait_whole()
            time.sleep(random.uniform(*APART_S))
            strikes.append(stage.strike())
        return f"{kind}: {kills} killed; {judge(strikes, stage.end(), (user.folder / 'begun').read_text())}"


def judge(strikes: list[Strike], ends: dict[int, tuple[float, bool, str] | None], log: str) -> str:
    """Raises AssertionError unless exactly what had begun on servers that died is lost, and was told in time."""
    begun: dict[int, int] = {}
    ended = set()
    for line in log.splitlines():
        word, *numbers = line.split()
        task, pid = map(int, numbers)
        if word == "ended":
            ended.add(task)
        else:
            assert task not in begun, f"{task} has begun twice"
            begun[task] = pid
    lost = {number: end for number, end in ends.items() if end is not None}
    told, unwritten = 0.0, 0
    for number in ends.keys() - lost.keys():
        assert number in ended, f"{number} has a value and did not run"
    for number, (at, started, text) in lost.items():
        strike = max((strike for strike in strikes if strike.at <= at), key=lambda strike: strike.at)
        told = max(told, at - strike.at)
        if number in begun:
            assert started and begun[number] in strike.servers, f"{number}, on a server that lives: {text}"
        else:
            assert started, f"{number} had not begun: {text}"
            unwritten += 1  # it died before the first line of the task
    assert told <= TOLD_S, f"it was said after {told:.3f} s"
    dead = set().union(*(strike.servers for strike in strikes))
    for number in begun.keys() - ended:
        assert number in lost and begun[number] in dead, f"{number} did not end, and nobody says so"
    few = max(2, len(strikes) // 5)
    assert lost and unwritten <= few, f"{unwritten} of {len(lost)} are said to have begun, and wrote nothing"
    return (
        f"{len(ends)} tasks, {len(lost)} lost, all of which had begun there, told after at most {told:.3f} s"
        f" ({sum(number in ended for number in lost)} had just ended, {unwritten} just begun)"
    )


def play(kills: int, kinds: tuple[str, ...] = KINDS) -> Iterator[str]:
    """One line for each kind; raises AssertionError at the first where anything else is lost than what had begun."""
    for kind in kinds:
        yield play_one(kind, kills)


if __name__ == "__main__":
    for line in play(int(sys.argv[1]), tuple(sys.argv[2:]) or KINDS):
        print(line, flush=True)
