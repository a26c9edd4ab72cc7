"""Serves the application, in a thread with a loop of its own: a page is there while the program computes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from dispycos import version
from dispycos.config import Misuse

from .access import Access
from .app import Web
from .connections import Connections
from .desk import Desk
from .listening import listen, names_of, tls_of, url_of
from .static import Folder, NoPage

START_S: Final = 10.0
STOP_S: Final = 2.0  # for pages to take the last state

log = logging.getLogger("dispycos")


class WebServer:
    """One monitor's server; listens from its making on, and answers from `start` on.

    Parameters
    ----------
    make_desk: called on the server's loop; what it returns is watched through. host: name or address; "": all addresses. port: 0
    takes a free one. folder: of the page; None: our own. certfile, keyfile: for TLS. names: by which it may be called, too.
    token: of the operator; None makes one.

    Raises
    ------
    Misuse: the port, the host, a certificate or the folder is of no use; in words.
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
        self._tls = tls_of(certfile, keyfile)
        self._socket = listen(host, port)
        self.host, self.port = host, int(self._socket.getsockname()[1])
        hosts = names_of(self._socket, host) | {name.lower() for name in names}
        operator = token or secrets.token_urlsafe(24)
        self.access = Access(operator, secrets.token_urlsafe(24), hosts, f"dispycos-{self.port}")
        self._running: _Running | None = None
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
        return url_of(self.host, self.port, self._tls is not None, token)

    def start(self) -> None:
        """Returns when it answers. Raises what `make_desk` did, and TimeoutError."""
        self._thread.start()
        is_ready = self._ready.wait(START_S)
        if self._failure is not None:
            raise self._failure
        if not is_ready:
            raise TimeoutError(f"the web monitor has not started within {START_S:g} s")

    def stop(self, text: str, timeout: float = STOP_S) -> None:
        """Open pages are told this, and keep their last state; may be called again. From any thread but the server's."""
        running = self._running
        if running is not None and self._thread.is_alive():
            with contextlib.suppress(RuntimeError):  # its loop has ended
                running.loop.call_soon_threadsafe(running.end, text)
        if self._thread.ident is None:
            self._socket.close()  # it was never started
        else:
            self._thread.join(timeout + 1.0)

    # --- on the server's thread ---

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:  # the caller raises it, or it is logged
            self._failure = error
            if self._ready.is_set():
                log.exception("the web monitor has failed")
        finally:
            self._socket.close()
            self._ready.set()

    async def _serve(self) -> None:
        desk = self._make_desk()
        running = _Running(Web(desk, self.access, self._folder))
        connections = Connections(running.web.app, self._socket, self._tls)
        accepting = running.loop.create_task(connections.accept())
        accepting.add_done_callback(lambda task: running.ends.set())
        self._running = running
        self._ready.set()
        try:
            await running.ends.wait()
            if accepting.done():
                accepting.result()  # raises why
        finally:
            accepting.cancel()
            await connections.close()
            await desk.close()


class _Running:
    """What there is while it runs."""

    def __init__(self, web: Web) -> None:
        self.loop = asyncio.get_running_loop()
        self.web = web
        self.ends = asyncio.Event()

    def end(self, text: str) -> None:
        self.web.streams.end(text)
        self.ends.set()


def find_page() -> Path:
    """Our own page's folder, wherever this package is installed."""
    return Path(version.__file__).parent / "data" / "web"
