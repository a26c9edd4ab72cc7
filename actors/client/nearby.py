"""A client's servers on its own host: when one dies it reads the page itself, should there be no node left to do it.

A node that is killed takes its servers along. Of those of another host nobody knows then what had begun; of those that are
seen from here their pages tell (tasks/page.py).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from dispycos.protocol.messages import Marks
from dispycos.runtime import Runtime

from ..tasks.page import PageReader, open_page


class NearbyServers:
    """Watches them. `on_end` is called on the loop, within no turn, when all that a server had sent is read."""

    def __init__(self, runtime: Runtime, on_end: Callable[[int, Marks], None]) -> None:
        self._runtime = runtime
        self._on_end = on_end
        self._pages: dict[int, PageReader] = {}

    def watch(self, epoch: int, pid: int) -> bool:
        """False where its end or its page cannot be seen from here: it is of another host, another user, another container."""
        witness = self._runtime.witness
        page = open_page(pid) if witness.can_watch(pid) else None
        if page is None:
            return False
        self.forget(epoch)
        self._pages[epoch] = page
        witness.watch(epoch, pid, partial(self._ended, epoch))
        return witness.lives(epoch)

    def forget(self, epoch: int) -> None:
        page = self._pages.pop(epoch, None)
        if page is not None:
            self._runtime.witness.forget(epoch)
            page.close()

    def close(self) -> None:
        for epoch in list(self._pages):
            self.forget(epoch)

    def _ended(self, epoch: int) -> None:
        marks = self._pages[epoch].marks()
        self.forget(epoch)
        self._runtime.read_all()
        self._on_end(epoch, marks)
