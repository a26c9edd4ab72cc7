"""From the start of a script, with nothing running, to its first result, and to its end."""

from __future__ import annotations

import asyncio
import time

from tests.bench.measure import OURS, Row, in_turn, options, say
from tests.kit.programs import User

SCRIPT = """
    import dispycos

    def square(n):
        return n * n

    async def main():
        async with dispycos.Client([square]) as client:
            print(await client.submit(square, 7), flush=True)

    dispycos.run(main)
"""
EXECUTOR_SCRIPT = """
    from concurrent.futures import ProcessPoolExecutor

    def square(n):
        return n * n

    if __name__ == "__main__":
        with ProcessPoolExecutor(2) as pool:
            print(pool.submit(square, 7).result(), flush=True)
"""


def first_result(user: User, name: str, ends: list[float]) -> float:
    program = user.script(name)
    took = program.wait_line("^49$").at - program.started
    program.wait()
    ends.append(time.monotonic() - program.started)
    return took


async def measure(user: User, rounds: int) -> None:
    user.write({"ours.py": SCRIPT, "executor.py": EXECUTOR_SCRIPT})
    ends: list[float] = []
    others: list[float] = []

    async def ours() -> float:
        return first_result(user, "ours.py", ends)

    async def executor() -> float:
        return first_result(user, "executor.py", others)

    await ours()  # the first one makes the secret
    ends.clear()
    found = await in_turn(rounds, {OURS: ours, "ProcessPoolExecutor": executor})
    theirs = [("ProcessPoolExecutor", found["ProcessPoolExecutor"])]
    say(Row("script start to first result", "s", found[OURS], theirs, False))
    beside = [("ProcessPoolExecutor", sorted(others)[len(others) // 2])]
    say(Row("script start to its end", "s", sorted(ends)[len(ends) // 2], beside, False))


def main() -> None:
    given = options()
    with User(DISPYCOS_CPUS="2") as user:
        asyncio.run(measure(user, given.rounds))


if __name__ == "__main__":
    main()
