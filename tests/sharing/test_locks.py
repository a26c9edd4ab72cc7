"""Event, Lock, RLock, Condition and Semaphore, by tasks of all kinds, also when they are ended while they wait."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Generator
from typing import Any

import pytest

from dispycos import Condition, Event, Lock, RLock, Semaphore, Task, TaskTerminated
from tests.kit.local_tasks import play, until

pytestmark = [pytest.mark.timeout(30), pytest.mark.usefixtures("own_home")]


async def ended(task: Task) -> None:
    with pytest.raises(TaskTerminated):
        await task


# --- Lock ---


def test_one_has_the_lock_at_a_time_in_the_order_in_which_they_asked() -> None:
    async def scene() -> None:
        lock, inside, order = Lock(), [], []

        def by_yield(name: str) -> Generator[Any, Any, None]:
            assert (yield lock.acquire()) is True
            inside.append(name)
            order.append(name)
            yield asyncio.sleep(0)
            assert inside == [name]
            inside.remove(name)
            lock.release()

        async def by_await(name: str) -> None:
            async with lock:
                inside.append(name)
                order.append(name)
                await asyncio.sleep(0)
                assert inside == [name]
                inside.remove(name)

        tasks = [Task((by_yield, by_await)[n % 2], str(n)) for n in range(6)]
        await asyncio.gather(*tasks)
        assert order == [str(n) for n in range(6)]
        assert not lock.locked()

    play(scene)


def test_only_the_task_that_has_a_lock_may_release_it() -> None:
    async def scene() -> None:
        lock = Lock()

        async def other() -> None:
            lock.release()

        with pytest.raises(RuntimeError, match=r"release\(\): .*; nobody has it"):
            lock.release()
        await lock.acquire()
        with pytest.raises(RuntimeError, match=r"release\(\): .*; (scene|main) has it"):
            await Task(other)
        with pytest.raises(RuntimeError, match=r"release\(\): "):
            await asyncio.create_task(other())  # nor a Task of the same task
        lock.release()

    play(scene)


def test_a_lock_is_waited_for_no_longer_than_one_wants() -> None:
    async def scene() -> None:
        lock, release = Lock(), asyncio.Event()

        async def holder() -> None:
            async with lock:
                await release.wait()

        task = Task(holder)
        await until(lock.locked)
        assert await lock.acquire(blocking=False) is False
        assert await lock.acquire(timeout=0.01) is False
        release.set()
        await task
        assert await lock.acquire(timeout=5) is True
        lock.release()

    play(scene)


def test_who_is_ended_while_the_lock_comes_to_it_passes_it_on() -> None:
    async def scene() -> None:
        lock, got = Lock(), []

        async def wait(name: str) -> None:
            async with lock:
                got.append(name)

        await lock.acquire()
        first, second = Task(wait, "first"), Task(wait, "second")
        await until(lambda: len(lock._line) == 2)
        lock.release()  # to the first, which has not gone on yet
        first.terminate()
        await ended(first)
        await second
        assert got == ["second"]
        assert not lock.locked()

    play(scene)


def test_the_lock_of_a_task_that_has_ended_is_free_and_that_is_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scene() -> None:
        lock = Lock()

        async def forgetful() -> None:
            await lock.acquire()

        async def stuck() -> None:
            async with lock:
                await lock.acquire()  # no RLock: it waits for itself

        await Task(forgetful)
        async with asyncio.timeout(5):
            await lock.acquire()
        lock.release()
        task = Task(stuck)
        await until(lock.locked)
        task.terminate()
        await ended(task)
        assert not lock.locked()

    play(scene)
    err = caplog.text
    assert err.count("forgetful ended while it had <Lock at ") == 1
    assert "stuck ended" not in err


# --- RLock ---


def test_an_rlock_is_released_as_often_as_it_was_acquired() -> None:
    async def scene() -> None:
        lock = RLock()

        async def other() -> bool:
            return await lock.acquire(timeout=0.01)

        async with lock, lock:
            pass
        await lock.acquire()
        await lock.acquire()
        lock.release()
        assert await Task(other) is False
        lock.release()
        assert not lock.locked()

    play(scene)


def test_the_tasks_that_a_task_makes_are_not_let_into_its_rlock() -> None:
    async def scene() -> None:
        lock = RLock()
        async with lock:
            assert await asyncio.create_task(lock.acquire(timeout=0.01)) is False

    play(scene)


# --- Condition ---


def test_a_condition_wakes_as_many_as_it_is_told_and_they_have_the_lock() -> None:
    async def scene() -> None:
        condition, woken = Condition(), []

        def waiter(name: int) -> Generator[Any, Any, None]:
            yield condition.acquire()
            yield condition.acquire()
            assert (yield condition.wait()) is True
            assert condition.locked()
            woken.append(name)
            condition.release()
            condition.release()

        tasks = [Task(waiter, n) for n in range(5)]
        await until(lambda: len(condition._line) == 5)
        async with condition:
            condition.notify(2)
        await asyncio.gather(*tasks[:2])
        assert woken == [0, 1]
        async with condition:
            condition.notify_all()
        await asyncio.gather(*tasks)
        assert woken == [0, 1, 2, 3, 4]

    play(scene)


def test_after_the_timeout_of_a_wait_one_has_the_lock_as_well() -> None:
    async def scene() -> None:
        lock = Lock()
        condition = Condition(lock)
        async with condition:
            assert await condition.wait(timeout=0.01) is False
            assert lock.locked()
            assert await condition.wait_for(lambda: False, timeout=0.01) is False
            assert await condition.wait_for(lambda: 3) == 3
        assert not lock.locked()

    play(scene)


def test_a_condition_is_for_who_has_its_lock() -> None:
    async def scene() -> None:
        condition = Condition()
        for call in (condition.notify, condition.notify_all, condition.release):
            with pytest.raises(RuntimeError, match="nobody has it"):
                call()
        with pytest.raises(RuntimeError, match="nobody has it"):
            await condition.wait()
        with pytest.raises(TypeError, match="Lock or RLock, not Lock"):
            Condition(asyncio.Lock())  # type: ignore[arg-type]

    play(scene)


def test_who_is_ended_when_it_was_notified_passes_that_on_and_gives_the_lock_up() -> None:
    async def scene() -> None:
        condition, woken = Condition(), []

        async def waiter(name: str) -> None:
            async with condition:
                await condition.wait()
                woken.append(name)

        first, second = Task(waiter, "first"), Task(waiter, "second")
        await until(lambda: len(condition._line) == 2)
        async with condition:
            condition.notify()
        first.terminate()
        await ended(first)
        await second
        assert woken == ["second"]
        assert not condition.locked()

    play(scene)


# --- Semaphore and Event ---


def test_a_semaphore_lets_in_so_many() -> None:
    async def scene() -> None:
        semaphore, inside, most = Semaphore(2), [], []

        async def enter() -> None:
            async with semaphore:
                inside.append(1)
                most.append(len(inside))
                await asyncio.sleep(0)
                inside.pop()

        await asyncio.gather(*(Task(enter) for _ in range(6)))
        assert max(most) == 2
        assert await semaphore.acquire() and await semaphore.acquire(blocking=False)
        assert semaphore.locked() and not await semaphore.acquire(timeout=0.01)
        task = Task(enter)
        await until(lambda: len(semaphore._line) == 1)
        semaphore.release()
        task.terminate()
        await ended(task)
        assert await semaphore.acquire(timeout=5) is True
        semaphore.release(2)
        with pytest.raises(ValueError, match="1 or more"):
            semaphore.release(0)

    play(scene)


@pytest.mark.parametrize(("value", "error"), [(-1, ValueError), ("2", TypeError), (True, TypeError)])
def test_a_semaphore_has_a_count(value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="value must"):
        Semaphore(value)


def test_an_event_is_waited_for_until_it_is_set() -> None:
    async def scene() -> None:
        event = Event()

        def wait() -> Generator[Any, Any, Any]:
            return (yield event.wait())

        assert await event.wait(timeout=0.01) is False
        tasks = [Task(wait) for _ in range(3)]
        await until(lambda: len(event._line) == 3)
        event.set()
        assert await asyncio.gather(*tasks) == [True] * 3
        assert event.is_set() and await event.wait(0) is True
        event.clear()
        assert await event.wait(timeout=0) is False

    play(scene)


@pytest.mark.parametrize("kind", [Event, Lock, RLock, Condition, Semaphore])
def test_none_of_them_can_be_sent(kind: type) -> None:
    with pytest.raises(TypeError, match=rf"a dispycos.{kind.__name__} is for the tasks of one process"):
        pickle.dumps(kind())
