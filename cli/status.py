"""`dispycos status`: asks every scheduler and node that can be found what it has, and shows it."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click

from dispycos.config import StatusSettings
from dispycos.protocol import messages
from dispycos.protocol.messages import NodeReport, SchedulerReport

from .lookout import Lookout, looking
from .process import set_up_logging
from .showing import node_lines, scheduler_lines

log = logging.getLogger("dispycos")


def run(settings: StatusSettings) -> int:
    """Exit code 0 when anything was found, 3 when nothing was."""
    set_up_logging(debug=settings.debug, times=False)
    log.setLevel(logging.DEBUG if settings.debug else logging.ERROR)
    return asyncio.run(_run(settings) if settings.watch is None else _watch(settings, settings.watch))


async def _run(settings: StatusSettings) -> int:
    async with looking(settings, "status") as view:
        print(as_json(view) if settings.json else as_text(view))
    return 0


async def _watch(settings: StatusSettings, pause: float) -> int:
    """Until it is interrupted."""
    async with looking(settings, "status", stays=True) as view:
        with _showing(settings, pause) as show:
            while True:
                show(view)
                await asyncio.sleep(pause)
                await view.look_again()


@contextmanager
def _showing(settings: StatusSettings, pause: float) -> Iterator[Callable[[Lookout], None]]:
    """A screen that is redrawn on a terminal; elsewhere one state after the other, each with its time."""
    if settings.json:
        yield lambda view: print(json.dumps({"time": time.time(), **as_object(view)}), flush=True)
    elif not sys.stdout.isatty():
        yield lambda view: print(f"{_clock()}\n{as_text(view)}\n", flush=True)
    else:
        from rich.live import Live  # what it needs takes longer to import than a look takes

        with Live(screen=True, auto_refresh=False) as live:
            yield lambda view: live.update(_screen(view, pause, live.console.size), refresh=True)


def _screen(view: Lookout, pause: float, size: tuple[int, int]) -> Any:
    from rich.text import Text

    width, height = size
    lines = [f"{_clock()}, every {pause:g} s; Ctrl-C ends it", "", *as_text(view).splitlines()]
    if len(lines) > height:
        lines[height - 1 :] = [f"... {len(lines) - height + 1} more lines"]
    return Text("\n".join(line[:width] for line in lines), no_wrap=True)


def _clock() -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S")


def as_object(view: Lookout) -> dict[str, Any]:
    """DESIGN section 12: {schedulers, clients, nodes: [{name, location, servers: [{location, tasks}]}]}."""
    return {
        "schedulers": [_scheduler(report) for report in view.schedulers.values()],
        "clients": [_client(client) for report in view.schedulers.values() for client in report.clients],
        "nodes": [
            _node(report) for report in sorted(view.nodes.values(), key=lambda report: report.node.name)
        ],
    }


def as_json(view: Lookout) -> str:
    return json.dumps(as_object(view), indent=2)


def as_text(view: Lookout) -> str:
    lines = [line for report in view.schedulers.values() for line in scheduler_lines(report)]
    for report in sorted(view.nodes.values(), key=lambda report: report.node.name):
        lines += node_lines(report)
    if not view.schedulers and not view.nodes:
        lines.append("no scheduler or node is there any more")
    for scheduler in view.schedulers.values():
        for name, addr, port, state in view.unheard(scheduler):
            lines.append(
                f"node {name} at {addr}:{port}, {state} by what scheduler {scheduler.name} knows: no answer from there"
            )
    return click.unstyle("\n".join(lines)) if not sys.stdout.isatty() else "\n".join(lines)


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
        "resources": dict(node.resources),
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
