"""Knows the nodes of one scheduler: who comes, with which lease, who is silent or gone; what they share is in sharing.py."""

from __future__ import annotations

from typing import Final

from dispycos.notices import counted
from dispycos.protocol import messages
from dispycos.protocol.addresses import NODE, Address
from dispycos.protocol.envelope import Envelope
from dispycos.protocol.messages import Lease, NodeInfo
from dispycos.protocol.status import Status

from .lifecycle import ClientState, NodeState
from .outbox import Outbox
from .registry import Client, Node, Registry, Share, title_of
from .sharing import Sharing, is_same_grant
from .waiting import of_zombie

NODES_MAX: Final = 10_000
NODE_PATIENCE_PULSES: Final = 5  # a node that cannot be reached for so many pulses is a zombie
IDLE_PULSE_S: Final = 10.0  # the pulse of a node that no client has
FORGET_AFTER_S: Final = 900.0  # a node may come back within this time; later the runtime forgets its session


class Leasing(Sharing):
    """The nodes and servers of one scheduler."""

    def __init__(self, registry: Registry, out: Outbox, name: str, scheduler_id: str) -> None:
        super().__init__(registry, out)
        self.name = name
        self.scheduler_id = scheduler_id
        self.forget_after = FORGET_AFTER_S

    # --- known or not

    def on_register(self, envelope: Envelope, now: float) -> None:
        word: messages.Register = envelope.message
        node = self.registry.nodes.get(envelope.sender.epoch) or self._welcome(envelope.sender, word.node)
        if node is None or (node.away and not node.is_hearsay):
            return  # its link is gone again: it says so anew with the next
        node.info = word.node
        was_silent = not node.confirmed
        node.confirmed, node.zombie = True, False
        self.alarms.cancel(self.on_node_silent, node)
        self.alarms.cancel(self.on_node_forgotten, node)
        self._compare_lease(node, word, now)
        if was_silent and node.share is not None and node.state is NodeState.OPEN:
            self._tell(node.share, Status.NodeResumed, "its link is up again")

    def _welcome(self, address: Address, info: NodeInfo) -> Node | None:
        earlier = self.registry.node_like(info)
        if earlier is not None:
            self.node_gone(earlier, "it was started again")
        if len(self.registry.nodes) >= NODES_MAX:
            text = f"scheduler {self.name} has {NODES_MAX} nodes already"
            self.out.send(address, messages.Notice(text, "error"))
            return None
        node = self.registry.nodes[address.epoch] = Node(address, info)
        self.out.log("info", f"{node.title} is here, {counted(info.cpus, 'CPU')}")
        return node

    def _compare_lease(self, node: Node, word: messages.Register, now: float) -> None:
        """A node says which lease it holds: is it what it should?"""
        held = word.lease
        if node.is_hearsay:
            node.is_hearsay = node.away = False
            self._see_hearsay(node, held)
        elif node.state is NodeState.OPEN and held != node.lease:
            self._share_gone(node, "it lost its lease")
            node.turn(NodeState.IDLE)
        elif node.state is NodeState.OPEN and word.closing:  # nobody was heard for its lease_grace
            node.turn(NodeState.CLOSING)
        self.registry.claims.pop(node.epoch, None)
        if node.state not in (NodeState.IDLE, NodeState.DECLINED):
            return
        if held is not None and held.scheduler == self.scheduler_id:
            self.registry.claims[node.epoch] = held
            self.registry.note(held.number)
            node.holder = title_of(word.client) if word.client is not None else "somebody"
        elif self.registry.active is not None:
            self._offer(node, self.registry.active, now, settle=self.held)

    def _see_hearsay(self, node: Node, held: Lease | None) -> None:
        """Its client said that it has this node, which says now what it holds."""
        if held is not None and is_same_grant(held, node.lease):
            node.lease = held
            if node.state is NodeState.CLOSING:
                self._close(node)
            elif node.share is not None:
                self._open(node, node.share.client)
        else:
            if node.share is not None:
                self._share_gone(node, "it lost its lease")
            if node.state is not NodeState.IDLE:
                node.turn(NodeState.IDLE)

    def weigh_claims(self, now: float) -> None:
        """Of nodes that came with a lease: who has the cluster goes on with them; what is over is closed."""
        registry, active = self.registry, self.registry.active
        for epoch, held in list(registry.claims.items()):
            node, client = registry.nodes.get(epoch), registry.clients.get(held.client)
            if node is None:
                continue
            if held.number < registry.newest or self._is_of_earlier_stay(held, client):
                self._close_claim(node)
            elif active is not None and is_same_grant(held, active.lease):
                if active.state is ClientState.CLOSING:
                    node.share = Share(node, active)
                    self._close_claim(node)
                else:
                    self._offer(node, active, now, settle=self.held)

    def _is_of_earlier_stay(self, held: Lease, client: Client | None) -> bool:
        """The node has a new session, or the process came anew for the cluster: neither goes on with what was."""
        is_of_this_life = held.scheduler_epoch == self.out.sender.epoch
        return is_of_this_life or (client is not None and held.number < client.ticket)

    def _close_claim(self, node: Node) -> None:
        node.lease = self.registry.claims.pop(node.epoch)
        self._close(node)

    def close_claims(self) -> None:
        """This scheduler ends in order: what was not taken up ends, too."""
        for node in self.registry.nodes.values():
            if node.epoch in self.registry.claims:
                self._close_claim(node)

    def hear_of(self, info: NodeInfo, client: Client, now: float) -> None:
        """The client says that it has this node: it is waited for as for one whose link is gone."""
        known = self.registry.nodes.get(info.epoch) or self.registry.node_like(info)
        if known is not None:
            if info.epoch not in self.registry.claims:
                news = messages.NodeNews(Status.NodeClosed, info, "is gone: it lost its lease")
                self.out.tell(client, news)
            return  # else it is offered like all others
        node = self.registry.nodes[info.epoch] = Node(Address(info.epoch, NODE), info)
        node.turn(NodeState.OPENING)
        node.is_hearsay = node.away = True
        node.confirmed = False
        node.lease, node.share = client.lease, Share(node, client)
        client.opened.add(node.epoch)
        self.alarms.set(self.on_node_silent, node, now + _patience_with(node))
        self.alarms.set(self.on_node_forgotten, node, now + self.forget_after)
        if node.epoch in client.closed:
            self._close(node)

    def node_lost(self, node: Node, now: float, *, lives: bool) -> None:
        """Its link is down: its client gives it no new tasks, those that it has may go on."""
        node.away, node.confirmed = True, False
        self.alarms.set(self.on_node_silent, node, now + _patience_with(node))
        if not lives:
            self.alarms.set(self.on_node_forgotten, node, now + self.forget_after)
        self._settled(node)
        if node.share is not None:
            self._tell(node.share, Status.NodeDisconnected, "its link is down")

    def on_node_silent(self, node: Node, now: float) -> None:
        """A zombie: given up if its client said so; else it keeps what it has."""
        node.zombie = True
        self.registry.claims.pop(node.epoch, None)  # it says what it holds when it is back
        share = node.share
        if share is None:
            return
        if share.client.abandons.get(node.epoch, share.client.wants.abandon_zombies):
            self._abandon(node)
        elif share.client.state is ClientState.ACTIVE:
            self.out.warn(share.client, of_zombie(share, _patience_with(node)))

    def on_abandon_zombie(self, envelope: Envelope, now: float) -> None:
        client, word = self.registry.clients.get(envelope.sender.epoch), envelope.message
        if client is None:
            return
        client.abandons[word.node] = word.abandon
        node = self.registry.nodes.get(word.node)
        if word.abandon and node is not None and node.zombie and node.share is not None:
            self._abandon(node)

    def _abandon(self, node: Node) -> None:
        """Not forgotten: it may live behind a broken link, and has to close when that heals."""
        self._share_gone(node, f"was silent for {_patience_with(node):g} s", abandoned=True)
        if node.state is not NodeState.CLOSING:
            self._close(node)

    def on_node_forgotten(self, node: Node, now: float) -> None:
        """Its session goes with the runtime's patience; what was on its way is lost, so nothing can go on."""
        self.node_gone(node, f"it was silent for {self.forget_after:g} s, so its session is gone")

    def node_gone(self, node: Node, why: str, level: str = "warning") -> None:
        self.out.log(level, f"{node.title} is gone: {why}")
        if node.share is not None:
            self._share_gone(node, f"is gone: {why}")
        self.alarms.forget(node)
        self.registry.claims.pop(node.epoch, None)
        node.turn(NodeState.GONE)
        del self.registry.nodes[node.epoch]

    def on_closed(self, envelope: Envelope, now: float) -> None:
        word: messages.Closed = envelope.message
        node = self.registry.nodes.get(envelope.sender.epoch)
        if node is None or node.lease != word.lease:
            return
        if node.state is NodeState.CLOSING:
            if node.share is not None:
                why = f"closed the lease: {word.reason}" if word.reason else "closed the lease"
                self._share_gone(node, "" if node.epoch in node.share.client.closed else why)
            node.turn(NodeState.IDLE)
        elif node.state in (NodeState.OPENING, NodeState.OPEN):
            assert node.share is not None
            if word.failed:
                node.share.client.failed[node.epoch] = f"{node.title}: {word.reason}"
            self._share_gone(node, f"closed the lease: {word.reason or 'no reason given'}")
            node.turn(NodeState.DECLINED)
        if word.last:
            self.node_gone(node, "it has ended", "info")
        elif node.state is NodeState.IDLE and self.registry.active is not None:
            self._offer(node, self.registry.active, now, settle=False)

    def on_pulse(self, envelope: Envelope, now: float) -> None:
        node = self.registry.nodes.get(envelope.sender.epoch)
        if node is not None:
            word: messages.Pulse = envelope.message
            node.info = node.info._replace(available=word.available)
            if node.share is not None:
                node.share.idle_s = word.idle_s
                if word.hears_client:
                    node.share.client.heard_at = now
            self.pass_on(envelope, now)

    def pass_on(self, envelope: Envelope, now: float) -> None:
        """From a node to the client that has it; also what must be there before Released, and they may never have spoken."""
        node = self.registry.nodes.get(envelope.sender.epoch)
        if node is not None and node.share is not None:
            self.out.tell(node.share.client, envelope.message)


def _patience_with(node: Node) -> float:
    """Seconds of silence until it is a zombie."""
    share = node.share
    interval = IDLE_PULSE_S if share is None else share.pulse_interval or share.client.wants.pulse_interval
    return NODE_PATIENCE_PULSES * interval
