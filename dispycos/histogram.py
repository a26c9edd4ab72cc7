"""How seconds are spread: counts in buckets, four for each doubling, from a microsecond on."""

from __future__ import annotations

from math import log2
from typing import Final

BUCKETS: Final = 160
PER_OCTAVE: Final = 4
SHORTEST_S: Final = 2.0**-20


def bucket_of(seconds: float) -> int:
    """The bucket of this time; all that is shorter or longer than the last is in the first or the last."""
    if seconds <= SHORTEST_S:
        return 0
    return min(BUCKETS - 1, int(log2(seconds / SHORTEST_S) * PER_OCTAVE) + 1)


def sparse(buckets: list[int]) -> list[tuple[int, int]]:
    """Those that are not empty, with their counts."""
    return [(bucket, count) for bucket, count in enumerate(buckets) if count]


def quantile(histogram: list[tuple[int, int]], share: float) -> float | None:
    """Seconds that this share was not longer than: the upper edge of a bucket, a fifth too much at most. None: it is empty."""
    left, edge = share * sum(count for _, count in histogram), None
    for bucket, count in sorted(histogram):
        edge = SHORTEST_S * 2.0 ** (bucket / PER_OCTAVE)
        left -= count
        if left <= 0:
            break
    return edge
