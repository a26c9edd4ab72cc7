"""Short forms of what `tox -e reliability` plays for long."""

from __future__ import annotations

import pytest

from tests.reliability import scheduler_killed, stopped

SILENT_S = (
    13.0  # longer than any silence after which a process of another host is asked or given up by a link
)


@pytest.mark.timeout(120)
def test_a_scheduler_that_is_killed_costs_a_running_client_and_a_queue_nothing() -> None:
    assert len(list(scheduler_killed.play(3, 1000, 1))) == 2


@pytest.mark.timeout(120)
def test_a_client_that_is_stopped_or_keeps_the_gil_finds_everything_as_it_was() -> None:
    assert len(list(stopped.play(SILENT_S, SILENT_S))) == 6
