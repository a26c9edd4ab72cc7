"""How much of an iterable is read ahead, and how many of its items go to a server together: by how long they run.

A task costs client and server about 0.1 ms, however short it is. So items that take less than some milliseconds go
together, as many as take CHUNK_S; others are a task each. Towards the end of an iterable with a length chunks become
smaller, so that no server idles while another one has a whole chunk left: each is a share of what is left then ("guided
self-scheduling", Polychronopoulos and Kuck, 1987).
"""

from __future__ import annotations

from typing import Final

CHUNK_S: Final = 0.01  # that a chunk is to run; one that has run twice as long ends, and gives back the rest
LEAST_S: Final = 0.001  # it is not made smaller than that towards the end
CHUNK_MAX: Final = 4096  # items
# Pickled, of its items or of their values; half of a call that goes with its Run.
CHUNK_BYTES_MAX: Final = 128 * 1024
SHARE: Final = 128  # of what is left a chunk is one such part at most: two for each of 64 servers
AHEAD_MAX: Final = (
    4096  # items whose values were not taken yet: an iterable may be endless, and its reader slow ...
)
AHEAD_OF_CHUNKS_MAX: Final = 32768  # ... and where many go together
FIRST: Final = 64  # tasks, before it is known how long one runs ...
FIRST_S: Final = 0.005  # ... and twice as many after each such time without an end: so they are not short
FADE: Final = 8  # tasks after which one has faded to a third


class Pacing:
    """Told how long tasks ran, it says how much goes together and how much is read ahead.

    Parameters
    ----------
    chunksize: so many items go together, whatever they take; None: by their run time.
    """

    def __init__(self, chunksize: int | None) -> None:
        self.chunksize = chunksize
        self._runs = 0
        self._seconds = 0.0  # an item takes, in the mean
        self._bytes = 0.0  # its argument or its value, whichever is larger

    def saw(self, items: int, seconds: float, size: int) -> None:
        """A task with so many items ran so long; `size`: bytes that it was given, or gave, whichever is more."""
        self._runs = min(self._runs + 1, FADE)
        self._seconds += (seconds / items - self._seconds) / self._runs
        self._bytes += (size / items - self._bytes) / self._runs

    @property
    def is_probing(self) -> bool:
        """Nothing is known of the run time."""
        return self.chunksize is None and not self._runs

    def chunk(self, left: int | None) -> int:
        """How many items the next task gets; `left`: how many are not given out yet, None if nobody knows."""
        if self.chunksize is not None:
            return self.chunksize
        if not self._runs:
            return 1
        items = self._in(CHUNK_S)
        if left is not None:
            share = -(-left // SHARE)
            items = min(items, max(share, self._in(LEAST_S)))
        return max(1, min(items, CHUNK_MAX, int(CHUNK_BYTES_MAX / max(self._bytes, 1.0))))

    def _in(self, seconds: float) -> int:
        """Items that can be run in this time."""
        return int(min(seconds / self._seconds, CHUNK_MAX)) if self._seconds > 0 else CHUNK_MAX

    def ahead(self, waited: float) -> int:
        """How many items may be ahead of who takes the values; `waited`: seconds since the first one went out."""
        if self.is_probing:
            return min(FIRST << min(int(waited / FIRST_S), 16), AHEAD_MAX)
        if self.chunksize is not None:
            return max(AHEAD_MAX, SHARE * self.chunksize)
        return max(AHEAD_MAX, min(SHARE * self.chunk(None), AHEAD_OF_CHUNKS_MAX))
