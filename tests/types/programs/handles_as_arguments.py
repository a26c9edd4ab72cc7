"""A handle given in place of a value: its task's value is passed on."""

from __future__ import annotations

from collections.abc import Generator
from typing import assert_type

from dispycos import Client, Task


def load(path: str) -> list[int]:
    return [len(path)]


async def total(numbers: list[int], scale: float = 1.0) -> float:
    return sum(numbers) * scale


def merge(left: float, right: float, name: str) -> str:
    return f"{name}: {left + right}"


def stepping(numbers: list[int], *, task: Task) -> Generator[object, None, int]:
    yield task.sleep(0.1)
    return len(numbers)


def count(text: str) -> int:
    return len(text)


async def right(client: Client) -> None:
    numbers = client.submit(load, "a.txt")
    assert_type(client.submit(total, numbers), Task[float])
    assert_type(client.submit(total, numbers, 0.5), Task[float])
    assert_type(client.submit(total, numbers, scale=0.5), Task[float])
    assert_type(client.submit(stepping, numbers), Task[int])
    left, right = client.submit(total, numbers), client.submit(count, "text")  # an int is a float
    assert_type(client.submit(merge, left, right, "both"), Task[str])
    assert_type(client.submit(merge, 1.0, right, "both"), Task[str])
    assert_type(client.submit(merge, 1.0, 2.0, client.submit(str, 5)), Task[str])


async def wrong(client: Client) -> None:
    text = client.submit(str, 5)
    client.submit(total, text)  # error
    client.submit(stepping, text)  # error
    client.submit(merge, 1.0, text, "both")  # error
    client.submit(merge, 1.0, 2.0, client.submit(load, "a.txt"))  # error


def largest(*numbers: int) -> int:
    return max(numbers)


async def fan_in(client: Client, texts: list[str]) -> None:
    parts = [client.submit(count, text) for text in texts]
    assert_type(client.submit(largest, *parts), Task[int])
