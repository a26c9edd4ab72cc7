"""Things by level, to find one on the lowest level without looking at the others."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

Item = TypeVar("Item", bound=Hashable)


class Shelves(Generic[Item]):
    """Of one level the item that came there last is first: what ran last is still in the CPU's caches."""

    __slots__ = ("_occupied", "_shelves", "level_of")

    def __init__(self) -> None:
        self.level_of: dict[Item, int] = {}
        self._shelves: dict[int, dict[Item, None]] = {}
        self._occupied = 0  # bit n: something is on level n

    def __len__(self) -> int:
        return len(self.level_of)

    def put(self, item: Item, level: int) -> None:
        """Keeps its place if it is on that level already."""
        old = self.level_of.get(item)
        if old == level:
            return
        if old is not None:
            self.remove(item)
        self.level_of[item] = level
        shelf = self._shelves.get(level)
        if shelf is None:
            shelf = self._shelves[level] = {}
            self._occupied |= 1 << level
        shelf[item] = None

    def remove(self, item: Item) -> None:
        level = self.level_of.pop(item, None)
        if level is None:
            return
        shelf = self._shelves[level]
        del shelf[item]
        if not shelf:
            del self._shelves[level]
            self._occupied ^= 1 << level

    def first(self) -> Item | None:
        """The last that came to the lowest level."""
        occupied = self._occupied
        if not occupied:
            return None
        return next(reversed(self._shelves[(occupied & -occupied).bit_length() - 1]))
