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


TRIPS = 100  # by looks alone, without being woken, they would take 10 s and more


@pytest.fixture
def rare_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relief_module, "LOOK_S", 0.1)


def round_trips(echo: Echo, answered: threading.Event) -> threading.Thread:
    """A peer that asks, and asks again when it is answered."""

    def ask() -> None:
        for _ in range(TRIPS):
            os.write(echo.asking, b"?")
            os.read(echo.answers, 1)
        answered.set()

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    return thread


def wait_until(condition: Callable[[], object]) -> None:
    until = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.001)


def wait_until_relieved(echo: Echo) -> None:
    """By the step that runs."""
    wait_until(lambda: echo.interrupts.running in echo.relieved)


@pytest.mark.timeout(20)
def test_a_peer_is_answered_while_a_step_sleeps(rare_looks: None, echo: Echo) -> None:
    answered = threading.Event()
    round_trips(echo, answered)
    echo.step(lambda: answered.wait(5))
    assert answered.is_set()


@pytest.mark.timeout(20)
def test_a_peer_is_answered_beside_a_busy_python_loop(echo: Echo) -> None:
    answered = threading.Event()
    round_trips(echo, answered)

    def compute() -> None:
        until = time.monotonic() + 10
        while not answered.is_set() and time.monotonic() < until:
            pass

    echo.step(compute)
    assert answered.is_set()


@pytest.mark.timeout(20)
def test_it_hands_back_promptly_after_the_step_and_after_its_last_turn(
    echo: Echo, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(2):
        echo.handed_back.clear()
        echo.step(lambda: wait_until_relieved(echo))
        assert echo.handed_back.wait(5)
    look_s = relief_module.LOOK_S

    def long_poll() -> None:
        wait_until_relieved(echo)
        relief_module.LOOK_S = 10.0
        time.sleep(3 * look_s)  # by now it is in a poll that ends late, unless it is woken

    def hand_back() -> None:
        relief_module.LOOK_S = look_s
        Echo.hand_back(echo)

    monkeypatch.setattr(relief_module, "LOOK_S", look_s)
    monkeypatch.setattr(echo, "hand_back", hand_back)
    echo.handed_back.clear()
    echo.step(long_poll)
    assert echo.handed_back.wait(5)
    turns = len(echo.relieved)
    assert set(echo.relieved) == {1, 2, 3}
    assert echo.afters == [0] * 3
    echo.step(lambda: None)
    time.sleep(3 * look_s)
    assert len(echo.relieved) == turns


def until_undisturbed(echo: Echo, work: Callable[[], object]) -> None:
    """It goes on for five looks; anew if whatever else runs on this machine kept it up for as long as from one to the next."""
    longest, rounds = relief_module.LOOK_S, 0
    while longest >= relief_module.LOOK_S:
        del echo.relieved[:], echo.afters[:]
        longest = 0.0
        last = began = time.monotonic()
        while last < began + 5 * relief_module.LOOK_S:
            work()
            now = time.monotonic()
            longest, last = max(longest, now - last), now
        rounds += 1
        assert rounds < 100, "this machine is too busy for this test"


@pytest.mark.timeout(20)
def test_no_turn_is_taken_beside_short_steps_or_when_idle(echo: Echo) -> None:
    until_undisturbed(echo, lambda: echo.step(lambda: None))
    time.sleep(0.1)
    assert echo.relieved == echo.afters == []


@pytest.mark.timeout(20)
def test_it_sleeps_when_idle_and_the_next_long_step_wakes_it(echo: Echo) -> None:
    wait_until(lambda: echo.interrupts.on_begin is not None)
    echo.step(lambda: wait_until_relieved(echo))
    assert echo.handed_back.wait(5)
    assert echo.relieved


@pytest.mark.timeout(20)
def test_a_loop_that_takes_no_turn_is_relieved_until_it_is_back(rare_looks: None, echo: Echo) -> None:
    """A plain asyncio program, which has no steps, submits and then computes."""
    answered = threading.Event()
    echo.submit()
    assert echo.handed_back.wait(5)  # asked for: from it the loop's return is seen
    round_trips(echo, answered)
    assert answered.wait(5)
    assert set(echo.relieved) == {0} and len(echo.afters) == 1
    echo.turns += 1
    wait_until(lambda: len(echo.afters) == 2)  # handed back, after its last turn
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
    wait_until(lambda: len(echo.afters) == 2)  # it sleeps again, and the loop is as kept as before
    turns = len(echo.relieved)
    time.sleep(0.2)
    assert len(echo.relieved) == turns <= relief_module.IDLE_LOOKS_MAX
    os.write(echo.asking, b"?")
    assert os.read(echo.answers, 1) == b"?"


@pytest.mark.timeout(20)
def test_a_loop_that_takes_its_turns_is_left_alone(echo: Echo) -> None:
    def take_a_turn() -> None:
        echo.submit()
        echo.turn_due = False
        echo.turns += 1
        time.sleep(0.002)

    until_undisturbed(echo, take_a_turn)
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
    echo.step(lambda: wait_until_relieved(echo))
    assert echo.handed_back.wait(5)
    assert len(echo.relieved) == 1
    assert "planted" in caplog.text
    echo.fault = None
    echo.handed_back.clear()
    echo.step(lambda: wait_until_relieved(echo))
    assert echo.handed_back.wait(5)


@pytest.mark.timeout(20)
def test_stop_ends_the_thread_also_during_a_long_step() -> None:
    echo = Echo()
    threading.Timer(0.1, echo.relief.stop).start()
    echo.step(lambda: time.sleep(0.3))
    assert not echo.relief._thread.is_alive()
    echo.interrupts.uninstall()
