"""Sessions under simulated faults: every message once, in order, or handed back; and the simulator finds planted faults.

They are played beside the other tests (tests/kit/beside.py); `tox -e sim -- N` plays more.
"""

import pytest

from tests.kit.beside import PLAYED_S, Beside
from tests.kit.sim import Schedule
from tests.kit.sim_bugs import BUGS


@pytest.mark.timeout(PLAYED_S)
def test_messages_survive_cuts_pauses_restarts_and_changes_of_route(beside: Beside) -> None:
    assert beside.failures("sessions", 500) == []


@pytest.mark.timeout(PLAYED_S)
@pytest.mark.parametrize("bug", [bug.__name__ for bug in BUGS])
def test_the_simulator_finds(bug: str, beside: Beside) -> None:
    assert beside.shows("sessions", bug), (
        "not found: a simulator that does not see this fault proves nothing about it"
    )


def test_a_schedule_is_the_same_each_time() -> None:
    one, two = Schedule(7), Schedule(7)
    assert one.play() == two.play() == []
    assert one.world.steps == two.world.steps
    assert one.world.got == two.world.got
