"""Event, Lock, RLock, Condition and Semaphore for the tasks of one process: threading's, waited for by `await` or `yield`.

Not asyncio's, which know no owner, and lose a turn when KeyboardInterrupt, by which tasks are ended, is raised in who has it
next. Who owns a lock is told by the asyncio.Task that runs: one of each task, and of each Task that a task makes.
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Any, NoReturn, Self, TypeVar

from dispycos.values import natural_number, wait_time

from ..tasks.current import current_cell, host_of
from ..tasks.waiting import within

V = TypeVar("V")

log = logging.getLogger("dispycos")

FOR_EVER = -1  # as of threading


class Line:
    """Those who wait for something, first come, first served."""

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[bool]] = deque()

    async def wait(self, timeout: float | None, pass_on: Callable[[], object]) -> bool:
        """Until it is one's turn; False at the timeout. `pass_on` is called if one had it and was interrupted."""
        timeout = wait_time(timeout)
        if timeout is not None and timeout <= 0:
            return False
        turn: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            return await within(turn, timeout)
        except TimeoutError:
            return False
        except BaseException:
            if turn.done() and not turn.cancelled():
                pass_on()
            raise
        finally:
            if turn in self._waiting:
                self._waiting.remove(turn)

    def call_next(self) -> bool:
        """It is the turn of the first; False: nobody waits."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(True)
                return True
        return False

    def __len__(self) -> int:
        return sum(not turn.done() for turn in self._waiting)


class Local:
    """What cannot be sent: each process that has it by its statement makes its own."""

    def __reduce__(self) -> NoReturn:
        kind = type(self).__name__
        raise TypeError(
            f"a dispycos.{kind} is for the tasks of one process and cannot be sent: use messages or a Channel between processes"
        )


class Acquirable(Local, ABC):
    """What can be acquired and released, also by `async with`."""

    @abstractmethod
    async def acquire(self, blocking: bool = True, timeout: float | None = None) -> bool:
        """Wait until it can be had, at most `timeout` seconds (-1: for ever), or not at all; whether one has it now."""

    @abstractmethod
    def release(self) -> None:
        """Give it back."""

    async def __aenter__(self) -> Self:
        await self.acquire()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()


class Lock(Acquirable):
    """One task has it at a time; who asked first has it next.

    Only the task that has it may release it. Of a task that ends without having done so it is taken, with a warning, as
    nobody else could ever have it: what it guards may be half done.
    """

    def __init__(self) -> None:
        self._line = Line()
        self._is_taken = False  # or is on its way to the next
        self._owner: asyncio.Task[Any] | None = None
        self._depth = 0
        self._title = ""  # of who has it, for people

    def locked(self) -> bool:
        """Whether somebody has it."""
        return self._is_taken

    async def acquire(self, blocking: bool = True, timeout: float | None = None) -> bool:
        """Wait until it can be had, at most `timeout` seconds, or not at all if not `blocking`. Whether one has it now."""
        return await self._take(blocking, timeout, 1)

    def release(self) -> None:
        """Let the next one have it.

        Raises
        ------
        RuntimeError: the running task does not have it.
        """
        self._must_own("release")
        self._depth -= 1
        if not self._depth:
            self._leave()

    async def _take(self, blocking: bool, timeout: float | None, depth: int) -> bool:
        me = _running_task()
        if me is None:
            raise RuntimeError("a lock is acquired by await or yield in a task")
        timeout = None if timeout == FOR_EVER else timeout
        if not self._is_taken:
            self._is_taken = True
        elif not blocking or not await self._line.wait(timeout, self._pass_on):
            return False
        cell = current_cell()
        self._owner, self._depth, self._title = me, depth, cell.name if cell is not None else me.get_name()
        me.add_done_callback(self._see_end)
        return True

    def _leave(self) -> int:
        """Give it up altogether; how often it was acquired."""
        assert self._owner is not None
        self._owner.remove_done_callback(self._see_end)
        depth, self._depth, self._owner = self._depth, 0, None
        self._pass_on()
        return depth

    def _pass_on(self) -> None:
        self._is_taken = self._line.call_next()

    def _see_end(self, owner: asyncio.Task[Any]) -> None:
        if owner is not self._owner:
            return
        text = f"{self._title} ended while it had {self!r}: others may have it now, and what it guards may be half done"
        self._leave()
        host = host_of(owner.get_loop())
        if host is not None and host.sharing is not None:
            host.sharing.warn(text)
        else:
            log.warning(text)

    def _is_owned(self) -> bool:
        return self._owner is not None and self._owner is _running_task()

    def _must_own(self, what: str) -> None:
        if not self._is_owned():
            whose = f"{self._title} has it" if self._owner is not None else "nobody has it"
            raise RuntimeError(f"{what}(): the running task does not have {self!r}; {whose}")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} at {id(self):#x}>"


class RLock(Lock):
    """A Lock that the task that has it may acquire again; it is released when it was as often released."""

    async def acquire(self, blocking: bool = True, timeout: float | None = None) -> bool:
        """As Lock.acquire; at once for the task that has it."""
        if self._is_owned():
            self._depth += 1
            return True
        return await self._take(blocking, timeout, 1)


class Condition(Acquirable):
    """Tasks wait for others to say that something has changed; each has the lock before and after its wait.

    Parameters
    ----------
    lock: a Lock or RLock to be shared with others; an RLock of its own by default.
    """

    def __init__(self, lock: Lock | None = None) -> None:
        if lock is not None and not isinstance(lock, Lock):
            raise TypeError(f"lock must be a dispycos.Lock or RLock, not {type(lock).__name__}")
        self._lock = lock if lock is not None else RLock()
        self._line = Line()

    def locked(self) -> bool:
        """Whether somebody has its lock."""
        return self._lock.locked()

    async def acquire(self, blocking: bool = True, timeout: float | None = None) -> bool:
        """Its lock; as Lock.acquire."""
        return await self._lock.acquire(blocking, timeout)

    def release(self) -> None:
        """Its lock; as Lock.release."""
        self._lock.release()

    async def wait(self, timeout: float | None = None) -> bool:
        """Give the lock up until somebody notifies, at most `timeout` seconds, and have it again. Whether somebody did.

        Raises
        ------
        RuntimeError: the running task does not have the lock.
        """
        self._lock._must_own("wait")
        depth = self._lock._leave()
        try:
            was_notified = await self._line.wait(timeout, self._line.call_next)
        except GeneratorExit:  # the task is dropped, and waits for nothing more
            raise
        except BaseException:
            await self._take_again(depth)
            raise
        await self._take_again(depth)
        return was_notified

    async def _take_again(self, depth: int) -> None:
        """Whatever comes: who leaves `async with` releases it."""
        interrupt: BaseException | None = None
        while True:
            try:
                await self._lock._take(True, None, depth)
                break
            except (asyncio.CancelledError, KeyboardInterrupt) as error:
                interrupt = error
        if interrupt is not None:
            raise interrupt

    async def wait_for(self, predicate: Callable[[], V], timeout: float | None = None) -> V:
        """Wait until ``predicate()`` is true, at most `timeout` seconds; it is called after each notification. Its last value.

        Raises
        ------
        RuntimeError: the running task does not have the lock.
        """
        loop = asyncio.get_running_loop()
        timeout = wait_time(timeout)
        until = None if timeout is None else loop.time() + timeout
        while not (value := predicate()):
            left = None if until is None else until - loop.time()
            if left is not None and left <= 0:
                break
            await self.wait(left)
        return value

    def notify(self, n: int = 1) -> None:
        """Wake so many of those who wait; they go on when they have the lock.

        Raises
        ------
        RuntimeError: the running task does not have the lock.
        """
        self._lock._must_own("notify")
        for _ in range(n):
            if not self._line.call_next():
                break

    def notify_all(self) -> None:
        """Wake all; as notify."""
        self.notify(len(self._line))


class Semaphore(Acquirable):
    """So many tasks have it at a time. It has no owners: any task may release it, and one that ends does not.

    Raises
    ------
    TypeError, ValueError: `value` is no count.
    """

    def __init__(self, value: int = 1) -> None:
        self._left = natural_number(value, "value")
        self._line = Line()

    def locked(self) -> bool:
        """Whether acquire() would wait."""
        return not self._left

    async def acquire(self, blocking: bool = True, timeout: float | None = None) -> bool:
        """Wait until fewer have it, at most `timeout` seconds, or not at all if not `blocking`. Whether one has it now."""
        timeout = None if timeout == FOR_EVER else timeout
        if self._left:
            self._left -= 1
            return True
        if not blocking:
            return False
        return await self._line.wait(timeout, self.release)

    def release(self, n: int = 1) -> None:
        """Let `n` more have it. Raises ValueError: `n` is less than 1."""
        if n < 1:
            raise ValueError(f"n must be 1 or more, not {n}")
        for _ in range(n):
            if not self._line.call_next():
                self._left += 1


class Event(Local):
    """Tasks wait until it is set, and then do not until it is cleared."""

    def __init__(self) -> None:
        self._is_set = False
        self._line = Line()

    def is_set(self) -> bool:
        """Whether it is set."""
        return self._is_set

    def set(self) -> None:
        """Have all who wait go on, and those who come wait no more."""
        self._is_set = True
        while self._line.call_next():
            pass

    def clear(self) -> None:
        """Have those wait who come from now on."""
        self._is_set = False

    async def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is set, at most `timeout` seconds (None: for ever). Whether it was."""
        return self._is_set or await self._line.wait(timeout, lambda: None)


def _running_task() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:  # no loop runs: a plain function
        return None
