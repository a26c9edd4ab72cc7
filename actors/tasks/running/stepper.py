"""Runs a user's coroutine in one real asyncio.Task, because all of asyncio asks for current_task().

Its first step runs at once inside that Task's constructor. What goes into the Task is not the user's coroutine but `Stepper`,
which stands between the two: it brackets the steps, lets no KeyboardInterrupt or SystemExit out (either would end the loop and
with it every other task of the process), and turns our own cancel() of that Task into the exception that was asked for, while a
cancel() of the user's stays a CancelledError.
"""

from __future__ import annotations

import asyncio
import sys
from asyncio import AbstractEventLoop, CancelledError, Future
from collections import deque
from collections.abc import Callable, Coroutine, Generator, Sequence
from contextvars import Context
from typing import Any

from ..ends import Due, Outcome, Raised, Returned, made, raised
from .interrupts import Interrupts, Owner

Asked = list[type[BaseException]]


class Stepper(Coroutine[Any, Any, Any]):
    """What the asyncio.Task of a user's coroutine runs; Execution makes it."""

    __slots__ = (
        "_asked",
        "_coroutine",
        "_due",
        "_interrupts",
        "_is_cancelling",
        "_is_started",
        "_loop",
        "_on_done",
        "_outcome",
        "_owner",
        "_task",
    )

    def __init__(
        self,
        coroutine: Coroutine[Any, Any, Any],
        owner: Owner,
        loop: AbstractEventLoop,
        interrupts: Interrupts,
        asked: Asked,
        on_done: Callable[[Outcome], None],
    ) -> None:
        self._asked = asked
        self._coroutine: Coroutine[Any, Any, Any] | None = coroutine
        self._owner = owner
        self._loop = loop
        self._interrupts = interrupts
        self._on_done: Callable[[Outcome], None] | None = on_done
        self._due: Due | None = None
        self._task: asyncio.Task[Any] | None = None
        self._outcome: Outcome | None = None
        self._is_started = False
        self._is_cancelling = False  # by us, so that what is due is thrown in

    def start(self, context: Context, due: Due | None = None) -> bool:
        """Run the first step, or throw in what is due; whether that was all (if not, `on_done` will hear)."""
        self._due = due
        task = start_task(self, self._loop, context)
        self._is_started = True
        if self._outcome is not None:
            return True
        self._task = task
        return False

    def take_outcome(self) -> Outcome:
        """Of a first step that was all."""
        outcome, self._outcome = self._outcome, None
        assert outcome is not None
        return outcome

    @property
    def is_interrupted(self) -> bool:
        return self._due is not None

    def interrupt(self, due: Due) -> None:
        """Throw it in where the coroutine is suspended; what is awaited is cancelled, as by Task.cancel()."""
        if self._due is None and self._coroutine is not None:
            self._due = due
            self._cancel()

    def abandon(self) -> Coroutine[Any, Any, Any]:
        """The coroutine, which is suspended and is not resumed any more; nobody hears of it."""
        coroutine, self._coroutine = self._coroutine, None
        task, self._task, self._on_done = self._task, None, None
        assert coroutine is not None and task is not None
        del self._owner
        task.cancel()
        return coroutine

    # -- called by the asyncio.Task

    def send(self, value: Any) -> Any:
        if self._coroutine is None:  # dropped
            raise CancelledError
        return self._step(self._coroutine.send, value)

    def throw(self, typ: Any, val: Any = None, tb: Any = None, /) -> Any:
        if self._coroutine is None:
            raise CancelledError
        try:
            return self._step(self._coroutine.throw, typ if val is None else val)
        finally:
            del typ, val, tb  # its traceback leads back to this frame

    def close(self) -> None:
        if self._coroutine is not None:
            self._coroutine.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        raise TypeError("a Stepper is run by its Task only")

    # -- steps

    def _step(self, resume: Callable[[Any], Any], argument: Any) -> Any:
        self._interrupts.begin(self._owner)
        if self._due is not None or self._asked:
            resume, argument = self._interruption() or (resume, argument)
        try:
            yielded = resume(argument)
        except StopIteration as stop:
            self._interrupts.end()
            outcome: Outcome = Returned(stop.value)
        except BaseException as error:  # the edge of user code: nothing of it may reach the loop
            self._interrupts.end()
            outcome = raised(error)
        else:
            self._due = self._interrupts.end(True)
            if self._due is not None:  # asked for, too late to be raised in this step
                self._cancel()
            return yielded
        finally:
            del resume, argument
        try:
            return self._end(outcome)
        finally:
            del outcome

    def _interruption(self) -> tuple[Callable[[Any], Any], BaseException] | None:
        """What is done instead of resuming, when an exception is due."""
        assert self._coroutine is not None
        due, self._due = self._due or take(self._asked), None
        if self._is_cancelling:
            self._is_cancelling = False
            self._running_task().uncancel()  # asyncio.timeout and TaskGroup must not take it for the user's
        if due is None:
            return None
        for child in children_of(self._coroutine):
            child.cancel()
        return self._coroutine.throw, made(due)

    def _cancel(self) -> None:
        self._is_cancelling = True
        self._running_task().cancel()

    def _running_task(self) -> asyncio.Task[Any]:
        task = self._task or asyncio.current_task(self._loop)
        assert task is not None
        return task

    def _end(self, outcome: Outcome) -> Any:
        """Tell the outcome and end the Task: with the value, cancelled, or (whoever awaits it) with None."""
        on_done, self._on_done = self._on_done, None
        self._coroutine = self._task = None
        del self._owner  # it points here
        assert on_done is not None
        try:
            if isinstance(outcome, Raised) and isinstance(outcome.error, CancelledError):
                end: BaseException = CancelledError()
            else:
                end = StopIteration(outcome.value if isinstance(outcome, Returned) else None)
            if self._is_started:
                Context().run(on_done, outcome)  # it is no code of the user's task
            else:
                self._outcome = outcome
            raise end
        finally:
            del outcome, end


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


def take(asked: Asked) -> type[BaseException] | None:
    """At most one taker gets it, in whatever threads they are."""
    try:
        return asked.pop() if asked else None
    except IndexError:
        return None
