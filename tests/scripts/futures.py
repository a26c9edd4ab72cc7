"""Little programs of asyncio, played with its own Tasks and with every kind of handle: both show the same.

A program gets `start`, which starts a coroutine function and gives what stands for it. What it returns is what is compared.
No program rests on who is faster: what has to begin or to end before something else is held at a Gate.
"""

import asyncio
import contextvars
import functools
import os
import tempfile
import threading
from pathlib import Path

from scenarios import play, raises

import dispycos

LONG = 30
CALLER = contextvars.ContextVar("caller", default="nobody")


class Gate:
    """Tasks of this host say here that they have begun, and are held until it is open, or until they are ended."""

    def __init__(self):
        self.path = tempfile.mkdtemp(prefix="gate-")

    def open(self):
        Path(self.path, "open").touch()

    async def begun(self):
        await self._until("begun")

    async def passed(self):
        Path(self.path, "begun").touch()
        await self._until("open")

    async def endured(self):
        """In one wait, which is what a cancellation meets."""
        Path(self.path, "begun").touch()
        await asyncio.sleep(LONG)

    async def _until(self, name):
        while not os.path.exists(f"{self.path}/{name}"):
            await asyncio.sleep(0.005)


# --- what the tasks do ---


async def nap(seconds, value=None):
    await asyncio.sleep(seconds)
    return value


async def fail(seconds, text="failed"):
    await asyncio.sleep(seconds)
    raise ValueError(text)


async def after(gate, value=None):
    await gate.passed()
    return value


async def fail_after(gate):
    await gate.passed()
    raise ValueError("failed")


async def stay(gate):
    await gate.endured()


async def refuse(gate, value):
    try:
        await gate.endured()
    except (asyncio.CancelledError, KeyboardInterrupt):
        return value


async def trip(gate):
    try:
        await gate.endured()
    finally:
        raise LookupError("tripped")


async def linger(begins, ends):
    try:
        await begins.endured()
    finally:
        await ends.passed()


async def end_otherwise(gate):
    try:
        await gate.endured()
    except (asyncio.CancelledError, KeyboardInterrupt):
        raise asyncio.CancelledError("of its own") from None


async def give_up():
    raise asyncio.CancelledError("of its own")


# --- what stands for them ---


async def task_of_asyncio(function, *args):
    return asyncio.create_task(function(*args))


async def task_here(function, *args):
    return dispycos.Task(function, *args)


async def make(*, task):
    """In a server: tasks of this one, for whoever asks."""
    while True:
        task.reply(dispycos.Task(when_told, *await task.receive()))


async def when_told(function, *args, task):
    """Of a task that ends before anybody asks for it the value is nowhere."""
    await task.receive()
    return await function(*args)


async def inside(program):
    """In a server, with tasks of this one."""
    return await program(task_here)


def both(program):
    """The scenario of a program."""

    async def scenario(client, task):
        maker = await client.io_rtask(make)

        async def remote(function, *args):
            return client.io_submit(function, *args)

        async def afar(function, *args):
            handle = await maker.ask((function, *args))
            handle.done()  # asks for its end
            handle.send("begin")
            return handle

        theirs, *ours = await asyncio.gather(
            *map(program, (task_of_asyncio, task_here, remote, afar)),
            client.io_submit(inside, program),
        )
        maker.terminate()
        for kind, shown in zip(("here", "remote", "afar", "inside"), ours, strict=True):
            assert shown == theirs, f"{kind}: {shown}, of asyncio: {theirs}"

    return scenario


async def end_of(awaitable):
    try:
        return "value", await awaitable
    except (Exception, asyncio.CancelledError) as error:
        return type(error).__name__, *error.args


def look(future):
    """Its state by each question, which have to agree."""
    if not future.done():
        return "pending" if not future.cancelled() else "cancelled and not done"
    if future.cancelled():
        return "cancelled"
    error = future.exception()
    return type(error).__name__ if error is not None else ("value", future.result())


async def ended(*futures):
    """What they show when all have ended."""
    while not all(future.done() for future in futures):
        await asyncio.sleep(0.005)
    return [look(future) for future in futures]


async def start_all(start, *calls):
    return [await start(*call) for call in calls]


# --- gather ---


@both
async def test_gather_gives_values_in_order(start):
    return await asyncio.gather(*await start_all(start, (nap, 0.05, 1), (nap, 0, 2), (nap, 0.02, 3)))


@both
async def test_gather_of_the_same_twice(start):
    one = await start(nap, 0.01, 1)
    return await asyncio.gather(one, one)


@both
async def test_gather_raises_the_first_error_and_the_others_go_on(start):
    gate = Gate()
    futures = await start_all(start, (after, gate, 1), (fail, 0.01))
    first = await end_of(asyncio.gather(*futures))
    goes_on = look(futures[0])
    gate.open()
    return first, goes_on, await ended(*futures)


@both
async def test_gather_returns_exceptions_cancelled_ones_too(start):
    futures = await start_all(start, (nap, 0.01, 1), (fail, 0.01), (nap, LONG))
    asyncio.get_running_loop().call_later(0.1, futures[2].cancel)
    results = await asyncio.gather(*futures, return_exceptions=True)
    return results[0], [(type(error).__name__, error.args) for error in results[1:]]


@both
async def test_gather_raises_cancelled_error_for_one_that_was_cancelled(start):
    gate = Gate()
    futures = await start_all(start, (after, gate, 1), (nap, LONG))
    asyncio.get_running_loop().call_later(0.05, futures[1].cancel)
    first = await end_of(asyncio.gather(*futures))
    goes_on = look(futures[0])
    gate.open()
    return first, goes_on, await ended(*futures)


@both
async def test_gather_that_is_cancelled_cancels_all(start):
    futures = await start_all(start, (nap, LONG), (nap, LONG), (nap, 0.01, 3))
    await ended(futures[2])
    outer = asyncio.gather(*futures)
    asyncio.get_running_loop().call_later(0.1, outer.cancel)
    return await end_of(outer), await ended(*futures), outer.cancelled()


@both
async def test_gather_under_wait_for(start):
    futures = await start_all(start, (nap, LONG), (nap, LONG))
    return await end_of(asyncio.wait_for(asyncio.gather(*futures), 0.1)), await ended(*futures)


@both
async def test_gather_under_a_timeout(start):
    futures = await start_all(start, (nap, LONG), (nap, LONG))

    async def wait():
        async with asyncio.timeout(0.1):
            await asyncio.gather(*futures, return_exceptions=True)

    return await end_of(wait()), await ended(*futures)


@both
async def test_gather_beside_one_who_loses_patience(start):
    future = await start(nap, LONG)
    gathered = asyncio.gather(future, return_exceptions=True)
    return (
        await end_of(asyncio.wait_for(future, 0.1)),
        [type(result).__name__ for result in await gathered],
        await ended(future),
    )


# --- wait, as_completed, shield ---


@both
async def test_wait_for_the_first(start):
    quick, late = await start_all(start, (nap, 0.01, 1), (nap, LONG))
    done, pending = await asyncio.wait([quick, late], return_when=asyncio.FIRST_COMPLETED)
    late.cancel()
    again, none = await asyncio.wait([late], timeout=5)
    return done == {quick}, pending == {late}, again == {late}, none, look(late)


@both
async def test_wait_for_an_exception(start):
    gate = Gate()
    futures = await start_all(start, (nap, 0.01, 1), (fail_after, gate), (nap, LONG))
    waiter = asyncio.create_task(asyncio.wait(futures, return_when=asyncio.FIRST_EXCEPTION))
    await ended(futures[0])
    waits = not waiter.done()
    gate.open()
    done, pending = await waiter
    futures[2].cancel()
    return waits, done == set(futures[:2]), pending == {futures[2]}, await ended(*futures)


@both
async def test_wait_loses_patience_and_cancels_nothing(start):
    gate = Gate()
    future = await start(after, gate, 1)
    done, pending = await asyncio.wait([future], timeout=0.01)
    goes_on = look(future)
    gate.open()
    return len(done), len(pending), goes_on, await ended(future)


@both
async def test_as_completed_gives_values_in_the_order_of_their_ends(start):
    second, third = Gate(), Gate()
    futures = await start_all(start, (after, third, 1), (nap, 0, 2), (fail_after, second), (nap, LONG))
    seen = []
    for next_one, end_another in zip(
        asyncio.as_completed(futures), (second.open, third.open, futures[3].cancel, bool), strict=True
    ):
        seen.append(await end_of(next_one))
        end_another()
    return seen


@both
async def test_as_completed_loses_patience(start):
    futures = await start_all(start, (nap, 0.01, 1), (nap, LONG))
    await ended(futures[0])
    seen = [await end_of(next_one) for next_one in asyncio.as_completed(futures, timeout=0.3)]
    states = look(futures[0]), look(futures[1])
    futures[1].cancel()
    return seen, states, await ended(*futures)


@both
async def test_as_completed_yields_the_very_ones(start):
    gate = Gate()
    futures = await start_all(start, (after, gate, 1), (nap, 0, 2))
    completed = asyncio.as_completed(futures)
    seen = []
    if hasattr(completed, "__aiter__"):  # from Python 3.13 on
        async for future in completed:
            seen.append((futures.index(future), await future))
            gate.open()
    else:
        for each in completed:
            seen.append(await each)
            gate.open()
    return seen


@both
async def test_shield_lets_it_go_on(start):
    gate = Gate()
    future = await start(after, gate, 1)
    first = await end_of(asyncio.wait_for(asyncio.shield(future), 0.05))
    goes_on = look(future)
    gate.open()
    return first, goes_on, await end_of(future)


@both
async def test_shield_of_one_that_is_cancelled(start):
    future = await start(nap, LONG)
    asyncio.get_running_loop().call_later(0.1, future.cancel)
    return await end_of(asyncio.shield(future)), look(future)


@both
async def test_shield_of_one_that_has_ended(start):
    future = await start(nap, 0, 1)
    await ended(future)
    return await asyncio.shield(future), asyncio.shield(future) is future


# --- waiting for one ---


@both
async def test_wait_for_gives_the_value(start):
    return await asyncio.wait_for(await start(nap, 0.01, 1), 5)


@both
async def test_wait_for_cancels(start):
    future = await start(nap, LONG)
    return await end_of(asyncio.wait_for(future, 0.1)), look(future)


@both
async def test_wait_for_nothing_at_all(start):
    future = await start(nap, LONG)
    return await end_of(asyncio.wait_for(future, 0)), await ended(future)


@both
async def test_a_timeout_cancels(start):
    future = await start(nap, LONG)

    async def wait():
        async with asyncio.timeout(0.1):
            await future

    return await end_of(wait()), look(future)


@both
async def test_a_cancelled_waiter_cancels_what_it_waits_for_and_all_others_who_wait(start):
    future = await start(nap, LONG)
    first, second = (asyncio.create_task(end_of(future)) for _ in range(2))
    third = asyncio.create_task(asyncio.wait([future]))
    await asyncio.sleep(0.1)
    first.cancel()
    return await end_of(first), await second, len((await third)[0]), look(future)


@both
async def test_a_cancelled_waiter_waits_until_it_has_ended(start):
    begins, ends = Gate(), Gate()
    future = await start(linger, begins, ends)
    waiter = asyncio.create_task(end_of(future))
    await begins.begun()
    waiter.cancel()
    await ends.begun()
    lingers = waiter.done(), look(future)
    ends.open()
    return lingers, await end_of(waiter), look(future)


@both
async def test_one_that_refuses_gives_its_value_to_who_was_cancelled(start):
    gate = Gate()
    future = await start(refuse, gate, "value")
    waiter = asyncio.create_task(end_of(future))
    await gate.begun()
    waiter.cancel()
    return await end_of(waiter), look(future)


@both
async def test_one_that_raises_at_its_end_raises_that(start):
    gate = Gate()
    future = await start(trip, gate)
    await gate.begun()
    return future.cancel(), await end_of(future), look(future)


@both
async def test_a_task_group_of_those_who_wait(start):
    gate = Gate()
    futures = await start_all(start, (nap, 0.01, 1), (fail_after, gate), (nap, LONG))
    try:
        async with asyncio.TaskGroup() as group:
            for future in futures:
                group.create_task(end_of_one(future))
            await ended(futures[0])
            gate.open()
    except ExceptionGroup as errors:
        return [(type(error).__name__, error.args) for error in errors.exceptions], await ended(*futures)


async def end_of_one(future):
    return await future


@both
async def test_a_task_group_that_loses_patience(start):
    futures = await start_all(start, (nap, LONG), (nap, LONG))

    async def wait():
        async with asyncio.timeout(0.1), asyncio.TaskGroup() as group:
            for future in futures:
                group.create_task(end_of_one(future))

    return await end_of(wait()), await ended(*futures)


@both
async def test_a_thread_waits_and_cancels(start):
    loop = asyncio.get_running_loop()
    futures = await start_all(start, (nap, 0.05, 1), (nap, LONG))
    seen = []

    def wait():
        seen.append(asyncio.run_coroutine_threadsafe(end_of_one(futures[0]), loop).result(5))
        late = asyncio.run_coroutine_threadsafe(end_of_one(futures[1]), loop)
        loop.call_soon_threadsafe(loop.call_later, 0.05, late.cancel)
        try:
            late.result(5)
        except BaseException as error:
            seen.append(type(error).__name__)

    thread = threading.Thread(target=wait)
    thread.start()
    return await ended(*futures), await asyncio.to_thread(thread.join), seen


# --- one by one ---


@both
async def test_its_state_by_every_question(start):
    futures = await start_all(start, (nap, 0, 1), (fail, 0), (nap, LONG))
    early = [(await end_of(ask(question)))[0] for question in (futures[2].result, futures[2].exception)]
    asked = futures[2].cancel("words"), look(futures[2]) in ("pending", "cancelled")
    states = await ended(*futures)
    late = [await end_of(ask(question)) for question in (futures[2].result, futures[2].exception)]
    return early, asked, states, late[0], [future.cancel() for future in futures]


async def ask(question):
    return question()


@both
async def test_it_may_be_awaited_again(start):
    good, bad = await start_all(start, (nap, 0, [1]), (fail, 0.01))
    values = [await good for _ in range(2)]
    errors = [await end_of(bad) for _ in range(2)]
    return values, values[0] is values[1] is good.result(), errors, bad.exception() is bad.exception()


@both
async def test_cancelled_before_it_starts(start):
    future = await start(nap, LONG)
    return future.cancel(), await end_of(future), look(future)


@both
async def test_cancelled_twice(start):
    gate = Gate()
    future = await start(stay, gate)
    await gate.begun()
    return future.cancel("first"), future.cancel("second"), await end_of(future)


@both
async def test_the_words_of_a_cancellation_come_to_who_waits(start):
    future = await start(nap, LONG)
    asyncio.get_running_loop().call_later(0.1, future.cancel, "no longer wanted")
    return await end_of(future)


@both
async def test_one_that_answers_with_a_cancelled_error_of_its_own(start):
    gate = Gate()
    future = await start(end_otherwise, gate)
    await gate.begun()
    return future.cancel(), (await end_of(future))[0], look(future)


@both
async def test_callbacks(start):
    calls = []

    def note(name, future):
        calls.append((name, CALLER.get(), future is one, future.done()))

    gate = Gate()
    one = await start(after, gate, 1)
    CALLER.set("whoever adds")
    other = contextvars.Context()
    other.run(CALLER.set, "a context")
    unwanted = functools.partial(note, "unwanted")
    one.add_done_callback(functools.partial(note, "early"))
    one.add_done_callback(unwanted)
    one.add_done_callback(unwanted)
    one.add_done_callback(functools.partial(note, "elsewhere"), context=other)
    removed = one.remove_done_callback(unwanted), one.remove_done_callback(unwanted)
    gate.open()
    await one
    await asyncio.sleep(0)
    one.add_done_callback(functools.partial(note, "late"))
    count = len(calls)
    await asyncio.sleep(0)
    return removed, count, calls


@both
async def test_callbacks_of_a_cancelled_one(start):
    called = asyncio.Event()
    future = await start(nap, LONG)
    future.add_done_callback(lambda future: future.cancelled() and called.set())
    future.cancel()
    await asyncio.wait_for(called.wait(), 5)
    return look(future)


@both
async def test_it_is_a_future(start):
    future = await start(nap, 0, 1)
    loop = asyncio.get_running_loop()
    facts = [
        asyncio.isfuture(future),
        asyncio.ensure_future(future) is future,
        future.get_loop() is loop,
        isinstance(future, asyncio.Future),
        (await end_of(ask(functools.partial(future.set_result, 1))))[0],
        (await end_of(ask(functools.partial(future.set_exception, ValueError()))))[0],
    ]
    return facts, await future


# --- between processes ---


async def impatient(handles):
    (handle,) = handles  # in a list, else it would be its value
    return await end_of(asyncio.wait_for(handle, 0.1))


async def test_one_who_loses_patience_elsewhere_cancels_it_for_who_waits_here(client, task):
    handle = client.io_submit(nap, LONG)
    there = client.io_submit(impatient, [handle])
    assert (await end_of(handle))[0] == "CancelledError"
    assert (await there)[0] == "TimeoutError"
    assert handle.cancelled()


async def test_a_cancelled_error_that_nobody_asked_for_is_an_error_and_cancels_nobody(client, task):
    for handle in (client.io_submit(give_up), dispycos.Task(give_up)):
        with raises(dispycos.RemoteError, "give_up raised", "CancelledError: of its own"):
            await handle


async def test_one_that_is_terminated_is_not_cancelled(client, task):
    for handle in (client.io_submit(nap, LONG), dispycos.Task(nap, LONG)):
        gathered = asyncio.gather(handle, return_exceptions=True)
        await asyncio.sleep(0.1)
        handle.terminate()
        (error,) = await gathered
        assert type(error) is dispycos.TaskTerminated and not handle.cancelled(), error


if __name__ == "__main__":
    play(globals())
