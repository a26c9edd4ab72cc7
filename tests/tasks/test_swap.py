"""hot_swap(): another function goes on as the same task, when that allows it and lets the exception pass."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import Any

import pytest

from dispycos import HotSwapException, NotPicklable, Task, TaskTerminated
from dispycos.actors.tasks.current import current_host
from tests.kit.local_tasks import play, until

pytestmark = [pytest.mark.timeout(30), pytest.mark.usefixtures("own_home")]


async def old(*, task: Task) -> Any:
    task.hot_swappable()
    while (message := await task.receive()) != "done":
        task.send(("old", message))
    return "old"


async def new(word: str, times: int = 1, *, task: Task) -> Any:
    return [await task.receive() for _ in range(times)], word


def by_yield(*, task: Task) -> Generator[Any, Any, Any]:
    task.hot_swappable()

    def called() -> Generator[Any, Any, None]:
        yield task.receive()

    yield called()


order: list[str] = []


def plain() -> str:
    order.append("new began")
    return "new"


def test_the_new_function_goes_on_as_the_same_task_with_its_messages() -> None:
    async def scene() -> None:
        for function in (old, by_yield):
            handle: Task = Task(function)
            await asyncio.sleep(0.01)
            assert handle.hot_swap(new, "new", times=2) == 0
            handle.send(1)
            handle.send(2)
            assert await handle == ([1, 2], "new")

    play(scene)


def test_what_was_there_before_the_swap_is_there_after_it() -> None:
    async def busy(*, task: Task) -> None:
        await asyncio.sleep(0.05)
        task.hot_swappable()
        await task.sleep(60)

    async def scene() -> None:
        handle: Task = Task(busy)
        handle.send("first")
        handle.hot_swap(new, "new")  # it waits until the task allows it
        assert await handle == (["first"], "new")

    play(scene)


def test_nothing_is_swapped_that_does_not_allow_it() -> None:
    async def scene() -> None:
        async def never(*, task: Task) -> Any:
            task.hot_swappable()
            task.hot_swappable(False)
            return await task.receive()

        handle: Task = Task(never)
        handle.hot_swap(new, "new")
        await asyncio.sleep(0.01)
        handle.send("stayed")
        assert await handle == "stayed"

    play(scene)


def test_who_catches_the_exception_stays_as_it_is_and_may_be_asked_again() -> None:
    async def scene() -> None:
        caught: list[Any] = []

        async def stubborn(*, task: Task) -> None:
            task.hot_swappable()
            try:
                await task.receive()
            except HotSwapException as error:
                caught.append(error.args[0])
            await task.receive()

        handle: Task = Task(stubborn)
        await asyncio.sleep(0.01)
        handle.hot_swap(new, "first")
        await until(lambda: caught)
        assert caught == [new]
        handle.hot_swap(new, "second")
        handle.send("kept")
        assert await handle == (["kept"], "second")

    play(scene)


def test_what_the_old_function_had_made_ends_before_the_new_one_begins() -> None:
    async def scene() -> None:
        order.clear()
        host: Any = current_host()
        host.adopt_subtasks()  # as in a server

        async def child() -> None:
            try:
                await asyncio.sleep(60)
            finally:
                order.append("child ended")

        async def parent(*, task: Task) -> None:
            task.hot_swappable()
            kept = asyncio.create_task(child())
            await task.sleep(60)
            await kept

        handle: Task = Task(parent)
        await asyncio.sleep(0.01)
        handle.hot_swap(plain)
        assert await handle == "new"
        assert order == ["child ended", "new began"]

    play(scene)


def test_the_exception_may_leave_a_task_group() -> None:
    async def grouped(*, task: Task) -> None:
        task.hot_swappable()
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(60))
            await task.sleep(60)

    async def scene() -> None:
        handle: Task = Task(grouped)
        await asyncio.sleep(0.01)
        handle.hot_swap(plain)
        assert await handle == "new"

    play(scene)


def test_a_new_function_can_be_swapped_and_ended_as_any() -> None:
    async def scene() -> None:
        handle: Task = Task(old)
        await asyncio.sleep(0.01)
        handle.hot_swap(old)
        await asyncio.sleep(0.01)
        handle.hot_swap(new, "third", 2)
        await asyncio.sleep(0.01)
        handle.terminate()
        with pytest.raises(TaskTerminated):
            await handle
        assert not handle.is_alive()

    play(scene)


def test_what_cannot_be_called_or_sent_is_refused() -> None:
    def iter_nothing() -> Generator[None, None, None]:
        yield

    async def scene() -> None:
        handle: Task = Task(old)
        with pytest.raises(TypeError, match="needs a function, not str"):
            handle.hot_swap("new")  # type: ignore[arg-type]
        with pytest.raises(NotPicklable):
            handle.hot_swap(new, iter_nothing())
        with pytest.raises(RuntimeError, match=r"old.hot_swappable\(\) is for the task itself"):
            handle.hot_swappable()
        await asyncio.sleep(0)
        handle.send("done")
        assert await handle == "old"

    play(scene)
