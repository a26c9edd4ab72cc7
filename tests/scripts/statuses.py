"""What a status_task hears of its client's nodes, servers and tasks, from schedule() to close()."""

import asyncio
import os
import sys

from scenarios import raises, until

import dispycos
from dispycos import (
    DispycosNodeAvailInfo,
    DispycosStatus,
    Location,
    MonitorStatus,
    RemoteError,
    Scheduler,
    Task,
    TaskLost,
)


async def compute(n, more=0):
    return n + more


async def fail():
    raise ValueError("by intent")


async def die(*, task):
    """Once it is known where it runs: the word of that is lost with a server that ends at once."""
    await task.receive()
    os._exit(3)


def leave():
    sys.exit("by sys.exit")


async def wait(*, task):
    await task.receive()


heard = []


def listen(*, task):
    """In the old syntax, as scripts have it."""
    while True:
        message = yield task.receive()
        heard.append(message)


def statuses():
    return [message.status for message in heard if isinstance(message, DispycosStatus)]


def monitored(handle):
    return [m for m in heard if isinstance(m, MonitorStatus) and m.info == handle]


def check_nodes_and_servers():
    infos = {}
    for message in heard:
        assert isinstance(message, DispycosStatus), message
        infos.setdefault(message.status, []).append(message.info)
    counts = {status: len(found) for status, found in infos.items()}
    assert counts == {
        Scheduler.NodeDiscovered: 2,
        Scheduler.NodeInitialized: 2,
        Scheduler.ServerDiscovered: 4,
        Scheduler.ServerInitialized: 4,
    }, counts
    for node in infos[Scheduler.NodeInitialized]:
        assert (
            isinstance(node.avail_info, DispycosNodeAvailInfo)
            and node.avail_info.location.addr == "127.0.0.1"
        )
        assert node.name in ("a", "b") and node.cpus == 2 and node.addr == "127.0.0.1"
    assert all(type(server) is Location for server in infos[Scheduler.ServerInitialized])
    order = statuses()
    assert order.index(Scheduler.NodeDiscovered) < order.index(Scheduler.NodeInitialized)
    assert order.index(Scheduler.NodeInitialized) < order.index(Scheduler.ServerInitialized)
    print("nodes and servers")


async def check_a_task(client):
    rtask = await client.rtask(compute, 1, more=2)
    assert await rtask == 3
    await until(lambda: monitored(rtask), what="MonitorStatus")
    created = [m.info for m in heard if isinstance(m, DispycosStatus) and m.status == Scheduler.TaskCreated]
    assert [info.task for info in created] == [rtask]
    assert created[0].args == (1,) and created[0].kwargs == {"more": 2} and created[0].start_time > 1e9
    assert [(m.type, m.value) for m in monitored(rtask)] == [(StopIteration, 3)]
    print("a task")


async def end_of(rtask):
    """Its one MonitorStatus, when everybody has heard of the end."""
    with raises(Exception):
        await rtask
    await until(lambda: monitored(rtask), what="MonitorStatus")
    (found,) = monitored(rtask)
    return found


async def check_a_failure(client):
    found = await end_of(await client.rtask(fail))
    assert found.type is ValueError and "by intent" in str(found.value)
    assert "in fail" in found.traceback and found.traceback.endswith("ValueError: by intent")
    found = await end_of(await client.rtask(leave))
    assert found.type is RemoteError and "SystemExit: by sys.exit" in found.value
    assert "in leave" in found.traceback
    print("a failure")


async def check_a_termination(client):
    rtask = await client.rtask(wait)
    rtask.terminate()
    found = await end_of(rtask)
    assert (found.type, found.traceback) == (KeyboardInterrupt, "")
    print("a termination")


async def check_a_death(client):
    before = len(heard)
    rtask = await client.rtask(die)
    place = rtask.location
    rtask.send("now")
    found = await end_of(rtask)
    assert found.type is TaskLost and "exited with code 3" in found.value and not found.traceback
    await until(
        lambda: len([m for m in heard[before:] if isinstance(m, DispycosStatus)]) >= 4, what="a new server"
    )
    new = [(m.status, m.info) for m in heard[before:] if isinstance(m, DispycosStatus)]
    assert new[0][0] == Scheduler.TaskCreated
    assert new[1:] == [
        (Scheduler.ServerClosed, place),
        (Scheduler.ServerDiscovered, place),
        (Scheduler.ServerInitialized, place),
    ], new
    print("a death")


def check_the_end(before):
    """Each server closes once, then its node, and the client at last."""
    new = [m for m in heard[before:] if isinstance(m, DispycosStatus)]
    at = {}
    for place, message in enumerate(new):
        at.setdefault(message.status, []).append((place, message.info))
    assert {status: len(found) for status, found in at.items()} == {
        Scheduler.ServerClosed: 4,
        Scheduler.NodeClosed: 2,
        Scheduler.ClientClosed: 1,
    }, new
    assert len({info for _, info in at[Scheduler.ServerClosed]}) == 4
    assert {node.name for _, node in at[Scheduler.NodeClosed]} == {"a", "b"}
    for place, node in at[Scheduler.NodeClosed]:
        servers = [server for n, server in at[Scheduler.ServerClosed] if n < place]
        assert len(servers) >= 2, f"node {node.name} closed before its servers"
    assert new[-1].status == Scheduler.ClientClosed and new[-1].info is None
    print("the end")


async def check_many(client):
    before = len(heard)
    handles = [client.submit(compute, n) for n in range(200)]
    await asyncio.gather(*handles)
    await until(lambda: len(heard) >= before + 400, what="2 messages for each of 200 tasks")
    new = heard[before:]
    assert sum(isinstance(m, MonitorStatus) for m in new) == 200
    assert sum(isinstance(m, DispycosStatus) and m.status == Scheduler.TaskCreated for m in new) == 200
    print("many tasks")


async def main(*, task):
    client = dispycos.Client([compute], status_task=Task(listen))
    assert await client.schedule() == 0
    await until(lambda: len(heard) >= 12, what="nodes and servers are known")
    check_nodes_and_servers()
    await check_a_task(client)
    await check_a_failure(client)
    await check_a_termination(client)
    await check_a_death(client)
    await check_many(client)
    before = len(heard)
    await client.close()
    await until(lambda: Scheduler.ClientClosed in statuses(), what="ClientClosed")
    check_the_end(before)


if __name__ == "__main__":
    dispycos.run(main)
    sys.exit(0)
