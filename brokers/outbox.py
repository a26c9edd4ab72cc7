"""Collects what the scheduler wants done, for its body to carry out."""

from __future__ import annotations

import msgspec

from dispycos.machine import Log, Send
from dispycos.protocol.addresses import Address
from dispycos.protocol.envelope import Envelope
from dispycos.protocol.messages import Notice

from .registry import Client


class Look(msgspec.Struct, frozen=True):
    """Look for the nodes at the places that a client names; answered by found() and, once, looked()."""

    client: int  # epoch


class StopLooking(msgspec.Struct, frozen=True):
    """That client has left."""

    client: int


class Outbox:
    """What a machine wants done, in order, until it is drained."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.effects: list[object] = []

    def send(self, to: Address, message: object, correlation: int = 0) -> None:
        self.effects.append(Send(Envelope(to, self.address, message, correlation)))

    def tell(self, client: Client, message: object) -> None:
        if not client.lost:
            self.send(client.address, message)

    def warn(self, client: Client, text: str) -> None:
        """The person at its terminal."""
        self.tell(client, Notice(text, "warning"))

    def log(self, level: str, text: str) -> None:
        self.effects.append(Log(level, text))

    def drain(self) -> list[object]:
        effects = self.effects[:]
        self.effects.clear()
        return effects
