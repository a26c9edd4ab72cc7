"""Many handles at once, the same calls in both styles: gather, as_completed, wait, cancel."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ALL_COMPLETED, FIRST_COMPLETED, FIRST_EXCEPTION, Future
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, Literal, Protocol, TypeVar, overload

from dispycos.values import wait_time

from ..tasks.ends import brief, is_ours, plain, without_our_frames
from ..tasks.styles import AsyncOneByOne, OneByOne, SyncOneByOne
from ..tasks.submitting import Task
from .loop_thread import loop_thread, take
from .sync_map import SyncMap
from .sync_task import SYNC, SyncTask

T = TypeVar("T")
T_out = TypeVar("T_out", covariant=True)


class AsyncHandle(Protocol[T_out]):
    """A handle, whatever it gives: a Task[int] is no Task[int | str], by which handles of several kinds would be refused."""

    def result(self, timeout: None = None) -> T_out: ...
    def terminate(self) -> int: ...


class SyncHandle(Protocol[T_out]):
    """The same, of the sync style."""

    def result(self, timeout: float | None = None) -> T_out: ...
    def terminate(self) -> int: ...


TaskT = TypeVar("TaskT", bound=AsyncHandle[object])
SyncTaskT = TypeVar("SyncTaskT", bound=SyncHandle[object])
KindT = TypeVar("KindT", bound=Task)

CLOSED = "this client has no cluster any more: its `with dispycos.Client(...)` has ended, or it was closed"
WHENS = (FIRST_COMPLETED, FIRST_EXCEPTION, ALL_COMPLETED)


def would_wait_for_itself(ahead: str, who: str) -> str:
    """Of one client that is opened inside of another."""
    return (
        f"{ahead} has the cluster, and {who}, which would wait for it here, has to leave it first: use that client, or close it "
        f"first"
    )


class Together:
    """Of the async style: asyncio's own functions take the handles, too."""

    @overload
    async def gather(
        self, *handles: AsyncHandle[T], return_exceptions: Literal[False] = False
    ) -> list[T]: ...
    @overload
    async def gather(self, *handles: AsyncHandle[T], return_exceptions: bool) -> list[T | BaseException]: ...
    @brief
    async def gather(self, *handles: Any, return_exceptions: bool = False) -> list[Any]:
        """The values, in the order of the handles: ``await client.gather(one, another)``, ``await client.gather(*handles)``.

        The first error is raised, as soon as it is there; it ends no other task. When the waiting is cancelled the tasks are.

        Parameters
        ----------
        return_exceptions: an error stands in the place of the value, and nothing is raised.

        Raises
        ------
        What the tasks raised. TypeError: one is no handle of the async style; the text says what to write.
        """
        return await asyncio.gather(*_of_style(handles, Task), return_exceptions=return_exceptions)

    @plain
    def as_completed(self, handles: Iterable[TaskT], timeout: float | None = None) -> AsyncIterator[TaskT]:
        """The handles, each when its task has ended: ``async for handle in client.as_completed(handles): handle.result()``.

        Raises
        ------
        TimeoutError: not all have ended `timeout` seconds after the first was asked for; the tasks go on.
        TypeError: one is no handle of the async style.
        """
        values: AsyncGenerator[Any, None] = _in_loop(
            _of_style(handles, Task), wait_time(timeout, "as_completed(): timeout")
        )
        return AsyncOneByOne(values, "client.as_completed(...)", "handle")

    @brief
    async def wait(
        self, handles: Iterable[TaskT], timeout: float | None = None, return_when: str = ALL_COMPLETED
    ) -> tuple[set[TaskT], set[TaskT]]:
        """The handles as two sets, (done, not done): ``done, rest = await client.wait(handles, return_when="FIRST_COMPLETED")``.

        Parameters
        ----------
        timeout: seconds to wait at most, which is no error; None: as long as it takes. The tasks go on.
        return_when: "ALL_COMPLETED", "FIRST_COMPLETED" or "FIRST_EXCEPTION", as of asyncio and concurrent.futures.

        Raises
        ------
        ValueError: `return_when` is none of these. TypeError: one is no handle of the async style.
        """
        _check(return_when)
        waiting, timeout = _of_style(handles, Task), wait_time(timeout, "wait(): timeout")
        if not waiting:
            return set(), set()
        ended: Any = await asyncio.wait(waiting, timeout=timeout, return_when=return_when)
        done, pending = ended
        return done, pending

    @plain
    def cancel(self, handles: Iterable[Task[Any]]) -> int:
        """End the tasks of these handles, as their ``cancel()`` does; returns at once how many had not ended."""
        return sum([handle.cancel() for handle in _of_style(handles, Task)])


class SyncTogether:
    """Of the sync style. Ctrl-C while one of them waits ends the tasks that it waits for."""

    @overload
    def gather(self, *handles: SyncHandle[T], return_exceptions: Literal[False] = False) -> list[T]: ...
    @overload
    def gather(self, *handles: SyncHandle[T], return_exceptions: bool) -> list[T | BaseException]: ...
    @plain
    def gather(self, *handles: Any, return_exceptions: bool = False) -> list[Any]:
        """The values, in the order of the handles: ``client.gather(one, another)``, ``client.gather(*handles)``.

        The first error is raised, as soon as it is there; it ends no other task. Ctrl-C ends them all.

        Parameters
        ----------
        return_exceptions: an error stands in the place of the value, and nothing is raised.

        Raises
        ------
        What the tasks raised. TypeError: one is no handle of the sync style; the text says what to write.
        RuntimeError: an event loop runs in this thread.
        """
        loop_thread().may_wait("gather()")  # also if all have ended: else it would work sometimes
        for handle in _ends(_of_style(handles, SyncTask), None, "gather()"):
            if not return_exceptions:
                handle.result()
        if return_exceptions:
            return [_error_or_value(handle) for handle in handles]
        return [handle.result() for handle in handles]

    @plain
    def as_completed(self, handles: Iterable[SyncTaskT], timeout: float | None = None) -> Iterator[SyncTaskT]:
        """The handles, each when its task has ended: ``for handle in client.as_completed(handles): handle.result()``.

        Raises
        ------
        TimeoutError: not all have ended `timeout` seconds after this was called; the tasks go on.
        TypeError: one is no handle of the sync style.
        """
        values: Generator[Any, None, None] = _short(
            _ends(_of_style(handles, SyncTask), timeout, "as_completed()")
        )
        return SyncOneByOne(values, "client.as_completed(...)", "handle")

    @plain
    def wait(
        self, handles: Iterable[SyncTaskT], timeout: float | None = None, return_when: str = ALL_COMPLETED
    ) -> tuple[set[SyncTaskT], set[SyncTaskT]]:
        """The handles as two sets, (done, not done): ``done, rest = client.wait(handles, return_when="FIRST_COMPLETED")``.

        Parameters
        ----------
        timeout: seconds to wait at most, which is no error; None: as long as it takes. The tasks go on.
        return_when: "ALL_COMPLETED", "FIRST_COMPLETED" or "FIRST_EXCEPTION", as of concurrent.futures.

        Raises
        ------
        ValueError: `return_when` is none of these. TypeError: one is no handle of the sync style.
        """
        loop_thread().may_wait("wait()")
        _check(return_when)
        waiting: list[Any] = _of_style(handles, SyncTask)
        try:
            for handle in _ends(waiting, timeout, "wait()"):
                if return_when == FIRST_COMPLETED:
                    break
                if (
                    return_when == FIRST_EXCEPTION
                    and not handle.cancelled()
                    and handle.exception() is not None
                ):
                    break
        except TimeoutError:
            pass
        done = {handle for handle in waiting if handle.done()}
        return done, set(waiting) - done

    @plain
    def cancel(self, handles: Iterable[SyncTask[Any]]) -> int:
        """End the tasks of these handles, as their ``cancel()`` does; returns at once how many had not ended."""
        return sum([handle.cancel() for handle in _of_style(handles, SyncTask)])


async def _in_loop(waiting: Sequence[Task[T]], timeout: float | None) -> AsyncGenerator[Task[T], None]:
    ended: asyncio.Queue[Task[T]] = asyncio.Queue()
    for handle in waiting:
        handle.add_done_callback(ended.put_nowait)
    clock = asyncio.get_running_loop().time
    until = None if timeout is None else clock() + timeout
    for count in range(len(waiting)):
        try:
            async with asyncio.timeout_at(until):
                handle = await ended.get()
        except TimeoutError:
            raise _late(len(waiting) - count, len(waiting), timeout) from None
        yield handle


def _ends(handles: Sequence[SyncTask[T]], timeout: float | None, what: str) -> Iterator[SyncTask[T]]:
    """Each when its task has ended; those that have already come first."""
    timeout = wait_time(timeout, f"{what}: timeout")
    until = None if timeout is None else time.monotonic() + timeout
    return _as_they_end(handles, timeout, until, what)


def _as_they_end(
    handles: Sequence[SyncTask[T]], timeout: float | None, until: float | None, what: str
) -> Iterator[SyncTask[T]]:
    ended: SimpleQueue[SyncTask[T]] = SimpleQueue()
    left = len(handles)
    for handle in handles:
        if handle.done():
            left -= 1
            yield handle
        else:
            handle._when_ended(partial(ended.put, handle))
    total = len(handles)
    for _ in range(left):
        if ended.empty():
            loop_thread().may_wait(what)
        try:
            handle = take(ended, None if until is None else until - time.monotonic())
        except Empty:
            missing = sum(not handle.done() for handle in handles)
            raise _late(missing, total, timeout) from None
        except KeyboardInterrupt:
            for handle in handles:
                handle.cancel()
            raise
        yield handle


def _short(handles: Iterator[SyncTask[T]]) -> Generator[SyncTask[T], None, None]:
    try:
        yield from handles
    except BaseException as error:
        without_our_frames(error)
        raise  # alone it adds no line to the traceback


def _error_or_value(handle: SyncTask[Any]) -> Any:
    try:
        return handle.result()
    except Exception as error:
        return error


def _late(missing: int, total: int, timeout: float | None) -> TimeoutError:
    return TimeoutError(f"{missing} of {total} tasks have not ended within {timeout:g} s; they go on")


def _check(return_when: str) -> None:
    if return_when not in WHENS:
        raise ValueError(f"return_when must be one of {', '.join(WHENS)}, not {return_when!r}")


def _of_style(handles: Iterable[Any], kind: type[KindT]) -> list[KindT]:
    """Each once for each time it is named. Raises TypeError: one is no handle, or of the other style."""
    if isinstance(handles, Task) or not isinstance(handles, Iterable):
        raise TypeError(f"a list of handles is needed, as [handle], not {_named(handles)}")
    if isinstance(handles, SyncMap):
        raise _no_handle(handles)
    found = list(handles)
    for handle in found:
        if not isinstance(handle, kind):
            if isinstance(handle, Task):
                raise TypeError(
                    f"{handle.name} is a handle of the async style: await it there; of an Executor use the future itself"
                )
            raise _no_handle(handle)
        if kind is Task and isinstance(handle, SyncTask):
            raise TypeError(f"{handle.name}: {SYNC}, and this client is of the async one")
    return found


def _no_handle(what: object) -> TypeError:
    if isinstance(what, OneByOne):
        what._was_refused()
    return TypeError(f"a handle of a task is needed, not {_named(what)}{_hint(what)}")


def _named(what: object) -> str:
    return f"the handle of {what.name} alone" if isinstance(what, Task) else type(what).__name__


def _hint(what: object) -> str:
    if isinstance(what, Future | asyncio.Future):
        return "; concurrent.futures and asyncio have functions for it of the same name"
    if inspect.iscoroutine(what) and is_ours(what.cr_frame.f_globals if what.cr_frame else {}):
        return "; await it first, which gives one"
    if inspect.iscoroutine(what):
        return f"; asyncio.gather takes it, and the handle of a task is what client.submit gives: submit({what.__name__}, ...)"
    if isinstance(what, OneByOne):
        return "; what client.map gives are values, and no handles: list(client.map(...))"
    if isinstance(what, list | tuple | set | Generator):
        return "; handles in a list are given by a star: gather(*handles)"
    return ""
