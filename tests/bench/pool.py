"""dispycos.Executor beside ProcessPoolExecutor and loky: no-op calls submitted one by one, and map in chunks of 1,000."""

from __future__ import annotations

import asyncio
import concurrent.futures
import time
from collections.abc import Awaitable, Callable
from typing import Any

import dispycos
from tests.bench.measure import OURS, SERVERS, in_turn, options, row_of, say, warm_pool

GIVEN = options()
COUNT = 4_000 if GIVEN.quick else 10_000
ITEMS = 300_000 if GIVEN.quick else 1_000_000

Pools = dict[str, concurrent.futures.Executor]


def noop(x: int) -> int:
    return x


def submitted(pool: concurrent.futures.Executor) -> float:
    start = time.perf_counter()
    futures = [pool.submit(noop, n) for n in range(COUNT)]
    for future in futures:
        future.result()
    return COUNT / (time.perf_counter() - start)


def mapped(pool: concurrent.futures.Executor) -> float:
    start = time.perf_counter()
    for _ in pool.map(noop, range(ITEMS), chunksize=1000):
        pass
    return ITEMS / (time.perf_counter() - start)


def in_a_round(
    measure: Callable[[Any], float], pool: concurrent.futures.Executor
) -> Callable[[], Awaitable[float]]:
    async def once() -> float:
        return measure(pool)

    return once


def others() -> Pools:
    """Those of the peers that are installed, with processes that run."""
    pools: Pools = {"ProcessPoolExecutor": warm_pool(noop, 1)}
    try:
        import loky
    except ImportError:
        print("loky is not installed")
        return pools
    pools["loky"] = loky.get_reusable_executor(SERVERS, timeout=60)
    concurrent.futures.wait([pools["loky"].submit(noop, 1) for _ in range(64)])
    return pools


def main() -> None:
    pools = others()
    with dispycos.Executor() as ours:
        pools = {OURS: ours, **pools}
        concurrent.futures.wait([ours.submit(noop, 1) for _ in range(500)])
        for what, unit, measure in (
            ("Executor.submit", "calls/s", submitted),
            ("Executor.map, chunksize=1000", "items/s", mapped),
        ):
            contestants = {name: in_a_round(measure, pool) for name, pool in pools.items()}
            say(row_of(f"{what}, {GIVEN.way}", unit, asyncio.run(in_turn(GIVEN.rounds, contestants))))
    for pool in pools.values():
        pool.shutdown()


if __name__ == "__main__":
    main()
