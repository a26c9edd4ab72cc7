"""A node that only ssh reaches: `python dispycos_ssh_ec2.py --port 9706`.

Nothing but ssh is open on the cloud machine. There run `dispycos node --tcp_ports 9706`, here forward that port:

    ssh -N -L 9706:127.0.0.1:9706 user@cloud-machine

and the program finds the node at a port of this machine. One port a node is enough: all its servers are reached through it.
docs/cloud.md has this in detail. Without `--port` this machine's CPUs are used, which shows that the program works.
"""

import random
import time

import click

import dispycos


def compute(number: int, seconds: float) -> int:
    """A plain function that keeps its server busy."""
    time.sleep(seconds)
    return number * number


async def main(port: int | None, jobs: int) -> None:
    nodes = [dispycos.Location("127.0.0.1", port)] if port else []
    async with dispycos.Client([compute], nodes=nodes) as client:
        handles = [client.submit(compute, number, random.uniform(0.2, 0.6)) for number in range(jobs)]
        for number, handle in enumerate(handles):
            value = await handle
            print(f"result from {handle.location}: {number} squared is {value}")


@click.command()
@click.option("--port", type=int, help="Of this machine, forwarded by ssh to the node.")
@click.option("--jobs", default=6, show_default=True, help="How many tasks to run.")
def command(port: int | None, jobs: int) -> None:
    """Compute on a node behind ssh."""
    dispycos.run(main, port, jobs)


if __name__ == "__main__":
    command()
