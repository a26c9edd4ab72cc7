"""Channels among the tasks of one program: what they give to whom, what a transform does, and what is refused."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from dispycos import Channel, ChannelClosed, NameTaken, NotPicklable, Task
from tests.kit.local_tasks import play, until

pytestmark = [pytest.mark.timeout(30), pytest.mark.usefixtures("own_home")]


def iter_nothing() -> Iterator[int]:
    """A generator: nothing pickles it."""
    yield from ()


async def reads(channel: Channel, count: int, *, task: Task) -> list[Any]:
    assert await channel.subscribe(task) == 0
    return [await task.receive() for _ in range(count)]


def test_all_who_subscribe_get_all_in_order_and_are_dropped_when_they_end() -> None:
    async def scene() -> None:
        channel = Channel("news")
        readers = [Task(reads, channel, 102) for _ in range(3)]
        assert await channel.deliver("first", n=3) == 3
        for number in range(100):
            assert channel.send([number]) == 0
        assert await channel.deliver("last") == 3
        for reader in readers:
            assert await reader == ["first", *([number] for number in range(100)), "last"]
        assert await channel.deliver("nobody", timeout=5) == 0
        assert await channel.deliver("nobody", timeout=0.01, n=1) == 0

    play(scene)


def test_who_unsubscribes_gets_nothing_more() -> None:
    async def scene(*, task: Task) -> None:
        channel = Channel("news")
        await channel.subscribe(task)
        channel.send(1)
        assert await channel.unsubscribe(task) == await channel.unsubscribe(task) == 0
        channel.send(2)
        assert await channel.deliver(3) == 0
        assert [await task.receive(), await task.receive(timeout=0.01)] == [1, None]

    play(scene)


def test_a_transform_changes_what_comes_after_it_and_nothing_overtakes() -> None:
    async def scene(*, task: Task) -> None:
        async def slowly(name: str, message: Any) -> Any:
            await asyncio.sleep(0.01)
            return None if message == "drop" else (name, message)

        channel = Channel("news", slowly)
        await channel.subscribe(task)
        channel.send(1)
        channel.send("drop")
        await asyncio.sleep(0)
        assert await channel.deliver(2) == 1
        channel.set_transform(None)
        channel.send(3)
        assert await channel.deliver("drop") == 1
        assert [await task.receive() for _ in range(4)] == [("news", 1), ("news", 2), 3, "drop"]

    play(scene)


def test_what_a_transform_raises_is_logged_and_the_message_goes_nowhere() -> None:
    complaints: list[Any] = []

    async def scene(*, task: Task) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, complaint: complaints.append(complaint))
        channel = Channel("news", lambda name, message: 1 / message)
        await channel.subscribe(task)
        assert await channel.deliver(0) == 0
        assert await channel.deliver(2) == 1
        assert await task.receive() == 0.5

    play(scene)
    (complaint,) = complaints
    assert complaint["message"] == "channel news: a message went nowhere, as its transform failed"
    assert isinstance(complaint["exception"], ZeroDivisionError)


def test_a_channel_may_subscribe_to_a_channel_in_a_circle_too() -> None:
    async def scene(*, task: Task) -> None:
        one, two = Channel("one"), Channel("two")
        await one.subscribe(two)
        await two.subscribe(one)
        await two.subscribe(task)
        assert await one.deliver("once", timeout=5) == 1
        assert [await task.receive(), await task.receive(timeout=0.01)] == ["once", None]

    play(scene)


def test_a_channel_is_itself_wherever_it_was_sent() -> None:
    async def scene(*, task: Task) -> None:
        channel = Channel("news")
        task.send({"channel": channel})
        assert (await task.receive())["channel"] is channel
        channel.register()
        assert await Channel.locate("news") is channel
        assert repr(channel) == "<Channel news>" and channel == channel and len({channel}) == 1

    play(scene)


def test_a_closed_channel_says_so_and_its_name_is_free() -> None:
    async def scene(*, task: Task) -> None:
        channel, other = Channel("news"), Channel("news")
        channel.register()
        with pytest.raises(NameTaken, match="'news' is the name of <Channel news> already"):
            other.register()
        waiting = asyncio.ensure_future(channel.deliver("news", n=1))
        await asyncio.sleep(0.01)
        assert channel.close() == channel.close() == 0
        assert await waiting == 0
        other.register()
        assert channel.send("nowhere") == 0
        assert await channel.deliver("nowhere") == 0
        for call in (channel.register, channel.unregister, lambda: channel.set_transform(None)):
            with pytest.raises(ChannelClosed, match="channel news was closed"):
                call()
        with pytest.raises(ChannelClosed, match="channel news was closed"):
            await channel.subscribe(task)

    play(scene)


def test_who_delivers_no_more_leaves_nothing_behind() -> None:
    async def scene(*, task: Task) -> None:
        channel = Channel("news")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await channel.deliver("late", n=1)
        machine = task._host.sharing.channels.machine
        await until(lambda: not machine._deliveries)
        await channel.subscribe(task)
        assert await task.receive(timeout=0.01) is None

    play(scene)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ((5,), TypeError, "a name must be a str"),
        (("",), ValueError, "1 to 200 characters"),
        (("_news",), ValueError, "must begin with a letter or a digit, not '_news'"),
        (("news", 5), TypeError, r"transform must be a function of \(name, message\), not int"),
        (("news", lambda: 0), TypeError, r"transform must take \(name, message\): too many"),
    ],
)
def test_what_makes_no_channel_is_refused(arguments: Any, error: type[Exception], words: str) -> None:
    async def scene() -> None:
        with pytest.raises(error, match=words):
            Channel(*arguments)

    play(scene)


def test_what_is_no_subscriber_message_or_count_is_refused() -> None:
    async def scene() -> None:
        channel = Channel("news")
        with pytest.raises(TypeError, match="a Task or a Channel, not str"):
            await channel.subscribe("me")  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="channel news cannot subscribe to itself"):
            await channel.subscribe(channel)
        with pytest.raises(NotPicklable):
            channel.send(iter_nothing())
        with pytest.raises(TypeError, match="n must be a whole number"):
            await channel.deliver(1, n="2")  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="n must not be negative"):
            await channel.deliver(1, n=-1)

    play(scene)
