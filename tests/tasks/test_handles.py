"""Handles of tasks: monitors, where asyncio takes futures, on their way through messages; and what they carry is opened."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Awaitable, Callable, Generator
from typing import Any

import pytest

import dispycos
from dispycos import MonitorStatus, Task, TaskLost, TaskTerminated
from dispycos.actors.tasks.current import current_host
from dispycos.actors.tasks.ends import Outcome, Raised, Returned
from dispycos.actors.tasks.host import TaskHost
from dispycos.errors import DispycosError, RemoteError
from dispycos.protocol import messages
from dispycos.protocol.addresses import Address
from dispycos.protocol.envelope import Envelope
from tests.kit.local_tasks import Custom, Pull, host_scene, play, until

pytestmark = [pytest.mark.timeout(30), pytest.mark.usefixtures("own_home")]


# --- monitors ---


def monitored(
    child: Callable[..., Any], act: Callable[[Task], Awaitable[Any] | None] = lambda task: None
) -> MonitorStatus:
    async def scene(task: Any = None) -> Any:
        handle = Task(child)
        assert await handle.monitor() == 0
        acted = act(handle)
        if acted is not None:
            await acted
        status = await task.receive(5)
        assert isinstance(status, MonitorStatus)
        assert status.info == handle
        return status

    status = play(scene)
    assert isinstance(status, MonitorStatus)
    return status


def test_a_monitor_hears_the_value() -> None:
    async def child() -> Any:
        return {"a": 1}

    status = monitored(child)
    assert (status.type, status.value, status.traceback) == (StopIteration, {"a": 1}, "")
    assert not isinstance(status, tuple)  # a value that is one is told from it


def test_a_monitor_hears_the_exception() -> None:
    async def child() -> None:
        raise Custom("words")

    status = monitored(child)
    assert (status.type, status.value) == (Custom, "words")
    assert 'raise Custom("words")' in status.traceback and status.traceback.endswith("Custom: words")


def test_a_monitor_hears_of_terminate() -> None:
    async def child(task: Any = None) -> None:
        await task.receive()

    status = monitored(child, lambda task: asyncio.sleep(0.01, task.terminate()))
    assert (status.type, status.traceback) == (KeyboardInterrupt, "")


def test_a_monitor_hears_of_an_error_that_tells_of_another_tasks_end_as_of_any_error() -> None:
    async def child() -> None:
        raise TaskTerminated("the end of another")

    status = monitored(child)
    assert (status.type, status.value) == (TaskTerminated, "the end of another")


def test_a_task_that_has_ended_can_still_be_monitored() -> None:
    async def child() -> int:
        return 5

    async def scene(task: Any = None) -> Any:
        handle = Task(child)
        await handle
        await handle.monitor()
        return await task.receive(5)

    status = play(scene)
    assert (status.type, status.value) == (StopIteration, 5)


def test_another_task_may_be_the_monitor() -> None:
    async def child() -> int:
        return 5

    async def watcher(task: Any = None) -> Any:
        return (await task.receive(5)).value

    async def scene() -> None:
        by = Task(watcher)
        await Task(child).monitor(by)
        assert await by == 5

    play(scene)


def test_every_monitor_hears_it() -> None:
    async def child(task: Any = None) -> int:
        return int(await task.receive())

    async def watcher(handle: Task, task: Any = None) -> Any:
        await handle.monitor()
        return (await task.receive(5)).value

    async def scene() -> None:
        handle = Task(child)
        watchers = [Task(watcher, handle) for _ in range(3)]
        await asyncio.sleep(0.02)
        handle.send(7)
        assert await asyncio.gather(*watchers) == [7, 7, 7]

    play(scene)


def test_only_a_task_of_this_process_can_be_the_monitor() -> None:
    async def scene() -> None:
        host = current_host()
        stranger = host.handle(Address(12345, 20), "stranger", None, None)
        with pytest.raises(TypeError, match="task of this process"):
            await stranger.monitor(stranger)

    play(scene)


def test_all_handles_of_a_task_here_send_the_same_way_for_as_long_as_one_of_them_did() -> None:
    async def scene() -> None:
        host = current_host()
        home, direct, other = Address(12345, 20), Address(777, 30), Address(888, 31)
        by_home = host.handle(home, "far", None, None)
        assert host.reach(by_home) == home
        assert host.reach(host.handle(home, "far", direct, None)) == home, "else it would overtake"
        assert host.reach(host.handle(Address(12345, 21), "another", other, None)) == other
        del by_home
        known = host.handle(home, "far", direct, None)
        assert host.reach(known) == direct
        assert host.reach(host.handle(home, "far", None, None)) == direct

    play(scene)


# --- handles as asyncio takes futures ---


async def slow(value: Any, seconds: float = 0.01, task: Any = None) -> Any:
    await task.sleep(seconds)
    return value


async def failing(task: Any = None) -> None:
    await task.sleep(0.005)
    raise Custom("failed")


def test_gather_takes_handles() -> None:
    async def scene() -> None:
        assert await asyncio.gather(*(Task(slow, n, 0.02 - n / 1000) for n in range(5))) == list(range(5))
        values = await asyncio.gather(Task(slow, 1), Task(failing), return_exceptions=True)
        assert values[0] == 1 and isinstance(values[1], Custom)
        with pytest.raises(Custom):
            await asyncio.gather(Task(failing), Task(slow, 1))

    play(scene)


def test_wait_takes_handles() -> None:
    async def scene() -> None:
        quick, late = Task(slow, "quick"), Task(slow, "late", 60)
        done, pending = await asyncio.wait([quick, late], return_when=asyncio.FIRST_COMPLETED)
        assert (done, pending) == ({quick}, {late})
        late.terminate()
        done, pending = await asyncio.wait([late], timeout=5)
        assert (done, pending) == ({late}, set())
        done, pending = await asyncio.wait([Task(slow, 1, 60)], timeout=0.01)
        assert not done
        pending.pop().terminate()

    play(scene)


def test_as_completed_takes_handles() -> None:
    async def scene() -> None:
        handles = [Task(slow, n, seconds) for n, seconds in enumerate((0.06, 0.001, 0.03))]
        assert [await first for first in asyncio.as_completed(handles)] == [1, 2, 0]

    play(scene)


def test_wait_for_takes_a_handle() -> None:
    async def scene() -> None:
        assert await asyncio.wait_for(Task(slow, 5), 5) == 5

    play(scene)


def test_wait_for_ends_a_task_that_takes_too_long() -> None:
    async def scene() -> None:
        handle = Task(slow, 5, 60)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(handle, 0.02)
        await until(lambda: not handle.is_alive())

    play(scene)


def test_shield_takes_a_handle_and_keeps_it_running() -> None:
    async def scene() -> None:
        handle = Task(slow, 5, 0.05)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(handle), 0.01)
        assert handle.is_alive()
        assert await handle == 5

    play(scene)


def test_finish_gives_up_waiting_and_the_task_goes_on() -> None:
    async def scene() -> None:
        handle = Task(slow, 5, 0.05)
        with pytest.raises(TimeoutError):
            await handle.finish(0.01)
        assert await handle.finish() == 5

    play(scene)


def test_a_handle_may_be_awaited_by_many_and_again() -> None:
    async def waiter(handle: Task) -> Any:
        return await handle

    async def scene() -> None:
        handle = Task(slow, 5)
        assert await asyncio.gather(*(Task(waiter, handle) for _ in range(5))) == [5] * 5
        assert await handle == 5
        assert await handle() == 5

    play(scene)


def test_a_generator_waits_for_a_handle() -> None:
    def parent() -> Generator[Any, Any, Any]:
        first = yield Task(slow, 1)
        second = yield Task(slow, 2)()
        return first, second

    async def scene() -> None:
        assert await Task(parent) == (1, 2)

    play(scene)


def test_a_handle_answers_as_a_future_does() -> None:
    async def scene() -> None:
        handle = Task(slow, 5)
        assert not handle.done() and not handle.cancelled() and handle.is_alive()
        with pytest.raises(asyncio.InvalidStateError):
            handle.result()
        with pytest.raises(asyncio.InvalidStateError):
            handle.exception()
        assert handle.get_loop() is asyncio.get_running_loop()
        await handle
        assert handle.done() and not handle.cancelled()
        assert (handle.result(), handle.exception()) == (5, None)
        assert not handle.cancel()

        failed = Task(failing)
        await asyncio.wait([failed])
        assert isinstance(failed.exception(), Custom)
        with pytest.raises(Custom):
            failed.result()

    play(scene)


def test_a_cancelled_handle_says_so() -> None:
    async def scene() -> None:
        handle = Task(slow, 5, 60)
        await asyncio.sleep(0.01)
        assert handle.cancel()
        await until(handle.done)
        assert handle.cancelled()
        with pytest.raises(asyncio.CancelledError):
            handle.result()

    play(scene)


def test_callbacks_are_called_with_the_handle_once_and_can_be_taken_back() -> None:
    async def scene() -> None:
        called: list[Any] = []
        handle = Task(slow, 5)
        never = called.append
        handle.add_done_callback(never)
        handle.add_done_callback(never)
        assert handle.remove_done_callback(never) == 2
        assert handle.remove_done_callback(never) == 0
        handle.add_done_callback(lambda future: called.append(("first", future)))
        handle.add_done_callback(lambda future: called.append(("second", future)))
        await handle
        await asyncio.sleep(0)
        assert called == [("first", handle), ("second", handle)]
        handle.add_done_callback(lambda future: called.append(("late", future)))
        await asyncio.sleep(0)
        assert called[-1] == ("late", handle)

    play(scene)


@pytest.mark.parametrize("watched", [True, False])
def test_a_handle_whose_runtime_has_closed_leaves_nobody_waiting(watched: bool) -> None:
    async def scene(host: TaskHost, payloads: Pull) -> None:
        handle = host.handle(Address(99, 20), "far", None, None)
        waiting = asyncio.ensure_future(asyncio.gather(handle, return_exceptions=True)) if watched else None
        await asyncio.sleep(0)
        host.close()
        await host.runtime.close()
        if waiting is not None:
            (error,) = await waiting
            assert isinstance(error, TaskLost) and "far" in str(error)
        else:
            with pytest.raises(RuntimeError, match="closed"):
                await handle

    host_scene(scene)


def test_one_who_asked_first_and_has_ended_takes_nothing_from_others_who_wait() -> None:
    """The home of somebody else's task answers this process, not the task that asked."""

    async def impatient(handle: Task) -> bool:
        return handle.done()

    async def scene(host: TaskHost, payloads: Pull) -> None:
        here = Task(slow, "value", 0.05)
        handle = Task.__new__(Task)._bind(host, here.home, "as of somebody else", None)
        assert await Task(impatient, handle) is False
        assert await handle == "value"

    host_scene(scene)


# --- handles that travel ---


def test_a_handle_in_a_message_is_the_same_task() -> None:
    async def child(task: Any = None) -> Any:
        bag = await task.receive()
        bag["deep"][0].send("hello from child")
        return bag["deep"][0] == bag["own"], bag["own"] is task

    async def scene(task: Any = None) -> None:
        handle = Task(child)
        handle.send({"deep": [task], "own": handle})
        assert await task.receive(5) == "hello from child"
        assert await handle == (False, True)

    play(scene)


def test_a_handle_of_somewhere_else_keeps_what_is_known_of_it() -> None:
    async def scene() -> None:
        host = current_host()
        place = dispycos.Location("10.0.0.5", 9701)
        handle = host.handle(Address(99, 20), "far", Address(77, 30), place)
        again = pickle.loads(pickle.dumps([handle]))[0]
        assert again == handle and again.name == "far" and again.location == place
        assert host.reach(again) == Address(77, 30)
        assert again.is_alive()

    play(scene)


def test_unpickling_a_handle_where_no_loop_runs_says_what_is_missing() -> None:
    async def scene(task: Any = None) -> bytes:
        return pickle.dumps(task)

    data = play(scene)
    with pytest.raises(RuntimeError):
        pickle.loads(data)


# --- what comes is unpickled when its code is there


def test_a_message_of_newer_code_catches_up_first() -> None:
    async def reader(task: Any = None) -> Any:
        return await task.receive()

    async def scene(host: TaskHost, payloads: Pull) -> None:
        handle = Task(reader)
        await asyncio.sleep(0)
        word = messages.Tell(code=5)
        host.post(Envelope(handle.home, host.address, word, 0, host.payloads.dumps("new", "")))
        assert await handle == "new"
        assert payloads.caught_up == [5]

    host_scene(scene)


def test_a_message_whose_code_is_missing_waits_for_it_and_keeps_its_place() -> None:
    async def reader(task: Any = None) -> list[Any]:
        return [await task.receive() for _ in range(3)]

    async def scene(host: TaskHost, payloads: Pull) -> None:
        handle = Task(reader)
        for message in ("first", "needs code", "last"):
            handle.send(message)
        assert await handle == ["first", "needs code", "last"]
        assert payloads.fetched == 1

    host_scene(scene)


def test_completing_keeps_what_a_future_can_hold() -> None:
    async def scene(host: TaskHost, payloads: Pull) -> None:
        def settled(outcome: Outcome) -> Task:
            handle = Task.__new__(Task)._bind(host, host.runtime.address(99), "compute", None)
            handle._complete(outcome)
            return handle

        for error, kind in [
            (ValueError("x"), ValueError),
            (KeyboardInterrupt(), TaskTerminated),
            (SystemExit(2), DispycosError),
            (StopIteration(2), DispycosError),
            (asyncio.CancelledError(), RemoteError),
        ]:
            assert type(settled(Raised(error)).exception()) is kind
        assert settled(Returned(5)).result() == 5

    host_scene(scene)


class Thorny:
    """Pickles, and fails where it is unpickled."""

    def __reduce__(self) -> Any:
        return _prick, ()


def _prick() -> None:
    raise LookupError("thorn")


def test_a_message_that_cannot_be_rebuilt_is_an_error_at_its_reader_and_the_next_one_comes() -> None:
    async def child(task: Any = None) -> Any:
        with pytest.raises(LookupError, match="thorn"):
            await task.receive()
        return await task.receive()

    async def scene() -> None:
        handle = Task(child)
        handle.send(Thorny())
        handle.send("next")
        assert await handle == "next"

    play(scene)
