"""What of dispy runs at a node: a job, with its output caught and the names that it finds; setup and cleanup."""

from __future__ import annotations

import builtins
import inspect
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from importlib import import_module
from io import StringIO
from pathlib import Path, PurePath
from typing import Any, NamedTuple

from dispycos.errors import MailboxFull

from ...tasks.current import current_cell
from ...tasks.ends import without_our_frames

PIECE = 256 * 1024  # bytes of a file that go in one message
# modules that dispy's nodes have imported: scripts use them in jobs without an import of their own
IMPORTED = (
    *(
        "copy",
        "errno",
        "glob",
        "hashlib",
        "io",
        "marshal",
        "multiprocessing",
        "os",
        "pickle",
        "platform",
        "re",
        "shutil",
    ),
    *(
        "signal",
        "socket",
        "stat",
        "struct",
        "subprocess",
        "sys",
        "tempfile",
        "threading",
        "time",
        "traceback",
    ),
)
PAUSE_S = 0.02  # before another try, when the client has not taken what was sent


OF_REPORT = "argument 1 of Report()"  # as a place in what cannot be pickled, which tells users nothing


class Report(NamedTuple):
    """How a job ended; its value is pickled with it."""

    result: Any
    stdout: Any  # text; bytes of a program
    stderr: Any
    exception: str | None
    seconds: float
    sent: int  # messages, which come before this or after it


class Running:
    """The job that this server runs: what it says to its client while it runs."""

    def __init__(self, number: int, inbox: Any) -> None:
        self._number, self._inbox = number, inbox
        self.sent = 0

    def send(self, *message: Any, timeout: float) -> None:
        """Raises MailboxFull: the client has not taken it within so many seconds."""
        until = time.monotonic() + timeout
        while True:
            try:
                self._inbox.send((self._number, *message))
                self.sent += 1
                return
            except MailboxFull:
                if time.monotonic() > until:
                    raise
                time.sleep(PAUSE_S)

    def provisional_result(self, result: Any, relay: bool = False, timeout: float = 10) -> int:
        """``dispy_provisional_result``: the client's job has this result meanwhile. 0; -1 if it could not be sent."""
        return self._said(lambda: self.send("result", result, timeout=timeout))

    def send_file(self, path: Any, relay: bool = False, timeout: float = 10) -> int:
        """``dispy_send_file``: put it below the client's folder. 0; -1 if there is no such file, or it could not be sent."""
        return self._said(lambda: self._send_file(str(path), timeout))

    def _send_file(self, path: str, timeout: float) -> None:
        name = path_at_client(path)
        with open(path, "rb") as file:
            start = 0
            while True:
                piece = file.read(PIECE)
                self.send("file", name, start, piece, timeout=timeout)
                start += len(piece)
                if len(piece) < PIECE:
                    return

    @staticmethod
    def _said(send: Callable[[], None]) -> int:
        try:
            send()
            return 0
        except Exception as error:  # an unpicklable result raises anything
            print(f"not sent: {type(error).__name__}: {error}", file=sys.stderr)
            return -1


def path_at_client(path: str) -> str:
    """A relative one is kept; of one that leads out of the folder, its last part."""
    parts = PurePath(os.path.normpath(path)).parts
    return PurePath(path).name if os.path.isabs(path) or ".." in parts else "/".join(parts)


def run_job(
    function: Callable[..., Any],
    number: int,
    inbox: Any,
    files: dict[str, bytes],
    code: list[Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Report:
    """As a task, on a server, with `code` among its globals. What it raises is text; KeyboardInterrupt ends the task."""
    running = Running(number, inbox)
    with _in_jobs_folder() as folder:
        _write(files, folder)
        _offer_names(running, folder)
        vars(sys.modules["__main__"]).update({one.__name__: one for one in code})
        out, err = StringIO(), StringIO()
        result = trouble = None
        began = time.monotonic()
        with redirect_stdout(out), redirect_stderr(err):
            try:
                result = function(*args, **kwargs)
            except (Exception, SystemExit) as error:
                trouble = "".join(traceback.format_exception(without_our_frames(error)))
        return Report(result, out.getvalue(), err.getvalue(), trouble, time.monotonic() - began, running.sent)


def run_program(
    name: str,
    number: int,
    inbox: Any,
    files: dict[str, bytes],
    code: list[Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Report:
    """A program instead of a function: its result is its exit code."""
    with _in_jobs_folder() as folder:
        _write(files, folder)
        path = folder / name
        if not path.is_file():
            path = Path(name)  # of the node
        elif not os.access(path, os.X_OK):
            path.chmod(0o700)
        command = [sys.executable, str(path)] if name.endswith(".py") else [str(path)]
        began = time.monotonic()
        done = subprocess.run([*command, *args], capture_output=True, stdin=subprocess.DEVNULL)
        return Report(done.returncode, done.stdout, done.stderr, None, time.monotonic() - began, 0)


def run_setup(setup: Callable[..., Any] | None, files: dict[str, bytes], args: tuple[Any, ...]) -> Any:
    """As node_setup. dispy's 1 and 2 say how its jobs are to be forked; ours all come from the process that was set up."""
    _write(files, Path())
    _offer_modules()
    value = setup(*args) if setup is not None else 0
    return 0 if value in (None, 0, 1, 2) else value


def run_cleanup(cleanup: Callable[..., Any], *args: Any) -> None:
    """When the cluster is given back, once a node; with setup's arguments, if it takes any."""
    with _in_jobs_folder():
        cleanup(*args if args and _takes(cleanup, args) else ())


def _takes(function: Callable[..., Any], args: tuple[Any, ...]) -> bool:
    try:
        inspect.signature(function).bind(*args)
    except (TypeError, ValueError):
        return False
    return True


@contextmanager
def _in_jobs_folder() -> Iterator[Path]:
    """A node's folder, which its jobs share: the one above that of the server."""
    own = Path.cwd()
    os.chdir(own.parent)
    try:
        yield own.parent
    finally:
        os.chdir(own)


def _write(files: dict[str, bytes], folder: Path) -> None:
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def _offer_names(running: Running, folder: Path) -> None:
    """Jobs find these without an import."""
    cell = current_cell()
    place = cell.host.place if cell is not None else None
    node = cell.host.runtime.name.rpartition("/")[0] if cell is not None else ""  # of a server NODE/server-1
    names: dict[str, Any] = {
        "dispy_provisional_result": running.provisional_result,
        "dispy_send_file": running.send_file,
        "dispy_job_path": str(folder),
        "dispy_node_name": node or os.uname().nodename,
        "dispy_node_ip_addr": place.addr if place is not None else "",
    }
    vars(builtins).update(names)


def _offer_modules() -> None:
    """In jobs, setup and cleanup. What a script has of these names comes first."""
    vars(builtins).update({name: import_module(name) for name in IMPORTED})
