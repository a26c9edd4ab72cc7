"""How many tasks failed, by function and error; of too many kinds those that come last are counted together."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

KINDS_MAX: Final = 50
OTHERS: Final = ("(others)", "(others)")

Failure = tuple[str, str, int]  # function, error, how many


class Failures:
    def __init__(self) -> None:
        self._counts: dict[tuple[str, str], int] = {}

    def add(self, function: str, error: str, count: int = 1) -> None:
        key = function, error
        if key not in self._counts and len(self._counts) >= KINDS_MAX:
            key = OTHERS
        self._counts[key] = self._counts.get(key, 0) + count

    def add_all(self, failures: Iterable[Failure]) -> None:
        for function, error, count in failures:
            self.add(function, error, count)

    def listed(self) -> list[Failure]:
        """The most frequent first."""
        most = sorted(self._counts.items(), key=lambda kind: -kind[1])
        return [(function, error, count) for (function, error), count in most]
