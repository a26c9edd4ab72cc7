"""What a client tells those who watch the cluster, and what it does for them: it alone knows its tasks, what waits, and why.

Nothing here is kept: each answer is read off the facts when it is asked for. What is over is in the tally.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Final

from dispycos.notices import counted, named
from dispycos.protocol.envelope import Envelope
from dispycos.protocol.messages import ClientInfo, TaskReport
from dispycos.protocol.watching import (
    LINKS,
    MAILBOXES,
    OUTPUT,
    TASKS,
    ClientNode,
    ClientSight,
    Granting,
    LiveTask,
    Look,
    Peer,
    ServerCounts,
    Waiting,
    Wish,
    enclosed,
)

from ..dispatching.facts import Entry, FleetServer, Phase, Pin, Queue
from ..dispatching.fleet import told
from .holdings import Holdings
from .members import Members
from .owned import Tasks
from .standing import Standing

QUEUED_MAX: Final = 500  # tasks of a queue that are listed
NOBODY: Final = ClientInfo("", "", 0, (0, 0))


class Watching:
    """The answers to Look and Wish."""

    def __init__(self, holdings: Holdings, tasks: Tasks, members: Members, standing: Standing) -> None:
        self._has = holdings
        self._tasks = tasks
        self._members = members
        self._standing = standing
        self.peers: Callable[[], list[Peer]] = list  # who there is a session with; a body knows
        self.actors: Callable[[], list[TaskReport]] = list  # local tasks; a body knows
        self.handlers: dict[type, Callable[[Envelope, float], None]] = {
            Look: self._on_look,
            Wish: self._on_wish,
        }

    # --- what there is ---

    def _on_look(self, envelope: Envelope, now: float) -> None:
        look: Look = envelope.message
        word, payload = enclosed(self.sight(look, now))
        self._has.send(envelope.sender, word, envelope.correlation, payload)

    def sight(self, look: Look, now: float) -> ClientSight:
        dispatcher, tally = self._has.dispatcher, self._has.tally
        wishes = self._standing.wishes
        servers = dispatcher.fleet.servers.values()
        held = Counter(entry.function for server in servers for entry in _had_by(server))
        submitted = {name: learner.submitted for name, learner in dispatcher.learners.items()}
        wants_tasks = bool(look.parts & TASKS)
        return ClientSight(
            wishes.client if wishes is not None else NOBODY,
            self._has.lease.scheduler if self._has.lease is not None else "",
            self._state(),
            now - self._standing.since,
            max(sum(submitted.values()), tally.ended + held.total() + self._tasks.waiting),
            self._tasks.waiting,
            held.total(),
            tally.outcomes(),
            tally.cpu_s,
            [self._node(epoch) for epoch in self._has.nodes],
            [self._server(server) for server in servers],
            tally.totals(submitted, held),
            tally.groups(now),
            list(self._waits(now)),
            list(islice(self._live(now), max(0, look.limit))) if wants_tasks else [],
            tally.ends_after(look.since, look.limit, now) if wants_tasks else [],
            tally.deaths_after(look.death, now),
            tally.output.after(look.line, look.limit, now) if look.parts & OUTPUT else [],
            tally.output.count,
            self.peers() if look.parts & LINKS else [],
            self.actors() if look.parts & MAILBOXES else [],
            [(epoch, *counts) for epoch, counts in dispatcher.fleet.past.items()],
        )

    def _state(self) -> str:
        if self._has.is_freed:
            return "ended"
        if self._has.lease is None:
            return "queued"
        return "closing" if self._has.is_releasing else "active"

    def _node(self, epoch: int) -> ClientNode:
        known = self._has.dispatcher.fleet.nodes.get(epoch)
        state, text = "starting", ""
        if known is not None and known.servers:
            state = "running"
        if known is not None and known.failure:
            text = known.failure
        if epoch in self._members.control.suspended_nodes():
            state, text = "suspended", "by its client"
        if known is not None and known.closing:
            state, text = "closing", known.closing
        if known is not None and known.is_silent:
            state, text = "silent", "nothing is heard of it"
        ended, failed = (known.ended, known.failed) if known is not None else (0, 0)
        return ClientNode(self._has.nodes[epoch], state, text, ended, failed)

    def _server(self, server: FleetServer) -> ServerCounts:
        where = self._has.locations.get(server.epoch)
        running = sum(1 for _ in _running_on(server))
        return ServerCounts(
            server.epoch,
            server.node.epoch,
            where.addr if where is not None else "",
            where.port if where is not None else 0,
            server.name,
            _state_of(server, running),
            running,
            len(server.cpu) + len(server.io) - running,
            server.ended,
            server.failed,
        )

    # --- tasks that have not ended ---

    def _live(self, now: float) -> Iterator[LiveTask]:
        """Those that run first, then those that wait, by turn."""
        fleet, giving = self._has.dispatcher.fleet, self._has.dispatcher.giving
        for server in fleet.servers.values():
            for entry in _running_on(server):
                yield _running(entry, server, now)
        for server in fleet.servers.values():
            for entry in islice(server.cpu, 1, QUEUED_MAX):
                yield _queued(entry, now, f"given to {server.name}, behind the task that runs there")
        why = self._why(now).text
        for queue in (giving.cpu, giving.io):
            for place, entry in enumerate(_first(queue), start=1):
                yield _queued(entry, now, f"{place}. in the queue: {why}")
        for pin in giving.pins() if giving.pinned else ():
            for queue in (pin.cpu, pin.io):
                for entry in _first(queue):
                    yield _queued(
                        entry, now, self._why_at(pin) or f"it names {pin.name}, which takes nothing now"
                    )

        for needs in islice(self._tasks.waits.needs.values(), QUEUED_MAX):
            missing = [value.function for value in needs.values if not value.ended]
            yield _queued(needs.record, now, f"it waits for the value of {named(missing)}")

    def _waits(self, now: float) -> Iterator[Waiting]:
        giving = self._has.dispatcher.giving
        first = next(iter(self._tasks.waits.needs.values()), None)
        if first is not None:
            text = "they wait for the values of other tasks, their arguments"
            yield Waiting("values", "", text, len(self._tasks.waits), now - first.record.submitted)
        if giving.waiting > giving.pinned:
            heads = [head for head in (giving.cpu.head(), giving.io.head()) if head is not None]
            oldest = now - min((head.submitted for head in heads), default=now)
            yield self._why(now)._replace(tasks=giving.waiting - giving.pinned, oldest_s=oldest)
        for pin in giving.pins() if giving.pinned else ():
            heads = [head for head in (pin.cpu.head(), pin.io.head()) if head is not None]
            if heads:
                tasks = pin.cpu.count() + pin.io.count()
                oldest = now - min(head.submitted for head in heads)
                shut = [server for server in self._has.dispatcher.fleet.servers_of(pin) if server.is_offered]
                text = "its servers have other tasks" if shut else "none of its servers takes tasks"
                text = self._why_at(pin) or f"they name {pin.name}: {text}"
                yield Waiting("place", pin.name, text, tasks, oldest)

    def _why_at(self, pin: Pin) -> str:
        """Of what needs resources."""
        if not pin.needs:
            return ""
        why = self._has.dispatcher.fleet.why_waits(pin)
        return why or f"{told(pin.needs)} is needed, and other tasks have it, or no server is free"

    def _why(self, now: float) -> Waiting:
        """What those wait for that may run anywhere."""
        dispatcher = self._has.dispatcher
        if self._has.lease is None and not self._has.is_freed:
            queued = self._standing.queued
            text = (
                f"place {queued.position} in the queue for the cluster"
                if queued is not None
                else "the cluster"
            )
            return Waiting("cluster", "", text, 0, 0.0)
        _, held_up = self._members.control.held_up()
        why = "; ".join(filter(None, (self._members.setups.why_waiting(), held_up)))
        if why:
            return Waiting("suspended", "", why, 0, 0.0)
        servers = len(dispatcher.fleet.servers)
        if not dispatcher.has_servers:
            text = "there is no server" if not servers else "no server takes tasks now"
            return Waiting("none", "", text, 0, 0.0)
        held = counted(dispatcher.giving.held, "task")
        return Waiting("servers", "", f"{counted(servers, 'server')} have {held} before them", 0, 0.0)

    # --- wishes ---

    def _on_wish(self, envelope: Envelope, now: float) -> None:
        wish: Wish = envelope.message
        self._has.is_changed = True
        refused: list[tuple[int, str]] = []
        if wish.what == "terminate":
            done = self._terminate(wish, refused, now)
        elif wish.what == "end_lease":
            done = 1
            self._standing.release(terminate=True, await_io=False)
            self._has.say("a viewer of the cluster has ended the lease of this client", "warning")
        elif wish.what in ("suspend", "resume", "close", "restart"):
            done = sum(self._control(wish.what, epoch, refused) for epoch in (*wish.nodes, *wish.servers))
        else:
            done, refused = 0, [(0, f"{wish.what!r} is nothing that a client does")]
        self._has.send(envelope.sender, Granting(done, refused), envelope.correlation)

    def _terminate(self, wish: Wish, refused: list[tuple[int, str]], now: float) -> int:
        done = 0
        for number in wish.tasks:
            record = self._has.records.get(number)
            if record is None:
                refused.append((number, "it has ended"))
            else:
                self._tasks.terminate(record, now)
                done += 1
        if wish.function or wish.state or wish.node:
            for record in [record for record in self._has.records.values() if _is_meant(record, wish)]:
                self._tasks.terminate(record, now)
                done += 1
        return done

    def _control(self, what: str, epoch: int, refused: list[tuple[int, str]]) -> bool:
        control = self._members.control
        if epoch in self._has.nodes:
            if what in ("suspend", "resume"):
                control.suspend_node(epoch, suspended=what == "suspend")
            else:
                control.close_node(epoch, terminate=False, again=what == "restart")
            return True
        if epoch in self._has.servers:
            spot, node = self._has.servers[epoch]
            if what in ("suspend", "resume"):
                control.suspend_server(spot, node, suspended=what == "suspend")
            else:
                control.close_server(spot, node, terminate=False, again=what == "restart")
            return True
        refused.append((epoch, "it is not of this client's lease any more"))
        return False


def _had_by(server: FleetServer) -> Iterable[Entry]:
    yield from server.cpu
    yield from server.io.values()


def _running_on(server: FleetServer) -> Iterator[Entry]:
    """What runs there, or waits there for what it asked for."""
    if server.cpu:
        yield server.cpu[0]
    yield from server.io.values()


def _state_of(server: FleetServer, running: int) -> str:
    if server.node.is_silent or server.phase is Phase.KILLING:
        return "lost"
    if server.closing or server.phase is Phase.DRAINING:
        return "closing"
    if not server.is_open or not server.node.is_open:
        return "suspended"
    return "running" if running else "idle"


def _first(queue: Queue) -> Iterator[Entry]:
    return islice(queue, QUEUED_MAX)


def _running(entry: Entry, server: FleetServer, now: float) -> LiveTask:
    began = entry.began or (server.since if not entry.io else 0.0) or entry.submitted
    task = entry.task
    return LiveTask(
        task.number,
        task.attempt,
        entry.function,
        server.epoch,
        "running",
        max(0.0, now - began),
        max(0.0, began - entry.submitted),
        entry.io,
        "it waits for tasks that it submitted" if entry.aside else "",
    )


def _queued(entry: Entry, now: float, why: str) -> LiveTask:
    task, server = entry.task, entry.at
    epoch = server.epoch if server is not None else 0
    return LiveTask(
        task.number, task.attempt, entry.function, epoch, "queued", now - entry.submitted, None, entry.io, why
    )


def _is_meant(record: Entry, wish: Wish) -> bool:
    if wish.function and record.function != wish.function:
        return False
    server = record.at
    if wish.node and (server is None or server.node.epoch != wish.node):
        return False
    is_running = server is not None and (record.placed or (bool(server.cpu) and server.cpu[0] is record))
    return not wish.state or (wish.state == "running") is is_running
