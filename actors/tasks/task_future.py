"""A handle as a future: the end of a task, which is looked for, and the value unpickled, when somebody first wants it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from concurrent.futures import CancelledError
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Any, Self

from dispycos.errors import DispycosError, RemoteError, TaskLost, TaskTerminated
from dispycos.protocol.status import ENDED, OutcomeKind
from dispycos.values import wait_time

from .current import running_loop
from .ends import Outcome, Raised, Returned, brief, without_our_frames
from .record import Record
from .roles import Host, LocalTask

if TYPE_CHECKING:
    from typing_extensions import TypeVar  # type checkers know it, wherever it is installed

    T = TypeVar("T", default=Any)  # a Task is a Task[Any]
else:
    from typing import TypeVar

    T = TypeVar("T")

CANCELLED = "asyncio.exceptions.CancelledError"  # as RemoteError names it


class TaskFuture(asyncio.Future[T]):
    """Of a Handle, all that its task's end is about."""

    __slots__ = ("_asked", "_host", "_source", "name")

    name: str
    _asked: tuple[Any] | None  # the message of cancel(), which makes its termination one
    _host: Host
    _source: (
        LocalTask | Record | None
    )  # knows its end: the task here, or the client's record; None: somebody else's
    _opens_later = False  # who waits with it unpickles the value, in a thread of its own

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

    def terminate(self) -> int:
        """End the task: it gets KeyboardInterrupt, and is killed about 5 s later. One that has not started is dropped."""
        self._host.terminate(self)
        return 0

    def is_alive(self) -> bool:
        """False as soon as this process knows that it has ended; no question is sent."""
        return not (_is_done(self) if self._source is None else self._source.ended)

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


# As super() has them, at half the cost: each task is awaited and completed by them.
_is_done = asyncio.Future.done
_result = asyncio.Future.result
_set_result = asyncio.Future.set_result
_call_when_done = asyncio.Future.add_done_callback
_wait = asyncio.Future.__await__
