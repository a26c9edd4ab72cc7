"""Tables with versions, as the page reads them: enough of the real ones for a server of made-up rows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

Row = dict[str, Any]
PIECE = 2000


@dataclass
class Table:
    rows: dict[str, Row] = field(default_factory=dict)
    changed: dict[str, int] = field(default_factory=dict)  # key -> version of its last change
    removed: dict[str, int] = field(default_factory=dict)
    total: int = 0
    kept: int = 0  # 0: no ring
    facts: Row = field(default_factory=dict)  # beside the rows: dropped_until


class Tables:
    """What readers see; a change is seen after commit()."""

    def __init__(self) -> None:
        self.version = 1
        self.tables: dict[str, Table] = {}

    def table(self, name: str) -> Table:
        return self.tables.setdefault(name, Table())

    def set(self, name: str, key: str, row: Row) -> None:
        table = self.table(name)
        if table.rows.get(key) != row:
            table.rows[key] = row
            table.changed[key] = self.version + 1
            table.removed.pop(key, None)

    def drop(self, name: str, key: str) -> None:
        table = self.table(name)
        if table.rows.pop(key, None) is not None:
            del table.changed[key]
            table.removed[key] = self.version + 1

    def append(self, name: str, row: Row, kept: int) -> None:
        table = self.table(name)
        table.total += 1
        table.kept = kept
        self.set(name, str(table.total), {"n": table.total, **row})
        self.drop(name, str(table.total - kept))

    def commit(self) -> None:
        self.version += 1

    def snapshot(self, names: Iterable[str]) -> list[Row]:
        """In pieces, so that no reader has to take in thousands of rows at once."""
        pieces = []
        for name in names:
            rows = list(self.table(name).rows.items())
            for at in range(0, max(1, len(rows)), PIECE):
                pieces.append({name: self._part(name, dict(rows[at : at + PIECE]), [])})
        return pieces

    def delta(self, names: Iterable[str], since: int) -> Row:
        parts = {}
        for name in names:
            table = self.table(name)
            rows = {key: table.rows[key] for key, version in table.changed.items() if version > since}
            gone = [key for key, version in table.removed.items() if version > since]
            if rows or gone:
                parts[name] = self._part(name, rows, gone)
        return parts

    def _part(self, name: str, rows: dict[str, Row], gone: list[str]) -> Row:
        table = self.table(name)
        return {"set": rows, "del": gone, "total": table.total, "kept": table.kept, **table.facts}
