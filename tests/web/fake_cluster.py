"""A made-up cluster that lives: servers take tasks, tasks end, nodes fall silent, and actions change it."""

from __future__ import annotations

import random
from typing import Any

from tests.web.fake_story import Story
from tests.web.fake_tables import Row, Tables

GB = 1 << 30
NAMES = ["ash", "birch", "cedar", "elm", "fir", "hazel", "larch", "maple", "oak", "pine", "rowan", "yew"]
MEAN_S = {"fetch_page": 2.0, "parse_row": 0.4, "resample": 14.0, "score_batch": 19.0, "fit_model": 90.0}
WEIGHTS = [4, 2, 6, 5, 2]
HOSTILE = "<img src=x onerror=window.bitten=1>"
ENDED_KEPT = 10_000
CLIENT = "5f1c"


class Server:
    """One process: it runs one task after the other."""

    def __init__(self, node: str, addr: str, port: int, name: str) -> None:
        self.id = f"{addr}:{port}"
        self.node, self.port, self.name = node, port, name
        self.state = "running"
        self.task: Row | None = None
        self.free_at = 0.0
        self.done = 0
        self.failed = 0
        self.peak = 0


class Cluster:
    """All tables of the contract, changed by tick() and act()."""

    def __init__(self, nodes: int, now: float, *, hostile: bool = False, ended: int = ENDED_KEPT) -> None:
        self.random = random.Random(7)
        self.now = now
        self.started = now - 11_475
        self.hostile = hostile
        self.tables = Tables()
        self.nodes: dict[str, Row] = {}
        self.servers: dict[str, Server] = {}
        self.number = 1_190_000
        self.counts = {"done": 0, "failed": 0, "lost": 0, "cancelled": 0}
        self.queued = 12_480 if nodes else 0
        self.ended: list[str] = []
        self.poll_sec, self.show_args = 1.0, True
        self.gone = ""
        for i in range(nodes):
            self._add_node(i, nodes)
        self.story = Story(self)
        if nodes:
            self._live_backwards(ended)
            self.counts.update(done=1_204_114, failed=214, lost=3, cancelled=37)
            self.story.begin()
        self._write(rated=0.0)

    # ------------------------------------------------------------ nodes and servers

    def _add_node(self, i: int, many: int) -> None:
        few = many <= len(NAMES)
        name = NAMES[i] if few else f"n{i + 1:03}"
        if self.hostile and i == 1:
            name = HOSTILE
        addr = f"10.20.{4 + i // 200}.{11 + i % 200}"
        cpus = 16 if few and name in ("cedar", "maple") else 8
        total = cpus * 4 * GB
        ident = f"{name}:51348"
        self.nodes[ident] = {
            "id": ident,
            "name": name,
            "addr": addr,
            "port": 51348,
            "state": "running",
            "client": CLIENT,
            "cpus": cpus,
            "servers": cpus,
            "absent": [],
            "running": 0,
            "submitted": 0,
            "done": 90_000 + 137 * i,
            "failed": i % 5,
            "rate": 0.0,
            "cpu": 60.0 + self.random.random() * 30,
            "load": cpus * 0.8,
            "memory": int(total * self.random.uniform(0.1, 0.6)),
            "memory_total": total,
            "disk": int(self.random.uniform(120, 1800) * GB),
            "swap": int(self.random.uniform(2, 8) * GB),
            "platform": "Linux 6.1 x86_64",
            "python": "3.12.4",
            "resources": {"gpu": 2} if name == "ash" else {},
            "release": "1.0",
            "seen": self.now,
            "hours": "",
            "text": "",
            "cpu_history": [self.random.uniform(55, 95) for _ in range(60)],
            "rate_history": [],
        }
        if name == "yew":  # no psutil there
            self.nodes[ident].update(
                cpu=None, load=None, memory=None, memory_total=None, disk=None, swap=None, cpu_history=[]
            )
        for k in range(cpus):
            server = Server(ident, addr, 51307 + 3 * k, f"server-{k + 1}")
            self.servers[server.id] = server
        if (few and name == "hazel") or (not few and i % 41 == 9):
            self.nodes[ident].update(state="suspended", text="suspended from this page")
        if (few and name == "larch") or (not few and i in (77, 140)):
            self.nodes[ident].update(state="lost", text="not heard of", seen=self.now - 42, cpu=None)

    def _live_backwards(self, ended: int) -> None:
        """Fill the history: the servers' tasks of the last minutes."""
        mean = sum(w * m for w, m in zip(WEIGHTS, MEAN_S.values(), strict=True)) / sum(WEIGHTS)
        back = min(3600.0, ended / len(self.servers) * (mean + 0.4))
        past: list[tuple[float, Row]] = []
        for server in self.servers.values():
            state = self.nodes[server.node]["state"]
            stop = self.now - (1300 if state == "suspended" else 42 if state == "lost" else 0)
            at = self.now - back + self.random.random() * 6
            while at < stop:
                task = self._task(server, at)
                if task["end"] > stop and state == "running":
                    self._start(server, task)
                else:
                    past.append((task["end"], task))
                at = task["end"] + self.random.choice([0.1, 0.2, 0.4, 3.0])
            server.done = 8000 + self.random.randrange(8000)
        for _, task in sorted(past, key=lambda item: item[0])[-ended:]:
            self._end(task)

    def _task(self, server: Server, start: float) -> Row:
        function = self.random.choices(list(MEAN_S), WEIGHTS)[0]
        run = MEAN_S[function] * self.random.uniform(0.2, 1.8)
        self.number += 1
        name = HOSTILE if self.hostile and self.number % 50 == 0 else function
        return {
            "id": f"{CLIENT}.{self.number}",
            "client": CLIENT,
            "function": name,
            "args": self._args(function),
            "state": "done",
            "node": server.node,
            "server": server.id,
            "submitted": start - self.random.uniform(0.4, 9),
            "start": start,
            "end": start + run,
            "run": run,
            "queue": self.random.uniform(0.2, 9),
            "cpu_s": run * 0.9,
            "peak": int(self.random.uniform(0.1, 2.2) * GB),
            "attempt": 1,
            "io": function == "fetch_page",
            "error": "",
            "failure": None,
            "why": None,
        }

    def _args(self, function: str) -> str:
        i = self.number % 900
        if self.hostile and i % 3 == 0:
            return f"'{HOSTILE}', {i}"
        words = {
            "fetch_page": f"'https://a.example/p/{1000 + i}'",
            "parse_row": f"{i * 37}, strict=True",
            "resample": f"<Grid 512x512>, rate={i % 4 + 1}",
            "score_batch": f"batch={i}, <Model v7>",
        }
        return words.get(function, f"fold={i % 10}, depth={i % 3 + 6}")

    def _start(self, server: Server, task: Row) -> None:
        server.task = task
        server.free_at = task["end"]
        self.tables.set(
            "tasks", task["id"], {**task, "state": "running", "end": None, "run": None, "cpu_s": None}
        )

    def _end(self, task: Row, state: str = "") -> None:
        chance = self.random.random()
        task["state"] = state or ("failed" if chance < 0.02 else "cancelled" if chance < 0.024 else "done")
        if task["state"] == "failed":
            self.story.fail(task)
        self.counts[task["state"]] += 1
        table = self.tables.table("tasks")
        table.total, table.kept = sum(self.counts.values()), ENDED_KEPT
        self.tables.set("tasks", task["id"], task)
        self.ended.append(task["id"])
        if len(self.ended) > ENDED_KEPT:
            self.tables.drop("tasks", self.ended.pop(0))
            table.facts["dropped_until"] = task["end"] - 1800

    # ------------------------------------------------------------ life

    def tick(self, now: float) -> None:
        """One second of life."""
        before = self.counts["done"]
        passed, self.now = max(0.001, now - self.now), now
        for server in self.servers.values():
            node = self.nodes[server.node]
            if server.task and server.free_at <= now and node["state"] != "lost":
                self._end(server.task)
                server.done += 1
                node["done"] += 1
                server.task = None
            ready = node["state"] == "running" and server.state == "running"
            if ready and not server.task and self.random.random() < 0.93:
                self._start(server, self._task(server, now))
                self.queued = max(0, self.queued - 1)
        for node in self.nodes.values():
            if node["state"] != "lost":
                self._pulse(node)
        if self.nodes:
            self.queued += self.random.randrange(max(1, len(self.servers) // 30))
            self.story.go_on()
        self._write((self.counts["done"] - before) / passed)

    def hold(self) -> None:
        """From now on each ready server runs one task that does not end by itself."""
        for server in self.servers.values():
            if self.nodes[server.node]["state"] == "running":
                if not server.task:
                    self._start(server, self._task(server, self.now))
                server.free_at = float("inf")
        self._write(0.0)

    def _pulse(self, node: Row) -> None:
        node["seen"] = self.now - self.random.random() * 0.9
        if node["cpu"] is not None:
            base = 78 if node["state"] == "running" else 6
            node["cpu"] = min(
                100.0, max(1.0, node["cpu"] + (base - node["cpu"]) * 0.2 + self.random.uniform(-9, 9))
            )
            node["cpu_history"] = [*node["cpu_history"][1:], round(node["cpu"], 1)]
            node["memory"] = int(node["memory"] * self.random.uniform(0.985, 1.015))

    def _write(self, rated: float) -> None:
        running: dict[str, int] = dict.fromkeys(self.nodes, 0)
        for server in self.servers.values():
            running[server.node] += server.task is not None
            self.tables.set("servers", server.id, self._server_row(server))
        for ident, node in self.nodes.items():
            rate = running[ident] * 0.06 if node["state"] == "running" else 0.0
            node.update(running=running[ident], submitted=node["done"] + running[ident], rate=rate)
            self.tables.set("nodes", ident, dict(node))
        busy = sum(running.values())
        cpu = [node["cpu"] for node in self.nodes.values() if node["cpu"] is not None]
        totals = {
            "queued": self.queued,
            "running": busy,
            **self.counts,
            "rate": rated,
            "messages": 2904.0 if busy else 0.0,
            "cpu": sum(cpu) / len(cpu) if cpu else None,
        }
        memory = [node for node in self.nodes.values() if node["memory_total"]]
        total = sum(node["memory_total"] for node in memory)
        used = total - sum(node["memory"] for node in memory)
        submitted = sum(self.counts.values()) + busy + self.queued
        self.tables.set(
            "meta",
            "cluster",
            {
                "kind": "client",
                "name": "survey.py",
                "release": "1.0",
                "started": self.started,
                "now": self.now,
                "poll_sec": self.poll_sec,
                "show_args": self.show_args,
                "recording": None,
                "insecure": False,
                "gone": self.gone,
                "submitted": submitted,
                **totals,
                "memory_used": used,
                "memory": total,
                "servers": len(self.servers),
                "servers_busy": busy,
                "nodes": len(self.nodes),
                "since": self.started,
                "notes": []
                if self.show_args
                else [f"arguments are not asked for: {len(self.servers)} servers"],
            },
        )
        clients = {CLIENT: busy} if self.nodes else {}
        self.tables.append(
            "samples",
            {"t": self.now, **totals, "memory_used": used, "memory": total, "by_client": clients},
            3600,
        )
        self.tables.commit()

    def _server_row(self, server: Server) -> Row:
        task, node = server.task, self.nodes[server.node]
        state = node["state"] if node["state"] in ("lost", "suspended") else server.state
        if state == "running" and not task:
            state = "idle"
        return {
            "id": server.id,
            "node": server.node,
            "port": server.port,
            "name": server.name,
            "pid": 40_000 + server.port,
            "state": state,
            "function": task and task["function"],
            "task": task and task["id"],
            "args": task and task["args"] if self.show_args else None,
            "since": task and task["start"],
            "running": int(task is not None),
            "queued": 1 if task else 0,
            "submitted": server.done + 1,
            "done": server.done,
            "failed": server.failed,
            "cpu_s": server.done * 3.1,
            "memory": (task["peak"] // 2) if task else GB // 8,
            "peak": task["peak"] if task else GB // 4,
            "seen": node["seen"],
            "text": "",
        }

    # ------------------------------------------------------------ actions

    def act(self, action: str, ids: list[str], args: dict[str, Any]) -> Row:
        """Do it; what comes back is the answer to the page."""
        if action == "options":
            self.poll_sec = float(args.get("poll_sec", self.poll_sec))
            self.show_args = bool(args.get("show_args", self.show_args))
            return {"done": 1, "refused": [], "text": "Changed."}
        if action == "terminate_where":
            ids = [
                row["id"]
                for row in self.tables.table("tasks").rows.values()
                if self._matches(row, args["filter"])
            ]
            action = "terminate"
        refused = [[ident, words] for ident in ids if (words := self._do(action, ident))]
        self._write(0.0)
        return {"done": len(ids) - len(refused), "refused": refused, "text": ""}

    def _matches(self, row: Row, wanted: Row) -> bool:
        text = wanted.pop("text", "") if "text" in wanted else ""
        fits = all(row[key] == value for key, value in wanted.items() if value)
        return fits and text in f"{row['function']} {row['args']}" and row["state"] in ("running", "queued")

    def _do(self, action: str, ident: str) -> str:
        """'' if it was done, else why not."""
        if action == "terminate":
            for server in self.servers.values():
                if server.task and server.task["id"] == ident:
                    server.task["end"] = self.now
                    self._end(server.task, "cancelled")
                    server.task = None
                    server.free_at = self.now + 3
                    return ""
            return "It had ended before."
        if ident in self.nodes:
            state = {"suspend": "suspended", "resume": "running", "close": "closed"}[action]
            self.nodes[ident].update(
                state=state, text=f"{state} from this page" if state == "suspended" else ""
            )
            return ""
        if ident in self.servers and action in ("suspend", "resume", "restart"):
            self.servers[ident].state = "suspended" if action == "suspend" else "running"
            return ""
        if action == "end_lease":
            return self.story.end_lease(ident)
        return "No such node or server."
