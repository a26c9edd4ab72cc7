"""A million messages to a task that sleeps: `python -m tests.reliability.sleeper 1000000` prints what that costs whom.

They are sent by a task on one server; the one that sleeps is on another, beside one that answers the client. Printed are
by how much the sleeper's process grows, round trips of the other one before and meanwhile, and how long it takes to end a task
there meanwhile. Then the sleeper wakes, and takes all of them in order.
"""

from __future__ import annotations

import asyncio
import pickle
import sys
import tempfile
import time
from pathlib import Path

import psutil

import dispycos
from dispycos.errors import TaskTerminated
from tests.kit.programs import ROOT, User

GROWN_MAX = 16 * 2**20  # bytes
ROUNDS = 1000  # in each part


async def sleep_and_take(alarm: str, wanted: int, *, task: dispycos.Task) -> int:
    """Returns the first number that is not the one that should be there, or `wanted`."""
    while not Path(alarm).exists():
        await task.sleep(0.02)
    for number in range(wanted):
        if await task.receive() != number & 0xFFFF:
            return number
    return wanted


async def answer(*, task: dispycos.Task) -> None:
    while True:
        await task.receive()
        task.reply(psutil.Process().memory_info().rss)


async def flood(to: dispycos.Task, count: int, *, task: dispycos.Task) -> int:
    for number in range(count):
        to.send(number & 0xFFFF)
        if number % 1000 == 0:
            await task.sleep(0)
    return count


async def compute(*, task: dispycos.Task) -> None:
    """As busy as the flood, and sends nothing: what a busy server costs the others anyway."""
    while True:
        for number in range(1000):
            pickle.dumps(number)
        await task.sleep(0)


async def round_trips(other: dispycos.Task) -> tuple[float, float]:
    """Median and 99th percentile, in seconds."""
    took = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        await other.ask(None)
        took.append(time.perf_counter() - start)
    took.sort()
    return took[len(took) // 2], took[len(took) * 99 // 100]


async def measure(count: int) -> None:
    async with dispycos.Client([sleep_and_take, answer, flood, compute]) as client:
        with tempfile.TemporaryDirectory() as folder:
            alarm = Path(folder) / "alarm"
            other = await client.io_rtask(answer)
            assert other.location is not None
            sleeper = await client.io_rtask_at(other.location, sleep_and_take, str(alarm), count)
            victim = await client.io_rtask_at(other.location, answer)
            elsewhere = next(place for place in await client.servers() if place != other.location)
            await round_trips(other)
            alone = await round_trips(other)
            busy = await client.rtask_at(elsewhere, compute)
            beside = await round_trips(other)
            busy.terminate()
            await asyncio.wait([busy])
            before = await other.ask(None)
            sender = await client.rtask_at(elsewhere, flood, sleeper, count)
            meanwhile = await round_trips(other)
            print("the flood is on yet:", not sender.done())
            assert await sender == count
            after = await round_trips(other)
            grown = await other.ask(None) - before
            start = time.perf_counter()
            victim.terminate()
            try:
                await victim
            except TaskTerminated:
                ended = time.perf_counter() - start
            alarm.touch()
            taken = await sleeper
            other.terminate()
    parts = {
        "alone": alone,
        "beside a busy server": beside,
        "while it is sent": meanwhile,
        "behind it": after,
    }
    for name, (median, p99) in parts.items():
        print(f"round trip {name}: median {median * 1e3:.2f} ms, p99 {p99 * 1e3:.2f} ms")
    print(f"terminate() behind it: {ended * 1e3:.1f} ms")
    print(f"taken in order: {taken:,}")
    print(f"grown by {grown / 2**20:.1f} MiB")
    assert taken == count
    assert grown <= GROWN_MAX


def play(count: int) -> list[str]:
    """What is printed. Raises AssertionError when the sleeper's process grew by more, or a message is missing."""
    with User(DISPYCOS_CPUS="2", PYTHONPATH=str(ROOT)) as user:
        return (
            user.python("-m", "tests.reliability.sleeper", "--measure", str(count)).succeed(400).splitlines()
        )


def main(arguments: list[str]) -> None:
    if arguments[0] == "--measure":
        asyncio.run(measure(int(arguments[1])))
        return
    print(*play(int(arguments[0])), sep="\n")


if __name__ == "__main__":
    main(sys.argv[1:])
