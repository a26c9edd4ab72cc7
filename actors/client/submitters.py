"""The servers whose tasks submit tasks of ours: which numbers each may use, and what comes to a task before its Nested does.

A server numbers what its tasks submit, so that a handle has its home at once. Of that task others may hear, and write to it,
before we do: their links are others. What they say is kept until the Nested comes, or its server is dead.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from dispycos.protocol.addresses import Address
from dispycos.protocol.envelope import Envelope

SPAN: Final = 1 << 32  # numbers of one server; those of the client itself lie below


@dataclass(slots=True, eq=False)
class Submitter:
    """One server."""

    epoch: int
    latest: int  # the highest number that has come
    missing: set[int] = field(default_factory=set)  # below it: their calls are large, and still under way


class Submitters:
    """`number` is that of a task, as in TaskId."""

    def __init__(self) -> None:
        self._by_range: dict[int, Submitter] = {}
        self._first: dict[int, int] = {}  # by epoch
        self._early: dict[int, list[Envelope]] = {}  # by number

    def add(self, epoch: int, unused: int) -> int:
        """Where this server begins to count; `unused` is a number of ours that no task has."""
        first = self._first.setdefault(epoch, unused * SPAN)
        self._by_range.setdefault(first // SPAN, Submitter(epoch, first))
        return first

    def servers(self) -> list[int]:
        return list(self._first)

    def submitted(self, number: int, sender: Address) -> bool:
        """Its Nested came; False if it is none of that server's, or was here before."""
        server = self._by_range.get(number // SPAN)
        if server is None or server.epoch != sender.epoch or not self._is_missing(server, number):
            return False
        if number > server.latest:
            server.missing.update(range(server.latest + 1, number))
            server.latest = number
        else:
            server.missing.discard(number)
        return True

    def hold(self, envelope: Envelope) -> bool:
        """Keep what is for a task whose Nested has not come; False if none will come."""
        number = envelope.to.actor
        server = self._by_range.get(number // SPAN)
        if server is None or not self._is_missing(server, number):
            return False
        self._early.setdefault(number, []).append(envelope)
        return True

    def take(self, number: int) -> list[Envelope]:
        """What came before."""
        return self._early.pop(number, [])

    def forget(self, epoch: int) -> list[Envelope]:
        """The server is dead. What waits in vain."""
        which = self._first.pop(epoch, 0) // SPAN
        self._by_range.pop(which, None)
        vain = [number for number in self._early if number // SPAN == which]
        return [envelope for number in vain for envelope in self._early.pop(number)]

    @staticmethod
    def _is_missing(server: Submitter, number: int) -> bool:
        return number > server.latest or number in server.missing
