"""The facts of a scheduler: clients, nodes, what a client has of a node, and deadlines; check() says whether they agree.

One client has the cluster. What it has hangs on its `Share`s of nodes; when its lease ends these go, and nothing of it
remains. Of tasks nothing is known here: they are its client's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Any

from dispycos.protocol.addresses import Address
from dispycos.protocol.messages import Allocation, ClientInfo, Enlist, Lease, NodeInfo, Spot

from .allocation import Named, Undecided, allocate
from .lifecycle import CLIENT, NODE, ClientState, NodeState, step

About = Any  # a Client, a Node, or the scheduler itself
Handler = Callable[[About, float], None]


@dataclass(slots=True, eq=False)
class Client:
    """Somebody who wants the cluster, or has it."""

    address: Address
    wants: Enlist
    named: list[Named]  # what is looked for beside, then its allocations
    ticket: int  # its place among those who wait
    looking: bool = False  # for the places among these; until that is done it gets nothing
    state: ClientState = ClientState.QUEUED
    away: bool = False  # its link is gone and may come back
    lost: bool = False  # its process is gone: nothing is said to it any more
    lease: Lease | None = None
    standing: tuple[int, str] | None = None  # what it was told last: its position, and who has the cluster
    settled: bool = False
    parting: str = ""  # why it lost the cluster, if it did not ask to leave
    opened: set[int] = field(default_factory=set)  # epochs of nodes that were opened for it
    warned: set[int] = field(default_factory=set)  # epochs of nodes that it was told it does not get
    told_of_pulses: bool = False  # that a node does not allow the interval it asked for
    told_alone: float = 0.0  # until then it knows that it has no node
    # Of its own allocate(): by node and entry.
    answers: dict[int, dict[int, int]] = field(default_factory=dict)
    asked: set[tuple[int, int]] = field(default_factory=set)  # for which of these
    abandons: dict[int, bool] = field(default_factory=dict)  # what it said of single nodes that are zombies
    closed: set[int] = field(default_factory=set)  # epochs of nodes that it does not want any more
    failed: dict[int, str] = field(default_factory=dict)  # epochs of nodes that could not be set up: how
    hopeless: str = ""  # what it was told of servers that cannot be started anywhere
    heard_at: float = 0.0  # when a node of its lease heard it by a link of its own

    @property
    def epoch(self) -> int:
        return self.address.epoch

    @property
    def title(self) -> str:
        return title_of(self.wants.client)

    @property
    def places(self) -> dict[int, Allocation]:
        """What it names and can be looked for, by its number in `named`."""
        return {number: word.allocation for number, word in enumerate(self.named) if word.is_place}

    def servers_of(self, node: NodeInfo) -> int:
        """How many servers of this node it gets; 0: none."""
        servers = self._allocated(node)
        return 0 if isinstance(servers, Undecided) else servers

    def asks_for(self, node: NodeInfo) -> int | None:
        """Which of its allocations it has to apply to this node itself."""
        servers = self._allocated(node)
        return servers.entry if isinstance(servers, Undecided) else None

    def _allocated(self, node: NodeInfo) -> int | Undecided:
        if node.epoch in self.closed:
            return 0
        own = self.named[self.first_own :]
        return allocate(node, own, self.answers.get(node.epoch, {}), unrestricted=self.wants.unrestricted)

    @property
    def first_own(self) -> int:
        """Where its own allocations begin in `named`."""
        return len(self.named) - len(self.wants.allocations)

    def turn(self, state: ClientState) -> None:
        self.state = step(CLIENT, self.state, state)


def title_of(client: ClientInfo) -> str:
    return f"{client.name} on {client.host} (pid {client.pid})"


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
    share: Share | None = None
    holder: str = ""  # whose lease it came with, for people
    is_hearsay: bool = False  # its client says that it has it; it has not come yet

    @property
    def epoch(self) -> int:
        return self.address.epoch

    @property
    def title(self) -> str:
        return f"node {self.info.name} ({self.info.addr}:{self.info.port})"

    def turn(self, state: NodeState) -> None:
        self.state = step(NODE, self.state, state)


@dataclass(slots=True, eq=False)
class Share:
    """What the client that has the cluster has of one node, from Open to the end of the lease there."""

    node: Node
    client: Client
    expected: int | None = None  # servers that the node starts; None until it said so
    pulse_interval: float = 0.0  # seconds between its pulses, once it said so
    reported: set[str] = field(default_factory=set)  # names of the servers that came up or failed to
    failures: dict[str, str] = field(default_factory=dict)  # by name: why it is not started again
    servers: dict[int, Spot] = field(default_factory=dict)  # those that are up, by epoch
    idle_s: float = 0.0  # for so long nothing had run there at its last pulse

    @property
    def is_ready(self) -> bool:
        return self.expected is not None and len(self.reported) >= self.expected

    @property
    def is_usable(self) -> bool:
        return bool(self.servers) and self.node.state is NodeState.OPEN and self.node.confirmed

    @property
    def is_hopeless(self) -> bool:
        """No server is there, and none will come."""
        return self.expected is not None and not self.servers and len(self.failures) >= self.expected

    @property
    def failure(self) -> str:
        return f"{self.node.title}: {next(reversed(self.failures.values()), 'no reason is known')}"


class Alarms:
    """Deadlines: whom to call then, and about whom."""

    def __init__(self) -> None:
        self.times: dict[About, dict[Handler, float]] = {}
        self._heap: list[tuple[float, int, Handler, About]] = []  # with what was moved or cancelled meanwhile
        self._count = 0

    def set(self, handler: Handler, about: About, when: float) -> None:
        self.times.setdefault(about, {})[handler] = when
        self._count += 1
        heappush(self._heap, (when, self._count, handler, about))

    def cancel(self, handler: Handler, about: About) -> None:
        self.times.get(about, {}).pop(handler, None)

    def forget(self, about: About) -> None:
        self.times.pop(about, None)

    def has(self, handler: Handler) -> bool:
        """About anybody."""
        return any(handler in handlers for handlers in self.times.values())

    def next(self) -> float | None:
        while self._heap:
            when, _, handler, about = self._heap[0]
            if self.times.get(about, {}).get(handler) == when:
                return when
            heappop(self._heap)
        return None

    def wake(self, now: float) -> None:
        """Call for what is due, one at a time, as what it leads to may cancel the next."""
        while (due := self.next()) is not None and due <= now:
            _, _, handler, about = heappop(self._heap)
            self.cancel(handler, about)
            handler(about, now)


class Registry:
    """All tables of one scheduler."""

    def __init__(self) -> None:
        self.clients: dict[int, Client] = {}  # by epoch
        self.active: Client | None = None
        self.count = 0  # the last number given out, to a ticket or a lease
        self.newest = 0  # number of the newest lease that is known of: those before it are over
        # What clients and nodes came with, by their epochs: an earlier life of this scheduler granted it.
        self.claims: dict[int, Lease] = {}
        self.nodes: dict[int, Node] = {}
        self.alarms = Alarms()
        self.has_asked = (
            False  # a client for a name: since then clients and their servers may talk to each other's
        )

    @property
    def shares(self) -> list[Share]:
        return [node.share for node in self.nodes.values() if node.share is not None]

    @property
    def servers(self) -> dict[int, Spot]:
        """Those that are up, by epoch."""
        return {epoch: spot for share in self.shares for epoch, spot in share.servers.items()}

    def next_number(self) -> int:
        self.count += 1
        return self.count

    def queued_clients(self) -> list[Client]:
        """The oldest ticket first."""
        queued = [client for client in self.clients.values() if client.state is ClientState.QUEUED]
        return sorted(queued, key=lambda client: client.ticket)

    def note(self, number: int) -> None:
        """There is, or was, a lease of this number."""
        self.newest = max(self.newest, number)
        self.count = max(self.count, number)

    def node_like(self, info: NodeInfo) -> Node | None:
        """The known node that a newcomer replaces: same name or port at the same address, earlier process.

        If it is of another host, both may be behind one router, unless the link to the earlier one is gone.
        """
        for node in self.nodes.values():
            known = node.info
            same = known.name == info.name or (known.port == info.port and info.port != 0)
            if known.addr == info.addr and same and (known.host == info.host or node.away):
                return node
        return None

    # --- what must hold between two messages

    def check(self) -> None:
        self._check_clients()
        for epoch, node in self.nodes.items():
            assert epoch == node.epoch
            self._check_node(node)
        assert all(held.number == self.newest for held in self.claims.values()), "older ones are over"
        assert all(epoch in self.clients or epoch in self.nodes for epoch in self.claims)
        counts = [len(share.servers) for share in self.shares]
        assert sum(counts) == len(self.servers), "a server is on two nodes"
        for about in self.alarms.times:
            gone = isinstance(about, Client | Node) and about.state.name == "GONE"
            assert not gone, f"a deadline about one who is gone: {about}"

    def _check_clients(self) -> None:
        for epoch, client in self.clients.items():
            assert epoch == client.epoch
            assert client.state is not ClientState.GONE
            assert (client is self.active) == (client.state is not ClientState.QUEUED), client
            assert (client is self.active) == (client.lease is not None), client
            assert epoch not in self.claims or client.state is ClientState.QUEUED
        if self.active is None:
            assert not self.shares
        else:
            assert self.clients[self.active.epoch] is self.active

    def _check_node(self, node: Node) -> None:
        assert node.state is not NodeState.GONE
        assert not (node.away and node.confirmed) and not (node.zombie and node.confirmed)
        assert node.epoch not in self.claims or node.state in (NodeState.IDLE, NodeState.DECLINED)
        holds = node.state in (NodeState.OPENING, NodeState.OPEN)
        assert not holds or node.share is not None
        assert node.share is None or holds or node.state is NodeState.CLOSING
        if node.share is not None:
            assert node.share.node is node
            assert node.share.client is self.active
            assert node.lease is not None and node.lease.client == node.share.client.epoch
