"""What the client of a lease tells: its nodes and servers, all of its tasks, and what they print."""

from __future__ import annotations

from typing import Final

from dispycos.notices import NAMED_MAX
from dispycos.protocol.messages import TaskReport
from dispycos.protocol.watching import ClientSight, Death, ServerCounts, Waiting

from . import rows
from .known import KnownClient, KnownServer
from .world import World

NEW_S: Final = 3.0  # what has begun before is no news when it is looked at for the first time
LONG: Final = frozenset(("tasks", "log"))  # tables of which much is told the first time


class FromClients:
    """Takes ClientSight."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._ended: dict[str, None] = {}  # tasks that are listed and have ended, the oldest first
        self._dropped_until: float | None = None

    def take(self, client: KnownClient, sight: ClientSight, now: float) -> None:
        client.unanswered = 0
        client.told |= LONG & self._world.wanted
        before = client.sight
        if before is not None and (sight.submitted < before.submitted or sight.line < client.line):
            self._forget_lease(client)  # it has another one
        info = sight.client
        client.name, client.host, client.pid = info.name or client.name, info.host, info.pid
        client.state, client.since, client.text = sight.state, now - sight.age_s, ""
        self._world.is_first_look = before is None and sight.age_s > NEW_S
        client.sight = sight
        self._world.gone = (
            "" if client.epoch == self._world.own and sight.state != "ended" else self._world.gone
        )
        self._take_nodes(client, sight, now)
        self._world.is_first_look = False
        self._take_servers(client, sight.servers, now)
        if sight.state == "ended":
            self._world.client_ended(client, now)
        self._take_deaths(client, sight, now)
        if "tasks" in self._world.wanted:
            self._world.take_live(client, sight.live, now)
            self._take_ended(client, sight, now)
        if "failures" in self._world.wanted:
            for group in sight.failures:
                found = [self._world.place(epoch) for epoch in group.servers]
                servers = [server for server in found if server is not None]
                key = client.failure_id(group.number) or ""
                self._world.tables.set("failures", key, rows.failure_row(group, client, servers, now))
        if "waiting" in self._world.wanted:
            waits = [rows.waiting_row(self._explained(one), client, now) for one in sight.waits]
            self._replace("waiting", client, waits)
        if "log" in self._world.wanted:
            self._take_lines(client, sight, now)
        if "actors" in self._world.wanted:
            self._take_local(client, sight.actors, now)
        if "links" in self._world.wanted:
            self._take_links(client, sight, now)

    def _explained(self, waiting: Waiting) -> Waiting:
        """Where there is no server: what keeps the nodes that there are."""
        if waiting.reason != "none":
            return waiting
        words = [
            f"{node.info.name}: {node.resting or node.text or node.state}"
            for node in self._world.nodes.values()
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
        client.told.clear()
        client.args.clear()

    def _take_nodes(self, client: KnownClient, sight: ClientSight, now: float) -> None:
        there = set()
        by_node: dict[int, list[ServerCounts]] = {}
        for count in sight.servers:
            by_node.setdefault(count.node, []).append(count)
        for info, state, text, ended, failed in sight.nodes:
            node = self._world.node(info, now)
            there.add(info.epoch)
            node.client = client.id
            self._world.count(node, by_node.get(info.epoch, ()), ended, failed)
            self._world.node_is(
                node, "lost" if state == "silent" else state.replace("closing", "closed"), text, now
            )
        for node in self._world.nodes.values():
            if node.client == client.id and node.info.epoch not in there:
                self._world.is_free(node, now)
        for epoch, ended, failed in sight.past:
            if epoch in self._world.nodes and epoch not in there:
                self._world.count(self._world.nodes[epoch], (), ended, failed)

    def _take_servers(self, client: KnownClient, counts: list[ServerCounts], now: float) -> None:
        there = set()
        for count in counts:
            there.add(count.epoch)
            server = self._world.server(count.epoch, count.addr, count.port, count.node, count.name)
            server.state, server.seen, server.is_gone = count.state, now, False
            server.running, server.ahead = count.running, count.ahead
            server.ended, server.failed = count.ended, count.failed
        mine = {epoch for epoch, node in self._world.nodes.items() if node.client in (client.id, None)}
        for server in list(self._world.servers.values()):
            if server.node in mine and server.epoch not in there and not server.is_gone and server.seen:
                self._world.server_gone(server, "ended")

    def _died_unseen(self, death: Death) -> KnownServer:
        """It had ended before anybody looked."""
        node = next((node for node in self._world.nodes.values() if node.info.name == death.node), None)
        node_epoch, node_id = (node.info.epoch, node.id) if node is not None else (0, "")
        server = KnownServer(
            death.epoch, f"{death.addr}:{death.port}", node_epoch, node_id, death.port, death.name
        )
        self._world.bury(server)
        return server

    def _take_deaths(self, client: KnownClient, sight: ClientSight, now: float) -> None:
        for death in sight.deaths:
            client.death = death.n
            server = self._world.servers.get(death.epoch)
            if server is not None:
                server.text = death.text
                self._world.server_gone(server, "ended" if death.expected else "lost")
            server = server or self._world.place(death.epoch) or self._died_unseen(death)
            row = rows.death_row(death, client, server, now)
            self._world.tables.set("deaths", row["id"], row)
            if not death.expected:
                where = {"node": row["node"], "server": row["server"], "client": client.id}
                text = death.text if death.name in death.text else f"server {death.name}: {death.text}"
                self._world.note("died", text, now - death.ago_s, **where)

    def _take_ended(self, client: KnownClient, sight: ClientSight, now: float) -> None:
        for ended in sight.ended:
            client.task = ended.n
            row = rows.ended_row(ended, client, self._world.place(ended.server), now)
            self._world.tables.set("tasks", row["id"], row)
            self._ended[row["id"]] = None
        while len(self._ended) > rows.TASKS_KEPT:
            oldest = next(iter(self._ended))
            del self._ended[oldest]
            self._dropped_until = self._world.tables.rows("tasks")[oldest]["end"]
            self._world.tables.drop("tasks", oldest)
        total = sum(sum(one.sight.outcomes) for one in self._world.clients.values() if one.sight is not None)
        self._world.tables.note("tasks", total, rows.TASKS_KEPT, self._dropped_until)

    def _replace(self, table: str, client: KnownClient, new: list[rows.Row]) -> None:
        """All rows of this client are these now."""
        keys = {row["id"] for row in new}
        old = [key for key, row in self._world.tables.rows(table).items() if row["client"] == client.id]
        for key in old:
            if key not in keys:
                self._world.tables.drop(table, key)
        for row in new:
            self._world.tables.set(table, row["id"], row)

    def _take_lines(self, client: KnownClient, sight: ClientSight, now: float) -> None:
        by_name = {server.name: server for server in self._world.servers.values()}
        for line in sight.lines:
            if line.n > client.line + 1:
                self._world.tables.append("log", rows.missed_row(line.n - client.line - 1, now - line.ago_s))
            client.line = line.n
            server = by_name.get(line.server)
            node_id, server_id = (server.node_id, server.id) if server is not None else (None, None)
            self._world.tables.append("log", rows.line_row(line, node_id, server_id, now))

    def _take_links(self, client: KnownClient, sight: ClientSight, now: float) -> None:
        names = {epoch: node.id for epoch, node in self._world.nodes.items()}
        names |= {epoch: server.id for epoch, server in self._world.servers.items()}
        seconds = now - client.linked_at if client.linked_at else 0.0
        new = []
        for peer in sight.peers:
            to = names.get(peer.epoch, peer.role)
            row = rows.link_row(peer, client.id, to, client.peers.get(peer.epoch), seconds)
            new.append({**row, "client": client.id})
        client.peers = {peer.epoch: peer for peer in sight.peers}
        client.linked_at = now
        self._replace("links", client, new)

    def _take_local(self, client: KnownClient, tasks: list[TaskReport], now: float) -> None:
        """Those of the client's own process."""
        there = set()
        for task in tasks:
            key = f"{client.id}.@{task.number}"
            there.add(key)
            self._world.take_actor(task, key, None, client.id, now)
        self._world.drop_actors(there, lambda row: row["client"] == client.id and row["server"] is None)
