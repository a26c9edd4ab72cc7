"""That each small fault of tests/mutants.py still fits the code, and that the tests which are to find it are there."""

from __future__ import annotations

import pytest

from tests.mutants import MUTANTS, ROOT, TESTS, Mutant


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: f"{mutant.file}: {mutant.old.strip()[:40]}")
def test_it_fits_once_and_gives_another_program(mutant: Mutant) -> None:
    text = (ROOT / mutant.file).read_text()
    assert text.count(mutant.old) == 1
    compile(text.replace(mutant.old, mutant.new), mutant.file, "exec")


def test_each_area_has_faults_and_tests() -> None:
    assert {mutant.area for mutant in MUTANTS} == set(TESTS)
    assert len(MUTANTS) >= 40
    assert all((ROOT / path).exists() for paths in TESTS.values() for path in paths)
