"""Decides when a server is killed for a task that was asked to end: only while a step of that very task does not end.

A task has 5 s from the request, or from the beginning of its step if that is later: in C code that holds the GIL its
KeyboardInterrupt is not even raised. Which step runs is told by the server's page (tasks/page.py). A task that waits is
dropped by its own server, and another one that keeps the server was not asked to end; for neither is anybody killed.

What is asked for goes `ask`, and 5 s later `Look`, answered by `looked`. If the step has had its time it is ended (`EndStep`) by
whoever can stop the process, look once more, and kill it only if the same step still runs. `judged` tells which it was. The
server's other tasks cannot be warned: the step keeps the loop in which they would have to hear of it. Nothing is told of tasks
that end by themselves: a look costs the same for one task and for a thousand, and a minute after the request nobody looks
any more.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, NamedTuple

import msgspec

from ..tasks.step import KILL_AFTER, NO_STEP, Step

LOOK_AGAIN: Final = 1.0  # seconds: a step of the task may have begun
FORGET_AFTER: Final = (
    60.0  # seconds: by then a task that waits was dropped, unless another keeps its server; ask again
)


class Look(msgspec.Struct, frozen=True):
    """Tell which step runs on this server; answered by looked()."""

    server: int


class EndStep(msgspec.Struct, frozen=True):
    """Kill this server if the very step still runs, else leave it as it is; answered by judged(), or by its end."""

    server: int
    step: Step


class _Request(NamedTuple):
    at: float
    function: str


@dataclass(slots=True, eq=False)
class _Server:
    asked: dict[int, _Request] = field(default_factory=dict)  # by position
    due: float = 0.0
    judging: Step = NO_STEP  # an EndStep of it is unanswered


class Terminations:
    """The tasks of one lease that were asked to end, by the numbers of their servers. `effects` is the caller's to empty."""

    def __init__(self) -> None:
        self._servers: dict[int, _Server] = {}
        self.effects: list[Look | EndStep] = []

    def ask(self, server: int, position: int, function: str, now: float) -> bool:
        """Its KeyboardInterrupt is to be sent. False: it was, and the first request counts, until it is forgotten."""
        known = self._servers.setdefault(server, _Server(due=now + KILL_AFTER))
        if position in known.asked:
            return False
        known.asked[position] = _Request(now, function)
        return True

    def forget(self, server: int) -> str:
        """Its process has ended. The function for whose step it was to be killed, if any."""
        known = self._servers.pop(server, None)
        return (
            "" if known is None or known.judging == NO_STEP else known.asked[known.judging.position].function
        )

    def deadline(self) -> float | None:
        return min((known.due for known in self._servers.values() if known.judging == NO_STEP), default=None)

    def wake(self, now: float) -> None:
        for server, known in list(self._servers.items()):
            if known.judging != NO_STEP or known.due > now:
                continue
            known.due = now + LOOK_AGAIN
            self.effects.append(Look(server))

    def looked(self, server: int, step: Step, now: float) -> None:
        """This step ran at a Look."""
        known = self._servers.get(server)
        if known is None or known.judging != NO_STEP:
            return
        asked = known.asked.get(step.position)
        known.asked = {
            task: one for task, one in known.asked.items() if one is asked or now < one.at + FORGET_AFTER
        }
        if asked is None:  # nobody is to be killed for it
            if not known.asked:
                del self._servers[server]
            return
        known.due = max(asked.at, step.since / 1e9) + KILL_AFTER
        if known.due <= now:
            known.judging = step
            self.effects.append(EndStep(server, step))

    def judged(self, server: int, killed: bool, now: float) -> None:
        """The answer to EndStep. Killed, its end will be told; else the step is over, and the server lives on."""
        known = self._servers.get(server)
        if known is not None and not killed:
            known.judging, known.due = NO_STEP, now

    def check(self) -> None:
        """Asserts what must hold between two calls."""
        for server, known in self._servers.items():
            assert known.judging == NO_STEP or known.judging.position in known.asked, (
                f"server {server} is to be killed for a task that nobody asked to end"
            )
