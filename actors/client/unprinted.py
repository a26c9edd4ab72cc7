"""Outcomes that wait until what their tasks printed is here: a value comes directly, output by way of the agent."""

from __future__ import annotations

from typing import Final

from dispycos.protocol.envelope import Envelope
from dispycos.protocol.messages import Outcome, Output

AWAITED_S: Final = 1.0  # no output is waited for longer: its agent is stopped, for one


class Unprinted:
    """By the numbers of their tasks, in the order in which they came."""

    def __init__(self) -> None:
        self._marks: dict[tuple[int, int], int] = {}  # the last one that came, by server and stream
        self.held: dict[int, tuple[float, Envelope]] = {}

    def hold(self, envelope: Envelope, now: float) -> bool:
        """Whether this outcome has to wait: then `on_output`, `expired` or `take` gives it back."""
        word: Outcome = envelope.message
        if self._is_printed(envelope):
            return False
        self.held[word.task.number] = now + AWAITED_S, envelope
        return True

    def _is_printed(self, envelope: Envelope) -> bool:
        word: Outcome = envelope.message
        if word.marks is None:
            return True
        epoch = envelope.sender.epoch
        return all(
            mark <= self._marks.get((epoch, stream), 0) for stream, mark in enumerate(word.marks, start=1)
        )

    def on_output(self, word: Output) -> list[Envelope]:
        """This was handed to the body to be printed: the outcomes that need not wait any more."""
        if not word.mark:
            return []
        self._marks[word.epoch, word.stream] = word.mark
        printed = [number for number, (_, held) in self.held.items() if self._is_printed(held)]
        return [self.held.pop(number)[1] for number in printed]

    @property
    def deadline(self) -> float | None:
        return next(iter(self.held.values()))[0] if self.held else None

    def expired(self, now: float) -> list[Envelope]:
        late = [number for number, (until, _) in self.held.items() if until <= now]
        return [self.held.pop(number)[1] for number in late]

    def take(self, number: int) -> Envelope | None:
        """The outcome of this task, if it waits here."""
        held = self.held.pop(number, None)
        return None if held is None else held[1]

    def forget(self, server: int) -> None:
        """It has ended, and all that it wrote is here."""
        for stream in (1, 2):
            self._marks.pop((server, stream), None)
