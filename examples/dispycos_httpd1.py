"""The web monitor of io tasks that you start while it runs: `python dispycos_httpd1.py`, and open the URL that it prints.

Type numbers: each starts an io task that waits so many seconds; many of them share one server. `quit`, or the end of the input,
waits for those that run. The page of a server shows them with their arguments: an object of a class is shown by its `__repr__`.
With numbers as arguments, `dispycos_httpd1.py 1 2.5 3`, these are started first. Runs alone, or with nodes that run already.
"""

import asyncio
import sys
import threading
from collections.abc import AsyncIterator

import click

import dispycos


class Job:
    """What a task is given. Its `__repr__` is what the page shows; without one it would be <Job object at ...>."""

    def __init__(self, number: int, seconds: float) -> None:
        self.number = number
        self.seconds = seconds

    def __repr__(self) -> str:
        return f"Job({self.number}, {self.seconds:g} s)"


async def wait(job: Job, *, task: dispycos.Task) -> str:
    """An io task waits most of the time: for a timer here, for a network or a device in life."""
    await task.sleep(job.seconds)
    return f"{job!r} ended at {task.location}"


async def show(rtask: dispycos.Task[str]) -> None:
    print(await rtask)


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


async def main(seconds: tuple[float, ...], port: int) -> None:
    client = dispycos.Client([wait, Job], pulse_interval=dispycos.MinPulseInterval)
    await client.schedule()
    http = dispycos.HTTPServer(client, port=port)
    shown: list[asyncio.Task[None]] = []

    async def start(text: float | str) -> None:
        job = Job(len(shown) + 1, float(text))
        shown.append(asyncio.create_task(show(await client.io_rtask(wait, job))))

    for text in seconds:
        await start(text)
    print("Seconds for the next task, or quit:")
    async for line in lines():
        if line in ("quit", "exit"):
            break
        try:
            await start(line)
        except ValueError:
            print(f"{line!r} is no number of seconds, and not quit")
    await client.close(await_io=True)
    await asyncio.gather(*shown)
    http.shutdown()


@click.command()
@click.argument("seconds", nargs=-1, type=float)
@click.option("--port", default=8181, show_default=True, help="Of the page; 0 takes a free one.")
def command(seconds: tuple[float, ...], port: int) -> None:
    """Start io tasks, of SECONDS each and of what is typed, and watch them in a browser."""
    dispycos.run(main, seconds, port)


if __name__ == "__main__":
    command()
