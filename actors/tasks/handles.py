"""What the handle of a task can do from this process: messages, monitors, ends, and where the task is."""

from __future__ import annotations

import asyncio
import contextvars
import math
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager
from contextvars import Context
from functools import partial
from typing import Any
from weakref import WeakValueDictionary

from dispycos.errors import TaskLost, TaskTerminated
from dispycos.protocol import messages
from dispycos.protocol.addresses import Address, Location
from dispycos.protocol.envelope import Envelope, Payload
from dispycos.protocol.status import OutcomeKind
from dispycos.runtime import Runtime

from ..shipping.words import MissingCode
from .cell import Cell
from .correspondence import Correspondence
from .current import current_cell
from .ends import Outcome, Returned, raised
from .handle import MonitorStatus, Task
from .opening import Payloads, open_outcome, open_value, settle
from .record import Record, Usage
from .results import pack_outcome, unpack_outcome
from .roles import LocalTask
from .submitting import Submits


class Way:
    """Where messages to somebody else's task go from this process."""

    __slots__ = ("__weakref__", "to")

    def __init__(self, to: Address) -> None:
        self.to = to


class Handles(Correspondence):
    """What handles ask of their host. `payloads`: pickling and code, of a client or of a server."""

    def __init__(self, runtime: Runtime, shield: AbstractContextManager[object], payloads: Payloads) -> None:
        super().__init__(runtime, shield)
        self.payloads = payloads
        self.sharing: Any = None  # names, channels and the like (actors/sharing/)
        self.cells: dict[int, Cell] = {}  # the tasks of this process
        self._watched: dict[int, Task] = {}  # by correlation: monitored handles
        self._ways: WeakValueDictionary[Address, Way] = (
            WeakValueDictionary()
        )  # by home, for as long as handles use it
        self._opening: set[asyncio.Task[None]] = set()  # the ends of somebody else's tasks
        self.caller = contextvars.copy_context()  # of who used this host last: what tasks print is for them

    # --- messages ---

    def tell(self, target: Task, message: Any) -> None:
        payload = self.payloads.dumps(message, f"the message to {target.name}")
        self.post(Envelope(self.reach(target), self.me(), messages.Tell(self.payloads.version()), 0, payload))

    def tell_after(self, target: Task, seconds: float, message: Any) -> asyncio.TimerHandle:
        if not isinstance(seconds, int | float) or isinstance(seconds, bool):
            raise TypeError(f"seconds must be a number, not {type(seconds).__name__}")
        if not 0 <= seconds < math.inf:
            raise ValueError(f"seconds must be a time to wait, not {seconds}")
        payload = self.payloads.dumps(message, f"the message to {target.name}")
        sender, word = self.me(), messages.Tell(self.payloads.version())
        # In no task's context: it is sent whatever becomes of who asked for it.
        return self.loop.call_later(
            seconds,
            lambda: self.post(Envelope(self.reach(target), sender, word, 0, payload)),
            context=Context(),
        )

    async def deliver(self, target: Task, message: Any, timeout: float | None) -> int:
        if not target.is_alive():
            return 0
        payload = self.payloads.dumps(message, f"the message to {target.name}")
        word = messages.Tell(self.payloads.version())
        try:
            answer = await self.call(self.reach(target), word, payload, timeout)
        except TimeoutError:
            return 0
        return int(answer.message.code) if answer is not None else 0

    async def ask(self, target: Task, message: Any, timeout: float | None) -> Any:
        if not target.is_alive():
            raise TaskLost(f"{target.name} ended without a reply")
        payload = self.payloads.dumps(message, f"the request to {target.name}")
        answer = await self.call(self.reach(target), messages.Ask(self.payloads.version()), payload, timeout)
        if answer is None or not answer.message.ok:
            raise TaskLost(f"{target.name} ended without a reply")
        ready, value = await self.open_message(answer)
        if not ready:
            raise value
        return value

    running = staticmethod(current_cell)

    def client(self) -> Submits[Task]:
        """Who runs what tasks here submit."""
        client: Submits[Task] | None = self.records.client if self.records is not None else None
        if client is None:
            raise RuntimeError(
                "task.client is for remote tasks: elsewhere use the Client that your program made"
            )
        return client

    # --- where a task is ---

    def reach(self, target: Task) -> Address:
        """Where a message for it goes now: its own address if known, else its home, which passes it on.

        Of a task that somebody else asked for the first message decides, for all handles of it here: by another way the next
        could be faster. It may run here.
        """
        state = target._source
        if state is None or target.home.epoch != self.runtime.epoch:
            way = target._way
            if way is None:
                way = self._ways.get(target.home)
                if way is None:
                    way = self._ways[target.home] = Way(target._direct or target.home)
                target._way = way
            to: Address = way.to
            return to
        if target._direct is not None:
            return target._direct
        if isinstance(state, Record) and state.address is not None and not state.held:
            return state.address
        return target.home

    def direct_address(self, target: Task) -> Address | None:
        state = target._source
        if isinstance(state, Record):
            return state.address
        return target._direct

    def location_of(self, target: Task) -> Location | None:
        state = target._source
        if isinstance(state, Record):
            return state.location
        return target._place

    def usage_of(self, target: Task) -> Usage | None:
        state = target._source
        if not isinstance(state, Record) or not state.ended or state.seconds is None:
            return None
        return Usage(state.seconds, state.cpu_s, state.peak_bytes)

    def handle(self, home: Address, name: str, direct: Address | None, place: Location | None) -> Task:
        """The handle that came in a message."""
        state: LocalTask | Record | None = None
        if direct is not None and direct.epoch == self.runtime.epoch:
            state = self.cells.get(direct.actor)
        elif self.records is not None and home.epoch == self.records.owner:
            state = self.records.record(home.actor)
        if state is not None and state.handle is not None:
            known: Task = state.handle
            return known
        return Task.__new__(Task)._bind(self, home, name, state, None if state is not None else direct, place)

    # --- monitors and ends ---

    async def monitor(self, target: Task, by: Task | None) -> None:
        cell = self._cell_of(by, "monitor")
        state = target._source
        with self.shield:
            correlation = self.take_correlation()
            self._watched[correlation] = target
            with self.runtime.lock:
                if state is None:
                    self.runtime.send(Envelope(target.home, cell.address, messages.Watch(), correlation))
                elif state.ended:
                    word, payload = self._ended(state)
                    self.runtime.send(Envelope(cell.address, target.home, word, correlation, payload))
                else:
                    state.watch(cell.address, correlation)

    def _ended(self, state: LocalTask | Record) -> tuple[messages.Ended, Payload]:
        """What a watcher is told of a task that has ended."""
        if isinstance(state, Record):
            return messages.Ended(state.outcome, state.text), state.payload
        assert state.outcome is not None
        kind, payload = pack_outcome(self.payloads, state.outcome, state.name, state.stopping)
        return messages.Ended(kind), payload

    def _cell_of(self, by: Task | None, what: str) -> Cell:
        """Of this process: the running task, or this one."""
        cell = getattr(by, "_source", None) if by is not None else current_cell()
        if not isinstance(cell, Cell) or cell.host.runtime is not self.runtime:
            raise TypeError(f"{what}(by) needs a task of this process; call it in a task or name one")
        return cell

    def link(self, target: Task, by: Task | None) -> None:
        cell = self._cell_of(by, "link")
        if cell is target._source:
            raise ValueError(f"{target.name} cannot be linked to itself")
        with self.shield, self.runtime.lock:
            word = messages.Link(cell.home, cell.name)
            self.runtime.send(Envelope(self.reach(target), cell.address, word))
            state = target._source
            if isinstance(state, Record) and state.ended:
                self._end_linked(cell, target.name, state.outcome)
            else:
                self.end_with(cell, target.home, target.name)

    def end_with(self, cell: Cell, home: Address, name: str) -> None:
        """Should that task fail, this one ends. Under the lock, perhaps on the relief thread."""

        def hear(answer: Envelope | None) -> None:
            outcome = OutcomeKind.LOST if answer is None else answer.message.outcome
            self._end_linked(cell, name, outcome)

        number = home.actor if home.epoch == self.runtime.epoch else 0
        correlation = self.expect(home.epoch, hear, at_once=True, home=number)
        self.runtime.send(Envelope(home, self.address, messages.Watch(), correlation))

    def _end_linked(self, cell: Cell, name: str, outcome: int) -> None:
        """`outcome` 0: it had ended before, and nobody knows how, which in Erlang is a failure, too."""
        if cell.ended or outcome == OutcomeKind.RETURNED:
            return
        if outcome in (OutcomeKind.RAISED, OutcomeKind.LOST):
            what = "raised an exception" if outcome == OutcomeKind.RAISED else "was lost"
            self.sharing.warn(f"{cell.name} is ended: {name}, which is linked to it, {what}")
        cell.terminate()

    def terminate(self, target: Task) -> None:
        with self.shield, self.runtime.lock:
            state = target._source
            if isinstance(state, Cell):
                state.terminate()
            elif state is not None:
                assert self.records is not None
                self.records.terminate(state)
            else:
                word = messages.TerminateActor(cancelled=bool(target._asked))
                self.runtime.send(Envelope(target.home, self.me(), word))

    def follow(self, target: Task) -> None:
        """Have the handle completed when its task ends, or now if it has."""
        self.caller = contextvars.copy_context()
        source = target._source
        if source is not None:
            source.future = target  # first this, then the look: another thread's turn may end it meanwhile
            if source.ended:
                with self.shield:  # it may be in a step of the user's, who unpickles here
                    self.settle(source)
        elif not target._watched:
            target._watched = True
            home = target.home
            with self.shield:
                number = home.actor if home.epoch == self.runtime.epoch else 0
                correlation = self.expect(home.epoch, lambda answer: self._hear(target, answer), home=number)
                self.runtime.send(Envelope(home, self.address, messages.Watch(), correlation))

    def settle(self, source: LocalTask | Record) -> None:
        """The task has ended: complete the handle that somebody waits with. Its value is unpickled now."""
        target, source.future = source.future, None
        if target is None:
            return
        if not isinstance(source, Record):
            assert source.outcome is not None
            settle(target, source.outcome)
            return
        if self.records is not None:
            self.records.looked_at(source)
        try:
            value = unpack_outcome(
                self.payloads,
                source.outcome,
                source.text,
                source.started,
                source.payload,
                source.function,
                source.location,
            )
        except MissingCode:  # in a server
            self._later(target, partial(self._value_of, source))
        except BaseException as error:  # the user's own __setstate__ or __init__ ran
            settle(target, raised(error))
        else:
            target._complete(value, None)

    def _hear(self, target: Task, answer: Envelope | None) -> None:
        """The end of a task that somebody else asked for; its value may miss code."""
        self._later(target, partial(self._value_from_afar, target, answer))

    def _later(self, target: Task, opening: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        task = asyncio.Task(self._open_end(target, opening), loop=self.loop, context=Context())
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _open_end(self, target: Task, opening: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        try:
            outcome: Outcome = Returned(await opening())
        except (Exception, asyncio.CancelledError) as error:
            outcome = raised(error)
        settle(target, outcome)

    async def _value_of(self, record: Record) -> Any:
        word = record.outcome, record.text, record.payload, record.function, record.location
        return await open_outcome(self.payloads, *word, started=record.started)

    async def _value_from_afar(self, target: Task, answer: Envelope | None) -> Any:
        if answer is None:
            raise TaskLost(f"{target.name}: nobody is left who knows how it ended")
        word = answer.message
        if not word.outcome:
            raise TaskLost(f"{target.name} has ended; its value went to the client that asked for it")
        where = self.location_of(target)
        return await open_outcome(self.payloads, word.outcome, word.text, answer.payload, target.name, where)

    # --- opening messages ---

    async def open_message(self, envelope: Envelope) -> tuple[bool, Any]:
        """(True, the value) or (False, the exception to raise); gets missing code first."""
        if isinstance(envelope.message, messages.Ended):
            return True, await self._monitor_status(envelope)
        return await open_value(self.payloads, envelope)

    async def _monitor_status(self, envelope: Envelope) -> MonitorStatus:
        handle = self._watched.pop(envelope.correlation, None)
        name = handle.name if handle is not None else "a task"
        word = envelope.message
        try:
            value = await open_outcome(self.payloads, word.outcome, word.text, envelope.payload, name)
        except Exception as error:
            kind = KeyboardInterrupt if isinstance(error, TaskTerminated) else type(error)
            return MonitorStatus(handle, kind, str(error))  # type: ignore[arg-type]
        return MonitorStatus(handle, StopIteration, value)  # type: ignore[arg-type]
