"""The contract of every role's brain: envelopes and time in, effects out; no socket, clock, thread or file inside."""

from __future__ import annotations

from typing import Protocol

import msgspec

from .protocol.addresses import Address
from .protocol.envelope import Envelope, Payload


class Send(msgspec.Struct, frozen=True, gc=False):
    """Hand this envelope to the router. A Struct, since each message makes one: a frozen dataclass costs three times as much."""

    envelope: Envelope


class Log(msgspec.Struct, frozen=True):
    """A line for the operator of this process."""

    level: str  # a method name of logging.Logger
    text: str


class Outbox:
    """What a machine wants done, in order, until it is drained."""

    def __init__(self, sender: Address) -> None:
        self.sender = sender
        self.effects: list[object] = []

    def send(self, to: Address, message: object, correlation: int = 0, payload: Payload = None) -> None:
        self.effects.append(Send(Envelope(to, self.sender, message, correlation, payload)))

    def log(self, level: str, text: str) -> None:
        self.effects.append(Log(level, text))

    def drain(self) -> list[object]:
        effects, self.effects = self.effects, []
        return effects


class Machine(Protocol):
    """A role: scheduler, node, server, client. The runtime feeds it and carries out what it drains.

    `now` is seconds of a monotonic clock that only the runtime reads. Outcomes of effects come back as messages, so the
    sequence of calls is the whole history of a machine.
    """

    def receive(self, envelope: Envelope, now: float) -> None:
        """A message for this actor came."""

    def wake(self, now: float) -> None:
        """The deadline passed."""

    def deadline(self) -> float | None:
        """When to wake, or None."""

    def drain(self) -> list[object]:
        """What is to be done, in order: Send, Log, and effects that the role's body knows."""
