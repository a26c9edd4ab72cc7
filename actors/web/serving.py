"""Serves the application, in a thread with a loop of its own: a page is there while the program computes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import socket
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any, Final

import psutil
import uvicorn

from dispycos import version
from dispycos.config import Misuse

from .access import Access
from .app import Web
from .desk import Desk
from .static import Folder, NoPage

START_S: Final = 10.0
STOP_S: Final = 2.0  # for pages to take the last state
LOOPBACK: Final = frozenset(("localhost", "127.0.0.1", "::1"))

log = logging.getLogger("dispycos")


class WebServer:
    """One monitor's server; `start` raises Misuse, in words.

    Parameters
    ----------
    make_desk: called on the server's loop; what it returns is watched through. host: name or address; "": all addresses. port: 0
    takes a free one. folder: of the page; None: our own. certfile, keyfile: for TLS. names: by which it may be called, too.
    token: of the operator; None makes one.
    """

    def __init__(
        self,
        make_desk: Callable[[], Desk],
        host: str,
        port: int,
        *,
        folder: Path | None = None,
        certfile: str | None = None,
        keyfile: str | None = None,
        names: Iterable[str] = (),
        token: str | None = None,
    ) -> None:
        self._make_desk = make_desk
        try:
            self._folder = Folder(folder if folder is not None else find_page())
        except NoPage as error:
            raise Misuse(str(error), "name a folder with the page, or none for our own") from None
        self._tls = _tls_of(certfile, keyfile)
        self._socket = _bind(host, port)
        self.port: int = self._socket.getsockname()[1]
        self.host = host
        hosts = LOOPBACK | _names_of(self._socket, host) | {name.lower() for name in names}
        operator = token or secrets.token_urlsafe(24)
        self.access = Access(operator, secrets.token_urlsafe(24), hosts, f"dispycos-{self.port}")
        self._server: _Server | None = None
        self._web: Web | None = None
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="dispycos-web", daemon=True)

    @property
    def url(self) -> str:
        """With the operator's token: whoever has it may act."""
        return self.url_with(self.access.operator)

    @property
    def viewer_url(self) -> str:
        """Whoever has this one may look."""
        return self.url_with(self.access.viewer)

    def url_with(self, token: str) -> str:
        host = self.host
        if host in ("", "0.0.0.0", "::"):
            host = socket.gethostname()
        name = f"[{host}]" if ":" in host else host
        return f"{'https' if self._tls is not None else 'http'}://{name}:{self.port}/?token={token}"

    def start(self) -> None:
        """Returns when it answers."""
        self._thread.start()
        self._ready.wait(START_S)
        if self._failure is not None:
            raise self._failure

    def stop(self, text: str, timeout: float = STOP_S) -> None:
        """Open pages are told this, and keep their last state. From any thread but the server's."""
        server, web = self._server, self._web
        if server is not None and web is not None and self._thread.is_alive():
            with contextlib.suppress(RuntimeError):  # its loop has ended
                server.loop.call_soon_threadsafe(web.farewell, text)
                server.loop.call_soon_threadsafe(server.end)
        self._thread.join(timeout + 1.0)
        self._socket.close()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:  # the caller raises it, or it is logged
            self._failure = error
            if self._ready.is_set():
                log.exception("the web monitor has failed")
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        desk = self._make_desk()
        self._web = Web(desk, self.access, self._folder)
        config = uvicorn.Config(
            self._web.app,
            log_config=None,
            log_level=logging.CRITICAL,
            access_log=False,
            lifespan="off",
            server_header=False,
            date_header=False,  # it would be set each second
            ws="none",
            timeout_graceful_shutdown=int(STOP_S) - 1,
        )
        config.load()
        if self._tls is not None:
            config.ssl = self._tls
        self._server = _Server(config, self._ready.set)
        try:
            await self._server.serve(sockets=[self._socket])
        finally:
            closing: Awaitable[Any] | None = getattr(desk, "close", lambda: None)()
            if closing is not None:
                await closing


class _Server(uvicorn.Server):
    """Signals are the program's."""

    def __init__(self, config: uvicorn.Config, on_start: Callable[[], None]) -> None:
        super().__init__(config)
        self.loop = asyncio.get_running_loop()
        self._on_start = on_start
        self._ends = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_start()

    async def main_loop(self) -> None:
        """Asleep until the end: uvicorn's own looks ten times a second, also when nobody does."""
        await self.on_tick(0)
        await self._ends.wait()

    def end(self) -> None:
        self.should_exit = True
        self._ends.set()


def find_page() -> Path:
    """Our own page's folder, wherever this package is installed."""
    return Path(version.__file__).parent / "data" / "web"


def _tls_of(certfile: str | None, keyfile: str | None) -> ssl.SSLContext | None:
    """Raises Misuse."""
    if certfile is None and keyfile is None:
        return None
    if certfile is None:
        raise Misuse(
            "keyfile is given, and no certfile",
            "give the certificate: certfile=... (it may hold the key, too)",
        )
    for option, path in (("certfile", certfile), ("keyfile", keyfile)):
        if path is not None and not os.access(path, os.R_OK):
            why = "cannot be read" if os.path.exists(path) else "is not there"
            raise Misuse(f"{option}: {path} {why}", "give the path of a PEM file")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certfile, keyfile)
    except ssl.SSLError as error:
        key = keyfile or certfile
        raise Misuse(
            f"certfile {certfile} and key {key} do not work: {error.reason or error}",
            "both must be PEM, and belong together",
        ) from None
    return context


def _bind(host: str, port: int) -> socket.socket:
    """Raises Misuse."""
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError, OverflowError) as error:
        raise Misuse(
            f"web monitor: no address for host {host!r} ({error})", "give a name or address of this host"
        ) from None
    family, kind, protocol, _, address = min(found, key=lambda one: one[0] != socket.AF_INET)
    listener = socket.socket(family, kind, protocol)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
        listener.listen(128)
    except OSError as error:
        listener.close()
        remedy = "give another port, or 0 for any free one"
        if error.strerror == os.strerror(99):  # EADDRNOTAVAIL
            remedy = "give a name or address of this host, or '' for all"
        raise Misuse(
            f"web monitor: port {port} of {host or 'all addresses'}: {error.strerror}", remedy
        ) from None
    listener.setblocking(False)
    return listener


def _names_of(listener: socket.socket, host: str) -> frozenset[str]:
    """What a browser may call it."""
    address = listener.getsockname()[0]
    names = {host.lower(), address} - {""}
    if address in ("0.0.0.0", "::"):
        names |= {socket.gethostname().lower(), socket.getfqdn().lower()}
        names |= {one.address.partition("%")[0] for own in psutil.net_if_addrs().values() for one in own}
    return frozenset(names)
