"""What a task is told of the processes that its program works with."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

from dispycos.protocol.addresses import Location


class Peer(NamedTuple):
    location: Location | None
    name: str
    status: int
    kind: str


class PeerStatus(Peer):
    """A client, node, server or other program came or went, as `peer_status(task)` has it sent.

    Attributes
    ----------
    location: of a node or server, as rtask_at and locate take it; None of a client.
    name: for people.
    status: PeerStatus.Online or PeerStatus.Offline.
    kind: "client", "node" or "server"; "program": another one that is linked without a scheduler.
    """

    __slots__ = ()

    Online: ClassVar[int] = 1
    Offline: ClassVar[int] = 0
