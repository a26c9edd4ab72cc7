"""Mailboxes with a bound, on two nodes: what has no room waits at its senders, and comes in order, whichever way it goes."""

import asyncio
import os

from scenarios import play, raises, until

from dispycos import MailboxFull, Task, TaskLost

MANY = 5000  # several windows


async def take_after(awaited, count, *, task):
    """Sleeps until what it awaits has ended, then takes."""
    if awaited is not None:
        await awaited
    return [await task.receive() for _ in range(count)]


async def sleep_for_ever(*, task):
    await task.sleep(10**6)


def of(handle):
    """A submitted task's handle comes in a list: as an argument itself it would stand for the value."""
    return handle[0] if isinstance(handle, list) else handle


async def count_up(to, count, last=0, teller=None, *, task):
    to = of(to)
    for number in range(last, last + count):
        to.send(number)
    if teller:
        teller.send("sent all")
    return count


async def fill(to, size, *, task):
    """Until it is told to stop."""
    sent = 0
    try:
        while sent < 100:
            to.send(bytes(size))
            sent += 1
    except MailboxFull as error:
        return sent, str(error)


async def deliver_all(to, *timeouts):
    to = of(to)
    return [await to.deliver(number, timeout) for number, timeout in enumerate(timeouts)]


async def test_to_a_task_that_sleeps_and_wakes_from_the_client(client, task):
    alarm = await client.io_rtask(sleep_for_ever)
    receiver = await client.io_rtask(take_quietly, alarm, MANY)
    for number in range(MANY):
        receiver.send(number)
    await asyncio.sleep(0.1)
    alarm.terminate()
    assert await receiver == list(range(MANY))


async def take_quietly(awaited, count, *, task):
    await asyncio.wait([awaited])
    return [await task.receive() for _ in range(count)]


async def test_from_a_task_on_another_server(client, task):
    alarm = await client.io_rtask(sleep_for_ever)
    receiver = await client.io_rtask(take_quietly, alarm, MANY)
    elsewhere = next(place for place in await client.servers() if place != receiver.location)
    sender = await client.io_rtask_at(elsewhere, count_up, receiver, MANY)
    assert await sender == MANY
    alarm.terminate()
    assert await receiver == list(range(MANY))


async def test_to_a_task_that_has_not_started(client, task):
    """By its home, which keeps a window of each process; the client's own and those of a server."""
    places = await client.servers()
    busy = [await client.rtask_at(place, sleep_for_ever) for place in places]
    receiver = client.submit(take_after, None, 2 * MANY)
    sender = client.io_submit(count_up, [receiver], MANY, 10**6)
    for number in range(MANY):
        receiver.send(number)
    assert await sender == MANY
    for one in busy:
        one.terminate()
    got = await receiver
    assert [number for number in got if number < 10**6] == list(range(MANY))
    assert [number - 10**6 for number in got if number >= 10**6] == list(range(MANY))


async def deliver_together(to, count, *, task):
    to = of(to)
    return sum(await asyncio.gather(*(to.deliver(number) for number in range(count))))


async def test_deliveries_to_a_task_that_has_not_started_need_room_too(client, task):
    """Its home asks on behalf of who delivers, and gives credit to that one."""
    busy = [await client.rtask_at(place, sleep_for_ever) for place in await client.servers()]
    receiver = client.submit(take_after, None, 3000)
    sender = client.io_submit(deliver_together, [receiver], 3000)
    await asyncio.sleep(0.1)
    for one in busy:
        one.terminate()
    assert await sender == 3000
    assert await receiver == list(range(3000))


async def test_a_task_that_never_starts_costs_nobody_who_waits_for_it(client, task):
    places = await client.servers()
    busy = [await client.rtask_at(place, sleep_for_ever) for place in places]
    receiver = client.submit(take_after, None, 1)
    sender = client.io_submit(deliver_all, [receiver], 20)
    for number in range(MANY):
        receiver.send(number)
    waiting = asyncio.ensure_future(receiver.deliver("?"))
    await asyncio.sleep(0.1)
    receiver.terminate()
    assert await asyncio.wait_for(waiting, 5) == 0
    assert await sender == [0]
    for one in busy:
        one.terminate()


async def test_an_outcome_comes_behind_all_that_was_sent_to_the_client(client, task):
    """So who awaits it and then writes to the same mailbox is not before it."""
    receiver = Task(take_slowly)
    sender = client.submit(count_up, receiver, MANY)
    assert await sender == MANY
    receiver.send(None)
    assert await receiver == list(range(MANY))


async def take_slowly(*, task):
    await task.sleep(0.2)
    found = []
    while (message := await task.receive()) is not None:
        found.append(message)
    return found


async def test_it_does_not_wait_for_who_awaits_it(client, task):
    """The mailbox is of the very task that awaits the outcome."""
    assert await client.submit(count_up, task, 2000) == 2000
    assert [await task.receive() for _ in range(2000)] == list(range(2000))


async def test_one_that_waits_for_room_can_be_terminated(client, task):
    receiver = Task(sleep_for_ever)
    sender = await client.rtask(count_up, receiver, MANY, 0, task)
    assert await task.receive() == "sent all"
    await asyncio.sleep(0.3)
    assert not sender.done()
    sender.terminate()
    assert await sender == MANY  # it had done all
    receiver.terminate()


async def test_send_raises_where_16_mib_wait(client, task):
    receiver = await client.io_rtask(sleep_for_ever)
    elsewhere = next(place for place in await client.servers() if place != receiver.location)
    sender = await client.io_rtask_at(elsewhere, fill, receiver, 2**20)
    sent, text = await sender
    assert sent == 8 + 15, sent  # a little more than a MiB each: pickled
    assert text.startswith("15 messages (15.0 MiB) wait here for sleep_for_ever to take them"), text
    with raises(TimeoutError):
        await receiver.ask("?", timeout=0.1)
    receiver.terminate()


async def test_deliver_waits_for_room_and_gives_up_at_its_timeout(client, task):
    receiver = await client.io_rtask(sleep_for_ever)
    elsewhere = next(place for place in await client.servers() if place != receiver.location)
    sender = await client.io_rtask_at(elsewhere, deliver_all, receiver, *[20] * 1024, 0.2)
    assert await sender == 1024 * [1] + [0]
    receiver.terminate()


async def test_who_waits_for_room_hears_of_the_end(client, task):
    receiver = await client.io_rtask(sleep_for_ever)
    for number in range(MANY):
        receiver.send(number)
    delivery = asyncio.ensure_future(receiver.deliver("?"))
    question = asyncio.ensure_future(receiver.ask("?"))
    await asyncio.sleep(0.1)
    assert not delivery.done()
    receiver.terminate()
    assert await asyncio.wait_for(delivery, 5) == 0
    with raises(TaskLost):
        await asyncio.wait_for(question, 5)


async def keep_newest(*, task):
    task.mailbox("newest")
    while True:
        if (asked := await task.receive(timeout=0.1)) == "state":
            task.reply(task.mailbox())
        elif asked is not None:
            await task.sleep(0.05)


async def test_a_task_that_wants_the_newest_alone_makes_nobody_wait(client, task):
    receiver = await client.io_rtask(keep_newest)
    for number in range(MANY):
        receiver.send(number)

    async def has_dropped():
        state = await receiver.ask("state")
        return state.dropped >= MANY - 100

    await until(has_dropped)
    receiver.terminate()


async def test_a_server_that_dies_costs_who_waits_for_room_there_nothing_more(client, task):
    receiver = await client.io_rtask(sleep_for_ever)
    for number in range(MANY):
        receiver.send(number)
    waiting = asyncio.ensure_future(receiver.deliver("?"))
    await asyncio.sleep(0.05)
    doomed = await client.io_rtask_at(receiver.location, end_the_process)
    assert await asyncio.wait_for(waiting, 5) == 0
    for lost in (receiver, doomed):
        with raises(TaskLost):
            await lost


async def end_the_process(*, task):
    os._exit(3)


COMPONENTS = [of, take_after, take_quietly, sleep_for_ever, count_up, fill, deliver_all, deliver_together]

if __name__ == "__main__":
    play(globals(), [*COMPONENTS, keep_newest, end_the_process])
