"""That a user's coroutine has all of asyncio from its first step on, and that interrupts and cancellations are told apart."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from dispycos.actors.tasks.ends import Outcome, Returned
from tests.kit.stage import BareStage, error_of

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def stage() -> Iterator[BareStage]:
    with BareStage.opened() as stage:
        yield stage


def test_all_of_asyncio_works_in_the_first_step(stage: BareStage) -> None:
    async def one(x: int) -> int:
        await asyncio.sleep(0.001)
        return x

    async def with_timeout() -> str:
        try:
            async with asyncio.timeout(0.01):
                await asyncio.sleep(10)
        except TimeoutError:
            return "timeout"
        return "none"

    async def with_group() -> int:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(x)) for x in range(3)]
        return sum(task.result() for task in tasks)

    async def with_failing_group() -> int:
        failed = 0
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(asyncio.to_thread(int, "x"))
                await asyncio.sleep(10)
        except* ValueError as errors:
            failed = len(errors.exceptions)
        return failed

    async def with_wait_for() -> int:
        return await asyncio.wait_for(one(4), 5)

    async def with_wait_for_timeout() -> str:
        try:
            await asyncio.wait_for(asyncio.sleep(10), 0.01)
        except TimeoutError:
            return "timeout"
        return "none"

    async def with_thread() -> int:
        return await asyncio.to_thread(sum, [1, 2])

    async def with_gather() -> list[int]:
        return list(await asyncio.gather(one(1), one(2)))

    async def with_current() -> bool:
        first = asyncio.current_task()
        await asyncio.sleep(0)
        return first is asyncio.current_task() and first in asyncio.all_tasks()

    expected = {
        with_timeout: "timeout",
        with_group: 3,
        with_failing_group: 1,
        with_wait_for: 4,
        with_wait_for_timeout: "timeout",
        with_thread: 3,
        with_gather: [1, 2],
        with_current: True,
    }
    for function, value in expected.items():
        assert stage.run_one(function) == Returned(value), function.__name__


def test_a_tasks_own_cancel_stays_a_cancelled_error(stage: BareStage) -> None:
    async def coroutine() -> int:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            return task.cancelling()
        return -1

    assert stage.run_one(coroutine) == Returned(1)


def test_an_awaited_task_that_refuses_to_be_cancelled_does_not_swallow_the_interrupt(
    stage: BareStage,
) -> None:
    async def stubborn() -> str:
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            pass
        return "stubborn"

    async def coroutine() -> str:
        return await asyncio.create_task(stubborn())

    async def scene(stage: BareStage) -> Outcome:
        execution, done = await stage.start(coroutine)
        await asyncio.sleep(0)
        execution.interrupt()
        return await done

    assert isinstance(error_of(stage.play(scene)), KeyboardInterrupt)


@pytest.mark.parametrize("kind", ["group", "wait_for"])
def test_an_interrupt_leaves_no_child_of_a_task_group_or_wait_for_running(
    stage: BareStage, kind: str
) -> None:
    children: list[asyncio.Task[Any] | None] = []

    async def child() -> None:
        children.append(asyncio.current_task())
        await asyncio.sleep(10)

    async def in_group() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(child())

    async def in_wait_for() -> None:
        await asyncio.wait_for(child(), 10)

    async def coroutine() -> str:
        try:
            await (in_group() if kind == "group" else in_wait_for())
        except KeyboardInterrupt:
            return "caught"
        return "none"

    async def scene(stage: BareStage) -> Outcome:
        execution, done = await stage.start(coroutine)
        await asyncio.sleep(0)
        execution.interrupt()
        outcome = await done
        await asyncio.sleep(0)
        assert [task is not None and task.done() for task in children] == [True]
        return outcome

    assert stage.play(scene) == Returned("caught")
