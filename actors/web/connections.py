"""The connections of the web server: accepted here, spoken on by uvicorn.

uvicorn's own server is made for programs that are nothing else: it takes the signals, sets up logging, and wakes ten times a
second. What strangers can cost this process is bounded here, because they need no token to connect: so many connections at once,
so many seconds for a request, and for an answer that is not read.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import ssl
from typing import Any, Final

from starlette.types import ASGIApp
from uvicorn import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

CONNECTIONS_MAX: Final = 256
HANDSHAKE_S: Final = 10.0
REQUEST_S: Final = 20.0  # for a request to come in, with what is posted
IDLE_S: Final = 15  # between two requests
UNREAD_S: Final = 60.0  # for a reader to take some of what waits for it
GRACE_S: Final = 1.0  # for answers at the end
FULL_S: Final = 1.0  # until the next try, when there is no descriptor
FULL: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

log = logging.getLogger("dispycos")
_log_http = logging.getLogger("dispycos.web")
_log_http.setLevel(logging.ERROR)  # not each word of strangers


class Connection(H11Protocol):
    """One connection, for as long as the other side keeps to the times above."""

    def __init__(self, config: Config, state: ServerState) -> None:
        super().__init__(config, state, {})
        self.logger = _log_http
        self.access_log = False  # a URL may hold a token
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._limit(REQUEST_S)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._is_request_whole():
            self._unlimit()
        elif self._timer is None:
            self._limit(REQUEST_S)

    def _is_request_whole(self) -> bool:
        return str(self.conn.their_state) not in ("IDLE", "SEND_BODY")

    def pause_writing(self) -> None:
        super().pause_writing()
        self._limit(UNREAD_S)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._is_request_whole():
            self._unlimit()

    def connection_lost(self, exc: Exception | None) -> None:
        self._unlimit()
        super().connection_lost(exc)

    def _limit(self, seconds: float) -> None:
        self._unlimit()
        self._timer = self.loop.call_later(seconds, self.transport.abort)

    def _unlimit(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class Connections:
    """All of one listener, which is closed with them.

    Parameters
    ----------
    listener: does not block. tls: None for plain HTTP.
    """

    def __init__(self, app: ASGIApp, listener: socket.socket, tls: ssl.SSLContext | None) -> None:
        self._listener = listener
        self._tls = tls
        self._state = ServerState()
        self._greeted: set[asyncio.Task[None]] = set()
        # What a proxy on this host says of the scheme is taken from it: the cookie is for https only then.
        self._config = Config(app, log_config=None, ws="none", forwarded_allow_ips=["127.0.0.1", "::1"])
        self._config.timeout_keep_alive = IDLE_S
        self._config.load()

    async def accept(self) -> None:
        """Until it is cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                peer, _ = await loop.sock_accept(self._listener)
            except OSError as error:
                if error.errno in FULL:
                    log.warning("the web monitor takes no connection: %s", error.strerror)
                    await asyncio.sleep(FULL_S)
                continue  # else it was gone before it was accepted
            if len(self._greeted) + len(self._state.connections) >= CONNECTIONS_MAX:
                peer.close()
                continue
            task = loop.create_task(self._greet(peer))
            self._greeted.add(task)
            task.add_done_callback(self._greeted.discard)

    async def _greet(self, peer: socket.socket) -> None:
        options: dict[str, Any] = {}
        if self._tls is not None:
            options = {"ssl_handshake_timeout": HANDSHAKE_S, "ssl_shutdown_timeout": GRACE_S}
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: Connection(self._config, self._state), peer, ssl=self._tls, **options
            )
        except OSError as error:  # of TLS, too
            log.debug("a connection to the web monitor failed: %s", error)
            peer.close()

    async def close(self) -> None:
        """Answers that are under way have a moment."""
        self._listener.close()
        for greeted in self._greeted:
            greeted.cancel()
        connections = self._state.connections
        for connection in list(connections):
            connection.shutdown()
        loop = asyncio.get_running_loop()
        until = loop.time() + GRACE_S
        while connections and loop.time() < until:
            await asyncio.sleep(0.02)
        for connection in list(connections):
            connection.transport.abort()
        if self._state.tasks:
            await asyncio.wait(set(self._state.tasks), timeout=0.2)
