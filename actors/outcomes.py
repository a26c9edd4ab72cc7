"""Keeps a copy of each outcome until the client has it, and finds the words for tasks of a dead server."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

import msgspec

from dispycos.protocol.envelope import Payload, buffers_of, size_of
from dispycos.protocol.messages import Done, Outcome, Spot, TaskId
from dispycos.protocol.status import OutcomeKind

from .feeding import NodeTask

COPY_MAX: Final = 64 * 1024  # a larger outcome stays with its server
KEPT_BYTES: Final = 64 * 1024 * 1024
KEPT_COUNT: Final = 131_072


class Kept(msgspec.Struct, frozen=True, gc=False):
    """An outcome that the client has not confirmed."""

    done: Done
    payload: Payload
    server: int  # epoch
    size: int  # bytes of the payload here

    @property
    def is_whole(self) -> bool:
        return self.done.size == 0 or self.payload is not None


class Outcomes:
    """Kept copies; beyond `bytes_max` the oldest lose their payload and only the fact remains."""

    def __init__(self, bytes_max: int = KEPT_BYTES, count_max: int = KEPT_COUNT) -> None:
        self._bytes_max = bytes_max
        self._count_max = count_max
        self._copies: OrderedDict[TaskId, Kept] = OrderedDict()
        self._facts: dict[TaskId, Kept] = {}  # without payload: none, too large, or dropped
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._copies) + len(self._facts)

    @property
    def is_full(self) -> bool:
        """The client confirms nothing: no more tasks should be started."""
        return len(self._copies) + len(self._facts) >= self._count_max

    def keep(self, done: Done, payload: Payload, server: int) -> None:
        size = len(payload) if type(payload) is bytes else sum(map(size_of, buffers_of(payload)))
        if size == 0 or size > COPY_MAX:
            self._facts[done.task] = Kept(done, payload if size == 0 else None, server, 0)
            return
        self._copies[done.task] = Kept(done, payload, server, size)
        self._bytes += size
        while self._bytes > self._bytes_max:
            id, kept = self._copies.popitem(last=False)
            self._bytes -= kept.size
            self._facts[id] = Kept(kept.done, None, kept.server, 0)

    def ack(self, task: TaskId) -> bool:
        """The client has it; False: it is not kept here."""
        kept = self._copies.pop(task, None)
        if kept is not None:
            self._bytes -= kept.size
            return True
        return self._facts.pop(task, None) is not None

    def take(self, server: int) -> list[Kept]:
        """All of one server, which is gone; the caller speaks them, so they are kept no longer."""
        taken = [
            kept for table in (self._copies, self._facts) for kept in table.values() if kept.server == server
        ]
        for kept in taken:
            self.ack(kept.done.task)
        return taken

    def check(self) -> None:
        assert self._bytes == sum(kept.size for kept in self._copies.values()), "bytes kept are miscounted"
        assert self._bytes <= self._bytes_max, "more is kept than allowed"
        assert not self._copies.keys() & self._facts.keys(), "an outcome is kept twice"
        for id, kept in [*self._copies.items(), *self._facts.items()]:
            assert kept.done.task == id, f"{id} is kept under another name"


# --- what the node says for a server that is gone -----------------------------------------------------------


def repeat(kept: Kept, spot: Spot, sentence: str) -> tuple[Outcome, Payload]:
    """The server told us how the task ended; whether the client heard it nobody knows: it is said again."""
    done = kept.done
    if kept.is_whole:
        return Outcome(done.task, done.outcome, done.actor, spot, done.seconds), kept.payload
    text = f"finished, but its result of {done.size} bytes was lost: {sentence}"
    return Outcome(done.task, OutcomeKind.LOST, done.actor, spot, done.seconds, text=text), None


def cancelled(task: NodeTask, text: str = "") -> Outcome:
    return Outcome(task.id, OutcomeKind.CANCELLED, started=False, text=text)


def verdict(
    task: NodeTask, started: bool, had_to_end: bool, spot: Spot, sentence: str, now: float
) -> Outcome | None:
    """What became of a task that its server had not ended; None: surely not started, it may run elsewhere."""
    if not started:
        return cancelled(task, sentence) if had_to_end or task.terminated else None
    seconds = now - task.since
    if had_to_end:
        return Outcome(task.id, OutcomeKind.TERMINATED, spot=spot, seconds=seconds, text=sentence)
    how = f" while it ran {task.run.function}" if task.began else f"; {task.run.function} may have started"
    return Outcome(task.id, OutcomeKind.LOST, spot=spot, seconds=seconds, text=sentence + how)
