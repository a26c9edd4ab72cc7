"""Gives waiting tasks to nodes: one pass over the queues, whatever happened since the last.

Whoever changes the servers, the load or the state of a site, or queues a task that may only run there, marks
it (`touched`); the pass reads marks and queues, and nothing else has to call it. Its work per task does not
grow with the number of nodes, which are kept by their load (`Shelves`). What load is, and how much of it a node
takes, is said in `placement`.
"""

from __future__ import annotations

from math import inf
from typing import Final

from dispycos.machine import Send
from dispycos.protocol.envelope import Envelope
from dispycos.protocol.messages import Recall, Run

from .lifecycle import NodeState, TaskState
from .outbox import Outbox
from .placement import (
    AHEAD_MAX,
    BARRED,
    FULL,
    IO_MAX,
    RECALL_AFTER_S,
    STEPS,
    Shelves,
    ahead_of,
    cpu_level,
    io_level,
    recall_count,
    room_ahead,
)
from .registry import Alarm, Registry, Server, Site, Task

RECALL_AGAIN_S: Final = 1.0  # a node that had nothing to give back is not asked again for so long
GIVEN: Final = TaskState.GIVEN  # to read it from its Enum costs as much as a dictionary look-up


class Placing:
    """The load of the sites, and what follows from it for the tasks that wait."""

    def __init__(self, registry: Registry, out: Outbox) -> None:
        self.registry = registry
        self.out = out
        self.cpu: Shelves[Site] = Shelves(BARRED)
        self.io: Shelves[Site] = Shelves(IO_MAX)
        self.touched: dict[Site, None] = {}  # their load or servers changed since the last pass

    # --- what changes

    def enter(self, task: Task, site: Site) -> None:
        """It loads a site that it was not given to."""
        _count_at(site, task.submit.io, task.fast, 1)
        if task.server is not None:
            count_on(task.server, task.submit.io, 1)
        self.touched[site] = None

    def leave(self, task: Task, site: Site) -> None:
        """It does not load its site any more."""
        io = task.submit.io
        _count_at(site, io, task.fast, -1)
        if task.server is not None:
            count_on(task.server, io, -1)
        self.touched[site] = None

    def remove(self, site: Site) -> None:
        """It is gone, and its load with it."""
        self.cpu.remove(site)
        self.io.remove(site)
        self.touched.pop(site, None)

    # --- the pass

    def place(self, now: float) -> None:
        """The placement pass: give out what can be given out."""
        registry = self.registry
        for site in self.touched:
            self._shelve(site)
        if registry.slow or registry.fast:
            self._place_on_free_slots()
        for site in self.touched:
            if site.pinned or site.starved:
                site.starved = False
                if is_usable(site):
                    self._place_pinned(site, inf)
                self._shelve(site)
        self.touched.clear()
        if registry.fast:
            self._place_ahead()
        if registry.io:
            self._place_io()
        self._watch_balance(now)

    def _place_on_free_slots(self) -> None:
        slow, fast = self.registry.slow, self.registry.fast
        while slow or fast:
            site = self.cpu.first_below(STEPS)
            if site is None:
                return
            takes_fast = not slow or (fast and fast[0].turn < slow[0].turn)
            if site.pinned and self._place_pinned(site, (fast if takes_fast else slow)[0].turn):
                self._shelve(site)  # earlier ones, that can run nowhere else
                continue
            if takes_fast:
                self._give(fast.popleft(), site, True)
                site.fast += 1
            else:
                self._give(slow.popleft(), site, False)
                site.slow += 1
            self.cpu.put(site, _cpu_level(site))

    def _place_ahead(self) -> None:
        """Short tasks may wait behind busy servers, but not push aside an earlier one that needs a server."""
        slow, fast = self.registry.slow, self.registry.fast
        while fast and not (slow and slow[0].turn < fast[0].turn):
            site = self.cpu.first_below(FULL)
            if site is None:
                return
            alone = not slow and len(self.cpu.level_of) == 1
            room = room_ahead(len(site.servers), site.slow, site.fast, alone)
            count = min(room, len(fast))
            for _ in range(count):
                self._give(fast.popleft(), site, True)
            site.fast += count
            self.cpu.put(site, _cpu_level(site))

    def _place_io(self) -> None:
        queue = self.registry.io
        while queue:
            site = self.io.first_below(IO_MAX)
            if site is None:
                return
            self._give(queue.popleft(), site, False)
            site.io += 1
            self.io.put(site, io_level(len(site.servers), site.io))

    def _place_pinned(self, site: Site, before: float) -> bool:
        """What was handed in before this turn and may only run at this site; True if there was any."""
        placed = False
        for key, queue in list(site.pinned.items()):
            io = key[1]
            takes = _takes_io if io else _takes_cpu
            while queue and queue[0].turn < before and takes(site, queue[0]):
                placed = True
                task = queue.popleft()
                fast = not io and task.pace.fast
                self._give(task, site, fast)
                if task.server is not None:
                    count_on(task.server, io, 1)
                _count_at(site, io, fast, 1)
            if not queue:
                del site.pinned[key]
        return placed

    def _give(self, task: Task, site: Site, fast: bool) -> None:
        task.state = GIVEN
        task.site = site
        task.fast = fast
        s = task.submit
        run = Run(s.task, s.function, s.io, s.server, s.code, s.fetch, fast, s.lend and fast)
        out = self.out
        out.effects.append(Send(Envelope(site.node.address, out.address, run, 0, task.payload)))

    def _shelve(self, site: Site) -> None:
        if not is_usable(site):
            self.cpu.remove(site)
            self.io.remove(site)
            return
        level = _cpu_level(site)
        if self.cpu.level_of.get(site) != level:  # else it keeps its turn
            self.cpu.put(site, level)
        level = io_level(len(site.servers), site.io)
        if self.io.level_of.get(site) != level:
            self.io.put(site, level)

    # --- evening out

    def _watch_balance(self, now: float) -> None:
        """Are servers idle while short tasks wait behind others? Then see whether that lasts."""
        alarms = self.registry.alarms
        cpu = self.cpu
        uneven = (
            len(cpu.level_of) > 1 and cpu.first_below(STEPS) is not None and cpu.has_between(STEPS, BARRED)
        )
        if uneven != ((Alarm.REBALANCE, 0) in alarms.times):
            if uneven:
                alarms.set(Alarm.REBALANCE, 0, now + RECALL_AFTER_S)
            else:
                alarms.cancel(Alarm.REBALANCE, 0)

    def rebalance(self, now: float) -> None:
        for site in self.registry.sites():
            ahead = ahead_of(len(site.servers), site.slow, site.fast)
            if ahead and is_usable(site) and site.recall_not_before <= now:
                site.recall_not_before = now + RECALL_AGAIN_S
                self.out.send(site.node.address, Recall(recall_count(ahead)))

    def check(self) -> None:
        """Each site is on the shelf that its load says."""
        for site in self.registry.sites():
            if site in self.touched:
                continue
            usable = is_usable(site)
            assert self.cpu.level_of.get(site) == (_cpu_level(site) if usable else None)
            assert self.io.level_of.get(site) == (io_level(len(site.servers), site.io) if usable else None)
        sites = set(self.registry.sites())
        assert self.cpu.level_of.keys() <= sites and self.io.level_of.keys() <= sites
        assert self.touched.keys() <= sites


# --- small questions about one site, and its load


def is_usable(site: Site) -> bool:
    return site.node.state is NodeState.OPEN and site.node.confirmed


def _cpu_level(site: Site) -> int:
    level = cpu_level(len(site.servers), site.slow, site.fast)
    return BARRED if site.starved and level >= STEPS else level


def _takes_cpu(site: Site, task: Task) -> bool:
    """May this pinned CPU task go now? Notes when it lacks nothing but a slot."""
    servers = len(site.servers)
    server = task.server
    if task.pace.fast:
        level = cpu_level(servers, site.slow, site.fast)
        return level < FULL and (server is None or server.cpu <= AHEAD_MAX)
    if server is not None and server.cpu > 0:
        return False
    if site.slow + site.fast >= servers:
        site.starved = True
        return False
    return True


def _takes_io(site: Site, task: Task) -> bool:
    below = io_level(len(site.servers), site.io) < IO_MAX
    return below and (task.server is None or task.server.io < IO_MAX)


def count_on(server: Server, io: bool, count: int) -> None:
    if io:
        server.io += count
    else:
        server.cpu += count


def _count_at(site: Site, io: bool, fast: bool, count: int) -> None:
    if io:
        site.io += count
    elif fast:
        site.fast += count
    else:
        site.slow += count
