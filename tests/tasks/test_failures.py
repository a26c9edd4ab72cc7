"""Failures are counted by function and error, and there are at most so many kinds."""

from __future__ import annotations

from dispycos.actors.tasks.failures import KINDS_MAX, OTHERS, Failures


def test_the_most_frequent_come_first_and_those_of_too_many_kinds_are_counted_together() -> None:
    failures = Failures()
    for number in range(KINDS_MAX + 3):
        failures.add(f"f{number}", "ValueError")
    failures.add("f1", "ValueError")
    listed = failures.listed()
    assert listed[:2] == [(*OTHERS, 3), ("f1", "ValueError", 2)]
    assert len(listed) == KINDS_MAX + 1
    failures.add_all(listed)
    assert failures.listed()[:2] == [(*OTHERS, 6), ("f1", "ValueError", 4)]
    assert len(failures.listed()) == KINDS_MAX + 1
