"""What a client counts of its tasks as they end: totals, the last of them, how long each function runs and waits, and which
failures are alike.

It is kept whether or not anybody looks, so it must cost little: a tuple and two list items for each task. All else is done when
somebody asks.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from math import log2
from typing import Final, NamedTuple

from dispycos.protocol.status import OutcomeKind
from dispycos.protocol.watching import EndedTask, FailureGroup, FunctionTotals

RING: Final = 10_000  # tasks that have ended, and are kept
FUNCTIONS_MAX: Final = 1_000
GROUPS_MAX: Final = 200
SERVERS_MAX: Final = 8  # of a group
TRACE_MAX: Final = 4_000  # characters
TEXT_MAX: Final = 500
# Four buckets for each doubling, from a microsecond on.
BUCKETS: Final = 160
PER_OCTAVE: Final = 4
SHORTEST_S: Final = 2.0**-20
OTHERS: Final = "(other functions)"
KINDS: Final = len(OutcomeKind) + 1  # they count from 1


class End(NamedTuple):
    """How a task ended, and what it took."""

    number: int
    attempt: int
    function: str
    outcome: int
    server: int  # epoch; 0: it had none
    at: float
    seconds: float | None
    wait_s: float
    cpu_s: float | None
    peak_bytes: int | None
    failure: int
    io: bool


def bucket_of(seconds: float) -> int:
    """Its place in a histogram."""
    if seconds <= SHORTEST_S:
        return 0
    return min(BUCKETS - 1, int(log2(seconds / SHORTEST_S) * PER_OCTAVE) + 1)


def quantile(histogram: list[tuple[int, int]], share: float) -> float | None:
    """Seconds that this share of the tasks did not exceed: the upper edge of its bucket, at most a fifth too much."""
    total = sum(count for _, count in histogram)
    if not total:
        return None
    left = share * total
    for bucket, count in sorted(histogram):
        left -= count
        if left <= 0:
            break
    return SHORTEST_S * 2.0 ** (bucket / PER_OCTAVE)


@dataclass(slots=True)
class FunctionTally:
    name: str
    submitted: int = 0
    outcomes: list[int] = field(default_factory=lambda: [0] * KINDS)
    cpu_s: float = 0.0
    run: list[int] = field(default_factory=lambda: [0] * BUCKETS)
    wait: list[int] = field(default_factory=lambda: [0] * BUCKETS)

    def report(self, held: int) -> FunctionTotals:
        return FunctionTotals(
            self.name,
            self.submitted,
            held,
            list(self.outcomes),
            self.cpu_s,
            _sparse(self.run),
            _sparse(self.wait),
        )


@dataclass(slots=True)
class Group:
    """Failures that are alike."""

    number: int
    function: str
    outcome: int
    error: str
    text: str
    trace: str
    first: float
    last: float
    count: int = 0
    servers: dict[int, None] = field(default_factory=dict)


class Functions(dict[str, FunctionTally]):
    """By name; those beyond the bound are counted together."""

    def __missing__(self, name: str) -> FunctionTally:
        if len(self) >= FUNCTIONS_MAX and name != OTHERS:
            return self[OTHERS]
        tally = self[name] = FunctionTally(name)
        return tally


class Tally:
    """Of one lease."""

    def __init__(self) -> None:
        self.outcomes = [0] * KINDS
        self.cpu_s = 0.0
        self.ended = 0
        self.functions = Functions()
        self._ring: deque[End] = deque(maxlen=RING)
        self._groups: dict[tuple[str, int, str], Group] = {}

    def submitted(self, function: str) -> None:
        self.functions[function].submitted += 1

    def add(self, end: End) -> None:
        """A task has its outcome."""
        self.ended += 1
        self._ring.append(end)
        self.outcomes[end.outcome] += 1
        function = self.functions[end.function]
        function.outcomes[end.outcome] += 1
        if end.cpu_s is not None:
            self.cpu_s += end.cpu_s
            function.cpu_s += end.cpu_s
        if end.seconds is not None:
            function.run[bucket_of(end.seconds)] += 1
            function.wait[bucket_of(end.wait_s)] += 1

    def failed(
        self, function: str, outcome: int, error: str, text: str, trace: str, server: int, now: float
    ) -> int:
        """The number of the group that this failure belongs to; 0: there are too many groups."""
        key = function, outcome, error
        group = self._groups.get(key)
        if group is None:
            if len(self._groups) >= GROUPS_MAX:
                return 0
            number = len(self._groups) + 1
            group = Group(number, function, outcome, error, "", trace[-TRACE_MAX:], now, now)
            self._groups[key] = group
        group.count += 1
        group.last = now
        group.text = text[:TEXT_MAX]
        if server and len(group.servers) < SERVERS_MAX:
            group.servers[server] = None
        return group.number

    # --- for who looks ---

    def ends_after(self, since: int, limit: int, now: float) -> list[EndedTask]:
        """The newest that came after this one."""
        count = min(self.ended - since, limit, len(self._ring))
        ring, number = self._ring, self.ended
        newest = [ring[-k] for k in range(count, 0, -1)]
        return [EndedTask(number - count + k, *_told(end, now)) for k, end in enumerate(newest, start=1)]

    def totals(self, held: dict[str, int]) -> list[FunctionTotals]:
        """`held`: how many tasks of each function servers have."""
        return [tally.report(held.get(tally.name, 0)) for tally in self.functions.values()]

    def groups(self, now: float) -> list[FailureGroup]:
        return [
            FailureGroup(
                group.number,
                group.function,
                group.outcome,
                group.error,
                group.text,
                group.trace,
                group.count,
                now - group.first,
                now - group.last,
                list(group.servers),
            )
            for group in self._groups.values()
        ]


def _told(end: End, now: float) -> tuple[object, ...]:
    """With its age in the place of its time."""
    return (*end[:5], now - end.at, *end[6:])


def _sparse(buckets: list[int]) -> list[tuple[int, int]]:
    return [(bucket, count) for bucket, count in enumerate(buckets) if count]
