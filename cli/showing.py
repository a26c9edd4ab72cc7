"""What schedulers and nodes report, as lines for people."""

from __future__ import annotations

from collections.abc import Iterable

from dispycos.notices import counted
from dispycos.protocol.messages import NodeInfo, NodeReport, SchedulerReport, TaskReport


def scheduler_lines(report: SchedulerReport) -> list[str]:
    """It, and its clients."""
    lines = [f"scheduler {report.name}{_place_in_words(report)}{_insecure(report.insecure)}"]
    for client in report.clients:
        counts = "it does not answer"
        if client.running is not None:
            counts = f"{client.running} running, {client.queued} queued, {client.done} done"
        lines.append(f"  client {client.name} ({client.host}, pid {client.pid}) {client.state}: {counts}")
    return lines


def known_node_lines(report: SchedulerReport) -> list[str]:
    """The nodes of a scheduler, by what it knows of them."""
    return [f"  node {name} at {addr}:{port}: {state}" for name, addr, port, state in sorted(report.nodes)]


def node_lines(report: NodeReport) -> list[str]:
    """It, its servers, and which tasks run on each."""
    node = report.node
    uses = [f"used by {report.client}"] if report.client else []
    if report.resting:
        uses.append(f"takes nothing new: {report.resting}")
    use = "; ".join(uses) or "free"
    has = f"{counted(node.cpus, 'CPU')}{_resources(node)}"
    return [
        f"node {node.name} at {node.addr}:{node.port}, {has}, {use}{_insecure(report.insecure)}",
        *(
            f"  {server.spot.name} at {server.spot.addr}:{server.spot.port} (pid {server.pid}): {_tasks(server.tasks)}"
            for server in report.servers
        ),
    ]


def _resources(node: NodeInfo) -> str:
    return "".join(f", {name}={count}" for name, count in node.resources)


def _tasks(tasks: Iterable[TaskReport]) -> str:
    return ", ".join(f"{task.function} {task.state} {task.since:.1f} s" for task in tasks) or "idle"


def _insecure(insecure: bool) -> str:
    return " INSECURE" if insecure else ""


def _place_in_words(scheduler: SchedulerReport) -> str:
    """A private one has no port: only the client that started it, and its nodes, can use it."""
    if not scheduler.private:
        return f" at {scheduler.addr}:{scheduler.port}"
    return ", private" + "".join(f", of {client.name}" for client in scheduler.clients)
