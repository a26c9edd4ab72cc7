"""What a viewer knows of a cluster: its clients, nodes and servers, what they are called, and the tables that this is shown in."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from dispycos.protocol.messages import NodeInfo, TaskReport
from dispycos.protocol.watching import ClientSight, LiveTask, ServerCounts

from . import rows
from .known import KnownClient, KnownNode, KnownServer, Mailbox
from .tables import Tables

DEAD_KEPT: Final = 1000  # servers of which it is known where they were
GONE_KEPT: Final = 200  # servers that have ended, and are shown
NOTED: Final = {"lost": "lost", "suspended": "suspended", "closed": "left"}
LAST_MISSED: Final = "its last second may be missing here; its nodes have counted it, in the leases below"


class World:
    """Facts, and the changes of state that those who tell of it have in common.

    Parameters
    ----------
    tables: that it is shown in. kind: whose monitor it is: "client", "scheduler" or "node". own: the epoch of the process that it
    runs in, if that is one of these.
    """

    def __init__(self, tables: Tables, kind: str, own: int) -> None:
        self.tables = tables
        self.kind = kind
        self.own = own
        self.gone = ""  # the client that this monitor belongs to has ended: in words
        self.clients: dict[int, KnownClient] = {}
        self.nodes: dict[int, KnownNode] = {}
        self.servers: dict[int, KnownServer] = {}
        self.wanted: frozenset[str] = frozenset()  # the tables that are read
        self.is_first_look = False  # at a whole cluster: what is there has not come just now
        self._ids: dict[str, int] = {}  # of nodes and servers: which epoch has it
        self._gone_servers: dict[int, None] = {}
        self._dead: dict[int, KnownServer] = {}
        self._mailboxes: dict[str, Mailbox] = {}
        self._live: dict[str, set[str]] = {}  # by client: ids of tasks that are listed and have not ended

    def client(self, epoch: int) -> KnownClient:
        known = self.clients.get(epoch)
        if known is None:
            known = self.clients[epoch] = KnownClient(epoch, f"{epoch:016x}"[-8:])
        return known

    def is_of(self, epoch: int) -> None:
        """The client whose monitor this is; 0: it has no cluster yet."""
        self.own = epoch
        if epoch:
            self.client(epoch)

    def node(self, info: NodeInfo, now: float) -> KnownNode:
        node = self.nodes.get(info.epoch)
        if node is None:
            node = KnownNode(info, self._id(f"{info.name}:{info.port}", info.epoch))
            self.nodes[info.epoch] = node
            self.note_news("joined", f"node {info.name} joined", now, node=node.id)
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

    def node_is(self, node: KnownNode, state: str, text: str, now: float) -> None:
        if state != node.state:
            was, node.state = node.state, state
            if state in NOTED:
                words = f"node {node.info.name} is {state}" + (f": {text}" if text else "")
                if state == "closed" and text.startswith("it "):
                    words = f"node {node.info.name} {text[3:]}"
                self.note(NOTED[state], words, now, node=node.id)
            elif was in ("suspended", "lost"):
                self.note("resumed", f"node {node.info.name} is back", now, node=node.id)
        node.text = text

    def is_free(self, node: KnownNode, now: float) -> None:
        node.client = None
        node.servers = node.running = 0
        node.absent = []
        if self.kind == "client":
            self.node_is(node, "closed", "it was given back", now)

    def has_a_client(self, node: KnownNode) -> bool:
        """That tells of it, and knows better than its scheduler."""
        client = self.client_named(node.client) if node.client is not None else None
        return client is not None and client.state in ("active", "closing")

    def count(
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

    def server(self, epoch: int, addr: str, port: int, node: int, name: str) -> KnownServer:
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

    def server_gone(self, server: KnownServer, state: str) -> None:
        server.is_gone, server.state = True, state
        server.running = server.ahead = 0
        server.task, server.task_id, server.since = None, None, None
        server.tasks = {}
        self.drop_actors(set(), lambda row: row["server"] == server.id)
        self._gone_servers[server.epoch] = None
        while len(self._gone_servers) > GONE_KEPT:
            self._forget_server(next(iter(self._gone_servers)))

    def _forget_server(self, epoch: int) -> None:
        self._gone_servers.pop(epoch)
        server = self.servers.pop(epoch)
        self.bury(server)
        self.tables.drop("servers", server.id)
        if self._ids.get(server.id) == epoch:
            del self._ids[server.id]

    def bury(self, server: KnownServer) -> None:
        self._dead[server.epoch] = server
        while len(self._dead) > DEAD_KEPT:
            del self._dead[next(iter(self._dead))]

    def place(self, epoch: int) -> KnownServer | None:
        """A server, also one that is not there any more."""
        return self.servers.get(epoch) or self._dead.get(epoch)

    def take_live(self, client: KnownClient, tasks: list[LiveTask], now: float) -> None:
        live = set()
        for task in tasks:
            row = rows.live_row(task, client, self.servers.get(task.server), now)
            live.add(row["id"])
            self.tables.set("tasks", row["id"], row)
        for key in self._live.get(client.id, set()) - live:
            self.tables.drop("tasks", key)
        self._live[client.id] = live

    def take_actor(
        self, task: TaskReport, key: str, server: KnownServer | None, client: str, now: float
    ) -> None:
        oldest, rate = self._mailboxes.setdefault(key, Mailbox()).saw(task.messages, task.taken, now)
        self.tables.set("actors", key, rows.actor_row(task, key, server, client, oldest, rate))

    def drop_actors(self, there: set[str], is_meant: Callable[[rows.Row], bool]) -> None:
        """Those that are meant, and are not there any more."""
        gone = [key for key, row in self.tables.rows("actors").items() if key not in there and is_meant(row)]
        for key in gone:
            self.tables.drop("actors", key)
            self._mailboxes.pop(key, None)

    def client_ended(self, client: KnownClient, now: float) -> None:
        if client.ended is None:
            client.ended = now
            self.note("client", f"{client.name or 'the client'} has ended", now, client=client.id)
            self._give_back(client, now)
            for key in self._live.pop(client.id, set()):
                self.tables.drop("tasks", key)
            self.drop_actors(set(), lambda row: row["client"] == client.id)
            if self.kind == "scheduler" and client.sight is not None and _has_unfinished(client.sight):
                client.text = LAST_MISSED
        client.state, client.place = "ended", None
        if client.epoch == self.own and self.kind == "client":
            self.gone = f"The client {client.name} ended."

    def _give_back(self, client: KnownClient, now: float) -> None:
        """All that it had."""
        for node in self.nodes.values():
            if node.client == client.id:
                self.is_free(node, now)
                for server in list(self.servers.values()):
                    if server.node == node.info.epoch and not server.is_gone:
                        self.server_gone(server, "ended")

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

    def note_news(self, kind: str, text: str, now: float, **where: str | None) -> None:
        """Unless it has come before anybody looked."""
        if not self.is_first_look:
            self.note(kind, text, now, **where)

    def note(self, kind: str, text: str, now: float, **where: str | None) -> None:
        row = {"t": round(now, 2), "kind": kind, "text": text, "node": None, "server": None, "client": None}
        self.tables.append("events", {**row, **where})


def task_id(owner: int, number: int) -> str:
    """As people and the JSON know it."""
    return f"{f'{owner:016x}'[-8:]}.{number}"


def _has_unfinished(sight: ClientSight) -> bool:
    return sum(sight.outcomes) < sight.submitted
