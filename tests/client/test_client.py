"""What a Client does beyond its lease, at a scheduler that does what the test says."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import dispycos
from dispycos.actors.client.client import BACKLOG_MAX, Client
from dispycos.actors.client.code import ClientPayloads
from dispycos.actors.client.lease import ClientLease
from dispycos.actors.client.local import home_of_this_loop
from dispycos.protocol import messages
from dispycos.protocol.status import OutcomeKind
from tests.kit.stub_scheduler import StubScheduler, play, secret_in

pytestmark = pytest.mark.timeout(40)


def compute(n: int) -> int:
    return n * n


def test_parameters_have_the_order_and_defaults_of_the_specification() -> None:
    defaults = {
        name: parameter.default for name, parameter in inspect.signature(dispycos.Client).parameters.items()
    }
    assert list(defaults)[:10] == [
        *("components", "pulse_interval", "nodes", "status_task", "node_setup", "server_setup"),
        *("disable_nodes", "disable_servers", "restart_servers", "abandon_zombie_nodes"),
    ]
    assert defaults["disable_nodes"] is defaults["disable_servers"] is False
    assert defaults["node_setup"] is defaults["server_setup"] is None
    assert (dispycos.MinPulseInterval, dispycos.MaxPulseInterval) == (10, 100)
    assert defaults["pulse_interval"] == 5 * dispycos.MinPulseInterval
    assert not defaults["nodes"] and defaults["status_task"] is None
    assert defaults["restart_servers"] is defaults["abandon_zombie_nodes"] is False


def test_a_status_task_may_be_set_after_the_client_is_made(tmp_path: Path) -> None:
    heard: list[Any] = []

    async def watch(*, task: Any) -> None:
        while True:
            heard.append(await task.receive())

    async def scene(client: Client, stub: StubScheduler) -> None:
        await client.close()
        home_of_this_loop(ClientPayloads(), secret_in(tmp_path))
        with pytest.raises(TypeError, match="status_task must be a Task, not function"):
            client.status_task = watch  # type: ignore[assignment]
        client.status_task = dispycos.Task(watch)
        await client.schedule(stub.location)
        handle = client.submit(compute, 3)
        await stub.until(lambda: len(stub.tasks) == 1)
        stub.end(stub.tasks[0], 9)
        while not heard or not isinstance(heard[-1], dispycos.MonitorStatus):
            await asyncio.sleep(0.001)
        assert (heard[-1].info, heard[-1].value) == (handle, 9)

    play(scene, tmp_path)


def test_a_file_that_is_gone_by_schedule_is_named_and_no_server_is_troubled(tmp_path: Path) -> None:
    given = tmp_path / "given.txt"
    given.write_text("words")

    async def scene(client: Client, stub: StubScheduler) -> None:
        await client.close()
        said = len(stub.got)
        given.unlink()
        with pytest.raises(FileNotFoundError, match=rf"^components\[1\]: {given} .* is gone$"):
            await client.schedule(stub.location)
        assert len(stub.got) == said
        given.write_text("other words")
        assert await client.schedule(stub.location) == 0

    play(scene, tmp_path, components=[compute, given])


def test_a_value_comes_back(tmp_path: Path) -> None:
    async def scene(client: Client, stub: StubScheduler) -> None:
        handle = client.submit(compute, 3)
        await stub.until(lambda: stub.tasks)
        assert stub.arguments(stub.tasks[0]) == (3,)
        stub.end(stub.tasks[0], 9)
        assert await handle == 9

    play(scene, tmp_path)


def test_a_client_shows_what_it_has_and_what_became_of_its_tasks(tmp_path: Path) -> None:
    assert repr(dispycos.Client(name="demo")) == "<Client demo: not scheduled>"

    async def scene(client: Client, stub: StubScheduler) -> None:
        handle, _ = client.submit(compute, 3), client.submit(compute, 4)
        await stub.until(lambda: stub.tasks)
        stub.end(stub.tasks[0], 9)
        await handle
        assert repr(client).endswith(": 1 server on 1 node; tasks: 1 at servers, 1 done>")
        await client.close(terminate=True)
        assert ": closed; tasks: 1 done, 1 cancelled>" in repr(client)
        assert "closed<br>tasks: 1 done, 1 cancelled" in client._repr_html_()

    play(scene, tmp_path)


def test_rtask_returns_when_the_task_runs(tmp_path: Path) -> None:
    async def scene(client: Client, stub: StubScheduler) -> None:
        starting = asyncio.ensure_future(client.rtask(compute, 3))
        await stub.until(lambda: stub.tasks)
        assert not starting.done()
        stub.begin(stub.tasks[0])
        handle = await starting
        assert handle.location == dispycos.Location("127.0.0.1", 9707) and handle.is_alive()

    play(scene, tmp_path)


def test_a_refused_rtask_raises(tmp_path: Path) -> None:
    async def scene(client: Client, stub: StubScheduler) -> None:
        starting = asyncio.ensure_future(client.rtask(compute, 3))
        await asyncio.sleep(0)
        stub.send(messages.Hopeless("no server can be started: no disk"))
        with pytest.raises(dispycos.TaskRefused, match="no disk"):
            await starting

    play(scene, tmp_path, has_server=False)


def test_ready_waits_until_few_enough_tasks_wait(tmp_path: Path) -> None:
    async def scene(client: Client, stub: StubScheduler) -> None:
        await client.ready()
        for number in range(BACKLOG_MAX + 100):
            client.submit(compute, number)
        waits = [asyncio.ensure_future(client.ready()) for _ in range(2)]
        await stub.until(lambda: stub.tasks)
        await asyncio.sleep(0.02)
        assert not any(wait.done() for wait in waits)
        waits[0].cancel()
        ended = 0
        while not waits[1].done():
            await stub.until(lambda: len(stub.tasks) > ended)  # noqa: B023
            stub.end(stub.tasks[ended], 0, seconds=0.001)
            ended += 1
            await asyncio.sleep(0)
        assert (
            isinstance(client._lease, ClientLease) and client._lease.ledger.dispatcher.waiting <= BACKLOG_MAX
        )

    play(scene, tmp_path)


def test_ready_ends_with_the_clients_stay(tmp_path: Path) -> None:
    async def scene(client: Client, stub: StubScheduler) -> None:
        for number in range(BACKLOG_MAX + 1):
            client.submit(compute, number)
        waits = asyncio.ensure_future(client.ready())
        await asyncio.sleep(0)
        await client.close(terminate=True)
        await waits
        with pytest.raises(dispycos.NotScheduled):
            await client.ready()

    play(scene, tmp_path, has_server=False)


def test_map_is_lazy_and_ends_what_nobody_wants_any_more(tmp_path: Path) -> None:
    async def scene(client: Client, stub: StubScheduler) -> None:
        async def consume() -> tuple[int, int]:
            async for pair in client.map(compute, itertools.count()):
                return pair
            raise AssertionError("there is no end")

        assert isinstance(client._lease, ClientLease)
        records = client._lease.ledger.records
        consumer = asyncio.ensure_future(consume())
        while len(records) < 4096:
            await asyncio.sleep(0.001)
        await stub.until(lambda: len(stub.tasks) == 2)
        stub.end(stub.tasks[1], 1)
        assert await consumer == (1, 1)
        await stub.until(lambda: any(isinstance(word.message, messages.Terminate) for word in stub.heard))
        assert {*records} <= {task.message.task.number for task in stub.tasks}, "what nobody had has ended"

    play(scene, tmp_path)


def test_a_map_that_outlives_its_client_ends_without_complaint(tmp_path: Path) -> None:
    async def scene(client: Client, stub: StubScheduler) -> None:
        values = client.map(compute, range(10))
        first = asyncio.ensure_future(anext(values))
        await stub.until(lambda: stub.tasks)
        stub.end(stub.tasks[0], 0)
        assert await first == (0, 0)
        await client.close(terminate=True)
        await values.aclose()

    play(scene, tmp_path)


def test_a_map_without_a_cluster_is_refused_at_once() -> None:
    with pytest.raises(dispycos.NotScheduled):
        Client().map(compute, [1])


# --- retries, and what a task has used


SUBMITS: list[Callable[..., Any]] = [
    Client.submit,
    Client.io_submit,
    Client.rtask,
    Client.io_rtask,
    lambda client, *args, **kwargs: client.rtask_at("stub", *args, **kwargs),
    lambda client, *args, **kwargs: client.io_rtask_at("stub", *args, **kwargs),
]


@pytest.mark.parametrize("call", SUBMITS)
def test_a_task_is_started_again_as_often_as_that_is_allowed(
    call: Callable[..., Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene(client: Client, stub: StubScheduler) -> None:
        called = call(client, compute, 3, retries=1)
        starting = asyncio.ensure_future(called) if asyncio.iscoroutine(called) else None
        await stub.until(lambda: stub.tasks)
        stub.begin(stub.tasks[0])
        handle = called if starting is None else await starting
        assert handle.attempt == 1
        stub.lose_server("killed by SIGKILL (9)")
        await stub.add_server()
        await stub.until(lambda: len(stub.tasks) == 2)
        assert stub.tasks[1].message.task == stub.tasks[0].message.task._replace(attempt=2)
        assert stub.arguments(stub.tasks[1]) == (3,)
        assert handle.attempt == 2
        stub.lose_server("killed again")
        with pytest.raises(dispycos.TaskLost, match="killed again"):
            await handle
        assert handle.attempt == 2

    play(scene, tmp_path)
    assert "compute was lost (killed by SIGKILL (9)): attempt 2 of 2" in caplog.text


def test_a_task_of_a_map_is_started_again(tmp_path: Path) -> None:
    async def scene(client: Client, stub: StubScheduler) -> None:
        values = client.map(compute, [3], retries=1)
        first = asyncio.ensure_future(anext(values))
        await stub.until(lambda: stub.tasks)
        stub.lose_server("killed by SIGKILL (9)")
        await stub.add_server()
        await stub.until(lambda: len(stub.tasks) == 2)
        stub.end(stub.tasks[1], 9)
        assert await first == (3, 9)
        await values.aclose()

    play(scene, tmp_path)


def test_without_retries_a_lost_task_is_lost(tmp_path: Path) -> None:
    async def scene(client: Client, stub: StubScheduler) -> None:
        handle = client.submit(compute, 3)
        await stub.until(lambda: stub.tasks)
        stub.lose_server("killed by SIGKILL (9)")
        with pytest.raises(dispycos.TaskLost, match="killed by SIGKILL"):
            await handle
        assert (handle.attempt, handle.usage) == (1, None)

    play(scene, tmp_path)


@pytest.mark.parametrize(
    ("retries", "error"), [(-1, ValueError), (1.0, TypeError), (True, TypeError), ("1", TypeError)]
)
def test_retries_are_a_count(retries: Any, error: type[Exception], tmp_path: Path) -> None:
    async def scene(client: Client, stub: StubScheduler) -> None:
        with pytest.raises(error, match="retries"):
            client.submit(compute, 1, retries=retries)
        with pytest.raises(error, match="retries"):
            client.map(compute, [1], retries=retries)

    play(scene, tmp_path, has_server=False)


def test_a_handle_tells_what_its_task_has_used(tmp_path: Path) -> None:
    async def scene(client: Client, stub: StubScheduler) -> None:
        known, unknown, dropped = (client.io_submit(compute, n) for n in range(3))
        await stub.until(lambda: len(stub.tasks) == 3)
        assert known.usage is None
        stub.end(stub.tasks[0], 0, seconds=2.5, cpu_s=2.25, peak_bytes=1 << 20)
        stub.end(stub.tasks[1], 1, seconds=0.5)
        stub.end(stub.tasks[2], None, OutcomeKind.CANCELLED, started=False)
        await asyncio.wait([known, unknown, dropped])
        assert known.usage == dispycos.Usage(seconds=2.5, cpu_s=2.25, peak_bytes=1 << 20)
        assert unknown.usage == dispycos.Usage(0.5, None, None)
        assert dropped.usage is None

    play(scene, tmp_path)


# --- the folder that tasks run in


@pytest.mark.parametrize(
    ("cwd", "error", "text"),
    [
        (7, TypeError, "cwd must be the path of a folder"),
        (b"/tmp", TypeError, "not bytes"),
        ("", ValueError, "empty"),
        ("missing", FileNotFoundError, "cwd: no such folder: .*/missing"),
        ("file.txt", NotADirectoryError, "cwd: .*/file.txt is not a folder"),
    ],
)
def test_a_folder_that_is_none_is_refused_at_once(
    cwd: Any, error: type[Exception], text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file.txt").touch()
    with pytest.raises(error, match=text):
        Client(cwd=cwd)


# --- what tasks print, and log


def test_output_is_written_where_whoever_used_the_client_last_wants_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a notebook, where a variable of the context says under which cell sys.stdout writes."""
    cell: contextvars.ContextVar[str] = contextvars.ContextVar("cell", default="none")
    seen: list[tuple[str, str]] = []

    class Notebook:
        def write(self, text: str) -> None:
            seen.append((cell.get(), text))

    async def scene(client: Client, stub: StubScheduler) -> None:
        async def run_cell(name: str, code: Callable[[], Any]) -> None:
            async def run() -> None:
                cell.set(name)
                told = len(seen)
                waits = code()
                stub.send(messages.Output("s", 1), b"hello\n")
                while len(seen) < told + 1:
                    await asyncio.sleep(0.01)
                if waits is not None:
                    waits.cancel()

            await asyncio.create_task(run())

        monkeypatch.setattr("sys.stdout", Notebook())
        handles: list[Any] = []
        await run_cell("first", lambda: handles.append(client.submit(compute, 1)))
        await run_cell("second", lambda: asyncio.ensure_future(asyncio.wait(handles)))
        await run_cell("third", lambda: handles[0].add_done_callback(print))
        monkeypatch.undo()

    play(scene, tmp_path)
    assert seen == [(name, "[s] hello\n") for name in ("first", "second", "third")]
