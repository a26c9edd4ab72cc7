"""The facts of a scheduler: clients, nodes, servers and deadlines; check() says whether they agree.

Everything that belongs to the client that has the cluster hangs on its `Site`s; when its lease ends, these go, and
nothing of it remains.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum, auto

from dispycos.protocol.addresses import Address
from dispycos.protocol.messages import Enlist, Lease, NodeInfo, Spot

from .allocation import Named
from .lifecycle import CLIENT, NODE, ClientState, NodeState, step


@dataclass(slots=True, eq=False)
class Client:
    """Somebody who wants the cluster, or has it."""

    address: Address
    wants: Enlist
    named: list[Named]  # its allocations, then what is looked for beside
    looking: bool = False  # for the places among these; until that is done it gets nothing
    state: ClientState = ClientState.QUEUED
    away: bool = False
    lease: Lease | None = None
    standing: tuple[int, str] | None = None  # what it was told last: its position, and who has the cluster
    lost: bool = False  # its process is gone: nothing is said to it any more
    parting: str = ""  # why it lost the cluster, if it did not ask to leave
    discovered: set[int] = field(default_factory=set)  # epochs of the nodes that it was told of
    told_of_pulses: bool = False  # that a node does not allow the interval it asked for
    warned: set[int] = field(default_factory=set)  # epochs of the nodes that it was told it does not get
    unsettled: set[int] = field(default_factory=set)  # epochs of the nodes that Settled waits for
    settled: bool = False
    hopeless: str = ""  # what it was told of servers that cannot be started anywhere

    @property
    def epoch(self) -> int:
        return self.address.epoch

    @property
    def allocations(self) -> list[Named]:
        return self.named[: len(self.wants.allocations)]

    @property
    def title(self) -> str:
        info = self.wants.client
        return f"{info.name} on {info.host} (pid {info.pid})"

    def turn(self, state: ClientState) -> None:
        self.state = step(CLIENT, self.state, state)


@dataclass(slots=True, eq=False)
class Node:
    """A registered node."""

    address: Address
    info: NodeInfo
    state: NodeState = NodeState.IDLE
    away: bool = False  # its link is gone and may come back
    confirmed: bool = True  # it said with its present link which lease it holds: only then is it used
    zombie: bool = False  # it was silent for so long that it may be given up
    lease: Lease | None = None  # in the last Open or Close
    site: Site | None = None

    @property
    def epoch(self) -> int:
        return self.address.epoch

    @property
    def title(self) -> str:
        return f"node {self.info.name} ({self.info.addr}:{self.info.port})"

    def turn(self, state: NodeState) -> None:
        self.state = step(NODE, self.state, state)


@dataclass(slots=True, eq=False)
class Site:
    """What one lease has on one node."""

    node: Node
    client: Client
    expected: int | None = None  # servers that the node starts; None until it said so
    pulse_interval: float = 0.0  # seconds between its pulses, once it said so
    reported: set[str] = field(default_factory=set)  # names of those that came up or failed to
    failures: dict[str, str] = field(default_factory=dict)  # by name: why it is not started again
    servers: dict[int, Server] = field(default_factory=dict)

    @property
    def is_ready(self) -> bool:
        return self.expected is not None and len(self.reported) >= self.expected

    @property
    def is_hopeless(self) -> bool:
        """No server is there, and none will come."""
        return self.expected is not None and not self.servers and len(self.failures) >= self.expected

    @property
    def failure(self) -> str:
        return f"{self.node.title}: {next(reversed(self.failures.values()), 'no reason is known')}"


@dataclass(slots=True, eq=False)
class Server:
    """A server that is up."""

    spot: Spot
    site: Site


class Alarm(Enum):
    """What a deadline is for, and about whom."""

    CLIENT_SILENT = auto()
    CLIENT_ALONE = auto()
    CLOSE_WAITS = auto()
    CLOSE_OVERDUE = auto()
    NODE_SILENT = auto()
    NODE_FORGOTTEN = auto()
    NODE_UNSETTLED = auto()
    NODE_DECLINED = auto()


CLIENT_ALARMS = (Alarm.CLIENT_SILENT, Alarm.CLIENT_ALONE, Alarm.CLOSE_WAITS, Alarm.CLOSE_OVERDUE)
NODE_ALARMS = (
    Alarm.NODE_SILENT,
    Alarm.NODE_FORGOTTEN,
    Alarm.NODE_UNSETTLED,
    Alarm.NODE_DECLINED,
)


class Alarms:
    """Deadlines by what they are for and whom they are about; there are few, and they change rarely."""

    def __init__(self) -> None:
        self.times: dict[tuple[Alarm, int], float] = {}
        self._next: float | None = None

    def set(self, alarm: Alarm, about: int, when: float) -> None:
        self.times[alarm, about] = when
        self._next = min(self.times.values())

    def cancel(self, alarm: Alarm, about: int) -> None:
        if self.times.pop((alarm, about), None) is not None:
            self._next = min(self.times.values(), default=None)

    def next(self) -> float | None:
        return self._next

    def take_due(self, now: float) -> tuple[Alarm, int] | None:
        """The earliest one that is due. One at a time, as what it leads to may cancel the next."""
        if self._next is None or self._next > now:
            return None
        due = min(self.times, key=self.times.__getitem__)
        self.cancel(*due)
        return due


class Registry:
    """All tables of one scheduler."""

    def __init__(self) -> None:
        self.clients: dict[int, Client] = {}  # by epoch, in the order in which they enlisted
        self.active: Client | None = None
        self.leases = 0  # numbers given out
        self.nodes: dict[int, Node] = {}
        self.servers: dict[int, Server] = {}
        self.alarms = Alarms()

    def sites(self) -> Iterator[Site]:
        return (node.site for node in self.nodes.values() if node.site is not None)

    def queued_clients(self) -> Iterator[Client]:
        return (client for client in self.clients.values() if client.state is ClientState.QUEUED)

    def node_like(self, info: NodeInfo) -> Node | None:
        """The known node that a newcomer replaces: same name or port at the same address, earlier process."""
        for node in self.nodes.values():
            known = node.info
            same = known.name == info.name or (known.port == info.port and info.port != 0)
            if known.addr == info.addr and same:
                return node
        return None

    # --- what must hold between two messages

    def check(self) -> None:
        self._check_clients()
        for node in self.nodes.values():
            self._check_node(node)
        self._check_servers()
        for alarm, about in self.alarms.times:
            self._check_alarm(alarm, about)

    def _check_clients(self) -> None:
        for epoch, client in self.clients.items():
            assert epoch == client.epoch
            assert client.state is not ClientState.GONE
            assert (client is self.active) == (client.state is not ClientState.QUEUED), client
            assert (client is self.active) == (client.lease is not None), client
        if self.active is None:
            assert not self.servers and not any(self.sites())
            return
        active = self.active
        assert self.clients[active.epoch] is active
        assert active.unsettled <= self.nodes.keys()

    def _check_node(self, node: Node) -> None:
        assert self.nodes[node.epoch] is node
        assert node.state is not NodeState.GONE
        holds = node.state in (NodeState.OPENING, NodeState.OPEN)
        assert not holds or node.site is not None
        assert node.site is None or holds or node.state is NodeState.CLOSING
        if node.site is not None:
            assert node.site.node is node
            assert node.site.client is self.active
            assert node.lease is not None and node.lease.client == node.site.client.epoch

    def _check_servers(self) -> None:
        for epoch, server in self.servers.items():
            assert epoch == server.spot.epoch
            assert server.site.servers[epoch] is server
            assert server.site.node.site is server.site
        assert len(self.servers) == sum(len(site.servers) for site in self.sites())

    def _check_alarm(self, alarm: Alarm, about: int) -> None:
        if alarm in CLIENT_ALARMS:
            assert about in self.clients, f"{alarm} about nobody"
        elif alarm in NODE_ALARMS:
            assert about in self.nodes, f"{alarm} about no node"
