"""What a status_task hears of its client's nodes, servers and tasks, from schedule() to close()."""

import asyncio
import sys

from scenarios import raises, until

import dispycos
from dispycos import DispycosNodeAvailInfo, DispycosStatus, Location, MonitorStatus, Scheduler, Task


async def compute(n, more=0):
    return n + more


async def fail():
    raise ValueError("by intent")


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


async def check_a_failure(client):
    rtask = await client.rtask(fail)
    with raises(ValueError):
        await rtask
    await until(lambda: monitored(rtask), what="MonitorStatus")
    assert monitored(rtask)[0].type is ValueError and "by intent" in str(monitored(rtask)[0].value)
    print("a failure")


async def check_a_termination(client):
    rtask = await client.rtask(wait)
    rtask.terminate()
    await until(lambda: monitored(rtask), what="MonitorStatus")
    assert monitored(rtask)[0].type is KeyboardInterrupt
    print("a termination")


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
    await check_many(client)
    await client.close()
    await until(lambda: Scheduler.ClientClosed in statuses(), what="ClientClosed")
    assert statuses()[-1] == Scheduler.ClientClosed, statuses()[-5:]
    print("the end")


if __name__ == "__main__":
    dispycos.run(main)
    sys.exit(0)
