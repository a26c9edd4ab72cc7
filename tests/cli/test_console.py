"""The console of node and scheduler: who reads the terminal, and when; and that a background job is not stopped by it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pty
import signal
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from dispycos.cli.console import read_console, wants_console
from tests.kit.programs import User, wait_until

pytestmark = pytest.mark.timeout(60)


def play(scene: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(scene())  # type: ignore[arg-type]


def test_commands_of_the_console_are_answered(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    reader, writer = os.pipe()
    heard: list[str] = []

    def command(line: str) -> str | None:
        heard.append(line)
        return f"answer to {line}" if line != "quit" else None

    async def scene() -> None:
        with os.fdopen(reader) as lines:
            monkeypatch.setattr(sys, "stdin", lines)
            read_console(command, lambda: "quit" in heard)
            (thread,) = [one for one in threading.enumerate() if one.name == "dispycos-console"]
            for part in (b"sta", b"tus \nQUIT\n"):
                os.write(writer, part)
                await asyncio.sleep(0.05)
            async with asyncio.timeout(5):
                # At its end the terminal is left alone.
                while len(heard) < 2 or any(t.name == "dispycos-console" for t in threading.enumerate()):
                    await asyncio.sleep(0.01)
            os.write(writer, b"ls\n")
            await asyncio.to_thread(thread.join, 5)
            assert os.read(reader, 100) == b"ls\n", "what is typed at the end is the shell's"
            os.close(writer)

    play(scene)
    assert heard == ["status", "quit"]
    assert capsys.readouterr().out == "answer to status\n"


def test_a_console_is_wanted_at_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal:
        closed = False

        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdin", Terminal())
    assert wants_console(daemon=False)
    assert not wants_console(daemon=True)
    monkeypatch.setattr(sys, "stdin", None)
    assert not wants_console(daemon=False)
    with open(os.devnull) as nothing:
        monkeypatch.setattr(sys, "stdin", nothing)
        assert not wants_console(daemon=False)


# --- at a shell with job control ---


class Shell:
    """bash at a terminal of its own, as somebody types there."""

    def __init__(self, user: User) -> None:
        variables = {**user.environment(), "PS1": "ready> ", "HISTFILE": "", "TERM": "dumb"}
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            os.chdir(user.folder)
            os.execvpe("bash", ["bash", "--norc", "--noprofile", "-i"], variables)
        self.heard = ""
        os.set_blocking(self.terminal, False)

    def type(self, line: str) -> None:
        os.write(self.terminal, f"{line}\n".encode())

    def hears(self, text: str, since: int = 0) -> bool:
        with contextlib.suppress(BlockingIOError):
            self.heard += os.read(self.terminal, 65536).decode(errors="replace")
        return text in self.heard[since:]

    def ask(self, line: str) -> str:
        """What a command prints."""
        start = len(self.heard)
        self.type(f"{line}; echo that was $((6 * 7))")
        wait_until(lambda: self.hears("that was 42", start), 10, f"an answer to {line}")
        return self.heard[start:]


@contextmanager
def shell_of(user: User) -> Iterator[Shell]:
    shell = Shell(user)
    try:
        yield shell
    finally:
        os.close(shell.terminal)  # it hears SIGHUP, and passes it on to its jobs
        try:
            wait_until(lambda: os.waitpid(shell.pid, os.WNOHANG)[0], 5, "the shell ends")
        except AssertionError:
            os.kill(shell.pid, signal.SIGKILL)
            os.waitpid(shell.pid, 0)
            raise


@pytest.mark.parametrize("role", ["node", "scheduler"])
@pytest.mark.parametrize("tostop", ["-tostop", "tostop"])
def test_a_background_job_runs_on_and_fg_brings_its_console(user: User, role: str, tostop: str) -> None:
    with shell_of(user) as shell:
        shell.type(f"stty {tostop}")
        shell.type(f"{sys.executable} -m dispycos {role} &")
        wait_until(lambda: shell.hears(" port "), 15, f"it starts: {shell.heard}")
        time.sleep(0.5)  # a job that reads the terminal is stopped in this time
        jobs = shell.ask("jobs")
        assert "Running" in jobs and "Stopped" not in jobs, jobs
        start = len(shell.heard)
        shell.type("fg")  # which repeats the command
        wait_until(lambda: shell.hears(f"-m dispycos {role}", start), 10, f"it is brought: {shell.heard}")
        shell.type("status")
        answer = "clients served" if role == "node" else "clients: 0"
        wait_until(lambda: shell.hears(answer), 10, f"it answers: {shell.heard}")
        start = len(shell.heard)
        shell.type("quit")
        wait_until(lambda: shell.hears("ready> ", start), 10, f"it ends: {shell.heard}")
        assert "has ended" in shell.heard[start:]
        assert "Running" not in shell.ask("jobs")


@pytest.mark.parametrize("role", ["node", "scheduler"])
def test_with_daemon_what_is_typed_is_left_for_the_shell(user: User, role: str) -> None:
    with shell_of(user) as shell:
        shell.type(f"{sys.executable} -m dispycos {role} --daemon")
        wait_until(lambda: shell.hears(" port "), 15, f"it starts: {shell.heard}")
        shell.type("echo left for $((6 * 7))")
        time.sleep(0.5)  # a console would read it in this time
        (command,) = [p for p in psutil.Process(shell.pid).children() if "--daemon" in p.cmdline()]
        command.terminate()
        wait_until(lambda: shell.hears("left for 42"), 10, f"the shell has the line: {shell.heard}")
        assert "has ended" in shell.heard


def test_nohup_outlives_the_terminal(user: User) -> None:
    with shell_of(user) as shell:
        shell.type(f"nohup {sys.executable} -m dispycos node --name n >said 2>&1 &")
        said: Path = user.folder / "said"
        wait_until(lambda: said.exists() and " port " in said.read_text(), 15, "it starts")
    time.sleep(0.5)
    assert "has ended" not in said.read_text()
    processes = user.processes()
    assert processes
    next(process for process in processes if process.ppid() not in {p.pid for p in processes}).terminate()
    wait_until(lambda: not user.processes(), 5, "it ends when it is told")


@pytest.mark.parametrize("how", ["<&-", "</dev/null", "<&- >said 2>&1", "| cat"])
def test_without_a_terminal_to_read_a_node_serves(user: User, how: str) -> None:
    with shell_of(user) as shell:
        shell.type(f"{sys.executable} -m dispycos node --name n -c 1 {how} &")
        registry = user.folder / "run" / "dispycos" / "registry"
        wait_until(lambda: not shell.hears("no such text") and list(registry.glob("*.json")), 15, "it starts")
        script = user.script("works.py", "import dispycos\n" + WORKS)
        assert script.succeed() == "7\n"
    wait_until(lambda: not user.processes(), 5, "it ends with its terminal")


WORKS = """
async def main():
    async with dispycos.Client() as client:
        print(await client.submit(abs, -7))

dispycos.run(main)
"""
