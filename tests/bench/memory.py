"""Memory of all processes of a program with two idle servers: proportional set size, so shared pages count once."""

from __future__ import annotations

from collections import defaultdict

from tests.bench.measure import Row, in_words, options, say
from tests.kit.programs import Program, User

SCRIPT = """
    import asyncio
    import dispycos

    def square(n):
        return n * n

    async def main():
        async with dispycos.Client([square]) as client:
            for handle in [client.submit(square, n) for n in range(100)]:
                await handle
            print("ready", flush=True)
            await asyncio.sleep(30)

    dispycos.run(main)
"""
EXECUTOR_SCRIPT = """
    import time
    from concurrent.futures import ProcessPoolExecutor

    def square(n):
        return n * n

    if __name__ == "__main__":
        with ProcessPoolExecutor(2) as pool:
            for future in [pool.submit(square, n) for n in range(100)]:
                future.result()
            print("ready", flush=True)
            time.sleep(30)
"""
MIB = 1 << 20


def memory_of(program: Program) -> dict[str, float]:
    """MiB of the program, of what it started, and of what that started."""
    program.wait_line("^ready$")
    family = program.family()
    children = {process.pid for process in family if process.ppid() == program.pid}
    parts: dict[str, float] = defaultdict(float)
    for process in family:
        name = (
            "program" if process.pid == program.pid else "children" if process.pid in children else "theirs"
        )
        parts[name] += process.memory_full_info().pss / MIB
    program.end()
    return dict(parts)


def main() -> None:
    options()
    with User(DISPYCOS_CPUS="2") as user:
        ours = memory_of(user.script("ours.py", SCRIPT))
        theirs = memory_of(user.script("executor.py", EXECUTOR_SCRIPT))
    names = {"program": "client", "children": "private", "theirs": "template, zygote and 2 servers"}
    note = in_words({names[name]: value for name, value in ours.items()})
    total = sum(ours.values())
    beside = [("ProcessPoolExecutor", sum(theirs.values()))]
    say(Row("memory (PSS), 2 idle servers", "MiB", total, beside, more_is_better=False, note=note))


if __name__ == "__main__":
    main()
