"""Run a function on every CPU of the cluster: `python examples/hello.py`. Without a cluster this machine's CPUs are used."""

import math
import os

import dispycos


def count_primes(first: int, last: int) -> tuple[int, int]:
    """How many primes there are from first up to, not including, last; runs in a server process."""
    return sum(
        all(n % d for d in range(2, math.isqrt(n) + 1)) for n in range(max(first, 2), last)
    ), os.getpid()


async def main() -> None:
    async with dispycos.Client([count_primes]) as client:
        handles = [client.submit(count_primes, first, first + 20_000) for first in range(0, 200_000, 20_000)]
        total, pids = 0, set[int]()
        for handle in handles:
            primes, pid = await handle
            total += primes
            pids.add(pid)
        print(f"{total} primes below 200,000, counted by {len(pids)} server processes")


dispycos.run(main)
