"""Steps one user function to its outcome: a generator function, an `async def` or a plain function.

Every stretch of user code is one step: bracketed by `Interrupts.begin()` and `end()`, inside the task's own
Context. A coroutine, and what resumes a generator, runs in one real asyncio.Task, because all of asyncio asks for
current_task(). Its first step runs at once inside that Task's constructor. What goes into the Task is not the user's coroutine
but the `Execution`, which stands between the two: it brackets the steps, lets no KeyboardInterrupt or SystemExit out (either
would end the loop and with it every other task of the process), and turns our own cancel() of that Task into the exception that
was asked for, while a cancel() of the user's stays a CancelledError. Tasks that the function makes itself are seen to by
subtasks.py.

Everything here is called on the loop, in the main thread; only the interrupts may be called from any
thread.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import reprlib
import warnings
from asyncio import AbstractEventLoop, CancelledError
from asyncio.events import _set_running_loop as set_running_loop  # documented for those who make loops
from collections.abc import Callable, Coroutine, Generator, Mapping, Sequence
from contextvars import Context
from types import CoroutineType, GeneratorType
from typing import Any

from dispycos.errors import HotSwapException

from ..calling import COMMON, can_suspend
from ..ends import Due, Outcome, Raised, Returned, made, raised
from .between import Between, children_of, start_task
from .interrupts import Interrupts, Owner, enter_user_code

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


def _as_sent(generator: Generator[Any, Any, Any], value: Any) -> Any:
    """What a yield gives back; None where `yield from range(3)` stands, which takes nothing else."""
    inner: Any = generator
    while value is not None and isinstance(inner, GeneratorType):
        inner = inner.gi_yieldfrom
    return value if inner is None or hasattr(inner, "send") else None


def _is_said_by_calls(value: Any) -> bool:
    """Of those that are there for what they do: yield handle.send(x)."""
    return value is None or type(value) is bool or (type(value) is int and value == 0)


class Execution(Between):
    """One running user function, as its asyncio.Task runs it; `on_done` hears its outcome once, outside any step."""

    __slots__ = (
        "_asked",
        "_context",
        "_due",
        "_generators",
        "_has_waited",
        "_interrupts",
        "_is_cancelling",
        "_loop",
        "_on_done",
        "_outcome",
        "_owner",
        "_refused",
        "_task",
        "_unheard",
    )

    refuses_unheard = True  # what a generator yields to nobody

    def __init__(
        self,
        owner: Owner,
        loop: AbstractEventLoop,
        interrupts: Interrupts,
        context: Context,
        on_done: Callable[[Outcome], None],
    ) -> None:
        self._owner = owner
        self._loop = loop
        self._interrupts = interrupts
        self._context = context
        self._on_done: Callable[[Outcome], None] | None = on_done
        self._asked: list[
            type[BaseException]
        ] = []  # by interrupt() in any thread; the next step takes it, or _wake
        self._due: Due | None = None  # to be thrown in at the next resumption
        self._generators: Sequence[Generator[Any, Any, Any]] = ()  # as _resume has them
        self._is_cancelling = False  # by us, so that what is due is thrown in
        self._unheard = (
            ""  # the first value that was yielded and is nothing to wait for, as text: it may be large
        )
        self._has_waited = False  # a yield was for something
        self._coroutine = None  # not there yet
        self._task: asyncio.Task[Any] | None = None  # None: in its first step at most, or over
        self._outcome: Outcome | None = None  # of a first step that was all
        self._refused: list[object] = []  # generators that would not be closed

    @property
    def context(self) -> Context:
        return self._context

    @property
    def is_done(self) -> bool:
        return self._on_done is None

    @property
    def is_interrupted(self) -> bool:
        """Whether something is to be thrown in where the function is suspended, and was not yet."""
        return bool(self._asked) or self._due is not None

    def suspended(self) -> list[Any]:
        """From any thread: what it runs. Generators, each called by the one before, and a coroutine, which awaits for the last."""
        return [*self._generators, self._coroutine]

    def interrupt(self) -> None:
        """From any thread: KeyboardInterrupt in the running step, else soon where the function is suspended."""
        is_due = self._due is not None and not isinstance(self._due, HotSwapException)
        if self._on_done is None or self._asked or is_due:
            return
        # First asked, then looked: a step that begins between the two looks after it has begun, so at least one
        # sees the other, and pop() decides. Without that a long step could begin before _wake has its turn.
        for _ in range(INTERRUPT_ATTEMPTS_MAX):
            self._asked.append(KeyboardInterrupt)
            if not self._interrupts.is_running(self._owner):
                break
            if self._take_asked() is None or self._interrupts.request(self._owner):
                return
        else:
            self._asked.append(KeyboardInterrupt)
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake)

    def _take_asked(self) -> type[BaseException] | None:
        """At most one taker gets it, in whatever threads they are."""
        try:
            return self._asked.pop() if self._asked else None
        except IndexError:
            return None

    def _wake(self) -> None:
        """Throw in what was asked for and not taken by a step."""
        exception = self._take_asked()
        if exception is not None:
            self.throw_in(exception)

    def throw_in(self, due: Due) -> None:
        """On the loop, in no step of its own: raise it soon where the function is suspended. The first one counts.

        What is awaited there is cancelled, as by Task.cancel().
        """
        if self._on_done is None or self._due is not None:
            return
        self._due = due
        if self._task is not None:
            self._cancel()

    def drop(self) -> list[object]:
        """On the loop, in no step: it waits on after its interrupt, so it is closed where it waits, and has ended.

        Returns what would not be closed. It has to be kept: without a reference Python would close it once more, outside of
        steps, and it might go on for ever then.
        """
        if self._on_done is None:
            return []
        coroutine, self._coroutine = self._coroutine, None
        task, self._task = self._task, None
        assert coroutine is not None and task is not None
        task.cancel()
        self._interrupts.begin(self._owner)
        try:
            self._context.run(self._close, coroutine)
        finally:
            self._interrupts.end()
        self._finish(Raised(KeyboardInterrupt()))
        return self._refused

    def _close(self, suspended: Coroutine[Any, Any, Any] | Generator[Any, Any, Any]) -> None:
        try:
            suspended.close()
        except BaseException as error:  # the edge of user code
            log.warning("%r in what was dropped", error)
            self._refused.append(suspended)

    # -- the first step

    def start(self, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Run the first step now, in a callback of the loop: no asyncio.Task is running."""
        self._interrupts.begin(self._owner)
        due = self._due or self._take_asked()
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
            self.go_on(self._resume(result), due)
        elif is_coroutine(result):
            self.go_on(result, due)
        else:
            self._finish(Returned(result))

    def go_on(self, coroutine: Coroutine[Any, Any, Any], due: Due | None) -> None:
        """The function was called and returned this: it is the task, and gets what was asked for meanwhile."""
        self._coroutine = coroutine
        self._due = due
        task = start_task(self, self._loop, self._context)
        if self._outcome is None:
            self._task = task
        else:
            self._finish(self._outcome)

    def _finish(self, outcome: Outcome) -> None:
        on_done, self._on_done = self._on_done, None
        self._coroutine = self._task = self._due = self._outcome = None
        del self._owner  # it points here
        assert on_done is not None
        on_done(outcome)

    # -- generators

    @staticmethod
    def as_thrown(error: BaseException, into: Generator[Any, Any, Any]) -> BaseException:
        """What this generator gets of it."""
        return error

    async def _resume(self, generator: GeneratorType[Any, Any, Any]) -> Any:
        """Its value: a yield calls another generator, awaits what can be awaited, lets others run, or gives a value back."""
        names = getattr(generator.gi_frame, "f_globals", {})
        generators: list[Generator[Any, Any, Any]] = [generator]  # the called ones above their callers
        self._generators = generators
        outcome: Outcome = Returned(None)  # what goes into the innermost one next
        turn, count, until = 0, 0, 0.0
        try:
            while generators:
                if turn != self._interrupts.steps:  # it was suspended
                    turn, count, until = self._interrupts.steps, 0, self._loop.time() + IMMEDIATE_S
                count += 1
                try:
                    if isinstance(outcome, Returned):
                        yielded = generators[-1].send(_as_sent(generators[-1], outcome.value))
                    else:
                        yielded = generators[-1].throw(self.as_thrown(outcome.error, generators[-1]))
                except StopIteration as stop:
                    generators.pop()
                    outcome = Returned(stop.value)
                    continue
                except BaseException as error:  # the edge of user code
                    generators.pop()
                    outcome = raised(error)
                    continue
                try:
                    if type(yielded) is GeneratorType:
                        generators.append(yielded)
                        outcome = Returned(None)
                    else:
                        outcome = Returned(await yielded if self._can_await(yielded) else yielded)
                    had_its_share = count >= IMMEDIATE_STEPS_MAX or self._loop.time() >= until
                    if yielded is None:
                        self._has_waited = True
                    if yielded is None or (had_its_share and turn == self._interrupts.steps):
                        await asyncio.sleep(0)
                except BaseException as error:
                    if self._coroutine is None:  # dropped
                        raise
                    outcome = raised(error)
            if isinstance(outcome, Raised):
                raise outcome.error
            if outcome.value is None and self._unheard:
                self._tell_unheard(generator, names)
            return outcome.value
        finally:
            del outcome
            while generators:
                self._close(generators.pop())

    def _can_await(self, yielded: Any) -> bool:
        if not asyncio.isfuture(yielded):
            can = inspect.isawaitable(yielded)
            if can:
                self._has_waited = True
            elif self.refuses_unheard and not (self._unheard or _is_said_by_calls(yielded)):
                self._unheard = reprlib.repr(yielded)
            return can
        self._has_waited = True
        if yielded.get_loop() is not self._loop:
            raise RuntimeError(f"{yielded!r} belongs to another event loop")
        return True

    def _tell_unheard(self, generator: GeneratorType[Any, Any, Any], names: dict[str, Any]) -> None:
        """It returned None. Raises TypeError if it never waited: then it is no task by its yields."""
        name, code = generator.__name__, generator.gi_code
        text = (
            f"{name} yields values, as {self._unheard}, which nobody gets: a task's value is what it "
            f"returns, and its `yield` waits, as `await` does. Return a list of them, or send them, by handle.send(value)"
        )
        if not self._has_waited:
            raise TypeError(text)
        told = names.setdefault("__warningregistry__", {})  # once, as by warn() at that line
        warnings.warn_explicit(text, RuntimeWarning, code.co_filename, code.co_firstlineno, registry=told)

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
            del outcome, self  # from Python 3.12 on the frame of a coroutine that raised leads to this one

    def _interruption(self) -> tuple[Callable[[Any], Any], BaseException] | None:
        """What is done instead of resuming, when an exception is due."""
        assert self._coroutine is not None
        due, self._due = self._due or self._take_asked(), None
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
        try:
            if isinstance(outcome, Raised) and isinstance(outcome.error, CancelledError):
                end: BaseException = CancelledError()
            else:
                end = StopIteration(outcome.value if isinstance(outcome, Returned) else None)
            if self._task is None:
                self._outcome = outcome
            else:
                Context().run(self._finish, outcome)  # it is no code of the user's task
            raise end
        finally:
            del outcome, end
