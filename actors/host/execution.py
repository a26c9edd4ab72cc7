"""Steps one user function to its outcome: a generator function, an `async def` or a plain function.

Every stretch of user code is one step: bracketed by `Interrupts.begin()` and `end()`, inside the task's own
Context. Generators are resumed by this file. A coroutine runs in one real asyncio.Task, because all of
asyncio asks for current_task(), and its first step runs at once inside that Task's constructor. What goes
into the Task is not the user's coroutine but `Stepper`, which stands between the two: it brackets the
steps, lets no KeyboardInterrupt or SystemExit out (either would end the loop and with it every other task
of the process), and turns our own cancel() of that Task into the exception that was asked for, while a
cancel() of the user's stays a CancelledError.

Everything here is called on the loop, in the main thread; only the interrupts may be called from any
thread.
"""

from __future__ import annotations

import asyncio
import inspect
import sys
from asyncio import AbstractEventLoop, CancelledError, Future
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Generator, Mapping, Sequence
from contextvars import Context
from types import CoroutineType, GeneratorType
from typing import Any

import msgspec

from .interrupts import Interrupts, enter_user_code

IMMEDIATE_STEPS_MAX = 64  # resumptions of a generator in one turn of the loop ...
IMMEDIATE_S = 0.005  # ... and for how long it may go on with them
INTERRUPT_ATTEMPTS_MAX = 16


class Returned(msgspec.Struct, frozen=True):
    """The function returned this."""

    value: Any


class Raised(msgspec.Struct, frozen=True):
    """The function ended by this exception, of whatever kind; its traceback begins in the user's code."""

    error: BaseException


Outcome = Returned | Raised
Asked = list[type[BaseException]]
Due = type[BaseException] | BaseException  # what is to be thrown in: one to be made then, or this very one


class Execution:
    """One running user function; `on_done` hears its outcome once, outside any step."""

    __slots__ = (
        "_args",
        "_asked",
        "_context",
        "_due",
        "_error",
        "_function",
        "_generators",
        "_interrupts",
        "_kwargs",
        "_loop",
        "_on_done",
        "_owner",
        "_stepper",
        "_value",
        "_waiting",
    )

    def __init__(
        self,
        function: Callable[..., Any],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        *,
        owner: object,
        loop: AbstractEventLoop,
        interrupts: Interrupts,
        context: Context,
        on_done: Callable[[Outcome], None],
    ) -> None:
        self._function: Callable[..., Any] | None = function
        self._args = args
        self._kwargs = kwargs
        self._owner = owner
        self._loop = loop
        self._interrupts = interrupts
        self._context = context
        self._on_done: Callable[[Outcome], None] | None = on_done
        self._asked: Asked = []  # by interrupt() in any thread; the next step takes it, or _wake
        self._due: Due | None = None  # to be thrown in at the next resumption
        self._generators: list[Generator[Any, Any, Any]] = []  # the called ones above their callers
        self._value: Any = None  # what goes into the innermost generator next ...
        self._error: BaseException | None = None  # ... unless this is thrown in
        self._waiting: Future[Any] | None = None
        self._stepper: Stepper | None = None

    @property
    def is_done(self) -> bool:
        return self._on_done is None

    @property
    def is_interrupted(self) -> bool:
        """Whether something is to be thrown in where the function is suspended, and was not yet."""
        if self._asked or self._due is not None:
            return True
        if isinstance(self._error, KeyboardInterrupt | SystemExit):  # by way of what a generator awaited
            return True
        return self._stepper is not None and self._stepper.is_interrupted

    def start(self) -> None:
        """Run the first step now; called while another asyncio.Task runs, as soon as that one waits."""
        if asyncio.current_task(self._loop) is None:
            self._call()
        else:
            self._loop.call_soon(self._call)

    def interrupt(self, exception: type[BaseException] = KeyboardInterrupt) -> None:
        """From any thread: raise it in the running step, else soon where the function is suspended."""
        if self._on_done is None or self._asked or self._due is not None:
            return
        # First asked, then looked: a step that begins between the two looks after it has begun, so at least one
        # sees the other, and pop() decides. Without that a long step could begin before _wake has its turn.
        for _ in range(INTERRUPT_ATTEMPTS_MAX):
            self._asked.append(exception)
            if not self._interrupts.is_running(self._owner):
                break
            if take(self._asked) is None or self.interrupt_running(exception):
                return
        else:
            self._asked.append(exception)
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        """Throw in what was asked for and not taken by a step."""
        exception = take(self._asked)
        if exception is not None:
            self.throw_in(exception)

    def throw_in(self, due: Due) -> None:
        """On the loop, in no step of its own: raise it soon where the function is suspended. The first one counts."""
        if self._stepper is not None:
            self._stepper.interrupt(due)
            return
        if self._on_done is None or self._due is not None:
            return
        self._due = due
        waiting, self._waiting = self._waiting, None
        if waiting is not None:  # else it is not started yet, or will be resumed anyway
            waiting.cancel()
            self._loop.call_soon(self._advance)

    def interrupt_running(self, exception: type[BaseException] = KeyboardInterrupt) -> bool:
        """From any thread: raise it in the running step; False, and nothing done, when none runs."""
        return self._interrupts.request(self._owner, exception=exception)

    # -- the first step

    def _call(self) -> None:
        function, args, kwargs = self._function, self._args, self._kwargs
        self._function, self._args, self._kwargs = None, (), {}
        assert function is not None
        self._interrupts.begin(self._owner)
        due = self._due or take(self._asked)
        if due is not None:
            self._interrupts.end()
            self._finish(Raised(made(due)))
            return
        try:
            result = self._context.run(enter_user_code, function, args, kwargs)
        except BaseException as error:  # the edge of user code
            self._interrupts.end()
            self._finish(raised(error))
            return
        self._due = self._interrupts.end()
        if type(result) is CoroutineType:
            self._await(result, self._finish)
        elif type(result) is GeneratorType:
            self._generators.append(result)
            self._advance()
        elif isinstance(result, Coroutine):
            self._await(result, self._finish)
        else:
            self._finish(Returned(result))

    def _finish(self, outcome: Outcome) -> None:
        on_done, self._on_done = self._on_done, None
        self._stepper = self._due = self._value = self._error = self._owner = None
        assert on_done is not None
        on_done(outcome)

    # -- generators

    def _advance(self) -> None:
        """Resume the innermost generator until it has to wait, or had its share of this turn."""
        until = self._loop.time() + IMMEDIATE_S
        for _ in range(IMMEDIATE_STEPS_MAX):
            if not self._step():
                return
            if until <= self._loop.time():
                break
        self._loop.call_soon(self._advance)

    def _step(self) -> bool:
        """One resumption; whether the next can follow at once."""
        value, error, self._value, self._error = self._value, self._error, None, None
        generator = self._generators[-1]
        self._interrupts.begin(self._owner)
        due, self._due = self._due or take(self._asked), None
        if due is not None:
            error = made(due)
        try:
            if error is None:
                yielded = self._context.run(generator.send, value)
            else:
                yielded = self._context.run(generator.throw, error)
        except StopIteration as stop:
            self._due = self._interrupts.end()
            return self._return(Returned(stop.value))
        except BaseException as problem:  # the edge of user code
            self._due = self._interrupts.end()
            return self._return(raised(problem))
        finally:
            error = None  # an exception in a local of a frame that it names would wait for the gc
        self._due = self._interrupts.end()
        if self._due is None:
            return self._take(yielded)
        if isinstance(yielded, Coroutine):
            yielded.close()  # nobody will await it
        return True

    def _return(self, outcome: Outcome) -> bool:
        """The innermost generator ended: its caller goes on with what it returned or raised."""
        self._generators.pop()
        if not self._generators:
            self._finish(outcome)
            return False
        self._resume_with(outcome)
        return True

    def _resume_with(self, outcome: Outcome) -> None:
        if isinstance(outcome, Returned):
            self._value = outcome.value
        else:
            self._error = outcome.error

    def _take(self, yielded: Any) -> bool:
        """What a yield means; whether the generator can go on at once."""
        if yielded is None:
            self._loop.call_soon(self._advance)
            return False
        if type(yielded) is GeneratorType:
            self._generators.append(yielded)
            return True
        if asyncio.isfuture(yielded):
            return self._wait_for(yielded)
        if inspect.isawaitable(yielded):
            return self._await(yielded, self._on_awaited)
        self._value = yielded
        return True

    def _wait_for(self, future: Future[Any]) -> bool:
        if future.get_loop() is not self._loop:
            self._error = RuntimeError(f"{future!r} belongs to another event loop")
            return True
        if future.done():
            self._resume_with(outcome_of(future))
            return True
        self._waiting = future
        future.add_done_callback(self._on_future)
        return False

    def _on_future(self, future: Future[Any]) -> None:
        outcome = outcome_of(future)  # taken in any case: asyncio logs an exception that nobody takes
        if self._waiting is future:  # else the wait was interrupted
            self._waiting = None
            self._resume_with(outcome)
            self._advance()

    def _on_awaited(self, outcome: Outcome) -> None:
        self._stepper = None
        self._resume_with(outcome)
        self._loop.call_soon(self._advance)  # not here, inside the Task that ends

    # -- coroutines

    def _await(self, awaitable: Awaitable[Any], on_done: Callable[[Outcome], None]) -> bool:
        """Run it in a Task; whether it was done in its first step, which only a yield may go on from."""
        coroutine = awaitable if isinstance(awaitable, Coroutine) else _awaiting(awaitable)
        stepper = Stepper(coroutine, self._owner, self._loop, self._interrupts, self._asked, on_done)
        due, self._due = self._due, None
        self._stepper = stepper
        if not stepper.start(self._context, due):
            return False
        self._stepper = None
        if self._generators:
            self._resume_with(stepper.take_outcome())
            return True
        on_done(stepper.take_outcome())
        return False


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
        owner: object,
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

    # -- called by the asyncio.Task

    def send(self, value: Any) -> Any:
        assert self._coroutine is not None
        return self._step(self._coroutine.send, value)

    def throw(self, typ: Any, val: Any = None, tb: Any = None, /) -> Any:
        assert self._coroutine is not None
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
            self._due = self._interrupts.end()
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
        self._coroutine = self._task = self._owner = None
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


def raised(error: BaseException) -> Raised:
    return Raised(without_our_frames(error))


def without_our_frames(error: BaseException) -> BaseException:
    """The same, with a traceback that begins in the user's code: users have no use for what is above."""
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_frame.f_globals.get("__name__") in _OWN_MODULES:
        traceback = traceback.tb_next
    return error.with_traceback(traceback)


def made(due: Due) -> BaseException:
    return due if isinstance(due, BaseException) else due()


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


def outcome_of(future: Future[Any]) -> Outcome:
    try:
        return Returned(future.result())
    except BaseException as error:  # whatever the future carries is the user's
        return Raised(error)


async def _awaiting(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


_OWN_MODULES = (__name__, Interrupts.__module__, f"{__package__}.subtasks")
