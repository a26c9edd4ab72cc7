"""Keeps its own book of what a client was told and what it gave to whom, and says where its dispatcher broke a rule."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any, Final

from dispycos.actors.dispatching.facts import Entry
from dispycos.actors.dispatching.learning import FUNCTIONS_MAX

from .dispatch_told import Recall, Runs, Told
from .dispatch_world import World

SLACK_S: Final = 0.002
LOOK_S: Final = 0.03  # a client that has no turns looks as often as that
STALL_S: Final = 0.05
UNEVEN_S: Final = 0.25  # tasks wait behind others for so long while servers idle, and nobody is asked
CALLS_MAX: Final = 1 << 20


@dataclass(eq=False)
class Known:
    """A server, as far as its client was told."""

    epoch: int
    name: str
    node: int
    srtt: float
    cpu: list[Entry] = field(default_factory=list)
    io: list[Entry] = field(default_factory=list)
    recalling: bool = False
    shut: bool = False  # its client has suspended it
    ended: bool = False  # drains, or is to be killed: gets nothing more
    since: float = 0.0
    held_up_since: float = 0.0  # something waits there that may run elsewhere
    asked_of: Entry | None = None


class Referee:
    """Told all that the client is told, and all that its dispatcher wants done."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.servers: dict[int, Known] = {}
        self.barred: dict[int, set[str]] = {}  # nodes: why they get nothing
        self.resources: dict[int, dict[str, int]] = {}  # of nodes: all that they have
        self.names: dict[str, set[int]] = {}  # nodes by name
        self.waiting: dict[int, Entry] = {}  # by turn
        self.shortest: dict[str, float] = {}  # run of each function
        self.lags: deque[tuple[float, float]] = deque()  # when the client heard how late
        self.addressed: set[tuple[int, int]] = set()  # attempts that somebody may talk to
        self.idle_since: float | None = None
        self.uneven_since: float | None = None

    # --- what is told

    def submitted(self, entry: Entry) -> None:
        if not entry.over:
            self.waiting[entry.turn] = entry

    def hear(self, kind: str, *rest: Any) -> None:
        getattr(self, f"on_{kind}", lambda *rest: None)(*rest)

    def on_node_up(
        self, epoch: int, title: str, names: tuple[str, ...], resources: tuple[tuple[str, int], ...]
    ) -> None:
        self.resources[epoch] = dict(resources)
        self.barred.setdefault(epoch, set())
        for name in names:
            self.names.setdefault(name, set()).add(epoch)

    def on_node_opened(self, epoch: int, standing: str) -> None:
        if epoch in self.barred:
            self.barred[epoch].discard("SUSPENDED")
            if standing != "OPEN":
                self.barred[epoch].add(standing)

    def on_node_silent(self, epoch: int) -> None:
        if epoch in self.barred:
            self.barred[epoch].add("silent")

    def on_node_heard(self, epoch: int) -> None:
        if epoch in self.barred:
            self.barred[epoch].discard("silent")

    def on_node_lost(self, epoch: int, text: str) -> None:
        self.barred.pop(epoch, None)
        for server in [server for server in self.servers.values() if server.node == epoch]:
            self.on_server_lost(server.epoch, text)

    def on_server_up(self, epoch: int, name: str, node: int, srtt: float) -> None:
        if node in self.barred:
            self.servers[epoch] = Known(epoch, name, node, srtt)

    def on_server_lost(self, epoch: int, *rest: Any) -> None:
        self.servers.pop(epoch, None)

    def on_server_opened(self, epoch: int, is_open: bool) -> None:
        if epoch in self.servers:
            self.servers[epoch].shut = not is_open

    def on_session_reset(self, epoch: int) -> None:
        if epoch in self.servers:
            self.servers[epoch].ended = True

    def on_returned(self, epoch: int, positions: list[int], draining: bool) -> None:
        server = self.servers.get(epoch)
        if server is not None:
            server.ended = server.ended or draining or not server.recalling
            server.recalling = False
            server.cpu = [entry for entry in server.cpu if entry.position not in positions]
            server.io = [entry for entry in server.io if entry.position not in positions]

    def ended_at(self, epoch: int, entry: Entry, seconds: float, ran: bool) -> None:
        """Before its dispatcher hears of it."""
        server = self.servers.get(epoch)
        if server is None:
            return
        if entry in server.io:
            server.io.remove(entry)
        elif entry in server.cpu:
            server.cpu.remove(entry)
            if ran:
                self.lags.append((self.world.now, min(self.world.now - server.since - seconds, 2.0)))
            server.since = self.world.now
            if ran:
                self.shortest[entry.function] = min(seconds, self.shortest.get(entry.function, seconds))

    def placed(self, entry: Entry) -> None:
        self.addressed.add((entry.turn, entry.attempt))

    def again(self, entry: Entry) -> None:
        """It may be given once more."""
        if not entry.over and entry.at is None:
            self.waiting[entry.turn] = entry

    # --- what is given

    def judge(self, told: list[Told], has_more: bool) -> None:
        """After a turn of the client's."""
        for turn in [turn for turn, entry in self.waiting.items() if entry.over]:
            del self.waiting[turn]
        given: list[Entry] = []
        for effect in told:
            if isinstance(effect, Runs):
                self._give(effect.server.epoch, effect.entries)
                given += effect.entries
            elif isinstance(effect, Recall):
                server = self.servers.get(effect.server.epoch)
                if server is None:
                    continue  # its end was heard of in the same turn
                behind = [entry for entry in server.cpu if entry.position > effect.after]
                shut = server.shut or self.barred.get(server.node)  # what names it is not to run now, either
                in_vain = not shut and all(entry.server for entry in behind)
                if server.recalling or server.ended or in_vain:
                    self.world.wrong(f"{server.name} is asked back in vain")
                server.recalling = True
                server.asked_of = server.cpu[0] if server.cpu else None
                self.uneven_since = None
        self._judge_order(given)
        if not has_more:
            self._judge_idle()
        self.look()

    def _give(self, epoch: int, entries: list[Entry]) -> None:
        wrong = self.world.wrong
        server = self.servers.get(epoch)
        if server is None:
            wrong("a task is given to a server that is gone")
            return
        if server.ended or server.shut or self.barred.get(server.node, {"gone"}):
            wrong(
                f"{server.name} is given tasks, and takes none: {server.ended} {self.barred.get(server.node)}"
            )
        if server.recalling:
            wrong(f"{server.name} is given tasks while it is asked for some back")
        for entry in entries:
            if self.waiting.pop(entry.turn, None) is None:
                wrong(f"task {entry.turn} is given to {server.name}, and did not wait")
            if (entry.turn, entry.attempt) in self.addressed:
                wrong(f"task {entry.turn} is given to {server.name}, and had an address elsewhere")
            if entry.terminated:
                wrong(f"task {entry.turn} is given to {server.name}, and is to end")
            if not self.may_run(entry, server):
                wrong(f"task {entry.turn} is given to {server.name}, and named another")
            if entry.io:
                server.io.append(entry)
                server.held_up_since = self.world.now
                continue
            if not server.cpu:
                server.since = self.world.now
            elif entry.alone or entry.needs:
                wrong(f"task {entry.turn} is given behind others, and has to be alone")
            server.cpu.append(entry)
        self._judge_resources(server.node)
        self._judge_ahead(server)

    def _judge_ahead(self, server: Known) -> None:
        ahead = server.cpu[1:]
        while self.lags and self.lags[0][0] < self.world.now - 11.0:
            self.lags.popleft()
        horizon = server.srtt + 0.01 + 1.25 * max((lag for _, lag in self.lags), default=0.0) + SLACK_S
        if len(ahead) > 1:
            if sum(entry.size for entry in ahead) > CALLS_MAX:
                self.world.wrong(
                    f"{server.name} has {sum(entry.size for entry in ahead)} bytes of calls ahead"
                )
            known = [self.shortest.get(entry.function) for entry in server.cpu]
            if known[0] is None and known[1] is None and known[-1] is None:
                self.world.wrong(f"{server.name} has {len(ahead)} ahead of a function that nobody knows")
            if sum(seconds for seconds in known[:-1] if seconds is not None) > horizon:
                self.world.wrong(f"{server.name} has {len(ahead)} ahead, more than {horizon} s")

    def _had_of(self, node: int) -> list[Entry]:
        servers = [server for server in self.servers.values() if server.node == node]
        return [entry for server in servers for entry in (*server.cpu, *server.io) if entry.needs]

    def _judge_resources(self, node: int) -> None:
        """No unit is used twice, none that is not there, and each task has what it needs."""
        used: dict[str, list[int]] = {}
        for entry in self._had_of(node):
            units = entry.units or {}
            if {name: len(numbers) for name, numbers in units.items()} != dict(entry.needs):
                self.world.wrong(f"task {entry.turn} needs {entry.needs}, and has {units}")
            for name, numbers in units.items():
                used.setdefault(name, []).extend(numbers)
        for name, numbers in used.items():
            count = self.resources[node].get(name, 0)
            if len(set(numbers)) < len(numbers) or not set(numbers) <= set(range(count)):
                self.world.wrong(f"node {node} has {count} {name}, and {sorted(numbers)} are used")

    def has_free(self, entry: Entry, node: int) -> bool:
        used = self._had_of(node)
        return all(
            self.resources[node].get(name, 0) - sum(dict(other.needs).get(name, 0) for other in used) >= count
            for name, count in entry.needs
        )

    def may_run(self, entry: Entry, server: Known) -> bool:
        if entry.server:
            return entry.server == server.epoch
        return not entry.node or server.node in self.names.get(entry.node, ())

    def _judge_order(self, given: list[Entry]) -> None:
        for io in (False, True):
            turns = [e.turn for e in given if e.io is io and not _asks(e)]
            first = min((e.turn for e in self.waiting.values() if e.io is io and not _asks(e)), default=0)
            if turns and 0 < first < max(turns):
                self.world.wrong(f"task {max(turns)} was given before {first}, which waits")

    def _takes(self, server: Known) -> bool:
        return not (server.recalling or server.ended or server.shut or self.barred.get(server.node, {"gone"}))

    def _judge_idle(self) -> None:
        if not self.waiting:
            return
        takers = [server for server in self.servers.values() if self._takes(server)]
        idle = [server for server in takers if not server.cpu]
        for entry in self.waiting.values():
            for server in takers if entry.io else idle:
                if self.may_run(entry, server) and self.has_free(entry, server.node):
                    self.world.wrong(f"{server.name} idles and task {entry.turn} waits")
                    return

    def look(self) -> None:
        """Is what waits behind others asked back?"""
        now = self.world.now
        idle = [server for server in self.servers.values() if not server.cpu and self._takes(server)]
        if not idle:
            for server in self.servers.values():
                server.held_up_since = now
            self.idle_since = self.uneven_since = None
            return
        if self.idle_since is None:
            self.idle_since = now
        uneven = False
        for server in self.servers.values():
            if server.recalling or server.ended or not self._holds_up(server, idle):
                server.held_up_since = now
                continue
            uneven = uneven or len(server.cpu) > 1
            # Within 50 ms of when its step is long, and of when one idles that may take what waits there.
            stuck = max(server.since + server.srtt, self.idle_since, server.held_up_since) + STALL_S
            if server.asked_of is not server.cpu[0] and now > stuck + SLACK_S:
                self.world.wrong(f"{server.name} has {len(server.cpu)} tasks in one step, and others idle")
        if not uneven:
            self.uneven_since = None
        elif self.uneven_since is None:
            self.uneven_since = now
        elif now > self.uneven_since + UNEVEN_S:
            self.world.wrong(f"tasks wait behind others since {self.uneven_since}, and servers idle")

    def _holds_up(self, server: Known, idle: list[Known]) -> bool:
        """Does something wait there that an idle one may run? An io task may keep a CPU task from its step."""
        return any(
            any(self.may_run(entry, other) and self._may_move(entry, server, other) for other in idle)
            for entry in server.cpu[0 if server.io else 1 :]
            if (entry.turn, entry.attempt) not in self.addressed
        )

    def _may_move(self, entry: Entry, server: Known, other: Known) -> bool:
        return server.node == other.node or self.has_free(entry, other.node)

    def judge_learners(self, known: int) -> None:
        if known > FUNCTIONS_MAX:
            self.world.wrong(f"{known} functions are remembered")


def _asks(entry: Entry) -> bool:
    """For a place."""
    return bool(entry.node or entry.server or entry.needs)
