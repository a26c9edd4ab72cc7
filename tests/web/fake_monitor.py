"""A server of made-up rows for trying the page: python -m tests.web.fake_monitor --nodes 200, then open the printed URL."""

from __future__ import annotations

import argparse
import json
import secrets
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.web.fake_cluster import Cluster
from tests.web.fake_tables import Row

PAGE = Path(__file__).parents[2] / "dispycos" / "data" / "web"
KINDS = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
    ".LICENSE": "text/plain",
}
CSP = "default-src 'self'"


class Monitor:
    """The cluster, its clock and its HTTP server; `role` and `refused` may be changed while it runs."""

    def __init__(self, cluster: Cluster, port: int = 0, prefix: str = "", tick_s: float = 1.0) -> None:
        self.cluster = cluster
        self.prefix = prefix
        self.tick_s = tick_s
        self.role = "operator"
        self.refused = False  # everybody gets a 401
        self.epoch, self.csrf = secrets.token_hex(4), secrets.token_hex(8)
        self.changed = threading.Condition()
        self.ended = threading.Event()
        self.acted: list[tuple[str, list[str], Row]] = []
        handler = type("Handler", (Handler,), {"monitor": self})
        self.http = ThreadingHTTPServer(("127.0.0.1", port), handler)
        self.http.daemon_threads = True
        self.port = self.http.server_port
        self.threads = [threading.Thread(target=run, daemon=True) for run in (self._live, self._serve)]

    def start(self) -> Monitor:
        for thread in self.threads:
            thread.start()
        return self

    def stop(self) -> None:
        """Streams end too: their readers see a broken line."""
        self.ended.set()
        with self.changed:
            self.changed.notify_all()
        self.http.shutdown()
        self.http.server_close()
        for thread in self.threads:
            thread.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{self.prefix}/"

    def _serve(self) -> None:
        self.http.serve_forever(poll_interval=0.05)

    def _live(self) -> None:
        while not self.ended.wait(self.tick_s):
            with self.changed:
                self.cluster.tick(time.time())
                self.changed.notify_all()

    def act(self, action: str, ids: list[str], args: Row) -> Row:
        with self.changed:
            self.acted.append((action, ids, args))
            answer = self.cluster.act(action, ids, args)
            self.changed.notify_all()
        return answer


class Handler(BaseHTTPRequestHandler):
    monitor: Monitor
    protocol_version = "HTTP/1.0"  # no connection outlives its answer, nor the server

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def setup(self) -> None:
        super().setup()
        self.connection.settimeout(30)

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        path = url.path.removeprefix(self.monitor.prefix)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        if self.monitor.refused and path.startswith("/api/"):
            self._json(
                401,
                {
                    "error": "No token came with this.",
                    "remedy": "Open the URL that the program printed at its start.",
                },
            )
        elif path == "/api/v1/session":
            self._json(
                200,
                {
                    "role": self.monitor.role,
                    "csrf": self.monitor.csrf,
                    "release": "1.0",
                    "prefix": self.monitor.prefix,
                },
            )
        elif path == "/api/v1/stream":
            self._stream(
                query["tables"].split(","), query.get("since") or self.headers["Last-Event-ID"] or ""
            )
        elif path.startswith("/api/v1/stack/"):
            self._stack(unquote(path.rpartition("/")[2]))
        else:
            self._file(path.lstrip("/") or "index.html")

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.headers.get("X-Dispycos-CSRF") != self.monitor.csrf or self.monitor.role != "operator":
            self._json(403, {"error": "A viewer may not act.", "remedy": "Open the URL for operators."})
        else:
            self._json(200, self.monitor.act(body["action"], body.get("ids") or [], body.get("args") or {}))

    # ------------------------------------------------------------ answers

    def _send(self, code: int, kind: str, body: bytes) -> None:
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Security-Policy", CSP)
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    def _json(self, code: int, value: Row) -> None:
        self._send(code, "application/json", json.dumps(value).encode())

    def _file(self, name: str) -> None:
        there = {path.name: path for path in PAGE.iterdir()}
        if name not in there:
            self._json(404, {"error": f"There is no {name}.", "remedy": ""})
            return
        self._send(200, KINDS[Path(name).suffix] + "; charset=utf-8", there[name].read_bytes())

    def _stack(self, task: str) -> None:
        row = self.monitor.cluster.tables.table("tasks").rows.get(task)
        if row is None or row["state"] != "running":
            self._json(404, {"error": f"Task {task} does not run any more.", "remedy": ""})
            return
        lines = [
            ("dispycos/server.py", 418, "run", "result = body(*args, **kwargs)"),
            ("survey.py", 132, row["function"], "model = solve(folds[fold], depth)"),
            ("fit.py", 57, "solve", "w = _decompose(x.T @ x + lam * eye)"),
            ("numerics/linalg.py", 231, "_decompose", "u, s, v = lapack.gesdd(a, full=False)"),
        ]
        frames = [
            {"file": file, "line": line, "function": function, "code": code}
            for file, line, function, code in lines
        ]
        answer = {key: row[key] for key in ("function", "server", "node")}
        text = "\n".join(f'File "{file}", line {line}, in {function}' for file, line, function, _ in lines)
        self._json(200, {**answer, "task": task, "at": time.time(), "frames": frames, "text": text})

    def _stream(self, names: list[str], since: str) -> None:
        monitor, tables = self.monitor, self.monitor.cluster.tables
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        epoch, _, version = since.partition(".")
        seen = int(version) if epoch == monitor.epoch else -1
        told_gone = ""
        try:
            while not monitor.ended.is_set():
                with monitor.changed:
                    parts = tables.snapshot(names) if seen < 0 else [tables.delta(names, seen)]
                    event, seen = "snapshot" if seen < 0 else "delta", tables.version
                    about: Row = {"version": seen, "now": monitor.cluster.now}
                    told = [
                        json.dumps({**about, "tables": part, "more": n < len(parts)})
                        for n, part in enumerate(parts, 1)
                    ]
                    gone = monitor.cluster.gone
                if parts[0]:
                    for data in told:
                        self._event(event, data, f"{monitor.epoch}.{seen}")
                if gone and gone != told_gone:
                    self._event("gone", json.dumps({"text": gone}), f"{monitor.epoch}.{seen}")
                told_gone = gone
                with monitor.changed:
                    if tables.version == seen and not monitor.ended.is_set():
                        monitor.changed.wait(10)
        except OSError:
            pass  # the reader has left
        self.close_connection = True

    def _event(self, event: str, data: str, ident: str) -> None:
        self.wfile.write(f"id: {ident}\nevent: {event}\ndata: {data}\n\n".encode())
        self.wfile.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=12)
    parser.add_argument("--port", type=int, default=8181)
    parser.add_argument("--ended", type=int, default=10_000)
    parser.add_argument("--prefix", default="")
    parser.add_argument("--hostile", action="store_true", help="names and arguments with HTML in them")
    options = parser.parse_args()
    cluster = Cluster(options.nodes, time.time(), hostile=options.hostile, ended=options.ended)
    monitor = Monitor(cluster, options.port, options.prefix).start()
    print(monitor.url, flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
