"""Tables whose every change has a version, so that any number of readers can be told just what is new to them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any, Final

KEPT_VERSIONS: Final = 600  # for so many versions it is known what was removed ...
KEPT_REMOVALS: Final = 20_000  # ... if these are no more, in each table

Row = dict[str, Any]


class Table:
    def __init__(self, kept: int = 0) -> None:
        self.rows: dict[str, Row] = {}
        self.changed: dict[str, int] = {}  # by key, at which version; the latest last
        self.removed: deque[tuple[int, str]] = deque()
        self.forgotten = 0  # removals up to this version are not known any more
        self.total = 0
        self.kept = kept  # of a ring: so many rows
        self.dropped_until: float | None = None
        self.touched = 0  # the version of the last change of any kind

    def told(self, since: int) -> dict[str, Any]:
        """What is new since that version; -1: all."""
        new = []
        for key, version in reversed(self.changed.items()):
            if version <= since:
                break
            new.append(key)
        rows = self.rows
        return {
            "set": {key: rows[key] for key in reversed(new)},
            "del": list(self._removed_since(since)) if since >= 0 else [],
            "total": self.total,
            "kept": self.kept,
            "dropped_until": self.dropped_until,
        }

    def _removed_since(self, since: int) -> Iterable[str]:
        gone: dict[str, None] = {}
        for version, key in reversed(self.removed):
            if version <= since:
                break
            if key not in self.rows:
                gone[key] = None
        return gone

    def forget(self, version: int) -> None:
        """Removals up to this version, and those beyond the bound."""
        self.forgotten = max(self.forgotten, version)
        removed = self.removed
        while removed and (removed[0][0] <= self.forgotten or len(removed) > KEPT_REMOVALS):
            self.forgotten = max(self.forgotten, removed.popleft()[0])


class Tables:
    """Keyed tables, which come into being with their first row, and rings.

    Rows are not copied: who has set one does not change it, but sets a new one.

    Parameters
    ----------
    epoch: of this server's life; versions of another one mean nothing. rings: by name, how many rows are kept.
    """

    def __init__(self, epoch: str, rings: Mapping[str, int]) -> None:
        self.epoch = epoch
        self.version = 0
        self.now = 0.0  # of the last commit, in seconds since the epoch
        self._tables: dict[str, Table] = {name: Table(kept) for name, kept in rings.items()}
        self._is_changed = False

    def _table(self, name: str) -> Table:
        table = self._tables.get(name)
        if table is None:
            table = self._tables[name] = Table()
        return table

    def set(self, table: str, key: str, row: Row) -> None:
        there = self._tables.get(table) or self._table(table)
        if there.rows.get(key) == row:
            return
        there.rows[key] = row
        there.changed.pop(key, None)
        there.changed[key] = there.touched = self.version + 1  # as _touch, without a call for each row
        self._is_changed = True

    def _touch(self, table: Table) -> int:
        self._is_changed = True
        table.touched = self.version + 1
        return table.touched

    def drop(self, table: str, key: str) -> None:
        there = self._table(table)
        if there.rows.pop(key, None) is not None:
            del there.changed[key]
            there.removed.append((self._touch(there), key))

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
            self._touch(there)

    @property
    def names(self) -> frozenset[str]:
        return frozenset(self._tables)

    def rows(self, table: str) -> Mapping[str, Row]:
        return self._table(table).rows

    def commit(self, now: float) -> bool:
        """Whether there is something new; it has a version then."""
        if not self._is_changed:
            return False
        self._is_changed = False
        self.version += 1
        self.now = now
        for table in self._tables.values():
            table.forget(self.version - KEPT_VERSIONS)
        return True

    def is_known(self, names: Iterable[str], since: int) -> bool:
        """Whether a reader of this version can be told what is new; else it needs the whole."""
        return 0 <= since <= self.version and all(self._table(name).forgotten <= since for name in names)

    def part(self, name: str, since: int) -> dict[str, Any] | None:
        """What is new of this table since a version that is known; -1: the whole. None: nothing."""
        table = self._table(name)
        return table.told(since) if table.touched > since else None

    def snapshot(self, names: Iterable[str]) -> dict[str, Any]:
        return {name: self.part(name, -1) for name in names}

    def delta(self, names: Iterable[str], since: int) -> dict[str, Any] | None:
        """Tables without a change are not in it. None: too old, or of another life."""
        wanted = list(names)
        if not self.is_known(wanted, since):
            return None
        parts = {name: self.part(name, since) for name in wanted}
        return {name: part for name, part in parts.items() if part is not None}
