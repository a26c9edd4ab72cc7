"""What a client asked for and is owed: every task from submit to its one outcome, the nodes and servers it has, its lease.

The ledger alone decides which outcome counts: the first word of the server that has the task, or the dispatcher's, which
gives the tasks to servers (dispatching/).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, Final

from msgspec import structs

from dispycos.errors import TaskRefused
from dispycos.machine import Send
from dispycos.notices import PATIENCE_S, counted, listing, next_pause
from dispycos.protocol import messages
from dispycos.protocol.addresses import NODE, SCHEDULER, SERVER, Address
from dispycos.protocol.envelope import Envelope, Payload, buffers_of, size_of
from dispycos.protocol.messages import Lease, Marks, NodeInfo, Spot, TaskId
from dispycos.protocol.status import OutcomeKind, Status

from .dispatching import dispatch
from .dispatching.dispatch import Dispatcher
from .dispatching.facts import Entry
from .effects import (
    Began,
    Dial,
    Failed,
    Forget,
    Forward,
    Freed,
    Give,
    HangUp,
    News,
    Print,
    Pulsed,
    Resolve,
    Room,
    Say,
    Scheduled,
)
from .places import find_place
from .record import Record
from .submitters import Submitters
from .task import Location
from .unprinted import Unprinted

CALL_MAX: Final = (
    256 * 1024
)  # bytes of a call that is sent with its Run; larger ones are fetched by the server
SHORT_S: Final = 0.005  # mean run time below which a function's start is not announced ...
SHORT_RUNS: Final = 4  # ... once it is known by so many runs
DEATH_S: Final = 1.0  # a server of this host that lives on so long after its node is gone is not waited for
LEFT_NAMED: Final = 5  # files that went with their folders
LEAVE_S: Final = 10.0  # a client that has done waits so long for a scheduler that is away
UNREAD_MAX: Final = 1000  # errors that nobody has looked at; those beyond are not told at the end
SAID_AGAIN: Final = frozenset(
    {Status.NodeDiscovered, Status.NodeInitialized, Status.ServerDiscovered, Status.ServerInitialized}
)


class Ledger:
    """The client's machine. `address` is where servers, nodes and the scheduler reach it."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.scheduler: Address | None = None
        self.lease: Lease | None = None
        self.nodes: dict[int, NodeInfo] = {}
        self.servers: dict[int, tuple[Spot, str]] = {}
        self._locations: dict[int, Location] = {}  # theirs, until they are lost
        self.records: dict[int, Record] = {}
        self.dispatcher = Dispatcher()
        self.wants_news = False
        self.over = ""  # why the lease ended, if this client did not ask for it
        self.unread: dict[
            int, Record
        ] = {}  # tasks that raised, were lost or refused, and nobody has looked at it
        self.queued: messages.Queued | None = None
        self._linked: set[int] = set()  # nodes to which there is a link of our own: epochs ...
        self._disconnected: set[int] = set()  # ... and those to which the scheduler has none
        self._distances: dict[int, float] = {}  # of servers on other hosts: seconds to them and back
        self._lost_early: set[int] = (
            set()
        )  # servers whose end their nodes told before the scheduler told of them
        self._nearby: set[int] = set()  # servers whose end is seen here ...
        self._ended_nearby: dict[int, Marks] = {}  # ... and was: what they had begun
        self._gone: dict[
            int, tuple[str, float]
        ] = {}  # nodes, and until when their servers' ends are waited for
        self._ends = ""  # why all nodes are gone, while the last servers are waited for
        self._origin = ""  # how the scheduler calls clients of this process, after their name
        self._room_at: int | None = None  # somebody waits for a backlog of so few
        self.submitters = Submitters()
        self._unprinted = Unprinted()
        self._effects: list[object] = []
        self._left: list[messages.Left] = []  # files that are removed with the lease, by node
        self._now = 0.0
        self._is_changed = False  # since the last pass of the dispatcher
        self._cpu_left = self.ended = 0  # CPU tasks that have not ended, tasks that have
        self._patience: float | None = None  # in the queue of clients
        self._wishes: messages.Enlist | None = None
        self._is_unknown = False  # to the scheduler, which was started anew or has forgotten this client
        self._away_since: float | None = None  # no link to the scheduler
        self._away_at = self._away_pause = 0.0  # when that is said, and how long after the last time
        self._had: set[int] = set()  # nodes and servers that the scheduler before it told of: epochs
        self._want_at: float | None = (
            None  # tasks wait and no server may take them: until then nothing is said
        )
        self._pause = PATIENCE_S
        self._releasing = False
        self._terminating = False  # ... and nobody cares what becomes of the tasks
        self._await_io = False
        self._is_released = False  # the word was sent
        self._is_freed = False  # the lease has ended
        self._handlers: dict[type, Callable[[Envelope, float], None]] = {
            messages.Placed: self.on_placed,
            messages.Started: self.on_placed,
            messages.Outcome: self.on_outcome,
            messages.Returned: self.on_returned,
            messages.Submit: self.on_submit,
            messages.Lent: self.on_lent,
            messages.Heard: self.on_heard,
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
        due = self.dispatcher.deadline()
        gone = min(until for _, until in self._gone.values()) if self._gone else None
        away = self._away_at if self._away_since is not None else None
        for other in (self._patience, self._want_at, self._unprinted.deadline, gone, away):
            if other is not None and (due is None or other < due):
                due = other
        return due

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
        if self._away_since is not None and self._away_at <= now:
            self._tell_away(now)

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
        self.scheduler, self._wishes = scheduler, word
        self._origin = f" on {word.client.host} (pid {word.client.pid})"
        self._patience = now + PATIENCE_S
        self._to_scheduler(word)

    def submit(self, record: Record) -> None:
        self._enter(record)
        self._is_changed = True
        self.dispatcher.submit(record)

    def _enter(self, record: Record) -> None:
        call = record.call
        record.size = len(call) if type(call) is bytes else sum(map(size_of, buffers_of(call)))
        self.records[record.task.number] = record
        self._cpu_left += not record.io

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
        if self._away_since is not None:
            self._await_scheduler(self._now)

    # --- a scheduler that is away: tasks go on by the links to servers and nodes, and it is told all when it is back

    def private_died(self, now: float) -> None:
        """The process of a private scheduler, and with it the node that is an actor of the same process."""
        assert self.scheduler is not None
        self._is_changed = True
        node = self.nodes.get(self.scheduler.epoch)
        if node is not None:
            self._lose_node(node, now)

    def _await_scheduler(self, now: float) -> None:
        if not self._is_freed:
            self._away_since, self._away_pause = now, PATIENCE_S
            self._away_at = now + PATIENCE_S

    def scheduler_back(self, scheduler: Address, now: float) -> None:
        """There is a link to a scheduler: the same process as before, or another in its place."""
        if self.scheduler is None:
            return  # this client has not enlisted yet
        self._is_changed = True
        if self._away_since is not None and self._away_pause > PATIENCE_S:
            self._say("the scheduler is back")
        self._away_since = None
        if scheduler == self.scheduler and not self._is_unknown:
            return
        assert self._wishes is not None
        self.scheduler, self._is_unknown = scheduler, False
        self._had = {*self.nodes, *self.servers}
        word = structs.replace(
            self._wishes, lease=self.lease, releasing=self._is_released, nodes=list(self.nodes.values())
        )
        self._to_scheduler(word)

    def _tell_away(self, now: float) -> None:
        assert self._away_since is not None
        silence = now - self._away_since
        if self._is_released and silence >= LEAVE_S:
            for node in self.nodes:  # else they would wait for it, as long as this process lives
                self._send(Address(node, NODE), messages.Release())
            self._leave("the scheduler is away")
            return
        self._away_pause = next_pause(self._away_pause)
        self._away_at = now + self._away_pause
        if self._is_released:
            self._away_at = self._away_since + LEAVE_S
            goes_on = "nothing is left to do but to tell it so"
        elif self.lease is None:
            goes_on = "this client keeps its place in the queue"
        else:
            goes_on = f"this client goes on ({counted(len(self.records), 'task')} left), but servers that die are not replaced"
        self._say(f"no link to the scheduler for {silence:.0f} s; still trying. {goes_on}", "warning")

    def scheduler_lost(self, reason: str) -> None:
        """Nobody speaks for our tasks any more."""
        self._is_changed = True
        self._ends = ""
        self._carry_out()
        for record in list(self.records.values()):
            started = record.started or record.at is not None or record.attempt > 1
            self._end(record, OutcomeKind.LOST, reason, started=started)
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
            self._effects.append(Began(record))
            self._note_place(record, envelope.sender.epoch)

    def _note_place(self, record: Record, server: int) -> None:
        record.location = self._locations.get(server)
        if record.submitter is not None and record.alone:
            assert record.address is not None
            spot, _ = self.servers[server]
            self._send(record.submitter, messages.Placed(record.task, record.address.actor, spot))
        if self.wants_news:
            self._effects.append(News(Status.TaskCreated, record))

    def on_outcome(self, envelope: Envelope, now: float) -> None:
        word: messages.Outcome = envelope.message
        record = self._record_of(word.task)
        if record is None or not self.dispatcher.outcome(
            record, envelope.sender.epoch, word.outcome, word.seconds, now, started=word.started
        ):
            return
        if word.started and record.location is None:  # it is over already: words held for it came too late
            self._note_place(record, envelope.sender.epoch)
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
        self._lose_servers([word.server])
        cpu, io = word.marks or (None, None)
        self.dispatcher.server_lost(word.server, word.text, cpu, io, closing=word.closing)

    def on_submit(self, envelope: Envelope, now: float) -> None:
        """A task of ours submits one: it is as any other, and its outcome goes there, too."""
        word: messages.Submit = envelope.message
        if not self.submitters.submitted(word.number, envelope.sender):
            return
        record = Record(
            word.function,
            task=TaskId(self.address.epoch, word.number),
            call=_kept(envelope.payload),
            io=word.io,
            alone=word.alone,
            retries=word.retries,
            code=word.code,
            submitter=envelope.sender,
        )
        self._enter(record)
        for early in self.submitters.take(word.number):
            self._effects.append(Forward(early))
        if self._is_released or self._terminating:
            self._end(record, OutcomeKind.CANCELLED, "the client closed", started=False)
            return
        if word.addr:
            where = Location(word.addr, word.port) if word.port else word.addr
            try:
                record.node, record.server = find_place(where, self.nodes, self.servers)
            except TaskRefused as error:
                self._end(record, OutcomeKind.REFUSED, str(error), started=False)
                return
        self.dispatcher.submit(record)

    def on_lent(self, envelope: Envelope, now: float) -> None:
        word: messages.Lent = envelope.message
        record = self._record_of(word.task)
        if record is not None:
            self.dispatcher.lent(record, envelope.sender.epoch, now, lent=word.lent)

    def server_nearby(self, epoch: int) -> None:
        """A server of this host: its end will be told here, whatever becomes of its node."""
        self._nearby.add(epoch)

    def server_ended(self, epoch: int, marks: Marks, now: float) -> None:
        """One of these, after all that it had sent. What becomes of its tasks its node says, if that is not gone with it."""
        self._is_changed = True
        self._ended_nearby[epoch] = marks
        self._lose_gone(now)

    def _lose_servers(self, epochs: list[int]) -> None:
        """The others may wait for an answer of theirs, unless they all end."""
        for epoch in epochs:
            self._turn_away_early(epoch)
            self.servers.pop(epoch, None)
            self._locations.pop(epoch, None)
            self._distances.pop(epoch, None)
            self._nearby.discard(epoch)
            self._ended_nearby.pop(epoch, None)
            self._unprinted.forget(epoch)
            self._effects.append(Forget(epoch))
        for node in self.nodes if epochs and not self._is_released else ():
            self._send(Address(node, NODE), messages.Gone(epochs))

    def on_heard(self, envelope: Envelope, now: float) -> None:
        self.unread.pop(envelope.message.number, None)

    def _turn_away_early(self, epoch: int) -> None:
        for envelope in self.submitters.forget(epoch):
            self.turn_away(envelope)

    def session_lost(self, epoch: int, unconfirmed: Iterable[Envelope], now: float) -> None:
        """With this process; what was on its way is lost with it. What a node was asked for it is asked for again."""
        self._is_changed = True
        if self.scheduler is not None and epoch == self.scheduler.epoch and not self._is_unknown:
            self._is_unknown = True
            self._await_scheduler(now)
        self.dispatcher.session_reset(epoch)
        for envelope in unconfirmed:
            if envelope.to.actor == NODE and epoch in self.nodes:
                self._send(envelope.to, envelope.message)

    def distance_is(self, epoch: int, seconds: float) -> None:
        """A word to this process and its answer travel for so long."""
        self._distances[epoch] = seconds  # a server may ask for code before it is known to be one
        self.dispatcher.session_is(epoch, seconds)

    def _end(self, record: Record, outcome: int, text: str, *, started: bool) -> None:
        if self._unprinted.held and (earlier := self._unprinted.take(record.task.number)) is not None:
            self._take(record, earlier)
            return
        self._cpu_left -= not record.io
        self.ended += 1
        record.ended = True
        record.started = started
        record.outcome = outcome
        record.text = text
        record.call = None
        self.records.pop(record.task.number, None)
        held, record.held = record.held, None
        for envelope in held or ():
            self.turn_away(envelope)
        if outcome != OutcomeKind.RETURNED and self._is_news(record):
            self.unread[record.task.number] = record
        for watcher, correlation in record.watchers or ():
            word = messages.Ended(outcome, text)
            self._effects.append(Send(Envelope(watcher, self.address, word, correlation, record.payload)))
        record.watchers = None
        if record.submitter is not None:
            self._pass_outcome(record)
        self._effects.append(Resolve(record))

    def _pass_outcome(self, record: Record) -> None:
        """To the server of the task that submitted it."""
        assert record.submitter is not None
        place = record.location
        word = messages.Outcome(
            record.task,
            record.outcome,
            spot=Spot(place.addr, place.port, 0, "") if place is not None else None,
            seconds=record.seconds or 0.0,
            started=record.started,
            text=record.text,
            cpu_s=record.cpu_s,
            peak_bytes=record.peak_bytes,
        )
        self._effects.append(Send(Envelope(record.submitter, self.address, word, 0, record.payload)))

    def _is_news(self, record: Record) -> bool:
        """Whether somebody has to hear of its end. Of those that raised the values are kept, so there is a bound."""
        if record.outcome == OutcomeKind.RAISED:
            return len(self.unread) < UNREAD_MAX
        is_failure = record.outcome in (OutcomeKind.LOST, OutcomeKind.REFUSED)
        return is_failure and not (record.watchers or record.terminated or self._terminating)

    def turn_away(self, envelope: Envelope) -> None:
        """A message for a task that ended before it came, or never was."""
        self._is_changed = True
        word: messages.Message
        if isinstance(envelope.message, messages.Ask):
            word = messages.Reply(ok=False)
        elif isinstance(envelope.message, messages.Watch):
            word = messages.Ended(0)
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
        self.queued = word = envelope.message
        assert self._wishes is not None
        self._wishes = structs.replace(self._wishes, ticket=word.ticket)
        if self._patience is None:
            self._say_queued(envelope.message)

    def on_granted(self, envelope: Envelope, now: float) -> None:
        self.lease = envelope.message.lease
        self.queued = None

    def on_turned(self, envelope: Envelope, now: float) -> None:
        if self.lease is not None:
            self.scheduler_lost(envelope.message.reason)
        else:
            self._effects.append(Failed(envelope.message.reason))

    def on_node_news(self, envelope: Envelope, now: float) -> None:
        word: messages.NodeNews = envelope.message
        node, dispatcher, text = word.node, self.dispatcher, word.text
        if word.status in (Status.NodeDiscovered, Status.NodeInitialized, Status.NodeResumed):
            if node.epoch in self._gone:
                self._lose_gone(math.inf)  # it is another stay
            self.nodes[node.epoch] = node
            dispatcher.node_up(node.epoch, node.name, (node.name, node.addr, f"{node.addr}:{node.port}"))
            self._disconnected.discard(node.epoch)
            dispatcher.node_heard(node.epoch)
            if word.status != Status.NodeDiscovered:  # before it has granted the lease it knows nothing of us
                self._effects.append(Dial(node))
        elif word.status == Status.NodeDisconnected:
            self._disconnected.add(node.epoch)
            if node.epoch in self._linked:
                text += "; it has one to this program, and goes on"
            else:
                dispatcher.node_silent(node.epoch, now)
                text += _what_goes_on(dispatcher.had_by_node(node.epoch))
        elif word.status in (Status.NodeClosed, Status.NodeAbandoned):
            self._lose_node(node, now)
        if word.text and not self._releasing:
            self._say(f"node {node.name}: {text}", "warning")
        if self.wants_news and not self._is_old(node.epoch, word.status):
            self._effects.append(News(Status(word.status), node))

    def _is_old(self, epoch: int, status: int) -> bool:
        """A scheduler that was started anew says again what there is."""
        return epoch in self._had and status in SAID_AGAIN

    def link_ready(self, epoch: int) -> None:
        """To this process: a node that the scheduler does not hear gets tasks all the same."""
        self._linked.add(epoch)
        if epoch in self._disconnected:
            self._is_changed = True
            self.dispatcher.node_heard(epoch)

    def link_lost(self, epoch: int, now: float) -> None:
        self._linked.discard(epoch)
        if epoch in self._disconnected and epoch in self.nodes:
            self.dispatcher.node_silent(epoch, now)
            goes_on = _what_goes_on(self.dispatcher.had_by_node(epoch))
            self._say(
                f"node {self.nodes[epoch].name}: nor is there a link to this program any more{goes_on}",
                "warning",
            )
        if self.scheduler is not None and epoch == self.scheduler.epoch:
            self._await_scheduler(now)

    def _lose_node(self, node: NodeInfo, now: float) -> None:
        self.nodes.pop(node.epoch, None)
        self._disconnected.discard(node.epoch)
        self._effects.append(HangUp(node.epoch))
        self.dispatcher.node_silent(node.epoch, now)
        self._gone[node.epoch] = (f"node {node.name} is gone", now + DEATH_S)
        self._lose_gone(now)

    def all_lost(self, reason: str, now: float) -> None:
        """The private scheduler has ended, and its node with it: what servers had begun is told from what waited."""
        self._ends = reason
        for epoch in self.dispatcher.fleet.nodes:
            self.dispatcher.node_silent(epoch, now)
            self._gone[epoch] = (reason, now + DEATH_S)
        self._is_changed = True
        self._lose_gone(now)

    def _lose_gone(self, now: float) -> None:
        """Nodes that are gone, and their servers with them. Of those whose end is not seen here nobody knows what had begun."""
        awaited = self._nearby - self._ended_nearby.keys()
        for epoch, (text, until) in list(self._gone.items()):
            known = self.dispatcher.fleet.nodes.get(epoch)
            servers = list(known.servers) if known is not None else []
            dead = [server for server in servers if server not in awaited or now >= until]
            marks = {server: self._ended_nearby.get(server, (None, None)) for server in dead}
            self._lose_servers(dead)
            for server, (cpu, io) in marks.items():
                self.dispatcher.server_lost(server, text, cpu, io)
            if dead == servers:
                del self._gone[epoch]
                self.dispatcher.node_lost(epoch, text)
        if self._ends and not self._gone:
            self.scheduler_lost(self._ends)

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
            self._locations[epoch] = Location(word.spot.addr, word.spot.port)
            node = word.node_epoch or self._node_named(word.node)
            if node in self.dispatcher.fleet.nodes:
                self.dispatcher.server_up(epoch, word.spot.name, node, self._distances.get(epoch, 0.0))
        if word.text and not self._releasing:
            self._say(f"server {word.spot.name} {word.text}", "warning")
        if self.wants_news and not self._is_old(epoch, word.status):
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
        word = messages.Counts(waiting, len(self.records) - waiting, self.ended)
        self._effects.append(Send(Envelope(envelope.sender, self.address, word, envelope.correlation)))

    def on_released(self, envelope: Envelope, now: float) -> None:
        self._leave(envelope.message.reason)

    def _leave(self, reason: str) -> None:
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
        self.lease = self._away_since = None
        for epoch in self.submitters.servers():
            self._turn_away_early(epoch)
        self._is_released = self._is_freed = True
        self._effects.extend(Forget(epoch) for epoch in self.dispatcher.fleet.servers)
        self.servers.clear()
        self._nearby.clear()
        self._ended_nearby.clear()
        self._gone.clear()
        self.dispatcher = Dispatcher()
        self._effects.append(Freed(reason))

    def _say_queued(self, queued: messages.Queued) -> None:
        own = " (another Client of this very program)" if queued.holder.endswith(self._origin) else ""
        has_it = f"{queued.holder} has it{own}" if queued.holder else "the scheduler was just started anew"
        self._say(f"waiting for the cluster: {has_it}; place {queued.position} in the queue", "warning")

    # --- small ---

    def _say(self, text: str, level: str = "info") -> None:
        self._effects.append(Say(text, level))

    def _send(self, to: Address, word: messages.Message) -> None:
        self._effects.append(Send(Envelope(to, self.address, word)))

    def _to_scheduler(self, word: messages.Message) -> None:
        """Nothing, if that does not know us any more: it is told all when it is back."""
        assert self.scheduler is not None
        if not self._is_unknown:
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


def _kept(call: Payload) -> Payload:
    """A small one by itself: it may lie in a block of many."""
    if call is None or isinstance(call, list) or size_of(call) > CALL_MAX:
        return call
    return bytes(call)


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
