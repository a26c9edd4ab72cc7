"""The items of a map: what they are, and how they come, read on the loop when they are wanted, or ahead of that in a thread."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import AsyncIterable, Callable, Iterable, Iterator, Sequence
from contextvars import copy_context
from functools import partial
from itertools import islice
from time import monotonic
from typing import Any, Final

from .handle import Handle
from .styles import SyncOneByOne

LATE_S: Final = 0.005  # an iterable from which nothing came for so long is a slow one


def items_of(iterables: Sequence[Any]) -> Iterator[Any]:
    """What a map calls its function with: an item of the one iterable, or a tuple of one of each; the shortest ends it."""
    for iterable in iterables:
        if isinstance(iterable, AsyncIterable) and not isinstance(iterable, SyncOneByOne):
            raise TypeError(
                f"map() reads plain iterables, and {type(iterable).__name__} is an async one: "
                f"[item async for item in ...] makes a list of it"
            )
        if isinstance(iterable, Handle) or not (
            isinstance(iterable, Iterable) or hasattr(iterable, "__getitem__")
        ):
            hint = " (wait for its value first)" if isinstance(iterable, Handle) else ""
            raise TypeError(f"map() needs iterables beside the function, not {type(iterable).__name__}{hint}")
    return zip(*iterables, strict=False) if len(iterables) > 1 else iter(iterables[0])


def total_of(iterables: Iterable[Any]) -> int | None:
    """How many items they have together, if one of them says it; it may be wrong."""
    lengths = []
    for iterable in iterables:
        try:
            lengths.append(len(iterable))
        except Exception:  # it has none, or the user's own __len__ failed: it is a hint only
            continue
    return min(lengths, default=None)


class Items:
    """Of an iterator that is read on the loop, which it holds up as long as it takes.

    is_exhausted: there will be none any more. is_empty: there is none at the moment, and `wake` will be called. is_late: and
    the next one takes its time, so that those that are there should not wait for it.
    """

    is_exhausted = is_empty = is_late = False

    def __init__(self, iterator: Iterator[Any]) -> None:
        self.iterator = iterator

    def read(self, into: list[Any], size: int, until: float, ahead: int) -> None:
        """Add items until there are `size`, or it is that time; `ahead`: so many are of use at the moment.

        Raises
        ------
        Exception: what the iterator raised.
        """
        if len(into) >= size:
            return
        for item in self.iterator:
            into.append(item)
            if len(into) >= size or monotonic() >= until:
                break
        else:
            self.is_exhausted = True

    def close(self) -> None:
        """Nobody wants more."""


class FromThread(Items):
    """Of an iterator that is read in a thread of its own: it may block, and wait for tasks.

    It is read as far ahead as is of use, and no item further.

    wake: called in that thread.
    """

    def __init__(self, iterator: Iterator[Any], wake: Callable[[], object]) -> None:
        super().__init__(iterator)
        self._wake = wake
        self._came: deque[Any] = deque()
        self._end: list[BaseException | None] = []  # None: there are no more
        self._taken_at = 0.0  # when there was one
        self._taken = 0
        self._wanted = 0  # items that may have come by now
        self._is_closed = False
        self._go = threading.Event()
        self._context = copy_context()  # the caller's, as a plain loop has it
        self._thread: threading.Thread | None = None

    def read(self, into: list[Any], size: int, until: float, ahead: int) -> None:
        before, came = len(into), self._came
        if before >= size:
            return
        self._want(self._taken + max(ahead, size - before))
        self.is_empty = True  # first: what comes from now on wakes
        has_end, now = bool(self._end), monotonic()
        while came and len(into) < size:
            into.append(came.popleft())
        if len(into) > before:
            self._taken += len(into) - before
            self._taken_at = now
        if came or len(into) >= size:
            self.is_empty = self.is_late = False
        elif has_end:
            self.is_empty, self.is_exhausted = False, True
            error = self._end[0]
            if error is not None:
                raise error
        else:
            self.is_late = now >= self._taken_at + LATE_S

    def close(self) -> None:
        self._is_closed = self.is_empty = True
        self._go.set()

    def _want(self, wanted: int) -> None:
        if wanted <= self._wanted:
            return
        self._wanted = wanted
        self._go.set()
        if self._thread is None:
            run = partial(self._context.run, self._run)
            self._thread = threading.Thread(target=run, name="dispycos-map", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        try:
            self._read_all()
        except BaseException as error:  # it is raised where the values are taken
            self._end.append(error)
        else:
            self._end.append(None)
        if not self._is_closed:
            self._wake()

    def _read_all(self) -> None:
        iterator, came, count = self.iterator, self._came, 0
        del self.iterator
        while not self._is_closed:
            self._go.clear()
            wanted = self._wanted
            if count == wanted:
                self._go.wait()
                continue
            for item in islice(iterator, wanted - count):
                came.append(item)
                count += 1
                if self.is_empty:
                    if self._is_closed:
                        return
                    self.is_empty = False
                    self._wake()
            if count < wanted:
                return
