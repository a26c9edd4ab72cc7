"""What people see of a map that is under way: in a terminal, in a notebook, in a log."""

from __future__ import annotations

import asyncio
import contextlib
import io
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from dispycos.actors.tasks.progress import Bar, Count, Lines, NotebookLine, Progress, Rate, duration

pytestmark = pytest.mark.timeout(20)

SHOW_CURSOR = "\x1b[?25h"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def common_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")


def test_a_count_in_words() -> None:
    assert Count(0, 0, 64, None).in_words() == "0 done, 64 in flight"
    assert Count(1500, 2, 64, None).in_words(12345.6) == "1,500 done, 64 in flight, 12,346/s, 2 failed"
    assert Count(1, 0, 2, 3).in_words(0.5) == "33 %, 1 of 3 done, 2 in flight, 0.5/s, 0:04 left"
    assert Count(3, 0, 0, 3).in_words(100.0) == "100 %, 3 of 3 done, 100/s"
    assert Count(1, 0, 2, 3).in_words(0.5, is_over=True) == "33 %, 1 of 3 done, 0.5/s", "the rest was ended"
    assert Count(999, 0, 1, 1000).in_words().startswith("99 %, 999"), "not all before it is all"
    assert Count(0, 0, 0, 0).share == 1.0


def test_a_duration_in_words() -> None:
    assert [duration(s) for s in (0.4, 59.6, 750, 10_805)] == ["0:00", "1:00", "12:30", "3:00:05"]


def test_a_rate_is_that_of_the_last_half_minute() -> None:
    rate = Rate(0.0)
    assert rate.saw(0, 0.0) == 0.0
    assert rate.saw(100, 10.0) == 10.0
    for now in range(11, 100):
        last = rate.saw(100 + 2 * (now - 10), float(now))
    assert last == 2.0


def shown(
    stream: io.StringIO, counts: list[Count], monkeypatch: pytest.MonkeyPatch, every_s: float = 0.001
) -> str:
    """What is written for these counts, one after the other, and at the end the last one again."""
    for display in (Lines, Bar, NotebookLine):
        monkeypatch.setattr(display, "every_s", every_s)

    async def scene() -> None:
        left = list(counts)
        seen = asyncio.Event()

        def count() -> Count:
            if len(left) == 1:
                seen.set()
                return left[0]
            return left.pop(0)

        progress = Progress("work", count)
        await seen.wait()
        progress.close()
        await asyncio.sleep(3 * every_s)

    with contextlib.redirect_stderr(stream):
        asyncio.run(scene())
    return stream.getvalue()


COUNTS = [Count(1, 0, 2, 4), Count(2, 1, 2, 4), Count(4, 1, 0, 4)]


def test_in_a_log_it_is_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = shown(io.StringIO(), COUNTS, monkeypatch).splitlines()
    assert len(lines) == 4
    assert lines[0].startswith("work: 25 %, 1 of 4 done, 2 in flight, ")
    assert lines[1].endswith(", 1 failed")
    assert lines[-1].startswith("work: 100 %, 4 of 4 done, ") and lines[-1].endswith(", 1 failed, in 0:00")


def test_of_a_short_map_a_log_has_the_last_word_only() -> None:
    async def scene() -> None:
        progress = Progress("work", lambda: Count(3, 0, 0, None))
        await asyncio.sleep(0.02)
        progress.close()

    stream = io.StringIO()
    with contextlib.redirect_stderr(stream):
        asyncio.run(scene())
    assert stream.getvalue().startswith("work: 3 done, ") and stream.getvalue().count("\n") == 1


def test_a_long_name_leaves_room_for_the_numbers() -> None:
    async def scene() -> None:
        Progress("name_" * 20, lambda: Count(3, 0, 0, None)).close()

    stream = io.StringIO()
    with contextlib.redirect_stderr(stream):
        asyncio.run(scene())
    assert stream.getvalue().startswith("name_name_name_name_nam…: 3 done, ")


def test_of_nothing_there_is_no_word(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene() -> None:
        Progress("work", lambda: Count(0, 0, 0, None)).close()

    stream = io.StringIO()
    with contextlib.redirect_stderr(stream):
        asyncio.run(scene())
    assert stream.getvalue() == ""


def test_in_a_terminal_it_is_a_bar_that_leaves_the_cursor(monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown(Terminal(), COUNTS, monkeypatch)
    assert "work: 25 %, 1 of 4 done" in text and "━" in text
    assert "work: 100 %, 4 of 4 done" in text and text.endswith("\n" + SHOW_CURSOR)
    assert text.index(SHOW_CURSOR) < text.index("25 %"), "so also if the program is killed"


def test_what_a_program_prints_to_a_file_stays_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """rich puts its own objects in the place of both streams, for the terminal of one of them."""
    out, err = io.StringIO(), Terminal()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        bar = Bar()
        print("a result")
        print("a remark", file=sys.stderr)
        bar.close("over", 1.0)
        print("another")
    assert out.getvalue() == "a result\nanother\n"
    assert "a remark" in err.getvalue() and "a result" not in err.getvalue()


def test_beside_a_bar_there_is_no_second_one(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene() -> tuple[Any, Any]:
        first, second = (Progress("work", lambda: Count(1, 0, 0, 1)) for _ in range(2))
        displays = first._display, second._display
        second.close()
        first.close()
        return displays

    with contextlib.redirect_stderr(Terminal()):
        first, second = asyncio.run(scene())
    assert (type(first), type(second)) == (Bar, Lines)


class Notebook:
    """As much of IPython as is looked at."""

    def __init__(self) -> None:
        self.shown: list[tuple[dict[str, str], dict[str, Any]]] = []
        self.updates: list[dict[str, str]] = []

    def display(self, data: dict[str, str], **options: Any) -> Any:
        self.shown.append((data, options))
        return SimpleNamespace(update=lambda data, raw: self.updates.append(data))


def test_in_a_notebook_it_is_one_line_that_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = Notebook()
    shell = SimpleNamespace(kernel=object())
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(display=notebook.display))
    counts = [Count(1, 0, 2, None), *COUNTS]
    assert shown(io.StringIO(), counts, monkeypatch) == ""
    ((data, options),) = notebook.shown
    assert options == {"raw": True, "display_id": True}
    assert data["text/plain"].startswith("work: 1 done, 2 in flight, ")
    assert data["text/html"].startswith("<progress></progress> work: 1 done")
    assert len(notebook.updates) == 4
    assert notebook.updates[-1]["text/html"].startswith('<progress value="1.0000"></progress> work: 100 %')


def test_a_program_without_standard_error_counts_in_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene() -> None:
        monkeypatch.setattr("sys.stderr", None)
        Progress("work", lambda: Count(1, 0, 0, 1)).close()

    asyncio.run(scene())


def test_where_nothing_can_be_drawn_any_more_that_is_said_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_: object) -> None:
        raise OSError("the terminal is gone")

    async def scene(show: Callable[..., None]) -> None:
        monkeypatch.setattr(Lines, "every_s", 0.001)
        monkeypatch.setattr(Lines, "show", show)
        progress = Progress("work", lambda: Count(1, 0, 0, 1))
        await asyncio.sleep(0.02)
        progress.close()

    asyncio.run(scene(fails))
    assert [record.message for record in caplog.records] == [
        "progress cannot be shown any more: OSError: the terminal is gone"
    ]
