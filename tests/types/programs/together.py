"""gather, as_completed, wait and cancel of a client, in both styles, and waiting of asyncio for lists and sets of handles."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack, ExitStack
from typing import assert_type

from dispycos import Client, SyncClient, SyncTask, Task


def square(n: int) -> int:
    return n * n


async def name(n: int) -> str:
    return str(n)


async def of_async(client: Client, numbers: Sequence[Task[int]]) -> None:
    assert_type(await client.gather(*numbers), list[int])
    assert_type(await client.gather(*numbers, return_exceptions=True), list[int | BaseException])
    await client.gather(client.submit(square, 1), client.submit(name, 1))
    async for handle in client.as_completed(numbers, timeout=5):
        assert_type(handle, Task[int])
    async for ended in client.as_completed([client.submit(square, 3)]):
        assert_type(ended, Task[int])
    done, pending = await client.wait([client.submit(square, 3)], return_when="FIRST_COMPLETED")
    assert_type(done, set[Task[int]])
    assert_type(pending, set[Task[int]])
    assert_type(client.cancel(pending), int)
    flying: set[asyncio.Future[int]] = {client.submit(square, n) for n in range(3)}
    ready, flying = await asyncio.wait(flying, return_when=asyncio.FIRST_COMPLETED)
    assert_type([future.result() for future in ready], list[int])
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(client.wait(numbers))
    assert_type(waiting.result(), tuple[set[Task[int]], set[Task[int]]])


def of_sync(client: SyncClient, numbers: Sequence[SyncTask[int]]) -> None:
    assert_type(client.gather(*numbers), list[int])
    assert_type(client.gather(*numbers, return_exceptions=True), list[int | BaseException])
    client.gather(client.submit(square, 1), client.submit(name, 1))
    for handle in client.as_completed(numbers, timeout=5):
        assert_type(handle, SyncTask[int])
    done, pending = client.wait([client.submit(name, 3)], return_when="FIRST_COMPLETED")
    assert_type([one.result() for one in done], list[str])
    assert_type(client.cancel(pending), int)


class Lab(Client):
    def squares(self, n: int) -> list[Task[int]]:
        return [self.submit(square, k) for k in range(n)]


async def own() -> list[int]:
    async with Lab() as lab:
        return await lab.gather(*lab.squares(3))


async def stacked() -> None:
    async with AsyncExitStack() as stack:
        assert_type(await stack.enter_async_context(Client()), Client)
    with ExitStack() as plain:
        assert_type(plain.enter_context(Client()), SyncClient)


async def wrong_of_async(client: Client, number: Task[int]) -> None:
    await client.gather([number])  # error
    await client.gather(square)  # error
    await client.wait(number)  # error
    client.cancel(number)  # error
    client.as_completed(number)  # error
    texts: list[str] = await client.gather(number)  # error
    numbers: list[int] = await client.gather(number, return_exceptions=True)  # error
    print(texts, numbers)


def wrong_of_sync(client: SyncClient, number: SyncTask[int], other: Task[int]) -> None:
    client.gather([number])  # error
    client.gather(other)  # error
    client.wait(number)  # error
    client.cancel(number)  # error
    client.as_completed(number)  # error
    texts: list[str] = client.gather(number)  # error
    print(texts)
