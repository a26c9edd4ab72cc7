"""The node agent's body: starts, kills and hears of processes for its machine, and passes their output on."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import msgspec

from dispycos.protocol.addresses import NODE, SCHEDULER, Address
from dispycos.protocol.envelope import Envelope
from dispycos.protocol.messages import Lease, NodeInfo
from dispycos.protocol.texts import NAME_MAX, cut
from dispycos.runtime import Runtime
from dispycos.transport.claims import WorkFolder
from dispycos.transport.folders import make_private
from dispycos.version import PYTHON

from ..node import Node
from ..node_role import NodeRole
from ..tenancy import StartServer
from ..terminations import Step
from .children import ProcessTreeError
from .exits import ServerExit, ZygoteExit, say
from .processes import ProcessTree, ServerProcess, ServerSpec, Template, Zygote, ZygoteSpec
from .resources import ONE_THREAD, availability
from .start import Start
from .working import leftovers

log = logging.getLogger("dispycos")

ENTRY = "dispycos.actors.host.run_server:main"
PRELOAD = ("dispycos.actors.host.run_server",)
LOOK_S = 5.0  # how often the machine's load is looked at
LINE_MAX = 1 << 20  # bytes of a line; what a server may write in a second

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
        self._ipc = ipc
        self._debug = debug
        self._max_file_size = max_file_size
        self._tree = ProcessTree(
            template,
            runtime.loop,
            self._on_exit,
            self._on_output,
            self._on_zygote_exit,
            self._on_template_exit,
            self._on_judged,
        )
        self._zygote: Zygote | None = None
        self._servers: dict[int, ServerProcess] = {}
        self._numbers: dict[str, int] = {}  # by server name: one may die before its start was answered
        self._lines: dict[tuple[int, int], Lines] = {}
        self._under_way: set[asyncio.Task[None]] = set()
        self._look: asyncio.TimerHandle | None = None
        runtime.attach(NODE, self)
        self._look_around()

    # --- NodeRole ---

    def start_server(self, order: StartServer) -> None:
        self._go(self._start_server(order))

    def kill_server(self, number: int) -> None:
        server = self._servers.get(number)
        if server is not None:
            server.kill()

    def look(self, number: int) -> None:
        server = self._servers.get(number)
        if server is not None:
            self.machine.looked(number, server.page.step(), self.runtime.clock())
            self.runtime.turn_soon()

    def end_step(self, number: int, step: Step) -> None:
        server = self._servers.get(number)
        if server is not None:
            server.end_step(step)

    def _on_judged(self, server: ServerProcess, killed: bool) -> None:
        self.machine.judged(server.number, server.pid, killed, self.runtime.clock())
        self.runtime.turn_soon()

    def say_status(self) -> str:
        """For the operator."""
        return self.machine.say_status(
            {number: server.page.running() for number, server in self._servers.items()}
        )

    def start_zygote(self, lease: Lease) -> None:
        self._go(self._start_zygote(lease))

    def close_zygote(self, lease: Lease) -> None:
        left = leftovers(self._lease_folder(lease))
        if left.count:
            word = Envelope(Address(lease.scheduler_epoch, SCHEDULER), self.machine.address, left)
            self.runtime.router.send(word, self.runtime.clock())
        self._go(self._close_zygote(lease))

    def _go(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = self.runtime.loop.create_task(coroutine)
        self._under_way.add(task)
        task.add_done_callback(self._finish)

    def _finish(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("the node agent failed: %r", task.exception(), exc_info=task.exception())

    # --- processes ---

    def _lease_folder(self, lease: Lease) -> Path:
        return self.folder / f"lease-{lease.client:016x}-{lease.number}"

    async def _start_zygote(self, lease: Lease) -> None:
        folder = make_private(self._lease_folder(lease))
        environment: dict[str, str | None] = {"DISPYCOS_SECRET_FILE": None}
        environment.update({name: "1" for name in ONE_THREAD if name not in os.environ})
        # The node's epoch too: another node of this host may hold the same lease, and each sweeps up after its own.
        tag = f"{lease.client:016x}-{lease.number}-{self.runtime.epoch:016x}"
        spec = ZygoteSpec(tag, str(folder), environment)
        try:
            zygote = await self._tree.start_zygote(spec)
        except (ProcessTreeError, OSError) as error:
            if self.zygote_of == lease:
                self.machine.zygote_failed(str(error), self.runtime.clock())
        else:
            if self.zygote_of == lease:
                self._zygote = zygote
                self.machine.zygote_ready(self.runtime.clock())
            else:
                await self._end_zygote(zygote, lease)
        self.runtime.turn_soon()

    async def _start_server(self, order: StartServer) -> None:
        info = self.machine.info
        client = self.machine.tenancy.client if self.machine.tenancy is not None else None
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
        self._numbers[order.name] = order.number
        spec = ServerSpec(order.name, order.number, ENTRY, _encoder.encode(start))
        try:
            if self._zygote is None:
                raise ProcessTreeError("its zygote has ended")
            self._servers[order.number] = await self._zygote.start_server(spec)
        except (ProcessTreeError, OSError) as error:
            self.machine.server_failed_to_start(order.number, str(error), self.runtime.clock())
            self.runtime.turn_soon()

    async def _close_zygote(self, lease: Lease) -> None:
        zygote, self._zygote = self._zygote, None
        await self._end_zygote(zygote, lease)

    async def _end_zygote(self, zygote: Zygote | None, lease: Lease) -> None:
        if zygote is not None:
            await zygote.close()
        await asyncio.to_thread(shutil.rmtree, self._lease_folder(lease), ignore_errors=True)

    def _on_exit(self, certificate: ServerExit) -> None:
        """First all that it had sent, then its death."""
        number = self._numbers.get(certificate.name, 0)
        server = self._servers.pop(number, None)
        for stream in (1, 2):
            lines = self._lines.pop((number, stream), None)
            if lines is not None:
                self._pass_on(number, stream, lines.rest())
        self.runtime.read_all()
        self.machine.server_exited(
            number,
            certificate.pid,
            say(certificate.ending),
            bool(certificate.oom),
            self.runtime.clock(),
            server.page.marks() if server is not None else None,
        )
        self.runtime.turn_soon()

    def _on_zygote_exit(self, certificate: ZygoteExit) -> None:
        if certificate.left:
            log.warning("%s", certificate)
        if self._zygote is not None and self._zygote.tag == certificate.tag:
            self._zygote = None
            self.machine.zygote_failed(str(certificate), self.runtime.clock())
            self.runtime.turn_soon()

    def _on_template_exit(self, text: str) -> None:
        log.warning("%s; the next lease starts another", text)

    def _on_output(self, server: ServerProcess, stream: int, data: bytes, mark: int) -> None:
        lines = self._lines.setdefault((server.number, stream), Lines())
        text = lines.take(data)
        if mark:  # a task has ended, maybe with half a line
            text += lines.rest()
        self._pass_on(server.number, stream, text, mark)

    def _pass_on(self, number: int, stream: int, text: bytes, mark: int = 0) -> None:
        if text or mark:
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


class Lines:
    """Bytes of a stream as whole lines: a print from a server is not torn. A bar that is drawn over itself is many lines."""

    def __init__(self) -> None:
        self._held = bytearray()

    def take(self, data: bytes) -> bytes:
        end = data.rfind(b"\n") + 1 or data.rfind(b"\r", 0, -1) + 1  # one at the end may be half of "\r\n"
        self._held += data[:end] if end else data
        if not end and len(self._held) <= LINE_MAX:
            return b""
        if not end:
            self._held += b" ... (cut: a line of more than %d bytes goes on)\n" % LINE_MAX
        whole, self._held = bytes(self._held), bytearray(data[end:] if end else b"")
        return whole

    def rest(self) -> bytes:
        held, self._held = bytes(self._held), bytearray()
        return held


def describe(name: str, addr: str, port: int, cpus: int, epoch: int) -> NodeInfo:
    """What others are told of this node."""
    import platform

    return NodeInfo(cut(name, NAME_MAX), addr, port, cpus, platform.platform(), PYTHON, epoch)
