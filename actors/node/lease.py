"""What a node knows of the lease that it granted, and the words for what it wants done about it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final

import msgspec

from dispycos.machine import Outbox, Send
from dispycos.protocol.addresses import SERVER, Address
from dispycos.protocol.envelope import Envelope, Payload
from dispycos.protocol.messages import ClientInfo, Lease, Message, ServerDown, Spot

from .terminations import Terminations

LINES_KEPT: Final = 20
RESTARTS_MAX: Final = 5  # in a row, of what was never ready: to start it again would be pointless


# --- what the body carries out, beside KillServer and EndStep (processes/words.py) --------------------------


class StartZygote(msgspec.Struct, frozen=True):
    """Fork the process that starts this lease's servers; answered by zygote_ready or zygote_failed."""

    lease: Lease


class StartServer(msgspec.Struct, frozen=True):
    """Have the zygote fork a server; answered by ServerReady, server_failed_to_start or server_exited."""

    number: int


class CloseZygote(msgspec.Struct, frozen=True):
    """All servers are gone: end the zygote. Its end is not reported."""

    lease: Lease


class AwaitClient(msgspec.Struct, frozen=True):
    """All servers are gone: call client_has_all when it has confirmed all that we said to it, or does not for too long."""

    lease: Lease


class End(msgspec.Struct, frozen=True):
    """This node has nothing left to do, and takes nothing new: its process may go."""


class UseScheduler(msgspec.Struct, frozen=True):
    """The lease's scheduler is another process now: what has no shorter way goes by it."""

    epoch: int


class ForgetPeer(msgspec.Struct, frozen=True):
    """This runtime will never speak again: its session can go."""

    epoch: int


# --- what a lease is here -----------------------------------------------------------------------------------


@dataclass(slots=True, eq=False)
class Place:
    """The k-th server of this lease: a name and a port, and one process after the other."""

    number: int
    spot: Spot  # its epoch is 0 unless a process is ready
    alive: bool = False  # a process was asked for and has not exited
    pid: int = 0  # as the last one that was ready said
    down: ServerDown | None = None  # what was said when the last one died, if no other is started
    in_vain: int = 0  # starts since one was ready
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=LINES_KEPT))  # its last output

    @property
    def is_ready(self) -> bool:
        return self.spot.epoch != 0

    @property
    def address(self) -> Address:
        return Address(self.spot.epoch, SERVER)


@dataclass(slots=True)
class Closing:
    reason: str
    kill_at: float


@dataclass(slots=True, eq=False)
class NodeLease:
    """A lease granted by this node, from Open to Closed, with all that belongs to it."""

    lease: Lease
    client: ClientInfo
    since: float
    places: list[Place]
    scheduler: Address
    home: Address  # of the client
    pulse_interval: float
    pulse_at: float
    zygote_ready: bool = False
    zygotes_in_vain: int = 0  # since a server was ready
    retry_at: float | None = None  # places for which no process came up are tried again
    told_of_failures: bool = False
    present: set[int] = field(default_factory=set)  # who of client and scheduler is linked, or known to live
    alone_until: float | None = None  # none of them is there: then it ends
    has_printed: bool = False  # its client is to have that before the lease ends
    awaits_client: bool = False
    scheduler_gone: bool = False  # its process has ended; the next one takes the lease over
    client_gone: bool = False
    terminations: Terminations = field(default_factory=Terminations)
    draining: bool = False  # its servers end when their tasks have, and are the last
    closing: Closing | None = None

    def deadline(self) -> float:
        """When something of the lease itself is due; asked for in every turn, and mostly it is the pulse."""
        due = self.pulse_at
        if (look := self.terminations.deadline()) is not None:
            due = min(due, look)
        if self.retry_at is not None:
            due = min(due, self.retry_at)
        if self.alone_until is not None:
            due = min(due, self.alone_until)
        if self.closing is not None:
            due = min(due, self.closing.kill_at)
        return due

    def came(self, epoch: int) -> None:
        """Its client or its scheduler is there."""
        if epoch in (self.lease.client, self.scheduler.epoch):
            self.present.add(epoch)
            self.alone_until = None

    def went(self, epoch: int, now: float, grace: float) -> None:
        """There is no link to it any more, and it is not known to live."""
        if epoch in self.present:
            self.present.discard(epoch)
            if not self.present:
                self.alone_until = now + grace

    def place_of(self, epoch: int) -> Place | None:
        """Where this server is."""
        for place in self.places:
            if place.is_ready and place.spot.epoch == epoch:
                return place
        return None

    @property
    def is_ending(self) -> bool:
        """No server is started any more."""
        return self.draining or self.closing is not None

    @property
    def is_inhabited(self) -> bool:
        return any(place.alive for place in self.places)

    def ready(self) -> list[Place]:
        """Those whose servers take tasks."""
        return [place for place in self.places if place.is_ready]

    @property
    def holder(self) -> str:
        return f"{self.client.name} ({self.client.host}, pid {self.client.pid})"

    def place(self, number: int) -> Place | None:
        return self.places[number - 1] if 1 <= number <= len(self.places) else None

    def check(self) -> None:
        """Asserts what must hold between two events."""
        for place in self.places:
            assert place.alive or not place.is_ready, f"{place.spot.name} is dead and takes tasks"
            assert not (place.alive and place.down), f"{place.spot.name} lives and was said to be down"


# --- what leaves the node -----------------------------------------------------------------------------------


class NodeOutbox(Outbox):
    """With words for the two that a lease is of."""

    def to_scheduler(self, granted: NodeLease, message: Message) -> None:
        if not granted.scheduler_gone:
            self.send(granted.scheduler, message)

    def to_client(self, granted: NodeLease, message: Message, payload: Payload = None) -> None:
        if not granted.client_gone:
            self.effects.append(Send(Envelope(granted.home, self.sender, message, 0, payload)))
