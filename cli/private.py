"""`dispycos private`: scheduler and node in one process, for the client that started it and only as long as it lives.

It looks around first, for 0.3 s: a scheduler of the same cluster is handed to the client instead; nodes of the same cluster
are used instead of an own one. What it says to the client are lines of JSON on standard output.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import sys
from dataclasses import replace
from typing import Any

from dispycos.actors.host.processes import Template
from dispycos.actors.host.resources import cpu_count
from dispycos.actors.host.run_node import PRELOAD, NodeBody
from dispycos.config import NODE_PORT, Failure, PrivateSettings, Refused, count_servers, parse_place
from dispycos.transport.addresses import tcp_endpoint
from dispycos.transport.discovery import Presence

from .node import make_body, stop
from .process import Process, forbid_core_files, load_keys, raise_open_files, set_up_logging
from .scheduler import make_broker

log = logging.getLogger("dispycos")

SURVEY_S = 0.3
NAMED_S = 1.5  # nodes that were named have so long to answer, before the rest is used


def run(settings: PrivateSettings) -> int:
    """Runs until its standard input ends."""
    forbid_core_files()
    template = Template.fork(PRELOAD)  # before any thread and ZeroMQ context
    raise_open_files()
    orders = json.loads(sys.stdin.readline() or "{}")
    settings = replace(
        settings,
        node=(*settings.node, *(parse_place(text) for text in orders.get("nodes", ()))),
        secret=orders.get("secret"),
        secret_file=orders.get("secret_file") or settings.secret_file,
        debug=settings.debug or bool(orders.get("debug")),
    )
    set_up_logging(debug=settings.debug)
    log.setLevel(logging.DEBUG if settings.debug else logging.WARNING)  # the terminal is the client's
    try:
        return asyncio.run(_run(settings, template, always=bool(orders.get("always"))))
    except Failure as failure:
        say(error=str(failure))
        return failure.exit_code


def say(**words: Any) -> None:
    """A line to the client; one that does not listen any more is gone, and so are we soon."""
    try:
        sys.stdout.write(json.dumps(words) + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        log.debug("the client is gone")


async def _run(settings: PrivateSettings, template: Template, *, always: bool) -> int:
    keys = load_keys(settings)
    process = Process("scheduler", f"private-{os.getpid()}", settings, keys, private=True)
    process.notice = lambda text, level: say(notice=text, level=level)
    async with process:
        process.keep(_end_with_client(process))
        process.knocks = True
        process.listen_ipc()
        broker = make_broker(process, private=True)
        broker.machine.hold_settling(True)
        say(endpoint=f"ipc://{process.ipc}")
        body: NodeBody | None = None
        try:
            survey = Survey(process)
            refused: list[str] = []
            unknown: dict[str, str] = {}
            process.on_named = refused.append
            process.on_unknown = unknown.__setitem__
            process.reach_named(settings.node, NODE_PORT, "nodes")
            await survey.look()
            names = {node.name for node in survey.nodes}
            refused += [
                text for host, text in unknown.items() if host not in names
            ]  # a node's name is no host's
            if refused:
                raise Refused(refused[0])
            process.on_named = lambda text: process.notice(text, "error")
            if survey.schedulers and not always and not settings.node:
                found = survey.schedulers[0]
                endpoints = [tcp_endpoint(address, found.port) for address in found.addresses]
                say(use="scheduler", name=found.name, endpoints=endpoints)
            else:
                if not survey.usable() and not settings.node:
                    body = start_node(process, settings, template)
                await process.announce(multicast=False)
                broker.machine.hold_settling(False)
                process.runtime.turn_soon()
                process.tune_collector()
                say(use="private")
            await process.stopping.wait()
        finally:
            await broker.end("its client has ended")
            if body is not None:
                await stop(process, body)
    return 0


class Survey:
    """What is there besides us: nodes are used at once, also those that appear later."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.schedulers: list[Presence] = []
        self.nodes: list[Presence] = []
        process.on_presence = self.on_presence

    def on_presence(self, found: Presence) -> None:
        if found.role == "scheduler":
            self.schedulers.append(found)
        elif found.role == "node":
            self.nodes.append(found)
            self.process.reach(found)

    def usable(self) -> list[Presence]:
        """Those that run the same Python minor version: code of another crashes the interpreter."""
        about = self.process.runtime.router.about
        return [
            node
            for node in self.nodes
            if (found := about(node.epoch)) is None or found.python == sys.version_info[:2]
        ]

    async def look(self) -> None:
        """The registry at once; mDNS for 0.3 s, and then until every node found is connected, at most 1 s more."""
        await self.process.browse()
        await self.process.settle_named(NAMED_S)
        if not self.nodes and not self.schedulers:
            await asyncio.sleep(SURVEY_S)
        runtime = self.process.runtime
        until = runtime.clock() + 1.0
        while not all(runtime.is_linked(node.epoch) for node in self.nodes) and runtime.clock() < until:
            await asyncio.sleep(0.005)


def start_node(process: Process, settings: PrivateSettings, template: Template) -> NodeBody:
    """An own node, never announced: one server per CPU, ports that are only names."""
    servers, _ = count_servers(settings.cpus, cpu_count())
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        process.port = probe.getsockname()[1]
    process.ports = tuple(range(process.port + 1, process.port + 1 + servers))
    body = make_body(process, settings, template, servers, name=settings.name or socket.gethostname())
    body.machine.add_scheduler(process.runtime.epoch, process.runtime.clock())
    process.runtime.turn_soon()
    return body


async def _end_with_client(process: Process) -> None:
    """Standard input ends when the client does."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    while await reader.read(4096):
        continue
    process.stopping.set()
