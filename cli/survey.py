"""Looks around for a private process: which schedulers and nodes of the cluster are there that it can use.

What is found is a hint: anybody may announce it by mDNS, and a killed process stays listed for minutes. So each find is dialled
at once and counts when its link has proved that it has the secret. One that has not done so after 0.3 s is waited for no more.
"""

from __future__ import annotations

import asyncio

from dispycos.brokers.waiting import other_python
from dispycos.transport.discovery import Presence
from dispycos.transport.question import Question
from dispycos.version import PYTHON

from .process import Process

HINT_S = 0.3  # mDNS answers within this where there is anybody, and who was found proves itself
READ_S = 0.02  # what has come is read and dialled within this
LATE_S = 1.0  # an answer that did not come within this is not waited for any more
PROVEN_S = 1.0  # one that has the secret has so long to greet us, also one of this host and user


class Survey:
    """Nodes are used at once, also those that appear later; schedulers only if they are wanted, and not any more later."""

    def __init__(self, process: Process, question: Question | None, *, wants_scheduler: bool) -> None:
        self._process = process
        self._question = question
        self._wants_scheduler = wants_scheduler
        self._found: list[tuple[Presence, float]] = []
        self._left_out: set[str] = set()  # names of nodes of other Pythons
        process.on_presence = self._on_presence

    async def look(self) -> None:
        """The registry at once; mDNS for 0.3 s since it was asked, unless nodes were found before; then as long as somebody may
        still answer."""
        clock = self._process.runtime.clock
        if self._question is not None and self._question.asked_at + LATE_S < clock():
            self._question.ask()  # we were started long before we were needed
        asked_at = self._question.asked_at if self._question is not None else clock()
        self._until = max(asked_at + HINT_S, clock() + READ_S)
        self._process.browse_registry()
        self._process.keep(self._listen())
        while not (self._is_decided(clock()) or self._process.stopping.is_set()):
            await asyncio.sleep(0.005)
        self._wants_scheduler = False
        if self.scheduler() is None:
            for found, _ in self._found:
                if found.role == "scheduler":
                    self._process.leave(found.epoch)

    async def _listen(self) -> None:
        """To zeroconf, with a first answer or when all is decided: it takes a CPU for longer than an answer takes to come."""
        clock = self._process.runtime.clock
        if self._question is not None and await self._question.answered(LATE_S):
            self._until = float("inf")
            await self._process.browse_network(self._question)
            # Who answered is dialled now, and may be of another cluster, which is to be said.
            self._until = clock() + HINT_S
        else:
            await self._process.browse_network(self._question)

    def scheduler(self) -> Presence | None:
        """One that has proved that it is of this cluster."""
        return next((found for found in self._linked() if found.role == "scheduler"), None)

    def nodes(self) -> list[Presence]:
        return [found for found in self._linked() if found.role == "node"]

    def _linked(self) -> list[Presence]:
        return [found for found, _ in self._found if self._process.runtime.is_linked(found.epoch)]

    def _on_presence(self, found: Presence) -> None:
        if found.role == "node" and found.python is not None and found.python != PYTHON:
            self._leave_out(found, found.python)
        elif found.role == "node" or (found.role == "scheduler" and self._wants_scheduler):
            self._found.append((found, self._process.runtime.clock()))
            self._process.reach(found)

    def _leave_out(self, node: Presence, python: tuple[int, int]) -> None:
        if node.name not in self._left_out:
            self._left_out.add(node.name)
            place = f"{node.addresses[0]}:{node.port}"
            self._process.notice(
                f"not used: node {node.name} at {place} {other_python(python, PYTHON)}", "warning"
            )

    def _is_decided(self, now: float) -> bool:
        if self.scheduler() is not None:
            return True
        if any(self._may_answer(found, now - since) for found, since in self._found if since <= self._until):
            return False
        return bool(self.nodes()) or self._until <= now

    def _may_answer(self, found: Presence, waited: float) -> bool:
        is_trusted = found.ipc or self._process.has_proved(found.epoch)
        return not self._process.runtime.is_linked(found.epoch) and waited < (
            PROVEN_S if is_trusted else HINT_S
        )
