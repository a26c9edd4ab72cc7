"""dispycos.run gives what its function returns, of each kind of function, and takes a coroutine as asyncio.run does."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, assert_type

import dispycos
from dispycos import Task


async def main(jobs: int, name: str = "") -> str:
    return name * jobs


def stepping(jobs: int, *, task: Task) -> Generator[Any, Any, list[int]]:
    yield task.sleep(0.1)
    return [jobs]


async def with_task(*, task: Task) -> bool:
    return task.is_alive()


def plain(jobs: int) -> int:
    return jobs


async def three(jobs: int, name: str, scale: float, *, task: Task) -> float:
    return jobs * scale


assert_type(dispycos.run(main, 3), str)
assert_type(dispycos.run(main, 3, name="x"), str)
assert_type(dispycos.run(main(3)), str)
assert_type(dispycos.run(stepping, 3), list[int])
assert_type(dispycos.run(with_task), bool)
assert_type(dispycos.run(plain, 3), int)
assert_type(dispycos.run(three, 3, "x", 0.5), float)

dispycos.run(main)  # error
dispycos.run(main, "3")  # error
dispycos.run(main, 3, nmae="x")  # error
dispycos.run(stepping, "3")  # error
dispycos.run(with_task, 3)  # error
dispycos.run(three, 3, 0.5, "x")  # error
dispycos.run(3)  # error
