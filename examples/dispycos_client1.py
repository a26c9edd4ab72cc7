"""CPU tasks, watched in the web monitor: `python dispycos_client1.py`, and open the URL that it prints.

Each task computes for a second or two and tells how far it is. The page shows which server runs what, how long, what it printed,
and where in its code it is now; there tasks can be terminated and nodes suspended. Runs alone; where `dispycos node` runs on this
or other machines, those are used. `--help` lists the options; `--jobs 500` leaves time to look around.
"""

import asyncio
import random
import time

import click

import dispycos


def spin(seconds: float) -> int:
    """What keeps a CPU busy: the live stack shows it."""
    until = time.perf_counter() + seconds
    rounds = 0
    while time.perf_counter() < until:
        rounds += 1
    return rounds


def compute(number: int, seconds: float) -> int:
    """A plain function: its server does nothing else until it returns."""
    rounds = 0
    for step in range(4):
        rounds += spin(seconds / 4)
        print(f"job {number}: {step + 1} of 4 parts")
    return rounds


async def main(jobs: int, port: int, stay: float) -> None:
    async with dispycos.Client([compute]) as client:
        http = dispycos.HTTPServer(client, port=port)  # prints the URL of the page
        handles = [client.submit(compute, number, random.uniform(0.5, 1.5)) for number in range(jobs)]
        for number, handle in enumerate(handles):
            rounds = await handle
            print(f"job {number} processed by {handle.location}: {rounds:,} rounds")
        await asyncio.sleep(stay)
        http.shutdown()  # pages that are open keep the last state


@click.command()
@click.option("--jobs", default=10, show_default=True, help="How many tasks to run.")
@click.option("--port", default=8181, show_default=True, help="Of the page; 0 takes a free one.")
@click.option("--stay", default=0.0, show_default=True, help="Seconds that the page stays when all is done.")
def command(jobs: int, port: int, stay: float) -> None:
    """Run CPU tasks and watch them in a browser."""
    dispycos.run(main, jobs, port, stay)


if __name__ == "__main__":
    command()
