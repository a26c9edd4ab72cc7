"""A simulated network in virtual time: real routers, real bytes, and links that lose, delay, break and lie."""

import heapq
import random
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple

import msgspec

from dispycos.protocol.addresses import Address
from dispycos.protocol.codec import Codec
from dispycos.protocol.envelope import BEHIND, CONTROL, MESSAGES, About, Buffer, Envelope, Payload, buffers_of
from dispycos.session.links import CloseLink, LinkReady
from dispycos.session.router import Router
from dispycos.session.session import PeerReset


class Note(msgspec.Struct, array_like=True, tag=1, frozen=True):
    """The nth message from one actor to another; `size` of its payload, 0 for none."""

    way: ClassVar[int] = MESSAGES
    n: int
    size: int


class Order(Note, frozen=True, tag=3):
    """The nth control word."""

    way: ClassVar[int] = CONTROL


class Verdict(Note, frozen=True, tag=4):
    """A control word about an actor that is to come behind its `said` notes to that runtime, by the actor that they were for."""

    way: ClassVar[int] = BEHIND
    actor: int
    said: list[tuple[int, int]]


class Question(msgspec.Struct, array_like=True, tag=2, frozen=True):
    way: ClassVar[int] = MESSAGES
    text: str


CODEC: Codec[Any] = Codec(Note | Question | Order | Verdict)
NOTICE_MAX = 4.0
BANDWIDTH = 1e7


class Way(NamedTuple):
    """What keeps an order of its own: the words of one kind from one actor to another."""

    sender: Address
    to: Address
    kind: type[Note]


def way_of(envelope: Envelope) -> Way:
    return Way(envelope.sender, envelope.to, type(envelope.message))


def about(name: str) -> About:
    return About((1, 1), "0.1", name)


def payload_for(n: int, size: int) -> Payload:
    """A payload that is different for each message, so that a mix-up shows."""
    if not size:
        return None
    if size % 2:
        return [n.to_bytes(8, "big") * (size // 16 + 1), n.to_bytes(8, "little") * (size // 16)]
    return n.to_bytes(8, "big") * (size // 8)


class World:
    """The clock, the dice, and all that is going to happen."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.now = 0.0
        self.steps = 0
        self.wires: list[Wire] = []
        self.hosts: dict[str, Host] = {}
        self.sent: dict[Way, list[int]] = {}
        self.got: dict[Way, list[int]] = {}
        self.handed: dict[Way, set[int]] = {}
        self.log: list[Way] = []  # of all that was got
        self.closed: dict[Way, int] = {}  # a verdict has come: all notes before this one were there
        self.faults: list[str] = []
        self.dead: set[int] = set()
        self.down: set[frozenset[str]] = set()
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._order = 0

    def is_up(self, one: "Host", other: "Host") -> bool:
        """True while two hosts can connect at all."""
        return frozenset((one.name, other.name)) not in self.down

    def after(self, delay: float, action: Callable[[], None]) -> None:
        self._order += 1
        heapq.heappush(self._agenda, (self.now + delay, self._order, action))

    def run(self, until: float, is_done: Callable[[], bool] = lambda: False) -> None:
        """Lets time pass; every 64 steps asks whether that is enough."""
        agenda = self._agenda
        while agenda and agenda[0][0] <= until:
            self.steps += 1
            if self.steps % 64 == 0 and is_done():
                return
            self.now, _, action = heapq.heappop(agenda)
            action()
        self.now = until


class Wire:
    """One connection between two hosts; each direction keeps its order while it works."""

    def __init__(self, world: World, dialler: "Host", listener: "Host", delay: float) -> None:
        self.world = world
        self.delay = delay
        self.is_cut = False
        self.is_deaf = False
        self._ends = {dialler: dialler.attach(self), listener: listener.attach(self)}
        self._incarnations = {dialler: dialler.life, listener: listener.life}
        self._last = {dialler: 0.0, listener: 0.0}
        self.dialler, self.listener = dialler, listener

    def number(self, host: "Host") -> int:
        return self._ends[host]

    def other(self, host: "Host") -> "Host":
        return self.listener if host is self.dialler else self.dialler

    def is_open_at(self, host: "Host") -> bool:
        return host in self._ends and host.life == self._incarnations[host]

    def send(self, source: "Host", frames: Sequence[Buffer]) -> None:
        world = self.world
        copies = [bytes(frame) for frame in frames]
        size = sum(map(len, copies))
        target = self.other(source)
        arrival = world.now + self.delay * (0.5 + world.dice.random()) + size / BANDWIDTH
        self._last[target] = arrival = max(self._last[target], arrival)
        world.after(arrival - world.now, lambda: self._arrive(target, copies))

    def _arrive(self, target: "Host", frames: list[bytes]) -> None:
        if self.is_deaf or (self.is_cut and self.world.dice.random() < 0.5):
            return
        if self.is_cut:
            self._arrive_late(target, frames)
        elif self.is_open_at(target):
            target.when_awake(lambda: target.arrived(self, frames))

    def _arrive_late(self, target: "Host", frames: list[bytes]) -> None:
        """The connection is broken, but its other end was not told yet and still reads."""

        def arrive() -> None:
            if self.is_open_at(target):
                target.when_awake(lambda: target.arrived(self, frames))

        arrival = self.world.now + self.world.dice.random()
        self._last[target] = arrival = max(self._last[target], arrival)
        self.world.after(arrival - self.world.now, arrive)

    def cut(self, slow: bool) -> None:
        """Breaks; each end hears of it in its own time."""
        if self.is_cut:
            return
        self.is_cut = True
        self.is_deaf = self.is_deaf or self.world.dice.random() < 0.5
        for host in list(self._ends):
            self.world.after(self.world.dice.random() * (NOTICE_MAX if slow else 0.3), self._told(host))

    def _told(self, host: "Host") -> Callable[[], None]:
        return lambda: host.when_awake(lambda: self.close(host))

    def close(self, host: "Host") -> None:
        """One end lets go, and the other will notice."""
        if not self.is_open_at(host):
            self._ends.pop(host, None)
            return
        number = self._ends.pop(host)
        host.detach(self, number)
        self.cut(slow=False)
        if host.is_alive and host.wants(self.other(host)):
            host.dial_soon(self.other(host))


class Host:
    """A process: a router, and the small body that serves it."""

    def __init__(self, world: World, name: str, role: str) -> None:
        self.world = world
        self.name = name
        self.role = role
        self.life = 0
        self.is_alive = False
        self.paused_until = 0.0
        self.uplink_to: Host | None = None
        self.lanes: dict[str, bool] = {}
        self.links: dict[int, Wire] = {}
        self.ready: set[int] = set()
        self.graves: set[int] = set()
        self._link_count = 0
        self._wake_at: float | None = None
        self._waiting: list[Callable[[], None]] = []
        world.hosts[name] = self

    def start(self) -> None:
        """A new process under the old name."""
        self.life += 1
        self.is_alive = True
        self.links = {}
        self.ready = set()
        self.graves = set(self.world.dead)
        self._wake_at = None
        self._waiting = []
        self.paused_until = 0.0
        epoch = self.world.dice.getrandbits(63) + 1
        self.router = Router(CODEC, epoch, about(self.name), self.role)
        if self.uplink_to is not None:
            self.dial_soon(self.uplink_to)
        for name, wanted in self.lanes.items():
            if wanted:
                self.dial_soon(self.world.hosts[name])

    def kill(self) -> None:
        """SIGKILL: the layer above tells all others, sooner or later."""
        epoch = self.router.epoch
        self.world.dead.add(epoch)
        self.is_alive = False
        self.life += 1
        for wire in list(self.links.values()):
            wire.cut(slow=False)
        for host in self.world.hosts.values():
            if host is not self and host.is_alive:
                life = host.life
                self.world.after(0.5 + 2 * self.world.dice.random(), host._forget_in(life, epoch))

    def _forget_in(self, life: int, epoch: int) -> Callable[[], None]:
        return lambda: self.when_awake(lambda: self._bury(epoch), life)

    def _bury(self, epoch: int) -> None:
        self.graves.add(epoch)
        self.forget(epoch)

    def forget(self, epoch: int) -> None:
        self.hand_back(self.router.forget(epoch, self.world.now))
        self.settle()

    # Links

    def attach(self, wire: Wire) -> int:
        self._link_count += 1
        self.links[self._link_count] = wire
        return self._link_count

    def detach(self, wire: Wire, number: int) -> None:
        self.links.pop(number, None)
        self.ready.discard(number)
        self.router.link_down(number, self.world.now)
        self.settle()

    def neighbours(self) -> set[int]:
        """The runtimes with which a direct link is ready."""
        return set(self.router.neighbours())

    def wants(self, other: "Host") -> bool:
        return other is self.uplink_to or self.lanes.get(other.name, False)

    def dial_soon(self, other: "Host") -> None:
        life = self.life
        delay = 0.02 + self.world.dice.random() * 0.4
        self.world.after(delay, lambda: self.when_awake(lambda: self.dial(other), life))

    def dial(self, other: "Host") -> None:
        if not self.wants(other) or any(wire.other(self) is other for wire in self.links.values()):
            return
        if not other.is_alive or not self.world.is_up(self, other):
            self.dial_soon(other)
            return
        wire = Wire(self.world, self, other, 0.002 + self.world.dice.random() * 0.02)
        self.world.wires.append(wire)
        now = self.world.now
        uplink = other is self.uplink_to
        self.router.link_up(wire.number(self), now, dialled=True, uplink=uplink, role=other.role)
        other.router.link_up(wire.number(other), now, dialled=False, role=self.role)
        self.settle()
        other.when_awake(other.settle)

    def unwant(self, other: "Host") -> None:
        """The shortcut is not used any more."""
        self.lanes[other.name] = False
        for wire in list(self.links.values()):
            if wire.other(self) is other and wire.dialler is self:
                wire.close(self)

    # The body

    def when_awake(self, action: Callable[[], None], life: int | None = None) -> None:
        life = self.life if life is None else life
        if not self.is_alive or life != self.life:
            return
        if self.paused_until <= self.world.now:
            action()
            return
        self._waiting.append(action)

    def pause(self, duration: float) -> None:
        self.paused_until = max(self.paused_until, self.world.now + duration)
        life = self.life
        self.world.after(duration, lambda: self._resume(life))

    def _resume(self, life: int) -> None:
        if life != self.life or self.paused_until > self.world.now:
            return
        waiting, self._waiting = self._waiting, []
        for action in waiting:
            self.when_awake(action, life)
        self.tick(life)

    def arrived(self, wire: Wire, frames: list[bytes]) -> None:
        if wire.is_open_at(self):
            self.router.receive(wire.number(self), frames, self.world.now)
            self.settle()

    def send(self, to: Address, actor: int, size: int, kind: type[Note] = Note) -> None:
        """A message of one of this host's actors, noted to be looked for; none to those who are known to be dead."""
        if to.epoch in self.graves:
            return
        sender = Address(self.router.epoch, actor)
        log = self.world.sent.setdefault(Way(sender, to, kind), [])
        n = len(log)
        log.append(n)
        word = Verdict(n, size, actor, self._said(sender, to.epoch)) if kind is Verdict else kind(n, size)
        self.router.send(Envelope(to, sender, word, 0, payload_for(n, size)), self.world.now)

    def _said(self, sender: Address, epoch: int) -> list[tuple[int, int]]:
        sent = self.world.sent.items()
        return [
            (way.to.actor, len(log))
            for way, log in sent
            if way.sender == sender and way.to.epoch == epoch and way.kind is Note
        ]

    def settle(self) -> None:
        """One turn: everything that the router wants done."""
        world, router = self.world, self.router
        for envelope in router.take_deliveries():
            self._deliver(envelope)
        router.flush(world.now)
        while outgoing := router.take_outgoing():
            for link, frames in outgoing:
                if link in self.links:
                    self.links[link].send(self, frames)
        for event in router.take_events():
            self._on_event(event)
        self._arm()

    def _deliver(self, envelope: Envelope) -> None:
        note = envelope.message
        way = way_of(envelope)
        self.world.log.append(way)
        self.world.got.setdefault(way, []).append(note.n)
        if note.n < self.world.closed.get(way, 0):
            self.world.faults.append(f"{note} came after the verdict on {way.sender}")
        if isinstance(note, Verdict):
            for actor, count in note.said:
                notes = Way(envelope.sender, Address(envelope.to.epoch, actor), Note)
                self.world.closed[notes] = max(count, self.world.closed.get(notes, 0))
        expected = [bytes(buffer) for buffer in buffers_of(payload_for(note.n, note.size))]
        if [bytes(buffer) for buffer in buffers_of(envelope.payload)] != expected:
            self.world.faults.append(f"payload of {note} is not what was sent")

    def hand_back(self, envelopes: list[Envelope]) -> None:
        for envelope in envelopes:
            note = envelope.message
            self.world.handed.setdefault(way_of(envelope), set()).add(note.n)
            if buffers_of(envelope.payload) != buffers_of(payload_for(note.n, note.size)):
                self.world.faults.append(f"payload of {note} was handed back changed")

    def _on_event(self, event: object) -> None:
        if isinstance(event, LinkReady):
            self.ready.add(event.link)
        elif isinstance(event, PeerReset):
            self.hand_back(event.unconfirmed)
        elif isinstance(event, CloseLink) and event.link in self.links:
            self.links[event.link].close(self)

    def _arm(self) -> None:
        due = self.router.deadline()
        if due is not None and (self._wake_at is None or due < self._wake_at):
            self._wake_at = due
            life = self.life
            self.world.after(max(0.0, due - self.world.now), lambda: self.when_awake(lambda: self.tick(life)))

    def tick(self, life: int) -> None:
        if life == self.life and self.is_alive:
            self._wake_at = None
            self.router.wake(self.world.now)
            self.settle()
