"""`dispycos scheduler`: the broker that shares nodes between clients, put together and run until it is told to end."""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
import time
from functools import partial
from pathlib import Path

from dispycos.brokers.broker import Broker
from dispycos.brokers.scheduler import Scheduler
from dispycos.config import NODE_PORT, SCHEDULER_PORT, SchedulerSettings
from dispycos.protocol.addresses import SCHEDULER, Address
from dispycos.transport.dialler import PAUSE_MAX
from dispycos.transport.folders import make_private

from .console import read_console, run_on_in_background, wants_console
from .process import Process, load_keys, raise_open_files, set_up_logging
from .sight import forbid_core_files

log = logging.getLogger("dispycos")

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
        identity = Identity(process.folders.state, name, port)
        broker = make_broker(
            process,
            identity.id,
            hold_s=HOLD_S if identity.is_old else 0.0,
            max_file_size=settings.max_file_size,
        )
        process.on_presence = lambda found: process.reach(found) if found.role == "node" else None
        process.reach_named(settings.node, NODE_PORT, "--node", "node")
        await process.announce(multicast=False)
        where = ", ".join(process.addresses.announced)
        log.info("scheduler %s: port %d, %s", name, process.port, where)
        process.tune_collector()
        process.keep(process.be_found())
        if wants_console(daemon=settings.daemon):
            read_console(partial(console, process, broker), process.stopping.is_set)
        await process.stopping.wait()
        is_whole = (
            not broker.machine.is_holding
        )  # all that an earlier life has granted is known, and ends now
        await broker.end(f"the scheduler {name} was stopped")
        if is_whole:
            identity.give_up()
    log.info("scheduler %s has ended", name)
    return 0


class Identity:
    """What nodes know a scheduler by, from its first start to its end in order, in a file: so one that was killed is the same
    one when it is started again, and whether something may still be held by its leave is known from the file being there.
    """

    def __init__(self, state: Path, name: str, port: int) -> None:
        self._file: Path | None = None
        self.id, self.is_old = secrets.token_hex(8), False
        if port == 0:
            return  # nobody finds it again at another port
        self._file = make_private(state) / f"scheduler-{name}-{port}.id"
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
    *,
    private: bool = False,
    hold_s: float = 0.0,
    max_file_size: int = 0,
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
        max_file_size=max_file_size,
    )
    if log.isEnabledFor(logging.DEBUG):
        process.runtime.checks.append(machine.check)
    return Broker(process.runtime, machine, process.seen)


def console(process: Process, broker: Broker, line: str) -> str | None:
    """A command typed at the scheduler (spec 6.3.2)."""
    if line in ("quit", "exit"):
        process.stopping.set()
        return None
    if line in ("", "status"):
        registry = broker.machine.registry
        return f"clients: {len(registry.clients)}; nodes: {len(registry.nodes)}"
    return f"unknown command {line!r}: there are status, quit, exit"
