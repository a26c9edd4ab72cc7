"""Touches a thread: while a user's step keeps the loop waiting, the driver's turn is run here instead.

The thread looks every 20 ms whether the step that ran at the last look still runs. Then it takes over: it
runs the turn under the one lock that every API call of a step takes too, waits in poll() for the sockets
(20 ms at most, for deadlines), and so on until the step ends. Then it hands back by `after`, and always
after its last turn, because that turn may have taken the edge of a ZMQ_FD which the loop would otherwise
wait for. It never runs user code.

It costs a step two looks at attributes. When no step has begun for ten looks the thread sleeps for good,
and the next begin() wakes it. Beside a step that computes in Python each turn waits for the GIL: the
process should use sys.setswitchinterval(0.0005), with which an answer takes 0.7 ms instead of 5.
"""

from __future__ import annotations

import logging
import os
import select
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

from .interrupts import Interrupts

LOOK_S = 0.020
IDLE_LOOKS_MAX = 10

logger = logging.getLogger(__name__)


class Relief:
    """Runs `turn` under `lock` while a step is longer than about 20 ms, woken by `fds`; then calls `after`.

    All three callables are called in the relief thread. `turn` must drain what makes `fds` readable, and must
    not raise; `after` has to reach the loop by call_soon_threadsafe.
    """

    def __init__(
        self,
        turn: Callable[[], None],
        fds: Callable[[], Sequence[int]],
        lock: AbstractContextManager[Any],
        interrupts: Interrupts,
        after: Callable[[], None],
    ) -> None:
        self._turn = turn
        self._fds = fds
        self._lock = lock
        self._interrupts = interrupts
        self._after = after
        self._bell = threading.Event()
        self._is_stopping = False
        self._end_reader, self._end_writer = os.pipe()  # the end of the step, seen by poll()
        os.set_blocking(self._end_reader, False)
        os.set_blocking(self._end_writer, False)
        self._thread = threading.Thread(target=self._watch, name="dispycos-relief", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the thread; before the loop is closed, and not by a caller who holds the lock."""
        self._is_stopping = True
        self._bell.set()
        self._ring(False)
        if self._thread.is_alive():
            self._thread.join()
        self._interrupts.on_begin = self._interrupts.on_end = None
        os.close(self._end_reader)
        os.close(self._end_writer)

    def _watch(self) -> None:
        interrupts = self._interrupts
        idle_looks = 0
        while not self._is_stopping:
            steps, step = interrupts.steps, interrupts.running
            time.sleep(LOOK_S)
            if interrupts.running:
                interrupts.nudge()
                if interrupts.running == step:
                    self._relieve(step)
            idle_looks = idle_looks + 1 if interrupts.steps == steps and not interrupts.running else 0
            if idle_looks == IDLE_LOOKS_MAX:
                self._sleep(steps)
                idle_looks = 0

    def _sleep(self, steps: int) -> None:
        """Until a step begins after these."""
        self._bell.clear()
        self._interrupts.on_begin = self._bell.set
        if self._interrupts.steps == steps and not self._is_stopping:
            self._bell.wait()
        self._interrupts.on_begin = None

    def _relieve(self, step: int) -> None:
        """Take the driver's turns until that step ends."""
        interrupts = self._interrupts
        poll, polled = select.poll(), None
        interrupts.on_end = self._ring
        try:
            while interrupts.running == step and not self._is_stopping:
                with self._lock:
                    self._turn()
                    fds = tuple(self._fds())
                if fds != polled:
                    poll, polled = self._poller(fds), fds
                poll.poll(LOOK_S * 1000)
                interrupts.nudge()
        except Exception:
            # The loop will take the same turn and meet the same fault, where it can be dealt with.
            logger.exception("a turn beside a long step failed")
            while interrupts.running == step and not self._is_stopping:
                time.sleep(LOOK_S)
        finally:
            interrupts.on_end = None
            self._silence()
            self._after()

    def _poller(self, fds: Sequence[int]) -> select.poll:
        poll = select.poll()
        for fd in (*fds, self._end_reader):
            poll.register(fd, select.POLLIN)
        return poll

    def _ring(self, goes_on: bool) -> None:
        try:
            os.write(self._end_writer, b"e")
        except BlockingIOError:
            pass  # it is full of rings that were not heard yet

    def _silence(self) -> None:
        try:
            os.read(self._end_reader, 4096)
        except BlockingIOError:
            pass  # the step ended before on_end was set
