"""That the driver's turn goes on beside a long step, stops with it, and costs nothing when there is none."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from dispycos.actors.host import relief as relief_module
from dispycos.actors.host.interrupts import Interrupts, enter_user_code
from dispycos.actors.host.relief import Relief


def is_free(lock: Any) -> bool:
    """Whether another thread gets the lock."""
    taken: list[bool] = []

    def take() -> None:
        if lock.acquire(timeout=5):
            lock.release()
            taken.append(True)

    other = threading.Thread(target=take, daemon=True)
    other.start()
    other.join(10)
    return taken == [True]


class Echo:
    """A fake driver: its turn answers each byte of one pipe on another."""

    def __init__(self) -> None:
        self.interrupts = Interrupts()
        self.interrupts.install()
        self.lock = threading.RLock()
        self.requests, self.asking = os.pipe()
        self.answers, self.answering = os.pipe()
        os.set_blocking(self.requests, False)
        self.turns: list[int] = []  # the step beside which each turn ran
        self.afters: list[int] = []  # the running step at each hand-back
        self.fault: Exception | None = None
        self.handed_back = threading.Event()
        self.relief = Relief(self.turn, lambda: [self.requests], self.lock, self.interrupts, self.after)
        self.relief.start()

    def turn(self) -> None:
        self.turns.append(self.interrupts.running)
        if self.fault is not None:
            raise self.fault
        try:
            asked = os.read(self.requests, 4096)
        except BlockingIOError:
            return
        os.write(self.answering, asked)

    def after(self) -> None:
        self.afters.append(self.interrupts.running)
        self.handed_back.set()

    def step(self, function: Callable[[], object], owner: object = None) -> None:
        self.interrupts.begin(owner)
        try:
            enter_user_code(function, (), {})
        finally:
            self.interrupts.end()

    def close(self) -> None:
        self.relief.stop()
        self.interrupts.uninstall()
        for fd in (self.requests, self.asking, self.answers, self.answering):
            os.close(fd)


@pytest.fixture
def echo() -> Iterator[Echo]:
    made = Echo()
    yield made
    made.close()


def round_trips(echo: Echo, times: list[float]) -> threading.Thread:
    """A peer that waits until the step is long and then asks 20 times."""

    def ask() -> None:
        time.sleep(0.1)
        for _ in range(20):
            began = time.perf_counter()
            os.write(echo.asking, b"?")
            os.read(echo.answers, 1)
            times.append(time.perf_counter() - began)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    return thread


@pytest.mark.timeout(20)
def test_a_peer_is_answered_while_a_step_sleeps(echo: Echo) -> None:
    times: list[float] = []
    peer = round_trips(echo, times)
    echo.step(lambda: time.sleep(0.5))
    assert len(times) == 20
    assert sorted(times)[10] < 0.01
    peer.join(5)


@pytest.mark.timeout(20)
def test_a_peer_is_answered_beside_a_busy_python_loop(echo: Echo) -> None:
    times: list[float] = []
    peer = round_trips(echo, times)

    def compute() -> None:
        until = time.monotonic() + 10
        while len(times) < 20 and time.monotonic() < until:
            pass

    echo.step(compute)
    assert len(times) == 20
    peer.join(5)


@pytest.mark.timeout(20)
def test_it_hands_back_promptly_after_the_step_and_after_its_last_turn(echo: Echo) -> None:
    delays: list[float] = []
    for _ in range(5):  # a poll that is not woken ends after 10 ms on average
        echo.handed_back.clear()
        echo.step(lambda: time.sleep(0.1))
        ended_at = time.monotonic()
        assert echo.handed_back.wait(5)
        delays.append(time.monotonic() - ended_at)
    assert min(delays) < 0.002
    turns = len(echo.turns)
    assert set(echo.turns) == {1, 2, 3, 4, 5}
    assert echo.afters == [0] * 5
    echo.step(lambda: None)
    time.sleep(3 * relief_module.LOOK_S)
    assert len(echo.turns) == turns


@pytest.mark.timeout(20)
def test_no_turn_is_taken_beside_short_steps_or_when_idle(echo: Echo) -> None:
    until = time.monotonic() + 0.2
    while time.monotonic() < until:
        echo.step(lambda: None)
    time.sleep(0.1)
    assert echo.turns == echo.afters == []


@pytest.mark.timeout(20)
def test_it_sleeps_when_idle_and_the_next_long_step_wakes_it(echo: Echo) -> None:
    until = time.monotonic() + 5
    while echo.interrupts.on_begin is None and time.monotonic() < until:
        time.sleep(0.01)
    assert echo.interrupts.on_begin is not None
    used = time.thread_time()
    echo.step(lambda: time.sleep(0.1))
    assert time.thread_time() - used < 0.05
    assert echo.handed_back.wait(5)
    assert echo.turns


@pytest.mark.timeout(20)
def test_a_step_that_holds_the_lock_is_interrupted_only_when_it_gave_it_back(echo: Echo) -> None:
    owner = object()
    broken: list[str] = []

    def send_for_ever() -> None:
        until = time.monotonic() + 10
        while time.monotonic() < until:
            with echo.interrupts.shielded, echo.lock:
                broken.append("open")
                broken.pop()

    for _ in range(10):
        timer = threading.Timer(0.03, echo.interrupts.request, (owner,))
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            echo.step(send_for_ever, owner)
        timer.join(5)
        assert is_free(echo.lock)
    assert broken == []


@pytest.mark.timeout(20)
def test_an_interrupt_that_met_runtime_code_is_raised_by_the_thread_soon_after(echo: Echo) -> None:
    owner = object()

    def step() -> None:
        echo.interrupts._asks[echo.interrupts.running] = KeyboardInterrupt  # its signal came and was spared
        time.sleep(10)

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        echo.step(step, owner)
    assert time.monotonic() - began < 1


@pytest.mark.timeout(20)
def test_a_turn_that_fails_is_logged_and_the_thread_lives_on(
    echo: Echo, caplog: pytest.LogCaptureFixture
) -> None:
    echo.fault = ZeroDivisionError("planted")
    echo.step(lambda: time.sleep(0.15))
    assert echo.handed_back.wait(5)
    assert len(echo.turns) == 1
    assert "planted" in caplog.text
    echo.fault = None
    echo.handed_back.clear()
    echo.step(lambda: time.sleep(0.15))
    assert echo.handed_back.wait(5)
    assert len(echo.turns) > 1


@pytest.mark.timeout(20)
def test_stop_ends_the_thread_also_during_a_long_step() -> None:
    echo = Echo()
    threading.Timer(0.1, echo.relief.stop).start()
    echo.step(lambda: time.sleep(0.3))
    assert not echo.relief._thread.is_alive()
    echo.interrupts.uninstall()
