"""`--web`: a scheduler or node that serves the web monitor beside its work, in a thread of its own."""

from __future__ import annotations

import secrets
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from dispycos.config import WebSettings

from .process import Process

if TYPE_CHECKING:
    from dispycos.actors.web.watching import Monitor

POLL_S = 1.0


@contextmanager
def web_monitor(process: Process, settings: WebSettings) -> Iterator[None]:
    """While it is entered; nothing without --web. Raises Misuse if it cannot be served."""
    place = settings.web
    if place is None:
        yield
        return
    from dispycos.actors.web.recording import Recorder
    from dispycos.actors.web.serving import WebServer  # what it needs costs memory and time

    recorder = Recorder(settings.record) if settings.record is not None else None

    def make_desk() -> Monitor:
        from dispycos.actors.web.reading import RINGS, Reader
        from dispycos.actors.web.tables import Tables
        from dispycos.actors.web.watching import Monitor

        epoch = process.runtime.epoch
        reader = Reader(Tables(secrets.token_hex(4), RINGS), process.role, process.name, epoch, time.time())
        reader.insecure = process.keys is None
        reader.recording = str(recorder.path) if recorder is not None else None
        return Monitor(process.runtime, reader, POLL_S, keeper=recorder)

    assert place.port is not None
    server = WebServer(
        make_desk,
        place.host,
        place.port,
        certfile=str(settings.web_certfile) if settings.web_certfile is not None else None,
        keyfile=str(settings.web_keyfile) if settings.web_keyfile is not None else None,
        names=settings.web_host,
    )
    server.start()
    print(server.url, flush=True)
    print(f"to look only: {server.viewer_url}", file=sys.stderr)
    try:
        yield
    finally:
        server.stop(f"The {process.role} {process.name} has ended.")
