"""Decides what a node may do at a time of day: its service hours (spec 6.2), across midnight too.

The wall clock is compared anew each time, and no moment is waited for: a clock that is set, summer time and a host that slept
change nothing but when it is noticed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, NamedTuple

DAY: Final = 24 * 60


class TimeOfDay(NamedTuple):
    """By the host's wall clock."""

    hour: int
    minute: int

    def __str__(self) -> str:
        return f"{self.hour:02}:{self.minute:02}"

    def minutes_from(self, other: TimeOfDay) -> int:
        """How long after the last `other` this is."""
        return (60 * (self.hour - other.hour) + self.minute - other.minute) % DAY


def parse_time_of_day(text: str) -> TimeOfDay:
    """HH:MM; seconds may follow that are 0, as a TOML time has them."""
    match = re.fullmatch(r"([0-9]{1,2}):([0-9]{2})(?::00)?", text.strip())
    if match is None or int(match[1]) > 23 or int(match[2]) > 59:
        raise ValueError(f"{text!r} is not a time of day: HH:MM, from 00:00 to 23:59")
    return TimeOfDay(int(match[1]), int(match[2]))


class Phase(Enum):
    OPEN = auto()
    DRAINING = auto()  # nothing new is taken, what runs goes on
    CLOSED = auto()  # nothing runs


@dataclass(frozen=True, slots=True)
class Hours:
    """From `start` tasks are taken, from `stop` no new ones, from `end` none may run. One of the latter two may be missing.

    Raises ValueError when these make no hours.
    """

    start: TimeOfDay
    stop: TimeOfDay | None
    end: TimeOfDay | None

    def __post_init__(self) -> None:
        for name, time in (("stop", self.stop), ("end", self.end)):
            if time == self.start:
                raise ValueError(f"start and {name} are both {self.start}, which leaves no time to serve")
        stop, end = self.stop or self.start, self.end or self.stop or self.start
        if end.minutes_from(self.start) < stop.minutes_from(self.start):
            raise ValueError(f"beginning at {self.start}, the end {end} comes before the stop {stop}")

    def phase(self, clock: TimeOfDay) -> Phase:
        since = clock.minutes_from(self.start)
        if self.end is not None and since >= self.end.minutes_from(self.start):
            return Phase.CLOSED
        if self.stop is not None and since >= self.stop.minutes_from(self.start):
            return Phase.DRAINING
        return Phase.OPEN

    def __str__(self) -> str:
        return f"{self.start} to {self.stop or self.end}"
