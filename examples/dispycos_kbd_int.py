"""A task that is told to end says its last word: `python dispycos_kbd_int.py`, and Ctrl-C when it has gone on for long enough.

Each task looks for a better value of a function, and sends what it finds. `terminate`, the end of the client and Ctrl-C raise
KeyboardInterrupt in it where it is: it has 5 seconds to put things in order. Here it returns the best value so far. Runs alone;
where `dispycos node` runs on this or other machines, those are used.
"""

import asyncio
import math
import random

import click

import dispycos


async def search(updates: dispycos.Task, *, task: dispycos.Task) -> tuple[float, float]:
    """Remote task: climbs until it is told to stop."""
    rng = random.Random(str(task.location))
    best_x, best = 0.0, -math.inf
    try:
        while True:
            x = rng.uniform(-10, 10)
            value = math.sin(3 * x) - 0.05 * (x - 2) ** 2
            if value > best + 1e-3:
                best_x, best = x, value
                updates.send((task.location, best_x, best))
            await task.sleep(0.01)
    except KeyboardInterrupt:
        return best_x, best  # what is returned now is the task's value


async def show(*, task: dispycos.Task) -> None:
    """Local task: prints what comes."""
    while True:
        location, x, value = await task.receive()
        print(f"update from {location}: f({x:.3f}) = {value:.3f}")


async def main(seconds: float) -> None:
    async with dispycos.Client([search]) as client:
        updates = dispycos.Task(show)
        rtasks = [await client.rtask(search, updates) for _ in await client.servers()]
        try:
            await asyncio.sleep(seconds)
        finally:  # also at Ctrl-C
            for rtask in rtasks:
                rtask.terminate()
            found = [await rtask for rtask in rtasks]
            x, value = max(found, key=lambda each: each[1])
            print(f"best of {len(found)} tasks: f({x:.3f}) = {value:.3f}")
            updates.terminate()


@click.command()
@click.option("--seconds", default=2.0, show_default=True, help="How long to search.")
def command(seconds: float) -> None:
    """End tasks by KeyboardInterrupt, and get what they found."""
    dispycos.run(main, seconds)


if __name__ == "__main__":
    command()
