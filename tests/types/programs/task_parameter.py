"""Functions with a parameter `task`, which dispycos gives them: the caller leaves it open."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, assert_type

import dispycos
from dispycos import Client, Submits, Task


async def compute(n: int, scale: float = 1.0, *, task: Task) -> float:
    await task.sleep(0.1)
    return n * scale


def steps(n: int, *, task: Task) -> Generator[Any, Any, str]:
    yield task.sleep(0.1)
    return "done"


def plain(n: int, task: Task[None]) -> str:
    task.send("to myself")
    return f"{n} at {task.location}"


async def alone(*, task: Task) -> bytes:
    message: bytes = await task.receive()
    return message


async def four(a: int, b: str, c: bytes, d: list[int], *, task: Task) -> dict[str, Any]:
    return {b: task.client.submit(plain, a)}


async def by_name(n: int, *, size: int) -> int:
    """With more parameters that are given by name: asks for itself."""
    task = dispycos.current_task()
    assert_type(task, Task[Any])
    await task.sleep(0.1)
    return n * size


class Worker:
    async def work(self, n: int, *, task: Task) -> int:
        return n


async def right(client: Client, *, task: Task) -> None:
    assert_type(client.submit(compute, 5), Task[float])
    assert_type(client.submit(compute, 5, 0.5), Task[float])
    assert_type(client.submit(compute, 5, scale=0.5), Task[float])
    assert_type(client.submit(compute, 5, retries=2), Task[float])
    assert_type(client.submit(steps, 5), Task[str])
    assert_type(client.submit(plain, 5), Task[str])
    assert_type(client.submit(alone), Task[bytes])
    assert_type(client.submit(four, 1, "", b"", [1]), Task[dict[str, Any]])
    assert_type(client.submit(by_name, 5, size=3), Task[int])
    assert_type(client.submit(Worker().work, 5), Task[int])
    assert_type(client.io_submit(alone), Task[bytes])
    assert_type(await client.rtask(compute, 5), Task[float])
    assert_type(await client.io_rtask(steps, 5), Task[str])
    assert_type(await client.rtask_at("host", compute, 5), Task[float])
    assert_type(task.client.submit(compute, 5), Task[float])
    assert_type(Task(compute, 5), Task[float])
    assert_type(Task(alone), Task[bytes])
    assert_type(Task(by_name, 5, size=3), Task[int])


async def anywhere(client: Submits) -> float:
    return await client.options(retries=1).submit(compute, 5)


async def given(client: Client, *, task: Task) -> None:
    for each in (client, task.client, dispycos.current_client(), client.options(timeout=5)):
        assert_type(await anywhere(each), float)


async def wrong(client: Client, *, task: Task) -> None:
    client.submit(compute, "5")  # error
    client.submit(compute)  # error
    client.submit(compute, 5, 0.5, 6)  # error
    client.submit(compute, 5, "fast")  # error
    client.submit(steps, None)  # error
    client.submit(plain, "5")  # error
    client.submit(alone, 5)  # error
    client.submit(four, 1, "", b"", {})  # error
    client.submit(by_name, 5)  # error
    client.submit(by_name, 5, size="3")  # error
    await client.rtask(compute, "5")  # error
    await client.rtask_at("host", compute, "5")  # error
    task.client.submit(compute, "5")  # error
    Task(compute, "5")  # error
    Task(alone, 5)  # error


dispycos.run(alone)
