"""The outcome of a task that has ended, while messages that it sent to tasks of the client wait for room there.

It comes behind them, so whoever awaits it and then writes to the same mailbox is not before them. Until then the task counts as
running, as if it waited in its last send(). But not for a receiver that takes nothing for 3 s: it may be the one that awaits.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial

from dispycos.notices import PATIENCE_S, counted
from dispycos.runtime import Runtime

from ..tasks.windows import Waiting, Windows

log = logging.getLogger("dispycos")


class LastWords:
    """`end` is called once: when those that were `last` for each mailbox have left or were dropped, or when it is to be said."""

    def __init__(
        self, name: str, last: Sequence[Waiting], windows: Windows, end: Callable[[], None], runtime: Runtime
    ) -> None:
        self._name = name
        self._end: Callable[[], None] | None = end
        self._windows = windows
        self._runtime = runtime
        self._left = len(last)
        self._mailboxes = [entry.envelope.to for entry in last]
        for entry in last:
            entry.then = partial(self._one_left, entry.then)
        self._heads = self._look()
        runtime.loop.call_later(PATIENCE_S, self._wait_on)

    def _look(self) -> list[Waiting | None]:
        return [self._windows.head(mailbox) for mailbox in self._mailboxes]

    def _one_left(self, then: Callable[[], None] | None) -> None:
        if then is not None:
            then()
        self._left -= 1
        if not self._left:
            self.end()

    def end(self) -> None:
        """Under the lock, perhaps on the relief thread."""
        end, self._end = self._end, None
        if end is not None:
            end()
            self._runtime.turn_soon()

    def _wait_on(self) -> None:
        with self._runtime.lock:
            before, self._heads = self._heads, self._look()
            if self._end is None:
                return
            if any(one is not other for one, other in zip(before, self._heads, strict=True)):
                self._runtime.loop.call_later(PATIENCE_S, self._wait_on)
                return
            waiting = sum(self._windows.waiting(mailbox).messages for mailbox in self._mailboxes)
            self.end()
        log.warning(
            "%s has ended, and its outcome is told before %s to a task of the client, which has taken none for %g s",
            self._name,
            counted(waiting, "message"),
            PATIENCE_S,
        )
