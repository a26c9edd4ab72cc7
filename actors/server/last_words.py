"""The outcome of a task that has ended, while messages that it sent to tasks of the client wait for room there.

An outcome comes behind them, so whoever awaits it and then writes to the same mailbox is not before them. The task counts as
running until then, as if it waited in its last send().
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from functools import partial

from dispycos.notices import PATIENCE_S
from dispycos.runtime import Runtime

from ..tasks.windows import Waiting

log = logging.getLogger("dispycos")


class LastWords:
    """`end` is called once: when those that were `last` for each mailbox have left or were dropped, or to say it at once."""

    def __init__(self, name: str, last: Iterable[Waiting], end: Callable[[], None], runtime: Runtime) -> None:
        self._name = name
        self._end: Callable[[], None] | None = end
        self._runtime = runtime
        self._left = 0
        for entry in last:
            self._left += 1
            entry.then = partial(self._one_left, entry.then)
        runtime.loop.call_later(PATIENCE_S, self._say)

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

    def _say(self) -> None:
        if self._end is not None:
            log.warning(
                "%s has done, and what it sent to a task of the client waits for room in the mailbox of that: "
                "its outcome comes behind these messages, or when it is terminated",
                self._name,
            )
