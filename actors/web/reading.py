"""What is asked of the cluster while somebody watches, and what becomes of the answers: rows of the tables.

A machine: `questions` says what to send now, `hear` takes what comes, `sample` ends a tick. It has no clock or socket. What is
asked follows from the tables that are read. A client tells of all its tasks and servers in one answer. Nodes are asked in turn:
a few with each tick, so that a thousand cost no more than ten.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from dispycos.notices import NAMED_MAX
from dispycos.protocol.addresses import CLIENT, NODE, SCHEDULER, Address
from dispycos.protocol.messages import (
    ClientReport,
    Inventory,
    Message,
    NodeInfo,
    SchedulerReport,
    ServerReport,
    TaskReport,
)
from dispycos.protocol.watching import (
    ARGUMENTS,
    LINKS,
    MAILBOXES,
    OUTPUT,
    SERVERS,
    TASKS,
    ClientSight,
    Death,
    LiveTask,
    Look,
    NodeSight,
    ServerCounts,
    Waiting,
)
from dispycos.version import RELEASE

from . import rows
from .known import KnownClient, KnownNode, KnownServer, Mailbox, Rate
from .tables import Tables

RINGS: Final = {"log": 10_000, "events": 1_000, "samples": 3_600}  # rows that are kept
DEEP_MAX: Final = 64  # nodes that are asked with each tick, for their servers if these are looked at ...
BRIEF_S: Final = 10.0  # ... of more, each so often for what it has left
LIMIT: Final = 1000  # tasks and lines that are taken with one answer ...
FIRST_LIMIT: Final = 10_000  # ... and with the first
NEW_S: Final = 3.0  # what has begun before is no news when it is looked at for the first time
DEAD_KEPT: Final = 1000  # servers of which it is known where they were
MISSED: Final = 4  # looks that were not answered, until it is said
GONE_KEPT: Final = 200  # servers that have ended, and are shown

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
NOTED: Final = {
    "lost": "lost",
    "suspended": "suspended",
    "closed": "left",
}


@dataclass(frozen=True, slots=True)
class Question:
    to: Address
    word: Message


class Reader:
    """Knows the cluster as far as it was told.

    Parameters
    ----------
    tables: that it fills. kind: whose monitor it is: "client", "scheduler" or "node". title: for people. own: the epoch of the
    process that it runs in, if that is one of these.
    """

    def __init__(self, tables: Tables, kind: str, title: str, own: int, started: float) -> None:
        self.tables = tables
        self.kind = kind
        self.title = title
        self.started = started
        self.scheduler: Address | None = Address(own, SCHEDULER) if kind == "scheduler" else None
        self.gone = ""  # the client that this monitor belongs to has ended: in words
        self.show_args = True
        self.poll_sec = 1.0
        self.insecure = False
        self.recording: str | None = None  # the file that keeps this
        self.clients: dict[int, KnownClient] = {}
        self.nodes: dict[int, KnownNode] = {}
        self.servers: dict[int, KnownServer] = {}
        self._own = own
        self._ids: dict[str, int] = {}  # of nodes and servers: which epoch has it
        self._gone_servers: dict[int, None] = {}
        self._dead: dict[int, KnownServer] = {}
        self._is_first_look = False  # at a whole cluster: what is there has not come just now
        self._mailboxes: dict[str, Mailbox] = {}
        self._has_heard = False  # of the scheduler
        self._live: dict[str, set[str]] = {}  # by client: ids of tasks that are listed and have not ended
        self._ended: dict[str, None] = {}  # tasks that are listed and have ended, the oldest first
        self._dropped_until: float | None = None
        self._function_rates: dict[str, Rate] = {}
        self._ended_rate, self._message_rate = Rate(), Rate()
        self._turn = 0  # of the next node that is asked
        self._wanted: frozenset[str] = frozenset()
        self._wants_args = False
        if kind == "client" and own:
            self.client(own)
        self.tables.set("meta", "cluster", self._meta(started))
        self._ended_rate = Rate()  # what had ended before somebody looked is no rate

    def is_of(self, epoch: int) -> None:
        """The client whose monitor this is; 0: it has no cluster yet."""
        self._own = epoch
        if epoch:
            self.client(epoch)

    # --- asking ---

    def questions(self, wanted: frozenset[str], now: float, *, args: bool = True) -> list[Question]:
        """What to ask now, for who reads these tables. `args`: and would see arguments."""
        self._wanted, self._wants_args = wanted, args and self.show_args
        asked = []
        if self.scheduler is not None:
            asked.append(Question(self.scheduler, Inventory()))
        if self.kind == "node" and not self.nodes:
            asked.append(Question(Address(self._own, NODE), Look(SERVERS)))
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
            parts |= part if table in self._wanted else 0
        is_first = (parts & TASKS and not client.task) or (parts & OUTPUT and not client.line)
        return Look(parts, client.task, client.line, client.death, FIRST_LIMIT if is_first else LIMIT)

    def _ask_nodes(self, now: float) -> list[Question]:
        nodes = [node for node in self.nodes.values() if node.state != "closed"]
        if not nodes:
            return []
        deep = bool(self._wanted & DEEP) or self.kind == "node"
        few = len(nodes) <= DEEP_MAX
        count = DEEP_MAX if deep or few else -(-len(nodes) // int(BRIEF_S))
        parts = 0
        if deep:
            parts = SERVERS | (ARGUMENTS if self._wants_args else 0)
            parts |= MAILBOXES if "actors" in self._wanted else 0
        asked = []
        for _ in range(min(count, len(nodes))):
            self._turn = (self._turn + 1) % len(nodes)
            node = nodes[self._turn]
            if deep or few or now - node.asked_at >= BRIEF_S:
                node.asked_at = now
                asked.append(Question(Address(node.info.epoch, NODE), Look(parts)))
        return asked

    # --- hearing ---

    def hear(self, sender: Address, word: Message, now: float) -> None:
        if isinstance(word, ClientSight):
            self._on_client(self.client(sender.epoch), word, now)
        elif isinstance(word, NodeSight):
            self._on_node(word, now)
        elif isinstance(word, SchedulerReport):
            self._on_scheduler(word, now)

    def client(self, epoch: int) -> KnownClient:
        known = self.clients.get(epoch)
        if known is None:
            known = self.clients[epoch] = KnownClient(epoch, f"{epoch:016x}"[-8:])
        return known

    # --- the scheduler ---

    def _on_scheduler(self, report: SchedulerReport, now: float) -> None:
        there = dict.fromkeys(report.epochs)
        self._is_first_look = not self._has_heard
        self._has_heard = True
        for (name, addr, port, state), epoch in zip(report.nodes, report.epochs, strict=False):
            node = self._node(NodeInfo(name, addr, port, 0, "", (0, 0), epoch), now)
            if not self._has_a_client(node):
                self._node_is(
                    node, NODE_STATES.get(state, "idle"), "" if state in NODE_STATES else state, now
                )
        if self.kind == "scheduler":
            for epoch, node in self.nodes.items():
                if epoch not in there:
                    self._node_is(node, "closed", "it has left", now)
        self._hear_of_clients(report.clients, now)
        self._is_first_look = False

    def _has_a_client(self, node: KnownNode) -> bool:
        """That tells of it, and knows better than its scheduler."""
        client = self.client_named(node.client) if node.client is not None else None
        return client is not None and client.state in ("active", "closing")

    def _hear_of_clients(self, reports: list[ClientReport], now: float) -> None:
        queued = 0
        for report in reports:
            client = self.client(report.epoch)
            if not client.name:
                client.since = now
                self._note_news("client", f"{report.name} on {report.host} came", now, client=client.id)
            client.name, client.host, client.pid = report.name, report.host, report.pid
            if report.state == "queued":
                queued += 1
                client.state, client.place = "queued", queued
            elif client.state in ("queued", "ended"):
                client.state, client.place = "active", None
            client.ended = None
        there = {report.epoch for report in reports}
        for client in self.clients.values():
            if client.epoch not in there and client.state != "ended" and client.epoch != self._own:
                self._client_ended(client, now)

    # --- a client ---

    def _on_client(self, client: KnownClient, sight: ClientSight, now: float) -> None:
        client.unanswered = 0
        before = client.sight
        if before is not None and (sight.submitted < before.submitted or sight.line < client.line):
            self._forget_lease(client)  # it has another one
        info = sight.client
        client.name, client.host, client.pid = info.name or client.name, info.host, info.pid
        client.state, client.since, client.text = sight.state, now - sight.age_s, ""
        self._is_first_look = before is None and sight.age_s > NEW_S
        client.sight, client.sight_at = sight, now
        self.gone = "" if client.epoch == self._own and sight.state != "ended" else self.gone
        self._take_nodes(client, sight, now)
        self._is_first_look = False
        self._take_servers(client, sight.servers, now)
        if sight.state == "ended":
            self._client_ended(client, now)
        client.groups = {group.number: group for group in sight.failures}
        self._take_deaths(client, sight, now)
        if "tasks" in self._wanted:
            self._take_tasks(client, sight, now)
        if "failures" in self._wanted:
            for group in sight.failures:
                found = [self._place(epoch) for epoch in group.servers]
                servers = [server for server in found if server is not None]
                key = client.failure_id(group.number) or ""
                self.tables.set("failures", key, rows.failure_row(group, client, servers, now))
        if "waiting" in self._wanted:
            waits = [rows.waiting_row(self._explained(one), client, now) for one in sight.waits]
            self._replace("waiting", client, waits)
        if "log" in self._wanted:
            self._take_lines(client, sight, now)
        if "actors" in self._wanted:
            self._take_local(client, sight.actors, now)
        if "links" in self._wanted:
            self._take_links(client, sight, now)

    def _explained(self, waiting: Waiting) -> Waiting:
        """Where there is no server: what keeps the nodes that there are."""
        if waiting.reason != "none":
            return waiting
        words = [
            f"{node.info.name}: {node.resting or node.text or node.state}" for node in self.nodes.values()
        ]
        more = f" and {len(words) - NAMED_MAX} more" if len(words) > NAMED_MAX else ""
        nodes = (
            f"nodes: {', '.join(words[:NAMED_MAX])}{more}"
            if words
            else "no node is known: start `dispycos node`"
        )
        return waiting._replace(text=f"{waiting.text}; {nodes}")

    def _forget_lease(self, client: KnownClient) -> None:
        client.task = client.line = client.death = 0
        client.groups.clear()
        client.args.clear()

    def _take_nodes(self, client: KnownClient, sight: ClientSight, now: float) -> None:
        there = set()
        by_node: dict[int, list[ServerCounts]] = {}
        for count in sight.servers:
            by_node.setdefault(count.node, []).append(count)
        for info, state, text, ended, failed in sight.nodes:
            node = self._node(info, now)
            there.add(info.epoch)
            node.client = client.id
            self._count(node, by_node.get(info.epoch, ()), ended, failed)
            self._node_is(
                node, "lost" if state == "silent" else state.replace("closing", "closed"), text, now
            )
        for node in self.nodes.values():
            if node.client == client.id and node.info.epoch not in there:
                self._is_free(node, now)

    def _give_back(self, client: KnownClient, now: float) -> None:
        """All that it had."""
        for node in self.nodes.values():
            if node.client == client.id:
                self._is_free(node, now)
                for server in list(self.servers.values()):
                    if server.node == node.info.epoch and not server.is_gone:
                        self._server_gone(server, "ended")

    def _is_free(self, node: KnownNode, now: float) -> None:
        node.client = None
        node.servers = node.running = 0
        if self.kind == "client":
            self._node_is(node, "closed", "it was given back", now)

    def _count(
        self, node: KnownNode, servers: Iterable[ServerCounts | KnownServer], ended: int, failed: int
    ) -> None:
        """What its servers have done, with those that are gone. It stays when the lease ends."""
        node.servers = node.running = node.submitted = 0
        for server in servers:
            node.servers += 1
            node.running += server.running
            node.submitted += server.running + server.ahead
            ended += server.ended
            failed += server.failed
        node.done, node.failed, node.submitted = ended - failed, failed, node.submitted + ended

    def _take_servers(self, client: KnownClient, counts: list[ServerCounts], now: float) -> None:
        there = set()
        for count in counts:
            there.add(count.epoch)
            server = self._server(count.epoch, count.addr, count.port, count.node, count.name)
            server.state, server.seen, server.is_gone = count.state, now, False
            server.running, server.ahead = count.running, count.ahead
            server.ended, server.failed = count.ended, count.failed
        mine = {epoch for epoch, node in self.nodes.items() if node.client in (client.id, None)}
        for server in list(self.servers.values()):
            if server.node in mine and server.epoch not in there and not server.is_gone and server.seen:
                self._server_gone(server, "ended")

    def _server_gone(self, server: KnownServer, state: str) -> None:
        server.is_gone, server.state = True, state
        server.running = server.ahead = 0
        server.task, server.task_id, server.since = None, None, None
        server.tasks = {}
        self._drop_actors(set(), lambda row: row["server"] == server.id)
        self._gone_servers[server.epoch] = None
        while len(self._gone_servers) > GONE_KEPT:
            self._forget_server(next(iter(self._gone_servers)))

    def _forget_server(self, epoch: int) -> None:
        self._gone_servers.pop(epoch)
        server = self.servers.pop(epoch)
        self._bury(server)
        self.tables.drop("servers", server.id)
        if self._ids.get(server.id) == epoch:
            del self._ids[server.id]

    def _bury(self, server: KnownServer) -> None:
        self._dead[server.epoch] = server
        while len(self._dead) > DEAD_KEPT:
            del self._dead[next(iter(self._dead))]

    def _place(self, epoch: int) -> KnownServer | None:
        """A server, also one that is not there any more."""
        return self.servers.get(epoch) or self._dead.get(epoch)

    def _died_unseen(self, death: Death) -> KnownServer:
        """It had ended before anybody looked."""
        node = next((node for node in self.nodes.values() if node.info.name == death.node), None)
        node_epoch, node_id = (node.info.epoch, node.id) if node is not None else (0, "")
        server = KnownServer(
            death.epoch, f"{death.addr}:{death.port}", node_epoch, node_id, death.port, death.name
        )
        self._bury(server)
        return server

    def _take_deaths(self, client: KnownClient, sight: ClientSight, now: float) -> None:
        for death in sight.deaths:
            client.death = death.n
            server = self.servers.get(death.epoch)
            if server is not None:
                server.text = death.text
                self._server_gone(server, "ended" if death.expected else "lost")
            server = server or self._place(death.epoch) or self._died_unseen(death)
            row = rows.death_row(death, client, server, now)
            self.tables.set("deaths", row["id"], row)
            if not death.expected:
                where = {"node": row["node"], "server": row["server"], "client": client.id}
                text = death.text if death.name in death.text else f"server {death.name}: {death.text}"
                self._note("died", text, now - death.ago_s, **where)

    # --- its tasks ---

    def _take_tasks(self, client: KnownClient, sight: ClientSight, now: float) -> None:
        self._take_live(client, sight.live, now)
        self._take_ended(client, sight, now)

    def _take_live(self, client: KnownClient, tasks: list[LiveTask], now: float) -> None:
        live = set()
        for task in tasks:
            row = rows.live_row(task, client, self.servers.get(task.server), now)
            live.add(row["id"])
            self.tables.set("tasks", row["id"], row)
        for key in self._live.get(client.id, set()) - live:
            self.tables.drop("tasks", key)
        self._live[client.id] = live

    def _take_ended(self, client: KnownClient, sight: ClientSight, now: float) -> None:
        for ended in sight.ended:
            client.task = ended.n
            row = rows.ended_row(ended, client, self._place(ended.server), now)
            self.tables.set("tasks", row["id"], row)
            self._ended[row["id"]] = None
        while len(self._ended) > rows.TASKS_KEPT:
            oldest = next(iter(self._ended))
            del self._ended[oldest]
            self._dropped_until = self.tables.rows("tasks")[oldest]["end"]
            self.tables.drop("tasks", oldest)
        total = sum(sum(one.sight.outcomes) for one in self.clients.values() if one.sight is not None)
        self.tables.note("tasks", total, rows.TASKS_KEPT, self._dropped_until)

    def _replace(self, table: str, client: KnownClient, new: list[rows.Row]) -> None:
        """All rows of this client are these now."""
        keys = {row["id"] for row in new}
        old = [key for key, row in self.tables.rows(table).items() if row["client"] == client.id]
        for key in old:
            if key not in keys:
                self.tables.drop(table, key)
        for row in new:
            self.tables.set(table, row["id"], row)

    def _take_lines(self, client: KnownClient, sight: ClientSight, now: float) -> None:
        by_name = {server.name: server for server in self.servers.values()}
        for line in sight.lines:
            if line.n > client.line + 1:
                self.tables.append("log", rows.missed_row(line.n - client.line - 1, now - line.ago_s))
            client.line = line.n
            server = by_name.get(line.server)
            node_id, server_id = (server.node_id, server.id) if server is not None else (None, None)
            self.tables.append("log", rows.line_row(line, node_id, server_id, now))

    def _take_links(self, client: KnownClient, sight: ClientSight, now: float) -> None:
        names = {epoch: node.id for epoch, node in self.nodes.items()}
        names |= {epoch: server.id for epoch, server in self.servers.items()}
        seconds = now - client.linked_at if client.linked_at else 0.0
        new = []
        for peer in sight.peers:
            to = names.get(peer.epoch, peer.role)
            row = rows.link_row(peer, client.id, to, client.peers.get(peer.epoch), seconds)
            new.append({**row, "client": client.id})
        client.peers = {peer.epoch: peer for peer in sight.peers}
        client.linked_at = now
        self._replace("links", client, new)

    # --- nodes ---

    def _node(self, info: NodeInfo, now: float) -> KnownNode:
        node = self.nodes.get(info.epoch)
        if node is None:
            node = KnownNode(info, self._id(f"{info.name}:{info.port}", info.epoch))
            self.nodes[info.epoch] = node
            self._note_news("joined", f"node {info.name} joined", now, node=node.id)
        elif info.cpus:  # what a scheduler lists is not the whole
            available = info.available if info.available is not None else node.info.available
            node.info = info._replace(available=available)
        return node

    def _id(self, wanted: str, epoch: int) -> str:
        """Names of hosts are not unique, nor are addresses behind routers."""
        owner = self._ids.setdefault(wanted, epoch)
        if owner != epoch:
            wanted = f"{wanted}~{epoch & 0xFFFF:04x}"
            self._ids[wanted] = epoch
        return wanted

    def _node_is(self, node: KnownNode, state: str, text: str, now: float) -> None:
        if state != node.state:
            was, node.state = node.state, state
            if state in NOTED:
                words = f"node {node.info.name} is {state}" + (f": {text}" if text else "")
                if state == "closed" and text.startswith("it "):
                    words = f"node {node.info.name} {text[3:]}"
                self._note(NOTED[state], words, now, node=node.id)
            elif was in ("suspended", "lost"):
                self._note("resumed", f"node {node.info.name} is back", now, node=node.id)
        node.text = text

    def _on_node(self, sight: NodeSight, now: float) -> None:
        node = self._node(sight.node, now)
        node.seen, node.machine, node.resting = now, sight.machine, sight.resting
        if self.kind == "node":
            node.state = "resting" if sight.resting else "running" if sight.client is not None else "idle"
        if sight.node.available is not None:
            node.cpu_history.add(100.0 - sight.node.available.cpu)
        for report in sight.servers:
            self._take_report(node, report, now)
        if self.kind == "node":
            self._take_own(node, sight, now)
        for summary in sight.summaries:
            began = now - summary.ago_s - summary.seconds
            key = f"{node.id} {summary.client} {began:.0f}"
            if key not in self.tables.rows("leases"):
                self.tables.set("leases", key, rows.lease_row(key, summary, node, now))

    def _take_own(self, node: KnownNode, sight: NodeSight, now: float) -> None:
        """A node alone knows what its servers do, and nothing of what waits for them or has ended."""
        there = {report.spot.epoch for report in sight.servers}
        for server in list(self.servers.values()):
            if server.epoch not in there and not server.is_gone:
                self._server_gone(server, "ended")
        gone = [server for server in self.servers.values() if server.is_gone]
        ended, failed = (sum(getattr(server, name) for server in gone) for name in ("ended", "failed"))
        self._count(node, (server for server in self.servers.values() if not server.is_gone), ended, failed)
        for client in self.clients.values():
            if sight.client is not None:
                client.name, client.host, client.pid = sight.client.name, sight.client.host, sight.client.pid
                client.state, client.since, node.client = "active", now - sight.lease_s, client.id
            else:
                node.client = None
                self._client_ended(client, now)
            tasks = [
                LiveTask(task.number, task.attempt, task.function, report.spot.epoch, *_state_of(task))
                for report in sight.servers
                for task in report.tasks
                if task.owner == client.epoch
            ]
            self._take_live(client, tasks, now)

    def _take_report(self, node: KnownNode, report: ServerReport, now: float) -> None:
        spot = report.spot
        server = self._server(spot.epoch, spot.addr, spot.port, node.info.epoch, spot.name)
        server.pid, server.use = report.pid, report.use or server.use
        running = [task for task in report.tasks if task.state == "running"]
        server.tasks = {task.number: task for task in running}
        if self.kind == "node":
            server.state = "running" if running else "idle"
            server.seen, server.running = now, len(running)
            server.ahead = len(report.tasks) - len(running)
            if report.use is not None:
                server.ended, server.failed = report.use.ended, report.use.failed
        for task in report.tasks:
            client = self.client(task.owner) if task.owner in self.clients or self.kind == "node" else None
            if client is not None and task.args is not None:
                client.keep_args(task.number, task.args)
        server.task = next((task for task in running if not task.io), running[0] if running else None)
        server.task_id = self._task_id(server.task.owner, server.task.number) if server.task else None
        server.since = round(now - server.task.since, 1) if server.task is not None else None
        if "actors" in self._wanted:
            self._take_mailboxes(server, report, now)

    def _task_id(self, owner: int, number: int) -> str:
        return f"{f'{owner:016x}'[-8:]}.{number}"

    def _take_mailboxes(self, server: KnownServer, report: ServerReport, now: float) -> None:
        there = set()
        for task in report.tasks:
            if not task.actor:
                continue
            key = self._task_id(task.owner, task.number)
            there.add(key)
            self._take_actor(task, key, server, key.partition(".")[0], now)
        self._drop_actors(there, lambda row: row["server"] == server.id)

    def _take_actor(
        self, task: TaskReport, key: str, server: KnownServer | None, client: str, now: float
    ) -> None:
        oldest, rate = self._mailboxes.setdefault(key, Mailbox()).saw(task.messages, task.taken, now)
        self.tables.set("actors", key, rows.actor_row(task, key, server, client, oldest, rate))

    def _take_local(self, client: KnownClient, tasks: list[TaskReport], now: float) -> None:
        """Those of the client's own process."""
        there = set()
        for task in tasks:
            key = f"{client.id}.@{task.number}"
            there.add(key)
            self._take_actor(task, key, None, client.id, now)
        self._drop_actors(there, lambda row: row["client"] == client.id and row["server"] is None)

    def _drop_actors(self, there: set[str], is_meant: Callable[[rows.Row], bool]) -> None:
        """Those that are meant, and are not there any more."""
        gone = [key for key, row in self.tables.rows("actors").items() if key not in there and is_meant(row)]
        for key in gone:
            self.tables.drop("actors", key)
            self._mailboxes.pop(key, None)

    # --- servers ---

    def _server(self, epoch: int, addr: str, port: int, node: int, name: str) -> KnownServer:
        server = self.servers.get(epoch)
        if server is None:
            known = self.nodes.get(node)
            node_id = known.id if known is not None else ""
            wanted = f"{addr}:{port}"
            before = self._ids.get(wanted)
            if before in self._gone_servers:  # it takes the place of one that has ended
                self._forget_server(before)
            server = self.servers[epoch] = KnownServer(
                epoch, self._id(wanted, epoch), node, node_id, port, name
            )
        return server

    # --- by their names ---

    def node_named(self, wanted: str) -> KnownNode | None:
        return next((node for node in self.nodes.values() if node.id == wanted), None)

    def client_named(self, wanted: str) -> KnownClient | None:
        return next((client for client in self.clients.values() if client.id == wanted), None)

    def task_named(self, wanted: str) -> tuple[KnownClient, int] | None:
        """Its client and number, unless that has ended."""
        client_id, _, number = wanted.rpartition(".")
        client = self.client_named(client_id)
        if client is None or client.state == "ended" or not (number.isascii() and number.isdecimal()):
            return None
        return client, int(number[:19])

    def running_at(self, wanted: str) -> tuple[KnownClient, int, KnownServer] | None:
        """A task that runs, with its server."""
        found = self.task_named(wanted)
        if found is None:
            return None
        client, number = found
        row = self.tables.rows("tasks").get(wanted)
        server_id = row["server"] if row is not None and row["state"] == "running" else None
        for server in self.servers.values():
            if not server.is_gone and (server.id == server_id or server.task_id == wanted):
                return client, number, server
        return None

    def place_named(self, wanted: str) -> tuple[KnownClient | None, int, int] | None:
        """Of a node or server: the client that has it, its node and, if it is one, the server."""
        epoch = self._ids.get(wanted)
        if epoch in self.nodes:
            node, server = epoch, 0
        elif epoch in self.servers and not self.servers[epoch].is_gone:
            node, server = self.servers[epoch].node, epoch
        else:
            return None
        known = self.nodes.get(node)
        client = self.client_named(known.client) if known is not None and known.client is not None else None
        return client, node, server

    # --- ends ---

    def _client_silent(self, client: KnownClient, now: float) -> None:
        if client.epoch == self._own:
            self._client_ended(client, now)
        else:
            client.state = "silent"
            client.text = "it does not answer: it may be stopped, or compute in C code"

    def _client_ended(self, client: KnownClient, now: float) -> None:
        if client.ended is None:
            client.ended = now
            self._note("client", f"{client.name or 'the client'} has ended", now, client=client.id)
            self._give_back(client, now)
            for key in self._live.pop(client.id, set()):
                self.tables.drop("tasks", key)
            self._drop_actors(set(), lambda row: row["client"] == client.id)
            if self.kind == "scheduler" and client.sight is not None and _has_unfinished(client.sight):
                client.text = LAST_MISSED
        client.state, client.place = "ended", None
        if client.epoch == self._own and self.kind == "client":
            self.gone = f"The client {client.name} ended."

    # --- what a tick ends with ---

    def sample(self, now: float) -> None:
        """The sums, and the rows that need all answers."""
        for node in self.nodes.values():
            node.rate = round(node.ended_rate.saw(node.done + node.failed, now), 1)
            node.rate_history.add(node.rate)
            if "nodes" in self._wanted:
                self.tables.set("nodes", node.id, rows.node_row(node))
        if "servers" in self._wanted:
            for server in self.servers.values():
                self.tables.set("servers", server.id, rows.server_row(server, self.nodes.get(server.node)))
        if "functions" in self._wanted:
            self._sample_functions(now)
        if "clients" in self._wanted:
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
        deep = len(self.nodes) > DEEP_MAX and bool(self._wanted & DEEP)
        return {
            "name": self.title,
            "kind": self.kind,
            "title": self.title,
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

    def _note_news(self, kind: str, text: str, now: float, **where: str | None) -> None:
        """Unless it has come before anybody looked."""
        if not self._is_first_look:
            self._note(kind, text, now, **where)

    def _note(self, kind: str, text: str, now: float, **where: str | None) -> None:
        row = {"t": round(now, 2), "kind": kind, "text": text, "node": None, "server": None, "client": None}
        self.tables.append("events", {**row, **where})


def _state_of(task: TaskReport) -> tuple[str, float, float | None, bool, str]:
    if task.state == "running":
        return "running", task.since, 0.0, task.io, ""
    return "queued", task.since, None, task.io, "behind the task that runs there"


def _has_unfinished(sight: ClientSight) -> bool:
    return sum(sight.outcomes) < sight.submitted


LAST_MISSED: Final = "its last second may be missing here; its nodes have counted it, in the leases below"
_DEEP_NOTE: Final = "what servers run is asked of {} nodes in turn: each is asked every {} s"
