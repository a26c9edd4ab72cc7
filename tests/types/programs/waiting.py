"""A handle is an asyncio.Future of the task's value, wherever one is asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, assert_type

import dispycos
from dispycos import MonitorStatus, Task


async def compute(n: int, *, task: dispycos.Task) -> int:
    return n * n


async def name(n: int) -> str:
    return str(n)


def show(future: asyncio.Future[int]) -> None:
    print(future.result())


async def double(value: Awaitable[int]) -> int:
    return 2 * await value


def note(handle: Task[int]) -> None:
    print(handle.name, handle.exception())


async def main() -> None:
    async with dispycos.Client([compute]) as client:
        handles = [client.submit(compute, n) for n in range(3)]
        assert_type(handles, list[Task[int]])
        done, _ = await asyncio.wait(handles)
        assert_type(done, set[Task[int]])
        assert_type(await asyncio.gather(*handles), list[int])
        assert_type(await asyncio.gather(handles[0], client.submit(name, 1)), tuple[int, str])
        assert_type(await asyncio.wait_for(handles[0], 1), int)
        assert_type(await asyncio.shield(handles[0]), int)
        for first in asyncio.as_completed(handles):
            assert_type(await first, int)
        show(handles[0])
        assert_type(await double(handles[0]), int)
        handles[0].add_done_callback(note)
        anything: list[Task] = [*handles, client.submit(name, 1)]
        assert_type(await anything[0], Any)

        show(client.submit(name, 1))  # error
        await double(client.submit(name, 1))  # error
        mine: Task[str] = handles[0]  # error
        print(mine)
        handles[0].send()  # error
        handles[0].wait()  # error


async def on_status(*, task: Task) -> int:
    lost = 0
    while True:
        word = await task.receive(timeout=5)
        if isinstance(word, MonitorStatus):
            assert_type(word.info, Task[Any])
            lost += word.type is dispycos.TaskLost
        else:
            return lost


async def watch() -> None:
    status_task = Task(on_status)
    assert_type(status_task, Task[int])
    async with dispycos.Client(status_task=status_task) as client:
        assert_type(await client.tasks(), list[Task[Any]])
        assert_type(await client.servers(), list[dispycos.Location])
    assert_type(await status_task, int)
    found = await Task[int].locate("counter")
    assert_type(await found.deliver(5), int)


dispycos.run(main)
