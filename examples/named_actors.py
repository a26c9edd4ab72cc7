"""Actors that find each other by name: `python named_actors.py`.

An account is an actor: it has a state that nobody else touches, and answers one message after the other, so no lock is needed.
Accounts register a name; customers know only that name and ask whoever has it. Runs alone; where `dispycos node` runs on this
or other machines, those are used.
"""

import asyncio
import random

import click

import dispycos

ACCOUNTS = ["alice", "bob", "carol"]
START = 100


async def account(owner: str, balance: int, *, task: dispycos.Task) -> None:
    """Remote actor: until it is terminated."""
    task.register(f"account-{owner}")
    while True:
        kind, amount = await task.receive()
        if kind == "withdraw" and amount > balance:
            task.reply(None)  # refused
            continue
        balance += {"deposit": amount, "withdraw": -amount}.get(kind, 0)
        task.reply(balance)


async def customer(transfers: int, *, task: dispycos.Task) -> tuple[int, int]:
    """Remote task: moves money between accounts that it finds by name."""
    done = refused = 0
    for _ in range(transfers):
        payer, payee = random.sample(ACCOUNTS, 2)
        amount = random.randint(1, 60)
        source = await dispycos.Task.locate(f"account-{payer}")
        target = await dispycos.Task.locate(f"account-{payee}")
        if await source.ask(("withdraw", amount)) is None:
            refused += 1
        else:
            await target.ask(("deposit", amount))
            done += 1
    return done, refused


async def main(customers: int, transfers: int) -> None:
    async with dispycos.Client([account, customer]) as client:
        accounts = {owner: await client.io_rtask(account, owner, START) for owner in ACCOUNTS}
        results = await asyncio.gather(*(client.io_submit(customer, transfers) for _ in range(customers)))
        done, refused = (sum(each) for each in zip(*results, strict=True))
        print(f"{done} transfers were made, {refused} refused")
        balances = {owner: await actor.ask(("tell", 0)) for owner, actor in accounts.items()}
        print(", ".join(f"{owner} has {balance}" for owner, balance in balances.items()))
        print(f"together {sum(balances.values())}, as at the start: {START * len(ACCOUNTS)}")
        for actor in accounts.values():
            actor.terminate()


@click.command()
@click.option("--customers", default=4, show_default=True, help="How many at the same time.")
@click.option("--transfers", default=50, show_default=True, help="Of each customer.")
def command(customers: int, transfers: int) -> None:
    """Bank accounts as actors with names."""
    dispycos.run(main, customers, transfers)


if __name__ == "__main__":
    command()
