"""What tasks in a server submit: their calls go to the client that owns all tasks, and how they end comes back.

The record of such a task here is for its handles only; the one that counts is the client's.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final

import msgspec

from dispycos.errors import FileNotSent, TaskRefused
from dispycos.protocol import messages
from dispycos.protocol.addresses import Address, Location
from dispycos.protocol.envelope import Envelope, Payload, bytes_of
from dispycos.protocol.messages import TaskId
from dispycos.protocol.status import OutcomeKind

from ..shipping.pickling import kept_as_it_is
from ..tasks.calling import may_receive, name_of, receives
from ..tasks.current import current_cell
from ..tasks.files.sender import Files
from ..tasks.handle import Handle
from ..tasks.host import TaskHost
from ..tasks.options import Options
from ..tasks.passing import has_handles, marked
from ..tasks.reasons import failing_of
from ..tasks.record import Record
from ..tasks.submitting import Submits, Task
from .code import ServerPayloads
from .queue import Server

FAILED: Final = (OutcomeKind.RAISED, OutcomeKind.LOST, OutcomeKind.REFUSED)


class TaskClient(Submits):
    """The client of a remote task, as that task sees it: what it submits runs as the program's own tasks do.

    Errors are those that the program itself would get. A task that ends leaves behind what it submitted: that goes on, and
    its outcome is dropped. While a CPU task waits, and tasks that it submitted have not ended, its server may run others.
    Where the cluster is, who has it and when it is given back is the program's affair: there is nothing else here.
    """

    def __init__(self, nested: NestedTasks) -> None:
        self._nested = nested

    def _here(self) -> object:
        return self._nested

    def _run(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], options: Options
    ) -> Task:
        where, name, timeout, needs = options.where, name_of(function), options.timeout, options.resources
        addr, port = (where.addr, where.port) if isinstance(where, Location) else (where or "", 0)
        given = options.io, options.alone, options.retries
        priority, receiving = options.priority, may_receive(function)
        word = messages.Nested(0, name, *given, 0, addr, port, [], timeout, priority, needs, receiving)
        return self._nested.submit(word, function, args, kwargs)


class NestedTasks:
    """correspondence.Records of a server. `set_aside` is called when a CPU task waits, and others may run beside it."""

    def __init__(
        self, host: TaskHost, payloads: ServerPayloads, machine: Server, set_aside: Callable[[], None]
    ) -> None:
        self.host = host
        self._payloads = payloads
        self.machine = machine
        self.client = TaskClient(self)
        self.owner = machine.client.epoch
        self.files = Files(host, self.owner, self._find_places, self._say)
        self._next = payloads.first_number
        self._set_aside = set_aside
        self._records: dict[int, Record] = {}  # by number, until they have ended
        # Whose values they need, so long as they may be asked for: by the numbers of both.
        self._needed: dict[int, dict[int, Handle[Any]]] = {}
        # Of these the client asks how they end, which it has told, and is still on its way here.
        self._owed: set[int] = set()

    def submit(
        self,
        word: messages.Nested,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Task:
        host, runtime = self.host, self.host.runtime
        handles: list[Handle[Any]] = []
        if has_handles(args, kwargs):
            args, kwargs, handles = marked(args, kwargs)
            for handle in handles:
                if handle.home.epoch != self.owner:
                    why = f"cannot wait for the value of {handle.name}: it is of another client"
                    raise TaskRefused(f"{word.function} {why}; pass the handle itself in a list")
            word = msgspec.structs.replace(word, values=[handle.home.actor for handle in handles])
        call = self._payloads.dumps_call(function, args, kwargs)
        call = kept_as_it_is(call, whole=word.retries > 0)
        cell = current_cell()
        parent = cell.run.task if cell is not None and cell.host is host and cell.run is not None else None
        with host.shield, runtime.lock:
            self._next += 1
            word = msgspec.structs.replace(word, number=self._next, code=self._payloads.mirror.version)
            task = TaskId(self.owner, word.number)
            size = bytes_of(call)
            record = Record(
                word.function,
                task=task,
                size=size,
                io=word.io,
                alone=word.alone,
                receives=receives(function),
                retries=word.retries,
            )
            handle = host.new_handle()._bind(host, Address(self.owner, word.number), word.function, record)
            record.handle = handle
            self._records[word.number] = record
            if handles:
                self._needed[word.number] = {handle.home.actor: handle for handle in handles}
            self.machine.submit(parent, word, call)
        runtime.turn_soon()
        if parent is not None:
            runtime.defer(partial(self._lend, parent))  # when the step is over
        return handle

    def _lend(self, parent: TaskId) -> None:
        with self.host.runtime.lock:
            aside = self.machine.set_aside(parent)
        if aside:
            self._set_aside()
            self.host.runtime.turn_soon()

    # --- files

    async def _find_places(self, where: object) -> list[messages.FilePlace]:
        if isinstance(where, Task):
            if where.location is None and where.home.epoch == self.owner:
                where = self.client  # a task of the program itself
            else:
                where = where.location
        if where is self.client:
            return [messages.FilePlace(self.owner, 0, "the client")]
        if not isinstance(where, str | Location):
            raise TypeError(f"where must be task.client, a str (a node), a Location or a Task, not {where!r}")
        addr, port = (where.addr, where.port) if isinstance(where, Location) else (where, 0)
        answer = await self.host.call(self.machine.client, messages.PlaceWanted(addr, port), None, None)
        if answer is None:
            raise FileNotSent("the client is gone")
        if answer.message.error:
            raise TaskRefused(answer.message.error)
        places: list[messages.FilePlace] = answer.message.places
        return places

    def _say(self, text: str) -> None:
        """At the client's terminal."""
        notice = messages.Notice(text, "warning")
        self.host.runtime.send(Envelope(self.machine.client, self.machine.address, notice))

    # --- told by the client: within a turn, perhaps on the relief thread

    def on_word(self, envelope: Envelope) -> None:
        if isinstance(envelope.message, messages.ValueWanted):
            self._on_value_wanted(envelope.message)
            return
        word: messages.Placed | messages.Outcome = envelope.message
        record = self._records.get(word.task.number)
        if record is None:
            return
        if word.spot is not None:
            record.location = Location(word.spot.addr, word.spot.port)
        if isinstance(word, messages.Placed):
            record.address = Address(word.spot.epoch, word.actor)
            self.host.runtime.defer(partial(_set, record.when_started))
            return
        record.attempt = word.task.attempt
        if word.started and word.outcome != OutcomeKind.LOST:
            record.seconds, record.cpu_s, record.peak_bytes = word.seconds, word.cpu_s, word.peak_bytes
        self._end(record, word.outcome, word.text, envelope.payload, started=word.started)

    def _on_value_wanted(self, word: messages.ValueWanted) -> None:
        handle = self._needed.get(word.by, {}).get(word.number)
        source = handle._source if handle is not None else None
        if isinstance(source, Record) and not source.ended:
            self._owed.add(word.number)
        elif isinstance(source, Record):
            self._give_value(source)
        else:
            text = "its value went to who submitted it: await it there, and pass on the value"
            name = handle.name if handle is not None else "a task"
            self.tell_client(messages.ValueGiven(word.number, name, OutcomeKind.LOST, text))

    def _give_value(self, record: Record) -> None:
        number, function = record.task.number, record.function
        word = messages.ValueGiven(number, function, record.outcome, record.text, record.started)
        self.tell_client(word, record.payload)

    def owner_gone(self) -> None:
        """Nobody is left who could tell."""
        for record in list(self._records.values()):
            self._end(record, OutcomeKind.LOST, "its client is gone", None, started=record.started)

    def _end(self, record: Record, outcome: int, text: str, payload: Payload, *, started: bool) -> None:
        number = record.task.number
        del self._records[number]
        self._needed.pop(number, None)
        record.outcome, record.text, record.payload, record.started = outcome, text, payload, started
        record.ended = True
        record.handle = None
        if number in self._owed:
            self._owed.remove(number)
            self._give_value(record)
        home = Address(self.owner, number)
        for watcher, correlation in record.watchers or ():
            self.looked_at(record)
            word = messages.Ended(outcome, text)
            self.host.runtime.send(Envelope(watcher, home, word, correlation, payload))
        if record.when_started is not None or record.future is not None:
            self.host.runtime.defer(partial(self._wake, record))

    def _wake(self, record: Record) -> None:
        _set(record.when_started)
        if record.future is not None:
            self.host.settle(record)

    def tell_client(self, word: messages.Message, payload: Payload = None) -> None:
        self.host.runtime.send(Envelope(self.machine.client, self.machine.address, word, 0, payload))

    def want_close(self, word: messages.CloseWanted) -> None:
        with self.host.shield, self.host.runtime.lock:
            self.machine.want_close(word)
        self.host.runtime.turn_soon()

    # --- correspondence.Records

    def record(self, number: int) -> Record | None:
        return self._records.get(number)

    def terminate(self, record: Record) -> None:
        cancelled = record.handle is not None and bool(record.handle._asked)
        home = Address(self.owner, record.task.number)
        self.host.runtime.send(Envelope(home, self.host.me(), messages.TerminateActor(cancelled)))

    def looked_at(self, record: Record) -> None:
        """Its error is no news any more for who closes the client."""
        if record.outcome in FAILED:
            self.tell_client(messages.Heard(record.task.number))
            failing = failing_of(record.outcome, record.payload)
            if failing is not None:
                self.tell_client(messages.Heard(failing.number))

    def hold(self, envelope: Envelope) -> bool:
        raise AssertionError("the homes of these tasks are at the client")

    def pass_on(self, record: Record, envelope: Envelope) -> None:
        raise AssertionError("the homes of these tasks are at the client")


def _set(when_started: Any) -> None:
    if when_started is not None and not when_started.done():
        when_started.set_result(0)
