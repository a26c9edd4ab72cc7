"""Three stages, each streaming to the next, server to server: `python pipeline.py`.

Records go from task to task without passing the program: it only sets the stages up and waits for the last one's sum. A stage
that is slower than the one before it holds that up by itself: `deliver` waits while the mailbox is full, so nothing piles up.
Runs alone; where `dispycos node` runs on this or other machines, those are used.
"""

import random
import time

import click

import dispycos


async def read(count: int, parse: dispycos.Task, *, task: dispycos.Task) -> int:
    """First stage: makes lines as a log has them."""
    for number in range(count):
        status = random.choice([200, 200, 200, 404, 500])
        await parse.deliver(f"GET /page/{number % 50} {status} {random.randint(1, 900)}")
    await parse.deliver(None)
    return count


async def parse(summarise: dispycos.Task, *, task: dispycos.Task) -> int:
    """Second stage: what is well goes on, in batches."""
    batch: list[tuple[str, int]] = []
    failed = 0
    while (line := await task.receive()) is not None:
        _, path, status, size = line.split()
        if status == "200":
            batch.append((path, int(size)))
        else:
            failed += 1
        if len(batch) == 100:
            await summarise.deliver(batch)
            batch = []
    await summarise.deliver(batch)
    await summarise.deliver(None)
    return failed


async def summarise(*, task: dispycos.Task) -> tuple[int, str, int]:
    """Third stage: bytes of each page, and which had most."""
    pages: dict[str, int] = {}
    while (batch := await task.receive()) is not None:
        for path, size in batch:
            pages[path] = pages.get(path, 0) + size
    most = max(pages, key=pages.__getitem__)
    return sum(pages.values()), most, pages[most]


async def main(lines: int) -> None:
    async with dispycos.Client([read, parse, summarise]) as client:
        last = await client.io_rtask(summarise)  # the last one first: each has to know the next
        middle = await client.io_rtask(parse, last)
        began = time.perf_counter()
        first = await client.io_rtask(read, lines, middle)
        total, page, most = await last
        seconds = time.perf_counter() - began
        print(f"{await first} lines in {seconds:.1f} s, {await middle} of them with an error")
        print(f"{total:,} bytes were sent; most of {page}: {most:,}")
        print(f"the stages ran at {first.location}, {middle.location} and {last.location}")


@click.command()
@click.option("--lines", default=20_000, show_default=True, help="How many to stream.")
def command(lines: int) -> None:
    """Stream records through stages on different servers."""
    dispycos.run(main, lines)


if __name__ == "__main__":
    command()
