"""Named tasks, links and later messages among the tasks of one program."""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Iterator
from typing import Any

import pytest

from dispycos import (
    Channel,
    Location,
    NameTaken,
    NotPicklable,
    Task,
    TaskLost,
    TaskTerminated,
    peer_status,
)
from dispycos.actors.client.code import ClientPayloads
from dispycos.actors.client.local import Home
from tests.kit.local_tasks import play, until

pytestmark = [pytest.mark.timeout(30), pytest.mark.usefixtures("own_home")]


def iter_nothing() -> Iterator[int]:
    """A generator: nothing pickles it."""
    yield from ()


async def waits(*, task: Task) -> Any:
    return await task.receive()


def test_a_task_is_found_by_its_functions_name_or_another_until_it_ends() -> None:
    async def scene() -> None:
        handle = Task(waits)
        assert handle.register() == handle.register() == handle.register("other") == 0
        assert await Task.locate("waits") is handle
        assert await Task.locate("other") is handle
        handle.unregister("other")
        with pytest.raises(TimeoutError, match=r"no task named 'other' was registered within 0.01 s"):
            await Task.locate("other", timeout=0.01)
        handle.send("enough")
        assert await handle == "enough"
        with pytest.raises(TimeoutError, match="'waits'"):
            await Task.locate("waits", timeout=0.01)
        with pytest.raises(TaskLost, match="waits has ended"):
            handle.register()

    play(scene)


def test_who_locates_waits_until_the_name_is_registered() -> None:
    async def scene() -> None:
        def finds() -> Generator[Any, Any, Any]:
            return (yield Task.locate("late", timeout=10))

        finder, handle = Task(finds), Task(waits)
        await asyncio.sleep(0.01)
        handle.register("late")
        assert await finder is handle
        handle.unregister()
        assert handle.terminate() == 0

    play(scene)


def test_a_name_is_given_once_and_freed_for_the_next() -> None:
    async def scene() -> None:
        first, second = Task(waits), Task(waits)
        first.register()
        with pytest.raises(
            NameTaken, match=r"'waits' is the name of <Task waits> already: .*unregister that task"
        ):
            second.register()
        Channel("waits").register()  # a channel is no task
        first.unregister()
        second.register()
        assert await Task.locate("waits") is second
        second.terminate()
        with pytest.raises(TaskTerminated):
            await second
        first.register()
        first.terminate()

    play(scene)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"name": 5}, TypeError, "a name must be a str, not int"),
        ({"name": ""}, ValueError, "1 to 200 characters, this one has 0"),
        ({"name": "x" * 201}, ValueError, "this one has 201"),
        ({"name": "x", "location": 5}, TypeError, "location must be a str .* or a Location, not int"),
        ({"name": "x", "location": ""}, TypeError, "location must be"),
    ],
)
def test_what_is_no_name_or_place_is_refused(arguments: Any, error: type[Exception], words: str) -> None:
    async def scene() -> None:
        with pytest.raises(error, match=words):
            await Task.locate(**arguments)

    play(scene)


def test_a_location_that_is_not_there_is_waited_for() -> None:
    async def scene(task: Task) -> None:
        task.register("here")
        with pytest.raises(TimeoutError, match=r"'here' was registered at 10.0.0.1:9706 within"):
            await Task.locate("here", Location("10.0.0.1", 9706), timeout=0.01)

    async def with_task(*, task: Task) -> None:
        await scene(task)

    play(with_task)


# --- links ---


async def fails(*, task: Task) -> None:
    if await task.receive() == "fail":
        raise ValueError("failed")


async def linked(other: Task, *, task: Task) -> str:
    assert await other.link() == 0
    other.send(await task.receive())
    message: str = await task.receive(timeout=10)
    return message


def test_who_fails_ends_who_is_linked_and_who_returns_does_not() -> None:
    async def scene() -> None:
        for word, survives in (("fail", False), ("return", True)):
            first = Task(fails)
            second = Task(linked, first)
            second.send(word)
            await asyncio.wait([first])
            second.send("went on")
            if survives:
                assert await second == "went on"
            else:
                with pytest.raises(TaskTerminated):
                    await second

    play(scene)


def test_a_link_goes_both_ways_and_can_be_made_for_another() -> None:
    async def scene() -> None:
        first, second = Task(waits), Task(waits)
        await first.link(second)
        await asyncio.sleep(0)
        second.terminate()
        with pytest.raises(TaskTerminated):
            await first

    play(scene)


def test_a_link_to_who_has_failed_already_ends_at_once() -> None:
    async def scene() -> None:
        first = Task(fails)
        first.send("fail")
        await asyncio.wait([first])
        second = Task(linked, first)
        with pytest.raises(TaskTerminated):
            await second

    play(scene)


def test_nobody_is_linked_to_itself_nor_by_who_is_no_task_here() -> None:
    async def scene() -> None:
        first = Task(waits)
        with pytest.raises(ValueError, match="waits cannot be linked to itself"):
            await first.link(first)
        with pytest.raises(TypeError, match="needs a task of this process"):
            await first.link("me")
        first.terminate()

    play(scene)


# --- later messages ---


def test_a_message_for_later_is_as_it_was_and_can_be_taken_back() -> None:
    async def scene(*, task: Task) -> None:
        message = ["first"]
        task.send_after(0.02, message)
        task.send_after(0.01, "cancelled").cancel()
        message.append("changed")
        task.send("now")
        assert [await task.receive() for _ in range(2)] == ["now", ["first"]]
        assert await task.receive(timeout=0.01) is None

    play(scene)


@pytest.mark.parametrize(
    ("seconds", "error"), [(-1, ValueError), (float("inf"), ValueError), ("1", TypeError), (True, TypeError)]
)
def test_later_is_a_number_of_seconds(seconds: Any, error: type[Exception]) -> None:
    async def scene(*, task: Task) -> None:
        with pytest.raises(error, match="seconds must be"):
            task.send_after(seconds, "x")
        with pytest.raises(NotPicklable):
            task.send_after(1, iter_nothing())

    play(scene)


def test_what_outlives_its_program_ends_without_complaint() -> None:
    complaints: list[Any] = []

    async def program() -> Task:
        handle = Task(waits)
        watcher = Task(waits)
        await asyncio.sleep(0.01)
        handle.register()
        peer_status(handle)
        await handle.monitor(watcher)
        handle.send_after(0.01, "late")
        return handle

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, complaint: complaints.append(complaint))
        home = Home(ClientPayloads(), kept=True)
        handle = await program()
        await home.end()  # its clients have closed, and its loop goes on
        async with asyncio.timeout(5):  # a complaint is an end that nobody is told
            with pytest.raises(TaskTerminated):
                await handle
        await asyncio.sleep(0.02)

    asyncio.run(main())
    assert complaints == []


# --- peers ---


def test_a_program_without_a_cluster_has_no_peer_not_even_itself() -> None:
    async def scene(*, task: Task) -> None:
        assert peer_status(task) == 0
        assert await task.receive(timeout=0.01) is None
        with pytest.raises(TypeError, match="needs a Task, not str"):
            peer_status("me")  # type: ignore[arg-type]

    play(scene)


def test_who_awaits_a_name_no_more_leaves_nothing_behind() -> None:
    async def scene(*, task: Task) -> None:
        host: Any = task._host
        book = host.home.directory.machine
        for _ in range(3):
            with pytest.raises(TimeoutError):
                await Task.locate("nobody", timeout=0.001)
        await until(lambda: book.deadline() is None or not book._questions)
        book.check()

    play(scene)
