"""What a node knows of the lease that it granted, and the words for what it wants done about it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final

import msgspec

from dispycos.machine import Outbox, Send
from dispycos.protocol.addresses import SERVER, Address
from dispycos.protocol.envelope import Buffer, Envelope, Payload
from dispycos.protocol.messages import ClientInfo, Lease, Message, ServerDown, Spot

from .summaries import LeaseTally
from .terminations import Terminations

LINES_KEPT: Final = 20
RESTARTS_MAX: Final = 5  # in a row, of what was never ready: to start it again would be pointless


# --- what the body carries out, beside KillServer and EndStep (processes/words.py) --------------------------


class StartZygote(msgspec.Struct, frozen=True):
    """Fork the process that starts this lease's servers; answered by zygote_born or zygote_failed."""

    lease: Lease


class PrepareZygote(msgspec.Struct, frozen=True):
    """See to files, code and node_setup there; answered by zygote_ready or setup_failed."""

    setup: list[Buffer]


class AnswerCode(msgspec.Struct, frozen=True):
    """Code that the zygote has asked for, or why it cannot be had."""

    error: str
    answer: list[Buffer]


class StartServer(msgspec.Struct, frozen=True):
    """Have the zygote fork a server; answered by ServerReady, server_failed_to_start or server_exited."""

    number: int


class CloseZygote(msgspec.Struct, frozen=True):
    """All servers are gone: end the zygote. Its end is not reported."""

    lease: Lease
    keep: bool = False  # the folder


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
    failed: str = ""  # how its server_setup did: it is not started again
    closed: bool = False  # its client does not want a server here
    has_told: bool = False  # what it has done, as it ends

    @property
    def is_ready(self) -> bool:
        return self.spot.epoch != 0

    @property
    def address(self) -> Address:
        return Address(self.spot.epoch, SERVER)

    @property
    def why_absent(self) -> str:
        """For people, of one that is not ready."""
        if self.closed:
            return "its client has closed it"
        if self.failed:
            return f"its server_setup has failed: {self.failed}"
        if self.down is not None:
            return f"{self.down.death}{'; it is started again' if self.down.restarting else ''}"
        return "it starts" if self.alive else "its node is being set up for its client"

    @property
    def is_starting(self) -> bool:
        has_failed = self.down is not None and not self.down.restarting
        return not self.is_ready and (self.alive or not has_failed)


@dataclass(slots=True)
class Closing:
    reason: str
    look_at: float  # when steps that still run have had their time
    kill_at: float  # when all that is left is killed
    failed: bool = False  # it could not be set up


@dataclass(slots=True)
class Leaving:
    """A server that ends by its client's wish."""

    again: bool  # then the next one is started in its place
    since: float
    look_at: float  # when a step that still runs has had its time


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
    generation: int = 0  # of its zygote
    asks_setup: bool = False  # its client has not said yet what belongs there
    zygote_born: bool = False
    keeps_files: bool = False  # when it has ended
    setup: list[Buffer] | None = None  # for a zygote that is not born yet
    zygote_ready: bool = False  # all is prepared there
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
    leaving: dict[int, Leaving] = field(default_factory=dict)  # by number
    renewing: bool = False  # when its servers are gone there is to be another zygote, and all servers anew
    activity: object = None  # what its pages said of the tasks that were begun
    told_idle_s: float = 0.0  # in the last pulse
    draining: str = ""  # why its servers end when their tasks have, and are the last
    closing: Closing | None = None
    dismissed: bool = False  # its client is not to have this node again
    tally: LeaseTally = field(default_factory=LeaseTally)
    changed_at: float = 0.0  # its end began, or the last server of those that have ended did

    def deadline(self) -> float:
        """When something of the lease itself is due; asked for in every turn, and mostly it is the pulse."""
        due = self.pulse_at
        if (look := self.terminations.deadline()) is not None:
            due = min(due, look)
        if self.leaving:
            due = min(due, *(leaving.look_at for leaving in self.leaving.values()))
        if self.retry_at is not None:
            due = min(due, self.retry_at)
        if self.alone_until is not None:
            due = min(due, self.alone_until)
        if self.closing is not None:
            due = min(due, self.closing.look_at, self.closing.kill_at)
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
            if place.is_ready and place.spot.epoch == epoch:
                return place
        return None

    @property
    def is_ending(self) -> bool:
        """No server is started any more."""
        return bool(self.draining) or self.closing is not None

    @property
    def is_inhabited(self) -> bool:
        return any(place.alive for place in self.places)

    @property
    def is_starting(self) -> bool:
        """A server is to come that could run something."""
        return any(place.is_starting for place in self.places)

    def ready(self) -> list[Place]:
        """Those whose servers take tasks."""
        return [place for place in self.places if place.is_ready]

    def absent(self) -> list[tuple[int, str]]:
        """The ports of the others, and why."""
        return [(place.spot.port, place.why_absent) for place in self.places if not place.is_ready]

    @property
    def holder(self) -> str:
        return f"{self.client.name} ({self.client.host}, pid {self.client.pid})"

    def place(self, number: int) -> Place | None:
        return self.places[number - 1] if 1 <= number <= len(self.places) else None

    def check(self) -> None:
        """Asserts what must hold between two events."""
        for place in self.places:
            assert place.alive or not place.is_ready, f"{place.spot.name} is dead and takes tasks"
            assert place.alive or place.number not in self.leaving, f"{place.spot.name} is gone and leaves"
            assert not (place.alive and place.closed), f"{place.spot.name} lives and is closed"
            assert not (place.alive and place.down), f"{place.spot.name} lives and was said to be down"


# --- what leaves the node -----------------------------------------------------------------------------------


class NodeOutbox(Outbox):
    """With words for the two that a lease is of."""

    def to_scheduler(self, granted: NodeLease, message: Message) -> None:
        if not granted.scheduler_gone:
            self.send(granted.scheduler, message)

    def to_client(
        self, granted: NodeLease, message: Message, payload: Payload = None, correlation: int = 0
    ) -> None:
        if not granted.client_gone:
            self.effects.append(Send(Envelope(granted.home, self.sender, message, correlation, payload)))
