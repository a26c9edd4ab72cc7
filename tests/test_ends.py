"""That an outcome is the user's value or exception, whose traceback begins in the user's code."""

from __future__ import annotations

import asyncio
import traceback
from types import FunctionType

import pytest

from dispycos.actors.host import ends
from dispycos.actors.host.ends import Returned, made, outcome_of, raised


def users() -> None:
    raise ValueError("mine")


def calls_users() -> None:
    users()


# As a frame of ours: what is above the user's code.
ours = FunctionType(calls_users.__code__, {**globals(), "__name__": ends.__package__ + ".stepper"})


def test_frames_of_ours_at_the_head_of_a_traceback_are_left_out() -> None:
    with pytest.raises(ValueError) as info:
        ours()
    error = info.value
    error.__traceback__ = error.__traceback__.tb_next  # type: ignore[union-attr]  # this test's own frame
    assert [frame.name for frame in traceback.extract_tb(error.__traceback__)] == ["calls_users", "users"]
    outcome = raised(error)
    assert outcome.error is error
    assert [frame.name for frame in traceback.extract_tb(error.__traceback__)] == ["users"]


def test_what_is_due_is_made_or_is_this_very_one() -> None:
    error = SystemExit(3)
    assert made(error) is error
    assert type(made(KeyboardInterrupt)) is KeyboardInterrupt


def test_the_outcome_of_a_future_is_whatever_it_carries() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        value, failed, cancelled = (loop.create_future() for _ in range(3))
        value.set_result(5)
        failed.set_exception(error := ValueError())
        cancelled.cancel()
        assert outcome_of(value) == Returned(5)
        assert outcome_of(failed) == ends.Raised(error)
        assert isinstance(outcome_of(cancelled), ends.Raised)

    asyncio.run(main())
