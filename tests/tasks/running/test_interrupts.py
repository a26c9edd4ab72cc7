"""That an interrupt reaches the user's step which was asked for, and never the runtime's code."""

from __future__ import annotations

import asyncio
import random
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from types import FunctionType
from typing import Any, cast

import pytest

from dispycos.actors.tasks.running.interrupts import Interrupts, enter_user_code

ROUNDS = 1000


@pytest.fixture
def interrupts() -> Iterator[Interrupts]:
    made = Interrupts()
    made.install()
    yield made
    made.running = 0
    made.uninstall()


def in_thread(body: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=body, daemon=True)
    thread.start()
    return thread


def run_user_step(
    interrupts: Interrupts, owner: Any, function: Callable[[], object]
) -> type[BaseException] | None:
    """One step; what was given back by its end."""
    interrupts.begin(owner)
    try:
        enter_user_code(function, (), {})
    finally:
        left = interrupts.end()
    return left


# In a module of the runtime, as the real one is: else the frame around begin() and end() would be the user's.
run_step = FunctionType(run_user_step.__code__, {**globals(), "__name__": "dispycos.driver"})


class FakeRuntime:
    """Something that an exception at any bytecode would break."""

    def __init__(self, interrupts: Interrupts) -> None:
        self.interrupts = interrupts
        self.lock = threading.Lock()
        self.sent = 0
        self.booked = 0
        self.queue: deque[int] = deque()

    def send(self) -> None:
        with self.interrupts.shielded, self.lock:
            self.sent += 1
            self.queue.append(self.sent)
            self.booked += 1

    def is_sound(self) -> bool:
        return not self.lock.locked() and self.sent == self.booked == len(self.queue)

    def repair(self) -> None:
        if self.lock.locked():
            self.lock.release()
        self.sent = self.booked = 0
        self.queue.clear()


def interrupted_rounds(interrupts: Interrupts, runtime: FakeRuntime) -> tuple[int, int]:
    """Steps that send until interrupted at a random moment: how many were, how many broke the runtime."""
    chance = random.Random(7)
    rounds = threading.Semaphore(0)
    asked: list[bool] = []

    def ask() -> None:
        for _ in range(ROUNDS):
            rounds.acquire()
            until = time.perf_counter() + chance.random() * 2e-4
            while time.perf_counter() < until:
                pass
            while not interrupts.request(runtime):
                time.sleep(0)
            asked.append(True)

    def send_for_ever() -> None:
        until = time.monotonic() + 10
        while time.monotonic() < until:
            runtime.send()

    thread = in_thread(ask)
    interrupted = broken = 0
    for _ in range(ROUNDS):
        rounds.release()
        try:
            run_step(interrupts, runtime, send_for_ever)
        except KeyboardInterrupt:
            interrupted += 1
        if not runtime.is_sound():
            broken += 1
            runtime.repair()
        runtime.queue.clear()
        runtime.sent = runtime.booked = 0
    thread.join(10)
    return interrupted, broken


@pytest.fixture
def quick_switches() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(0.00005)
    yield
    sys.setswitchinterval(before)


@pytest.mark.timeout(50)
@pytest.mark.usefixtures("quick_switches")
def test_a_thousand_random_interrupts_break_nothing_in_a_shielded_runtime(interrupts: Interrupts) -> None:
    assert interrupted_rounds(interrupts, FakeRuntime(interrupts)) == (ROUNDS, 0)


@pytest.mark.timeout(50)
@pytest.mark.usefixtures("quick_switches")
def test_the_same_interrupts_break_a_runtime_that_is_not_shielded(interrupts: Interrupts) -> None:
    class Unshielded(FakeRuntime):
        def send(self) -> None:
            with self.lock:
                self.sent += 1
                self.queue.append(self.sent)
                self.booked += 1

    assert interrupted_rounds(interrupts, Unshielded(interrupts))[1] > 0


def test_an_interrupt_wakes_a_sleeping_step(interrupts: Interrupts) -> None:
    owner: Any = object()
    asked_at: list[float] = []

    def ask() -> None:
        while interrupts.running == 0:
            time.sleep(0.001)
        time.sleep(0.05)
        asked_at.append(time.monotonic())
        assert interrupts.request(owner)

    thread = in_thread(ask)
    with pytest.raises(KeyboardInterrupt):
        run_step(interrupts, owner, lambda: time.sleep(10))
    assert time.monotonic() - asked_at[0] < 5
    thread.join(5)


def test_a_c_function_called_as_the_task_itself_is_interrupted(interrupts: Interrupts) -> None:
    owner: Any = object()
    timer = threading.Timer(0.05, interrupts.request, (owner,))
    timer.start()
    interrupts.begin(owner)
    with pytest.raises(KeyboardInterrupt):
        enter_user_code(time.sleep, (10,), {})
    interrupts.end()
    timer.join(5)


def test_a_step_inside_the_standard_library_is_interrupted(interrupts: Interrupts) -> None:
    owner: Any = object()
    timer = threading.Timer(0.05, interrupts.request, (owner,))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        run_step(interrupts, owner, lambda: threading.Event().wait(10))
    timer.join(5)


def test_a_request_for_another_owner_or_an_ended_step_does_nothing(interrupts: Interrupts) -> None:
    owner: Any = object()
    answers: list[bool] = []
    interrupts.begin(owner)
    thread = in_thread(lambda: answers.append(interrupts.request(object())))
    thread.join(5)
    interrupts.end()
    assert not interrupts.request(owner)
    assert answers == [False]


def test_what_came_too_late_to_be_raised_is_given_back_by_end(interrupts: Interrupts) -> None:
    owner: Any = object()

    def ask_under_shield() -> None:
        interrupts.shielded.__enter__()
        in_thread(lambda: interrupts.request(owner)).join(5)
        interrupts._depth = 0  # as if the step ended at this very moment

    assert run_step(interrupts, owner, ask_under_shield) is KeyboardInterrupt
    assert run_step(interrupts, owner, lambda: None) is None


def test_a_nested_shield_raises_only_when_the_outermost_is_left(interrupts: Interrupts) -> None:
    owner: Any = object()
    seen: list[str] = []

    def step() -> None:
        with interrupts.shielded:
            with interrupts.shielded:
                in_thread(lambda: interrupts.request(owner)).join(5)
                seen.append("inner")
            seen.append("between")
        seen.append("after")

    with pytest.raises(KeyboardInterrupt):
        run_step(interrupts, owner, step)
    assert seen == ["inner", "between"]


def test_a_shield_in_another_thread_changes_nothing(interrupts: Interrupts) -> None:
    owner: Any = object()

    def step() -> None:
        in_thread(interrupts.shielded.__enter__).join(5)
        in_thread(lambda: interrupts.request(owner)).join(5)
        time.sleep(10)

    with pytest.raises(KeyboardInterrupt):
        run_step(interrupts, owner, step)


def test_a_loop_of_another_thread_has_shields_of_its_own_and_none_of_the_main_thread() -> None:
    faults: list[BaseException] = []
    begun, shielded, ended = threading.Event(), threading.Event(), threading.Event()

    def loop() -> None:
        interrupts = Interrupts()
        made.append(interrupts)
        interrupts.begin(cast(Any, object()))
        begun.set()
        shielded.wait(5)
        with interrupts.shielded:
            pass
        try:
            interrupts.end()
        except AssertionError as error:
            faults.append(error)
        ended.set()

    made: list[Interrupts] = []
    thread = in_thread(loop)
    assert begun.wait(5)
    with made[0].shielded:  # as a message that the main thread sends
        shielded.set()
        assert ended.wait(5)
    thread.join(5)
    assert faults == []


def test_a_shield_held_beyond_the_end_of_a_step_is_noticed(interrupts: Interrupts) -> None:
    interrupts.begin(self := cast(Any, object()))
    interrupts.shielded.__enter__()
    with pytest.raises(AssertionError, match="beyond the end"):
        interrupts.end()
    assert run_step(interrupts, self, lambda: None) is None


def test_runtime_code_without_a_shield_is_spared_and_a_nudge_raises_later(interrupts: Interrupts) -> None:
    owner: Any = object()
    through: list[bool] = []
    source = "def runtime_code(work, through):\n    work()\n    through.append(True)\n"
    module: dict[str, object] = {"__name__": "dispycos.some.module"}
    exec(compile(source, "/elsewhere/module.py", "exec"), module)
    runtime_code = module["runtime_code"]
    asking = threading.Timer(0.05, interrupts.request, (owner,))

    def step() -> None:
        asking.start()
        runtime_code(asking.join, through)  # type: ignore[operator]
        threading.Timer(0.05, interrupts.nudge).start()
        time.sleep(10)

    with pytest.raises(KeyboardInterrupt):
        run_step(interrupts, owner, step)
    assert through == [True]


def test_a_signal_that_came_just_before_a_sleep_is_repeated_by_a_nudge(interrupts: Interrupts) -> None:
    def step() -> None:
        interrupts._asks[interrupts.running] = KeyboardInterrupt
        interrupts._kicked = True  # as if its signal were still to be handled
        threading.Timer(0.05, interrupts.nudge).start()
        time.sleep(10)

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run_step(interrupts, object(), step)
    assert time.monotonic() - began < 5


def test_an_interrupt_swallowed_in_a_finalizer_is_armed_again_once(interrupts: Interrupts) -> None:
    owner: Any = object()
    caught: list[str] = []
    stop = threading.Event()

    def nudge() -> None:
        while not stop.wait(0.01):
            interrupts.nudge()

    class Sleeper:
        def __del__(self) -> None:
            in_thread(lambda: interrupts.request(owner))
            time.sleep(10)

    def step() -> None:
        sleeper = Sleeper()
        try:
            del sleeper
            time.sleep(10)
        except KeyboardInterrupt:
            caught.append("here")

    thread = in_thread(nudge)
    assert run_step(interrupts, owner, step) is None
    assert caught == ["here"]
    stop.set()
    thread.join(5)


def test_an_unraisable_of_others_still_reaches_the_previous_hook(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: heard.append(unraisable.exc_type))
    interrupts = Interrupts()
    interrupts.install()

    class Faulty:
        def __del__(self) -> None:
            raise ValueError

    try:
        Faulty()
        assert heard == [ValueError]
    finally:
        interrupts.uninstall()


def test_ctrl_c_outside_of_any_step_reaches_the_program() -> None:
    heard: list[str] = []
    before = signal.signal(signal.SIGINT, lambda *_: heard.append("before"))
    try:
        plain = Interrupts()
        plain.install()
        signal.raise_signal(signal.SIGINT)
        plain.uninstall()
        signal.raise_signal(signal.SIGINT)
        assert heard == ["before", "before"]
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        servers = Interrupts()
        servers.install()
        signal.raise_signal(signal.SIGINT)
        servers.uninstall()
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_ctrl_c_during_a_step_is_for_that_step(interrupts: Interrupts) -> None:
    with pytest.raises(KeyboardInterrupt):
        run_step(interrupts, self := object(), lambda: signal.raise_signal(signal.SIGINT))
    assert self is not None


def test_a_signal_that_arrives_after_its_step_is_no_ctrl_c() -> None:
    heard: list[str] = []
    before = signal.signal(signal.SIGINT, lambda *_: heard.append("before"))
    interrupts = Interrupts()
    interrupts.install()
    owner: Any = object()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        interrupts.begin(owner)
        in_thread(lambda: interrupts.request(owner)).join(5)
        left = interrupts.end()
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    interrupts.uninstall()
    signal.signal(signal.SIGINT, before)
    assert (left, heard) == (KeyboardInterrupt, [])


# --- handlers of others


def test_a_handler_of_the_users_gets_the_signal_once(interrupts: Interrupts) -> None:
    heard: list[int] = []
    owner: Any = object()

    def listen() -> None:
        signal.signal(signal.SIGINT, lambda *_: heard.append(1))
        asked = in_thread(lambda: interrupts.request(owner))
        for _ in range(3):
            time.sleep(0.02)
            in_thread(interrupts.nudge).join(5)
        asked.join(5)

    assert run_step(interrupts, owner, listen) is KeyboardInterrupt  # given back, nobody raised it
    assert heard == [1]
    interrupts.reinstall(over_users=True)
    with pytest.raises(KeyboardInterrupt):
        run_step(interrupts, owner, lambda: signal.raise_signal(signal.SIGINT))
    assert heard == [1]


def test_after_a_task_the_handler_is_ours_again_unless_the_program_has_its_own(
    interrupts: Interrupts,
) -> None:
    ours = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # as add_signal_handler() of a loop leaves it
    interrupts.reinstall(over_users=False)
    assert signal.getsignal(signal.SIGINT) is ours
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    interrupts.reinstall(over_users=False)
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    interrupts.reinstall(over_users=True)
    assert signal.getsignal(signal.SIGINT) is ours
    interrupts.uninstall()
    before = signal.getsignal(signal.SIGINT)
    interrupts.reinstall(over_users=True)
    assert signal.getsignal(signal.SIGINT) is before
    interrupts.install()


def test_the_handler_equals_pythons_own_for_those_who_ask_but_is_another(interrupts: Interrupts) -> None:
    ours = signal.getsignal(signal.SIGINT)
    assert ours == signal.default_int_handler
    assert ours is not signal.default_int_handler
    assert ours != cast(object, signal.SIG_DFL)
    assert ours in {ours}


# --- Ctrl-C while no step runs ---


def test_a_ctrl_c_is_not_handled_in_the_midst_of_the_loop_but_in_a_callback_of_its_own() -> None:
    """A handler that raises would lose the callback that the loop has just taken from its queue."""
    seen: list[str] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        before = signal.signal(signal.SIGINT, lambda *_: seen.append("handled"))
        interrupts = Interrupts(loop=loop)
        interrupts.install()
        try:
            # A function in C: the interrupted frame is asyncio's.
            loop.call_soon(signal.raise_signal, signal.SIGINT)
            loop.call_soon(seen.append, "what stood in the queue")
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            seen.append("user's code")
            signal.raise_signal(signal.SIGINT)
            seen.append("goes on")
        finally:
            interrupts.uninstall()
            signal.signal(signal.SIGINT, before)

    asyncio.run(main())
    assert seen == ["what stood in the queue", "handled", "user's code", "handled", "goes on"]


def test_a_handler_of_another_library_that_calls_soon_is_heard_by_a_loop_that_waits() -> None:
    """As ipykernel's, by which a cell is interrupted: asyncio does not wake for call_soon() in a signal handler."""
    woken: list[bool] = []

    async def wait() -> None:
        loop = asyncio.get_running_loop()
        interrupts = Interrupts(loop=loop)
        interrupts.install()
        over = asyncio.Event()
        ours = signal.signal(signal.SIGINT, lambda *_: loop.call_soon(over.set))
        late = loop.call_later(20, over.set)
        timer = threading.Timer(0.2, signal.pthread_kill, [threading.get_ident(), signal.SIGINT])
        timer.start()
        try:
            await over.wait()
            woken.append(late.when() > loop.time())
        finally:
            late.cancel()
            timer.join()
            signal.signal(signal.SIGINT, ours)
            interrupts.uninstall()

    asyncio.run(wait())
    assert woken == [True]
    assert signal.set_wakeup_fd(-1) == -1, "given back"


def test_an_interrupt_in_the_midst_of_a_turn_leaves_nothing_to_report_in_the_next_one() -> None:
    """A second Ctrl-C ends asyncio's turn by an exception: what tells of the first one stays queued, and is queued again."""
    loop = asyncio.new_event_loop()
    reported: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: reported.append(context))
    interrupts = Interrupts(loop=loop)
    before = signal.signal(signal.SIGINT, lambda *_: None)
    interrupts.install()

    def interrupt() -> None:
        raise KeyboardInterrupt

    try:
        signal.raise_signal(signal.SIGINT)  # the loop is to wake
        loop.call_soon(interrupt)  # stands before that in the queue
        with pytest.raises(KeyboardInterrupt):
            loop.run_forever()
        loop.run_until_complete(asyncio.sleep(0.01))
    finally:
        interrupts.uninstall()
        signal.signal(signal.SIGINT, before)
        loop.close()
    assert reported == []
