"""joblib's backend "dispycos": what tests/scripts/parallel.py plays, and the quick ones of joblib's own tests."""

from __future__ import annotations

import importlib.util

import pytest

from tests.conftest import Report, report_of, scenarios_of
from tests.kit.programs import ROOT, User
from tests.pool import joblibs

PLAYED = "parallel.py"


@pytest.mark.parametrize("scenario", scenarios_of(PLAYED))
def test_scenario(scenario: str, cluster: User, reports: dict[str, Report]) -> None:
    if "scikit" in scenario and importlib.util.find_spec("sklearn") is None:
        pytest.skip("scikit-learn is not installed")
    report_of(PLAYED, cluster, reports).check(scenario)


def test_the_program_ends_well(cluster: User, reports: dict[str, Report]) -> None:
    report = report_of(PLAYED, cluster, reports)
    assert report.code == 0, report.program.told()


def test_joblibs_own_tests_pass(user: User) -> None:
    said = user.python("-m", "tests.pool.joblibs", *joblibs.QUICK, PYTHONPATH=str(ROOT)).succeed(60)
    assert said.count("passed  ") > 20, said
