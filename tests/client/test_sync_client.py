"""A client of the sync style whose tasks run in this process, thus its calls and refusals without any other process."""

from __future__ import annotations

import contextlib
import contextvars
import inspect
import itertools
import queue
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import CancelledError
from typing import Any

import pytest

from dispycos import Channel, Client, MonitorStatus, NotScheduled, Task
from dispycos.actors.client.loop_thread import loop_thread
from dispycos.actors.client.sync_client import NOT_HERE, SyncClient
from dispycos.actors.client.sync_task import SyncTask
from dispycos.actors.tasks.options import Options
from dispycos.actors.tasks.pacing import AHEAD_OF_CHUNKS_MAX


def double(x: int) -> int:
    return 2 * x


def fail(x: object) -> None:
    raise KeyError(x)


async def echo(task: Any = None) -> str:
    while (message := await task.receive()) is not None:
        task.reply(message)
    return "ended"


async def nap(seconds: float, task: Any = None) -> None:
    await task.sleep(seconds)


def test_values_errors_and_many_at_once(client: SyncClient) -> None:
    assert client.submit(double, client.submit(double, 1)).result() == 4
    assert client.gather(*[client.submit(double, n) for n in range(3)]) == [0, 2, 4]
    assert dict(client.map(double, range(3))) == {0: 0, 1: 2, 2: 4}
    failed = client.submit(fail, 1)
    for _ in range(2):
        with pytest.raises(KeyError) as raised:
            failed.result()
        names = [frame.name for frame in traceback.extract_tb(raised.value.__traceback__)]
        assert names[-1] == "fail", "to be looked at by a debugger"
    napping = client.submit(nap, 60)
    with pytest.raises(TimeoutError, match="it goes on"):
        napping.result(0.01)
    assert napping.cancel()
    with pytest.raises(CancelledError):
        napping.result(20)


def test_submit_does_not_wait_for_a_plain_function_though_that_has_the_loop(client: SyncClient) -> None:
    handle = client.submit(time.sleep, 0.5)
    assert not handle.done()
    assert handle.result() is None


def test_messages_and_monitors(client: SyncClient) -> None:
    actor = client.io_rtask(echo)
    assert actor.ask("a") == "a"
    with pytest.raises(TypeError, match=r"monitor\(client.me\), and client.receive\(\)"):
        actor.monitor()
    assert actor.monitor(client.me) == 0
    actor.send(None)
    told = client.receive(20)
    assert isinstance(told, MonitorStatus)
    assert (told.info, told.type, told.value) == (actor, StopIteration, "ended")


def test_a_callback_that_was_removed_is_not_called(client: SyncClient) -> None:
    called: list[SyncTask[None]] = []
    handle = client.submit(nap, 0.05)
    handle.add_done_callback(called.append)
    assert (handle.remove_done_callback(called.append), handle.remove_done_callback(print)) == (1, 0)
    handle.result()
    client.nodes()
    assert called == []


def test_options_are_those_of_the_client_and_add_up(client: SyncClient) -> None:
    some = client.options(timeout=60, priority=1)
    assert some.submit(double, 2).result() == 4
    assert some.rtask(double, 3).result() == 6
    assert list(some.options(retries=2).map(double, [1])) == [(1, 2)]
    assert repr(some.options(retries=2)).endswith(".options(retries=2, timeout=60.0, priority=1)")
    with pytest.raises(ValueError, match="timeout must be a number of seconds above 0"):
        client.options(timeout=-1)


def test_options_reach_the_task(client: SyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Options] = []
    lease: Any = client._here()
    submit = lease.submit

    def seeing(function: Any, args: Any, kwargs: Any, options: Options) -> Any:
        seen.append(options)
        return submit(function, args, kwargs, options)

    monkeypatch.setattr(lease, "submit", seeing)
    some = client.options(timeout=60, retries=2)
    assert some.submit(double, 1).result() == 2
    some.options(priority=3).io_submit(double, 1, retries=5).result()
    client.submit(double, 1).result()
    assert seen == [Options(2, 60.0), Options(5, 60.0, 3, io=True), Options()]


def test_each_public_method_of_a_task_waits_works_or_says_what_to_do(client: SyncClient) -> None:
    handle = client.submit(double, 1)
    handle.result()
    for name, of_async in inspect.getmembers(Task, inspect.isfunction):
        if name.startswith("_"):
            continue
        of_sync = getattr(handle, name)
        assert not inspect.iscoroutinefunction(of_sync), f"{name} gives a coroutine that nobody can await"
        if (of_sync.__doc__ or "").startswith("Not for the sync style"):
            with pytest.raises(RuntimeError, match=f"^{name}.* is not for handles of the sync style"):
                of_sync(1)
        elif inspect.iscoroutinefunction(of_async):
            assert of_sync.__func__ is not of_async, name
    for name in ("locate", "recv"):
        with pytest.raises(RuntimeError, match="sync style"):
            getattr(SyncTask if name == "locate" else handle, name)("x")


def test_a_client_has_the_methods_of_the_other_style_or_says_why_not(client: SyncClient) -> None:
    for name in dir(Client(local=True)):
        if name.startswith("_"):
            continue
        if name in NOT_HERE:
            with pytest.raises(AttributeError, match=NOT_HERE[name][:20]):
                getattr(client, name)
        else:
            assert not inspect.iscoroutinefunction(getattr(client, name)), name
    with pytest.raises(AttributeError, match="has no 'sumbit'"):
        client.sumbit  # type: ignore[attr-defined]  # noqa: B018


def test_what_needs_a_loop_says_so_in_a_plain_thread(client: SyncClient) -> None:
    for make in (lambda: Channel("a").send(1), lambda: Task(double, 1)):
        with pytest.raises(RuntimeError, match="no running event loop in this thread: local tasks, channels"):
            make()


def test_an_open_client_is_closed_by_close() -> None:
    kept = Client(local=True).open()
    assert kept.submit(double, 1).result() == 2
    assert kept.close() == 0
    with pytest.raises(NotScheduled):
        kept.submit(double, 1)
    assert len(loop_thread().before_end) <= 1, "that of the module's client"


@pytest.mark.parametrize("enter", [Client.open, Client.__enter__])
def test_the_async_client_that_was_entered_says_what_to_use(enter: Any) -> None:
    entered = Client(local=True)
    given = enter(entered)
    with pytest.raises(RuntimeError, match="in use in the sync style"):
        entered.submit(double, 1)
    given.close()


def test_gather_of_a_list_says_where_the_star_goes(client: SyncClient) -> None:
    with pytest.raises(TypeError, match=r"gather\(\*handles\)"):
        client.gather([client.submit(double, 1)])  # type: ignore[call-overload]


def test_the_iterable_of_a_map_may_wait_for_its_values(client: SyncClient) -> None:
    """As a crawler's: what it finds is what it looks at next."""
    found: queue.SimpleQueue[int | None] = queue.SimpleQueue()
    found.put(1)
    seen = []
    for number, value in client.map(double, iter(found.get, None)):
        seen.append(number)
        found.put(value if value < 100 else None)
    assert seen == [1, 2, 4, 8, 16, 32, 64]


def test_the_iterable_of_a_map_may_wait_for_other_tasks(client: SyncClient) -> None:
    def numbers() -> Iterator[int]:
        for n in range(3):
            yield client.submit(double, n).result()

    assert sorted(client.map(double, numbers())) == [(0, 0), (2, 4), (4, 8)]


def test_the_iterable_of_a_map_is_read_in_the_callers_context_and_not_far_ahead(client: SyncClient) -> None:
    name, read = contextvars.ContextVar("name", default=""), itertools.count()
    name.set("here")
    endless = ((name.get(), next(read)) for _ in itertools.count())
    with contextlib.closing(client.map(tuple, endless)) as values:
        assert next(values)[0][0] == "here"
    assert next(read) <= AHEAD_OF_CHUNKS_MAX


def test_what_the_iterable_of_a_map_raises_says_so(client: SyncClient) -> None:
    def numbers() -> Iterator[int]:
        yield 1
        raise LookupError("the second")

    with pytest.raises(LookupError, match="the second") as caught:
        list(client.map(double, numbers()))
    assert caught.value.__notes__ == ["raised by the iterable that was given to map(double), after 1 item"]
