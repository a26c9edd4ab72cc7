"""What senders and receivers see of a mailbox with a bound, and of its policies."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import Any

import pytest

from dispycos import MailboxFull, Task, TaskLost
from dispycos.actors.tasks import handles
from dispycos.actors.tasks.cell import Cell
from dispycos.actors.tasks.current import current_host
from dispycos.actors.tasks.keeping import DROP_OLDEST, NEWEST, WAIT, Keeping
from dispycos.actors.tasks.windows import WINDOW_BYTES, WINDOW_MESSAGES
from dispycos.protocol import messages
from dispycos.protocol.addresses import Address
from dispycos.protocol.envelope import Envelope
from tests.kit.local_tasks import play

pytestmark = [pytest.mark.timeout(30), pytest.mark.usefixtures("own_home")]

MANY = 3 * WINDOW_MESSAGES


async def take_when_told(start: asyncio.Event, count: int, *, task: Any) -> list[Any]:
    await start.wait()
    return [await task.receive() for _ in range(count)]


def test_a_task_that_does_not_receive_has_a_window_and_later_all_in_order() -> None:
    async def scene() -> None:
        start = asyncio.Event()
        task = Task(take_when_told, start, MANY)
        for number in range(MANY):
            task.send(number)
        await asyncio.sleep(0.05)
        assert isinstance(task._source, Cell) and len(task._source.inbox) == WINDOW_MESSAGES
        start.set()
        assert await task == list(range(MANY))
        assert not current_host().windows.waits(task.home)

    play(scene)


def test_others_are_not_held_up_by_it() -> None:
    async def scene() -> None:
        sleeper, echo = Task(take_when_told, asyncio.Event(), 1), Task(answer_once)
        for number in range(MANY):
            sleeper.send(number)
        assert await echo.ask(7, timeout=5) == 7
        sleeper.terminate()

    async def answer_once(*, task: Any) -> None:
        task.reply(await task.receive())

    play(scene)


def test_send_raises_in_words_when_16_mib_wait() -> None:
    async def scene() -> None:
        start = asyncio.Event()
        task = Task(take_when_told, start, 3)
        task.send(bytes(9 << 20))  # there is room, and this fills it
        task.send(bytes(15 << 20))
        task.send(bytes(1000))
        with pytest.raises(MailboxFull) as raised:
            task.send(bytes(1 << 20))
        assert str(raised.value) == (
            "2 messages (15.0 MiB) wait here for take_when_told to take them, so this one was not sent;"
            " `await handle.deliver(message)` waits for room"
        )
        start.set()
        assert list(map(len, await task)) == [9 << 20, 15 << 20, 1000]

    play(scene)


def test_deliver_waits_for_room() -> None:
    async def scene() -> None:
        start = asyncio.Event()
        task = Task(take_when_told, start, WINDOW_MESSAGES + 1)
        for number in range(WINDOW_MESSAGES):
            task.send(number)
        assert await task.deliver("late", timeout=0.05) == 0  # and it is not sent
        assert not current_host().windows.waits(task.home)
        waiting = asyncio.ensure_future(task.deliver("last"))
        await asyncio.sleep(0.02)
        assert not waiting.done()
        start.set()
        assert await waiting == 1
        assert await task == [*range(WINDOW_MESSAGES), "last"]

    play(scene)


def test_who_waits_long_for_room_says_so_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene() -> None:
        monkeypatch.setattr(handles, "PATIENCE_S", 0.05)
        task = Task(take_when_told, asyncio.Event(), 1)
        for number in range(WINDOW_MESSAGES):
            task.send(number)
        assert await task.deliver("?", timeout=0.01) == 0  # it has given up before
        with pytest.raises(TimeoutError):
            await asyncio.gather(*(task.ask("?", timeout=0.2) for _ in range(3)))
        task.terminate()

    with caplog.at_level(logging.WARNING, "dispycos"):
        play(scene)
    assert caplog.messages[0] == (
        "deliver() or ask() waits for room in the mailbox of take_when_told: "
        "until that takes some of it 3 messages cannot be sent"
    )
    assert not any("for room" in text for text in caplog.messages[1:])


def test_who_waits_for_room_in_the_mailbox_of_a_task_that_ends_is_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scene() -> None:
        task = Task(take_when_told, asyncio.Event(), 1)
        for number in range(WINDOW_MESSAGES + 5):
            task.send(number)
        delivery = asyncio.ensure_future(task.deliver("?"))
        question = asyncio.ensure_future(task.ask("?"))
        await asyncio.sleep(0.02)
        task.terminate()
        assert await asyncio.wait_for(delivery, 5) == 0
        with pytest.raises(TaskLost):
            await asyncio.wait_for(question, 5)
        assert not current_host().windows.waits(task.home)

    with caplog.at_level(logging.WARNING, "dispycos"):
        play(scene)
    assert "5 messages for a task that has ended: dropped before they were sent" in caplog.text


def test_replies_need_no_room() -> None:
    async def busy(*, task: Any) -> list[int]:
        other = await task.receive()
        for number in range(MANY):
            me.append(task)
            task.send(number)
        return [await other.ask(number, timeout=5) for number in range(3)]

    async def answer(*, task: Any) -> None:
        while True:
            task.reply(await task.receive())

    me: list[Any] = []

    async def scene() -> None:
        one, two = Task(busy), Task(answer)
        one.send(two)
        assert await one == [0, 1, 2]
        two.terminate()

    play(scene)


# --- policies ---


@pytest.mark.parametrize(
    ("policy", "left"), [(DROP_OLDEST, list(range(MANY - WINDOW_MESSAGES, MANY))), (NEWEST, [MANY - 1])]
)
@pytest.mark.parametrize("late", [False, True])
def test_a_policy_keeps_the_newest_and_nobody_waits(policy: str, left: list[int], late: bool) -> None:
    """`late`: messages were there when it was chosen."""

    async def reader(start: asyncio.Event, *, task: Any) -> Any:
        if late:
            await start.wait()
        task.mailbox(policy)
        await start.wait()
        while task.mailbox().dropped != MANY - len(left):
            await task.sleep(0.001)
        state = task.mailbox()
        got = [await task.receive() for _ in range(state.waiting)]
        return state.policy, got, task.mailbox()

    async def scene() -> None:
        start = asyncio.Event()
        task = Task(reader, start)
        await asyncio.sleep(0)
        for number in range(MANY):
            task.send(number)
        start.set()
        chosen, got, state = await task
        assert (chosen, got) == (policy, left)
        assert state == (policy, 0, 0, MANY - len(left))

    play(scene)


def test_requests_and_monitors_words_are_never_dropped() -> None:
    async def reader(*, task: Any) -> list[Any]:
        task.mailbox("newest")
        await task.receive()
        await task.sleep(0.05)
        first = await task.receive()
        task.reply("answer")
        return [first, await task.receive(), task.mailbox().dropped]

    async def scene() -> None:
        task = Task(reader)
        assert await task.deliver("begin") == 1
        question = asyncio.ensure_future(task.ask("?"))
        await asyncio.sleep(0)
        for number in range(5):
            task.send(number)
        assert await question == "answer"
        assert await task == ["?", 4, 4]

    play(scene)


@pytest.mark.parametrize("policy", ["", "oldest", 3])
def test_another_policy_is_refused(policy: Any) -> None:
    async def reader(*, task: Any) -> None:
        task.mailbox(policy)

    async def scene() -> None:
        with pytest.raises(ValueError, match="policy must be one of 'wait', 'drop_oldest', 'newest', not"):
            await Task(reader)

    play(scene)


def test_only_the_task_itself_looks_into_its_mailbox() -> None:
    async def scene() -> None:
        task = Task(take_when_told, asyncio.Event(), 1)
        with pytest.raises(RuntimeError, match="mailbox"):
            task.mailbox()
        task.terminate()

    play(scene)


# --- the machine of the policies ---


def tell(size: int = 1) -> Envelope:
    return Envelope(Address(1, 20), Address(2, 16), messages.Tell(), 0, bytes(size))


def test_the_oldest_go_by_their_bytes_too_and_the_newest_never() -> None:
    inbox: deque[Envelope] = deque()
    keeping = Keeping(inbox)
    assert keeping.choose(DROP_OLDEST) == []
    for size in (WINDOW_BYTES // 2, WINDOW_BYTES // 2, 1, 3 * WINDOW_BYTES):
        inbox.append(tell(size))
        assert keeping.came(inbox[-1])
    assert [len(entry.payload or b"") for entry in inbox] == [3 * WINDOW_BYTES]
    assert keeping.dropped == 3


def test_what_was_paid_when_it_came_is_not_paid_again_though_the_policy_has_changed() -> None:
    inbox = deque([tell(), tell()])
    keeping = Keeping(inbox)
    assert len(keeping.choose(DROP_OLDEST)) == 2
    assert keeping.choose(WAIT) == []
    inbox.append(tell())
    assert not keeping.came(inbox[-1])
    assert keeping.choose(DROP_OLDEST) == [inbox[-1]]
    assert keeping.choose(WAIT) == []
    inbox.append(tell())
    assert not keeping.came(inbox[-1])
    assert [keeping.took(inbox.popleft()) for _ in range(4)] == [False, False, False, True]


def test_a_request_is_paid_when_it_is_taken() -> None:
    request = Envelope(Address(1, 20), Address(2, 16), messages.Ask(), 3, b"?")
    inbox = deque([tell(), request])
    keeping = Keeping(inbox)
    keeping.choose(NEWEST)
    inbox.append(tell())
    assert keeping.came(inbox[-1]) and not keeping.came(request)
    assert list(inbox) == [request, inbox[-1]]
    assert keeping.took(request)
