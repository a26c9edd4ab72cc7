"""Objects of your own classes travel both ways: `python dispycos_client3.py`.

A remote task gets an object of a class of this file, changes it and sends it to a local task of the program, which prints what
comes. The class travels along with the objects; nothing is installed on the servers. Runs alone; where `dispycos node` runs on
this or other machines, those are used. `--help` lists the options.
"""

import math
import random

import click

import dispycos


class Job:
    """What is to be done, and what came of it."""

    def __init__(self, number: int, seconds: float) -> None:
        self.number = number
        self.seconds = seconds
        self.result: float | None = None


async def compute(job: Job, results: dispycos.Task, *, task: dispycos.Task) -> None:
    """Remote task: `results` is the handle of the local task, and works here as well."""
    await task.sleep(job.seconds)
    job.result = math.sqrt(job.number)
    results.send(job)


async def collect(count: int, *, task: dispycos.Task) -> None:
    """Local task: the objects come as they were sent."""
    for _ in range(count):
        job = await task.receive()
        print(f"result for job {job.number}: {job.result:.3f} after {job.seconds:.1f} s")


async def main(jobs: int) -> None:
    results = dispycos.Task(collect, jobs)
    async with dispycos.Client([compute, Job]) as client:
        for number in range(jobs):
            await client.rtask(compute, Job(number, random.uniform(0.2, 0.6)), results)
        await results


@click.command()
@click.option("--jobs", default=6, show_default=True, help="How many objects to send.")
def command(jobs: int) -> None:
    """Exchange objects of a class with remote tasks."""
    dispycos.run(main, jobs)


if __name__ == "__main__":
    command()
