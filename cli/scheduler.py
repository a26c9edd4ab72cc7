"""`dispycos scheduler`: the broker that shares nodes between clients, put together and run until it is told to end."""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
from functools import partial
from pathlib import Path

from dispycos.brokers.broker import Broker
from dispycos.brokers.scheduler import Scheduler
from dispycos.config import NODE_PORT, SCHEDULER_PORT, SchedulerSettings
from dispycos.protocol.addresses import SCHEDULER, Address
from dispycos.transport.folders import make_private

from .console import read_console, run_on_in_background, wants_console
from .process import (
    PortTaken,
    Process,
    forbid_core_files,
    is_free,
    load_keys,
    raise_open_files,
    set_up_logging,
)

log = logging.getLogger("dispycos")


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
        if port and not is_free(process.addresses.to_bind[0], port):
            raise PortTaken(
                f"port {port} is in use by another process",
                "end that process, or give another port with --tcp_port",
            )
        process.listen_tcp(port)
        process.listen_ipc()
        broker = make_broker(process, private=False)
        process.on_presence = lambda found: process.reach(found) if found.role == "node" else None
        process.reach_named(settings.node, NODE_PORT, "--node", "node")
        await process.announce(multicast=False)
        where = (
            "loopback only" if process.addresses.is_loopback_only else ", ".join(process.addresses.announced)
        )
        log.info("scheduler %s: port %d, %s", name, process.port, where)
        process.tune_collector()
        process.keep(_be_found(process))
        if wants_console(daemon=settings.daemon):
            read_console(partial(console, process, broker), process.stopping.is_set)
        await process.stopping.wait()
        await broker.end(f"the scheduler {name} was stopped")
    log.info("scheduler %s has ended", name)
    return 0


def make_broker(process: Process, *, private: bool) -> Broker:
    """The scheduler's machine and body on this process's runtime."""
    machine = Scheduler(
        process.name,
        scheduler_id(process.folders.state, process.name) if not private else secrets.token_hex(8),
        Address(process.runtime.epoch, SCHEDULER),
        private=private,
        addr=process.addresses.main,
        port=process.port,
        insecure=process.keys is None,
    )
    return Broker(process.runtime, machine, process.seen)


def scheduler_id(state: Path, name: str) -> str:
    """What nodes know this scheduler by, the same after a restart."""
    file = make_private(state) / f"scheduler-{name}.id"
    try:
        return file.read_text().strip()
    except FileNotFoundError:
        new = secrets.token_hex(8)
        part = file.with_suffix(".part")
        part.write_text(new)
        part.replace(file)
        return new


async def _be_found(process: Process) -> None:
    await process.browse()
    await process.announce(multicast=True)


def console(process: Process, broker: Broker, line: str) -> str | None:
    """A command typed at the scheduler (spec 6.3.2)."""
    if line in ("quit", "exit"):
        process.stopping.set()
        return None
    if line in ("", "status"):
        registry = broker.machine.registry
        return f"clients: {len(registry.clients)}; nodes: {len(registry.nodes)}"
    return f"unknown command {line!r}: there are status, quit, exit"
