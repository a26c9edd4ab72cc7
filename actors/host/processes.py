"""The agent's side of the process tree: asks for zygotes and servers, and certifies every end.

All of it runs on the agent's asyncio loop, without threads. Nothing here waits for a child without a bound.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from ..terminations import Step
from .children import (
    BURIAL_PATIENCE_S,
    LOOK_AGAIN_S,
    AgentLine,
    ChildEnd,
    OomCounter,
    Output,
    ProcessTreeError,
    close_all,
    reap,
)
from .exits import Ending, ServerExit, Usage, Vanished, ZygoteExit, read_status, say
from .lines import (
    ARGUMENT_MAX,
    EndStep,
    EndZygote,
    ForkFailed,
    ForkZygote,
    FromTemplate,
    FromZygote,
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
    ZygoteBorn,
    ZygoteForked,
    ZygoteSwept,
)
from .page import PageReader, make_page
from .strays import end_adopted, sweep_up
from .zygote import adopt_orphans, become_template, fork_quietly

FORK_PATIENCE_S = 30.0  # a template that is still importing answers late
START_PATIENCE_S = 30.0  # a fork copies page tables: a zygote with much data takes its time
OUTPUT_PATIENCE_S = 0.2  # what a dead server's pipe may still hold, when somebody else holds its other end
STARTS_MAX = 4  # orders under way in one zygote, each with an argument


class TemplateLost(ProcessTreeError):
    """The process that zygotes are forked from failed or ended. The next start makes a new one."""


class ZygoteLost(ProcessTreeError):
    """The process that servers are forked from has ended."""


class SetupFailed(ProcessTreeError):
    """The user's setup raised, or left threads running. The text is for the user."""


class ServerRefused(ProcessTreeError):
    """The zygote could not fork this server; it goes on."""


@dataclass(frozen=True, slots=True)
class ZygoteSpec:
    """One lease on this node. A variable whose value is None is removed from the environment."""

    tag: str
    folder: str
    environment: dict[str, str | None] = field(default_factory=dict)
    setup: str | None = None
    setup_argument: bytes = b""


@dataclass(frozen=True, slots=True)
class ServerSpec:
    """One server: `entry` ("module:function") is called in `dispycosproc-<number>`, with `argument` and its page's descriptor."""

    name: str
    number: int
    entry: str
    argument: bytes = b""


# --- the template as its agent holds it -------------------------------------------------------------------


@dataclass(slots=True)
class Template:
    """The process that zygotes are forked from."""

    pid: int
    end: socket.socket
    modules: tuple[str, ...]

    @classmethod
    def fork(cls, modules: Sequence[str] = ()) -> Self:
        """The agent's first act after its imports, which are shared; it imports `modules` besides."""
        names = [thread.name for thread in threading.enumerate()]
        if len(names) > 1:
            raise RuntimeError(f"the template must be forked before there are threads; there are {names}")
        open_standard()
        ours, theirs = socket.socketpair()
        agent = os.getpid()
        pid = fork_quietly()
        if pid == 0:
            become_template(theirs, agent, tuple(modules))
        theirs.close()
        return cls(pid, ours, tuple(modules))

    @classmethod
    def spawn(cls, modules: Sequence[str] = ()) -> Self:
        """The same from a new interpreter: safe at any time, at the price of all imports."""
        ours, theirs = socket.socketpair()
        program = (
            f"import sys, socket; sys.path[:] = {sys.path!r}; from {become_template.__module__} import *; "
            f"become_template(socket.socket(fileno={theirs.fileno()}), {os.getpid()}, {tuple(modules)!r})"
        )
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-c", program],
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        process.returncode = 0  # it is reaped by its id, with the others; subprocess must not try
        return cls(process.pid, ours, tuple(modules))


def open_standard() -> None:
    """Make 0, 1 and 2 exist, so that no socket of ours ever gets one of these numbers."""
    while (opened := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(opened)


# --- a server -----------------------------------------------------------------------------------------------


class ServerProcess:
    """A server process as its agent knows it."""

    def __init__(self, zygote: Zygote, spec: ServerSpec, pipes: dict[int, int], page: PageReader) -> None:
        self.name = spec.name
        self.number = spec.number
        self.zygote = zygote
        self.pid = 0
        self.folder = ""
        self.page = page
        self._pipes = pipes
        self._output: Output | None = None
        self._signalled: set[int] = set()
        self._end: tuple[Ending, Usage | None, bool] | None = None
        self._certificate: asyncio.Future[ServerExit] = zygote.tree.loop.create_future()

    def __repr__(self) -> str:
        return f"<ServerProcess {self.name} pid {self.pid}>"

    @property
    def is_running(self) -> bool:
        return bool(self.pid) and self._end is None

    def kill(self, signum: int = signal.SIGKILL) -> bool:
        """Signal its process group, by way of the process that reaps it; False when it has ended already."""
        if not self.is_running:
            return False
        self._signalled.add(signum)
        self.zygote.signal_server(self.pid, signum)
        return True

    def end_step(self, step: Step) -> None:
        """Kill it if this very step still runs; the tree's `on_judged` tells, unless it has ended before."""
        if self.is_running:
            self.zygote.end_step(self.pid, step)

    def on_judged(self, killed: bool) -> None:
        if killed:
            self._signalled.add(signal.SIGKILL)

    async def wait_exit(self) -> ServerExit:
        """Its certificate, when all its output has been read."""
        return await asyncio.shield(self._certificate)

    def was_sent(self, signum: int) -> bool:
        return signum in self._signalled

    def on_started(self, pid: int, folder: str) -> None:
        self.pid, self.folder = pid, folder
        tree = self.zygote.tree
        pipes, self._pipes = self._pipes, {}
        self._output = Output(
            tree.loop, pipes, lambda *output: tree.tell_output(self, *output), self._certify
        )

    def on_refused(self) -> None:
        close_all(self._pipes.values())
        self._pipes = {}

    def on_ended(self, ending: Ending, usage: Usage | None, zygote_ended: bool) -> None:
        assert self._output is not None
        self._end = (ending, usage, zygote_ended)
        if self._output.is_drained:
            self._certify()
        else:
            self.zygote.tree.loop.call_later(OUTPUT_PATIENCE_S, self._certify)

    def _certify(self) -> None:
        """Called when its output is drained, and when patience with that is over."""
        if self._end is None or self._certificate.done():
            return
        assert self._output is not None
        self._output.close()
        ending, usage, zygote_ended = self._end
        certificate = ServerExit(
            self.pid, self.name, ending, usage, self._output.last_errors, zygote_ended=zygote_ended
        )
        self.zygote.tree.tell_exit(certificate)
        self._certificate.set_result(certificate)


# --- a zygote -----------------------------------------------------------------------------------------------


class Zygote:
    """The process that runs a lease's setup and forks its servers, as its agent knows it."""

    def __init__(self, tree: ProcessTree, spec: ZygoteSpec, end: socket.socket) -> None:
        self.tree = tree
        self.tag = spec.tag
        self.folder = spec.folder
        self.pid: int | None = None
        self._spec = spec
        self._line: AgentLine[FromZygote] = AgentLine(
            tree.loop, end, FromZygote, self._on_word, self._on_line_lost
        )
        self._child: ChildEnd | None = None
        self._born: asyncio.Future[None] = tree.loop.create_future()
        self._is_set_up: asyncio.Future[None] = tree.loop.create_future()
        self._gone: asyncio.Future[None] = tree.loop.create_future()
        self._is_closing = False
        self._was_swept = False
        self._left: tuple[int, ...] = ()
        self._ending: Ending | None = None
        self._servers: dict[int, ServerProcess] = {}
        self._sessions: set[int] = set()
        self._starts: dict[int, tuple[ServerProcess, asyncio.Future[ServerProcess]]] = {}
        self._turn = asyncio.Semaphore(STARTS_MAX)
        self._requests = 0

    @property
    def servers(self) -> list[ServerProcess]:
        """Those that have not ended."""
        return list(self._servers.values())

    async def set_up(self) -> None:
        """Run its setup. Called once, when the template says that it was forked."""
        await self._born
        spec = self._spec
        self._line.send(
            SetUp(
                agent=os.getpid(),
                adopted=self.tree.adopts,
                tag=spec.tag,
                folder=spec.folder,
                environment=spec.environment,
                function=spec.setup,
                argument=spec.setup_argument,
            )
        )
        await self._is_set_up

    async def start_server(self, spec: ServerSpec) -> ServerProcess:
        """Returns when it is forked; what it makes of its entry is told by its output and its exit."""
        if len(spec.argument) > ARGUMENT_MAX:
            raise ValueError(f"the argument of {spec.name} is over the limit of {ARGUMENT_MAX} bytes")
        async with self._turn:
            if self._ending is not None or self._is_closing:
                raise ZygoteLost(self._why_lost())
            answer = self._order(spec)
            try:
                async with asyncio.timeout(START_PATIENCE_S):
                    return await answer
            except TimeoutError:
                raise ServerRefused(f"{spec.name} was not forked within {START_PATIENCE_S:.0f} s") from None

    def _order(self, spec: ServerSpec) -> asyncio.Future[ServerProcess]:
        (out, out_end), (err, err_end), page = make_pipes()
        self._requests += 1
        server = ServerProcess(self, spec, {1: out, 2: err}, PageReader(page))
        answer: asyncio.Future[ServerProcess] = self.tree.loop.create_future()
        self._starts[self._requests] = server, answer
        try:
            self._line.send(
                StartServer(self._requests, spec.name, spec.number, spec.entry, spec.argument),
                (out_end, err_end, page),
            )
        except ProcessTreeError:
            del self._starts[self._requests]
            server.on_refused()
            raise
        return answer

    def signal_server(self, pid: int, signum: int) -> None:
        self._line.send(SignalServer(pid, signum))

    def end_step(self, pid: int, step: Step) -> None:
        self._line.send(EndStep(pid, *step))

    async def close(self, grace: float = 0.5) -> None:
        """End its servers, what they left running, and itself. Nothing is left when this returns."""
        self._is_closing = True
        if self._ending is None and self._is_set_up.done():
            self._line.send(EndZygote())
            await asyncio.wait([self._gone], timeout=grace)
        self.abandon()
        await asyncio.shield(self._gone)

    def abandon(self) -> None:
        """End it at once; the rest follows by itself."""
        self._is_closing = True
        if self._child is not None:
            self._child.kill(signal.SIGKILL)

    # what it says

    def _on_word(self, word: FromZygote) -> None:
        match word:
            case ZygoteBorn(pid):
                self._on_born(pid)
            case SetupDone():
                _settle(self._is_set_up)
            case SetupRefused(text):
                _fail(self._is_set_up, SetupFailed(text))
            case ServerStarted(request, pid, folder):
                self._on_server_started(request, pid, folder)
            case StartFailed(request, text):
                server, answer = self._starts.pop(request)
                server.on_refused()
                _fail(answer, ServerRefused(f"{server.name} could not be started: {text}"))
            case StepJudged(pid, killed) if pid in self._servers:
                self._servers[pid].on_judged(killed)
                self.tree.tell_judged(self._servers[pid], killed)
            case ServerEnded(pid, status, peak, user, system):
                self._on_server_ended(pid, status, Usage(peak, user, system))
            case ZygoteSwept(left):
                self._was_swept, self._left = not left, tuple(left)

    def _on_born(self, pid: int) -> None:
        if self._child is not None:
            return
        self.pid = pid
        self._sessions.add(pid)
        self._child = ChildEnd(self.tree.loop, pid, self._on_end)
        if self._is_closing:
            self.abandon()
        _settle(self._born)

    def _on_server_started(self, request: int, pid: int, folder: str) -> None:
        server, answer = self._starts.pop(request)
        server.on_started(pid, folder)
        self._servers[pid] = server
        self._sessions.add(pid)
        if answer.done():  # nobody waits for it any more
            server.kill()
        else:
            answer.set_result(server)

    def _on_server_ended(self, pid: int, status: int | None, usage: Usage | None) -> None:
        server = self._servers.pop(pid, None)
        if server is not None:
            by_us = self._is_closing or server.was_sent(signal.SIGKILL)
            zygote_ended = self._ending is not None and not self._is_closing
            ending = self.tree.read_ending(status, is_ours=by_us)
            server.on_ended(ending, usage, zygote_ended)

    # its end

    def _on_line_lost(self) -> None:
        if self._child is not None:
            self._child.look_soon()
        else:
            self._on_end(None, None)  # it was never born

    def _on_end(self, status: int | None, usage: Usage | None) -> None:
        if self._ending is not None:
            return
        self._line.read_rest()  # reports that were on their way
        self._line.close()
        self._ending = self.tree.read_ending(status, is_ours=self._is_closing)
        lost = ZygoteLost(self._why_lost())
        for future in (self._born, self._is_set_up):
            _fail(future, lost)
        for server, answer in self._starts.values():
            server.on_refused()
            _fail(answer, lost)
        self._starts.clear()
        self.tree.keep(self._bury())

    def _why_lost(self) -> str:
        how = say(self._ending) if self._ending is not None else "is being closed"
        return f"the zygote of lease {self.tag} (pid {self.pid}) {how}: it starts no servers"

    async def _bury(self) -> None:
        """Its servers are our children now, and the kernel kills them: wait, report, sweep up, say so."""
        waiting = self.servers
        if not self._was_swept and self.pid is not None:
            for pid in list(self._servers):
                end_adopted(pid, self.tree.adopts)
            await self._reap_servers()  # before the sweep, which would take their statuses with it
            self._left = tuple(await sweep_up(self.tag, self._sessions))
        for pid in list(self._servers):
            self._on_server_ended(pid, None, None)
        for server in waiting:
            await server.wait_exit()
        assert self._ending is not None
        self.tree.forget(self)
        _settle(self._gone)
        self.tree.tell_zygote_exit(ZygoteExit(self.pid, self.tag, self._ending, self._left))

    async def _reap_servers(self) -> None:
        give_up = self.tree.loop.time() + BURIAL_PATIENCE_S
        while self._servers and self.tree.loop.time() < give_up:
            for pid in list(self._servers):
                ended = reap(pid)
                if ended is not None:
                    self._on_server_ended(pid, *ended)
            await asyncio.sleep(LOOK_AGAIN_S)


def make_pipes() -> tuple[tuple[int, int], tuple[int, int], int]:
    """For what a server writes to 1 and to 2; and its page."""
    made: list[int] = []
    try:
        for _ in range(2):
            made += os.pipe()
        return (made[0], made[1]), (made[2], made[3]), make_page()
    except OSError as error:
        close_all(made)
        raise ServerRefused(f"no pipes for another server: {error.strerror}") from error


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _fail(future: asyncio.Future[Any], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
        future.exception()  # nobody may be waiting any more, and that is no fault


# --- the tree -----------------------------------------------------------------------------------------------


class ProcessTree:
    """All processes that an agent starts. `on_exit` comes once for each server, after all its output."""

    def __init__(
        self,
        template: Template,
        loop: asyncio.AbstractEventLoop,
        on_exit: Callable[[ServerExit], None],
        on_output: Callable[[ServerProcess, int, bytes, int], None],
        on_zygote_exit: Callable[[ZygoteExit], None] = lambda certificate: None,
        on_template_exit: Callable[[str], None] = lambda text: None,
        on_judged: Callable[[ServerProcess, bool], None] = lambda server, killed: None,
    ) -> None:
        self.loop = loop
        self._on_exit, self._on_output = on_exit, on_output
        self._on_zygote_exit, self._on_template_exit = on_zygote_exit, on_template_exit
        self._on_judged = on_judged
        self.adopts = adopt_orphans()
        self._oom = OomCounter.of_this_process()
        self._zygotes: list[Zygote] = []
        self._burials: set[asyncio.Task[Any]] = set()
        self._is_closing = False
        self._template = _TemplateChild(self, template)

    @property
    def zygotes(self) -> list[Zygote]:
        return list(self._zygotes)

    async def start_zygote(self, spec: ZygoteSpec) -> Zygote:
        """Fork a zygote and run its setup in it. SetupFailed tells the user's error; nothing is left then."""
        if self._is_closing:
            raise ProcessTreeError("this node is ending")
        if len(spec.setup_argument) > ARGUMENT_MAX:
            raise ValueError(f"the setup's argument is over the limit of {ARGUMENT_MAX} bytes")
        if self._template.has_ended:
            self._template = _TemplateChild(self, Template.spawn(self._template.modules))
        ours, theirs = socket.socketpair()
        zygote = Zygote(self, spec, ours)
        self._zygotes.append(zygote)
        try:
            await self._template.fork_zygote(theirs)
            await zygote.set_up()
        except SetupFailed:
            await zygote.close(0)
            raise
        except BaseException:
            zygote.abandon()
            raise
        return zygote

    async def close(self) -> None:
        """End all processes of the tree and wait until they are gone."""
        self._is_closing = True
        # Together: a zygote that is not forked yet is lost only with the template.
        await asyncio.gather(self._template.close(), *(zygote.close() for zygote in self.zygotes))
        while self._burials:
            await asyncio.wait(self._burials)

    def read_ending(self, status: int | None, *, is_ours: bool) -> Ending:
        if status is None:
            return Vanished()
        was_killed = status & 0x7F == signal.SIGKILL
        oom = False if is_ours or not was_killed else self._oom.has_risen(self.loop.time())
        return read_status(status, oom=oom, by_its_node=is_ours and was_killed)

    # The agent is told in a turn of its own, in this order: what it raises then is not raised in here.

    def tell_output(self, server: ServerProcess, stream: int, data: bytes, mark: int) -> None:
        self.loop.call_soon(self._on_output, server, stream, data, mark)

    def tell_judged(self, server: ServerProcess, killed: bool) -> None:
        self.loop.call_soon(self._on_judged, server, killed)

    def tell_exit(self, certificate: ServerExit) -> None:
        self.loop.call_soon(self._on_exit, certificate)

    def tell_zygote_exit(self, certificate: ZygoteExit) -> None:
        self.loop.call_soon(self._on_zygote_exit, certificate)

    def tell_template_exit(self, text: str) -> None:
        if not self._is_closing:
            self.loop.call_soon(self._on_template_exit, text)

    def forget(self, zygote: Zygote) -> None:
        self._zygotes.remove(zygote)

    def keep(self, body: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = self.loop.create_task(body)
        self._burials.add(task)
        task.add_done_callback(self._burials.discard)
        return task


class _TemplateChild:
    """What the tree knows of its template."""

    def __init__(self, tree: ProcessTree, template: Template) -> None:
        self._tree = tree
        self._pid = template.pid
        self.modules = template.modules
        self.has_ended = False
        self._failure = ""
        self._requests = 0
        self._forks: dict[int, asyncio.Future[None]] = {}
        self._gone: asyncio.Future[None] = tree.loop.create_future()
        self._line: AgentLine[FromTemplate] = AgentLine(
            tree.loop, template.end, FromTemplate, self._on_word, self._on_line_lost
        )
        self._child = ChildEnd(tree.loop, template.pid, self._on_end)

    async def fork_zygote(self, end: socket.socket) -> None:
        self._requests += 1
        request = self._requests
        answer = self._forks[request] = self._tree.loop.create_future()
        self._line.send(ForkZygote(request), (end.detach(),))
        try:
            async with asyncio.timeout(FORK_PATIENCE_S):
                await answer
        except TimeoutError:
            raise TemplateLost(f"the template did not fork within {FORK_PATIENCE_S:.0f} s") from None
        finally:
            self._forks.pop(request, None)

    async def close(self) -> None:
        self._child.kill(signal.SIGKILL)  # it has nothing to lose
        await asyncio.shield(self._gone)

    def _on_word(self, word: FromTemplate) -> None:
        match word:
            case TemplateFailed(text):
                self._failure = text
            case ZygoteForked(request) if request in self._forks:
                _settle(self._forks[request])
            case ForkFailed(request, text) if request in self._forks:
                _fail(self._forks[request], ProcessTreeError(text))
            case _:
                pass  # ready, or an answer that nobody waits for any more

    def _on_line_lost(self) -> None:
        self._child.look_soon()

    def _on_end(self, status: int | None, usage: Usage | None) -> None:
        self.has_ended = True
        self._line.read_rest()
        self._line.close()
        how = say(self._tree.read_ending(status, is_ours=False))
        text = f"the template (pid {self._pid}) {how}" + (f":\n{self._failure}" if self._failure else "")
        for answer in self._forks.values():
            _fail(answer, TemplateLost(text))
        _settle(self._gone)
        self._tree.tell_template_exit(text)
