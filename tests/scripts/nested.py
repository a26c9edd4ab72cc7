"""What remote tasks submit themselves: recursion, errors, messages, large calls, ends, and who goes on without whom."""

import asyncio
import functools
import os
import random
import signal
import tempfile
import time

from scenarios import play, raises, until

import dispycos
from dispycos import TaskLost, TaskRefused, TaskTerminated


async def fib(n, *, task):
    if n < 2:
        return n
    one, two = task.client.submit(fib, n - 1), task.client.submit(fib, n - 2)
    return await one + await two


async def quicksort(items):
    if len(items) < 500:
        return sorted(items)
    pivot = items[len(items) // 2]
    client = dispycos.current_client()
    less = client.submit(quicksort, [item for item in items if item < pivot])
    more = client.submit(quicksort, [item for item in items if item > pivot])
    same = [item for item in items if item == pivot]
    return [*await less, *same, *await more]


def square(x):
    return x * x


def busy(seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass
    return os.getpid()


def fail(text):
    raise ValueError(text)


def die():
    os.kill(os.getpid(), signal.SIGKILL)


async def answer_one(*, task):
    message = await task.receive()
    task.reply(message.upper())
    return message


async def wait_for_word(*, task):
    return await task.receive()


async def test_recursion_needs_no_more_servers_than_there_are(client, task):
    assert await client.submit(fib, 10) == 55


async def test_parallel_quicksort(client, task):
    dice = random.Random(7)
    items = [dice.random() for _ in range(30_000)]
    assert await client.submit(quicksort, items) == sorted(items)


def in_generator(n, *, task):
    values = []
    for x in range(n):
        values.append((yield task.client.submit(square, x)))
    return values


async def test_a_generator_function_submits_and_waits(client, task):
    assert await client.submit(in_generator, 5) == [0, 1, 4, 9, 16]


async def all_calls(*, task):
    client = task.client
    one = await client.rtask(answer_one)
    two = await client.io_rtask(answer_one)
    assert one.location is not None and two.location is not None
    assert await one.ask("a") == "A" and await two.ask("b") == "B"
    at = await client.io_rtask_at(two.location, wait_for_word)
    node = await client.rtask_at(two.location.addr, wait_for_word)
    assert at.location == two.location
    assert [await handle.deliver("c") for handle in (at, node)] == [1, 1]
    ended = await asyncio.gather(one, two, at, node, client.io_submit(square, 3), client.submit(square, 4))
    pairs = sorted([pair async for pair in client.map(square, range(20))])
    return ended, pairs


async def test_the_calls_of_a_client(client, task):
    ended, pairs = await client.io_submit(all_calls)
    assert ended == ["a", "b", "c", "c", 9, 16]
    assert pairs == [(x, x * x) for x in range(20)]


async def made_here(*, task):
    factor = 3

    class Pair:
        def __init__(self, x):
            self.x, self.y = x, x * factor

    def times(x):
        return Pair(x)

    pairs = await asyncio.gather(*(task.client.submit(times, x) for x in range(10)))
    partial = await task.client.submit(functools.partial(square, 5))
    return [pair.y for pair in pairs], all(type(pair) is Pair for pair in pairs), partial


async def test_functions_and_classes_that_are_made_in_a_task(client, task):
    assert await client.submit(made_here) == ([3 * x for x in range(10)], True, 25)


async def sees_errors(*, task):
    client = task.client
    with raises(ValueError, "no such thing") as caught:
        await client.submit(fail, "no such thing")
    assert any("in the task fail" in note for note in caught.error.__notes__), caught.error.__notes__
    with raises(TaskLost, "killed by SIGKILL") as caught:
        await (await client.rtask_at("b", die))
    assert caught.error.started
    with raises(TaskRefused, "no node or server nowhere"):
        await client.rtask_at("nowhere", square, 1)
    with raises(TypeError, "a task needs a function"):
        client.submit("square")
    with raises(TypeError, "where must be"):
        await client.rtask_at(5, square, 1)
    with raises(dispycos.NotPicklable):
        client.submit(square, (x for x in ()))
    return "seen"


async def test_errors_are_those_of_a_client_and_are_no_news_at_its_end(client, task):
    assert await (await client.io_rtask_at("a", sees_errors)) == "seen"


async def ends_them(*, task):
    client = task.client
    one, two, three = [await client.io_rtask(wait_for_word) for _ in range(3)]
    one.terminate()
    with raises(TaskTerminated):
        await one
    two.cancel()
    with raises(asyncio.CancelledError):
        await two
    assert two.cancelled()
    with raises(TimeoutError):
        await asyncio.wait_for(three, 0.05)
    await until(lambda: not three.is_alive())
    waiting = client.submit(busy, 60)
    waiting.terminate()
    with raises(TaskTerminated):
        await waiting
    return "ended"


async def test_terminate_cancel_and_timeouts(client, task):
    assert await client.io_submit(ends_them) == "ended"


async def watches(*, task):
    child = task.client.submit(fail, "watched")
    await child.monitor()
    status = await task.receive()
    return status.info == child, status.type, status.value


async def test_monitor(client, task):
    assert await client.io_submit(watches) == (True, ValueError, "watched")


async def gives_large(*, task):
    data = bytes(range(256)) * 20_000
    child = task.client.submit(bytes.upper, data)
    value = await child
    assert value == data.upper()
    assert child.usage.seconds >= 0
    return len(value)


async def test_large_calls_and_values(client, task):
    assert await client.submit(gives_large) == 5_120_000


def submits_plainly(where):
    handle = dispycos.current_client().submit(square, 7)
    later = dispycos.current_client().io_submit(tell, where)
    return handle.name, later.name


async def tell(where):
    where.send("told")


async def test_a_plain_function_submits_and_goes_on(client, task):
    assert await client.submit(submits_plainly, task) == ("square", "tell")
    assert await task.receive(5) == "told"


async def dies_early(where, *, task):
    await task.client.io_rtask(goes_on, where)
    os.kill(os.getpid(), signal.SIGKILL)


async def goes_on(where, *, task):
    where.send(task)
    where.send(await task.receive())


async def leaves_one_behind(where, *, task):
    task.client.submit(fail_later, where)


def fail_later(where):
    time.sleep(0.1)
    where.send("going")


async def test_what_was_submitted_outlives_who_did(client, task):
    await client.submit(leaves_one_behind, task)
    assert await task.receive(5) == "going"
    parent = client.submit(dies_early, task)
    child = await task.receive(5)
    with raises(TaskLost):
        await parent
    if child.is_alive():  # on a server of its own, most often
        child.send("on")
        await task.receive(5)


async def gives_handle_away(where, *, task):
    child = task.client.submit(wait_for_word)
    where.send(child)
    return await child


async def test_a_handle_can_be_given_to_others(client, task):
    parent = client.submit(gives_handle_away, task)
    child = await task.receive(5)
    child.done()  # asks for its end, which it has not come to
    child.send("on")
    assert await child == await parent == "on"


async def attempt_of(*, task):
    if task.attempt == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return task.attempt


async def retries(*, task):
    child = await task.client.rtask_at("b", attempt_of, retries=2)
    return await child, child.attempt


async def test_retries(client, task):
    assert await (await client.io_rtask_at("a", retries)) == (2, 2)


async def beside(where, end, *, task):
    """Busy again when its child has ended: what comes then does not wait behind it while others are free."""
    await task.client.submit(square, 2)
    where.send("back")
    while not os.path.exists(end):
        busy(0.01)
    return os.getpid()


async def test_a_task_that_goes_on_has_its_server_alone(client, task):
    with tempfile.TemporaryDirectory() as folder:
        end = f"{folder}/end"
        parent = client.submit(beside, task, end)
        assert await task.receive(5) == "back"
        pids = await asyncio.gather(*(client.submit(busy, 0.01) for _ in range(4)))
        open(end, "w").close()
        assert await parent not in pids


async def not_a_client(*, task):
    try:
        async with dispycos.Client():
            pass
    except dispycos.ScheduleError as error:
        return str(error)


async def test_a_client_of_its_own_is_refused_and_the_way_is_named(client, task):
    said = await client.submit(not_a_client)
    assert "task.client" in said and "dispycos.current_client()" in said
    for wrong in (dispycos.current_client, lambda: task.client):
        with raises(RuntimeError, "for remote tasks"):
            wrong()


if __name__ == "__main__":
    play(globals())
