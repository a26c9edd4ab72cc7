"""What a client wants of its nodes and servers: that they are suspended, closed or started anew (spec 6.4).

Suspending is this client's own affair: it gives nothing there. So is the first half of closing: what runs goes on to its end, and
nothing is added. When no CPU task is left there the node hears of it, and the io tasks get their KeyboardInterrupt.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from dispycos.notices import NAMED_MAX, named
from dispycos.protocol import messages
from dispycos.protocol.addresses import NODE, Address, Location
from dispycos.protocol.envelope import Envelope
from dispycos.protocol.messages import Spot
from dispycos.protocol.status import Status

from ..dispatching.facts import FleetNode, FleetServer
from .holdings import Holdings
from .setups import Where, where_of


@dataclass(slots=True)
class Closing:
    """A node or server that ends when its CPU tasks have."""

    node: int  # epoch
    again: bool  # and is started anew then


@dataclass(slots=True, eq=False)
class Control:
    """Servers are known by where they are, so that a successor is meant, too; nodes by their epochs."""

    _has: Holdings
    restarts: bool = False  # a server that was closed on purpose is started again
    _suspended: dict[Where, int] = field(default_factory=dict)  # on which node, by its epoch
    _closing: dict[Where, Closing] = field(default_factory=dict)
    closed: dict[Where, tuple[Spot, int]] = field(default_factory=dict)  # with the epoch of its node
    _parting: set[int] = field(default_factory=set)  # nodes of which the scheduler was told that they close
    _renewing: set[int] = field(default_factory=set)  # nodes that are started anew, and have not said so yet
    _abandons: dict[int, bool] = field(default_factory=dict)  # what was said of single nodes

    def servers(self) -> list[tuple[Spot, int]]:
        """With the epochs of their nodes; those that are closed may be started again."""
        return [*self._has.servers.values(), *self.closed.values()]

    # --- suspending ---

    def suspend_server(self, spot: Spot, node: int, *, suspended: bool) -> None:
        if (where_of(spot) in self._suspended) is suspended:
            return
        self._note(where_of(spot), node, suspended)
        self._has.dispatcher.server_opened(spot.epoch, not suspended)
        status = Status.ServerSuspended if suspended else Status.ServerResumed
        self._has.tell(status, Location(spot.addr, spot.port))

    def suspend_node(self, epoch: int, *, suspended: bool) -> None:
        if (epoch in self._suspended) is suspended:
            return
        self._note(epoch, epoch, suspended)
        if epoch not in self._parting and epoch not in self._closing:
            self._has.dispatcher.node_opened(epoch, not suspended)
        self._has.tell(Status.NodeSuspended if suspended else Status.NodeResumed, self._has.nodes[epoch])

    def _note(self, where: Where, node: int, suspended: bool) -> None:
        self._has.is_changed = True
        if suspended:
            self._suspended[where] = node
        else:
            del self._suspended[where]

    def held_up(self) -> tuple[int, str]:
        """Tasks that wait for what the program itself has suspended or closed; and why, for people."""
        dispatcher = self._has.dispatcher
        count, places = dispatcher.held_up()
        whys = list(map(_why_shut, places))
        if self.closed and not dispatcher.fleet.servers:
            count = dispatcher.waiting
            closed = named([spot.name for spot, _ in self.closed.values()])
            whys.append(f"closed: server {closed} (restart_server() starts it)")
        return count, "; ".join(whys[:NAMED_MAX])

    def suspended_nodes(self) -> set[int]:
        return {where for where in self._suspended if isinstance(where, int)}

    # --- zombies ---

    def abandon_zombie(self, epoch: int, *, abandon: bool) -> None:
        self._has.is_changed = True
        self._abandons[epoch] = abandon
        self._tell_scheduler(messages.AbandonZombie(epoch, abandon))

    # --- closing ---

    def close_server(self, spot: Spot, node: int, *, terminate: bool, again: bool) -> None:
        where, again = where_of(spot), again or self.restarts
        if where in self.closed:
            if again:
                self._end_server(self.closed.pop(where)[0], node, again=True)
            return
        earlier = self._closing.pop(where, None)
        self._has.is_changed = True
        self._has.dispatcher.server_closes(spot.epoch, f"server {spot.name} is being closed")
        if terminate:
            self._end_server(spot, node, again=again)
        else:
            self._closing[where] = Closing(node, again or (earlier is not None and earlier.again))

    def _end_server(self, spot: Spot, node: int, *, again: bool) -> None:
        self._has.send(Address(node, NODE), messages.CloseServer(spot.port, again))
        if not again:
            self.closed[where_of(spot)] = (spot, node)

    def close_node(self, epoch: int, *, terminate: bool, again: bool) -> None:
        if epoch in self._parting or epoch not in self._has.nodes:
            return
        node, dispatcher = self._has.nodes[epoch], self._has.dispatcher
        self._has.is_changed = True
        text = f"node {node.name} is being closed"
        if not again:
            dispatcher.node_closes(epoch, text)
        for server, (_, at) in self._has.servers.items():
            if at == epoch:
                dispatcher.server_closes(server, text)
        self._closing[epoch] = Closing(epoch, again)
        if terminate:
            self._end_node(epoch)

    def _end_node(self, epoch: int) -> None:
        closing = self._closing.pop(epoch)
        if closing.again:
            self._forget_servers(epoch)
            self._renewing.add(epoch)
            self._has.send(Address(epoch, NODE), messages.RestartNode())
        else:
            self._parting.add(epoch)
            self._tell_scheduler(messages.CloseNode(epoch))

    def _tell_scheduler(self, word: messages.Message) -> None:
        if self._has.scheduler is not None:
            self._has.send(self._has.scheduler, word)

    def scheduler_back(self) -> None:
        """It may be another process, which does not know of this yet."""
        for epoch in self._parting:
            self._tell_scheduler(messages.CloseNode(epoch))
        for epoch, abandon in self._abandons.items():
            self._tell_scheduler(messages.AbandonZombie(epoch, abandon))

    def on_close_wanted(self, envelope: Envelope, now: float) -> None:
        """By a task on its server."""
        word: messages.CloseWanted = envelope.message
        spot, node = self._has.servers.get(envelope.sender.epoch, (None, 0))
        if word.node and node:
            self.close_node(node, terminate=word.terminate, again=False)
        elif spot is not None:
            self.close_server(spot, node, terminate=word.terminate, again=word.again)

    def watch(self) -> None:
        """Whose CPU tasks have ended?"""
        if self._closing:
            for where, closing in list(self._closing.items()):
                self._see(where, closing)

    def _see(self, where: Where, closing: Closing) -> None:
        busy = self._has.dispatcher.has_cpu_task
        if isinstance(where, int):
            if not any(busy(epoch) for epoch, (_, node) in self._has.servers.items() if node == where):
                self._end_node(where)
            return
        there = [spot for spot, _ in self._has.servers.values() if where_of(spot) == where]
        if not any(busy(spot.epoch) for spot in there):
            del self._closing[where]
            if there or not closing.again:  # else it has died, and the next one is started as ever
                spot = there[0] if there else Spot(where[0], where[1], 0, where[2])
                self._end_server(spot, closing.node, again=closing.again)

    # --- what comes and goes ---

    def server_up(self, spot: Spot, node: int) -> None:
        """Perhaps in the place of another one."""
        where, dispatcher = where_of(spot), self._has.dispatcher
        self.closed.pop(where, None)
        if where in self._suspended:
            dispatcher.server_opened(spot.epoch, False)
        if where in self._closing or node in self._closing or node in self._renewing:
            dispatcher.server_closes(spot.epoch, f"server {spot.name} is being closed")

    def node_renewed(self, epoch: int) -> None:
        """It asks what belongs to its next zygote: the servers that come now are no earlier ones."""
        self._renewing.discard(epoch)

    def node_lost(self, epoch: int) -> None:
        self._suspended = {where: node for where, node in self._suspended.items() if node != epoch}
        self._closing.pop(epoch, None)
        self._parting.discard(epoch)
        self._renewing.discard(epoch)
        self._abandons.pop(epoch, None)
        self._forget_servers(epoch)

    def _forget_servers(self, node: int) -> None:
        """Closed ones are started anew with their node."""
        self.closed = {where: known for where, known in self.closed.items() if known[1] != node}
        self._closing = {
            where: closing
            for where, closing in self._closing.items()
            if isinstance(where, int) or closing.node != node
        }


def _why_shut(place: FleetNode | FleetServer) -> str:
    if isinstance(place, FleetNode):
        return place.closing or f"node {place.title} is suspended (resume_node() ends that)"
    return place.closing or f"server {place.name} is suspended (resume_server() ends that)"
