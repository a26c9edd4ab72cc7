"""Real short-lived processes: each end is told at once and once, of those who live nothing is told, and nothing stays open."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator

import pytest

from dispycos.transport import witness
from dispycos.transport.witness import Witness

pytestmark = pytest.mark.timeout(30)
needs_pidfd = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="this platform has no pidfd")

Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts processes that sleep; what is left of them is ended and reaped."""
    started: list[subprocess.Popen[bytes]] = []

    def one(seconds: float = 60.0) -> subprocess.Popen[bytes]:
        code = f"import time; time.sleep({seconds})"
        started.append(subprocess.Popen([sys.executable, "-IS", "-c", code]))
        return started[-1]

    yield one
    for process in started:
        process.kill()
        process.wait()


class Told:
    """A witness, and the ends that it told."""

    def __init__(self) -> None:
        self.witness = Witness(asyncio.get_running_loop())
        self.ends: list[str] = []

    def watch(self, epoch: int, pid: int, name: str = "") -> None:
        self.witness.watch(epoch, pid, lambda: self.ends.append(name or str(epoch)))

    async def until(self, *ends: str) -> None:
        async with asyncio.timeout(10):
            while len(self.ends) < len(ends):
                await asyncio.sleep(0.002)
        await a_while()
        assert sorted(self.ends) == sorted(ends)


async def a_while() -> None:
    for _ in range(5):
        await asyncio.sleep(0.004)


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def play(scene: Callable[[Told], Awaitable[None]]) -> None:
    """Runs the scene; what it opened is closed with the witness."""

    async def main() -> None:
        told = Told()
        before = open_files()
        await scene(told)
        told.witness.close()
        assert open_files() == before

    asyncio.run(main())


# --- ends ---


@needs_pidfd
@pytest.mark.parametrize("way", ["SIGKILL", "SIGTERM", "by itself"])
def test_the_end_of_a_process_is_told_once_however_it_came(way: str, start: Start) -> None:
    async def scene(told: Told) -> None:
        process = start(0.3 if way == "by itself" else 60)
        told.watch(1, process.pid)
        await a_while()
        assert told.ends == []
        if way != "by itself":
            process.send_signal(signal.Signals[way])
        await told.until("1")

    play(scene)


@needs_pidfd
def test_one_that_had_ended_before_is_told_too_reaped_or_not(start: Start) -> None:
    async def scene(told: Told) -> None:
        buried, zombie = start(), start()
        for process in (buried, zombie):
            process.kill()
        buried.wait()
        os.waitid(os.P_PID, zombie.pid, os.WEXITED | os.WNOWAIT)
        told.watch(1, buried.pid)
        told.watch(2, zombie.pid)
        assert told.ends == [], "never inside the call"
        await told.until("1", "2")

    play(scene)


@needs_pidfd
def test_each_runtime_of_a_process_is_told_and_no_other(start: Start) -> None:
    async def scene(told: Told) -> None:
        dies, lives = start(), start()
        told.watch(1, dies.pid)
        told.watch(2, lives.pid)
        told.watch(3, dies.pid)
        dies.kill()
        await told.until("1", "3")

    play(scene)


# --- what is not told ---


@needs_pidfd
def test_one_that_was_forgotten_is_not_told(start: Start) -> None:
    async def scene(told: Told) -> None:
        process, other = start(), start()
        told.watch(1, process.pid)
        told.watch(2, other.pid)
        for _ in range(2):
            told.witness.forget(1)
        process.kill()
        process.wait()
        other.kill()
        await told.until("2")

    play(scene)


@needs_pidfd
def test_what_is_said_of_a_runtime_anew_replaces_what_was_said(start: Start) -> None:
    """It has another link now."""

    async def scene(told: Told) -> None:
        process = start()
        told.watch(1, process.pid, "old link")
        files = open_files()
        told.watch(1, process.pid, "new link")
        assert open_files() == files
        process.kill()
        await told.until("new link")

    play(scene)


def test_nobody_watches_itself_or_whom_it_cannot_see() -> None:
    async def scene(told: Told) -> None:
        files = open_files()
        for pid in (os.getpid(), 0, -1):
            told.watch(1, pid)
        assert open_files() == files
        await told.until()

    play(scene)


def test_after_the_close_nothing_is_opened_or_told(start: Start) -> None:
    async def scene(told: Told) -> None:
        process = start()
        told.watch(1, process.pid)
        told.witness.close()
        files = open_files()
        told.watch(2, process.pid)
        assert open_files() == files
        process.kill()
        process.wait()
        await told.until()

    play(scene)


@needs_pidfd
def test_the_number_of_descriptors_is_bounded(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(witness, "WATCHED_MAX", 2)

    async def scene(told: Told) -> None:
        process = start()
        for epoch in (1, 2, 3):
            told.watch(epoch, process.pid)
        told.watch(2, process.pid)
        process.kill()
        await told.until("1", "2")

    play(scene)


# --- where there is no such descriptor ---


def test_without_pidfds_nothing_is_told(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "pidfd_open", raising=False)

    async def scene(told: Told) -> None:
        process = start()
        told.watch(1, process.pid)
        process.kill()
        process.wait()
        await told.until()

    play(scene)


@pytest.mark.parametrize("error", [errno.ENOSYS, errno.EPERM, errno.EMFILE])
def test_a_kernel_that_gives_none_is_no_error(error: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(pid: int, flags: int = 0) -> int:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(os, "pidfd_open", refuse, raising=False)

    async def scene(told: Told) -> None:
        told.watch(1, os.getppid())
        await told.until()

    play(scene)
