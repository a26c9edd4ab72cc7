"""What Python people type by habit, with a client whose tasks run in this process: it works, or the error says what to type."""

from __future__ import annotations

import asyncio
import concurrent.futures
import copy
import datetime
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import dispycos
from dispycos import Client
from dispycos.actors.client import together
from dispycos.actors.client.sync_task import SyncTask
from dispycos.actors.tasks.record import Record

PACKAGE = str(Path(dispycos.__file__).parent)


def double(x: int) -> int:
    return 2 * x


def timed(x: int, timeout: float) -> float:
    return x * timeout


def fail() -> None:
    raise KeyError("x")


def nap(s: float) -> None:
    time.sleep(s)


async def serve(task: Any = None) -> Any:
    return await hand_on(task)


async def hand_on(task: Any) -> Any:
    return await task.receive()


async def echo(task: Any = None) -> None:
    while True:
        task.reply(await task.receive())


def run(scene: Callable[[Any], Any]) -> None:
    async def main() -> None:
        async with Client(local=True) as client:
            await scene(client)
            await client.close(terminate=True)

    dispycos.run(main)


def has_our_frames(error: BaseException) -> bool:
    return any(frame.filename.startswith(PACKAGE) for frame in traceback.extract_tb(error.__traceback__))


# --- times ---


@pytest.mark.parametrize(
    ("timeout", "words"),
    [
        ("x", r"timeout must be a number of seconds, or None, not 'x'$"),
        (
            datetime.timedelta(seconds=1),
            r"not datetime.timedelta\(seconds=1\); its total_seconds\(\) is one$",
        ),
        (float("nan"), "timeout must be a number of seconds, not nan$"),
    ],
)
def test_a_time_to_wait_of_no_use_is_named_and_nothing_has_happened(
    client: Any, timeout: Any, words: str
) -> None:
    handle, actor = client.submit(double, 1), client.io_rtask(echo)
    for call in (
        handle.result,
        handle.exception,
        handle.finish,
        lambda timeout: client.as_completed([handle], timeout),
        lambda timeout: client.wait([handle], timeout),
        lambda timeout: actor.ask(1, timeout),
        lambda timeout: actor.deliver(1, timeout),
        client.receive,
        lambda timeout: client.close(timeout=timeout),
    ):
        with pytest.raises((TypeError, ValueError), match=words) as caught:
            call(timeout)
        assert not has_our_frames(caught.value)
    assert client.receive(-1, "nothing") == "nothing", "its mailbox is as it was"
    assert actor.ask(5, timeout=float("inf")) == 5 and handle.result(1e12) == 2
    actor.terminate()


def test_the_async_style_says_the_same_of_times() -> None:
    async def scene(client: Any) -> None:
        handle, actor = client.submit(double, 1), await client.io_rtask(echo)
        lock = dispycos.Lock()
        await lock.acquire()
        for call in (
            handle.finish,
            lambda timeout: client.wait([handle], timeout),
            lambda timeout: actor.ask(1, timeout),
            lambda timeout: actor.deliver(1, timeout),
            lambda timeout: dispycos.Task.locate("nobody", timeout=timeout),
            lambda timeout: dispycos.Channel("news").deliver(1, timeout),
            lambda timeout: lock.acquire(timeout=timeout),
            lambda timeout: client.close(timeout=timeout),
        ):
            with pytest.raises(TypeError, match=r"timeout must be a number of seconds, or None, not 'x'"):
                await call("x")
        with pytest.raises(TypeError, match=r"as_completed\(\): timeout must be .* not True"):
            client.as_completed([handle], True)
        assert await handle == 2

    run(scene)


# --- what is told of mistakes ---


def test_what_is_about_the_task_and_not_for_its_function_is_refused_where_it_is_written(client: Any) -> None:
    for submit in (client.submit, client.io_submit, client.rtask, client.options(retries=1).submit):
        with pytest.raises(
            TypeError, match=r"double has no parameter 'timeout'.*client.options\(timeout=3\).submit\("
        ):
            submit(double, 1, timeout=3)
    assert client.submit(timed, 2, timeout=3).result() == 6, "it is the function's own"
    assert client.submit(lambda **given: given, timeout=3).result() == {"timeout": 3}
    with pytest.raises(TypeError, match=r"no option priority.*client.options\(priority=...\).map has that"):
        client.map(double, [1], priority=3)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            lambda client: Client(cpus=2),  # type: ignore[call-arg]
            r"^Client\(\) got .*'cpus'.*: CPUs .*Scheduler\(cpus=2\).*; it has components,",
        ),
        (
            lambda client: Client(address="a:1"),  # type: ignore[call-arg]
            r"'address'.*: a machine .*nodes=\['host'\]",
        ),
        (
            lambda client: dispycos.Executor(n_workers=2),  # type: ignore[call-arg]
            r"'n_workers': CPUs .*; it has max_workers, ",
        ),
        (
            lambda client: dispycos.Scheduler(num_cpus=2),  # type: ignore[call-arg]
            r"num_cpus: CPUs .*; it has .*cpus, ",
        ),
        (
            lambda client: client.submit(double, 1, num_gpus=1),
            r"double has no parameter 'num_gpus': .*gpus=1",
        ),
        (
            lambda client: client.map(double, [1], chunk_size=2),
            r"chunk_size: client.map\(f, xs, chunksize=100",
        ),
        (lambda client: client.close(wait=True), r"'wait'.*; it has await_io, terminate, timeout$"),
        (lambda client: client.scatter, r"no 'scatter': what tasks need"),
        (lambda client: getattr(Client(), "apply_async"), r"no 'apply_async': submit\(f, x\)"),  # noqa: B009
        (lambda client: client.submit(double, 1).get, r"'Task' object has no attribute 'get': result\(\)"),
        (
            lambda client: getattr(dispycos, "LocalCluster"),  # noqa: B009
            r"no attribute 'LocalCluster': `with dispycos.Client\(\)",
        ),
    ],
)
def test_names_that_other_libraries_have_are_translated(
    client: Any, call: Callable[[Any], Any], words: str
) -> None:
    with pytest.raises((TypeError, AttributeError), match=words):
        call(client)


def test_a_wrong_keyword_in_what_a_call_calls_is_told_as_it_is(client: Any) -> None:
    with pytest.raises(TypeError) as caught:
        client.submit(double, y=1).result()
    assert str(caught.value).endswith("double() got an unexpected keyword argument 'y'")


def test_a_traceback_of_a_wrong_call_ends_in_the_line_that_made_it(client: Any) -> None:
    handle = client.submit(double, 1)
    opened = Client(local=True)
    calls: list[tuple[Callable[[], Any], str]] = [
        (lambda: client.submit(double, 1, gpus=1), "no parameter 'gpus'"),
        (lambda: client.submit(handle), "a task needs a function, not SyncTask"),
        (
            lambda: client.options(foo=1),
            r"^Client.options\(\) got an unexpected keyword argument 'foo'.*; it has timeout, retries, ",
        ),
        (lambda: client.cancel(handle, handle), r"^SyncClient.cancel\(\) takes 2 positional arguments"),
        (lambda: client.starmap, "has no 'starmap'"),
        (lambda: client.gather(client.map(double, [1])), r"what client.map gives are values.*list\("),
        (lambda: client.gather("ab"), r"not str$"),
        (lambda: client.map(double, [1])[0], "of the sync style"),
        (
            lambda: client.map(double, [1], kwargs=[1]),
            r"kwargs must be a dict of keyword arguments.*not \[1\]",
        ),
        (lambda: client.map(double, [1], kwargs={1: 2}), "kwargs must be a dict of keyword arguments"),
        (
            lambda: client.options(retries=1).map(double, [1], order=True),
            r"no option order; it has ordered, return_exceptions.* kwargs=\{'order': ...\}",
        ),
        (lambda: list(handle), r"call result\(\)"),
        (lambda: handle.receive(), r"client.receive\(\)"),
        (lambda: handle.add_done_callback(None), "a callback is a function"),
        (lambda: client.__enter__(), "open already"),
        (lambda: Client(name=5), "name must be a str, not int"),  # type: ignore[arg-type]
        (lambda: Client(secret_file=5), "secret_file must be the path"),  # type: ignore[arg-type]
        (lambda: Client(nodes=5), "nodes must be a list"),  # type: ignore[arg-type]
        (lambda: opened.submit(double, 1), "has no cluster: use"),
        (lambda: dispycos.Executor(initargs=5), "initargs must be a tuple"),  # type: ignore[arg-type]
        (lambda: dispycos.Task(nap, 1), "no running event loop"),
        (lambda: dispycos.run(3), "needs a function or a coroutine, not int"),  # type: ignore[call-overload]
    ]
    for call, words in calls:
        with pytest.raises(
            (TypeError, RuntimeError, AttributeError, dispycos.NotScheduled), match=words
        ) as caught:
            call()
        assert not has_our_frames(caught.value), words


def test_functions_of_asyncio_and_concurrent_futures_say_that_they_do_not_wait_for_handles(
    client: Any,
) -> None:
    ended, waiting = client.submit(double, 1), client.submit(asyncio.sleep, 60)
    ended.result()

    async def main() -> None:
        for call in (
            lambda: asyncio.wait([ended, waiting]),
            lambda: asyncio.wait_for(waiting, 5),
            lambda: asyncio.gather(ended, waiting),
            lambda: asyncio.shield(waiting),
            lambda: asyncio.as_completed([waiting]),
        ):
            with pytest.raises(RuntimeError, match=r"of the sync style"):
                result: Any = call()
                for one in [result] if hasattr(result, "__await__") else result:
                    await one

    asyncio.run(main())
    for call in (concurrent.futures.wait, lambda handles: list(concurrent.futures.as_completed(handles))):
        with pytest.raises(AttributeError, match=r"does not wait for handles.*client.wait\(\)"):
            call([ended])
    waiting.cancel()


def test_ctrl_c_in_what_waits_for_many_has_no_other_error_behind_it(
    client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(together, "take", interrupted)
    for call in (client.gather, lambda handle: client.wait([handle])):
        handle = client.submit(asyncio.sleep, 60)
        with pytest.raises(KeyboardInterrupt) as caught:
            call(handle)
        assert caught.value.__context__ is None
        with pytest.raises(concurrent.futures.CancelledError):
            handle.result(10)


# --- handles ---


def test_a_copy_of_a_handle_is_the_handle(client: Any) -> None:
    handle = client.submit(double, 1)
    assert copy.copy(handle) is handle
    assert copy.deepcopy({"task": [handle]})["task"][0] is handle


def test_a_handle_shows_how_its_task_ended(client: Any) -> None:
    done, failed, cancelled = client.submit(double, 1), client.submit(fail), client.submit(asyncio.sleep, 60)
    assert repr(cancelled) == "<Task sleep at 127.0.0.1:0>", "it has not ended"
    cancelled.cancel()
    client.wait([done, failed, cancelled])
    shown = [repr(handle).partition("127.0.0.1:0")[2] for handle in (done, failed, cancelled)]
    assert shown == [": done>", ": failed>", ": cancelled>"]
    assert done._repr_html_().endswith("127.0.0.1:0, done</span>")

    async def scene(client: Any) -> None:
        handles = [client.submit(double, 1), client.submit(fail), dispycos.Task(double, 1)]
        await asyncio.wait(handles)
        assert [repr(handle).rpartition(": ")[2] for handle in handles] == ["done>", "failed>", "done>"]

    run(scene)


@pytest.mark.parametrize("error", [ValueError("x"), SystemExit(3), KeyboardInterrupt()])
def test_a_callback_that_raises_is_told_and_costs_nobody_anything(
    client: Any, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    called = threading.Event()

    def bad(handle: Any) -> None:
        raise error

    begun = client.submit(asyncio.sleep, 0.05)
    ended = client.submit(double, 1)
    ended.result()
    for handle in (begun, ended):
        handle.add_done_callback(bad)
        handle.add_done_callback(lambda _: called.set())
        assert called.wait(10)
        called.clear()
    assert client.submit(double, 2).result(10) == 4
    kind = type(error).__name__
    assert caplog.messages == [f"a callback of sleep raised {kind}", f"a callback of double raised {kind}"]
    assert "sync_task.py" not in caplog.text


def test_who_waits_for_a_value_while_a_callback_keeps_the_loop_is_told_so(
    client: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dispycos.actors.client.loop_thread.PATIENCE_S", 1.01)
    handle: Any = SyncTask.__new__(SyncTask)._bind(client._here().host, None, "f", Record("f"))
    go = threading.Event()
    client._thread.call_soon(go.wait)
    with pytest.raises(TimeoutError):
        handle.result(1.3)
    go.set()
    [told] = caplog.messages
    assert told.startswith(
        "f.result() waits for dispycos's own thread, which a function keeps until it returns"
    )


@pytest.mark.parametrize("style", ["sync", "async"])
def test_who_waits_for_what_may_be_an_actor_is_told_so_here_too(
    style: str, client: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dispycos.actors.client.in_process.PATIENCE_S", 0.05)

    def use(client: Any) -> tuple[Any, Any]:
        actor = client.submit(serve)
        return actor, client.submit(double, actor)

    if style == "sync":
        actor, later = use(client)
        with pytest.raises(TimeoutError):
            later.result(0.3)
        actor.send(4)
        assert later.result(10) == 8
    else:

        async def scene(client: Any) -> None:
            actor, later = use(client)
            await asyncio.sleep(0.3)
            actor.send(4)
            assert await later == 8

        run(scene)
    [told] = caplog.messages
    assert told.startswith(
        "double waits for the value of serve, handle 1 of its arguments; if serve is an actor"
    )


# --- map ---


def test_a_map_whose_values_nobody_takes_says_that_nothing_was_called(
    client: Any, caplog: pytest.LogCaptureFixture
) -> None:
    assert len(list(client.map(double, range(3)))) == 3
    for _ in client.map(double, range(3)):
        break
    client.map(double, [1]).close()
    assert caplog.messages == [], "their values were taken, or it is known that nobody wants them"
    with pytest.raises(TypeError):
        client.map(double, [1])[0]
    assert caplog.messages == [], "who uses it wrongly is told that"
    client.map(double, [1])
    [told] = caplog.messages
    assert told.startswith(
        "the values of a map(double) were never taken, so nothing was called: `for x, value in"
    )

    async def scene(client: Any) -> None:
        async for _ in client.map(double, [1]):
            pass
        assert len(caplog.messages) == 1
        starting = client.rtask(double, 1)
        with pytest.raises(TypeError, match=r"not coroutine; await it first, which gives one"):
            await client.gather(starting)
        assert await (await starting) == 2
        client.map(fail, [1])
        assert "map(fail) were never taken" in caplog.messages[-1]

    run(scene)


def test_a_map_is_an_iterable_as_any_other(client: Any) -> None:
    pairs = client.map(sum, client.map(double, range(3), ordered=True), ordered=True)
    assert list(pairs) == [((0, 0), 0), ((1, 2), 3), ((2, 4), 6)]


# --- loops ---


def test_what_is_of_another_loop_is_refused_in_words_and_is_as_it_was() -> None:
    async def awaited(handle: Any) -> None:
        await handle

    async def scene(client: Any) -> None:
        handle = client.submit(asyncio.sleep, 0.5)
        with pytest.raises(RuntimeError, match=r"sleep belongs to another event loop: await it there"):
            await asyncio.to_thread(lambda: asyncio.run(awaited(handle)))
        assert await handle is None
        with pytest.raises(
            RuntimeError, match=r"no event loop runs in this thread.*`async for` where it runs"
        ):
            await asyncio.to_thread(client.map, double, [1])

    run(scene)


def test_a_client_that_was_left_may_be_used_in_the_other_style_and_in_another_loop() -> None:
    client = Client(local=True)

    async def use() -> int:
        async with client:
            return await client.submit(double, 2)

    for _ in range(2):
        assert asyncio.run(use()) == 4
        with client as opened:
            assert opened.submit(double, 3).result() == 6


def test_who_would_wait_for_himself_is_told_so_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def enter() -> None:
        with Client():
            pytest.fail("it has the cluster")

    with Client(local=True) as outer:
        for begin in (enter, Client().open):
            with pytest.raises(
                RuntimeError, match=r"has the cluster, and this thread.*close it first"
            ) as caught:
                begin()
            assert not has_our_frames(caught.value)
        with Client(local=True) as inner:
            assert inner.submit(double, 2).result() == 4, "which waits for nobody"
        with pytest.raises(RuntimeError, match=r"has the cluster, and this thread"):
            enter()
        assert outer.submit(double, 3).result() == 6
    kept = Client(local=True).open()
    with pytest.raises(RuntimeError, match=r"has the cluster, and this thread"):
        enter()
    kept.close()
    monkeypatch.setattr("dispycos.actors.client.sync_client.is_cell", lambda: True)
    first = Client(local=True).open()
    with pytest.raises(RuntimeError, match=r"has the cluster, and this thread"):
        enter()
    first.close()


def test_who_would_wait_for_itself_in_the_async_style_is_told_so_at_once() -> None:
    async def main() -> None:
        async with Client(local=True):
            with pytest.raises(
                RuntimeError, match=r"has the cluster, and this asyncio Task.*close it first"
            ) as caught:
                async with Client():
                    pytest.fail("it has the cluster")
            assert not has_our_frames(caught.value)
            async with Client(local=True) as inner:
                assert await inner.submit(double, 2) == 4, "which waits for nobody"

    asyncio.run(main())


# --- the Executor ---


def test_an_executor_runs_calls_in_this_process_and_says_what_it_has(client: Any) -> None:
    with dispycos.Executor(client=client) as pool:
        with pytest.raises(dispycos.NotPicklable, match=r"cannot pickle an Executor.*task.client"):
            client.submit(double, [pool])
        assert repr(pool).startswith("<Executor made in test_habits.py, line ")
        assert repr(pool).endswith(": 0 calls under way>")
        future = pool.submit(asyncio.sleep, 60)
        assert repr(pool).endswith(": 1 call under way>")
        with pytest.raises(TimeoutError, match=r"sleep has not ended within 0.05 s; it goes on") as caught:
            future.result(0.05)
        assert not has_our_frames(caught.value)
        with pytest.raises(TypeError, match=r"of an Executor use the future itself"):
            client.gather(future.task)
        future.task.terminate()
    assert repr(pool).endswith(", shut down>")
