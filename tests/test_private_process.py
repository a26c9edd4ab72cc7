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
from dispycos.errors import ScheduleError

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
        assert await process.next_line() == {"nodes": ["n"]}
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
        Scheduler(name="t")  # one is waiting already
        process = Scheduler.take()
        assert process is not None and Scheduler.take() is None
        assert await process.next_line() == {"name": "s", "always": True}
        await process.close()

    play(scene)
