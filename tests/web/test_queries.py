"""Which rows of a table, in which order, how many."""

from __future__ import annotations

from typing import Any

import pytest

from dispycos.actors.web.queries import BadQuery, choose, choose_and_count

ROWS: list[dict[str, Any]] = [
    {"id": "c.0", "function": "load", "state": "done", "run": 2.0, "args": "path='/a'", "io": False},
    {"id": "c.1", "function": "load", "state": "failed", "run": None, "args": None, "io": False},
    {"id": "c.2", "function": "simulate", "state": "done", "run": 0.5, "args": "x=1", "io": True},
    {"id": "c.3", "function": "simulate", "state": "running", "run": 10.0, "args": "X=22", "io": True},
]


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        ({}, "0123"),
        ({"function": "load"}, "01"),
        ({"function": "load", "state": "done"}, "0"),
        ({"function": ""}, "0123"),
        ({"function": "loa"}, ""),
        ({"text": "x="}, "23"),
        ({"text": "LOAD"}, "01"),
        ({"text": "none"}, ""),
        ({"longer": "2"}, "03"),
        ({"shorter": "2"}, "02"),
        ({"longer": "1", "shorter": "5"}, "0"),
        ({"sort": "run"}, "2031"),
        ({"sort": "-run"}, "3021"),
        ({"sort": "-id"}, "3210"),
        ({"sort": "-io"}, "2301"),
        ({"limit": "2"}, "01"),
        ({"limit": "0"}, ""),
        ({"limit": "2", "offset": "3"}, "3"),
        ({"offset": "9"}, ""),
        ({"sort": "-run", "limit": "1", "offset": "1"}, "0"),
    ],
)
def test_rows_are_chosen(query: dict[str, str], ids: str) -> None:
    assert "".join(row["id"][2:] for row in choose(ROWS, query)) == ids


def test_it_is_told_how_many_fit_whatever_the_limit() -> None:
    assert choose_and_count(ROWS, {"state": "done", "limit": "1"}) == ([ROWS[0]], 2)


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"colour": "red"}, "no parameter 'colour'; there are function"),
        ({"sort": "colour"}, "no column 'colour'; there are id, function"),
        ({"limit": "-1"}, "limit must be a whole number, not '-1'"),
        ({"limit": "1.5"}, "limit"),
        ({"limit": "٣"}, "limit"),
        ({"limit": "20001"}, "at most 20,000"),
        ({"offset": "9" * 5000}, "offset"),
        ({"longer": "long"}, "longer must be seconds, not 'long'"),
        ({"longer": "nan"}, "longer"),
        ({"shorter": "inf"}, "shorter"),
    ],
)
def test_a_bad_one_is_named_and_what_there_is(query: dict[str, str], words: str) -> None:
    with pytest.raises(BadQuery, match=words) as caught:
        choose(ROWS, query)
    assert len(str(caught.value)) < 400


def test_rows_of_different_columns_are_sorted_too() -> None:
    assert choose([{"a": 1, "b": 2}, {"a": 0}, {"a": 2, "b": "x"}], {"sort": "-b"}) == [
        {"a": 2, "b": "x"},
        {"a": 1, "b": 2},
        {"a": 0},
    ]
