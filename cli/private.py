"""`dispycos private`: scheduler and node in one process, for the client that started it and only as long as it lives.

It looks around first (survey.py): a scheduler of the same cluster is handed to the client instead; nodes of the same cluster
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
from dispycos.actors.host.run_node import NodeBody
from dispycos.config import NODE_PORT, Failure, PrivateSettings, Refused, count_servers, parse_place
from dispycos.transport.addresses import tcp_endpoint
from dispycos.version import PYTHON

from .node import fork_template, make_body, stop
from .process import Process, load_keys, raise_open_files, set_up_logging
from .scheduler import make_broker
from .survey import Survey, other_python

log = logging.getLogger("dispycos")


def run(settings: PrivateSettings) -> int:
    """Runs until its standard input ends."""
    template = fork_template()
    raise_open_files()
    orders = json.loads(sys.stdin.readline() or "{}")
    settings = replace(
        settings,
        node=(*settings.node, *(parse_place(text) for text in orders.get("nodes", ()))),
        secret=orders.get("secret"),
        secret_file=orders.get("secret_file") or settings.secret_file,
        debug=settings.debug or bool(orders.get("debug")),
    )
    set_up_logging(debug=settings.debug, times=False)
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
            survey = Survey(process, wants_scheduler=not always and not settings.node)
            await _look(process, survey, settings)
            found = survey.scheduler()
            if found is not None:
                endpoints = [tcp_endpoint(address, found.port) for address in found.addresses]
                say(use="scheduler", name=found.name, endpoints=endpoints)
            else:
                if not survey.nodes() and not settings.node:
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


async def _look(process: Process, survey: Survey, settings: PrivateSettings) -> None:
    """Raises Refused if a node that was named is of no use."""
    refused: list[str] = []
    unknown: dict[str, str] = {}
    process.on_named = refused.append
    process.on_unknown = unknown.__setitem__
    process.on_reached = lambda what, about: (
        refused.append(f"{what} {other_python(about.python)}") if about.python != PYTHON else None
    )
    process.reach_named(settings.node, NODE_PORT, "nodes")
    await survey.look()
    names = {node.name for node in survey.nodes()}
    for host, text in unknown.items():
        if host not in names:  # a node's name is no host's
            refused.append(survey.left_out.get(host, text))
    if refused:
        raise Refused(refused[0])
    process.on_named = lambda text: process.notice(text, "error")


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
