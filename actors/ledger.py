"""What a client asked for and is owed: every task from submit to its one outcome, the nodes and servers it has, its lease.

The ledger alone decides which outcome counts: the first for (task, attempt). It hands tasks to the scheduler within the
scheduler's application credit and keeps the rest, so a million queued tasks cost nobody else anything.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from dispycos.machine import Send
from dispycos.protocol import messages
from dispycos.protocol.addresses import NODE, SCHEDULER, Address
from dispycos.protocol.envelope import Envelope, Payload, buffers_of, size_of
from dispycos.protocol.messages import Lease, NodeInfo, Spot, TaskId
from dispycos.protocol.status import OutcomeKind, Status

from .loans import Loan, Loans
from .task import Location

if TYPE_CHECKING:
    from .task import Task

CALL_MAX = (
    256 * 1024
)  # bytes of a call that travels through the scheduler; larger ones are fetched by the server
PATIENCE = 3.0  # seconds of waiting until it is said what for
HANDED_PER_DRAIN = 512  # Submits in one go, so that the client's loop stays responsive
LEFT_NAMED = 5  # files that went with their folders
UNREAD_MAX = 1000  # errors that nobody has looked at; those beyond are not told at the end
ACKS_MIN = 64  # outcomes that are confirmed at once, or ...
ACK_AFTER = 0.02  # ... so many seconds after the first
ACKS_MAX = 1024  # outcomes confirmed in one message


class Record:
    """One task that this client asked for; its handles look here."""

    __slots__ = (
        "address",
        "call",
        "code",
        "ended",
        "function",
        "future",
        "handed",
        "handle",
        "held",
        "info",
        "io",
        "loan",
        "location",
        "node",
        "outcome",
        "payload",
        "seconds",
        "server",
        "started",
        "task",
        "terminated",
        "text",
        "watchers",
        "when_started",
    )

    def __init__(
        self,
        task: TaskId,
        function: str,
        call: Payload,
        *,
        io: bool = False,
        node: str = "",
        server: int = 0,
        code: int = 0,
    ) -> None:
        self.task = task
        self.function = function
        self.call = call  # given up when the outcome is there
        self.io = io
        self.node = node
        self.server = server
        self.code = code
        self.handed = False
        self.loan: Loan | None = None  # it was sent to a server that is lent to us
        self.address: Address | None = None
        self.location: Location | None = None
        self.started = False
        self.ended = False
        self.terminated = False
        self.outcome = 0
        self.text = ""
        self.seconds = 0.0
        self.payload: Payload = None
        self.future: Any = None  # made when somebody waits for the outcome
        self.when_started: Any = None  # a future, while rtask() waits for the start
        self.held: list[Envelope] | None = None  # messages for a task that has not started
        self.watchers: list[tuple[Address, int]] | None = None
        self.handle: Task | None = None
        self.info: Any = None  # args and kwargs, kept only for a status_task

    def watch(self, watcher: Address, correlation: int) -> None:
        self.watchers = [*(self.watchers or ()), (watcher, correlation)]

    @property
    def size(self) -> int:
        return sum(size_of(buffer) for buffer in buffers_of(self.call))


# --- what the client's body does ---


class Resolve(msgspec.Struct, frozen=True):
    """The task has its outcome: whoever waits may look."""

    record: Record


class Began(msgspec.Struct, frozen=True):
    """The task runs."""

    record: Record


class Room(msgspec.Struct, frozen=True):
    """The backlog has fallen to what `ask_for_room` named: who paces its submits may go on."""


class News(msgspec.Struct, frozen=True):
    """For the status_task (spec 6.5): info is a NodeInfo, a Location, or the Record of a task."""

    status: Status
    info: object


class Pulsed(msgspec.Struct, frozen=True):
    """For the status_task: what a node has left (spec 6.6)."""

    node: NodeInfo


class Say(msgspec.Struct, frozen=True):
    """A line for the person at the terminal."""

    text: str
    level: str = "info"


class Print(msgspec.Struct, frozen=True):
    """What a server wrote."""

    output: messages.Output
    text: Payload


class Forget(msgspec.Struct, frozen=True):
    """This process is dead: its session can go."""

    epoch: int


class Scheduled(msgspec.Struct, frozen=True):
    """Every node known has started its servers or refused."""

    servers: int


class Failed(msgspec.Struct, frozen=True):
    """The cluster cannot be had."""

    reason: str


class Freed(msgspec.Struct, frozen=True):
    """The lease has ended."""

    reason: str


class Give(msgspec.Struct, frozen=True):
    """A server asks for code or for a large call."""

    request: Envelope


TOLD = (News, Pulsed, Room, Say, Print, Scheduled, Failed, Freed)  # on the loop, to people and to who waits


class Ledger:
    """The client's machine. `address` is where servers, nodes and the scheduler reach it."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.scheduler: Address | None = None
        self.lease: Lease | None = None
        self.nodes: dict[int, NodeInfo] = {}
        self.servers: dict[int, tuple[Spot, str]] = {}
        self.records: dict[int, Record] = {}
        self.wants_news = False
        self.over = ""  # why the lease ended, if this client did not ask for it
        self.unread: dict[
            int, Record
        ] = {}  # tasks that raised, were lost or refused, and nobody has looked at it
        self.queued: messages.Queued | None = None
        self._origin = ""  # how the scheduler calls clients of this process, after their name
        self.loans = Loans()
        self._backlog: deque[Record] = deque()
        self._waiting = 0  # those in the backlog that have not ended
        self._room_at: int | None = None  # somebody waits for a backlog of so few
        self._limit = 0
        self._handed = 0
        self._acks: dict[int, list[TaskId]] = {}
        self._unconfirmed = 0
        self._ack_at: float | None = None  # confirming can wait a little: one message for many outcomes
        self._effects: list[object] = []
        self._left: list[messages.Left] = []  # files that are removed with the lease, by node
        self._patience: float | None = None
        self._releasing = False
        self._terminating = False  # ... and nobody cares what becomes of the tasks
        self._release: messages.Release | None = None  # to be sent when all tasks are handed in
        self._handlers: dict[type, Callable[[Envelope, float], None]] = {
            messages.Started: self.on_started,
            messages.Outcome: self.on_outcome,
            messages.Recalled: self.on_recalled,
            messages.ServerLost: self.on_server_lost,
            messages.Admit: self.on_admit,
            messages.Output: lambda envelope, now: self._effects.append(
                Print(envelope.message, envelope.payload)
            ),
            messages.Left: lambda envelope, now: self._left.append(envelope.message),
            messages.Queued: self.on_queued,
            messages.Granted: self.on_granted,
            messages.Turned: self.on_turned,
            messages.NodeNews: self.on_node_news,
            messages.ServerNews: self.on_server_news,
            messages.Settled: self.on_settled,
            messages.Released: self.on_released,
            messages.Notice: lambda envelope, now: self._say(envelope.message.text, envelope.message.level),
            messages.Pulse: self.on_pulse,
            messages.CodeWanted: lambda envelope, now: self._effects.append(Give(envelope)),
            messages.CallWanted: lambda envelope, now: self._effects.append(Give(envelope)),
        }

    # --- Machine ---

    def receive(self, envelope: Envelope, now: float) -> None:
        handler = self._handlers.get(type(envelope.message))
        if handler is not None:
            handler(envelope, now)

    def deadline(self) -> float | None:
        if self._waiting and self.lease is not None and self._handed < self._limit:
            return 0.0  # more may be handed over at once
        if self._ack_at is not None and (self._patience is None or self._ack_at < self._patience):
            return self._ack_at
        return self._patience

    def wake(self, now: float) -> None:
        if self._ack_at is not None and self._ack_at <= now:
            self._confirm()
        if self._patience is not None and self._patience <= now:
            self._patience = None
            if self.queued is not None and self.lease is None:
                self._say_queued(self.queued)

    def drain(self) -> list[object]:
        self._hand_over()
        if self._release is not None and not self._waiting and not self.loans.busy:
            self._send_release()
        if self._unconfirmed >= ACKS_MIN or self._releasing:
            self._confirm()
        if self._room_at is not None and self._waiting <= self._room_at:
            self._room_at = None
            self._effects.append(Room())
        effects, self._effects = self._effects, []
        return effects

    # --- called by the body ---

    def enlist(self, scheduler: Address, word: messages.Enlist, now: float) -> None:
        self.scheduler = scheduler
        self._origin = f" on {word.client.host} (pid {word.client.pid})"
        self._patience = now + PATIENCE
        self._send(scheduler, word)

    def submit(self, record: Record) -> None:
        self.records[record.task.number] = record
        self._backlog.append(record)
        self._waiting += 1

    def terminate(self, record: Record) -> None:
        """Cancel it here if the scheduler has not got it yet, else ask for its end on the way that it went."""
        if record.ended:
            return
        record.terminated = True
        if not record.handed:
            self._end(record, OutcomeKind.CANCELLED, "", started=False)
        elif record.loan is not None:
            loan = record.loan
            self._send(Address(loan.node, NODE), messages.Terminate(record.task, loan.server.epoch))
        else:
            assert self.scheduler is not None
            self._send(self.scheduler, messages.Terminate(record.task))

    def release(self, *, terminate: bool, await_io: bool) -> None:
        """Give the cluster back: after all that was submitted, or, to terminate, without what was not handed in."""
        self._releasing = True
        self._terminating = self._terminating or terminate
        self._release = messages.Release(terminate, await_io)
        if terminate:
            for record in list(self._backlog):
                self.terminate(record)
        if terminate or self.lease is None or not (self._waiting or self.loans.busy):
            self._send_release()

    def _send_release(self) -> None:
        assert self.scheduler is not None and self._release is not None
        self._send(self.scheduler, self._release)
        self._release = None

    def scheduler_lost(self, reason: str) -> None:
        """Nobody speaks for our tasks any more."""
        for record in list(self.records.values()):
            self._end(record, OutcomeKind.LOST, reason, started=record.started or record.handed)
        self.lease = None
        self.over = reason
        self._release = None
        self._backlog.clear()
        self._forget_servers()
        self._effects.append(Failed(reason))
        self._effects.append(Freed(reason))

    def unsent(self, word: messages.Message, reason: str) -> None:
        """This word of ours cannot be sent at all: whoever waits for an answer hears that."""
        if isinstance(word, messages.Enlist):
            self._effects.append(Failed(reason))
        elif isinstance(word, messages.Submit | messages.Run):
            record = self.records.get(word.task.number)
            if record is not None:
                self._end(record, OutcomeKind.REFUSED, f"{record.function}: {reason}", started=False)

    def backlog(self) -> int:
        """Tasks that wait here for the scheduler's credit."""
        return self._waiting

    def ask_for_room(self, backlog_max: int) -> None:
        """One Room, as soon as no more than so many wait here. Who asks again before it comes is answered by the same one."""
        self._room_at = backlog_max

    def pass_on(self, record: Record, envelope: Envelope) -> None:
        """A message that came to a task's home: to the task, behind what was held for it, or held."""
        if record.address is not None and not record.held:
            self._pass(record.address, envelope)
        elif record.held is None:
            record.held = [envelope]
        else:
            record.held.append(envelope)

    def _pass(self, to: Address, envelope: Envelope) -> None:
        message = Envelope(to, envelope.sender, envelope.message, envelope.correlation, envelope.payload)
        self._effects.append(Send(message))

    # --- tasks ---

    def on_started(self, envelope: Envelope, now: float) -> None:
        word: messages.Started = envelope.message
        record = self.records.get(word.task.number)
        if record is not None and record.task == word.task:
            self._start(record, word.spot, word.actor)

    def on_outcome(self, envelope: Envelope, now: float) -> None:
        word: messages.Outcome = envelope.message
        node = envelope.sender.epoch if envelope.sender.actor == NODE else word.node
        if node:
            self._acks.setdefault(node, []).append(word.task)
            self._unconfirmed += 1
            if self._ack_at is None:
                self._ack_at = now + ACK_AFTER
        record = self.records.get(word.task.number)
        loan = record.loan if record is not None and record.task == word.task else None
        if record is not None and loan is not None:
            self._loan_ended(record, loan, word)
        if word.lent:
            self._on_lent(envelope.sender, loan.node if loan is not None else word.node, record)
        if record is None or record.task != word.task:
            return  # the second outcome of this attempt: the first one counted
        if word.spot is not None and word.started and not record.started:
            self._started(record, word.spot)  # it is over already: words held for it came too late
        record.payload = envelope.payload
        record.seconds = word.seconds
        self._end(record, word.outcome, word.text, started=word.started)

    def _start(self, record: Record, spot: Spot, actor: int) -> None:
        if record.started:
            return
        record.address = Address(spot.epoch, actor)
        held, record.held = record.held, None
        for envelope in held or ():
            self._pass(record.address, envelope)
        self._started(record, spot)

    def _started(self, record: Record, spot: Spot) -> None:
        record.started = True
        record.location = Location(spot.addr, spot.port)
        self._effects.append(Began(record))
        if self.wants_news:
            self._effects.append(News(Status.TaskCreated, record))

    def _end(self, record: Record, outcome: int, text: str, *, started: bool) -> None:
        if not record.handed:
            self._waiting -= 1
        if record.loan is not None:
            self.loans.ended(record.loan)
        record.ended = True
        record.started = started
        record.outcome = outcome
        record.text = text
        record.call = None
        self.records.pop(record.task.number, None)
        held, record.held = record.held, None
        for envelope in held or ():
            self._turn_away(envelope)
        if self._is_news(record):
            self.unread[record.task.number] = record
        for watcher, correlation in record.watchers or ():
            self._effects.append(
                Send(
                    Envelope(
                        watcher, self.address, messages.Ended(outcome, text), correlation, record.payload
                    )
                )
            )
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

    def on_admit(self, envelope: Envelope, now: float) -> None:
        self._limit = max(self._limit, envelope.message.limit)

    def _hand_over(self) -> None:
        backlog = self._backlog
        if not backlog or self.lease is None or self.scheduler is None:
            return
        if self._waiting > self.loans.idle:
            self._give_back_loans()
        room = min(self._limit - self._handed, HANDED_PER_DRAIN)
        while room > 0 and backlog:
            record = backlog.popleft()
            if record.ended:
                continue
            room -= 1
            self._waiting -= 1
            record.handed = True
            call = record.call
            fetch = type(call) is not bytes or len(call) > CALL_MAX
            loanable = not (fetch or record.io or record.node or record.server)
            if loanable and (loan := self.loans.take(record)) is not None:
                run = messages.Run(record.task, record.function, code=record.code, fast=True)
                self._effects.append(Send(Envelope(loan.server, self.address, run, 0, call)))
                continue
            self._handed += 1
            if not record.io:
                self._give_back_loans()
            lend = loanable and not self._waiting and len(self.records) <= len(self.loans.lanes)
            word = messages.Submit(
                record.task, record.function, record.io, record.node, record.server, record.code, fetch, lend
            )
            if fetch:
                call = None
            else:
                record.call = None  # the scheduler has it now
            self._effects.append(Send(Envelope(self.scheduler, self.address, word, 0, call)))

    # --- servers on loan ---

    def _give_back_loans(self) -> None:
        """What goes by the scheduler finds all servers with their nodes."""
        for server in self.loans.give_back():
            self._send(server, messages.Reclaim())

    def _loan_ended(self, record: Record, loan: Loan, word: messages.Outcome) -> None:
        self.loans.ended(loan)
        self.loans.count += 1
        if not word.lent and word.outcome <= OutcomeKind.RAISED and word.node:
            self.loans.was_long(record.function)

    def _on_lent(self, server: Address, node: int, record: Record | None) -> None:
        """The word of a server that is dead by now, or of whose node nobody would tell us, is not relied on."""
        if server.epoch in self.servers and node in self.nodes:
            self.loans.lent(server.epoch, node, record.function if record is not None else "")
        else:
            self._send(server, messages.Reclaim())

    def on_recalled(self, envelope: Envelope, now: float) -> None:
        """The server was not lent to us any more when the task came."""
        for task in envelope.message.tasks:
            record = self.records.get(task.number)
            if record is not None and record.task == task and record.loan is not None:
                self.loans.ended(record.loan)
                self._hand_in_again(record)

    def on_server_lost(self, envelope: Envelope, now: float) -> None:
        """Its node speaks for all others that it had."""
        word: messages.ServerLost = envelope.message
        record = self.loans.lose(word.server)
        if record is None:
            return
        known = word.marks != messages.UNKNOWN_MARKS
        begun = not known or word.marks.direct == record.task.number
        if begun and (word.closing or record.terminated):
            self._end(record, OutcomeKind.TERMINATED, word.text, started=True)
        elif begun:
            how = f" while it ran {record.function}" if known else f"; {record.function} may have started"
            self._end(record, OutcomeKind.LOST, word.text + how, started=True)
        else:
            self._hand_in_again(record)

    def _hand_in_again(self, record: Record) -> None:
        """It has not started; if all is to end, then here."""
        record.handed = False
        self._waiting += 1
        self._backlog.appendleft(record)
        if record.terminated or (self._releasing and self._release is None):
            self._end(record, OutcomeKind.CANCELLED, "", started=False)

    def _confirm(self) -> None:
        for node, tasks in self._acks.items():
            for first in range(0, len(tasks), ACKS_MAX):
                if self.scheduler is not None:
                    self._send(self.scheduler, messages.OutcomeAck(tasks[first : first + ACKS_MAX], node))
        self._acks.clear()
        self._unconfirmed = 0
        self._ack_at = None

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
        if word.status in (Status.NodeDiscovered, Status.NodeInitialized, Status.NodeResumed):
            self.nodes[word.node.epoch] = word.node
        elif word.status in (Status.NodeClosed, Status.NodeAbandoned):
            self.nodes.pop(word.node.epoch, None)
            self._lose_loans(word.node)
        if word.text and not self._releasing:
            self._say(f"node {word.node.name}: {word.text}", "warning")
        if self.wants_news:
            self._effects.append(News(Status(word.status), word.node))

    def _lose_loans(self, node: NodeInfo) -> None:
        """Nobody else speaks for tasks that were sent to its servers directly."""
        for server in self.loans.on_node(node.epoch):
            record = self.loans.lose(server)
            if record is not None:
                self._end(record, OutcomeKind.LOST, f"node {node.name} is gone", started=True)

    def on_server_news(self, envelope: Envelope, now: float) -> None:
        word: messages.ServerNews = envelope.message
        location = Location(word.spot.addr, word.spot.port)
        if word.status in (Status.ServerDiscovered, Status.ServerInitialized):
            self.servers[word.spot.epoch] = (word.spot, word.node)
        elif word.status in (Status.ServerClosed, Status.ServerAbandoned):
            self.servers.pop(word.spot.epoch, None)
            self.loans.drop_idle(word.spot.epoch)  # of one that is busy ServerLost tells
            self._effects.append(Forget(word.spot.epoch))
        if word.text and not self._releasing:
            self._say(f"server {word.spot.name} {word.text}", "warning")
        if self.wants_news:
            self._effects.append(News(Status(word.status), location))

    def on_pulse(self, envelope: Envelope, now: float) -> None:
        word: messages.Pulse = envelope.message
        if self.loans.count and self.scheduler is not None:
            self._send(self.scheduler, messages.Tally(self.loans.count))
            self.loans.count = 0
        for epoch, node in self.nodes.items():
            if node.name == word.node:
                self.nodes[epoch] = node._replace(available=word.available)
                if self.wants_news:
                    self._effects.append(Pulsed(self.nodes[epoch]))
                return

    def on_settled(self, envelope: Envelope, now: float) -> None:
        self._effects.append(Scheduled(envelope.message.servers))

    def on_released(self, envelope: Envelope, now: float) -> None:
        self.lease = None
        reason = envelope.message.reason
        if self._left:
            self._say(_left_behind(self._left), "warning")
            self._left.clear()
        if not self._releasing:
            self.over = reason or "the scheduler ended the lease"
            self._say(f"the lease has ended: {self.over}", "warning")
        asked = self._releasing
        kind = OutcomeKind.TERMINATED if asked else OutcomeKind.LOST
        for record in list(self.records.values()):
            self._end(record, kind, reason or "the client closed", started=record.started or record.handed)
        self._backlog.clear()
        self._forget_servers()
        self._effects.append(Freed(envelope.message.reason))
        if self.wants_news:
            self._effects.append(News(Status.ClientClosed, None))

    def _forget_servers(self) -> None:
        """They end with the lease, and nobody will tell us of each."""
        self.loans.clear()
        self._effects.extend(Forget(epoch) for epoch in self.servers)
        self.servers.clear()

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

    def check(self) -> None:
        """What must hold between two messages."""
        assert self._handed <= self._limit or not self._limit, "handed in more than admitted"
        for number, record in self.records.items():
            assert record.task.number == number and not record.ended, (
                f"task {number} has ended and is still kept"
            )
            assert not (record.started and record.held), f"task {number} runs and its messages wait"
        self.loans.check()
        for record in self._backlog:
            assert not record.handed, f"task {record.task.number} is handed in and still queued"


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
