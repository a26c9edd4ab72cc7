"""The future of one call of an Executor: a concurrent.futures.Future, with the task that runs it."""

from __future__ import annotations

import concurrent.futures
import threading
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from dispycos.values import wait_time

from ..client.loop_thread import LoopThread, wait_until
from ..tasks.calling import name_of
from ..tasks.ends import plain

if TYPE_CHECKING:
    from ..tasks.submitting import Task

T = TypeVar("T")
Call = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]  # function, arguments


class Withdraws(Protocol):
    """Who has the calls (calls.py)."""

    def withdraw(self, future: Any) -> bool:
        """Whether no server has it: then none will."""

    @property
    def thread(self) -> LoopThread:
        """That settles futures."""


class Event(threading.Event):
    """Waited for by the second in the main thread, as wait_until() tells."""

    @plain
    def wait(self, timeout: float | None = None) -> bool:
        return wait_until(super().wait, timeout)


class Waiters(list[Any]):
    """Of a future, as concurrent.futures.wait() and as_completed() have them: each with the event that it waits for."""

    def append(self, waiter: Any) -> None:
        if type(waiter.event) is threading.Event:  # it is new: it has not been told of any future yet
            waiter.event = Event()
        super().append(waiter)


class Future(concurrent.futures.Future[T]):
    """What ``Executor.submit`` returns; ``concurrent.futures.wait``, ``asyncio.wrap_future`` and the like take it.

    ``cancel()`` is False once a server has the call, as in the standard library. ``future.task.terminate()`` ends it then.
    """

    def __init__(self, calls: Withdraws, call: Call) -> None:
        super().__init__()
        self._waiters = Waiters()
        self._calls = calls
        self._call: Call | None = call  # until the client has it
        self._handle: Task[Any] | None = None  # then
        self._wanted: threading.Event | None = None  # somebody waits for that
        self._is_withdrawn = False  # nobody runs it: it was cancelled in time

    @plain
    def result(self, timeout: float | None = None) -> T:
        """What the call returned, or raises what it raised; TimeoutError after `timeout` seconds."""
        self._wait(wait_time(timeout, "result(): timeout"), "result()")
        return super().result(0)

    @plain
    def exception(self, timeout: float | None = None) -> BaseException | None:
        """What the call raised, or None; waits as result()."""
        self._wait(wait_time(timeout, "exception(): timeout"), "exception()")
        return super().exception(0)

    def _wait(self, timeout: float | None, what: str) -> None:
        if self.done():
            return
        self._calls.thread.must_be_elsewhere(f"{self.name}: {what}")
        with self._condition:
            has_ended = wait_until(partial(self._condition.wait_for, self.done), timeout)
        if not has_ended:
            raise TimeoutError(f"{self.name} has not ended within {timeout:.3g} s; it goes on")

    @property
    def name(self) -> str:
        """Of its function."""
        call, handle = self._call, self._handle
        if call is not None:
            return name_of(call[0])
        return handle.name if handle is not None else "the call"

    @property
    def task(self) -> Task[T]:
        """The task that runs the call; its ``terminate()`` may be called from any thread.

        Waits until the call is handed over, as while the first servers start.

        Raises
        ------
        concurrent.futures.CancelledError: it was cancelled in time. What the future raises: it was never handed over.
        """
        if self._handle is None and not self.done():
            self._wait_for_task()
        if self._handle is None:
            error = self.exception()
            assert error is not None, "a call has returned that nobody has run"
            raise error
        return self._handle

    def _wait_for_task(self) -> None:
        """Until the client has it, or it has ended."""
        self._calls.thread.must_be_elsewhere(f"{self.name}: its task")
        self._wanted = here = threading.Event()  # first this, then the look: it may be handed over meanwhile
        self.add_done_callback(lambda _: here.set())
        if self._handle is None:
            wait_until(here.wait)

    def _has_task(self, handle: Task[Any]) -> None:
        """The client has it from now on."""
        self._handle = handle
        if self._wanted is not None:
            self._wanted.set()

    def cancel(self) -> bool:
        """True if no server has got the call, and none will. False: it runs, or has ended."""
        if not self._calls.withdraw(self):
            return self.cancelled()
        super().cancel()
        self.set_running_or_notify_cancel()  # who waits for it hears of that at once
        return True

    def running(self) -> bool:
        """Whether a server has it, and it has not ended."""
        record: Any = self._handle._source if self._handle is not None else None
        return record is not None and record.at is not None and not self.done()
