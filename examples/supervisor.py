"""A supervisor that starts again what died: `python supervisor.py`.

Workers crash now and then: one raises, one takes its whole server process along. The supervisor is a task like any other. It
monitors each worker, is told how it ended, and starts another one, but not more than so many times. Dead server processes are
replaced by dispycos itself. Runs alone; where `dispycos node` runs on this or other machines, those are used.
"""

import os
import random

import click

import dispycos


async def work(name: str, attempt: int, *, task: dispycos.Task) -> str:
    """Remote task: ends well, or in one of two bad ways."""
    await task.sleep(0.1)
    fate = random.Random(f"{name} {attempt}").choice(["well", "well", "raises", "dies"])
    if fate == "raises":
        raise RuntimeError(f"{name} stumbled")
    if fate == "dies":
        os._exit(3)  # as of a fault in C code, or the kernel's OOM killer
    return f"{name} is done"


async def supervise(client: dispycos.Client, names: list[str], restarts: int, *, task: dispycos.Task) -> int:
    """Local task: returns how many workers came to a good end."""

    async def start(name: str, attempt: int) -> None:
        worker = await client.io_rtask(work, name, attempt)
        await worker.monitor(task)
        running[worker] = name, attempt

    running: dict[dispycos.Task, tuple[str, int]] = {}
    for name in names:
        await start(name, 1)
    good = 0
    while running:
        end = await task.receive()
        name, attempt = running.pop(end.info)
        if end.type is StopIteration:
            print(f"{end.value}, at attempt {attempt}")
            good += 1
        elif attempt > restarts:
            print(f"{name} is given up after {attempt} attempts: {end.type.__name__}")
        else:
            print(f"{name} ended by {end.type.__name__}, and is started again")
            await start(name, attempt + 1)
    return good


async def main(workers: int, restarts: int) -> None:
    async with dispycos.Client([work]) as client:
        names = [f"worker-{number}" for number in range(workers)]
        good = await dispycos.Task(supervise, client, names, restarts)
        print(f"{good} of {workers} workers came to a good end")


@click.command()
@click.option("--workers", default=6, show_default=True, help="How many to run.")
@click.option("--restarts", default=3, show_default=True, help="Of one worker, at most.")
def command(workers: int, restarts: int) -> None:
    """Start workers again that failed."""
    dispycos.run(main, workers, restarts)


if __name__ == "__main__":
    command()
