"""A scheduler that several programs share, and a rule of your own for its nodes: `python dispycos_remote_scheduler.py [HOST]`.

Start `dispycos scheduler` on one machine and `dispycos node` on each. Programs then take turns, in the order in which they
came: this one says how long it waits. Which CPUs it takes is decided by a subclass of DispycosNodeAllocate, in this program:
here all but one of each node. Without HOST a scheduler is looked for, and without any this machine's CPUs are used.
"""

import click

import dispycos
from dispycos import DispycosNodeAllocate


class AllButOne(DispycosNodeAllocate):
    """Leaves one CPU of each node to others."""

    def allocate(
        self, ip_addr: str, name: str, platform: str, cpus: int, memory: int | None, disk: int | None
    ) -> int:
        use = max(1, cpus - 1)
        print(f"node {name} ({ip_addr}) has {cpus} CPUs and {(memory or 0) / 2**30:.1f} GiB: {use} used")
        return use


async def answer(*, task: dispycos.Task) -> int:
    """Remote task: answers one message, and ends."""
    number: int = await task.receive()
    return number**2


async def main(host: str | None, jobs: int, timeout: float) -> None:
    client = dispycos.Client([answer], nodes=[AllButOne("*")])
    await client.schedule(host, timeout=timeout)
    rtasks = [await client.io_rtask(answer) for _ in range(jobs)]
    for number, rtask in enumerate(rtasks):
        rtask.send(number)
    for number, rtask in enumerate(rtasks):
        print(f"{number} squared is {await rtask}, by {rtask.location}")
    await client.close()


@click.command()
@click.argument("host", required=False)
@click.option("--jobs", default=5, show_default=True, help="How many tasks to run.")
@click.option(
    "--timeout", default=60.0, show_default=True, help="Seconds to wait for programs that came before."
)
def command(host: str | None, jobs: int, timeout: float) -> None:
    """Use the scheduler at HOST."""
    dispycos.run(main, host, jobs, timeout)


if __name__ == "__main__":
    command()
