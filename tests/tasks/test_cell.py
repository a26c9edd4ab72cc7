"""One task on a real loop: its mailbox, its replies, and how it ends."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Generator, Iterator
from typing import Any

import pytest

from dispycos import NotPicklable, Task, TaskTerminated
from dispycos.actors.tasks.cell import Cell
from dispycos.actors.tasks.current import current_cell
from dispycos.actors.tasks.ends import Returned
from dispycos.actors.tasks.host import TaskHost
from dispycos.errors import DispycosError
from dispycos.protocol import messages
from dispycos.protocol.addresses import Address
from dispycos.protocol.envelope import Envelope
from dispycos.protocol.messages import TaskId
from dispycos.protocol.status import OutcomeKind
from tests.kit.local_tasks import Custom, Pull, host_scene, play, until

pytestmark = [pytest.mark.timeout(30), pytest.mark.usefixtures("own_home")]


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


def test_the_messages_that_a_task_takes_are_counted() -> None:
    async def child(task: Any = None) -> Any:
        before = current_cell().taken_count  # type: ignore[union-attr]
        task.send("one")
        task.send("two")
        task.send("three")
        await task.receive()
        await task.receive()
        return before, current_cell().taken_count, len(current_cell().inbox)  # type: ignore[union-attr]

    async def scene() -> None:
        assert await Task(child) == (0, 2, 1)

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


def test_who_polls_gets_what_was_sent_before_and_nothing_more() -> None:
    async def scene(task: Any = None) -> None:
        for _ in range(20):
            task.send(1)
            task.send(2)
            assert [await task.receive(0, "none") for _ in range(3)] == [1, 2, "none"]

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


def test_a_task_can_be_asked_whether_it_waits_for_a_message() -> None:
    async def child(task: Any = None) -> None:
        await asyncio.sleep(0.05)
        await task.receive(20)

    async def scene() -> None:
        handle = Task(child)
        host: Any = handle._host

        async def waits() -> int:
            answer = await host.call(handle.home, messages.AwaitsMessage(), None, 5)
            assert answer is not None
            return int(answer.message.code)

        assert await waits() == 0
        await asyncio.sleep(0.1)
        assert await waits() == 1
        handle.send("end")
        await handle
        assert await waits() == 0

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
                payload = self.cell.host.payloads.dumps("in between", "")
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
        cell: Any = current_cell()
        assert cell is not None
        cell.inbox = Between(cell)
        assert await task.receive(timeout=1.0) == "in between"

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


def test_words_for_a_task_reach_it_whoever_sends_them() -> None:
    async def child(task: Any = None) -> None:
        await task.receive()

    async def scene(host: TaskHost, payloads: Pull) -> None:
        got: list[Envelope] = []
        me = host.runtime.attach_inbox(60, lambda envelope, now: got.append(envelope))
        handle = Task(child)
        await asyncio.sleep(0)
        host.post(Envelope(handle.home, me, messages.Watch(), 7))
        host.post(Envelope(handle.home, me, messages.Tell(), 8, host.payloads.dumps("end", "")))
        await until(lambda: len(got) == 2)
        assert [(entry.message, entry.correlation) for entry in got] == [
            (messages.Delivered(1), 8),
            (messages.Ended(OutcomeKind.RETURNED), 7),
        ]
        assert host.payloads.loads(got[1].payload) is None

    host_scene(scene)


def test_two_who_watch_from_one_place_both_hear_of_the_end() -> None:
    async def child(task: Any = None) -> None:
        await task.receive()

    async def scene(host: TaskHost, payloads: Pull) -> None:
        got: list[int] = []
        me = host.runtime.attach_inbox(60, lambda envelope, now: got.append(envelope.correlation))
        handle = Task(child)
        await asyncio.sleep(0)
        for correlation in (7, 9):
            host.post(Envelope(handle.home, me, messages.Watch(), correlation))
        handle.send("end")
        await until(lambda: len(got) == 2)
        assert got == [7, 9]

    host_scene(scene)


def test_a_stranger_who_cancels_cancels_for_all_who_wait_here() -> None:
    async def child(task: Any = None) -> None:
        await task.receive()

    async def scene(host: TaskHost, payloads: Pull) -> None:
        handle = Task(child)
        await asyncio.sleep(0.01)
        host.post(Envelope(handle.home, Address(99, 20), messages.TerminateActor(cancelled=True)))
        with pytest.raises(asyncio.CancelledError):
            await handle
        assert handle.cancelled()

    host_scene(scene)


def test_a_stranger_may_terminate_by_word() -> None:
    async def child(task: Any = None) -> None:
        await task.receive()

    async def scene(host: TaskHost, payloads: Pull) -> None:
        handle = Task(child)
        await asyncio.sleep(0.01)
        host.post(Envelope(handle.home, Address(99, 20), messages.TerminateActor()))
        with pytest.raises(TaskTerminated):
            await handle

    host_scene(scene)


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


# --- what a running task is told of itself ---


def test_a_task_can_be_reached_from_when_its_address_is_asked_for_until_its_end() -> None:
    async def scene(host: TaskHost, _: Pull) -> None:
        cell = Cell(host, "compute", TaskId(7, 16))
        assert not host.cells and cell.home == Address(7, 16) and cell.actor == 0
        assert host.cells == {cell.address.actor: cell} and cell.address == cell.handle._direct
        cell.finished(Returned(1))
        assert not host.cells
        late = Cell(host, "compute", TaskId(7, 17))
        late.finished(Returned(1))
        assert late.address.epoch == host.runtime.epoch and not host.cells, (
            "a thread that it left behind asked"
        )

    host_scene(scene)


def test_a_task_knows_which_attempt_it_is() -> None:
    async def scene(host: TaskHost, _: Pull) -> None:
        assert host.prepare("local").handle.attempt == 1
        cell = Cell(host, "compute", TaskId(7, 16, 3))
        assert cell.handle.attempt == 3
        assert cell.handle.usage is None

    host_scene(scene)
