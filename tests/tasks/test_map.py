"""client.map: what it submits and when, what it gives and when, and what is left of it however it ends."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import itertools
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from itertools import count
from types import SimpleNamespace
from typing import Any

import pytest

from dispycos.actors.tasks import current
from dispycos.actors.tasks.chunks import Chunk
from dispycos.actors.tasks.items import total_of
from dispycos.actors.tasks.map import Map
from dispycos.actors.tasks.mapping import FAILURES_MAX, Wanted, Work
from dispycos.actors.tasks.pacing import AHEAD_MAX, AHEAD_OF_CHUNKS_MAX, CHUNK_MAX, FIRST
from dispycos.actors.tasks.record import Record
from dispycos.errors import NotPicklable, RemoteError, TaskLost, TaskTerminated
from dispycos.protocol.status import OutcomeKind
from tests.kit.stage import Plain

pytestmark = pytest.mark.timeout(20)


def add(*args: Any) -> Any:
    return sum(args)


class Handle(asyncio.Future[Any]):
    """As much of a task's handle as map uses; the test says how the task ends."""

    def __init__(self, function: Any, args: tuple[Any, ...], retries: int) -> None:
        super().__init__()
        self.function = function
        self.args = args
        self.retries = retries
        self.terminated = 0
        self.location = None
        self._source = Record("add")
        self._host = SimpleNamespace(payloads=Plain())

    @property
    def items(self) -> list[Any]:
        """Of a chunk; else its argument."""
        return list(self.args[0]) if isinstance(self.function, Chunk) else [self.args[0]]

    def is_alive(self) -> bool:
        return not self.done()

    def terminate(self) -> None:
        self.terminated += 1

    def end(self, value: Any = None, error: Exception | None = None, seconds: float | None = None) -> None:
        self._source.seconds = seconds
        if error is not None:
            is_lost = isinstance(error, TaskLost | TaskTerminated)
            self._source.outcome = OutcomeKind.LOST if is_lost else OutcomeKind.RAISED
            self.set_exception(error)
            self.exception()
        else:
            self.set_result(value)

    def run(self, seconds: float | None = None) -> None:
        """As its server would, in no time, or in so much."""
        if not isinstance(self.function, Chunk):
            try:
                self.end(self.function(*self.args), seconds=seconds)
            except Exception as error:
                self.end(error=error, seconds=seconds)
            return
        value = in_a_cell(self.function, *self.args)
        if asyncio.iscoroutine(value):
            with pytest.raises(StopIteration) as stop:  # it waits for nothing here
                value.send(None)
            value = stop.value.value
        self.end(value, seconds=seconds)


def in_a_cell(function: Callable[..., Any], *args: Any, stopping: bool = False) -> Any:
    """Called as by a task in a server."""
    host = SimpleNamespace(payloads=Plain(), explain=lambda error: error.add_note("explained"))
    cell: Any = SimpleNamespace(stopping=stopping, host=host)
    context = contextvars.copy_context()
    context.run(current._current.set, cell)
    return context.run(function, *args)


class Bench:
    """Takes what map submits."""

    def __init__(self, ends_at_once: bool = False, function: Callable[..., Any] = add) -> None:
        self.handles: list[Handle] = []
        self.ends_at_once = ends_at_once
        self.function = function
        self.seconds: float | None = None

    def submit(
        self, function: Callable[..., Any], args: Any, kwargs: dict[str, Any], retries: int = 0
    ) -> Any:
        handle = Handle(function, args, retries)
        self.handles.append(handle)
        if self.ends_at_once:
            handle.run(self.seconds)
        return handle

    def map(self, *iterables: Iterable[Any], chunksize: int | None = 1, **wanted: Any) -> Map[Any, Any]:
        is_spread = len(iterables) > 1
        items: Iterator[Any] = zip(*iterables, strict=False) if is_spread else iter(iterables[0])
        how = Wanted({}, is_spread, total_of(iterables), chunksize=chunksize)
        return Map(Work(self.submit, self.function, items, how._replace(**wanted)))

    @property
    def left(self) -> list[Handle]:
        return [handle for handle in self.handles if not handle.done()]


class Endless(Iterator[int]):
    """0, 1, 2, ..."""

    read = 0

    def __next__(self) -> int:
        self.read += 1
        return self.read - 1


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
        bench, numbers = Bench(), Endless()
        values = bench.map(numbers)
        first = asyncio.ensure_future(anext(values))
        await wait_until(lambda: numbers.read >= AHEAD_MAX)
        for _ in range(10):
            await asyncio.sleep(0)
        assert numbers.read == AHEAD_MAX
        bench.handles[7].end("seven")
        assert await first == (7, "seven")
        await values.aclose()
        assert numbers.read <= AHEAD_MAX + 1

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


@pytest.mark.parametrize("ordered", [False, True])
def test_what_an_iterable_raises_midway_is_told_behind_the_values_of_its_items(ordered: bool) -> None:
    async def scene() -> None:
        def breaks() -> Iterator[int]:
            yield from (1, 2)
            raise OSError("the disk is gone")

        bench = Bench()
        values = bench.map(breaks(), ordered=ordered)
        taken = asyncio.create_task(anext(values))
        await wait_until(lambda: len(bench.handles) == 2)
        for handle in bench.handles:
            handle.end(sum(handle.args))
        assert [await taken, await anext(values)] == [(1, 1), (2, 2)]
        with pytest.raises(OSError, match="the disk is gone") as info:
            await anext(values)
        assert info.value.__notes__ == ["raised by the iterable that was given to map(add), after 2 items"]

    play(scene)


def test_when_a_call_fails_what_the_iterable_raises_later_is_not_waited_for() -> None:
    async def scene() -> None:
        def breaks() -> Iterator[int]:
            yield from (1, 2)
            raise OSError("the disk is gone")

        bench = Bench()
        taken = asyncio.create_task(anext(bench.map(breaks())))
        await wait_until(lambda: len(bench.handles) == 2)
        bench.handles[0].end(error=ValueError("one"))
        with pytest.raises(ValueError, match="one"):
            await taken
        assert bench.handles[1].terminated == 1

    play(scene)


def test_an_argument_that_cannot_be_submitted_ends_the_tasks_and_is_heard() -> None:
    async def scene() -> None:
        bench = Bench()

        def submit(function: Any, args: Any, kwargs: Any, retries: int = 0) -> Any:
            if args == (2,):
                raise NotPicklable("no such number")
            return bench.submit(function, args, kwargs)

        with pytest.raises(NotPicklable, match="no such number") as info:
            await anext(Map(Work(submit, add, iter([0, 1, 2]), Wanted({}, False, chunksize=1))))
        assert info.value.__notes__ == ["for the item 2"]
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


def test_values_are_given_in_order_if_that_is_asked_for() -> None:
    async def scene() -> None:
        bench = Bench()
        values = bench.map("abcd", ordered=True)
        first = asyncio.ensure_future(anext(values))
        await wait_until(lambda: len(bench.handles) == 4)
        for place in (2, 1, 0, 3):
            bench.handles[place].end(place)
        assert [await first, *[pair async for pair in values]] == [("a", 0), ("b", 1), ("c", 2), ("d", 3)]

    play(scene)


def test_what_waits_for_its_turn_is_ahead_too() -> None:
    async def scene() -> None:
        bench = Bench(function=lambda x: x)
        first = asyncio.ensure_future(anext(bench.map(itertools.count(), ordered=True)))
        await wait_until(lambda: len(bench.handles) == AHEAD_MAX)
        for handle in bench.handles[1:]:
            handle.run()
        for _ in range(10):
            await asyncio.sleep(0)
        assert len(bench.handles) == AHEAD_MAX
        bench.handles[0].run()
        assert await first == (0, 0)

    play(scene)


def halve(x: int) -> float:
    if x % 2:
        raise ValueError(f"{x} is odd")
    return x / 2


@pytest.mark.parametrize("chunksize", [1, 3])
@pytest.mark.parametrize("ordered", [False, True])
def test_an_item_that_raises_has_its_exception_as_value_if_that_is_asked_for(
    chunksize: int, ordered: bool
) -> None:
    async def scene() -> None:
        bench = Bench(ends_at_once=True, function=halve)
        values = bench.map(range(5), return_exceptions=True, chunksize=chunksize, ordered=ordered)
        found = [(item, repr(value)) async for item, value in values]
        assert found == [
            (0, "0.0"), (1, "ValueError('1 is odd')"), (2, "1.0"), (3, "ValueError('3 is odd')"), (4, "2.0")
        ]  # fmt: skip
        assert [(item, str(error)) for item, error in values.failures] == [(1, "1 is odd"), (3, "3 is odd")]
        assert values.failures[1].error.__notes__[-1] == "for the item 3"
        assert "5 of 5 done, 2 failed" in repr(values)

    play(scene)


def test_of_many_failures_the_first_are_kept_and_all_are_counted() -> None:
    async def scene() -> None:
        bench = Bench(ends_at_once=True, function=halve)
        values = bench.map(range(1, 2 * FAILURES_MAX + 21, 2), return_exceptions=True)
        assert len([pair async for pair in values]) == FAILURES_MAX + 10
        assert len(values.failures) == FAILURES_MAX and values.failures[-1].item == 2 * FAILURES_MAX - 1
        assert f"{FAILURES_MAX + 10:,} failed" in repr(values)

    play(scene)


def test_the_first_failing_item_of_a_chunk_is_raised_behind_the_values_before_it() -> None:
    async def scene() -> None:
        bench = Bench(ends_at_once=True, function=halve)
        values = bench.map([4, 2, 3, 1, 6], chunksize=5)
        assert [await anext(values), await anext(values)] == [(4, 2), (2, 1)]
        with pytest.raises(ValueError, match="3 is odd") as info:
            await anext(values)
        assert info.value.__notes__[-1] == "for the item 3"
        with pytest.raises(StopAsyncIteration):
            await anext(values)
        assert [(item, str(error)) for item, error in values.failures] == [(3, "3 is odd")]

    play(scene)


# --- chunks


def test_short_items_go_together_once_that_is_known() -> None:
    async def scene() -> None:
        bench = Bench(ends_at_once=True, function=lambda x: -x)
        bench.seconds = 1e-5
        assert {pair async for pair in bench.map(range(20_000), chunksize=None)} == {
            (x, -x) for x in range(20_000)
        }
        sizes = [len(handle.items) for handle in bench.handles]
        assert sizes[0] == 1 and max(sizes) > 100
        assert len(sizes) < 1000

    play(scene)


def test_long_items_are_a_task_each() -> None:
    async def scene() -> None:
        bench = Bench(ends_at_once=True, function=lambda x: x)
        bench.seconds = 0.02
        assert len([pair async for pair in bench.map(range(1000), chunksize=None)]) == 1000
        assert len(bench.handles) == 1000

    play(scene)


def test_before_it_is_known_how_long_one_takes_few_are_submitted_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now, looks = 1.0, 0

    def look() -> float:
        nonlocal looks
        looks += 1
        return now

    for place in ("mapping", "items"):
        monkeypatch.setattr(f"dispycos.actors.tasks.{place}.monotonic", look)

    async def scene() -> None:
        nonlocal now
        bench = Bench()
        values = bench.map(itertools.count(), chunksize=None)
        first = asyncio.ensure_future(anext(values))
        await wait_until(lambda: len(bench.handles) == FIRST)
        before = looks
        await wait_until(lambda: looks > before + 10)  # it has looked again
        assert len(bench.handles) == FIRST
        now += 60  # they seem to be long
        await wait_until(lambda: len(bench.handles) == AHEAD_MAX)
        first.cancel()
        await asyncio.wait([first])

    play(scene)


def test_of_short_items_more_are_ahead_and_no_more_than_that() -> None:
    async def scene() -> None:
        bench, numbers = Bench(ends_at_once=True, function=lambda x: x), Endless()
        bench.seconds = 1e-7
        values = bench.map(numbers, chunksize=None)
        most = 0
        for taken in range(100_000):
            await anext(values)
            most = max(most, numbers.read - taken)
        assert AHEAD_MAX < most <= AHEAD_OF_CHUNKS_MAX + CHUNK_MAX + 1024
        await values.aclose()

    play(scene)


def test_a_slow_iterable_sends_what_it_has_given_so_far() -> None:
    async def scene() -> None:
        def slow() -> Iterator[int]:
            for number in range(20):
                time.sleep(0.002)
                yield number

        bench = Bench(ends_at_once=True, function=lambda x: x)
        sent = [len(bench.handles) async for _ in bench.map(slow(), chunksize=1000)]
        assert sent[0] <= 3 and len(bench.handles) >= 4, "no chunk was waited for"

    play(scene)


def test_a_fast_iterable_fills_its_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = count()  # an item takes 1.1 us, on a busy machine too, so that turns of 5 ms end amid chunks
    for place in ("mapping", "items"):
        monkeypatch.setattr(f"dispycos.actors.tasks.{place}.monotonic", lambda: next(ticks) * 1.1e-6)

    async def scene() -> None:
        bench = Bench(ends_at_once=True, function=lambda x: x)
        assert len([pair async for pair in bench.map(iter(range(9_990)), chunksize=1000)]) == 9_990
        assert [len(handle.items) for handle in bench.handles] == [1000] * 9 + [990]

    play(scene)


def test_several_iterables_go_together_too() -> None:
    async def scene() -> None:
        bench = Bench(ends_at_once=True)
        pairs = [pair async for pair in bench.map([1, 2, 3], [10, 20, 30], chunksize=3)]
        assert pairs == [((1, 10), 11), ((2, 20), 22), ((3, 30), 33)]
        assert len(bench.handles) == 1

    play(scene)


def test_what_a_chunk_gives_back_goes_to_another_task_and_keeps_its_place() -> None:
    async def scene() -> None:
        bench = Bench()
        values = bench.map(range(6), chunksize=6, ordered=True)
        first = asyncio.ensure_future(anext(values))
        await wait_until(lambda: bench.handles)
        handle = bench.handles[0]
        handle.end(in_a_cell(Chunk(lambda x: x * x, {}, False, 0.0), handle.items))  # enough after one
        assert await first == (0, 0)
        second = asyncio.ensure_future(anext(values))
        await wait_until(lambda: len(bench.handles) == 2)
        assert bench.handles[1].items == [1, 2, 3, 4, 5]
        bench.handles[1].end(in_a_cell(Chunk(lambda x: x * x, {}, False, None), bench.handles[1].items))
        assert [await second, *[pair async for pair in values]] == [(x, x * x) for x in range(1, 6)]

    play(scene)


def test_a_function_that_returns_a_coroutine_runs_in_tasks_of_its_own_from_then_on() -> None:
    async def scene() -> None:
        async def later(x: int) -> int:
            return x + 1

        bench = Bench(function=lambda x: later(x))
        values = bench.map(range(3), chunksize=3)
        first = asyncio.ensure_future(anext(values))
        await wait_until(lambda: bench.handles)
        bench.handles[0].run()
        assert await first == (0, 1)
        second = asyncio.ensure_future(anext(values))
        await wait_until(lambda: len(bench.handles) == 3)
        assert [handle.args for handle in bench.handles[1:]] == [(1,), (2,)]
        for handle in bench.handles[1:]:
            handle.end("awaited")
        assert [await second, *[pair async for pair in values]] == [(1, "awaited"), (2, "awaited")]

    play(scene)


def test_of_a_chunk_that_cannot_be_pickled_the_item_is_named() -> None:
    async def scene() -> None:
        bench = Bench(ends_at_once=True)

        def submit(function: Any, args: Any, kwargs: Any, retries: int = 0) -> Any:
            if "bad" in (args[0] if isinstance(function, Chunk) else args):
                raise NotPicklable("argument 1 of f: bad")
            return bench.submit(function, args, kwargs)

        wanted = Wanted({}, False, chunksize=3, return_exceptions=True, ordered=True)
        values = Map[Any, Any](Work(submit, add, iter([1, "bad", 3]), wanted))
        assert [(item, type(value)) async for item, value in values] == [
            (1, int), ("bad", NotPicklable), (3, int)
        ]  # fmt: skip
        assert values.failures[0].error.__notes__ == ["for the item 'bad'"]

    play(scene)


def test_a_chunk_that_could_not_be_opened_runs_one_by_one() -> None:
    """What its items raise is no failure of the chunk: nothing has run."""

    async def scene() -> None:
        bench = Bench()
        values = bench.map([1, 2], chunksize=2)
        first = asyncio.ensure_future(anext(values))
        await wait_until(lambda: bench.handles)
        bench.handles[0].end(error=ValueError("while the call was unpickled"))
        await wait_until(lambda: len(bench.handles) == 3)
        bench.handles[1].run()
        assert await first == (1, 1)
        bench.handles[2].end(error=ValueError("the second"))
        with pytest.raises(ValueError, match="the second"):
            await anext(values)

    play(scene)


def test_items_of_a_lost_chunk_are_tried_again_one_by_one_as_often_as_that_is_allowed() -> None:
    async def scene() -> None:
        bench = Bench()
        values = bench.map([1, 2], chunksize=2, retries=2)
        first = asyncio.ensure_future(anext(values))
        await wait_until(lambda: bench.handles)
        assert bench.handles[0].retries == 0, "else its other items were lost by one that kills servers"
        bench.handles[0].end(error=TaskLost("map(add) was lost: killed"))
        await wait_until(lambda: len(bench.handles) == 3)
        assert [(handle.args, handle.retries) for handle in bench.handles[1:]] == [((1,), 1), ((2,), 1)]
        for handle in bench.handles[1:]:
            handle.run()
        assert [await first, *[pair async for pair in values]] == [(1, 1), (2, 2)]

    play(scene)


def test_without_retries_each_item_of_a_lost_chunk_is_lost() -> None:
    async def scene() -> None:
        bench = Bench()
        values = bench.map([1, 2], chunksize=2, return_exceptions=True)
        first = asyncio.ensure_future(anext(values))
        await wait_until(lambda: bench.handles)
        bench.handles[0].end(error=TaskLost("map(add) was lost: killed"))
        found = [await first, *[pair async for pair in values]]
        assert [(item, type(error), str(error)) for item, error in found] == [
            (1, TaskLost, "map(add) was lost: killed"), (2, TaskLost, "map(add) was lost: killed")
        ]  # fmt: skip
        assert [error.__notes__[-1] for _, error in found] == ["for the item 1", "for the item 2"]
        assert "chunk of 2" in found[0][1].__notes__[0]

    play(scene)


def test_a_handle_among_the_items_is_an_argument_of_a_task_of_its_own() -> None:
    async def scene() -> None:
        bench = Bench(function=lambda x: 7)
        handle = Handle(add, (1,), 0)
        values = bench.map([1, handle, 3], chunksize=3)
        first = asyncio.ensure_future(anext(values))
        await wait_until(lambda: len(bench.handles) == 3)
        assert [made.args for made in bench.handles] == [(1,), (handle,), (3,)]
        for made in bench.handles:
            made.run()
        assert len([await first, *[pair async for pair in values]]) == 3

    play(scene)


# --- time, and what it says of itself


def test_at_the_timeout_the_rest_is_ended() -> None:
    async def scene() -> None:
        bench = Bench()
        values = bench.map(range(3), timeout=0.05)
        first = asyncio.ensure_future(anext(values))
        await wait_until(lambda: len(bench.handles) == 3)
        bench.handles[0].end("first")
        assert await first == (0, "first")
        with pytest.raises(
            TimeoutError, match=r"map\(add\): not within 0.05 s; 1 done, and 2 items in flight are ended"
        ):
            await anext(values)
        assert [handle.terminated for handle in bench.handles] == [0, 1, 1]

    play(scene)


def test_values_that_come_without_end_do_not_outrun_the_timeout() -> None:
    async def scene() -> None:
        bench = Bench(ends_at_once=True, function=lambda x: x)
        with pytest.raises(TimeoutError):
            async for _ in bench.map(itertools.count(), timeout=0.02):
                pass

    play(scene)


def test_it_says_how_many_items_there_are_and_how_far_it_is() -> None:
    async def scene() -> None:
        bench = Bench(ends_at_once=True)
        values = bench.map([1, 2, 3])
        assert (len(values), bool(values), repr(values)) == (3, True, "<Map of add: not begun>")
        await anext(values)
        assert repr(values) == "<Map of add: 100 %, 3 of 3 done>"
        assert values._repr_html_() == "<span>Map of <strong>add</strong>: 100 %, 3 of 3 done</span>"
        await values.aclose()
        assert repr(values) == "<Map of add: 100 %, 3 of 3 done, ended>"
        nothing = bench.map([])
        assert nothing and len(nothing) == 0
        unknown = bench.map(iter([1]))
        assert unknown
        with pytest.raises(TypeError, match="its iterable has none"):
            len(unknown)
        assert len(bench.map([1, 2, 3], itertools.count(), [1, 2])) == 2

    play(scene)


class Liar:
    """Of another length than it says."""

    def __init__(self, says: Callable[[], int], has: int) -> None:
        self.says = says
        self.has = has

    def __len__(self) -> int:
        return self.says()

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.has))


@pytest.mark.parametrize("chunksize", [1, None])
@pytest.mark.parametrize("says", [0, 3, 500, 10_000, -1])
def test_a_len_that_lies_is_no_error(says: int, chunksize: int | None) -> None:
    async def scene() -> None:
        bench = Bench(ends_at_once=True, function=lambda x: x)
        bench.seconds = 1e-5
        values = bench.map(Liar(lambda: says, 500), chunksize=chunksize)
        shares = []
        async for _ in values:
            shares.append(values._work.count().share)
        assert len(shares) == 500
        assert max(share for share in shares if share is not None) <= 1
        assert "500 of 500 done" in repr(values)

    play(scene)


def test_a_len_that_raises_says_nothing() -> None:
    def says() -> int:
        raise RuntimeError("not now")

    assert total_of([Liar(says, 3)]) is None


def test_values_can_be_taken_by_many_for_another_thread() -> None:
    async def scene() -> None:
        bench = Bench(ends_at_once=True, function=halve)
        values = bench.map([2, 4, 6, 7, 8])
        taken: list[tuple[Any, Any]] = []
        with pytest.raises(ValueError, match="7 is odd"):
            while True:  # those that are there, which on a busy machine is one
                taken += await values._work.batch()
        assert taken == [(2, 1), (4, 2), (6, 3)]
        assert await values._work.batch() == []
        assert await bench.map([])._work.batch() == []

    play(scene)


def test_nothing_of_a_map_is_kept_alive_by_itself() -> None:
    """Who drops it has its tasks ended at once, not when the garbage collector comes."""

    async def scene() -> None:
        bench = Bench()
        gc.disable()
        try:
            values = bench.map(range(3))
            first = asyncio.ensure_future(anext(values))
            await wait_until(lambda: len(bench.handles) == 3)
            bench.handles[0].end("first")
            await first
            del values, first
            await wait_until(lambda: [handle.terminated for handle in bench.handles] == [0, 1, 1])
        finally:
            gc.enable()

    play(scene)


# --- in the server


def test_an_interrupted_chunk_is_over_also_if_an_item_swallows_it() -> None:
    calls = []

    def stubborn(x: int) -> None:
        calls.append(x)
        with contextlib.suppress(BaseException):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        in_a_cell(Chunk(stubborn, {}, False, None), [1, 2, 3], stopping=True)
    assert calls == [1]


def test_what_an_item_raises_is_its_own_whatever_it_is() -> None:
    def ends(x: int) -> int:
        if x == 1:
            raise SystemExit(3)
        if x == 2:
            raise KeyboardInterrupt
        return x

    async def scene() -> None:
        bench = Bench(ends_at_once=True, function=ends)
        values = bench.map(range(4), chunksize=4, return_exceptions=True)
        found = [value async for _, value in values]
        assert (found[0], found[3]) == (0, 3)
        assert [type(error) for error in found[1:3]] == [RemoteError, RemoteError]
        assert "SystemExit: 3" in str(found[1]) and "KeyboardInterrupt" in str(found[2])

    play(scene)


def test_a_value_that_is_no_value_of_a_task_is_none_of_a_chunk() -> None:
    async def scene() -> None:
        bench = Bench(ends_at_once=True, function=lambda x: iter([x]) if x else [x])
        values = bench.map(range(2), chunksize=2, return_exceptions=True, ordered=True)
        assert await anext(values) == (0, [0])
        item, error = await anext(values)
        assert item == 1 and isinstance(error, TypeError) and "return a list of its items" in str(error)

    play(scene)


def test_keyword_arguments_go_with_each_call() -> None:
    def scaled(x: int, y: int = 0, *, by: int) -> int:
        return (x + y) * by

    for function, item in ((scaled, 3), (Scale(), 3)):
        chunk = Chunk(function, {"by": 10}, False, None)
        assert in_a_cell(chunk, [item]).values == [30]
    assert in_a_cell(Chunk(scaled, {"by": 10}, True, None), [(3, 4)]).values == [70]
    assert in_a_cell(Chunk(max, {}, True, None), [(3, 4), (9, 1)]).values == [4, 9]


class Scale:
    def __call__(self, x: int, *, by: int) -> int:
        return x * by
