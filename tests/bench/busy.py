"""How busy servers are with tasks of 20 ms while their client keeps the interpreter for a second at a time."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ProcessPoolExecutor

import dispycos
from tests.bench.measure import OURS, SERVERS, in_turn, options, row_of, say, warm_pool

GIVEN = options()
TASK_S = 0.02
COUNT = 300 if GIVEN.quick else 1000  # 3 s, or 10, of two busy servers
EXECUTORS = 20  # it hands out about three for each time that it has the interpreter
HELD_S = 1.0


def nap(seconds: float) -> None:
    time.sleep(seconds)


def rounds_of_a_second() -> int:
    start = time.perf_counter()
    sum(range(2_000_000))
    return int(2_000_000 * HELD_S / (time.perf_counter() - start))


NUMBERS = rounds_of_a_second()


async def keep_the_interpreter() -> None:
    while True:
        sum(range(NUMBERS))  # one call in C
        await asyncio.sleep(0.01)


def share(count: int, start: float) -> float:
    return 100 * count * TASK_S / SERVERS / (time.perf_counter() - start)


async def ours(client: dispycos.Client) -> float:
    start = time.perf_counter()
    handles = [client.submit(nap, TASK_S) for _ in range(COUNT)]
    keeping = asyncio.ensure_future(keep_the_interpreter())
    for handle in handles:
        await handle
    keeping.cancel()
    return share(COUNT, start)


async def executor(pool: ProcessPoolExecutor) -> float:
    start = time.perf_counter()
    futures = [asyncio.wrap_future(pool.submit(nap, TASK_S)) for _ in range(EXECUTORS)]
    keeping = asyncio.ensure_future(keep_the_interpreter())
    await asyncio.gather(*futures)
    keeping.cancel()
    return share(EXECUTORS, start)


async def measure(pool: ProcessPoolExecutor) -> None:
    async with dispycos.Client([nap]) as client:
        for _ in range(20):
            await client.submit(nap, TASK_S)
        contestants = {OURS: lambda: ours(client), "ProcessPoolExecutor": lambda: executor(pool)}
        found = await in_turn(1 if GIVEN.quick else 2, contestants)
    say(row_of("servers busy, beside a client that holds the GIL", "%", found))


def main() -> None:
    with warm_pool(nap, 0.0) as pool:
        dispycos.run(measure, pool)


if __name__ == "__main__":
    main()
