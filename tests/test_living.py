"""That what is ours is dead in a forked child, where its process ends as the step that forked it says, and the parent lives on."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

import pytest

from dispycos import ScheduleError, Scheduler, Task
from dispycos.actors.tasks.ends import Returned
from dispycos.actors.tasks.running.interrupts import Interrupts
from dispycos.living import living, refuse_in_server
from dispycos.runtime import Runtime
from tests.kit.local_tasks import play
from tests.kit.stage import BareStage

pytestmark = [pytest.mark.timeout(30), pytest.mark.usefixtures("own_home")]


def status_in_child(body: Callable[[], object]) -> int:
    """Of a forked child in which the body is called: 0 when it returns, 99 with a traceback when it raises."""
    pid = os.fork()
    if pid == 0:
        status = 99
        try:
            body()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_in_a_child_every_call_is_told_that_the_runtime_is_the_parents() -> None:
    async def stays(*, task: Task) -> Any:
        return await task.receive()

    async def scene(task: Task) -> None:
        other = Task(stays)

        def calls() -> None:
            for call in (
                lambda: other.send(1),
                other.terminate,
                other.cancel,
                lambda: asyncio.run(other.deliver(1)),
                lambda: Task(stays),
            ):
                with pytest.raises(RuntimeError, match="was forked from one that uses dispycos"):
                    call()

        assert status_in_child(calls) == 0
        other.send("alive")
        assert await other == "alive"

    play(scene)


def test_a_lock_that_another_thread_holds_does_not_stop_the_child() -> None:
    async def main() -> None:
        runtime = Runtime("client", "test", None)
        held, let_go = threading.Event(), threading.Event()

        def hold() -> None:
            with runtime.lock:
                held.set()
                let_go.wait(10)

        thread = threading.Thread(target=hold)
        thread.start()
        held.wait(5)

        def is_told() -> None:
            runtime.turn()  # a callback of the loop that runs out: quiet
            with pytest.raises(RuntimeError, match="forked"):
                runtime.turn_elsewhere()

        try:
            assert status_in_child(is_told) == 0
        finally:
            let_go.set()
            thread.join(5)
            await runtime.close()

    asyncio.run(main())


def test_a_child_that_closes_its_loop_takes_nothing_from_the_parents() -> None:
    async def main() -> None:
        runtime = Runtime("client", "test", None)
        loop = asyncio.get_running_loop()

        def close() -> None:
            loop._selector.unregister(loop._ssock)  # type: ignore[attr-defined]

        try:
            assert status_in_child(close) == 0
            start = time.monotonic()
            # Its end wakes the loop through that socket.
            await asyncio.wait_for(asyncio.to_thread(time.sleep, 0.05), 5)
            assert time.monotonic() - start < 3
        finally:
            await runtime.close()

    asyncio.run(main())


def test_a_child_may_have_a_loop_and_tasks_of_its_own() -> None:
    async def value() -> str:
        return "the child's"

    async def scene(task: Task) -> None:
        def lives() -> None:
            assert play(value) == "the child's"

        assert status_in_child(lives) == 0

    play(scene)


def test_a_runtime_that_is_closed_is_not_looked_after_any_more() -> None:
    async def main() -> None:
        runtime = Runtime("client", "test", None)
        assert runtime in living
        await runtime.close()
        assert runtime not in living

    asyncio.run(main())


def test_beside_the_runtime_of_a_server_there_is_no_other() -> None:
    async def main() -> None:
        refuse_in_server("a Client")
        runtime = Runtime("server", "test", None)
        try:
            for _ in range(2):
                with pytest.raises(ScheduleError, match="a Client cannot be used inside a remote task"):
                    refuse_in_server("a Client")
                with pytest.raises(ScheduleError, match="a Scheduler cannot be used inside a remote task"):
                    Scheduler()
        finally:
            await runtime.close()
        refuse_in_server("a Client")

    asyncio.run(main())


# --- the end of a step in a child


def status_of_step(function: Callable[..., Any]) -> int:
    """The exit status of a child in which this is a task's function that begins after a fork inside of it."""

    async def main() -> int:
        loop = asyncio.get_running_loop()
        runtime = Runtime("client", "test", None)
        interrupts = Interrupts()
        interrupts.install()
        runtime.in_child.append(interrupts.in_child)
        stage = BareStage(interrupts)
        stage.loop = loop
        execution, done = stage.prepare(function)
        try:
            loop.call_soon(execution.begin)
            outcome = await done
        finally:
            interrupts.uninstall()
            await runtime.close()
        assert isinstance(outcome, Returned)
        status: int = outcome.value
        return status

    return asyncio.run(main())


def forked(end: Callable[[], Any]) -> Any:
    pid = os.fork()
    return end() if pid == 0 else os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def interrupted() -> None:
    signal.raise_signal(signal.SIGINT)
    time.sleep(1)


def failing() -> None:
    raise ValueError("in the child")


@pytest.mark.parametrize(
    ("end", "status", "said"),
    [
        (lambda: "its value", 0, ""),
        (failing, 1, "ValueError: in the child"),
        (lambda: sys.exit(4), 4, ""),
        (lambda: sys.exit(256), 0, ""),
        (lambda: sys.exit(), 0, ""),
        (lambda: sys.exit("words"), 1, "words"),
        (interrupted, 130, "KeyboardInterrupt"),
        (lambda: print("its last words", end="", file=sys.stderr), 0, "its last words"),
    ],
)
def test_a_child_ends_as_its_function(
    end: Callable[[], Any], status: int, said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    async def coroutine() -> Any:
        await asyncio.sleep(0)
        return forked(end)

    def generator() -> Any:
        yield
        return forked(end)

    for function in (lambda: forked(end), coroutine, generator):
        assert status_of_step(function) == status
        err = capfd.readouterr().err
        assert said in err
        assert "execution.py" not in err


def test_a_child_that_waits_where_its_parent_does_ends_with_words(capfd: pytest.CaptureFixture[str]) -> None:
    async def coroutine() -> Any:
        never = asyncio.get_running_loop().create_future()
        pid = os.fork()
        if pid == 0:
            await never
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    def generator() -> Any:
        pid = os.fork()
        if pid == 0:
            yield
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    for function in (coroutine, generator):
        assert status_of_step(function) == 1
        assert (
            "forked by a task, ends: it waits in the event loop, which is its parent's"
            in capfd.readouterr().err
        )
