"""The rows of the tables that a viewer sees, made of what clients and nodes have told (docs/web.md has each field)."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Any, Final

from dispycos.histogram import quantile
from dispycos.protocol.messages import TaskReport
from dispycos.protocol.status import ENDED, OutcomeKind
from dispycos.protocol.watching import (
    ClientSight,
    Death,
    EndedTask,
    FailureGroup,
    FunctionTotals,
    LeaseSummary,
    LiveTask,
    OutputLine,
    Peer,
    Waiting,
)

from .known import KnownClient, KnownNode, KnownServer

Row = dict[str, Any]
TASKS_KEPT: Final = 10_000  # that have ended

PRINTED: Final = {1: "print", 2: "error"}


def counts_of(outcomes: list[int]) -> dict[str, int]:
    """How many tasks ended in each state."""
    counts = dict.fromkeys(("done", "failed", "lost", "cancelled"), 0)
    for kind, state in ENDED.items():
        counts[state] += outcomes[kind] if kind < len(outcomes) else 0
    return counts


def node_row(node: KnownNode) -> Row:
    info, available, machine = node.info, node.info.available, node.machine
    return {
        "id": node.id,
        "name": info.name,
        "addr": info.addr,
        "port": info.port,
        "state": node.state,
        "text": node.text,
        "client": node.client,
        "cpus": info.cpus,
        "servers": node.servers,
        "absent": [list(server) for server in node.absent],
        "running": node.running,
        "done": node.done,
        "failed": node.failed,
        "submitted": node.submitted,
        "rate": node.rate,
        "cpu": round(100.0 - available.cpu, 1) if available is not None else None,
        "memory": available.memory if available is not None else None,
        "disk": available.disk if available is not None else None,
        "swap": available.swap if available is not None else None,
        "load": machine.load if machine is not None else None,
        "memory_total": machine.memory if machine is not None else None,
        "disk_total": machine.disk if machine is not None else None,
        "swap_total": machine.swap if machine is not None else None,
        "platform": info.platform,
        "python": ".".join(map(str, info.python)),
        "resources": dict(info.resources),
        "seen": node.seen,
        "hours": node.resting,
        "cpu_history": node.cpu_history.copy(),
        "rate_history": node.rate_history.copy(),
    }


def server_row(server: KnownServer, node: KnownNode | None) -> Row:
    task, use = server.task, server.use
    return {
        "id": server.id,
        "node": node.id if node is not None else None,
        "port": server.port,
        "name": server.name,
        "pid": server.pid or None,
        "state": server.state,
        "text": server.text,
        "function": task.function if task is not None else None,
        "task": server.task_id,
        "args": task.args if task is not None else None,
        "since": server.since,
        "running": server.running,
        "queued": server.ahead,
        "submitted": server.ended + server.running + server.ahead,
        "done": server.ended - server.failed,
        "failed": server.failed,
        "cpu_s": round(use.cpu_s, 3) if use is not None else None,
        "memory": use.memory if use is not None else None,
        "peak": use.peak if use is not None else None,
        "seen": server.seen,
    }


def ended_row(task: EndedTask, client: KnownClient, server: KnownServer | None, now: float) -> Row:
    end = now - task.ago_s
    return {
        "id": client.task_id(task.number),
        "client": client.id,
        "function": task.function,
        "args": client.args.get(task.number),
        "state": ENDED.get(OutcomeKind(task.outcome), "failed"),
        "node": server.node_id if server is not None else None,
        "server": server.id if server is not None else None,
        "submitted": end - (task.seconds or 0.0) - task.wait_s,
        "start": end - task.seconds if task.seconds is not None else None,
        "end": end,
        "run": task.seconds,
        "queue": task.wait_s,
        "cpu_s": task.cpu_s,
        "peak": task.peak_bytes,
        "attempt": task.attempt,
        "io": task.io,
        "error": task.text,
        "failure": client.failure_id(task.failure),
        "why": "",
    }


def live_row(task: LiveTask, client: KnownClient, server: KnownServer | None, now: float) -> Row:
    is_running = task.state == "running"
    told = server.tasks.get(task.number) if server is not None and is_running else None
    submitted = now - task.since_s - (task.wait_s or 0.0)
    return {
        "id": client.task_id(task.number),
        "client": client.id,
        "function": task.function,
        "args": client.args.get(task.number),
        "state": task.state,
        "node": server.node_id if server is not None else None,
        "server": server.id if server is not None else None,
        # To the tenth of a second: else each look would change them a little.
        "submitted": round(submitted, 1),
        "start": round(now - task.since_s, 1) if is_running else None,
        "end": None,
        "run": None,
        "queue": round(task.wait_s, 1) if task.wait_s is not None else None,
        "cpu_s": told.cpu_s if told is not None else None,
        "peak": told.peak_bytes if told is not None else None,
        "attempt": task.attempt,
        "io": task.io,
        "error": "",
        "failure": None,
        "why": task.why,
    }


def function_row(totals: Iterable[FunctionTotals], rate: float, running: int) -> Row:
    """Of the function of this name, whoever's tasks these are."""
    parts = list(totals)
    outcomes = [sum(counts) for counts in zip(*(part.outcomes for part in parts), strict=False)]
    run = [bucket for part in parts for bucket in part.run]
    wait = [bucket for part in parts for bucket in part.wait]
    submitted, held = sum(part.submitted for part in parts), sum(part.held for part in parts)
    ended = sum(outcomes)
    return {
        "function": parts[0].name,
        "count": submitted,
        "running": running,
        "queued": max(0, submitted - ended - running),
        **counts_of(outcomes),
        "held": held,
        "rate": round(rate, 2),
        "run_p50": quantile(run, 0.5),
        "run_p99": quantile(run, 0.99),
        "queue_p50": quantile(wait, 0.5),
        "queue_p99": quantile(wait, 0.99),
        "cpu_s": round(sum(part.cpu_s for part in parts), 3),
    }


def failure_row(group: FailureGroup, client: KnownClient, servers: list[KnownServer], now: float) -> Row:
    return {
        "id": client.failure_id(group.number),
        "state": ENDED.get(OutcomeKind(group.outcome), "failed"),
        "function": group.function,
        "error": group.error,
        "text": group.text,
        "count": group.tasks,
        "first": round(now - group.first_s, 1),
        "last": round(now - group.last_s, 1),
        "nodes": sorted({server.node_id for server in servers if server.node_id}),
        "servers": list(
            dict.fromkeys(server.id for server in servers)
        ),  # others may have had the port before
        "trace": group.trace,
        "client": client.id,
    }


def death_row(death: Death, client: KnownClient, server: KnownServer, now: float) -> Row:
    signal, code = _signal_of(death.text)
    use = server.use
    return {
        "id": f"{client.id}.{death.n}",
        "time": now - death.ago_s,
        "server": server.id,
        "node": server.node_id or None,
        "name": death.name,
        "text": death.text,
        "signal": signal,
        "code": code,
        "memory": use.memory if use is not None else None,
        "lines": death.lines,
        "tasks": [client.task_id(number) for number, _ in death.tasks],
        "functions": [function for _, function in death.tasks],
        "expected": death.expected,
    }


def _signal_of(text: str) -> tuple[str | None, int | None]:
    """The name of the signal that is in these words, or the exit code."""
    for word in text.replace("(", " ").replace(")", " ").replace(",", " ").split():
        if word.startswith("SIG") and word.isalpha():
            return word, None
    words = text.split()
    for before, word in pairwise(words):
        if before in ("code", "status") and word.strip(".,;").lstrip("-").isdecimal():
            return None, int(word.strip(".,;"))
    return None, None


def waiting_row(waiting: Waiting, client: KnownClient, now: float) -> Row:
    return {
        "id": f"{client.id}.{waiting.reason}.{waiting.place}",
        "client": client.id,
        "reason": waiting.reason,
        "place": waiting.place,
        "text": waiting.text,
        "count": waiting.tasks,
        "oldest": round(now - waiting.oldest_s, 1),
    }


def actor_row(
    task: TaskReport, key: str, server: KnownServer | None, client: str, oldest: float | None, rate: float
) -> Row:
    """Of a remote task; without a server it is a local one of its client."""
    return {
        "id": key,
        "name": ", ".join(task.names),
        "function": task.function,
        "task": key if server is not None else None,
        "client": client,
        "node": server.node_id if server is not None else None,
        "server": server.id if server is not None else None,
        "mailbox": task.messages,
        "oldest": round(oldest, 1) if oldest is not None else None,
        "rate": round(rate, 1),
        "state": task.state,
    }


def line_row(line: OutputLine, node: str | None, server: str | None, now: float) -> Row:
    return {
        "t": now - line.ago_s,
        "level": line.level or PRINTED.get(line.stream, "print"),
        "logger": line.logger,
        "node": node,
        "server": server,
        "from": line.server,
        "text": line.text,
    }


def link_row(peer: Peer, from_id: str, to_id: str, before: Peer | None, seconds: float) -> Row:
    sent = peer.sent + peer.received
    last = before.sent + before.received if before is not None else sent
    size = before.size if before is not None else peer.size
    return {
        "id": f"{from_id}>{to_id}",
        "from": from_id,
        "to": to_id,
        "role": peer.role,
        "way": peer.way,
        "messages": round((sent - last) / seconds, 1) if seconds else 0.0,
        "bytes": round((peer.size - size) / seconds) if seconds else 0,
        "rtt": peer.rtt_s,
        "waiting": peer.waiting,
        "total_messages": sent,
    }


def missed_row(count: int, now: float) -> Row:
    """In the log, where lines are missing."""
    text = f"{count:,} lines before this one were not kept"
    return {
        "t": now,
        "level": "info",
        "logger": "dispycos.monitor",
        "node": None,
        "server": None,
        "from": "",
        "text": text,
    }


def client_row(client: KnownClient) -> Row:
    sight = client.sight
    is_there = client.state != "ended"
    counts = counts_of(sight.outcomes) if sight is not None else counts_of([])
    return {
        "id": client.id,
        "name": client.name,
        "host": client.host,
        "pid": client.pid,
        "state": client.state,
        "place": client.place,
        "servers": len(sight.servers) if sight is not None and is_there else 0,
        "running": _running(sight) if is_there else 0,
        "queued": sight.waiting if sight is not None and is_there else 0,
        **counts,
        "cpu_s": round(sight.cpu_s, 3) if sight is not None else None,
        "since": client.since,
        "ended": client.ended,
        "text": client.text,
    }


def _running(sight: ClientSight | None) -> int:
    return sum(server.running for server in sight.servers) if sight is not None else 0


def lease_row(key: str, summary: LeaseSummary, node: KnownNode, now: float) -> Row:
    ended = now - summary.ago_s
    return {
        "id": key,
        "client": summary.client,
        "host": summary.host,
        "node": node.id,
        "began": ended - summary.seconds,
        "ended": ended,
        "done": summary.ended - summary.failed,
        "failed": summary.failed,
        "cpu_s": round(summary.cpu_s, 3),
        "failures": [list(failure) for failure in summary.failures],
        "unknown": summary.unknown,
        "text": summary.reason,
    }
