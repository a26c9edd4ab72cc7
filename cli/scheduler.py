"""`dispycos scheduler`: the broker that shares nodes between clients, put together and run until it is told to end."""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
import tempfile
import time
from functools import partial
from pathlib import Path

from dispycos.brokers.broker import Broker
from dispycos.brokers.scheduler import Scheduler
from dispycos.config import NODE_PORT, SCHEDULER_PORT, Misuse, PrivateSettings, SchedulerSettings
from dispycos.protocol.addresses import NODE, SCHEDULER, Address
from dispycos.protocol.envelope import Envelope
from dispycos.protocol.messages import Inventory, Neighbour, NodeReport, SchedulerReport
from dispycos.transport.dialler import PAUSE_MAX
from dispycos.transport.discovery import Presence
from dispycos.transport.folders import make_missing, make_private

from .console import Viewer, read_console, run_on_in_background, wants_console
from .process import Process, load_keys, raise_open_files, set_up_logging
from .showing import known_node_lines, scheduler_lines
from .sight import forbid_core_files
from .webbing import web_monitor

log = logging.getLogger("dispycos")

NEIGHBOURHOOD = 22  # our actor that asks nodes for their neighbours
EXPLORE_S = 30.0
LOOK_S = 0.5

HOLD_S = max(3.0, PAUSE_MAX + 1.0)  # after this time all who can have come back


def run(settings: SchedulerSettings) -> int:
    """Exit code 0 after an orderly end."""
    run_on_in_background()
    forbid_core_files()
    raise_open_files()
    set_up_logging(debug=settings.debug)
    return asyncio.run(_run(settings))


async def _run(settings: SchedulerSettings) -> int:
    name = settings.name or socket.gethostname()
    process = Process("scheduler", name, settings, load_keys(settings))
    async with process:
        port = settings.tcp_port if settings.tcp_port is not None else SCHEDULER_PORT
        process.listen_tcp(port)
        process.listen_ipc()
        identity = Identity(records_folder(settings, process), name, port)
        broker = make_broker(process, identity.id, settings, hold_s=HOLD_S if identity.is_old else 0.0)
        process.on_presence = lambda found: process.reach(found) if found.role == "node" else None
        process.reach_named(settings.node, NODE_PORT, "--node", "node")
        await process.announce(multicast=False)
        where = ", ".join(process.addresses.announced)
        log.info("scheduler %s: port %d, %s", name, process.port, where)
        process.tune_collector()
        process.keep(process.be_found())
        if settings.node:
            process.keep(Neighbourhood(process).explore())
        if wants_console(daemon=settings.daemon):
            read_console(Console(process), process.stopping.is_set)
        with web_monitor(process, settings):
            await process.stopping.wait()
        # All that an earlier life has granted is known, and ends now.
        is_whole = not broker.machine.is_holding
        await broker.end(f"the scheduler {name} was stopped")
        if is_whole:
            identity.give_up()
    log.info("scheduler %s has ended", name)
    return 0


class Neighbourhood:
    """The nodes near those of --node: one of a network that mDNS does not reach is enough (spec 6.3.2)."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._own = process.runtime.attach_inbox(NEIGHBOURHOOD, self._on_report)
        self._asked: dict[int, float] = {}  # by epoch, when

    async def explore(self) -> None:
        """Asks each when it is reached, and again, for nodes that are started later."""
        runtime = self._process.runtime
        while True:
            now = runtime.clock()
            for dialler in self._process.diallers:
                epoch = dialler.epoch
                if epoch and runtime.is_linked(epoch) and now >= self._asked.get(epoch, 0.0) + EXPLORE_S:
                    self._asked[epoch] = now
                    runtime.send(Envelope(Address(epoch, NODE), self._own, Inventory(), 1))
            await asyncio.sleep(LOOK_S)

    def _on_report(self, envelope: Envelope, now: float) -> None:
        if isinstance(envelope.message, NodeReport):
            self._process.runtime.defer(partial(self._reach, envelope.message.neighbours))

    def _reach(self, neighbours: tuple[Neighbour, ...]) -> None:
        process = self._process
        tag = process.keys.tag if process.keys is not None else "insecure"
        for node in neighbours:
            process.reach(Presence("node", node.name, node.addresses, node.port, tag, node.epoch))


def records_folder(settings: SchedulerSettings, process: Process) -> Path:
    """What --dest_path is for here. Raises Misuse if nothing can be written there."""
    folder = settings.dest_path
    if folder is None:
        return make_private(process.folders.state)
    try:
        make_missing(folder)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        raise Misuse(
            f"--dest_path {folder}: {error.strerror}", "name a folder in which you can write"
        ) from None


class Identity:
    """What nodes know a scheduler by, from its first start to its end in order, in a file: so one that was killed is the same
    one when it is started again, and whether something may still be held by its leave is known from the file being there.
    """

    def __init__(self, folder: Path, name: str, port: int) -> None:
        self._file: Path | None = None
        self.id, self.is_old = secrets.token_hex(8), False
        if port == 0:
            return  # nobody finds it again at another port
        self._file = folder / f"scheduler-{name}-{port}.id"
        try:
            self.id, self.is_old = self._file.read_text().strip(), True
        except FileNotFoundError:
            part = self._file.with_suffix(".part")
            part.write_text(self.id)
            part.replace(self._file)

    def give_up(self) -> None:
        """All leases have ended, or are told to."""
        if self._file is not None:
            self._file.unlink(missing_ok=True)


def make_broker(
    process: Process,
    scheduler_id: str,
    settings: SchedulerSettings | PrivateSettings,
    *,
    private: bool = False,
    hold_s: float = 0.0,
) -> Broker:
    """The scheduler's machine and body on this process's runtime."""
    machine = Scheduler(
        process.name,
        scheduler_id,
        Address(process.runtime.epoch, SCHEDULER),
        private=private,
        addr=process.addresses.main,
        port=process.port,
        insecure=process.keys is None,
        count=time.time_ns() // 1000,
        hold_until=process.runtime.clock() + hold_s if hold_s else None,
        zombie_period=settings.zombie_period,
        max_file_size=settings.max_file_size,
    )
    if log.isEnabledFor(logging.DEBUG):
        process.runtime.checks.append(machine.check)
    return Broker(process.runtime, machine, process.seen)


class Console:
    """The commands typed at a scheduler (spec 6.3.2)."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._viewer = Viewer(process.runtime, SCHEDULER, self._say)

    def __call__(self, line: str) -> str | None:
        if line in ("quit", "exit"):
            self._process.stopping.set()
        elif line in ("", "status"):
            self._viewer.ask()
        else:
            return f"unknown command {line!r}: there are status, quit, exit"
        return None

    def _say(self, report: SchedulerReport) -> list[str]:
        counts = f"clients: {len(report.clients)}; nodes: {len(report.nodes)}"
        return [*scheduler_lines(report), *known_node_lines(report), counts]
