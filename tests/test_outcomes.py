"""Copies are kept until the client confirms, within bounds; tasks of a dead server get true words."""

from __future__ import annotations

from dispycos.actors.feeding import NodeTask
from dispycos.actors.outcomes import COPY_MAX, Outcomes, cancelled, repeat, verdict
from dispycos.protocol.messages import Done, Outcome, Run, Spot, TaskId
from dispycos.protocol.status import OutcomeKind

SPOT = Spot("10.0.0.5", 9701, 1001, "box/server-1")
DEATH = "server box/server-1 was killed by SIGKILL (9)"


def done(number: int, size: int) -> Done:
    return Done(TaskId(7, number), OutcomeKind.RETURNED, 0.5, 1001, 20, size)


def node_task(began: bool = False, terminated: bool = False) -> NodeTask:
    run = Run(TaskId(7, 1), "compute")
    return NodeTask(run.task, run, None, 1.0, began=began, terminated=terminated)


def test_a_copy_is_kept_until_it_is_confirmed() -> None:
    outcomes = Outcomes()
    outcomes.keep(done(1, 3), b"abc", 1001)
    outcomes.check()
    assert outcomes.ack(TaskId(7, 1))
    assert not outcomes.ack(TaskId(7, 1))
    assert len(outcomes) == 0
    outcomes.check()


def test_beyond_the_bound_the_oldest_lose_their_payload_but_not_the_fact() -> None:
    outcomes = Outcomes(bytes_max=10)
    for number in (1, 2, 3):
        outcomes.keep(done(number, 4), b"abcd", 1001)
        outcomes.check()
    taken = {kept.done.task.number: kept for kept in outcomes.take(1001)}
    assert [taken[number].is_whole for number in (1, 2, 3)] == [False, True, True]


def test_a_payload_over_the_limit_of_a_copy_is_not_kept() -> None:
    outcomes = Outcomes()
    outcomes.keep(done(1, COPY_MAX + 1), bytes(COPY_MAX + 1), 1001)
    outcomes.keep(done(2, 2 * COPY_MAX), [bytes(COPY_MAX), bytearray(COPY_MAX)], 1001)
    outcomes.check()
    assert [kept.payload for kept in outcomes.take(1001)] == [None, None]


def test_only_the_outcomes_of_the_dead_server_are_taken() -> None:
    outcomes = Outcomes()
    outcomes.keep(done(1, 3), b"abc", 1001)
    outcomes.keep(done(2, 3), b"abc", 1002)
    assert [kept.done.task.number for kept in outcomes.take(1001)] == [1]
    assert [kept.done.task.number for kept in outcomes.take(1002)] == [2]
    outcomes.check()


def test_too_many_unconfirmed_outcomes_are_noticed() -> None:
    outcomes = Outcomes(count_max=2)
    outcomes.keep(done(1, 0), None, 1001)
    assert not outcomes.is_full
    outcomes.keep(done(2, 3), b"abc", 1001)
    assert outcomes.is_full
    outcomes.ack(TaskId(7, 1))
    assert not outcomes.is_full


def test_a_whole_copy_is_said_again_with_its_payload() -> None:
    outcomes = Outcomes()
    outcomes.keep(done(1, 3), b"abc", 1001)
    [kept] = outcomes.take(1001)
    assert repeat(kept, SPOT, DEATH) == (
        Outcome(TaskId(7, 1), OutcomeKind.RETURNED, 20, SPOT, 0.5),
        b"abc",
    )


def test_a_result_that_stayed_with_the_server_is_lost_with_its_size() -> None:
    outcomes = Outcomes()
    outcomes.keep(done(1, 5_000_000), None, 1001)
    [kept] = outcomes.take(1001)
    outcome, payload = repeat(kept, SPOT, DEATH)
    assert (outcome.outcome, outcome.started, payload) == (OutcomeKind.LOST, True, None)
    assert outcome.text == f"finished, but its result of 5000000 bytes was lost: {DEATH}"


def test_a_task_that_ran_is_lost_and_the_text_says_how() -> None:
    word = verdict(node_task(began=True), True, False, SPOT, DEATH, 3.0)
    text = f"{DEATH} while it ran compute"
    assert word == Outcome(TaskId(7, 1), OutcomeKind.LOST, spot=SPOT, seconds=2.0, text=text)


def test_a_task_that_may_have_started_is_lost_as_started() -> None:
    word = verdict(node_task(), True, False, SPOT, DEATH, 3.0)
    assert word is not None
    assert (word.started, word.text) == (True, f"{DEATH}; compute may have started")


def test_a_task_behind_another_goes_back_unless_it_had_to_end() -> None:
    assert verdict(node_task(), False, False, SPOT, DEATH, 3.0) is None
    for word in (
        verdict(node_task(terminated=True), False, False, SPOT, DEATH, 3.0),
        verdict(node_task(), False, True, SPOT, DEATH, 3.0),
    ):
        assert word == Outcome(TaskId(7, 1), OutcomeKind.CANCELLED, started=False, text=DEATH)
    assert cancelled(node_task()) == Outcome(TaskId(7, 1), OutcomeKind.CANCELLED, started=False)


def test_a_task_for_which_the_server_was_killed_is_terminated() -> None:
    word = verdict(node_task(began=True), True, True, SPOT, DEATH, 3.0)
    assert word is not None
    assert (word.outcome, word.text) == (OutcomeKind.TERMINATED, DEATH)
