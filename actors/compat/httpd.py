"""The names of pycos.httpd: the web monitor, dispycos' own, with pycos' defaults."""

from __future__ import annotations

from typing import Any

from ..client.http_server import PORT
from ..client.http_server import HTTPServer as NativeServer


class HTTPServer(NativeServer):
    """As dispycos' own; ``host=''`` is this host only."""

    def __init__(
        self, client: Any, host: str = "", port: int = PORT, poll_sec: float = 10, **options: Any
    ) -> None:
        super().__init__(client, host or "127.0.0.1", port, poll_sec, **options)
