"""Knows who is to be woken when, the earliest first."""

import heapq
import itertools


class Alarms(list[tuple[float, int, object]]):
    """A heap, to be read as it is. Nothing is taken back: who is woken looks whether it still had to be."""

    def __init__(self) -> None:
        super().__init__()
        self._count = itertools.count()

    def set(self, when: float, whom: object) -> None:
        heapq.heappush(self, (when, next(self._count), whom))

    def pop_first(self) -> tuple[float, object]:
        when, _, whom = heapq.heappop(self)
        return when, whom
