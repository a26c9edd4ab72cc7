"""What happened in the made-up cluster: failures, deaths, who waits, who talks, what was printed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.web.fake_tables import Row

if TYPE_CHECKING:
    from tests.web.fake_cluster import Cluster

TRACE = """Traceback (most recent call last):
  File "survey.py", line 88, in {function}
    values = [to_number(c) for c in cells]
  File "survey.py", line 41, in to_number
    return float(text)
{error}: {text}"""

ERRORS = {
    "parse_row": ("ValueError", "could not convert string to float: 'n/a'"),
    "fetch_page": ("TimeoutError", "no answer from a.example:443 in 10 s"),
    "score_batch": ("NotPicklable", "argument 2, attribute 'lock': cannot pickle '_thread.lock'"),
    "resample": ("ZeroDivisionError", "division by zero"),
    "fit_model": ("LinAlgError", "singular matrix"),
}
RUN = {
    "fetch_page": (0.18, 1.9),
    "parse_row": (0.02, 0.11),
    "resample": (2.1, 7.8),
    "score_batch": (4.4, 19.0),
    "fit_model": (41.0, 312.0),
}
LINES = [
    ("print", "fetch_page", "got 200 for https://a.example/p/{} in 127 ms"),
    ("info", "score_batch", "batch {}: auc 0.91, 4096 rows"),
    ("debug", "resample", "window {} of 512, cache hit"),
    ("info", "resample", "grid {} written, 2.1 MB"),
    ("warning", "parse_row", "row {}: empty cell in column 4"),
    (
        "error",
        "parse_row",
        "row {}: ValueError: could not convert string to float: 'n/a'\n  File \"survey.py\", line 88",
    ),
]


class Story:
    """Tables beside nodes, servers and tasks."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.failures: dict[str, Row] = {}

    def begin(self) -> None:
        c, now = self.cluster, self.cluster.now
        nodes, servers = list(c.nodes.values()), list(c.servers.values())
        first = servers[len(servers) // 3]
        c.tables.set(
            "failures",
            "lost",
            {
                "id": "lost",
                "state": "lost",
                "function": "fit_model",
                "error": "TaskLost",
                "text": "its server was killed by SIGKILL (9)",
                "count": 3,
                "first": now - 4410,
                "last": now - 517,
                "nodes": [first.node],
                "trace": "",
                "servers": [first.id],
            },
        )
        c.tables.set(
            "deaths",
            "1",
            {
                "id": "1",
                "time": now - 517,
                "server": first.id,
                "node": first.node,
                "text": "killed by SIGKILL (9)",
                "signal": "SIGKILL",
                "code": None,
                "memory": 16_213_000_000,
                "lines": "fold 3: 8 levels, 41,220 rows\ngrid search, 512 candidates\nkernel matrix needs 13.4 GB\n",
                "tasks": [f"{c.number:x}.1"],
                "expected": False,
            },
        )
        for ago, kind, text, node in [
            (1510, "joined", f"node {nodes[-1]['name']} joined", nodes[-1]["id"]),
            (
                1300,
                "suspended",
                f"node {nodes[5 % len(nodes)]['name']} is suspended",
                nodes[5 % len(nodes)]["id"],
            ),
            (1124, "client", "tiles.py on 10.20.4.7 came", None),
            (517, "died", f"server {first.name}: killed by SIGKILL (9)", first.node),
            (
                42,
                "lost",
                f"node {nodes[6 % len(nodes)]['name']} is lost: not heard of",
                nodes[6 % len(nodes)]["id"],
            ),
        ]:
            server = first.id if kind == "died" else None
            c.tables.append(
                "events",
                {"t": now - ago, "kind": kind, "text": text, "node": node, "server": server, "client": None},
                1000,
            )
        self._samples()
        self._people()
        self._waiting()
        for i in range(600):
            self._line(now - (600 - i) * 0.2, i)

    def _samples(self) -> None:
        """15 minutes of curves, with a gap where nobody looked."""
        c, usual = self.cluster, len(self.cluster.servers) / 22.0
        rates = [usual]
        for _ in range(899):
            rates.append(
                max(0.0, rates[-1] + (usual - rates[-1]) * 0.12 + c.random.uniform(-1, 1) * usual / 4)
            )
        ended = 1_204_114 - sum(rates)
        for ago, rate in zip(range(900, 0, -1), rates, strict=True):
            ended += rate
            if 560 < ago < 600:
                continue
            c.tables.append(
                "samples",
                {
                    "t": c.now - ago,
                    "rate": rate,
                    "running": len(c.servers) - c.random.randrange(9),
                    "queued": 12_480 + ago * 4,
                    "done": int(ended),
                    "failed": 214 - ago // 40,
                    "lost": 3 - (ago > 517),
                    "cancelled": 37,
                    "cpu": 70 + c.random.random() * 20,
                    "memory_used": 58 + c.random.random() * 4,
                    "memory": 100,
                    "messages": 2904.0,
                    "by_client": {"5f1c": len(c.servers) - 5} if ago < 700 else {"77aa": len(c.servers) - 9},
                },
                3600,
            )

    def _people(self) -> None:
        c, now = self.cluster, self.cluster.now
        base: Row = {
            "host": "10.20.4.2",
            "pid": 4121,
            "place": None,
            "servers": 0,
            "running": 0,
            "queued": 0,
            "done": 0,
            "failed": 0,
            "lost": 0,
            "cpu_s": 0.0,
            "since": c.started,
            "ended": None,
            "text": "",
        }
        active = {
            "id": "5f1c",
            "name": "survey.py",
            "state": "active",
            "servers": len(c.servers),
            "running": len(c.servers) - 5,
            "queued": c.queued,
            "done": 1_204_114,
            "failed": 214,
            "lost": 3,
            "cpu_s": 615_840.0,
        }
        c.tables.set("clients", "5f1c", {**base, **active})
        c.tables.set(
            "clients",
            "81d0",
            {
                **base,
                "id": "81d0",
                "name": "tiles.py",
                "host": "10.20.4.7",
                "state": "queued",
                "place": 1,
                "queued": 4096,
                "since": now - 1124,
                "text": "waits for survey.py",
            },
        )
        ended = {
            "state": "ended",
            "done": 704_960,
            "cpu_s": 274_200.0,
            "since": now - 15_800,
            "ended": now - 11_500,
        }
        c.tables.set(
            "clients", "77aa", {**base, "id": "77aa", "name": "tiles.py", "host": "10.20.4.7", **ended}
        )
        for i, ident in enumerate(list(c.nodes)[:12]):
            c.tables.set(
                "leases",
                str(i),
                {
                    "id": str(i),
                    "client": "tiles.py",
                    "host": "10.20.4.7",
                    "node": ident,
                    "began": now - 15_800,
                    "ended": now - 11_500,
                    "done": 88_120 - i,
                    "failed": 2 * (i % 2),
                    "cpu_s": 34_260.0,
                    "failures": [["resample", "ZeroDivisionError", 2]] if i % 2 else [],
                },
            )

    def _waiting(self) -> None:
        c, now = self.cluster, self.cluster.now
        reasons = [
            ("parse_row", "servers", "112 servers have 224 tasks before them", c.queued - 17),
            ("fit_model", "place", "they name cedar: its 16 servers are busy", 5),
            ("score_batch", "suspended", "hazel is suspended", 4),
            ("resample", "none", "no server fits: larch is silent", 8),
        ]
        for i, (_, reason, text, count) in enumerate(reasons):
            c.tables.set(
                "waiting",
                str(i),
                {
                    "id": str(i),
                    "reason": reason,
                    "text": text,
                    "count": count,
                    "oldest": now - 15 + i,
                    "place": "cedar" if reason == "place" else "",
                },
            )
        for i in range(500):
            function, _, text, _ = reasons[i % 4]
            ident = f"5f1c.{1_300_000 + i}"
            c.tables.set(
                "tasks",
                ident,
                {
                    "id": ident,
                    "client": "5f1c",
                    "function": function,
                    "args": f"'<img src=x onerror=window.bitten=1>', {i}",
                    "state": "queued",
                    "node": None,
                    "server": None,
                    "submitted": now - 14.8 + i * 0.02,
                    "start": None,
                    "end": None,
                    "run": None,
                    "queue": None,
                    "cpu_s": None,
                    "peak": None,
                    "attempt": 1,
                    "io": False,
                    "error": "",
                    "failure": None,
                    "why": text,
                },
            )

    def fail(self, task: Row) -> None:
        error, text = ERRORS.get(
            task["function"], ("ValueError", "bad value: <img src=x onerror=window.bitten=1>")
        )
        task.update(error=f"{error}: {text}", failure=task["function"])
        trace = TRACE.format(function=task["function"], error=error, text=text)
        group = self.failures.setdefault(
            task["function"],
            {
                "id": task["function"],
                "state": "failed",
                "function": task["function"],
                "error": error,
                "text": text,
                "count": 0,
                "first": task["end"],
                "last": task["end"],
                "nodes": [],
                "trace": trace,
                "servers": [],
            },
        )
        group["count"] += 1
        group["last"] = max(group["last"], task["end"])
        for key, value in (("nodes", task["node"]), ("servers", task["server"])):
            if value not in group[key] and len(group[key]) < 20:
                group[key] = [*group[key], value]
        self.cluster.tables.set("failures", group["id"], dict(group))

    def go_on(self) -> None:
        c = self.cluster
        for function, (p50, p99) in RUN.items():
            running = sum(s.task is not None and s.task["function"] == function for s in c.servers.values())
            failed = self.failures.get(function, {"count": 0})["count"]
            c.tables.set(
                "functions",
                function,
                {
                    "function": function,
                    "count": 37_904 + int(100 / p50) + c.counts["done"] // 5,
                    "running": running,
                    "queued": c.queued // 5,
                    "done": 37_000 + c.counts["done"] // 5,
                    "failed": failed,
                    "lost": 3 if function == "fit_model" else 0,
                    "cancelled": 2,
                    "rate": running / p99,
                    "run_p50": p50,
                    "run_p99": p99,
                    "queue_p50": p50 / 2 + 0.4,
                    "queue_p99": p99 / 2 + 3,
                    "cpu_s": p50 * 40_000,
                },
            )
        self._actors()
        self._links()
        for i in range(6):
            self._line(c.now - 0.9 + i * 0.15, c.random.randrange(900))

    def _actors(self) -> None:
        c = self.cluster
        named = [
            ("@results", 214, 3.2, 803.0),
            ("@progress", 0, None, 12.0),
            ("@cache", 7, 0.02, 1240.0),
            ("@seen", 18_422, 71.0, 310.0),
        ]
        for i, (server, (name, box, oldest, rate)) in enumerate(zip(c.servers.values(), named, strict=False)):
            grown = box + (int(c.now) % 60) * 9 if box > 1000 else box
            c.tables.set(
                "actors",
                name,
                {
                    "id": name,
                    "name": name,
                    "function": "collect" if i else "seen_urls",
                    "task": f"5f1c.{i + 1}",
                    "node": server.node,
                    "server": server.id,
                    "mailbox": grown,
                    "oldest": oldest,
                    "rate": rate,
                    "state": "running",
                },
            )
        alive = {s.task["id"]: s for s in c.servers.values() if s.task}
        for ident in list(c.tables.table("actors").rows):
            if not ident.startswith("@") and ident not in alive:
                c.tables.drop("actors", ident)
        for ident, server in alive.items():
            c.tables.set(
                "actors",
                ident,
                {
                    "id": ident,
                    "name": "",
                    "function": server.task and server.task["function"],
                    "task": ident,
                    "node": server.node,
                    "server": server.id,
                    "mailbox": server.port % 3 and 0,
                    "oldest": None,
                    "rate": 0.2,
                    "state": "running",
                },
            )

    def _links(self) -> None:
        c, nodes = self.cluster, list(self.cluster.nodes)
        for i, node in enumerate(nodes):
            way = "relayed by client" if i % 9 == 5 else "direct"
            for other in ("5f1c", nodes[(i * 7 + 3) % len(nodes)]):
                if other == node:
                    continue
                c.tables.set(
                    "links",
                    f"{node}>{other}",
                    {
                        "id": f"{node}>{other}",
                        "from": node,
                        "to": other,
                        "way": way,
                        "messages": round(c.random.uniform(20, 800), 1),
                        "bytes": c.random.uniform(1e4, 6e6),
                        "rtt": 0.0004 if way == "direct" else 0.0029,
                        "waiting": 4 if way != "direct" else 0,
                        "total_messages": 90_000 + i,
                    },
                )

    def _line(self, t: float, i: int) -> None:
        c = self.cluster
        level, function, text = LINES[c.random.choice([0, 0, 0, 1, 2, 3, 3, 1, 0, 4, 5, 2])]
        server = c.random.choice(list(c.servers.values()))
        words = "<img src=x onerror=window.bitten=1>" if c.hostile and i % 40 == 0 else text.format(i)
        c.tables.append(
            "log",
            {
                "t": t,
                "level": level,
                "logger": f"survey.{function}" if level != "print" else "",
                "node": server.node,
                "server": server.id,
                "function": function,
                "text": words,
            },
            10_000,
        )

    def end_lease(self, ident: str) -> str:
        row = self.cluster.tables.table("clients").rows.get(ident)
        if row is None or row["state"] != "active":
            return "It has no lease."
        self.cluster.tables.set(
            "clients",
            ident,
            {**row, "state": "ended", "ended": self.cluster.now, "servers": 0, "running": 0, "queued": 0},
        )
        return ""
