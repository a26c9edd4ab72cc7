"""A function's run time is the mean of its last runs; how late the client heard is remembered for a while."""

from __future__ import annotations

import pytest

from dispycos.actors.dispatching.learning import FADE, LAG_MAX_S, LATELY_S, Lags, Learner, Learners


def test_the_first_runs_count_alike_and_old_ones_fade() -> None:
    learner = Learner()
    for seconds in (1.0, 2.0, 3.0):
        learner.saw(seconds)
    assert learner.mean == pytest.approx(2.0)
    for _ in range(FADE * 8):
        learner.saw(0.5)
    assert learner.mean == pytest.approx(0.5, rel=0.01)


def test_what_a_lost_server_ran_is_unknown_again() -> None:
    learner = Learner()
    learner.saw(1.0)
    learner.forget()
    assert learner.runs == 0
    learner.saw(3.0)
    assert learner.mean == 3.0


def test_each_function_has_one_learner() -> None:
    learners = Learners()
    assert learners["f"] is learners["f"] is not learners["g"]


def test_the_worst_lag_counts_up_to_a_bound() -> None:
    lags = Lags()
    lags.turn(100.0)
    for seconds in (-0.5, 0.3, 0.1):
        lags.saw(seconds)
    assert lags.longest == 0.3
    lags.saw(90.0)
    assert lags.longest == LAG_MAX_S


@pytest.mark.parametrize("turns", [20, 1], ids=["turn by turn", "after a long time"])
def test_a_lag_is_forgotten_but_not_at_once(turns: int) -> None:
    lags = Lags()
    lags.turn(100.0)
    lags.saw(1.0)
    lags.turn(100.0 + 0.9 * LATELY_S)
    assert lags.longest == 1.0
    for n in range(1, turns + 1):
        lags.turn(100.0 + 0.9 * LATELY_S + n * 3 * LATELY_S / turns)
    assert lags.longest == 0.0
