"""Data streams to tasks, and what they see in it streams back: `python dispycos_live_analytics.py`.

The client sends numbers as they come to two remote tasks, which need two servers. One keeps a moving average and says when it
leaves a band; the other one keeps a file of all numbers. Nobody waits for an answer: `send` returns at once, and messages arrive in
order. Runs alone; where `dispycos node` runs on this or other machines, those are used.
"""

import asyncio
import collections
import pathlib
import random
import struct

import click

import dispycos


async def watch_trend(threshold: float, window: int, signals: dispycos.Task, *, task: dispycos.Task) -> int:
    """Remote task: says when the average of the last numbers is far from zero."""
    numbers = collections.deque[float](maxlen=window)
    position = 0
    while (number := await task.receive()) is not None:
        numbers.append(number)
        position += 1
        average = sum(numbers) / len(numbers)
        if len(numbers) == window and abs(average) >= threshold:
            signals.send(("high" if average > 0 else "low", position, average))
            numbers.clear()
    signals.send(None)
    return position


async def save(*, task: dispycos.Task) -> str:
    """Remote task: the numbers go to a file, which goes to the client at the end."""
    path = pathlib.Path("numbers.bin")
    with path.open("wb") as file:
        while (number := await task.receive()) is not None:
            file.write(struct.pack("<d", number))
    await task.send_file(task.client, path)
    return path.name


async def show(*, task: dispycos.Task) -> None:
    """Local task: what the trend is, as soon as it is known."""
    while (signal := await task.receive()) is not None:
        trend, position, average = signal
        print(f"trend is {trend} at {position}: the average is {average:.3f}")


async def main(count: int, threshold: float) -> None:
    signals = dispycos.Task(show)
    async with dispycos.Client([watch_trend, save]) as client:
        trend = await client.rtask(watch_trend, threshold, 100, signals)
        saver = await client.rtask(save)
        rng = random.Random(7)
        for number in range(count):
            drift = 0.5 if number // 500 % 2 else -0.5
            for receiver in (trend, saver):
                await receiver.deliver(rng.gauss(drift, 1))
            if number % 100 == 0:
                await asyncio.sleep(0.01)  # as a stream has its own pace
        for receiver in (trend, saver):
            receiver.send(None)
        print(f"{await trend} numbers were analysed")
        await signals
        path = client.dest_path / await saver
        print(f"{path.stat().st_size // 8} numbers are in {path}")


@click.command()
@click.option("--count", default=3000, show_default=True, help="How many numbers to send.")
@click.option("--threshold", default=0.6, show_default=True, help="Of the average, for a signal.")
def command(count: int, threshold: float) -> None:
    """Analyse a stream of numbers while it comes."""
    dispycos.run(main, count, threshold)


if __name__ == "__main__":
    command()
