"""Who is woken first."""

from dispycos.session.alarms import Alarms


def test_the_earliest_is_first_and_of_two_at_one_time_the_one_that_was_set_first() -> None:
    alarms = Alarms()
    for when, whom in ((2.0, "late"), (1.0, "b"), (1.0, "a")):
        alarms.set(when, whom)
    assert alarms[0][0] == 1.0
    assert [alarms.pop_first() for _ in range(3)] == [(1.0, "b"), (1.0, "a"), (2.0, "late")]
    assert not alarms
