"""Asks a web monitor as a program does: by the URL that it printed."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

from .programs import Program

PRINTED = r"^https?://\S+/\?token=\S+$"


class Caller:
    """With the token of a URL."""

    def __init__(self, url: str) -> None:
        self.base, _, token = url.partition("/?token=")
        self.headers = {"Authorization": f"Bearer {token}"}

    def open(self, path: str, body: Any = None, **headers: str) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.base + path, data, {**self.headers, **headers})
        return urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=20)

    def get(self, path: str, body: Any = None) -> Any:
        with self.open(path, body) as answer:
            return json.load(answer)

    def status(self, path: str, body: Any = None, **headers: str) -> int:
        try:
            with self.open(path, body, **headers) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            error.close()
            return error.code

    def rows(self, table: str, **query: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.get(f"/api/v1/{table}?{urlencode(query)}")["rows"]
        return rows

    def act(self, action: str, *ids: str, **args: Any) -> Any:
        return self.get("/api/v1/actions", {"action": action, "ids": list(ids), "args": args})

    def events(self, tables: str) -> Iterator[tuple[str, Any]]:
        """(kind, data) of the stream, until it ends."""
        with self.open(f"/api/v1/stream?tables={tables}") as answer:
            kind = ""
            for line in answer:
                if line.startswith(b"event: "):
                    kind = line[7:].decode().strip()
                elif line.startswith(b"data: "):
                    yield kind, json.loads(line[6:])


def caller_of(program: Program) -> Caller:
    """Of the URL that it prints, alone on a line."""
    return Caller(program.wait_line(PRINTED).text)
