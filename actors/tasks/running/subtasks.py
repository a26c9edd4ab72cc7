"""Tasks of asyncio that a user's task makes: their steps are steps of that task, and they end with it.

A user's function may make Tasks of its own, by create_task, TaskGroup, gather, wait_for of Python 3.11 ... asyncio runs
their steps. So that an interrupt finds such a step, and no KeyboardInterrupt or SystemExit of it reaches the loop and ends
every other task of the process, `adopt` stands before the loop's create_task. It gives the Task a `Subtask` to run, which
stands between it and the user's coroutine as `Execution` does for the function itself:

* Each step is bracketed by `Interrupts.begin()` and `end()` with the dispycos task as its owner.
* KeyboardInterrupt and SystemExit end the Task as cancelled, which TaskGroup, gather and wait_for know how to take, and are
  thrown in where the function itself is suspended, which may catch them. Everything else passes as it is.
* While an interrupt is on its way to the function, no other step of its Tasks begins: one that is long would hold it up.

To which task a Task belongs is told by the context that it will run in. `context=contextvars.Context()` makes one that
belongs to nobody, and so do we for the runtime's own by calling asyncio.Task itself.

As with asyncio.run, Tasks that are left when the function has returned or raised are cancelled, and its outcome waits for
them, but not for long: a server has other tasks, and its node waits for the outcome. What goes on all the same is dropped:
it is resumed once more, by a CancelledError, and closed where it then suspends. A Task that is made later still (by a
listener that was left open, or to finalize an asynchronous generator) has as long.

create_task is wrapped and not the task factory taken, so that a factory of the user's, as asyncio.eager_task_factory, is
still free to be set. What calls asyncio.Task itself is not seen.
"""

from __future__ import annotations

import asyncio
import logging
from asyncio import AbstractEventLoop, CancelledError
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any

from ..ends import Due, without_our_frames
from .between import Between
from .execution import Execution
from .interrupts import Interrupts, Owner

SUBTASKS_S = 3.0  # less than the 5 s after which a task that was terminated is killed with its server
POSTPONED_MAX = 16  # turns of the loop in which a step stands back for an interrupt

log = logging.getLogger("dispycos")


class Subtasks:
    """Those of one dispycos task that have not ended. `execution` runs its function; None: it is over."""

    def __init__(
        self,
        owner: Owner,
        name: str,
        loop: AbstractEventLoop,
        interrupts: Interrupts,
        execution: Execution | None,
    ) -> None:
        self.owner = owner
        self._name = name
        self._loop = loop
        self._interrupts = interrupts
        self._execution = execution
        self._left: dict[Subtask, None] = {}  # in the order in which they were made
        self._then: Callable[[], None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def count(self) -> int:
        return len(self._left)

    def make(self, coroutine: Coroutine[Any, Any, Any], make: Callable[..., Any], **options: Any) -> Any:
        """A Task made by `make`, one of these."""
        subtask = Subtask(coroutine, self)
        task = make(subtask, **options)
        if not subtask.is_over:  # else it was eager and needed one step
            subtask.task = task
            self._left[subtask] = None
            if self._execution is None and self._timer is None:
                self._wait()
        return task

    def end(self, then: Callable[[], None]) -> bool:
        """The function is over: cancel what is left. False: nothing is; else `then` is called when that has ended."""
        self._execution = None
        if not self._left:
            return False
        self._then = then
        self._wait()
        for subtask in tuple(self._left):
            subtask.cancel()
        return True

    # -- told by the Subtask

    def begin_step(self) -> bool:
        """False: the first step of an eager Task, inside the step of whoever makes it, to whom what it raises then goes."""
        if self._interrupts.running:
            return False
        self._interrupts.begin(self.owner)
        return True

    def end_step(self, goes_on: bool) -> None:
        due = self._interrupts.end(goes_on)
        if due is not None:  # asked for, too late to be raised in this step
            self.throw_in(due)

    def is_interrupted(self) -> bool:
        """Whether something is on its way to the function."""
        return self._execution is not None and self._execution.is_interrupted

    def throw_in(self, due: Due) -> None:
        if self._execution is not None:
            self._execution.throw_in(due)

    def leave(self, subtask: Subtask) -> None:
        self._left.pop(subtask, None)
        if not self._left:
            self._close()

    # -- the end

    def _wait(self) -> None:
        self._timer = self._loop.call_later(SUBTASKS_S, self.drop, context=Context())

    def drop(self) -> None:
        """Those that are left after the end of the function have had their time."""
        for subtask in tuple(self._left):
            log.warning("%r of the task %s goes on after its end: it is dropped", subtask.task, self._name)
            subtask.drop()
        self._left.clear()
        self._close()

    def _close(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        then, self._then = self._then, None
        if then is not None:  # it is no code of the user's, nor of the Task that ends
            self._loop.call_soon(then, context=Context())


class Subtask(Between):
    """What the asyncio.Task runs; for those who ask the Task for its coroutine it looks like the user's."""

    __slots__ = ("_is_dropped", "_postponed", "_subtasks", "is_over", "task")

    def __init__(self, coroutine: Coroutine[Any, Any, Any], subtasks: Subtasks) -> None:
        self._coroutine = coroutine
        self._subtasks: Subtasks | None = subtasks
        self._postponed = 0
        self._is_dropped = False
        self.task: asyncio.Task[Any] | None = None
        self.is_over = False

    def __getattr__(self, name: str) -> Any:
        """__qualname__, cr_frame, cr_await ...: for reprs and stacks."""
        return getattr(self._coroutine, name)

    def cancel(self) -> None:
        if self.task is not None:
            self.task.cancel()

    def drop(self) -> None:
        """Where it suspends next it ends."""
        self._is_dropped = True
        self.cancel()

    # -- steps

    def _step(self, resume: Callable[[Any], Any], argument: Any) -> Any:
        coroutine, subtasks = self._coroutine, self._subtasks
        assert coroutine is not None and subtasks is not None
        is_outermost = subtasks.begin_step()
        goes_on = True
        try:
            if is_outermost and argument is None and self._has_to_wait(subtasks):
                return None  # a bare yield: the Task comes again in the next turn
            yielded = resume(argument)
            if self._is_dropped:
                coroutine.close()
                raise CancelledError
            return yielded
        except (KeyboardInterrupt, SystemExit) as error:
            self._leave(subtasks)
            if not is_outermost:
                raise
            is_outermost = False
            subtasks.end_step(goes_on=False)  # here, while the exception is being handled
            subtasks.throw_in(without_our_frames(error))
        except BaseException:
            goes_on = False
            self._leave(subtasks)
            raise
        finally:
            if is_outermost:
                subtasks.end_step(goes_on)
            del resume, argument, coroutine, subtasks  # a traceback holds this frame
        raise CancelledError

    def _has_to_wait(self, subtasks: Subtasks) -> bool:
        """For an interrupt, which is looked for inside the step: see Execution.interrupt().

        Not for ever: the function may be waiting for this very Task.
        """
        if subtasks.is_interrupted() and self._postponed < POSTPONED_MAX:
            self._postponed += 1
            return True
        self._postponed = 0
        return False

    def _leave(self, subtasks: Subtasks) -> None:
        self.is_over = True
        self.task = self._subtasks = None
        subtasks.leave(self)


def adopt(loop: AbstractEventLoop, find: Callable[[Context | None], Subtasks | None]) -> None:
    """From now on Tasks that the loop makes are subtasks where `find` knows whose: in that context, or the current one."""
    make = loop.create_task

    def create_task(coroutine: Any, **options: Any) -> Any:
        subtasks = find(options.get("context")) if asyncio.iscoroutine(coroutine) else None
        if subtasks is None:
            return make(coroutine, **options)
        return subtasks.make(coroutine, make, **options)

    loop.create_task = create_task  # type: ignore[method-assign,assignment]
