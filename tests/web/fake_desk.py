"""A desk of made-up rows, and a web server of it on this host."""

from __future__ import annotations

import asyncio
import http.client
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

from dispycos.actors.web.desk import Done
from dispycos.actors.web.serving import WebServer
from dispycos.actors.web.tables import Tables

RINGS = {"log": 100, "events": 100, "samples": 100}
STATES = ("running", "queued", "done", "failed")


class FakeDesk:
    """`change` is called on the loop, and ends a tick."""

    def __init__(self) -> None:
        self.tables = Tables("e1", RINGS)
        self.readers: Counter[str] = Counter()
        self.acted: list[tuple[str, list[str], dict[str, Any]]] = []
        self.asked_fresh: list[frozenset[str]] = []
        self.is_closed = False
        self.failure: Exception | None = None
        self.loop = asyncio.get_running_loop()
        self._ticked = asyncio.Event()
        set_rows(self.tables)
        self.tables.commit(1000.0)

    @contextmanager
    def reading(self, names: frozenset[str]) -> Iterator[None]:
        self.readers.update(names)
        try:
            yield
        finally:
            self.readers.subtract(names)

    async def fresh(self, names: frozenset[str]) -> None:
        self.asked_fresh.append(names)
        if self.failure is not None:
            raise self.failure

    async def ticked(self) -> None:
        await self._ticked.wait()

    async def act(self, action: str, ids: list[str], args: dict[str, Any]) -> Done:
        self.acted.append((action, ids, args))
        refused = [(one, "there is no such thing") for one in ids if "no" in one]
        return Done(len(ids) - len(refused), refused, "asked")

    async def stack(self, task: str) -> dict[str, Any]:
        if task != "c1.1":
            raise LookupError(f"task {task} does not run")
        return {"task": task, "frames": []}

    async def close(self) -> None:
        self.is_closed = True

    def tick(self) -> None:
        self.tables.commit(self.tables.now + 1.0)
        self._ticked.set()
        self._ticked = asyncio.Event()


def set_rows(tables: Tables) -> None:
    tables.set("meta", "cluster", {"name": "survey.py", "submitted": 10, "done": 4, "failed": 1, "nodes": 2})
    row: dict[str, Any]
    for node in range(3):
        row = {"id": f"ash{node}:51348", "name": f"ash{node}", "addr": f"10.0.0.{node}", "port": 51348}
        row |= {"state": "running", "servers": 2, "running": 1, "submitted": 5, "done": 3, "failed": 1}
        row |= {"cpu": 25.0, "memory": 1 << 30, "disk": 1 << 40, "swap": None, "seen": 999.5, "client": "c1"}
        tables.set("nodes", row["id"], row)
    for server in range(2):
        row = {"id": f"10.0.0.0:{9000 + server}", "node": "ash0:51348", "state": "running", "submitted": 3}
        row |= {"done": 1, "failed": 1, "running": 1, "seen": 999.0}
        tables.set("servers", row["id"], row)
    for task in range(8):
        row = {"id": f"c1.{task}", "function": "simulate" if task % 2 else "load", "args": f"x={task}"}
        row |= {"state": STATES[task % 4], "node": "ash0:51348", "server": "10.0.0.0:9000"}
        row |= {"start": 990.0 + task, "run": None if task < 2 else task / 2}
        tables.set("tasks", row["id"], row)
    tables.note("tasks", 1204331, 10000, 14.5)
    tables.append("log", {"t": 1.0, "level": "warning", "text": "disk is full", "node": "ash0:51348"})


class Site:
    """A server of one FakeDesk, asked with http.client. Ended with `with`."""

    desk: FakeDesk

    def __init__(self, host: str = "127.0.0.1", port: int = 0, **options: Any) -> None:
        self.server = WebServer(self._make_desk, host, port, **options)
        self.port, self.access = self.server.port, self.server.access
        self.host = host or "127.0.0.1"

    def _make_desk(self) -> FakeDesk:
        self.desk = FakeDesk()
        return self.desk

    def __enter__(self) -> Site:
        self.server.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.server.stop("It was shut down.")

    def do(self, change: Any) -> Any:
        """Call this on the loop, with the desk; return what it does."""
        done = threading.Event()
        answer: list[Any] = []

        def run() -> None:
            answer.append(change(self.desk))
            done.set()

        self.desk.loop.call_soon_threadsafe(run)
        assert done.wait(10)
        return answer[0]

    def change(self, change: Any = lambda tables: None) -> None:
        """Change the tables, and end a tick."""
        self.do(lambda desk: (change(desk.tables), desk.tick()))

    def wait(self, condition: Any) -> None:
        """Until it holds of the desk."""
        until = time.monotonic() + 10
        while not self.do(condition):
            assert time.monotonic() < until, "it does not come true"
            time.sleep(0.01)

    # --- asking ---

    def connect(self, timeout: float = 20) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self.host, self.port, timeout=timeout)

    def bearer(self, role: str = "operator") -> dict[str, str]:
        return {"Authorization": f"Bearer {getattr(self.access, role)}"}

    def cookie(self, role: str = "operator") -> dict[str, str]:
        return {"Cookie": f"{self.access.cookie}={self.access.cookie_of(role)}"}

    def ask(
        self,
        method: str,
        path: str,
        headers: dict[str, str] | None = None,
        body: Any = None,
        role: str = "operator",
    ) -> Answer:
        """With the operator's token, unless `headers` are given."""
        line = self.connect()
        try:
            line.request(method, path, body, self.bearer(role) if headers is None else headers)
            answer = line.getresponse()
            return Answer(answer.status, answer.headers, answer.read())
        finally:
            line.close()

    def get(self, path: str, headers: dict[str, str] | None = None, role: str = "operator") -> Answer:
        return self.ask("GET", path, headers, role=role)

    def post(
        self, path: str, value: Any, headers: dict[str, str] | None = None, role: str = "operator"
    ) -> Answer:
        return self.ask("POST", path, headers, json.dumps(value).encode(), role)

    def act(
        self, action: str, ids: list[str] | None = None, args: dict[str, Any] | None = None, **how: Any
    ) -> Answer:
        return self.post("/api/v1/actions", {"action": action, "ids": ids or [], "args": args or {}}, **how)

    def stream(self, query: str = "tables=nodes", **headers: str) -> Reader:
        return Reader(self, query, headers)


class Answer:
    def __init__(self, status: int, headers: http.client.HTTPMessage, body: bytes) -> None:
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def text(self) -> str:
        return self.body.decode()


class Reader:
    """Reads events: (event, id, data), or ("comment", text, None)."""

    def __init__(self, site: Site, query: str, headers: dict[str, str]) -> None:
        self.line = site.connect()
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        self.line.request("GET", f"/api/v1/stream?{query}", headers=site.bearer() | names)
        self.answer = self.line.getresponse()

    def next(self) -> tuple[str, str, Any]:
        while True:
            lines: list[str] = []
            while (line := self.answer.readline().decode().rstrip("\n")) or not lines:
                if not line:
                    raise EOFError
                lines.append(line)
            if lines[0].startswith(":"):
                return "comment", lines[0][1:].strip(), None
            fields = dict(line.split(": ", 1) for line in lines)
            if "retry" not in fields:
                return fields["event"], fields.get("id", ""), json.loads(fields["data"])

    def close(self) -> None:
        self.answer.close()
        self.line.close()

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
