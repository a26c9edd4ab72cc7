"""What is asked of a table: which rows, in which order, how many."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

Row = dict[str, Any]
LIMIT: Final = 1000
LIMIT_MAX: Final = 20_000
FILTERS: Final = ("function", "state", "node", "server", "client", "level", "logger", "kind")


class BadQuery(ValueError):
    """In words, for who asked."""


def choose(rows: Iterable[Row], query: Mapping[str, str]) -> list[Row]:
    """Those that fit. Raises BadQuery, which names the parameter."""
    unknown = set(query) - {*FILTERS, "text", "sort", "limit", "offset", "longer", "shorter"}
    if unknown:
        raise BadQuery(
            f"there is no parameter {sorted(unknown)[0]!r}; there are {', '.join(FILTERS)}, text, sort, limit, offset"
        )
    chosen = [row for row in rows if _fits(row, query)]
    order = query.get("sort", "")
    if order:
        name = order.removeprefix("-")
        if chosen and name not in chosen[0]:
            raise BadQuery(f"sort: there is no column {name!r}; there are {', '.join(chosen[0])}")
        chosen.sort(key=lambda row: _rank(row[name]), reverse=order.startswith("-"))
    offset, limit = _number(query, "offset", 0), min(LIMIT_MAX, _number(query, "limit", LIMIT))
    return chosen[offset : offset + limit]


def _fits(row: Row, query: Mapping[str, str]) -> bool:
    for name in FILTERS:
        if name in query and str(row.get(name)) != query[name]:
            return False
    if "longer" in query and (row.get("run") is None or row["run"] < _seconds(query, "longer")):
        return False
    if "shorter" in query and (row.get("run") is None or row["run"] > _seconds(query, "shorter")):
        return False
    text = query.get("text", "").lower()
    return not text or any(text in str(value).lower() for value in row.values() if value is not None)


def _rank(value: object) -> tuple[int, Any]:
    """Numbers before texts, and what is not known last."""
    if value is None:
        return 2, 0
    return (0, value) if isinstance(value, int | float) else (1, str(value))


def _number(query: Mapping[str, str], name: str, default: int) -> int:
    value = query.get(name)
    if value is None:
        return default
    if not (value.isascii() and value.isdecimal() and len(value) < 10):
        raise BadQuery(f"{name} must be a whole number, not {value!r}")
    return int(value)


def _seconds(query: Mapping[str, str], name: str) -> float:
    try:
        return float(query[name])
    except ValueError:
        raise BadQuery(f"{name} must be seconds, not {query[name]!r}") from None
