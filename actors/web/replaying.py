"""Plays a recording into tables by its own times, as if the cluster were there again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from .desk import Done
from .recording import BadRecording, Header, Moment, read_moments
from .tables import Tables

REFUSED: Final = "this is a recording: nothing can be changed in it"


def play(tables: Tables, moment: Moment) -> None:
    """The tables are now as they were then."""
    if moment.whole:
        for name in tables.names - moment.tables.keys():
            for key in list(tables.rows(name)):
                tables.drop(name, key)
    for name, told in moment.tables.items():
        there = tables.rows(name)
        for key in [key for key in there if key not in told.set] if moment.whole else told.gone:
            tables.drop(name, key)
        for key, row in told.set.items():
            tables.set(name, key, row)
        tables.note(name, told.total, told.kept, told.dropped_until)


class ReplayDesk:
    """Desk of a recording (desk.py); made on the loop that serves it.

    Parameters
    ----------
    path: FILE; its FILE.1 comes first, if it is there. speed: how many times as fast as it was; 0: its end at once.
    """

    def __init__(self, path: Path, speed: float = 1.0) -> None:
        self.path = path
        self.speed = speed
        self.tables = Tables(f"{time.time_ns():x}"[-8:], {})
        self._ticked = asyncio.Event()
        self._began = asyncio.Event()
        self._playing = asyncio.ensure_future(self._play())

    async def close(self) -> None:
        self._playing.cancel()

    async def _play(self) -> None:
        try:
            await self._play_all()
        except BadRecording as error:  # who changed it since it was looked through?
            self._tell_gone(error.text)

    async def _play_all(self) -> None:
        before: tuple[Header, Moment] | None = None
        for header, moment in read_moments(self.path):
            if before is not None:
                await self._show(before[1], "")
                if self.speed and header.epoch == before[0].epoch:  # else another run, perhaps of another day
                    await asyncio.sleep(max(0.0, moment.now - before[1].now) / self.speed)
            before = header, moment
        if before is not None:
            ended = time.strftime("%H:%M:%S on %Y-%m-%d", time.localtime(before[1].now))
            await self._show(before[1], f"The recording ends at {ended}.")

    async def _show(self, moment: Moment, gone: str) -> None:
        play(self.tables, moment)
        self._tell_gone(gone, moment.now)
        await asyncio.sleep(0)  # at any speed there is somebody else to serve

    def _tell_gone(self, text: str, now: float | None = None) -> None:
        meta = self.tables.rows("meta").get("cluster", {})
        own = {"kind": "replay", "recording": str(self.path), "gone": text or meta.get("gone", "")}
        self.tables.set("meta", "cluster", {**meta, **own})
        self.tables.commit(self.tables.now if now is None else now)
        self._began.set()
        self._ticked.set()
        self._ticked = asyncio.Event()

    # --- Desk ---

    @contextmanager
    def reading(self, names: frozenset[str]) -> Iterator[None]:
        yield

    async def fresh(self, names: frozenset[str]) -> None:
        await self._began.wait()

    async def ticked(self) -> None:
        await self._ticked.wait()

    async def act(self, action: str, ids: list[str], args: dict[str, Any]) -> Done:
        return Done(0, [(one, REFUSED) for one in ids], REFUSED)

    async def stack(self, task: str) -> dict[str, Any]:
        raise LookupError(f"task {task}: a recording has no stacks")
