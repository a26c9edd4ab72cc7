"""Whatever a reader has missed: what it is told makes its state that of the tables."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st

from dispycos.actors.web import tables as module
from dispycos.actors.web.answers import encode
from dispycos.actors.web.tables import Table, Tables

KEYED, RING = "nodes", "log"
NAMES = [KEYED, RING, "never"]


@pytest.fixture(autouse=True)
def _short_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEPT_VERSIONS", 3)
    monkeypatch.setattr(module, "KEPT_REMOVALS", 4)


class Reader:
    """Takes snapshots and deltas as the page does."""

    def __init__(self) -> None:
        self.since = -1
        self.state: dict[str, dict[str, Any]] = {}

    def read(self, tables: Tables) -> None:
        told = tables.delta(NAMES, self.since)
        if told is None:
            told, self.state = tables.snapshot(NAMES), {name: {"rows": {}} for name in NAMES}
        told = json.loads(encode(told))
        for name, part in told.items():
            there = self.state[name]
            for key in part["del"]:
                there["rows"].pop(key, None)
            there["rows"].update(part["set"])
            there |= {fact: part[fact] for fact in ("total", "kept", "dropped_until")}
        self.since = tables.version


def state_of(tables: Tables) -> dict[str, dict[str, Any]]:
    state = {}
    for name in NAMES:
        table = tables._table(name)
        state[name] = {"rows": table.rows, "total": table.total, "kept": table.kept}
        state[name]["dropped_until"] = table.dropped_until
    return state


KEYS = st.sampled_from("abc")
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("set"), KEYS, st.integers(0, 2)),
        st.tuples(st.just("drop"), KEYS),
        st.tuples(st.just("append"), st.integers(0, 2)),
        st.tuples(st.just("note"), st.integers(0, 2)),
        st.tuples(st.just("commit")),
        st.tuples(st.just("read"), st.integers(0, 2)),
    ),
    max_size=40,
)


def is_true_to_readers(tables: Tables, steps: list[tuple[Any, ...]]) -> bool:
    """Three readers, each at its own versions: do all of them end at the same state, that of the tables?"""
    readers = [Reader() for _ in range(3)]
    for what, *args in steps:
        if what == "set":
            tables.set(KEYED, args[0], {"value": args[1]})
        elif what == "drop":
            tables.drop(KEYED, args[0])
        elif what == "append":
            tables.append(RING, {"t": args[0]})
        elif what == "note":
            tables.note(KEYED, args[0], 2, None)
        elif what == "commit":
            tables.commit(1.0)
        else:
            readers[args[0]].read(tables)
    tables.commit(2.0)
    for reader in readers:
        reader.read(tables)
    return all(reader.state == state_of(tables) for reader in readers)


@given(STEPS)
def test_every_reader_ends_at_the_state_of_the_tables(steps: list[tuple[Any, ...]]) -> None:
    assert is_true_to_readers(Tables("e", {RING: 2}), steps)


class ForgetsRemovals(Tables):
    def drop(self, table: str, key: str) -> None:
        super().drop(table, key)
        self._table(table).removed.clear()


class MarksNoRow(Tables):
    def set(self, table: str, key: str, row: dict[str, Any]) -> None:
        super().set(table, key, row)
        self._table(table).changed[key] = self.version


class TellsNoCount(Tables):
    def note(self, table: str, total: int, kept: int, dropped_until: float | None) -> None:
        self._table(table).total, self._table(table).kept = total, kept
        self._is_changed = True


class ForgetsTooMuch(Tables):
    """A reader that is too far behind is told a delta all the same."""

    def is_known(self, names: Any, since: int) -> bool:
        return 0 <= since <= self.version


@pytest.mark.parametrize("fault", [ForgetsRemovals, MarksNoRow, TellsNoCount, ForgetsTooMuch])
def test_a_planted_fault_is_found(fault: type[Tables]) -> None:
    how = settings(derandomize=True, max_examples=5000, phases=[Phase.generate])
    steps = find(STEPS, lambda steps: not is_true_to_readers(fault("e", {RING: 2}), steps), settings=how)

    assert is_true_to_readers(Tables("e", {RING: 2}), steps)


def test_the_version_counts_ticks_in_which_something_changed() -> None:
    tables = Tables("e", {})
    tables.set("nodes", "a", {"x": 1})
    tables.set("nodes", "b", {"x": 1})

    assert tables.commit(5.0) and (tables.version, tables.now) == (1, 5.0)
    tables.set("nodes", "a", {"x": 1})
    assert not tables.commit(6.0) and (tables.version, tables.now) == (1, 5.0)


def test_a_delta_has_what_changed_and_nothing_else() -> None:
    tables = Tables("e", {})
    for key in "abc":
        tables.set("nodes", key, {"x": 1})
    tables.set("servers", "s", {"x": 1})
    tables.commit(1.0)
    tables.set("nodes", "b", {"x": 2})
    tables.drop("nodes", "c")
    tables.commit(2.0)

    told = tables.delta(["nodes", "servers"], 1)

    assert told == {
        "nodes": {"set": {"b": {"x": 2}}, "del": ["c"], "total": 0, "kept": 0, "dropped_until": None}
    }


def test_a_version_of_the_future_is_not_known() -> None:
    assert Tables("e", {}).delta(["nodes"], 7) is None


def test_a_ring_keeps_the_newest_rows_and_counts_all() -> None:
    tables = Tables("e", {"log": 2})
    for second in range(5):
        assert tables.append("log", {"t": float(second)}) == second + 1

    assert list(tables.rows("log").values()) == [{"t": 3.0, "n": 4}, {"t": 4.0, "n": 5}]
    told = tables.snapshot(["log"])["log"]
    assert (told["total"], told["kept"], told["dropped_until"]) == (5, 2, 2.0)


def test_removals_are_bounded_and_a_reader_from_before_takes_the_whole() -> None:
    tables = Tables("e", {})
    for number in range(100):
        tables.set("tasks", str(number), {})
    tables.commit(1.0)
    for number in range(50):
        tables.drop("tasks", str(number))
    tables.commit(2.0)

    assert len(tables._table("tasks").removed) <= module.KEPT_REMOVALS
    assert tables.delta(["tasks"], 1) is None
    assert tables.delta(["nodes"], 1) == {}, "the other tables are known"


def test_what_is_told_first_is_the_last_that_was_removed_and_each_key_once() -> None:
    table = Table()
    table.removed.extend([(1, "a"), (2, "b"), (3, "a")])

    assert table.told(0)["del"] == ["a", "b"]
