"""client.map: each item and its value, by the types of the function and of what is iterated over."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, assert_type

from dispycos import Client, Map, Task


def length(word: str) -> int:
    return len(word)


async def power(base: float, exponent: int) -> float:
    return base**exponent


def steps(word: str, *, task: Task) -> Generator[Any, Any, bytes]:
    yield task.sleep(0.1)
    return word.encode()


def scaled(word: str, scale: float) -> float:
    return len(word) * scale


async def right(client: Client, words: list[str]) -> None:
    async for word, count in client.map(length, words, progress=True):
        assert_type(word, str)
        assert_type(count, int)
    async for pair, value in client.map(power, [2.0], [3], ordered=True):
        assert_type(pair, tuple[float, int])
        assert_type(value, float)
    async for _, data in client.map(steps, words, retries=2, timeout=60):
        assert_type(data, bytes)
    async for _, number in client.map(scaled, words, kwargs={"scale": 0.5}):
        assert_type(number, float)
    async for _, either in client.map(length, words, return_exceptions=True):
        assert_type(either, int | Exception)
    async for row, _ in client.map(max, [1], [2], [3], [4]):
        assert_type(row, Any)
    async for _, maybe in client.map(length, words, return_exceptions=bool(words)):
        assert_type(maybe, int | Exception)
    async for word, size in client.options(retries=2, timeout=5).map(length, words):
        assert_type(word, str)
        assert_type(size, int)
    assert_type({word: size async for word, size in client.map(length, words)}, dict[str, int])
    values = client.map(length, (word for word in words), chunksize=100)
    async for _ in values:
        pass
    assert_type(values, Map[str, int])
    for _, error in values.failures:
        assert_type(error, Exception)


async def wrong(client: Client, words: list[str]) -> None:
    client.map(length, [1, 2])  # error
    client.map(length, 5)  # error
    client.map(length)  # error
    client.map(power, [2.0], ["3"])  # error
    client.map(steps, [1])  # error
    client.map(length, words, chunksize="100", ordred=True)  # error
    client.options(retries=2).map(length, [1])  # error
    client.map(length, words, kwargs=[1])  # error
