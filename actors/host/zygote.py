"""The forking side of a node: the template, the zygotes forked from it, the first steps of every server.

    agent ┬─ template       imports done, forks zygotes, does nothing else
          ├─ zygote         one a lease: runs the user's setup; forks, reaps and ends the lease's servers
          │    ├─ server    a session and process group of its own; fd 1 and 2 are pipes to the agent
          │    └─ server
          └─ zygote

* Template and zygote are single-threaded and have no network: a fork copies one thread only, so a lock
  that another thread holds stays locked in the child for ever.
* A zygote is forked twice, so that it becomes the agent's own child (the agent is a child subreaper). It
  outlives the template, the agent reaps it, and the kernel tells it when the agent ends.
* A zygote is a subreaper too: whatever its servers leave behind becomes its child, daemons included. When
  the kernel says that it has no child left, nothing of the lease is left.
* Who ends with whom: the template, and a zygote in setup, with the agent, at once (PDEATHSIG). A serving
  zygote gets SIGTERM instead, or sees its line closed, and first ends all that its lease started. A server
  ends with its zygote (PDEATHSIG). Where there is no PDEATHSIG the closed line is the only means.
"""

from __future__ import annotations

import ctypes
import errno
import faulthandler
import gc
import hashlib
import importlib
import os
import random
import select
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn

import psutil

from ..terminations import Step
from .lines import (
    EndStep,
    EndZygote,
    ForkFailed,
    Line,
    ServerEnded,
    ServerStarted,
    SetUp,
    SetupDone,
    SetupRefused,
    SignalServer,
    StartFailed,
    StartServer,
    StepJudged,
    TemplateFailed,
    TemplateReady,
    ToTemplate,
    ToZygote,
    ZygoteBorn,
    ZygoteForked,
    ZygoteSwept,
)
from .page import PageReader
from .stdio import flush_stdio, renew_stdio

TEXT_MAX = 64 << 10
END_PATIENCE_S = 1.0
STOP_PATIENCE_S = (
    0.05  # a process that is in the kernel for longer runs no more code of its own before it stops
)
LEASE_VARIABLE = "DISPYCOS_LEASE"


# --- means that only Linux has; the module's head says what stands in elsewhere --

_PR_SET_PDEATHSIG, _PR_SET_NAME, _PR_SET_CHILD_SUBREAPER = 1, 15, 36


def _prctl(option: int, argument: Any) -> bool:
    if sys.platform != "linux":
        return False
    function = ctypes.CDLL(None).prctl
    return bool(function(option, argument, 0, 0, 0) == 0)


def adopt_orphans() -> bool:
    """Become the parent of all descendants whose own parent ends."""
    return _prctl(_PR_SET_CHILD_SUBREAPER, ctypes.c_ulong(1))


def set_mark(mark: str) -> bool:
    """Name this process for the kernel (15 characters); forked descendants inherit it."""
    return _prctl(_PR_SET_NAME, ctypes.c_char_p(mark.encode()[:15]))


def end_with(parent: int, signum: int) -> None:
    """Get `signum` when `parent` ends, and now when it already has."""
    if _prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signum)) and os.getppid() != parent:
        os.kill(os.getpid(), signum)


def peek_ended_child() -> int | None:
    """A child that has ended, not reaped yet: its group can be ended while the id is surely its own."""
    if not hasattr(os, "waitid"):  # a server's group is then ended by nobody but the server
        return None
    found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    return found.si_pid if found else None


def native_thread_names() -> list[str]:
    names = []
    for thread in os.listdir("/proc/self/task") if sys.platform == "linux" else ():
        if int(thread) != os.getpid():
            with suppress(FileNotFoundError), open(f"/proc/self/task/{thread}/comm") as comm:
                names.append(comm.read().strip())
    return names


# --- small means ----------------------------------------------------------------------------------------


def mark_of(tag: str) -> str:
    """The kernel's name for what a lease forks: found even where a process cleared its environment."""
    return "dispycos-" + hashlib.blake2s(tag.encode(), digest_size=3).hexdigest()


def load(place: str) -> Callable[..., Any]:
    """The function that "module:function" names."""
    module, _, name = place.partition(":")
    found = getattr(importlib.import_module(module), name)
    if not callable(found):
        raise TypeError(f"{place} is not a function")
    return found  # type: ignore[no-any-return]


def usage_of(used: Any) -> tuple[int, float, float]:
    """Peak memory in bytes, user and system seconds."""
    unit = 1 if sys.platform == "darwin" else 1024
    return used.ru_maxrss * unit, used.ru_utime, used.ru_stime


def end_group(pid: int, signum: int) -> None:
    """Signal the group of a child that is not reaped yet: neither id can be a stranger's."""
    try:
        os.killpg(pid, signum)
    except ProcessLookupError:
        os.kill(pid, signum)  # just forked: it has not made its group


def end_step(pid: int, page: PageReader, step: Step) -> bool:
    """Kill this child of ours if the very step still runs, which it was not told to leave; whether it was."""
    os.kill(pid, signal.SIGSTOP)
    give_up = time.monotonic() + STOP_PATIENCE_S
    while not _is_stopped(pid) and time.monotonic() < give_up:
        time.sleep(0.0002)
    if page.step() != step:
        os.kill(pid, signal.SIGCONT)
        return False
    end_group(pid, signal.SIGKILL)
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


def make_folder(path: str) -> None:
    """A folder of our own, for us alone."""
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        found = os.lstat(path)
        if not os.path.isdir(path) or os.path.islink(path) or found.st_uid != os.geteuid():
            raise PermissionError(errno.EPERM, "there is something else of that name", path) from None
        os.chmod(path, 0o700)


# --- the template ---------------------------------------------------------------------------------------


def become_template(end: socket.socket, agent: int, modules: tuple[str, ...]) -> NoReturn:
    """Called once in a forked child or a new interpreter."""
    run_to_exit(_serve_template, end, agent, modules)


def run_to_exit(body: Callable[..., int], *arguments: Any) -> NoReturn:
    """The outermost frame of every forked process: nothing ever returns into the code of the forking one."""
    code = 1
    try:
        code = body(*arguments)
    except SystemExit as asked:
        if asked.code is None or isinstance(asked.code, int):
            code = _exit_code(asked.code)
        else:  # as the interpreter does
            print(asked.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    finally:
        flush_stdio()
        os._exit(code)


def _exit_code(value: object) -> int:
    if value is None:
        return 0
    if not isinstance(value, int):
        raise TypeError(f"an exit code is an int or None, not {type(value).__name__}")
    return value & 0xFF


def _serve_template(end: socket.socket, agent: int, modules: tuple[str, ...]) -> int:
    leave_session()
    end_with(agent, signal.SIGKILL)
    close_inherited(end.fileno())
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    renew_stdio()
    end.setblocking(True)
    line: Line[ToTemplate] = Line(end, ToTemplate)
    gc.disable()  # a collection here would unshare the pages of all that was imported
    try:
        for module in modules:
            importlib.import_module(module)
    except BaseException:
        line.send(TemplateFailed(traceback.format_exc()[-TEXT_MAX:]))
        return 1
    gc.freeze()
    line.send(TemplateReady())
    while (order := line.receive()) is not None:
        with socket.socket(fileno=line.reader.descriptors.popleft()) as zygote_end:
            failure = _fork_zygote(zygote_end, line)
        line.send(ForkFailed(order.request, failure) if failure else ZygoteForked(order.request))
    return 0


def _fork_zygote(end: socket.socket, line: Line[ToTemplate]) -> str | None:
    """Fork twice, so that the agent adopts the zygote; what went wrong, or None."""
    try:
        between = fork_quietly()
    except OSError as error:
        return f"fork: {error.strerror}"
    if between == 0:
        code = 0
        try:
            if os.fork() == 0:
                line.end.close()
                run_to_exit(_serve_zygote, end)
        except OSError as error:
            code = error.errno or 1
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(between, 0)[1])
    return f"fork: {os.strerror(code) if code > 0 else 'interrupted'}" if code else None


# --- the zygote -----------------------------------------------------------------------------------------


def _serve_zygote(end: socket.socket) -> int:
    leave_session()
    line: Line[ToZygote] = Line(end, ToZygote)
    line.send(ZygoteBorn(os.getpid()))
    orders = line.receive()
    if not isinstance(orders, SetUp):
        return 1  # the agent ended, or gave up
    if orders.adopted:
        end_with(orders.agent, signal.SIGKILL)
    adopt_orphans()
    try:
        _set_up(orders)
    except BaseException as error:  # the edge of user code
        said = str(error) if isinstance(error, ThreadsLeft) else traceback.format_exc()
        line.send(SetupRefused(said[-TEXT_MAX:]))
        _Lease(line, orders.folder).end_all()
        return 1
    lease = _Lease(line, orders.folder)
    lease.listen()
    if orders.adopted:
        end_with(orders.agent, signal.SIGTERM)  # again, also because a change of user clears it
    line.send(SetupDone())
    return lease.serve()


class ThreadsLeft(Exception):
    """The user's setup left threads running."""


def _set_up(orders: SetUp) -> None:
    set_mark(mark_of(orders.tag))
    for name, value in (orders.environment | {LEASE_VARIABLE: orders.tag}).items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    os.makedirs(orders.folder, mode=0o700, exist_ok=True)
    os.chdir(orders.folder)
    sys.path.insert(0, orders.folder)
    if orders.function is not None:
        gc.enable()
        load(orders.function)(orders.argument)
        _refuse_threads()
        gc.disable()
        gc.freeze()


def _refuse_threads() -> None:
    threads = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
    names, remedy = threads, "end it in the setup, or start it in each server"
    if not names:
        names = native_thread_names()
        remedy = "a library started it; numerical ones start none with OMP_NUM_THREADS=1 in the environment"
    if names:
        raise ThreadsLeft(
            f"the setup left {len(names)} thread(s) running: {', '.join(map(repr, names[:20]))}. Servers are "
            f"forked from its process, and a lock that such a thread holds would stop them for ever: {remedy}"
        )


class _Lease:
    """What a serving zygote knows: its servers, all of them its unreaped children."""

    def __init__(self, line: Line[ToZygote], folder: str) -> None:
        self._line = line
        self._folder = folder
        self._servers: dict[int, PageReader] = {}  # by pid
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)

    def listen(self) -> None:
        """Signals become bytes on a pipe: the loop sees them when it is ready to."""
        signal.signal(signal.SIGCHLD, _on_signal)
        signal.signal(signal.SIGTERM, _on_signal)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())

    def serve(self) -> int:
        ready = select.poll()
        ready.register(self._line.end, select.POLLIN)
        ready.register(self._wake_read, select.POLLIN)
        self._reap()  # what ended during the setup sent its signal before there was a handler
        while True:
            ready.poll()
            asked_to_end = signal.SIGTERM in self._signals()
            self._reap()
            for order in self._line.take():
                asked_to_end |= isinstance(order, EndZygote)
                self._carry_out(order)
            if asked_to_end or not self._line.is_open:
                self._line.send(ZygoteSwept(self.end_all()))
                return 0

    def _signals(self) -> bytes:
        with suppress(BlockingIOError):
            return os.read(self._wake_read, 4096)
        return b""

    def _carry_out(self, order: ToZygote) -> None:
        if isinstance(order, SignalServer) and order.pid in self._servers:
            with suppress(
                PermissionError
            ):  # it runs as another user now; closing the lease ends it by the kernel
                end_group(order.pid, order.signal)
        elif isinstance(order, EndStep) and order.pid in self._servers:
            page, step = self._servers[order.pid], Step(order.position, order.since)
            self._line.send(StepJudged(order.pid, end_step(order.pid, page, step)))
        elif isinstance(order, StartServer):
            self._start(order)

    def _start(self, order: StartServer) -> None:
        *outputs, page = [self._line.reader.descriptors.popleft() for _ in range(3)]
        zygote = os.getpid()
        folder = os.path.join(self._folder, f"dispycosproc-{order.number}")
        try:
            make_folder(folder)
            pid = fork_quietly()
            if pid == 0:
                run_to_exit(self._become_server, order, folder, outputs, page, zygote)
            reader = PageReader(page)
        except OSError as error:
            self._line.send(StartFailed(order.request, str(error)))
        else:
            self._servers[pid] = reader
            self._line.send(ServerStarted(order.request, pid, folder))
        finally:
            for descriptor in (*outputs, page):
                os.close(descriptor)

    def _become_server(
        self, order: StartServer, folder: str, outputs: list[int], page: int, zygote: int
    ) -> int:
        leave_session()
        for target, descriptor in enumerate([os.open(os.devnull, os.O_RDONLY), *outputs]):
            os.dup2(descriptor, target)
            os.close(descriptor)
        # A change of user belongs before this line: it clears the death signal.
        end_with(zygote, signal.SIGKILL)
        self._line.close()
        for other in self._servers.values():
            other.close()
        os.close(self._wake_read)
        os.close(self._wake_write)
        renew_stdio()
        faulthandler.enable(file=2)  # where it was, as the last words before a SIGSEGV
        os.chdir(folder)
        sys.path[:] = [folder, self._folder, *(entry for entry in sys.path if entry != self._folder)]
        _reseed()
        gc.enable()
        return _exit_code(load(order.entry)(order.argument, page))

    def _reap(self) -> bool:
        """Report every server that has ended; False when no child of any kind is left."""
        while True:
            try:
                ended = peek_ended_child()
                if ended in self._servers:
                    end_group(ended, signal.SIGKILL)  # what it started ends with it
                pid, status, used = os.wait4(ended or -1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid in self._servers:
                del self._servers[pid]
                self._line.send(ServerEnded(pid, status, *usage_of(used)))

    def end_all(self) -> list[int]:
        """End all descendants, also those that made themselves daemons; the children that would not end."""
        give_up = time.monotonic() + END_PATIENCE_S
        for pid in self._servers:
            with suppress(PermissionError):
                end_group(pid, signal.SIGKILL)
        pause_s = 0.0005
        while self._reap():
            children = [child.pid for child in psutil.Process().children()]
            for pid in children:
                with suppress(ProcessLookupError, PermissionError):  # its own child, so never a stranger
                    os.kill(pid, signal.SIGKILL)
            if give_up <= time.monotonic():
                return children
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, 0.02)
        return []


def _on_signal(number: int, frame: object) -> None:
    """The byte on the wake-up pipe says it all."""


def _reseed() -> None:
    """Equal "random" numbers in all servers would be a wrong result."""
    random.seed()
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()
