"""Starts programs as a person at a terminal would, in a home of their own on loopback, and ends them all by pid.

    with User() as user:
        node = user.node("a", cpus=2)                 # waits until it says its port
        script = user.script("s.py", text)
        script.wait_line("ready")
        script.interrupt()
        assert script.wait(2) == 130

At the end of the block everything that still runs is ended, and a process that a program left behind is an error.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from textwrap import dedent
from types import TracebackType
from typing import IO, NamedTuple

import psutil

ROOT = Path(__file__).parents[2]
LINE_S = 15.0  # a line that is waited for comes within this, on a busy machine too
LEFT_S = 2.0  # a process that outlives its program by this is left behind
FOREIGN = "has another secret"  # loopback is shared: said of a stranger's processes, beside any test


class Line(NamedTuple):
    at: float  # by time.monotonic()
    stream: str  # "out" or "err"
    text: str


def wait_until(condition: Callable[[], object], timeout: float, what: str, pause: float = 0.01) -> float:
    """Returns how many seconds it took; fails naming `what`. `pause`: seconds from one look to the next."""
    start = time.monotonic()
    while not condition():
        if time.monotonic() - start > timeout:
            raise AssertionError(f"not within {timeout:g} s: {what}")
        time.sleep(pause)
    return time.monotonic() - start


def is_running(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    return False


class Program:
    """One running program: its lines as they come, and its end."""

    def __init__(
        self, command: Sequence[str], cwd: Path, env: Mapping[str, str], stdin: Path | int | None = None
    ) -> None:
        self.command = list(command)
        self.started = time.monotonic()
        self.lines: list[Line] = []
        self._changed = threading.Condition()
        with open(stdin if stdin is not None else os.devnull, closefd=not isinstance(stdin, int)) as typed:
            self._process = subprocess.Popen(
                self.command,
                cwd=cwd,
                env=dict(env),
                stdin=typed,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                start_new_session=True,  # a terminal of its own: Ctrl-C reaches its foreground group
            )
        self._readers = [self._read("out", self._process.stdout), self._read("err", self._process.stderr)]

    def _read(self, stream: str, pipe: IO[str] | None) -> threading.Thread:
        assert pipe is not None

        def read() -> None:
            with pipe:
                for text in pipe:
                    with self._changed:
                        self.lines.append(Line(time.monotonic(), stream, text.rstrip("\n")))
                        self._changed.notify_all()
            with self._changed:
                self._changed.notify_all()

        thread = threading.Thread(target=read, daemon=True)
        thread.start()
        return thread

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def out(self) -> str:
        """Standard output so far."""
        return "".join(f"{line.text}\n" for line in self.lines if line.stream == "out")

    @property
    def err(self) -> str:
        """Standard error so far, without what is said of strangers' processes on this machine."""
        return "".join(
            f"{line.text}\n" for line in self.lines if line.stream == "err" and FOREIGN not in line.text
        )

    def is_alive(self) -> bool:
        return self._process.poll() is None

    def wait_line(self, pattern: str, timeout: float = LINE_S) -> Line:
        """The first line, of either stream, in which the regular expression occurs."""
        until = time.monotonic() + timeout
        seen = 0
        with self._changed:
            while True:
                for line in self.lines[seen:]:
                    is_strangers = FOREIGN in line.text and "secret" not in pattern
                    if not is_strangers and re.search(pattern, line.text):
                        return line
                seen = len(self.lines)
                ended = not any(reader.is_alive() for reader in self._readers)
                if ended or time.monotonic() > until:
                    how = f"it ended with {self._process.poll()}" if ended else f"{timeout:g} s passed"
                    raise AssertionError(f"no line with {pattern!r}, {how}; {self.told()}")
                self._changed.wait(0.05)

    def wait(self, timeout: float = LINE_S) -> int:
        """Its exit code, when it has ended and all its output is here."""
        try:
            code = self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {timeout:g} s; {self.told()}") from None
        for reader in self._readers:
            reader.join(5)
        return code

    def succeed(self, timeout: float = LINE_S) -> str:
        """Standard output of a program that ends with exit code 0."""
        code = self.wait(timeout)
        assert code == 0, f"exit code {code}; {self.told()}"
        return self.out

    def interrupt(self) -> None:
        """Ctrl-C in its terminal."""
        os.killpg(self.pid, signal.SIGINT)

    def kill(self) -> None:
        """kill -9; its parent takes notice, as a shell does."""
        self._process.kill()
        self._process.wait()

    def family(self) -> list[psutil.Process]:
        """It and the processes that it started."""
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(self.pid)
            return [process, *process.children(recursive=True)]
        return []

    def told(self) -> str:
        lines = "\n".join(f"  {line.at - self.started:6.2f} {line.stream} {line.text}" for line in self.lines)
        return f"{' '.join(self.command[1:])} said:\n{lines or '  nothing'}"

    def end(self) -> None:
        """As Ctrl-C, then by force."""
        if self.is_alive():
            with contextlib.suppress(ProcessLookupError):
                self.interrupt()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(8)
        if self.is_alive():
            self.kill()
        self._process.wait()


class User:
    """A person with a home of their own on this machine; what they start is ended with the block."""

    def __init__(self, *, home: Path | None = None, **variables: str) -> None:
        self._made = home is None
        # Not pytest's tmp_path: the path of an ipc socket has 107 bytes.
        self.folder = home if home is not None else Path(tempfile.mkdtemp(prefix="dc-"))
        self.variables = variables
        self.programs: list[Program] = []
        self.nodes: list[Program] = []

    def __enter__(self) -> User:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for program in reversed(self.programs):
            program.end()
        left = self._end_what_is_left()
        if self._made:
            shutil.rmtree(self.folder, ignore_errors=True)
        if left and error is None:
            raise AssertionError(f"left behind: {left}")

    def _end_what_is_left(self) -> list[str]:
        with contextlib.suppress(AssertionError):
            wait_until(lambda: not self.processes(), LEFT_S, "processes end with their program")
        left = self.processes()
        said = [f"{process.pid} {process.cmdline()[1:5]}" for process in left if is_running(process)]
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        return said

    # --- what they have ---

    def environment(self) -> dict[str, str]:
        run = self.folder / "run"
        run.mkdir(mode=0o700, exist_ok=True)
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("DISPYCOS_", "XDG_", "PYTEST"))}
        folder = str(self.folder)
        return {
            **kept,
            "HOME": folder,
            "TMPDIR": folder,
            "XDG_RUNTIME_DIR": str(run),
            "DISPYCOS_IP_ADDR": "127.0.0.1",
            **self.variables,
        }

    def processes(self) -> list[psutil.Process]:
        """All that run with this home, whoever is their parent now."""
        folder = str(self.folder)
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied, ProcessLookupError):
                if process.environ().get("HOME") == folder and is_running(process):
                    found.append(process)
        return found

    def write(self, files: Mapping[str, str]) -> None:
        for name, text in files.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(dedent(text))

    @property
    def secret_file(self) -> Path:
        return self.folder / ".config" / "dispycos" / "secret"

    # --- what they type ---

    def python(
        self, *arguments: str, folder: str = "", stdin: str | int | None = None, **variables: str
    ) -> Program:
        """`python ARGUMENTS` in a folder of their home, from a file or a descriptor as standard input."""
        program = Program(
            [sys.executable, *arguments],
            self.folder / folder,
            {**self.environment(), **variables},
            self.folder / stdin if isinstance(stdin, str) else stdin,
        )
        self.programs.append(program)
        return program

    def script(self, name: str, text: str | None = None, *arguments: str, **variables: str) -> Program:
        """`python NAME ARGUMENTS`; the file is written first if its text is given."""
        if text is not None:
            self.write({name: text})
        return self.python(name, *arguments, **variables)

    def shell(self, line: str) -> Program:
        """What they type at a shell."""
        program = Program(["/bin/sh", "-c", line], self.folder, self.environment())
        self.programs.append(program)
        return program

    def command(self, *arguments: str, stdin: int | None = None, **variables: str) -> Program:
        """`dispycos ARGUMENTS`."""
        return self.python("-m", "dispycos", *arguments, stdin=stdin, **variables)

    def node(self, name: str, *options: str, cpus: int = 2, port: int = 0) -> Program:
        """`dispycos node` on a free port, waited for until it says so."""
        node = self.command(
            "node", "--name", name, "--cpus", str(cpus), "--tcp_ports", str(port), "--daemon", *options
        )
        node.wait_line(rf"node {re.escape(name)}: ")
        return node

    def scheduler(self, *options: str, port: int = 0) -> Program:
        """`dispycos scheduler` on a free port, waited for until it says so."""
        scheduler = self.command("scheduler", "--tcp_port", str(port), "--daemon", *options)
        scheduler.wait_line(r"scheduler \S+: port ")
        return scheduler


def port_of(program: Program) -> int:
    """The port that a node or scheduler said at its start."""
    found = re.search(r"port (\d+)", program.wait_line(r"port \d+").text)
    assert found is not None
    return int(found[1])


def free_port() -> int:
    """For who has to know it before the start. The next one is free, too, and the kernel gives neither to who connects."""
    while True:
        port = 10_000 + secrets.randbelow(20_000)  # whatever a test has seeded
        with contextlib.suppress(OSError), socket.socket() as one, socket.socket() as next_one:
            one.bind(("127.0.0.1", port))
            next_one.bind(("127.0.0.1", port + 1))
            return port
