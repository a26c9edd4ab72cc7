"""The node agent's body: starts, kills and hears of processes for its machine, and passes their output on."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
from msgspec import structs

from dispycos.hours import TimeOfDay
from dispycos.protocol.addresses import NODE, SCHEDULER, Address
from dispycos.protocol.envelope import Buffer, Envelope
from dispycos.protocol.messages import Lease, NodeInfo
from dispycos.protocol.texts import NAME_MAX, cut
from dispycos.runtime import Runtime
from dispycos.transport.claims import WorkFolder
from dispycos.transport.folders import FolderError, make_private
from dispycos.transport.security import IpcPeer
from dispycos.version import PYTHON

from ..tasks.files.receiver import Receiver
from ..tasks.files.receiving import Ground
from ..tasks.step import NO_STEP, Preparation, Start, Step
from ..tasks.working import leftovers
from .agent import Node
from .lease import CloseZygote, ForgetPeer
from .processes.template import Template
from .processes.tree import ProcessTree
from .processes.words import EndStep, ForkServer, KillServer, Prepare
from .resources import measure
from .turn import NodeRole

ENTRY = "dispycos.actors.server.body:main"
SETUP_ENTRY = "dispycos.actors.server.setup:prepare"
LOOK_S = 5.0  # so often it is looked at the load of the machine, and at what servers do

log = logging.getLogger("dispycos")

_encoder = msgspec.msgpack.Encoder()


class NodeBody(NodeRole):
    """What carries out a node agent's will: a tree of processes.

    Parameters
    ----------
    ipc: path of the agent's socket, where its servers connect. folder: where leases have theirs.
    look_s: seconds from one look at the machine's load, and at what the servers do, to the next.
    clock: by the wall clock, for its service hours.
    on_end: called when the machine says that this process has nothing left to do.
    """

    def __init__(
        self,
        runtime: Runtime,
        machine: Node,
        template: Template,
        ipc: str,
        folder: WorkFolder,
        *,
        debug: bool,
        max_file_size: int = 0,
        look_s: float = LOOK_S,
        clock: Callable[[], TimeOfDay] = lambda: time_of_day(),
        on_end: Callable[[], None] = lambda: None,
    ) -> None:
        self.end = on_end
        self.runtime = runtime
        self.machine = machine
        machine.step_of = self.step_of
        self._work = folder
        self.folder = folder.path
        self._leased: Path | None = None  # the folder of the lease
        self._count = 0  # of such folders
        self._ipc = ipc
        self._debug = debug
        self._max_file_size = max_file_size
        self._user = template.user
        if self._user is not None:
            runtime.mailbox.admits = self._admits
        self._tree = ProcessTree(template, runtime.loop, machine, self._tell)
        self._look_s = look_s
        self._time_of_day = clock
        self._look: asyncio.TimerHandle | None = None
        self.files = Receiver(
            runtime,
            f"node {machine.info.name}",
            self._ground_of,
            max_file_size,
            f"start node {machine.info.name} with --max_file_size {{}} or more",
        )
        runtime.attach(NODE, self)
        self._look_around()

    # --- NodeRole ---

    def start_zygote(self, lease: Lease) -> None:
        if self._leased is None:
            self._count += 1
            self._leased = self.folder / f"lease-{lease.client:016x}-{lease.number}-{self._count}"
        try:
            make_folder = make_private if self._user is None else self._user.make_folder
            self._tree.start_zygote(str(make_folder(self._leased)))
        except (OSError, FolderError) as error:
            self._tell(self.machine.zygote_failed, str(error))

    def prepare_zygote(self, setup: list[Buffer]) -> None:
        granted = self.machine.granted
        assert granted is not None
        limits = self._max_file_size, granted.max_file_size
        size_max = min(filter(None, limits), default=0)
        told = Preparation(granted.client.name, self.machine.info.name, size_max)
        try:
            self._tree.prepare(Prepare(SETUP_ENTRY, _encoder.encode(told)), setup)
        except OSError as error:
            text = f"no room for the files of its client: {error.strerror}"
            self._tell(self.machine.setup_failed, text)

    def answer_code(self, error: str, answer: list[Buffer]) -> None:
        self._tree.answer_code(error, answer)

    def close_zygote(self, word: CloseZygote) -> None:
        folder, self._leased = self._leased, None
        assert folder is not None
        self.files.machine.clear("the lease of its client has ended")
        lease, left = word.lease, leftovers(folder, self.files.written)
        self.files.written.clear()
        if word.keep:  # beside our own folder, which is removed with us
            to = self.folder.parent / f"kept-{lease.client:016x}-{lease.number}-{self._count}"
        else:
            to = folder.with_name(f"{folder.name}-ended")
        # At once, though it may take long to empty it: when the client hears of the end its files are gone, or in their place.
        is_moved = _moved(folder, to)
        is_kept = is_moved and word.keep
        if is_kept:
            left = structs.replace(left, kept=f"{self.machine.info.name}:{to}")
        if left.count or is_kept:
            told = Envelope(Address(lease.scheduler_epoch, SCHEDULER), self.machine.address, left)
            self.runtime.router.send(told, self.runtime.clock())
        ended = to if is_moved else folder
        self._tree.keep(self._clear(None if is_kept else ended, self._tree.end_zygote()))

    async def _clear(self, folder: Path | None, gone: asyncio.Future[None]) -> None:
        await gone
        await asyncio.to_thread(self.files.wait_until_still)
        if folder is not None:
            await asyncio.to_thread(self._work.remove_tree, folder)

    def start_server(self, number: int) -> None:
        granted = self.machine.granted
        assert granted is not None
        spot = granted.places[number - 1].spot
        start = Start(
            self._ipc,
            number,
            spot.name,
            spot.addr,
            spot.port,
            granted.lease.client,
            granted.client.name,
            self.machine.info.name,
            granted.client.ipc,
            self._debug,
        )
        self._tree.start_server(ForkServer(number, ENTRY, _encoder.encode(start)))

    def carry_out(self, effect: object, now: float) -> None:
        super().carry_out(effect, now)
        if isinstance(effect, ForgetPeer):
            self.files.machine.peer_gone(effect.epoch)

    def _ground_of(self, client: int, port: int) -> Ground | str:
        """Where files of this client belong. No server takes any: one that computes would hold them up."""
        granted = self.machine.granted
        if granted is None or self._leased is None or granted.lease.client != client:
            return "it is not leased to this client any more"
        if granted.closing is not None:
            return "the lease of its client is ending"
        if not port:
            return Ground(str(self._leased))
        for place in granted.places:
            if place.spot.port == port and place.alive:
                return Ground(str(self._leased), (f"dispycosproc-{place.number}",))
        return "the server is gone"

    def order(self, word: KillServer | EndStep) -> None:
        self._tree.order(word)

    def step_of(self, number: int) -> Step:
        server = self._tree.servers.get(number)
        return server.page.step() if server is not None else NO_STEP

    def _admits(self, peer: IpcPeer) -> bool:
        """Of another user only the servers of our lease may connect to us."""
        return self._user is not None and peer.uid == self._user.uid and self._tree.is_server(peer.pid)

    # --- what the tree says ---

    def _tell(self, told: Callable[..., None], *words: object) -> None:
        """In a turn of its own, so that what the machine raises is not raised in the tree."""
        self.runtime.loop.call_soon(self._told, told, words)

    def _told(self, told: Callable[..., None], words: tuple[object, ...]) -> None:
        if told != self.machine.output:
            self.runtime.read_all()  # first all that a server had sent, then its death
        told(*words, self.runtime.clock())
        self.runtime.turn_soon()

    # --- time ---

    def _look_around(self) -> None:
        self._look = self.runtime.loop.call_later(self._look_s, self._look_around)
        available, machine = measure(self.folder)
        pages = {server.pid: server.page for server in self._tree.servers.values()}
        with self.runtime.lock:
            now = self.runtime.clock()
            self.machine.measured(available, machine, now)
            self.machine.tell_time(self._time_of_day(), now)
            running = sum(page.running() for page in pages.values())
            self.machine.saw(running, {pid: page.marks() for pid, page in pages.items()}, now)
        self.runtime.turn_soon()

    async def close(self) -> None:
        """End every process of this node."""
        if self._look is not None:
            self._look.cancel()
        await self._tree.close()
        await asyncio.to_thread(self._work.remove)


def _moved(folder: Path, to: Path) -> bool:
    try:
        folder.rename(to)
    except FileNotFoundError:  # it could not be made
        return False
    except OSError as error:
        log.error("%s cannot become %s: %s", folder, to, error.strerror)
        return False
    return True


def time_of_day() -> TimeOfDay:
    now = time.localtime()
    return TimeOfDay(now.tm_hour, now.tm_min)


def describe(name: str, addr: str, port: int, cpus: int, epoch: int) -> NodeInfo:
    """What others are told of this node."""
    import platform

    return NodeInfo(cut(name, NAME_MAX), addr, port, cpus, platform.platform(), PYTHON, epoch)
