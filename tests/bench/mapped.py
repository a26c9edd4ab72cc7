"""Items of a map per second, for items that do nothing and for items of 0.1 ms, beside the standard library's executor."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor

import dispycos
from tests.bench.measure import OURS, Row, in_turn, options, row_of, say, warm_pool

GIVEN = options()
COUNT = 200_000 if GIVEN.quick else 1_000_000
COUNT_OF_SHORT = 5_000 if GIVEN.quick else 20_000
CHUNK = 4096  # of the executor, which takes them one by one unless it is told
SHORT_S = 0.0001


def noop(x: int) -> int:
    return x


def short(x: int) -> int:
    until = time.perf_counter() + SHORT_S
    while time.perf_counter() < until:
        pass
    return x


async def ours(
    client: dispycos.Client, count: int, function: Callable[[int], int] = noop, *, ordered: bool = True
) -> float:
    start = time.perf_counter()
    taken = 0
    async for _ in client.map(function, range(count), ordered=ordered):
        taken += 1
    assert taken == count
    return count / (time.perf_counter() - start)


async def executor(pool: ProcessPoolExecutor, count: int, chunk: int, function: object = noop) -> float:
    start = time.perf_counter()
    taken = 0
    for _ in pool.map(function, range(count), chunksize=chunk):  # type: ignore[arg-type]
        taken += 1
    assert taken == count
    return count / (time.perf_counter() - start)


async def measure(pool: ProcessPoolExecutor) -> None:
    async with dispycos.Client([noop, short]) as client:
        await ours(client, 1000)
        contestants = {
            OURS: lambda: ours(client, COUNT),
            f"executor, by {CHUNK}": lambda: executor(pool, COUNT, CHUNK),
        }
        found = await in_turn(GIVEN.rounds, contestants)
        alone = await executor(pool, COUNT // 100, 1)
        row = row_of(f"items of a map that do nothing, {GIVEN.way}", "items/s", found)
        say(Row(row.what, row.unit, row.ours, [*row.beside, ("executor, one by one", alone)]))
        found = await in_turn(
            GIVEN.rounds,
            {
                OURS: lambda: ours(client, COUNT_OF_SHORT, short, ordered=False),
                "executor, by 64": lambda: executor(pool, COUNT_OF_SHORT, 64, short),
            },
        )
        say(row_of(f"items of a map of 0.1 ms, {GIVEN.way}", "items/s", found))


def main() -> None:
    with warm_pool(noop, 1) as pool:
        dispycos.run(measure, pool)


if __name__ == "__main__":
    main()
