"""A task that computes for long, without an `await`, and loses no message: `python dispycos_client8.py`.

Each task computes in steps that block its server (time.sleep stands for them) and looks for messages between two of them. What
the client sends meanwhile arrives all the same: a thread beside the task serves the network. So nothing is lost, and
`terminate` works at any time. Runs alone; where `dispycos node` runs on this or other machines, those are used.
"""

import asyncio
import time

import click

import dispycos


async def compute(number: int, steps: int, *, task: dispycos.Task) -> int:
    total = 0
    for step in range(steps):
        time.sleep(0.3)  # nothing else of this server's tasks runs here
        while (message := await task.receive(timeout=0)) is not None:
            total += message
            print(f"task {number} heard {message} in step {step + 1}")
    return total


async def main(tasks: int, steps: int) -> None:
    async with dispycos.Client([compute]) as client:
        rtasks = [await client.rtask(compute, number, steps) for number in range(tasks)]
        for message in range(1, 4):
            for rtask in rtasks:
                rtask.send(message)
            await asyncio.sleep(0.4)
        for number, rtask in enumerate(rtasks):
            print(f"task {number} at {rtask.location} heard messages that sum up to {await rtask}")


@click.command()
@click.option("--tasks", default=2, show_default=True, help="How many to run.")
@click.option("--steps", default=5, show_default=True, help="Of 0.3 s each.")
def command(tasks: int, steps: int) -> None:
    """Send messages to tasks that keep their CPU busy."""
    dispycos.run(main, tasks, steps)


if __name__ == "__main__":
    command()
