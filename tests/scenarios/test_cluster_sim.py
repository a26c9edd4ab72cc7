"""Whole clusters under simulated faults: one outcome for each task, told truly; and the simulator finds planted faults."""

import pytest

from tests.kit.cluster import Cluster, failures
from tests.kit.cluster_bugs import BUGS, Bug

SCHEDULES = 1000  # half of what the sessions get: one costs four times as much; `tox -e sim -- N` plays more
PARTS = 8
SEARCHED = 300


@pytest.mark.parametrize("part", range(PARTS))
def test_each_task_has_one_true_outcome_whatever_breaks(part: int) -> None:
    each = SCHEDULES // PARTS
    assert failures(each, part * each) == []


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.plant.__name__)
def test_the_simulator_finds(bug: Bug, monkeypatch: pytest.MonkeyPatch) -> None:
    bug.plant(monkeypatch)
    assert any(Cluster(bug.first_seed + n).play() for n in range(SEARCHED)), (
        "not found: a simulator that does not see this fault proves nothing about it"
    )


def test_a_schedule_is_the_same_each_time() -> None:
    one, two = Cluster(8, keeps_diary=True), Cluster(8, keeps_diary=True)
    assert one.play() == two.play() == []
    assert one.world.steps == two.world.steps
    assert one.world.diary == two.world.diary
    assert one.book.outcomes and one.book.outcomes == two.book.outcomes
