"""A client and its node on hosts of their own: they are linked directly, and where they cannot be the scheduler relays."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from subprocess import Popen

import pytest

from tests.kit.netns import Host, Hosts, why_unavailable
from tests.reliability.links_cut import start_cluster

REASON = why_unavailable()
pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.skipif(bool(REASON), reason=REASON),
]

PROGRAM = """
import asyncio, os, sys, time
import psutil
import dispycos

def square(number):
    return number * number

async def echo(*, task):
    while (word := await task.receive()) != "end":
        word[0].send(word[1])

def where():
    time.sleep(0.1)
    return os.environ["HOME"]

def addresses():
    links = psutil.Process().net_connections("tcp")
    return sorted({link.raddr.ip.removeprefix("::ffff:") for link in links if link.status == psutil.CONN_ESTABLISHED})

async def main(seconds, scheduler, *linked, task):
    client = dispycos.Client()
    await client.schedule(dispycos.Location(scheduler, 9705))
    async with client:
        echoes = [await client.io_rtask(echo) for _ in range(2)]
        print(*sorted(set(await asyncio.gather(*(client.submit(where) for _ in range(20))))), flush=True)
        async with asyncio.timeout(20):
            while not {scheduler, *linked} <= set(addresses()):
                await task.sleep(0.01)
        print(*addresses(), flush=True)
        until, gap, count = time.monotonic() + seconds, 0.0, 0
        while (began := time.monotonic()) < until:
            assert await client.submit(square, count) == count * count
            for io in echoes:
                io.send((task, count))
            assert [await task.receive() for _ in echoes] == [count, count]
            print(f"task {count} is through")
            gap, count = max(gap, time.monotonic() - began), count + 1
            await task.sleep(0.01)
        for io in echoes:
            io.send("end")
        await asyncio.gather(*echoes)
        print(count, round(gap, 3), *addresses(), flush=True)

dispycos.run(main, float(sys.argv[1]), *sys.argv[2:])
"""


@pytest.fixture
def hosts() -> Iterator[list[Host]]:
    with Hosts(4) as hosts:
        yield hosts


def begin(
    client: Host, head: Host, nodes: list[Host], seconds: float, direct: list[Host]
) -> tuple[Popen[str], list[str]]:
    """A program that runs tasks, and talks with one on each node, for so long; and whom it has links to, at last to `direct`."""
    linked = [host.address for host in direct]
    program = client.start([sys.executable, "-c", PROGRAM, str(seconds), head.address, *linked])
    assert program.stdout is not None
    first = program.stdout.readline()
    assert first.split() == sorted(str(node.folder) for node in nodes), (
        first,
        program.communicate(timeout=20),
    )
    return program, program.stdout.readline().split()


def test_a_client_goes_on_with_nodes_on_other_hosts_while_the_scheduler_is_stopped(hosts: list[Host]) -> None:
    near, head, a, b = hosts
    scheduler = start_cluster(head, {"a": a, "b": b}, [near])
    program, linked = begin(near, head, [a, b], 7.0, [a, b])
    assert linked == [head.address, a.address, b.address]
    os.kill(scheduler.pid, signal.SIGSTOP)
    out: list[str] = []
    assert program.stdout is not None
    while not out or out[-1].startswith("task "):
        out.append(program.stdout.readline())
    os.kill(scheduler.pid, signal.SIGCONT)
    _, err = program.communicate(timeout=40)
    assert program.returncode == 0, (out, err)
    count, gap, *linked = out[-1].split()
    assert {a.address, b.address} <= set(linked) and int(count) > 20 and float(gap) < 5.0, out[
        -1
    ]  # it was stopped for 7 s
    assert out[:-1] == [f"task {number} is through\n" for number in range(int(count))]


def test_a_node_that_its_client_cannot_reach_is_used_by_way_of_the_scheduler(hosts: list[Host]) -> None:
    near, head, reached, walled = hosts
    walled.ip("route", "add", "blackhole", f"{near.address}/32")
    start_cluster(head, {"reached": reached, "walled": walled}, [near])
    program, linked = begin(near, head, [reached, walled], 4.0, [reached])
    assert linked == [head.address, reached.address]
    out, err = program.communicate(timeout=40)
    assert program.returncode == 0, (out, err)
    count, _, *linked = out.splitlines()[-1].split()
    assert linked == [head.address, reached.address] and int(count) > 20, out
    assert err.count("is reached by way of the scheduler") == 1 and "node walled is" in err, err
