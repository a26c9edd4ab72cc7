"""Decides which server of a node gets which task: CPU tasks singly, short ones fed ahead, io tasks beside.

Nothing here looks at all tasks or, per task, at all servers: servers stand in levels by their load, tasks in
queues from which each can be taken out at once.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

import msgspec
from msgspec.structs import replace

from dispycos.protocol.addresses import Address
from dispycos.protocol.envelope import Payload
from dispycos.protocol.messages import Run, ServerReport, Spot, TaskId, TaskReport

FEED_AHEAD: Final = 32  # fast CPU tasks in a server's inbox beyond the one that runs ...
FEED_AHEAD_MAX: Final = 256  # ... and so many, if they are as short as that: fewer and larger messages
AHEAD_S: Final = 0.01  # seconds of work that may wait in an inbox
FIRST_MEAN: Final = AHEAD_S / FEED_AHEAD  # of a function that has not run
FUNCTIONS_MAX: Final = 10_000  # whose run times are remembered
IO_MAX: Final = 1000  # io tasks on one server
REPORT_TASKS: Final = 256  # named per server in a report
DIRECT: Final = (
    1 << 62
)  # added to the client's number of what it gave directly: such a task has no position here
STALL: Final = 0.05  # seconds of one step after which those waiting behind it are asked back


class NodeTask(msgspec.Struct, eq=False):
    """A task that this node has to bring to its end: it waits in `queue`, or was given to `server`."""

    id: TaskId
    run: Run
    payload: Payload  # needed again when a server gives the task back
    since: float  # when it came, was given, or began
    queue: Queue | None = None
    server: Server | None = None
    position: int = 0  # in the order in which its server was given tasks
    began: bool = False
    acked: bool = False  # the client has its outcome, though our copy is still on the way
    terminated: bool = False


Queue = OrderedDict[TaskId, NodeTask]


@dataclass(slots=True, eq=False)
class Server:
    """A server process that takes tasks, and those it has."""

    number: int
    pid: int
    spot: Spot
    address: Address
    cpu: dict[TaskId, NodeTask] = field(
        default_factory=dict
    )  # in the order given: the first one may have started, the others not
    io: dict[TaskId, NodeTask] = field(default_factory=dict)
    given: int = 0  # tasks so far
    cpu_queue: Queue = field(default_factory=OrderedDict)  # wait for this very server
    io_queue: Queue = field(default_factory=OrderedDict)
    since: float = 0.0  # when its present CPU task became the first
    alone: bool = False  # its CPU task is not known to be short: nothing waits behind it
    stalled: bool = False  # asked back what waits behind a long step, which has not ended yet
    recalling: bool = False  # a recall is unanswered
    withdrawn: bool = False  # gets nothing more
    lent: bool = False  # to the client, which sends it short tasks itself, one at a time
    reclaimed: bool = False  # asked to end that
    was_lent: bool = False  # or may have been: the client may have sent it something that we do not know of


class Levels:
    """Servers by load; of those on the lowest level the one that ran last comes first, then those longest there.

    What ran last is still in the CPU's caches: one task after the other, each waited for, cost half the CPU time that they
    cost when idle servers take turns.
    """

    def __init__(self) -> None:
        self._levels: list[OrderedDict[Server, None]] = []
        self._where: dict[Server, int] = {}
        self._lowest = 0

    def set(self, server: Server, level: int, *, is_warm: bool = False) -> None:
        old = self._where.get(server, -1)
        if old == level:
            return
        levels = self._levels
        if old >= 0:
            del levels[old][server]
        while level >= len(levels):
            levels.append(OrderedDict())
        levels[level][server] = None
        if is_warm:
            levels[level].move_to_end(server, last=False)
        self._where[server] = level
        if level < self._lowest:
            self._lowest = level

    def remove(self, server: Server) -> None:
        level = self._where.pop(server, -1)
        if level >= 0:
            del self._levels[level][server]

    def first(self) -> Server | None:
        levels = self._levels
        level = self._lowest
        while level < len(levels) and not levels[level]:
            level += 1
        self._lowest = level
        return next(iter(levels[level])) if level < len(levels) else None

    def __len__(self) -> int:
        return len(self._where)

    def level_of(self, server: Server) -> int | None:
        return self._where.get(server)

    def check(self) -> None:
        stored = {server: n for n, level in enumerate(self._levels) for server in level}
        assert stored == self._where, "levels and their index differ"
        assert all(n >= self._lowest for n in stored.values()), "a server below the lowest level"


class Feeding:
    """The tasks of one lease on this node: queued, or given to a server."""

    def __init__(self) -> None:
        self.tasks: dict[TaskId, NodeTask] = {}
        self.servers: dict[int, Server] = {}  # by epoch
        self._cpu_queue: Queue = OrderedDict()
        self._io_queue: Queue = OrderedDict()
        self._free = Levels()  # without a CPU task, by io tasks
        self._busy = Levels()  # with one, by io tasks
        self._ahead = Levels()  # may be fed ahead, by CPU tasks
        self._lent: dict[Server, None] = {}
        self._wanted_back: list[Server] = []  # lent ones for which something waits
        self._changed: dict[Server, None] = {}  # not yet on the levels where their load belongs
        self._stall_at: float | None = None
        self._means: dict[str, float] = {}  # seconds that the last runs of a fast function took

    @property
    def deadline(self) -> float | None:
        """When to look for servers that hold up what was fed ahead."""
        return self._stall_at

    # --- servers

    def add(self, server: Server) -> None:
        self.servers[server.address.epoch] = server
        self._changed[server] = None

    def withdraw(self, server: Server) -> None:
        """Gives it nothing more; what it has stays."""
        server.withdrawn = True
        if server.lent:
            self._reclaim([server])
        self._changed[server] = None

    def restore(self, server: Server) -> None:
        server.withdrawn = False
        self._changed[server] = None

    def drop(self, server: Server) -> list[NodeTask]:
        """The server is gone: its tasks in the order given, then those that waited for it, all forgotten."""
        del self.servers[server.address.epoch]
        for levels in (self._free, self._busy, self._ahead):
            levels.remove(server)
        self._changed.pop(server, None)
        self._lent.pop(server, None)
        if server in self._wanted_back:
            self._wanted_back.remove(server)
        tasks = [
            *server.cpu.values(),
            *server.io.values(),
            *server.cpu_queue.values(),
            *server.io_queue.values(),
        ]
        for task in tasks:
            del self.tasks[task.id]
        return tasks

    # --- tasks

    def put(self, task: NodeTask) -> None:
        """A new task waits; one that names a server names a known one."""
        run = task.run
        self.tasks[task.id] = task
        if run.server:
            server = self.servers[run.server]
            queue = server.io_queue if run.io else server.cpu_queue
            self._changed[server] = None
        else:
            queue = self._io_queue if run.io else self._cpu_queue
        queue[task.id] = task
        task.queue = queue

    def cancel(self, task: NodeTask) -> None:
        """Takes a queued task out."""
        assert task.queue is not None
        del task.queue[task.id]
        del self.tasks[task.id]

    def cancel_all(self) -> list[NodeTask]:
        """Takes out all that is queued."""
        queues = [self._cpu_queue, self._io_queue]
        for server in self.servers.values():
            queues += [server.cpu_queue, server.io_queue]
        tasks = [task for queue in queues for task in queue.values()]
        for task in tasks:
            self.cancel(task)
        return tasks

    def take_back(self, count: int) -> list[NodeTask]:
        """Up to so many of the CPU tasks that any server may run, the last ones, in order."""
        queue = self._cpu_queue
        tasks = [queue.popitem()[1] for _ in range(min(count, len(queue)))]
        for task in tasks:
            del self.tasks[task.id]
        tasks.reverse()
        return tasks

    def ended(self, task: NodeTask, now: float, seconds: float) -> None:
        """Its server is done with it, after so many seconds of work."""
        server = task.server
        assert server is not None
        del self.tasks[task.id]
        if task.run.io:
            del server.io[task.id]
        else:
            del server.cpu[task.id]
            server.since = now
            server.stalled = False
            if task.run.fast:
                self._learn(task.run.function, seconds)
        self._changed[server] = None

    def _learn(self, function: str, seconds: float) -> None:
        if len(self._means) >= FUNCTIONS_MAX:
            self._means.clear()
        mean = self._means.get(function, FIRST_MEAN)
        self._means[function] = mean + (seconds - mean) / 16

    def _bound(self, function: str) -> int:
        """How many CPU tasks a server may have for one of this function to wait behind them."""
        mean = self._means.get(function, FIRST_MEAN)
        return max(FEED_AHEAD, int(AHEAD_S / max(mean, AHEAD_S / FEED_AHEAD_MAX)))

    def given_back(self, server: Server, tasks: Iterable[TaskId], now: float) -> list[NodeTask]:
        """A server answers a recall: these wait again, before all others; unknown ones are left out."""
        server.recalling = False
        back: list[NodeTask] = []
        for id in tasks:
            task = server.cpu.get(id)
            if task is not None and not task.began:
                del server.cpu[id]
                back.append(task)
        for task in reversed(back):
            task.server = None
            task.since = now
            task.queue = server.cpu_queue if task.run.server else self._cpu_queue
            task.queue[task.id] = task
            task.queue.move_to_end(task.id, last=False)
        if len(server.cpu) > 1:
            self._arm(max(now, server.since) + STALL)
        self._changed[server] = None
        return back

    def stalls(self, now: float) -> list[Server]:
        """Servers whose step has lasted too long for those behind it; each is to be sent a recall."""
        if self._stall_at is None or self._stall_at > now:
            return []
        self._stall_at = None
        stalled = []
        for server in self.servers.values():
            if len(server.cpu) < 2 or server.recalling:
                continue
            if server.since + STALL <= now:
                server.stalled = server.recalling = True
                self._changed[server] = None
                stalled.append(server)
            else:
                self._arm(server.since + STALL)
        return stalled

    # --- lending

    def lend(self, server: Server) -> None:
        """Its last task was short and the only one: the client may send it the next ones itself."""
        server.lent = True
        self._lent[server] = None
        self._changed[server] = None

    def returned(self, server: Server) -> None:
        """It is lent no more."""
        server.lent = server.reclaimed = False
        self._lent.pop(server, None)
        self._changed[server] = None

    def adopt(self, id: TaskId, function: str, server: Server, now: float) -> NodeTask:
        """A task that the client gave it itself, and that has begun, is ours from now on; the loan is over."""
        self.returned(server)
        position = DIRECT + id.number
        task = NodeTask(id, Run(id, function), None, now, server=server, position=position, began=True)
        self.tasks[id] = server.cpu[id] = task
        server.since = now
        server.alone = True
        return task

    @property
    def is_idle(self) -> bool:
        """Nothing is here, and nothing can be at servers on loan."""
        return not self.tasks and not self._lent

    def reclaim_all(self) -> None:
        self._reclaim(self._lent)

    def take_wanted_back(self) -> list[Server]:
        """Lent servers that are to be reclaimed, each once."""
        wanted, self._wanted_back = self._wanted_back, []
        return wanted

    def _reclaim(self, servers: Iterable[Server]) -> bool:
        """Whether any of them was not asked for before."""
        fresh = [server for server in servers if not server.reclaimed]
        for server in fresh:
            server.reclaimed = True
        self._wanted_back += fresh
        return bool(fresh)

    # --- which server

    def assign(self, now: float) -> list[NodeTask]:
        """One pass: all that can be given now is given; the tasks say to whom."""
        given: list[NodeTask] = []
        for server in self._changed:
            self._place(server)
            if server.cpu_queue or server.io_queue:
                self._assign_named(server, given, now)
        self._changed.clear()
        if self._cpu_queue:
            self._assign_cpu(given, now)
        if self._io_queue:
            self._assign_io(given, now)
        return given

    def _assign_cpu(self, given: list[NodeTask], now: float) -> None:
        queue, free = self._cpu_queue, self._free
        while queue and (server := free.first()) is not None:
            given.append(self._give(queue.popitem(last=False)[1], server, now))
        if queue and self._lent and self._reclaim(self._lent):
            return  # what waits gets those, not a place behind others; it is not held up by one that does not answer
        ahead = self._ahead
        # One that needs a server alone keeps its turn: short ones must not fill what it waits for.
        while queue and next(iter(queue.values())).run.fast and (server := ahead.first()) is not None:
            if server.since + STALL <= now:
                server.stalled = True  # its step turned out long: nothing more goes behind it
                self._place(server)
            elif not self._feed_ahead(server, given, now):
                return  # even the least loaded has enough to do

    def _feed_ahead(self, server: Server, given: list[NodeTask], now: float) -> bool:
        """The least loaded gets an even share at once: never more than it should have in the end. False if it gets nothing."""
        queue = self._cpu_queue
        share = len(queue) // len(self._ahead) or 1
        function = next(iter(queue.values())).run.function
        room = 1 + self._bound(function) - len(server.cpu)
        if room <= 0:
            return False
        for _ in range(min(share, room)):
            id, task = queue.popitem(last=False)
            if not task.run.fast or task.run.function != function:
                queue[id] = task
                queue.move_to_end(id, last=False)
                break
            _hand(task, server, now)
            _without_lending(task)
            server.cpu[id] = task
            given.append(task)
        self._place(server)
        if self._stall_at is None:
            self._stall_at = server.since + STALL
        return True

    def _assign_io(self, given: list[NodeTask], now: float) -> None:
        queue = self._io_queue
        while queue:
            server = self._io_server()
            if server is None:
                return
            given.append(self._give(queue.popitem(last=False)[1], server, now))

    def _assign_named(self, server: Server, given: list[NodeTask], now: float) -> None:
        if server.withdrawn:
            return
        queue = server.cpu_queue
        if queue and server.lent:
            self._reclaim([server])
        while queue and not server.lent:
            run = next(iter(queue.values())).run
            may_wait = self._ahead.level_of(server) is not None and run.fast
            if server.cpu and not (may_wait and len(server.cpu) <= self._bound(run.function)):
                break
            given.append(self._give(queue.popitem(last=False)[1], server, now))
        while server.io_queue and len(server.io) < IO_MAX:
            given.append(self._give(server.io_queue.popitem(last=False)[1], server, now))

    def _io_server(self) -> Server | None:
        """Never one with a CPU task while another is free (spec 6.4), then the least io tasks."""
        for levels in (self._free, self._busy):
            server = levels.first()
            if server is not None and len(server.io) < IO_MAX:
                return server
        return None

    def _give(self, task: NodeTask, server: Server, now: float) -> NodeTask:
        _hand(task, server, now)
        if task.run.io:
            server.io[task.id] = task
            self._place(server)
            return task
        if not server.cpu:
            server.since = now
            server.alone = not task.run.fast or task.run.lend
            server.was_lent |= task.run.lend
        else:
            _without_lending(task)
            if self._stall_at is None:
                self._stall_at = server.since + STALL
        server.cpu[task.id] = task
        self._place(server)
        return task

    def _arm(self, at: float) -> None:
        if self._stall_at is None or at < self._stall_at:
            self._stall_at = at

    def _place(self, server: Server) -> None:
        """Puts the server on the levels where its facts belong."""
        free, busy, ahead = self._wanted(server)
        is_warm = free is not None and server.since > 0
        for levels, level in ((self._free, free), (self._busy, busy), (self._ahead, ahead)):
            if level is None:
                levels.remove(server)
            else:
                levels.set(server, level, is_warm=is_warm)

    def _wanted(self, server: Server) -> tuple[int | None, int | None, int | None]:
        """Where it belongs among the free, the busy, and those that may be fed ahead."""
        if server.withdrawn:
            return None, None, None
        if server.lent:
            return None, len(server.io), None
        if not server.cpu:
            return len(server.io), None, None
        held_up = server.alone or server.stalled or server.recalling or len(server.cpu) > FEED_AHEAD_MAX
        return None, len(server.io), None if held_up else len(server.cpu)

    # --- what must hold

    def _queues(self) -> Iterator[Queue]:
        yield self._cpu_queue
        yield self._io_queue
        for server in self.servers.values():
            yield server.cpu_queue
            yield server.io_queue

    def check(self) -> None:
        """Asserts that each task is at one place, and each server on the levels that its load says."""
        count = 0
        for queue in self._queues():
            count += len(queue)
            for id, task in queue.items():
                assert self.tasks.get(id) is task, f"{id} waits but is not known"
                assert task.queue is queue and task.server is None, f"{id} waits and does not know where"
        for server in self.servers.values():
            count += len(server.cpu) + len(server.io)
            self._check_server(server)
        assert count == len(self.tasks), f"{len(self.tasks)} tasks known, {count} found"
        for levels in (self._free, self._busy, self._ahead):
            levels.check()

    def _check_server(self, server: Server) -> None:
        for id, task in [*server.cpu.items(), *server.io.items()]:
            assert self.tasks.get(id) is task, f"{id} was given to {server.spot.name} but is not known"
            assert task.server is server and task.queue is None, f"{id} does not know its server"
            assert task.run.io == (id in server.io), f"{id} is on the wrong side of {server.spot.name}"
            assert task.run.server in (0, server.address.epoch), f"{id} is on a server it did not name"
        fast = [task.run.fast for task in server.cpu.values()]
        assert len(fast) < 2 or all(fast), f"{server.spot.name} has a CPU task beside one that needs it alone"
        watched = len(fast) < 2 or server.recalling or self._stall_at is not None
        assert watched, f"nobody looks after what waits on {server.spot.name}"
        assert len(fast) <= 1 + FEED_AHEAD_MAX and len(server.io) <= IO_MAX, (
            f"{server.spot.name} has too many tasks"
        )
        assert server.lent == (server in self._lent), f"{server.spot.name} does not know whether it is lent"
        assert not (server.lent and server.cpu), f"{server.spot.name} is lent and has a task of its node"
        if server in self._changed:
            return
        levels = tuple(levels.level_of(server) for levels in (self._free, self._busy, self._ahead))
        assert levels == self._wanted(server), (
            f"{server.spot.name} is on {levels}, not {self._wanted(server)}"
        )


def _hand(task: NodeTask, server: Server, now: float) -> None:
    task.queue = None
    task.server = server
    task.since = now
    server.given = task.position = server.given + 1


def _without_lending(task: NodeTask) -> None:
    """It goes behind another: more may follow it."""
    if task.run.lend:
        task.run = replace(task.run, lend=False)


def report(server: Server, now: float) -> ServerReport:
    """For status: what the server has, the running ones first."""
    reports = []
    first = next(iter(server.cpu), None)
    tasks = sorted(
        [*server.io.values(), *server.cpu.values()], key=lambda task: not (task.run.io or task.id == first)
    )
    for task in tasks[:REPORT_TASKS]:
        runs = task.run.io or task.id == first
        since = server.since if task.id == first and task.run.fast else task.since
        state = "running" if runs else "waiting"
        reports.append(TaskReport(task.run.function, *task.id, task.run.io, state, now - since))
    return ServerReport(server.spot, server.pid, reports)
