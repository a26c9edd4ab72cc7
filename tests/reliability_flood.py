"""terminate() behind a flood: how long until the outcome is there, with 150,000 messages or a call of 64 MiB on the way.

`python -m tests.reliability_flood [--cluster] [--quick]` prints the worst of 5 runs of each, in ms; `--cluster` goes through
processes of their own for scheduler and node. The victim waits beside the task that is flooded, on the same server; what is
sent to that one is on its way, in this session or in that of the victim's terminate(), as they share a client and a server.
"""

from __future__ import annotations

import asyncio
import sys
import time

import dispycos
from dispycos.errors import TaskTerminated
from tests.kit.programs import ROOT, User

MESSAGES = 150_000
CALL_BYTES = 64 * 1024 * 1024
RUNS = 5
TEXT = b"x" * 100


async def wait_for_it(*, task):
    await task.receive()


async def count(wanted, *, task):
    for _ in range(wanted):
        await task.receive()
    return wanted


async def take(data):
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


async def flood_and_terminate(where, victim, wanted, data, *, task):
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
    start = await client.io_submit(flood_and_terminate, here, victim, wanted, data)
    assert await here == wanted
    while not ended:
        await asyncio.sleep(0.001)
    return ended[0] - start


async def behind_messages_here(client: dispycos.Client, scale: int) -> float:
    return await by_the_same_session(client, MESSAGES // scale, TEXT)


async def behind_bytes_here(client: dispycos.Client, scale: int) -> float:
    return await by_the_same_session(client, 1, bytes(CALL_BYTES // scale))


async def measure(scale: int) -> None:
    async with dispycos.Client([wait_for_it, count, take, flood_and_terminate]) as client:
        for what in (alone, behind_messages, behind_a_call, behind_messages_here, behind_bytes_here):
            took = [await what(client, scale) for _ in range(RUNS)]
            print(
                f"{what.__name__}: " + ", ".join(f"{seconds * 1e3:.1f}" for seconds in sorted(took)) + " ms"
            )


def main(arguments: list[str]) -> int:
    if arguments[:1] == ["--measure"]:
        asyncio.run(measure(int(arguments[1])))
        return 0
    with User(DISPYCOS_CPUS="1", PYTHONPATH=str(ROOT)) as user:
        if "--cluster" in arguments:
            user.scheduler()
            user.node("flooded", cpus=1)
        scale = "50" if "--quick" in arguments else "1"
        print(user.python("-m", "tests.reliability_flood", "--measure", scale).succeed(120))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
