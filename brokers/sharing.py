"""What the client that has the cluster gets of each node: the lease there, and the servers that come up and go."""

from __future__ import annotations

from typing import Final

from dispycos.protocol import messages
from dispycos.protocol.envelope import Envelope
from dispycos.protocol.messages import Lease, ServerNews, Spot
from dispycos.protocol.status import Status

from .lifecycle import ClientState, NodeState
from .outbox import Outbox
from .registry import Client, Node, Registry, Share
from .waiting import version

DECLINED_AGAIN_S: Final = 10.0  # a node that declined is asked again


class Sharing:
    """The leases on the nodes of one scheduler."""

    def __init__(self, registry: Registry, out: Outbox) -> None:
        self.registry = registry
        self.alarms = registry.alarms
        self.out = out
        self.max_file_size = 0  # bytes, of any node's limit and this the lower one holds; 0: no limit
        self.held = False  # nodes are still being looked for, so those that come now count as known

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

    def end_all(self, client: Client, now: float) -> None:
        """The nodes of this client had time enough to close."""
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
        is_had = held is not None and is_same_grant(held, client.lease)
        if held is not None and not is_had:
            return  # it is over, or this client's is
        self.registry.claims.pop(node.epoch, None)
        if held is not None and node.epoch in client.closed:
            node.lease, node.share = held, Share(node, client)
            self._close(node)
            return
        if not is_had and node.info.python != client.wants.client.python:
            self._leave_out(node, client)
            return
        if not is_had and (entry := client.asks_for(node.info)) is not None:
            self._ask(node, client, entry, now, settle=settle)
            return
        if not is_had and client.servers_of(node.info) <= 0:
            self._settled(node)
            return
        if settle and not client.settled:
            self.alarms.set(self.on_node_unsettled, node, now + client.wants.settle_s)
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
        word = messages.Open(node.lease, wants.client, cpus, wants.pulse_interval, self.max_file_size)
        self.out.send(node.address, word)

    def _ask(self, node: Node, client: Client, entry: int, now: float, *, settle: bool) -> None:
        """The client has an allocate() of its own for this entry. It may take its time: nobody else waits for this node."""
        if settle and not client.settled:
            self.alarms.set(self.on_node_unsettled, node, now + client.wants.settle_s)
        if (node.epoch, entry) not in client.asked:
            client.asked.add((node.epoch, entry))
            is_at = client.named[client.first_own + entry].is_at(node.info)
            self.out.tell(client, messages.Offer(node.info, entry, is_at))

    def on_accept(self, envelope: Envelope, now: float) -> None:
        client, word = self.registry.active, envelope.message
        if client is None or client.address != envelope.sender:
            return
        client.answers.setdefault(word.node, {})[word.entry] = word.servers
        node = self.registry.nodes.get(word.node)
        if node is not None:
            self._offer(node, client, now, settle=True)

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
        client = self.registry.active
        if client.wants.settle_s:  # else it does not want to wait
            text = f"{node.title} has no servers yet after {client.wants.settle_s:g} s: going on without them"
            self.out.warn(client, text)

    # --- servers

    def on_server_up(self, envelope: Envelope, now: float) -> None:
        word: messages.ServerUp = envelope.message
        spot, share = word.spot, self._share_of(envelope, word.lease)
        if share is None or share.node.state is not NodeState.OPEN or spot.epoch in share.servers:
            return
        share.servers[spot.epoch] = spot
        share.reported.add(spot.name)
        share.failures.pop(spot.name, None)
        self._tell_server(share, Status.ServerInitialized, spot)
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
        goes_on = node.share is not None and node.share.client.state is ClientState.ACTIVE
        self.out.send(node.address, messages.Close(node.lease, goes_on))

    def on_close_node(self, envelope: Envelope, now: float) -> None:
        client = self.registry.clients.get(envelope.sender.epoch)
        if client is None:
            return
        word: messages.CloseNode = envelope.message
        client.closed.add(word.node)
        node = self.registry.nodes.get(word.node)
        if node is not None and node.share is not None and node.state is not NodeState.CLOSING:
            self._close(node)

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
        self.out.tell(share.client, ServerNews(status, spot, share.node.epoch, text))
        if status in (Status.ServerClosed, Status.ServerAbandoned):
            self.out.tell_others(self.registry, share.client, messages.Gone([spot.epoch]))

    def _settled(self, node: Node) -> None:
        """Settled does not wait for this node (any more)."""
        self.alarms.cancel(self.on_node_unsettled, node)


def is_same_grant(held: Lease, granted: Lease | None) -> bool:
    """In whichever life of its scheduler, and however often the node was opened."""
    return granted is not None and (held.scheduler, held.number) == (granted.scheduler, granted.number)
