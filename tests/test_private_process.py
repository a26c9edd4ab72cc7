"""The private scheduler's process as its client has it: its lines, its end, and what is said when it fails."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from dispycos.brokers import local
from dispycos.brokers.local import PrivateProcess, Scheduler
from dispycos.config import HostPort, PrivateSettings
from dispycos.errors import ScheduleError
from dispycos.private_options import private_settings, texts_of

pytestmark = pytest.mark.timeout(30)


@pytest.fixture
def child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], PrivateProcess]:
    """A child process that runs this text instead of the command."""

    def start(text: str) -> PrivateProcess:
        python = tmp_path / "python"
        (tmp_path / "child.py").write_text(text)
        python.write_text(f"#!/bin/sh\nexec {sys.executable} {tmp_path / 'child.py'}\n")
        python.chmod(0o755)
        monkeypatch.setattr(local.sys, "executable", str(python))
        return PrivateProcess({"nodes": ["n"]})

    return start


def play(scene: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(scene())  # type: ignore[arg-type]


ECHO = "import sys\nprint(sys.stdin.readline(), flush=True)\nsys.stdin.read()\n"


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
        first = Scheduler._waiting
        Scheduler(name="s")
        assert first is not None and Scheduler._waiting is first, "one is waiting already"
        Scheduler(name="t")  # what was said last counts
        assert await first.wait() == 0
        await first.close()
        process = Scheduler.take()
        assert process is not None and Scheduler.take() is None
        assert await process.next_line() == {"name": ["t"], "always": True, "id": process.id}
        await process.close()

    play(scene)


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"no_such_thing": 1}, TypeError, r"no option no_such_thing; there are nodes, ip_addr.*cpus"),
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
    options: dict[str, object], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        Scheduler(**options)
    assert Scheduler.take() is None


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
