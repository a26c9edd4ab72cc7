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
from typing import Any

from dispycos.actors.host.processes import Template
from dispycos.actors.host.resources import cpu_count
from dispycos.actors.host.run_node import PRELOAD, NodeBody
from dispycos.config import PRIVATE_OPTIONS, Failure, PrivateSettings, count_servers, private_settings
from dispycos.protocol.messages import Allocation
from dispycos.transport.addresses import tcp_endpoint
from dispycos.transport.discovery import Presence

from .node import make_body, stop
from .process import Process, load_keys, raise_open_files, set_up_logging
from .scheduler import make_broker

log = logging.getLogger("dispycos")

SURVEY_S = 0.3


def run(settings: PrivateSettings) -> int:
    """Runs until its standard input ends."""
    template = Template.fork(PRELOAD)  # before any thread, secret and ZeroMQ context
    raise_open_files()
    orders = json.loads(sys.stdin.readline() or "{}")
    settings = private_settings(settings, {k: v for k, v in orders.items() if k in PRIVATE_OPTIONS})
    set_up_logging(debug=settings.debug, times=False)
    log.setLevel(logging.DEBUG if settings.debug else logging.WARNING)  # the terminal is the client's
    try:
        return asyncio.run(_run(settings, template, always="always" in orders, named="named" in orders))
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


async def _run(settings: PrivateSettings, template: Template, *, always: bool, named: bool) -> int:
    """`always`: a scheduler that is found is not used instead; `named`: nor is there need for a node of our own."""
    named = named or bool(settings.node)
    keys = load_keys(settings)
    process = Process("scheduler", f"private-{os.getpid()}", settings, keys, private=True)
    process.notice = lambda text, level: say(notice=text, level=level)
    async with process:
        process.keep(_end_with_client(process))
        process.knocks = True
        process.listen_ipc()
        broker = make_broker(process, private=True)
        broker.machine.hold_settling(True)
        broker.machine.also = [Allocation(place.host, place.port) for place in settings.node]
        say(endpoint=f"ipc://{process.ipc}")
        body: NodeBody | None = None
        try:
            survey = Survey(process)
            await survey.look()
            if survey.schedulers and not always and not named:
                found = survey.schedulers[0]
                endpoints = [tcp_endpoint(address, found.port) for address in found.addresses]
                say(use="scheduler", name=found.name, endpoints=endpoints)
            else:
                if not survey.usable() and not named:
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
