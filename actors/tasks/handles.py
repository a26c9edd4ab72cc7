"""What the handle of a task can do from this process: messages, monitors, ends, and where the task is."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import math
from collections.abc import Callable, Coroutine
from contextvars import Context
from itertools import count
from typing import Any, Final
from weakref import WeakValueDictionary

from dispycos.errors import MailboxFull, TaskLost
from dispycos.notices import PATIENCE_S, counted
from dispycos.protocol import messages
from dispycos.protocol.addresses import FIRST_TASK, Address, Location
from dispycos.protocol.envelope import Envelope, Payload
from dispycos.protocol.status import OutcomeKind
from dispycos.runtime import Runtime

from ..shipping.words import MissingCode
from .correspondence import Correspondence
from .current import current_cell, register
from .either_style import must_be_callable
from .ends import Outcome, Raised, Returned, raised
from .record import Record
from .results import Payloads, Pickling, open_value, pack_outcome, trace_of, unpack_outcome, with_code
from .roles import LocalTask
from .running.interrupts import Interrupts
from .submitting import MonitorStatus, Task
from .windows import WAITING_MAX, Amount, Full

log = logging.getLogger("dispycos")

# As those are told whose tasks end by a link; of who was terminated they know.
FAILURES: Final[dict[int, str]] = {
    OutcomeKind.RAISED: "raised an exception",
    OutcomeKind.LOST: "was lost",
    0: "had ended before",
}


class Way:
    """Where messages to somebody else's task go from this process."""

    __slots__ = ("__weakref__", "to")

    def __init__(self, to: Address) -> None:
        self.to = to


class Handles(Correspondence):
    """What handles, and the tasks of this process, ask of their host.

    Parameters
    ----------
    payloads: pickling and code, of a client or of a server.
    interrupts: who may raise KeyboardInterrupt in a running step.
    place: Location of a server; None in a client.
    """

    task_class: type[Task] = (
        Task  # of the handles of this process: pycos' scripts have one of their own (actors/compat/)
    )

    def __init__(
        self, runtime: Runtime, payloads: Payloads, interrupts: Interrupts, place: Location | None = None
    ) -> None:
        super().__init__(runtime, interrupts.shielded)
        self.payloads = payloads
        self.interrupts = interrupts
        self.place = place
        self.sharing: Any = None  # names, channels and the like (actors/sharing/)
        # Adds what helps to what a task raised.
        self.explain: Callable[[BaseException], None] = lambda error: None
        self.cells: dict[int, LocalTask] = {}  # the tasks of this process
        self.refused: list[object] = []  # what tasks that were dropped left, and would not be closed
        self._numbers = count(FIRST_TASK + 1)  # its next() is one step, on whichever thread
        self._watched: dict[int, Task] = {}  # by correlation: monitored handles
        # By home, for as long as handles use it.
        self._ways: WeakValueDictionary[Address, Way] = WeakValueDictionary()
        # Mailboxes of which was said that somebody waits for room there.
        self._said_full: set[Address] = set()
        self._opening: set[asyncio.Task[None]] = set()  # what misses code
        self.caller = contextvars.copy_context()  # of who used this host last: what tasks print is for them
        self.home: Any = None  # in a client: who closes the runtime when nobody uses it any more
        register(self.loop, self)

    def new_handle(self) -> Task:
        """To be bound."""
        return self.task_class.__new__(self.task_class)

    def take_number(self) -> int:
        """A new actor id of this runtime, never used again."""
        return next(self._numbers)

    # --- messages ---

    def tell(self, target: Task, message: Any) -> None:
        self.tell_pickled(target, self.payloads.dumps(message, f"the message to {target.name}"))

    def tell_pickled(self, target: Any, payload: Payload) -> None:
        word = messages.Tell(self.payloads.version())
        try:
            envelope = Envelope(self.reach(target), self.me(), word, 0, payload)
            self.post_message(envelope, target._direct, WAITING_MAX)
        except Full as full:
            raise mailbox_full(target.name, full.waiting) from None

    def tell_after(self, target: Task, seconds: float, message: Any) -> asyncio.TimerHandle:
        if not isinstance(seconds, int | float) or isinstance(seconds, bool):
            raise TypeError(f"seconds must be a number, not {type(seconds).__name__}")
        if not 0 <= seconds < math.inf:
            raise ValueError(f"seconds must be a time to wait, not {seconds}")
        payload = self.payloads.dumps(message, f"the message to {target.name}")
        sender, word = self.me(), messages.Tell(self.payloads.version())

        def post() -> None:
            if self.runtime.is_open:
                envelope = Envelope(self.reach(target), sender, word, 0, payload)
                self.post_message(envelope, target._direct)

        # In no task's context: it is sent whatever becomes of who asked for it.
        return self.loop.call_later(seconds, post, context=Context())

    async def deliver(self, target: Task, message: Any, timeout: float | None) -> int:
        if not target.is_alive():
            return 0
        payload = self.payloads.dumps(message, f"the message to {target.name}")
        return await self.deliver_pickled(target, payload, timeout)

    async def deliver_pickled(self, target: Any, payload: Payload, timeout: float | None) -> int:
        word = messages.Tell(self.payloads.version())
        to = self.reach(target)
        try:
            answer = await self.call(to, word, payload, timeout, self._post_to(target))
        except TimeoutError:
            return 0
        if answer is None or not answer.message.code:
            self._has_gone(to)
            return 0
        return 1

    async def ask(self, target: Task, message: Any, timeout: float | None) -> Any:
        payload = self.payloads.dumps(message, f"the request to {target.name}")
        outcome = await self.open_message(await self.ask_pickled(target, payload, timeout))
        if isinstance(outcome, Raised):
            raise outcome.error
        return outcome.value

    async def ask_pickled(self, target: Any, payload: Payload, timeout: float | None) -> Envelope:
        """The reply as it came."""
        answer = None
        if target.is_alive():
            word = messages.Ask(self.payloads.version())
            to = self.reach(target)
            try:
                answer = await self.call(to, word, payload, timeout, self._post_to(target))
            except TimeoutError:
                raise TimeoutError(f"{target.name} has not answered within {timeout:g} s") from None
            if answer is None or not answer.message.ok:
                self._has_gone(to)
        if answer is None or not answer.message.ok:
            raise TaskLost(f"{target.name} ended without a reply")
        return answer

    def _post_to(self, target: Task) -> Callable[[Envelope], None]:
        def post(envelope: Envelope) -> None:
            self.post_message(envelope, target._direct)
            if self.windows.waits(envelope.to):
                self.loop.call_later(PATIENCE_S, self._say_full, target.name, envelope)

        return post

    def _say_full(self, name: str, envelope: Envelope) -> None:
        """Once for each mailbox, if somebody waits for room there yet."""
        with self.runtime.lock:
            to, waiting = envelope.to, self.windows.waiting(envelope.to).messages
            if to in self._said_full or not self.windows.has(envelope):
                return
            self._said_full.add(to)
        text = "deliver() or ask() waits for room in the mailbox of %s: until that takes some of it %s cannot be sent"
        log.warning(text, name, counted(waiting, "message"))

    def _has_gone(self, mailbox: Address) -> None:
        """Somebody who asked there was told so."""
        with self.shield, self.runtime.lock:
            self.close_window(mailbox)
            self._said_full.discard(mailbox)

    # --- where a task is ---

    def reach(self, target: Task) -> Address:
        """Where a message for it goes now: its own address if known, else its home, which passes it on.

        Of a task that somebody else asked for the first message decides, for all handles of it here: by another way the next
        could be faster. It may run here.
        """
        state = target._source
        if state is None or target.home.epoch != self.runtime.epoch:
            if target._way is None:
                target._way = self._ways.setdefault(target.home, Way(target._direct or target.home))
            to: Address = target._way.to
            return to
        if target._direct is not None:
            return target._direct
        if isinstance(state, Record) and state.address is not None and not state.held:
            return state.address if not self.windows.waits(target.home) else target.home
        return target.home

    def handle(
        self, home: Address, name: str, direct: Address | None, place: Location | None, is_value: bool = False
    ) -> Task:
        """The handle that came in a message."""
        state: LocalTask | Record | None = None
        if direct is not None and direct.epoch == self.runtime.epoch:
            state = self.cells.get(direct.actor)
        elif self.records is not None and home.epoch == self.records.owner:
            state = self.records.record(home.actor)
        if state is not None and state.handle is not None:
            known: Task = state.handle
            return known
        direct = None if state is not None else direct
        return self.new_handle()._bind(self, home, name, state, direct, place, is_value)

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
                    if isinstance(state, Record) and self.records is not None:
                        self.records.looked_at(state)
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

    def _cell_of(self, by: Task | None, what: str) -> LocalTask:
        """Of this process: the running task, or this one."""
        cell = getattr(by, "_source", None) if by is not None else current_cell()
        if cell is None or isinstance(cell, Record) or cell.host.runtime is not self.runtime:
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

    def end_with(self, cell: LocalTask, home: Address, name: str) -> None:
        """Should that task fail, this one ends. Under the lock, perhaps on the relief thread."""

        def hear(answer: Envelope | None) -> None:
            outcome = OutcomeKind.LOST if answer is None else answer.message.outcome
            self._end_linked(cell, name, outcome)

        number = home.actor if home.epoch == self.runtime.epoch else 0
        correlation = self.expect(home.epoch, hear, at_once=True, home=number)
        self.runtime.send(Envelope(home, self.address, messages.Watch(), correlation))

    def _end_linked(self, cell: LocalTask, name: str, outcome: int) -> None:
        """`outcome` 0: it had ended before, and nobody knows how, which in Erlang is a failure, too."""
        if cell.ended or outcome == OutcomeKind.RETURNED:
            return
        if outcome in FAILURES:
            self.sharing.warn(f"{cell.name} is ended: {name}, which is linked to it, {FAILURES[outcome]}")
        cell.terminate()

    def hot_swap(
        self, target: Task, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        must_be_callable(function)
        payload = self.payloads.dumps((function, args, kwargs), f"the function for {target.name}")
        word = messages.HotSwap(self.payloads.version())
        self.post(Envelope(self.reach(target), self.me(), word, 0, payload))

    def terminate(self, target: Task) -> None:
        with self.shield, self.runtime.lock:
            state = target._source
            if state is None:
                word = messages.TerminateActor(cancelled=bool(target._asked))
                self.runtime.send(Envelope(target.home, self.me(), word))
            elif isinstance(state, Record):
                assert self.records is not None
                self.records.terminate(state)
            else:
                state.terminate()

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
                correlation = self.expect(
                    home.epoch, lambda answer: self.hear_end(target, answer), home=number
                )
                self.runtime.send(Envelope(home, self.address, messages.Watch(), correlation))

    def settle(self, source: LocalTask | Record) -> None:
        """The task has ended: complete the handle that somebody waits with."""
        target, source.future = source.future, None
        if target is None:
            return
        if isinstance(source, Record):
            if self.records is not None:
                self.records.looked_at(source)
            self._open_end(target, source)
        else:
            target._complete(source.outcome)

    def hear_end(self, target: Task, answer: Envelope | None) -> None:
        """The end of a task that somebody else asked for."""
        if answer is None:
            end = Record(
                target.name, text=f"{target.name}: nobody is left who knows how it ended", started=True
            )
        else:
            end = _end_in(answer, target.name, target.location)
            if not end.outcome:
                end.text = (
                    f"{target.name} has ended; its value went to who asked for it. Pass on that value, or "
                    f"give the handle as an argument of its own, not in a list"
                )
        self._open_end(target, end)

    def _open_end(self, target: Task, end: Record) -> None:
        """Its value is unpickled now, or in a server when the code is there that it misses."""
        if target._opens_later:
            target._has_ended(end)
            return
        try:
            outcome: Outcome = Returned(unpack_outcome(self.payloads, end))
        except MissingCode:
            self.in_background(self._open_later(target, end))
            return
        except BaseException as error:  # the user's own __setstate__ or __init__ ran
            outcome = raised(error)
        target._complete(outcome)

    def in_background(self, opening: Coroutine[Any, Any, None]) -> None:
        """Run what waits for code, in no task's context."""
        task = asyncio.Task(opening, loop=self.loop, context=Context())
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _open_later(self, target: Task, end: Record) -> None:
        try:
            value = await with_code(self.payloads, lambda: unpack_outcome(self.payloads, end))
        except (Exception, asyncio.CancelledError) as error:
            target._complete(raised(error))
        else:
            target._complete(Returned(value))

    # --- opening messages ---

    async def open_message(self, envelope: Envelope) -> Outcome:
        """What the message is, or what its unpickling raised; gets missing code first."""
        if not isinstance(envelope.message, messages.Ended):
            return await open_value(self.payloads, envelope)
        handle = self._watched.pop(envelope.correlation, None)
        end = _end_in(envelope, handle.name if handle is not None else "a task")
        return Returned(await with_code(self.payloads, lambda: monitor_status(self.payloads, handle, end)))


def mailbox_full(name: str, waiting: Amount) -> MailboxFull:
    waits = f"{counted(waiting.messages, 'message')} ({waiting.size / 2**20:.1f} MiB) wait here for {name} to take them"
    return MailboxFull(f"{waits}, so this one was not sent; `await handle.deliver(message)` waits for room")


def _end_in(envelope: Envelope, name: str, location: Location | None = None) -> Record:
    """How a task of this name has ended, by what is said of it to its watchers."""
    word: messages.Ended = envelope.message
    return Record(
        name,
        location=location,
        started=True,
        outcome=word.outcome,
        text=word.text,
        payload=envelope.payload,
    )


def monitor_status(payloads: Pickling, handle: Any, end: Record) -> MonitorStatus:
    """What a monitor gets. Raises MissingCode."""
    try:
        value = unpack_outcome(payloads, end)
    except MissingCode:
        raise
    except BaseException as error:  # what the user's task raised, of whatever kind
        is_terminated = end.outcome in (OutcomeKind.TERMINATED, OutcomeKind.CANCELLED)
        kind = KeyboardInterrupt if is_terminated else type(error)
        return MonitorStatus(handle, kind, str(error), trace_of(error))
    return MonitorStatus(handle, StopIteration, value)
