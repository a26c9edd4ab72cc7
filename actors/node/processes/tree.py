"""The agent's side of the process tree: has zygote and servers started and ended, and tells of every end.

All of it runs on the agent's asyncio loop, without threads. Nothing here waits for a child without a bound.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from typing import Any, Protocol

import msgspec

from dispycos.protocol.messages import Marks

from ...tasks.page import PageReader, make_page
from .exits import OomCounter, say_end, was_killed
from .lines import close_all, make_line, read_word, send_word
from .output import OutputPipes
from .template import Template
from .words import (
    EndStep,
    ForkFailed,
    ForkServer,
    FromZygote,
    KillServer,
    ServerEnded,
    ServerForked,
    ToZygote,
    ZygoteBorn,
    ZygoteFailed,
)
from .zygote import adopt_orphans, kill_children

CLOSE_PATIENCE_S = 0.5  # until a zygote that is to end is killed
BURIAL_PATIENCE_S = 2.0  # from SIGKILL to the kernel's word that it is gone
LOOK_AGAIN_S = 0.005

log = logging.getLogger("dispycos")


class Owner(Protocol):
    """Who is told what happens: the node's machine."""

    def zygote_ready(self, now: float) -> None: ...
    def zygote_failed(self, text: str, now: float) -> None:
        """It could not be started, or has ended: after the ends of all its servers, and not if it was to end."""

    def server_failed_to_start(self, number: int, text: str, now: float) -> None: ...
    def server_exited(
        self, number: int, death: str, marks: Marks, now: float, *, for_step: bool = False
    ) -> None:
        """After all its output."""

    def output(self, number: int, stream: int, text: bytes, mark: int, now: float) -> None: ...


class ServerProcess:
    """A server process as its agent knows it."""

    def __init__(self, tree: ProcessTree, number: int, pipes: dict[int, int], page: int) -> None:
        self.number = number
        self.pid = 0
        self.page = PageReader(page)
        self.was_killed = False  # by us
        self.output = OutputPipes(tree.loop, pipes, partial(tree.tell, tree.owner.output, number))


class Zygote:
    """The process that forks a lease's servers, as its agent knows it."""

    def __init__(self, tree: ProcessTree, end: socket.socket) -> None:
        self._tree = tree
        self._line = end
        self._is_open = True
        self._decoder: msgspec.msgpack.Decoder[FromZygote] = msgspec.msgpack.Decoder(FromZygote)
        self.pid = 0  # until it is born
        self.servers: dict[int, ServerProcess] = {}  # by number, until they have ended
        self._failure = ""
        self.is_closing = False
        self.gone: asyncio.Future[None] = tree.loop.create_future()
        end.setblocking(False)
        tree.loop.add_reader(end, self._read)

    def start_server(self, word: ForkServer) -> None:
        try:
            (out, out_end), (err, err_end), page = make_pipes()
        except OSError as error:
            why = f"no pipes for another server: {error.strerror}"
            self._tree.tell(self._tree.owner.server_failed_to_start, word.number, why)
            return
        self.servers[word.number] = ServerProcess(self._tree, word.number, {1: out, 2: err}, page)
        self._send(word, (out_end, err_end, page))

    def order(self, word: KillServer | EndStep) -> None:
        """Void if the server has ended; its end is told as any other."""
        if (server := self.servers.get(word.number)) is not None:
            server.was_killed |= isinstance(word, KillServer)
            self._send(word)

    def _send(self, word: ToZygote, descriptors: tuple[int, ...] = ()) -> None:
        """The descriptors beside it are closed here."""
        try:
            send_word(self._line, word, descriptors)
        except (BrokenPipeError, ConnectionResetError):
            """It has ended, as will be read; or is to end."""
        except OSError as error:  # hundreds of orders lie there unread
            if isinstance(word, ForkServer):
                self._refuse(word.number, f"its zygote is busy: {error.strerror}")
            else:
                self._kill()
        finally:
            close_all(descriptors)

    def end(self) -> None:
        """And its servers, and what they left running. Nothing is left when it is `gone`."""
        if not self.is_closing:
            self.is_closing = True
            if self._is_open:
                self._line.shutdown(socket.SHUT_WR)  # it reads that there will be no more orders
            self._tree.loop.call_later(CLOSE_PATIENCE_S, self._kill)

    def _kill(self) -> None:
        if self.pid and self._is_open:  # else it has ended
            kill(self.pid)

    @property
    def is_serving(self) -> bool:
        return self._is_open and not self.is_closing

    # what it says

    def _read(self) -> None:
        try:
            found = read_word(self._line, self._decoder)
        except BlockingIOError:
            return
        if found is not None:
            self._on_word(found[0])
            return
        self._is_open = False
        self._tree.loop.remove_reader(self._line)
        self._line.close()
        self._tree.keep(self._bury())

    def _on_word(self, word: FromZygote) -> None:
        match word:
            case ZygoteBorn(pid):
                self.pid = pid
                if not self.is_closing:
                    self._tree.tell(self._tree.owner.zygote_ready)
            case ZygoteFailed(text):
                self._failure = text
            case ServerForked(number, pid):
                self.servers[number].pid = pid
            case ForkFailed(number, text):
                self._refuse(number, text)
            case ServerEnded(number, status, for_step):
                self._on_server_ended(number, status, for_step)

    def _refuse(self, number: int, text: str) -> None:
        self.servers.pop(number).output.close()
        self._tree.tell(self._tree.owner.server_failed_to_start, number, text)

    def _on_server_ended(self, number: int, status: int | None, for_step: bool = False) -> None:
        """What it wrote is in its pipes; others who hold them are not waited for."""
        server = self.servers.pop(number)
        server.output.close()
        death = self._tree.say_end(status, is_ours=self.is_closing or server.was_killed or for_step)
        exited = partial(self._tree.owner.server_exited, for_step=for_step)
        self._tree.tell(exited, number, death, server.page.marks())

    async def _bury(self) -> None:
        """Its servers are our children now, and the kernel kills them: wait, report, sweep up, say so."""
        status = await reap(self.pid) if self.pid else 0
        death = f"the zygote (pid {self.pid}) {self._tree.say_end(status, is_ours=self.is_closing)}"
        if not self.pid:
            death = self._failure or "the zygote was not forked: its template has ended"
        for number in [number for number, server in self.servers.items() if not server.pid]:
            self._refuse(number, death)
        statuses = await self._tree.sweep_up() if status else {}
        for server in list(self.servers.values()):
            self._on_server_ended(server.number, statuses.get(server.pid))
        if not self.is_closing:
            self._tree.tell(self._tree.owner.zygote_failed, death)
        self.gone.set_result(None)
        self._tree.fork_wanted()


def make_pipes() -> tuple[tuple[int, int], tuple[int, int], int]:
    """For what a server writes to 1 and to 2; and its page."""
    made: list[int] = []
    try:
        for _ in range(2):
            made += os.pipe()
        return (made[0], made[1]), (made[2], made[3]), make_page()
    except OSError:
        close_all(made)
        raise


def kill(pid: int) -> None:
    with suppress(ProcessLookupError):  # not our child where there are no subreapers
        os.kill(pid, signal.SIGKILL)


async def reap(pid: int) -> int | None:
    """The status of a child whose line is closed: it ends by itself soon, or is ended. None if it is not ours."""
    loop = asyncio.get_running_loop()
    give_up = loop.time() + BURIAL_PATIENCE_S
    with suppress(ChildProcessError):
        while True:
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                return status
            if give_up <= loop.time():
                kill(pid)
            await asyncio.sleep(LOOK_AGAIN_S)
    return None


class ProcessTree:
    """All processes that an agent starts: one zygote after the other, and their servers.

    `tell` has a method of the owner called with these words and the time, later: what that raises is not raised in here.
    """

    def __init__(
        self,
        template: Template,
        loop: asyncio.AbstractEventLoop,
        owner: Owner,
        tell: Callable[..., None],
    ) -> None:
        self.loop = loop
        self.owner = owner
        self.tell = tell
        adopt_orphans()
        self._oom = OomCounter.of_this_process()
        self._zygote: Zygote | None = None  # the last one
        self._wanted = ""  # the folder of the next one
        self._under_way: set[asyncio.Task[Any]] = set()
        self._is_closing = False
        self._watch(template)

    # --- the zygote

    def start_zygote(self, folder: str) -> None:
        """That of the next lease: it is forked when the one before is gone, and all that it left."""
        self._wanted = folder
        self.fork_wanted()

    def fork_wanted(self) -> None:
        """Called again when a zygote is gone."""
        is_free = self._zygote is None or self._zygote.gone.done()
        if self._is_closing or not self._wanted or not is_free:
            return
        folder, self._wanted = self._wanted, ""
        ours, theirs = make_line()
        self._zygote = Zygote(self, ours)
        with theirs:
            try:
                self._template.fork_zygote(folder, theirs)
            except OSError:  # it has ended
                self._watch(Template.spawn(self._template.modules))
                self._template.fork_zygote(folder, theirs)

    def end_zygote(self) -> asyncio.Future[None]:
        """The lease is over; done when nothing of it is left."""
        self._wanted = ""
        if self._zygote is not None:
            self._zygote.end()
            return asyncio.shield(self._zygote.gone)
        nothing = self.loop.create_future()
        nothing.set_result(None)
        return nothing

    # --- servers

    def start_server(self, word: ForkServer) -> None:
        if self._zygote is None or not self._zygote.is_serving:
            self.tell(self.owner.server_failed_to_start, word.number, "its zygote has ended")
        else:
            self._zygote.start_server(word)

    def order(self, word: KillServer | EndStep) -> None:
        if self._zygote is not None:
            self._zygote.order(word)

    @property
    def servers(self) -> dict[int, ServerProcess]:
        """By number: those that were to start and have not ended."""
        return self._zygote.servers if self._zygote is not None else {}

    # --- ends

    async def close(self) -> None:
        """End all processes of the tree and wait until they are gone."""
        self._is_closing = True
        kill(self._template.pid)  # a zygote that is not forked yet is lost with it
        await self.end_zygote()
        await self._template_gone
        while self._under_way:
            await asyncio.wait(self._under_way)
        await self.sweep_up()  # a template that was killed leaves what it was forking

    def say_end(self, status: int | None, *, is_ours: bool) -> str:
        oom = was_killed(status) and not is_ours and self._oom.has_risen(self.loop.time())
        return say_end(status, by_its_node=is_ours, oom=oom)

    async def sweep_up(self) -> dict[int, int]:
        """End what a dead zygote or template left, which are our children now; the status of each, by its pid."""
        statuses = {}
        give_up = self.loop.time() + BURIAL_PATIENCE_S
        while left := kill_children(keep=(self._template.pid,)):
            for pid in left:
                found, status = os.waitpid(pid, os.WNOHANG)
                if found:
                    statuses[pid] = status
            if give_up <= self.loop.time():
                log.warning("processes that tasks started still run: %s", left)
                break
            await asyncio.sleep(LOOK_AGAIN_S)
        return statuses

    # --- the template

    def _watch(self, template: Template) -> None:
        """It says nothing, so what can be read is its end."""
        self._template = template
        self._template_gone = self.loop.create_future()
        self.loop.add_reader(template.end, self._on_template_lost, template, self._template_gone)

    def _on_template_lost(self, template: Template, gone: asyncio.Future[None]) -> None:
        self.loop.remove_reader(template.end)
        template.end.close()
        self.keep(self._bury_template(template.pid, gone))

    async def _bury_template(self, pid: int, gone: asyncio.Future[None]) -> None:
        ended = self.say_end(await reap(pid), is_ours=self._is_closing)
        if not self._is_closing:
            log.warning("the template (pid %d) %s; the next lease starts another", pid, ended)
        gone.set_result(None)

    # ---

    def keep(self, body: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = self.loop.create_task(body)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return task
