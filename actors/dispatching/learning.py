"""What is learned from the past: how long functions run, and how late the client hears that they ended."""

from __future__ import annotations

from typing import Final

FADE: Final = 16  # runs after which one has faded to a third
FUNCTIONS_MAX: Final = 10_000  # functions that are remembered
LAG_MAX_S: Final = 2.0  # a client that is away for longer is not planned for
LATELY_S: Final = 5.0  # a lag is remembered for this long at least, and twice as long at most


class Learner:
    """How long a function runs: the mean of its last runs, weighed so that old ones fade."""

    __slots__ = ("mean", "runs", "submitted")

    def __init__(self) -> None:
        self.mean = 0.0
        self.runs = 0  # up to FADE; 0: nothing is known
        self.submitted = 0

    def saw(self, seconds: float) -> None:
        runs = self.runs
        if runs < FADE:
            self.runs = runs = runs + 1
        self.mean += (seconds - self.mean) / runs

    def forget(self) -> None:
        """It took its server along, or had to be ended: nothing is expected of it any more."""
        self.runs = 0
        self.mean = 0.0


class Learners(dict[str, Learner]):
    """One for each function, by name."""

    def __missing__(self, function: str) -> Learner:
        if len(self) >= FUNCTIONS_MAX:
            self.clear()  # all are measured anew; tasks under way keep theirs
        learner = self[function] = Learner()
        return learner


class Lags:
    """How late, at worst, the client heard of an end lately: it computes, or keeps the interpreter, between its turns.

    Time between turns would tell too little: who waits for a long task has no turns, and is not late.
    """

    __slots__ = ("_before", "_present", "_since", "longest")

    def __init__(self) -> None:
        self._since = 0.0
        self._present = self._before = 0.0
        self.longest = 0.0  # seconds

    def saw(self, seconds: float) -> None:
        if seconds > self._present:
            self._present = min(seconds, LAG_MAX_S)
            self.longest = max(self._present, self._before)

    def turn(self, now: float) -> None:
        """Forget what is too old."""
        if now >= self._since + LATELY_S:
            is_old = now >= self._since + 2 * LATELY_S
            self._before = 0.0 if is_old else self._present
            self._present, self._since = 0.0, now
            self.longest = self._before
