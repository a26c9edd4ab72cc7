"""Service hours: what a node may do at a time of day."""

from __future__ import annotations

import itertools

import pytest

from dispycos.hours import DAY, Hours, TimeOfDay, parse_time_of_day


def at(text: str) -> TimeOfDay:
    return parse_time_of_day(text)


def hours(start: str, stop: str = "", end: str = "") -> Hours:
    return Hours(at(start), at(stop) if stop else None, at(end) if end else None)


def phases(of: Hours) -> dict[str, str]:
    """The minutes at which the phase changes, around the clock."""
    clocks = [TimeOfDay(*divmod(minute % DAY, 60)) for minute in range(-1, DAY)]
    changes = [(b, of.phase(b)) for a, b in itertools.pairwise(clocks) if of.phase(a) != of.phase(b)]
    return {str(clock): phase.name for clock, phase in changes}


def test_the_night_of_the_spec() -> None:
    """From 5PM jobs are run, at 7AM none is accepted any more, at 8AM what runs is killed, and nothing until 5PM."""
    assert phases(hours("17:00", "07:00", "08:00")) == {
        "07:00": "DRAINING",
        "08:00": "CLOSED",
        "17:00": "OPEN",
    }


@pytest.mark.parametrize(
    ("of", "expected"),
    [
        (hours("08:00", "16:00", "17:00"), {"08:00": "OPEN", "16:00": "DRAINING", "17:00": "CLOSED"}),
        (hours("08:00", "16:00"), {"08:00": "OPEN", "16:00": "DRAINING"}),
        (hours("08:00", "", "17:00"), {"08:00": "OPEN", "17:00": "CLOSED"}),
        (hours("08:00", "17:00", "17:00"), {"08:00": "OPEN", "17:00": "CLOSED"}),
        (hours("22:00", "00:00", "06:00"), {"00:00": "DRAINING", "06:00": "CLOSED", "22:00": "OPEN"}),
        (hours("00:00", "23:59"), {"00:00": "OPEN", "23:59": "DRAINING"}),
    ],
    ids=str,
)
def test_a_phase_begins_at_its_minute(of: Hours, expected: dict[str, str]) -> None:
    assert phases(of) == expected


@pytest.mark.parametrize(
    ("start", "stop", "end", "complaint"),
    [
        ("08:00", "08:00", "", "start and stop are both 08:00"),
        ("08:00", "", "08:00", "start and end are both 08:00"),
        ("08:00", "17:00", "16:00", "the end 16:00 comes before the stop 17:00"),
        ("17:00", "08:00", "07:00", "the end 07:00 comes before the stop 08:00"),
    ],
)
def test_hours_that_are_none_are_refused(start: str, stop: str, end: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        hours(start, stop, end)


@pytest.mark.parametrize("text", ["24:00", "7", "07:60", "7:5", "-1:00", "noon", "", "07:00:30", "07:00 PM"])
def test_what_is_no_time_of_day_is_named(text: str) -> None:
    with pytest.raises(ValueError, match=f"'{text}' is not a time of day"):
        at(text)


def test_a_time_of_day_is_written_as_one_types_it() -> None:
    assert [str(at(text)) for text in ("7:05", " 17:00 ", "07:00:00")] == ["07:05", "17:00", "07:00"]
