"""That the driver's turn goes on beside a long step, stops with it, and costs nothing when there is none."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from dispycos.actors.tasks.running import relief as relief_module
from dispycos.actors.tasks.running.interrupts import Interrupts, enter_user_code
from dispycos.actors.tasks.running.relief import Relief


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
    """A fake driver: its turn answers each byte of one pipe on another. Its loop is back when a test says so."""

    def __init__(self) -> None:
        self.interrupts = Interrupts()
        self.interrupts.install()
        self.lock = threading.RLock()
        self.requests, self.asking = os.pipe()
        self.answers, self.answering = os.pipe()
        os.set_blocking(self.requests, False)
        self.turns = 0  # those of the loop
        self.turn_due = False
        self.on_due: Callable[[], None] | None = None
        self.relieved: list[int] = []  # the step beside which each turn ran
        self.afters: list[int] = []  # the running step at each hand-back
        self.fault: Exception | None = None
        self.handed_back = threading.Event()
        self.relief = Relief(self, self.interrupts)
        self.relief.start()

    def descriptors(self) -> list[int]:
        return [self.requests]

    def turn_elsewhere(self) -> None:
        with self.lock:
            self.turn_due = False
            self.relieved.append(self.interrupts.running)
            self._answer()

    def _answer(self) -> None:
        if self.fault is not None:
            raise self.fault
        try:
            asked = os.read(self.requests, 4096)
        except BlockingIOError:
            return
        os.write(self.answering, asked)

    def hand_back(self) -> None:
        self.afters.append(self.interrupts.running)
        self.handed_back.set()

    def submit(self) -> None:
        """What every send does."""
        self.turn_due = True
        ring, self.on_due = self.on_due, None
        if ring is not None:
            ring()

    def step(self, function: Callable[[], object], owner: Any = None) -> None:
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
    turns = len(echo.relieved)
    assert set(echo.relieved) == {1, 2, 3, 4, 5}
    assert echo.afters == [0] * 5
    echo.step(lambda: None)
    time.sleep(3 * relief_module.LOOK_S)
    assert len(echo.relieved) == turns


@pytest.mark.timeout(20)
def test_no_turn_is_taken_beside_short_steps_or_when_idle(echo: Echo) -> None:
    until = time.monotonic() + 0.2
    while time.monotonic() < until:
        echo.step(lambda: None)
    time.sleep(0.1)
    assert echo.relieved == echo.afters == []


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
    assert echo.relieved


@pytest.mark.timeout(20)
def test_a_loop_that_takes_no_turn_is_relieved_until_it_is_back(echo: Echo) -> None:
    """A plain asyncio program, which has no steps, submits and then computes."""
    times: list[float] = []
    echo.submit()
    assert echo.handed_back.wait(5)  # asked for: from it the loop's return is seen
    round_trips(echo, times).join(10)
    assert len(times) == 20 and sorted(times)[10] < 0.01
    assert set(echo.relieved) == {0} and len(echo.afters) == 1
    echo.turns += 1
    until = time.monotonic() + 5
    while len(echo.afters) < 2 and time.monotonic() < until:
        time.sleep(0.001)
    assert len(echo.afters) == 2, "handed back, after its last turn"
    turns = len(echo.relieved)
    time.sleep(3 * relief_module.LOOK_S)
    assert len(echo.relieved) == turns


@pytest.mark.timeout(20)
def test_what_comes_by_a_socket_is_seen_though_the_loop_is_kept(echo: Echo) -> None:
    os.write(echo.asking, b"?")
    assert os.read(echo.answers, 1) == b"?"


@pytest.mark.timeout(20)
def test_a_loop_that_is_kept_with_nothing_to_do_costs_no_looks(echo: Echo) -> None:
    echo.submit()
    until = time.monotonic() + 5
    while len(echo.afters) < 2 and time.monotonic() < until:
        time.sleep(0.01)
    assert len(echo.afters) == 2, "it sleeps again, and the loop is as kept as before"
    turns = len(echo.relieved)
    time.sleep(0.2)
    assert len(echo.relieved) == turns <= relief_module.IDLE_LOOKS_MAX
    os.write(echo.asking, b"?")
    assert os.read(echo.answers, 1) == b"?"


@pytest.mark.timeout(20)
def test_a_loop_that_takes_its_turns_is_left_alone(echo: Echo) -> None:
    until = time.monotonic() + 0.2
    while time.monotonic() < until:
        echo.submit()
        echo.turn_due = False
        echo.turns += 1
        time.sleep(0.002)
    assert echo.relieved == echo.afters == []


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
    assert time.monotonic() - began < 5


@pytest.mark.timeout(20)
def test_a_turn_that_fails_is_logged_and_the_thread_lives_on(
    echo: Echo, caplog: pytest.LogCaptureFixture
) -> None:
    echo.fault = ZeroDivisionError("planted")
    echo.step(lambda: time.sleep(0.15))
    assert echo.handed_back.wait(5)
    assert len(echo.relieved) == 1
    assert "planted" in caplog.text
    echo.fault = None
    echo.handed_back.clear()
    echo.step(lambda: time.sleep(0.15))
    assert echo.handed_back.wait(5)
    assert len(echo.relieved) > 1


@pytest.mark.timeout(20)
def test_stop_ends_the_thread_also_during_a_long_step() -> None:
    echo = Echo()
    threading.Timer(0.1, echo.relief.stop).start()
    echo.step(lambda: time.sleep(0.3))
    assert not echo.relief._thread.is_alive()
    echo.interrupts.uninstall()
