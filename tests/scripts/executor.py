"""What an Executor promises, one function after the other with one Executor at two nodes; without a guard, as users write."""

import asyncio
import concurrent.futures
import itertools
import logging
import os
import queue
import signal
import tempfile
import threading
import time
import traceback
import weakref
from pathlib import Path

from scenarios import chosen, raises, told

import dispycos

LONG = 60
NODE_SERVERS = 4  # the cluster's


def square(x):
    return x * x


def fail(text):
    raise LookupError(text)


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def die_at_first(*, task):
    if task.attempt == 1:
        die()
    return task.attempt


def nap(seconds):
    time.sleep(seconds)
    return os.getpid()


def refuse_to_end(begun):
    Path(begun).touch()
    while True:
        try:
            time.sleep(LONG)
        except KeyboardInterrupt:
            pass


class Unpicklable(Exception):
    def __init__(self, number):
        super().__init__(number)
        self.lock = threading.Lock()


def raise_unpicklable():
    raise Unpicklable(5)


PREPARED = None


def prepare(value):
    global PREPARED
    PREPARED = value


def prepared(_):
    time.sleep(0.02)
    return PREPARED, os.getpid()


def fail_to_prepare():
    raise ValueError("no such table")


def wait_for_file(path):
    while not os.path.exists(path):
        time.sleep(0.005)
    return path


def span(seconds):
    began = time.monotonic()
    time.sleep(seconds)
    return began, time.monotonic()


def fail_first(n):
    if n:
        time.sleep(LONG)
    raise LookupError("the first")


def wait_until_runs(future):
    end = time.monotonic() + 5
    while not future.running():
        assert time.monotonic() < end, "it does not run"
        time.sleep(0.005)


def wait_for_all_servers(pool):
    """Another one takes the place of each that has died; on a busy machine that takes its time."""
    end = time.monotonic() + 20
    while len({future.result(10) for future in [pool.submit(nap, 0.02) for _ in range(16)]}) < NODE_SERVERS:
        assert time.monotonic() < end, "servers that died were not replaced"


# --- calls and their futures ---


def test_submit_gives_a_future_of_the_standard_library(pool):
    future = pool.submit(divmod, 7, 2)
    assert isinstance(future, concurrent.futures.Future)
    assert future.result(10) == (3, 1)
    assert future.done() and not future.running() and future.exception() is None
    assert pool.submit(dict, task=1, fn=2, self=3).result(10) == {"task": 1, "fn": 2, "self": 3}


def test_an_error_is_raised_with_the_traceback_over_there(pool):
    with raises(LookupError, "nothing there") as caught:
        pool.submit(fail, "nothing there").result(10)
    assert "raise LookupError(text)" in "".join(traceback.format_exception(caught.error))


def test_an_exception_and_a_value_that_cannot_be_pickled_are_told_of(pool):
    with raises(Exception, "5"):
        pool.submit(raise_unpicklable).result(10)
    with raises(dispycos.NotPicklable, "the value of allocate_lock"):
        pool.submit(threading.Lock).result(10)


def test_an_argument_that_cannot_be_pickled_is_an_error_of_its_future_and_named(pool):
    future = pool.submit(square, threading.Lock())
    with raises(dispycos.NotPicklable, "argument 1 ('x') of square"):
        future.result(10)


def test_lambdas_closures_and_coroutine_functions_are_called(pool):
    factor = 7

    async def later(x):
        await asyncio.sleep(0)
        return x * factor

    assert pool.submit(lambda x: x * factor, 6).result(10) == 42
    assert pool.submit(later, 6).result(10) == 42


def test_wait_as_completed_and_callbacks_of_the_standard_library(pool):
    futures = [pool.submit(square, n) for n in range(20)]
    assert {future.result() for future in concurrent.futures.as_completed(futures, 10)} == set(
        map(square, range(20))
    )
    assert not concurrent.futures.wait(futures, 10).not_done
    called = threading.Event()
    pool.submit(fail, "x").add_done_callback(lambda future: called.set() if future.exception() else None)
    assert called.wait(10)


def test_asyncio_takes_it(pool):
    async def main():
        loop = asyncio.get_running_loop()
        values = await asyncio.gather(*(loop.run_in_executor(pool, square, n) for n in range(10)))
        return values, await asyncio.wrap_future(pool.submit(square, 11))

    assert asyncio.run(main()) == (list(map(square, range(10))), 121)


def test_what_runs_is_not_cancelled_and_what_waits_is(pool):
    running = [pool.submit(time.sleep, LONG) for _ in range(NODE_SERVERS)]
    for future in running:
        wait_until_runs(future)
    # One may be at each server, behind what runs.
    ahead = [pool.submit(time.sleep, LONG) for _ in range(NODE_SERVERS)]
    waiting = [pool.submit(time.sleep, LONG) for _ in range(3)]
    assert not any(future.cancel() for future in running)
    assert all(future.cancel() and future.cancel() and future.cancelled() for future in waiting)
    assert concurrent.futures.wait(waiting, 10).done == set(waiting)
    for future in running + ahead:
        future.task.terminate()
        with raises(dispycos.TaskTerminated):
            future.result(10)


def test_the_task_of_a_future_tells_where_it_ran(pool):
    future = pool.submit(os.getpid)
    future.result(10)
    assert future.task.location.port and future.task.name == "getpid"
    cancelled = pool.submit(square, 1)
    if cancelled.cancel():
        with raises(concurrent.futures.CancelledError):
            _ = cancelled.task


def test_it_is_used_from_many_threads(pool):
    sums = {}

    def use(count):
        sums[count] = sum(pool.map(square, range(count)))

    threads = [threading.Thread(target=use, args=(count,)) for count in range(1, 200, 20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sums == {count: sum(map(square, range(count))) for count in range(1, 200, 20)}


# --- map ---


def test_map_is_in_order_with_and_without_chunks(pool):
    assert list(pool.map(pow, range(50), range(50))) == list(map(pow, range(50), range(50)))
    assert list(pool.map(pow, range(50), range(50), chunksize=7)) == list(map(pow, range(50), range(50)))
    assert list(pool.map(square, [])) == []


def test_map_with_a_buffersize_reads_no_further_ahead(pool):
    read = []

    def numbers():
        for n in range(1000):
            read.append(n)
            yield n

    values = pool.map(square, numbers(), buffersize=5)
    assert len(read) == 5
    assert [next(values) for _ in range(3)] == [0, 1, 4] and len(read) == 8
    values = pool.map(square, numbers(), chunksize=10, buffersize=2)
    assert sum(values) == sum(map(square, range(1000)))


def test_map_times_out(pool):
    with raises(TimeoutError):
        list(pool.map(time.sleep, [0, LONG], timeout=0.3))
    for future in list(pool._calls._given):
        future.task.terminate()


def test_an_error_in_map_cancels_what_no_server_has(pool):
    values = pool.map(fail_first, range(5000))
    futures = list(values._futures)
    with raises(LookupError, "the first"):
        next(values)
    for future in futures[1:]:
        if not future.cancelled():
            future.task.terminate()
    concurrent.futures.wait(futures, 10)
    assert futures[-1].cancelled()


# --- servers ---


def test_a_server_that_dies_takes_its_call_along_and_nothing_else(pool):
    others = [pool.submit(nap, 0.3) for _ in range(3)]
    with raises(dispycos.TaskLost, "SIGKILL"):
        pool.submit(die).result(10)
    assert all(other.result(10) for other in others)
    assert pool.submit(square, 3).result(10) == 9


def test_a_lost_call_is_tried_again_with_retries(pool):
    with dispycos.Executor(retries=1) as patient:
        assert patient.submit(die_at_first).result(20) == 2


def test_max_workers_bounds_the_calls_that_run_at_a_time(pool):
    with dispycos.Executor(1) as alone:
        futures = [alone.submit(span, 0.05 * (n % 2)) for n in range(6)]
        spans = sorted(future.result(10) for future in futures)
        assert all(one[1] <= next_one[0] for one, next_one in itertools.pairwise(spans)), spans


def test_an_initializer_runs_once_on_each_server_and_for_its_executor_alone(pool):
    wait_for_all_servers(pool)
    with dispycos.Executor(initializer=prepare, initargs=(["table"],)) as other:
        found = list(other.map(prepared, range(40)))
        assert {str(value) for value, _ in found} == {"['table']"}
        assert len({server for _, server in found}) == NODE_SERVERS


def test_an_initializer_that_fails_breaks_its_executor_alone(pool):
    other = dispycos.Executor(initializer=fail_to_prepare)
    with raises(concurrent.futures.BrokenExecutor, "ValueError: no such table") as caught:
        other.submit(square, 3).result(10)
    assert isinstance(caught.error, dispycos.InitializerFailed) and isinstance(
        caught.error.__cause__, ValueError
    )
    with raises(dispycos.InitializerFailed):
        other.submit(square, 3)
    other.shutdown()
    assert pool.submit(square, 3).result(10) == 9


def test_an_initializers_argument_that_cannot_be_pickled_is_named_and_logged_once(pool):
    logged = []
    log = logging.getLogger("concurrent.futures")
    log.addFilter(logged.append)  # None: it goes no further
    try:
        with dispycos.Executor(initializer=prepare, initargs=(threading.Lock(),)) as other:
            errors = [future.exception(10) for future in [other.submit(square, n) for n in range(40)]]
    finally:
        log.removeFilter(logged.append)
    assert {type(error) for error in errors} == {dispycos.InitializerFailed}
    assert "argument 1 ('value') of prepare: cannot pickle '_thread.lock'" in str(errors[0]), errors[0]
    assert len(logged) == 1


def test_two_executors_share_the_cluster(pool):
    wait_for_all_servers(pool)
    with dispycos.Executor() as other:
        mine = {pool.submit(nap, 0.05) for _ in range(8)}
        theirs = {other.submit(nap, 0.05) for _ in range(8)}
        assert len({future.result(10) for future in mine | theirs}) == NODE_SERVERS


def test_it_uses_a_client_that_the_program_has_open_and_leaves_it_open(pool):
    late = [pool.submit(nap, 0.2) for _ in range(4)]
    with dispycos.Client() as client:  # the pool, which has the cluster, makes way and goes on with this one
        lease = client._client._lease
        assert all(future.done() for future in late)
        with dispycos.Executor(client=client) as other:
            assert other.submit(square, 4).result(20) == 16
            assert other._calls._lease is lease
        assert client.submit(square, 5).result(20) == 25
        assert pool.submit(square, 6).result(20) == 36
        assert pool._calls._lease is lease
    assert pool.submit(square, 7).result(30) == 49
    with dispycos.Executor(client=client) as other:
        error = other.submit(square, 4).exception(20)
        assert isinstance(error, dispycos.NotScheduled) and "has ended" in str(error), error


# --- ends ---


def test_after_shutdown_it_takes_nothing_in_the_words_of_the_standard_library(pool):
    other = dispycos.Executor()
    future = other.submit(square, 5)
    other.shutdown()
    assert future.result(0) == 25
    with raises(RuntimeError, "cannot schedule new futures after shutdown"):
        other.submit(square, 5)
    other.shutdown()


def test_shutdown_without_waiting_lets_what_was_submitted_end(pool):
    other = dispycos.Executor()
    futures = [other.submit(nap, 0.05) for _ in range(8)]
    other.shutdown(wait=False)
    assert all(future.result(10) for future in futures)


def test_an_executor_that_nobody_refers_to_ends_when_its_calls_have(pool):
    other = dispycos.Executor()
    future, calls = other.submit(nap, 0.1), other._calls
    gone = weakref.ref(other)
    del other
    assert gone() is None and future.result(10)
    assert calls.ended.wait(10)


def test_waiting_in_a_callback_is_refused(pool):
    refused = queue.SimpleQueue()

    def wait_for_another(future):
        try:
            pool.submit(square, 3).result()
        except RuntimeError as error:
            refused.put(str(error))

    with tempfile.TemporaryDirectory() as folder:
        pool.submit(wait_for_file, f"{folder}/end").add_done_callback(wait_for_another)
        Path(folder, "end").touch()
        said = refused.get(timeout=10)
    assert "result() would wait for ever: this is a callback" in said


def test_shutdown_in_a_callback_is_refused(pool):
    found, called = [], threading.Event()

    def shut_down(_):
        try:
            pool.shutdown()
        except RuntimeError as error:
            found.append(str(error))
        called.set()

    with tempfile.TemporaryDirectory() as folder:
        pool.submit(wait_for_file, f"{folder}/end").add_done_callback(shut_down)
        Path(folder, "end").touch()
        assert called.wait(10)
    assert found[0].startswith("shutdown(wait=True) would wait for ever: this is a callback"), found
    assert pool.submit(square, 1).result(10) == 1


def test_terminate_workers_ends_what_runs_and_cancels_the_rest(pool):
    other = dispycos.Executor()
    futures = [other.submit(time.sleep, LONG) for _ in range(2 * NODE_SERVERS + 1)]
    for future in futures[:NODE_SERVERS]:
        wait_until_runs(future)
    other.terminate_workers()
    concurrent.futures.wait(futures, 10)
    assert all(isinstance(future.exception(0), dispycos.TaskTerminated) for future in futures[:NODE_SERVERS])
    assert futures[-1].cancelled()
    with raises(RuntimeError, "after shutdown"):
        other.submit(square, 1)


def test_kill_workers_does_not_wait_for_what_refuses_to_end(pool):
    other = dispycos.Executor()
    with tempfile.TemporaryDirectory() as folder:
        begun = Path(folder, "begun")
        future = other.submit(refuse_to_end, str(begun))
        wait_until_runs(future)
        while not begun.exists():  # it may have been given to its server, but not begun
            time.sleep(0.005)
        other.kill_workers()
    with raises(dispycos.TaskTerminated, "SIGKILL"):
        future.result(10)  # and not "did not end within 5 s", the time of a task that is told to end
    assert pool.submit(square, 3).result(10) == 9


def main():
    with dispycos.Executor() as pool:
        pool.submit(int).result()
        for name, scenario in chosen(globals()):
            with told(name):
                scenario(pool)


main()
