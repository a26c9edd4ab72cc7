"""Large arrays there and back, one at a time: megabytes per second, both ways counted."""

from __future__ import annotations

import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import numpy

import dispycos
from tests.bench.measure import OURS, in_turn, options, row_of, say, warm_pool

GIVEN = options()
MB = 1_000_000


def same(array: numpy.ndarray) -> numpy.ndarray:
    return array


async def ours(client: dispycos.Client, array: numpy.ndarray, count: int) -> float:
    start = time.perf_counter()
    for _ in range(count):
        back = await client.submit(same, array)
    took = time.perf_counter() - start
    assert (back == array).all()
    return 2 * count * array.nbytes / MB / took


async def by_executor(pool: ProcessPoolExecutor, array: numpy.ndarray, count: int) -> float:
    start = time.perf_counter()
    for _ in range(count):
        back = pool.submit(same, array).result()
    took = time.perf_counter() - start
    assert (back == array).all()
    return 2 * count * array.nbytes / MB / took


async def measure(pool: ProcessPoolExecutor) -> None:
    async with dispycos.Client([same]) as client:
        for size, count, rounds in (
            (1, 10 if GIVEN.quick else 30, GIVEN.rounds),
            (100, 1, 2 if GIVEN.quick else 3),
        ):
            array = numpy.random.default_rng(1).integers(0, 255, size * MB, numpy.uint8)
            await ours(client, array, 1)
            found = await in_turn(
                rounds,
                {
                    OURS: partial(ours, client, array, count),
                    "ProcessPoolExecutor": partial(by_executor, pool, array, count),
                },
            )
            say(row_of(f"{size} MB array there and back", "MB/s", found))


def main() -> None:
    with warm_pool(same, 1) as pool:
        dispycos.run(measure, pool)


if __name__ == "__main__":
    main()
