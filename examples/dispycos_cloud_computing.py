"""Nodes in a cloud, a program at home: `python dispycos_cloud_computing.py PUBLIC-ADDRESS ...`.

On each cloud machine open TCP port 9706, put the cluster's secret there (`dispycos secret show` prints it) and run

    dispycos node --ext_ip_addr PUBLIC-ADDRESS --tcp_ports 9706

The program dials the nodes by the addresses that it is given, and needs no open port itself: it may be behind a router. What
goes between is encrypted. docs/cloud.md has this in detail. Without an address this machine's CPUs are used, which shows that
the program works.
"""

import platform
import random

import click

import dispycos


async def compute(number: int, seconds: float, *, task: dispycos.Task) -> tuple[int, str]:
    await task.sleep(seconds)
    return number * number, platform.node()


async def main(nodes: list[str], jobs: int) -> None:
    async with dispycos.Client([compute], nodes=nodes) as client:
        handles = [client.submit(compute, number, random.uniform(0.2, 0.6)) for number in range(jobs)]
        for number, handle in enumerate(handles):
            value, host = await handle
            print(f"result for {number}: {value}, computed by {host} at {handle.location}")


@click.command()
@click.argument("nodes", nargs=-1, metavar="[PUBLIC-ADDRESS]...")
@click.option("--jobs", default=6, show_default=True, help="How many tasks to run.")
def command(nodes: tuple[str, ...], jobs: int) -> None:
    """Compute on the nodes at these addresses."""
    dispycos.run(main, list(nodes), jobs)


if __name__ == "__main__":
    command()
