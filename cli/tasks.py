"""`dispycos tasks`: lists those that ended, run and wait, as /api/v1/tasks does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from dispycos.config import NothingFound, TasksSettings
from dispycos.notices import counted

from .tables import Column, print_table, state
from .viewing import Viewing, viewing
from .words import clock, span

Row = Mapping[str, Any]
SHOWN: Final = 40  # the newest
NAMES: Final = frozenset(("tasks", "functions", "nodes"))
COLUMNS: Final = (
    Column("TASK"),
    Column("FUNCTION", least=8),
    Column("STATE"),
    Column("NODE", least=6),
    Column("START"),
    Column("RUN", is_number=True),
    Column("ERROR", least=12),
)
ORDER: Final = {"running": 1, "queued": 2}  # after those that have ended: what is now stands at the end


def run(settings: TasksSettings) -> int:
    """Exit code 0, also when there is no such task."""
    return asyncio.run(_run(settings))


async def _run(settings: TasksSettings) -> int:
    async with viewing(settings, "tasks") as view:
        await view.look(NAMES)
        check_node(view, settings.node)
        rows = choose(list(view.tables.rows("tasks").values()), settings)
        told = view.tables.snapshot(["tasks"])["tasks"]
        shown = newest(rows, settings)
        if settings.json:
            rest = {name: told[name] for name in ("total", "kept", "dropped_until")}
            print(json.dumps({"rows": shown, **rest}, indent=2))
            return 0
        if shown:
            now = view.tables.now
            print_table(COLUMNS, [cells(row, now) for row in shown])
        print(sum_of(view, settings, len(shown), len(rows), told["dropped_until"]))
    return 0


def choose(rows: Sequence[Row], settings: TasksSettings) -> list[Row]:
    """Those that are asked for, in the order in which they are shown."""
    states = wanted_states(settings)
    chosen = [
        row
        for row in rows
        if (not states or row["state"] in states)
        and (settings.function is None or row["function"] == settings.function)
        and (settings.node is None or is_at(row["node"], settings.node))
    ]
    return sorted(chosen, key=lambda row: (ORDER.get(row["state"], 0), row["end"] or row["start"] or 0.0))


def wanted_states(settings: TasksSettings) -> set[str]:
    wanted = {name for name in ("failed", "running", "queued") if getattr(settings, name)}
    return wanted | ({"lost"} if settings.failed else set())  # for who asks what went wrong they are the same


def is_at(node: str | None, wanted: str) -> bool:
    """NAME or NAME:PORT."""
    return node is not None and wanted in (node, node.rpartition(":")[0])


def newest(rows: list[Row], settings: TasksSettings) -> list[Row]:
    limit = settings.limit
    if limit is None:
        limit = 0 if settings.json else SHOWN
    return rows[-limit:] if limit else rows


def cells(row: Row, now: float) -> Sequence[Any]:
    run = row["run"]
    if row["state"] == "running" and row["start"] is not None:
        run = max(0.0, now - row["start"])
    return (
        row["id"],
        row["function"],
        state(row["state"]),
        row["node"] or "",
        clock(row["start"], now),
        span(run),
        row["error"] or row["why"],
    )


def sum_of(view: Viewing, settings: TasksSettings, shown: int, found: int, dropped: float | None) -> str:
    """How many there are beside these. It never lies by leaving out."""
    states = wanted_states(settings)
    names = " or ".join(sorted(states, key=("running", "queued", "failed", "lost").index))
    kind = f"{names} task" if names else "task"
    of = "".join(
        f" {word} {value}" for word, value in (("of", settings.function), ("at", settings.node)) if value
    )
    total = found if settings.node is not None else max(found, total_of(view, settings.function, states))
    if not total:
        return f"no {kind}{of}"
    words = f"{shown:,} of {counted(total, kind)}{of} shown"
    if found < total and dropped is not None:
        words += f"; of those that ended before {clock(dropped, view.tables.now)} only counters are kept"
    if shown < found:
        words += "; --limit 0 shows all that are kept"
    return words


def total_of(view: Viewing, function: str | None, states: set[str]) -> int:
    """By the counters, which are true whatever is kept."""
    meta = view.tables.rows("meta")["cluster"]
    row = meta if function is None else view.tables.rows("functions").get(function)
    if row is None:
        return 0
    if not states:
        return int(row["submitted" if function is None else "count"])
    return sum(int(row[name]) for name in states)


def check_node(view: Viewing, wanted: str | None) -> None:
    """Raises NothingFound, which names those that there are."""
    nodes = list(view.tables.rows("nodes"))
    if wanted is not None and not any(is_at(node, wanted) for node in nodes):
        there = f"there are {', '.join(sorted(nodes)[:10])}" if nodes else "there is none"
        raise NothingFound(f"--node {wanted}: no such node is in the cluster", there)
