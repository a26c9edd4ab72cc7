"""Decides when a server is killed for a task that was asked to end: only while a step of that very task does not end.

A task has 5 s from the request, or from the beginning of its step if that is later: in C code that holds the GIL its
KeyboardInterrupt is not even raised. Which step runs is told by the server's page (tasks/page.py). A task that waits is
dropped by its own server, and another one that keeps the server was not asked to end; for neither is anybody killed.

5 s after the request the page is looked at. If the step has had its time it is ended (`EndStep`) by whoever can stop the
process, look once more, and kill it only if the same step still runs. If not, the next look finds another step. The server's
other tasks cannot be warned: the step keeps the loop in which they would have to hear of it. Nothing is told of tasks that end
by themselves: a look costs the same for one task and for a thousand, and a minute after the request nobody looks any more.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from ..tasks.step import KILL_AFTER, Step
from .processes.words import EndStep

LOOK_AGAIN: Final = 1.0  # seconds: a step of the task may have begun
FORGET_AFTER: Final = (
    60.0  # seconds: by then a task that waits was dropped, unless another keeps its server; ask again
)


class _Request(NamedTuple):
    at: float
    function: str


@dataclass(slots=True, eq=False)
class _Watch:
    """On one server."""

    due: float
    asked: dict[int, _Request] = field(default_factory=dict)  # by position
    culprit: str = ""  # the function for whose step EndStep was wanted last


class Terminations:
    """The tasks of one lease that were asked to end, by the numbers of their servers."""

    def __init__(self) -> None:
        self._watches: dict[int, _Watch] = {}

    def ask(self, server: int, position: int, function: str, now: float) -> bool:
        """Its KeyboardInterrupt is to be sent. False: it was, and the first request counts, until it is forgotten."""
        watch = self._watches.setdefault(server, _Watch(now + KILL_AFTER))
        if position in watch.asked:
            return False
        watch.asked[position] = _Request(now, function)
        return True

    def forget(self, server: int) -> str:
        """Its process has ended. The function for whose step it was killed, if it was for a step."""
        watch = self._watches.pop(server, None)
        return watch.culprit if watch is not None else ""

    def deadline(self) -> float | None:
        return min((watch.due for watch in self._watches.values()), default=None)

    def wake(self, now: float, step_of: Callable[[int], Step]) -> list[EndStep]:
        """The steps to be ended now; `step_of` tells which one runs on a server."""
        due = [server for server, watch in self._watches.items() if watch.due <= now]
        return [EndStep(server, step) for server in due if self._looked(server, step := step_of(server), now)]

    def _looked(self, server: int, step: Step, now: float) -> bool:
        """Whether this step, which runs there, has had its time."""
        watch = self._watches[server]
        running = watch.asked.get(step.position)
        watch.asked = {
            position: request
            for position, request in watch.asked.items()
            if request is running or now < request.at + FORGET_AFTER
        }
        watch.due = now + LOOK_AGAIN
        if running is None:  # nobody is to be killed for it
            if not watch.asked:
                del self._watches[server]
            return False
        ends = max(running.at, step.since / 1e9) + KILL_AFTER
        if now < ends:
            watch.due = ends
            return False
        watch.culprit = running.function
        return True
