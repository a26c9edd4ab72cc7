"""The facts of a scheduler: clients, nodes, servers, tasks and deadlines; check() says whether they agree.

Everything that belongs to the client that has the cluster hangs on its `Site`s and in `tasks`; when its lease
ends, these go, and nothing of it remains.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum, auto

import msgspec

from dispycos.notices import PATIENCE_S
from dispycos.protocol.addresses import Address
from dispycos.protocol.envelope import Payload
from dispycos.protocol.messages import Enlist, Lease, NodeInfo, Spot, Submit, TaskId

from .lifecycle import CLIENT, NODE, ClientState, NodeState, TaskState, step
from .placement import Named, Pace

CREDIT: int = 4096  # tasks that a client may have handed in and not ended


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
    patience: float = PATIENCE_S  # until it is told (again) that there is no server
    terminate: bool = False
    await_io: bool = False
    handed_in: int = 0
    ended: int = 0
    unseen: int = 0  # tasks that ended on servers on loan
    limit: int = 0  # the last Admit

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
    """What one lease has on one node: servers, load, and the tasks that may run nowhere else."""

    node: Node
    client: Client
    expected: int | None = None  # servers that the node starts; None until it said so
    pulse_interval: float = 0.0  # seconds between its pulses, once it said so
    reported: set[str] = field(default_factory=set)  # names of those that came up or failed to
    failures: dict[str, str] = field(default_factory=dict)  # by name: why it is not started again
    servers: dict[int, Server] = field(default_factory=dict)
    slow: int = 0  # CPU tasks there that need a server each
    fast: int = 0  # CPU tasks there that were known to be short
    io: int = 0
    pinned: dict[tuple[int, bool], deque[Task]] = field(default_factory=dict)  # by (server or 0, io)
    starved: bool = False  # a pinned task lacks nothing but a slot: no short tasks are fed ahead of it
    recall_not_before: float = 0.0
    unheard: dict[TaskId, int] = field(
        default_factory=dict
    )  # how they ended; whether the client knows is not known
    heard: dict[TaskId, None] = field(default_factory=dict)  # the client knew before the node's word came

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
    cpu: int = 0  # CPU tasks that are known to be on it: pinned there or begun there
    io: int = 0


class Task(msgspec.Struct, eq=False):
    """A task from Submit to its end. A Struct costs a fifth of a dataclass, and each task has one."""

    submit: Submit
    payload: Payload
    turn: int  # place in the order of submission
    pace: Pace
    state: TaskState = TaskState.WAITING
    site: Site | None = None  # where it was given to
    server: Server | None = None  # the one it is pinned to, or began on
    bound: Site | None = None  # the only one it may go to
    fast: bool = False  # how it counts at its site
    terminated: bool = False  # its Terminate was passed on
    adopted: bool = False  # its client sent it to a server itself, and has its call


class Alarm(Enum):
    """What a deadline is for, and about whom."""

    CLIENT_SILENT = auto()
    CLIENT_STARVED = auto()
    CLOSE_WAITS = auto()
    CLOSE_OVERDUE = auto()
    NODE_SILENT = auto()
    NODE_FORGOTTEN = auto()
    NODE_UNANSWERING = auto()
    NODE_UNSETTLED = auto()
    NODE_DECLINED = auto()
    REBALANCE = auto()


CLIENT_ALARMS = (Alarm.CLIENT_SILENT, Alarm.CLIENT_STARVED, Alarm.CLOSE_WAITS, Alarm.CLOSE_OVERDUE)
NODE_ALARMS = (
    Alarm.NODE_SILENT,
    Alarm.NODE_FORGOTTEN,
    Alarm.NODE_UNANSWERING,
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
        self.tasks: dict[TaskId, Task] = {}
        self.paces: dict[str, Pace] = {}  # by name of function
        # Tasks that may go to any node, each queue in the order of submission.
        self.slow: deque[Task] = deque()
        self.fast: deque[Task] = deque()
        self.io: deque[Task] = deque()
        self.alarms = Alarms()

    def sites(self) -> Iterator[Site]:
        return (node.site for node in self.nodes.values() if node.site is not None)

    def queues(self) -> Iterator[deque[Task]]:
        yield from (self.slow, self.fast, self.io)
        for site in self.sites():
            yield from site.pinned.values()

    def waiting(self) -> int:
        return sum(len(queue) for queue in self.queues())

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
        self._check_queues()
        for site in self.sites():
            self._check_load(site)
        for alarm, about in self.alarms.times:
            self._check_alarm(alarm, about)

    def _check_clients(self) -> None:
        for epoch, client in self.clients.items():
            assert epoch == client.epoch
            assert client.state is not ClientState.GONE
            assert (client is self.active) == (client.state is not ClientState.QUEUED), client
            assert (client is self.active) == (client.lease is not None), client
        if self.active is None:
            assert not self.tasks and not self.servers and not self.paces and not any(self.sites())
            assert not self.waiting()
            return
        active = self.active
        assert self.clients[active.epoch] is active
        handed_in = sum(not task.adopted for task in self.tasks.values())
        assert active.handed_in - active.ended == handed_in
        assert active.handed_in <= active.limit
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

    def _check_queues(self) -> None:
        seen: set[TaskId] = set()
        for queue in self.queues():
            turns = [task.turn for task in queue]
            assert turns == sorted(set(turns)), "a queue is out of order"
            for task in queue:
                assert task.state is TaskState.WAITING and task.site is None, task
                assert task.submit.task not in seen, "a task is in two queues"
                seen.add(task.submit.task)
        waiting = {key for key, task in self.tasks.items() if task.state is TaskState.WAITING}
        assert seen == waiting, f"queued and waiting differ: {seen ^ waiting}"
        assert all(task.pace.fast for task in self.fast) and not any(task.pace.fast for task in self.slow)
        assert all(task.submit.io for task in self.io)
        for site in self.sites():
            for (server, io), queue in site.pinned.items():
                assert queue, "an empty queue was kept"
                assert all(task.bound is site and task.submit.io == io for task in queue)
                assert all((task.server.spot.epoch if task.server else 0) == server for task in queue)

    def _check_load(self, site: Site) -> None:
        here = [task for task in self.tasks.values() if task.site is site]
        cpu = [task for task in here if not task.submit.io]
        assert site.fast == sum(task.fast for task in cpu)
        assert site.slow == len(cpu) - site.fast
        assert site.io == len(here) - len(cpu)
        on: Counter[tuple[int, bool]] = Counter(
            (task.server.spot.epoch, task.submit.io) for task in here if task.server is not None
        )
        for epoch, server in site.servers.items():
            assert (server.cpu, server.io) == (on[epoch, False], on[epoch, True]), server.spot
        for task in here:
            assert task.state in (TaskState.GIVEN, TaskState.RUNNING), task.state
            assert self.active is not None and task.submit.task.owner == self.active.epoch
            assert task.bound in (None, site)
        assert site.heard.keys() <= {task.submit.task for task in here}, "heard of what is not there"
        assert not site.unheard.keys() & self.tasks.keys(), "a task has ended and is still in the table"
        assert all(task.owner == site.client.epoch for task in site.unheard)

    def _check_alarm(self, alarm: Alarm, about: int) -> None:
        if alarm in CLIENT_ALARMS:
            assert about in self.clients, f"{alarm} about nobody"
        elif alarm in NODE_ALARMS:
            assert about in self.nodes, f"{alarm} about no node"
