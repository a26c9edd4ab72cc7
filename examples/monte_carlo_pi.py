"""Pi by throwing darts, with a progress bar: `python monte_carlo_pi.py`.

The smallest program that is worth many CPUs: the same function with another seed, again and again. `client.map` runs it, shows
how far it is, and gives the values as the tasks end. Runs alone; where `dispycos node` runs on this or other machines, those
are used.
"""

import math
import random

import click

import dispycos


def throw(seed: int, darts: int) -> int:
    """How many of so many darts hit the circle; runs in a server. A seed of its own: no two tasks throw the same."""
    rng = random.Random(seed)
    return sum(rng.random() ** 2 + rng.random() ** 2 <= 1 for _ in range(darts))


async def main(rounds: int, darts: int) -> None:
    hits = 0
    async with dispycos.Client([throw]) as client:
        async for _, hit in client.map(throw, range(rounds), [darts] * rounds, progress=True):
            hits += hit
    pi = 4 * hits / (rounds * darts)
    print(f"{rounds * darts:,} darts: pi is about {pi:.4f}, off by {abs(pi - math.pi):.4f}")


@click.command()
@click.option("--rounds", default=100, show_default=True, help="How many tasks to run.")
@click.option("--darts", default=100_000, show_default=True, help="Of each task.")
def command(rounds: int, darts: int) -> None:
    """Estimate pi on all CPUs."""
    dispycos.run(main, rounds, darts)


if __name__ == "__main__":
    command()
