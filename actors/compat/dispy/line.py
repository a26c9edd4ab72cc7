"""The clusters of a program: who has the nodes, and who wants them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Protocol

from ..program import program
from .journal import Journal


class Cluster(Protocol):
    def look_around(self) -> None:
        """Somebody wants the nodes."""

    def close(self, timeout: float | None = None, terminate: bool = False) -> bool | None: ...


class Line:
    """The clusters of this program: who has the nodes, and who wants them. Used on the loop."""

    def __init__(self) -> None:
        self.open: list[Cluster] = []
        self.is_at_end = False
        self.waiting = 0
        self._turn: asyncio.Lock | None = None
        self._journals: dict[Path | None, Journal] = {}

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncGenerator[None, None]:
        self._turn = self._turn or asyncio.Lock()
        self.waiting += 1
        for cluster in self.open:
            cluster.look_around()
        try:
            await self._turn.acquire()
        finally:
            self.waiting -= 1
        try:
            yield
        finally:
            self._turn.release()

    def enter(self, cluster: Cluster) -> None:
        self.open.append(cluster)
        if not self.is_at_end:
            self.is_at_end = True
            program.at_end.append((0, self._end, (), {}))

    def journal(self, path: Path | None) -> Journal:
        """For one more cluster; None: of those that name none."""
        known = self._journals.get(path)
        if known is None or not known.users:
            known = self._journals[path] = Journal(path)
        known.users += 1
        return known

    def _end(self) -> None:
        """The program's end. Jobs are left only if it was interrupted."""
        for cluster in list(self.open):
            cluster.close(terminate=True)


line = Line()
