"""Very many tasks at once: what each costs beside one of few, and the memory of one that waits."""

from __future__ import annotations

import gc
import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing.pool import AsyncResult, Pool
from typing import Any

import psutil

import dispycos
from tests.bench.measure import OURS, SERVERS, Row, options, say, warm_pool

GIVEN = options()
FEW, MANY = 10_000, 100_000 if GIVEN.quick else 1_000_000
OTHERS = 10_000 if GIVEN.quick else 100_000


def noop(x: int) -> int:
    return x


def own_bytes() -> int:
    return int(psutil.Process().memory_full_info().uss)


async def ours(client: dispycos.Client, count: int) -> tuple[float, float, float]:
    """Microseconds of CPU a task in this process, tasks per second, bytes of one that waits."""
    gc.collect()
    empty, cpu, start = own_bytes(), time.process_time(), time.perf_counter()
    handles = [client.submit(noop, n) for n in range(count)]
    waiting = (own_bytes() - empty) / count
    for handle in handles:
        await handle
    wall = time.perf_counter() - start
    return (time.process_time() - cpu) / count * 1e6, count / wall, waiting


def others(submit: Callable[[int], Any], result: Callable[[Any], Any]) -> tuple[float, float, float]:
    gc.collect()
    count = OTHERS
    empty, cpu, start = own_bytes(), time.process_time(), time.perf_counter()
    futures = [submit(n) for n in range(count)]
    waiting = (own_bytes() - empty) / count
    for future in futures:
        result(future)
    wall = time.perf_counter() - start
    return (time.process_time() - cpu) / count * 1e6, count / wall, waiting


async def measure(executor: ProcessPoolExecutor, pool: Pool) -> None:
    theirs = {
        f"ProcessPoolExecutor, {OTHERS:,}": others(lambda n: executor.submit(noop, n), Future.result),
        f"multiprocessing.Pool, {OTHERS:,}": others(lambda n: pool.apply_async(noop, (n,)), AsyncResult.get),
    }
    async with dispycos.Client([noop]) as client:
        await ours(client, 3000)
        few = await ours(client, FEW)
        many = await ours(client, MANY)
    what = f"{MANY:,} tasks at once"

    def beside(figure: int) -> list[tuple[str, float]]:
        return [(name, figures[figure]) for name, figures in theirs.items()]

    few_of_ours = f"{OURS}, {FEW:,}"
    say(Row(f"{what}: CPU of the client each", "us", many[0], [(few_of_ours, few[0]), *beside(0)], False))
    say(Row(f"{what}: rate", "tasks/s", many[1], [(few_of_ours, few[1]), *beside(1)]))
    say(Row(f"{what}: memory of one that waits", "bytes", many[2], beside(2), False))


def main() -> None:
    with warm_pool(noop, 1) as executor, multiprocessing.Pool(SERVERS) as pool:
        dispycos.run(measure, executor, pool)


if __name__ == "__main__":
    main()
