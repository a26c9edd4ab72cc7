"""dispycos.Executor and a Client of each style beside ProcessPoolExecutor and loky: no-ops one by one, in chunks, by joblib."""

from __future__ import annotations

import asyncio
import concurrent.futures
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import dispycos
from dispycos.actors.client.sync_client import SyncClient
from tests.bench.measure import OURS, SERVERS, in_turn, options, row_of, say, warm_pool

GIVEN = options()
COUNT = 4_000 if GIVEN.quick else 10_000
JOBS = (1_000, 20_000)  # of one Parallel of joblib
PARALLELS = 4 if GIVEN.quick else 8
ITEMS = 300_000 if GIVEN.quick else 1_000_000

Pools = dict[str, concurrent.futures.Executor]


def noop(x: int) -> int:
    return x


def submitted(pool: concurrent.futures.Executor | SyncClient) -> float:
    start = time.perf_counter()
    for future in [pool.submit(noop, n) for n in range(COUNT)]:
        future.result()
    return COUNT / (time.perf_counter() - start)


def mapped(pool: concurrent.futures.Executor) -> float:
    start = time.perf_counter()
    for _ in pool.map(noop, range(ITEMS), chunksize=1000):
        pass
    return ITEMS / (time.perf_counter() - start)


def in_parallels(jobs: int, backend: str) -> float:
    import joblib

    start = time.perf_counter()
    for _ in range(PARALLELS):
        joblib.Parallel(n_jobs=SERVERS, backend=backend)(joblib.delayed(noop)(n) for n in range(jobs))
    return PARALLELS * jobs / (time.perf_counter() - start)


def in_a_round(
    measure: Callable[[Any], float], pool: concurrent.futures.Executor | SyncClient | str
) -> Callable[[], Awaitable[float]]:
    async def once() -> float:
        return await asyncio.to_thread(measure, pool)  # the sync style waits in threads without a loop

    return once


def others() -> Pools:
    """Those of the peers that are installed, with processes that run."""
    pools: Pools = {"ProcessPoolExecutor": warm_pool(noop, 1)}
    try:
        import joblib  # noqa: F401
        import loky
    except ImportError as error:
        print(f"not installed: {error.name}")
        return pools
    pools["loky"] = loky.get_reusable_executor(SERVERS, timeout=60)
    concurrent.futures.wait([pools["loky"].submit(noop, 1) for _ in range(64)])
    return pools


async def submitted_async(client: dispycos.Client) -> float:
    start = time.perf_counter()
    for handle in [client.submit(noop, n) for n in range(COUNT)]:
        await handle
    return COUNT / (time.perf_counter() - start)


async def measure(client: SyncClient, pools: Pools) -> None:
    mappers = {name: in_a_round(mapped, pool) for name, pool in pools.items()}
    submitters = {name: in_a_round(submitted, pool) for name, pool in pools.items()}
    async with (
        dispycos.Client() as other
    ):  # on this loop, with servers of its own, which sleep in the others' rounds
        await submitted_async(other)
        submitters["Client, sync"] = in_a_round(submitted, client)
        submitters["Client, async"] = partial(submitted_async, other)
        found = await in_turn(GIVEN.rounds, submitters)
    say(row_of(f"Executor.submit, {GIVEN.way}", "calls/s", found))
    if "loky" in pools:
        dispycos.register_joblib()
        for jobs in JOBS:
            backends = {name: in_a_round(partial(in_parallels, jobs), name) for name in (OURS, "loky")}
            await in_turn(1, backends)  # their processes start
            say(
                row_of(
                    f"joblib, Parallel of {jobs:,} jobs, {GIVEN.way}",
                    "jobs/s",
                    await in_turn(GIVEN.rounds, backends),
                )
            )
    say(row_of(f"Executor.map, chunksize=1000, {GIVEN.way}", "items/s", await in_turn(GIVEN.rounds, mappers)))


def main() -> None:
    pools = others()
    with dispycos.Client() as client, dispycos.Executor(client=client) as ours:
        pools = {OURS: ours, **pools}
        concurrent.futures.wait([ours.submit(noop, 1) for _ in range(500)])
        asyncio.run(measure(client, pools))
    for pool in pools.values():
        pool.shutdown()


if __name__ == "__main__":
    main()
