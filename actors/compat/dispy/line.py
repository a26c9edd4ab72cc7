"""The clusters of a program: who has the nodes, who wants them, and the thread in which their callbacks are called."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import AsyncGenerator, Callable
from queue import SimpleQueue
from typing import Protocol

from ..program import program

log = logging.getLogger("dispycos")


class Callbacks:
    """Calls scripts' callbacks, one after another, in a thread of their own. What they raise is said."""

    def __init__(self) -> None:
        self._calls: SimpleQueue[tuple[Callable[[], object], Callable[[], None]]] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def put(self, call: Callable[[], object], done: Callable[[], None]) -> None:
        """`done` is called behind it."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="dispycos-callbacks", daemon=True)
            self._thread.start()
        self._calls.put((call, done))

    def _work(self) -> None:
        while True:
            call, done = self._calls.get()
            try:
                call()
            except BaseException:  # the user's code
                log.warning("a callback failed:", exc_info=True)
            done()


class Cluster(Protocol):
    def look_around(self) -> None:
        """Somebody wants the nodes."""

    def close(self, timeout: float | None = None, terminate: bool = False) -> bool | None: ...


class Line:
    """The clusters of this program: who has the nodes, and who wants them. Used on the loop."""

    def __init__(self) -> None:
        self.callbacks = Callbacks()
        self.open: list[Cluster] = []
        self.is_at_end = False
        self.waiting = 0
        self._turn: asyncio.Lock | None = None

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncGenerator[None, None]:
        self._turn = self._turn or asyncio.Lock()
        self.waiting += 1
        for cluster in self.open:
            cluster.look_around()
        try:
            await self._turn.acquire()
        finally:
            self.waiting -= 1
        try:
            yield
        finally:
            self._turn.release()

    def enter(self, cluster: Cluster) -> None:
        self.open.append(cluster)
        if not self.is_at_end:
            self.is_at_end = True
            program.at_end.append((0, self._end))

    def _end(self) -> None:
        """The program's end. Jobs are left only if it was interrupted."""
        for cluster in list(self.open):
            cluster.close(terminate=True)


line = Line()
