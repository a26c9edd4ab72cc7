"""What tasks of the simulated cluster do, how a process carries their messages, and the book of all that really happened.

Messages and their answers are carried by the real actors/tasks/correspondence.py; what a task is stays in step with cell.py by
hand. The book knows everything; the machines know only what they are told: at the end the two are compared.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

import msgspec

from dispycos.actors.tasks.correspondence import Correspondence
from dispycos.actors.tasks.record import Record
from dispycos.protocol import messages
from dispycos.protocol.addresses import FIRST_TASK, Address
from dispycos.protocol.envelope import Envelope, Payload, buffers_of
from dispycos.protocol.messages import TaskId
from dispycos.protocol.status import OutcomeKind
from dispycos.runtime import Runtime

from .cluster_links import Universe
from .cluster_runtime import Process


class Words(NamedTuple):
    """A task talks to another actor: so many times, half of them in its first step."""

    target: int  # number of the actor in the book
    home: Address
    direct: Address | None
    times: int


@dataclass(eq=False)
class Plan:
    """What a task will do."""

    number: int
    function: str
    io: bool = False
    first: float = 0.0  # seconds of its first step, which keeps the loop
    nap: float = 0.0  # seconds suspended after it
    last: float = 0.0  # seconds of its last step, if it was suspended
    expects: int = 0  # messages to be received before the last step
    raises: bool = False
    deaf: bool = False  # to its KeyboardInterrupt
    fetch: bool = False  # its call is too large for the scheduler
    size: int = 0  # of its value
    words: list[Words] = field(default_factory=list)
    children: list[Plan] = field(default_factory=list)  # submitted in its first step, and waited for
    is_nested: bool = False  # a task submitted it
    needs: list[TaskId] = field(default_factory=list)  # whose values are its arguments

    @property
    def suspends(self) -> bool:
        return self.nap > 0 or self.expects > 0 or bool(self.children)

    @property
    def kind(self) -> OutcomeKind:
        return OutcomeKind.RAISED if self.raises else OutcomeKind.RETURNED

    def call(self, task: TaskId) -> Payload:
        data = encode((self.number, *task))
        return [data] if self.fetch else data

    def value(self) -> bytes:
        return encode(self.number) + bytes(self.size)


encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder().decode


class Start(NamedTuple):
    server: Process
    epoch: int
    at: float


class Book:
    """What really happened, seen from outside."""

    def __init__(self, world: Universe) -> None:
        self.world = world
        self.plans: dict[TaskId, Plan] = {}
        self.clients: dict[int, Any] = {}  # by epoch
        self.numbers = 0
        self.pids = 1000
        self.servers: list[Any] = []
        self.starts: dict[TaskId, Start] = {}
        self.ends: dict[TaskId, OutcomeKind] = {}
        self.outcomes: dict[TaskId, tuple[int, bool, str]] = {}
        self.asked_to_end: dict[TaskId, float] = {}  # since when
        self.said: dict[tuple[int, int], int] = {}
        self.heard: dict[tuple[int, int], list[int]] = {}
        self.direct: dict[tuple[int, int], list[int]] = {}  # those sent to the task itself, not to its home
        self.told: set[tuple[int, int, int]] = set()  # handed back as unconfirmed
        self.printed: dict[int, set[bytes]] = {}  # by tasks, and not yet read: by epoch of their client
        self.is_calm = False  # nothing goes wrong in this schedule

    def next_number(self) -> int:
        self.numbers += 1
        return self.numbers

    def started(self, task: TaskId, server: Process) -> None:
        before = self.starts.get(task)
        if before is not None:
            self.world.wrong(f"{task.number} of {self.world.name_of(task.owner)} started twice: on "
                             f"{before.server.name} and on {server.name}")  # fmt: skip
        self.starts[task] = Start(server, server.epoch, self.world.now)
        if missing := self.without_value(task):
            self.world.wrong(f"{task.number} started without the values of {missing}")

    def without_value(self, task: TaskId) -> list[int]:
        """Numbers of those whose values it needs, and that have returned none as far as their client knows."""
        needs = self.plans[task._replace(attempt=1)].needs
        return [need.number for need in needs if self.outcomes.get(need, (None,))[0] != OutcomeKind.RETURNED]

    def ended(self, task: TaskId, kind: OutcomeKind) -> None:
        self.ends[task] = kind

    def read(self, client: int, text: Payload) -> None:
        self.printed.get(client, set()).discard(b"".join(buffers_of(text)))

    def lines_end(self, client: int) -> None:
        """Nobody listens any more."""
        left = self.printed.pop(client, None)
        if left and self.is_calm:
            self.world.wrong(f"{len(left)} lines were not read by {self.world.name_of(client)}: {left}")

    def words(self, source: int, target: int) -> bytes:
        """The next message of this pair."""
        n = self.said[source, target] = self.said.get((source, target), 0) + 1
        return encode((source, target, n))

    def arrived(self, payload: Any) -> None:
        source, target, n = decode(buffers_of(payload)[0])
        heard = self.heard.setdefault((source, target), [])
        if heard and n <= heard[-1]:
            self.world.wrong(f"message {n} from actor {source} to {target} came after {heard[-1]}")
        heard.append(n)

    def resolved(self, task: TaskId, outcome: int, started: bool, text: str, payload: Payload) -> None:
        """The client's ledger says how it ended: can that be true?"""
        wrong, plan = self.world.wrong, self.plans[task]
        where = f"task {task.number} ({plan.function}) of {self.world.name_of(task.owner)}"
        said = f"{OutcomeKind(outcome).name}, started={started} {text!r}"
        self.world.note(f"OUTCOME {where}: {said}")
        if task in self.outcomes:
            wrong(f"{where} has a second outcome: {said}")
        self.outcomes[task] = (outcome, started, text)
        if not started and task in self.starts:
            wrong(f"{where} had started on {self.starts[task].server.name}, but is {said}")
        if outcome in (OutcomeKind.RETURNED, OutcomeKind.RAISED):
            if self.ends.get(task) != outcome:
                wrong(f"{where} is {said}, but what it did is {self.ends.get(task)!r}")
            elif [bytes(buffer) for buffer in buffers_of(payload)] != [plan.value()]:
                wrong(f"{where} has the value of another")


class Cell:
    """A mailbox and whose it is."""

    def __init__(self, host: Host, number: int, address: Address) -> None:
        self.host = host
        self.number = number
        self.address = address
        self.heard = 0
        self.stopping = False
        self.ended = False
        self.on_message: Callable[[], None] | None = None

    def on_envelope(self, envelope: Envelope, now: float) -> None:
        message = envelope.message
        if isinstance(message, messages.Tell):
            self.heard += 1
            self.host.book.arrived(envelope.payload)
            if envelope.correlation:
                self.host.correspondence.answer(envelope, messages.Delivered(1))
            if self.on_message is not None:
                self.host.defer(self.on_message)
        else:
            self.host.correspondence.on_reply(envelope)


class Host(Process):
    """A process with tasks in it: a client or a server (TaskHost)."""

    book: Book

    def boot(self) -> None:
        self._numbers = FIRST_TASK
        self.correspondence = Correspondence(cast(Runtime, self), nullcontext())

    def take_number(self) -> int:
        self._numbers += 1
        return self._numbers

    def new_cell(self, number: int) -> Cell:
        cell = Cell(self, number, Address(self.epoch, self.take_number()))
        self.attach_inbox(cell.address.actor, cell.on_envelope)
        return cell

    def end_cell(self, cell: Cell) -> None:
        cell.ended = True
        self.detach(cell.address.actor)

    def tell(self, cell: Cell, to: Address, target: int) -> None:
        payload = self.book.words(cell.number, target)
        self.send(Envelope(to, cell.address, messages.Tell(), 0, payload))

    def peer_gone(self, epoch: int, unconfirmed: list[Envelope]) -> None:
        for envelope in unconfirmed:
            if isinstance(envelope.message, messages.Tell):
                self.book.told.add(tuple(decode(buffers_of(envelope.payload)[0])))
        self.correspondence.peer_gone(epoch, unconfirmed)

    def relay(self, record: Record, envelope: Envelope) -> None:
        self.correspondence.relay(record, envelope)

    def has_ended(self, record: Record) -> None:
        self.correspondence.has_ended(record)

    def record_lost(self, number: int) -> None:
        self.correspondence.record_lost(number)
