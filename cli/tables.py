"""Tables for a terminal or a pipe: as wide as the one is; nothing is cut for the other."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Final, Literal, NamedTuple

from rich.console import Console, RenderableType
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
    """`least`: so many characters it keeps on a narrow terminal; 0: all of it. `rank`: where there is no room for all columns
    those of the highest go first, and those that are empty; those of rank 0 stay.
    """

    title: str
    is_number: bool = False
    least: int = 0
    rank: int = 0


Cell = str | Text
GAP: Final = 2  # blanks between columns


def make_table(columns: Sequence[Column], rows: Iterable[Sequence[Cell]], width: int) -> Table:
    """With the columns that have room."""
    cells = [[cell if isinstance(cell, Text) else Text(cell) for cell in row] for row in rows]
    widths = [
        max([len(column.title), *(row[at].cell_len for row in cells)]) for at, column in enumerate(columns)
    ]
    least = [
        min(column.least, wide) if column.least else wide
        for column, wide in zip(columns, widths, strict=True)
    ]
    kept = [
        at for at, column in enumerate(columns) if not column.rank or any(row[at].cell_len for row in cells)
    ]
    while sum(least[at] + GAP for at in kept) - GAP > width:
        last = max(kept, key=lambda at: columns[at].rank)
        if not columns[last].rank:
            break
        kept.remove(last)
    spare = sum(widths[at] + GAP for at in kept) - GAP - width
    for at in sorted(kept, key=lambda at: widths[at] - least[at], reverse=True):  # the widest gives way first
        given = max(0, min(spare, widths[at] - least[at]))
        widths[at] -= given
        spare -= given
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 0, 0, GAP))
    for at in kept:
        justify: Literal["left", "right"] = "right" if columns[at].is_number else "left"
        table.add_column(
            columns[at].title, justify=justify, no_wrap=True, overflow="ellipsis", width=widths[at]
        )
    for row in cells:
        table.add_row(*(row[at] for at in kept))
    return table


def state(name: str) -> Text:
    return Text(name, style=STYLES.get(name, ""))


def print_table(columns: Sequence[Column], rows: Iterable[Sequence[Cell]]) -> None:
    """To standard output."""
    console = make_console()
    print_bare(console, make_table(columns, rows, console.width))


def print_bare(console: Console, shown: RenderableType) -> None:
    """Without the blanks that fill lines up."""
    with console.capture() as capture:
        console.print(shown)
    print("\n".join(line.rstrip() for line in capture.get().splitlines()))


def make_console() -> Console:
    """Colours are for terminals, and for those without NO_COLOR."""
    is_terminal = sys.stdout.isatty()
    return Console(highlight=False, markup=False, width=None if is_terminal else PIPE_WIDTH)
