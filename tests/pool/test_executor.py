"""What an Executor is made with, before anything runs."""

from __future__ import annotations

import asyncio
import concurrent.futures
import itertools
import multiprocessing
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any, cast

import pytest

import dispycos


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"max_workers": 0}, ValueError, "max_workers must be greater than 0"),
        ({"max_workers": 1.5}, TypeError, "max_workers must be an int"),
        ({"mp_context": "spawn"}, TypeError, "takes no mp_context: servers are forked by their node"),
        ({"max_tasks_per_child": 3}, TypeError, "takes no max_tasks_per_child: servers stay"),
        ({"initializer": 3}, TypeError, "initializer must be a callable"),
        ({"initializer": print, "initargs": 5}, TypeError, "initargs must be a tuple of arguments, not int"),
        ({"retries": -1}, ValueError, "retries must not be negative"),
        (
            {"thread_name_prefix": "x"},
            TypeError,
            "no parameter 'thread_name_prefix'; it has max_workers,.*components",
        ),
        ({"client": 3}, TypeError, "client must be one of the sync style, not int"),
        ({"client": dispycos.Client()}, TypeError, "not Client: open it by `with`, and give what that gives"),
    ],
)
def test_a_parameter_of_no_use_is_refused_by_its_name(
    given: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        dispycos.Executor(**given)


def test_the_lock_that_tqdm_gives_to_its_children_is_left_out() -> None:
    tqdm = pytest.importorskip("tqdm")
    lock = multiprocessing.RLock()  # which no server could take
    with dispycos.Executor(initializer=tqdm.tqdm.set_lock, initargs=(lock,), local=True) as pool:
        assert list(pool.map(abs, [-1, -2])) == [1, 2]
    with dispycos.Executor(initializer=print, initargs=(lock,), local=True) as pool:
        error = pool.submit(abs, -1).exception()
    assert isinstance(error, dispycos.errors.InitializerFailed) and "through inheritance" in str(error)


LATE = """
    import threading, dispycos

    def late():
        threading.main_thread().join()
        with dispycos.Client(local=True) as client:
            print(client.submit(abs, -3).result())
        try:
            dispycos.Executor()
        except RuntimeError as error:
            print(error)

    threading.Thread(target=late).start()
"""


def test_in_a_thread_that_outlives_the_main_one_a_client_works_and_an_executor_says_that_it_is_too_late() -> (
    None
):
    done = subprocess.run([sys.executable, "-c", dedent(LATE)], capture_output=True, text=True, timeout=60)
    assert (done.stdout.splitlines(), done.stderr) == (
        ["3", "cannot schedule new futures after interpreter shutdown"],
        "",
    )


def test_what_belongs_to_a_client_is_refused_beside_one() -> None:
    with pytest.raises(TypeError, match="nodes belongs to the client that is given"):
        dispycos.Executor(client=cast("Any", dispycos.Client()), nodes=["a"])


def test_one_that_was_never_used_ends_at_once() -> None:
    with dispycos.Executor(2) as pool:
        pass
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        pool.submit(int)


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"chunksize": 0}, ValueError, "chunksize must be >= 1"),
        ({"chunksize": "auto"}, TypeError, "chunksize must be a number of calls .int., not 'auto'"),
        ({"buffersize": 0}, ValueError, "buffersize must be None or > 0"),
        ({"buffersize": 1.5}, TypeError, "buffersize must be an integer or None"),
    ],
)
def test_map_refuses_what_the_standard_library_refuses(
    given: dict[str, Any], error: type[Exception], words: str
) -> None:
    with dispycos.Executor() as pool, pytest.raises(error, match=words):
        pool.map(abs, [1], **given)


def test_a_chunk_of_calls_that_suspend_is_refused() -> None:
    async def later(x: int) -> int:
        return x

    with (
        dispycos.Executor() as pool,
        pytest.raises(TypeError, match="later suspends, or gets its task: each call is a task of its own"),
    ):
        pool.map(later, [1], chunksize=2)
    with dispycos.Executor() as pool, pytest.raises(TypeError, match="attempt suspends, or gets its task"):
        pool.map(attempt, [1], chunksize=2)


@pytest.mark.parametrize("chunksize", [1, 2])
def test_the_rest_of_a_map_is_not_wanted_when_it_is_closed(chunksize: int) -> None:
    with dispycos.Executor(local=True) as pool:
        values: Any = pool.map(abs, itertools.count(), chunksize=chunksize, buffersize=2)
        assert next(values) == 0
        values.close()
        assert len(list(values)) < chunksize


def test_what_is_no_function_is_refused() -> None:
    with dispycos.Executor() as pool, pytest.raises(TypeError, match="a task needs a function, not int"):
        pool.submit(3)  # type: ignore[call-overload]


def test_an_iterable_that_raises_in_map_has_what_was_submitted_before_cancelled() -> None:
    submitted: list[concurrent.futures.Future[int]] = []

    class Pool(dispycos.Executor):
        def submit(self, *call: Any, **_: Any) -> Any:
            submitted.append(concurrent.futures.Future())
            return submitted[-1]

    def numbers() -> Iterator[int]:
        yield from (1, 2)
        raise ValueError("no third")

    with Pool() as pool, pytest.raises(ValueError, match="no third"):
        pool.map(abs, numbers())
    assert [future.cancelled() for future in submitted] == [True, True]


def test_what_the_program_does_to_a_future_holds_up_none_of_the_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def leave(_: object) -> None:
        raise SystemExit(3)

    with dispycos.Executor(local=True) as pool:
        first, own, last = (pool.submit(asyncio.sleep, 0.02, n) for n in range(3))
        first.add_done_callback(leave)
        own.set_result(-1)
        pool.shutdown(wait=False)
        assert (last.result(10), own.result()) == (2, -1)
    assert first.result() == 0 and "a callback of a future raised SystemExit" in caplog.text


async def prepare_later(begun: str) -> None:
    Path(begun).touch()
    await asyncio.sleep(60)


def test_an_initializer_that_runs_is_ended_with_its_executor(tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    with dispycos.Executor(initializer=prepare_later, initargs=(str(begun),), local=True) as pool:
        future = pool.submit(abs, -1)
        while not begun.exists():
            time.sleep(0.005)
        pool.terminate_workers()
    assert future.cancelled()


done: list[str] = []


async def prepare_by_await(word: str) -> None:
    await asyncio.sleep(0)
    done.append(word)


def prepare_by_yield(word: str) -> Generator[Any, Any, None]:
    yield asyncio.sleep(0)
    done.append(word)


def attempt(more: int, *, task: dispycos.Task[Any]) -> Generator[Any, Any, int]:
    yield task.sleep(0)
    return task.attempt + more


@pytest.mark.parametrize("prepare", [prepare_by_await, prepare_by_yield, lambda word: prepare_by_await(word)])
def test_initializers_and_what_is_called_behind_them_are_of_each_kind_of_function(
    prepare: Callable[[str], object],
) -> None:
    done.clear()
    with dispycos.Executor(initializer=prepare, initargs=("ready",), local=True) as pool:
        assert cast("Any", pool).submit(attempt, 5).result(10) == 6
        assert pool.submit(lambda: list(done)).result(10) == ["ready"]


def test_what_is_put_around_a_call_is_not_named_when_its_argument_cannot_be_pickled() -> None:
    lock = threading.Lock()
    with dispycos.Executor(local=True, initializer=print) as pool:
        error = pool.submit(divmod, 1, cast("Any", lock)).exception(10)
        assert "argument 2 ('y') of divmod: cannot pickle" in str(error)
        with pytest.raises(dispycos.NotPicklable, match=r"argument 2 \('y'\) of divmod: .*: item 0 of list"):
            list(pool.map(divmod, [1, 2], cast("Any", [lock, 3]), chunksize=2))


def test_a_call_in_the_program_itself_that_would_wait_for_its_own_thread_is_told() -> None:
    def nested() -> int:
        with dispycos.Executor(local=True) as inner:
            return inner.submit(abs, -1).result()

    with dispycos.Executor(local=True) as pool:
        with pytest.raises(
            RuntimeError, match=r"result\(\) would wait for ever: .* which has to go on meanwhile"
        ):
            pool.submit(nested).result(10)
        assert pool.submit(abs, -1).result(10) == 1


def test_libraries_learn_how_many_calls_may_run_at_a_time() -> None:
    with dispycos.Executor(local=True) as pool:
        assert pool._max_workers == 1, "there is one server: the program"
    with dispycos.Executor(3, local=True) as pool:
        assert pool._max_workers == 3


def fail_to_prepare() -> None:
    raise ValueError("no table")


def test_futures_that_fail_for_one_reason_have_each_an_error_of_its_own() -> None:
    with dispycos.Executor(local=True, initializer=fail_to_prepare) as pool:
        errors = [future.exception(10) for future in [pool.submit(abs, 1) for _ in range(3)]]
        for _ in range(2):
            with pytest.raises(dispycos.errors.InitializerFailed):
                pool.submit(abs, 1)
    assert len({id(error) for error in errors}) == 3
    assert {type(error and error.__cause__) for error in errors} == {ValueError}


def test_an_error_shows_the_line_that_asked_for_it_and_none_of_what_waits() -> None:
    with dispycos.Executor(local=True) as pool:
        future = pool.submit(int, "x")
        with pytest.raises(ValueError) as caught:
            future.result(10)
    files = {str(frame.path) for frame in caught.traceback}
    assert files == {__file__}


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # of a process with threads
def test_a_forked_child_leaves_its_parents_executor_alone_and_ends() -> None:
    def use() -> None:
        with pytest.raises(RuntimeError, match="was forked from: make another one here"):
            pool.submit(abs, 1)
        pool.shutdown()

    with dispycos.Executor() as pool:
        child = multiprocessing.get_context("fork").Process(target=use)
        child.start()
        try:
            child.join(30)
            assert child.exitcode == 0  # not None: its end waits for no thread of its parent's
        finally:
            child.kill()
            child.join()
