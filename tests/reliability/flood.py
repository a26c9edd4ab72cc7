"""terminate() behind a flood: `python -m tests.reliability.flood 5 1 50` prints how long until the outcome is there, in ms.

The numbers are how often each case is played, by what 150,000 messages and 64 MiB are divided, and how many ms it may take. The
victim waits beside the task that is flooded, on the same server; what is sent to that one is on its way, in this session or in
that of the victim's terminate(), as they share a client and a server. Through a private process, and through a scheduler and a
node of their own.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterator

import dispycos
from dispycos.errors import TaskTerminated
from tests.kit.programs import ROOT, User

MESSAGES = 150_000
CALL_BYTES = 64 * 1024 * 1024
TEXT = b"x" * 100


async def wait_for_it(*, task: dispycos.Task) -> None:
    await task.receive()


async def count(wanted: int, *, task: dispycos.Task) -> int:
    for _ in range(wanted):
        await task.receive()
    return wanted


async def take(data: bytes) -> int:
    return len(data)


async def until_terminated(handle: dispycos.Task) -> float:
    """Seconds from terminate() to the outcome."""
    start = time.perf_counter()
    handle.terminate()
    try:
        await handle
    except TaskTerminated:
        return time.perf_counter() - start
    raise AssertionError("it was not terminated")


async def alone(client: dispycos.Client, scale: int) -> float:
    return await until_terminated(await client.io_rtask(wait_for_it))


async def behind_messages(client: dispycos.Client, scale: int) -> float:
    victim, flooded = await client.io_rtask(wait_for_it), await client.io_rtask(count, MESSAGES // scale)
    for _ in range(MESSAGES // scale):
        flooded.send(TEXT)
    took = await until_terminated(victim)
    assert await flooded == MESSAGES // scale
    return took


async def behind_a_call(client: dispycos.Client, scale: int) -> float:
    victim = await client.io_rtask(wait_for_it)
    size = CALL_BYTES // scale
    handle = client.io_submit(take, bytes(size))
    await asyncio.sleep(0.02)  # its server has asked for it, and it is on its way
    took = await until_terminated(victim)
    assert await handle == size
    return took


async def flood_and_terminate(
    where: dispycos.Task, victim: dispycos.Task, wanted: int, data: bytes, *, task: dispycos.Task
) -> float:
    """From the server: all that it says to the client, this word too, is one session."""
    for _ in range(wanted):
        where.send(data)
    start = time.monotonic()
    victim.terminate()
    return start


async def by_the_same_session(client: dispycos.Client, wanted: int, data: bytes) -> float:
    ended: list[float] = []
    victim = await client.io_rtask(wait_for_it)
    victim.add_done_callback(lambda _: ended.append(time.monotonic()))
    here = dispycos.Task(count, wanted)
    start: float = await client.io_submit(flood_and_terminate, here, victim, wanted, data)
    assert await here == wanted
    while not ended:
        await asyncio.sleep(0.001)
    return ended[0] - start


async def behind_messages_here(client: dispycos.Client, scale: int) -> float:
    return await by_the_same_session(client, MESSAGES // scale, TEXT)


async def behind_bytes_here(client: dispycos.Client, scale: int) -> float:
    return await by_the_same_session(client, 1, bytes(CALL_BYTES // scale))


CASES = (alone, behind_messages, behind_a_call, behind_messages_here, behind_bytes_here)


async def measure(runs: int, scale: int) -> None:
    async with dispycos.Client([wait_for_it, count, take, flood_and_terminate]) as client:
        for case in CASES:
            print(case.__name__, *[await case(client, scale) for _ in range(runs)], flush=True)


def play(runs: int, scale: int, bound_s: float) -> Iterator[str]:
    """One line for each case; raises AssertionError when an outcome took longer than the bound, in seconds."""
    for way in ("private", "scheduler and node"):
        with User(DISPYCOS_CPUS="1", PYTHONPATH=str(ROOT)) as user:
            if way != "private":
                user.scheduler()
                user.node("flooded", cpus=1)
            program = user.python("-m", "tests.reliability.flood", "--measure", str(runs), str(scale))
            said = [line.split() for line in program.succeed(400).splitlines()]
            assert [case for case, *_ in said] == [case.__name__ for case in CASES]
            for case, *seconds in said:
                worst = max(map(float, seconds))
                assert worst <= bound_s, f"{case}, {way}: {worst:.3f} s"
                yield f"{case}, {way}: {worst * 1e3:.1f} ms, the worst of {runs}"


def main(arguments: list[str]) -> None:
    if arguments[0] == "--measure":
        asyncio.run(measure(*map(int, arguments[1:])))
        return
    for line in play(int(arguments[0]), int(arguments[1]), float(arguments[2]) / 1000):
        print(line, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
