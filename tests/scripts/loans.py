"""Short tasks that are waited for one by one go to a server that is lent to the client: that, and what may interrupt it."""

import asyncio
import os
import signal
import time

from scenarios import play, raises, until

import dispycos
from dispycos import TaskLost, TaskTerminated


def short(seconds=0.0):
    time.sleep(seconds)
    return os.getpid()


async def tell_and_sleep(teller, *, task):
    if teller is not None:
        teller.send(os.getpid())
        await task.sleep(30)
    return os.getpid()


def long():
    time.sleep(0.05)
    return os.getpid()


def loans(client):
    """No public face: users see that it is fast."""
    return client._seat.ledger.loans


async def borrow(client, function=short, *args):
    """Short tasks until one of their servers is lent; its pid."""
    pids = []

    async def is_lent():
        pids.append(await client.submit(function, *args))
        return loans(client).idle > 0

    await until(is_lent, what="a server is lent")
    return pids[-1]


async def test_tasks_that_are_waited_for_stay_on_one_server(client, task):
    pid = await borrow(client)
    assert {await client.submit(short) for _ in range(50)} == {pid}
    assert loans(client).idle == 1


async def test_many_at_once_use_all_servers(client, task):
    await borrow(client)
    pids = await asyncio.gather(*(client.submit(long) for _ in range(8)))
    assert len(set(pids)) == 4


async def test_a_long_task_gets_the_server_if_all_others_are_busy(client, task):
    pid = await borrow(client)
    others = [client.submit(short, 0.5) for _ in range(3)]
    assert await asyncio.wait_for(client.submit(long), 5) is not None
    assert pid in await asyncio.gather(*others, client.submit(long))


async def test_a_task_that_is_long_for_once_can_be_ended(client, task):
    await borrow(client)
    victim = client.submit(short, 30)
    await until(lambda: loans(client).busy == 1, what="it went by the loan")
    await asyncio.sleep(0.2)
    start = time.monotonic()
    victim.terminate()
    with raises(TaskTerminated):
        await victim
    assert time.monotonic() - start < 3
    assert await asyncio.wait_for(client.submit(short), 3)


def add_up(n):
    return sum(range(n))  # in C, with the GIL: nothing else happens in that process


async def test_a_task_that_hangs_its_server_is_killed_with_it(client, task):
    await borrow(client, add_up, 10)
    victim = client.submit(add_up, 10**12)
    await until(lambda: loans(client).busy == 1, what="it went by the loan")
    await asyncio.sleep(0.2)
    victim.terminate()
    with raises(TaskTerminated, "SIGKILL"):
        await asyncio.wait_for(victim, 8)
    assert await asyncio.wait_for(client.submit(short), 3)


async def test_others_do_not_wait_behind_it(client, task):
    await borrow(client)
    slow = client.submit(short, 2)
    await asyncio.sleep(0.1)
    start = time.monotonic()
    await asyncio.gather(*(client.submit(short) for _ in range(20)))
    assert time.monotonic() - start < 1.5
    assert not slow.done()
    await slow


async def test_a_killed_server_is_task_lost_naming_task_and_signal(client, task):
    pid = await borrow(client, tell_and_sleep, None)
    victim = client.submit(tell_and_sleep, task)
    assert await task.receive(timeout=5) == pid
    os.kill(pid, signal.SIGKILL)
    with raises(TaskLost, "SIGKILL", "tell_and_sleep") as caught:
        await victim
    assert caught.error.started
    assert await asyncio.wait_for(client.submit(short), 3) != pid


async def test_messages_find_a_task_on_loan(client, task):
    await borrow(client, echo)
    handle = client.submit(echo, 3)
    for n in range(3):
        handle.send(n)
    assert await handle == [0, 1, 2]


async def echo(count=0, *, task):
    return [await task.receive() for _ in range(count)]


if __name__ == "__main__":
    assert dispycos.Client
    play(globals())
