"""What a node's servers do, for somebody who looks: they are asked, and their pages tell of those that cannot answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Final

from msgspec.structs import replace

from dispycos.protocol.envelope import Envelope
from dispycos.protocol.messages import Inventory, NodeReport, ServerReport, ServerTasks, TaskReport
from dispycos.protocol.watching import NodeSight, StackGiven

from ..tasks.step import Step
from .lease import NodeOutbox, Place

ANSWER_S: Final = 0.3  # for servers: the relief thread answers unless C code holds the GIL
STACK_S: Final = 1.0
GONE: Final = "its server is gone"
BUSY: Final = "a step in C code"  # of a server that does not answer: nobody here knows of which task


@dataclass(slots=True, eq=False)
class Inquiry:
    """One question, and the reports that have come."""

    request: Envelope
    report: NodeReport | NodeSight
    open: dict[int, Place]  # those that have not answered, by epoch
    reports: dict[int, ServerReport]  # by number of the server
    until: float
    parts: int


@dataclass(slots=True, eq=False)
class StackInquiry:
    """A question for one of its tasks, which a server has."""

    request: Envelope
    server: Place
    until: float


class Inquiries:
    """All that are open, by their correlations with the servers."""

    def __init__(self, out: NodeOutbox) -> None:
        self._out = out
        self._open: dict[int, Inquiry] = {}
        self._stacks: dict[int, StackInquiry] = {}
        self._keys = count(1)

    @property
    def deadline(self) -> float | None:
        due = [inquiry.until for inquiry in self._open.values()]
        return min([*due, *(asked.until for asked in self._stacks.values())], default=None)

    def ask(
        self,
        request: Envelope,
        report: NodeReport | NodeSight,
        servers: Sequence[Place],
        now: float,
        parts: int = 0,
    ) -> None:
        """Answer with this report when these servers have told what they do, and these parts of it."""
        asked = {server.spot.epoch: server for server in servers}
        inquiry = Inquiry(request, report, asked, {}, now + ANSWER_S, parts)
        key = next(self._keys)
        self._open[key] = inquiry
        for server in servers:
            self._out.send(server.address, Inventory(parts), key)
        self._finish(key)

    def on_answer(self, envelope: Envelope, word: ServerTasks, now: float) -> None:
        inquiry = self._open.get(envelope.correlation)
        server = None if inquiry is None else inquiry.open.pop(envelope.sender.epoch, None)
        if inquiry is not None and server is not None:
            use = word.use if inquiry.parts else None
            inquiry.reports[server.number] = ServerReport(server.spot, server.pid, word.tasks, use)
            self._finish(envelope.correlation)

    def ask_stack(self, request: Envelope, server: Place | None, now: float) -> None:
        """Pass the answer of this server on, or why there is none."""
        if server is None:
            self._no_stack(request, GONE)
            return
        key = next(self._keys)
        self._stacks[key] = StackInquiry(request, server, now + STACK_S)
        self._out.send(server.address, request.message, key)

    def on_stack(self, envelope: Envelope, word: StackGiven, now: float) -> None:
        asked = self._stacks.get(envelope.correlation)
        if asked is not None and asked.request.message.server == envelope.sender.epoch:
            del self._stacks[envelope.correlation]
            self._out.send(asked.request.sender, word, asked.request.correlation)

    def _no_stack(self, request: Envelope, why: str) -> None:
        self._out.send(request.sender, StackGiven([], why), request.correlation)

    def forget(self, epoch: int) -> None:
        """This server is dead: nothing is said of it."""
        for key, asked in list(self._stacks.items()):
            if asked.request.message.server == epoch:
                del self._stacks[key]
                self._no_stack(asked.request, GONE)
        for key, inquiry in list(self._open.items()):
            if inquiry.open.pop(epoch, None) is not None:
                self._finish(key)

    def wake(self, now: float, step_of: Callable[[int], Step]) -> None:
        """Of those that have not answered in time their pages tell."""
        for key, asked in list(self._stacks.items()):
            if asked.until <= now:
                del self._stacks[key]
                step = step_of(asked.server.number)
                keeps = f"{BUSY} keeps its interpreter, for {now - step.since / 1e9:.1f} s now"
                self._no_stack(
                    asked.request, f"its server does not answer{f': {keeps}' if step.position else ''}"
                )
        for key, inquiry in list(self._open.items()):
            if inquiry.until <= now:
                for server in inquiry.open.values():
                    step = step_of(server.number)
                    busy = TaskReport(BUSY, 0, 0, 0, False, "running", max(0.0, now - step.since / 1e9))
                    inquiry.reports[server.number] = ServerReport(
                        server.spot, server.pid, [busy] if step.position else []
                    )
                inquiry.open.clear()
                self._finish(key)

    def _finish(self, key: int) -> None:
        inquiry = self._open[key]
        if inquiry.open:
            return
        del self._open[key]
        servers = [inquiry.reports[number] for number in sorted(inquiry.reports)]
        request = inquiry.request
        answer: NodeReport | NodeSight = replace(inquiry.report, servers=servers)
        self._out.send(request.sender, answer, request.correlation)
