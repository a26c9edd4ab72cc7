"""Leases nodes to the client that has the cluster: which are known, opened, up, and how a lease ends."""

from __future__ import annotations

from typing import Final

from dispycos.notices import counted
from dispycos.protocol import messages
from dispycos.protocol.addresses import NODE, Address
from dispycos.protocol.envelope import Envelope
from dispycos.protocol.messages import Lease, NodeInfo, ServerNews, Spot
from dispycos.protocol.status import Status

from .lifecycle import ClientState, NodeState
from .outbox import Outbox
from .registry import Client, Node, Registry, Share, title_of
from .waiting import of_zombie, version

NODES_MAX: Final = 10_000
NODE_PATIENCE_PULSES: Final = 5  # a node that cannot be reached for so many pulses is a zombie
IDLE_PULSE_S: Final = 10.0  # the pulse of a node that no client has
SETTLE_PATIENCE_S: Final = 10.0  # schedule() waits so long for the servers of a node
FORGET_AFTER_S: Final = 900.0  # a node may come back within this time; later the runtime forgets its session
DECLINED_AGAIN_S: Final = 10.0  # a node that declined is asked again


class Leasing:
    """The nodes and servers of one scheduler."""

    def __init__(self, registry: Registry, out: Outbox, name: str, scheduler_id: str) -> None:
        self.registry = registry
        self.alarms = registry.alarms
        self.out = out
        self.name = name
        self.scheduler_id = scheduler_id
        self.forget_after = FORGET_AFTER_S
        self.held = False  # nodes are still being looked for, so those that come now count as known

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
        if held is not None and _is_same_grant(held, node.lease):
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
            elif active is not None and _is_same_grant(held, active.lease):
                if active.state is ClientState.CLOSING:
                    node.share = Share(node, active)
                    self._close_claim(node)
                else:
                    self._offer(node, active, now, settle=self.held)

    def _is_of_earlier_stay(self, held: Lease, client: Client | None) -> bool:
        """The node has a new session, or the process came anew for the cluster: neither goes on with what was."""
        is_of_this_life = held.scheduler_epoch == self.out.address.epoch
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
        if share.client.wants.abandon_zombies:
            self._abandon(node)
        elif share.client.state is ClientState.ACTIVE:
            self.out.warn(share.client, of_zombie(share, _patience_with(node)))

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

    def on_pulse(self, envelope: Envelope, now: float) -> None:
        node = self.registry.nodes.get(envelope.sender.epoch)
        if node is not None:
            word: messages.Pulse = envelope.message
            node.info = node.info._replace(available=word.available)
            if node.share is not None and word.hears_client:
                node.share.client.heard_at = now
            self.pass_on(envelope, now)

    def pass_on(self, envelope: Envelope, now: float) -> None:
        """From a node to the client that has it; also what must be there before Released, and they may never have spoken."""
        node = self.registry.nodes.get(envelope.sender.epoch)
        if node is not None and node.share is not None:
            self.out.tell(node.share.client, envelope.message)

    # --- the lease on all nodes

    def offer_all(self, client: Client, now: float) -> None:
        for node in list(self.registry.nodes.values()):
            self._offer(node, client, now, settle=True)

    def offer_one(self, epoch: int, client: Client, now: float) -> None:
        """It has turned out that this node is one that the client names."""
        node = self.registry.nodes.get(epoch)
        if node is not None:
            self._offer(node, client, now, settle=True)

    def settle(self, client: Client) -> None:
        if client.settled or self.held or self.alarms.has(self.on_node_unsettled):
            return
        client.settled = True
        nodes = sum(share.expected is not None for share in self.registry.shares)
        self.out.tell(client, messages.Settled(nodes, len(self.registry.servers)))

    def close_all(self, client: Client) -> None:
        for share in self.registry.shares:
            self._close(share.node)
            if share.node.zombie:  # it closes when it is back; nobody waits for that
                self._share_gone(share.node, "was silent when the client closed")
        for node in self.registry.nodes.values():
            self._settled(node)

    def end_all(self) -> None:
        """They had time enough to close."""
        for share in self.registry.shares:
            self.out.log("warning", f"{share.node.title} did not close in time")
            self._share_gone(share.node, "did not close in time")
            share.node.turn(NodeState.IDLE)

    # --- the lease on one node

    def _offer(self, node: Node, client: Client, now: float, *, settle: bool) -> None:
        """Open the node for the client, if it suits; `settle`: schedule() waits for it."""
        if client.state is ClientState.CLOSING or node.away:
            return
        held = self.registry.claims.get(node.epoch)
        is_had = held is not None and _is_same_grant(held, client.lease)
        if held is not None and not is_had:
            return  # it is over, or this client's is
        self.registry.claims.pop(node.epoch, None)
        if not is_had and node.info.python != client.wants.client.python:
            self._leave_out(node, client)
            return
        if not is_had and client.servers_of(node.info) <= 0:
            self._settled(node)
            return
        if settle and not client.settled:
            self.alarms.set(self.on_node_unsettled, node, now + SETTLE_PATIENCE_S)
        if node.state not in (NodeState.IDLE, NodeState.DECLINED):
            return  # it still closes for another client, and is offered again when it has
        is_new = node.state is NodeState.IDLE or node.epoch not in client.opened
        node.turn(NodeState.OPENING)
        node.share = Share(node, client)
        if is_new:
            self._tell(node.share, Status.NodeDiscovered)
        self._open(node, client)

    def _open(self, node: Node, client: Client) -> None:
        assert client.lease is not None
        node.lease = client.lease
        if node.epoch in client.opened:  # else words about the first time, which are late, would count
            node.lease = client.lease._replace(opening=self.registry.next_number())
        client.opened.add(node.epoch)
        wants, cpus = client.wants, max(1, client.servers_of(node.info))
        word = messages.Open(node.lease, wants.client, cpus, wants.pulse_interval, wants.restart_servers)
        self.out.send(node.address, word)

    def _leave_out(self, node: Node, client: Client) -> None:
        """Byte code of another Python crashes the interpreter. Both sides are told, once."""
        has, needs = version(node.info.python), version(client.wants.client.python)
        remedy = f"run `dispycos node` there with Python {needs}, or the client with Python {has}"
        text = f"{node.title} has Python {has}, {client.title} has Python {needs}; it is left out: {remedy}"
        if self._warn_of(node, client, text):
            self.out.send(node.address, messages.Notice(text, "warning"))

    def _warn_of(self, node: Node, client: Client, text: str) -> bool:
        """Why the client does not get this node, once; True if it was not said before."""
        is_new = node.epoch not in client.warned
        if is_new:
            client.warned.add(node.epoch)
            self.out.warn(client, text)
        return is_new

    def on_opened(self, envelope: Envelope, now: float) -> None:
        word: messages.Opened = envelope.message
        share = self._share_of(envelope, word.lease)
        if share is None:  # it was given up meanwhile; unsaid, the node would keep the lease for ever
            self.out.send(envelope.sender, messages.Close(word.lease))
        elif share.node.state is NodeState.OPENING:
            share.node.turn(NodeState.OPEN)
            share.expected, share.pulse_interval = word.servers, word.pulse_interval
            self._tell_of_pulses(share)
            self._tell(share, Status.NodeInitialized)
            self._see_ready(share)

    def _tell_of_pulses(self, share: Share) -> None:
        """Once, though many nodes may be the same in this."""
        client, asked, given = share.client, share.client.wants.pulse_interval, share.pulse_interval
        if given in (0.0, asked) or client.told_of_pulses:
            return
        client.told_of_pulses = True
        option = "min" if given > asked else "max"
        self.out.warn(
            client,
            f"{share.node.title} allows no pulse_interval of {asked:g} s and takes {given:g} s, as others may: "
            f"start it with --{option}_pulse_interval {asked:g}, or ask for {given:g} s",
        )

    def on_declined(self, envelope: Envelope, now: float) -> None:
        word: messages.Declined = envelope.message
        share = self._share_of(envelope, word.lease)
        if share is None:
            return
        node = share.node
        if node.state is NodeState.CLOSING:  # it crossed the Close
            self._share_gone(node, "declined")
            node.turn(NodeState.IDLE)
        elif node.state is NodeState.OPENING:
            node.share = None
            node.turn(NodeState.DECLINED)
            self._settled(node)
            self.alarms.set(self.on_node_declined, node, now + DECLINED_AGAIN_S)
            self._warn_of(node, share.client, f"{node.title} declined: {word.reason}")

    def on_node_declined(self, node: Node, now: float) -> None:
        """Whoever had it may have left by now."""
        if self.registry.active is not None:
            self._offer(node, self.registry.active, now, settle=False)

    def on_node_unsettled(self, node: Node, now: float) -> None:
        assert self.registry.active is not None
        text = f"{node.title} has no servers yet after {SETTLE_PATIENCE_S:g} s: going on without them"
        self.out.warn(self.registry.active, text)

    def on_closed(self, envelope: Envelope, now: float) -> None:
        word: messages.Closed = envelope.message
        node = self.registry.nodes.get(envelope.sender.epoch)
        if node is None or node.lease != word.lease:
            return
        if node.state is NodeState.CLOSING:
            if node.share is not None:
                self._share_gone(
                    node, f"closed the lease: {word.reason}" if word.reason else "closed the lease"
                )
            node.turn(NodeState.IDLE)
        elif node.state in (NodeState.OPENING, NodeState.OPEN):
            self._share_gone(node, f"closed the lease: {word.reason or 'no reason given'}")
            node.turn(NodeState.DECLINED)
        if word.last:
            self.node_gone(node, "it has ended", "info")
        elif node.state is NodeState.IDLE and self.registry.active is not None:
            self._offer(node, self.registry.active, now, settle=False)

    # --- servers

    def on_server_up(self, envelope: Envelope, now: float) -> None:
        word: messages.ServerUp = envelope.message
        spot, share = word.spot, self._share_of(envelope, word.lease)
        if share is None or share.node.state is not NodeState.OPEN or spot.epoch in share.servers:
            return
        share.servers[spot.epoch] = spot
        share.reported.add(spot.name)
        share.failures.pop(spot.name, None)
        for status in (Status.ServerDiscovered, Status.ServerInitialized):
            self._tell_server(share, status, spot)
        self._see_ready(share)

    def on_server_down(self, envelope: Envelope, now: float) -> None:
        word: messages.ServerDown = envelope.message
        spot, share = word.spot, self._share_of(envelope, word.lease)
        if share is None:
            return
        share.reported.add(spot.name)
        has_failed = not word.restarting and not word.expected
        if has_failed:
            share.failures[spot.name] = f"server {spot.name} {word.death}{word.lines}"
        if share.servers.pop(spot.epoch, None) is not None:
            self._tell_server(share, Status.ServerClosed, spot, "" if word.expected else word.death)
        elif has_failed:
            self.out.warn(share.client, f"server {spot.name} did not start: {word.death}")
        if has_failed and share.is_hopeless and share.client.state is ClientState.ACTIVE:
            self.out.tell(share.client, messages.Hopeless(share.failure, share.node.epoch))
        self._see_ready(share)

    def _see_ready(self, share: Share) -> None:
        if share.is_ready:
            self._settled(share.node)

    # --- common

    def _share_of(self, envelope: Envelope, lease: Lease) -> Share | None:
        """What the sender has under this lease; what it says about another one is out of date."""
        node = self.registry.nodes.get(envelope.sender.epoch)
        return node.share if node is not None and node.lease == lease else None

    def _close(self, node: Node) -> None:
        """Answered by Closed, in its time."""
        assert node.lease is not None
        if node.state is not NodeState.CLOSING:
            node.turn(NodeState.CLOSING)
        self.out.send(node.address, messages.Close(node.lease))

    def _share_gone(self, node: Node, why: str, *, abandoned: bool = False) -> None:
        """The lease on this node is over, however that came."""
        share, node.share = node.share, None
        assert share is not None
        self._settled(node)
        for spot in share.servers.values():  # the news of the node says why
            self._tell_server(share, Status.ServerAbandoned if abandoned else Status.ServerClosed, spot)
        self._tell(share, Status.NodeAbandoned if abandoned else Status.NodeClosed, why)

    def _tell(self, share: Share, status: Status, text: str = "") -> None:
        self.out.tell(share.client, messages.NodeNews(status, share.node.info, text))

    def _tell_server(self, share: Share, status: Status, spot: Spot, text: str = "") -> None:
        self.out.tell(share.client, ServerNews(status, spot, share.node.info.name, text, share.node.epoch))

    def _settled(self, node: Node) -> None:
        """Settled does not wait for this node (any more)."""
        self.alarms.cancel(self.on_node_unsettled, node)


def _is_same_grant(held: Lease, granted: Lease | None) -> bool:
    """In whichever life of its scheduler, and however often the node was opened."""
    return granted is not None and (held.scheduler, held.number) == (granted.scheduler, granted.number)


def _patience_with(node: Node) -> float:
    """Seconds of silence until it is a zombie."""
    share = node.share
    interval = IDLE_PULSE_S if share is None else share.pulse_interval or share.client.wants.pulse_interval
    return NODE_PATIENCE_PULSES * interval
