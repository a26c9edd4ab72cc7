"""Very many tasks at once: what each costs beside one of few, the memory of one that waits, and the longest turn of the loop."""

from __future__ import annotations

import asyncio
import gc
import time
from concurrent.futures import ProcessPoolExecutor

import psutil

import dispycos
from tests.bench.measure import OURS, Row, options, say, warm_pool

GIVEN = options()
FEW, MANY = 10_000, 100_000 if GIVEN.quick else 1_000_000
EXECUTORS = 10_000 if GIVEN.quick else 100_000


def noop(x):
    return x


def own_bytes() -> int:
    return int(psutil.Process().memory_full_info().uss)


class LongestTurn:
    """CPU seconds of the loop's thread between two turns of a coroutine that only lets others run."""

    def __init__(self) -> None:
        self.seconds = 0.0

    async def watch(self) -> None:
        last = time.thread_time()
        while True:
            await asyncio.sleep(0)
            now = time.thread_time()
            self.seconds = max(self.seconds, now - last)
            last = now


async def ours(client: dispycos.Client, count: int) -> tuple[float, float, float, float]:
    """Microseconds of CPU a task in this process, tasks per second, bytes of one that waits, seconds of the longest turn."""
    gc.collect()
    empty, cpu, start = own_bytes(), time.process_time(), time.perf_counter()
    handles = [client.submit(noop, n) for n in range(count)]
    waiting = (own_bytes() - empty) / count
    longest = LongestTurn()
    watch = asyncio.ensure_future(longest.watch())
    for handle in handles:
        await handle
    watch.cancel()
    wall = time.perf_counter() - start
    return (time.process_time() - cpu) / count * 1e6, count / wall, waiting, longest.seconds


def executor(pool: ProcessPoolExecutor, count: int) -> tuple[float, float, float]:
    gc.collect()
    empty, cpu, start = own_bytes(), time.process_time(), time.perf_counter()
    futures = [pool.submit(noop, n) for n in range(count)]
    waiting = (own_bytes() - empty) / count
    for future in futures:
        future.result()
    wall = time.perf_counter() - start
    return (time.process_time() - cpu) / count * 1e6, count / wall, waiting


async def measure(pool: ProcessPoolExecutor) -> None:
    theirs = executor(pool, EXECUTORS)
    name = f"ProcessPoolExecutor, {EXECUTORS:,}"
    async with dispycos.Client([noop]) as client:
        await ours(client, 3000)
        few = await ours(client, FEW)
        many = await ours(client, MANY)
    what = f"{MANY:,} tasks at once"
    beside = [(f"{OURS}, {FEW:,}", few[0]), (name, theirs[0])]
    say(Row(f"{what}: CPU of the client each", "us", many[0], beside, False))
    say(Row(f"{what}: rate", "tasks/s", many[1], [(f"{OURS}, {FEW:,}", few[1]), (name, theirs[1])]))
    say(Row(f"{what}: memory of one that waits", "bytes", many[2], [(name, theirs[2])], False))
    say(Row(f"{what}: longest turn of the loop (CPU)", "ms", many[3] * 1e3, [], False))


def main() -> None:
    with warm_pool(noop, 1) as pool:
        dispycos.run(measure, pool)


if __name__ == "__main__":
    main()
