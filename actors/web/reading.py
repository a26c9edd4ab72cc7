"""What is asked of the cluster while somebody watches, and what becomes of the answers: rows of the tables.

A machine: `questions` says what to send now, `hear` takes what comes, `sample` ends a tick. It has no clock or socket. What is
asked follows from the tables that are read. A client tells of all its tasks and servers in one answer. Nodes are asked in turn:
a few with each tick, so that a thousand cost no more than ten.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from dispycos.protocol.addresses import CLIENT, NODE, SCHEDULER, Address
from dispycos.protocol.messages import (
    ClientReport,
    Inventory,
    Message,
    NodeInfo,
    SchedulerReport,
)
from dispycos.protocol.watching import (
    ARGUMENTS,
    LINKS,
    MAILBOXES,
    OUTPUT,
    SERVERS,
    TASKS,
    ClientSight,
    Look,
    NodeSight,
)
from dispycos.version import RELEASE

from . import rows
from .from_clients import LONG, FromClients
from .from_nodes import FromNodes
from .known import KnownClient, Rate
from .tables import Tables
from .world import World

RINGS: Final = {"log": 10_000, "events": 1_000, "samples": 3_600}  # rows that are kept
DEEP_MAX: Final = 64  # nodes that are asked with each tick, for their servers if these are looked at ...
BRIEF_S: Final = 10.0  # ... of more, each so often for what it has left
LIMIT: Final = 1000  # tasks and lines that are taken with one answer ...
FIRST_LIMIT: Final = 10_000  # ... and with the first of each
MISSED: Final = 4  # looks that were not answered, until it is said

# What a client is asked for, by table.
PARTS: Final = {"tasks": TASKS, "log": OUTPUT, "links": LINKS, "actors": MAILBOXES}
DEEP: Final = frozenset(("servers", "actors"))
NODE_STATES: Final = {  # by the words of a scheduler
    "free": "idle",
    "open": "running",
    "opening": "starting",
    "closing": "closed",
    "not reachable": "lost",
}


@dataclass(frozen=True, slots=True)
class Question:
    to: Address
    word: Message


class Reader(World):
    """Knows the cluster as far as it was told.

    Parameters
    ----------
    tables: that it fills. kind: whose monitor it is: "client", "scheduler" or "node". title: for people. own: the epoch of the
    process that it runs in, if that is one of these.
    """

    def __init__(self, tables: Tables, kind: str, title: str, own: int, started: float) -> None:
        super().__init__(tables, kind, own)
        self.title = title
        self.started = started
        self.scheduler: Address | None = Address(own, SCHEDULER) if kind == "scheduler" else None
        self.show_args = True
        self.poll_sec = 1.0
        self.insecure = False
        self.recording: str | None = None  # the file that keeps this
        self._from_clients, self._from_nodes = FromClients(self), FromNodes(self)
        self._has_heard = False  # of the scheduler
        self._function_rates: dict[str, Rate] = {}
        self._ended_rate = Rate()
        self._turn = 0  # of the next node that is asked
        self._wants_args = False
        if kind == "client" and own:
            self.client(own)
        self.tables.set("meta", "cluster", self._meta(started))
        self._ended_rate = Rate()  # what had ended before somebody looked is no rate

    def questions(self, wanted: frozenset[str], now: float, *, args: bool = True) -> list[Question]:
        """What to ask now, for who reads these tables. `args`: and would see arguments."""
        self.wanted, self._wants_args = wanted, args and self.show_args
        asked = []
        if self.scheduler is not None:
            asked.append(Question(self.scheduler, Inventory()))
        if self.kind == "node" and not self.nodes:
            asked.append(Question(Address(self.own, NODE), Look(SERVERS)))
        for client in self.clients.values() if self.kind != "node" else ():
            if client.state in ("active", "queued", "closing", "silent"):
                client.unanswered += 1
                asked.append(Question(Address(client.epoch, CLIENT), self._look_at(client)))
                if client.unanswered == MISSED:
                    self._client_silent(client, now)
        asked += self._ask_nodes(now)
        return asked

    def _look_at(self, client: KnownClient) -> Look:
        parts = 0
        for table, part in PARTS.items():
            parts |= part if table in self.wanted else 0
        is_first = self.wanted & LONG - client.told
        return Look(parts, client.task, client.line, client.death, FIRST_LIMIT if is_first else LIMIT)

    def _ask_nodes(self, now: float) -> list[Question]:
        nodes = [node for node in self.nodes.values() if node.state != "closed"]
        if not nodes:
            return []
        deep = bool(self.wanted & DEEP) or self.kind == "node"
        few = len(nodes) <= DEEP_MAX
        count = DEEP_MAX if deep or few else -(-len(nodes) // int(BRIEF_S))
        parts = 0
        if deep:
            parts = SERVERS | (ARGUMENTS if self._wants_args else 0)
            parts |= MAILBOXES if "actors" in self.wanted else 0
        asked = []
        for _ in range(min(count, len(nodes))):
            self._turn = (self._turn + 1) % len(nodes)
            node = nodes[self._turn]
            if deep or few or now - node.asked_at >= BRIEF_S:
                node.asked_at = now
                asked.append(Question(Address(node.info.epoch, NODE), Look(parts)))
        return asked

    def hear(self, sender: Address, word: Message, now: float) -> None:
        if isinstance(word, ClientSight):
            self._from_clients.take(self.client(sender.epoch), word, now)
        elif isinstance(word, NodeSight):
            self._from_nodes.take(word, now)
        elif isinstance(word, SchedulerReport):
            self._on_scheduler(word, now)

    def _on_scheduler(self, report: SchedulerReport, now: float) -> None:
        there = dict.fromkeys(report.epochs)
        self.is_first_look = not self._has_heard
        self._has_heard = True
        for (name, addr, port, state), epoch in zip(report.nodes, report.epochs, strict=False):
            node = self.node(NodeInfo(name, addr, port, 0, "", (0, 0), epoch), now)
            if not self.has_a_client(node):
                self.node_is(node, NODE_STATES.get(state, "idle"), "" if state in NODE_STATES else state, now)
        if self.kind == "scheduler":
            for epoch, node in self.nodes.items():
                if epoch not in there:
                    self.node_is(node, "closed", "it has left", now)
        self._hear_of_clients(report.clients, now)
        self.is_first_look = False

    def _hear_of_clients(self, reports: list[ClientReport], now: float) -> None:
        queued = 0
        for report in reports:
            client = self.client(report.epoch)
            if not client.name:
                client.since = now
                self.note_news("client", f"{report.name} on {report.host} came", now, client=client.id)
            client.name, client.host, client.pid = report.name, report.host, report.pid
            if report.state == "queued":
                queued += 1
                client.state, client.place = "queued", queued
            elif client.state in ("queued", "ended"):
                client.state, client.place = "active", None
            client.ended = None
        there = {report.epoch for report in reports}
        for client in self.clients.values():
            if client.epoch not in there and client.state != "ended" and client.epoch != self.own:
                self.client_ended(client, now)

    def _client_silent(self, client: KnownClient, now: float) -> None:
        if client.epoch == self.own:
            self.client_ended(client, now)
        else:
            client.state = "silent"
            client.text = "it does not answer: it may be stopped, or compute in C code"

    def sample(self, now: float) -> None:
        """The sums, and the rows that need all answers."""
        for node in self.nodes.values():
            node.rate = round(node.ended_rate.saw(node.done + node.failed, now), 1)
            node.rate_history.add(node.rate)
            if "nodes" in self.wanted:
                self.tables.set("nodes", node.id, rows.node_row(node))
        if "servers" in self.wanted:
            for server in self.servers.values():
                self.tables.set("servers", server.id, rows.server_row(server, self.nodes.get(server.node)))
        if "functions" in self.wanted:
            self._sample_functions(now)
        if "clients" in self.wanted:
            for client in self.clients.values():
                self.tables.set("clients", client.id, rows.client_row(client))
        meta = self._meta(now)
        self.tables.set("meta", "cluster", meta)
        self.tables.append("samples", self._sample(meta, now))

    def _sample_functions(self, now: float) -> None:
        by_name: dict[str, list[Any]] = {}
        running: dict[str, int] = {}
        for client in self.clients.values():
            sight = client.sight
            for totals in sight.functions if sight is not None else ():
                by_name.setdefault(totals.name, []).append(totals)
            for task in sight.live if sight is not None else ():
                if task.state == "running":
                    running[task.function] = running.get(task.function, 0) + 1
        for name, parts in by_name.items():
            ended = sum(sum(totals.outcomes) for totals in parts)
            rate = self._function_rates.setdefault(name, Rate()).saw(ended, now)
            self.tables.set("functions", name, rows.function_row(parts, rate, running.get(name, 0)))

    def _meta(self, now: float) -> rows.Row:
        sights = [client.sight for client in self.clients.values() if client.sight is not None]
        counts = rows.counts_of(
            [sum(kind) for kind in zip(*(s.outcomes for s in sights if s.outcomes), strict=False)]
        )
        there = [server for server in self.servers.values() if not server.is_gone]
        submitted = sum(sight.submitted for sight in sights)
        if self.kind == "node":
            counts |= {
                name: sum(getattr(node, name) for node in self.nodes.values()) for name in ("done", "failed")
            }
            submitted = sum(node.submitted for node in self.nodes.values())
        ended = sum(counts.values())
        up = [node for node in self.nodes.values() if node.state not in ("closed", "lost")]
        cpus = [100.0 - node.info.available.cpu for node in up if node.info.available is not None]
        memory = [
            (node.machine.memory, node.info.available.memory)
            for node in up
            if node.machine is not None and node.info.available is not None
        ]
        deep = len(self.nodes) > DEEP_MAX and bool(self.wanted & DEEP)
        return {
            "name": self.title,
            "kind": self.kind,
            "started": self.started,
            "show_args": self.show_args,
            "gone": self.gone,
            "recording": self.recording,
            "poll_sec": self.poll_sec,
            "release": RELEASE,
            "insecure": self.insecure,
            "since": min((client.since for client in self.clients.values()), default=self.started),
            "submitted": submitted,
            "queued": sum(
                client.sight.waiting
                for client in self.clients.values()
                if client.sight is not None and client.state != "ended"
            ),
            "running": sum(server.running for server in there),
            **counts,
            "rate": round(self._ended_rate.saw(ended, now), 1),
            "cpu": round(sum(cpus) / len(cpus), 1) if cpus else None,
            "memory": sum(total for total, _ in memory) if memory else None,
            "memory_used": sum(total - free for total, free in memory) if memory else None,
            "servers": len(there),
            "servers_busy": sum(server.running > 0 for server in there),
            "nodes": len(up),
            "notes": [_DEEP_NOTE.format(len(self.nodes), -(-len(self.nodes) // DEEP_MAX))] if deep else [],
        }

    def _sample(self, meta: rows.Row, now: float) -> rows.Row:
        names = ("rate", "running", "queued", "done", "failed", "lost", "cpu", "memory_used", "memory")
        by_client: dict[str, int] = {}
        for client in self.clients.values():
            if client.sight is not None and client.state in ("active", "closing"):
                by_client[client.id] = len(client.sight.servers)
        return {"t": round(now, 2), **{name: meta[name] for name in names}, "by_client": by_client}


_DEEP_NOTE: Final = "what servers run is asked of {} nodes in turn: each is asked every {} s"
