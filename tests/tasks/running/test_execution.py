"""That a user's function of any kind is stepped to exactly one outcome, and interrupted where it is."""

from __future__ import annotations

import asyncio
import functools
import gc
import os
import random
import sys
import threading
import time
import warnings
import weakref
from collections import deque
from collections.abc import Callable, Generator, Iterator
from functools import partial
from typing import Any

import pytest

from dispycos.actors.tasks.ends import Outcome, Raised, Returned
from dispycos.actors.tasks.running import between as between_module
from dispycos.actors.tasks.running import execution as execution_module
from dispycos.actors.tasks.running.execution import IMMEDIATE_STEPS_MAX, Execution
from tests.kit.stage import BareStage, error_of, in_thread_soon, owner_now
from tests.kit.strikes import FakeRuntime, OpcodeSignal

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def stage() -> Iterator[BareStage]:
    with BareStage.opened() as stage:
        yield stage


# --- the three kinds


def test_a_plain_function_a_generator_and_a_coroutine_return_their_values(stage: BareStage) -> None:
    def plain(x: int, *, y: int) -> int:
        return x + y

    def generator(x: int, *, y: int) -> Generator[Any, Any, Any]:
        return (yield x) + y

    async def coroutine(x: int, *, y: int) -> int:
        await asyncio.sleep(0)
        return x + y

    for function in (plain, generator, coroutine):
        assert stage.run_one(function, 1, y=2) == Returned(3)


@pytest.mark.parametrize(
    "kind", [ValueError, SystemExit, KeyboardInterrupt, asyncio.CancelledError, GeneratorExit]
)
def test_what_a_function_raises_is_its_outcome_and_the_loop_goes_on(
    stage: BareStage, kind: type[BaseException]
) -> None:
    def plain() -> None:
        raise kind("mine")

    def generator() -> Generator[Any, Any, None]:
        yield
        raise kind("mine")

    async def coroutine() -> None:
        raise kind("mine")

    async def late_coroutine() -> None:
        await asyncio.sleep(0)
        raise kind("mine")

    for function in (plain, generator, coroutine, late_coroutine):
        error = error_of(stage.run_one(function))
        assert type(error) is kind
        assert error.args == ("mine",)
        assert error.__traceback__ is not None
        assert error.__traceback__.tb_frame.f_code.co_name == function.__name__


def test_a_plain_function_that_raises_stop_iteration_has_raised_it(stage: BareStage) -> None:
    assert isinstance(error_of(stage.run_one(next, iter(()))), StopIteration)


def test_a_plain_function_may_return_a_coroutine_to_run_but_a_generator_is_its_value(
    stage: BareStage,
) -> None:
    async def coroutine() -> str:
        await asyncio.sleep(0)
        return "coroutine"

    def generator() -> Generator[Any, Any, str]:
        ran.append("never")
        yield
        return "generator"

    ran: list[str] = []
    assert stage.run_one(lambda: coroutine()) == Returned("coroutine")
    for function in (lambda: generator(), lambda: (x for x in ran)):
        outcome = stage.run_one(function)
        assert isinstance(outcome, Returned)
        assert isinstance(outcome.value, Generator)
    assert ran == []


def test_a_generator_function_is_known_behind_partials_and_decorators(stage: BareStage) -> None:
    def generator(x: int) -> Generator[Any, Any, int]:
        return int((yield x) + 1)

    @functools.wraps(generator)
    def decorated(*args: Any) -> Any:
        return generator(*args)

    class Calls:
        def __call__(self, x: int) -> Any:
            return (yield from generator(x))

    for function in (
        partial(generator, 1),
        partial(decorated, 1),
        partial(Calls(), 1),
        partial(Calls().__call__, 1),
    ):
        assert stage.run_one(function) == Returned(2)
    assert stage.run_one(decorated, 1) == Returned(2)


# --- plain functions and loops


def test_a_plain_function_finds_no_loop_and_may_run_one(stage: BareStage) -> None:
    async def inner() -> tuple[int, bool]:
        await asyncio.sleep(0.001)
        return 5, asyncio.current_task() is not None

    def plain() -> Any:
        with pytest.raises(RuntimeError, match="no running event loop"):
            asyncio.get_running_loop()
        loop = asyncio.new_event_loop()
        try:
            by_loop = loop.run_until_complete(inner())
        finally:
            loop.close()
        with asyncio.Runner() as runner:
            by_runner = runner.run(inner())
        return asyncio.run(inner()), by_loop, by_runner, threading.current_thread() is threading.main_thread()

    async def scene(stage: BareStage) -> None:
        hooks = sys.get_asyncgen_hooks()
        for function in (plain, partial(plain), lambda: plain()):
            assert await stage.run(function) == Returned(((5, True),) * 3 + (True,))
        assert asyncio.get_running_loop() is stage.loop
        assert sys.get_asyncgen_hooks() == hooks

    stage.play(scene)


def test_the_loop_runs_again_after_a_plain_function_that_raised(stage: BareStage) -> None:
    def raises() -> None:
        raise ValueError("mine")

    async def scene(stage: BareStage) -> None:
        assert isinstance(error_of(await stage.run(raises)), ValueError)
        assert asyncio.get_running_loop() is stage.loop

    stage.play(scene)


def test_what_suspends_finds_its_loop_running_from_the_call_on(stage: BareStage) -> None:
    def generator() -> Generator[Any, Any, object]:
        yield
        return asyncio.get_running_loop()

    async def coroutine() -> object:
        return asyncio.get_running_loop()

    found: list[object] = []

    @functools.wraps(coroutine)
    def decorated() -> Any:
        found.append(asyncio.get_running_loop())
        return coroutine()

    async def scene(stage: BareStage) -> None:
        for function in (generator, coroutine, decorated, partial(decorated), lambda: coroutine()):
            assert await stage.run(function) == Returned(stage.loop)
        assert found == [stage.loop, stage.loop]

    stage.play(scene)


@pytest.mark.parametrize("how", ["asyncio.run", "run_until_complete", "a callback that computes"])
def test_a_loop_of_a_plain_function_is_interrupted_within_50_ms(stage: BareStage, how: str) -> None:
    seen: list[str] = []

    async def inner() -> None:
        try:
            if how == "a callback that computes":
                while True:
                    pass
            await asyncio.sleep(10)
        finally:
            seen.append("finally")

    def plain() -> None:
        if how != "run_until_complete":
            asyncio.run(inner())
        loop = asyncio.new_event_loop()
        try:
            loop.run_until_complete(inner())
        except KeyboardInterrupt:
            seen.append("interrupted")
            asyncio.gather(*(task for task in asyncio.all_tasks(loop) if not task.cancel()))
            loop.run_until_complete(asyncio.wait(asyncio.all_tasks(loop)))
            raise
        finally:
            loop.close()

    async def scene(stage: BareStage) -> None:
        execution, done = stage.prepare(plain)
        asked: list[float] = []

        def interrupt() -> None:
            asked.append(time.monotonic())
            execution.interrupt()

        in_thread_soon(interrupt)
        stage.loop.call_soon(execution.begin)
        assert isinstance(error_of(await done), KeyboardInterrupt)
        assert time.monotonic() - asked[0] < 5  # with room for a busy machine
        assert seen[-1] == "finally"

    stage.play(scene)


def test_the_first_step_runs_inside_start(stage: BareStage) -> None:
    ran: list[str] = []

    async def coroutine() -> None:
        ran.append("coroutine")
        await asyncio.sleep(0)

    def generator() -> Generator[Any, Any, None]:
        ran.append("generator")
        yield

    async def scene(stage: BareStage) -> None:
        for function in (coroutine, generator):
            execution, done = stage.prepare(function)
            stage.loop.call_soon(execution.begin)
            stage.loop.call_soon(ran.append, "after start")
            await asyncio.sleep(0)
            assert ran[-2:] == [function.__name__, "after start"]
            await done

    stage.play(scene)


def test_every_step_runs_in_the_context_and_is_a_step_of_its_owner(stage: BareStage) -> None:
    seen: list[tuple[object, object]] = []

    def note() -> None:
        seen.append((owner_now.get(), stage.interrupts._owner))

    def generator() -> Generator[Any, Any, None]:
        note()
        yield
        note()
        yield 0
        note()
        yield inner()
        note()

    def inner() -> Generator[Any, Any, None]:
        note()
        yield asyncio.sleep(0)
        note()

    async def coroutine() -> None:
        note()
        await asyncio.sleep(0)
        note()

    async def scene(stage: BareStage) -> None:
        await asyncio.gather(
            stage.run(generator, owner="one"),
            stage.run(coroutine, owner="two"),
            stage.run(note, owner="three"),
        )
        assert (owner_now.get(), stage.interrupts._owner) == (None, None)

    stage.play(scene)
    assert sorted({owner for owner, _ in seen}, key=str) == ["one", "three", "two"]
    assert len(seen) == 9
    assert all(current == owner for current, owner in seen)


# --- what a yield means


def test_a_yield_gives_back_values_calls_generators_and_awaits_awaitables(stage: BareStage) -> None:
    async def coroutine(x: int) -> int:
        await asyncio.sleep(0)
        return x

    def called(x: int) -> Generator[Any, Any, Any]:
        return (yield x) + (yield coroutine(x))

    class Late:
        def __await__(self) -> Generator[Any, Any, str]:
            yield from asyncio.sleep(0.001).__await__()
            return "late"

    def generator() -> Generator[Any, Any, list[Any]]:
        loop = asyncio.get_running_loop()
        done, later = loop.create_future(), loop.create_future()
        done.set_result("done")
        loop.call_later(0.001, later.set_result, "later")
        got = []
        for thing in (
            5,
            None,
            "text",
            coroutine(7),
            called(4),
            done,
            later,
            Late(),
            [1],
            asyncio.sleep(0, "slept"),
        ):
            got.append((yield thing))
        return got

    expected = [5, None, "text", 7, 8, "done", "later", "late", [1], "slept"]
    assert stage.run_one(generator) == Returned(expected)


def test_values_that_a_generator_yields_to_nobody_are_an_error(stage: BareStage) -> None:
    def squares(n: int) -> Generator[Any, Any, None]:
        for each in range(n):
            yield each * each

    def called(n: int) -> Generator[Any, Any, None]:
        yield squares(n)

    def delegated(n: int) -> Generator[Any, Any, None]:
        yield from range(1, n)

    for function in (squares, called, delegated):
        error = error_of(stage.run_one(function, 3))
        assert isinstance(error, TypeError)
        assert f"{function.__name__} yields values, as 1, which nobody gets" in str(error)
        assert "Return a list" in str(error)


def test_a_plain_iterator_may_be_yielded_from(stage: BareStage) -> None:
    async def coroutine(x: int) -> int:
        return x

    def generator() -> Generator[Any, Any, list[Any]]:
        yield from [coroutine(1), 2, asyncio.sleep(0, "slept")]
        return [(yield 3), (yield from inner())]

    def inner() -> Generator[Any, Any, Any]:
        yield from (4, 5)
        return (yield 6)

    assert stage.run_one(generator) == Returned([3, 6])


def test_a_value_that_was_yielded_to_nobody_is_not_kept_and_need_not_be_shown(stage: BareStage) -> None:
    gone: list[bool] = []

    class Odd:
        def __repr__(self) -> str:
            raise ValueError("no text")

    def yields_odd() -> Generator[Any, Any, None]:
        odd = Odd()
        look = weakref.ref(odd)
        back = yield odd
        del odd, back
        yield 1
        gone.append(look() is None)

    error = error_of(stage.run_one(yields_odd))
    assert isinstance(error, TypeError) and "yields_odd yields values, as <Odd instance" in str(error)
    assert gone == [True]


def test_a_task_that_waits_by_yield_and_yields_values_too_is_told_of_once(stage: BareStage) -> None:
    def told(n: int) -> Generator[Any, Any, None]:
        yield asyncio.sleep(0)
        yield "x" * n

    def lets_others_run() -> Generator[Any, Any, None]:
        yield
        yield 5

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for _ in range(2):
            assert stage.run_one(told, 1000) == Returned(None)
            assert stage.run_one(lets_others_run) == Returned(None)
    assert [str(each.message).split(", as ")[0] for each in caught] == [
        "told yields values",
        "lets_others_run yields values",
    ]
    assert len(str(caught[0].message)) < 400
    assert caught[0].filename == __file__


def test_what_calls_say_by_the_way_may_be_yielded(stage: BareStage) -> None:
    def quiet() -> Generator[Any, Any, None]:
        yield 0  # as send() does
        yield True
        yield None

    def gives_its_value() -> Generator[Any, Any, Any]:
        return (yield 5)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert stage.run_one(quiet) == Returned(None)
        assert stage.run_one(gives_its_value) == Returned(5)


def test_exceptions_travel_through_called_generators_and_awaited_coroutines(stage: BareStage) -> None:
    async def failing() -> None:
        await asyncio.sleep(0)
        raise ValueError("coroutine")

    def called(fault: Any) -> Generator[Any, Any, Any]:
        return (yield fault)

    def bad() -> Generator[Any, Any, None]:
        yield 1
        raise ValueError("generator")

    def generator() -> Generator[Any, Any, list[str]]:
        loop = asyncio.get_running_loop()
        future, cancelled, foreign = loop.create_future(), loop.create_future(), asyncio.new_event_loop()
        future.set_exception(ValueError("future"))
        cancelled.cancel()
        caught = []
        for fault in (failing(), called(failing()), bad(), future, cancelled, foreign.create_future()):
            try:
                yield called(fault)
            except (ValueError, asyncio.CancelledError, RuntimeError) as error:
                caught.append(str(error) or type(error).__name__)
        foreign.close()
        return caught

    outcome = stage.run_one(generator)
    assert isinstance(outcome, Returned)
    assert outcome.value[:5] == ["coroutine", "coroutine", "generator", "future", "CancelledError"]
    assert "another event loop" in outcome.value[5]


@pytest.mark.parametrize("calls", [False, True])
def test_a_loop_of_immediate_yields_lets_the_loop_turn(stage: BareStage, calls: bool) -> None:
    turns: list[int] = []
    count = 10 * IMMEDIATE_STEPS_MAX

    def generator() -> Generator[Any, Any, None]:
        asyncio.get_running_loop().call_soon(tick)
        for _ in range(count):
            yield called() if calls else 0
        turns.append(-1)

    def called() -> Generator[Any, Any, None]:
        return
        yield

    def tick() -> None:
        turns.append(1)
        if turns[-2:] != [-1, 1] and len(turns) < count:
            asyncio.get_running_loop().call_soon(tick)

    assert stage.run_one(generator) == Returned(None)
    assert turns.index(-1) >= 9


def test_a_bare_yield_lets_others_run(stage: BareStage) -> None:
    order: list[str] = []

    def generator(name: str) -> Generator[Any, Any, None]:
        for _ in range(3):
            order.append(name)
            yield

    async def scene(stage: BareStage) -> None:
        await asyncio.gather(stage.run(generator, "a"), stage.run(generator, "b"))

    stage.play(scene)
    assert order == ["a", "b"] * 3


# --- interrupts of suspended functions


def suspended_generator(caught: list[str]) -> Generator[Any, Any, str]:
    try:
        yield asyncio.get_running_loop().create_future()
    except KeyboardInterrupt:
        caught.append("generator")
    yield asyncio.sleep(0.001)
    return "saved"


def generator_in_a_coroutine(caught: list[str]) -> Generator[Any, Any, str]:
    try:
        yield asyncio.sleep(10)
    except KeyboardInterrupt:
        caught.append("generator")
    yield
    return "saved"


async def suspended_coroutine(caught: list[str]) -> str:
    task = asyncio.current_task()
    assert task is not None
    try:
        async with asyncio.timeout(10):
            await asyncio.sleep(10)
    except KeyboardInterrupt:
        caught.append(f"coroutine {task.cancelling()}")
    async with asyncio.timeout(10):
        await asyncio.sleep(0.001)
    return "saved"


@pytest.mark.parametrize("function", [suspended_generator, generator_in_a_coroutine, suspended_coroutine])
def test_a_suspended_function_may_catch_the_interrupt_and_go_on(
    stage: BareStage, function: Callable[..., Any]
) -> None:
    caught: list[str] = []

    async def scene(stage: BareStage) -> Outcome:
        execution, done = await stage.start(function, caught)
        execution.interrupt()
        execution.interrupt()
        return await done

    assert stage.play(scene) == Returned("saved")
    assert caught in (["generator"], ["coroutine 0"])


def test_an_interrupt_that_nobody_catches_is_the_outcome_and_spares_the_others(stage: BareStage) -> None:
    async def coroutine() -> str:
        await asyncio.sleep(0.05)
        return "through"

    def generator() -> Generator[Any, Any, str]:
        yield asyncio.sleep(0.05)
        return "through"

    async def scene(stage: BareStage) -> list[Outcome]:
        pairs = [
            await stage.start(f, owner=f"{f.__name__} {n}") for n in range(2) for f in (coroutine, generator)
        ]
        for execution, _ in pairs[:2]:
            execution.interrupt()
        return await asyncio.gather(*(done for _, done in pairs))

    outcomes = stage.play(scene)
    assert [type(error_of(outcome)) for outcome in outcomes[:2]] == [KeyboardInterrupt] * 2
    assert outcomes[2:] == [Returned("through")] * 2


def test_the_interrupt_goes_to_the_innermost_generator(stage: BareStage) -> None:
    def inner(future: asyncio.Future[None]) -> Generator[Any, Any, str]:
        try:
            yield future
        except KeyboardInterrupt:
            return f"inner {future.cancelled()}"
        return "none"

    def outer() -> Generator[Any, Any, str]:
        result: str = yield inner(asyncio.get_running_loop().create_future())
        return result

    async def scene(stage: BareStage) -> Outcome:
        execution, done = await stage.start(outer)
        execution.interrupt()
        return await done

    assert stage.play(scene) == Returned("inner True")


def test_an_interrupt_before_the_start_means_that_the_function_is_never_called(stage: BareStage) -> None:
    ran: list[str] = []

    async def scene(stage: BareStage) -> Outcome:
        execution, done = stage.prepare(lambda: ran.append("ran"))
        execution.interrupt()
        execution.begin()
        outcome = await done
        execution.interrupt()
        return outcome

    assert isinstance(error_of(stage.play(scene)), KeyboardInterrupt)
    assert ran == []


# --- interrupts of running steps


def busy() -> None:
    until = time.monotonic() + 10
    while time.monotonic() < until:
        pass


@pytest.mark.parametrize("work", [busy, lambda: time.sleep(10)])
def test_a_running_step_of_each_kind_is_interrupted(stage: BareStage, work: Callable[[], None]) -> None:
    def plain() -> None:
        work()

    def generator() -> Generator[Any, Any, None]:
        yield
        work()

    async def coroutine() -> None:
        work()

    async def late_coroutine() -> None:
        await asyncio.sleep(0)
        work()

    async def scene(stage: BareStage, function: Callable[[], Any]) -> Outcome:
        execution, done = stage.prepare(function, owner=function)

        def ask() -> None:
            until = time.monotonic() + 5
            while not stage.interrupts.request(function) and time.monotonic() < until:
                time.sleep(0.001)

        in_thread_soon(ask)
        stage.loop.call_soon(execution.begin)
        return await done

    for function in (plain, generator, coroutine, late_coroutine):
        began = time.monotonic()
        outcome = stage.play(partial(scene, function=function))
        assert isinstance(error_of(outcome), KeyboardInterrupt)
        assert time.monotonic() - began < 5


def test_a_builtin_as_the_task_is_interrupted(stage: BareStage) -> None:
    in_thread_soon(lambda: stage.interrupts.request("owner"))
    assert isinstance(error_of(stage.run_one(time.sleep, 10)), KeyboardInterrupt)


@pytest.mark.parametrize("kind", ["generator", "coroutine", "in a coroutine"])
def test_a_request_that_the_step_outran_is_thrown_in_where_it_is_suspended(
    stage: BareStage, kind: str
) -> None:
    def ask() -> None:
        # At the last bytecodes of the step, as far as anybody can tell: it is asked for and not raised.
        stage.interrupts._asks[stage.interrupts.running] = KeyboardInterrupt

    def generator() -> Generator[Any, Any, str]:
        ask()
        try:
            yield asyncio.get_running_loop().create_future()
        except KeyboardInterrupt:
            return "caught"
        return "none"

    async def coroutine() -> str:
        ask()
        try:
            await asyncio.sleep(10)
        except KeyboardInterrupt:
            return "caught"
        return "none"

    def in_a_coroutine() -> Generator[Any, Any, str]:
        result: str = yield coroutine()
        return result

    function = {"generator": generator, "coroutine": coroutine, "in a coroutine": in_a_coroutine}[kind]
    assert stage.run_one(function) == Returned("caught")


def test_an_interrupt_overtakes_a_long_step_that_is_about_to_begin(stage: BareStage) -> None:
    def generator() -> Generator[Any, Any, None]:
        yield
        time.sleep(10)

    async def coroutine() -> None:
        await asyncio.sleep(0)
        time.sleep(10)

    async def scene(stage: BareStage, function: Callable[[], Any]) -> Outcome:
        execution, done = stage.prepare(function)
        stage.loop.call_soon(execution.begin)
        stage.loop.call_soon(execution.interrupt)
        return await done

    for function in (generator, coroutine):
        began = time.monotonic()
        assert isinstance(error_of(stage.play(partial(scene, function=function))), KeyboardInterrupt)
        assert time.monotonic() - began < 5


def test_random_interrupts_of_all_kinds_break_neither_runtime_nor_executions(
    stage: BareStage,
) -> None:
    rounds = 300
    runtime = FakeRuntime(stage.interrupts)
    chance = random.Random(11)
    go: deque[tuple[Execution, float]] = deque()
    over = threading.Event()

    def work() -> None:
        for _ in range(50):
            runtime.send()

    def plain() -> None:
        while True:
            work()

    def generator() -> Generator[Any, Any, None]:
        while True:
            work()
            yield 0
            work()
            yield

    async def coroutine() -> None:
        while True:
            work()
            await asyncio.sleep(0)

    def ask() -> None:
        while not over.is_set():
            if not go:
                time.sleep(0.0001)
                continue
            execution, delay = go.popleft()
            time.sleep(delay)
            execution.interrupt()
            while not execution.is_done and not over.is_set():
                time.sleep(0.001)
                stage.interrupts.nudge()  # as the relief thread does

    async def scene(stage: BareStage) -> list[int]:
        ended = [0, 0, 0]
        for _ in range(rounds):
            for kind, function in enumerate((plain, generator, coroutine)):
                execution, done = stage.prepare(function, owner=object())
                go.append((execution, chance.random() * 2e-4))
                stage.loop.call_soon(execution.begin)
                ended[kind] += isinstance(error_of(await done), KeyboardInterrupt)
                runtime.check()
        return ended

    thread = threading.Thread(target=ask, daemon=True)
    before = sys.getswitchinterval()
    sys.setswitchinterval(0.0002)  # the thread gets the interpreter wherever the step then is
    cpus = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cpus)})  # two threads that fight for the interpreter crawl on two idle CPUs
    try:
        thread.start()
        assert stage.play(scene) == [rounds] * 3
    finally:
        over.set()
        sys.setswitchinterval(before)
        os.sched_setaffinity(0, cpus)
        thread.join(5)


@pytest.mark.parametrize("kind", ["plain", "generator", "coroutine", "raising"])
def test_a_signal_at_any_bytecode_of_the_runtime_breaks_nothing(
    stage: BareStage, kind: str, recwarn: pytest.WarningsRecorder
) -> None:
    runtime = FakeRuntime(stage.interrupts)

    def plain() -> None:
        runtime.send()

    def generator() -> Generator[Any, Any, None]:
        runtime.send()
        yield 0
        yield coroutine()

    async def coroutine() -> None:
        runtime.send()
        await asyncio.sleep(0)
        runtime.send()

    async def raising() -> None:
        await asyncio.sleep(0)
        raise ValueError

    async def run_with(signal_at: OpcodeSignal, function: Callable[[], Any]) -> Outcome:
        execution, done = stage.prepare(function)

        def start() -> None:
            sys.settrace(signal_at)  # for the rest of this play; the loop's own frames are not looked at
            execution.begin()

        stage.loop.call_soon(start)
        try:
            return await asyncio.wait_for(done, 5)
        finally:
            sys.settrace(None)

    async def scene(stage: BareStage) -> tuple[int, int]:
        function: Callable[[], Any] = {
            "plain": plain,
            "generator": generator,
            "coroutine": coroutine,
            "raising": raising,
        }[kind]
        interrupted = 0
        # Python 3.12 traces opcodes from the next time on.
        await run_with(OpcodeSignal(stage.interrupts, 0, execution_module, between_module), function)
        for position in range(1, 20_000):
            signal_at = OpcodeSignal(stage.interrupts, position, execution_module, between_module)
            outcome = await run_with(signal_at, function)
            runtime.check()
            assert (stage.interrupts.running, stage.interrupts._asks) == (0, {}), position
            if isinstance(outcome, Raised):
                assert isinstance(outcome.error, KeyboardInterrupt | ValueError), (position, outcome)
                interrupted += isinstance(outcome.error, KeyboardInterrupt)
            if signal_at.count < position:
                return position, interrupted
        raise AssertionError("an execution has more bytecodes than that?")

    positions, interrupted = stage.play(scene)
    assert [str(warning.message) for warning in recwarn] == []
    assert positions > 100
    assert interrupted > positions // 20


# --- what is left behind


class Marker:
    """Weakly referable, to see when it goes."""


@pytest.mark.parametrize("fails", [False, True])
def test_nothing_waits_for_the_garbage_collector(stage: BareStage, fails: bool) -> None:
    def plain(marker: Marker) -> None:
        if fails:
            raise ValueError(marker)

    def generator(marker: Marker) -> Generator[Any, Any, None]:
        yield
        yield coroutine(marker)

    async def coroutine(marker: Marker) -> None:
        plain(marker)

    async def late_coroutine(marker: Marker) -> None:
        await asyncio.sleep(0)
        plain(marker)

    async def scene(stage: BareStage) -> list[str]:
        left = []
        for function in (plain, generator, coroutine, late_coroutine):
            marker = Marker()
            reference = weakref.ref(marker)
            _, done = await stage.start(function, marker)
            del marker, _
            await done
            del done
            for _ in range(3):
                await asyncio.sleep(0)
            if reference() is not None:
                left.append(function.__name__)
        return left

    gc.disable()
    try:
        assert stage.play(scene) == []
    finally:
        gc.enable()
