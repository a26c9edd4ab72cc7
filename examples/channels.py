"""One sends, many hear: `python channels.py`.

A channel passes what it gets to all who subscribe, wherever they run. Here a ticker in the program sends prices, and a task on
each server watches one share. `deliver` waits until a number of subscribers have a message, so nothing is sent before all are
there. Runs alone; where `dispycos node` runs on this or other machines, those are used.
"""

import random

import click

import dispycos

SHARES = ["ACME", "BOLT", "CORE"]


async def watch(
    share: str, prices: dispycos.Channel, *, task: dispycos.Task
) -> tuple[str, int, float, float]:
    """Remote task: hears all prices, keeps those of its share."""
    await prices.subscribe(task)
    low, high, count = float("inf"), 0.0, 0
    while (message := await task.receive()) is not None:
        name, price = message
        if name == share:
            low, high, count = min(low, price), max(high, price), count + 1
    return share, count, low, high


async def main(ticks: int) -> None:
    async with dispycos.Client([watch]) as client:
        prices = dispycos.Channel("prices")
        watchers = [await client.io_rtask(watch, share, prices) for share in SHARES]
        now = dict.fromkeys(SHARES, 100.0)
        await prices.deliver(("ACME", 100.0), timeout=10, n=len(watchers))  # all have subscribed
        for _ in range(ticks):
            share = random.choice(SHARES)
            now[share] *= random.uniform(0.98, 1.02)
            prices.send((share, now[share]))
        prices.send(None)
        for watcher in watchers:
            share, count, low, high = await watcher
            print(f"{share}: {count} prices, from {low:.2f} to {high:.2f}, seen at {watcher.location}")


@click.command()
@click.option("--ticks", default=3000, show_default=True, help="How many prices to send.")
def command(ticks: int) -> None:
    """Broadcast to tasks by a channel."""
    dispycos.run(main, ticks)


if __name__ == "__main__":
    command()
