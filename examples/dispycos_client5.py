"""An external program at each server, fed and read through pipes: `python dispycos_client5.py`.

A remote task starts dispycos_client5_proc.py, any program that reads standard input would do, and passes on what the client
sends; what the program prints goes to the client as it comes. asyncio's subprocesses are all it takes. Runs alone; where
`dispycos node` runs on this or other machines, those are used.
"""

import asyncio
import pathlib
import sys

import click

import dispycos

PROGRAM = "dispycos_client5_proc.py"
LINES = ["the quick brown fox", "jumps over", "the lazy dog"]


async def run_program(number: int, client_task: dispycos.Task, *, task: dispycos.Task) -> int:
    """Remote task. The program's file was sent along: it lies in the folder above."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, f"../{PROGRAM}", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )

    assert process.stdin is not None and process.stdout is not None
    to_program, from_program = process.stdin, process.stdout

    async def feed() -> None:
        while (line := await task.receive()) is not None:
            to_program.write(line.encode() + b"\n")
        to_program.close()  # the end of its input ends the program

    feeding = asyncio.create_task(feed())
    async for line in from_program:
        client_task.send((number, line.decode().strip()))
    await feeding
    return await process.wait()


async def show(*, task: dispycos.Task) -> None:
    """Local task: prints what the programs say."""
    while True:
        number, line = await task.receive()
        print(f"program {number}: {line}")


async def main(programs: int) -> None:
    printer = dispycos.Task(show)
    async with dispycos.Client([run_program, pathlib.Path(__file__).with_name(PROGRAM)]) as client:
        rtasks = [await client.io_rtask(run_program, number, printer) for number in range(programs)]
        for line in [*LINES, None]:
            for rtask in rtasks:
                rtask.send(line)
        for number, rtask in enumerate(rtasks):
            print(f"program {number} ended with {await rtask} at {rtask.location}")
    printer.terminate()


@click.command()
@click.option("--programs", default=3, show_default=True, help="How many to run.")
def command(programs: int) -> None:
    """Run an external program at servers, and talk to it."""
    dispycos.run(main, programs)


if __name__ == "__main__":
    command()
