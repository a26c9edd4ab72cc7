"""What nodes and servers of a client wait for before their first task: that they may be set up, and by which call.

A node asks when its zygote is forked, a server when it has started. Who is disabled (`disable_nodes`, `disable_servers`) waits
for the program to enable it; all others are answered at once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from dispycos.notices import PATIENCE_S, named, next_pause
from dispycos.protocol.envelope import Envelope
from dispycos.protocol.messages import Spot

from .effects import GiveSetup
from .holdings import Holdings

# A node's epoch; of a server its address, port and name, which its successors share.
Where = int | tuple[str, int, str]


@dataclass(slots=True, eq=False)
class Kind:
    """Of nodes, or of servers."""

    what: str  # for people
    disabled: bool = False
    call: Any = None  # of those that are not enabled with arguments of their own; None: nothing is called
    calls: dict[Where, Any] = field(default_factory=dict)  # of those that were enabled
    waiting: dict[Where, Envelope] = field(default_factory=dict)  # who asked and may not go on yet
    under_way: dict[Where, float] = field(default_factory=dict)  # since when


class Setups:
    """Those of one client."""

    def __init__(self, holdings: Holdings) -> None:
        self._has = holdings
        self.nodes = Kind("node")
        self.servers = Kind("server")
        self._spots: dict[Where, Spot] = {}  # where servers have asked
        self.keeps_files = False  # nodes are not to remove those of this client
        self._say_at: float | None = None
        self._pause = PATIENCE_S

    # --- who asks ---

    def asked(self, envelope: Envelope, now: float) -> None:
        """A node, or a server with its spot: it is answered when it may be set up."""
        spot: Spot | None = envelope.message.spot
        if spot is None:
            self._see(self.nodes, envelope.sender.epoch, envelope, now)
        else:
            self._spots[where_of(spot)] = spot
            self._see(self.servers, where_of(spot), envelope, now)

    def _see(self, kind: Kind, where: Where, envelope: Envelope, now: float) -> None:
        if kind.disabled and where not in kind.calls:
            kind.waiting[where] = envelope
        else:
            self._give(kind, where, envelope, now)

    def _give(self, kind: Kind, where: Where, envelope: Envelope, now: float) -> None:
        call = kind.calls.get(where, kind.call)
        self._has.effects.append(GiveSetup(envelope, call))
        if call is not None:
            kind.under_way[where] = now
            if self._say_at is None:
                self._say_at, self._pause = now + PATIENCE_S, PATIENCE_S

    # --- enabling ---

    def enable_node(self, epoch: int, call: Any, now: float) -> None:
        """It need not have asked yet. `call` counts for its next zygotes, too."""
        self._enable(self.nodes, epoch, call, now)

    def enable_server(self, spot: Spot, call: Any, now: float) -> None:
        """`call` counts for those that are started in its place, too."""
        self._enable(self.servers, where_of(spot), call, now)

    def _enable(self, kind: Kind, where: Where, call: Any, now: float) -> None:
        kind.calls[where] = call
        envelope = kind.waiting.pop(where, None)
        if envelope is not None:
            self._give(kind, where, envelope, now)

    def known_servers(self) -> list[Spot]:
        """The last one that asked from each place."""
        return list(self._spots.values())

    def places(self) -> dict[int, tuple[Spot, int]]:
        """The same, by epoch, with the epochs of their nodes."""
        words = [envelope.message for envelope in self.servers.waiting.values()]
        return {word.spot.epoch: (word.spot, word.node) for word in words}

    def why_waiting(self) -> str:
        """What keeps nodes and servers from taking tasks, as far as it is the program's own doing; for people."""
        waiting = (
            f"{named(list(map(self._name, kind.waiting)))} {'waits' if len(kind.waiting) == 1 else 'wait'} for enable_{kind.what}()"
            for kind in (self.nodes, self.servers)
            if kind.waiting
        )
        return "; ".join(waiting)

    # --- ends ---

    def done(self, where: Where) -> None:
        """It is set up, or gone."""
        for kind in (self.nodes, self.servers):
            kind.waiting.pop(where, None)
            kind.under_way.pop(where, None)
        if not (self.nodes.under_way or self.servers.under_way):
            self._say_at = None

    def server_done(self, spot: Spot) -> None:
        self.done(where_of(spot))

    def deadline(self) -> float | None:
        return self._say_at

    def wake(self, now: float) -> None:
        """Nobody waits in silence."""
        if self._say_at is None or now < self._say_at:
            return
        self._pause = next_pause(self._pause)
        self._say_at = now + self._pause
        for kind in (self.nodes, self.servers):
            if kind.under_way:
                names = named(list(map(self._name, kind.under_way)))
                silence = now - min(kind.under_way.values())
                self._has.say(f"{kind.what}_setup has been running for {silence:.0f} s: {names}")

    def _name(self, where: Where) -> str:
        if isinstance(where, tuple):
            return where[2]
        node = self._has.nodes.get(where)
        return node.name if node is not None else "a node"


def where_of(spot: Spot) -> Where:
    return spot.addr, spot.port, spot.name
