"""The client's dispatcher: gives its tasks to the servers of its lease, and decides what becomes of those of the dead.

It is told facts: by the ledger what is submitted and to be ended, by servers what they have placed, begun, ended and given
back, by nodes and the scheduler which servers there are. `place` then gives out what can be given. Its owner is told what is
to be sent, and how tasks ended that no server speaks for. A task is given again only after its server gave it back, or is
dead and had not begun it; after it had begun only if retries are left.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, Protocol

from dispycos.protocol.status import OutcomeKind

from .facts import Entry, FleetNode, FleetServer, Phase, Pin
from .fleet import Fleet
from .giving import Giving
from .learning import Lags, Learners
from .placement import unbegun
from .recalling import Recalling

RETURNED: Final = OutcomeKind.RETURNED  # to read a member from its Enum costs as much as a look-up
TURN_BITS: Final = 48  # of so many tasks those of a higher priority come first
UNBEGUN: Final = "; {} had not begun, but had its address: what was sent there is lost"
GIVE_UP_AFTER_S: Final = 10.0  # a node that is silent is not waited for longer, when its tasks are to end


class TaskOwner(Protocol):
    """Who carries out what is decided; it must not call the dispatcher meanwhile."""

    def send_runs(self, server: FleetServer, entries: list[Entry]) -> None:
        """In this order; each knows its position there."""

    def send_recall(self, server: FleetServer, after: int) -> None:
        """For the CPU tasks behind this position that it has not placed; it answers by Returned."""

    def send_terminate(self, server: FleetServer, entry: Entry) -> None:
        """To the server that has it, and to its node."""

    def send_kill(self, server: FleetServer) -> None:
        """To its node, which answers by ServerLost."""

    def try_again(self, entry: Entry, text: str) -> None:
        """It was lost with its server; its attempt was counted."""

    def end(self, entry: Entry, kind: OutcomeKind, text: str, *, started: bool) -> None:
        """It has its outcome, without a word of a server's."""


class Dispatcher:
    """All tasks of one client that have not ended."""

    def __init__(self, owner: TaskOwner) -> None:
        self._owner = owner
        self.fleet = Fleet()
        self.giving = Giving(self.fleet)
        self.recalling = Recalling(self.fleet)
        self.learners = Learners()
        self.lags = Lags()
        self._turns = 0
        self._has_more = False  # than fitted in the last pass
        self._end_of_all = ""  # why all that comes back ends, instead of being given again
        self._give_up: dict[FleetNode, float] = {}  # silent, and asked to end tasks: waited for until then

    @property
    def waiting(self) -> int:
        """Tasks that no server has."""
        return self.giving.waiting

    @property
    def has_servers(self) -> bool:
        """Whether any server may be given something, now or when it has answered."""
        return any(map(_may_take, self.fleet.servers.values()))

    @property
    def is_held_up(self) -> bool:
        """Whether tasks wait while all servers that they may run on are suspended, or to be closed."""
        if not self.fleet.shut or not self.giving.waiting:
            return False
        return not self.has_servers or next(self._shut_pins(), None) is not None

    def held_up(self) -> tuple[int, list[FleetNode | FleetServer]]:
        """How many tasks wait so, and what is suspended or to be closed."""
        if not self.is_held_up:
            return 0, []
        if not self.has_servers:
            return self.giving.waiting, list(self.fleet.shut)
        count, shut = 0, dict[FleetNode | FleetServer, None]()
        for pin in self._shut_pins():
            count += pin.cpu.count() + pin.io.count()
            places = [place for server in self.fleet.servers_of(pin) for place in (server, server.node)]
            shut.update({place: None for place in places if not place.is_open})
        return count, list(shut)

    @property
    def lacks(self) -> int:
        """How many kinds of tasks wait for resources that no node has."""
        return sum(1 for _ in self._lacking()) if self.giving.pinned > 0 else 0

    def lacking(self) -> tuple[int, str]:
        """How many tasks wait so, and what is missing, for people."""
        found = list(self._lacking())
        return sum(pin.cpu.count() + pin.io.count() for pin, _ in found), "; ".join(why for _, why in found)

    def _lacking(self) -> Iterator[tuple[Pin, str]]:
        for pin in self.giving.pins():
            if pin.needs and (pin.cpu.head() is not None or pin.io.head() is not None):
                why = self.fleet.why_waits(pin)
                if why:
                    yield pin, why

    def _shut_pins(self) -> Iterator[Pin]:
        """Names that tasks wait for, and of which no server takes any."""
        for pin in self.giving.pins() if self.giving.pinned else ():
            if pin.cpu.head() is not None or pin.io.head() is not None:
                servers = self.fleet.servers_of(pin)
                if servers and not any(map(_may_take, servers)):
                    yield pin

    def had_by_node(self, epoch: int) -> list[Entry]:
        """What its servers have."""
        node = self.fleet.nodes.get(epoch)
        return _had_by(node.servers.values()) if node is not None else []

    # --- from the client

    def submit(self, entry: Entry) -> None:
        """It waits, or is refused since it can run nowhere."""
        self._turns += 1
        entry.turn = self._turns - (entry.priority << TURN_BITS)
        entry.learner = learner = self.learners[entry.function]
        learner.submitted += 1
        fault = self.fleet.bind(entry) if entry.node or entry.server or entry.needs else ""
        if fault:
            self._end(entry, OutcomeKind.REFUSED, fault)
        else:
            self.giving.put(entry)

    def terminate(self, entry: Entry, now: float) -> None:
        if entry.over:
            return
        entry.terminated = True
        server = entry.at
        if server is None:
            self._end_unbegun([entry], OutcomeKind.CANCELLED, "terminated before it started")
            return
        self._owner.send_terminate(server, entry)
        if server.node.is_silent:
            self._give_up.setdefault(server.node, now + GIVE_UP_AFTER_S)

    def end_waiting(self, kind: OutcomeKind, text: str) -> None:
        """Of all tasks that no server has: REFUSED if none can take them."""
        self._end_unbegun(self.giving.all_waiting(), kind, text)

    def close(self, text: str) -> None:
        """All is to end: what waits now, and what comes back later. The nodes interrupt what runs."""
        self._end_of_all = text
        self.end_waiting(OutcomeKind.CANCELLED, text)

    # --- from servers

    def placed(self, entry: Entry, epoch: int, now: float, *, started: bool = False) -> bool:
        """It is there to stay: has an address, or its first step comes next. False: the word is not about this attempt."""
        server = entry.at
        if server is None or server.epoch != epoch:
            return False
        entry.placed = True
        if started:
            self._note_begun(entry, server)
            server.started_at = entry.began = now
        return not entry.over

    def aside(self, entry: Entry, epoch: int, now: float, *, aside: bool) -> None:
        """It waits for tasks that it submitted, and its server takes others meanwhile; or it goes on."""
        server = entry.at
        if server is None or server.epoch != epoch or entry.io or entry.aside is aside:
            return
        entry.placed = True
        self._note_begun(entry, server)
        if aside:
            server.set_aside(entry, now)
        else:
            server.take_back(entry, now)
        self.fleet.changed[server] = None

    def outcome(
        self, entry: Entry, epoch: int, kind: int, seconds: float, now: float, *, started: bool = True
    ) -> bool:
        """Its server is done with it. True if this is the task's outcome: the first word about this attempt."""
        server = entry.at
        if server is None or server.epoch != epoch:
            return False
        server.remove(entry)
        server.ended += 1
        if kind != RETURNED:
            server.failed += 1
        self.giving.left(entry)
        self.fleet.changed[server] = None
        if started:
            self._note_begun(entry, server)
        elif kind == OutcomeKind.REFUSED:
            server.refused = entry.position
        if not entry.io:
            learner = entry.learner
            assert learner is not None
            if kind <= OutcomeKind.RAISED:
                learner.saw(seconds)
                self.lags.saw(server.lag_of(seconds, now))
            elif kind == OutcomeKind.TERMINATED:
                learner.forget()
            server.since = now
        if entry.over:
            return False
        entry.over = True
        return True

    def returned(self, epoch: int, positions: Sequence[int], *, draining: bool = False) -> None:
        """It gives these back, not begun: as it was asked to, or because it drains."""
        server = self.fleet.servers.get(epoch)
        if server is None:
            return
        back = self._take_back(server, positions)
        self.fleet.changed[server] = None
        if server.phase is Phase.RECALLING and not draining:
            server.turn(Phase.READY)
        else:
            self._drain(server)
        self._give_again(back)

    def _drain(self, server: FleetServer) -> None:
        if server.phase in (Phase.READY, Phase.RECALLING):
            server.turn(Phase.DRAINING)

    def session_reset(self, epoch: int) -> None:
        """What it was told and said last may be lost, so nobody knows what it has: it has to die."""
        self.kill(epoch)

    def kill(self, epoch: int) -> None:
        server = self.fleet.servers.get(epoch)
        if server is not None and server.phase is not Phase.KILLING:
            server.turn(Phase.KILLING)
            self.fleet.changed[server] = None
            self._owner.send_kill(server)

    # --- from nodes and the scheduler

    def node_up(
        self, epoch: int, title: str, names: tuple[str, ...], resources: Iterable[tuple[str, int]] = ()
    ) -> None:
        """`names`: what tasks may call it. `resources`: what it has, for tasks that need it."""
        if epoch not in self.fleet.nodes:
            self.fleet.add_node(epoch, title, names, dict(resources))

    def node_opened(self, epoch: int, is_open: bool) -> None:
        """False: it is suspended, or closes, and gets nothing."""
        node = self.fleet.nodes.get(epoch)
        if node is not None:
            self._open(node, is_open)

    def server_opened(self, epoch: int, is_open: bool) -> None:
        """False: it is suspended."""
        server = self.fleet.servers.get(epoch)
        if server is not None and not server.closing:
            self._open(server, is_open)

    def _open(self, place: FleetNode | FleetServer, is_open: bool) -> None:
        """What waits behind others at servers that get nothing any more goes elsewhere."""
        for server in self.fleet.open(place, is_open):
            behind = unbegun(server) if server.phase is Phase.READY and not is_open else []
            if behind:
                server.turn(Phase.RECALLING)
                self._owner.send_recall(server, behind[0].position - 1)

    def server_closes(self, epoch: int, text: str) -> None:
        """It ends what it has begun, and is not waited for any more."""
        server = self.fleet.servers.get(epoch)
        if server is not None and not server.closing:
            self._open(server, False)
            server.closing = text
            for pin in server.pins:
                self._refuse_at(pin, text)

    def node_closes(self, epoch: int, text: str) -> None:
        """Its servers do, and no others will come."""
        node = self.fleet.nodes.get(epoch)
        if node is not None and not node.closing:
            self._open(node, False)
            node.closing = text
            self._end_hopeless(node)

    def has_cpu_task(self, epoch: int) -> bool:
        server = self.fleet.servers.get(epoch)
        return server is not None and server.has_cpu_task

    def node_silent(self, epoch: int, now: float) -> None:
        node = self.fleet.nodes.get(epoch)
        if node is None or node.is_silent:
            return
        node.is_silent = True
        self.fleet.touch(node)
        if any(entry.terminated and not entry.over for entry in _had_by(node.servers.values())):
            self._give_up[node] = now + GIVE_UP_AFTER_S

    def node_heard(self, epoch: int) -> None:
        node = self.fleet.nodes.get(epoch)
        if node is not None:
            node.is_silent = False
            self._give_up.pop(node, None)
            self.fleet.touch(node)

    def node_failed(self, epoch: int, text: str) -> None:
        """It does not start servers any more, and says why: nobody waits for its name in vain."""
        node = self.fleet.nodes.get(epoch)
        if node is None:
            return
        node.failure = text
        self._end_hopeless(node)

    def node_lost(self, epoch: int, text: str) -> None:
        """It is gone, and its servers with it. Of those that were not told of before nobody knows what had begun."""
        node = self.fleet.nodes.get(epoch)
        if node is None:
            return
        for server in list(node.servers):
            self.server_lost(server, text)
        self._give_up.pop(node, None)
        for pin in self.fleet.remove_node(node):
            self._refuse_at(pin, text)

    def server_up(self, epoch: int, name: str, node: int, srtt: float = 0.0) -> None:
        """On a node that is known; a server that is known stays as it is."""
        if epoch not in self.fleet.servers:
            self.fleet.add_server(epoch, name, self.fleet.nodes[node], srtt)

    def session_is(self, epoch: int, srtt: float) -> None:
        """Seconds that a word to this server and its answer travel."""
        server = self.fleet.servers.get(epoch)
        if server is not None:
            server.srtt = srtt

    def server_lost(
        self, epoch: int, text: str, cpu: int | None = None, io: int | None = None, *, closing: bool = False
    ) -> None:
        """It is dead. `cpu` and `io`: positions of the last that it had begun, by its page; None: nobody could read it."""
        server = self.fleet.servers.get(epoch)
        if server is None:
            return
        self.fleet.remove_server(server)
        self.recalling.forget(server)
        begun = server.begun_by(cpu, io)
        how = "; {} may have started" if cpu is None else " while it ran {}"
        again = []
        for entry in _had_by([server]):
            self.giving.left(entry)
            entry.aside = False
            if entry.over:
                continue
            if entry not in begun and not entry.placed:
                again.append(entry)
            elif self._may_retry(entry, server, closing):
                entry.attempt += 1
                again.append(entry)
                self._owner.try_again(entry, text)
            else:
                asked_for = entry.terminated or closing or self._end_of_all
                kind = OutcomeKind.TERMINATED if asked_for else OutcomeKind.LOST
                started = entry in begun
                what = (how if started else UNBEGUN).format(entry.function)
                self._end(entry, kind, text + what, started=started)
            if entry in begun and not entry.io and entry.learner is not None:
                entry.learner.forget()
        gone = f"server {server.name} is gone: {text}"
        for pin in server.pins:
            self._refuse_at(pin, gone)
        self._give_again(again, gone)
        self._end_hopeless(server.node)

    # --- the turn

    def place(self, now: float) -> None:
        giving, lags = self.giving, self.lags
        lags.turn(now)
        changed = self.fleet.update(lags.longest)
        self._has_more = giving.waiting > 0 and giving.run(changed, lags.longest, now)
        given, giving.given = giving.given, {}
        for server, entries in given.items():
            self.recalling.watch(server)
            self._owner.send_runs(server, entries)
        for server in changed:
            self.recalling.watch(server)
        self.recalling.weigh(giving.cpu.head() is None, now)

    def wake(self, now: float) -> None:
        for server, after in self.recalling.due(now):
            server.turn(Phase.RECALLING)
            self.fleet.changed[server] = None
            self._owner.send_recall(server, after)
        for node in [node for node, at in self._give_up.items() if at <= now]:
            del self._give_up[node]
            text = f"terminated, but {node.title} has been silent since: it may still run there, until the node is back and ends it"
            for entry in _had_by(node.servers.values()):
                if entry.terminated and not entry.over:
                    self._end(entry, OutcomeKind.LOST, text, started=True)

    def deadline(self) -> float | None:
        if self._has_more:
            return 0.0
        at = self.recalling.deadline
        if self._give_up:
            first = min(self._give_up.values())
            at = first if at is None else min(at, first)
        return at

    # --- ends, and what is given again

    def _take_back(self, server: FleetServer, positions: Sequence[int]) -> list[Entry]:
        has = {entry.position: entry for entry in _had_by([server])}
        back = [has[position] for position in reversed(positions) if position in has]
        for entry in back:
            server.remove(entry)
            self.giving.left(entry)
        return [entry for entry in back if not entry.over]

    def _give_again(self, entries: Iterable[Entry], gone: str = "") -> None:
        """They have not begun, or are tried again; `gone`: why the server that they were at, and may have named, is no more."""
        again = []
        for entry in entries:
            entry.placed = False
            if entry.terminated or self._end_of_all:
                text = self._end_of_all or "terminated before it started"
                self._end(entry, OutcomeKind.CANCELLED, text)
            elif entry.pin is not None and (why := self._why_not(entry.pin, gone)):
                self._end(entry, OutcomeKind.REFUSED, why)
            else:
                again.append(entry)
        if again:
            self.giving.put_back(again)

    def _why_not(self, pin: Pin, gone: str) -> str:
        """Why nobody may wait there any more."""
        return gone or pin.server.closing if pin.server is not None else self.fleet.failure_of(pin)

    def _may_retry(self, entry: Entry, server: FleetServer, closing: bool) -> bool:
        if closing or entry.terminated or self._end_of_all or entry.server:
            return False
        return entry.attempt <= entry.retries

    def _note_begun(self, entry: Entry, server: FleetServer) -> None:
        if entry.io:
            server.reached_io = max(server.reached_io, entry.position)
        else:
            server.reached_cpu = max(server.reached_cpu, entry.position)

    def _end_hopeless(self, node: FleetNode) -> None:
        for pin in node.pins:
            if text := self.fleet.failure_of(pin):
                self._refuse_at(pin, text)

    def _refuse_at(self, pin: Pin, text: str) -> None:
        self._end_unbegun(self.giving.waiting_at(pin), OutcomeKind.REFUSED, text)

    def _end_unbegun(self, entries: Iterable[Entry], kind: OutcomeKind, text: str) -> None:
        for entry in entries:
            self.giving.take_out(entry)
            self._end(entry, kind, text)

    def _end(self, entry: Entry, kind: OutcomeKind, text: str, *, started: bool = False) -> None:
        entry.over = True
        self._owner.end(entry, kind, text, started=started)

    # --- what must hold

    def check(self) -> None:
        """Asserts that each task is at one place, and each server where its load says."""
        self.giving.check()
        fleet = self.fleet
        fleet.check()
        held = 0
        for server in fleet.servers.values():
            entries = _had_by([server])
            held += len(entries)
            assert all(entry.at is server for entry in entries), f"{server.name} has what is elsewhere"
            assert [entry.io or entry.aside for entry in entries] == [False] * len(server.cpu) + [True] * len(
                server.io
            )
            order = [entry.position for entry in server.cpu]
            assert order == sorted(set(order)) and all(p <= server.given for p in order), "out of order"
            assert abs(server.work_s - sum(entry.cost for entry in server.cpu)) < 1e-6
            assert server.calls == sum(entry.size for entry in server.cpu)
        assert held == self.giving.held, f"{self.giving.held} tasks given, {held} found"
        for node in self._give_up:
            assert node.is_silent and node.epoch in fleet.nodes, f"nobody waits for {node.title}"


def _had_by(servers: Iterable[FleetServer]) -> list[Entry]:
    return [entry for server in servers for entry in (*server.cpu, *server.io.values())]


def _may_take(server: FleetServer) -> bool:
    """Something, now or when it has answered."""
    is_up = server.phase in (Phase.READY, Phase.RECALLING)
    return is_up and server.is_open and server.node.is_offered
