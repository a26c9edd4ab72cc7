"""Which server is next, and how much it is given ahead: the rules of placing, as functions of facts.

A CPU task goes to the least loaded node that has a free server (free servers / servers), there to the one with the
fewest io tasks, of those to the one that ran last; with it go those known to be so brief that no other server is worth
waking for them. An io task goes to a server without a CPU task while there is one, to
the one with the fewest io tasks. A task is given *ahead*, behind others, where it is expected to begin within a horizon
of time: so long the client may be unable to say anything, be it that its words travel or that it computes. Ray
has a fixed number of tasks in flight for that, and dask a factor of the threads, whatever their tasks take.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from .facts import Entry, FleetNode, FleetServer
from .shelves import Shelves

AHEAD_S: Final = 0.01  # the horizon of a client that is always there and has no way to go
MARGIN: Final = 1.25  # the next time that the client is away may last longer than the last
UNKNOWN_S: Final = 100.0  # expected of a function that has not run: longer than any horizon
CALLS_MAX: Final = 1 << 20  # bytes of calls that wait at one server; a single call may be larger
CALL_OVERHEAD: Final = 256  # bytes that each costs beside, so that the smallest are bounded too
WORTH: Final = 10  # times that the way may go into a run, and one is put behind it all the same
IO_MAX: Final = 1000  # io tasks on one server
TOGETHER_S: Final = 0.001  # to wake a server costs two processes about as much CPU time as so many no-ops
TOGETHER_MAX: Final = 64
STEPS: Final = 64  # levels of nodes with a free server
STALL_S: Final = 0.05  # a step that lasts so long is long: what waits behind it is asked back


def is_full(server: FleetServer, lag: float, size: int = 0) -> bool:
    """May nothing more, or no call of this size, be put behind what this busy server has?

    `lag` is how late the client may hear of it. One may wait behind what is unknown, and where the server would idle for a
    tenth of each run else. A large call may wait there alone.
    """
    cpu = server.cpu
    waits = len(cpu) - 1
    away = server.srtt + MARGIN * lag
    if waits:
        calls = server.calls - cpu[0].size + waits * CALL_OVERHEAD
        return server.work_s > away + AHEAD_S or calls >= CALLS_MAX or calls + size > CALLS_MAX
    return UNKNOWN_S > server.work_s > max(away + AHEAD_S, WORTH * away)


def goes_along(server: FleetServer, entry: Entry) -> bool:
    """Is what this server, which was free, was given just now so brief together that another one need not be woken for this?"""
    learner = entry.learner
    return (
        len(server.cpu) < TOGETHER_MAX
        and not entry.alone
        and not entry.needs  # nothing is kept by who does not run
        and learner is not None
        and learner.runs > 0
        and server.work_s + learner.mean <= TOGETHER_S
        and not is_full(server, 0.0, entry.size)
    )


def stalls_at(server: FleetServer, is_wanted: bool) -> float:
    """When what waits behind its first task is asked back: at once if another server is free, else if it surprises."""
    learner = server.cpu[0].learner
    usual = 2 * learner.mean if learner is not None and not is_wanted else 0.0
    return server.since + server.srtt + max(STALL_S, usual)


def recallable(server: FleetServer) -> list[Entry]:
    """Its CPU tasks that may not have begun and might run elsewhere: the first has begun, unless an io task keeps the thread."""
    return [entry for entry in unbegun(server) if not entry.server]


def unbegun(server: FleetServer) -> list[Entry]:
    """Its CPU tasks that may not have begun."""
    entries = [entry for entry in server.cpu if not entry.placed]
    if entries and entries[0] is server.cpu[0] and not server.io:
        del entries[0]
    return entries


class Choice:
    """The servers that may be given something, by their load."""

    def __init__(self) -> None:
        self.nodes: Shelves[FleetNode] = Shelves()  # with a free server, by the share of those that are not
        self.io: Shelves[FleetServer] = Shelves()  # those with a CPU task last, else by io tasks
        self._keeps_io = False
        self.ahead: Shelves[FleetServer] = Shelves()  # with a CPU task and room for more, by CPU tasks

    def update(self, server: FleetServer, lag: float) -> None:
        """Its load changed, or whether it is offered."""
        if not server.is_offered:
            self.remove(server)
            return
        if self._keeps_io:
            self._put_io(server)
        if not server.cpu:
            self.ahead.remove(server)
            server.node.free.put(server, len(server.io))
        else:
            server.node.free.remove(server)
            if is_full(server, lag):
                self.ahead.remove(server)
            else:
                self.ahead.put(server, len(server.cpu))
        self._update_node(server.node)

    def remove(self, server: FleetServer) -> None:
        self.ahead.remove(server)
        self.io.remove(server)
        server.node.free.remove(server)
        self._update_node(server.node)

    def keep_io(self, servers: Iterable[FleetServer]) -> None:
        """There are io tasks: from now on it is kept who is next for them. Most programs have none, and save the work."""
        if not self._keeps_io:
            self._keeps_io = True
            for server in servers:
                if server.is_offered:
                    self._put_io(server)

    def _put_io(self, server: FleetServer) -> None:
        if len(server.io) < IO_MAX:
            self.io.put(server, io_level(server))
        else:
            self.io.remove(server)

    def _update_node(self, node: FleetNode) -> None:
        level = node_level(node)
        if level is None:
            self.nodes.remove(node)
        else:
            self.nodes.put(node, level)

    def check(self, nodes: Iterable[FleetNode]) -> None:
        for node in nodes:
            assert self.nodes.level_of.get(node) == node_level(node), f"{node.title} is on the wrong level"
            for server in node.servers.values():
                offered = server.is_offered
                free = len(server.io) if offered and not server.cpu else None
                assert node.free.level_of.get(server) == free, f"{server.name} is free, or is not"
                takes_io = self._keeps_io and offered and len(server.io) < IO_MAX
                io = io_level(server) if takes_io else None
                assert self.io.level_of.get(server) == io, f"{server.name} stands wrong for io tasks"
                # Not of one that is full or stalls, once that is seen.
                ahead = self.ahead.level_of.get(server)
                assert ahead is None or (offered and ahead == len(server.cpu) > 0), f"{server.name} is fed"


def io_level(server: FleetServer) -> int:
    return len(server.io) + (IO_MAX if server.cpu else 0)


def node_level(node: FleetNode) -> int | None:
    free = len(node.free)
    if not free:
        return None
    slots = len(node.servers)
    return STEPS * (slots - free) // slots
