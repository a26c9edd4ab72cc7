"""What client.map does: a task for each call of an iterable, some way ahead of who takes the values as the tasks end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from reprlib import Repr
from typing import Any

from .ends import add_note, without_our_frames
from .handle import Handle
from .streams import Stream

AHEAD_MAX = 4096  # tasks whose values were not taken yet: an iterable may be endless, and its reader slow
SLICE_S = 0.005  # submitting goes on for so long before the loop has its turn
REDRAWN_S = 0.1  # how often a terminal's line is written again
ITEM_MAX = 200  # characters of an item that are told with its error
LOGGED_S = 10.0  # how often a line is written to what is no terminal

Args = tuple[Any, ...]


async def values_of(
    submit: Callable[..., Handle[Any]], calls: Iterator[Args], progress: Progress | None = None
) -> AsyncGenerator[tuple[Any, Any], None]:
    """(argument, value) as the tasks end. The first error is raised here; whatever ends this ends the tasks that are left."""
    ahead = Ahead(submit, calls)
    try:
        while True:
            ahead.fill()
            if ahead.ended.empty() and ahead.may_grow:
                await asyncio.sleep(0)  # what was submitted leaves, and what has ended is heard of
                continue
            if not ahead.waiting:
                return
            handle = await ahead.ended.get()
            argument = ahead.waiting.pop(handle)
            try:
                value = handle.result()
            except Exception as error:
                add_note(error, f"for the item {_in_words(argument)}")
                raise
            if progress is not None:
                progress.count(len(ahead.waiting) - ahead.ended.qsize())
            yield argument, value
    except BaseException as error:
        without_our_frames(error)
        raise  # alone it adds no line to the traceback
    finally:
        ahead.terminate()
        if progress is not None:
            progress.close()


def _in_words(item: Any) -> str:
    words = Repr()
    words.maxstring = words.maxother = words.maxlong = ITEM_MAX
    try:
        return words.repr(item)
    except Exception:  # it takes what is called as a builtin type for one
        return f"of type {type(item).__name__}"


class Ahead:
    """The tasks that were submitted and whose values were not taken."""

    def __init__(self, submit: Callable[..., Handle[Any]], calls: Iterator[Args]) -> None:
        self.waiting: dict[Handle[Any], Any] = {}
        self.ended: asyncio.Queue[Handle[Any]] = asyncio.Queue()
        self._submit = submit
        self._calls = calls
        self._exhausted = False
        self._clock = asyncio.get_running_loop().time

    @property
    def may_grow(self) -> bool:
        return not self._exhausted and len(self.waiting) < AHEAD_MAX

    def fill(self) -> None:
        """Submit for a moment: a slow iterable must not hold up the values that are there."""
        until = self._clock() + SLICE_S
        while self.may_grow:
            args = next(self._calls, None)
            if args is None:
                self._exhausted = True
                return
            handle = self._submit(*args)
            self.waiting[handle] = args[0] if len(args) == 1 else args
            handle.add_done_callback(self.ended.put_nowait)
            if self._clock() >= until:
                return

    def terminate(self) -> None:
        """Nobody wants the rest any more. Those that have ended are left alone: their client may have left since."""
        for handle in self.waiting:
            if handle.is_alive():
                handle.terminate()


class Progress:
    """A count for people: on a terminal one line that is written over, elsewhere a line now and then."""

    def __init__(self) -> None:
        self._stream = Stream("stderr")
        self._is_terminal = self._stream.is_terminal()
        self._clock = asyncio.get_running_loop().time
        self._next = self._clock() + (0.0 if self._is_terminal else LOGGED_S)
        self._width = 0
        self._done = 0
        self._in_flight = 0

    def count(self, in_flight: int) -> None:
        """One more is done."""
        self._done += 1
        self._in_flight = in_flight
        now = self._clock()
        if now >= self._next:
            self._next = now + (REDRAWN_S if self._is_terminal else LOGGED_S)
            self._write("" if self._is_terminal else "\n")

    def close(self) -> None:
        """The last word, if there was anything to count."""
        if self._done:
            self._write("\n")

    def _write(self, end: str) -> None:
        text = f"{self._done} done, {self._in_flight} in flight"
        start = "\r" if self._is_terminal else ""
        self._stream.write(f"{start}{text.ljust(self._width)}{end}")  # no longer line is left behind it
        self._width = len(text) if self._is_terminal else 0
