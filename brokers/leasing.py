"""Leases nodes to the client that has the cluster: which are known, opened, up, and how a lease ends."""

from __future__ import annotations

from typing import Final

from dispycos.notices import counted
from dispycos.protocol.envelope import Envelope
from dispycos.protocol.messages import (
    Close,
    Closed,
    Declined,
    Gone,
    Hopeless,
    Lease,
    NodeNews,
    Notice,
    Open,
    Opened,
    Pulse,
    Register,
    ServerDown,
    ServerNews,
    ServerUp,
    Settled,
)
from dispycos.protocol.status import Status

from .allocation import allocate
from .lifecycle import ClientState, NodeState
from .outbox import Outbox
from .registry import NODE_ALARMS, Alarm, Client, Node, Registry, Server, Site
from .waiting import Waiting, version

NODES_MAX: Final = 10_000
NODE_PATIENCE_PULSES: Final = 5  # a node that cannot be reached for so many pulses is a zombie
IDLE_PULSE_S: Final = 10.0  # the pulse of a node that no client has
SETTLE_PATIENCE_S: Final = 10.0  # schedule() waits so long for the servers of a node
FORGET_AFTER_S: Final = 900.0  # a node may come back within this time; later the runtime forgets its session
DECLINED_AGAIN_S: Final = 10.0  # a node that declined is asked again


class Leasing:
    """The nodes and servers of one scheduler."""

    def __init__(
        self,
        registry: Registry,
        waiting: Waiting,
        out: Outbox,
        name: str,
        scheduler_id: str,
    ) -> None:
        self.registry = registry
        self.waiting = waiting
        self.out = out
        self.name = name
        self.scheduler_id = scheduler_id
        self.forget_after = FORGET_AFTER_S
        self.held = False  # nodes are still being looked for, so those that come now count as known

    # --- known or not

    def on_register(self, envelope: Envelope, now: float) -> None:
        message: Register = envelope.message
        node = self.registry.nodes.get(envelope.sender.epoch)
        if node is None:
            earlier = self.registry.node_like(message.node)
            if earlier is not None:
                self.node_gone(earlier, "it was started again")
            if len(self.registry.nodes) >= NODES_MAX:
                self.out.send(
                    envelope.sender, Notice(f"scheduler {self.name} has {NODES_MAX} nodes already", "error")
                )
                return
            node = self.registry.nodes[envelope.sender.epoch] = Node(envelope.sender, message.node)
            self.out.log("info", f"{node.title} is here, {counted(message.node.cpus, 'CPU')}")
        node.info = message.node
        site, was_away = node.site, not node.confirmed
        self._confirm(node)
        self._compare_lease(node, message.lease, message.closing, now)
        if was_away and site is not None and node.site is site and node.state is NodeState.OPEN:
            self._tell_node(site, Status.NodeResumed, "its link is up again")

    def _confirm(self, node: Node) -> None:
        node.confirmed, node.zombie = True, False
        for alarm in (Alarm.NODE_SILENT, Alarm.NODE_FORGOTTEN):
            self.registry.alarms.cancel(alarm, node.epoch)

    def _compare_lease(self, node: Node, held: Lease | None, closing: bool, now: float) -> None:
        """A node says which lease it holds: is it what it should?"""
        if node.state is NodeState.OPEN and held != node.lease:
            self._site_gone(node, "it lost its lease")
            node.turn(NodeState.IDLE)
        elif node.state is NodeState.OPEN and closing:  # nobody was heard for its lease_grace
            node.turn(NodeState.CLOSING)
        if node.state not in (NodeState.IDLE, NodeState.DECLINED):
            return
        if held is not None and held.scheduler == self.scheduler_id:
            # Granted by this scheduler before it or the node was cut off: nobody knows its tasks any more.
            self.registry.alarms.cancel(Alarm.NODE_DECLINED, node.epoch)
            node.lease = held
            node.turn(NodeState.CLOSING)
            self.out.send(node.address, Close(held))
        elif self.registry.active is not None:
            self._offer(node, self.registry.active, now, settle=self.held)

    def node_lost(self, node: Node, now: float, *, lives: bool) -> None:
        """Its link is down: its client gives it no new tasks, those it has may go on."""
        node.away, node.confirmed = True, False
        self.registry.alarms.set(Alarm.NODE_SILENT, node.epoch, now + _patience_with(node))
        if not lives:
            self.registry.alarms.set(Alarm.NODE_FORGOTTEN, node.epoch, now + self.forget_after)
        self._settled(node)
        if node.site is not None:
            self._tell_node(node.site, Status.NodeDisconnected, "its link is down")

    def on_node_silent(self, epoch: int, now: float) -> None:
        """A zombie: given up if its client said so, else its tasks stay."""
        node = self.registry.nodes[epoch]
        node.zombie = True
        if node.site is None:
            return
        if node.site.client.wants.abandon_zombies:
            self._abandon(node)
        elif node.site.client.state is not ClientState.CLOSING:
            self.waiting.tell_of_zombie(node.site, _patience_with(node))

    def _abandon(self, node: Node) -> None:
        """Not forgotten: it may live behind a broken link, and has to close when that heals."""
        why = f"was silent for {_patience_with(node):g} s"
        self._site_gone(node, why, Status.NodeAbandoned, Status.ServerAbandoned)
        assert node.lease is not None
        if node.state is not NodeState.CLOSING:
            node.turn(NodeState.CLOSING)
            self.out.send(node.address, Close(node.lease))

    def on_node_forgotten(self, epoch: int, now: float) -> None:
        """Its session goes with the runtime's patience; what was on its way is lost, so nothing can go on."""
        self.node_gone(
            self.registry.nodes[epoch], f"it was silent for {self.forget_after:g} s, so its session is gone"
        )

    def node_gone(self, node: Node, why: str, level: str = "warning") -> None:
        self.out.log(level, f"{node.title} is gone: {why}")
        self._settled(node)
        if node.site is not None:
            self._site_gone(node, f"is gone: {why}")
        for alarm in NODE_ALARMS:
            self.registry.alarms.cancel(alarm, node.epoch)
        for client in self.registry.clients.values():
            client.warned.discard(node.epoch)
        node.turn(NodeState.GONE)
        del self.registry.nodes[node.epoch]

    def on_pulse(self, envelope: Envelope, now: float) -> None:
        pulse: Pulse = envelope.message
        node = self.registry.nodes.get(envelope.sender.epoch)
        if node is None:
            return
        node.info = node.info._replace(available=pulse.available)
        if node.site is not None:
            self.out.tell(node.site.client, pulse)

    def on_left(self, envelope: Envelope, now: float) -> None:
        """By us, so that it is there before Released: the node may never have spoken with the client."""
        node = self.registry.nodes.get(envelope.sender.epoch)
        if node is not None and node.site is not None:
            self.out.tell(node.site.client, envelope.message)

    # --- the lease on all nodes

    def new_lease(self, client: Client) -> Lease:
        self.registry.leases += 1
        return Lease(self.registry.leases, client.epoch, self.scheduler_id, self.out.address.epoch)

    def offer_all(self, client: Client, now: float) -> None:
        for node in list(self.registry.nodes.values()):
            self._offer(node, client, now, settle=True)

    def offer_one(self, epoch: int, client: Client, now: float) -> None:
        """It has turned out that this node is one that the client names."""
        node = self.registry.nodes.get(epoch)
        if node is not None:
            self._offer(node, client, now, settle=True)

    def settle(self, client: Client) -> None:
        if client.settled or self.held or client.unsettled:
            return
        client.settled = True
        nodes = sum(site.expected is not None for site in self.registry.sites())
        self.out.tell(client, Settled(nodes, len(self.registry.servers)))

    def close_all(self, client: Client) -> None:
        for epoch in list(client.unsettled):
            self._settled(self.registry.nodes[epoch])
        for site in list(self.registry.sites()):
            if site.node.state is not NodeState.CLOSING:
                site.node.turn(NodeState.CLOSING)
            assert site.node.lease is not None
            self.out.send(site.node.address, Close(site.node.lease))
            if site.node.zombie:  # it closes when it is back; nobody waits for that
                self._site_gone(site.node, "was silent when the client closed")

    def on_close_overdue(self, epoch: int, now: float) -> None:
        for site in list(self.registry.sites()):
            self.out.log("warning", f"{site.node.title} did not close in time")
            self._site_gone(site.node, "did not close in time")
            site.node.turn(NodeState.IDLE)

    def forgive_all(self) -> None:
        """Who declined one client may take the next."""
        for node in self.registry.nodes.values():
            if node.state is NodeState.DECLINED:
                self.registry.alarms.cancel(Alarm.NODE_DECLINED, node.epoch)
                node.turn(NodeState.IDLE)

    # --- the lease on one node

    def _offer(self, node: Node, client: Client, now: float, *, settle: bool) -> None:
        """Open the node for the client, if it suits; `settle`: schedule() waits for it."""
        if client.state is ClientState.CLOSING or node.away:
            return
        if node.info.python != client.wants.client.python:
            self._leave_out(node, client)
            return
        cpus = allocate(node.info, client.allocations)
        if cpus <= 0:
            self._settled(node)
            return
        if settle and not client.settled:
            client.unsettled.add(node.epoch)
            self.registry.alarms.set(Alarm.NODE_UNSETTLED, node.epoch, now + SETTLE_PATIENCE_S)
        if node.state not in (NodeState.IDLE, NodeState.DECLINED):
            return  # it still closes for another client, and is offered again when it has
        assert client.lease is not None
        self.registry.alarms.cancel(Alarm.NODE_DECLINED, node.epoch)
        node.turn(NodeState.OPENING)
        # Opened once more it has another number, or late words about the first time would be taken for words about this.
        is_again = node.lease is not None and node.lease.client == client.epoch
        node.lease = self.new_lease(client) if is_again else client.lease
        node.site = Site(node, client)
        if node.epoch not in client.discovered:
            client.discovered.add(node.epoch)
            self._tell_node(node.site, Status.NodeDiscovered)
        wants = client.wants
        self.out.send(
            node.address, Open(node.lease, wants.client, cpus, wants.pulse_interval, wants.restart_servers)
        )

    def _leave_out(self, node: Node, client: Client) -> None:
        """Byte code of another Python crashes the interpreter. Both sides are told, once."""
        if node.epoch in client.warned:
            return
        client.warned.add(node.epoch)
        has, needs = version(node.info.python), version(client.wants.client.python)
        remedy = f"run `dispycos node` there with Python {needs}, or the client with Python {has}"
        text = f"{node.title} has Python {has}, {client.title} has Python {needs}; it is left out: {remedy}"
        self.out.tell(client, Notice(text, "warning"))
        self.out.send(node.address, Notice(text, "warning"))

    def on_opened(self, envelope: Envelope, now: float) -> None:
        message: Opened = envelope.message
        site = self._site_of(envelope, message.lease)
        if site is None or site.node.state is not NodeState.OPENING:
            if site is None:  # it was given up meanwhile; unsaid, the node would keep the lease for ever
                self.out.send(envelope.sender, Close(message.lease))
            return
        site.node.turn(NodeState.OPEN)
        site.expected = message.servers
        site.pulse_interval = message.pulse_interval
        self._tell_of_pulses(site)
        site.client.warned.discard(site.node.epoch)
        self._tell_node(site, Status.NodeInitialized)
        self._see_ready(site)

    def _tell_of_pulses(self, site: Site) -> None:
        """Once, though many nodes may be the same in this."""
        client, asked, given = site.client, site.client.wants.pulse_interval, site.pulse_interval
        if given in (0.0, asked) or client.told_of_pulses:
            return
        client.told_of_pulses = True
        option = "min" if given > asked else "max"
        self.out.tell(
            client,
            Notice(
                f"{site.node.title} allows no pulse_interval of {asked:g} s and takes {given:g} s, as others may: "
                f"start it with --{option}_pulse_interval {asked:g}, or ask for {given:g} s",
                "warning",
            ),
        )

    def on_declined(self, envelope: Envelope, now: float) -> None:
        message: Declined = envelope.message
        site = self._site_of(envelope, message.lease)
        if site is None:
            return
        node, client = site.node, site.client
        if node.state is NodeState.CLOSING:  # it crossed the Close
            self._site_gone(node, "declined")
            node.turn(NodeState.IDLE)
        elif node.state is NodeState.OPENING:
            node.site = None
            node.turn(NodeState.DECLINED)
            self._settled(node)
            self.registry.alarms.set(Alarm.NODE_DECLINED, node.epoch, now + DECLINED_AGAIN_S)
            if node.epoch not in client.warned:
                client.warned.add(node.epoch)
                self.out.tell(client, Notice(f"{node.title} declined: {message.reason}", "warning"))

    def on_node_declined(self, epoch: int, now: float) -> None:
        """Whoever had it may have left by now."""
        if self.registry.active is not None:
            self._offer(self.registry.nodes[epoch], self.registry.active, now, settle=False)

    def on_node_unsettled(self, epoch: int, now: float) -> None:
        node, active = self.registry.nodes[epoch], self.registry.active
        assert active is not None
        self._settled(node)
        text = f"{node.title} has no servers yet after {SETTLE_PATIENCE_S:g} s: going on without them"
        self.out.tell(active, Notice(text, "warning"))

    def on_closed(self, envelope: Envelope, now: float) -> None:
        message: Closed = envelope.message
        node = self.registry.nodes.get(envelope.sender.epoch)
        if node is None or node.lease != message.lease:
            return
        if node.state is NodeState.CLOSING:
            if node.site is not None:
                self._site_gone(node, _closed_because(message.reason))
            node.turn(NodeState.IDLE)
        elif node.state in (NodeState.OPENING, NodeState.OPEN):
            self._site_gone(node, _closed_because(message.reason or "no reason given"))
            node.turn(NodeState.DECLINED)
        if message.last:
            self.node_gone(node, "it has ended", "info")
        elif node.state is NodeState.IDLE and self.registry.active is not None:
            self._offer(node, self.registry.active, now, settle=False)

    # --- servers

    def on_server_up(self, envelope: Envelope, now: float) -> None:
        message: ServerUp = envelope.message
        spot = message.spot
        site = self._site_of(envelope, message.lease)
        if site is None or site.node.state is not NodeState.OPEN or spot.epoch in self.registry.servers:
            return
        self.registry.servers[spot.epoch] = site.servers[spot.epoch] = Server(spot, site)
        site.reported.add(spot.name)
        site.failures.pop(spot.name, None)
        for status in (Status.ServerDiscovered, Status.ServerInitialized):
            self.out.tell(site.client, ServerNews(status, spot, site.node.info.name))
        self._see_ready(site)

    def on_server_down(self, envelope: Envelope, now: float) -> None:
        message: ServerDown = envelope.message
        spot = message.spot
        site = self._site_of(envelope, message.lease)
        if site is None:
            return
        site.reported.add(spot.name)
        if not message.restarting and not message.expected:
            site.failures[spot.name] = f"server {spot.name} {message.death}{message.lines}"
            if site.is_hopeless:
                self.out.tell(site.client, Hopeless(site.failure, site.node.epoch))
        server = site.servers.pop(spot.epoch, None)
        if server is not None:
            del self.registry.servers[spot.epoch]
            self.out.tell(
                site.client,
                ServerNews(
                    Status.ServerClosed, spot, site.node.info.name, "" if message.expected else message.death
                ),
            )
            self._tell_servers([spot.epoch])
        elif not message.restarting and not message.expected:
            self.out.tell(
                site.client, Notice(f"server {spot.name} did not start: {message.death}", "warning")
            )
        self._see_ready(site)

    def _see_ready(self, site: Site) -> None:
        if site.is_ready:
            self._settled(site.node)

    # --- common

    def _site_of(self, envelope: Envelope, lease: Lease) -> Site | None:
        """What the sender has under this lease; what it says about another one is out of date."""
        node = self.registry.nodes.get(envelope.sender.epoch)
        return node.site if node is not None and node.lease == lease else None

    def _site_gone(
        self,
        node: Node,
        why: str,
        status: Status = Status.NodeClosed,
        of_servers: Status = Status.ServerClosed,
    ) -> None:
        """The lease on this node is over, however that came."""
        site = node.site
        assert site is not None
        self._settled(node)
        for server in site.servers.values():
            del self.registry.servers[server.spot.epoch]
            news = ServerNews(of_servers, server.spot, node.info.name)  # NodeNews says why
            self.out.tell(site.client, news)
        dead, node.site = list(site.servers), None
        self._tell_servers(dead)
        self._tell_node(site, status, why)
        site.client.discovered.discard(node.epoch)

    def _tell_servers(self, dead: list[int]) -> None:
        """The other servers of the lease may wait for an answer of these, unless they all end."""
        for site in self.registry.sites():
            if dead and site.servers and site.client.state is not ClientState.CLOSING:
                self.out.send(site.node.address, Gone(dead))

    def _tell_node(self, site: Site, status: Status, text: str = "") -> None:
        self.out.tell(site.client, NodeNews(status, site.node.info, text))

    def _settled(self, node: Node) -> None:
        """Settled does not wait for this node (any more)."""
        active = self.registry.active
        if active is not None and node.epoch in active.unsettled:
            active.unsettled.discard(node.epoch)
            self.registry.alarms.cancel(Alarm.NODE_UNSETTLED, node.epoch)


def _patience_with(node: Node) -> float:
    """Seconds of silence until it is a zombie."""
    site = node.site
    interval = IDLE_PULSE_S if site is None else site.pulse_interval or site.client.wants.pulse_interval
    return NODE_PATIENCE_PULSES * interval


def _closed_because(reason: str) -> str:
    return f"closed the lease: {reason}" if reason else "closed the lease"
