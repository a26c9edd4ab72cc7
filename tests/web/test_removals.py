"""What tables remember of rows that are gone is bounded, however many go with each tick."""

from __future__ import annotations

from dispycos.actors.web.tables import REMOVED_MAX, Tables


def test_who_knows_a_version_before_too_many_removals_gets_a_snapshot() -> None:
    tables = Tables("e", {"log": 10})
    removed = 0
    while removed <= REMOVED_MAX + 3000:
        for _ in range(1000):
            removed = tables.append("log", {}) - 10
        tables.commit(0.0)
    assert len(tables._table("log").removed) <= REMOVED_MAX
    assert tables.delta(["log"], 1) is None
    told = tables.delta(["log"], tables.version - 1)
    assert told is not None
    assert len(told["log"]["del"]) == 1000
