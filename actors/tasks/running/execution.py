"""Steps one user function to its outcome: a generator function, an `async def` or a plain function.

Every stretch of user code is one step: bracketed by `Interrupts.begin()` and `end()`, inside the task's own
Context. Generators are resumed by this file; a coroutine, the function's own or one that a generator yields, runs in an
asyncio.Task (stepper.py). Tasks that it makes itself are seen to by subtasks.py.

Everything here is called on the loop, in the main thread; only the interrupts may be called from any
thread.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from asyncio import AbstractEventLoop, Future
from asyncio.events import _set_running_loop as set_running_loop  # documented for those who make loops
from collections.abc import Awaitable, Callable, Coroutine, Generator, Mapping, Sequence
from contextvars import Context
from types import CoroutineType, GeneratorType
from typing import Any

from ..calling import COMMON, can_suspend
from ..ends import Due, Outcome, Raised, Returned, made, outcome_of, raised
from .interrupts import Interrupts, Owner, enter_user_code
from .stepper import Asked, Stepper, take

IMMEDIATE_STEPS_MAX = 64  # resumptions of a generator in one turn of the loop ...
IMMEDIATE_S = 0.005  # ... and for how long it may go on with them
INTERRUPT_ATTEMPTS_MAX = 16

log = logging.getLogger("dispycos")


def call_plainly(
    loop: AbstractEventLoop,
    context: Context,
    function: Callable[..., Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
) -> Any:
    """Call a function that never waits on our loop: it finds none running, as in a plain program, and may run one of its own."""
    set_running_loop(None)
    try:
        return context.run(enter_user_code, function, args, kwargs)
    finally:
        set_running_loop(loop)


def is_coroutine(value: Any) -> bool:
    """Whether a function that returned this is not over."""
    kind = type(value)
    return kind is CoroutineType or (kind not in COMMON and isinstance(value, Coroutine))


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
        owner: Owner,
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

    def interrupt(self) -> None:
        """From any thread: KeyboardInterrupt in the running step, else soon where the function is suspended."""
        if self._on_done is None or self._asked or self._due is not None:
            return
        # First asked, then looked: a step that begins between the two looks after it has begun, so at least one
        # sees the other, and pop() decides. Without that a long step could begin before _wake has its turn.
        for _ in range(INTERRUPT_ATTEMPTS_MAX):
            self._asked.append(KeyboardInterrupt)
            if not self._interrupts.is_running(self._owner):
                break
            if take(self._asked) is None or self._interrupts.request(self._owner):
                return
        else:
            self._asked.append(KeyboardInterrupt)
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

    def drop(self) -> list[object]:
        """On the loop, in no step: it waits on after its interrupt, so it is closed where it waits, and has ended.

        Returns what would not be closed. It has to be kept: without a reference Python would close it once more, outside of
        steps, and it might go on for ever then.
        """
        if self._on_done is None:
            return []
        self._waiting = None
        suspended: list[Any] = list(self._generators)
        if self._stepper is not None:
            suspended.append(self._stepper.abandon())
        self._generators.clear()
        refused = []
        self._interrupts.begin(self._owner)
        try:
            while suspended:
                innermost = suspended.pop()
                try:
                    self._context.run(innermost.close)
                except BaseException as error:  # the edge of user code
                    log.warning("%r in what was dropped", error)
                    refused.append(innermost)
        finally:
            self._interrupts.end()
        self._finish(Raised(KeyboardInterrupt()))
        return refused

    # -- the first step

    def start(self) -> None:
        """Run the first step now, in a callback of the loop: no asyncio.Task is running."""
        function, args, kwargs = self._function, self._args, self._kwargs
        self._function, self._args, self._kwargs = None, (), {}
        assert function is not None
        self._interrupts.begin(self._owner)
        due = self._due or take(self._asked)
        if due is not None:
            self._interrupts.end()
            self._finish(Raised(made(due)))
            return
        suspends = can_suspend(function)
        try:
            if suspends:
                result = self._context.run(enter_user_code, function, args, kwargs)
            else:
                result = call_plainly(self._loop, self._context, function, args, kwargs)
        except BaseException as error:  # the edge of user code
            self._interrupts.end()
            self._finish(raised(error))
            return
        due = self._interrupts.end()
        if suspends and type(result) is GeneratorType:  # else it is the value of a plain function
            self._due = due
            self._generators.append(result)
            self._advance()
        elif is_coroutine(result):
            self.go_on(result, due)
        else:
            self._finish(Returned(result))

    def go_on(self, coroutine: Coroutine[Any, Any, Any], due: Due | None) -> None:
        """The function was called and returned this: it is the task, and gets what was asked for meanwhile."""
        self._due = due
        self._await(coroutine, self._finish)

    def _finish(self, outcome: Outcome) -> None:
        on_done, self._on_done = self._on_done, None
        self._stepper = self._due = self._value = self._error = None
        del self._owner  # it points here
        assert on_done is not None
        on_done(outcome)

    # -- generators

    def _advance(self) -> None:
        """Resume the innermost generator until it has to wait, or had its share of this turn."""
        if self._on_done is None:  # dropped meanwhile
            return
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
        self._due = self._interrupts.end(True)
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


async def _awaiting(awaitable: Awaitable[Any]) -> Any:
    return await awaitable
