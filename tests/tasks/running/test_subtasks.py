"""That asyncio Tasks of a user's task can be interrupted, harm nobody else, end with it, and are otherwise as in plain asyncio."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import inspect
import sys
import time
import traceback
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from functools import partial
from typing import Any

import pytest

from dispycos.actors.tasks.current import current_cell
from dispycos.actors.tasks.ends import Outcome, Raised, Returned
from dispycos.actors.tasks.running import between as between_module
from dispycos.actors.tasks.running import subtasks as subtasks_module
from dispycos.actors.tasks.running.subtasks import POSTPONED_MAX, Subtask
from tests.kit.stage import HostStage, error_of, in_thread_soon, terminate_when
from tests.kit.strikes import FakeRuntime, OpcodeSignal

pytestmark = pytest.mark.timeout(100)

Work = Callable[[], Awaitable[Any]]


@pytest.fixture
def stage() -> Iterator[HostStage]:
    with HostStage.opened() as stage:
        yield stage


# --- ways in which a function has a coroutine run in a Task, and waits for it


async def awaited(work: Work) -> Any:
    return await asyncio.create_task(work())  # type: ignore[arg-type]


async def beside(work: Work) -> Any:
    task: asyncio.Task[Any] = asyncio.create_task(work())  # type: ignore[arg-type]
    await asyncio.sleep(60)
    return task


async def one_of_a_group(work: Work) -> Any:
    async with asyncio.TaskGroup() as group:
        group.create_task(asyncio.sleep(60))
        group.create_task(work())  # type: ignore[arg-type]
        group.create_task(asyncio.sleep(60))


async def one_of_two(work: Work) -> Any:
    return await asyncio.gather(work(), asyncio.create_task(asyncio.sleep(0)))


async def in_the_body_of_a_group(work: Work) -> Any:
    async with asyncio.TaskGroup() as group:
        group.create_task(work())  # type: ignore[arg-type]
        await asyncio.sleep(60)


async def gathered(work: Work) -> Any:
    return await asyncio.gather(asyncio.sleep(60), work(), asyncio.sleep(60))


async def waited_for(work: Work) -> Any:
    return await asyncio.wait_for(work(), 60)


async def shielded(work: Work) -> Any:
    return await asyncio.shield(work())


async def below(work: Work) -> Any:
    return await asyncio.create_task(one_of_a_group(work))


def by_a_generator(work: Work) -> Generator[Any, Any, Any]:
    return (yield asyncio.gather(work()))


def beside_a_generator(work: Work) -> Generator[Any, Any, Any]:
    task: asyncio.Task[Any] = asyncio.get_running_loop().create_task(work())  # type: ignore[arg-type]
    yield asyncio.sleep(60)
    return task


WAYS = [
    awaited, beside, one_of_a_group, in_the_body_of_a_group, gathered, waited_for, shielded, below, by_a_generator,
    beside_a_generator,
]  # fmt: skip
each_way = pytest.mark.parametrize("way", WAYS)


def busy() -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        pass


async def goes_on() -> str:
    await asyncio.sleep(0.1)
    return "went on"


def is_quiet(loop: asyncio.AbstractEventLoop) -> bool:
    """Only the scene itself is left of all Tasks (and the wait_for around it of Python 3.11)."""
    return all("Subtask" not in type(task.get_coro()).__name__ for task in asyncio.all_tasks(loop))


# --- interrupts


@each_way
@pytest.mark.parametrize("long", [busy, partial(time.sleep, 60)], ids=["loop", "sleep"])
def test_a_long_step_is_interrupted_and_the_function_with_it(
    stage: HostStage, way: Callable[..., Any], long: Callable[[], None]
) -> None:
    began: list[float] = []

    async def work() -> None:
        await asyncio.sleep(0.01)
        began.append(time.monotonic())
        long()

    async def scene(stage: HostStage) -> tuple[Outcome, Outcome, bool]:
        other = asyncio.ensure_future(stage.run(goes_on))
        cell, done = await stage.start(way, work)
        terminate_when(cell, lambda: began)
        outcome = await done
        assert time.monotonic() - began[0] < 5
        return outcome, await other, is_quiet(stage.loop)

    outcome, other, quiet = stage.play(scene)
    assert type(error_of(outcome)) is KeyboardInterrupt
    assert (other, quiet) == (Returned("went on"), True)


def test_the_function_may_catch_it_where_it_waits_and_its_other_tasks_live_on(stage: HostStage) -> None:
    began: list[bool] = []

    async def work() -> None:
        await asyncio.sleep(0.01)
        began.append(True)
        time.sleep(60)

    async def function() -> tuple[str, bool, int]:
        other = asyncio.create_task(goes_on())
        task = asyncio.create_task(work())
        try:
            await asyncio.sleep(60)
        except KeyboardInterrupt:
            return await other, task.cancelled(), asyncio.current_task().cancelling()  # type: ignore[union-attr]
        raise AssertionError

    async def scene(stage: HostStage) -> Outcome:
        cell, done = await stage.start(function)
        terminate_when(cell, lambda: began)
        return await done

    assert stage.play(scene) == Returned(("went on", True, 0))


def test_a_task_that_catches_it_keeps_it(stage: HostStage) -> None:
    began: list[bool] = []

    async def work() -> str:
        await asyncio.sleep(0.01)
        try:
            began.append(True)
            time.sleep(60)
        except KeyboardInterrupt:
            await asyncio.sleep(0)
        return "caught"

    async def scene(stage: HostStage) -> Outcome:
        cell, done = await stage.start(awaited, work)
        terminate_when(cell, lambda: began)
        return await done

    assert stage.play(scene) == Returned("caught")


def test_one_for_a_suspended_function_passes_by_tasks_that_are_about_to_begin(stage: HostStage) -> None:
    """The step would hold it up for its whole length."""

    async def long() -> None:
        time.sleep(10)

    async def function() -> None:
        await asyncio.sleep(0)
        _task = asyncio.create_task(long())  # noqa: RUF006
        await asyncio.sleep(60)

    def generator() -> Generator[Any, Any, None]:
        yield
        asyncio.get_running_loop().create_task(long())
        yield asyncio.sleep(60)

    async def scene(stage: HostStage, function: Callable[[], Any]) -> Outcome:
        cell, done = await stage.start(function)
        cell.terminate()
        return await done

    for each in (function, generator):
        began = time.monotonic()
        assert type(error_of(stage.play(partial(scene, function=each)))) is KeyboardInterrupt
        assert time.monotonic() - began < 5


def test_a_task_for_which_the_function_waits_is_not_held_up_for_ever(stage: HostStage) -> None:
    async def stubborn() -> str:
        for _ in range(3):
            try:
                await asyncio.sleep(0.001)
            except asyncio.CancelledError:
                pass
            for _ in range(2 * POSTPONED_MAX):
                await asyncio.sleep(0)
        return "stubborn"

    async def scene(stage: HostStage) -> Outcome:
        cell, done = await stage.start(awaited, stubborn)
        await asyncio.sleep(0)
        cell.terminate()
        return await done

    assert isinstance(error_of(stage.play(scene)), KeyboardInterrupt)


def test_a_request_that_the_step_outran_reaches_the_function(stage: HostStage) -> None:
    async def work() -> None:
        # At the last bytecodes of the step, as far as anybody can tell: it is asked for and not raised.
        stage.interrupts._asks[stage.interrupts.running] = KeyboardInterrupt
        await asyncio.sleep(60)

    async def function() -> str:
        _task = asyncio.create_task(work())  # noqa: RUF006
        try:
            await asyncio.sleep(60)
        except KeyboardInterrupt:
            return "caught"
        return "none"

    assert stage.run_one(function) == Returned("caught")


# --- KeyboardInterrupt and SystemExit that a Task raises


@each_way
@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
def test_the_task_ends_with_it_and_another_goes_on(
    stage: HostStage, way: Callable[..., Any], kind: type[BaseException]
) -> None:
    error = kind("mine")

    async def work() -> None:
        await asyncio.sleep(0)
        raise error

    async def scene(stage: HostStage) -> tuple[Outcome, Outcome]:
        other = asyncio.ensure_future(stage.run(goes_on))
        return await stage.run(way, work), await other

    outcome, other = stage.play(scene)
    assert error_of(outcome) is error
    assert other == Returned("went on")
    assert "work" in [frame.name for frame in traceback.extract_tb(error.__traceback__)]


def test_a_system_exit_may_be_caught_and_finally_runs(stage: HostStage) -> None:
    told: list[str] = []

    async def leave() -> None:
        sys.exit("no more")

    async def function() -> str:
        try:
            await one_of_a_group(leave)
        except SystemExit as exit:
            await asyncio.sleep(0)
            told.append(str(exit))
        finally:
            told.append("finally")
        return "stayed"

    assert stage.run_one(function) == Returned("stayed")
    assert told == ["no more", "finally"]


def test_the_task_that_raised_it_is_cancelled(stage: HostStage) -> None:
    tasks: list[asyncio.Task[None]] = []

    async def leave() -> None:
        sys.exit()

    async def function() -> None:
        tasks.append(asyncio.create_task(leave()))
        await asyncio.sleep(60)

    assert isinstance(error_of(stage.run_one(function)), SystemExit)
    assert tasks[0].cancelled()


# --- as in plain asyncio


async def ordinary_exceptions() -> Any:
    async def fail(kind: type[BaseException]) -> None:
        await asyncio.sleep(0)
        raise kind("mine")

    kinds = (ValueError, asyncio.CancelledError, GeneratorExit, StopAsyncIteration, BaseException)
    return [
        repr(error) for error in await asyncio.gather(*(fail(kind) for kind in kinds), return_exceptions=True)
    ]


async def groups() -> Any:
    async def fail() -> None:
        raise ValueError("in the group")

    ended: list[str] = []

    async def last() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0)
            ended.append("last")

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(last()), group.create_task(fail(), name="failing")]
            await asyncio.sleep(60)
    except* ValueError as errors:
        ended += map(str, errors.exceptions)
    return ended, [(task.get_name() == "failing", task.cancelled()) for task in tasks]


async def timeouts() -> Any:
    async def slow() -> str:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError as error:
            return f"late {error.args}"
        return "none"

    async def released() -> str:
        await release.wait()
        return "shielded"

    release = asyncio.Event()
    shielded = asyncio.create_task(released())
    found = []
    for awaitable in (slow(), asyncio.shield(shielded), asyncio.sleep(60)):
        try:
            async with asyncio.timeout(0.005):
                found.append(await awaitable)
        except TimeoutError:
            found.append("timeout")
        try:
            found.append(await asyncio.wait_for(asyncio.sleep(60), 0.005))
        except TimeoutError:
            found.append("timeout")
    release.set()
    task = asyncio.current_task()
    assert task is not None
    return found, await shielded, task.cancelling()


async def cancellations() -> Any:
    async def told() -> Any:
        task = asyncio.current_task()
        assert task is not None
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError as error:
            return error.args, task.cancelling(), task.uncancel()

    async def nothing() -> None:
        raise AssertionError("it was cancelled before it began")

    task, early = asyncio.create_task(told()), asyncio.create_task(nothing())
    early.cancel()
    await asyncio.sleep(0)
    task.cancel("words")
    found = [await task]
    try:
        await early
    except asyncio.CancelledError:
        found.append(early.cancelled())
    return found


async def waits() -> Any:
    gates = [asyncio.Event() for _ in range(3)]

    async def passes(n: int) -> int:
        await gates[n].wait()
        return n

    tasks = [asyncio.create_task(passes(n)) for n in range(3)]
    gates[0].set()
    done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    order = []
    for first in asyncio.as_completed(tasks):
        order.append(await first)
        gates[min(len(order), 2)].set()
    return len(done), len(pending), order, await asyncio.to_thread(sum, [1, 2])


async def looks() -> Any:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="none")

    async def looked_at() -> Any:
        variable.set("inside")
        await asyncio.sleep(0)
        task = asyncio.current_task()
        assert task is not None
        coroutine: Any = task.get_coro()
        return (
            task in asyncio.all_tasks(), task.get_name(), coroutine.__qualname__, coroutine.__name__,
            task.get_stack()[-1].f_code.co_name, coroutine.cr_code.co_name, coroutine.cr_running,
        )  # fmt: skip

    variable.set("outside")
    context = contextvars.copy_context()
    task = asyncio.create_task(looked_at(), name="mine", context=context)
    found: list[Any] = [repr(task).partition(" at ")[0], inspect.getcoroutinestate(task.get_coro())]  # type: ignore[arg-type]
    await asyncio.sleep(0)
    found += [inspect.getcoroutinestate(task.get_coro()), asyncio.iscoroutine(task.get_coro())]  # type: ignore[arg-type]
    found += [[frame.f_code.co_name for frame in task.get_stack()]]
    found += [
        await task,
        variable.get(),
        context[variable],
        task.get_loop() is None,
    ]
    return found


async def misuse() -> Any:
    class Bad:
        def __await__(self) -> Generator[Any, Any, None]:
            yield "bad"

    async def bad() -> None:
        await Bad()

    found = []
    for make in (bad, int):
        try:
            await asyncio.create_task(make())  # type: ignore[arg-type]
        except (RuntimeError, TypeError) as error:
            found.append(str(error).partition("<")[0])
    return found


async def streams() -> Any:
    async def on_connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readline())
        writer.close()

    server = await asyncio.start_server(on_connect, "127.0.0.1", 0)
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"line\n")
        line = await reader.readline()
        writer.close()
    return line


@pytest.mark.parametrize(
    "scene", [ordinary_exceptions, groups, timeouts, cancellations, waits, looks, misuse, streams]
)
def test_it_is_as_in_plain_asyncio(stage: HostStage, scene: Callable[[], Any]) -> None:
    assert stage.run_one(scene) == Returned(asyncio.run(scene()))


def test_a_failure_that_nobody_awaits_is_told_by_the_loop(stage: HostStage) -> None:
    async def fail() -> None:
        raise ValueError("unheard")

    async def function() -> None:
        _task = asyncio.create_task(fail())  # noqa: RUF006
        await asyncio.sleep(0.01)

    assert stage.run_one(function) == Returned(None)
    assert [str(complaint["exception"]) for complaint in stage.complaints] == ["unheard"]
    stage.complaints.clear()


def test_no_frame_of_ours_stands_between_those_of_the_user(stage: HostStage) -> None:
    async def fail() -> None:
        raise ValueError

    outcome = stage.run_one(awaited, fail)
    names = [frame.name for frame in traceback.extract_tb(error_of(outcome).__traceback__)]
    assert names == ["awaited", "fail"]


def test_its_steps_are_steps_of_the_task_in_its_context(stage: HostStage) -> None:
    seen: list[bool] = []

    async def work() -> None:
        for _ in range(2):
            seen.append(stage.interrupts._owner is current_cell() is not None)
            await asyncio.sleep(0)

    async def function() -> None:
        await asyncio.gather(work(), asyncio.create_task(awaited(work)))

    async def scene(stage: HostStage) -> None:
        await asyncio.gather(stage.run(function), stage.run(function))

    stage.play(scene)
    assert seen == [True] * 8


def test_a_coroutine_that_the_runtime_runs_for_itself_has_no_bracket(stage: HostStage) -> None:
    async def scene(stage: HostStage) -> bool:
        task = stage.loop.create_task(asyncio.sleep(0))
        await task
        return isinstance(task.get_coro(), Subtask)

    assert stage.play(scene) is False


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with Python 3.12")
def test_eager_tasks_begin_inside_the_step_of_their_maker(stage: HostStage) -> None:
    async def work(order: list[str]) -> str:
        order.append("work")
        await asyncio.sleep(0)
        assert stage.interrupts.is_running(current_cell())
        return "value"

    async def at_once(order: list[str]) -> str:
        return "at once"

    async def leave(order: list[str]) -> None:
        sys.exit("eagerly")

    async def function() -> tuple[list[Any], str]:
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined]
        order: list[str] = []
        tasks = [asyncio.create_task(work(order)), asyncio.create_task(at_once(order))]
        order.append("function")
        found = await asyncio.gather(*tasks)
        try:
            asyncio.create_task(leave(order))  # noqa: RUF006
        except SystemExit as exit:
            return [*found, *order], str(exit)
        raise AssertionError

    expected = ["value", "at once", "work", "function"], "eagerly"
    assert stage.run_one(function) == Returned(expected)
    # asyncio says it, too.
    assert [str(complaint["exception"]) for complaint in stage.complaints] == ["eagerly"]
    stage.complaints.clear()


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with Python 3.12")
def test_an_eager_task_is_interrupted_in_a_later_step(stage: HostStage) -> None:
    began: list[bool] = []

    async def work() -> None:
        await asyncio.sleep(0.01)
        began.append(True)
        time.sleep(60)

    async def function() -> None:
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined]
        await one_of_a_group(work)

    async def scene(stage: HostStage) -> Outcome:
        cell, done = await stage.start(function)
        terminate_when(cell, lambda: began)
        return await done

    assert isinstance(error_of(stage.play(scene)), KeyboardInterrupt)


# --- what the function leaves behind


def test_what_is_left_is_cancelled_and_the_outcome_waits_for_it(stage: HostStage) -> None:
    told: list[str] = []

    async def tidy(name: str) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.wait_for(asyncio.sleep(0.01), 5)
            told.append(name)

    async def function() -> str:
        for name in "ab":
            _task = asyncio.create_task(tidy(name))  # noqa: RUF006
        await asyncio.sleep(0)
        return "value"

    async def without_waiting() -> str:
        asyncio.get_running_loop().create_task(tidy("never begun"))
        return "at once"

    async def scene(stage: HostStage) -> list[Outcome]:
        outcomes = [await stage.run(function)]
        assert told == ["a", "b"]
        return [*outcomes, await stage.run(without_waiting)]

    assert stage.play(scene) == [Returned("value"), Returned("at once")]
    assert told == ["a", "b"]


def test_an_exception_of_the_function_waits_likewise(stage: HostStage) -> None:
    async def function() -> None:
        _task = asyncio.create_task(asyncio.sleep(60))  # noqa: RUF006
        raise ValueError("mine")

    outcome = stage.run_one(function)
    assert isinstance(outcome, Raised) and outcome.error.args == ("mine",)


def test_what_is_left_may_send_for_its_task(stage: HostStage) -> None:
    async def says(task: Any, other: Any) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            other.send("finally")

    async def function(other: Any, task: Any = None) -> None:
        _task = asyncio.create_task(says(task, other))  # noqa: RUF006
        await asyncio.sleep(0)

    async def reads(task: Any = None) -> Any:
        return await task.receive(5)

    async def scene(stage: HostStage) -> Outcome:
        cell, done = await stage.start(reads)
        await stage.run(function, cell.handle)
        return await done

    assert stage.play(scene) == Returned("finally")


def test_a_long_step_of_what_is_left_can_be_interrupted(stage: HostStage) -> None:
    began: list[bool] = []

    async def tidy() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            began.append(True)
            time.sleep(60)

    async def function() -> str:
        _task = asyncio.create_task(tidy())  # noqa: RUF006
        await asyncio.sleep(0)
        return "value"

    async def scene(stage: HostStage) -> Outcome:
        cell, done = await stage.start(function)
        terminate_when(cell, lambda: began)
        return await done

    assert stage.play(scene) == Returned("value")


@pytest.fixture
def short_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subtasks_module, "SUBTASKS_S", 0.05)


@pytest.mark.usefixtures("short_patience")
def test_what_goes_on_all_the_same_is_dropped(stage: HostStage, caplog: pytest.LogCaptureFixture) -> None:
    told: list[str] = []

    async def stubborn() -> None:
        while True:
            try:
                await asyncio.sleep(0.01)
                told.append("slept")
            except asyncio.CancelledError:
                told.append("cancelled")
            except GeneratorExit:
                told.append("closed")
                raise

    async def function() -> str:
        _task = asyncio.create_task(stubborn(), name="leech")  # noqa: RUF006
        await asyncio.sleep(0)
        return "value"

    async def scene(stage: HostStage) -> Outcome:
        outcome = await stage.run(function)
        await asyncio.sleep(0.05)
        assert is_quiet(stage.loop)
        return outcome

    assert stage.play(scene) == Returned("value")
    assert told[0] == "cancelled" and told[-2:] == ["cancelled", "closed"]
    assert len(caplog.messages) == 1
    assert "leech" in caplog.text and "stubborn" in caplog.text and "of the task function" in caplog.text


@pytest.mark.usefixtures("short_patience")
def test_what_is_made_later_still_has_as_long(stage: HostStage, caplog: pytest.LogCaptureFixture) -> None:
    told: list[str] = []

    async def late(seconds: float) -> None:
        try:
            await asyncio.sleep(seconds)
            told.append("in time")
        except asyncio.CancelledError:
            told.append("cancelled")
            raise

    async def function() -> None:
        loop = asyncio.get_running_loop()
        for seconds in (0.001, 60):
            loop.call_later(0.001, lambda seconds: loop.create_task(late(seconds)), seconds)

    async def scene(stage: HostStage) -> None:
        cell, done = await stage.start(function)
        await done
        await asyncio.sleep(0.1)
        assert is_quiet(stage.loop)
        assert cell.subtasks is None

    stage.play(scene)
    assert told == ["in time", "cancelled"]
    assert len(caplog.messages) == 1


def test_an_asynchronous_generator_that_was_left_is_finalized(stage: HostStage) -> None:
    told: list[str] = []

    async def numbers() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            await asyncio.sleep(0)
            told.append("finalized")

    async def function() -> int:
        async for number in numbers():
            return number
        return 0

    async def scene(stage: HostStage) -> Outcome:
        outcome = await stage.run(function)
        await asyncio.sleep(0.01)
        return outcome

    assert stage.play(scene) == Returned(1)
    assert told == ["finalized"]


def test_one_in_a_context_of_its_own_belongs_to_nobody(stage: HostStage) -> None:
    tasks: list[asyncio.Task[str]] = []

    async def function() -> None:
        tasks.append(asyncio.create_task(goes_on(), context=contextvars.Context()))

    async def scene(stage: HostStage) -> str:
        await stage.run(function)
        return await tasks[0]

    assert stage.play(scene) == "went on"


# --- all at once


class Marker:
    """Weakly referable, to see when it goes."""


@pytest.mark.parametrize("end", [None, ValueError, SystemExit, KeyboardInterrupt])
def test_nothing_waits_for_the_garbage_collector(stage: HostStage, end: type[BaseException] | None) -> None:
    async def work(marker: Marker) -> None:
        await asyncio.sleep(0)
        if end is not None:
            raise end(marker)

    async def function(marker: Marker) -> None:
        await asyncio.create_task(work(marker))

    async def waiting(marker: Marker) -> None:
        await asyncio.get_running_loop().create_future()

    async def leaving(marker: Marker) -> None:
        _task = asyncio.create_task(waiting(marker))  # noqa: RUF006
        await asyncio.sleep(0)

    async def scene(stage: HostStage) -> list[str]:
        left = []
        for each in (function, leaving):
            marker = Marker()
            reference = weakref.ref(marker)
            cell, done = await stage.start(each, marker)
            cell_reference = weakref.ref(cell)
            del marker, cell
            await done
            del done
            for _ in range(5):
                await asyncio.sleep(0)
            if reference() is not None or cell_reference() is not None:
                left.append(each.__name__)
        return left

    gc.collect()
    gc.disable()
    try:
        assert stage.play(scene) == []
    finally:
        gc.enable()


def test_a_signal_at_any_bytecode_breaks_nothing(
    stage: HostStage, caplog: pytest.LogCaptureFixture, recwarn: pytest.WarningsRecorder
) -> None:
    runtime = FakeRuntime(stage.interrupts)

    async def work() -> None:
        runtime.send()
        await asyncio.sleep(0)
        runtime.send()

    async def run_with(signal_at: OpcodeSignal) -> Outcome:
        sys.settrace(signal_at)  # for the rest of this run; the loop's own frames are not looked at
        try:
            return await asyncio.wait_for(stage.run(one_of_two, work), 5)
        finally:
            sys.settrace(None)

    async def scene(stage: HostStage) -> tuple[int, int]:
        interrupted = 0
        await run_with(OpcodeSignal(stage.interrupts, 0, subtasks_module, between_module))
        for position in range(1, 20_000):
            signal_at = OpcodeSignal(stage.interrupts, position, subtasks_module, between_module)
            outcome = await run_with(signal_at)
            runtime.check()
            assert (stage.interrupts.running, stage.interrupts._asks) == (0, {}), position
            assert is_quiet(stage.loop), position
            if isinstance(outcome, Raised):
                assert isinstance(outcome.error, KeyboardInterrupt), (position, outcome)
                interrupted += 1
            if signal_at.count < position:
                return position, interrupted
        raise AssertionError("subtasks have more bytecodes than that?")

    positions, interrupted = stage.play(scene)
    assert [str(warning.message) for warning in recwarn] == []
    assert caplog.messages == []
    assert positions > 100
    assert interrupted > positions // 20


@pytest.mark.usefixtures("short_patience")
def test_five_hundred_interrupts_at_random_moments_end_five_hundred_tasks(stage: HostStage) -> None:
    """In whichever of the steps of four Tasks they come; nothing of them is left, and the loop knows of no complaint."""
    import random

    chance = random.Random(5)

    async def computes() -> None:
        while True:
            sum(range(50))
            await asyncio.sleep(0)

    async def function() -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(2):
                group.create_task(computes())
            group.create_task(awaited(computes))

    async def scene(stage: HostStage) -> int:
        ended = 0
        for _ in range(500):
            cell, done = await stage.start(function)
            in_thread_soon(cell.terminate, chance.random() * 2e-3)
            ended += isinstance(error_of(await done), KeyboardInterrupt)
            assert is_quiet(stage.loop)
        return ended

    assert stage.play(scene) == 500
