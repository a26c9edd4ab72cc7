"""Short forms of what `tox -e reliability` plays for long."""

from __future__ import annotations

import pytest

from tests.kit.netns import why_unavailable
from tests.reliability import flood, killed, links_cut, scheduler_killed, sleeper, stopped

SILENT_S = (
    13.0  # longer than any silence after which a process of another host is asked or given up by a link
)
GAP_S = 2.0  # a scheduler that was started anew grants nothing for 3 s: who waited for it would be seen
GRANTED_S = 20.0  # on a busy machine; one that is not ready by then waits for something


@pytest.mark.timeout(120)
def test_a_scheduler_that_is_killed_costs_a_running_client_and_a_queue_nothing() -> None:
    assert len(list(scheduler_killed.play(3, 1000, 1, 2, GAP_S, GRANTED_S))) == 3


@pytest.mark.timeout(120)
def test_a_client_that_is_stopped_or_keeps_the_gil_finds_everything_as_it_was() -> None:
    assert len(list(stopped.play(SILENT_S, SILENT_S))) == 6


NO_HOSTS = why_unavailable()


@pytest.mark.timeout(180)
@pytest.mark.skipif(bool(NO_HOSTS), reason=NO_HOSTS)
def test_links_that_are_cut_between_hosts_lose_and_double_nothing() -> None:
    assert "nothing lost" in links_cut.play(10_000)


@pytest.mark.timeout(120)
def test_terminate_does_not_wait_behind_a_flood() -> None:
    assert len(list(flood.play(1, 5, 2.0))) == 10


@pytest.mark.timeout(120)
def test_a_task_that_sleeps_costs_the_process_that_it_is_in_little_memory() -> None:
    """200,000 messages took 29 MiB there before mailboxes had a bound."""
    assert sleeper.play(200_000)[-1].startswith("grown by ")


@pytest.mark.timeout(120)
@pytest.mark.parametrize("kind", killed.KINDS)
def test_of_processes_that_are_killed_what_had_begun_is_lost_and_nothing_else(kind: str) -> None:
    assert killed.play_one(kind, 3)
