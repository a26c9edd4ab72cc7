"""The quick ones of the standard library's own tests of executors; `python -m tests.pool.standard` plays all."""

from __future__ import annotations

import pytest

from tests.kit.programs import ROOT, User
from tests.pool import standard


def test_the_standard_librarys_tests_pass(user: User) -> None:
    if reason := standard.why_there_are_none():
        pytest.skip(reason)
    program = user.python("-m", "tests.pool.standard", *standard.QUICK, PYTHONPATH=str(ROOT))
    said = program.succeed(60)
    assert said.count("passed  ") > 25, said


def test_what_is_left_out_is_told_in_the_documentation() -> None:
    text = (ROOT / "docs" / "executor.md").read_text()
    assert [name for name in standard.LEFT_OUT if name not in text] == []
