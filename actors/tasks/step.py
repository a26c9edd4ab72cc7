"""What a step of a task is, as the page of its server tells it, and the time that a task has to end when it is asked to."""

from __future__ import annotations

from typing import Final, NamedTuple

KILL_AFTER: Final = 5.0  # seconds that a task has after its KeyboardInterrupt


class Step(NamedTuple):
    """A stretch of a task's code that runs without giving the server back; the two together never come again."""

    position: int  # of the task in the order in which its server was given tasks; 0: no step runs
    since: int = 0  # nanoseconds of the monotonic clock


NO_STEP: Final = Step(0)
