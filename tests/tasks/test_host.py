"""That tasks find their host, and get numbers of their own."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from dispycos import Task
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
