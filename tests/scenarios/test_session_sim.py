"""Clusters under simulated faults: every message once, in order, or handed back; and the simulator finds planted faults."""

import pytest

from tests.kit.sim import Schedule, failures
from tests.kit.sim_bugs import BUGS, Bug

SCHEDULES = 2000
PARTS = 8


@pytest.mark.parametrize("part", range(PARTS))
def test_messages_survive_cuts_pauses_restarts_and_changes_of_route(part: int) -> None:
    each = SCHEDULES // PARTS
    assert failures(each, part * each) == []


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.plant.__name__)
def test_the_simulator_finds(bug: Bug, monkeypatch: pytest.MonkeyPatch) -> None:
    bug.plant(monkeypatch)
    for seed in range(bug.first_seed, bug.first_seed + 250):
        if Schedule(seed).play():
            return
    pytest.fail("not found: a simulator that does not see this fault proves nothing about it")


def test_a_schedule_is_the_same_each_time() -> None:
    one, two = Schedule(7), Schedule(7)
    assert one.play() == two.play() == []
    assert one.world.steps == two.world.steps
    assert one.world.got == two.world.got
