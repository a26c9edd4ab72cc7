"""The state tables: complete, with one end, and strict."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any

import pytest

from dispycos.brokers.lifecycle import CLIENT, NODE, ClientState, NodeState, step

TABLES: list[tuple[Mapping[Any, frozenset[Any]], type[Enum], Enum]] = [
    (CLIENT, ClientState, ClientState.GONE),
    (NODE, NodeState, NodeState.GONE),
]


@pytest.mark.parametrize(("table", "states", "end"), TABLES)
def test_every_state_has_its_row_and_reaches_the_one_end(
    table: Mapping[Any, frozenset[Any]], states: type[Enum], end: Enum
) -> None:
    assert set(table) == set(states)
    assert [state for state in table if not table[state]] == [end]
    for state in states:
        reached, edge = {state}, {state}
        while edge:
            edge = {then for now in edge for then in table[now]} - reached
            reached |= edge
        assert end in reached


def test_a_step_that_the_table_does_not_know_is_refused() -> None:
    assert step(CLIENT, ClientState.QUEUED, ClientState.ACTIVE) is ClientState.ACTIVE
    with pytest.raises(AssertionError, match=r"CLOSING may not follow .*QUEUED"):
        step(CLIENT, ClientState.QUEUED, ClientState.CLOSING)
