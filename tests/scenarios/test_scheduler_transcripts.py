"""Stories of the scheduler as transcripts: what it is told, and below it what it says to whom.

As etcd/raft tells its stories. A changed behaviour is a changed transcript: write them anew with DISPYCOS_BLESS=1, and read the
difference before you keep it. A line that is not indented is told, or is time that passes; `#` begins a remark.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from dispycos.machine import Log
from dispycos.protocol.addresses import CLIENT, NODE, Address
from dispycos.protocol.envelope import Envelope
from dispycos.protocol.messages import (
    ClientInfo,
    Closed,
    Declined,
    Granted,
    Lease,
    NodeInfo,
    Open,
    Opened,
    Queued,
    Register,
    Release,
    ServerDown,
    ServerUp,
    Spot,
)
from dispycos.protocol.status import Status

from ..kit.scheduler import Desk, client_info, enlist, node_info, spot

FOLDER = Path(__file__).parent / "transcripts"
HOLD_S = 3.0
EARLIER = 999  # epoch of the scheduler's life before


class Play:
    """One story: a desk, and the names of those who speak."""

    def __init__(self) -> None:
        self.desk = Desk()
        self.names: dict[int, str] = {}  # by epoch
        self.leases: dict[str, Lease] = {}  # what a client or node has, by its name
        self.tickets: dict[str, int] = {}  # of those who wait

    def told(self, line: str) -> Iterator[str]:
        """What comes of one line."""
        verb, *rest = line.split()
        sent = getattr(self, f"do_{verb}")(*rest)
        self.desk.logs = [log for log in self.desk.logs if isinstance(log, Log) and log.level != "debug"]
        for log in self.desk.logs:
            assert isinstance(log, Log)
            yield f"{log.level}: {log.text}"
        self.desk.logs.clear()
        for envelope in sent:
            self.learn(envelope)
            yield f"to {self.names[envelope.to.epoch]}: {self.show(envelope.message)}"

    def learn(self, envelope: Envelope) -> None:
        """Who hears of a lease has it, and who waits knows its ticket, as real clients and nodes do."""
        name = self.names[envelope.to.epoch]
        match envelope.message:
            case Queued(ticket=ticket):
                self.tickets[name] = ticket
            case Granted(lease=lease) | Open(lease=lease):
                self.leases[name] = lease

    def show(self, value: Any) -> str:
        match value:
            case Lease(number=number):
                return f"lease {number}"
            case Spot(name=name) | NodeInfo(name=name) | ClientInfo(name=name) | Status(name=name):
                return str(name)
            case list():
                return f"[{', '.join(map(self.show, value))}]"
            case msgspec.Struct():
                fields = (
                    f"{field.name}={self.show(getattr(value, field.name))}"
                    for field in msgspec.structs.fields(value)
                    if getattr(value, field.name) != field.default
                )
                return f"{type(value).__name__}({', '.join(fields)})"
        return repr(value)

    # --- verbs

    def address(self, name: str, actor: int) -> Address:
        epoch = next((epoch for epoch, known in self.names.items() if known == name), 50 + len(self.names))
        self.names[epoch] = name
        return Address(epoch, actor)

    def do_client(self, name: str) -> list[Envelope]:
        """It comes for the first time, or to another life of the scheduler, with what it had."""
        lease = self.leases.get(name)
        nodes = [
            self.info(node)
            for node, had in self.leases.items()
            if lease and had.number == lease.number and node != name
        ]
        wants = enlist(lease=lease, ticket=self.tickets.get(name, 0), nodes=nodes)
        return self.desk.tell(self.address(name, CLIENT), replace(wants, client=client_info(name)))

    def do_node(self, name: str, cpus: str = "1") -> list[Envelope]:
        """It is found, or is back, or found by another life of the scheduler."""
        address, lease = self.address(name, NODE), self.leases.get(name)
        self.desk.scheduler.peer_up(address.epoch, self.desk.now)
        owner = next((owner for owner in self.leases if lease and self.names[lease.client] == owner), "")
        info = client_info(owner) if owner else None
        return self.desk.tell(address, Register(self.info(name, int(cpus)), lease, client=info))

    def info(self, name: str, cpus: int = 2) -> NodeInfo:
        epoch = self.address(name, NODE).epoch
        return node_info(name, epoch, cpus, addr=f"10.0.0.{epoch}")

    def do_opened(self, name: str, servers: str) -> list[Envelope]:
        return self.desk.tell(self.address(name, NODE), Opened(self.leases[name], int(servers)))

    def do_declined(self, name: str, *why: str) -> list[Envelope]:
        return self.desk.tell(self.address(name, NODE), Declined(self.leases.pop(name), " ".join(why)))

    def server(self, name: str, number: str) -> Spot:
        address = self.address(name, NODE)
        return spot(name, address.epoch * 100 + int(number), int(number))

    def do_up(self, name: str, number: str) -> list[Envelope]:
        up = ServerUp(self.leases[name], self.server(name, number), 1)
        return self.desk.tell(self.address(name, NODE), up)

    def do_down(self, name: str, number: str, *why: str) -> list[Envelope]:
        down = ServerDown(self.leases[name], self.server(name, number), " ".join(why))
        return self.desk.tell(self.address(name, NODE), down)

    def do_closed(self, name: str) -> list[Envelope]:
        return self.desk.tell(self.address(name, NODE), Closed(self.leases.pop(name)))

    def do_release(self, name: str) -> list[Envelope]:
        return self.desk.tell(self.address(name, CLIENT), Release())

    def do_cut(self, name: str) -> list[Envelope]:
        return self.desk.lose(self.address(name, NODE).epoch)

    def do_dies(self, name: str) -> list[Envelope]:
        self.leases.pop(name, None)
        return self.desk.die(self.address(name, NODE).epoch)

    def do_restart(self) -> list[Envelope]:
        """Another process in the scheduler's place: it knows nothing, and waits for those who know."""
        now = self.desk.now
        self.leases = {name: lease._replace(scheduler_epoch=EARLIER) for name, lease in self.leases.items()}
        self.desk = Desk(count=1000, hold_until=now + HOLD_S)
        self.desk.now = now
        return self.desk.drain()

    def do_wait(self, seconds: str) -> list[Envelope]:
        return self.desk.wait(float(seconds))


def played(text: str) -> str:
    """The transcript again, with what the scheduler says now."""
    play, lines = Play(), []
    for line in text.splitlines():
        if line.startswith("    "):
            continue
        lines.append(line)
        if line and not line.startswith("#"):
            lines += [f"    {said}" for said in play.told(line)]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("story", sorted(FOLDER.glob("*.txt")), ids=lambda path: path.stem)
def test_the_scheduler_says_what_its_transcript_tells(story: Path) -> None:
    told = story.read_text()
    said = played(told)
    if os.environ.get("DISPYCOS_BLESS"):
        story.write_text(said)
    assert said == told


def test_a_transcript_that_tells_something_else_is_found() -> None:
    told = (FOLDER / "queue.txt").read_text()
    assert "Queued(position=1" in told
    changed = told.replace("Queued(position=1", "Queued(position=2")
    assert played(changed) == told
