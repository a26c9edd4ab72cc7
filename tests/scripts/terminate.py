"""Ending tasks: suspended, running, queued, unwilling; and what the others notice of it."""

import asyncio
import os
import threading
import time

from scenarios import play, raises, until

from dispycos import MonitorStatus, TaskLost, TaskTerminated


async def suspended(*, task):
    await task.receive()


def suspended_generator(*, task):
    yield task.receive()


async def asleep(*, task):
    await task.sleep(60)


async def plain_asyncio_sleep():
    await asyncio.sleep(60)


def time_sleep(teller):
    teller.send("runs")
    time.sleep(60)


def python_loop(teller):
    teller.send("runs")
    while True:
        pass


def c_code_that_checks_signals(teller):
    """A call in C that waits, as most do: without the GIL, and looking for signals when it is woken."""
    lock = threading.Lock()
    lock.acquire()
    teller.send("runs")
    lock.acquire()


async def echo_until_end(*, task):
    count = 0
    while await task.receive() != "end":
        count += 1
    return count, os.getpid()


async def catches(teller=None, *, task):
    try:
        if teller:
            teller.send("runs")
        await task.receive()
    except KeyboardInterrupt:
        await task.sleep(0.05)
        return "tidied up"


def catches_running(teller, *, task):
    try:
        teller.send("runs")
        time.sleep(60)
    except KeyboardInterrupt:
        yield task.sleep(0.05)
        return "tidied up too"


async def says_goodbye(teller, *, task):
    try:
        await task.receive()
    except KeyboardInterrupt:
        teller.send("goodbye")
        raise


async def cleans_in_finally(teller, *, task):
    try:
        await task.receive()
    finally:
        teller.send("finally")


async def in_a_task_group(teller):
    async with asyncio.TaskGroup() as group:
        group.create_task(asyncio.sleep(60))
        teller.send("runs")


def ignores(teller):
    teller.send("runs")
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            time.sleep(1)
        except KeyboardInterrupt:
            pass


async def raises_another(teller, *, task):
    try:
        teller.send("runs")
        await task.receive()
    except KeyboardInterrupt:
        raise ValueError("on the way out") from None


async def in_a_subtask(teller, way, long):
    """The long step is one of an asyncio Task that the task made."""

    async def work():
        await asyncio.sleep(0.01)
        teller.send("runs")
        await asyncio.sleep(0.01)
        long()

    if way == "create_task":
        await asyncio.create_task(work())
    elif way == "TaskGroup":
        async with asyncio.TaskGroup() as group:
            for each in (asyncio.sleep(60), work(), asyncio.sleep(60)):
                group.create_task(each)
    elif way == "gather":
        await asyncio.gather(asyncio.sleep(60), work())
    elif way == "wait_for":
        await asyncio.wait_for(work(), 60)
    elif way == "beside":
        working = asyncio.create_task(work())
        await asyncio.sleep(60)
        await working


def sleep_long():
    time.sleep(60)


def compute_long():
    while True:
        pass


async def catches_what_a_subtask_let_out(teller):
    async def work():
        teller.send("runs")
        time.sleep(60)

    working = asyncio.create_task(work())
    try:
        await asyncio.sleep(60)
    except KeyboardInterrupt:
        await asyncio.sleep(0.01)
        return "tidied up", working.cancelled()


async def leaves_subtasks_behind(teller):
    async def tidies():
        try:
            await asyncio.sleep(60)
        finally:
            teller.send("tidied up")

    async def refuses():
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                pass

    left = [asyncio.create_task(tidies()), asyncio.create_task(refuses())]
    await asyncio.sleep(0)
    return len(left), os.getpid()


async def ended(handle):
    """It is terminated, and not by the end of its server, which comes after 5 s and is told of."""
    handle.terminate()
    with raises(TaskTerminated) as caught:
        await handle
    assert "did not end within 5 s" not in str(caught.error), caught.error


async def test_suspended_tasks_end_at_once(client, task):
    for function in (suspended, suspended_generator, asleep, plain_asyncio_sleep):
        await ended(await client.rtask(function))


async def test_running_steps_end_at_once(client, task):
    for function in (time_sleep, python_loop, c_code_that_checks_signals):
        handle = await client.rtask(function, task)
        assert await task.receive(timeout=5) == "runs"
        await ended(handle)


async def test_a_task_in_a_task_group_ends(client, task):
    handle = await client.rtask(in_a_task_group, task)
    assert await task.receive(timeout=5) == "runs"
    handle.terminate()
    with raises(Exception):
        await handle


async def test_long_steps_of_its_asyncio_tasks_end_at_once(client, task):
    """And another task of the same server, which has no other way out, goes on."""
    server = (await client.servers())[0]
    other = await client.io_rtask_at(server, echo_until_end)
    for way in ("create_task", "TaskGroup", "gather", "wait_for", "beside"):
        for long in (sleep_long, compute_long):
            handle = await client.io_rtask_at(server, in_a_subtask, task, way, long)
            assert await task.receive(timeout=5) == "runs", way
            await ended(handle)
            other.send(way)
    other.send("end")
    assert (await other)[0] == 10


async def test_what_an_asyncio_task_lets_out_may_be_caught_by_its_task(client, task):
    handle = await client.rtask(catches_what_a_subtask_let_out, task)
    assert await task.receive(timeout=5) == "runs"
    handle.terminate()
    assert await handle == ("tidied up", True)


async def test_asyncio_tasks_that_are_left_end_with_their_task(client, task):
    """In their own time, of which there is not much; the server lives on."""
    server = (await client.servers())[0]
    start = time.monotonic()
    count, pid = await (await client.rtask_at(server, leaves_subtasks_behind, task))
    took = time.monotonic() - start
    assert count == 2 and 2.5 < took < 9, took
    assert await task.receive(timeout=5) == "tidied up"
    assert await (await client.rtask_at(server, os.getpid)) == pid


async def test_a_queued_task_is_dropped_and_never_starts(client, task):
    blockers = [await client.rtask(suspended) for _ in range(4)]
    queued = client.submit(time_sleep, task)
    queued.terminate()
    with raises(TaskTerminated, "before it started"):
        await queued
    for blocker in blockers:
        await ended(blocker)
    assert await task.receive(timeout=0.1) is None


async def test_one_of_four_io_rtasks_ends_and_three_live_on(client, task):
    server = (await client.servers())[0]
    handles = [await client.io_rtask_at(server, echo_until_end) for _ in range(4)]
    await ended(handles[1])
    others = handles[:1] + handles[2:]
    for handle in others:
        handle.send("x")
        handle.send("end")
    found = [await handle for handle in others]
    assert [count for count, _ in found] == [1, 1, 1] and len({pid for _, pid in found}) == 1


async def test_one_that_computes_ends_and_three_beside_it_live_on(client, task):
    server = (await client.servers())[0]
    others = [await client.io_rtask_at(server, echo_until_end) for _ in range(3)]
    handle = await client.io_rtask_at(server, python_loop, task)
    assert await task.receive(timeout=5) == "runs"
    for other in others:
        other.send("x")
    await ended(handle)
    for other in others:
        other.send("end")
    assert [(await other)[0] for other in others] == [1, 1, 1]


async def test_a_task_that_catches_it_may_return_a_value(client, task):
    handle = await client.rtask(catches, task)
    assert await task.receive(timeout=5) == "runs"
    handle.terminate()
    assert await handle == "tidied up"
    handle = await client.rtask(catches_running, task)
    assert await task.receive(timeout=5) == "runs"
    handle.terminate()
    assert await handle == "tidied up too"


async def catches_without_a_word(*, task):
    try:
        await task.receive()
    except KeyboardInterrupt:
        return "tidied up"


async def test_rtask_returns_when_the_task_is_in_its_body(client, task):
    """Its code had to be fetched first; so what ends it then reaches its body."""
    for server in await client.servers():
        handle = await client.rtask_at(server, catches_without_a_word)
        handle.terminate()
        assert await handle == "tidied up"


async def test_a_task_that_is_ended_may_still_send(client, task):
    for function, word in ((says_goodbye, "goodbye"), (cleans_in_finally, "finally")):
        handle = await client.rtask(function, task)
        await asyncio.sleep(0.05)
        await ended(handle)
        assert await task.receive(timeout=5) == word


async def test_an_exception_on_the_way_out_is_the_outcome(client, task):
    handle = await client.rtask(raises_another, task)
    assert await task.receive(timeout=5) == "runs"
    handle.terminate()
    with raises(ValueError, "on the way out"):
        await handle


async def test_terminate_twice_and_after_the_end_is_no_harm(client, task):
    handle = await client.rtask(suspended)
    handle.terminate()
    await ended(handle)
    handle.terminate()
    assert await client.submit(int, 5) == 5


async def terminates(other):
    other.terminate()


async def test_a_task_terminates_another_by_its_handle(client, task):
    other = await client.rtask(suspended)
    await client.submit(terminates, other)
    with raises(TaskTerminated):
        await asyncio.wait_for(asyncio.shield(other), 3)


async def test_many_are_ended_at_once(client, task):
    handles = [client.submit(suspended) for _ in range(100)]
    for handle in handles:
        handle.terminate()
    outcomes = await asyncio.gather(*handles, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {TaskTerminated}
    assert await client.submit(int, 5) == 5


async def test_one_that_ignores_it_is_killed_after_5_s_and_those_beside_it_hear(client, task):
    server = (await client.servers())[0]
    beside = await client.io_rtask_at(server, suspended)
    elsewhere = await client.io_rtask_at((await client.servers())[1], echo_until_end)
    await beside.monitor()
    handle = await client.rtask_at(server, ignores, task)
    assert await task.receive(timeout=5) == "runs"
    start = time.monotonic()
    handle.terminate()
    with raises(TaskTerminated, "did not end within 5 s"):
        await handle
    assert 4.5 < time.monotonic() - start < 10, time.monotonic() - start
    with raises(TaskLost, "ignores did not end within 5 s"):
        await beside
    status = await task.receive(timeout=5)
    assert isinstance(status, MonitorStatus) and status.info == beside
    elsewhere.send("end")
    assert (await elsewhere)[0] == 0
    await until(lambda: four_servers(client), what="the killed server is replaced")
    assert await client.submit(int, 5) == 5


async def refuses(teller, *, task):
    teller.send("runs")
    while True:
        try:
            await task.receive()
        except KeyboardInterrupt:
            teller.send("no")


def refuses_as_generator(teller, *, task):
    teller.send("runs")
    while True:
        try:
            yield task.receive()
        except KeyboardInterrupt:
            teller.send("no")


async def refuses_in_a_subtask(teller, *, task):
    async def work():
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                teller.send("no")

    working = asyncio.create_task(work())
    teller.send("runs")
    await working


async def refuses_even_to_be_closed(teller, *, task):
    teller.send("runs")
    while True:
        try:
            await task.receive()
        except BaseException:
            teller.send("no")


async def test_those_that_wait_on_are_dropped_after_5_s_and_cost_nobody_anything(client, task):
    server = (await client.servers())[0]
    pid = await (await client.rtask_at(server, os.getpid))
    beside = await client.io_rtask_at(server, echo_until_end)
    for function in (refuses, refuses_as_generator, refuses_in_a_subtask, refuses_even_to_be_closed):
        await client.io_rtask_at(server, function, task)
        assert await task.receive(timeout=5) == "runs"
    waiting = [handle for handle in await client.tasks() if handle != beside]
    await (computing := await client.rtask_at(server, refuses, task)).monitor()
    assert await task.receive(timeout=5) == "runs"
    start = time.monotonic()
    for handle in (*waiting, computing):
        handle.terminate()
    outcomes = await asyncio.gather(*waiting, computing, return_exceptions=True)
    took = time.monotonic() - start
    assert [type(outcome) for outcome in outcomes] == 5 * [TaskTerminated], outcomes
    assert 4.5 < took < 10, took
    assert await (await client.rtask_at(server, os.getpid)) == pid, "the server has its CPU again"
    beside.send("end")
    assert (await beside)[1] == pid
    while not isinstance(await task.receive(timeout=1), MonitorStatus):
        pass


def begins_late(teller, *, task):
    """Its step, which does not end, begins 3 s after it was asked to end."""
    teller.send("runs")
    try:
        yield task.receive()
    except KeyboardInterrupt:
        pass
    end = time.monotonic() + 3
    while time.monotonic() < end:
        yield task.sleep(0.1)
    teller.send("begins")
    while True:
        try:
            time.sleep(60)
        except KeyboardInterrupt:
            pass


async def test_the_5_s_run_from_the_beginning_of_its_own_step(client, task):
    handle = await client.rtask(begins_late, task)
    assert await task.receive(timeout=5) == "runs"
    handle.terminate()
    assert await task.receive(timeout=5) == "begins"
    start = time.monotonic()
    with raises(TaskTerminated, "did not end within 5 s"):
        await handle
    assert 4.5 < time.monotonic() - start < 10, time.monotonic() - start


async def four_servers(client):
    return len(await client.servers()) == 4


if __name__ == "__main__":
    play(globals())
