"""What a client knows of its tasks, servers and nodes, as far as that decides who gets what.

A server is in one phase at a time:

    READY ──── Recall ───▶ RECALLING        it is asked what has not begun; until it answers it gets nothing
      ▲                        │
      └─────── Returned ───────┘
    READY, RECALLING ── it says so, or gives back unasked ──▶ DRAINING      gets nothing any more, ends what it has
    any ── its session began anew ──▶ KILLING      what it was told is not known: its node kills it, and says ServerLost

What a server has is kept in the order given. Each Run has a position, counted by server: its page says with two of
them what had begun when it died.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final

from ..tasks.record import Record
from .learning import Learner
from .shelves import Shelves


class Phase(Enum):
    READY = auto()  # takes tasks, if its node is offered
    RECALLING = auto()  # a Recall is unanswered
    DRAINING = auto()  # ends what it has begun, gives back the rest
    KILLING = auto()  # its node was asked to kill it


FOLLOWING: Final[Mapping[Phase, frozenset[Phase]]] = {
    Phase.READY: frozenset({Phase.RECALLING, Phase.DRAINING, Phase.KILLING}),
    Phase.RECALLING: frozenset({Phase.READY, Phase.DRAINING, Phase.KILLING}),
    Phase.DRAINING: frozenset({Phase.KILLING}),
    Phase.KILLING: frozenset(),
}

Needs = tuple[tuple[str, int], ...]  # so many of a resource of each name, by name

READY: Final = Phase.READY  # reading a member from its Enum costs as much as a dictionary look-up


class Entry(Record, eq=False):
    """One task of a client, from submit to its outcome, with what its dispatcher knows of it."""

    node: str = ""  # named: only on the nodes of this name or address
    server: int = 0  # named: only on the server of this epoch
    needs: Needs = ()  # of its node, while it runs
    units: dict[str, list[int]] | None = None  # what it has of these: numbers, as its node counts them from 0
    pin: Pin | None = None  # of that name and these needs, once it was looked up
    timeout: float = 0.0  # seconds that it may run; 0: any
    priority: int = 0
    turn: int = 0  # by priority, then in the order of submission
    learner: Learner | None = None  # what is known of its function's run times
    at: FleetServer | None = None  # who has it
    position: int = 0  # there
    cost: float = 0.0  # seconds that it was expected to take, when it was given
    aside: bool = False  # a CPU task: it waits for what it submitted, and others run beside it
    placed: bool = False  # that server said that it is there to stay: it has an address, or runs
    terminated: bool = False
    is_overdue: bool = False  # ... since it ran for longer than its timeout
    over: bool = False
    submitted: float = 0.0  # when
    began: float = 0.0  # when its server said so; 0: it did not

    @property
    def resources(self) -> dict[str, list[int]]:
        return self.units or {}


class Queue:
    """Tasks that wait, by turn. Those that ended meanwhile stay until they are first: to look for one among a million costs."""

    __slots__ = ("_shelves", "entries")

    def __init__(self) -> None:
        self.entries: deque[Entry] = deque()  # those of the highest priority
        self._shelves: dict[int, deque[Entry]] = {}  # all, by priority, once there are several

    def put(self, entry: Entry) -> None:
        """Behind all of its priority."""
        self._shelf(entry.priority).append(entry)

    def _shelf(self, priority: int) -> deque[Entry]:
        if self._shelves:
            self.head()  # so that the first is no empty one
        entries, shelves = self.entries, self._shelves
        if not shelves:
            if not entries or entries[0].priority == priority:
                return entries
            shelves[entries[0].priority] = entries
        shelf = shelves.get(priority)
        if shelf is None:
            shelf = shelves[priority] = deque()
            if priority > entries[0].priority:
                self.entries = shelf
        return shelf

    def head(self) -> Entry | None:
        while True:
            entries = self.entries
            while entries:
                if not entries[0].over:
                    return entries[0]
                entries.popleft()
            if not self._shelves:
                return None
            self._next_shelf()

    def _next_shelf(self) -> None:
        """The first is empty."""
        shelves = self._shelves
        del shelves[max(shelves)]
        self.entries = shelves[max(shelves)]
        if len(shelves) == 1:
            shelves.clear()

    def put_back(self, back: Iterable[Entry]) -> None:
        """To where their turn is, which is near the front: they were first once."""
        by_priority: dict[int, list[Entry]] = {}
        for entry in back:
            by_priority.setdefault(entry.priority, []).append(entry)
        for priority, ours in by_priority.items():
            _put_back(self._shelf(priority), sorted(ours, key=_turn_of))

    def count(self) -> int:
        return sum(1 for _ in self)

    def __iter__(self) -> Iterator[Entry]:
        """By turn."""
        shelves = [self._shelves[priority] for priority in sorted(self._shelves, reverse=True)]
        for shelf in shelves or [self.entries]:
            yield from (entry for entry in shelf if not entry.over)

    def take_all(self) -> list[Entry]:
        entries = list(self)
        self.entries = deque()
        self._shelves.clear()
        return entries


def _put_back(entries: deque[Entry], front: list[Entry]) -> None:
    last = front[-1].turn
    before = []
    while entries and entries[0].turn < last:
        before.append(entries.popleft())
    if before:
        front = sorted(front + before, key=_turn_of)
    entries.extendleft(reversed(front))


_turn_of: Callable[[Entry], int] = lambda entry: entry.turn  # noqa: E731


@dataclass(slots=True, eq=False)
class Pin:
    """What tasks may ask for, and those that wait for it: a server, a name that several nodes may have, resources of them."""

    name: str  # empty: any node
    nodes: list[FleetNode] = field(default_factory=list)
    server: FleetServer | None = None
    needs: Needs = ()
    cpu: Queue = field(default_factory=Queue)
    io: Queue = field(default_factory=Queue)


@dataclass(slots=True, eq=False)
class FleetNode:
    """A node of the lease."""

    epoch: int
    title: str  # for people
    names: tuple[str, ...]  # what tasks may call it
    is_open: bool = True  # by what its client and its operator want
    is_silent: bool = False  # a zombie: it keeps what it has, and gets nothing
    closing: str = ""  # why it will have no servers any more, though some are there still
    failure: str = ""  # why its servers cannot be started; empty: they may be
    servers: dict[int, FleetServer] = field(default_factory=dict)
    ended: int = 0  # tasks of servers that are gone ...
    failed: int = 0  # ... and of these, that did not return a value
    pins: list[Pin] = field(default_factory=list)
    free: Shelves[FleetServer] = field(default_factory=Shelves)  # without a CPU task, by io tasks
    resources: dict[str, int] = field(default_factory=dict)  # how many it has of each
    # ... and which of them nobody has, lowest first.
    units: dict[str, list[int]] = field(default_factory=dict)

    @property
    def is_offered(self) -> bool:
        return self.is_open and not self.is_silent

    def has(self, needs: Needs) -> bool:
        """So much is free."""
        return all(len(self.units.get(name, ())) >= count for name, count in needs)

    def lend(self, needs: Needs) -> dict[str, list[int]]:
        lent = {name: self.units[name][:count] for name, count in needs}
        for name, count in needs:
            del self.units[name][:count]
        return lent

    def take_back(self, lent: dict[str, list[int]]) -> None:
        for name, units in lent.items():
            self.units[name] = sorted(self.units[name] + units)


@dataclass(slots=True, eq=False)
class FleetServer:
    """A server of the lease, and what it was given and has not ended."""

    epoch: int
    name: str
    node: FleetNode
    pin: Pin
    srtt: float = 0.0  # seconds, of the session with it
    phase: Phase = READY
    is_open: bool = True  # False: its client has suspended it, or has it closed
    closing: str = ""  # why what waits for this very server is refused, once it is so
    given: int = 0  # position of the last Run
    cpu: deque[Entry] = field(default_factory=deque)  # it runs them one by one, in this order
    io: dict[int, Entry] = field(default_factory=dict)  # what runs beside others, by position
    since: float = 0.0  # when its first CPU task became that
    started_at: float = 0.0  # when it last said that one has started
    work_s: float = 0.0  # seconds that its CPU tasks are expected to take
    calls: int = 0  # bytes of their calls
    asked_of: int = 0  # position of the CPU task behind which all was asked back
    reached_cpu: int = 0  # positions that it has begun by what it said
    reached_io: int = 0
    refused: int = -1  # of the last one that it took and could not begin
    ended: int = 0  # tasks that it was done with ...
    failed: int = 0  # ... and that did not return a value
    # Those who name it, and need resources of its node.
    asking: dict[Needs, Pin] = field(default_factory=dict)

    @property
    def is_offered(self) -> bool:
        return self.phase is READY and self.is_open and self.node.is_offered

    @property
    def pins(self) -> list[Pin]:
        """Of those who name it."""
        return [self.pin, *self.asking.values()]

    @property
    def has_cpu_task(self) -> bool:
        """Or one that stands aside."""
        return bool(self.cpu) or any(entry.aside for entry in self.io.values())

    def turn(self, phase: Phase) -> None:
        assert phase in FOLLOWING[self.phase], f"{self.name}: {phase} may not follow {self.phase}"
        self.phase = phase

    def remove(self, entry: Entry) -> None:
        """It does not have it any more."""
        if entry.io or entry.aside:
            del self.io[entry.position]
            return
        if self.cpu[0] is entry:
            self.cpu.popleft()
        elif self.cpu[-1] is entry:  # as what is given back: to look for each among hundreds costs
            self.cpu.pop()
        else:
            self.cpu.remove(entry)
        if self.cpu:
            self.work_s -= entry.cost
            self.calls -= entry.size
        else:  # so that nothing adds up
            self.work_s = 0.0
            self.calls = 0

    def set_aside(self, entry: Entry, now: float) -> None:
        """This CPU task waits for others, and lets others run."""
        self.remove(entry)
        entry.aside = True
        self.io[entry.position] = entry
        self.since = now

    def take_back(self, entry: Entry, now: float) -> None:
        """It goes on; what was given later has begun too, or waits behind it."""
        self.remove(entry)
        entry.aside = False
        if not self.cpu:
            self.since = now
        at = sum(other.position < entry.position for other in self.cpu)
        self.cpu.insert(at, entry)
        self.work_s += entry.cost
        self.calls += entry.size

    def lag_of(self, seconds: float, now: float) -> float:
        """How late is it heard that its first CPU task has ended, which ran for so long?

        What passes before the start, while code is fetched, is no lag; unless both are heard at once.
        """
        began = self.started_at if self.since < self.started_at < now else self.since
        return now - began - seconds - self.srtt

    def begun_by(self, cpu: int | None, io: int | None) -> set[Entry]:
        """What had begun of what it has, by the marks on its page; None: nobody could read it."""
        aside = {entry for entry in self.io.values() if not entry.io}
        begun = aside | _reached(self.cpu, cpu, self.reached_cpu, self.refused)
        return begun | _reached(
            (entry for entry in self.io.values() if entry.io), io, self.reached_io, self.refused
        )


def _reached(entries: Iterable[Entry], mark: int | None, known: int, refused: int) -> set[Entry]:
    """A mark that fits nothing means that all had begun."""
    has = {entry.position: entry for entry in entries}
    if mark is None or mark < known or (mark not in has and mark not in (known, refused)):
        return set(has.values())
    return {entry for position, entry in has.items() if position <= mark}
