"""What a client asked for and is owed: every task from submit to its one outcome, the nodes and servers it has, its lease.

The ledger alone decides which outcome counts: the first word of the server that has the task, or the dispatcher's, which
gives the tasks to servers (dispatching/).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, Final

from dispycos.machine import Send
from dispycos.notices import PATIENCE_S, listing, next_pause
from dispycos.protocol import messages
from dispycos.protocol.addresses import NODE, SCHEDULER, SERVER, Address
from dispycos.protocol.envelope import Envelope
from dispycos.protocol.messages import Lease, Marks, NodeInfo, Spot, TaskId
from dispycos.protocol.status import OutcomeKind, Status

from .dispatching import dispatch
from .dispatching.dispatch import Dispatcher
from .dispatching.facts import Entry
from .effects import (
    Began,
    Failed,
    Forget,
    Freed,
    Give,
    News,
    Print,
    Pulsed,
    Resolve,
    Room,
    Say,
    Scheduled,
)
from .record import Record
from .task import Location
from .unprinted import Unprinted

CALL_MAX: Final = (
    256 * 1024
)  # bytes of a call that is sent with its Run; larger ones are fetched by the server
SHORT_S: Final = 0.005  # mean run time below which a function's start is not announced ...
SHORT_RUNS: Final = 4  # ... once it is known by so many runs
DEATH_S: Final = 1.0  # a server of this host that lives on so long after its node is gone is not waited for
LEFT_NAMED: Final = 5  # files that went with their folders
UNREAD_MAX: Final = 1000  # errors that nobody has looked at; those beyond are not told at the end


class Ledger:
    """The client's machine. `address` is where servers, nodes and the scheduler reach it."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.scheduler: Address | None = None
        self.lease: Lease | None = None
        self.nodes: dict[int, NodeInfo] = {}
        self.servers: dict[int, tuple[Spot, str]] = {}
        self.records: dict[int, Record] = {}
        self.dispatcher = Dispatcher()
        self.wants_news = False
        self.over = ""  # why the lease ended, if this client did not ask for it
        self.unread: dict[
            int, Record
        ] = {}  # tasks that raised, were lost or refused, and nobody has looked at it
        self.queued: messages.Queued | None = None
        self._lost_early: set[int] = (
            set()
        )  # servers whose end their nodes told before the scheduler told of them
        self._nearby: set[int] = set()  # servers whose end is seen here ...
        self._ended_nearby: dict[int, Marks] = {}  # ... and was: what they had begun
        self._gone: dict[
            int, tuple[str, float]
        ] = {}  # nodes, and until when their servers' ends are waited for
        self._origin = ""  # how the scheduler calls clients of this process, after their name
        self._room_at: int | None = None  # somebody waits for a backlog of so few
        self._unprinted = Unprinted()
        self._effects: list[object] = []
        self._left: list[messages.Left] = []  # files that are removed with the lease, by node
        self._now = 0.0
        self._is_changed = False  # since the last pass of the dispatcher
        self._cpu_left = self._ended = 0  # CPU tasks that have not ended, tasks that have
        self._patience: float | None = None  # in the queue of clients
        self._want_at: float | None = (
            None  # tasks wait and no server may take them: until then nothing is said
        )
        self._pause = PATIENCE_S
        self._releasing = False
        self._terminating = False  # ... and nobody cares what becomes of the tasks
        self._await_io = False
        self._is_released = False  # the word was sent
        self._handlers: dict[type, Callable[[Envelope, float], None]] = {
            messages.Placed: self.on_placed,
            messages.Started: self.on_placed,
            messages.Outcome: self.on_outcome,
            messages.Returned: self.on_returned,
            messages.ServerLost: self.on_server_lost,
            messages.Output: self.on_output,
            messages.Left: lambda envelope, now: self._left.append(envelope.message),
            messages.Queued: self.on_queued,
            messages.Granted: self.on_granted,
            messages.Turned: self.on_turned,
            messages.NodeNews: self.on_node_news,
            messages.ServerNews: self.on_server_news,
            messages.Settled: self.on_settled,
            messages.Hopeless: self.on_hopeless,
            messages.Released: self.on_released,
            messages.Notice: lambda envelope, now: self._say(envelope.message.text, envelope.message.level),
            messages.Pulse: self.on_pulse,
            messages.Inventory: self.on_inventory,
            messages.CodeWanted: lambda envelope, now: self._effects.append(Give(envelope)),
            messages.CallWanted: lambda envelope, now: self._effects.append(Give(envelope)),
        }

    # --- Machine ---

    def receive(self, envelope: Envelope, now: float) -> None:
        handler = self._handlers.get(type(envelope.message))
        if handler is not None:
            self._now = now
            self._is_changed = True
            handler(envelope, now)

    def deadline(self) -> float | None:
        gone = min((until for _, until in self._gone.values()), default=None)
        times = (self.dispatcher.deadline(), self._patience, self._want_at, self._unprinted.deadline, gone)
        return min((time for time in times if time is not None), default=None)

    def wake(self, now: float) -> None:
        self._now = now
        self._is_changed = True
        self.dispatcher.wake(now)
        self._take_printed(self._unprinted.expired(now))
        self._lose_gone(now)
        if self._patience is not None and self._patience <= now:
            self._patience = None
            if self.queued is not None and self.lease is None:
                self._say_queued(self.queued)
        if self._want_at is not None and self._want_at <= now:
            self._pause = next_pause(self._pause)
            self._want_at = now + self._pause
            self._to_scheduler(messages.Wanting(self.dispatcher.waiting))

    def drain(self) -> list[object]:
        if self._is_changed:
            self._is_changed = False
            self._dispatch()
        effects, self._effects = self._effects, []
        return effects

    def _dispatch(self) -> None:
        dispatcher = self.dispatcher
        dispatcher.place(self._now)
        self._carry_out()
        self._watch_wants()
        if self._releasing and not self._is_released and self._has_done_all():
            self._send_release()
        if self._room_at is not None and dispatcher.waiting <= self._room_at:
            self._room_at = None
            self._effects.append(Room())

    # --- what the dispatcher wants done

    def _carry_out(self) -> None:
        for effect in self.dispatcher.drain():
            self._carry[type(effect)](self, effect)

    def _send_runs(self, effect: dispatch.Runs) -> None:
        server = Address(effect.server.epoch, SERVER)
        effects, me = self._effects, self.address
        for record in effect.entries:
            assert isinstance(record, Record)
            call = record.call
            fetch = type(call) is not bytes or len(call) > CALL_MAX
            run = messages.Run(
                record.task,
                record.function,
                record.position,
                record.io,
                record.code,
                fetch,
                _is_short(record),
            )
            effects.append(Send(Envelope(server, me, run, 0, None if fetch else call)))

    def _send_recall(self, effect: dispatch.Recall) -> None:
        self._send(Address(effect.server.epoch, SERVER), messages.Recall(effect.after))

    def _send_terminate(self, effect: dispatch.Terminate) -> None:
        server, record = effect.server, _record(effect.entry)
        word = messages.Terminate(record.task, server.epoch, record.position, record.function)
        self._send(Address(server.epoch, SERVER), word)
        self._send(Address(server.node.epoch, NODE), word)

    def _send_kill(self, effect: dispatch.Kill) -> None:
        self._send(Address(effect.server.node.epoch, NODE), messages.Kill(effect.server.epoch))

    def _try_again(self, effect: dispatch.Again) -> None:
        record = _record(effect.entry)
        owner, number, _ = record.task
        record.task = TaskId(owner, number, record.attempt)
        record.address = record.location = None
        record.started = False
        again = f"attempt {record.attempt} of {record.retries + 1}"
        self._say(f"{record.function} was lost ({effect.text}): {again}", "warning")

    def _end_untold(self, effect: dispatch.Ended) -> None:
        self._end(_record(effect.entry), effect.kind, effect.text, started=effect.started)

    _carry: ClassVar[dict[type, Callable[[Ledger, Any], None]]] = {
        dispatch.Runs: _send_runs,
        dispatch.Recall: _send_recall,
        dispatch.Terminate: _send_terminate,
        dispatch.Kill: _send_kill,
        dispatch.Again: _try_again,
        dispatch.Ended: _end_untold,
    }

    def _watch_wants(self) -> None:
        """Nobody waits in silence: the scheduler is asked what is missing when no server may take what waits."""
        if not self.dispatcher.waiting or self.dispatcher.has_servers:
            self._want_at, self._pause = None, PATIENCE_S
        elif self._want_at is None:
            self._want_at = self._now + self._pause

    # --- called by the body ---

    def enlist(self, scheduler: Address, word: messages.Enlist, now: float) -> None:
        self.scheduler = scheduler
        self._origin = f" on {word.client.host} (pid {word.client.pid})"
        self._patience = now + PATIENCE_S
        self._to_scheduler(word)

    def submit(self, record: Record) -> None:
        self.records[record.task.number] = record
        self._cpu_left += not record.io
        self._is_changed = True
        self.dispatcher.submit(record)

    def terminate(self, record: Record, now: float) -> None:
        if not record.ended:
            self._is_changed = True
            self.dispatcher.terminate(record, now)

    def release(self, *, terminate: bool, await_io: bool) -> None:
        """Give the cluster back: after all that was submitted, or, to terminate, at once."""
        self._is_changed = True
        self._releasing = True
        self._terminating = self._terminating or terminate
        self._await_io = await_io
        if terminate:
            self.dispatcher.close("the client closed")
            self._send_release()

    def _has_done_all(self) -> bool:
        return not (self.records if self._await_io else self._cpu_left)

    def _send_release(self) -> None:
        self._is_released = True
        self._to_scheduler(messages.Release())

    def scheduler_lost(self, reason: str) -> None:
        """Nobody speaks for our tasks any more."""
        self._is_changed = True
        self._carry_out()
        for record in list(self.records.values()):
            self._end(record, OutcomeKind.LOST, reason, started=record.started or record.at is not None)
        self.over = reason
        self._end_lease(reason)
        self._effects.insert(-1, Failed(reason))

    def unsent(self, word: messages.Message, reason: str, now: float) -> None:
        """This word of ours cannot be sent at all: whoever waits for an answer hears that."""
        if isinstance(word, messages.Enlist):
            self._effects.append(Failed(reason))
        elif isinstance(word, messages.Run):
            record = self._record_of(word.task)
            if record is not None and record.at is not None:
                kind = OutcomeKind.REFUSED
                self.dispatcher.outcome(record, record.at.epoch, kind, 0.0, now, started=False)
                self._end(record, kind, f"{record.function}: {reason}", started=False)
                self._is_changed = True

    def backlog(self) -> int:
        """Tasks that no server has yet."""
        return self.dispatcher.waiting

    def ask_for_room(self, backlog_max: int) -> None:
        """One Room, as soon as no more than so many wait here. Who asks again before it comes is answered by the same one."""
        self._room_at = backlog_max
        self._is_changed = True

    def pass_on(self, record: Record, envelope: Envelope) -> None:
        """A message that came to a task's home: to the task, behind what was held for it, or held."""
        if record.address is not None:
            self._pass(record.address, envelope)
        elif record.held is None:
            record.held = [envelope]
        else:
            record.held.append(envelope)

    def _pass(self, to: Address, envelope: Envelope) -> None:
        message = Envelope(to, envelope.sender, envelope.message, envelope.correlation, envelope.payload)
        self._effects.append(Send(message))

    def say_what_close_waits_for(self) -> None:
        """A warning if it may be for ever."""
        left = [record for record in self.records.values() if self._await_io or not record.io]
        if not left or self._is_released:
            return
        nodes = {record.at.node for record in left if record.at is not None and record.at.node.is_silent}
        silent = ", ".join(f"node {node.title}" for node in nodes)
        where = f", some of them on {silent}, which is silent" if silent else ""
        names = listing(record.function for record in left)
        text = f"close() waits for {names}{where}; close(terminate=True) would end the wait"
        self._say(text, "warning" if silent or not self.dispatcher.has_servers else "info")

    # --- tasks ---

    def on_placed(self, envelope: Envelope, now: float) -> None:
        """Placed, or Started."""
        word: messages.Placed | messages.Started = envelope.message
        started = type(word) is messages.Started
        record = self._record_of(word.task)
        if record is None or not self.dispatcher.placed(record, envelope.sender.epoch, now, started=started):
            return
        record.started |= started
        if record.address is None:
            record.address = Address(word.spot.epoch, word.actor)
            held, record.held = record.held, None
            for waiting in held or ():
                self._pass(record.address, waiting)
            self._note_place(record, word.spot)

    def _note_place(self, record: Record, spot: Spot) -> None:
        record.location = Location(spot.addr, spot.port)
        self._effects.append(Began(record))
        if self.wants_news:
            self._effects.append(News(Status.TaskCreated, record))

    def on_outcome(self, envelope: Envelope, now: float) -> None:
        word: messages.Outcome = envelope.message
        record = self._record_of(word.task)
        if record is None or not self.dispatcher.outcome(
            record, envelope.sender.epoch, word.outcome, word.seconds, now, started=word.started
        ):
            return
        if word.marks is None or not self._unprinted.hold(envelope, now):
            self._take(record, envelope)

    def on_output(self, envelope: Envelope, now: float) -> None:
        if envelope.payload:
            self._effects.append(Print(envelope.message, envelope.payload))
        self._take_printed(self._unprinted.on_output(envelope.message))

    def _take_printed(self, outcomes: list[Envelope]) -> None:
        for envelope in outcomes:
            self._take(self.records[envelope.message.task.number], envelope)

    def _take(self, record: Record, envelope: Envelope) -> None:
        """This is the outcome of its task."""
        word: messages.Outcome = envelope.message
        if word.spot is not None and word.started and record.location is None:
            self._note_place(record, word.spot)  # it is over already: words held for it came too late
        record.payload = envelope.payload
        if word.started:
            record.seconds, record.cpu_s, record.peak_bytes = word.seconds, word.cpu_s, word.peak_bytes
        self._end(record, word.outcome, word.text, started=word.started)

    def on_returned(self, envelope: Envelope, now: float) -> None:
        word: messages.Returned = envelope.message
        self.dispatcher.returned(envelope.sender.epoch, word.positions, draining=word.draining)

    def on_server_lost(self, envelope: Envelope, now: float) -> None:
        """Its node speaks for it: what had begun is lost, the rest is given to others."""
        word: messages.ServerLost = envelope.message
        if word.server not in self.dispatcher.fleet.servers:
            self._lost_early.add(word.server)
        self._lose_server(word.server)
        cpu, io = word.marks or (None, None)
        self.dispatcher.server_lost(word.server, word.text, cpu, io, closing=word.closing)

    def server_nearby(self, epoch: int) -> None:
        """A server of this host: its end will be told here, whatever becomes of its node."""
        self._nearby.add(epoch)

    def server_ended(self, epoch: int, marks: Marks, now: float) -> None:
        """One of these, after all that it had sent. What becomes of its tasks its node says, if that is not gone with it."""
        self._is_changed = True
        self._ended_nearby[epoch] = marks
        self._lose_gone(now)

    def _lose_server(self, epoch: int) -> None:
        self.servers.pop(epoch, None)
        self._nearby.discard(epoch)
        self._ended_nearby.pop(epoch, None)
        self._unprinted.forget(epoch)
        self._effects.append(Forget(epoch))

    def session_lost(self, epoch: int, unconfirmed: Iterable[Envelope]) -> None:
        """With this process; what was on its way is lost with it. What a node was asked for it is asked for again."""
        self._is_changed = True
        self.dispatcher.session_reset(epoch)
        for envelope in unconfirmed:
            if envelope.to.actor == NODE and epoch in self.nodes:
                self._send(envelope.to, envelope.message)

    def _end(self, record: Record, outcome: int, text: str, *, started: bool) -> None:
        if self._unprinted.held and (earlier := self._unprinted.take(record.task.number)) is not None:
            self._take(record, earlier)
            return
        self._cpu_left -= not record.io
        self._ended += 1
        record.ended = True
        record.started = started
        record.outcome = outcome
        record.text = text
        record.call = None
        self.records.pop(record.task.number, None)
        held, record.held = record.held, None
        for envelope in held or ():
            self._turn_away(envelope)
        if outcome != OutcomeKind.RETURNED and self._is_news(record):
            self.unread[record.task.number] = record
        for watcher, correlation in record.watchers or ():
            word = messages.Ended(outcome, text)
            self._effects.append(Send(Envelope(watcher, self.address, word, correlation, record.payload)))
        record.watchers = None
        self._effects.append(Resolve(record))

    def _is_news(self, record: Record) -> bool:
        """Whether somebody has to hear of its end. Of those that raised the values are kept, so there is a bound."""
        if record.outcome == OutcomeKind.RAISED:
            return len(self.unread) < UNREAD_MAX
        is_failure = record.outcome in (OutcomeKind.LOST, OutcomeKind.REFUSED)
        return is_failure and not (record.watchers or record.terminated or self._terminating)

    def _turn_away(self, envelope: Envelope) -> None:
        """A message for a task that ended before it came."""
        word: messages.Message
        if isinstance(envelope.message, messages.Ask):
            word = messages.Reply(ok=False)
        elif envelope.correlation:
            word = messages.Delivered(0)
        else:
            return
        self._effects.append(Send(Envelope(envelope.sender, envelope.to, word, envelope.correlation)))

    def _record_of(self, task: TaskId) -> Record | None:
        """The task, if this is its present attempt."""
        record = self.records.get(task.number)
        return record if record is not None and record.task == task else None

    # --- the cluster ---

    def on_queued(self, envelope: Envelope, now: float) -> None:
        self.queued = envelope.message
        if self._patience is None:
            self._say_queued(envelope.message)

    def on_granted(self, envelope: Envelope, now: float) -> None:
        self.lease = envelope.message.lease
        self.queued = None

    def on_turned(self, envelope: Envelope, now: float) -> None:
        self._effects.append(Failed(envelope.message.reason))

    def on_node_news(self, envelope: Envelope, now: float) -> None:
        word: messages.NodeNews = envelope.message
        node, dispatcher, text = word.node, self.dispatcher, word.text
        if word.status in (Status.NodeDiscovered, Status.NodeInitialized, Status.NodeResumed):
            if node.epoch in self._gone:
                self._lose_gone(math.inf)  # it is another stay
            self.nodes[node.epoch] = node
            dispatcher.node_up(node.epoch, node.name, (node.name, node.addr, f"{node.addr}:{node.port}"))
            dispatcher.node_heard(node.epoch)
        elif word.status == Status.NodeDisconnected:
            dispatcher.node_silent(node.epoch, now)
            text += _what_goes_on(dispatcher.had_by_node(node.epoch))
        elif word.status in (Status.NodeClosed, Status.NodeAbandoned):
            self._lose_node(node, now)
        if word.text and not self._releasing:
            self._say(f"node {node.name}: {text}", "warning")
        if self.wants_news:
            self._effects.append(News(Status(word.status), node))

    def _lose_node(self, node: NodeInfo, now: float) -> None:
        self.nodes.pop(node.epoch, None)
        self.dispatcher.node_silent(node.epoch, now)
        self._gone[node.epoch] = (f"node {node.name} is gone", now + DEATH_S)
        self._lose_gone(now)

    def _lose_gone(self, now: float) -> None:
        """Nodes that are gone, and their servers with them. Of those whose end is not seen here nobody knows what had begun."""
        for epoch, (text, until) in list(self._gone.items()):
            known = self.dispatcher.fleet.nodes.get(epoch)
            servers = [server.epoch for server in known.servers.values()] if known is not None else []
            awaited = self._nearby - self._ended_nearby.keys() if now < until else set()
            for server in servers:
                if server not in awaited:
                    cpu, io = self._ended_nearby.get(server, (None, None))
                    self._lose_server(server)
                    self.dispatcher.server_lost(server, text, cpu, io)
            if awaited.isdisjoint(servers):
                del self._gone[epoch]
                self.dispatcher.node_lost(epoch, text)

    def on_server_news(self, envelope: Envelope, now: float) -> None:
        word: messages.ServerNews = envelope.message
        epoch = word.spot.epoch
        if word.status in (Status.ServerClosed, Status.ServerAbandoned):
            self.servers.pop(epoch, None)  # what becomes of its tasks its node says
        elif (
            word.status in (Status.ServerDiscovered, Status.ServerInitialized)
            and epoch not in self._lost_early
        ):
            self.servers[epoch] = (word.spot, word.node)
            node = word.node_epoch or self._node_named(word.node)
            if node in self.dispatcher.fleet.nodes:
                self.dispatcher.server_up(epoch, word.spot.name, node)
        if word.text and not self._releasing:
            self._say(f"server {word.spot.name} {word.text}", "warning")
        if self.wants_news:
            self._effects.append(News(Status(word.status), Location(word.spot.addr, word.spot.port)))

    def _node_named(self, name: str) -> int:
        return next((epoch for epoch, node in self.nodes.items() if node.name == name), 0)

    def on_pulse(self, envelope: Envelope, now: float) -> None:
        word: messages.Pulse = envelope.message
        node = self.nodes.get(epoch := self._node_named(word.node))
        if node is not None:
            self.nodes[epoch] = node = node._replace(available=word.available)
            if self.wants_news:
                self._effects.append(Pulsed(node))

    def on_settled(self, envelope: Envelope, now: float) -> None:
        self.dispatcher.settled()
        self._effects.append(Scheduled(envelope.message.servers))

    def on_hopeless(self, envelope: Envelope, now: float) -> None:
        word: messages.Hopeless = envelope.message
        if word.node:
            self.dispatcher.node_failed(word.node, word.reason)
        else:
            self.dispatcher.end_waiting(OutcomeKind.REFUSED, word.reason)

    def on_inventory(self, envelope: Envelope, now: float) -> None:
        waiting = self.dispatcher.waiting
        word = messages.Counts(waiting, len(self.records) - waiting, self._ended)
        self._effects.append(Send(Envelope(envelope.sender, self.address, word, envelope.correlation)))

    def on_released(self, envelope: Envelope, now: float) -> None:
        reason = envelope.message.reason
        if self._left:
            self._say(_left_behind(self._left), "warning")
            self._left.clear()
        if not self._releasing:
            self.over = reason or "the scheduler ended the lease"
            self._say(f"the lease has ended: {self.over}", "warning")
        self._carry_out()  # what nodes said of their servers in this same turn
        kind = OutcomeKind.TERMINATED if self._releasing else OutcomeKind.LOST
        for record in list(self.records.values()):
            started = record.started or record.at is not None
            self._end(record, kind, reason or "the client closed", started=started)
        self._end_lease(reason)
        if self.wants_news:
            self._effects.append(News(Status.ClientClosed, None))

    def _end_lease(self, reason: str) -> None:
        """The servers end with it, and nobody will tell us of each."""
        self.lease = None
        self._is_released = True
        self._effects.extend(Forget(epoch) for epoch in self.dispatcher.fleet.servers)
        self.servers.clear()
        self._nearby.clear()
        self._ended_nearby.clear()
        self._gone.clear()
        self.dispatcher = Dispatcher()
        self._effects.append(Freed(reason))

    def _say_queued(self, queued: messages.Queued) -> None:
        own = " (another Client of this very program)" if queued.holder.endswith(self._origin) else ""
        self._say(
            f"waiting for the cluster: {queued.holder} has it{own}; place {queued.position} in the queue",
            "warning",
        )

    # --- small ---

    def _say(self, text: str, level: str = "info") -> None:
        self._effects.append(Say(text, level))

    def _send(self, to: Address, word: messages.Message) -> None:
        self._effects.append(Send(Envelope(to, self.address, word)))

    def _to_scheduler(self, word: messages.Message) -> None:
        assert self.scheduler is not None
        self._send(self.scheduler, word)

    def check(self) -> None:
        """What must hold between two messages."""
        self.dispatcher.check()
        for number, record in self.records.items():
            assert record.task.number == number and not record.ended, (
                f"task {number} has ended and is still kept"
            )
            assert not (record.address and record.held), f"task {number} has an address and its messages wait"
        assert self._cpu_left == sum(not record.io for record in self.records.values()), "miscounted"


def _is_short(record: Record) -> bool:
    """Its start need not be announced: its outcome will be there as soon."""
    learner = record.learner
    if learner is None or learner.runs < SHORT_RUNS or learner.mean >= SHORT_S:
        return False
    return not (record.alone or record.io or record.held or record.watchers)


def _record(entry: Entry) -> Record:
    assert isinstance(entry, Record)
    return entry


def _what_goes_on(entries: list[Entry]) -> str:
    """On a node that is silent, for people."""
    if not entries:
        return ""
    return f"; {listing(entry.function for entry in entries)} may still run there"


def _left_behind(left: list[messages.Left]) -> str:
    count = sum(word.count for word in left)
    names = [name for word in left for name in word.names][:LEFT_NAMED]
    more = f" and {count - len(names)} more" if count > len(names) else ""
    return (
        f"{count} file{'s' if count > 1 else ''} of tasks ({sum(word.size for word in left):,} bytes) went with their working "
        f"folders: {', '.join(names)}{more}. What is to stay needs an absolute path or Client(cwd=...), or is returned"
    )


def scheduler_of(epoch: int) -> Address:
    return Address(epoch, SCHEDULER)
