"""No-op tasks per second, submitted one by one and then awaited, and the CPU time that each takes in each process."""

from __future__ import annotations

import asyncio
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.pool import Pool

import psutil

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
    warm_pool,
)

GIVEN = options()
COUNT = 4_000 if GIVEN.quick else 10_000
COUNT_FOR_CPU = 8_000 if GIVEN.quick else 40_000


def noop(x: int) -> int:
    return x


async def ours(client: dispycos.Client, count: int) -> float:
    start = time.perf_counter()
    handles = [client.submit(noop, n) for n in range(count)]
    for handle in handles:
        await handle
    return count / (time.perf_counter() - start)


async def executor(pool: ProcessPoolExecutor, count: int) -> float:
    start = time.perf_counter()
    futures = [pool.submit(noop, n) for n in range(count)]
    for future in futures:
        future.result()
    return count / (time.perf_counter() - start)


async def pool_of_processes(pool: Pool, count: int) -> float:
    start = time.perf_counter()
    results = [pool.apply_async(noop, (n,)) for n in range(count)]
    for result in results:
        result.get()
    return count / (time.perf_counter() - start)


async def measure(executor_pool: ProcessPoolExecutor, plain_pool: Pool) -> None:
    me = psutil.Process()
    workers = me.children()  # of both pools: those of one idle while the other works
    async with dispycos.Client([noop]) as client:
        await ours(client, 500)
        contestants = {
            OURS: lambda: ours(client, COUNT),
            "ProcessPoolExecutor": lambda: executor(executor_pool, COUNT),
            "multiprocessing.Pool": lambda: pool_of_processes(plain_pool, COUNT),
        }
        found = await in_turn(GIVEN.rounds, contestants)
        say(row_of(f"tasks one by one, {GIVEN.way}", "tasks/s", found))
        with Cpu(groups_of_ours(GIVEN.cluster)) as cpu:
            for _ in range(4):
                await ours(client, COUNT_FOR_CPU // 4)
        each = cpu.each(COUNT_FOR_CPU)
        with Cpu({"program": [me], "processes": workers}) as theirs:
            await executor(executor_pool, COUNT)
        beside = [("ProcessPoolExecutor", sum(theirs.each(COUNT).values()))]
        note = f"{in_words(each)}, at {COUNT_FOR_CPU / cpu.wall:,.0f} tasks/s; the executor: {in_words(theirs.each(COUNT))}"
        say(Row(f"CPU per task, {GIVEN.way}", "us", sum(each.values()), beside, False, note))


def main() -> None:
    with warm_pool(noop, 1) as executor_pool, multiprocessing.Pool(SERVERS) as plain_pool:
        asyncio.run(pool_of_processes(plain_pool, 100))
        dispycos.run(measure, executor_pool, plain_pool)


if __name__ == "__main__":
    main()
