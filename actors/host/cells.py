"""Tasks that live in this process, and how they and the client's code reach others: the same in a client and in a server.

A `Cell` is one task here: mailbox, execution, watchers. The `TaskHost` starts cells and carries their messages. Mailboxes
keep bytes; a message is unpickled when its receiver takes it, in the receiver's own step, so that a message whose code is not
there yet waits for its code together with all later ones of that receiver, and nobody else's.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import logging
import weakref
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from dispycos.errors import DispycosError, TaskLost, TaskTerminated
from dispycos.protocol import messages
from dispycos.protocol.addresses import FIRST_TASK, Address
from dispycos.protocol.envelope import Envelope, Payload
from dispycos.runtime import Runtime

from ..shipping.words import MissingCode
from ..task import Location, MonitorStatus, Task
from .execution import Execution, Outcome, Raised
from .interrupts import Interrupts
from .results import pack_outcome, unpack_outcome
from .subtasks import Subtasks, adopt

if TYPE_CHECKING:
    from ..ledger import Record

log = logging.getLogger("dispycos")

HOST_ACTOR = 5  # replies to calls made outside of any task come here

_current: contextvars.ContextVar[Cell | None] = contextvars.ContextVar("dispycos_task", default=None)
_hosts: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, TaskHost] = weakref.WeakKeyDictionary()


class Parcels(Protocol):
    """How values become bytes and back, and where code comes from; clients and servers differ in it."""

    def dumps(self, value: Any, what: str) -> Payload: ...
    def loads(self, payload: Payload) -> Any:
        """Raises MissingCode when `fetch` has to come first."""

    def version(self) -> int:
        """main_version to be said with what is sent."""

    def is_behind(self, version: int) -> bool: ...
    async def catch_up(self, version: int) -> None: ...
    async def fetch(self, missing: MissingCode) -> None: ...


class Records(Protocol):
    """The tasks that a client asked for (its ledger), for their handles."""

    def record(self, number: int) -> Record | None: ...
    def terminate(self, record: Record) -> None: ...
    def looked_at(self, record: Record) -> None: ...
    def pass_on(self, record: Record, envelope: Envelope) -> None: ...


class Call(NamedTuple):
    """Something that was asked and waits for its answer; None is the answer of a runtime that is gone."""

    epoch: int
    then: Callable[[Envelope | None], None]
    at_once: bool  # under the lock, perhaps on the relief thread; else on the loop
    home: int  # it went to the home of this task of ours, which passes it on; or 0


class Cell:
    """One task in this process."""

    __slots__ = (
        "__weakref__",
        "address",
        "asked",
        "ended",
        "execution",
        "future",
        "handle",
        "host",
        "inbox",
        "name",
        "on_end",
        "outcome",
        "run",
        "stopping",
        "subtasks",
        "waiter",
        "watchers",
    )

    def __init__(self, host: TaskHost, address: Address, name: str) -> None:
        self.host = host
        self.address = address
        self.name = name
        self.handle: Task | None = None
        self.inbox: deque[Envelope] = deque()
        self.waiter: asyncio.Future[bool] | None = None
        self.execution: Execution | None = None
        self.asked: Envelope | None = None  # the request taken last, not answered yet
        self.watchers: dict[Address, int] = {}  # who is told of the end, with the correlation that they know
        self.outcome: Outcome | None = None
        self.future: asyncio.Future[Any] | None = None
        self.on_end: Callable[[Cell, Outcome], None] | None = None
        self.run: Any = None  # in a server: the Run that it came by
        self.subtasks: Subtasks | None = None  # made with the first of them
        self.stopping = False  # terminate() was called
        self.ended = False

    def runs_here(self) -> bool:
        return _current.get() is self

    # --- told by the runtime, under the lock, perhaps by the relief thread: no user code, no future here ---

    def on_envelope(self, envelope: Envelope, now: float) -> None:
        message = envelope.message
        if isinstance(message, messages.Tell):
            self.inbox.append(envelope)
            if envelope.correlation:
                self.host.answer(envelope, messages.Delivered(1))
            if self.waiter is not None:
                self.host.runtime.defer(self.wake)
        elif isinstance(message, messages.Ended) and self.host.expects(envelope.correlation):
            self.host.on_reply(envelope)  # `await handle` watches; monitor() wants a message
        elif isinstance(message, messages.Ask | messages.Ended):
            self.inbox.append(envelope)
            if self.waiter is not None:
                self.host.runtime.defer(self.wake)
        elif isinstance(message, messages.Watch):
            if message.end:
                self.watchers.pop(envelope.sender, None)
            else:
                self.watchers[envelope.sender] = envelope.correlation
        elif isinstance(message, messages.TerminateActor):
            self.terminate()
        else:
            self.host.on_reply(envelope)

    def wake(self) -> None:
        waiter = self.waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(True)

    # --- called by the task itself ---

    async def receive(self, timeout: float | None, alarm_value: Any) -> Any:
        host = self.host
        deadline = None if timeout is None else host.loop.time() + timeout
        while True:
            if self.inbox:
                envelope = self.inbox[0]
                ready, value = await host.open_message(envelope)
                with host.shield:
                    if self.inbox and self.inbox[0] is envelope:
                        self.inbox.popleft()
                    if isinstance(envelope.message, messages.Ask):
                        self.asked = envelope
                    else:
                        self.asked = None
                if not ready:
                    raise value
                return value
            if not await self._wait(deadline):
                return alarm_value

    async def _wait(self, deadline: float | None) -> bool:
        """Until a message is there; False at the deadline."""
        loop = self.host.loop
        timer = None
        with self.host.shield:
            waiter: asyncio.Future[bool] = loop.create_future()
            self.waiter = waiter
            if self.inbox:  # looked at last: the relief thread appends first and then looks for a waiter
                self.waiter = None
                return True
            if deadline is not None:
                timer = loop.call_at(deadline, _give_up, waiter)
        try:
            return await waiter
        finally:
            self.waiter = None
            if timer is not None:
                timer.cancel()

    def adopt(self) -> Subtasks:
        """The asyncio Tasks that it makes."""
        if self.subtasks is not None:
            return self.subtasks
        subtasks = Subtasks(self, self.name, self.host.loop, self.host.interrupts, self.execution)
        if not self.ended:  # else they are late, and nobody waits for them
            self.subtasks = subtasks
        return subtasks

    def reply(self, value: Any) -> None:
        request = self.asked
        if request is None:
            raise RuntimeError(
                "nothing to reply to: the last message was not sent by ask(), or was answered already"
            )
        payload = self.host.parcels.dumps(value, f"the reply of {self.name}")
        with self.host.shield:
            self.asked = None
            self.host.answer(request, messages.Reply(code=self.host.parcels.version()), payload)

    # --- end ---

    def terminate(self) -> None:
        """KeyboardInterrupt at its next chance; from any thread."""
        self.stopping = True
        if self.execution is not None and not self.execution.is_done:
            self.execution.interrupt()
        else:  # its call is being unpickled, or its outcome pickled
            self.host.interrupts.request(self)

    def finished(self, outcome: Outcome) -> None:
        """Told by the execution, once, on the loop. The task has ended when its asyncio Tasks have, too."""
        if self.subtasks is None or not self.subtasks.end(lambda: self._finish(outcome)):
            self._finish(outcome)

    def _finish(self, outcome: Outcome) -> None:
        self.outcome = outcome
        self.ended = True
        self.host.on_cell_end(self, outcome)
        self.execution = self.handle = self.on_end = self.run = self.subtasks = (
            None  # they point here: no work for the garbage collector
        )


def _give_up(waiter: asyncio.Future[bool]) -> None:
    if not waiter.done():
        waiter.set_result(False)


class TaskHost:
    """The tasks of one runtime.

    Parameters
    ----------
    parcels: pickling and code, of a client or of a server.
    interrupts: who may raise KeyboardInterrupt in a running step.
    place: Location of a server; None in a client.
    """

    def __init__(
        self, runtime: Runtime, parcels: Parcels, interrupts: Interrupts, place: Location | None = None
    ) -> None:
        self.runtime = runtime
        self.loop = runtime.loop
        self.parcels = parcels
        self.interrupts = interrupts
        self.shield: AbstractContextManager[object] = interrupts.shielded
        self.place = place
        self.records: Records | None = None
        self.home: Any = None  # in a client: who closes the runtime when nobody uses it any more
        self.cells: dict[int, Cell] = {}
        self._numbers = FIRST_TASK
        self._correlations = 0
        self._calls: dict[int, Call] = {}  # by correlation
        self._watched: dict[int, Task] = {}  # by correlation: monitored handles
        self.address = runtime.attach_inbox(HOST_ACTOR, lambda envelope, now: self.on_reply(envelope))
        runtime.fallback = self.forward
        _hosts[self.loop] = self

    # --- finding the host ---

    @staticmethod
    def of_running_loop() -> TaskHost:
        """The host that `Task(...)` uses. A loop without one gets one for local tasks and messages between them."""
        loop = asyncio.get_running_loop()
        host = _hosts.get(loop)
        if host is None:
            raise RuntimeError(
                "no dispycos runtime on this event loop: start it with dispycos.run(main) or `async with Client(...)`"
            )
        return host

    @staticmethod
    def find(loop: asyncio.AbstractEventLoop) -> TaskHost | None:
        return _hosts.get(loop)

    @staticmethod
    def loading() -> TaskHost:
        """The host that unpickles now."""
        host = _loading.get()
        return host if host is not None else TaskHost.of_running_loop()

    # --- starting tasks ---

    def adopt_subtasks(self) -> None:
        """asyncio Tasks that tasks make from now on are theirs: for a loop on which nobody else makes any."""

        def find(context: contextvars.Context | None) -> Subtasks | None:
            cell = _current.get() if context is None else context.get(_current)
            return None if cell is None else cell.adopt()

        adopt(self.loop, find)

    def take_number(self) -> int:
        """A new actor id of this runtime, never used again."""
        self._numbers += 1
        return self._numbers

    def start(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        handle: Task | None = None,
        home: Address | None = None,
        on_end: Callable[[Cell, Outcome], None] | None = None,
    ) -> Cell:
        """Start a task here; its first step comes when the caller's is over."""
        if not callable(function):
            raise TypeError(f"a task needs a function, not {type(function).__name__}")
        cell = self.prepare(name_of(function), handle=handle, home=home, on_end=on_end)
        self.loop.call_soon(self.begin, cell, function, args, kwargs)
        return cell

    def prepare(
        self,
        name: str,
        *,
        handle: Task | None = None,
        home: Address | None = None,
        on_end: Callable[[Cell, Outcome], None] | None = None,
    ) -> Cell:
        """Give a task its address and mailbox, before its function is there."""
        with self.shield, self.runtime.lock:
            address = self.runtime.address(self.take_number())
            cell = Cell(self, address, name)
            cell.on_end = on_end
            bound = Task.__new__(Task) if handle is None else handle
            cell.handle = bound._bind(self, home or address, name, cell, direct=address, place=self.place)
            self.cells[address.actor] = cell
            self.runtime.attach_inbox(address.actor, cell.on_envelope)
        return cell

    def begin(
        self, cell: Cell, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        """Take the first step now; not to be called inside a step."""
        if cell.stopping:
            cell.finished(Raised(KeyboardInterrupt()))
            return
        if takes_task(function):
            kwargs = {**kwargs, "task": cell.handle}
        context = contextvars.copy_context()
        context.run(_current.set, cell)
        cell.execution = Execution(
            function,
            args,
            kwargs,
            loop=self.loop,
            interrupts=self.interrupts,
            context=context,
            owner=cell,
            on_done=cell.finished,
        )
        cell.execution.start()

    def on_cell_end(self, cell: Cell, outcome: Outcome) -> None:
        """Tell who wants to know, and let the task go."""
        if cell.on_end is not None:
            cell.on_end(cell, outcome)
        with self.runtime.lock:
            self.cells.pop(cell.address.actor, None)
            self.runtime.detach(cell.address.actor)
            watchers, cell.watchers = cell.watchers, {}
            unanswered = [entry for entry in cell.inbox if isinstance(entry.message, messages.Ask)]
            if cell.asked is not None:
                unanswered.append(cell.asked)
            cell.inbox.clear()
            cell.asked = None
        for request in unanswered:
            self.answer(request, messages.Reply(ok=False))
        if watchers:
            kind, payload = pack_outcome(self.parcels, outcome, cell.name, cell.stopping)
            for watcher, correlation in watchers.items():
                self.post(Envelope(watcher, cell.address, messages.Ended(kind), correlation, payload))
        if cell.future is not None and not cell.future.done():
            settle(cell.future, outcome)

    # --- sending ---

    def post(self, envelope: Envelope) -> None:
        with self.shield:
            self.runtime.send(envelope)

    def me(self) -> Address:
        """Whose message it is: the running task's, or this process's."""
        cell = _current.get()
        return cell.address if cell is not None and cell.host is self else self.address

    def tell(self, target: Task, message: Any) -> None:
        payload = self.parcels.dumps(message, f"the message to {target.name}")
        self.post(Envelope(self.reach(target), self.me(), messages.Tell(self.parcels.version()), 0, payload))

    async def deliver(self, target: Task, message: Any, timeout: float | None) -> int:
        if not target.is_alive():
            return 0
        payload = self.parcels.dumps(message, f"the message to {target.name}")
        word = messages.Tell(self.parcels.version())
        try:
            answer = await self.call(self.reach(target), word, payload, timeout)
        except TimeoutError:
            return 0
        return int(answer.message.code) if answer is not None else 0

    async def ask(self, target: Task, message: Any, timeout: float | None) -> Any:
        if not target.is_alive():
            raise TaskLost(f"{target.name} ended without a reply")
        payload = self.parcels.dumps(message, f"the request to {target.name}")
        answer = await self.call(self.reach(target), messages.Ask(self.parcels.version()), payload, timeout)
        if answer is None or not answer.message.ok:
            raise TaskLost(f"{target.name} ended without a reply")
        ready, value = await self.open_message(answer)
        if not ready:
            raise value
        return value

    async def call(self, to: Address, word: Any, payload: Payload, timeout: float | None) -> Envelope | None:
        """Send something that is answered by its correlation; None when the other end is gone."""
        future: asyncio.Future[Envelope | None] = self.loop.create_future()
        with self.shield:
            home = to.actor if to.epoch == self.runtime.epoch else 0
            correlation = self.expect(to.epoch, lambda answer: _complete(future, answer), home=home)
            self.runtime.send(Envelope(to, self.me(), word, correlation, payload))
        try:
            async with asyncio.timeout(timeout):
                return await future
        finally:
            self._calls.pop(correlation, None)

    def expect(
        self, epoch: int, then: Callable[[Envelope | None], None], *, at_once: bool = False, home: int = 0
    ) -> int:
        """A new correlation; `then` gets the answer, or None when nobody is left who could give it."""
        self._correlations += 1
        self._calls[self._correlations] = Call(epoch, then, at_once, home)
        return self._correlations

    def expects(self, correlation: int) -> bool:
        return correlation in self._calls

    def answer(self, request: Envelope, word: messages.Message, payload: Payload = None) -> None:
        self.post(Envelope(request.sender, request.to, word, request.correlation, payload))

    def on_reply(self, envelope: Envelope) -> None:
        """Delivered, Reply, CodeGiven ...: under the lock, perhaps on the relief thread. A late one finds nobody."""
        call = self._calls.pop(envelope.correlation, None)
        if call is not None:
            self._give(call, envelope)

    def _give(self, call: Call, answer: Envelope | None) -> None:
        if call.at_once:
            call.then(answer)
        else:
            self.runtime.defer(lambda: call.then(answer))

    def peer_gone(self, epoch: int, unconfirmed: Iterable[Envelope]) -> None:
        """That process is dead: whoever waits for an answer from it waits no more, and what it had not confirmed is told."""
        unconfirmed = list(unconfirmed)
        for entry in unconfirmed:
            if entry.correlation in self._calls and entry.sender.epoch == self.runtime.epoch:
                self._give(self._calls.pop(entry.correlation), None)
        lost = sum(
            isinstance(entry.message, messages.Tell) and not entry.correlation for entry in unconfirmed
        )
        if lost:
            log.warning("%d messages to tasks of a server that died were not confirmed by it", lost)
        for correlation in [number for number, call in self._calls.items() if call.epoch == epoch]:
            self._give(self._calls.pop(correlation), None)

    def record_lost(self, number: int) -> None:
        """That task of ours is gone with its server: what went to its home will not be answered."""
        for correlation in [known for known, call in self._calls.items() if call.home == number]:
            self._give(self._calls.pop(correlation), None)

    # --- where a task is ---

    def reach(self, target: Task) -> Address:
        """Where a message for it goes now: its own address if known, else its home, which passes it on."""
        if target._direct is not None:
            return target._direct
        state = target._state
        if state is not None and not isinstance(state, Cell) and state.address is not None and not state.held:
            return state.address
        return target.home

    def direct_address(self, target: Task) -> Address | None:
        state = target._state
        if state is not None and not isinstance(state, Cell):
            return state.address
        return target._direct

    def location_of(self, target: Task) -> Location | None:
        state = target._state
        if state is not None and not isinstance(state, Cell):
            return state.location
        return target._place

    def handle(self, home: Address, name: str, direct: Address | None, place: Location | None) -> Task:
        """The handle that came in a message."""
        state: Cell | Record | None = None
        if direct is not None and direct.epoch == self.runtime.epoch:
            state = self.cells.get(direct.actor)
        elif home.epoch == self.runtime.epoch and self.records is not None:
            state = self.records.record(home.actor)
        if state is not None and state.handle is not None:
            return state.handle
        return Task._make(self, home, name, state, direct=None if state is not None else direct, place=place)

    def forward(self, envelope: Envelope) -> bool:
        """A message for the home of a task that we asked for: pass it on, or keep it until the task has started."""
        record = self.records.record(envelope.to.actor) if self.records is not None else None
        if record is None or record.ended:
            return False
        assert self.records is not None
        if isinstance(envelope.message, messages.TerminateActor):
            self.records.terminate(record)
            return True
        if isinstance(envelope.message, messages.Watch):
            record.watch(envelope.sender, envelope.correlation)
            return True
        if envelope.correlation and envelope.sender.epoch != self.runtime.epoch:
            asker = envelope

            def pass_back(answer: Envelope | None) -> None:
                if answer is not None:
                    self.answer(asker, answer.message, answer.payload)
                elif isinstance(asker.message, messages.Ask):
                    self.answer(asker, messages.Reply(ok=False))
                else:
                    self.answer(asker, messages.Delivered(0))

            correlation = self.expect(0, pass_back, home=envelope.to.actor)
            envelope = Envelope(envelope.to, self.address, envelope.message, correlation, envelope.payload)
        self.records.pass_on(record, envelope)
        return True

    # --- monitors and ends ---

    async def monitor(self, target: Task, by: Task | None) -> None:
        cell = by._state if by is not None else _current.get()
        if not isinstance(cell, Cell) or cell.host is not self:
            raise TypeError("monitor(by) needs a task of this process; call it in a task or name one")
        state = target._state
        with self.shield:
            self._correlations += 1
            correlation = self._correlations
            self._watched[correlation] = target
            with self.runtime.lock:
                if state is None:
                    self.runtime.send(Envelope(target.home, cell.address, messages.Watch(), correlation))
                elif state.ended:
                    word, payload = self._ended(state)
                    self.runtime.send(Envelope(cell.address, target.home, word, correlation, payload))
                elif isinstance(state, Cell):
                    state.watchers[cell.address] = correlation
                else:
                    state.watch(cell.address, correlation)

    def _ended(self, state: Cell | Record) -> tuple[messages.Ended, Payload]:
        """What a watcher is told of a task that has ended."""
        if not isinstance(state, Cell):
            return messages.Ended(state.outcome, state.text), state.payload
        assert state.outcome is not None
        kind, payload = pack_outcome(self.parcels, state.outcome, state.name, state.stopping)
        return messages.Ended(kind), payload

    def terminate(self, target: Task) -> None:
        with self.shield:
            state = target._state
            if isinstance(state, Cell):
                state.terminate()
            elif state is not None:
                assert self.records is not None
                self.records.terminate(state)
            else:
                self.runtime.send(Envelope(target.home, self.me(), messages.TerminateActor()))

    def future_of(self, target: Task) -> asyncio.Future[Any]:
        """The future behind a handle, made when first wanted."""
        state = target._state
        if state is None:
            if target._afar is None:
                # Made by its class and not by the loop: it is no subtask of the task that asks first.
                target._afar = asyncio.Task(self._value_from_afar(target), loop=self.loop)
                target._afar.add_done_callback(_look_at)
            return target._afar
        if state.future is None:
            state.future = self.loop.create_future()
            if state.ended:
                if isinstance(state, Cell):
                    assert state.outcome is not None
                    settle(state.future, state.outcome)
                else:
                    self.settle_record(state)
        return state.future

    async def value_of(self, target: Task) -> Any:
        """What `await handle` does; when the waiting is cancelled the task is, as with asyncio's own."""
        future = self.future_of(target)
        try:
            return await future
        except asyncio.CancelledError:
            if future.cancelled():
                target.cancel()
            raise

    async def _value_from_afar(self, target: Task) -> Any:
        """The value of a task that somebody else asked for: watch it."""
        answer = await self.call(target.home, messages.Watch(), None, None)
        if answer is None or not answer.message.outcome:
            raise TaskLost(f"{target.name} has ended; its value went to the client that asked for it")
        return await self.open_outcome(
            answer.message.outcome, answer.message.text, answer.payload, target.name
        )

    def settle_record(self, record: Record) -> None:
        """Complete the future of a task that we asked for: its value is unpickled now."""
        future = record.future
        assert future is not None
        if future.done():
            return
        if self.records is not None:
            self.records.looked_at(record)
        try:
            value = self._loads_outcome(
                record.outcome, record.text, record.started, record.payload, record.function
            )
        except (
            BaseException
        ) as error:  # the user's own __setstate__ or __init__ ran; KeyboardInterrupt may be the outcome
            future.set_exception(error if isinstance(error, Exception) else DispycosError(repr(error)))
            future.exception()
        else:
            future.set_result(value)

    def _loads_outcome(self, kind: int, text: str, started: bool, payload: Payload, name: str) -> Any:
        return unpack_outcome(self.parcels, kind, text, started, payload, name)

    async def open_outcome(self, kind: int, text: str, payload: Payload, name: str) -> Any:
        while True:
            try:
                return self._loads_outcome(kind, text, True, payload, name)
            except MissingCode as missing:
                await self.parcels.fetch(missing)

    # --- opening messages ---

    async def open_message(self, envelope: Envelope) -> tuple[bool, Any]:
        """(True, the value) or (False, the exception to raise); gets missing code first."""
        message = envelope.message
        if isinstance(message, messages.Ended):
            return True, await self._monitor_status(envelope)
        parcels = self.parcels
        if parcels.is_behind(message.code):
            await parcels.catch_up(message.code)
        while True:
            try:
                with _Loading(self):
                    return True, parcels.loads(envelope.payload)
            except MissingCode as missing:
                await parcels.fetch(missing)
            except Exception as error:  # the user's own __setstate__ or __init__ may raise anything
                return False, error

    async def _monitor_status(self, envelope: Envelope) -> MonitorStatus:
        handle = self._watched.pop(envelope.correlation, None)
        name = handle.name if handle is not None else "a task"
        word = envelope.message
        try:
            value = await self.open_outcome(word.outcome, word.text, envelope.payload, name)
        except Exception as error:
            kind = KeyboardInterrupt if isinstance(error, TaskTerminated) else type(error)
            return MonitorStatus(handle, kind, str(error))  # type: ignore[arg-type]
        return MonitorStatus(handle, StopIteration, value)  # type: ignore[arg-type]

    # --- closing ---

    def close(self) -> None:
        """Interrupt what still runs; nobody finds this host any more."""
        for cell in list(self.cells.values()):
            cell.terminate()
        _hosts.pop(self.loop, None)


_loading: contextvars.ContextVar[TaskHost | None] = contextvars.ContextVar("dispycos_loading", default=None)


class _Loading:
    """While handles are unpickled: which host they belong to."""

    __slots__ = ("_host", "_token")

    def __init__(self, host: TaskHost) -> None:
        self._host = host

    def __enter__(self) -> None:
        self._token = _loading.set(self._host)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _loading.reset(self._token)


def loading(host: TaskHost) -> AbstractContextManager[None]:
    """`with loading(host):` around unpickling, so that handles in it belong to this host."""
    return _Loading(host)


def current_cell() -> Cell | None:
    """The task whose step runs now, if any."""
    return _current.get()


def settle(future: asyncio.Future[Any], outcome: Outcome) -> None:
    """Complete a local task's future. A KeyboardInterrupt becomes TaskTerminated: as itself it would end the loop."""
    if isinstance(outcome, Raised):
        error = outcome.error
        if isinstance(error, KeyboardInterrupt):
            error = TaskTerminated("the task was terminated")
        elif isinstance(error, StopIteration | asyncio.CancelledError) or not isinstance(error, Exception):
            error = DispycosError(f"{type(error).__name__}: {error}")
        future.set_exception(error)
        future.exception()
    else:
        future.set_result(outcome.value)


def _complete(future: asyncio.Future[Envelope | None], answer: Envelope | None) -> None:
    if not future.done():
        future.set_result(answer)


def name_of(function: Callable[..., Any]) -> str:
    return getattr(function, "__name__", None) or type(function).__name__


def takes_task(function: Callable[..., Any]) -> bool:
    """Whether the function names a parameter `task`, and so wants to be passed its task."""
    code = getattr(function, "__code__", None)
    if code is not None:
        return "task" in code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    try:
        return "task" in inspect.signature(function).parameters
    except (TypeError, ValueError):  # a builtin without a signature
        return False


def _look_at(future: asyncio.Future[Any]) -> None:
    """An exception that nobody awaits is no news."""
    if not future.cancelled():
        future.exception()
