"""The private scheduler's process as its client has it: its lines, its end, and what is said when it fails."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

import dispycos
from dispycos.brokers import private as private_module
from dispycos.brokers.local import Scheduler
from dispycos.brokers.private import PrivateProcess, Waiting
from dispycos.config import SECRET_VARIABLE, PrivateSettings
from dispycos.errors import ScheduleError
from dispycos.private_options import private_settings, texts_of
from dispycos.protocol.status import Status
from dispycos.transport.folders import find_folders
from dispycos.values import HostPort

pytestmark = pytest.mark.timeout(30)


@pytest.fixture
def child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], PrivateProcess]:
    """A child process that runs this text instead of the command."""

    def start(text: str) -> PrivateProcess:
        python = tmp_path / "python"
        (tmp_path / "child.py").write_text(text)
        python.write_text(f"#!/bin/sh\nexec {sys.executable} {tmp_path / 'child.py'}\n")
        python.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(python))
        return PrivateProcess({"nodes": ["n"]})

    return start


def play(scene: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(scene())  # type: ignore[arg-type]


ECHO = "import sys\nsys.stdin.readline()\nprint(sys.stdin.readline(), flush=True)\nsys.stdin.read()\n"


def test_it_is_told_what_to_do_and_its_lines_are_read(child: Callable[[str], PrivateProcess]) -> None:
    async def scene() -> None:
        process = child(ECHO)
        assert await process.next_line() == {"nodes": ["n"], "id": process.id}
        assert process.is_alive()
        await process.close()
        assert not process.is_alive()

    play(scene)


def test_close_returns_when_it_has_ended_and_not_later(child: Callable[[str], PrivateProcess]) -> None:
    async def scene() -> None:
        process = child(ECHO)
        await process.next_line()
        start = time.monotonic()
        await process.close(patience=10)
        assert time.monotonic() - start < 5
        assert await process.wait() == 0

    play(scene)


def test_a_child_that_does_not_end_is_killed(child: Callable[[str], PrivateProcess]) -> None:
    async def scene() -> None:
        process = child("import time\nprint('{}', flush=True)\ntime.sleep(100)\n")
        await process.next_line()
        await process.close(patience=0.05)
        assert await process.wait() == -9

    play(scene)


def test_a_cancelled_close_holds_up_neither_the_loop_nor_the_program(
    child: Callable[[str], PrivateProcess],
) -> None:
    started: list[PrivateProcess] = []

    async def scene() -> None:
        process = child("import time\nprint('{}', flush=True)\ntime.sleep(100)\n")
        started.append(process)
        await process.next_line()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(process.close(patience=5), 0.05)

    start = time.monotonic()
    play(scene)  # waits for what its loop has running in threads
    try:
        assert time.monotonic() - start < 4
    finally:
        started[0]._process.kill()


def test_close_before_the_first_line_leaves_nothing_open(child: Callable[[str], PrivateProcess]) -> None:
    async def scene() -> None:
        process = child(ECHO)
        await process.close()
        assert process._process.stdout is not None and process._process.stdout.closed

    play(scene)


def test_the_end_of_a_child_is_told_with_its_exit_code(child: Callable[[str], PrivateProcess]) -> None:
    async def scene() -> None:
        process = child("raise SystemExit(7)")
        with pytest.raises(ScheduleError, match="ended with exit code 7"):
            await process.next_line()
        await process.close()

    play(scene)


def test_that_it_was_killed_is_told(child: Callable[[str], PrivateProcess]) -> None:
    async def scene() -> None:
        process = child("import time\nprint('{}', flush=True)\ntime.sleep(100)\n")
        await process.next_line()
        process._process.kill()
        with pytest.raises(ScheduleError, match=r"was killed by SIGKILL \(9\)"):
            await process.next_line()
        assert process.was_killed
        await process.close()

    play(scene)


def test_a_silent_child_is_given_up(child: Callable[[str], PrivateProcess]) -> None:
    async def scene() -> None:
        process = child("import sys\nsys.stdin.read()\n")
        with pytest.raises(ScheduleError, match=r"said nothing for 0\.05 s"):
            await process.next_line(timeout=0.05)
        await process.close()

    play(scene)


def test_an_error_that_it_says_is_raised(child: Callable[[str], PrivateProcess]) -> None:
    async def scene() -> None:
        process = child('import sys\nprint(\'{"error": "no such node"}\', flush=True)\nsys.stdin.read()\n')
        with pytest.raises(ScheduleError, match="no such node"):
            await process.next_line()
        await process.close()

    play(scene)


def test_scheduler_starts_one_for_the_client_that_comes_next(child: Callable[[str], PrivateProcess]) -> None:
    async def scene() -> None:
        child(ECHO).end()
        Scheduler(name="s")
        first = Waiting.child
        Scheduler(name="s")
        assert first is not None and Waiting.child is first, "one is waiting already"
        Scheduler(name="t")  # what was said last counts
        assert await first.wait() == 0
        await first.close()
        process = Waiting.take()
        assert process is not None and Waiting.take() is None
        assert await process.next_line() == {"name": ["t"], "always": True, "id": process.id}
        await process.close()

    play(scene)


@pytest.mark.parametrize("named", [True, False])
def test_a_secret_file_that_the_client_names_is_stronger_than_the_environment(
    child: Callable[[str], PrivateProcess], monkeypatch: pytest.MonkeyPatch, named: bool
) -> None:
    async def scene() -> None:
        child(ECHO).end()
        monkeypatch.setenv(SECRET_VARIABLE, "eighteen dry horses")
        process = PrivateProcess({"secret_file": ["/a/file"]} if named else {})
        told = await process.next_line()
        assert told.get("secret") == (None if named else "eighteen dry horses")
        await process.close()

    play(scene)


# --- started ahead ---

start_ahead = Waiting.start_ahead  # what conftest.py takes away


def test_one_that_is_started_ahead_gets_its_orders_later(
    child: Callable[[str], PrivateProcess], own_home: Path
) -> None:
    async def scene() -> None:
        child(ECHO).end()
        start_ahead()
        ahead = Waiting.child
        start_ahead()
        assert ahead is not None and Waiting.child is ahead, "one is enough"
        process = Waiting.take()
        assert process is ahead and not process.has_orders
        process.give({"named": True})
        assert await process.next_line() == {"named": True, "id": process.id}
        await process.close()

    play(scene)


def test_none_is_started_ahead_in_a_server_or_where_somebody_is_registered(
    child: Callable[[str], PrivateProcess], own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    child(ECHO).end()
    monkeypatch.setattr(private_module, "is_server", lambda: True)
    start_ahead()
    assert Waiting.child is None
    monkeypatch.setattr(private_module, "is_server", lambda: False)
    monkeypatch.setenv("DISPYCOS_LOCAL", "1")
    start_ahead()
    assert Waiting.child is None, "tasks run in the program itself"
    monkeypatch.delenv("DISPYCOS_LOCAL")
    registry = find_folders().registry
    registry.mkdir(parents=True)
    (registry / "somebody.json").touch()
    start_ahead()
    assert Waiting.child is None


def test_one_that_has_ended_is_not_taken(child: Callable[[str], PrivateProcess]) -> None:
    async def scene() -> None:
        child("").end()
        Waiting.child = dead = PrivateProcess()
        await dead.wait()
        assert Waiting.take() is None and Waiting.child is None
        await dead.close()

    play(scene)


def test_one_that_ended_before_it_was_told_all_is_ended_all_the_same(
    child: Callable[[str], PrivateProcess],
) -> None:
    async def scene() -> None:
        dead = child("")
        await dead.wait()
        dead.give({})
        await dead.close()

    play(scene)


def test_one_that_no_client_took_ends_with_run(
    child: Callable[[str], PrivateProcess], own_home: Path
) -> None:
    child(ECHO).end()
    started: list[PrivateProcess | None] = []

    def start() -> None:
        start_ahead()
        started.append(Waiting.child)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Waiting, "start_ahead", start)
        assert dispycos.run(lambda: 7) == 7
    (ahead,) = started
    assert ahead is not None and Waiting.child is None
    assert ahead._process.wait(10) == 0


def test_a_forked_child_does_not_keep_it_alive(child: Callable[[str], PrivateProcess]) -> None:
    async def scene() -> None:
        child(ECHO).end()
        Waiting.child = process = PrivateProcess()
        pid = os.fork()
        if pid == 0:
            os.execv("/bin/sleep", ["sleep", "30"]) if Waiting.child is None else os._exit(1)
        try:
            await process.close(patience=10)
            assert await process.wait() == 0
            assert os.waitpid(pid, os.WNOHANG) == (0, 0)
        finally:
            os.kill(pid, 9)
            os.waitpid(pid, 0)
            Waiting.take()

    play(scene)


def test_the_real_one_ends_quietly_without_orders(own_home: Path) -> None:
    async def scene() -> None:
        process = PrivateProcess()
        await process.close(patience=20)
        assert await process.wait() == 0

    play(scene)


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"no_such_thing": 1}, TypeError, r"no option no_such_thing; it has nodes, ip_addr.*cpus"),
        ({"tcp_port": 9705}, TypeError, "no option tcp_port; .*`dispycos scheduler`"),
        ({"cpus": "two"}, ValueError, "cpus: 'two' is not"),
        ({"cpus": True}, TypeError, "cpus cannot be True"),
        ({"debug": 1}, TypeError, "debug cannot be 1"),
        ({"nodes": [5j]}, TypeError, "nodes cannot be 5j"),
        ({"nodes": ["box:abc"]}, ValueError, "nodes: 'abc'"),
        ({"min_pulse_interval": 60, "max_pulse_interval": 30}, ValueError, "leave no pulse interval"),
        ({"ip_addr": "192.0.2.7"}, ValueError, "192.0.2.7 is not an address of this host"),
    ],
)
def test_an_option_of_no_use_is_refused_before_anything_starts(
    options: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        Scheduler(**options)
    assert Waiting.take() is None


def test_options_of_a_program_become_settings() -> None:
    texts = texts_of(
        {
            "nodes": ["box", "rack[1]:9800"],
            "ip_addr": "127.0.0.1",
            "cpus": 2,
            "debug": True,
            "dest_path": Path("/d"),
        }
        | {"name": None, "min_pulse_interval": 0.5}
    )
    base = PrivateSettings(name="n", cpus=1)
    assert private_settings(base, texts) == PrivateSettings(
        node=(HostPort("box"), HostPort("rack[1]", 9800)),
        ip_addr=("127.0.0.1",),
        cpus=2,
        debug=True,
        dest_path=Path("/d"),
        name="n",
        min_pulse_interval=0.5,
    )


def test_every_status_is_a_name_of_scheduler() -> None:
    names = [
        "NodeDiscovered",
        "NodeInitialized",
        "NodeSuspended",
        "NodeResumed",
        "NodeClosed",
        "NodeDisconnected",
        "NodeAbandoned",
        "ServerDiscovered",
        "ServerInitialized",
        "ServerSuspended",
        "ServerResumed",
        "ServerClosed",
        "ServerDisconnected",
        "ServerAbandoned",
        "TaskCreated",
        "TaskStarted",
        "TaskAbandoned",
        "TaskTerminated",
        "ClientScheduled",
        "ClientClosed",
    ]
    assert {name: getattr(Scheduler, name) for name in names} == dict(Status.__members__)
    assert set(names) <= set(dir(Scheduler))
    assert Scheduler.TaskStarted == Scheduler.TaskCreated == 21


def test_a_private_scheduler_takes_the_names_of_older_scripts() -> None:
    assert texts_of({"node": "127.0.0.1"}) == texts_of({"ip_addr": "127.0.0.1"}) == {"ip_addr": ["127.0.0.1"]}


def test_a_private_scheduler_takes_a_zombie_period() -> None:
    assert private_settings(PrivateSettings(), texts_of({"zombie_period": 60})).zombie_period == 60.0
    with pytest.raises(ValueError, match="zombie_period: '-1' is not a number of seconds"):
        private_settings(PrivateSettings(), texts_of({"zombie_period": -1}))
