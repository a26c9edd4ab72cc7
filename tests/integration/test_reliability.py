"""Short forms of what `tox -e reliability` plays for long."""

from __future__ import annotations

import pytest

from tests.reliability import flood, killed, stopped

SILENT_S = (
    13.0  # longer than any silence after which a process of another host is asked or given up by a link
)


@pytest.mark.timeout(120)
def test_a_client_that_is_stopped_or_keeps_the_gil_finds_everything_as_it_was() -> None:
    assert len(list(stopped.play(SILENT_S, SILENT_S))) == 6


@pytest.mark.timeout(120)
def test_terminate_does_not_wait_behind_a_flood() -> None:
    assert len(list(flood.play(1, 5, 2.0))) == 10


@pytest.mark.timeout(120)
@pytest.mark.parametrize("kind", killed.KINDS)
def test_of_processes_that_are_killed_what_had_begun_is_lost_and_nothing_else(kind: str) -> None:
    assert killed.play_one(kind, 3)
