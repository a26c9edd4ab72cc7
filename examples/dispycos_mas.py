"""Agents that find each other and talk: `python dispycos_mas.py`.

One agent runs at each server. It takes a name, hears of the others' servers as they come (`peer_status`), finds the agent there
by its name and offers it a number. Who gets a higher number than its own takes it and passes it on, so all agree in the end.
Written as generator functions. Runs alone; where `dispycos node` runs on this or other machines, those are used.
"""

import random
from collections.abc import Generator
from typing import Any

import click

import dispycos
from dispycos import PeerStatus


def agent(updates: dispycos.Task, *, task: dispycos.Task) -> Generator[Any, Any, None]:
    """Remote task: agents of all servers have the same name, and are told apart by their location."""
    task.register("agent")
    dispycos.peer_status(task)
    best = random.Random(str(task.location)).randrange(1000)
    updates.send((task.location, best))
    others: dict[dispycos.Location, dispycos.Task] = {}
    while True:
        word = yield task.receive()
        if isinstance(word, PeerStatus):
            peer = word.location
            if peer is None or peer == task.location:  # the client, or this server
                continue
            if word.status == PeerStatus.Offline:
                others.pop(peer, None)
                continue
            other = yield dispycos.Task.locate("agent", peer, timeout=2)
            if other is not None:
                others[peer] = other
                other.send(best)
        elif word > best:
            best = word
            updates.send((task.location, best))
            for other in others.values():
                other.send(best)


def show(*, task: dispycos.Task) -> Generator[Any, Any, None]:
    """Local task: prints what the agents tell."""
    while True:
        location, best = yield task.receive()
        print(f"the agent at {location} says {best}")


def main(seconds: float, *, task: dispycos.Task) -> Generator[Any, Any, None]:
    client = dispycos.Client([agent])
    yield client.schedule()
    updates = dispycos.Task(show)
    servers = yield client.servers()
    for location in servers:
        yield client.rtask_at(location, agent, updates)
    yield task.sleep(seconds)
    yield client.close(terminate=True)
    updates.terminate()


@click.command()
@click.option("--seconds", default=2.0, show_default=True, help="How long the agents talk.")
def command(seconds: float) -> None:
    """Run agents that discover each other."""
    dispycos.run(main, seconds)


if __name__ == "__main__":
    command()
