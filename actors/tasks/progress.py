"""How far a map is, for people: a bar in a terminal, a line under a notebook's cell, elsewhere a line now and then."""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import Callable
from html import escape
from importlib import import_module
from time import monotonic
from typing import Any, NamedTuple, Protocol

from .current import ipython
from .streams import Stream, say

DRAWN_S = 0.1  # how often a terminal's bar is drawn again ...
SHOWN_S = 0.3  # ... a notebook's line ...
LOGGED_S = 10.0  # ... and a line is written to what is neither
RATE_S = 30.0  # over which the rate is taken
NAME_SHOWN = 24  # characters


class Count(NamedTuple):
    """How many items of a map are where."""

    done: int
    failed: int
    in_flight: int
    total: int | None  # None: nobody knows, or who said it was wrong

    @property
    def share(self) -> float | None:
        """Of the whole, what is done."""
        if self.total is None:
            return None
        return self.done / self.total if self.total else 1.0

    def in_words(self, rate: float = 0.0, *, is_over: bool = False) -> str:
        """`rate`: items per second. `is_over`: what has not ended will not."""
        words = [f"{self.done:,} done" if self.total is None else f"{self.done:,} of {self.total:,} done"]
        if self.share is not None:
            words.insert(0, f"{int(self.share * 100)} %")
        if self.in_flight and not is_over:
            words.append(f"{self.in_flight:,} in flight")
        if rate > 0:
            words.append(f"{rate:,.0f}/s" if rate >= 10 else f"{rate:.2g}/s")
            if self.total is not None and self.total > self.done and not is_over:
                words.append(f"{duration((self.total - self.done) / rate)} left")
        if self.failed:
            words.append(f"{self.failed:,} failed")
        return ", ".join(words)


def duration(seconds: float) -> str:
    """Such as 0:07, 12:30, 3:00:05."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


class Rate:
    """Items per second, over the last RATE_S."""

    def __init__(self, now: float) -> None:
        self._seen = deque([(now, 0)])

    def saw(self, done: int, now: float) -> float:
        seen = self._seen
        seen.append((now, done))
        while len(seen) > 2 and seen[1][0] <= now - RATE_S:
            seen.popleft()
        since, before = seen[0]
        return (done - before) / (now - since) if now > since else 0.0


class Display(Protocol):
    """Where it is shown."""

    every_s: float

    def show(self, words: str, share: float | None) -> None: ...
    def close(self, words: str, share: float | None) -> None:
        """The last word."""


class Progress:
    """Shows a count again and again, until it is closed."""

    def __init__(self, name: str, count: Callable[[], Count]) -> None:
        # The numbers are wanted, in a narrow terminal too.
        self._name = name if len(name) <= NAME_SHOWN else f"{name[: NAME_SHOWN - 1]}…"
        self._count = count
        self._display: Display | None = display_here()
        now = self._began = monotonic()
        self._rate = Rate(now)
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(self._display.every_s, self._tick)

    def _tick(self) -> None:
        count = self._count()
        words = count.in_words(self._rate.saw(count.done, monotonic()))
        self._draw(lambda display: display.show(f"{self._name}: {words}", count.share))
        if self._display is not None:
            self._timer = self._loop.call_later(self._display.every_s, self._tick)

    def close(self) -> None:
        """The last word, with what it took; nothing if there was nothing to count."""
        self._timer.cancel()
        count = self._count()
        took = monotonic() - self._began
        rate = count.done / took if took else 0.0
        words = f"{count.in_words(rate, is_over=True)}, in {duration(took)}"
        self._draw(lambda display: display.close(f"{self._name}: {words}" if count.done else "", count.share))

    def _draw(self, draw: Callable[[Display], None]) -> None:
        if self._display is None:
            return
        try:
            draw(self._display)
        except (
            Exception
        ) as error:  # a terminal that is gone, or the program's own sys.stderr, is no reason to end a map
            self._display = None
            say(f"progress cannot be shown any more: {type(error).__name__}: {error}", "warning")


def display_here() -> Display:
    """For where this program shows what it says."""
    if getattr(ipython(), "kernel", None) is not None:
        return NotebookLine(import_module("IPython.display").display)
    stream = Stream("stderr")
    if stream.is_terminal() and not hasattr(sys.stderr, "rich_proxied_file"):  # else a bar is there already
        return Bar()
    return Lines(stream)


class Lines:
    """In a log."""

    every_s = LOGGED_S

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def show(self, words: str, share: float | None) -> None:
        if words:
            self._stream.write(f"{words}\n")

    close = show


class Bar:
    """In a terminal; what the program prints meanwhile appears above it."""

    every_s = DRAWN_S

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as Bars

        console = Console(stderr=True)
        words = TextColumn("{task.description}", markup=False)
        # What goes to a file stays there: rich would write it to the terminal.
        to_terminal = Stream("stdout").is_terminal()
        self._bars = Bars(
            BarColumn(), words, console=console, auto_refresh=False, redirect_stdout=to_terminal
        )
        self._bar = self._bars.add_task("", total=None)
        self._bars.start()
        console.show_cursor(True)  # a program that is killed leaves the terminal as it was

    def show(self, words: str, share: float | None) -> None:
        total = None if share is None else 1.0
        self._bars.update(self._bar, description=words, completed=share or 0.0, total=total, refresh=True)

    def close(self, words: str, share: float | None) -> None:
        try:
            self._bars.update(self._bar, visible=bool(words))
            self.show(words, share)
        finally:
            self._bars.stop()


class NotebookLine:
    """Under the cell of a notebook."""

    every_s = SHOWN_S

    def __init__(self, display: Any) -> None:
        self._display = display
        self._shown: Any = None

    def show(self, words: str, share: float | None) -> None:
        value = "" if share is None else f' value="{share:.4f}"'
        data = {"text/plain": words, "text/html": f"<progress{value}></progress> {escape(words)}"}
        if self._shown is None:
            self._shown = self._display(data, raw=True, display_id=True)
        else:
            self._shown.update(data, raw=True)

    def close(self, words: str, share: float | None) -> None:
        if words or self._shown is not None:
            self.show(words, share)
