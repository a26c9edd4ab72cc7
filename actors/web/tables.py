"""Tables whose every change has a version, so that any number of readers can be told just what is new to them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any, Final

KEPT_VERSIONS: Final = 600  # for so many versions it is known what was removed ...
REMOVED_MAX: Final = (
    20_000  # ... and of each table for so many rows: who knows an older version gets a snapshot
)

Row = dict[str, Any]


class Table:
    def __init__(self, kept: int = 0) -> None:
        self.rows: dict[str, Row] = {}
        self.changed: dict[str, int] = {}  # by key, at which version; the latest last
        self.removed: deque[tuple[int, str]] = deque()
        self.total = 0
        self.kept = kept  # of a ring: so many rows
        self.dropped_until: float | None = None


class Tables:
    def __init__(self, epoch: str, rings: Mapping[str, int]) -> None:
        self.epoch = epoch
        self.version = 0
        self.now = 0.0  # of the last commit, in seconds since the epoch
        self._tables: dict[str, Table] = {name: Table(kept) for name, kept in rings.items()}
        self._is_changed = False
        self._forgotten = 0  # removals up to this version are not known any more

    def _table(self, name: str) -> Table:
        table = self._tables.get(name)
        if table is None:
            table = self._tables[name] = Table()
        return table

    def set(self, table: str, key: str, row: Row) -> None:
        there = self._table(table)
        if there.rows.get(key) != row:
            there.rows[key] = row
            self._touch(there, key)

    def _touch(self, table: Table, key: str) -> None:
        table.changed.pop(key, None)
        table.changed[key] = self.version + 1
        self._is_changed = True

    def drop(self, table: str, key: str) -> None:
        there = self._table(table)
        if there.rows.pop(key, None) is not None:
            del there.changed[key]
            there.removed.append((self.version + 1, key))
            self._is_changed = True

    def append(self, table: str, row: Row) -> int:
        there = self._tables[table]
        there.total += 1
        row["n"] = there.total
        self.set(table, str(there.total), row)
        if len(there.rows) > there.kept:
            oldest = str(there.total - there.kept)
            there.dropped_until = there.rows[oldest].get("t")
            self.drop(table, oldest)
        return there.total

    def note(self, table: str, total: int, kept: int, dropped_until: float | None) -> None:
        """Of a table of which not all rows are kept: how many there were."""
        there = self._table(table)
        if (there.total, there.kept, there.dropped_until) != (total, kept, dropped_until):
            there.total, there.kept, there.dropped_until = total, kept, dropped_until
            self._is_changed = True

    def rows(self, table: str) -> Mapping[str, Row]:
        return self._table(table).rows

    def commit(self, now: float) -> bool:
        if not self._is_changed:
            return False
        self._is_changed = False
        self.version += 1
        self.now = now
        self._forgotten = max(self._forgotten, self.version - KEPT_VERSIONS)
        for table in self._tables.values():
            while len(table.removed) > REMOVED_MAX:
                self._forgotten = max(self._forgotten, table.removed.popleft()[0])
        for table in self._tables.values():
            while table.removed and table.removed[0][0] <= self._forgotten:
                table.removed.popleft()
        return True

    def snapshot(self, names: Iterable[str]) -> dict[str, Any]:
        return {name: self._told(self._table(name), 0) for name in names}

    def delta(self, names: Iterable[str], since: int) -> dict[str, Any] | None:
        if since < self._forgotten or since > self.version:
            return None
        return {name: self._told(self._table(name), since) for name in names}

    def _told(self, table: Table, since: int) -> dict[str, Any]:
        new = []
        for key in reversed(table.changed):
            if table.changed[key] <= since:
                break
            new.append(key)
        gone = (
            [key for version, key in table.removed if version > since and key not in table.rows]
            if since
            else []
        )
        return {
            "set": {key: table.rows[key] for key in reversed(new)},
            "del": gone,
            "total": table.total,
            "kept": table.kept,
            "dropped_until": table.dropped_until,
        }
