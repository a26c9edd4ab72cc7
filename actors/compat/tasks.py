"""The pycos Task: dispycos' own, with the return values and the methods that pycos' scripts know."""

from __future__ import annotations

import asyncio
import inspect
import itertools
import logging
import traceback
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Self

from dispycos.errors import DispycosError, NameTaken, TaskLost, TaskRefused, TaskTerminated
from dispycos.protocol.addresses import Location

from ..tasks.calling import ATOMS, name_of
from ..tasks.cell import Cell
from ..tasks.current import current_cell
from ..tasks.either_style import must_be_callable
from ..tasks.ends import without_our_frames
from ..tasks.handles import Handles
from ..tasks.results import trace_of
from ..tasks.running.execution import Execution
from ..tasks.submitting import MonitorStatus
from ..tasks.submitting import Task as NativeTask
from ..tasks.swap import Call, Swap
from ..tasks.waiting import within
from .names import TASKS, look_up
from .network import join
from .peers import location_of
from .program import program

log = logging.getLogger("dispycos")

_kept: dict[int, Any] = {}  # messages between tasks of this process, until they are received
_numbers = itertools.count(1)


class Task(NativeTask):
    """``Task(function, *args, **kwargs)``, or ``Task(target=function, args=(), kwargs={})``, starts a task, from any thread.

    Messages between tasks of one process are passed as they are, without a copy. ``yield task()``, ``yield task.finish()`` and,
    in a thread, ``task.value()`` give its value; a MonitorStatus if it failed; None at the timeout.
    """

    __slots__ = ("_sleeper", "sent_to")

    _host: Any
    _sleeper: asyncio.Future[Any] | None
    sent_to: Location  # the server to which it has sent its last file

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        function, args, kwargs = call_of(args, kwargs)
        must_be_callable(function)
        program.call(self._start, function, args, kwargs)

    def _start(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        host = program.host
        with host.shield, host.runtime.lock:
            cell = host.prepare(name_of(function), program.ended)
            cell.bind(self)
        if host.place is None:
            program.begin(cell)
        host.loop.call_soon(cell.begin, function, args, kwargs)

    # --- messages ---

    def send(self, message: Any) -> int:
        """0: it is on its way; -1: the task has ended. Raises NotPicklable, MailboxFull."""
        if not self.is_alive():
            return -1
        return super().send(self._passed(message))

    async def deliver(self, message: Any, timeout: float | None = None, n: int = 1) -> int:
        """1: it is in the receiver's mailbox; 0: not within the timeout; -1: the task has ended."""
        if timeout is not None and timeout <= 0 and isinstance(self._source, Cell):
            return 1 if self.send(message) == 0 else -1
        delivered = await super().deliver(self._passed(message), timeout)
        return delivered or (0 if self.is_alive() else -1)

    def _passed(self, message: Any) -> Any:
        """To a task of this process it goes as it is."""
        if type(message) in ATOMS or not isinstance(self._source, Cell):
            return message
        return Passed(message)

    async def receive(
        self, timeout: float | None = None, alarm_value: Any = None, category: Any = None
    ) -> Any:
        """The oldest message; alarm_value at the timeout, in seconds. The value of a MonitorStatus is its traceback, if any."""
        message = await super().receive(timeout, alarm_value)
        if isinstance(message, MonitorStatus) and message.traceback:
            return replace(message, value=message.traceback)
        return message

    recv = receive

    # --- waiting ---

    async def sleep(self, timeout: float | None = None, alarm_value: Any = None) -> Any:
        """So many seconds, or until resume(); gives alarm_value, or what resume() was given."""
        sleeper: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._sleeper = sleeper
        try:
            return await within(sleeper, timeout)
        except TimeoutError:
            return alarm_value
        finally:
            self._sleeper = None

    suspend = sleep

    def resume(self, update: Any = None) -> int:
        """0: it goes on from sleep() or suspend(), which gives `update`; -1: it is in neither."""

        def wake() -> int:
            sleeper = getattr(self, "_sleeper", None)
            if sleeper is None or sleeper.done():
                return -1
            sleeper.set_result(update)
            return 0

        return program.call(wake)

    wakeup = resume

    def throw(self, kind: Any, value: Any = None, trace: Any = None) -> int:
        """Raise this where the task is suspended; only for tasks of this process. 0, or -1 if it has ended."""
        if isinstance(kind, tuple):  # of sys.exc_info()
            kind, value, *_ = kind
        error = value if isinstance(value, BaseException) else kind if value is None else kind(value)

        def raise_there() -> int:
            cell = self._source
            if not isinstance(cell, Cell) or cell.execution is None:
                return -1
            cell.execution.throw_in(error)
            return 0

        return program.call(raise_there)

    # --- ends ---

    def terminate(self) -> int:
        """0: it gets KeyboardInterrupt; -1: it has ended."""
        if not self.is_alive():
            return -1
        return super().terminate()

    def __call__(self) -> Any:
        """``yield task()``: as finish()."""
        return self.finish()

    async def finish(self, timeout: float | None = None) -> Any:
        """Its value; a MonitorStatus if it failed; None at the timeout, in seconds."""
        await asyncio.wait((self,), timeout=timeout)
        return self._as_pycos() if self.done() else None

    def value(self, timeout: float | None = None) -> Any:
        """As finish(), for threads."""
        return program.wait(self.finish(timeout))

    def _as_pycos(self) -> Any:
        try:
            return self.result()
        except (Exception, asyncio.CancelledError) as error:
            terminated = isinstance(error, TaskTerminated | asyncio.CancelledError)
            kind = KeyboardInterrupt if terminated else type(error)
            text = (
                trace_of(without_our_frames(error))
                or "".join(traceback.format_exception_only(error)).rstrip()
            )
            return MonitorStatus(self, kind, str(error) if terminated else text, text)

    async def monitor(self, observe: NativeTask | None = None) -> int:  # type: ignore[override]
        """Have a MonitorStatus sent when a task ends. 0; -1 if `observe` is no task.

        ``me.monitor(other)``: this task gets that of the other one. ``rtask.monitor(me)``, as dispycos has it, too, where this one
        is not of this process, or `me` is the running task.
        """
        observe = cur_task() if observe is None else observe
        if not isinstance(observe, NativeTask):
            return -1
        is_observed = not isinstance(self._source, Cell) or (observe == cur_task() and observe != self)
        observed, by = (self, observe) if is_observed else (observe, self)
        return await NativeTask.monitor(observed, by)

    def notify(self, monitor: NativeTask) -> int:
        """Have a MonitorStatus sent to `monitor` when this task ends. 0."""
        host = self._host
        program.call(lambda: host.in_background(_monitored(self, monitor)))
        return 0

    # --- names ---

    def register(self, name: str | None = None) -> int:
        """0; -1 if another task has the name."""
        join()
        try:
            return program.call(super().register, name)
        except (NameTaken, TaskLost) as error:
            log.warning("register(): %s", error)
            return -1

    def unregister(self, name: str | None = None) -> int:
        """0; -1 if it has ended."""
        try:
            return program.call(super().unregister, name)
        except TaskLost:
            return -1

    @classmethod
    async def locate(  # type: ignore[override]  # None instead of an error
        cls, name: str, location: str | Location | None = None, timeout: float | None = None
    ) -> Self | None:
        """The task of this name, here or in other programs; None if there is none within `timeout` seconds."""
        join()
        names = program.host.sharing.names
        here: Self | None = names.given(name) if location is None else None
        if here is not None:
            return here
        try:
            found: Self = await names.locate(name, location, timeout)
            return found
        except (TimeoutError, TaskLost):
            return None

    # --- the rest ---

    @property
    def location(self) -> Location | None:
        """Where it runs: a server's Location, else that of its program."""
        place = super().location
        if place is None and self.home.epoch == self._host.runtime.epoch and isinstance(self._source, Cell):
            return location_of(self._host)
        return place

    def set_daemon(self, flag: bool = True) -> int:
        """The end of the program does not wait for it. 0; -1 if it is no task of this process."""
        cell = self._source
        if not isinstance(cell, Cell):
            return -1
        if cell.host.place is None:
            program.set_daemon(cell, bool(flag))
        return 0

    def hot_swappable(self, flag: bool = True) -> int:
        """Whether hot_swap() may replace the function of this task, the running one, from now on."""
        return super().hot_swappable(bool(flag))

    def hot_swap(self, *args: Any, **kwargs: Any) -> int:
        """As Task(). 0; -1 if it has ended."""
        if not self.is_alive():
            return -1
        function, args, kwargs = call_of(args, kwargs)
        return super().hot_swap(function, *args, **kwargs)

    @staticmethod
    def scheduler() -> Any:
        """The Pycos of this process."""
        return look_up(TASKS, "pycos", "Pycos").instance()

    def state(self) -> str:
        """In words."""
        return "running" if self.is_alive() else "done"


async def _monitored(target: Task, monitor: NativeTask) -> None:
    """A task of another program is told from here."""
    if isinstance(monitor._source, Cell):
        await NativeTask.monitor(target, monitor)
        return
    await asyncio.wait((target,))
    status = target._as_pycos()
    monitor.send(
        status if isinstance(status, MonitorStatus) else MonitorStatus(target, StopIteration, status)
    )


class Passed:
    """A message within one process: pickled it is a number."""

    __slots__ = ("message",)

    def __init__(self, message: Any) -> None:
        self.message = message

    def __reduce__(self) -> Any:
        number = next(_numbers)
        _kept[number] = self.message
        return _take, (number,)


def _take(number: int) -> Any:
    return _kept.pop(number, None)


def call_of(
    args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]:
    """The function and its arguments, which may be given as to a thread. Raises TypeError: there is none."""
    if args:
        return args[0], args[1:], kwargs
    rest = dict(kwargs)
    if "target" not in rest:
        raise TypeError("the function of the task is missing")
    target = rest.pop("target")
    args = tuple(rest.pop("args", ()))
    return target, args, rest.pop("kwargs", rest)


def cur_task() -> Task | None:
    """The task that runs."""
    cell = current_cell()
    handle: Task | None = None if cell is None else cell.handle
    return handle


class Terminated(KeyboardInterrupt, GeneratorExit):
    """What terminate() raises in a generator function: in scripts it has either name."""


def _as_thrown(error: BaseException, into: Any) -> BaseException:
    """A GeneratorExit would not reach what it waits for by `yield from`: that is closed."""
    is_plain = type(error) is KeyboardInterrupt and into.gi_yieldfrom is None
    return Terminated(*error.args) if is_plain else error


def _generator_of(call: Call) -> Any:
    """What scripts look at before they let another function take their place."""
    function, args, kwargs = call
    if not inspect.isgeneratorfunction(function):
        return function
    try:
        return function(*args, **kwargs)
    except TypeError:  # without its task
        return function(*args, **kwargs, task=None)


Handles.task_class = Task
Swap.shown = staticmethod(_generator_of)
Execution.as_thrown = staticmethod(_as_thrown)  # type: ignore[method-assign]
Execution.refuses_unheard = False

__all__ = ["DispycosError", "MonitorStatus", "Task", "TaskRefused", "cur_task"]
