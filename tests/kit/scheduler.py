"""What tests of the scheduler are made of: a desk to tell it things, peers that behave, and a judge of what it says."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from dispycos.brokers.lifecycle import ClientState, NodeState
from dispycos.brokers.registry import Client
from dispycos.brokers.reporting import ANSWER_S
from dispycos.brokers.scheduler import CLOSE_PATIENCE_S, Scheduler
from dispycos.brokers.sharing import DECLINED_AGAIN_S
from dispycos.machine import Send
from dispycos.protocol.addresses import CLIENT, NODE, SCHEDULER, Address
from dispycos.protocol.envelope import Envelope
from dispycos.protocol.messages import (
    Allocation,
    ClientInfo,
    Close,
    Closed,
    Counts,
    Declined,
    Enlist,
    Granted,
    Hopeless,
    Inventory,
    Lease,
    NodeInfo,
    NodeNews,
    Notice,
    Open,
    Opened,
    Queued,
    Register,
    Release,
    Released,
    SchedulerReport,
    ServerDown,
    ServerNews,
    ServerUp,
    Settled,
    Spot,
    Wanting,
)
from dispycos.protocol.status import Status

PYTHON = (3, 11)
SETTLE_S = 10.0
CLIENT_PATIENCE_S = 60.0  # the judge's own figures: planted ones are to be found
ZOMBIE_S, FORGET_S = 10.0, 60.0
HOME = Address(1, SCHEDULER)


def client_info(name: str = "script.py") -> ClientInfo:
    return ClientInfo(name, "here", 77, PYTHON)


def node_info(name: str, epoch: int, cpus: int = 2, **changes: Any) -> NodeInfo:
    info = NodeInfo(name, f"10.0.0.{len(name)}", 9706, cpus, "Linux-x86_64", PYTHON, epoch)
    return info._replace(**changes)


def enlist(*allocations: Allocation, pulse: float = 2.0, **changes: Any) -> Enlist:
    return Enlist(client_info(), list(allocations), pulse, **changes)


def words(sent: list[Envelope], *kinds: type) -> list[Any]:
    return [envelope.message for envelope in sent if not kinds or isinstance(envelope.message, kinds)]


def spot(node: str, epoch: int, number: int) -> Spot:
    return Spot("10.0.0.1", 9706 + number, epoch, f"{node}/server-{number}")


class Desk:
    """A scheduler and the envelopes it sent, for tests that tell it one thing after the other."""

    def __init__(self, **changes: Any) -> None:
        changes = {"count": 10, **changes}  # leases of smaller numbers are older
        self.scheduler = Scheduler("head", "id-1", HOME, private=False, **changes)
        self.now = 100.0
        self.logs: list[object] = []

    def tell(self, sender: Address, *messages: Any, correlation: int = 0) -> list[Envelope]:
        for message in messages:
            self.scheduler.receive(Envelope(HOME, sender, message, correlation), self.now)
        return self.drain()

    def drain(self) -> list[Envelope]:
        effects = self.scheduler.drain()
        self.scheduler.check()
        self.logs += [effect for effect in effects if not isinstance(effect, Send)]
        return [effect.envelope for effect in effects if isinstance(effect, Send)]

    def wait(self, seconds: float) -> list[Envelope]:
        """Let time pass, waking the scheduler whenever it asked for it."""
        end, sent = self.now + seconds, []
        while (due := self.scheduler.deadline()) is not None and due <= end:
            self.now = max(self.now, due)
            self.scheduler.wake(self.now)
            sent += self.drain()
        self.now = end
        return sent

    # --- what most tests begin with

    def client(self, epoch: int = 50, wants: Enlist | None = None) -> tuple[Address, Lease]:
        address = Address(epoch, CLIENT)
        [granted] = words(self.tell(address, wants or enlist()), Granted)
        return address, granted.lease

    def node(
        self, name: str, epoch: int, lease: Lease | None = None, servers: int = 2, **changes: Any
    ) -> Address:
        """Register a node; with a lease, open it and bring its servers up, as epochs epoch * 100 + 1, ..."""
        address = Address(epoch, NODE)
        info = node_info(name, epoch, servers, addr=f"10.0.0.{epoch}")
        self.tell(address, Register(info._replace(**changes)))
        if lease is not None:
            self.tell(address, Opened(lease, servers))
            for number in range(1, servers + 1):
                self.tell(address, ServerUp(lease, spot(name, epoch * 100 + number, number), 1))
        return address

    def lose(self, epoch: int, *, lives: bool = False) -> list[Envelope]:
        """Its link breaks."""
        self.scheduler.peer_lost(epoch, self.now, lives=lives)
        return self.drain()

    def die(self, epoch: int) -> list[Envelope]:
        """Its process is known to have ended, or its session to have begun anew."""
        self.scheduler.peer_reset(epoch, [], self.now)
        return self.drain()

    def back(self, name: str, epoch: int, lease: Lease | None, *, closing: bool = False) -> list[Envelope]:
        """The link of a node heals, and it says which lease it holds."""
        self.scheduler.peer_up(epoch, self.now)
        info = node_info(name, epoch, addr=f"10.0.0.{epoch}")
        return self.tell(Address(epoch, NODE), Register(info, lease, closing))


# --- a whole world


@dataclass(eq=False)
class Peer:
    """A process with a link to the scheduler."""

    address: Address
    is_local: bool = False  # of the scheduler's host: its end is told, and its silence no sign of it
    up: bool = True
    alive: bool = True
    inbox: deque[Envelope] = field(default_factory=deque)  # on the way from the scheduler
    outbox: deque[Envelope] = field(default_factory=deque)  # on the way to it

    def say(self, message: Any, correlation: int = 0) -> None:
        self.outbox.append(Envelope(HOME, self.address, message, correlation, None))


@dataclass(eq=False)
class Viewer(Peer):
    """Looks what there is."""

    asked: int = 0

    def ask(self) -> None:
        self.asked += 1
        self.say(Inventory(), self.asked)


@dataclass(eq=False)
class FakeClient(Peer):
    wants: Enlist = field(default_factory=enlist)
    lease: Lease | None = None
    released: bool = False
    releasing: bool = False

    def receive(self, envelope: Envelope, dice: random.Random) -> None:
        match envelope.message:
            case Granted(lease=lease):
                assert self.lease is None, "granted twice"
                self.lease = lease
            case Released():
                self.released = True
            case Inventory() if dice.random() < 0.7:
                self.say(Counts(1, 2, 3))

    def release(self) -> None:
        self.releasing = True
        self.say(Release())


@dataclass(eq=False)
class FakeNode(Peer):
    name: str = ""
    cpus: int = 2
    lease: Lease | None = None
    closing: bool = False
    mute: bool = False
    starting: list[int] = field(default_factory=list)
    servers: dict[int, int] = field(default_factory=dict)  # epoch -> number
    epochs: int = 0

    def info(self) -> NodeInfo:
        return node_info(self.name, self.address.epoch, self.cpus, addr=f"10.0.1.{self.name[-1]}")

    def register(self) -> None:
        self.say(Register(self.info(), self.lease, self.closing and self.lease is not None))

    def receive(self, envelope: Envelope, dice: random.Random) -> None:
        match envelope.message:
            case Open(lease=lease, cpus=cpus):
                if self.lease is not None or dice.random() < 0.1:
                    self.say(Declined(lease, "held by somebody for 7 s"))
                    return
                assert 0 < cpus <= self.cpus
                self.lease, self.closing = lease, False
                self.starting = list(range(1, cpus + 1))
                self.say(Opened(lease, cpus))
            case Close(lease=lease):
                if lease == self.lease:
                    self.closing = True
                else:
                    self.say(Closed(lease))

    def act(self, dice: random.Random) -> None:
        """One thing that a node does by itself."""
        if self.mute or self.lease is None:
            return
        if self.closing:
            self.close()
        elif self.starting and dice.random() < 0.7:
            self.start_server(dice)
        elif self.servers and dice.random() < 0.3:
            self.lose_server(dice)

    def place(self, epoch: int, number: int) -> Spot:
        return Spot("10", number, epoch, f"{self.name}/server-{number}")

    def start_server(self, dice: random.Random) -> None:
        assert self.lease is not None
        number = self.starting.pop(0)
        if dice.random() < 0.3:
            self.say(ServerDown(self.lease, self.place(0, number), "exit code 1"))
            return
        self.epochs += 1
        epoch = self.address.epoch * 1000 + self.epochs
        self.servers[epoch] = number
        self.say(ServerUp(self.lease, self.place(epoch, number), 1))

    def lose_server(self, dice: random.Random) -> None:
        assert self.lease is not None
        epoch = dice.choice(list(self.servers))
        number = self.servers.pop(epoch)
        restarting = dice.random() < 0.6
        if restarting:
            self.starting.append(number)
        place = self.place(epoch, number)
        self.say(ServerDown(self.lease, place, "killed by SIGKILL (9)", restarting=restarting))

    def close(self, reason: str = "") -> None:
        assert self.lease is not None
        for epoch, number in self.servers.items():
            self.say(ServerDown(self.lease, self.place(epoch, number), "closed", expected=True))
        self.servers, self.starting = {}, []
        self.say(Closed(self.lease, reason))
        self.lease, self.closing = None, False


@dataclass(eq=False)
class Seen:
    """A node as the client that has the cluster was told of it."""

    is_new: bool = True  # it was not opened yet
    initialized: bool = False
    silent: bool = False
    expected: int | None = None
    servers: set[int] = field(default_factory=set)
    names: set[str] = field(default_factory=set)  # of the servers that reported, and of ...
    failed: set[str] = field(default_factory=set)  # ... those that are not started again
    knows_failure: bool = False  # that there will be no server

    @property
    def is_ready(self) -> bool:
        return self.expected is not None and len(self.names) >= self.expected

    @property
    def is_hopeless(self) -> bool:
        return self.expected is not None and not self.servers and len(self.failed) >= self.expected


class Judge:
    """Looks at all that goes in and comes out, and knows what may not be."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler
        self.now = 0.0
        self.waiting: list[int] = []  # clients that enlisted, in order
        self.releasing: set[int] = set()
        self.holder: int | None = None
        self.closing_since: float | None = None
        self.granted_at = 0.0
        self.unsettled: set[int] = set()  # nodes that Settled has to wait for
        self.settled = False
        self.is_hopeless = False
        self.nodes: dict[int, Seen] = {}  # what the holder has
        self.met: set[int] = set()  # nodes that it was told of
        self.leases: set[tuple[int, Lease]] = set()  # with which nodes were opened
        self.declined: dict[int, float] = {}  # nodes that may not be asked again before
        self.quit: set[int] = set()  # nodes that ended the lease by themselves
        self.away: dict[int, float] = {}  # since when
        self.local: set[int] = set()  # their death is told, so their silence means nothing
        self.dead: set[int] = set()  # and that is known
        self.believed: set[int] = set()  # nodes that say that they have no lease
        self.wanting = 0  # words that are to be answered now
        self.to_close: set[int] = set()  # nodes that are to be told now that the lease ends
        self.asked: dict[tuple[int, int], float] = {}  # (viewer, correlation): when

    # --- what goes in

    def goes_in(self, envelope: Envelope) -> None:
        message, sender = envelope.message, envelope.sender.epoch
        match message:
            case Enlist():
                self.waiting.append(sender)
            case Release():
                self.releasing.add(sender)
                if sender == self.holder and self.closing_since is None:
                    self.closes()
            case Wanting() if sender == self.holder and self.closing_since is None:
                self.wanting += 1
            case Inventory():
                self.asked[sender, envelope.correlation] = self.now
            case Register():
                self.declined.pop(sender, None)
                self.quit.discard(sender)
                known = self.scheduler.registry.nodes.get(sender)
                if known is not None and known.state is NodeState.OPEN and message.lease != known.lease:
                    self.believed.add(sender)
            case Closed(lease=lease) if self.holds(sender, lease) and self.closing_since is None:
                self.quit.add(sender)
            case Opened(lease=lease, servers=servers) if self.holds(sender, lease):
                self.nodes[sender].expected = servers
            case Declined(lease=lease) if self.holds(sender, lease) and self.closing_since is None:
                self.declined[sender] = self.now + DECLINED_AGAIN_S
                self.unsettled.discard(sender)
                del self.nodes[sender]
            case ServerUp(lease=lease, spot=place) if self.holds(sender, lease):
                seen = self.nodes[sender]
                seen.names.add(place.name)
                seen.failed.discard(place.name)
                seen.knows_failure = False
                self.see_ready(sender)
            case ServerDown(lease=lease, spot=place) if self.holds(sender, lease):
                self.server_down(sender, message, place)

    def server_down(self, node: int, message: ServerDown, place: Spot) -> None:
        seen = self.nodes[node]
        seen.names.add(place.name)
        if not message.restarting and not message.expected:
            seen.failed.add(place.name)
        self.see_ready(node)

    def see_ready(self, node: int) -> None:
        if self.nodes[node].is_ready:
            self.unsettled.discard(node)

    def holds(self, node: int, lease: Lease) -> bool:
        known = self.scheduler.registry.nodes.get(node)
        return known is not None and known.lease == lease and node in self.nodes

    def cut(self, epoch: int) -> None:
        self.away[epoch] = self.now
        self.unsettled.discard(epoch)

    def closes(self) -> None:
        self.closing_since = self.now
        self.to_close = set(self.nodes)

    def dies(self, client: int) -> None:
        """It is known to be dead, and hears of nothing any more: so nothing is seen of what it has."""
        self.dead.add(client)
        if client in self.waiting:
            self.waiting.remove(client)
        elif client == self.holder:
            if self.closing_since is None:
                self.closes()
            self.holder = None
            self.nodes.clear()

    # --- what comes out

    def comes_out(self, envelope: Envelope) -> None:
        message, to = envelope.message, envelope.to.epoch
        assert to not in self.dead, f"{message} for a process that has ended"
        match message:
            case Queued():
                assert to in self.waiting
            case Granted():
                self.judge_grant(to)
            case Released():
                self.judge_end(to)
            case Open(lease=lease):
                self.judge_open(to, lease)
            case Close():
                self.to_close.discard(to)
            case Inventory():
                assert to == self.holder and self.asked, "nobody wants to know"
            case SchedulerReport():
                self.judge_report(to, envelope.correlation, message)
            case _ if envelope.to.actor == CLIENT:
                assert to == self.holder, f"{message} for one who does not have the cluster"
                self.judge_news(message)

    def judge_grant(self, client: int) -> None:
        assert self.holder is None, "two have the cluster"
        known = self.scheduler.registry
        passed = self.waiting[: self.waiting.index(client)]
        assert all(other in self.away or known.clients[other].looking for other in passed), (
            "it was not its turn"
        )
        self.waiting.remove(client)
        self.holder, self.closing_since, self.granted_at = client, None, self.now
        self.settled = self.is_hopeless = False
        wanted = known.clients[client].servers_of
        self.unsettled = {node.epoch for node in known.nodes.values() if wanted(node.info)} - self.away.keys()
        self.declined.clear()
        self.quit.clear()
        self.met.clear()

    def judge_end(self, client: int) -> None:
        if client in self.waiting:
            assert client in self.releasing or self.is_silent(client), "it did not leave the queue"
            self.waiting.remove(client)
        elif client == self.holder:
            assert self.closing_since is not None or self.is_silent(client), "it did not leave"
            assert not self.nodes, f"released, but it was not told of the end of {self.nodes}"
            self.holder = None

    def is_silent(self, client: int) -> bool:
        since = self.away.get(client, self.now)
        return client not in self.local and self.now - since >= CLIENT_PATIENCE_S - 1e-9

    def judge_open(self, node: int, lease: Lease) -> None:
        assert lease.client == self.holder and self.closing_since is None, "opened for nobody"
        assert node not in self.away, "a node was opened that cannot be reached"
        assert node not in self.nodes or self.nodes[node].is_new, "opened twice"
        assert node in self.met, "its client does not know it"
        assert (node, lease) not in self.leases, "a lease was granted twice"
        assert self.declined.get(node, 0.0) <= self.now, "asked again before its time"
        self.leases.add((node, lease))
        self.nodes.setdefault(node, Seen()).is_new = False

    def judge_news(self, message: Any) -> None:
        match message:
            case NodeNews(status=status, node=info):
                self.judge_node(Status(status), info.epoch)
            case ServerNews(status=status, spot=place):
                self.judge_server(Status(status), place.epoch)
            case Settled():
                assert not self.settled, "settled twice"
                self.settled = True
                overdue = self.now - self.granted_at >= SETTLE_S - 1e-9
                living = self.unsettled & self.scheduler.registry.nodes.keys()
                assert overdue or not living, f"settled without {living}"
            case Hopeless(node=node):
                whom = [self.nodes[node]] if node else self.nodes.values()
                assert whom and all(seen.is_hopeless for seen in whom), "there is hope"
                if node:
                    self.nodes[node].knows_failure = True
                else:
                    self.is_hopeless = True
                    self.wanting = max(0, self.wanting - 1)
            case Notice(text=text) if "still waiting" in text:
                self.wanting = max(0, self.wanting - 1)

    def judge_node(self, status: Status, node: int) -> None:
        if status is Status.NodeDiscovered:
            assert node not in self.nodes, "discovered twice"
            self.nodes[node] = Seen()
            self.met.add(node)
            return
        seen = self.nodes[node]
        match status:
            case Status.NodeInitialized:
                assert not seen.initialized
                seen.initialized = True
                seen.silent = seen.silent and not self.scheduler.registry.nodes[node].confirmed
            case Status.NodeDisconnected:
                assert node in self.away, "it is there"
                seen.silent = True
            case Status.NodeResumed:
                assert seen.silent and node not in self.away, "it is not back"
                seen.silent = False
            case Status.NodeClosed | Status.NodeAbandoned:
                assert not seen.servers, "servers of whose end nothing was told"
                del self.nodes[node]
                self.believed.discard(node)
                self.unsettled.discard(node)

    def judge_server(self, status: Status, server: int) -> None:
        node = self.nodes[server // 1000]
        if status is Status.ServerInitialized:
            assert node.initialized and server not in node.servers
            node.servers.add(server)
        elif status in (Status.ServerClosed, Status.ServerAbandoned):
            node.servers.remove(server)

    def judge_report(self, viewer: int, correlation: int, report: SchedulerReport) -> None:
        asked = [number for who, number in self.asked if who == viewer and number <= correlation]
        assert correlation in asked, "a report that nobody wants"
        for number in asked:  # who asks twice at once is answered once
            del self.asked[viewer, number]
        counts = [(one.queued, one.running, one.done) for one in report.clients if one.state == "running"]
        assert counts in ([], [(1, 2, 3)], [(None, None, None)])

    # --- after each drain

    def look(self) -> None:
        self.scheduler.check()
        registry = self.scheduler.registry
        holder = registry.active.title if registry.active is not None else ""
        for position, client in enumerate(registry.queued_clients(), 1):
            assert client.looking or client.standing == (position, holder), "it does not know its position"
        if registry.active is None:
            for client in registry.clients.values():
                assert client.epoch in self.away or client.looking, "nobody has the cluster"
        elif registry.active.epoch == self.holder:
            self.look_at_holder(registry.active)
        names = [(node.info.name, node.info.addr) for node in registry.nodes.values()]
        assert len(names) == len(set(names)), "a node and its successor are both known"
        assert not self.to_close, f"nodes were not told of the end: {self.to_close}"
        assert all(self.now - when <= ANSWER_S + 1e-9 for when in self.asked.values()), "a report is missing"

    def look_at_holder(self, active: Client) -> None:
        if active.state is ClientState.CLOSING and self.closing_since is None:
            assert self.is_silent(active.epoch), "the cluster was taken away from a client that lives"
            self.closing_since = self.now
        if self.closing_since is not None:
            assert active.state is ClientState.CLOSING, "Release closes at once"
            assert self.now - self.closing_since <= CLOSE_PATIENCE_S + 1e-9, "it closes for ever"
            return
        assert not self.wanting or self.now < active.told_alone, "who wants servers was told nothing"
        self.wanting = 0
        self.look_at_nodes(active)

    def look_at_nodes(self, active: Client) -> None:
        assert not self.believed & self.nodes.keys(), "a node lost its lease and is believed to have it"
        known = self.scheduler.registry.nodes
        for epoch, seen in self.nodes.items():
            assert seen.silent or epoch not in self.away, "it looks usable"
            is_used = known[epoch].confirmed and known[epoch].state is NodeState.OPEN
            assert not (seen.silent and is_used), "it does not look usable"
            assert seen.knows_failure or not seen.is_hopeless, "who wants this node waits for ever"
            silence = self.now - self.away.get(epoch, self.now)
            assert silence <= ZOMBIE_S + 1e-9 or not active.wants.abandon_zombies, "it was to be abandoned"
            assert silence <= FORGET_S + 1e-9 or epoch in self.local, "it is waited for, for ever"
        others = [
            node for node in known.values() if node.epoch not in self.nodes and active.servers_of(node.info)
        ]
        for node in others:
            refused = node.epoch in self.quit or self.declined.get(node.epoch, 0.0) >= self.now
            assert not node.confirmed or refused or node.state is NodeState.CLOSING, "a node was not offered"
        if self.nodes and not others and all(seen.is_hopeless for seen in self.nodes.values()):
            assert self.is_hopeless, "it waits for ever"
        else:
            self.is_hopeless = False
