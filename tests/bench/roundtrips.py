"""One thing at a time and the wait for its answer: a task, a question to a running task, and the floors below them."""

from __future__ import annotations

import contextlib
import multiprocessing
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.pool import Pool

import psutil

import dispycos
from tests.bench.floors import Echo
from tests.bench.measure import (
    OURS,
    SERVERS,
    Cpu,
    Row,
    groups_of_ours,
    in_words,
    options,
    percentiles_in_turn,
    rows_of_percentiles,
    say,
    warm_pool,
)

GIVEN = options()
COUNT = 200 if GIVEN.quick else 500

Once = Callable[[], Awaitable[list[float]]]


def noop(x: int) -> int:
    return x


async def answer(*, task: dispycos.Task) -> None:
    """A task that replies what it was asked, until it is asked None."""
    while (question := await task.receive()) is not None:
        task.reply(question)
    task.reply(None)


async def by_task(client: dispycos.Client) -> list[float]:
    took = []
    for n in range(COUNT):
        start = time.perf_counter()
        await client.submit(noop, n)
        took.append(time.perf_counter() - start)
    return took


async def by_question(handle: dispycos.Task) -> list[float]:
    took = []
    for n in range(COUNT):
        start = time.perf_counter()
        await handle.ask(n)
        took.append(time.perf_counter() - start)
    return took


async def by_executor(pool: ProcessPoolExecutor) -> list[float]:
    took = []
    for n in range(COUNT):
        start = time.perf_counter()
        pool.submit(noop, n).result()
        took.append(time.perf_counter() - start)
    return took


async def by_pool(pool: Pool) -> list[float]:
    took = []
    for n in range(COUNT):
        start = time.perf_counter()
        pool.apply(noop, (n,))
        took.append(time.perf_counter() - start)
    return took


async def say_cpu(
    what: str, groups: dict[str, list[psutil.Process]], ours: Once, beside: Mapping[str, Once]
) -> None:
    """What one round trip costs in all processes; of each of the others the program's own share is the same process."""
    with Cpu(groups) as cpu:
        await ours()
    each = cpu.each(COUNT)
    me = psutil.Process()
    others = []
    for name, once in beside.items():
        with Cpu({"all": [me, *me.children()]}) as theirs:
            await once()
        others.append((name, theirs.each(COUNT)["all"]))
    say(Row(f"CPU per {what}, {GIVEN.way}", "us", sum(each.values()), others, False, in_words(each)))


async def measure(executor: ProcessPoolExecutor, pool: Pool) -> None:
    with contextlib.ExitStack() as stack:
        floors = {}
        for name in () if GIVEN.cluster else ("ipc", "tcp", "CURVE"):
            echo = stack.enter_context(Echo(name))
            floors[f"raw pyzmq, {name}"] = lambda echo=echo: echo.durations(COUNT)
        async with dispycos.Client([noop, answer]) as client:
            await by_task(client)
            found = await percentiles_in_turn(
                GIVEN.rounds,
                {
                    OURS: lambda: by_task(client),
                    "ProcessPoolExecutor": lambda: by_executor(executor),
                    "multiprocessing.Pool": lambda: by_pool(pool),
                    **floors,
                },
            )
            rows_of_percentiles(f"task round trip, {GIVEN.way}", found)
            groups, ipc = groups_of_ours(GIVEN.cluster), {name: floors[name] for name in list(floors)[:1]}
            others = {"ProcessPoolExecutor": lambda: by_executor(executor), **ipc}
            await say_cpu("task round trip", groups, lambda: by_task(client), others)
            handle = await client.rtask(answer)
            await by_question(handle)
            found = await percentiles_in_turn(GIVEN.rounds, {OURS: lambda: by_question(handle), **floors})
            rows_of_percentiles(f"question to a running task, {GIVEN.way}", found)
            await say_cpu("question", groups, lambda: by_question(handle), ipc)
            await handle.ask(None)


def main() -> None:
    with warm_pool(noop, 1) as executor, multiprocessing.Pool(SERVERS) as pool:
        dispycos.run(measure, executor, pool)


if __name__ == "__main__":
    main()
