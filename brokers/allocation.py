"""Which nodes a client gets, and how many servers there: pure functions of what it names and what nodes say of themselves."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Final, NamedTuple

from dispycos.protocol.messages import Allocation, NodeInfo


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


class Undecided(NamedTuple):
    """The client has to be asked: its own allocate() of this entry decides."""

    entry: int


NO_ANSWERS: Final[Mapping[int, int]] = {}


def allocate(
    node: NodeInfo,
    named: Sequence[Named],
    answers: Mapping[int, int] = NO_ANSWERS,
    *,
    unrestricted: bool = False,
) -> int | Undecided:
    """How many servers of a node a client gets (spec 6.4 `nodes`, 6.7; DECISIONS: cpus, nodes); 0: none.

    The first entry that matches decides. A list restricts to what matches, unless all its entries exclude, or it is
    `unrestricted`. `answers` are those of the client's own allocate(), by entry: negative ones leave it to the next.
    """
    for entry, item in enumerate(named):
        if item.allocation.own:
            if entry not in answers:
                return Undecided(entry)
            if answers[entry] >= 0:
                return min(answers[entry], node.cpus)
        elif item.matches(node):
            return servers_by(item.allocation, node)
    if unrestricted or all(item.allocation.cpus == 0 for item in named):
        return max(0, node.cpus)
    return 0


def servers_by(allocation: Allocation, node: NodeInfo) -> int:
    """Of a node that it matches."""
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
