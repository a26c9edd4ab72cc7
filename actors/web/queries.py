"""What is asked of a table: which rows, in which order, how many."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import isfinite
from typing import Any, Final

Row = dict[str, Any]
LIMIT: Final = 1000
LIMIT_MAX: Final = 20_000
FILTERS: Final = ("function", "state", "node", "server", "client", "level", "logger", "kind")
PARAMETERS: Final = {
    **dict.fromkeys(FILTERS, "only rows with this value"),
    "text": "only rows that contain it, in any case",
    "longer": "only tasks that ran for so many seconds, or more",
    "shorter": "only tasks that ran for so many seconds, or less",
    "sort": "a column; with - before it the largest first; what is not known is last",
    "limit": f"rows, at most {LIMIT_MAX:,}; {LIMIT:,} if it is not given",
    "offset": "rows that are left out at the start",
}


class BadQuery(ValueError):
    """In words, for who asked."""


def choose(rows: Iterable[Row], query: Mapping[str, str]) -> list[Row]:
    """Those that fit, at most `limit`. A parameter that is empty fits all. Raises BadQuery, which names the parameter."""
    return choose_and_count(rows, query)[0]


def choose_and_count(rows: Iterable[Row], query: Mapping[str, str]) -> tuple[list[Row], int]:
    """And how many fit, whatever the limit."""
    unknown = sorted(set(query) - set(PARAMETERS))
    if unknown:
        raise BadQuery(f"there is no parameter {unknown[0][:100]!r}; there are {', '.join(PARAMETERS)}")
    query = {name: value for name, value in query.items() if value}
    offset, limit = _number(query, "offset", 0), _number(query, "limit", LIMIT)
    if limit > LIMIT_MAX:
        raise BadQuery(
            f"limit must be at most {LIMIT_MAX:,}, not {limit:,}; offset gives the rows after them"
        )
    chosen = _sorted(_fitting(rows, query), query.get("sort", ""))
    return chosen[offset : offset + limit], len(chosen)


def _fitting(rows: Iterable[Row], query: Mapping[str, str]) -> list[Row]:
    fitting = list(rows)
    for name in FILTERS:
        if name in query:
            fitting = [row for row in fitting if str(row.get(name)) == query[name]]
    if "longer" in query:
        least = _seconds(query, "longer")
        fitting = [row for row in fitting if row.get("run") is not None and row["run"] >= least]
    if "shorter" in query:
        most = _seconds(query, "shorter")
        fitting = [row for row in fitting if row.get("run") is not None and row["run"] <= most]
    text = query.get("text", "").lower()
    return [row for row in fitting if _has(row, text)] if text else fitting


def _has(row: Row, text: str) -> bool:
    return any(text in str(value).lower() for value in row.values() if value is not None)


def _sorted(rows: list[Row], order: str) -> list[Row]:
    name = order.removeprefix("-")
    if not order or not rows:
        return rows
    if name not in rows[0]:
        raise BadQuery(f"sort: there is no column {name[:100]!r}; there are {', '.join(rows[0])}")
    known = [row for row in rows if row.get(name) is not None]
    known.sort(key=lambda row: _rank(row[name]), reverse=order.startswith("-"))
    return known + [row for row in rows if row.get(name) is None]


def _rank(value: object) -> tuple[int, Any]:
    """Numbers before texts."""
    return (0, value) if isinstance(value, int | float) else (1, str(value))


def _number(query: Mapping[str, str], name: str, default: int) -> int:
    value = query.get(name)
    if value is None:
        return default
    if not (value.isascii() and value.isdecimal() and len(value) < 10):
        raise BadQuery(f"{name} must be a whole number, not {value[:100]!r}")
    return int(value)


def _seconds(query: Mapping[str, str], name: str) -> float:
    try:
        value = float(query[name])
    except ValueError:
        value = float("nan")
    if not isfinite(value):
        raise BadQuery(f"{name} must be seconds, not {query[name][:100]!r}")
    return value
