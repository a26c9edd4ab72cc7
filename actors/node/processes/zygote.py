"""The forking side of a node: the template, the zygotes forked from it, the first steps of every server.

    agent ┬─ template       imports done, forks zygotes, does nothing else
          └─ zygote         one a lease: forks, reaps and ends the lease's servers
               ├─ server    a session and process group of its own; fd 1 and 2 are pipes to the agent
               └─ server

* Template and zygote are single-threaded and have no network: a fork copies one thread only, so a lock
  that another thread holds stays locked in the child for ever.
* A zygote is forked twice, so that it becomes the agent's own child (the agent is a child subreaper). It
  outlives the template, and the agent reaps it.
* A zygote is a subreaper too: whatever its servers leave behind becomes its child, daemons included. When
  the kernel says that it has no child left, nothing of the lease is left.
* Who ends with whom: the template with the agent, and a server with its zygote, at once (PDEATHSIG). A
  zygote sees that its line is closed, and first ends all that its lease started.
* Where tasks run as another user (user.py) the zygote becomes that user, before anything of a task is there.
"""

from __future__ import annotations

import ctypes
import errno
import faulthandler
import gc
import importlib
import os
import select
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NoReturn

import psutil

from ...tasks.page import PageReader
from ...tasks.stdio import flush_stdio, renew_stdio
from ...tasks.step import Step
from ..resources import ONE_THREAD
from .lines import ZygoteLine, close_all, read_memory
from .user import TaskUser, be_real_user
from .words import (
    CodeAnswered,
    CodeAsked,
    EndStep,
    ForkFailed,
    ForkServer,
    KillServer,
    Prepare,
    PrepareDone,
    ServerEnded,
    ServerForked,
    ToZygote,
    ZygoteBorn,
    ZygoteFailed,
)

PATH_MAX = 4096
FOR_US, FOR_AGENT_TOO = 0o700, 0o750  # modes of folders
END_PATIENCE_S = 1.0
# A process that is in the kernel for longer runs no more code of its own before it stops.
STOP_PATIENCE_S = 0.05


# --- means that only Linux has --------------------------------------------------------------------------

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER, _PR_SET_NO_NEW_PRIVS = 1, 36, 38


def _prctl(option: int, argument: int) -> bool:
    if sys.platform != "linux":
        return False
    function = ctypes.CDLL(None).prctl
    return bool(function(option, ctypes.c_ulong(argument), 0, 0, 0) == 0)


def adopt_orphans() -> None:
    """Become the parent of all descendants whose own parent ends."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def end_with(parent: int) -> None:
    """Be killed when `parent` ends, and now when it already has."""
    if _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL) and os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def peek_ended_child() -> int | None:
    """A child that has ended, not reaped yet: its group can be ended while the id is surely its own."""
    if not hasattr(os, "waitid"):  # a server's group is then ended by nobody but the server
        return None
    found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    return found.si_pid if found else None


# --- small means ----------------------------------------------------------------------------------------


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def kill_children(keep: Collection[int] = (), kill: Callable[[int], None] = kill) -> list[int]:
    """SIGKILL to all children of this process that it has neither in its own session nor in `keep`: what somebody left behind."""
    found, session = [], os.getsid(0)
    for child in psutil.Process().children():
        with suppress(ProcessLookupError):
            if child.pid not in keep and os.getsid(child.pid) != session:
                found.append(child.pid)
                with suppress(PermissionError):  # it runs as another user now
                    kill(child.pid)  # a child that is not reaped, so never a stranger
    return found


def end_group(pid: int) -> None:
    """Kill the group of a child that is not reaped yet: neither id can be a stranger's."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        os.kill(pid, signal.SIGKILL)  # just forked: it has not made its group


def end_step(pid: int, page: PageReader, step: Step) -> bool:
    """Kill this child of ours if the very step still runs, which it was not told to leave; whether it was."""
    os.kill(pid, signal.SIGSTOP)
    give_up = time.monotonic() + STOP_PATIENCE_S
    while not _is_stopped(pid) and time.monotonic() < give_up:
        time.sleep(0.0002)
    if page.step() != step:
        os.kill(pid, signal.SIGCONT)
        return False
    end_group(pid)
    return True


def _is_stopped(pid: int) -> bool:
    """Or ended; a child that is not reaped."""
    if not hasattr(os, "waitid"):
        return False
    return os.waitid(os.P_PID, pid, os.WSTOPPED | os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def close_inherited(keep: int) -> None:
    """Close all descriptors but 0, 1, 2 and `keep`."""
    for descriptor in [int(name) for name in os.listdir("/dev/fd")]:
        if descriptor > 2 and descriptor != keep:
            with suppress(OSError):  # the one that listed the folder is closed already
                os.close(descriptor)


def fork_quietly() -> int:
    """Fork with signals held back and buffers empty; the child lets them in when it has its handlers."""
    flush_stdio()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        pid = os.fork()
    except OSError:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        raise
    if pid:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return pid


def leave_session() -> None:
    """Out of the terminal's reach, deaf to Ctrl-C, without the handlers of the process that forked us."""
    with suppress(PermissionError):  # spawned as the leader of a session already
        os.setsid()
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals():
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def make_folder(path: str, mode: int) -> None:
    """A folder of our own."""
    try:
        os.mkdir(path, mode)
    except FileExistsError:
        found = os.lstat(path)
        if not os.path.isdir(path) or os.path.islink(path) or found.st_uid != os.geteuid():
            raise PermissionError(errno.EPERM, "there is something else of that name", path) from None
        os.chmod(path, mode)


def run_to_exit(body: Callable[..., int | None], *arguments: Any) -> NoReturn:
    """The outermost frame of every forked process: nothing ever returns into the code of the forking one."""
    code = 1
    try:
        code = (body(*arguments) or 0) & 0xFF
    except SystemExit as asked:
        if asked.code is None or isinstance(asked.code, int):
            code = (asked.code or 0) & 0xFF
        else:  # as the interpreter does
            print(asked.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    finally:
        flush_stdio()
        os._exit(code)


# --- the template ---------------------------------------------------------------------------------------


def become_template(
    end: socket.socket, agent: int, modules: tuple[str, ...], user: TaskUser | None
) -> NoReturn:
    """Called once in a forked child or a new interpreter. `user`: whom tasks run as, if not as the agent."""
    run_to_exit(_serve_template, end, agent, modules, user)


def _serve_template(end: socket.socket, agent: int, modules: tuple[str, ...], user: TaskUser | None) -> None:
    leave_session()
    be_real_user()  # in a new interpreter we are not yet; it clears the death signal
    end_with(agent)
    close_inherited(end.fileno())
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    renew_stdio()
    end.setblocking(True)
    gc.disable()  # a collection here would unshare the pages of all that was imported
    for module in modules:
        importlib.import_module(module)
    gc.freeze()
    while True:
        folder, descriptors, _, _ = socket.recv_fds(end, PATH_MAX, 1)
        if not folder:
            return
        with socket.socket(fileno=descriptors[0]) as zygote_end:
            _fork_zygote(os.fsdecode(folder), zygote_end, end, user)


def _fork_zygote(folder: str, end: socket.socket, template_end: socket.socket, user: TaskUser | None) -> None:
    """Fork twice, so that the agent adopts the zygote."""
    template, line = os.getpid(), ZygoteLine(end)
    try:
        between = fork_quietly()
        if between == 0:
            if os.fork() == 0:
                template_end.close()
                run_to_exit(_serve_zygote, folder, line, user)
            os._exit(0)
    except OSError as error:
        line.send(ZygoteFailed(f"fork: {error.strerror}"))
        if os.getpid() != template:
            os._exit(1)
    else:
        os.waitpid(between, 0)


# --- the zygote -----------------------------------------------------------------------------------------


def _serve_zygote(folder: str, line: ZygoteLine, user: TaskUser | None) -> int:
    leave_session()
    if user is not None:
        try:
            user.become()
        except OSError as error:
            line.send(ZygoteFailed(f"tasks cannot run as {user.name}: {error.strerror}"))
            return 1
        _prctl(_PR_SET_NO_NEW_PRIVS, 1)  # no program makes it another user again
        user.live_in(folder)
    try:
        os.chdir(folder)
    except OSError as error:  # removed, as the lease was over before
        line.send(ZygoteFailed(f"the folder {folder} cannot be entered: {error.strerror}"))
        return 1
    line.send(ZygoteBorn(os.getpid()))
    adopt_orphans()
    os.environ.pop("DISPYCOS_SECRET_FILE", None)
    for name in ONE_THREAD:
        os.environ.setdefault(name, "1")
    sys.path.insert(0, folder)
    return _Lease(line, folder, FOR_AGENT_TOO if user is not None else FOR_US).serve()


@dataclass(slots=True, eq=False)
class _Child:
    """A server."""

    number: int
    page: PageReader
    ended_for_step: bool = False


class _Lease:
    """What a serving zygote knows: its servers, all of them its unreaped children."""

    def __init__(self, line: ZygoteLine, folder: str, mode: int) -> None:
        self._line = line
        self._folder = folder
        self._mode = mode  # of its servers' folders
        self._servers: dict[int, _Child] = {}  # by pid
        self._prepared: object = None  # what its servers inherit
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)

    def serve(self) -> int:
        """0 if nothing of the lease is left."""
        # Signals become bytes on a pipe: the loop sees them when it is ready to.
        signal.signal(signal.SIGCHLD, _on_signal)
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        ready = select.poll()
        ready.register(self._line.end, select.POLLIN)
        ready.register(self._wake_read, select.POLLIN)
        while self._line.is_open:
            ready.poll()
            with suppress(BlockingIOError):
                os.read(self._wake_read, PATH_MAX)
            self._reap()
            while (order := self._line.take()) is not None:
                self._carry_out(*order)
        return self._end_all()

    def _carry_out(self, order: ToZygote, descriptors: list[int]) -> None:
        if isinstance(order, ForkServer):
            self._start(order, descriptors)
            return
        if isinstance(order, Prepare):
            self._prepare(order, *descriptors)
            return
        if isinstance(order, CodeAnswered):  # nobody waits for it any more
            close_all(descriptors)
            return
        for pid, server in self._servers.items():
            if server.number != order.number:
                continue
            if isinstance(order, KillServer):
                end_group(pid)
            elif isinstance(order, EndStep):
                server.ended_for_step |= end_step(pid, server.page, order.step)

    def _prepare(self, order: Prepare, memory: int, out: int, err: int) -> None:
        """What the user's code prints here is its client's."""
        own = os.dup(1), os.dup(2)
        for target, descriptor in ((1, out), (2, err)):
            os.dup2(descriptor, target)
            os.close(descriptor)
        error = ""
        try:
            module, _, function = order.entry.partition(":")
            entry = getattr(importlib.import_module(module), function)
            self._prepared = entry(order.argument, read_memory(memory), self._ask)
        except Exception as failed:
            error = str(failed) or repr(failed)
        flush_stdio()
        for target, descriptor in enumerate(own, start=1):
            os.dup2(descriptor, target)
            os.close(descriptor)
        self._line.send(PrepareDone(error))

    def _ask(self, request: bytes) -> bytes:
        """For code that the client has."""
        self._line.send(CodeAsked(request))
        while (order := self._line.wait()) is not None:
            word, descriptors = order
            if isinstance(word, CodeAnswered):
                [answer] = read_memory(descriptors[0]) or [b""]
                if word.error:
                    raise ImportError(word.error)
                return answer
            close_all(descriptors)
        raise SystemExit  # the lease is over

    def _start(self, order: ForkServer, descriptors: list[int]) -> None:
        zygote = os.getpid()
        folder = os.path.join(self._folder, f"dispycosproc-{order.number}")
        try:
            make_folder(folder, self._mode)
            pid = fork_quietly()
            if pid == 0:
                run_to_exit(self._become_server, order, folder, descriptors, zygote)
            self._servers[pid] = _Child(order.number, PageReader(descriptors[2]))
        except OSError as error:
            self._line.send(ForkFailed(order.number, str(error)))
        else:
            self._line.send(ServerForked(order.number, pid))
        finally:
            close_all(descriptors)

    def _become_server(
        self, order: ForkServer, folder: str, descriptors: list[int], zygote: int
    ) -> int | None:
        leave_session()
        *outputs, page = descriptors
        for target, descriptor in enumerate([os.open(os.devnull, os.O_RDONLY), *outputs]):
            os.dup2(descriptor, target)
            os.close(descriptor)
        end_with(zygote)
        self._line.end.close()
        for other in self._servers.values():
            other.page.close()
        os.close(self._wake_read)
        os.close(self._wake_write)
        renew_stdio()
        faulthandler.enable(file=2)  # where it was, as the last words before a SIGSEGV
        os.chdir(folder)
        sys.path[:] = [folder, self._folder, *(entry for entry in sys.path if entry != self._folder)]
        gc.enable()
        module, _, function = order.entry.partition(":")
        main = getattr(importlib.import_module(module), function)
        code: int | None = main(order.argument, page, self._prepared)
        return code

    def _reap(self) -> bool:
        """Report every server that has ended; False when no child of any kind is left."""
        while True:
            try:
                ended = peek_ended_child()
                if ended in self._servers:
                    end_group(ended)  # what it started ends with it
                pid, status = os.waitpid(ended or -1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid in self._servers:
                server = self._servers.pop(pid)
                self._line.send(ServerEnded(server.number, status, server.ended_for_step))

    def _end_all(self) -> int:
        """End all descendants, also those that made themselves daemons. 1 if some would not end."""
        give_up = time.monotonic() + END_PATIENCE_S
        for pid in self._servers:
            end_group(pid)
        pause_s = 0.0005
        while self._reap():
            left = kill_children()
            if give_up <= time.monotonic():
                print(f"dispycos: what tasks started still runs: {left}", file=sys.stderr)
                return 1
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, 0.02)
        return 0


def _on_signal(number: int, frame: object) -> None:
    """The byte on the wake-up pipe says it all."""
