"""Each computation in a server process of its own, new as on the first day: `python dispycos_client10.py`.

Tasks share the process of their server, and may leave traces there: here a global that grows. A task that calls
`dispycos_close_server` ends its server, and a client with `restart_servers` gets a new one in its place. So each task finds the
global empty. Runs alone; where `dispycos node` runs on this or other machines, those are used.
"""

import os

import click

import dispycos
from dispycos import DispycosStatus, Scheduler

seen: list[int] = []


def compute(number: int) -> tuple[list[int], int]:
    """Remote task: leaves something behind, and has its server closed when it has ended."""
    seen.append(number)
    dispycos.dispycos_close_server()
    return seen, os.getpid()


async def count_servers(*, task: dispycos.Task) -> int:
    """status_task: how many servers were closed."""
    closed = 0
    while True:
        word = await task.receive()
        if isinstance(word, DispycosStatus) and word.status == Scheduler.ServerClosed:
            closed += 1
        elif isinstance(word, DispycosStatus) and word.status == Scheduler.ClientClosed:
            return closed


async def main(jobs: int) -> None:
    counter = dispycos.Task(count_servers)
    async with dispycos.Client([compute], status_task=counter, restart_servers=True) as client:
        pids: set[int] = set()
        for number, handle in enumerate([client.submit(compute, number) for number in range(jobs)]):
            found, pid = await handle
            pids.add(pid)
            print(f"computation {number} in process {pid} saw {found}")
    print(f"{jobs} computations ran in {len(pids)} processes; {await counter} servers were closed")


@click.command()
@click.option("--jobs", default=6, show_default=True, help="How many computations.")
def command(jobs: int) -> None:
    """Run each task in a new process."""
    dispycos.run(main, jobs)


if __name__ == "__main__":
    command()
