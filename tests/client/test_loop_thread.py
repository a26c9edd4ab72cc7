"""The loop thread of plain Python: who may wait for it, what ends a wait, and its own end."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from queue import Empty, SimpleQueue
from types import SimpleNamespace
from typing import Any

import pytest

from dispycos.actors.client.loop_thread import LoopThread, loop_thread, take, wait_until
from dispycos.actors.pool.future import Future

said: contextvars.ContextVar[str] = contextvars.ContextVar("said", default="")


@pytest.fixture
def thread() -> Iterator[LoopThread]:
    made = LoopThread()
    yield made
    made.end()
    assert made.loop.is_closed()


async def value(what: object = 1) -> object:
    await asyncio.sleep(0)
    return what


def test_a_call_gives_the_value_or_raises_what_the_coroutine_raised(thread: LoopThread) -> None:
    async def fail() -> None:
        raise KeyError("x")

    assert thread.call(value(7)) == 7
    with pytest.raises(KeyError, match="x"):
        thread.call(fail())


def test_a_call_runs_in_the_callers_context(thread: LoopThread) -> None:
    async def read() -> str:
        return said.get()

    said.set("by the caller")
    assert thread.call(read()) == "by the caller"


def test_in_a_notebook_a_cell_may_wait_though_the_kernels_loop_runs_in_its_thread(
    thread: LoopThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def cell() -> object:
        return thread.call(value(7))

    async def main(kernels: asyncio.AbstractEventLoop | None = None) -> object:
        loop = kernels or asyncio.get_running_loop()
        shell = SimpleNamespace(kernel=SimpleNamespace(io_loop=SimpleNamespace(asyncio_loop=loop)))
        monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
        return await cell()

    assert asyncio.run(main()) == 7
    with pytest.raises(RuntimeError, match="would stop the event loop that runs in this thread"):
        asyncio.run(main(thread.loop))  # of the program's own
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: None))
    with pytest.raises(RuntimeError, match="would stop the event loop"):
        asyncio.run(cell())


def test_many_threads_call_at_once(thread: LoopThread) -> None:
    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(lambda n: thread.call(value(n)), range(500))) == list(range(500))


def test_an_interrupt_cancels_what_was_waited_for_and_nothing_else(thread: LoopThread) -> None:
    began, cancelled = threading.Event(), threading.Event()
    ended: list[str] = []

    async def wait(name: str) -> None:
        began.set()
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(name)
            cancelled.set()

    async def begin_other() -> asyncio.Task[None]:
        return asyncio.create_task(wait("other"))

    def interrupt() -> None:
        began.wait(10)
        os.kill(os.getpid(), signal.SIGINT)

    other = thread.call(begin_other())
    began.wait(10)
    began.clear()
    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        thread.call(wait("mine"))
    assert cancelled.wait(10)
    assert ended == ["mine"] and not other.done()
    assert thread.call(value(2)) == 2


def test_many_calls_wake_the_loop_once_and_keep_their_order(
    thread: LoopThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = threading.Event()
    wakes: list[object] = []
    seen: list[int] = []
    wake = thread.loop.call_soon_threadsafe

    def count(call: Callable[[], object]) -> object:
        wakes.append(call)
        return wake(call)

    thread.call_soon(go.wait)
    thread.call_soon(lambda: None)
    monkeypatch.setattr(thread.loop, "call_soon_threadsafe", count)
    for n in range(100):
        thread.call_soon(partial(seen.append, n))
    go.set()
    thread.call(value())
    assert seen == list(range(100))
    assert len(wakes) <= 2


def test_a_call_that_fails_is_told_and_the_next_have_their_turn(thread: LoopThread) -> None:
    told: list[str] = []
    thread.loop.set_exception_handler(lambda _, context: told.append(repr(context["exception"])))
    go, went = threading.Event(), threading.Event()
    thread.call_soon(go.wait)
    thread.call_soon(lambda: 1 / 0)
    thread.call_soon(went.set)
    go.set()
    assert went.wait(10)
    assert told == ["ZeroDivisionError('division by zero')"]


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()])
def test_a_call_that_would_end_a_thread_is_told_and_the_next_have_their_turn(
    thread: LoopThread, error: BaseException
) -> None:
    told: list[dict[str, Any]] = []
    thread.loop.set_exception_handler(lambda _, context: told.append(context))

    def fail() -> None:
        raise error

    thread.call_soon(fail)
    assert thread.call(value()) == 1
    [context] = told
    assert context["exception"] is error and context["message"] == f"a callback raised {type(error).__name__}"


class Nobody:
    """Has calls, and hands them to nobody."""

    def __init__(self, thread: LoopThread) -> None:
        self.thread = thread

    def withdraw(self, future: Any) -> bool:
        return True


@pytest.mark.parametrize(
    "wait",
    [
        lambda thread: thread.call(asyncio.sleep(20)),
        lambda thread: take(SimpleQueue(), 20),
        lambda thread: Future(Nobody(thread), (abs, (), {})).result(20),
        lambda thread: concurrent.futures.wait([Future(Nobody(thread), (abs, (), {}))], 20),
        lambda thread: list(concurrent.futures.as_completed([Future(Nobody(thread), (abs, (), {}))], 20)),
    ],
)
def test_a_ctrl_c_that_does_not_wake_the_main_thread_ends_its_wait_nevertheless(
    thread: LoopThread, wait: Callable[[LoopThread], object]
) -> None:
    """As one that comes right before the system call that waits: another thread's system call is interrupted here."""
    waits = time.monotonic()
    kick = threading.Timer(0.3, signal.raise_signal, [signal.SIGINT])
    kick.start()
    with pytest.raises(KeyboardInterrupt):
        wait(thread)
    kick.join()
    assert time.monotonic() - waits < 15, "it was not told by the end of the wait"


def test_a_wait_in_slices_ends_when_its_time_is_over() -> None:
    with pytest.raises(Empty):
        take(SimpleQueue(), 0.0)
    asked: list[float] = []
    assert not wait_until(lambda seconds: asked.append(seconds) or threading.Event().wait(seconds), 1.2)  # type: ignore[func-returns-value]
    assert asked[0] == 1.0 and len(asked) == 2 and asked[1] < 0.3


def test_who_waits_for_a_loop_that_is_kept_is_told_by_what(
    thread: LoopThread, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dispycos.actors.client.loop_thread.PATIENCE_S", 1.01)
    go = threading.Event()
    thread.call(asyncio.sleep(1.5), "close()")
    assert caplog.messages == [], "the loop turns, and has nothing to say"
    thread.call_soon(go.wait)
    threading.Timer(2, go.set).start()
    thread.call(value(), "close()")
    [told] = caplog.messages
    assert re.match(
        r"close\(\) waits for dispycos's own thread.*, at .*threading.py:\d+: a task of Client\(local", told
    )


def test_where_a_loop_runs_the_call_is_refused_with_the_way_out(thread: LoopThread) -> None:
    async def main() -> None:
        thread.call(value(), "result()")

    with pytest.raises(RuntimeError, match=r"result\(\) would stop the event loop.*asyncio.to_thread"):
        asyncio.run(main())


def test_on_the_loop_itself_the_call_is_refused(thread: LoopThread) -> None:
    async def callback() -> None:
        thread.call(value(), "result()")

    with pytest.raises(RuntimeError, match=r"result\(\) would wait for ever"):
        thread.call(callback())


def test_after_its_end_a_call_says_so() -> None:
    thread = LoopThread()
    thread.end()
    with pytest.raises(RuntimeError, match=r"result\(\): dispycos's loop has ended"):
        thread.call(value(), "result()")


def test_a_forked_child_has_a_loop_of_its_own_and_may_not_use_its_parents() -> None:
    parents = loop_thread()
    assert loop_thread() is parents
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            parents.call(value(), "result()")
        except RuntimeError as error:
            os.write(writing, str(error).encode() + b"\n")
        os.write(writing, f"{loop_thread().call(value(5))}\n".encode())
        os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with open(reading, encoding="utf-8") as told:
        refused, own = told.read().splitlines()
    assert f"this process ({child}) was forked" in refused and own == "5"
    assert parents.call(value(6)) == 6


ENDS = """
import asyncio
from dispycos.actors.client.loop_thread import loop_thread

async def generate():
    try:
        yield
    finally:
        await asyncio.sleep(0.01)
        print("ended in order")

async def begin():
    global kept
    kept = generate()
    await anext(kept)

loop_thread().before_end.append(lambda: print("before the end"))
loop_thread().call(begin())
"""


def test_it_ends_with_the_program_in_good_order() -> None:
    ended = subprocess.run([sys.executable, "-c", ENDS], capture_output=True, text=True, timeout=60)
    assert ended.stdout.splitlines() == ["before the end", "ended in order"]
    assert ended.stderr == "" and ended.returncode == 0
