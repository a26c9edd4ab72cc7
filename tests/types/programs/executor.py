"""dispycos.Executor keeps a function's parameters and result, and passes as a concurrent.futures.Executor."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Iterator
from typing import assert_type

import dispycos


def square(number: int, scale: float = 1.0) -> float:
    return number * number * scale


async def name(number: int) -> str:
    return str(number)


async def with_task(number: int, *, task: dispycos.Task | None = None) -> bytes:
    return bytes(number)


def first(pool: concurrent.futures.Executor) -> concurrent.futures.Future[float]:
    return pool.submit(square, 1)


async def in_a_loop(pool: dispycos.Executor) -> None:
    loop = asyncio.get_running_loop()
    assert_type(await loop.run_in_executor(pool, square, 3), float)


with dispycos.Executor(2, initializer=print, initargs=("ready",)) as pool:
    assert_type(pool.submit(square, 3).result(timeout=5), float)
    assert_type(pool.submit(square, 3, scale=0.5).exception(), BaseException | None)
    assert_type(pool.map(square, range(10), chunksize=2), Iterator[float])
    assert_type(pool.submit(name, 3).result(), str)
    assert_type(pool.submit(with_task, 3).result(), bytes)
    assert_type(pool.map(name, range(10), buffersize=2), Iterator[str])
    assert_type(first(pool).result(), float)
    done, _ = concurrent.futures.wait([pool.submit(square, 3)])
    assert_type([future.result() for future in done], list[float])

    pool.submit(square, "3")  # error
    pool.submit(square)  # error
    pool.submit(square, 3, sacle=0.5)  # error
    pool.submit(name, "3")  # error
    text: str = pool.submit(square, 3).result()  # error
    pool.map(square, [1], chunksize="2")  # error
    pool.map(square, [1], bufsize=2)  # error
    for letters in pool.map(name, [1]):
        print(letters.real)  # error
dispycos.Executor(node=["x"])  # error
