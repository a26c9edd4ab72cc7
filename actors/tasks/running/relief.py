"""Touches a thread: while the loop is kept by somebody's code, the driver's turn is run here instead.

Every 20 ms the thread looks whether the loop goes round: whether steps begin and turns of the driver are taken. If the very
step of the last look still runs, or something waits and no turn was taken, the loop is kept: by a step, by a plain asyncio
program or by a notebook's cell. If nothing waits the thread sleeps, in poll(), until a step begins, a turn falls due
(something was submitted or sent) or a socket has something to read.

Beside a loop that is kept the thread runs the turn under the one lock that every API call takes too, waits in poll() for the
sockets (20 ms at most, for deadlines), and so on until the loop is back. Then it hands back by `hand_back`, and always after
its last turn, because that turn may have taken the edge of a ZMQ_FD which the loop would otherwise wait for. It never runs
user code.

It costs a step and a send two looks at attributes. Beside code that computes in Python each turn waits for the GIL: a server
uses sys.setswitchinterval(0.0005), with which an answer takes 0.7 ms instead of 5.
"""

from __future__ import annotations

import logging
import os
import select
import threading
import time
from collections.abc import Callable, Sequence
from math import inf
from typing import Protocol

from .interrupts import Interrupts

LOOK_S = 0.020
IDLE_LOOKS_MAX = 10  # beside a loop that is kept, without anything to do, until the thread sleeps again

logger = logging.getLogger(__name__)


class Driver(Protocol):
    """The runtime whose turns may be taken here; all of it is called in the relief thread."""

    turns: int  # taken by the loop
    turn_due: bool
    on_due: Callable[[], None] | None  # called once when a turn falls due, then forgotten

    def descriptors(self) -> Sequence[int]: ...
    def turn_elsewhere(self) -> None:
        """Drains what makes the descriptors readable."""

    def hand_back(self) -> None:
        """Reaches the loop by call_soon_threadsafe."""


class Relief:
    """Runs the driver's turns while the loop is kept for more than about 20 ms."""

    def __init__(self, driver: Driver, interrupts: Interrupts) -> None:
        self._driver = driver
        self._interrupts = interrupts
        self._is_stopping = False
        self._bell, self._button = os.pipe()  # rung when work begins or a step ends
        os.set_blocking(self._bell, False)
        os.set_blocking(self._button, False)
        self._poll = select.poll()
        self._polled: tuple[int, ...] = ()
        self._thread = threading.Thread(target=self._watch, name="dispycos-relief", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the thread; before the loop is closed, and not by a caller who holds the lock."""
        self._is_stopping = True
        self._ring()
        if self._thread.is_alive():
            self._thread.join()
        self._interrupts.on_begin = self._interrupts.on_end = self._driver.on_due = None
        os.close(self._bell)
        os.close(self._button)

    def _watch(self) -> None:
        driver, interrupts = self._driver, self._interrupts
        while not self._is_stopping:
            turns, steps, step = driver.turns, interrupts.steps, interrupts.running
            time.sleep(LOOK_S)
            if interrupts.running:
                interrupts.nudge()
            if step and interrupts.running == step:
                self._relieve_step(step)
            elif driver.turns == turns and interrupts.steps == steps:
                if self._is_needed():
                    self._relieve_loop(turns)
                else:
                    self._wait_for_work()

    def _wait_for_work(self) -> None:
        """Until the loop should do something."""
        driver, interrupts = self._driver, self._interrupts
        driver.on_due = interrupts.on_begin = self._ring
        # Looked at last: whoever makes work first says so and then looks for whom to ring.
        if not (interrupts.running or driver.turn_due or self._is_stopping):
            self._await_descriptors(None)
        driver.on_due = interrupts.on_begin = None

    def _is_needed(self) -> bool:
        return self._driver.turn_due or self._await_descriptors(0)

    def _relieve_step(self, step: int) -> None:
        interrupts = self._interrupts
        interrupts.on_end = self._ring
        self._relieve(lambda: interrupts.running == step, inf)
        interrupts.on_end = None
        self._driver.hand_back()

    def _relieve_loop(self, turns: int) -> None:
        """It takes a turn as soon as it can, and that tells that it is back."""
        self._driver.hand_back()
        self._relieve(lambda: self._driver.turns == turns, IDLE_LOOKS_MAX)
        self._driver.hand_back()

    def _relieve(self, is_kept: Callable[[], bool], idle_looks_max: float) -> None:
        """Take the driver's turns while somebody keeps the loop."""
        idle_looks = 0
        try:
            while is_kept() and idle_looks < idle_looks_max and not self._is_stopping:
                self._driver.turn_elsewhere()
                idle_looks = 0 if self._await_descriptors(LOOK_S * 1000) else idle_looks + 1
                self._interrupts.nudge()
        except Exception:
            # The loop will take the same turn and meet the same fault, where it can be dealt with.
            logger.exception("a turn beside code that keeps the loop failed")
            while is_kept() and not self._is_stopping:
                time.sleep(LOOK_S)

    def _await_descriptors(self, timeout_ms: float | None) -> bool:
        """Whether there is something to read; sooner if the bell rings."""
        fds = (*self._driver.descriptors(), self._bell)
        if fds != self._polled:
            self._poll, self._polled = select.poll(), fds
            for fd in fds:
                self._poll.register(fd, select.POLLIN)
        ready = [fd for fd, _ in self._poll.poll(timeout_ms)]
        if self._bell in ready:
            ready.remove(self._bell)
            self._silence()
        return bool(ready)

    def _ring(self, goes_on: bool = False) -> None:
        try:
            os.write(self._button, b"r")
        except BlockingIOError:
            pass  # it is full of rings that were not heard yet

    def _silence(self) -> None:
        try:
            os.read(self._bell, 4096)
        except BlockingIOError:
            pass  # somebody read it before
