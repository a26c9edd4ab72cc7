"""That the check of types fails when a checker refuses what it should not, or takes what it should refuse."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.types.__main__ import PROGRAMS, Line, differences, main, marked

ONE, OTHER = Line("a.py", 3), Line("a.py", 7)


def test_a_line_too_many_and_a_line_too_few_are_both_told() -> None:
    assert differences({ONE}, {ONE: "no overload"}) == []
    assert differences({ONE}, {OTHER: "no overload"}) == ["a.py:7: no overload", "a.py:3: is not refused"]


def test_marks_are_at_the_ends_of_lines_and_there_are_some() -> None:
    found = marked([Path(file) for file in PROGRAMS if file.name == "waiting.py"])
    assert found
    for line in found:
        text = (Path(__file__).parents[2] / line.file).read_text().splitlines()[line.number - 1]
        assert text.endswith("# error")


def test_a_checker_that_is_not_there_is_said_and_is_an_error_only_in_ci(
    capsys: pytest.CaptureFixture[str],
) -> None:
    checkers = {"no_such_checker": lambda: {ONE: "never called"}}
    assert main(checkers, all_of_them=False) == 0
    assert "no_such_checker: not run: " in capsys.readouterr().out
    assert main(checkers, all_of_them=True) == 1
