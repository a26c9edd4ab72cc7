"""What a dispatcher tells the owner of its tasks, kept until a test looks."""

from __future__ import annotations

import msgspec

from dispycos.actors.dispatching.facts import Entry, FleetServer
from dispycos.protocol.status import OutcomeKind


class Runs(msgspec.Struct, frozen=True):
    server: FleetServer
    entries: list[Entry]


class Recall(msgspec.Struct, frozen=True):
    server: FleetServer
    after: int


class Terminate(msgspec.Struct, frozen=True):
    server: FleetServer
    entry: Entry


class Kill(msgspec.Struct, frozen=True):
    server: FleetServer


class Again(msgspec.Struct, frozen=True):
    entry: Entry
    text: str


class Ended(msgspec.Struct, frozen=True):
    entry: Entry
    kind: OutcomeKind
    text: str
    started: bool


Told = Runs | Recall | Terminate | Kill | Again | Ended


class Listener:
    """dispatch.TaskOwner."""

    def __init__(self) -> None:
        self._told: list[Told] = []

    def drain(self) -> list[Told]:
        told, self._told = self._told, []
        return told

    def send_runs(self, server: FleetServer, entries: list[Entry]) -> None:
        self._told.append(Runs(server, entries))

    def send_recall(self, server: FleetServer, after: int) -> None:
        self._told.append(Recall(server, after))

    def send_terminate(self, server: FleetServer, entry: Entry) -> None:
        self._told.append(Terminate(server, entry))

    def send_kill(self, server: FleetServer) -> None:
        self._told.append(Kill(server))

    def try_again(self, entry: Entry, text: str) -> None:
        self._told.append(Again(entry, text))

    def end(self, entry: Entry, kind: OutcomeKind, text: str, *, started: bool) -> None:
        self._told.append(Ended(entry, kind, text, started))
