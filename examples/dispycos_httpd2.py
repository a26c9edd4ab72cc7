"""The web monitor beside a status_task of your own: `python dispycos_httpd2.py`, and open the URL that it prints.

The page needs no status messages, so your own status_task gets them all: here it tells of nodes, servers and tasks as they come and
go, with what a node has left, and shows the arguments and the outcome of each task. Type anything for one more task; `quit`, or the
end of the input, ends those that run. Runs alone, or with nodes that run already.
"""

import asyncio
import random
import sys
import threading
from collections.abc import AsyncIterator

import click

import dispycos
from dispycos import DispycosNodeAvailInfo, DispycosStatus, MonitorStatus, Scheduler, Task


async def wait(seconds: float, *, task: Task) -> float:
    await task.sleep(seconds)
    return round(seconds, 1)


async def on_status(*, task: Task) -> None:
    """Local task: what a program may do with each change of its cluster."""
    while True:
        word = await task.receive()
        if isinstance(word, MonitorStatus):
            how = "done" if word.type is StopIteration else f"failed: {word.type.__name__}"
            print(f"rtask {word.info.name} at {word.info.location}: {how}, {word.value}")
        elif isinstance(word, DispycosNodeAvailInfo):
            print(f"node at {word.location}: {word.cpu:.0f} % of its CPUs are free")
        elif isinstance(word, DispycosStatus):
            if word.status == Scheduler.NodeInitialized:
                print(f"node {word.info.name} with {word.info.cpus} CPUs is ready")
            elif word.status == Scheduler.ServerInitialized:
                print(f"server at {word.info} is ready")
            elif word.status == Scheduler.TaskCreated:
                print(f"rtask {word.info.task.name} is created with {word.info.args}")
            elif word.status == Scheduler.ClientClosed:
                return


async def lines() -> AsyncIterator[str]:
    """What is typed, until the end of the input. The thread is a daemon: Ctrl-C does not wait for a line."""
    typed, loop = asyncio.Queue[str | None](), asyncio.get_running_loop()

    def read() -> None:
        for line in sys.stdin:
            loop.call_soon_threadsafe(typed.put_nowait, line.strip())
        loop.call_soon_threadsafe(typed.put_nowait, None)

    threading.Thread(target=read, daemon=True).start()
    while (line := await typed.get()) is not None:
        yield line


async def main(tasks: int, port: int) -> None:
    status_task = Task(on_status)
    client = dispycos.Client([wait], status_task=status_task, pulse_interval=dispycos.MinPulseInterval)
    await client.schedule()
    http = dispycos.HTTPServer(client, port=port)  # http.status_task is that task
    for _ in range(tasks):
        await client.io_rtask(wait, random.uniform(0.5, 2))
    print("Return starts a task, quit ends:")
    async for line in lines():
        if line in ("quit", "exit"):
            break
        await client.io_rtask(wait, random.uniform(2, 10))
    await client.close(await_io=True)
    await status_task
    http.shutdown()


@click.command()
@click.option("--tasks", default=4, show_default=True, help="How many to start at once.")
@click.option("--port", default=8181, show_default=True, help="Of the page; 0 takes a free one.")
def command(tasks: int, port: int) -> None:
    """Watch a cluster in a browser and by status messages at once."""
    dispycos.run(main, tasks, port)


if __name__ == "__main__":
    command()
