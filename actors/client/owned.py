"""A client's tasks, from submit to their one outcome.

Which outcome counts is decided here alone: the first word of the server that has the task, or the dispatcher's, which gives the
tasks to servers (dispatching/).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from dispycos.errors import TaskRefused
from dispycos.machine import Send
from dispycos.notices import listing
from dispycos.protocol import messages
from dispycos.protocol.addresses import NODE, SERVER, Address, Location
from dispycos.protocol.envelope import Envelope, Payload, bytes_of, size_of
from dispycos.protocol.messages import Spot, TaskId
from dispycos.protocol.status import OutcomeKind, Status
from dispycos.turns import answer_of_nobody

from ..dispatching.dispatch import Dispatcher
from ..dispatching.facts import Entry, FleetServer
from ..tasks.passing import filled
from ..tasks.reasons import failing_of, passed_on
from ..tasks.record import Record
from .effects import Began, Forward, GiveCode, News, Print, Relay, Resolve, Room
from .holdings import Holdings
from .needs import Needs, Waits
from .places import find_place
from .submitters import Submitters
from .unprinted import Unprinted

CALL_MAX: Final = 256 * 1024  # bytes of a call that is sent with its Run; servers fetch larger ones
SHORT_S: Final = 0.005  # mean run time below which a function's start is not announced ...
SHORT_RUNS: Final = 4  # ... once it is known by so many runs
RETURNED: Final = OutcomeKind.RETURNED
FILLED_MAX: Final = 512  # calls that get their values in one pass
UNREAD_MAX: Final = 1000  # errors that nobody has looked at; those beyond are not told at the end


class Tasks:
    """All of one client, and their dispatcher's owner."""

    def __init__(self, holdings: Holdings) -> None:
        self._has = holdings
        holdings.dispatcher = Dispatcher(self)
        self.submitters = Submitters()
        self.unprinted = Unprinted()
        self.waits = Waits()  # for values of others
        self._timed: dict[int, tuple[Entry, float]] = {}  # that run, and have to end by then: by number
        self._time_at: float | None = None  # not later than any of these
        self._to_tell: deque[Record] = deque()  # ended, and others wait for their values
        self.unread: dict[int, Entry] = {}  # that raised, were lost or refused, and nobody has looked at it
        self._cpu_left = 0  # CPU tasks that have not ended
        self._room_at: int | None = None  # somebody waits for a backlog of so few
        self.handlers: dict[type, Callable[[Envelope, float], None]] = {
            messages.Placed: self._on_placed,
            messages.Started: self._on_placed,
            messages.Outcome: self._on_outcome,
            messages.Returned: self._on_returned,
            messages.Nested: self._on_submit,
            messages.Aside: self._on_aside,
            messages.ValueGiven: self._on_value,
            messages.Heard: self._on_heard,
            messages.Output: self._on_output,
            messages.Inventory: self._on_inventory,
            messages.CodeWanted: lambda envelope, now: holdings.effects.append(GiveCode(envelope)),
            messages.CallWanted: self._on_call_wanted,
        }

    # --- called by the body ---

    def submit(self, record: Entry, values: list[Record] | None = None) -> None:
        """`values`: of these tasks, for the marks in its call."""
        self._enter(record)
        self._has.is_changed = True
        self._queue(record, values)

    def _queue(self, record: Entry, values: list[Record] | None) -> None:
        if not values:
            self._has.dispatcher.submit(record)
            return
        failed = next((value for value in values if value.ended and value.outcome != RETURNED), None)
        if failed is not None:
            self._pass_on_failure(record, failed)
        else:
            self.waits.add(record, values)

    def _enter(self, record: Entry) -> None:
        record.size = bytes_of(record.call)
        self._has.records[record.task.number] = record
        self._cpu_left += not record.io

    def terminate(self, record: Entry, now: float) -> None:
        if record.ended:
            return
        self._has.is_changed = True
        if self.waits.has(record):
            record.terminated = True
            self._end_unready(record, OutcomeKind.CANCELLED, "terminated before it started")
        else:
            self._has.dispatcher.terminate(record, now)

    def kill_server_of(self, record: Entry) -> None:
        if record.at is not None:
            self._has.is_changed = True
            self._has.dispatcher.kill(record.at.epoch)

    def close(self, text: str) -> None:
        """All is to end."""
        for record in self.waits.take_all():
            self._end_unready(record, OutcomeKind.CANCELLED, text)
        self._has.dispatcher.close(text)

    @property
    def waiting(self) -> int:
        """Tasks that no server has."""
        return self._has.dispatcher.waiting + len(self.waits)

    def ask_for_room(self, backlog_max: int) -> None:
        """One Room, as soon as no more than so many wait here. Who asks again before it comes is answered by the same one."""
        self._room_at = backlog_max
        self._has.is_changed = True

    def pass_on(self, record: Entry, envelope: Envelope) -> None:
        """A message that came to a task's home: to the task, behind what was held for it, or held."""
        if record.address is not None:
            self._pass(record, envelope)
        elif record.held is None:
            record.held = [envelope]
        else:
            record.held.append(envelope)

    def _pass(self, record: Entry, envelope: Envelope) -> None:
        assert record.address is not None
        message = Envelope(
            record.address, envelope.sender, envelope.message, envelope.correlation, envelope.payload
        )
        self._has.effects.append(Relay(record, message))

    def turn_away(self, envelope: Envelope) -> None:
        """A message for a task that ended before it came, or never was."""
        answer = answer_of_nobody(envelope)
        if answer is not None:
            self._has.effects.append(Send(answer))

    def unsent(self, run: messages.Run, reason: str, now: float) -> None:
        record = self._record_of(run.task)
        if record is not None and record.at is not None:
            kind = OutcomeKind.REFUSED
            self._has.dispatcher.outcome(record, record.at.epoch, kind, 0.0, now, started=False)
            self.end(record, kind, f"{record.function}: {reason}", started=False)
            self._has.is_changed = True

    def has_done_all(self) -> bool:
        """But for io tasks, unless close() waits for them too."""
        return not (self._has.records if self._has.awaits_io else self._cpu_left)

    def say_what_close_waits_for(self) -> None:
        """A warning if it may be for ever."""
        left = [record for record in self._has.records.values() if self._has.awaits_io or not record.io]
        if not left or self._has.is_released:
            return
        nodes = {record.at.node for record in left if record.at is not None and record.at.node.is_silent}
        silent = ", ".join(f"node {node.title}" for node in nodes)
        where = f", some of them on {silent}, which is silent" if silent else ""
        names = listing(record.function for record in left)
        text = f"close() waits for {names}{where}; close(terminate=True) would end the wait"
        self._has.say(text, "warning" if silent or not self._has.dispatcher.has_servers else "info")

    def place(self, now: float) -> None:
        for _ in range(FILLED_MAX):
            needs = self.waits.take_ready()
            if needs is None:
                break
            self._fill(needs)
        self._has.dispatcher.place(now)
        if self._room_at is not None and self.waiting <= self._room_at:
            self._room_at = None
            self._has.effects.append(Room())
        for text in self.waits.doubts(now):
            self._has.say(text, "warning")

    def deadline(self) -> float | None:
        due = (self.unprinted.deadline, self._time_at, self.waits.deadline)
        return min((one for one in due if one is not None), default=None)

    # --- values that are arguments of others ---

    def _fill(self, needs: Needs) -> None:
        """All its values are there: from here on it is as any other."""
        record = needs.record
        values = [(value.function, value.payload) for value in needs.values]
        try:
            record.call = filled(record.call, values, whole=record.retries > 0)
        except ValueError as error:
            self._end_unready(record, OutcomeKind.REFUSED, f"{record.function}: {error}")
            return
        record.size = bytes_of(record.call)
        self._has.dispatcher.submit(record)

    def _pass_on_failure(self, record: Entry, failed: Record) -> None:
        text, record.payload = passed_on(record.function, failed)
        self._end_unready(record, OutcomeKind.REFUSED, text)

    def _end_unready(self, record: Entry, kind: OutcomeKind, text: str) -> None:
        """The dispatcher has never heard of it."""
        self.waits.drop(record)
        record.over = True
        self.end(record, kind, text, started=False)

    def _tell_waiting(self, record: Record) -> None:
        """Those that wait for its value; chains of any length: none is told within the telling of another."""
        self._to_tell.append(record)
        if len(self._to_tell) > 1:
            return
        self._has.is_changed = True
        while self._to_tell:
            ended = self._to_tell[0]
            for needs in self.waits.take_wanting(ended):
                if ended.outcome == RETURNED:
                    self.waits.came(needs)
                else:
                    self._pass_on_failure(needs.record, ended)
            self._to_tell.popleft()

    # --- what servers say ---

    def _on_placed(self, envelope: Envelope, now: float) -> None:
        word: messages.Placed | messages.Started = envelope.message
        started = type(word) is messages.Started
        record = self._record_of(word.task)
        if record is None or not self._has.dispatcher.placed(
            record, envelope.sender.epoch, now, started=started
        ):
            return
        record.started |= started
        if started and record.timeout:
            at = now + record.timeout
            self._timed[record.task.number] = (record, at)
            self._time_at = at if self._time_at is None else min(self._time_at, at)
        if record.address is None:
            record.address = Address(word.spot.epoch, word.actor)
            held, record.held = record.held, None
            for waiting in held or ():
                self._pass(record, waiting)
            self._has.effects.append(Began(record))
            self._note_place(record, envelope.sender.epoch)

    def _note_place(self, record: Entry, server: int) -> None:
        record.location = self._has.locations.get(server)
        if record.submitter is not None and record.alone:
            assert record.address is not None
            spot, _ = self._has.servers[server]
            self._has.send(record.submitter, messages.Placed(record.task, record.address.actor, spot))
        if self._has.wants_news:
            self._has.effects.append(News(Status.TaskCreated, record))

    def _on_outcome(self, envelope: Envelope, now: float) -> None:
        word: messages.Outcome = envelope.message
        record = self._record_of(word.task)
        if record is None or not self._has.dispatcher.outcome(
            record, envelope.sender.epoch, word.outcome, word.seconds, now, started=word.started
        ):
            return
        if word.started and record.location is None:  # it is over already: words held for it came too late
            self._note_place(record, envelope.sender.epoch)
        if word.marks is None or not self.unprinted.hold(envelope, now):
            self._take(record, envelope)

    def _on_output(self, envelope: Envelope, now: float) -> None:
        if envelope.payload:
            self._has.effects.append(Print(envelope.message, envelope.payload))
            self._has.tally.output.add(envelope.message, envelope.payload, now)
        self._take_printed(self.unprinted.on_output(envelope.message))

    def wake(self, now: float) -> None:
        """What is to be printed before some outcomes is not waited for any longer."""
        self._take_printed(self.unprinted.expired(now))
        if self._time_at is not None and self._time_at <= now:
            self._end_overdue(now)

    def _end_overdue(self, now: float) -> None:
        """By our clock, which the whole way of terminate() follows: a step that does not end costs its server."""
        for record, at in list(self._timed.values()):
            if at <= now:
                del self._timed[record.task.number]
                record.is_overdue = not record.terminated
                self.terminate(record, now)
        self._time_at = min((at for _, at in self._timed.values()), default=None)

    def _take_printed(self, outcomes: list[Envelope]) -> None:
        for envelope in outcomes:
            self._take(self._has.records[envelope.message.task.number], envelope)

    def _take(self, record: Entry, envelope: Envelope) -> None:
        word: messages.Outcome = envelope.message
        record.payload = envelope.payload
        if word.started:
            record.seconds, record.cpu_s, record.peak_bytes = word.seconds, word.cpu_s, word.peak_bytes
        self.end(record, word.outcome, word.text, started=word.started, server=envelope.sender.epoch)

    def _on_returned(self, envelope: Envelope, now: float) -> None:
        word: messages.Returned = envelope.message
        self._has.dispatcher.returned(envelope.sender.epoch, word.positions, draining=word.draining)

    def _on_aside(self, envelope: Envelope, now: float) -> None:
        word: messages.Aside = envelope.message
        record = self._record_of(word.task)
        if record is not None:
            self._has.dispatcher.aside(record, envelope.sender.epoch, now, aside=word.aside)

    def _on_submit(self, envelope: Envelope, now: float) -> None:
        """A task of ours submits one: it is as any other, and its outcome goes there, too."""
        word: messages.Nested = envelope.message
        if not self.submitters.submitted(word.number, envelope.sender):
            return
        record = Entry(
            word.function,
            task=TaskId(self._has.address.epoch, word.number),
            call=_kept(envelope.payload),
            io=word.io,
            alone=word.alone,
            may_receive=word.may_receive,
            retries=word.retries,
            timeout=word.timeout,
            priority=word.priority,
            needs=word.needs,
            code=word.code,
            submitter=envelope.sender,
            submitted=now,
        )
        self._enter(record)
        for early in self.submitters.take(word.number):
            self._has.effects.append(Forward(early))
        if self._has.is_released or self._has.is_terminating:
            self.end(record, OutcomeKind.CANCELLED, "the client closed", started=False)
            return
        if word.addr:
            where = Location(word.addr, word.port) if word.port else word.addr
            try:
                record.node, record.server = find_place(where, self._has.nodes, self._has.servers)
            except TaskRefused as error:
                self.end(record, OutcomeKind.REFUSED, str(error), started=False)
                return
        self._queue(record, [self._value_at(envelope.sender, word.number, each) for each in word.values])

    def _value_at(self, server: Address, by: int, number: int) -> Record:
        """That of a task that was submitted there, or is still ours. The server is asked if its end was told there just now."""
        known: Record | None = self._has.records.get(number) or self.waits.asked.get((server.epoch, number))
        if known is None:
            known = self.waits.asked[server.epoch, number] = Record(
                "", TaskId(self._has.address.epoch, number)
            )
            self._has.send(server, messages.ValueWanted(by, number))
        return known

    def _on_value(self, envelope: Envelope, now: float) -> None:
        word: messages.ValueGiven = envelope.message
        value = self.waits.asked.pop((envelope.sender.epoch, word.number), None)
        if value is not None:
            value.function, value.outcome, value.text = word.function, word.outcome, word.text
            value.started, value.payload, value.ended = word.started, envelope.payload, True
            self._tell_waiting(value)

    def _on_heard(self, envelope: Envelope, now: float) -> None:
        self.unread.pop(envelope.message.number, None)

    def _on_call_wanted(self, envelope: Envelope, now: float) -> None:
        record = self._has.records.get(envelope.message.task.number)
        call = record.call if record is not None else None
        word = messages.CallGiven("" if call is not None else "the task has ended")
        self._has.send(envelope.sender, word, envelope.correlation, call)

    def _on_inventory(self, envelope: Envelope, now: float) -> None:
        waiting = self.waiting
        word = messages.Counts(waiting, len(self._has.records) - waiting, self._has.tally.ended)
        self._has.send(envelope.sender, word, envelope.correlation)

    def server_gone(self, epoch: int) -> None:
        """Its tasks wait for no answer of ours, and nothing more comes of what it wrote."""
        for envelope in self.submitters.forget(epoch):
            self.turn_away(envelope)
        self.unprinted.forget(epoch)
        for key in [key for key in self.waits.asked if key[0] == epoch]:
            value = self.waits.asked.pop(key)
            value.function, value.outcome, value.ended = "a task", OutcomeKind.LOST, True
            value.text = "the server that had its value is gone"
            self._tell_waiting(value)

    def end_all(self, kind: int, reason: str) -> None:
        self.waits.take_all()
        for record in list(self._has.records.values()):
            started = record.started or record.at is not None or record.attempt > 1
            self.end(record, kind, reason, started=started)
        for epoch in self.submitters.servers():
            self.server_gone(epoch)

    def _pass_outcome(self, record: Entry) -> None:
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
        self._has.send(record.submitter, word, 0, record.payload)

    def _is_news(self, record: Entry) -> bool:
        """Whether somebody has to hear of its end. Of those that raised the values are kept, so there is a bound."""
        if record.outcome == OutcomeKind.RAISED:
            return not record.watchers and len(self.unread) < UNREAD_MAX
        is_failure = record.outcome in (OutcomeKind.LOST, OutcomeKind.REFUSED)
        if failing_of(record.outcome, record.payload) is not None:
            return False  # the one that failed is told
        return is_failure and not (record.watchers or record.terminated or self._has.is_terminating)

    def _record_of(self, task: TaskId) -> Entry | None:
        """The task, if this is its present attempt."""
        record = self._has.records.get(task.number)
        return record if record is not None and record.task == task else None

    # --- dispatch.TaskOwner ---

    def send_runs(self, server: FleetServer, entries: list[Entry]) -> None:
        to = Address(server.epoch, SERVER)
        effects, me = self._has.effects, self._has.address
        for record in entries:
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
                units=record.units,
            )
            effects.append(Send(Envelope(to, me, run, 0, None if fetch else call)))

    def send_recall(self, server: FleetServer, after: int) -> None:
        self._has.send(Address(server.epoch, SERVER), messages.Recall(after))

    def send_terminate(self, server: FleetServer, record: Entry) -> None:
        word = messages.Terminate(record.task, server.epoch, record.position, record.function)
        self._has.send(Address(server.epoch, SERVER), word)
        self._has.send(Address(server.node.epoch, NODE), word)

    def send_kill(self, server: FleetServer) -> None:
        self._has.send(Address(server.node.epoch, NODE), messages.Kill(server.epoch))

    def try_again(self, record: Entry, text: str) -> None:
        owner, number, _ = record.task
        record.task = TaskId(owner, number, record.attempt)
        self._timed.pop(number, None)
        record.address = record.location = None
        record.started = False
        again = f"attempt {record.attempt} of {record.retries + 1}"
        self._has.say(f"{record.function} was lost ({text}): {again}", "warning")

    def end(self, record: Entry, outcome: int, text: str, *, started: bool, server: int = 0) -> None:
        if self.unprinted.held and (earlier := self.unprinted.take(record.task.number)) is not None:
            self._take(record, earlier)
            return
        self._cpu_left -= not record.io
        self._timed.pop(record.task.number, None)
        if record.is_overdue and outcome == OutcomeKind.TERMINATED:
            text, record.payload = (
                f"{record.function} ran for longer than its timeout, {record.timeout:g} s",
                b"",
            )
        record.started = started
        record.outcome = outcome
        record.text = text
        record.call = None
        record.ended = True  # last: who looks in another thread takes the rest then
        self._has.records.pop(record.task.number, None)
        self._has.tally.take(record, server, self._has.now)
        held, record.held = record.held, None
        for envelope in held or ():
            self.turn_away(envelope)
        if outcome != OutcomeKind.RETURNED and self._is_news(record):
            self.unread[record.task.number] = record
        for watcher, correlation in record.watchers or ():
            self._has.send(watcher, messages.Ended(outcome, text), correlation, record.payload)
        record.watchers = None
        if record.submitter is not None:
            self._pass_outcome(record)
        self._has.effects.append(Resolve(record))
        if self.waits.is_wanted(record):
            self._tell_waiting(record)

    def looked_at(self, record: Record) -> None:
        """Somebody knows how it ended, and of the one that it did not run for."""
        self.unread.pop(record.task.number, None)
        failing = failing_of(record.outcome, record.payload)
        if failing is not None:
            self.unread.pop(failing.number, None)

    def check(self) -> None:
        for number, record in self._has.records.items():
            assert record.task.number == number and not record.ended, (
                f"task {number} has ended and is still kept"
            )
            assert not (record.address and record.held), f"task {number} has an address and its messages wait"
        assert not self._to_tell, "somebody was not told that a value is there"
        self.waits.check(self._has.records)
        assert self._cpu_left == sum(not record.io for record in self._has.records.values()), "miscounted"


def _kept(call: Payload) -> Payload:
    """A small one by itself: it may lie in a block of many."""
    if call is None or isinstance(call, list) or size_of(call) > CALL_MAX:
        return call
    return bytes(call)


def _is_short(record: Entry) -> bool:
    """Its start need not be announced: its outcome will be there as soon, and if not, nobody has asked for the start."""
    learner = record.learner
    if learner is None or learner.runs < SHORT_RUNS or learner.mean >= SHORT_S:
        return False
    is_asked_for = record.info is not None  # by a status_task
    return not (is_asked_for or record.alone or record.io or record.held or record.watchers or record.timeout)
