"""What a cluster tells its script: callbacks, called in one thread of the program."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from typing import Any

from ..program import program
from .jobs import DispyJob, DispyNode

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


callbacks = Callbacks()


class Told:
    """Those of one cluster: `job_status` hears of jobs, `cluster_status` of each change. Used on the loop."""

    def __init__(self, job_status: Any, cluster_status: Any) -> None:
        self.job_status, self.cluster_status = job_status, cluster_status
        self.due = 0  # calls that have not ended
        self.on_due: Callable[[], None] = lambda: None  # of each change

    @property
    def hears(self) -> bool:
        return self.job_status is not None or self.cluster_status is not None

    def of_job(self, job: DispyJob) -> None:
        """It has ended, or has a provisional result."""
        if self.job_status is not None:
            self._call(partial(self.job_status, job))
        self.of_change(job.status, job._node, job)

    def of_change(self, status: int, node: DispyNode | None, job: DispyJob | None) -> None:
        if self.cluster_status is not None:
            self._call(partial(self.cluster_status, status, node, job))

    def _call(self, callback: Callable[[], object]) -> None:
        self._count(1)
        loop = program.host.loop

        def done() -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(self._count, -1)

        callbacks.put(callback, done)

    def _count(self, more: int) -> None:
        self.due += more
        self.on_due()
