"""What submit, rtask and their kin know of a function: its parameters and its result, for each kind of function."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, assert_type

import dispycos
from dispycos import Client, Task, current_client


def plain(number: int, base: int = 10) -> str:
    return f"{number} to {base}"


async def suspending(number: int, base: int = 10) -> str:
    return f"{number} to {base}"


def stepping(number: int, base: int = 10) -> Generator[float, None, str]:
    yield 0.5
    return f"{number} to {base}"


async def of_words(words: dict[str, Any]) -> list[Any]:
    return list(words)


def of_nothing() -> None: ...


def maybe(number: int) -> int | None:
    return number or None


class Model:
    def __init__(self, size: int) -> None:
        self.size = size

    async def train(self, rounds: int) -> float:
        return rounds / self.size


async def right(client: Client) -> None:
    assert_type(client.submit(plain, 1), Task[str])
    assert_type(client.submit(plain, number=1, base=2), Task[str])
    assert_type(client.submit(suspending, 1, 2), Task[str])
    assert_type(client.submit(stepping, 1), Task[str])
    assert_type(client.submit(of_words, {"one": 1}), Task[list[Any]])
    assert_type(client.submit(of_nothing), Task[None])
    assert_type(client.submit(maybe, 1), Task[int | None])
    assert_type(client.submit(len, "text"), Task[int])
    assert_type(client.submit(Model, 5), Task[Model])
    assert_type(client.submit(Model(5).train, 5), Task[float])
    assert_type(client.io_submit(suspending, 1), Task[str])
    assert_type(await client.rtask(plain, 1), Task[str])
    assert_type(await client.io_rtask(stepping, 1, base=3), Task[str])
    assert_type(await client.rtask_at("host", suspending, 1), Task[str])
    assert_type(await client.io_rtask_at(dispycos.Location("10.0.0.5", 9701), plain, 1), Task[str])
    assert_type(await client.submit(plain, 1), str)
    assert_type(client.submit(plain, 1).result(), str)
    assert_type(await client.submit(stepping, 1).finish(timeout=5), str)
    assert_type(current_client().submit(suspending, 1), Task[str])


async def wrong(client: Client) -> None:
    client.submit(plain, "1")  # error
    client.submit(plain)  # error
    client.submit(plain, 1, 2, 3)  # error
    client.submit(plain, 1, bsae=2)  # error
    client.submit(plain, 1, base="2")  # error
    client.submit(suspending, "1")  # error
    client.submit(stepping, None)  # error
    client.submit(of_nothing, 1)  # error
    client.submit(plain(1))  # error
    client.io_submit(suspending)  # error
    await client.rtask(plain, "1")  # error
    await client.rtask_at("host", plain, "1")  # error
    await client.rtask_at(9701, plain, 1)  # error
    number: int = await client.submit(plain, 1)  # error
    print(number)
    current_client().submit(suspending, "1")  # error


async def again(client: Client) -> None:
    """With `retries`."""
    assert_type(client.submit(plain, 1, retries=2), Task[str])
    assert_type(client.submit(suspending, 1, 2, retries=2), Task[str])
    assert_type(client.submit(of_nothing, retries=2), Task[None])
    assert_type(await client.rtask(stepping, 1, retries=2), Task[str])
    assert_type(await client.io_rtask_at("host", plain, 1, retries=2), Task[str])
    client.submit(plain, "1", retries=2)  # error
    client.submit(plain, retries=2)  # error
    client.submit(plain, 1, retries="2")  # error


async def with_options(client: Client) -> None:
    often = client.options(retries=2, timeout=5, priority=1)
    assert_type(often.submit(plain, 1, base=2), Task[str])
    assert_type(await often.rtask(suspending, 1), Task[str])
    often.submit(plain, "1")  # error
    client.options(retries="2")  # error
    assert_type(client.options(gpus=1, resources={"licence": 1}).submit(plain, 1), Task[str])
    client.options(gpus=0.5)  # error
