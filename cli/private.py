"""`dispycos private`: scheduler and node in one process, for the client that started it and only as long as it lives.

It looks around first (survey.py): a scheduler of the same cluster is handed to the client instead; nodes of the same cluster
are used instead of an own one. What it says to the client are lines of JSON on standard output. Its first steps are in ahead.py.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import sys
from dataclasses import replace
from typing import IO, Any

from dispycos.actors.node.processes.template import Template
from dispycos.actors.node.resources import cpu_count
from dispycos.actors.node.run import NodeBody
from dispycos.brokers.broker import Broker
from dispycos.config import Failure, PrivateSettings, count_servers
from dispycos.private_options import PRIVATE_OPTIONS, private_settings
from dispycos.protocol.messages import Allocation
from dispycos.transport.addresses import tcp_endpoint
from dispycos.transport.question import Question

from .node import PRIVATE_S, make_body, stop
from .process import Process, load_keys, raise_open_files, set_up_logging
from .scheduler import make_broker
from .survey import PROVEN_S, Survey

log = logging.getLogger("dispycos")


def run(settings: PrivateSettings, template: Template, question: Question | None, told: IO[bytes]) -> int:
    """Runs until its standard input ends. `question`: what it has asked by mDNS already."""
    raise_open_files()
    line = told.readline()
    if not line:
        return 0  # started ahead, and not needed
    orders = json.loads(line)
    settings = private_settings(settings, {k: v for k, v in orders.items() if k in PRIVATE_OPTIONS})
    settings = replace(settings, secret=orders.get("secret"))
    set_up_logging(debug=settings.debug, times=False)
    log.setLevel(logging.DEBUG if settings.debug else logging.WARNING)  # the terminal is the client's
    try:
        return asyncio.run(_run(settings, template, orders, question))
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


async def _run(
    settings: PrivateSettings, template: Template, orders: dict[str, Any], question: Question | None
) -> int:
    """`always`: a scheduler that is found is not used instead; `named`: nor is there need for a node of our own; `alone`: nobody
    is looked for."""
    always, named = "always" in orders, "named" in orders or bool(settings.node)
    keys = load_keys(settings)
    process = Process("scheduler", f"private-{os.getpid()}", settings, keys, private=True)
    process.notice = lambda text, level: say(notice=text, level=level)
    async with process:
        process.keep(_end_with_client(process))
        process.knocks = True
        process.listen_ipc()
        broker = make_broker(process, orders["id"], settings, private=True)
        broker.machine.hold_settling(True)
        broker.machine.also = [Allocation(place.host, place.port) for place in settings.node]
        say(endpoint=f"ipc://{process.ipc}")
        body: NodeBody | None = None
        try:
            survey = Survey(process, question, wants_scheduler=not always and not named)
            if "alone" not in orders:
                await survey.look()
            found = survey.scheduler()
            if found is not None:
                endpoints = [tcp_endpoint(address, found.port) for address in found.addresses]
                say(use="scheduler", name=found.name, endpoints=endpoints)
            else:
                if not survey.nodes() and not named:
                    body = start_node(process, settings, template)
                await _hear_of(survey, broker)
                if "alone" not in orders:
                    await process.announce(multicast=False)
                broker.machine.hold_settling(False)
                process.runtime.turn_soon()
                process.tune_collector()
                say(use="private")
            await process.stopping.wait()
        finally:
            await broker.end("its client has ended")
            if body is not None:
                await stop(process, body, PRIVATE_S)
    return 0


async def _hear_of(survey: Survey, broker: Broker) -> None:
    """The nodes that were found are linked; what they are they say a turn later, and schedule() is to wait for their servers."""
    clock = broker.runtime.clock
    until = clock() + PROVEN_S
    while clock() < until and any(node.epoch not in broker.machine.registry.nodes for node in survey.nodes()):
        await asyncio.sleep(0.002)


def start_node(process: Process, settings: PrivateSettings, template: Template) -> NodeBody:
    """An own node, never announced: one server per CPU, ports that are only names."""
    servers, _ = count_servers(settings.cpus, cpu_count())
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        process.port = probe.getsockname()[1]
    process.ports = tuple(range(process.port + 1, process.port + 1 + servers))
    settings = replace(settings, zombie_period=0.0)  # which is the scheduler's
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
