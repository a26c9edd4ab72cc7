"""AsyncThreadPool: functions that block, in threads, which tasks wait for."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from typing import Any

from ..tasks.waiting import complete, fail

Job = tuple[asyncio.AbstractEventLoop, "asyncio.Future[Any]", Callable[[], Any]]


class AsyncThreadPool:
    """``AsyncThreadPool(n)``: at most n functions at a time.

    The end of the program does not wait for them: one may be in input().
    """

    def __init__(self, num_threads: int) -> None:
        if not isinstance(num_threads, int) or num_threads < 1:
            raise ValueError(f"AsyncThreadPool needs 1 thread or more, not {num_threads!r}")
        self._max = num_threads
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._idle = 0
        self._lock = threading.Lock()

    async def async_task(self, target: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """``yield pool.async_task(function, *args)``, or with ``args=()`` and ``kwargs={}``: what it returns, or raises."""
        if not args and kwargs:
            args, kwargs = tuple(kwargs.pop("args", ())), kwargs.pop("kwargs", kwargs)
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Any] = loop.create_future()
        with self._lock:
            if self._idle <= self._jobs.qsize() and len(self._threads) < self._max:
                thread = threading.Thread(target=self._work, name="dispycos-pool", daemon=True)
                self._threads.append(thread)
                thread.start()
        self._jobs.put((loop, done, lambda: target(*args, **kwargs)))
        return await done

    def join(self) -> None:
        """Wait for what was given to it. For threads."""
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()
        self._threads.clear()

    def terminate(self) -> None:
        """It takes no more; what runs goes on."""
        for _ in self._threads:
            self._jobs.put(None)
        self._threads.clear()

    def _work(self) -> None:
        while True:
            with self._lock:
                self._idle += 1
            job = self._jobs.get()
            with self._lock:
                self._idle -= 1
            if job is None:
                return
            loop, done, call = job
            try:
                tell: Callable[[], None] = partial(complete, done, call())
            except BaseException as error:  # the edge of user code
                tell = partial(
                    fail, done, RuntimeError("StopIteration") if isinstance(error, StopIteration) else error
                )
            if not loop.is_closed():
                loop.call_soon_threadsafe(tell)


class AsyncDBCursor:
    """A cursor of a database whose ``execute``, ``executemany`` and ``callproc`` run in a pool; its other methods are its own."""

    def __init__(self, thread_pool: AsyncThreadPool, cursor: Any) -> None:
        self._pool, self._cursor = thread_pool, cursor

    async def execute(self, query: Any, args: Any = None) -> Any:
        """As the cursor's."""
        return await self._pool.async_task(self._cursor.execute, query, *(() if args is None else (args,)))

    async def executemany(self, query: Any, args: Any) -> Any:
        """As the cursor's."""
        return await self._pool.async_task(self._cursor.executemany, query, args)

    async def callproc(self, proc: Any, args: Any = ()) -> Any:
        """As the cursor's."""
        return await self._pool.async_task(self._cursor.callproc, proc, args)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)
