"""The runtime of a program's event loop: made by dispycos.run or by the first Client, closed by the last who uses it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

from dispycos.config import Failure
from dispycos.runtime import Runtime
from dispycos.transport.certificates import client_keys
from dispycos.transport.folders import find_folders, make_private, sweep_sockets

from ..sharing.directory import Directory
from ..sharing.sharing import Sharing
from ..tasks.current import host_of, hosts_of_closed_loops
from ..tasks.host import TaskHost
from ..tasks.running.interrupts import Interrupts
from ..tasks.running.relief import Relief
from .code import ClientPayloads
from .program_name import program_name

log = logging.getLogger("dispycos")

GOODBYE_S = 1.0  # after Ctrl-C: clients have so long to give their servers back
LEFT_OPEN = "is open at the end of its event loop, which ends {}: use `async with dispycos.Client(...)`, or await close()"


class Held(ABC):
    """A client's lease, held or waited for: from its making until `left` it is in the line of its loop's clients.

    It does not know its Client, so that one can be collected which nobody refers to.
    """

    def __init__(self, home: Home, title: str) -> None:
        self.home = home
        self.title = title  # for people: which of the program's clients it is
        self.is_open = False  # it has the cluster, and nobody has said that it should go
        self.is_forsaken = False  # nobody refers to its client
        self.yields = False  # it leaves when another waits: its users go on with that one
        self.inside: object = None  # the thread, or asyncio.Task, that is in the `with` of its client
        # It has the cluster, and every known node its servers.
        self.scheduled: asyncio.Future[None] = home.runtime.loop.create_future()
        self.left: asyncio.Future[None] = home.runtime.loop.create_future()  # the next in line may go on
        self._ending: asyncio.Task[None] | None = None
        home.enter(self)

    @property
    def is_leaving(self) -> bool:
        return self._ending is not None

    @abstractmethod
    def leave(
        self, *, terminate: bool, await_io: bool = False, patience: float | None = None
    ) -> asyncio.Task[None]:
        """Give the cluster back. What can be done at once is done when this returns; the Task is the rest."""

    @abstractmethod
    def make_way(self) -> None:
        """Another one waits."""

    @abstractmethod
    def vanish(self) -> None:
        """Give the cluster back without a word from it: the loop is closed."""

    def tell_left_open(self) -> None:  # noqa: B027
        """The loop ends, and has ended tasks that are of it alone."""

    def forsake_soon(self) -> None:
        """Nobody refers to its client any more. From any thread, and wherever the garbage collector comes by."""
        runtime = self.home.runtime
        if self._ending is None and not runtime.is_parents:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                runtime.loop.call_soon_threadsafe(self._forsake)

    def _forsake(self) -> None:
        """As a close() for which nobody waits: handles that are kept get their values, unless another Client waits."""
        self.is_forsaken = True
        self.leave(terminate=False)
        if self.home.has_line():
            self.make_way()


class Home:
    """A host for local tasks and clients on the running loop, with its relief thread.

    It is closed when the last client has left, or with its loop; `kept` by dispycos.run.
    """

    def __init__(
        self, payloads: ClientPayloads, secret_file: Path | None = None, *, kept: bool = False
    ) -> None:
        keys = client_keys(secret_file)
        loop = asyncio.get_running_loop()
        self.interrupts = Interrupts(loop=loop, is_ending=self._hurry)
        self._ending = False
        self._hurried: asyncio.Future[None] = loop.create_future()
        self.runtime = Runtime("client", program_name(), keys)
        self.host = TaskHost(self.runtime, payloads, self.interrupts)
        self.host.home = self
        self.directory = Directory(self.host)
        self.host.sharing = Sharing(self.host, self.directory.machine.address)
        self.runtime.in_child += [self.interrupts.in_child, self._in_child]
        self._leases: list[Held] = []  # the first has the cluster, the others wait in line
        self._kept = kept
        self._closed = False
        self._ipc = ""
        self._relief = Relief(self.runtime, self.interrupts)
        self._relief.start()
        if _is_main_thread():
            self.interrupts.install()
        self._sentinel: Any = self._end_with_loop()
        with contextlib.suppress(StopIteration):
            self._sentinel.__anext__().send(None)

    async def _end_with_loop(self) -> AsyncGenerator[None, None]:
        """asyncio.run, and whoever ends a loop in good order, closes all async generators: nobody else is told of the end."""
        try:
            yield
        finally:
            await self.end()

    @property
    def ipc(self) -> str:
        """The socket by which servers of this host reach us directly; made when first wanted. Without it there is the tree."""
        if not self._ipc:
            try:
                folder = make_private(find_folders().sockets)
                sweep_sockets(folder)
                self._ipc = self.runtime.listen_ipc(folder)
            except (Failure, OSError) as error:
                log.debug("no socket for servers of this host: %s", error)
        return self._ipc

    # --- who has the cluster ---

    def enter(self, lease: Held) -> None:
        """At the end of the line."""
        self._leases.append(lease)

    def ahead_of(self, lease: Held) -> list[Held]:
        """Those that had the cluster or waited for it before."""
        return self._leases[: self._leases.index(lease)]

    def first(self) -> Held | None:
        """Who has the cluster, or is about to."""
        return self._leases[0] if self._leases else None

    def inside(self, who: object) -> Held | None:
        """That of a client in whose `with` this thread, or asyncio.Task, is: nobody else can leave it."""
        ours = (lease for lease in self._leases if lease.inside is who and not lease.is_leaving)
        return next(ours, None)

    def has_line(self) -> bool:
        """Whether somebody waits for the first one to leave."""
        return any(not lease.is_open for lease in self._leases[1:])

    def leave(self, lease: Held) -> None:
        """The last one out closes the sockets."""
        if lease in self._leases:
            self._leases.remove(lease)
        if not self._leases and not self._kept:
            self._close(loop_ends=False)

    # --- ends ---

    def _in_child(self) -> None:
        """In a forked child: it is the parent who gives clusters back and closes sockets."""
        self._leases.clear()
        self._closed = True

    async def end(self) -> None:
        """The loop ends: clusters that the program did not give back are given back now."""
        if not self._ending:  # not by Ctrl-C
            for lease in self._leases:
                lease.tell_left_open()
        leaving = [lease.leave(terminate=True, patience=GOODBYE_S) for lease in self._leases]
        if leaving:
            await self.wait_in_end(asyncio.gather(*leaving, return_exceptions=True))
        self.end_late()

    async def wait_in_end(self, what: asyncio.Future[Any], timeout: float | None = None) -> None:
        """The program ends, by Ctrl-C perhaps: one more, and this is not waited for any longer."""
        self._ending = True
        await asyncio.wait([what, self._hurried], timeout=timeout, return_when=asyncio.FIRST_COMPLETED)

    def _hurry(self) -> bool:
        """Ctrl-C: whether the end is on its way already."""
        if self._ending and not self._hurried.done():
            self._hurried.set_result(None)
        return self._ending

    def end_late(self) -> None:
        """Of a loop that was closed without a word, or whose end is not waited for."""
        for lease in list(self._leases):
            lease.vanish()
        self._close(loop_ends=True)

    def _close(self, *, loop_ends: bool) -> None:
        if self._closed:
            return
        self._closed = True
        self.host.close()
        self._relief.stop()
        if _is_main_thread():
            self.interrupts.uninstall(loop_ends=loop_ends)
        self.runtime.close_now()
        if not self._sentinel.ag_running:
            with contextlib.suppress(StopIteration):
                self._sentinel.aclose().send(None)


def _is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def home_of_this_loop(payloads: ClientPayloads, secret_file: Path | None) -> Home:
    """The one on the running loop, made if there is none."""
    host = host_of(asyncio.get_running_loop())
    if host is not None:
        home: Home = host.home
        return home
    for forgotten in hosts_of_closed_loops():
        forgotten.home.end_late()
    return Home(payloads, secret_file)
