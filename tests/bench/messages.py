"""One-way messages of 100 bytes per second from the client to a task, until the task says that it has all."""

from __future__ import annotations

import multiprocessing
import time
from typing import Any

import dispycos
from tests.bench.measure import (
    OURS,
    SERVERS,
    Cpu,
    Row,
    groups_of_ours,
    in_turn,
    in_words,
    options,
    row_of,
    say,
)

GIVEN = options()
COUNT = 10_000 if GIVEN.quick else 50_000
TEXT = b"x" * 100


async def count(*, task: dispycos.Task) -> None:
    """Counts what comes until it is asked how much that was; ends when it is asked a second time in a row."""
    seen = 0
    while True:
        message = await task.receive()
        if message is None:
            task.reply(seen)
            if not seen:
                return
            seen = 0
        else:
            seen += 1


def count_from(pipe: Any) -> None:
    seen = 0
    while (message := pipe.recv()) != b"end":
        if message is None:
            pipe.send(seen)
            seen = 0
        else:
            seen += 1


async def ours(handle: dispycos.Task) -> float:
    start = time.perf_counter()
    for _ in range(COUNT):
        handle.send(TEXT)
    assert await handle.ask(None) == COUNT
    return COUNT / (time.perf_counter() - start)


async def by_pipe(pipe: Any) -> float:
    start = time.perf_counter()
    for _ in range(COUNT):
        pipe.send(TEXT)
    pipe.send(None)
    assert pipe.recv() == COUNT
    return COUNT / (time.perf_counter() - start)


async def measure(pipe: Any) -> None:
    async with dispycos.Client([count]) as client:
        handle = await client.rtask(count)
        await ours(handle)
        found = await in_turn(
            GIVEN.rounds, {OURS: lambda: ours(handle), "multiprocessing.Pipe": lambda: by_pipe(pipe)}
        )
        say(row_of(f"messages of 100 bytes, {GIVEN.way}", "/s", found))
        with Cpu(groups_of_ours(GIVEN.cluster)) as cpu:
            for _ in range(2):
                await ours(handle)
        each = cpu.each(2 * COUNT)
        note = f"{in_words(each)}, with {SERVERS} servers of which one works"
        say(Row(f"CPU per message, {GIVEN.way}", "us", sum(each.values()), [], False, note))
        await handle.ask(None)


def main() -> None:
    here, there = multiprocessing.Pipe()
    process = multiprocessing.Process(target=count_from, args=(there,))
    process.start()
    try:
        dispycos.run(measure, here)
    finally:
        here.send(b"end")
        process.join(5)
        process.kill()


if __name__ == "__main__":
    main()
