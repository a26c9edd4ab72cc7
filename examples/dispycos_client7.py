"""dispycos_client1 with a scheduler of your own: `python dispycos_client7.py`.

Here the program itself decides what runs where, by what its status_task is told: a server that is there gets a job, and the next
one when that has ended. Written as generator functions, which say `yield` where an `async def` says `await`. Runs alone; where
`dispycos node` runs on this or other machines, those are used.
"""

import random
from collections.abc import Generator
from typing import Any

import click

import dispycos
from dispycos import DispycosStatus, MonitorStatus, Scheduler


def compute(number: int, seconds: float, *, task: dispycos.Task) -> Generator[Any, Any, tuple[int, float]]:
    yield task.sleep(seconds)
    return number, round(seconds, 1)


def schedule(jobs: int, *, task: dispycos.Task) -> Generator[Any, Any, None]:
    """Local task, the status_task of the client: gets a word for every change."""
    client = dispycos.Client([compute], status_task=task)
    yield client.schedule()
    waiting = [(number, random.uniform(0.2, 0.8)) for number in range(jobs)]
    running = 0
    while waiting or running:
        word = yield task.receive()
        if isinstance(word, DispycosStatus) and word.status == Scheduler.ServerInitialized:
            server = word.info
        elif isinstance(word, MonitorStatus):
            running -= 1
            server = word.info.location
            print(f"{word.info.name} at {server} finished: {word.value}")
        else:
            continue
        if waiting and server is not None:
            rtask = yield client.rtask_at(server, compute, *waiting.pop(0))
            running += 1
            print(f"{rtask.name} started at {server}")
    yield client.close()


@click.command()
@click.option("--jobs", default=6, show_default=True, help="How many tasks to run.")
def command(jobs: int) -> None:
    """Schedule tasks by status messages."""
    dispycos.run(schedule, jobs)


if __name__ == "__main__":
    command()
