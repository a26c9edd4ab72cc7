"""`dispycos node`: the agent of one machine, put together and run until it is told to end."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import socket
import time
from functools import partial
from math import inf
from pathlib import Path

from dispycos.actors.node.agent import LAST_S, Node
from dispycos.actors.node.processes.template import Template
from dispycos.actors.node.processes.user import TaskUser, find_task_user, settle, work_parent
from dispycos.actors.node.resources import cpu_count
from dispycos.actors.node.run import LOOK_S, NodeBody, describe, time_of_day
from dispycos.actors.tasks.step import KILL_AFTER
from dispycos.actors.tasks.step import VISIBLE_DEVICES as VARIABLE
from dispycos.config import SCHEDULER_PORT, AgentSettings, Misuse, NodeSettings, count_servers
from dispycos.protocol.addresses import NODE, Address
from dispycos.protocol.messages import Neighbour, NodeReport
from dispycos.transport.claims import WorkFolder, kernel_mark, remove_tree, sweep_work_folders
from dispycos.transport.discovery import Presence, Registry
from dispycos.transport.folders import (
    FolderError,
    find_folders,
    make_private,
    sweep_sockets,
    temporary_folder,
)
from dispycos.transport.ports import PortPlan, choose_ports, plan_ports

from .clean import see_to_leftovers
from .console import Viewer, read_console, run_on_in_background, wants_console
from .process import Process, is_free, load_keys, raise_open_files, set_up_logging
from .showing import node_lines
from .template import PRELOAD, fork_template
from .webbing import web_monitor

log = logging.getLogger("dispycos")

TURN_S = 3.0
SAY_AFTER_S = 1.0
GONE_S = 0.2  # processes that were killed are gone by then
PRIVATE_S = (
    0.6  # of a node that ends with its client: who pressed Ctrl-C there, or its next program, waits for that
)


def run(settings: NodeSettings) -> int:
    """Exit code 0 after an orderly end."""
    template = fork_template(settle_user(settings))
    run_on_in_background()
    raise_open_files()
    set_up_logging(debug=settings.debug)
    return asyncio.run(_run(settings, template))


def settle_user(settings: NodeSettings) -> TaskUser | None:
    """Whom tasks run as, if not as this process; it is tried now, not when a client waits."""
    user = find_task_user(settings.user, settings.group)
    if user is not None:
        settle(user, settings.dest_path, PRELOAD)
    return user


async def _run(settings: NodeSettings, template: Template) -> int:
    servers, warning = count_servers(settings.cpus, cpu_count())
    if warning:
        log.warning("%s", warning)
    keys = load_keys(settings)
    turn = take_turn(make_private(find_folders().registry.parent))
    name = settings.name or free_name(socket.gethostname())
    parent = lease_parent(settings.dest_path)
    try:
        see_to_leftovers(parent, name, clean=settings.clean)
    except OSError as error:
        raise unusable(parent, error.strerror) from None
    process = Process("node", name, settings, keys)
    async with process:
        plan = settle_ports(process, plan_ports(settings.tcp_ports, servers))
        process.port = process.listen_tcp(plan.ports[0])
        process.ports = real_ports(process.port, plan)
        body = make_body(process, settings, template, servers)
        try:
            process.on_presence = partial(meet, process, body)
            process.reach_named(settings.peer, SCHEDULER_PORT, "--peer", "scheduler")
            await process.announce(multicast=False)
            os.close(turn)
            where = ", ".join(process.addresses.announced)
            log.info(
                "node %s: %d server%s, port %d, %s", name, servers, "s"[: servers != 1], process.port, where
            )
            if template.user is not None:
                log.info("tasks run as user %s", template.user.name)
            process.tune_collector()
            process.keep(process.be_found())
            if wants_console(daemon=settings.daemon):
                read_console(Console(process, body), process.stopping.is_set)
            with web_monitor(process, settings):
                await process.stopping.wait()
        finally:
            await stop(process, body)
    log.info("node %s has ended", name)
    return 0


def meet(process: Process, body: NodeBody, found: Presence) -> None:
    """A process of this cluster was found."""
    if found.role == "scheduler":
        process.reach_later(found)
    elif found.role == "node":
        with process.runtime.lock:
            body.machine.meet(Neighbour(found.name, found.addresses, found.port, found.epoch))


def take_turn(folder: Path) -> int:
    """A descriptor, to be closed when this node is announced: of several that start each sees names and ports of those before."""
    file = os.open(folder / "turn.lock", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    until = time.monotonic() + TURN_S
    while time.monotonic() < until:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except OSError:
            time.sleep(0.01)
    else:
        log.warning("another node has been starting for %g s: not waiting for it any more", TURN_S)
    return file


def free_name(host: str) -> str:
    """The host's name, or host-2 ... when a node of that name runs here (DECISIONS: a second node on one host)."""
    taken = {entry.name for entry in Registry(find_folders().registry).read() if entry.role == "node"}
    name, number = host, 1
    while name in taken:
        number += 1
        name = f"{host}-{number}"
    return name


def settle_ports(process: Process, plan: PortPlan) -> PortPlan:
    """Ports that were given and are taken are an error; default ones move to the next free block."""
    address = process.addresses.to_bind[0]
    taken = {
        port for entry in Registry(process.folders.registry).read() for port in (entry.port, *entry.ports)
    }
    return choose_ports(plan, lambda port: port not in taken and is_free(address, port))


def real_ports(first: int, plan: PortPlan) -> tuple[int, ...]:
    """Each server has an entry of its own, unique even where nothing listens; with port 0 those beyond the node's."""
    if plan.ports[0]:
        return plan.ports[1:]
    return tuple(range(first + 1, first + len(plan.ports)))


def make_body(
    process: Process, settings: AgentSettings, template: Template, servers: int, *, name: str = ""
) -> NodeBody:
    """The node's machine and body on this process's runtime."""
    see_to_devices(dict(settings.resource).get("gpu", 0))
    epoch = process.runtime.epoch
    ipc = process.ipc or process.listen_ipc()
    info = describe(name or process.name, process.addresses.main, process.port, servers, epoch)
    info = info._replace(
        addresses=process.addresses.announced,
        ipc=ipc,
        max_file_size=settings.max_file_size,
        host=kernel_mark(),
        resources=tuple(sorted(settings.resource)),
    )
    machine = Node(
        info,
        Address(epoch, NODE),
        list(process.ports),
        min_pulse_interval=settings.min_pulse_interval,
        max_pulse_interval=settings.max_pulse_interval,
        insecure=process.keys is None,
        serve=max(0, settings.serve),
        zombie_period=settings.zombie_period,
        hours=settings.hours(time_of_day()),
    )
    if settings.debug:
        process.runtime.checks.append(machine.check)
    user = template.user
    if user is None:
        parent = lease_parent(settings.dest_path)
    else:
        sweep_sockets(user.shared_folder())
        ipc = process.runtime.listen_ipc(user.shared_folder())
        user.open_socket(ipc)
        parent = work_parent(user, settings.dest_path)
    remove = remove_tree if user is None else user.remove
    try:
        folder = WorkFolder(parent, process.name, epoch, remove)
    except FolderError as error:
        if settings.dest_path is None:
            raise
        raise unusable(parent, error.text) from None
    if user is not None:
        user.let_in(folder.path)
    swept = process.name if settings.clean else ""
    process.keep(asyncio.to_thread(sweep_work_folders, parent, swept, remove))
    return NodeBody(
        process.runtime,
        machine,
        template,
        ipc,
        folder,
        debug=settings.debug,
        max_file_size=settings.max_file_size,
        look_s=min(LOOK_S, settings.min_pulse_interval, settings.zombie_period or LOOK_S),
        on_end=process.stopping.set,
    )


def see_to_devices(gpus: int) -> None:
    """Raises Misuse if this process does not see so many."""
    listed = os.environ.get(VARIABLE)
    seen = len(listed.split(",")) if listed else 0
    if listed is not None and seen < gpus:
        raise Misuse(
            f"--resource gpu={gpus}, and {VARIABLE}={listed!r} lists {seen}",
            f"give as many as it lists, or start the node with another {VARIABLE}",
        )


def unusable(folder: Path, why: str | None) -> Misuse:
    return Misuse(f"--dest_path {folder}: {why}", "name a folder in which you can write")


def lease_parent(dest_path: Path | None) -> Path:
    """DECISIONS: dest_path, by default a folder of the user under the temporary directory."""
    return dest_path if dest_path is not None else make_private(temporary_folder()) / "nodes"


class Console:
    """The commands typed at a node (spec 6.2)."""

    def __init__(self, process: Process, body: NodeBody) -> None:
        self._process = process
        self._machine = body.machine
        self._viewer = Viewer(process.runtime, NODE, self._say)

    def __call__(self, line: str) -> str | None:
        machine, now = self._machine, self._process.runtime.clock()
        if line in ("", "status"):
            self._viewer.ask()
            return None
        if line not in ("close", "quit", "exit", "terminate"):
            return f"unknown command {line!r}: there are status, close, quit, exit, terminate"
        granted = machine.granted
        with self._process.runtime.lock:
            if line == "close":
                machine.dismiss(f"the operator of node {machine.info.name} closed it", now)
            else:
                machine.finish(now, terminate=line == "terminate")
        self._process.runtime.turn_soon()
        if granted is None:
            return "no client uses this node" if line == "close" else None
        if line in ("quit", "exit"):
            self._viewer.ask()
            return f"ends when the tasks of {granted.holder} are done; `terminate` ends them"
        return f"the lease of {granted.holder} ends: its tasks are interrupted, and killed after {KILL_AFTER:g} s"

    def _say(self, report: NodeReport) -> list[str]:
        return [*node_lines(report), f"clients served: {report.served}"]


async def stop(process: Process, body: NodeBody, patience: float | None = None) -> None:
    """Tasks get their KeyboardInterrupt and 5 s, or so many seconds; clients hear it; then every process of ours ends.

    A second signal ends the waiting.
    """
    runtime = process.runtime
    since = runtime.clock()
    with runtime.lock:
        body.machine.end_lease(
            "its node was stopped", since, kill_after=inf if patience is None else patience
        )
    runtime.turn_soon()
    until = since + (KILL_AFTER + LAST_S if patience is None else patience) + GONE_S
    said = False
    while body.machine.granted is not None and runtime.clock() < until and not process.hurried.is_set():
        if not said and runtime.clock() >= since + SAY_AFTER_S:
            said = True
            log.info(
                "tasks have %g s to end, since they were interrupted; a second signal ends them now",
                KILL_AFTER,
            )
        await asyncio.sleep(0.005)
    await body.close()
