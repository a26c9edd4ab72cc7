"""Local tasks on a real loop: messages, requests, monitors, ends, and handles where asyncio takes futures."""

from __future__ import annotations

import asyncio
import pickle
import sys
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

import dispycos
from dispycos import MonitorStatus, NotPicklable, Task, TaskLost, TaskTerminated
from dispycos.actors.host.cells import (
    HOST_ACTOR,
    Cell,
    TaskHost,
    current_cell,
    loading,
    name_of,
    settle,
    takes_task,
)
from dispycos.actors.host.execution import Raised, Returned
from dispycos.actors.host.interrupts import Interrupts
from dispycos.actors.parcels import dumps_value, loads_plain
from dispycos.actors.shipping.words import CodeRequest, MissingCode
from dispycos.errors import DispycosError
from dispycos.protocol import messages
from dispycos.protocol.addresses import FIRST_TASK, Address
from dispycos.protocol.envelope import Envelope, Payload
from dispycos.protocol.status import OutcomeKind
from dispycos.runtime import Runtime

pytestmark = pytest.mark.timeout(30)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the user's is touched."""
    for variable in ("HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR"):
        monkeypatch.setenv(variable, str(tmp_path))
    monkeypatch.setenv("DISPYCOS_IP_ADDR", "127.0.0.1")
    monkeypatch.delenv("DISPYCOS_SECRET", raising=False)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)


def play(scene: Callable[..., Any]) -> Any:
    """Runs the scene as the main task; whatever the loop complains about fails the test."""
    complaints: list[dict[str, Any]] = []

    async def main(task: Any = None) -> Any:
        asyncio.get_running_loop().set_exception_handler(lambda _, complaint: complaints.append(complaint))
        async with asyncio.timeout(15):
            return await scene(task) if takes_task(scene) else await scene()

    value = dispycos.run(main)
    assert complaints == []
    return value


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.001)


def iter_nothing() -> Iterator[int]:
    """A generator: nothing pickles it."""
    yield from ()


# --- messages ---


def test_messages_arrive_in_order_and_wait_for_their_reader() -> None:
    async def child(task: Any = None) -> list[Any]:
        await task.sleep(0.01)
        return [await task.receive() for _ in range(100)]

    async def scene() -> None:
        handle = Task(child)
        for number in range(100):
            assert handle.send({"number": number}) == 0
        assert await handle == [{"number": number} for number in range(100)]

    play(scene)


def test_a_message_is_a_copy_not_the_senders_object() -> None:
    async def child(task: Any = None) -> Any:
        first = await task.receive()
        return first is shared, first

    shared = [1]

    async def scene() -> None:
        handle = Task(child)
        handle.send(shared)
        shared.append(2)
        assert await handle == (False, [1])

    play(scene)


def test_a_generator_waits_by_yield() -> None:
    def child(task: Any = None) -> Generator[Any, Any, Any]:
        first = yield task.receive()
        second = yield task.recv()
        late = yield task.receive(timeout=0.01, alarm_value="late")
        slept = yield task.sleep(0.001, "slept")
        return first, second, late, slept

    async def scene() -> None:
        handle = Task(child)
        handle.send(1)
        handle.send(2)
        assert await handle == (1, 2, "late", "slept")

    play(scene)


@pytest.mark.parametrize("timeout", [0, 0.0, 0.02])
def test_receive_gives_the_alarm_value_after_its_timeout(timeout: float) -> None:
    async def scene(task: Any = None) -> None:
        assert await task.receive(timeout) is None
        assert await task.receive(timeout, "alarm") == "alarm"
        task.send("there")
        await asyncio.sleep(0.005)
        assert await task.receive(timeout, "alarm") == "there"

    play(scene)


def test_a_message_to_oneself_arrives() -> None:
    async def scene(task: Any = None) -> None:
        task.send("self")
        assert await task.receive(5) == "self"

    play(scene)


def test_a_message_that_cannot_be_pickled_is_the_senders_error_and_names_the_receiver() -> None:
    async def child(task: Any = None) -> Any:
        return await task.receive()

    async def scene() -> None:
        handle = Task(child)
        with pytest.raises(NotPicklable, match=r"the message to child.*generator"):
            handle.send(iter_nothing())
        handle.send("fine")
        assert await handle == "fine"

    play(scene)


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


def test_only_the_running_task_itself_receives_and_replies() -> None:
    async def child(task: Any = None) -> None:
        await task.receive()

    async def scene() -> None:
        handle = Task(child)
        with pytest.raises(RuntimeError, match=r"child.receive\(\) is for the task itself"):
            await handle.receive()
        with pytest.raises(RuntimeError, match=r"child.reply\(\) is for the task itself"):
            handle.reply(1)
        handle.send("end")
        await handle

    play(scene)


def test_deliver_says_whether_it_is_in_the_mailbox() -> None:
    async def child(task: Any = None) -> Any:
        await task.sleep(0.02)
        return await task.receive()

    async def scene() -> None:
        handle = Task(child)
        assert await handle.deliver("word") == 1
        assert await handle == "word"
        assert await handle.deliver("too late") == 0
        assert await handle.deliver("too late", timeout=0.5) == 0

    play(scene)


def test_a_send_to_a_task_that_has_ended_is_nothing() -> None:
    async def child() -> None: ...

    async def scene() -> None:
        handle = Task(child)
        await handle
        assert handle.send("anybody?") == 0

    play(scene)


def test_a_message_that_comes_while_the_task_turns_to_wait_wakes_it() -> None:
    """The relief thread may put it into the mailbox between the look and the wait."""

    class Between(deque[Envelope]):
        """Empty when it is looked at, and filled from another thread right after."""

        def __init__(self, cell: Cell) -> None:
            super().__init__()
            self.cell = cell
            self.looks = 0

        def __len__(self) -> int:
            seen = super().__len__()
            self.looks += 1
            if self.looks == 2:  # the first look is receive's own, the second is the one before the wait
                payload = self.cell.host.parcels.dumps("in between", "")
                envelope = Envelope(self.cell.address, Address(1, 1), messages.Tell(), 0, payload)
                thread = threading.Thread(target=self.relieve, args=(envelope,))
                thread.start()
                thread.join(0.2)
            return seen

        def relieve(self, envelope: Envelope) -> None:
            with self.cell.host.runtime.lock:
                self.cell.on_envelope(envelope, 0.0)

        def __bool__(self) -> bool:
            return len(self) > 0

    async def scene(task: Any = None) -> None:
        cell = current_cell()
        assert cell is not None
        cell.inbox = Between(cell)
        assert await task.receive(timeout=1.0) == "in between"

    play(scene)


# --- requests ---


def test_a_request_gets_its_reply() -> None:
    async def child(task: Any = None) -> None:
        for _ in range(2):
            number = await task.receive()
            task.reply(number + 1)

    async def scene() -> None:
        handle = Task(child)
        assert await handle.ask(1) == 2
        assert await handle.ask(2, timeout=5) == 3

    play(scene)


def test_requests_of_several_askers_are_not_mixed_up() -> None:
    async def server(task: Any = None) -> None:
        for _ in range(20):
            task.reply(await task.receive())

    async def client(handle: Task, number: int) -> bool:
        return bool(await handle.ask(number) == number)

    async def scene() -> None:
        handle = Task(server)
        assert all(await asyncio.gather(*(Task(client, handle, number) for number in range(20))))

    play(scene)


def test_a_reply_without_a_request_is_an_error() -> None:
    async def child(task: Any = None) -> None:
        with pytest.raises(RuntimeError, match="nothing to reply to"):
            task.reply(1)
        await task.receive()
        with pytest.raises(RuntimeError, match="nothing to reply to"):
            task.reply(1)
        await task.receive()
        task.reply("once")
        with pytest.raises(RuntimeError, match="answered already"):
            task.reply("twice")

    async def scene() -> None:
        handle = Task(child)
        handle.send("sent")
        assert await handle.ask("asked") == "once"
        await handle

    play(scene)


def test_a_reply_that_cannot_be_pickled_may_be_made_again() -> None:
    async def child(task: Any = None) -> None:
        await task.receive()
        with pytest.raises(NotPicklable, match="the reply of child"):
            task.reply(iter_nothing())
        task.reply("better")

    async def scene() -> None:
        assert await Task(child).ask("?") == "better"

    play(scene)


def test_an_asker_waits_as_long_as_it_said() -> None:
    async def child(task: Any = None) -> Any:
        await task.receive()
        await task.sleep(0.05)
        task.reply("late")
        return await task.receive()

    async def scene() -> None:
        handle = Task(child)
        with pytest.raises(TimeoutError):
            await handle.ask("?", timeout=0.01)
        handle.send("after the late reply")
        assert await handle == "after the late reply"

    play(scene)


@pytest.mark.parametrize("taken", [True, False])
def test_who_asked_a_task_that_ends_is_told(taken: bool) -> None:
    async def child(task: Any = None) -> None:
        if taken:
            await task.receive()
        await task.sleep(0.02)

    async def scene() -> None:
        with pytest.raises(TaskLost, match="child ended without a reply"):
            await Task(child).ask("?", timeout=5)

    play(scene)


def test_who_asks_a_task_that_has_ended_is_told() -> None:
    async def child() -> None: ...

    async def scene() -> None:
        handle = Task(child)
        await handle
        with pytest.raises(TaskLost):
            await handle.ask("?", timeout=5)

    play(scene)


def test_nothing_is_kept_of_calls_that_are_over() -> None:
    async def child(task: Any = None) -> None:
        task.reply(await task.receive())
        await task.receive()
        await task.receive()

    async def scene() -> None:
        handle = Task(child)
        host = TaskHost.of_running_loop()
        await handle.ask(1)
        with pytest.raises(TimeoutError):
            await handle.ask(2, timeout=0.01)
        await handle.deliver("end")
        await handle
        await asyncio.sleep(0)
        assert host._calls == {}
        assert set(host.cells.values()) == {current_cell()}

    play(scene)


# --- ends ---


@pytest.mark.parametrize("waits", ["receive", "sleep", "future", "child"])
def test_terminate_is_a_keyboard_interrupt_where_the_task_waits(waits: str) -> None:
    heard: list[str] = []

    async def forever(task: Any = None) -> None:
        await task.receive()

    async def child(task: Any = None) -> None:
        try:
            if waits == "receive":
                await task.receive()
            elif waits == "sleep":
                await task.sleep(60)
            elif waits == "future":
                await asyncio.get_running_loop().create_future()
            else:
                await Task(forever)
        except KeyboardInterrupt:
            heard.append(waits)
            raise

    async def scene() -> None:
        handle = Task(child)
        await asyncio.sleep(0.01)
        assert handle.terminate() == 0
        with pytest.raises(TaskTerminated):
            await handle
        assert heard == [waits]
        handle.terminate()

    play(scene)


def test_terminate_reaches_a_generator() -> None:
    heard: list[str] = []

    def child(task: Any = None) -> Generator[Any, Any, Any]:
        try:
            yield task.receive()
        except KeyboardInterrupt:
            heard.append("generator")
            raise

    async def scene() -> None:
        handle = Task(child)
        await asyncio.sleep(0.01)
        handle.terminate()
        with pytest.raises(TaskTerminated):
            await handle
        assert heard == ["generator"]

    play(scene)


def test_a_task_terminated_before_its_first_step_never_runs() -> None:
    ran: list[int] = []

    async def child() -> None:
        ran.append(1)

    async def scene() -> None:
        handle = Task(child)
        handle.terminate()
        with pytest.raises(TaskTerminated):
            await handle
        assert ran == []

    play(scene)


def test_a_task_may_answer_terminate_with_a_value() -> None:
    async def child(task: Any = None) -> str:
        try:
            await task.receive()
        except KeyboardInterrupt:
            return "cleaned up"
        return "unreachable"

    async def scene() -> None:
        handle = Task(child)
        await asyncio.sleep(0.01)
        handle.terminate()
        assert await handle == "cleaned up"

    play(scene)


class Custom(Exception):
    pass


def test_the_exception_of_a_local_task_is_raised_itself() -> None:
    error = Custom("mine")

    async def child() -> None:
        raise error

    async def scene() -> None:
        with pytest.raises(Custom) as info:
            await Task(child)
        assert info.value is error

    play(scene)


@pytest.mark.parametrize("error", [SystemExit(3), StopIteration(1), GeneratorExit()])
def test_what_would_end_the_loop_is_an_error_of_the_task_only(error: BaseException) -> None:
    def child() -> Generator[Any, Any, None]:
        yield
        raise error

    def plain() -> None:
        raise error

    async def scene() -> None:
        for function in (child, plain):
            with pytest.raises(Exception) as info:
                await Task(function)
            assert isinstance(info.value, DispycosError | RuntimeError)

    play(scene)


def test_settling_keeps_what_a_future_can_hold() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        for outcome, kind in [
            (Raised(ValueError("x")), ValueError),
            (Raised(KeyboardInterrupt()), TaskTerminated),
            (Raised(SystemExit(2)), DispycosError),
            (Raised(StopIteration(2)), DispycosError),
            (Raised(asyncio.CancelledError()), DispycosError),
        ]:
            future: asyncio.Future[Any] = loop.create_future()
            settle(future, outcome)
            assert type(future.exception()) is kind
        value: asyncio.Future[Any] = loop.create_future()
        settle(value, Returned(5))
        assert value.result() == 5

    asyncio.run(main())


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

    assert monitored(child)[1:] == (StopIteration, {"a": 1})


def test_a_monitor_hears_the_exception() -> None:
    async def child() -> None:
        raise Custom("words")

    assert monitored(child)[1:] == (Custom, "words")


def test_a_monitor_hears_of_terminate() -> None:
    async def child(task: Any = None) -> None:
        await task.receive()

    status = monitored(child, lambda task: asyncio.sleep(0.01, task.terminate()))
    assert status.type is KeyboardInterrupt


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
        host = TaskHost.of_running_loop()
        stranger = host.handle(Address(12345, 20), "stranger", None, None)
        with pytest.raises(TypeError, match="task of this process"):
            await stranger.monitor(stranger)

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
        done, pending = await asyncio.wait([quick, late], return_when=asyncio.FIRST_COMPLETED)  # type: ignore[type-var]
        assert (done, pending) == ({quick}, {late})
        late.terminate()
        done, pending = await asyncio.wait([late], timeout=5)  # type: ignore[type-var]
        assert (done, pending) == ({late}, set())
        done, pending = await asyncio.wait([Task(slow, 1, 60)], timeout=0.01)  # type: ignore[type-var]
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
        await asyncio.wait([failed])  # type: ignore[type-var]
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
        host = TaskHost.of_running_loop()
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


def test_unpickled_handles_belong_to_the_host_that_loads() -> None:
    async def scene(task: Any = None) -> None:
        data = pickle.dumps(task)
        other = object.__new__(TaskHost)
        asked: list[Any] = []
        other.handle = lambda *args: asked.append(args) or task  # type: ignore[method-assign,func-returns-value]
        with loading(other):
            assert pickle.loads(data) is task
        assert len(asked) == 1
        assert pickle.loads(data) is task and len(asked) == 1

    play(scene)


# --- hosts ---


def test_a_task_without_a_loop_says_what_to_do() -> None:
    with pytest.raises(RuntimeError):
        Task(slow, 1)

    async def bare() -> None:
        with pytest.raises(RuntimeError, match=r"dispycos.run\(main\)"):
            Task(slow, 1)

    asyncio.run(bare())


@pytest.mark.parametrize("function", [None, 5, "name"])
def test_what_cannot_be_called_is_no_task(function: Any) -> None:
    async def scene() -> None:
        with pytest.raises(TypeError, match=type(function).__name__):
            Task(function)

    play(scene)


def test_numbers_of_tasks_are_never_used_again() -> None:
    async def child() -> None: ...

    async def scene() -> None:
        homes = set()
        for _ in range(50):
            handle = Task(child)
            homes.add(handle.home)
            await handle
        assert len(homes) == 50
        assert all(home.actor > FIRST_TASK for home in homes)

    play(scene)


def test_a_task_that_starts_another_goes_on_first() -> None:
    order: list[str] = []

    async def child() -> None:
        order.append("child")

    async def scene() -> None:
        handle = Task(child)
        order.append("parent")
        await handle

    play(scene)
    assert order == ["parent", "child"]


class Pull:
    """Parcels that miss code until it has been fetched."""

    def __init__(self) -> None:
        self.known = False
        self.fetched = 0
        self.caught_up: list[int] = []

    def dumps(self, value: Any, what: str) -> Payload:
        return dumps_value(value, what)

    def loads(self, payload: Payload) -> Any:
        value = loads_plain(payload)
        if value == "needs code" and not self.known:
            raise MissingCode(CodeRequest(names=["Shape"]))
        return value

    def version(self) -> int:
        return 3

    def is_behind(self, version: int) -> bool:
        return version > 3

    async def catch_up(self, version: int) -> None:
        self.caught_up.append(version)

    async def fetch(self, missing: MissingCode) -> None:
        await asyncio.sleep(0.01)
        self.fetched += 1
        self.known = True


def host_scene(scene: Callable[[TaskHost, Pull], Awaitable[None]]) -> None:
    """On a runtime without sockets, with parcels of our own."""

    async def main() -> None:
        runtime = Runtime("client", "test", None)
        parcels = Pull()
        host = TaskHost(runtime, parcels, Interrupts())
        try:
            async with asyncio.timeout(10):
                await scene(host, parcels)
        finally:
            host.close()
            await runtime.close()

    asyncio.run(main())


def test_a_message_whose_code_is_missing_waits_for_it_and_keeps_its_place() -> None:
    async def reader(task: Any = None) -> list[Any]:
        return [await task.receive() for _ in range(3)]

    async def scene(host: TaskHost, parcels: Pull) -> None:
        handle = Task(reader)
        for message in ("first", "needs code", "last"):
            handle.send(message)
        assert await handle == ["first", "needs code", "last"]
        assert parcels.fetched == 1

    host_scene(scene)


def test_a_message_of_newer_code_catches_up_first() -> None:
    async def reader(task: Any = None) -> Any:
        return await task.receive()

    async def scene(host: TaskHost, parcels: Pull) -> None:
        handle = Task(reader)
        await asyncio.sleep(0)
        word = messages.Tell(code=5)
        host.post(Envelope(handle.home, host.address, word, 0, host.parcels.dumps("new", "")))
        assert await handle == "new"
        assert parcels.caught_up == [5]

    host_scene(scene)


def test_a_call_to_a_process_that_dies_is_answered_by_nothing() -> None:
    async def scene(host: TaskHost, parcels: Pull) -> None:
        far = host.handle(Address(99, 20), "far", None, None)
        asking = asyncio.ensure_future(far.ask("?"))
        delivering = asyncio.ensure_future(far.deliver("word"))
        other = asyncio.ensure_future(host.handle(Address(98, 20), "other", None, None).deliver("x"))
        await asyncio.sleep(0.01)
        host.peer_gone(99, [])
        with pytest.raises(TaskLost, match="far ended without a reply"):
            await asking
        assert await delivering == 0
        assert not other.done()
        other.cancel()

    host_scene(scene)


def test_messages_that_a_dead_process_did_not_confirm_are_told(caplog: pytest.LogCaptureFixture) -> None:
    async def scene(host: TaskHost, parcels: Pull) -> None:
        tell = Envelope(Address(99, 20), host.address, messages.Tell(), 0, b"")
        host.peer_gone(99, [tell, tell])
        host.peer_gone(98, [])

    host_scene(scene)
    assert len(caplog.messages) == 1 and "2 messages" in caplog.messages[0]


def test_words_for_a_task_reach_it_whoever_sends_them() -> None:
    async def child(task: Any = None) -> None:
        await task.receive()

    async def scene(host: TaskHost, parcels: Pull) -> None:
        got: list[Envelope] = []
        me = host.runtime.attach_inbox(60, lambda envelope, now: got.append(envelope))
        handle = Task(child)
        await asyncio.sleep(0)
        host.post(Envelope(handle.home, me, messages.Watch(), 7))
        host.post(Envelope(handle.home, me, messages.Tell(), 8, host.parcels.dumps("end", "")))
        await until(lambda: len(got) == 2)
        assert [(entry.message, entry.correlation) for entry in got] == [
            (messages.Delivered(1), 8),
            (messages.Ended(OutcomeKind.RETURNED), 7),
        ]
        assert host.parcels.loads(got[1].payload) is None

    host_scene(scene)


def test_who_stops_watching_hears_nothing() -> None:
    async def child(task: Any = None) -> None:
        await task.receive()

    async def scene(host: TaskHost, parcels: Pull) -> None:
        got: list[Envelope] = []
        me = host.runtime.attach_inbox(60, lambda envelope, now: got.append(envelope))
        handle = Task(child)
        await asyncio.sleep(0)
        host.post(Envelope(handle.home, me, messages.Watch(), 7))
        host.post(Envelope(handle.home, me, messages.Watch(end=True), 7))
        handle.send("end")
        await handle
        await asyncio.sleep(0.01)
        assert got == []

    host_scene(scene)


def test_a_stranger_may_terminate_by_word() -> None:
    async def child(task: Any = None) -> None:
        await task.receive()

    async def scene(host: TaskHost, parcels: Pull) -> None:
        handle = Task(child)
        await asyncio.sleep(0.01)
        host.post(Envelope(handle.home, Address(99, 20), messages.TerminateActor()))
        with pytest.raises(TaskTerminated):
            await handle

    host_scene(scene)


def test_answers_outside_of_tasks_come_to_the_process() -> None:
    async def scene(host: TaskHost, parcels: Pull) -> None:
        assert host.address == host.runtime.address(HOST_ACTOR)
        assert host.me() == host.address
        assert TaskHost.find(asyncio.get_running_loop()) is host
        host.close()
        assert TaskHost.find(asyncio.get_running_loop()) is None

    host_scene(scene)


# --- small ---


def test_functions_that_name_a_task_are_known() -> None:
    class Callable_:
        def __call__(self, task: Any) -> None: ...

    def keyword(*, task: Any = None) -> None: ...

    def local_only() -> None:
        task = 1
        del task

    assert [takes_task(f) for f in (slow, keyword, Callable_(), local_only, max, print)] == [
        True,
        True,
        True,
        False,
        False,
        False,
    ]


def test_functions_are_called_by_their_names() -> None:
    class Nameless:
        def __call__(self) -> None: ...

    assert [name_of(f) for f in (slow, max, Nameless())] == ["slow", "max", "Nameless"]
