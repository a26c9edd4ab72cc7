"""Decides which nodes a client gets and which node a task goes to: pure functions of facts.

Load has levels. A node whose servers are not all busy is on a level below `STEPS`, the lower the more of its
servers are free. Beyond that, short tasks may be fed ahead: each level more is one more of them behind every
server that takes them. The least loaded node is the first one on the lowest level, and nodes of one level
take turns (`Shelves`).
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from fnmatch import fnmatchcase
from typing import Final, Generic, NamedTuple, TypeVar

from dispycos.protocol.messages import Allocation, NodeInfo
from dispycos.protocol.status import OutcomeKind

STEPS: Final = 16  # levels of nodes with a free server
AHEAD_MAX: Final = 256  # short tasks that may wait behind each server
FULL: Final = STEPS + AHEAD_MAX  # takes no more short tasks for now
BARRED: Final = FULL + 1  # has no server that short tasks may wait for
IO_MAX: Final = 1000  # io tasks per server

FAST_S: Final = 0.005  # a run below this is a short one
SAMPLES_MIN: Final = 20  # so many short runs in the beginning, and a function counts as fast
SAMPLES_KEPT: Final = 100  # so many in a row after a long one

RECALL_AFTER_S: Final = (
    0.05  # servers idle here and short tasks queueing there for so long: some are recalled
)

# --- nodes


class Named(NamedTuple):
    """An allocation, and what was found out about the place that it names."""

    allocation: Allocation
    addresses: tuple[str, ...] = ()  # of the host of that name
    epochs: tuple[int, ...] = ()  # of nodes that answered there

    @property
    def is_place(self) -> bool:
        """Whether it names one host, which can be looked for."""
        return "*" not in self.allocation.node

    def is_at(self, node: NodeInfo) -> bool:
        """Whether the node is there, by its name or its address."""
        if node.epoch in self.epochs:
            return True
        if self.allocation.port not in (None, node.port):
            return False
        # Only * stands for others.
        where = self.allocation.node.lower().replace("[", "[[]").replace("?", "[?]")
        return node.addr in self.addresses or any(
            fnmatchcase(known.lower(), where) for known in (node.addr, node.name)
        )

    def matches(self, node: NodeInfo) -> bool:
        return self.is_at(node) and bool(re.search(self.allocation.platform, node.platform, re.IGNORECASE))


def allocate(node: NodeInfo, named: Sequence[Named]) -> int:
    """How many servers of a node a client gets (spec 6.4 `nodes`, 6.7; DECISIONS: cpus, nodes); 0: none.

    The first entry that matches decides. A list restricts to what matches, unless all its entries exclude.
    """
    for item in named:
        if item.matches(node):
            return _servers(item.allocation, node)
    if all(item.allocation.cpus == 0 for item in named):
        return max(0, node.cpus)
    return 0


def _servers(allocation: Allocation, node: NodeInfo) -> int:
    has = node.available
    if allocation.memory > 0 and (has is None or has.memory < allocation.memory):
        return 0
    if allocation.disk > 0 and (has is None or has.disk < allocation.disk):
        return 0
    if allocation.cpus is None:
        return max(0, node.cpus)
    if allocation.cpus > 0:
        return allocation.cpus if allocation.cpus <= node.cpus else 0
    return 0 if allocation.cpus == 0 else max(0, node.cpus + allocation.cpus)


def fault_of(allocation: Allocation) -> str:
    """Why an allocation can match nothing, for the person who wrote it; empty if it can."""
    try:
        re.compile(allocation.platform)
    except re.error as error:
        return f"nodes: platform {allocation.platform!r} is not a regular expression: {error}"
    return ""


# --- load


def cpu_level(servers: int, slow: int, fast: int) -> int:
    """The level of a node with so many servers, CPU tasks that need a server each, and short CPU tasks."""
    taken = slow + fast
    if taken < servers:
        return STEPS * taken // servers
    takers = servers - slow
    if takers <= 0:
        return BARRED
    return min(FULL, STEPS + (fast - takers) // takers)


def room_ahead(servers: int, slow: int, fast: int, alone: bool) -> int:
    """How many short tasks such a node (all servers busy) takes in a row.

    As many as bring it to its next level, so that all stay even; to its limit, if there is no other node.
    """
    takers = servers - slow
    return takers * (1 + AHEAD_MAX) - fast if alone else takers - fast % takers


def ahead_of(servers: int, slow: int, fast: int) -> int:
    """How many short tasks wait behind the servers of such a node."""
    return max(0, fast - max(0, servers - slow))


def io_level(servers: int, io: int) -> int:
    return min(IO_MAX, io // servers) if servers else IO_MAX


def recall_count(ahead: int) -> int:
    """Half of what waits goes to the idle ones; what is still uneven then is halved again."""
    return (ahead + 1) // 2


class Pace:
    """Whether a function is known to be short: its last 100 runs (or all, if 20 or more) took < 5 ms each."""

    __slots__ = ("wanted",)

    def __init__(self) -> None:
        self.wanted = SAMPLES_MIN  # short runs that are still missing

    @property
    def fast(self) -> bool:
        return self.wanted <= 0

    def saw(self, outcome: int, seconds: float) -> bool:
        """Count a run; True if this changed what the function counts as."""
        if outcome <= OutcomeKind.RAISED and seconds < FAST_S:
            self.wanted -= 1
            return self.wanted == 0
        if outcome in (OutcomeKind.CANCELLED, OutcomeKind.REFUSED):
            return False  # it did not run
        was_fast = self.wanted <= 0
        self.wanted = (
            SAMPLES_KEPT  # a long one; or one that took its server along, and nobody should wait behind such
        )
        return was_fast


Item = TypeVar("Item", bound=Hashable)


class Shelves(Generic[Item]):
    """Items by level, in order of their turn; to find the least loaded one, the others are not looked at."""

    __slots__ = ("_occupied", "_shelves", "level_of")

    def __init__(self, top: int) -> None:
        self.level_of: dict[Item, int] = {}
        self._shelves: list[dict[Item, None]] = [{} for _ in range(top + 1)]
        self._occupied = 0  # bit n: something is on level n

    def put(self, item: Item, level: int) -> None:
        """To the end of its level, also if it was on it already: the others are first now."""
        if item in self.level_of:
            self.remove(item)
        self.level_of[item] = level
        self._shelves[level][item] = None
        self._occupied |= 1 << level

    def remove(self, item: Item) -> None:
        level = self.level_of.pop(item, None)
        if level is None:
            return
        shelf = self._shelves[level]
        del shelf[item]
        if not shelf:
            self._occupied ^= 1 << level

    def first_below(self, level: int) -> Item | None:
        """The least loaded item, if it is on a level below this one."""
        occupied = self._occupied
        lowest = (occupied & -occupied).bit_length() - 1
        if lowest < 0 or lowest >= level:
            return None
        return next(iter(self._shelves[lowest]))

    def has_between(self, low: int, high: int) -> bool:
        """Is anything on one of the levels low <= level < high?"""
        return bool((self._occupied >> low) & ((1 << max(0, high - low)) - 1))
