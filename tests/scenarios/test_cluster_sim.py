"""Whole clusters under simulated faults: one outcome for each task, told truly; and the simulator finds planted faults.

They are played beside the other tests (tests/kit/beside.py); `tox -e sim -- N` plays more.
"""

import os
import subprocess
import sys

import pytest

from tests.kit.beside import PLAYED_S, Beside
from tests.kit.cluster import Cluster
from tests.kit.cluster_bugs import BUGS, CHAIN_BUGS


@pytest.mark.timeout(PLAYED_S)
def test_each_task_has_one_true_outcome_whatever_breaks(beside: Beside) -> None:
    assert beside.failures("clusters", 240) == []


@pytest.mark.timeout(PLAYED_S)
@pytest.mark.parametrize("bug", [bug.__name__ for bug in BUGS])
def test_the_simulator_finds(bug: str, beside: Beside) -> None:
    assert beside.shows("clusters", bug), (
        "not found: a simulator that does not see this fault proves nothing about it"
    )


@pytest.mark.timeout(PLAYED_S)
def test_tasks_that_wait_for_the_values_of_others_have_one_true_outcome_too(beside: Beside) -> None:
    assert beside.failures("chains", 70) == []


@pytest.mark.timeout(PLAYED_S)
@pytest.mark.parametrize("bug", [bug.__name__ for bug in CHAIN_BUGS])
def test_the_simulator_finds_what_is_wrong_with_those(bug: str, beside: Beside) -> None:
    assert beside.shows("chains", bug)


def test_a_schedule_is_the_same_each_time() -> None:
    one, two = Cluster(8, keeps_diary=True), Cluster(8, keeps_diary=True)
    assert one.play() == two.play() == []
    assert one.world.steps == two.world.steps
    assert one.world.diary == two.world.diary
    assert one.book.outcomes and one.book.outcomes == two.book.outcomes


@pytest.mark.parametrize("seed", [3, 6107])
def test_a_schedule_is_the_same_in_each_process(seed: int) -> None:
    """Where names are hashed in another way."""
    told = [
        subprocess.run(
            [sys.executable, "-m", "tests.sim", "--trace", str(seed)],
            env={**os.environ, "PYTHONHASHSEED": hashes},
            capture_output=True,
            check=True,
        ).stdout
        for hashes in ("0", "1")
    ]
    assert told[0] == told[1] and told[0].count(b"\n") >= 80
