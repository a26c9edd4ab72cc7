"""client.map: what it submits and when, what it gives and when, and what is left of it however it ends."""

from __future__ import annotations

import asyncio
import contextlib
import io
import itertools
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator
from typing import Any

import pytest

from dispycos.actors.tasks import map as mapping
from dispycos.actors.tasks.map import AHEAD_MAX, Progress, values_of

pytestmark = pytest.mark.timeout(20)


class Handle(asyncio.Future[Any]):
    """As much of a task's handle as map uses; the test says how the task ends."""

    def __init__(self, args: tuple[Any, ...]) -> None:
        super().__init__()
        self.args = args
        self.terminated = 0

    def is_alive(self) -> bool:
        return not self.done()

    def terminate(self) -> None:
        self.terminated += 1

    def end(self, value: Any = None, error: Exception | None = None) -> None:
        if error is not None:
            self.set_exception(error)
            self.exception()
        else:
            self.set_result(value)


class Bench:
    """Takes what map submits."""

    def __init__(self, ends_at_once: bool = False) -> None:
        self.handles: list[Handle] = []
        self.ends_at_once = ends_at_once

    def submit(self, *args: Any) -> Any:
        handle = Handle(args)
        self.handles.append(handle)
        if self.ends_at_once:
            handle.end(sum(args))
        return handle

    def map(
        self, *iterables: Iterable[Any], progress: Progress | None = None
    ) -> AsyncGenerator[tuple[Any, Any], None]:
        return values_of(self.submit, zip(*iterables, strict=False), progress)

    @property
    def left(self) -> list[Handle]:
        return [handle for handle in self.handles if not handle.done()]


async def wait_until(condition: Callable[[], object]) -> None:
    while not condition():
        await asyncio.sleep(0)


def play(scene: Callable[[], Awaitable[None]]) -> None:
    """On a loop of its own; what the loop complains about fails the test."""
    complaints: list[dict[str, Any]] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, complaint: complaints.append(complaint))
        await scene()

    asyncio.run(main())
    assert complaints == []


def test_values_come_as_the_tasks_end() -> None:
    async def scene() -> None:
        bench = Bench()
        values = bench.map([1, 2, 3])
        first = asyncio.ensure_future(anext(values))
        await wait_until(lambda: len(bench.handles) == 3)
        bench.handles[2].end("c")
        assert await first == (3, "c")
        bench.handles[0].end("a")
        assert await anext(values) == (1, "a")
        bench.handles[1].end("b")
        assert [pair async for pair in values] == [(2, "b")]

    play(scene)


def test_with_several_iterables_the_argument_is_a_tuple_and_the_shortest_ends_it() -> None:
    async def scene() -> None:
        bench = Bench(ends_at_once=True)
        assert [pair async for pair in bench.map([1, 2], [10, 20, 30])] == [((1, 10), 11), ((2, 20), 22)]

    play(scene)


def test_an_argument_may_be_anything_and_come_twice() -> None:
    async def scene() -> None:
        bench = Bench()
        values = bench.map([None, [], None])
        first = asyncio.ensure_future(anext(values))
        await wait_until(lambda: len(bench.handles) == 3)
        for handle in bench.handles:
            handle.end(0)
        assert [await first, *[pair async for pair in values]] == [(None, 0), ([], 0), (None, 0)]

    play(scene)


def test_of_an_endless_iterable_only_so_much_is_read_ahead() -> None:
    async def scene() -> None:
        read = 0

        def endless() -> Iterator[int]:
            nonlocal read
            for number in itertools.count():
                read += 1
                yield number

        bench = Bench()
        values = bench.map(endless())
        first = asyncio.ensure_future(anext(values))
        await wait_until(lambda: read >= AHEAD_MAX)
        for _ in range(10):
            await asyncio.sleep(0)
        assert read == AHEAD_MAX
        bench.handles[7].end("seven")
        assert await first == (7, "seven")
        await values.aclose()
        assert read <= AHEAD_MAX + 1

    play(scene)


def test_a_slow_consumer_bounds_what_is_submitted() -> None:
    async def scene() -> None:
        bench = Bench(ends_at_once=True)
        taken = 0
        async for _ in bench.map(itertools.count()):
            taken += 1
            await asyncio.sleep(0)
            assert len(bench.handles) - taken < AHEAD_MAX
            if taken == 2 * AHEAD_MAX:
                break
        assert len(bench.handles) > 2 * AHEAD_MAX

    play(scene)


def test_a_slow_iterable_does_not_hold_up_values_nor_the_loop() -> None:
    async def scene() -> None:
        def slow() -> Iterator[int]:
            for number in range(50):
                time.sleep(0.01)
                yield number

        bench = Bench(ends_at_once=True)
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0)

        ticker = asyncio.ensure_future(tick())
        ahead: list[Any] = []
        async for _, _ in bench.map(slow()):
            ahead.append(len(bench.handles) - len(ahead))
        ticker.cancel()
        assert ahead[0] <= 3 and max(ahead) < 25, "values are given while the iterable is still read"
        assert ticks >= 10, "the loop has its turns meanwhile"

    play(scene)


def note_of(*iterables: Iterable[Any]) -> str:
    """What the error of the first item says of it."""
    notes: list[str] = []

    async def scene() -> None:
        bench = Bench()
        first = asyncio.ensure_future(anext(bench.map(*iterables)))
        await wait_until(lambda: bench.handles)
        bench.handles[0].end(error=ValueError("no"))
        with pytest.raises(ValueError, match="no") as info:
            await first
        assert [frame.name for frame in info.traceback] == ["scene"]
        notes.extend(info.value.__notes__)

    play(scene)
    (note,) = notes
    return note


class NoWords:
    def __repr__(self) -> str:
        raise RuntimeError("no words")


def test_an_error_says_for_which_item() -> None:
    assert note_of([7]) == "for the item 7"
    assert note_of([7], ["b"]) == "for the item (7, 'b')"


def test_a_long_item_is_cut() -> None:
    assert note_of(["x" * 10_000]).startswith("for the item 'xxx")
    assert len(note_of(["x" * 10_000])) < 300
    assert len(note_of([list(range(10_000))])) < 300


@pytest.mark.parametrize("item", [NoWords(), type("array", (), {})()])
def test_an_item_that_cannot_say_itself_hides_no_error(item: Any) -> None:
    assert type(item).__name__ in note_of([item])


def test_an_error_of_one_task_is_raised_and_the_others_are_terminated_once() -> None:
    async def scene() -> None:
        bench = Bench()
        values = bench.map(range(4))
        first = asyncio.ensure_future(anext(values))
        await wait_until(lambda: len(bench.handles) == 4)
        bench.handles[0].end("value")
        assert await first == (0, "value")
        bench.handles[1].end(error=ZeroDivisionError("by zero"))
        bench.handles[2].end("ended before anybody took it")
        with pytest.raises(ZeroDivisionError, match="by zero"):
            await anext(values)
        assert [handle.terminated for handle in bench.handles] == [0, 0, 0, 1]
        with pytest.raises(StopAsyncIteration):
            await anext(values)

    play(scene)


def test_who_leaves_the_loop_ends_the_tasks_that_are_left() -> None:
    async def scene() -> None:
        bench = Bench()

        async def consume() -> None:
            async for _ in bench.map(itertools.count()):
                break

        consumer = asyncio.ensure_future(consume())
        await wait_until(lambda: bench.handles)
        bench.handles[0].end("first")
        await consumer
        await wait_until(lambda: all(handle.terminated for handle in bench.left))  # by the loop's finalizer
        assert bench.handles[0].terminated == 0

    play(scene)


def test_aclose_ends_the_tasks_that_are_left_at_once() -> None:
    async def scene() -> None:
        bench = Bench()
        async with contextlib.aclosing(bench.map(range(3))) as values:
            first = asyncio.ensure_future(anext(values))
            await wait_until(lambda: len(bench.handles) == 3)
            bench.handles[0].end("first")
            await first
        assert [handle.terminated for handle in bench.handles] == [0, 1, 1]

    play(scene)


@pytest.mark.parametrize("kind", [KeyboardInterrupt, asyncio.CancelledError])
def test_an_interrupt_while_it_waits_ends_the_tasks_and_goes_on(kind: type[BaseException]) -> None:
    """As a task's step gets it: thrown in where the function is suspended."""

    async def scene() -> None:
        bench = Bench()
        values = bench.map(range(2))
        step = anext(values).__await__()
        while not next(step):  # from the sleeps to the wait for an end, which gives a future
            pass
        with pytest.raises(kind):
            step.throw(kind())
        assert [handle.terminated for handle in bench.handles] == [1, 1]

    play(scene)


def test_an_iterable_that_raises_midway_ends_the_tasks_and_is_heard() -> None:
    async def scene() -> None:
        def breaks() -> Iterator[int]:
            yield from (1, 2)
            raise OSError("the disk is gone")

        bench = Bench()
        with pytest.raises(OSError, match="the disk is gone"):
            await anext(bench.map(breaks()))
        assert [(handle.args, handle.terminated) for handle in bench.handles] == [((1,), 1), ((2,), 1)]

    play(scene)


def test_an_argument_that_cannot_be_submitted_ends_the_tasks_and_is_heard() -> None:
    async def scene() -> None:
        bench = Bench()

        def submit(number: int) -> Any:
            if number == 2:
                raise TypeError("no such number")
            return bench.submit(number)

        with pytest.raises(TypeError, match="no such number"):
            await anext(values_of(submit, iter([(0,), (1,), (2,)])))
        assert [handle.terminated for handle in bench.handles] == [1, 1]

    play(scene)


def test_nothing_is_submitted_before_somebody_takes_values() -> None:
    async def scene() -> None:
        bench = Bench()
        values = bench.map([1])
        await asyncio.sleep(0)
        assert bench.handles == []
        await values.aclose()

    play(scene)


# --- the count ---


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def counted(stream: io.StringIO, seconds: float, ends: int = 3) -> str:
    """What is written when a value comes every so many seconds."""

    async def scene() -> None:
        progress = Progress()
        now = 100.0
        progress._clock = lambda: now
        progress._next = now + (0.0 if stream.isatty() else mapping.LOGGED_S)
        for left in reversed(range(ends)):
            progress.count(left * 1000)
            now += seconds
        progress.close()

    with contextlib.redirect_stderr(stream):
        asyncio.run(scene())
    return stream.getvalue()


def test_on_a_terminal_one_line_is_written_over() -> None:
    assert counted(Terminal(), 1.0) == (
        "\r1 done, 2000 in flight\r2 done, 1000 in flight\r3 done, 0 in flight   \r3 done, 0 in flight\n"
    )


def test_on_a_terminal_it_is_not_written_more_often_than_eyes_see() -> None:
    written = counted(Terminal(), 0.001, ends=1000)
    assert written.count("\r") <= 12
    assert written.endswith("\r1000 done, 0 in flight\n") or "\r1000 done, 0 in flight " in written


def test_elsewhere_it_is_a_line_now_and_then() -> None:
    assert counted(io.StringIO(), 0.001, ends=1000) == "1000 done, 0 in flight\n"
    assert counted(io.StringIO(), 6.0) == "3 done, 0 in flight\n" * 2


def test_where_nothing_was_counted_nothing_is_said() -> None:
    assert counted(Terminal(), 1.0, ends=0) == ""


def test_a_program_without_standard_error_counts_in_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene() -> None:
        monkeypatch.setattr("sys.stderr", None)
        bench = Bench(ends_at_once=True)
        assert [pair async for pair in bench.map([1], progress=Progress())] == [(1, 1)]

    play(scene)


def test_the_count_goes_with_the_values(capsys: pytest.CaptureFixture[str]) -> None:
    async def scene() -> None:
        bench = Bench(ends_at_once=True)
        assert len([pair async for pair in bench.map(range(5), progress=Progress())]) == 5

    play(scene)
    assert capsys.readouterr().err == "5 done, 0 in flight\n"
