"""The web monitor of a client program (spec 6.8)."""

from __future__ import annotations

import atexit
import os
import secrets
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from dispycos.protocol.addresses import CLIENT, Address
from dispycos.protocol.envelope import Envelope
from dispycos.protocol.watching import Look
from dispycos.values import positive_seconds

from ..tasks.submitting import Task
from .program_name import program_name

if TYPE_CHECKING:
    from ..web.reading import Reader
    from ..web.watching import Monitor
    from .client import Client
    from .lease import ClientLease
    from .sync_client import SyncClient

PORT: Final = 8181
POLL_S: Final = 1.0
STOP_S: Final = 2.0


class HTTPServer:
    """Shows the cluster of a client in web browsers, and lets them suspend, resume and terminate.

    ``async with Client(...) as client: http = HTTPServer(client)``, or by ``with``, or before ``schedule()``. Its URL is
    printed with its token: whoever has it may act; `viewer_url` is for those who may only look. The page goes on with the next
    cluster of the client, and shows the last state while there is none. Any number of browsers see everything.

    Parameters
    ----------
    client: whose cluster is shown.
    host: name or address to listen at. The default is this host only; "" is all addresses (use TLS then).
    port: 0 takes a free one, `http.port`.
    poll_sec: seconds between two looks at the cluster while somebody watches; can be changed in the page.
    DocumentRoot: a folder with a page of your own (index.html); None: ours.
    keyfile, certfile: PEM files, for https. A certfile may hold the key, too.
    show_task_args: whether the arguments of running tasks are shown, as text; can be changed in the page.
    names: by which this host may be called in a browser, beside those that it knows (behind a proxy, for one).
    record: a file that keeps what is seen, for ``dispycos web --replay FILE``. While it is given the cluster is looked at though
        nobody watches.

    Raises
    ------
    Misuse: the port is in use, a file is missing or of no use, `host` is none of this host; the text says what to do.
    TypeError, ValueError: a parameter is of no use.
    """

    def __init__(
        self,
        client: Client | SyncClient,
        host: str = "127.0.0.1",
        port: int = PORT,
        poll_sec: float = POLL_S,
        DocumentRoot: str | os.PathLike[str] | None = None,
        keyfile: str | None = None,
        certfile: str | None = None,
        show_task_args: bool = True,
        *,
        names: Iterable[str] = (),
        record: str | os.PathLike[str] | None = None,
    ) -> None:
        from ..web.recording import Recorder
        from ..web.serving import WebServer
        from .client import Client
        from .sync_client import SyncClient

        if isinstance(client, SyncClient):
            client = client._client
        if not isinstance(client, Client):
            raise TypeError(f"HTTPServer needs a Client, not {type(client).__name__}")
        self._client = client
        self._poll_sec = positive_seconds(poll_sec, "HTTPServer: poll_sec")
        self._show_args = bool(show_task_args)
        self._recorder = Recorder(record) if record is not None else None
        self._post = _Post(client)
        folder = Path(DocumentRoot) if DocumentRoot is not None else None
        self._server = WebServer(
            self._make_desk,
            host,
            port,
            folder=folder,
            certfile=os.fspath(certfile) if certfile is not None else None,
            keyfile=os.fspath(keyfile) if keyfile is not None else None,
            names=names,
        )
        self.url: str = self._server.url
        self.viewer_url: str = self._server.viewer_url
        self.port: int = self._server.port
        self._server.start()
        sys.stdout.write(f"{self.url}\n")
        sys.stdout.flush()
        atexit.register(self._at_exit)

    @property
    def status_task(self) -> Task | None:
        """The client's status_task: the monitor needs none of its own."""
        return self._client.status_task

    @status_task.setter
    def status_task(self, task: Task | None) -> None:
        self._client.status_task = task

    def shutdown(self, wait: bool = True) -> None:
        """Stop serving; open pages are told, and keep their last state. `wait`: they get the present one first.

        May be called again. The server ends with the program in any case.
        """
        atexit.unregister(self._at_exit)
        self._server.stop("The program has shut its monitor down.", timeout=STOP_S if wait else 0.0)

    def _at_exit(self) -> None:
        self._server.stop(f"The program {program_name()} has ended.")

    # --- on the web server's thread ---

    def _make_desk(self) -> Monitor:
        from ..web.reading import RINGS, Reader
        from ..web.tables import Tables
        from ..web.watching import Monitor

        reader = Reader(Tables(secrets.token_hex(4), RINGS), "client", program_name(), 0, time.time())
        reader.show_args = self._show_args
        recorder = self._recorder
        reader.recording = str(recorder.path) if recorder is not None else None
        return Monitor(self._post, reader, self._poll_sec, before_tick=self._post.look, keeper=recorder)


class _Post:
    """The client's runtime, which comes with schedule() and goes with the cluster. The client itself is asked without a message:
    so its last state is there when all else has ended.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._lease: ClientLease | None = None
        self._receive: Callable[[Envelope, float], None] | None = None
        self._actor = 0

    def look(self, reader: Reader) -> None:
        """Before each tick: which cluster is it?"""
        from .lease import ClientLease

        known = self._client._lease
        lease = known if isinstance(known, ClientLease) else None  # tasks of this process are not shown
        if lease is not self._lease and lease is not None:
            self._lease = lease
            if self._receive is not None and lease.runtime.is_open:
                lease.runtime.attach_inbox(self._actor, self._receive)
        reader.is_of(lease.runtime.epoch if lease is not None else 0)
        reader.scheduler = lease.ledger.scheduler if lease is not None and not lease.is_freed else None

    def address(self, actor: int) -> Address:
        return Address(self._lease.runtime.epoch if self._lease is not None else 0, actor)

    def attach_inbox(self, actor: int, receive: Callable[[Envelope, float], None]) -> Address:
        self._actor, self._receive = actor, receive
        return self.address(actor)

    def detach(self, actor: int) -> None:
        if self._lease is not None:
            self._lease.runtime.detach(actor)

    def send(self, envelope: Envelope) -> None:
        lease, look = self._lease, envelope.message
        if lease is None or self._receive is None:
            return
        if envelope.to == Address(lease.runtime.epoch, CLIENT) and isinstance(look, Look):
            with lease.runtime.lock:
                now = lease.runtime.clock()
                sight = lease.ledger.watching.sight(look, now)
            self._receive(Envelope(envelope.sender, envelope.to, sight, envelope.correlation), now)
        elif lease.runtime.is_open:
            lease.runtime.send(envelope)
