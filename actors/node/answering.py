"""What a node answers to those who ask or watch: what it has left, who has it, and what runs on its servers."""

from __future__ import annotations

from abc import abstractmethod
from typing import Final

from dispycos.protocol.addresses import Address
from dispycos.protocol.envelope import Envelope
from dispycos.protocol.messages import Availability, Inventory, Neighbour, NodeInfo, NodeReport
from dispycos.protocol.watching import (
    ARGUMENTS,
    MAILBOXES,
    SERVERS,
    Granting,
    Look,
    Machine,
    NodeSight,
    StackWanted,
    Wish,
)

from .summaries import Summaries
from .supervisor import Supervisor

NEIGHBOURS_MAX: Final = 1000
ASKED_OF_SERVERS: Final = SERVERS | ARGUMENTS | MAILBOXES


class Answering(Supervisor):
    """This half of a Node (agent.py)."""

    def __init__(self, info: NodeInfo, address: Address, *, insecure: bool) -> None:
        super().__init__(info, address)
        self._insecure = insecure
        self._neighbours: dict[str, Neighbour] = {}  # by name
        self._machine: Machine | None = None
        self._served = 0
        self._summaries = Summaries()
        self.ending = ""  # why it takes nothing new, and ends when nothing is left
        self._resting = ""  # why it takes nothing new for now

    def measured(self, available: Availability, machine: Machine, now: float) -> None:
        """As the body has measured it."""
        self.info = self.info._replace(available=available)
        self._machine = machine

    def meet(self, neighbour: Neighbour) -> None:
        """Found on this network; of those that are too many the first goes."""
        self._neighbours.pop(neighbour.name, None)
        self._neighbours[neighbour.name] = neighbour
        if len(self._neighbours) > NEIGHBOURS_MAX:
            del self._neighbours[next(iter(self._neighbours))]

    def _on_inventory(self, envelope: Envelope, message: Inventory, now: float) -> None:
        granted = self.granted
        report = NodeReport(
            self.info,
            granted.client.name if granted is not None else "",
            [],
            self._served,
            self._insecure,
            self.ending or self._resting,
            tuple(self._neighbours.values()),
        )
        servers = granted.ready() if granted is not None else []
        self._inquiries.ask(envelope, report, servers, now)

    def _on_look(self, envelope: Envelope, look: Look, now: float) -> None:
        """The servers are asked only for what they alone know."""
        granted = self.granted
        sight = NodeSight(
            self.info,
            granted.client if granted is not None else None,
            now - granted.since if granted is not None else 0.0,
            self._machine,
            [],
            granted.absent() if granted is not None else [],
            self._summaries.told(now),
            self.ending or self._resting,
            self._served,
            self._insecure,
        )
        parts = look.parts & ASKED_OF_SERVERS
        servers = granted.ready() if granted is not None and parts else []
        self._inquiries.ask(envelope, sight, servers, now, parts)

    def _on_stack_wanted(self, envelope: Envelope, word: StackWanted, now: float) -> None:
        server = self.granted.place_of(word.server) if self.granted is not None else None
        self._inquiries.ask_stack(envelope, server, now)

    def _on_wish(self, envelope: Envelope, wish: Wish, now: float) -> None:
        """The end of the lease is all that a node can grant: the rest is its client's."""
        granted, own = self.granted, self.info.epoch
        if wish.what != "end_lease":
            refused = f"a node does not {wish.what} what its client has: ask that"
        elif granted is None or (wish.client and wish.client != granted.lease.client):
            refused = f"it is not leased{' to that client any more' if granted is not None else ''}"
        else:
            refused = ""
            self.dismiss("a viewer ended the lease", now)
        answer = Granting(0, [(own, refused)]) if refused else Granting(1)
        self._out.send(envelope.sender, answer, envelope.correlation)

    @abstractmethod
    def dismiss(self, reason: str, now: float) -> None:
        """The lease ends, and its client is not to have this node again."""
