"""That tasks find their host, and get numbers of their own."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

from dispycos import Task, current_task, run
from dispycos.protocol.addresses import FIRST_TASK
from tests.kit.local_tasks import play

pytestmark = [pytest.mark.timeout(30), pytest.mark.usefixtures("own_home")]


async def slow(value: Any, seconds: float = 0.01, task: Any = None) -> Any:
    await task.sleep(seconds)
    return value


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


@pytest.mark.parametrize(("read_late", "told"), [(False, 1), (True, 0)])
def test_a_task_that_failed_and_that_nobody_awaited_is_told_by_asyncio(*, read_late: bool, told: int) -> None:
    async def bad(task: Any = None) -> None:
        raise ValueError("not so")

    complaints: list[dict[str, Any]] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, complaint: complaints.append(complaint))
        handle = Task(bad)
        while handle.is_alive():
            await asyncio.sleep(0)
        if read_late:
            with pytest.raises(ValueError, match="not so"):
                await handle

    run(main)
    gc.collect()
    assert [repr(complaint["exception"]) for complaint in complaints] == told * ["ValueError('not so')"]


def test_a_task_that_was_ended_or_whose_end_is_heard_elsewhere_is_not_told_of() -> None:
    async def sleeper(task: Any = None) -> None:
        await task.sleep(10)

    async def bad(task: Any = None) -> None:
        await task.sleep(0.01)
        raise ValueError("not so")

    async def scene(task: Any) -> None:
        asleep, watched = Task(sleeper), Task(bad)
        await watched.monitor()
        asleep.terminate()
        heard = await task.receive(5)
        assert heard.type is ValueError
        while asleep.is_alive():
            await asyncio.sleep(0)
        del asleep, watched, heard
        gc.collect()

    play(scene)


def test_a_function_asks_which_task_runs_it_and_so_does_what_it_calls() -> None:
    async def deeper() -> Task:
        await asyncio.sleep(0)
        return current_task()

    async def child() -> list[Task]:
        return [current_task(), await deeper(), await asyncio.create_task(deeper())]

    def plain() -> Task:
        return current_task()

    async def scene() -> None:
        one, other = Task(child), Task(plain)
        assert await one == [one, one, one]
        assert await other == other

    play(scene)


def test_where_no_task_runs_there_is_none_to_ask_for() -> None:
    with pytest.raises(RuntimeError, match="no task runs here"):
        current_task()
