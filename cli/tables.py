"""Tables for a terminal or a pipe: as wide as the one is; nothing is cut for the other."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Final, Literal, NamedTuple

from rich.console import Console
from rich.table import Table
from rich.text import Text

PIPE_WIDTH: Final = 4096
STYLES: Final = {  # a colour means a state; what is normal has none
    "failed": "red",
    "lost": "magenta",
    "queued": "yellow",
    "suspended": "dim",
    "cancelled": "dim",
    "closed": "dim",
    "ended": "dim",
    "silent": "magenta",
}


class Column(NamedTuple):
    """`least`: so many characters it keeps on a narrow terminal; 0: all of it."""

    title: str
    is_number: bool = False
    least: int = 0


def make_table(columns: Sequence[Column], rows: Iterable[Sequence[str | Text]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for title, is_number, least in columns:
        justify: Literal["left", "right"] = "right" if is_number else "left"
        table.add_column(
            title,
            justify=justify,
            no_wrap=True,
            overflow="ellipsis",
            min_width=least or None,
            ratio=None,
        )
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else Text(cell) for cell in row))
    return table


def state(name: str) -> Text:
    return Text(name, style=STYLES.get(name, ""))


def print_table(columns: Sequence[Column], rows: Iterable[Sequence[str | Text]]) -> None:
    """To standard output."""
    console = make_console()
    with console.capture() as capture:
        console.print(make_table(columns, rows))
    print("\n".join(line.rstrip() for line in capture.get().splitlines()))


def make_console() -> Console:
    """Colours are for terminals, and for those without NO_COLOR."""
    is_terminal = sys.stdout.isatty()
    return Console(highlight=False, markup=False, width=None if is_terminal else PIPE_WIDTH)
