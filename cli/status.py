"""`dispycos status`: asks every scheduler and node that can be found what it has, and shows it."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from typing import Any

import click

from dispycos.config import NODE_PORT, SCHEDULER_PORT, HostPort, NothingFound, Refused, StatusSettings
from dispycos.protocol import messages
from dispycos.protocol.addresses import NODE, SCHEDULER, Address
from dispycos.protocol.envelope import Envelope
from dispycos.protocol.messages import NodeReport, SchedulerReport
from dispycos.runtime import Runtime
from dispycos.transport.addresses import find_addresses, resolve, tcp_endpoint
from dispycos.transport.certificates import load_listener
from dispycos.transport.discovery import Multicast, Presence, Registry, endpoints_of
from dispycos.transport.folders import find_folders
from dispycos.transport.secret import Secret
from dispycos.transport.security import Keys

from .process import set_up_logging
from .showing import node_lines, scheduler_lines

LOOK_S = 0.4  # mDNS answers within this where there is anybody
BESIDE_S = 0.5  # the node of a private process, if it has one, answers so long after its scheduler
ASKER = 20  # our actor

log = logging.getLogger("dispycos")


def run(settings: StatusSettings) -> int:
    """Exit code 0 when anything was found, 3 when nothing was."""
    set_up_logging(debug=settings.debug, times=False)
    log.setLevel(logging.DEBUG if settings.debug else logging.ERROR)
    return asyncio.run(_run(settings))


async def _run(settings: StatusSettings) -> int:
    secret = Secret.load_or_make(settings.secret_file, settings.secret, group_file=settings.group_secret)
    keys = Keys.from_secret(secret, load_listener(settings.certfile, None))
    view = View(Runtime("viewer", "status", keys), keys.tag, settings)
    try:
        await view.look()
    finally:
        await view.runtime.close()
    silent = ", ".join(view.silent)
    if not view.schedulers and not view.nodes:
        foreign = (
            f"; {view.foreign} process{'es' * (view.foreign > 1)} of another cluster (another secret)"
            if view.foreign
            else ""
        )
        if view.refused:
            raise Refused(f"{view.refused}{foreign}", "copy the secret file from one host to the other")
        if silent:
            raise NothingFound(
                f"--peer {silent}: no scheduler or node answers there, and no other was found{foreign}",
                "start one there: dispycos node; or give its port: --peer HOST:PORT",
            )
        raise NothingFound(
            f"no scheduler, node or client was found{foreign}",
            "start one: dispycos node; or name one: --peer HOST",
        )
    if silent:
        log.error("--peer %s: no scheduler or node answers there", silent)
    if view.refused:
        log.error("%s", view.refused)
    print(json.dumps(view.as_object(), indent=2) if settings.json else view.as_text())
    return 0


class View:
    """The answers, and how to get them."""

    def __init__(self, runtime: Runtime, tag: str, settings: StatusSettings) -> None:
        self.runtime = runtime
        self.schedulers: dict[int, SchedulerReport] = {}
        self.nodes: dict[int, NodeReport] = {}
        self.foreign = 0
        self.refused = ""
        self.silent: list[str] = []  # what was named and did not answer
        self._tag = tag
        self._settings = settings
        self._asked: dict[int, asyncio.Future[None]] = {}
        self._visits: set[asyncio.Task[None]] = set()
        self._seen: set[int] = set()
        self._endpoints: set[str] = set()  # that were dialled
        runtime.attach_inbox(ASKER, self._on_answer)

    async def look(self) -> None:
        """The registry, what was named, and mDNS; every process found is asked once."""
        for entry in Registry(find_folders().registry).read():
            self._found(entry)
        named = {str(place): await self._visit_named(place) for place in self._settings.peer}
        own = find_addresses(self._settings.ip_addr)
        multicast = Multicast(own.own if own.is_restricted else ())
        await multicast.open()
        try:
            await multicast.browse(self._found)
            await asyncio.sleep(LOOK_S)
            if self._visits:
                await asyncio.wait(self._visits, timeout=self._settings.timeout)
        finally:
            await multicast.close()
        self.silent = [place for place, asking in named.items() if not any(one.done() for one in asking)]

    async def _visit_named(self, place: HostPort) -> list[asyncio.Task[None]]:
        """Without a port there may be a scheduler, a node or both: who answers is not kept waiting for the other."""
        addresses = await resolve(place.host)
        ports = [place.port] if place.port else [SCHEDULER_PORT, NODE_PORT]
        asking = [
            asyncio.ensure_future(self._ask([tcp_endpoint(address, port) for address in addresses]))
            for port in ports
        ]
        self._visits.add(asyncio.ensure_future(_await_first(asking)))
        return asking

    def _found(self, found: Presence) -> None:
        if found.epoch in self._seen:
            return
        self._seen.add(found.epoch)
        if found.tag != self._tag:
            self.foreign += 1
        else:
            self._visit(endpoints_of(found))

    def _visit(self, endpoints: list[str]) -> asyncio.Task[None]:
        self._endpoints.update(endpoints)
        visit = asyncio.ensure_future(self._ask(endpoints))
        self._visits.add(visit)
        return visit

    async def _ask(self, endpoints: list[str]) -> None:
        dialler = self.runtime.dial(endpoints, uplink=False, keep=False)
        dialler.on_silence = lambda text: None
        try:
            epoch = await dialler.ready
        except Refused as refusal:
            self.refused = f"{endpoints[0]}: {refusal}"
            return
        except asyncio.CancelledError:
            return
        if self.runtime.role_of(epoch) == "node":
            await self._question(Address(epoch, NODE), self._settings.timeout)
            return
        node = asyncio.ensure_future(self._question(Address(epoch, NODE), self._settings.timeout))
        await self._question(Address(epoch, SCHEDULER), self._settings.timeout)
        report = self.schedulers.get(epoch)
        if report is not None and report.private:
            await asyncio.wait([node], timeout=BESIDE_S)
        node.cancel()
        if report is not None:
            await self._visit_nodes_of(report)

    async def _visit_nodes_of(self, report: SchedulerReport) -> None:
        """mDNS ends where the network does; a scheduler has nodes beyond."""
        places = [tcp_endpoint(addr, port) for _, addr, port, _ in self._unheard(report)]
        visits = [self._visit([place]) for place in places if place not in self._endpoints]
        if visits:
            await asyncio.wait(visits, timeout=self._settings.timeout)

    def _unheard(self, report: SchedulerReport) -> list[tuple[str, str, int, str]]:
        """The nodes of this scheduler that have not answered here."""
        heard = {(node.node.addr, node.node.port) for node in self.nodes.values()}
        return [node for node in report.nodes if node[1:3] not in heard]

    async def _question(self, whom: Address, timeout: float) -> None:
        correlation = len(self._asked) + 1
        self._asked[correlation] = answer = self.runtime.loop.create_future()
        self.runtime.send(Envelope(whom, self.runtime.address(ASKER), messages.Inventory(), correlation))
        await asyncio.wait([answer], timeout=timeout)

    def _on_answer(self, envelope: Envelope, now: float) -> None:
        if isinstance(envelope.message, SchedulerReport):
            self.schedulers[envelope.sender.epoch] = envelope.message
        elif isinstance(envelope.message, NodeReport):
            self.nodes[envelope.sender.epoch] = envelope.message
        future = self._asked.get(envelope.correlation)
        if future is not None and not future.done():
            future.set_result(None)

    # --- showing ---

    def as_object(self) -> dict[str, Any]:
        """DESIGN section 12: {schedulers, clients, nodes: [{name, location, servers: [{location, tasks}]}]}."""
        return {
            "schedulers": [_scheduler(report) for report in self.schedulers.values()],
            "clients": [_client(client) for report in self.schedulers.values() for client in report.clients],
            "nodes": [
                _node(report) for report in sorted(self.nodes.values(), key=lambda report: report.node.name)
            ],
        }

    def as_text(self) -> str:
        lines = [line for report in self.schedulers.values() for line in scheduler_lines(report)]
        for report in sorted(self.nodes.values(), key=lambda report: report.node.name):
            lines += node_lines(report)
        for scheduler in self.schedulers.values():
            for name, addr, port, state in self._unheard(scheduler):
                lines.append(
                    f"node {name} at {addr}:{port}, {state} by what scheduler {scheduler.name} knows: no answer from there"
                )
        return click.unstyle("\n".join(lines)) if not sys.stdout.isatty() else "\n".join(lines)


async def _await_first(asking: list[asyncio.Task[None]]) -> None:
    await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
    await asyncio.wait(asking, timeout=LOOK_S)


def _scheduler(report: SchedulerReport) -> dict[str, Any]:
    nodes = [
        {"name": name, "location": f"{addr}:{port}", "state": state}
        for name, addr, port, state in report.nodes
    ]
    return {
        "name": report.name,
        "location": f"{report.addr}:{report.port}" if report.port else None,
        "private": report.private,
        "insecure": report.insecure,
        "nodes": nodes,
    }


def _client(report: messages.ClientReport) -> dict[str, Any]:
    return {name: value for name, value in report._asdict().items() if name != "epoch"}


def _node(report: NodeReport) -> dict[str, Any]:
    node = report.node
    return {
        "name": node.name,
        "location": f"{node.addr}:{node.port}",
        "cpus": node.cpus,
        "platform": node.platform,
        "python": ".".join(map(str, node.python)),
        "available": node.available._asdict() if node.available is not None else None,
        "client": report.client or None,
        "served": report.served,
        "insecure": report.insecure,
        "resting": report.resting or None,
        "servers": [
            {
                "location": f"{server.spot.addr}:{server.spot.port}",
                "name": server.spot.name,
                "pid": server.pid,
                "tasks": [
                    {
                        "function": task.function,
                        "id": f"{task.owner:x}.{task.number}",
                        "io": task.io,
                        "state": task.state,
                        "since": task.since,
                    }
                    for task in server.tasks
                ],
            }
            for server in report.servers
        ],
    }
