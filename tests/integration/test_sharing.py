"""What tasks use among each other, on a real cluster: names, channels, links, peers. One cluster for all but the last."""

from __future__ import annotations

import re

import pytest

from tests.kit.programs import User

pytestmark = pytest.mark.timeout(60)

# Each scene is a function of its own, with a Client of two servers and their locations.
SCENES = '''
import asyncio, os, sys, time, traceback
import dispycos
from dispycos import Channel, Lock, PeerStatus, Task

lock = Lock()  # each process has its own


# --- names

async def agent(number, *, task):
    task.register(f"agent-{number}")
    other = await Task.locate(f"agent-{1 - number}")
    other.send((number, str(task.location)))
    return await task.receive()

async def same(*, task):
    task.register()
    message = await task.receive()
    return message() if message is exits else message

def exits():
    os._exit(3)

async def asks_for(name, *, task):
    return (await Task.locate(name)).name

def computes(seconds):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass

async def names(client, servers, task):
    agents = [await client.io_rtask_at(where, agent, n) for n, where in enumerate(servers)]
    assert await agents[0] == (1, str(servers[1]))
    assert await agents[1] == (0, str(servers[0]))
    try:
        await Task.locate("agent-0", timeout=0.05)
        raise AssertionError("its task has ended")
    except TimeoutError as error:
        assert str(error) == "no task named 'agent-0' was registered within 0.05 s"

    both = [await client.io_rtask_at(where, same) for where in servers]
    for handle, where in zip(both, servers):
        assert await Task.locate("same", where, timeout=10) == handle
    busy = await client.rtask_at(servers[0], computes, 30)  # and its tasks are found all the same
    assert await client.io_submit(asks_for, "same") == "same"
    assert await (await client.io_rtask_at(servers[1], asks_for, "same")) == "same"
    busy.terminate()
    for handle in both:
        handle.send("enough")
        assert await handle == "enough"

async def a_name_of_a_dead_server_is_free(client, servers, task):
    handle = await client.io_rtask_at(servers[0], same)
    assert await Task.locate("same", timeout=10) == handle
    handle.send(exits)
    await asyncio.wait([handle])
    assert isinstance(handle.exception(), dispycos.TaskLost)
    try:
        await Task.locate("same", timeout=0.05)
        raise AssertionError("its server is dead")
    except TimeoutError:
        pass


# --- channels

async def reads(channel, count, *, task):
    await channel.subscribe(task)
    return [await task.receive() for _ in range(count)]

async def says(name, count, *, task):
    channel = await Channel.locate(name)
    for number in range(count):
        channel.send(number)
    return await channel.deliver("end")

def doubles(name, message):
    return None if message == "end" else (name, 2 * message)

async def channels(client, servers, task):
    channel = Channel("numbers")
    channel.register()
    readers = [await client.io_rtask_at(servers[n % 2], reads, channel, 1002) for n in range(4)]
    assert await channel.deliver("begin", timeout=20, n=4) == 4
    assert await (await client.io_rtask_at(servers[0], says, "numbers", 1000)) == 4
    for reader in readers:
        assert await reader == ["begin", *range(1000), "end"]
    assert await channel.deliver("nobody is left") == 0

    doubled = Channel("doubled", doubles)
    await doubled.subscribe(task)
    await channel.subscribe(doubled)
    reader = await client.io_rtask_at(servers[1], reads, doubled, 2)
    assert await (await client.io_rtask_at(servers[1], says, "numbers", 1)) == 0  # "end" became nothing
    assert await task.receive(5) == ("doubled", 0)
    assert await channel.deliver(21, timeout=20) == 2
    assert await task.receive(5) == ("doubled", 42)
    assert await reader == [("doubled", 0), ("doubled", 42)]
    doubled.close()
    assert await channel.deliver("nobody is left") == 0
    try:
        await (await client.io_rtask_at(servers[0], reads, doubled, 1))
        raise AssertionError("it was closed")
    except dispycos.ChannelClosed as error:
        assert str(error) == "channel doubled was closed, or its process has ended"


# --- links, peers, locks

async def linked(other, *, task):
    await other.link()
    other.send("linked")
    await task.receive()

async def fails(how, *, task):
    await task.receive()
    if how == "raise":
        raise ValueError(how)
    if how == "exit":
        os._exit(3)
    await task.receive()

async def links(client, servers, task):
    for how in ("raise", "exit"):
        servers = await client.servers()
        first = await client.io_rtask_at(servers[0], fails, how)
        second = await client.io_rtask_at(servers[1], linked, first)
        await asyncio.wait([first, second], timeout=20)
        assert isinstance(second.exception(), dispycos.TaskTerminated), second
        while len(await client.servers()) < 2:
            await asyncio.sleep(0.01)
    servers = await client.servers()
    first = await client.io_rtask_at(servers[0], fails, "waits")
    second = await client.io_rtask_at(servers[1], linked, first)
    await asyncio.sleep(0.1)
    second.terminate()  # and the other way round
    await asyncio.wait([first, second], timeout=20)
    assert isinstance(first.exception(), dispycos.TaskTerminated), first

async def meets(*, task):
    """Finds all others of its name by what it is told of peers."""
    task.register()
    dispycos.peer_status(task)
    greeted, greets = set(), 0
    while not (greeted and greets):
        message = await task.receive()
        if isinstance(message, PeerStatus):
            if (message.kind, message.status) == ("server", PeerStatus.Online) and message.location != task.location:
                (await Task.locate("meets", message.location)).send(task.location)
                greets += 1
        else:
            greeted.add(message)
    return greeted

async def peers(client, servers, task):
    agents = [await client.io_rtask_at(where, meets) for where in servers]
    assert await agents[0] == {servers[1]} and await agents[1] == {servers[0]}

async def takes(seconds):
    async with lock:
        await asyncio.sleep(seconds)
        return lock.locked()

async def locks(client, servers, task):
    assert [await handle for handle in [client.io_submit(takes, 0.01) for _ in range(4)]] == [True] * 4
    try:
        client.submit(takes, Lock())
        raise AssertionError("it cannot be sent")
    except dispycos.NotPicklable as error:
        assert "a dispycos.Lock is for the tasks of one process" in str(error), error

async def swappable(*, task):
    task.hot_swappable()
    await task.sleep(60)

async def swapped(word, *, task):
    return word, await task.receive(), str(task.location)

async def swaps(client, servers, task):
    handle = await client.io_rtask_at(servers[1], swappable)
    handle.hot_swap(swapped, "new")
    handle.send("kept")
    assert await handle == ("new", "kept", str(servers[1]))
    handle = await client.io_rtask_at(servers[1], swappable)
    handle.hot_swap(swapped, "too", "many")
    try:
        await handle
        raise AssertionError("it cannot be called so")
    except TypeError as error:
        assert "swapped() takes 1 positional argument but 2" in str(error), error


async def main(task):
    async with dispycos.Client([]) as client:
        for scene in (names, channels, links, peers, locks, swaps, a_name_of_a_dead_server_is_free):
            start = time.monotonic()
            async with asyncio.timeout(30):
                await scene(client, await client.servers(), task)
            print(scene.__name__, f"{time.monotonic() - start:.2f}", flush=True)
    try:
        async with asyncio.timeout(5.5):
            await Task.locate("nobody")
    except TimeoutError:
        pass

dispycos.run(main)
'''


def test_tasks_find_each_other_and_share_what_they_say(user: User) -> None:
    user.node("n", cpus=2)
    program = user.script("scenes.py", SCENES)
    out = program.succeed(50)
    scenes = [line.split()[0] for line in out.splitlines()]
    assert scenes == [
        "names",
        "channels",
        "links",
        "peers",
        "locks",
        "swaps",
        "a_name_of_a_dead_server_is_free",
    ]
    ended = "linked is ended: fails, which is linked to it, (raised an exception|was lost|had ended before)"
    assert len(re.findall(ended, program.err)) == 2
    said = "1 caller of locate() waits for a task named 'nobody', which nobody has registered; registered tasks: none"
    assert said in program.err


FIRST = """
import dispycos

async def agent(*, task):
    second = await dispycos.Task.locate("second")
    return await second.ask("who are you?")

async def main(task):
    task.register("first")
    async with dispycos.Client([agent]) as client:
        print("has it", flush=True)
        print(await client.submit(agent), flush=True)
        print(await task.receive(), flush=True)

dispycos.run(main)
"""

SECOND = """
import asyncio
import dispycos

async def second(*, task):
    task.register()
    assert await task.receive() == "who are you?"
    task.reply("the second")

async def main(task):
    dispycos.Task(second)
    client = dispycos.Client([])
    scheduled = asyncio.create_task(client.schedule())
    first = await dispycos.Task.locate("first")  # which has the cluster, while this client waits for it
    assert not scheduled.done()
    first.send("from the queue")
    await scheduled
    await client.close()

dispycos.run(main)
"""


def test_clients_of_one_scheduler_find_each_others_tasks(user: User) -> None:
    user.scheduler()
    user.node("n", cpus=1)
    first = user.script("first.py", FIRST)
    first.wait_line("has it")
    user.script("second.py", SECOND).succeed()
    assert first.succeed() == "has it\nthe second\nfrom the queue\n"
