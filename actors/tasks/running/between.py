"""Where our code stands between an asyncio.Task and a user's coroutine, and begins such a Task at once."""

from __future__ import annotations

import asyncio
import sys
from abc import abstractmethod
from asyncio import AbstractEventLoop, CancelledError, Future
from collections import deque
from collections.abc import Callable, Coroutine, Generator, Sequence
from contextvars import Context
from typing import Any


class Between(Coroutine[Any, Any, Any]):
    """What an asyncio.Task runs, between it and a user's coroutine."""

    __slots__ = ("_coroutine",)

    _coroutine: Coroutine[Any, Any, Any] | None  # None: it is not resumed any more

    @abstractmethod
    def _step(self, resume: Callable[[Any], Any], argument: Any) -> Any:
        """Resume the user's coroutine with None or an exception."""

    def send(self, value: Any) -> Any:
        if self._coroutine is None:
            raise CancelledError
        try:
            return self._step(self._coroutine.send, value)
        finally:
            del self  # a traceback of the user's coroutine may lead back to this frame

    def throw(self, typ: Any, val: Any = None, tb: Any = None, /) -> Any:
        if self._coroutine is None:
            raise CancelledError
        try:
            return self._step(self._coroutine.throw, typ if val is None else val)
        finally:
            del self, typ, val, tb  # its traceback leads back to this frame

    def close(self) -> None:
        if self._coroutine is not None:
            self._coroutine.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        raise TypeError(f"{type(self).__name__} is run by its Task only")


def start_task(
    coroutine: Coroutine[Any, Any, Any], loop: AbstractEventLoop, context: Context
) -> asyncio.Task[Any]:
    """A Task whose first step has run; no other Task may be running."""
    if sys.version_info >= (3, 12):
        return asyncio.Task(coroutine, loop=loop, context=context, eager_start=True)
    # Python 3.11 has no eager_start. There the constructor hands the first step to loop.call_soon and forgets
    # it: it is caught on the way and run here. It is the Task's own step, with all that it does around it.
    caught: deque[Callable[[], object]] = deque()

    def catch(callback: Callable[[], object], *, context: Context | None = None) -> None:
        caught.append(callback)

    loop.call_soon = catch  # type: ignore[method-assign,assignment]
    try:
        task = asyncio.Task(coroutine, loop=loop, context=context)
    finally:
        del loop.call_soon
    context.run(caught.pop())
    return task


def children_of(coroutine: Any) -> Sequence[Future[Any]]:
    """The tasks that asyncio waits for at the point where this coroutine is suspended.

    The end of a TaskGroup, and wait_for() of Python 3.11, end them for a CancelledError, but leave them running for
    any other exception that is thrown in there.
    """
    while hasattr(getattr(coroutine, "cr_await", None), "cr_await"):
        coroutine = coroutine.cr_await
    frame = getattr(coroutine, "cr_frame", None)
    if frame is None or frame.f_globals.get("__name__") not in ("asyncio.taskgroups", "asyncio.tasks"):
        return ()
    group, awaited = frame.f_locals.get("self"), frame.f_locals.get("fut")
    if isinstance(group, asyncio.TaskGroup):
        return tuple(getattr(group, "_tasks", ()))
    return (awaited,) if isinstance(awaited, Future) else ()
