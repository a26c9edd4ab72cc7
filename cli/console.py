"""Commands typed at the terminal, a line each, while this process is in its foreground (spec 6.2, 6.3.2)."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from dispycos.protocol.envelope import Envelope
from dispycos.protocol.messages import Inventory
from dispycos.runtime import Runtime

LOOK_S = 0.3  # so often it is looked whether the shell has brought us to the foreground

CONSOLE = 21  # our actor

Commands = Callable[[str], str | None]


class Viewer:
    """Asks an actor of this very process what it has, and prints the answer: servers are asked in their turn."""

    def __init__(self, runtime: Runtime, actor: int, show: Callable[[Any], list[str]]) -> None:
        self._runtime = runtime
        self._whom = runtime.address(actor)
        self._show = show
        self._own = runtime.attach_inbox(CONSOLE, self._on_report)

    def ask(self) -> None:
        self._runtime.send(Envelope(self._whom, self._own, Inventory(), 1))

    def _on_report(self, envelope: Envelope, now: float) -> None:
        lines = self._show(envelope.message)
        self._runtime.defer(lambda: print("\n".join(lines), flush=True))


def run_on_in_background() -> None:
    """A shell's background job goes on: unasked, a read of the terminal stops it, and with `stty tostop` a write too.

    Not for processes that were forked before: users' programs have what they expect.
    """
    for name in ("SIGTTIN", "SIGTTOU"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)


def wants_console(*, daemon: bool) -> bool:
    """A node or scheduler without a terminal behaves as with --daemon."""
    return not daemon and sys.stdin is not None and not sys.stdin.closed and sys.stdin.isatty()


def read_console(commands: Commands, is_over: Callable[[], bool]) -> None:
    """Answers go to standard output. Not with --daemon. What is typed when it is over is the shell's."""
    loop = asyncio.get_running_loop()

    def answer(line: str) -> None:
        text = commands(line)
        if text:
            print(text, flush=True)

    def give(line: str) -> None:
        loop.call_soon_threadsafe(answer, line.strip().lower())

    threading.Thread(
        target=_read, args=(sys.stdin.fileno(), give, is_over), name="dispycos-console", daemon=True
    ).start()


def _read(terminal: int, give: Callable[[str], None], is_over: Callable[[], bool]) -> None:
    held = b""
    while True:
        readable, _, _ = select.select([terminal], [], [], LOOK_S)
        if is_over():
            return
        if not readable:
            continue
        if not _has(terminal):  # what is typed is the shell's
            time.sleep(LOOK_S)
            continue
        try:
            data = os.read(terminal, 4096)
        except OSError:
            if _has(terminal):
                return  # it was hung up
            continue  # sent to the background in this moment
        if not data:
            return
        *lines, held = (held + data).split(b"\n")
        for line in lines:
            give(line.decode(errors="replace"))


def _has(terminal: int) -> bool:
    """Whether we are in its foreground; of one that controls no session of ours anybody may read."""
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return True
