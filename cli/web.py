"""`dispycos web`: shows a recording in the page that showed the cluster."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from contextlib import suppress
from pathlib import Path

from dispycos.actors.web.recording import BadRecording, Moment, read_moments
from dispycos.actors.web.replaying import ReplayDesk
from dispycos.actors.web.serving import WebServer
from dispycos.config import ReplaySettings

from .process import set_up_logging
from .words import span

log = logging.getLogger("dispycos")


def run(settings: ReplaySettings) -> int:
    """Until it is interrupted. Raises BadRecording before anything is served."""
    set_up_logging(debug=settings.debug, times=False)
    path, speed = settings.replay, settings.speed
    assert path is not None
    text = describe(path, speed)
    server = WebServer(lambda: ReplayDesk(path, speed), "127.0.0.1", settings.port)
    server.start()
    print(server.url, flush=True)
    log.info("%s", text)
    try:
        asyncio.run(_wait())
    finally:
        server.stop("The replay has been ended.")
    return 0


async def _wait() -> None:
    """For SIGINT, which is raised, or SIGTERM."""
    ended = asyncio.Event()
    with suppress(NotImplementedError):
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    await ended.wait()


def describe(path: Path, speed: float) -> str:
    """What there is to see. Raises BadRecording, which names the line, if any part of it is broken."""
    first: Moment | None = None
    last: Moment | None = None
    for _, moment in read_moments(path):
        first, last = first or moment, moment
    if first is None or last is None:
        raise BadRecording(f"{path} has nothing in it yet", "let it record for some seconds")
    began = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(first.now))
    length = last.now - first.now
    takes = f"at {speed:g} times its speed, in {span(length / speed)}" if speed else "its end"
    return f"{path}: {span(length)} from {began} on are shown, {takes}; Ctrl-C ends it"
