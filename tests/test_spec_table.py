"""docs/spec.md has each promise of the specification, with tests that exist, and what is open is counted."""

from __future__ import annotations

import ast
import re
from collections import Counter
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.conftest import SCRIPTS, scenarios_of
from tests.integration.test_scenarios import PLAYED

ROOT = Path(__file__).parents[1]
ROWS_MIN = 255  # of the specification; what was asked for beside it comes on top
OPEN = 0  # rows that are not done
DONE = ("works", "works, differs")
HEAD = ["section", "promise", "state", "test", "what differs, and why"]


class Row(NamedTuple):
    section: str
    promise: str
    state: str
    tests: list[str]
    why: str


def rows_of(text: str) -> list[Row]:
    lines = [line for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    assert cells[0] == HEAD
    assert all(len(row) == len(HEAD) for row in cells), [row for row in cells if len(row) != len(HEAD)]
    return [
        Row(section, promise, state, [test for test in tests.split("<br>") if test], why)
        for section, promise, state, tests, why in cells[2:]
    ]


def fault_of(row: Row) -> str:
    """What is wrong with a row, apart from the names of its tests."""
    if row.state not in (*DONE, "open"):
        return f"unknown state {row.state!r}"
    if row.state in DONE and not row.tests:
        return "no test"
    if (row.state == "works, differs") != bool(row.why) and row.state != "open":
        return "what differs must be said, and only where something does"
    return ""


@cache
def names_in(file: str) -> frozenset[str]:
    """Of a file's tests; those of classes as Class::test."""
    found = []
    for node in ast.parse((ROOT / file).read_text()).body:
        inside = node.body if isinstance(node, ast.ClassDef) else [node]
        prefix = f"{node.name}::" if isinstance(node, ast.ClassDef) else ""
        found += [
            prefix + one.name for one in inside if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)
        ]
    return frozenset(name for name in found if name.split("::")[-1].startswith("test_"))


def is_there(test: str) -> bool:
    """Whether pytest would find it. Only scenarios are named with what stands in brackets."""
    named = re.fullmatch(r"(tests/(?:\w+/)*test_\w+\.py)::((?:\w+::)?test_\w+)(?:\[(\w+)-(\w+)\])?", test)
    if named is None:
        return False
    file, name, script, scenario = named.groups()
    if not (ROOT / file).is_file() or name not in names_in(file):
        return False
    if script is None:
        return True
    played = name == "test_scenario" and f"{script}.py" in (*PLAYED, "control.py")
    return (
        played and (SCRIPTS / f"{script}.py").is_file() and f"test_{scenario}" in scenarios_of(f"{script}.py")
    )


ROWS = rows_of((ROOT / "docs" / "spec.md").read_text())


def test_every_promise_has_its_row() -> None:
    assert len(ROWS) >= ROWS_MIN
    assert not [promise for promise, count in Counter(row[:2] for row in ROWS).items() if count > 1]


def test_every_row_has_a_known_state_and_a_test() -> None:
    assert not [(fault, row) for row in ROWS if (fault := fault_of(row))]


def test_every_test_that_is_named_is_there() -> None:
    assert not [test for row in ROWS for test in row.tests if not is_there(test)]


def test_what_is_open_is_counted() -> None:
    assert sum(row.state == "open" for row in ROWS) == OPEN


TEST = "tests/test_spec_table.py::test_every_promise_has_its_row"


@pytest.mark.parametrize(
    "row",
    [
        Row("6.4", "p", "works", [], ""),
        Row("6.4", "p", "works, differs", [TEST], ""),
        Row("6.4", "p", "works", [TEST], "something"),
        Row("6.4", "p", "done", [TEST], ""),
    ],
)
def test_a_row_that_is_not_whole_is_found(row: Row) -> None:
    assert fault_of(row)


@pytest.mark.parametrize(
    "test",
    [
        "tests/test_no_such_file.py::test_it",
        "tests/test_spec_table.py::test_no_such_test",
        "tests/test_spec_table.py::is_there",
        "tests/test_spec_table.py",
        "tests/integration/test_scenarios.py::test_scenario[messages-no_such_scenario]",
        "tests/integration/test_scenarios.py::test_scenario[no_such_script-x]",
        f"{TEST}[a-b]",
    ],
)
def test_a_test_that_is_not_there_is_found(test: str) -> None:
    assert is_there(TEST)
    assert not is_there(test)
