"""What a node tells: what it has left, what its servers do, and the leases that have ended."""

from __future__ import annotations

from dispycos.protocol.messages import ServerReport, TaskReport
from dispycos.protocol.watching import LiveTask, NodeSight

from . import rows
from .known import KnownNode, KnownServer
from .world import World, task_id


class FromNodes:
    """Takes NodeSight."""

    def __init__(self, world: World) -> None:
        self._world = world

    def take(self, sight: NodeSight, now: float) -> None:
        node = self._world.node(sight.node, now)
        node.seen, node.machine, node.resting = now, sight.machine, sight.resting
        node.absent = sight.absent
        if self._world.kind == "node":
            node.state = "resting" if sight.resting else "running" if sight.client is not None else "idle"
        if sight.node.available is not None:
            node.cpu_history.add(100.0 - sight.node.available.cpu)
        for report in sight.servers:
            self._take_report(node, report, now)
        if self._world.kind == "node":
            self._take_own(node, sight, now)
        for summary in sight.summaries:
            began = now - summary.ago_s - summary.seconds
            key = f"{node.id} {summary.client} {began:.0f}"
            if key not in self._world.tables.rows("leases"):
                self._world.tables.set("leases", key, rows.lease_row(key, summary, node, now))

    def _take_own(self, node: KnownNode, sight: NodeSight, now: float) -> None:
        """A node alone knows what its servers do, and nothing of what waits for them or has ended."""
        there = {report.spot.epoch for report in sight.servers}
        for server in list(self._world.servers.values()):
            if server.epoch not in there and not server.is_gone:
                self._world.server_gone(server, "ended")
        gone = [server for server in self._world.servers.values() if server.is_gone]
        ended, failed = (sum(getattr(server, name) for server in gone) for name in ("ended", "failed"))
        self._world.count(
            node, (server for server in self._world.servers.values() if not server.is_gone), ended, failed
        )
        for client in self._world.clients.values():
            if sight.client is not None:
                client.name, client.host, client.pid = sight.client.name, sight.client.host, sight.client.pid
                client.state, client.since, node.client = "active", now - sight.lease_s, client.id
            else:
                node.client = None
                self._world.client_ended(client, now)
            tasks = [
                LiveTask(task.number, task.attempt, task.function, report.spot.epoch, *_state_of(task))
                for report in sight.servers
                for task in report.tasks
                if task.owner == client.epoch
            ]
            self._world.take_live(client, tasks, now)

    def _take_report(self, node: KnownNode, report: ServerReport, now: float) -> None:
        spot = report.spot
        server = self._world.server(spot.epoch, spot.addr, spot.port, node.info.epoch, spot.name)
        server.pid, server.use = report.pid, report.use or server.use
        running = [task for task in report.tasks if task.state == "running"]
        server.tasks = {task.number: task for task in running}
        if self._world.kind == "node":
            server.state = "running" if running else "idle"
            server.seen, server.running = now, len(running)
            server.ahead = len(report.tasks) - len(running)
            if report.use is not None:
                server.ended, server.failed = report.use.ended, report.use.failed
        for task in report.tasks:
            client = (
                self._world.client(task.owner)
                if task.owner in self._world.clients or self._world.kind == "node"
                else None
            )
            if client is not None and task.args is not None:
                client.keep_args(task.number, task.args)
        server.task = next((task for task in running if not task.io), running[0] if running else None)
        server.task_id = task_id(server.task.owner, server.task.number) if server.task else None
        server.since = round(now - server.task.since, 1) if server.task is not None else None
        if "actors" in self._world.wanted:
            self._take_mailboxes(server, report, now)

    def _take_mailboxes(self, server: KnownServer, report: ServerReport, now: float) -> None:
        there = set()
        for task in report.tasks:
            if not task.actor:
                continue
            key = task_id(task.owner, task.number)
            there.add(key)
            self._world.take_actor(task, key, server, key.partition(".")[0], now)
        self._world.drop_actors(there, lambda row: row["server"] == server.id)


def _state_of(task: TaskReport) -> tuple[str, float, float | None, bool, str]:
    if task.state == "running":
        return "running", task.since, 0.0, task.io, ""
    return "queued", task.since, None, task.io, "behind the task that runs there"
