"""`dispycos top`: nodes and what runs, live on a terminal; once, as text, where there is none."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from rich.live import Live

from dispycos.config import ViewSettings

from .screen import SORTS, TABLES, Snapshot, show
from .tables import make_console, print_bare
from .viewing import Viewing, viewing

KEYS: Final = "q quits   s sorts, now by {}   p {}"


def run(settings: ViewSettings) -> int:
    """Until q is typed, or it is interrupted: exit code 130."""
    return asyncio.run(_run(settings))


async def _run(settings: ViewSettings) -> int:
    is_live = sys.stdout.isatty() and not settings.json
    async with viewing(settings, "top", stays=is_live) as view:
        if is_live:
            await Top(view).run()
            return 0
        await view.look(TABLES)
        await view.look(TABLES)  # a rate needs two
        if settings.json:
            rows = {name: list(view.tables.rows(name).values()) for name in ("nodes", "servers")}
            print(json.dumps({"cluster": view.tables.rows("meta")["cluster"], **rows}, indent=2))
            return 0
        console = make_console()
        print_bare(console, show(snapshot(view), console.width, None))
    return 0


def snapshot(view: Viewing) -> Snapshot:
    tables = view.tables
    nodes, servers = (list(tables.rows(name).values()) for name in ("nodes", "servers"))
    return Snapshot(tables.now, tables.rows("meta")["cluster"], nodes, servers, dict(tables.rows("clients")))


class Top:
    """The screen, and the keys that change it."""

    def __init__(self, view: Viewing) -> None:
        self._view = view
        self._console = make_console()
        self._sort = 0
        self._held: Snapshot | None = None  # what is shown while it pauses
        self._over = asyncio.Event()
        self._has_keys = False

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        with (
            self._view.monitor.reading(TABLES),
            Live(console=self._console, screen=True, auto_refresh=False) as self._live,
            self._keys(),
        ):
            with suppress(NotImplementedError):
                loop.add_signal_handler(signal.SIGWINCH, self._draw)
            over = asyncio.ensure_future(self._over.wait())
            while not over.done():
                self._draw()
                ticked = asyncio.ensure_future(self._view.monitor.ticked())
                await asyncio.wait((over, ticked), return_when=asyncio.FIRST_COMPLETED)
                ticked.cancel()

    def _draw(self) -> None:
        seen = self._held or snapshot(self._view)
        width, height = self._console.size
        sort = SORTS[self._sort]
        note = KEYS.format(sort.name, "goes on (it stands still now)" if self._held else "pauses")
        shown = show(seen, width, height, sort, note if self._has_keys else "Ctrl-C ends it")
        self._live.update(shown, refresh=True)

    @contextmanager
    def _keys(self) -> Iterator[None]:
        """Each counts as soon as it is typed, where the terminal can do that."""
        if not sys.stdin.isatty():
            yield
            return
        try:
            import termios
            import tty
        except ImportError:  # Windows
            yield
            return
        terminal, loop = sys.stdin.fileno(), asyncio.get_running_loop()
        before = termios.tcgetattr(terminal)
        tty.setcbreak(terminal)
        self._has_keys = True
        loop.add_reader(terminal, self._on_key, terminal)
        try:
            yield
        finally:
            loop.remove_reader(terminal)
            termios.tcsetattr(terminal, termios.TCSADRAIN, before)

    def _on_key(self, terminal: int) -> None:
        typed = os.read(terminal, 64)
        if not typed or b"q" in typed.lower():
            self._over.set()
            return
        for key in typed.lower():
            if key == ord("s"):
                self._sort = (self._sort + 1) % len(SORTS)
            elif key == ord("p"):
                self._held = None if self._held is not None else snapshot(self._view)
        self._draw()
