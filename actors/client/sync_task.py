"""A handle of the sync style: a Task whose methods wait in the caller's thread, where values are unpickled, too.

The loop's thread only tells that a task has ended. Large values so cost their caller, not everybody, and a `__setstate__` that
hangs does not stop messages and the other tasks.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError
from contextvars import Context
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, ParamSpec, Self, TypeVar

from dispycos.errors import RemoteError
from dispycos.protocol.status import ENDED, OutcomeKind
from dispycos.values import wait_time

from ..shipping.words import MissingCode
from ..tasks.current import open_for, running_loop
from ..tasks.ends import Outcome, Raised, Returned, plain
from ..tasks.handle import Handle
from ..tasks.record import Record
from ..tasks.results import unpack_outcome
from ..tasks.submitting import Task
from ..tasks.task_future import T, bearable, is_cancellation, state_of
from .loop_thread import thread_of, wait_until

P = ParamSpec("P")
V = TypeVar("V")

SYNC = "this handle is of the sync style (`with dispycos.Client()`)"


def _refused(method: str, instead: str) -> Callable[..., NoReturn]:
    def refuse(self: Any, *args: Any, **kwargs: Any) -> NoReturn:
        raise RuntimeError(
            f"{method}() is not for handles of the sync style (`with dispycos.Client()`): {instead}"
        )

    refuse.__name__, refuse.__doc__ = method, f"Not for the sync style: {instead}."
    return plain(refuse)


class SyncTask(Task[T]):
    """A task as plain code holds it: ``client.submit(f, x)`` of ``with dispycos.Client() as client`` gives one.

    ``result()`` waits for its value, ``send()``, ``ask()`` and ``deliver()`` speak with it, ``cancel()`` and ``terminate()`` end
    it.
    It may be used in any thread in which no event loop runs. It is a Task to everybody else: sent in arguments and messages it
    arrives as one, and is equal to it. An interrupt (Ctrl-C) of a method that waits ends what was waited for, thus with
    result() the task.
    """

    __slots__ = ("_end", "_opened", "_trace", "_waiting")

    _opens_later = True

    def _bind(self, *args: Any, **kwargs: Any) -> Self:
        super()._bind(*args, **kwargs)
        self._end: Record | Outcome | None = None
        self._opened: Outcome | None = None
        self._trace: TracebackType | None = None  # of an error that was raised in this process
        self._waiting: list[Callable[[], object]] = []  # on the loop's thread
        return self

    # --- its end ---

    @plain
    def result(self, timeout: float | None = None) -> T:
        """The task's value; waits for it, at most `timeout` seconds.

        Raises
        ------
        TimeoutError: not within `timeout`; the task goes on. concurrent.futures.CancelledError: cancel() ended it.
        TaskTerminated, TaskLost, TaskRefused, RemoteError, and what the task raised.
        """
        outcome = self._outcome(timeout, "result()")
        if isinstance(outcome, Raised):
            raise outcome.error.with_traceback(self._trace)
        value: T = outcome.value
        return value

    @plain
    def exception(self, timeout: float | None = None) -> BaseException | None:
        """What the task raised, or None; waits as result(), and raises TimeoutError and CancelledError as that does."""
        outcome = self._outcome(timeout, "exception()")
        if isinstance(outcome, Returned):
            return None
        if isinstance(outcome.error, CancelledError):
            raise outcome.error.with_traceback(None)
        return outcome.error

    def done(self) -> bool:
        """Whether it has ended; of somebody else's task the first question asks for its end."""
        if self._source is not None:
            return self._source.ended
        if self._end is None:
            thread_of(self._host.loop).call_soon(self._follow)
        return self._end is not None

    def is_alive(self) -> bool:
        """False when it is known here that it has ended."""
        return self._end is None if self._source is None else not self._source.ended

    def cancelled(self) -> bool:
        """Whether cancel() ended it."""
        return self.done() and isinstance(getattr(self._open(), "error", None), CancelledError)

    def terminate(self) -> int:
        """End the task: it gets KeyboardInterrupt, and is killed about 5 s later. Returns 0 at once."""
        thread_of(self._host.loop).call_soon(partial(self._host.terminate, self))
        return 0

    @plain
    def add_done_callback(self, fn: Callable[[Self], object], /, *, context: Context | None = None) -> None:
        """Have `fn(handle)` called when the task has ended: in dispycos's own thread, which serves everybody. It must not wait."""
        if not callable(fn):
            raise TypeError(f"a callback is a function, called with the handle, not {type(fn).__name__}")
        if getattr(fn, "__module__", "") == "asyncio.tasks":
            self._must_be_of_this_loop()
        call = partial(fn, self) if context is None else partial(context.run, fn, self)
        self._when_ended(call)

    @plain
    def remove_done_callback(self, fn: Callable[[Self], object], /) -> int:
        """Have `fn` not called when the task has ended; returns how often it would have been."""

        def remove() -> int:
            before = len(self._waiting)
            self._waiting = [
                call
                for call in self._waiting
                if not (isinstance(call, partial) and fn in (call.func, *call.args[:1]))
            ]
            return before - len(self._waiting)

        if running_loop() is self._host.loop:  # asyncio's own functions do it, for handles that are arguments
            return remove()
        return self._do(remove, "remove_done_callback()")

    @plain
    def finish(self, timeout: float | None = None) -> T:  # type: ignore[override]
        """The same as result(): waits for the task's value, at most `timeout` seconds."""
        return self.result(timeout)

    # --- messages ---

    @plain
    def send(self, message: Any) -> int:
        """Send a message; it arrives once and in order while both processes live. Returns 0 when it is on its way.

        Raises
        ------
        NotPicklable: naming what in the message cannot be pickled. MailboxFull: 16 MiB wait here for room in its mailbox.
        """
        payload = self._host.payloads.dumps(message, f"the message to {self.name}")
        self._do(partial(self._host.tell_pickled, self, payload), "send()")
        return 0

    @plain
    def deliver(self, message: Any, timeout: float | None = None) -> int:  # type: ignore[override]
        """Send, and wait until it is in the task's mailbox: 1; 0 if the task has ended or at the timeout (in seconds)."""
        if not self.is_alive():
            return 0
        payload = self._host.payloads.dumps(message, f"the message to {self.name}")
        return self._call(self._host.deliver_pickled(self, payload, timeout), "deliver()")

    @plain
    def ask(self, message: Any, timeout: float | None = None) -> Any:
        """Send a request and wait for the task's reply.

        Raises
        ------
        TimeoutError: no reply within `timeout` seconds; a late one is dropped. TaskLost: the task has ended without a reply.
        """
        payload = self._host.payloads.dumps(message, f"the request to {self.name}")
        reply = self._call(self._host.ask_pickled(self, payload, timeout), "ask()")
        return open_in_thread(self._host, lambda: self._host.payloads.loads(reply.payload))

    @plain
    def monitor(self, by: Handle[Any] | None = None) -> int:  # type: ignore[override]
        """Have a MonitorStatus sent to `by`, the program's mailbox (``client.me``), when this task ends. Returns 0."""
        if by is None:
            raise TypeError(
                f"{self.name}.monitor() needs to know who is told: monitor(client.me), and client.receive()"
            )
        self._call(self._host.monitor(self, by), "monitor()")
        return 0

    @plain
    def hot_swap(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> int:
        """Have the function replaced that runs as this task; the task keeps its messages. Returns 0 at once.

        As soon as the task has called its hot_swappable(), HotSwapException is raised where it is suspended. If that leaves its
        function, `function` is called with the arguments, and its value becomes the task's.

        Raises
        ------
        TypeError: there is nothing to call. NotPicklable: naming what in the arguments cannot be pickled.
        """
        return self._do(partial(super().hot_swap, function, *args, **kwargs), "hot_swap()")

    @plain
    def register(self, name: str | None = None) -> int:
        """Of ``client.me``: give it a name, its own or another, by which tasks find it (``Task.locate``). Returns 0.

        Raises
        ------
        NameTaken: another task of this process has it. TypeError: it is no task of this process. ValueError: no name.
        """
        return self._do(partial(super().register, name), "register()")

    @plain
    def unregister(self, name: str | None = None) -> int:
        """Of ``client.me``: take this name away, or all names that it has. Returns 0, also if it had none."""
        return self._do(partial(super().unregister, name), "unregister()")

    # --- what is not for plain code ---

    @plain
    def get_loop(self) -> asyncio.AbstractEventLoop:
        """Not for the sync style: asyncio's own functions (gather, wait_for ...) ask for it, and are told what to write."""
        self._must_be_of_this_loop()
        return super().get_loop()

    def _must_be_of_this_loop(self) -> None:
        """Theirs would wait for ever: nobody wakes another loop."""
        if running_loop() not in (None, self._host.loop):
            raise RuntimeError(
                f"{SYNC}, which asyncio's functions do not wait for: `await asyncio.to_thread(handle.result)`, or use "
                f"`async with dispycos.Client()`"
            )

    if TYPE_CHECKING:  # for whom None is nothing to be called
        __await__: ClassVar[None]  # type: ignore[assignment]
        __iter__: ClassVar[None]  # type: ignore[assignment]
        receive: ClassVar[None]  # type: ignore[assignment]
        recv: None  # type: ignore[assignment]
        reply: ClassVar[None]  # type: ignore[assignment]
        sleep: ClassVar[None]  # type: ignore[assignment]
        mailbox: ClassVar[None]  # type: ignore[assignment]
        hot_swappable: ClassVar[None]  # type: ignore[assignment]
        send_file: ClassVar[None]  # type: ignore[assignment]
        del_file: ClassVar[None]  # type: ignore[assignment]
        send_after: ClassVar[None]  # type: ignore[assignment]
        link: ClassVar[None]  # type: ignore[assignment]
        locate: ClassVar[None]  # type: ignore[assignment]
    else:
        receive = _refused("receive", "messages for this program come to client.me: client.receive()")
        recv = _refused("recv", "messages for this program come to client.me: client.receive()")
        reply = _refused("reply", "client.reply() answers what client.receive() gave")
        sleep = _refused("sleep", "use time.sleep()")
        mailbox = _refused("mailbox", "a task asks for its own")
        hot_swappable = _refused("hot_swappable", "a task says so of itself")
        send_file = _refused("send_file", "use client.send_file()")
        del_file = _refused("del_file", "use client.del_file()")
        send_after = _refused("send_after", "use threading.Timer(seconds, handle.send, [message])")
        link = _refused("link", "have one of the two tasks link the other; or use monitor(client.me)")
        locate = classmethod(
            _refused(
                "locate", "have a task locate it, and return the handle in a list, or send it to client.me"
            )
        )

        @plain
        def __await__(self) -> NoReturn:
            raise RuntimeError(
                f"{SYNC}: call result(); `await` is for those of `async with dispycos.Client()`"
            )

        __iter__ = __await__

    # --- inside ---

    def _call(self, coroutine: Coroutine[Any, Any, V], what: str) -> V:
        return thread_of(self._host.loop).call(coroutine, f"{self.name}.{what}")

    def _do(self, function: Callable[[], V], what: str) -> V:
        return thread_of(self._host.loop).do(function, f"{self.name}.{what}")

    def _outcome(self, timeout: float | None, what: str) -> Outcome:
        if self._source is not None and not isinstance(self._source, Record) and not self._source.ended:
            raise RuntimeError(
                f"client.me is this program's mailbox, and {what} would wait for ever: client.receive() gives what came to it"
            )
        timeout = wait_time(timeout, f"{what}: timeout")
        if not self.done():
            self._wait(timeout, what)
        return self._open()

    def _wait(self, timeout: float | None, what: str) -> None:
        thread = thread_of(self._host.loop)
        thread.may_wait(f"{self.name}.{what}")
        ended = threading.Lock()
        ended.acquire()
        self._when_ended(ended.release)
        try:
            if self._source is None:  # perhaps of this process: then it may have the loop's thread itself
                has_ended = wait_until(lambda seconds: ended.acquire(timeout=seconds), timeout)
            else:
                has_ended = thread.wait(ended, timeout, f"{self.name}.{what}")
            if has_ended:
                return
        except KeyboardInterrupt:
            self.terminate()
            raise
        thread.call_soon(partial(self._forget, ended.release))
        raise TimeoutError(f"{self.name} has not ended within {timeout:g} s; it goes on")

    def _when_ended(self, call: Callable[[], object]) -> None:
        thread_of(self._host.loop).call_soon(partial(self._follow, call))

    def _follow(self, call: Callable[[], object] | None = None) -> None:
        """On the loop's thread."""
        if call is not None:
            if self._end is not None:
                self._tell(call)
                return
            self._waiting.append(call)
        if self._end is None:
            self._host.follow(self)

    def _forget(self, call: Callable[[], object]) -> None:
        if call in self._waiting:
            self._waiting.remove(call)

    def _has_ended(self, end: Record) -> None:
        """Told by the host, on the loop's thread."""
        self._ended_so(end)

    def _complete(self, outcome: Outcome) -> None:
        """Of a task of this process."""
        self._ended_so(outcome)

    def _failed_unheard(self, error: BaseException) -> None: ...

    def _ended_so(self, end: Record | Outcome) -> None:
        if self._end is not None:
            return
        self._end = end
        waiting, self._waiting = self._waiting, []
        for call in waiting:
            self._tell(call)

    def _tell(self, call: Callable[[], object]) -> None:
        try:
            call()
        except BaseException as error:  # the user's callback; the others have their turn
            thread_of(self._host.loop).report(f"a callback of {self.name}", error)

    def _known_state(self) -> str:
        if self._end is None or self._source is not None:
            return super()._known_state()
        if not isinstance(self._end, Record):
            return state_of(self._end)
        return ENDED[OutcomeKind(self._end.outcome)] if self._end.outcome else "ended"

    def _open(self) -> Outcome:
        """It has ended: its value is unpickled once, here."""
        if self._opened is not None:
            return self._opened
        end: Any = self._end or self._source
        outcome: Outcome
        if isinstance(end, Record):
            outcome = self._unpickled(end)
            if end.outcome != OutcomeKind.RETURNED and self._source is end and self._host.records is not None:
                thread_of(self._host.loop).call_soon(partial(self._host.records.looked_at, end))
        else:
            outcome = end if isinstance(end, Returned | Raised) else end.outcome
        if isinstance(outcome, Raised):
            error: Exception = bearable(outcome.error, self.name)
            self._trace = None if isinstance(end, Record) else error.__traceback__
            if self._asked and is_cancellation(error):
                error = CancelledError(*(() if self._asked[0] is None else self._asked))
            outcome = Raised(error)
        self._opened = self._opened or outcome  # another thread may have been faster
        return self._opened

    def _unpickled(self, end: Record) -> Outcome:
        try:
            return Returned(open_in_thread(self._host, lambda: unpack_outcome(self._host.payloads, end)))
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # what the task raised, of whatever kind
            return Raised(error)


class Opening:
    """Whose handles come out of what a plain thread unpickles (tasks/current.py): a host's, of the sync style."""

    def __init__(self, host: Any) -> None:
        self._host = host

    def __getattr__(self, name: str) -> Any:
        return getattr(self._host, name)

    def handle(self, *known: Any) -> SyncTask[Any]:
        return of_sync_style(self._host.handle(*known))


def of_sync_style(handle: Task) -> SyncTask[Any]:
    """For the same task. What another handle of this process waits for is followed as somebody else's."""
    if isinstance(handle, SyncTask):
        return handle
    source = handle._source
    if isinstance(source, Record) and source.future is None and source.handle in (None, handle):
        mine = SyncTask.__new__(SyncTask)._bind(handle._host, None, handle.name, source)
        source.handle = None if source.ended else mine
        return mine
    return SyncTask.__new__(SyncTask)._bind(
        handle._host, handle.home, handle.name, None, handle.direct, handle.location
    )


def open_in_thread(host: Any, unpickle: Callable[[], V]) -> V:
    """What it gives, with handles of the sync style in it."""
    try:
        return open_for(Opening(host), unpickle)
    except MissingCode as missing:
        raise RemoteError(f"not here: {missing.request}") from None
