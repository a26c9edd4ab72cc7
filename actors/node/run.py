"""The node agent's body: starts, kills and hears of processes for its machine, and passes their output on."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec

from dispycos.protocol.addresses import NODE, SCHEDULER, Address
from dispycos.protocol.envelope import Envelope
from dispycos.protocol.messages import Lease, NodeInfo
from dispycos.protocol.texts import NAME_MAX, cut
from dispycos.runtime import Runtime
from dispycos.transport.claims import WorkFolder
from dispycos.transport.folders import FolderError, make_private
from dispycos.version import PYTHON

from ..tasks.step import Start, Step
from ..tasks.working import leftovers
from .agent import Node
from .lease import StartServer
from .processes.template import Template
from .processes.tree import ProcessTree, ServerProcess, ServerSpec
from .resources import availability
from .turn import NodeRole

ENTRY = "dispycos.actors.server.body:main"
LOOK_S = 5.0  # how often the machine's load is looked at

_encoder = msgspec.msgpack.Encoder()


class NodeBody(NodeRole):
    """What carries out a node agent's will: a tree of processes.

    Parameters
    ----------
    ipc: path of the agent's socket, where its servers connect. folder: where leases have theirs.
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
        on_end: Callable[[], None] = lambda: None,
    ) -> None:
        self.end = on_end
        self.runtime = runtime
        self.machine = machine
        self._work = folder
        self.folder = folder.path
        self._leased: Path | None = None  # the folder of the lease
        self._count = 0  # of such folders
        self._ipc = ipc
        self._debug = debug
        self._max_file_size = max_file_size
        self._tree = ProcessTree(template, runtime.loop, self)
        self._under_way: set[asyncio.Task[None]] = set()
        self._look: asyncio.TimerHandle | None = None
        runtime.attach(NODE, self)
        self._look_around()

    # --- NodeRole ---

    def start_zygote(self, lease: Lease) -> None:
        if self._leased is None:
            self._count += 1
            self._leased = self.folder / f"lease-{lease.client:016x}-{lease.number}-{self._count}"
        try:
            self._tree.start_zygote(str(make_private(self._leased)))
        except (OSError, FolderError) as error:
            self._tree.tell(self.zygote_ended, str(error))

    def close_zygote(self, lease: Lease) -> None:
        folder, self._leased = self._leased, None
        assert folder is not None
        left = leftovers(folder)
        if left.count:
            word = Envelope(Address(lease.scheduler_epoch, SCHEDULER), self.machine.address, left)
            self.runtime.router.send(word, self.runtime.clock())
        task = self.runtime.loop.create_task(self._clear(folder, self._tree.end_zygote()))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _clear(self, folder: Path, gone: asyncio.Future[None]) -> None:
        await gone
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    def start_server(self, order: StartServer) -> None:
        info = self.machine.info
        client = self.machine.granted.client if self.machine.granted is not None else None
        start = Start(
            self._ipc,
            order.number,
            order.name,
            info.addr,
            order.port,
            order.client,
            client.name if client is not None else "the client",
            info.name,
            client.ipc if client is not None else "",
            self._debug,
            self._max_file_size,
        )
        self._tree.start_server(ServerSpec(order.number, ENTRY, _encoder.encode(start)))

    def kill_server(self, number: int) -> None:
        self._tree.kill_server(number)

    def look(self, number: int) -> None:
        server = self._tree.servers.get(number)
        if server is not None:
            self.machine.looked(number, server.page.step(), self.runtime.clock())
            self.runtime.turn_soon()

    def end_step(self, number: int, step: Step) -> None:
        self._tree.end_step(number, step)

    def say_status(self) -> str:
        """For the operator."""
        running = {number: server.page.running() for number, server in self._tree.servers.items()}
        return self.machine.say_status(running)

    # --- tree.Owner ---

    def zygote_ready(self) -> None:
        self.machine.zygote_ready(self.runtime.clock())
        self.runtime.turn_soon()

    def zygote_ended(self, text: str) -> None:
        self.machine.zygote_failed(text, self.runtime.clock())
        self.runtime.turn_soon()

    def server_refused(self, number: int, text: str) -> None:
        self.machine.server_failed_to_start(number, text, self.runtime.clock())
        self.runtime.turn_soon()

    def server_ended(self, server: ServerProcess, text: str) -> None:
        """First all that it had sent, then its death."""
        self.runtime.read_all()
        self.machine.server_exited(server.number, text, server.page.marks(), self.runtime.clock())
        self.runtime.turn_soon()

    def judged(self, server: ServerProcess, killed: bool) -> None:
        self.machine.judged(server.number, killed, self.runtime.clock())
        self.runtime.turn_soon()

    def output(self, number: int, stream: int, text: bytes, mark: int) -> None:
        self.machine.output(number, stream, text, mark, self.runtime.clock())
        self.runtime.turn_soon()

    # --- time ---

    def _look_around(self) -> None:
        self._look = self.runtime.loop.call_later(LOOK_S, self._look_around)
        self.machine.availability(availability(self.folder), self.runtime.clock())

    async def close(self) -> None:
        """End every process of this node."""
        if self._look is not None:
            self._look.cancel()
        for task in list(self._under_way):
            task.cancel()
        await self._tree.close()
        await asyncio.to_thread(self._work.remove)


def describe(name: str, addr: str, port: int, cpus: int, epoch: int) -> NodeInfo:
    """What others are told of this node."""
    import platform

    return NodeInfo(cut(name, NAME_MAX), addr, port, cpus, platform.platform(), PYTHON, epoch)
