"""What a node knows of the lease that it granted, and the words for what it wants done about it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final

import msgspec

from dispycos import machine
from dispycos.machine import Send
from dispycos.protocol.addresses import Address
from dispycos.protocol.envelope import Envelope, Payload
from dispycos.protocol.messages import ClientInfo, Lease, Message, ServerDown, Spot

from .terminations import Terminations

LINES_KEPT: Final = 20
RESTARTS_MAX: Final = 5  # servers that were never ready, of one place, within ...
RESTARTS_PERIOD: Final = 10.0  # ... so many seconds
RESTARTS_IN_ROW: Final = 20  # those that take longer to die must end, too


# --- what the body carries out ------------------------------------------------------------------------------


class StartZygote(msgspec.Struct, frozen=True):
    """Fork the process that starts this lease's servers; answered by zygote_ready or zygote_failed."""

    lease: Lease


class StartServer(msgspec.Struct, frozen=True):
    """Have the zygote fork a server; answered by ServerReady, server_failed_to_start or server_exited."""

    number: int
    name: str
    port: int
    lease: Lease
    client: int  # epoch


class KillServer(msgspec.Struct, frozen=True):
    """SIGKILL to the server's process group; its exit is reported as any other. Void if it has exited."""

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
class Server:
    """A process that takes tasks of the client's."""

    number: int
    pid: int
    spot: Spot
    address: Address


@dataclass(slots=True)
class Restarts:
    """Starts of which nothing came: beyond a rate, or too many in a row, starting again is pointless."""

    recent: deque[float] = field(default_factory=lambda: deque(maxlen=RESTARTS_MAX + 1))
    in_row: int = 0

    def too_many(self, now: float) -> bool:
        """Counts one more."""
        self.recent.append(now)
        self.in_row += 1
        rapid = len(self.recent) > RESTARTS_MAX and now < self.recent[0] + RESTARTS_PERIOD
        return rapid or self.in_row > RESTARTS_IN_ROW


@dataclass(slots=True, eq=False)
class Place:
    """The k-th server of this lease: a name and a port, and one process after the other."""

    number: int
    name: str
    port: int
    alive: bool = False  # a process was asked for and has not exited
    server: Server | None = None  # it said ServerReady
    down: ServerDown | None = None  # what was said when the last one died, if no other is started
    restarts: Restarts = field(default_factory=Restarts)  # since one was ready
    retrying: bool = False  # to be started again at its time in NodeLease.retries
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=LINES_KEPT))  # its last output

    @property
    def is_starting(self) -> bool:
        has_failed = self.down is not None and not self.down.restarting
        return self.server is None and (self.alive or self.retrying or not has_failed)


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
    idle_since: float  # no task runs, or was begun, since
    max_file_size: int = 0  # bytes, by its scheduler; 0: no limit
    zygote_ready: bool = False
    zygote_restarts: Restarts = field(default_factory=Restarts)
    retries: deque[tuple[float, Place]] = field(default_factory=deque)  # by time
    told_of_failures: bool = False
    present: set[int] = field(default_factory=set)  # who of client and scheduler is linked, or known to live
    alone_until: float | None = None  # none of them is there: then it ends
    has_printed: bool = False  # its client is to have that before the lease ends
    awaits_client: bool = False
    scheduler_gone: bool = False  # its process has ended; the next one takes the lease over
    client_gone: bool = False
    terminations: Terminations = field(default_factory=Terminations)
    activity: object = None  # what its pages said of the tasks that were begun
    told_idle_s: float = 0.0  # in the last pulse
    draining: str = ""  # why its servers end when their tasks have, and are the last
    closing: Closing | None = None
    dismissed: bool = False  # its client is not to have this node again

    def deadline(self) -> float:
        """When something of the lease itself is due; asked for in every turn, and mostly it is the pulse."""
        due = self.pulse_at
        if (look := self.terminations.deadline()) is not None:
            due = min(due, look)
        if self.retries:
            due = min(due, self.retries[0][0])
        if self.alone_until is not None:
            due = min(due, self.alone_until)
        if self.closing is not None:
            due = min(due, self.closing.kill_at)
        return due

    def idle_s(self, now: float) -> float:
        """For how long nothing has run; 0 before anybody has looked."""
        return now - self.idle_since if self.activity is not None else 0.0

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
            if place.server is not None and place.server.address.epoch == epoch:
                return place
        return None

    @property
    def is_ending(self) -> bool:
        """No server is started any more."""
        return bool(self.draining) or self.closing is not None

    @property
    def is_inhabited(self) -> bool:
        """A server lives, or is to."""
        return any(place.alive or place.retrying for place in self.places)

    @property
    def is_starting(self) -> bool:
        """A server is to come that could run something."""
        return any(place.is_starting for place in self.places)

    def servers(self) -> list[Server]:
        return [place.server for place in self.places if place.server is not None]

    @property
    def holder(self) -> str:
        return f"{self.client.name} ({self.client.host}, pid {self.client.pid})"

    def living(self, number: int) -> Place | None:
        """The place of this number, if a process was asked for and has not exited."""
        if not 1 <= number <= len(self.places):
            return None
        place = self.places[number - 1]
        return place if place.alive else None

    def check(self) -> None:
        """Asserts what must hold between two events."""
        self.terminations.check()
        for place in self.places:
            assert not (place.alive and place.retrying), f"{place.name} lives and is to be started"
            assert place.alive or place.server is None, f"{place.name} is dead and has a server"


# --- what leaves the node -----------------------------------------------------------------------------------


class Outbox(machine.Outbox):
    """With words for the two that a lease is of."""

    def to_scheduler(self, granted: NodeLease, message: Message) -> None:
        if not granted.scheduler_gone:
            self.send(granted.scheduler, message)

    def to_client(self, granted: NodeLease, message: Message, payload: Payload = None) -> None:
        if not granted.client_gone:
            self.effects.append(Send(Envelope(granted.home, self.sender, message, 0, payload)))
