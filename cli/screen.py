"""What `dispycos top` shows: the sums first, then nodes, then what runs, in so many columns and lines."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, Final

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from dispycos.notices import counted

from .tables import STYLES, Cell, Column, make_table, state
from .words import clock, number, size, span

Row = Mapping[str, Any]
TABLES: Final = frozenset(("meta", "nodes", "servers", "clients"))
NODE: Final = (
    Column("NODE", least=8),
    Column("STATE"),
    Column("CPU", True),
    Column("MEMORY", True, rank=3),
    Column("SERVERS", True, rank=2),
    Column("RUNNING", True),
    Column("TASKS/S", True, rank=1),
    Column("DONE", True, rank=2),
    Column("FAILED", True),
    Column("CLIENT", least=6, rank=3),
    Column("WHY", least=10, rank=4),
)
SERVER: Final = (
    Column("TASK"),
    Column("FUNCTION", least=10),
    Column("SERVER", least=10, rank=2),
    Column("NODE", least=8, rank=1),
    Column("TIME", True),
    Column("CPU TIME", True, rank=3),
    Column("MEMORY", True, rank=2),
    Column("PID", True, rank=4),
)
UNSEEN: Final = ("closed",)
PLAIN: Final = Console()  # for its rules of breaking lines
TIGHT: Final = 0.9  # of memory


@dataclass(frozen=True)
class Sort:
    """`key` of a node and of a server; the largest first."""

    name: str
    node: Callable[[Row], Any]
    server: Callable[[Row], Any]


SORTS: Final = (
    Sort("load", lambda row: row["cpu"] or 0.0, lambda row: -(row["since"] or inf)),
    Sort("memory", lambda row: _memory_part(row) or 0.0, lambda row: row["memory"] or 0),
    Sort("rate", lambda row: row["rate"], lambda row: row["done"]),
    Sort("failed", lambda row: row["failed"], lambda row: row["failed"]),
)


@dataclass
class Snapshot:
    """Rows of one tick."""

    now: float
    meta: Row
    nodes: Sequence[Row]
    servers: Sequence[Row]
    clients: Mapping[str, Row]


def show(
    seen: Snapshot, width: int, height: int | None, sort: Sort = SORTS[0], note: str = ""
) -> RenderableType:
    """`height`: lines; None: as many as it takes. `note`: the last line."""
    nodes = sorted((row for row in seen.nodes if row["state"] not in UNSEEN), key=lambda row: row["id"])
    nodes.sort(key=sort.node, reverse=True)
    servers = sorted((row for row in seen.servers if row["function"]), key=lambda row: row["id"])
    servers.sort(key=sort.server, reverse=True)
    head = _sums(seen, width)
    parts: list[RenderableType] = [*head, Text()]
    room = None if height is None else max(2, height - len(head) - 6 - bool(note))
    most = _share(room, len(nodes), len(servers))
    parts += _part(NODE, [_node(row, seen) for row in nodes], most[0], width, "node")
    if servers:
        parts += [Text(), *_part(SERVER, [_server(row, seen.now) for row in servers], most[1], width, "task")]
    elif nodes:
        parts += [Text(), Text("nothing runs", style="dim")]
    if note:
        used = (
            len(head)
            + 1
            + sum(part.row_count + 1 if isinstance(part, Table) else 1 for part in parts[len(head) + 1 :])
        )
        parts += [Text()] * max(0, (height or 0) - used - 1)
        parts.append(Text(note, style="dim", no_wrap=True, overflow="ellipsis"))
    return Group(*parts)


def _share(room: int | None, nodes: int, tasks: int) -> tuple[int, int]:
    """How many of each have room; what the one does not need is the other's."""
    if room is None or nodes + tasks <= room:
        return nodes, tasks
    of_nodes = min(nodes, max(1, room // 2, room - tasks))
    return of_nodes, max(1, room - of_nodes)


def _part(
    columns: Sequence[Column], rows: list[Sequence[Cell]], most: int, width: int, what: str
) -> list[RenderableType]:
    shown: list[RenderableType] = [make_table(columns, rows[:most], width)]
    if len(rows) > most:
        shown.append(Text(f"{most:,} of {counted(len(rows), what)} shown", style="dim"))
    return shown


def _sums(seen: Snapshot, width: int) -> list[Text]:
    meta = seen.meta
    first = [
        counted(meta["nodes"], "node"),
        f"{meta['servers_busy']:,} of {counted(meta['servers'], 'server')} busy",
    ]
    if meta["cpu"] is not None:
        first.append(f"CPU {meta['cpu']:.0f} %")
    if meta["memory"]:
        first.append(f"memory {size(meta['memory_used'])} of {size(meta['memory'])}")
    states = ("running", "queued", "done", "failed", "lost", "cancelled")
    second = Text()
    for name in states:
        count = meta[name]
        if count or name in states[:4]:
            style = STYLES.get(name, "") if count else ""
            second.append("  " if second else "").append(f"{name} {count:,}", style=style)
    second.append(f"  {meta['rate']:,.1f} tasks/s")
    return [
        _ends(Text("  ".join(first), style="bold"), clock(seen.now, seen.now), width),
        *second.wrap(PLAIN, width),
    ]


def _ends(left: Text, right: str, width: int) -> Text:
    """The one at the left end of the line, the other at the right one, if there is room."""
    if left.cell_len + len(right) + 2 <= width < 1000:
        left.append(" " * (width - left.cell_len - len(right)) + right)
    else:
        left.truncate(width, overflow="ellipsis")
    return left


def _node(row: Row, seen: Snapshot) -> Sequence[Cell]:
    part, client = _memory_part(row), seen.clients.get(row["client"] or "")
    used = row["memory_total"] - row["memory"] if part is not None else None
    memory = f"{size(used)} of {size(row['memory_total'])}" if used is not None else ""
    return (
        row["id"],
        state(row["state"]),
        f"{row['cpu']:.0f} %" if row["cpu"] is not None else "",
        Text(memory, style=STYLES["queued"] if part is not None and part > TIGHT else ""),
        number(row["servers"]),
        number(row["running"]),
        f"{row['rate']:,.1f}",
        number(row["done"]),
        Text(number(row["failed"]), style=STYLES["failed"] if row["failed"] else ""),
        client["name"] if client is not None else "",
        row["text"] or _absent(row["absent"]),
    )


def _absent(servers: Sequence[tuple[int, str]]) -> str:
    """Of servers that should be there."""
    return f"{counted(len(servers), 'server')} not there: {servers[0][1]}" if servers else ""


def _server(row: Row, now: float) -> Sequence[Cell]:
    return (
        row["task"] or "",
        row["function"],
        row["name"],
        row["node"] or "",
        span(_time(row, now)),
        span(row["cpu_s"]),
        size(row["memory"]),
        str(row["pid"] or ""),
    )


def _time(row: Row, now: float) -> float | None:
    """For how long it has run."""
    return max(0.0, now - row["since"]) if row["since"] is not None else None


def _memory_part(row: Row) -> float | None:
    total, free = row["memory_total"], row["memory"]
    return 1.0 - free / total if total and free is not None else None
