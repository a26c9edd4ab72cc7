"""Tasks in the program's own process: all that a program does with tasks, and no other process, socket or copy of a function."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import pty
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from textwrap import dedent
from types import SimpleNamespace
from typing import Any

import pytest

import dispycos
from dispycos.actors.client import in_process
from dispycos.actors.client.client import Client
from dispycos.brokers.private import Waiting
from dispycos.protocol.addresses import Location

pytestmark = pytest.mark.timeout(30)

Task = dispycos.Task


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("DISPYCOS_", "XDG_"))]:
        monkeypatch.delenv(name)
    (tmp_path / "run").mkdir(mode=0o700)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))

    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("another process was started")

    monkeypatch.setattr("dispycos.brokers.private.PrivateProcess", refuse)


def play(scene: Callable[[Client], Awaitable[Any]], **options: Any) -> Any:
    async def main() -> Any:
        async with Client(local=True, **options) as client:
            return await scene(client)

    return asyncio.run(main())


async def wait_for(event: asyncio.Event) -> int:
    await event.wait()
    return 1


@pytest.mark.parametrize("waits", [True, False])
def test_one_to_which_nobody_refers_ends_its_tasks_if_another_waits_and_else_goes_on(waits: bool) -> None:
    async def main() -> None:
        client = Client(local=True)
        await client.schedule()
        assert client._lease is not None
        home, go = client._lease.home, asyncio.Event()
        handle = client._lease._start(wait_for, "wait_for", (go,), {}, io=False)  # type: ignore[union-attr]
        other: Any = SimpleNamespace(is_open=not waits)
        home.enter(other)
        del client
        gc.collect()
        if waits:
            with pytest.raises(dispycos.TaskTerminated):
                await handle
        else:
            await asyncio.sleep(0.05)  # it has heard that it is forsaken
            assert not handle.done()
            go.set()
            assert await handle == 1
        home.leave(other)

    asyncio.run(main())


def square(number: int) -> tuple[int, int]:
    return number * number, os.getpid()


def fails(number: int) -> float:
    return 1 / number


def append(items: list[int]) -> list[int]:
    items.append(1)
    return items


async def waits(*, task: Task) -> Any:
    return await task.receive()


async def tally(total: int, *, task: Task) -> int:
    while (number := await task.receive()) is not None:
        total += number
        task.reply(total)
    return total


async def fib(number: int, *, task: Task) -> int:
    if number < 2:
        return number
    one, two = task.client.submit(fib, number - 1), dispycos.current_client().submit(fib, number - 2)
    return int(await one) + int(await two)


def test_submit_rtask_and_map_run_functions_here() -> None:
    async def scene(client: Client) -> None:
        assert [await handle for handle in [client.submit(square, n) for n in range(3)]] == [
            (n * n, os.getpid()) for n in range(3)
        ]
        assert sorted([pair async for pair in client.map(square, range(3))]) == [
            (n, (n * n, os.getpid())) for n in range(3)
        ]
        assert await (await client.rtask_at("any host", square, 3)) == (9, os.getpid())
        assert await client.nodes() == ["127.0.0.1"]
        (server,) = await client.servers()
        handle = await client.io_rtask_at(server, square, 4)
        assert await handle == (16, os.getpid()) and handle.location == server

    play(scene)


def test_tasks_have_messages_and_submit_tasks() -> None:
    async def scene(client: Client) -> None:
        actor = await client.rtask(tally, 100)
        assert [await actor.ask(20), await actor.ask(3)] == [120, 123]
        assert await client.tasks() == [actor]
        actor.send(None)
        assert await actor == 123 and not actor.is_alive()
        assert await client.submit(fib, 7) == 13

    play(scene)


def test_tasks_find_each_other_by_name() -> None:
    async def named(*, task: Task) -> Any:
        task.register("agent")
        return await task.receive()

    async def finds(*, task: Task) -> int:
        return (await Task.locate("agent", timeout=5)).send("hello")

    async def scene(client: Client) -> None:
        agent = client.submit(named)
        await client.submit(finds)
        assert await agent == "hello"

    play(scene)


def test_arguments_and_values_are_copies_and_functions_are_not() -> None:
    class Counter:
        count = 0

        def add(self) -> int:
            self.count += 1
            return self.count

    seen: list[int] = []

    async def scene(client: Client) -> None:
        items: list[int] = []
        assert await client.submit(append, items) == [1] and items == []
        counter = Counter()
        assert await client.submit(counter.add) == 1 and counter.count == 0
        await client.submit(lambda: seen.append(1))
        assert seen == [1]

    play(scene)


def test_what_could_not_travel_is_named() -> None:
    async def scene(client: Client) -> None:
        with pytest.raises(dispycos.NotPicklable, match=r"argument 1 \('number'\) of square"):
            client.submit(square, threading.Lock())  # type: ignore[arg-type]
        with pytest.raises(dispycos.NotPicklable, match=r"the value of (allocate_)?lock: "):
            await client.submit(threading.Lock)
        with pytest.raises(TypeError, match="list"):
            await client.submit(lambda: (n for n in range(3)))

    play(scene)


def test_an_error_is_the_very_one_with_the_frame_that_raised_it() -> None:
    async def scene(client: Client) -> None:
        handle = client.submit(fails, 0)
        with pytest.raises(ZeroDivisionError) as caught:
            await handle
        frame = caught.traceback[-1].frame
        assert (frame.code.name, frame.f_locals) == ("fails", {"number": 0})

    play(scene)


def test_terminate_and_cancel_end_a_task_that_waits() -> None:
    async def scene(client: Client) -> None:
        one, two = await client.rtask(waits), client.submit(waits)
        one.terminate()
        two.cancel()
        with pytest.raises(dispycos.TaskTerminated):
            await one
        with pytest.raises(asyncio.CancelledError):
            await two

    play(scene)


@pytest.mark.parametrize("run", [asyncio.run, dispycos.run])
def test_a_ctrl_c_in_a_function_ends_the_program_as_if_that_had_called_it(run: Callable[..., Any]) -> None:
    went_on: list[str] = []

    def computes() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(60)

    async def main() -> None:
        async with Client(local=True) as client:
            with contextlib.suppress(dispycos.TaskTerminated):
                await client.submit(computes)
            await asyncio.sleep(60)
            went_on.append("main")

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run(main())
    assert time.monotonic() - began < 60 and went_on == []


def test_close_waits_for_cpu_tasks_and_ends_io_tasks() -> None:
    ended: list[str] = []

    async def works() -> None:
        await asyncio.sleep(0.05)
        ended.append("works")

    async def serves() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append("serves")

    async def scene(client: Client) -> None:
        client.submit(works)
        client.io_submit(serves)
        await asyncio.sleep(0)

    play(scene)
    assert ended == ["works", "serves"]


def test_what_goes_on_after_its_end_is_left_and_named(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(in_process, "KILL_AFTER", 0.05)

    async def stubborn() -> None:
        until = time.monotonic() + 0.3
        while time.monotonic() < until:
            try:
                await asyncio.sleep(0.3)
            except KeyboardInterrupt:
                pass

    async def main() -> None:
        client = Client(local=True)
        await client.schedule()
        handle = client.submit(stubborn)
        await asyncio.sleep(0.01)
        await client.close(terminate=True)
        assert handle.is_alive()

    asyncio.run(main())
    assert "1 task (stubborn 1) went on though told to end" in caplog.text


def test_setups_run_once_here_before_the_first_task() -> None:
    ran: list[str] = []

    def node() -> None:
        ran.append("node")

    async def server(*, task: Task) -> int:
        await task.sleep(0)
        ran.append("server")
        return 0

    async def scene(client: Client) -> None:
        assert ran == ["node", "server"]

    play(scene, node_setup=node, server_setup=server)


def test_a_setup_that_fails_fails_schedule() -> None:
    async def scene(client: Client) -> None:
        raise AssertionError("it was scheduled")

    with pytest.raises(dispycos.ScheduleError, match="square failed: it returned"):
        play(scene, node_setup=lambda: None, server_setup=_named_square)
    with pytest.raises(ZeroDivisionError):
        play(scene, node_setup=lambda: fails(0))


def _returns_three() -> int:
    return 3


_returns_three.__name__ = "square"
_named_square = _returns_three


def test_a_status_task_hears_of_each_end() -> None:
    heard: list[tuple[str, Any, Any]] = []

    async def watch(*, task: Task) -> None:
        while len(heard) < 2:
            status = await task.receive()
            heard.append((status.info.name, status.type, status.value))

    async def main() -> None:
        watcher = Task(watch)
        async with Client(local=True, status_task=watcher, node_setup=lambda: None) as client:
            await client.submit(append, [])
            with pytest.raises(ZeroDivisionError):
                await client.submit(fails, 0)
            await watcher.finish(5)

    dispycos.run(main)
    assert heard == [("append", StopIteration, [1]), ("fails", ZeroDivisionError, "division by zero")]


def test_what_needs_nodes_says_so() -> None:
    async def scene(client: Client) -> None:
        for call in (client.suspend_server, client.close_server, client.restart_server):
            with pytest.raises(dispycos.NotScheduled, match="runs its tasks in this process"):
                call(Location("127.0.0.1", 0))
        with pytest.raises(dispycos.NotScheduled, match="runs its tasks in this process"):
            await client.send_file("host", "file")
        with pytest.raises(TypeError, match="where must be"):
            await client.rtask_at(7, square, 1)  # type: ignore[call-overload]

    play(scene)


def test_its_repr_tells_that_tasks_run_here() -> None:
    async def scene(client: Client) -> Client:
        await client.submit(append, [])
        assert "tasks run in this process; tasks: 1 done" in repr(client)
        return client

    assert "closed; tasks: 1 done" in repr(play(scene))


def test_a_closed_client_and_one_that_was_not_scheduled_refuse() -> None:
    async def main() -> None:
        client = Client(local=True)
        with pytest.raises(dispycos.NotScheduled):
            client.submit(append, [])
        await client.schedule()
        await client.close()
        with pytest.raises(dispycos.NotScheduled):
            client.submit(append, [])
        await client.schedule()
        assert await client.submit(append, []) == [1]
        await client.close()

    asyncio.run(main())


@pytest.mark.parametrize(("text", "local"), [("1", True), ("0", False), ("", False)])
def test_the_variable_decides_where_the_parameter_does_not(
    text: str, local: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    monkeypatch.setattr(Waiting, "start_ahead", lambda: calls.append("start"))
    monkeypatch.setattr(Waiting, "end_ahead", lambda: calls.append("end"))
    monkeypatch.setenv("DISPYCOS_LOCAL", text)
    assert Client()._is_local is local
    assert Client(local=not local)._is_local is not local
    assert calls == (["end", "start"] if local else ["start", "end"])


def test_a_variable_of_no_use_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPYCOS_LOCAL", "perhaps")
    with pytest.raises(ValueError, match="DISPYCOS_LOCAL: 'perhaps' is neither yes nor no"):
        Client()
    with pytest.raises(TypeError, match="local must be True or False"):
        Client(local="yes")  # type: ignore[arg-type]


def test_a_debugger_stops_in_the_functions_of_tasks(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        dedent("""
            import dispycos

            def plain(number):
                more = number + 1
                breakpoint()
                return more

            async def suspended(number, *, task):
                await task.sleep(0.01)
                breakpoint()
                await task.sleep(0.01)
                return number

            async def main():
                async with dispycos.Client() as client:
                    print("values", await client.submit(plain, 1), await client.submit(suspended, 2))

            dispycos.run(main)
        """)
    )
    done = subprocess.run(
        [sys.executable, str(script)],
        input="more = 40\nc\nn\nnumber = 50\nc\n",
        capture_output=True,
        text=True,
        timeout=20,
        env={**os.environ, "DISPYCOS_LOCAL": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert "plain()" in done.stdout and "suspended()" in done.stdout
    assert done.stdout.splitlines()[-1].endswith("values 40 50")


@pytest.mark.parametrize("style", ["async", "sync"])
def test_a_debugger_has_the_terminal_and_its_keys(style: str, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        dedent("""
            import asyncio, sys
            import dispycos

            def plain(number):
                breakpoint()
                return number

            async def main():
                async with dispycos.Client(local=True) as client:
                    print("value", await client.submit(plain, 41))

            if sys.argv[1] == "async":
                asyncio.run(main())
            else:
                with dispycos.Client(local=True) as client:
                    print("value", client.submit(plain, 41).result())
        """)
    )
    ours, its = pty.openpty()
    program = subprocess.Popen([sys.executable, str(script), style], stdin=its, stdout=its, stderr=its)
    try:
        os.close(its)
        shown = read_until(ours, "(Pdb) ")  # all of it: what comes then is what Ctrl-C did
        if style == "async":  # else it is the main thread's, as ever: it ends what that waits for
            for _ in range(
                20
            ):  # one that comes right before the read of the terminal does not wake it, in plain Python either
                program.send_signal(signal.SIGINT)
                if select.select([ours], [], [], 1)[0]:
                    break
            shown += read_until(ours, "(Pdb)")
            assert "--KeyboardInterrupt--" in shown
        os.write(ours, b"p 7 * 6\n")
        assert "42" in read_until(ours, "(Pdb)")
        os.write(ours, b"number = 50\nc\n")
        assert "value 50" in read_until(ours, "value 50")
        assert program.wait(20) == 0
    finally:
        program.kill()
        program.wait()
        os.close(ours)


def read_until(terminal: int, text: str) -> str:
    read = ""
    while text not in read:
        assert select.select([terminal], [], [], 20)[0], read
        read += os.read(terminal, 4096).decode()
    return read


def test_an_executor_of_such_a_program_runs_its_calls_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPYCOS_LOCAL", "1")
    ready: list[int] = []
    with dispycos.Executor(max_workers=1, initializer=ready.append, initargs=(1,)) as pool:
        assert list(pool.map(square, range(3))) == [(n * n, os.getpid()) for n in range(3)]
        future = pool.submit(fails, 0)
        assert isinstance(future.exception(5), ZeroDivisionError)
        waiting = pool.submit(asyncio.sleep, 60)
        while not waiting.running():
            assert not waiting.done()
            time.sleep(0.001)
        pool.terminate_workers()
        assert isinstance(waiting.exception(5), dispycos.TaskTerminated)


def total(*numbers: Any) -> Any:
    return sum(numbers)


def kinds(*things: object) -> list[str]:
    return [type(thing).__name__ for thing in things]


async def naps(seconds: float) -> float:
    await asyncio.sleep(seconds)
    return seconds


def yields(number: float) -> Any:
    yield asyncio.sleep(number)
    return number


def test_a_handle_of_submit_is_its_value_as_on_a_cluster() -> None:
    async def scene(client: Client) -> None:
        handle = client.submit(total, 1)
        for _ in range(50):
            handle = client.options(priority=1, timeout=5).submit(total, handle, 1)
        assert await client.submit(total, handle, handle) == 102
        actor = await client.rtask(naps, 0.01)
        assert await client.submit(kinds, actor, [handle], client.submit(naps, 0)) == ["Task", "list", "int"]
        assert await client.submit(naps, client.submit(yields, client.submit(total, 0))) == 0, (
            "these wait, too"
        )
        receives = client.submit(tally, 0)
        assert await client.submit(kinds, receives) == ["Task"]
        receives.send(None)
        last = client.submit(total, client.submit(total, client.submit(fails, 0)))
        with pytest.raises(dispycos.ArgumentFailed, match=r"\(fails -> total -> total\)") as caught:
            await last
        assert str(caught.value).startswith(
            "total did not run: fails raised ZeroDivisionError: division by zero"
        )
        assert isinstance(caught.value.__cause__, ZeroDivisionError)

        async def passes_on() -> None:
            await last

        slow = client.io_submit(naps, 30)
        waits = client.submit(total, slow)
        slow.cancel()
        with pytest.raises(dispycos.ArgumentFailed, match=r"naps was terminated \(naps -> total\)"):
            await waits

        with pytest.raises(
            dispycos.ArgumentFailed,
            match=r"^total did not run: passes_on raised Arg.*\(passes_on -> total\)$",
        ):
            await client.submit(total, client.submit(passes_on))

    play(scene)


def test_one_that_waits_for_a_value_is_ended_at_once_and_the_other_goes_on() -> None:
    async def scene(client: Client) -> None:
        slow = client.io_submit(naps, 30)
        waits = client.submit(total, slow)
        await asyncio.sleep(0.01)
        waits.terminate()
        with pytest.raises(dispycos.TaskTerminated):
            await waits
        assert slow.is_alive()
        slow.terminate()

    play(scene)
