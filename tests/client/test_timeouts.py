"""A task that runs for longer than its timeout is ended by its client, and who awaits it is told why."""

from __future__ import annotations

import pytest

from dispycos.actors.client.owned import SHORT_RUNS
from dispycos.actors.tasks.results import unpack_outcome
from dispycos.errors import TaskTerminated, TaskTimeout
from dispycos.protocol import messages
from dispycos.protocol.status import OutcomeKind

from .test_ledger import Desk, terminating
from .test_needs import Pickled

ENDS = OutcomeKind.TERMINATED


def test_it_counts_from_the_start_and_ends_as_by_terminate() -> None:
    desk = Desk()
    desk.given(alone=True)
    waits = desk.submit(timeout=5.0)
    desk.drain()
    desk.wait(100.0)
    assert not waits.terminated
    desk = Desk()
    record = desk.running(timeout=5.0)
    assert not any(isinstance(word, messages.Terminate) for word in desk.wait(4.9))
    assert desk.ledger.deadline() == pytest.approx(desk.now + 0.1)
    assert desk.wait(0.1) == terminating(record)
    desk.end(record, ENDS)
    with pytest.raises(TaskTimeout, match=r"compute ran for longer than its timeout, 5 s"):
        unpack_outcome(Pickled, record)


def test_one_that_is_killed_for_it_has_timed_out_too() -> None:
    desk = Desk()
    record = desk.running(timeout=1.0, retries=3)
    desk.wait(1.0)
    desk.lose_server(1, begun=record.position)
    with pytest.raises(TaskTimeout):
        unpack_outcome(Pickled, record)


def test_one_that_the_program_ended_before_was_terminated() -> None:
    desk = Desk()
    record = desk.running(timeout=1.0)
    desk.terminate(record)
    desk.wait(2.0)
    desk.end(record, ENDS)
    with pytest.raises(TaskTerminated) as caught:
        unpack_outcome(Pickled, record)
    assert not isinstance(caught.value, TaskTimeout)


def test_one_that_ends_in_time_is_not_thought_of_any_more() -> None:
    desk = Desk()
    record = desk.running(timeout=1.0)
    desk.end(record, payload=b"value")
    desk.drain()
    assert not any(isinstance(word, messages.Terminate) for word in desk.wait(5.0))
    assert desk.ledger.deadline() is None


def test_a_second_start_has_its_own_time() -> None:
    desk = Desk(servers=2)
    record = desk.running(timeout=5.0, retries=1)
    desk.wait(4.0)
    assert record.at is not None
    desk.lose_server(record.at.epoch - 1000, begun=record.position)
    desk.drain()
    desk.wait(2.0)
    assert not record.terminated
    desk.start(record)
    desk.wait(4.0)
    assert not record.terminated
    desk.wait(1.0)
    assert record.terminated


def test_the_start_of_a_short_one_is_announced_if_it_has_a_timeout() -> None:
    desk = Desk()
    for _ in range(SHORT_RUNS):
        (record,) = desk.given()
        desk.end(record, seconds=0.0001)
    short, timed = desk.submit(), desk.submit(timeout=1.0)
    runs = {word.task: word.short for _, word in desk.words() if isinstance(word, messages.Run)}
    assert runs == {short.task: True, timed.task: False}
