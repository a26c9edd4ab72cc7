"""The loop on which a script's tasks run: the one that runs here, else one of its own in a background thread."""

from __future__ import annotations

import asyncio
import atexit
import contextvars
import logging
import sys
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

from dispycos.living import is_server

from ..tasks.cell import Cell
from ..tasks.current import current_host, open_host
from ..tasks.ends import Outcome, Raised, without_our_frames
from ..tasks.host import TaskHost
from .names import explain

log = logging.getLogger("dispycos")

T = TypeVar("T")
LAST_S = 5.0  # at the end of the program its loop has so long for its last words


class Program:
    """Of this process: its tasks that are not over, and what it was told before it began."""

    location: str | None = None  # of a scheduler, for schedule() without one
    local_servers = 0  # more than 0: only a private scheduler with so many servers, whatever else there is

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._host: TaskHost | None = None
        self._ending: asyncio.Event | None = None
        self.busy: dict[int, Cell] = {}  # tasks that the end of the program waits for, by their numbers
        self._changed = threading.Condition()
        self.at_end: list[tuple[int, Callable[..., object], tuple[Any, ...], dict[str, Any]]] = []
        self.settings: dict[str, Any] = {}  # of Pycos(...)
        self.location_here: Any = None  # the Location by which others reach it, once it is asked for
        self.network: Any = None  # to other programs, once it is wanted
        self.at_close: list[Callable[[], Coroutine[Any, Any, None]]] = []  # on the loop
        self.scheduler_options: dict[str, Any] = {}  # of Scheduler(...)
        self.peers: list[str] = []  # "host:port" of nodes that peer() has named

    # --- the loop ---

    @property
    def host(self) -> TaskHost:
        """Of the task that calls, or of the loop of this process; a loop is started if there is none."""
        try:
            host: TaskHost = current_host()
            return host
        except RuntimeError:
            pass
        known: TaskHost | None = open_host()
        if known is not None:
            return known
        if is_server():
            raise RuntimeError("this server has ended")
        with self._lock:
            return self._host if self._host is not None and self._host.runtime.is_open else self._start()

    def _start(self) -> TaskHost:
        ready: Future[TaskHost] = Future()
        self._thread = threading.Thread(target=self._run, args=(ready,), name="dispycos-tasks", daemon=True)
        self._thread.start()
        self._host = ready.result()
        atexit.register(self._at_exit)
        return self._host

    def _run(self, ready: Future[TaskHost]) -> None:
        try:
            with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
                runner.run(self._serve(ready))
        except BaseException as error:
            if ready.done():
                raise
            ready.set_exception(error)

    async def _serve(self, ready: Future[TaskHost]) -> None:
        from ..client.code import ClientPayloads
        from ..client.local import Home

        home = Home(ClientPayloads(), kept=True)
        self._ending = asyncio.Event()
        ready.set_result(home.host)
        try:
            await self._ending.wait()
        finally:
            for close in self.at_close:
                await close()
            await home.end()

    def call(self, function: Callable[..., T], *args: Any) -> T:
        """`function(*args)` on the loop; what it returns or raises. From any thread."""
        host = self.host
        if host.runtime.is_own_thread():
            return function(*args)
        done: Future[T] = Future()

        def run() -> None:
            try:
                done.set_result(function(*args))
            except BaseException as error:
                done.set_exception(error)

        host.loop.call_soon_threadsafe(run, context=contextvars.Context())
        return done.result()

    def wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Its value, when it is over. From a thread that is not the loop's."""
        host = self.host
        if host.runtime.is_own_thread():
            coroutine.close()
            raise RuntimeError(
                "this blocks, and so it is for threads: in a task use its generator form with `yield`"
            )
        return asyncio.run_coroutine_threadsafe(coroutine, host.loop).result()

    def refuse_to_block(self, what: str, instead: str) -> None:
        """In a task: what it waits for would never come. Raises RuntimeError."""
        if self._host is not None and self._host.runtime.is_open and self._host.runtime.is_own_thread():
            raise RuntimeError(f"{what} blocks, and so it is for threads: in a task {instead}")

    # --- its tasks ---

    def begin(self, cell: Cell) -> None:
        with self._changed:
            self.busy[cell.actor] = cell

    def set_daemon(self, cell: Cell, flag: bool) -> None:
        with self._changed:
            if flag:
                self.busy.pop(cell.actor, None)
            elif not cell.ended:
                self.busy[cell.actor] = cell
            self._changed.notify_all()

    def ended(self, cell: Cell, outcome: Outcome) -> None:
        """Told by the cell, on the loop."""
        if isinstance(outcome, Raised) and isinstance(outcome.error, Exception | SystemExit):
            error = without_our_frames(outcome.error)
            explain(error)
            log.warning(
                "uncaught exception in %s:", cell.name, exc_info=(type(error), error, error.__traceback__)
            )
        with self._changed:
            self.busy.pop(cell.actor, None)
            self._changed.notify_all()

    def join(self, timeout: float | None = None) -> bool:
        """Wait for the end of all tasks that are no daemons; False at the timeout."""
        with self._changed:
            return self._changed.wait_for(lambda: not self.busy, timeout)

    def terminate(self) -> None:
        """Interrupt all tasks of this process."""
        if self._host is not None and self._host.runtime.is_open:
            host = self._host

            def end_all() -> None:
                for cell in list(host.cells.values()):
                    cell.terminate()

            self.call(end_all)

    def finish(self) -> None:
        """The script is at its end: wait for its tasks, end the daemons, give clusters back. Once."""
        if self._thread is None:
            return
        try:
            self.join()
        except KeyboardInterrupt:
            self.terminate()
            self.join(LAST_S)
            raise
        finally:
            self.close()

    def _at_exit(self) -> None:
        """Of a script that `dispycos run` does not run. Its tasks are waited for, but Python begins no threads any more."""
        if self.busy:
            names = ", ".join(cell.name for cell in self.busy.values())
            log.warning(
                "the script ended before its tasks (%s): end it with pycos.Pycos().finish() or cluster.close(), "
                "or start it by `dispycos run`",
                names,
            )
        self.finish()

    def close(self) -> None:
        thread, self._thread = self._thread, None
        if thread is None or self._host is None:
            return
        atexit.unregister(self._at_exit)
        for _, call, args, kwargs in sorted(self.at_end, key=lambda entry: -entry[0]):
            try:
                call(*args, **kwargs)
            except Exception:
                log.warning("a function of atexit() failed", exc_info=True)
        self.at_end.clear()
        host, ending = self._host, self._ending
        assert ending is not None
        if not host.loop.is_closed():
            host.loop.call_soon_threadsafe(ending.set)
        thread.join(LAST_S)
        sys.stdout.flush()


program = Program()
