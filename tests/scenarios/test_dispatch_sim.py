"""The client's dispatcher under simulated faults: one true outcome for each task; and the simulator finds planted faults.

They are played beside the other tests (tests/kit/beside.py); `python -m tests.sim dispatch N` plays more.
"""

import pytest

from tests.kit.beside import PLAYED_S, Beside
from tests.kit.dispatch_bugs import BUGS
from tests.kit.dispatch_sim import Schedule


@pytest.mark.timeout(PLAYED_S)
def test_each_task_has_one_true_outcome_and_no_server_idles_whatever_breaks(beside: Beside) -> None:
    assert beside.failures("dispatch", 500) == []


@pytest.mark.timeout(PLAYED_S)
@pytest.mark.parametrize("bug", [bug.__name__ for bug in BUGS])
def test_the_simulator_finds(bug: str, beside: Beside) -> None:
    assert beside.shows("dispatch", bug), (
        "not found: a simulator that does not see this fault proves nothing about it"
    )


def test_a_schedule_is_the_same_each_time() -> None:
    one, two = Schedule(8, keeps_diary=True), Schedule(8, keeps_diary=True)
    assert one.play() == two.play() == []
    assert one.world.steps == two.world.steps
    assert one.world.diary == two.world.diary
