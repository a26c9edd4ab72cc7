"""Handles as arguments: for the values of what was submitted, for themselves of actors; chains, errors, ends, and in tasks."""

import asyncio
import os
import signal
import time

import numpy
from scenarios import play, raises, until

import dispycos
from dispycos import ArgumentFailed, TaskLost, TaskRefused, TaskTerminated


class Pair:
    """Of the script's own: its pickle names a class that servers get by its statement."""

    def __init__(self, one, two):
        self.one, self.two = one, two


def pair(one, two):
    return Pair(one, two)


def total(*numbers, **more):
    return sum(numbers) + sum(more.values())


def second_of(given):
    return given.two


def fail(text, *_):
    raise ValueError(text)


def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)


def kinds(*things):
    return [type(thing).__name__ for thing in things]


def nap(seconds, value=None):
    time.sleep(seconds)
    return value


async def echo(*, task):
    task.reply(await task.receive())


async def ask(actor, question):
    return await actor.ask(question)


async def test_a_value_by_position_and_by_name_and_twice(client, task):
    three = client.submit(total, 1, 2)
    assert await client.submit(total, three, three, 1, last=client.io_submit(total, three, 4)) == 14


async def test_a_value_of_the_scripts_own_class_and_an_array(client, task):
    array = client.submit(numpy.full, 300_000, 2.0)
    both = client.submit(pair, client.submit(total, 1), array)
    assert await client.submit(numpy.sum, client.submit(second_of, both)) == 600_000
    assert (await both).one == 1


async def test_an_array_may_be_written_into_where_it_arrives(client, task):
    array = client.submit(numpy.zeros, 200_000)
    assert await client.submit(fills, array) == 200_000
    assert (await array).sum() == 0


def fills(array):
    array += 1
    return int(array.sum())


async def test_an_actor_and_what_is_nested_arrive_as_handles(client, task):
    actor = await client.rtask(echo)
    slow = client.submit(nap, 0.2)
    here = dispycos.Task(asyncio.sleep, 0.1)
    assert await client.submit(kinds, actor, [slow], here) == ["Task", "list", "Task"]
    assert await client.io_submit(ask, actor, "who?") == "who?"
    assert await client.io_submit(ask, client.submit(echo), "and you?") == "and you?", "it receives messages"


async def test_chains_diamonds_and_a_thousand(client, task):
    handle = client.submit(total, 0)
    for _ in range(1000):
        handle = client.submit(total, handle, 1)
    left, right = client.submit(total, handle, 1), client.submit(total, handle, 2)
    assert await client.submit(total, left, right) == 2003
    assert await client.submit(total, *(client.submit(total, n) for n in range(1000))) == 499_500


async def test_an_error_names_the_chain_and_has_its_cause(client, task):
    failed = client.submit(fail, "no such thing", client.submit(nap, 0.1))
    last = client.submit(total, client.submit(second_of, failed))
    with raises(ArgumentFailed, "total did not run: fail raised ValueError: no such thing") as caught:
        await last
    assert "(fail -> second_of -> total)" in str(caught.error)
    cause = caught.error.__cause__
    assert type(cause) is ValueError and cause.args == ("no such thing",), repr(cause)
    assert "passing.py" in str(cause.__cause__), cause.__cause__
    with raises(ArgumentFailed, "(fail -> total)"):  # it has failed already
        await client.submit(total, failed)


async def test_one_that_is_cancelled_or_lost_ends_those_that_wait_for_it(client, task):
    slow = client.submit(nap, 30)
    waits = client.submit(total, slow)
    after = client.submit(total, waits)
    slow.terminate()
    with raises(ArgumentFailed, "nap was terminated", "(nap -> total -> total)") as caught:
        await after
    assert isinstance(caught.error.__cause__, TaskTerminated)
    with raises(ArgumentFailed, "die was lost", "SIGKILL") as caught:
        await client.submit(total, client.submit(die))
    assert isinstance(caught.error.__cause__, TaskLost)


async def test_one_that_waits_is_cancelled_and_what_it_waits_for_goes_on(client, task):
    slow = client.submit(word)
    waits = client.submit(total, slow)
    after = client.submit(total, waits)
    assert waits.cancel()
    assert (await asyncio.gather(waits, return_exceptions=True))[0].__class__ is asyncio.CancelledError
    with raises(ArgumentFailed, "total was terminated before it started"):
        await after
    slow.send(7)
    assert await slow == 7


async def in_a_task(given, *, task):
    client = task.client
    one = client.submit(total, 1)
    two = client.submit(total, one, 1)
    assert await one == 1  # it has ended, and the client has forgotten it
    three = client.submit(total, one, two)
    slow = client.submit(nap, 0.2, 4)
    with raises(ArgumentFailed, "(fail -> total)"):
        await client.submit(total, client.submit(fail, "there"))
    array = client.submit(numpy.ones, 100_000)
    later = client.submit(numpy.sum, array)  # while it may be on its way
    assert (await array).sum() == await later == 100_000
    actor = await client.rtask(word)
    assert await client.submit(kinds, task, [slow], actor) == ["Task", "list", "Task"]
    actor.terminate()
    last = client.submit(total, three, slow, given[0])
    await client.submit(total, 1)  # the client knows of both
    given[0].send(100)
    return await last


async def word(*, task):
    return await first_of(task)  # its value is wanted: it has no receive() of its own


async def first_of(task):
    return await task.receive()


async def test_a_task_passes_on_values_of_its_own_and_of_others(client, task):
    other = client.io_submit(word)
    assert await client.submit(in_a_task, [other]) == 107
    with raises(ArgumentFailed, "its value went to who submitted it"):
        await client.submit(too_late, [other])


async def too_late(given, *, task):
    return await task.client.submit(total, given[0])


async def race(count, *, task):
    """Each value is asked for about when its end is told."""
    handles = [task.client.submit(total, n) for n in range(count)]
    sums = []
    for handle in handles:
        await asyncio.sleep(0)
        sums.append(task.client.submit(total, handle, handle))
    return sum(await asyncio.gather(*sums))


async def test_a_value_that_is_told_at_that_very_moment(client, task):
    assert await client.submit(race, 300) == 300 * 299


async def ends_first(where, *, task):
    slow = task.client.submit(word)
    where.send([slow, task.client.submit(total, slow, 1)])


async def test_what_waits_goes_on_when_the_task_that_submitted_it_has_ended(client, task):
    await client.submit(ends_first, task)
    slow, waits = await task.receive(5)
    last = client.submit(total, waits, 1)
    slow.send(5)
    assert await last == 7


async def test_a_retry_gets_the_same_values(client, task):
    slow = client.submit(nap, 0.1, "gone")
    assert await client.submit(dies_once, slow, retries=1) == ("gone", 2)


def dies_once(value, *, task):
    if task.attempt == 1:
        die()
    return value, task.attempt


async def test_a_handle_whose_value_is_not_here_is_refused_in_words(client, task):
    given = await client.submit(gives_away)
    await until(lambda: given[0].done(), what="it has ended")
    with raises(TaskRefused, "total cannot wait for the value of total", "in a list"):
        client.submit(total, given[0])


async def gives_away(*, task):
    handle = task.client.submit(total, 1)
    await handle
    return [handle]


if __name__ == "__main__":
    play(globals())
