"""Collects what the scheduler wants done, for its body to carry out."""

from __future__ import annotations

import msgspec

from dispycos import machine
from dispycos.protocol.addresses import BOOK, Address
from dispycos.protocol.messages import Gone, Notice

from .registry import Client, Registry


class Look(msgspec.Struct, frozen=True):
    """Look for the nodes at the places that a client names; answered by found() and, once, looked()."""

    client: int  # epoch
    first: int = 0  # only at those from this one on


class StopLooking(msgspec.Struct, frozen=True):
    """That client has left."""

    client: int


class Outbox(machine.Outbox):
    """With words for clients."""

    def tell(self, client: Client, message: object) -> None:
        if not client.lost:
            self.send(client.address, message)

    def tell_others(self, registry: Registry, whose: Client, gone: Gone) -> None:
        """The other clients, and their servers, may wait for an answer of these, once they have found each other."""
        if not registry.has_asked:
            return
        for client in registry.clients.values():
            if client is not whose and not client.lost:
                self.send(Address(client.epoch, BOOK), gone)
        if registry.active is not whose:
            for share in registry.shares:
                self.send(share.node.address, gone)

    def warn(self, client: Client, text: str) -> None:
        """The person at its terminal."""
        self.tell(client, Notice(text, "warning"))
