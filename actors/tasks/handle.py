"""A handle of a task here or anywhere: its messages, its end, its value, and what a running task calls on itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from concurrent.futures import CancelledError
from contextvars import Context, copy_context
from html import escape
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal, NoReturn, Self

from dispycos.errors import DispycosError, RemoteError, TaskLost, TaskTerminated
from dispycos.habits import HANDLE, hint
from dispycos.protocol.addresses import Address, Location
from dispycos.protocol.status import ENDED, OutcomeKind
from dispycos.values import wait_time

from .actor import Actor
from .current import current_cell, current_host, running_loop
from .ends import Outcome, Raised, Returned, brief, plain, without_our_frames
from .keeping import MailboxState
from .record import Record, Usage
from .roles import Host, LocalTask

if TYPE_CHECKING:
    from typing_extensions import TypeVar  # type checkers know it, wherever it is installed

    T = TypeVar("T", default=Any)  # a Task is a Task[Any]
else:
    from typing import TypeVar

    T = TypeVar("T")

CANCELLED = "asyncio.exceptions.CancelledError"  # as RemoteError names it


class Handle(Actor, asyncio.Future[T]):
    """All that a Task is, save for what it submits itself (submitting.py)."""

    __slots__ = (
        "_asked",
        "_direct",
        "_home",
        "_host",
        "_is_value",
        "_place",
        "_source",
        "_watched",
        "_way",
        "name",
    )

    name: str
    _opens_later = False  # who waits with it unpickles the value, in a thread of its own

    def _bind(
        self,
        host: Host,
        home: Address | None,
        name: str,
        source: LocalTask | Record | None,
        direct: Address | None = None,
        place: Location | None = None,
        is_value: bool = False,
    ) -> Self:
        _begin(self, loop=host.loop)
        self._asked: tuple[Any] | None = None  # the message of cancel(), which makes its termination one
        self._way: Any = None  # of the messages sent by it, if it is somebody else's
        self._watched = False  # its home was asked to tell its end, which nobody else tells
        self._host = host
        self._home = home  # None: as its source says, when somebody wants to know
        self.name = name
        self._source = source  # knows its end: the task here, or the client's record; None: somebody else's
        self._direct = direct
        self._place = place
        self._is_value = is_value  # of somebody else's task: it came from submit
        return self

    # --- messages ---

    @plain
    def send(self, message: Any) -> int:
        """Send a message; it arrives once and in order while both processes live. Returns 0 at once.

        Of what a task does not take 1,024 messages or 8 MiB of each process lie in its mailbox; more waits in the process that
        sends, and goes on when there is room.

        Raises
        ------
        NotPicklable: naming what in the message cannot be pickled.
        MailboxFull: 16 MiB (pickled) wait here for room in its mailbox; this message was not sent. ``deliver`` waits instead.
        """
        self._host.tell(self, message)
        return 0

    @brief
    async def deliver(self, message: Any, timeout: float | None = None) -> int:
        """Send, and wait until it is in the receiver's mailbox: 1; 0 if the task has ended or at the timeout (in seconds).

        A full mailbox is waited for, at most until the timeout; a message that had no room by then is not sent. One that was
        on its way at the timeout may still arrive. In the mailbox is not handled: for that, ask.
        """
        return await self._host.deliver(self, message, timeout)

    @brief
    async def ask(self, message: Any, timeout: float | None = None) -> Any:
        """Send a request and wait for the receiver's reply.

        Raises
        ------
        TimeoutError: no reply within `timeout` seconds; a late one is dropped.
        TaskLost: the task has ended, or its server died, without a reply.
        """
        return await self._host.ask(self, message, timeout)

    async def receive(self, timeout: float | None = None, alarm_value: Any = None) -> Any:
        """The oldest message in this task's mailbox; waits for one, at most `timeout` seconds, then gives `alarm_value`.

        Only for the running task itself.
        """
        return await self._own("receive").receive(timeout, alarm_value)

    recv = receive

    @plain
    def reply(self, value: Any) -> None:
        """Answer the request that this task received last.

        Raises
        ------
        RuntimeError: the last message was sent by send() or deliver(), which expect no answer, or was answered already.
        """
        self._own("reply").reply(value)

    @plain
    def mailbox(self, policy: Literal["wait", "drop_oldest", "newest"] | None = None) -> MailboxState:
        """What is in this task's mailbox, and what becomes of messages for which there is no room. Only for the running task.

        Parameters
        ----------
        policy: "wait" (the default): senders keep what has no room. "drop_oldest": the mailbox keeps the newest 1,024
            messages or 8 MiB. "newest": it keeps the newest one. Only what send() and deliver() sent is dropped, requests
            and monitors' words never are. It holds for what is there already, too. None: as it is.

        Returns
        -------
        MailboxState(policy, waiting, size, dropped): messages that wait here, their pickled bytes, and how many were dropped
        so far.

        Raises
        ------
        ValueError: no such policy.
        """
        state: MailboxState = self._own("mailbox").mailbox(policy)
        return state

    async def sleep(self, seconds: float, alarm_value: Any = None) -> Any:
        """Wait for so many seconds, in which others run: ``await task.sleep(0.5)``. Then returns `alarm_value`."""
        await asyncio.sleep(seconds)
        return alarm_value

    # --- ends ---

    @brief
    async def monitor(self, by: Handle[Any] | None = None) -> int:
        """Have a MonitorStatus sent to `by` (default: the running task) when this task ends. Returns 0.

        Raises
        ------
        TypeError: `by` is no task of this process, or is left out where no task runs.
        """
        await self._host.monitor(self, by)
        return 0

    def terminate(self) -> int:
        """End the task: it gets KeyboardInterrupt, and is killed about 5 s later. One that has not started is dropped."""
        self._host.terminate(self)
        return 0

    def __await__(self) -> Generator[Any, None, T]:
        """The task's value; raises what it raised, or TaskTerminated, TaskLost, TaskRefused, RemoteError."""
        self._look()
        if running_loop() is not self._host.loop and not _is_done(self) and running_loop() is not None:
            raise without_our_frames(  # else it could not be awaited again where it belongs
                RuntimeError(
                    f"{self.name} belongs to another event loop: await it there (asyncio.run_coroutine_threadsafe)"
                )
            )
        return _wait(self)

    def __iter__(self) -> Generator[T, None, T]:  # not Any: else a handle would pass for a list of handles
        yielding: Generator[Any, None, T] = self.__await__()
        return yielding

    # So ``yield rtask()`` waits for the value. It has no docstring: editors would show it for each variable that holds a handle.
    def __call__(self) -> Self:
        return self

    @brief
    async def finish(self, timeout: float | None = None) -> T:
        """The task's value; waits for it, at most `timeout` seconds.

        Raises
        ------
        TimeoutError: not within `timeout`; the task goes on. CancelledError: cancel() ended it.
        TaskTerminated, TaskLost, TaskRefused, RemoteError, and what the task raised.
        """
        await asyncio.wait((self,), timeout=wait_time(timeout))
        if not self.done():
            raise TimeoutError(f"{self.name} has not ended within {timeout:g} s; it goes on")
        return self.result()

    # --- files ---

    @brief
    async def send_file(
        self,
        where: Any,
        path: str | bytes | PathLike[Any],
        dir: str | bytes | PathLike[Any] | None = None,
        overwrite: bool = False,
        timeout: float | None = None,
        progress: Callable[[int, int], object] | None = None,
    ) -> int:
        """Send a file to the client, ``task.send_file(task.client, path)``: it lies in the client's dest_path. Returns 0.

        Only for the running task itself. `where` may be a node or server, too; see ``Client.send_file`` for it and the rest.
        """
        await self._files("send_file").send(where, path, dir, overwrite, timeout, progress)
        return 0

    @brief
    async def del_file(
        self,
        where: Any,
        name: str | bytes | PathLike[Any],
        dir: str | bytes | PathLike[Any] | None = None,
        timeout: float | None = None,
    ) -> int:
        """Delete a file where send_file(where, path, dir) puts it. Returns 0; see ``Client.del_file``."""
        await self._files("del_file").delete(where, name, dir, timeout)
        return 0

    def _files(self, method: str) -> Any:
        self._own(method)
        records = self._host.records
        if records is None:
            raise RuntimeError(
                f"task.{method}() needs the cluster: use it in a remote task, or beside a scheduled Client"
            )
        return records.files

    # --- what is known of it ---

    @property
    def location(self) -> Location | None:
        """Where it runs: the server's Location; None while that is not known, and for tasks of a client."""
        return self._source.location if isinstance(self._source, Record) else self._place

    @property
    def attempt(self) -> int:
        """Which of its starts this is, from 1: more if `retries` were allowed and its server was lost. For somebody else's: 1."""
        return self._source.attempt if self._source is not None else 1

    @property
    def resources(self) -> dict[str, list[int]]:
        """What it has of its node's resources while it runs, by name: the numbers of these, as ``{"gpu": [1]}``.

        Known to the task itself, and to the program that submitted it.
        """
        return dict(self._source.resources) if self._source is not None else {}

    @property
    def usage(self) -> Usage | None:
        """What it has used, known to the client that asked for it; None before its end, and if it was lost or never began."""
        state = self._source
        if not isinstance(state, Record) or not state.ended or state.seconds is None:
            return None
        return Usage(state.seconds, state.cpu_s, state.peak_bytes)

    def is_alive(self) -> bool:
        """False as soon as this process knows that it has ended; no question is sent."""
        return not (_is_done(self) if self._source is None else self._source.ended)

    # --- as a future: it is completed, and the value unpickled, when somebody first wants it ---

    def done(self) -> bool:
        """Whether it has ended. Of a task that somebody else submitted that is asked for by the first call."""
        if self._source is not None:
            return self._source.ended
        self._look()
        return _is_done(self)

    def cancelled(self) -> bool:
        """Whether cancel() ended it."""
        self._look()
        return super().cancelled()

    def result(self, timeout: None = None) -> T:
        """The value of a task that has ended, without waiting; else ``await`` the handle. Raises what the task raised.

        Raises
        ------
        asyncio.InvalidStateError: it has not ended. TypeError: a `timeout` was given, which is of the sync style.
        """
        if not _is_done(self):
            self._look()
        try:
            if timeout is not None or not _is_done(self):
                raise self._does_not_wait("result", timeout)
            return _result(self)
        except BaseException as error:
            without_our_frames(error)
            raise  # alone it adds no line to the traceback

    def exception(self, timeout: None = None) -> BaseException | None:
        """What a task that has ended raised, or None.

        Raises
        ------
        asyncio.InvalidStateError: it has not ended. asyncio.CancelledError: cancel() ended it.
        """
        self._look()
        if timeout is not None or not _is_done(self):
            raise without_our_frames(self._does_not_wait("exception", timeout))
        return super().exception()

    def _does_not_wait(self, method: str, timeout: object) -> BaseException:
        """Of the async style."""
        if timeout is not None:
            return TypeError(
                f"{self.name}: a handle of the async style does not wait in {method}(), and takes no timeout: "
                f"`await handle.finish(timeout)`; without await: `with dispycos.Client() as client`"
            )
        if self._source is None:
            return asyncio.InvalidStateError(
                f"{self.name}: its value is not here. `await` its handle, which an `async def` can; or have it given to this "
                f"function, by the handle as an argument of its own, not in a list"
            )
        if running_loop() is None:
            return asyncio.InvalidStateError(
                f"{self.name} has not ended, and a handle of the async style does not wait in {method}(): in a thread "
                f"asyncio.run_coroutine_threadsafe(handle.finish(), loop).result(), or a client of `with dispycos.Client()`"
            )
        return asyncio.InvalidStateError(
            f"{self.name} has not ended: `await` its handle, in an `async def` or a generator function, and then "
            f"ask for {method}()"
        )

    def add_done_callback(self, fn: Callable[[Self], object], /, *, context: Context | None = None) -> None:
        """Have the loop call `fn(handle)` when the task has ended."""
        self._look()
        _call_when_done(self, fn, context=copy_context() if context is None else context)

    def cancel(self, msg: Any = None) -> bool:
        """terminate(), as futures say it: who waits gets CancelledError when the task has ended. False if it has already.

        A task that ends in another way all the same, by a value for one, has that outcome.
        """
        if self.done():
            return False
        self._asked = self._asked or (msg,)
        self.terminate()
        return True

    def _cancelled_elsewhere(self) -> None:
        """By a handle of another process; perhaps on the relief thread."""
        self._asked = self._asked or (None,)

    def set_result(self, result: Any, /) -> None:
        raise RuntimeError("the outcome of a task is its own: set_result() is not for handles")

    def set_exception(self, exception: Any, /) -> None:
        raise RuntimeError("the outcome of a task is its own: set_exception() is not for handles")

    def _look(self) -> None:
        """Somebody wants to know the outcome: it is taken now, or when it comes."""
        if not _is_done(self):
            self._host.follow(self)

    def _complete(self, outcome: Outcome) -> None:
        """Told by the host, on the loop: the task has ended so."""
        if _is_done(self):
            return
        if isinstance(outcome, Returned):
            _set_result(self, outcome.value)
            return
        error = bearable(outcome.error, self.name)
        if self._asked and is_cancellation(error):
            super().cancel(self._asked[0])
        else:
            super().set_exception(error)
            super().exception()  # nobody has to take it: asyncio would complain

    def _has_ended(self, end: Record) -> None:
        """As _complete, where `_opens_later`."""
        raise NotImplementedError

    def _failed_unheard(self, error: BaseException) -> None:
        """A task of this process has failed, and nobody waits: if nobody looks either, asyncio tells when this handle goes."""
        if isinstance(error, Exception):
            super().set_exception(bearable(error, self.name))

    # --- what it is not for ---

    if not TYPE_CHECKING:

        @plain
        def __getattr__(self, name: str) -> NoReturn:
            text = f"'Task' object has no attribute {name!r}{hint(HANDLE, name)}"
            raise AttributeError(text, name=name, obj=self)

    # --- identity ---

    @property
    def home(self) -> Address:
        """For dispycos itself: what tells this task from all others. Handles are equal when it is."""
        if self._home is None:
            assert self._source is not None
            self._home = self._source.home
        return self._home

    @property
    def direct(self) -> Address | None:
        """For dispycos itself: its own address, if that is known here."""
        return self._source.address if isinstance(self._source, Record) else self._direct

    @property
    def stands_for_value(self) -> bool:
        """Whether it stands for its value as an argument of submit(). Handles of submit do; those of actors arrive as handles."""
        source = self._source
        if source is None:
            return self._is_value
        return not (getattr(source, "alone", True) or getattr(source, "receives", True))  # local: an actor

    def __copy__(self) -> Self:
        return self  # it means the same task

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Handle) and self.home == other.home

    def __hash__(self) -> int:
        return hash(self.home)

    def __repr__(self) -> str:
        return f"<Task {self._in_words(': ')}>"

    def _repr_html_(self) -> str:
        """For a notebook."""
        rest = self._in_words(", ").removeprefix(self.name)
        return f"<span>Task <strong>{escape(self.name)}</strong>{escape(rest)}</span>"

    def _in_words(self, state: str) -> str:
        place, known = self.location, self._known_state()
        return f"{self.name}{f' at {place}' if place else ''}{known and state + known}"

    def _known_state(self) -> str:
        """For people; empty if it is not known here."""
        source = self._source
        if isinstance(source, Record):
            return source.state
        if source is not None and source.outcome is not None:
            return state_of(source.outcome)
        if not _is_done(self):
            return ""
        if super().cancelled():
            return ENDED[OutcomeKind.CANCELLED]
        error = super().exception()
        if isinstance(error, TaskLost):  # perhaps its end only, which went to somebody else
            return ""
        return state_of(Returned(None) if error is None else Raised(error))

    def __reduce__(self) -> tuple[Callable[..., Handle[Any]], tuple[Any, ...]]:
        direct = self.direct
        place = self.location
        return _rebuild, (
            tuple(self.home),
            self.name,
            tuple(direct) if direct else None,
            (place.addr, place.port) if place else None,
            *((True,) if self.stands_for_value else ()),
        )

    def _own(self, method: str) -> LocalTask:
        cell = current_cell()
        if cell is not None and cell is self._source:
            return cell
        raise RuntimeError(
            f"{self.name}.{method}() is for the task itself, while it runs; to reach it from outside use send or ask"
        )


def bearable(error: BaseException, name: str) -> Exception:
    """What a future can hold and its loop survives: as itself a KeyboardInterrupt would end that."""
    if isinstance(error, KeyboardInterrupt):
        return TaskTerminated("the task was terminated")
    if isinstance(error, asyncio.CancelledError):
        return RemoteError(f"{name} raised CancelledError: {error}", CANCELLED)
    if not isinstance(error, Exception) or isinstance(error, StopIteration):
        return DispycosError(f"{type(error).__name__}: {error}")
    return error


def is_cancellation(error: BaseException) -> bool:
    """As the end of a task that is to be cancelled. Of one that is not a CancelledError is news, and told as any error."""
    if isinstance(error, RemoteError):
        return error.type_name == CANCELLED
    return isinstance(error, TaskTerminated)


def state_of(outcome: Outcome) -> str:
    """For people."""
    if isinstance(outcome, Returned):
        return ENDED[OutcomeKind.RETURNED]
    is_end = isinstance(outcome.error, KeyboardInterrupt | TaskTerminated | CancelledError)
    return ENDED[OutcomeKind.TERMINATED if is_end else OutcomeKind.RAISED]


# As super() has them, at half the cost: each task is submitted, awaited and completed by them.
_begin = asyncio.Future.__init__
_is_done = asyncio.Future.done
_result = asyncio.Future.result
_set_result = asyncio.Future.set_result
_call_when_done = asyncio.Future.add_done_callback
_wait = asyncio.Future.__await__


def _rebuild(
    home: tuple[int, int],
    name: str,
    direct: tuple[int, int] | None,
    place: tuple[str, int] | None,
    is_value: bool = False,
) -> Handle[Any]:
    """Unpickle a handle: the same object's state where it is known, else a handle that works from here."""
    try:
        host = current_host()
    except RuntimeError as error:
        raise RuntimeError(
            f"the handle of {name} can be used in its program and its tasks, and this is another process, or a thread without "
            f"their event loop: pass on its value ({error})"
        ) from None
    handle: Handle[Any] = host.handle(
        Address(*home),
        name,
        Address(*direct) if direct else None,
        Location(*place) if place else None,
        is_value,
    )
    return handle
