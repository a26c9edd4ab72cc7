"""`tail -f` of a file on many hosts, in one terminal: `python log_watch.py /var/log/syslog`.

One task on each node follows the file there and sends new lines that match; the program prints them with the name of the host.
Ctrl-C ends it. Without FILE each task writes a log of its own first, so there is something to see. Runs alone; where `dispycos
node` runs on this or other machines, those are used.
"""

import asyncio
import contextlib
import os
import platform
import random
import re
import tempfile
import time

import click

import dispycos


async def follow(path: str, pattern: str, lines: dispycos.Task, *, task: dispycos.Task) -> None:
    """Remote task, one for each node: starts at the end of the file, and outlives its rotation."""
    wanted = re.compile(pattern)
    file = open(path, errors="replace")  # noqa: SIM115
    file.seek(0, os.SEEK_END)
    while True:
        line = file.readline()
        if line:
            if wanted.search(line):
                lines.send((platform.node(), line.rstrip()))
            continue
        await task.sleep(0.1)
        with_name = os.stat(path)
        if with_name.st_ino != os.fstat(file.fileno()).st_ino or with_name.st_size < file.tell():
            file.close()
            file = open(path, errors="replace")  # noqa: SIM115


async def write_log(path: str, *, task: dispycos.Task) -> None:
    """Remote task: what a busy program would log. It says when the file is there, and removes it at its end."""
    with open(path, "a") as file:
        try:
            await task.receive()
            task.reply(path)
            while True:
                level = random.choice(["info", "info", "warning", "error"])
                file.write(f"{time.strftime('%H:%M:%S')} {level}: request took {random.randint(1, 99)} ms\n")
                file.flush()
                await task.sleep(0.1)
        finally:
            with contextlib.suppress(FileNotFoundError):  # nodes of one host share it
                os.unlink(path)


async def show(*, task: dispycos.Task) -> None:
    """Local task."""
    while True:
        host, line = await task.receive()
        print(f"{host}: {line}", flush=True)


async def main(path: str | None, pattern: str, seconds: float | None) -> None:
    lines = dispycos.Task(show)
    async with dispycos.Client([follow, write_log]) as client:
        running: list[dispycos.Task] = []
        own_log = os.path.join(tempfile.gettempdir(), f"log_watch-{os.getpid()}.log")
        for node in await client.nodes():
            if path is None:
                writer = await client.io_rtask_at(node, write_log, own_log)
                await writer.ask("is it there?")
                running.append(writer)
            running.append(await client.io_rtask_at(node, follow, path or own_log, pattern, lines))
        try:
            async with asyncio.timeout(seconds):
                await asyncio.gather(*running)  # raises if the file is not there
        except TimeoutError:
            pass
        finally:
            lines.terminate()


@click.command()
@click.argument("path", metavar="[FILE]", required=False)
@click.option("--pattern", default="", help="Only lines in which this regular expression occurs.")
@click.option("--seconds", type=float, help="End after so many; else Ctrl-C does.")
def command(path: str | None, pattern: str, seconds: float | None) -> None:
    """Follow FILE on every node."""
    dispycos.run(main, path, pattern, seconds if path or seconds else 5.0)


if __name__ == "__main__":
    command()
