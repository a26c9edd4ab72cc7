"""That a wait with a timeout loses nothing that has come, leaves nothing behind, and completes no future twice."""

from __future__ import annotations

import asyncio
import gc

import pytest

from dispycos.actors.tasks.waiting import complete, fail, within


def test_what_comes_in_the_turn_in_which_time_is_up_has_come() -> None:
    async def wait() -> int:
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        waiting = asyncio.ensure_future(within(future, 0))
        await asyncio.sleep(0)  # it waits; its time is up in the next turn, in which it would go on
        future.set_result(7)
        return await waiting

    assert asyncio.run(wait()) == 7


def test_what_does_not_come_in_time_is_cancelled_and_has_ended_then() -> None:
    ends: list[str] = []

    async def work() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(0)
            ends.append("work")

    async def wait() -> None:
        with pytest.raises(TimeoutError):
            await within(asyncio.ensure_future(work()), 0.001)
        assert ends == ["work"]

    asyncio.run(wait())


def test_a_timeout_of_its_own_is_passed_on_as_it_is() -> None:
    async def wait() -> None:
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        future.set_exception(TimeoutError(110, "Connection timed out"))
        await within(future, 5)

    with pytest.raises(TimeoutError, match="Connection timed out"):
        asyncio.run(wait())


def test_a_future_that_is_over_is_left_alone() -> None:
    async def complete_twice() -> bool:
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        future.cancel()
        complete(future, 1)
        fail(future, ValueError())
        return future.cancelled()

    assert asyncio.run(complete_twice())


def test_an_error_for_which_nobody_waits_is_no_news(caplog: pytest.LogCaptureFixture) -> None:
    async def scene() -> None:
        fail(asyncio.get_running_loop().create_future(), ValueError("unheard"))
        gc.collect()

    asyncio.run(scene())
    assert not caplog.records
