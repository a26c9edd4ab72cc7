"""What a client counts of its tasks as they end: totals, the last of them, how long each function runs and waits, and which
failures are alike.

It is kept whether or not anybody looks, so it must cost little: a tuple and two list items for each task. All else is done when
somebody asks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from dispycos.histogram import BUCKETS, bucket_of, sparse
from dispycos.protocol.status import OutcomeKind
from dispycos.protocol.watching import Death, EndedTask, FailureGroup, FunctionTotals

from ..dispatching.facts import Entry
from ..tasks.reasons import words_of
from .last_output import LastOutput

RING: Final = 10_000  # tasks that have ended, and are kept
FUNCTIONS_MAX: Final = 1_000
GROUPS_MAX: Final = 200
SERVERS_MAX: Final = 8  # of a group
DEATHS_MAX: Final = 200
DEATH_LINES: Final = 10  # of a server that has died ...
LATE_S: Final = 0.5  # ... also those that came so long after
TRACE_MAX: Final = 4_000  # characters
TEXT_MAX: Final = 500
FAILED_MAX: Final = 200  # of these, where a single task is told of
OTHERS: Final = "(other functions)"
MANY: Final = 1_000
BATCH: Final = 512  # tasks that are counted together
KINDS: Final = len(OutcomeKind) + 1  # they count from 1
RETURNED: Final = OutcomeKind.RETURNED
FAILURES: Final = (OutcomeKind.RAISED, OutcomeKind.LOST, OutcomeKind.REFUSED)


# How a task ended, and what it took, as EndedTask has it, but for its number; the time in the place of its age. A plain tuple
# costs a fifth of one with names.
End = tuple[int, int, str, int, int, float, float | None, float, float | None, int | None, int, bool, str]


@dataclass(slots=True)
class FunctionTally:
    name: str
    outcomes: list[int] = field(default_factory=lambda: [0] * KINDS)
    cpu_s: float = 0.0
    run: list[int] = field(default_factory=lambda: [0] * BUCKETS)
    wait: list[int] = field(default_factory=lambda: [0] * BUCKETS)

    def report(self, submitted: int, held: int) -> FunctionTotals:
        return FunctionTotals(
            self.name,
            max(submitted, sum(self.outcomes) + held),
            held,
            list(self.outcomes),
            self.cpu_s,
            sparse(self.run),
            sparse(self.wait),
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
        self.functions = Functions()
        self._new: list[End] = []  # not counted yet
        self._counted = 0
        self._ring: deque[End] = deque(maxlen=RING)
        self._groups: dict[tuple[str, int, str], Group] = {}
        self._deaths_told = 0
        self._deaths: deque[tuple[float, Death]] = deque(maxlen=DEATHS_MAX)
        self.output = LastOutput()

    @property
    def ended(self) -> int:
        return self._counted + len(self._new)

    def add(self, end: End) -> None:
        """It is counted with others, later: so each costs little when it ends."""
        self._new.append(end)
        if len(self._new) >= BATCH:
            self._count()

    def _count(self) -> None:
        new, self._new = self._new, []
        self._ring.extend(new)
        ended, functions = self._counted, self.functions
        for _, _, name, outcome, _, _, seconds, wait_s, cpu_s, _, _, _, _ in new:
            ended += 1
            function = functions[name]
            function.outcomes[outcome] += 1
            if cpu_s is not None:
                function.cpu_s += cpu_s
            # Of many tasks one in eight tells how long they run.
            if seconds is not None and (not ended & 7 or ended < MANY):
                function.run[bucket_of(seconds)] += 1
                function.wait[bucket_of(wait_s)] += 1
        self._counted = ended

    def take(self, record: Entry, server: int, now: float) -> None:
        """This task has its outcome, which that server has told; 0: none has."""
        if not server and record.address is not None:
            server = record.address.epoch
        failure, text = (0, "") if record.outcome == RETURNED else self._group(record, server, now)
        seconds = record.seconds if record.started else None
        self.add(
            (
                record.task.number,
                record.attempt,
                record.function,
                record.outcome,
                server,
                now,
                seconds,
                now - record.submitted - (seconds or 0.0),
                record.cpu_s,
                record.peak_bytes,
                failure,
                record.io,
                text,
            )
        )

    def _group(self, record: Entry, server: int, now: float) -> tuple[int, str]:
        """Of a failure: the number of those that are alike, and how it was."""
        if record.outcome not in FAILURES or record.terminated:
            return 0, ""
        error, text, trace = words_of(record)
        number = self.failed(record.function, record.outcome, error, text, trace, server, now)
        return number, f"{error}: {text}".partition("\n")[0][:FAILED_MAX]

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

    def died(self, death: Death, at: float) -> None:
        self._deaths_told += 1
        self._deaths.append((at, death._replace(n=self._deaths_told)))

    # --- for who looks ---

    def outcomes(self) -> list[int]:
        """Of all tasks that have ended, by OutcomeKind."""
        self._count()
        return [
            sum(counts) for counts in zip(*(one.outcomes for one in self.functions.values()), strict=True)
        ]

    @property
    def cpu_s(self) -> float:
        return sum(one.cpu_s for one in self.functions.values())

    def deaths_after(self, since: int, now: float) -> list[Death]:
        return [
            death._replace(ago_s=now - at, lines=self.output.of(death.name, at + LATE_S, DEATH_LINES))
            for at, death in self._deaths
            if death.n > since
        ]

    def ends_after(self, since: int, limit: int, now: float) -> list[EndedTask]:
        """The newest that came after this one."""
        self._count()
        count = max(0, min(self.ended - since, limit))
        newest = islice(reversed(self._ring), count)
        return [_told(self.ended - k, end, now) for k, end in enumerate(newest)][::-1]

    def totals(self, submitted: Mapping[str, int], held: Mapping[str, int]) -> list[FunctionTotals]:
        """Of each function that was submitted, and how many of its tasks servers have."""
        self._count()
        for name in islice(submitted, FUNCTIONS_MAX):
            self.functions[name]
        return [
            tally.report(submitted.get(tally.name, 0), held.get(tally.name, 0))
            for tally in self.functions.values()
        ]

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


def _told(n: int, end: End, now: float) -> EndedTask:
    number, attempt, function, outcome, server, at, seconds, wait_s, cpu_s, peak_bytes, failure, io, text = (
        end
    )
    ago_s = now - at
    return EndedTask(
        n,
        number,
        attempt,
        function,
        outcome,
        server,
        ago_s,
        seconds,
        wait_s,
        cpu_s,
        peak_bytes,
        failure,
        io,
        text,
    )
