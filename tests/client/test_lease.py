"""One stay at a scheduler: how it begins, what it does when the scheduler is silent or gone, and that nobody waits after it."""

from __future__ import annotations

import asyncio
import gc
import re
import threading
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import dispycos
from dispycos.actors.client.client import Client
from dispycos.actors.client.code import ClientPayloads
from dispycos.actors.client.lease import ClientLease
from dispycos.actors.client.local import home_of_this_loop
from dispycos.protocol import messages
from dispycos.protocol.envelope import Envelope
from dispycos.protocol.status import OutcomeKind
from tests.kit.stub_scheduler import StubScheduler, play, play_here, secret_in

pytestmark = pytest.mark.timeout(40)


def compute(n: int) -> int:
    return n * n


def test_a_client_says_who_it_is_and_what_it_wants(tmp_path: Path) -> None:
    async def scene(client: Client, stub: StubScheduler) -> None:
        word: Any = stub.got[0].message
        assert isinstance(word, messages.Enlist)
        assert word.client.name == "painter" and word.pulse_interval == 20.0
        assert [allocation.node for allocation in word.allocations] == ["10.0.0.*"]

    play(scene, tmp_path, name="painter", pulse_interval=20.0, restart_servers=True, nodes="10.0.0.*")


def test_a_client_that_is_turned_away_says_why(tmp_path: Path) -> None:
    async def scene(client: Client, stub: StubScheduler) -> None:
        await client.close()
        stub.is_deaf = True
        scheduling = asyncio.ensure_future(client.schedule(stub.location))
        await stub.until(lambda: isinstance(stub.got[-1].message, messages.Enlist))
        stub.client = stub.got[-1].sender.epoch
        stub.send(messages.Turned("no such node"))
        with pytest.raises(dispycos.ScheduleError, match="no such node"):
            await scheduling
        stub.is_deaf = False
        await client.schedule(stub.location)

    play(scene, tmp_path)


def test_schedule_gives_up_in_time_and_can_be_tried_again(tmp_path: Path) -> None:
    async def scene(client: Client, stub: StubScheduler) -> None:
        await client.close()
        stub.is_deaf = True
        with pytest.raises(
            TimeoutError, match=r"schedule\(\): not within 0.05 s: no scheduler has answered yet"
        ):
            await client.schedule(stub.location, timeout=0.05)
        stub.is_deaf = False
        await client.schedule(stub.location)

    play(scene, tmp_path)


@pytest.mark.parametrize("timeout", [0, -1, "x", float("nan"), True])
def test_a_timeout_of_no_use_is_named(tmp_path: Path, timeout: Any) -> None:
    async def scene(client: Client, stub: StubScheduler) -> None:
        with pytest.raises(
            (TypeError, ValueError), match=r"schedule\(\): timeout must be a number of seconds"
        ):
            await another(tmp_path).schedule(stub.location, timeout=timeout)

    play(scene, tmp_path)


def test_a_client_can_be_closed_twice_and_scheduled_again(tmp_path: Path) -> None:
    async def scene(client: Client, stub: StubScheduler) -> None:
        assert await Client().close() == 0
        assert await client.close() == 0
        assert await client.close() == 0
        with pytest.raises(dispycos.NotScheduled, match="schedule"):
            client.submit(compute, 1)
        assert await client.schedule(stub.location) == 0
        client.submit(compute, 3)
        await stub.until(lambda: len(stub.tasks) == 1)
        stub.end(stub.tasks[0], 9)

    play(scene, tmp_path)


def test_who_leaves_a_silent_scheduler_waits_for_no_task(tmp_path: Path) -> None:
    async def scene(client: Client, stub: StubScheduler) -> None:
        handle, started = client.io_submit(compute, 1), asyncio.ensure_future(client.io_rtask(compute, 2))
        await stub.until(lambda: len(stub.tasks) == 2)
        waits = asyncio.ensure_future(handle.finish())
        stub.is_deaf = True
        await client.close(timeout=0.05)
        for lost in (waits, await started):
            with pytest.raises(dispycos.TaskLost, match="did not answer"):
                await lost
        assert not handle.is_alive()

    play(scene, tmp_path)


def test_a_scheduler_that_is_started_anew_costs_the_tasks(tmp_path: Path) -> None:
    async def scene(client: Client, stub: StubScheduler) -> None:
        handle = client.submit(compute, 1)
        await stub.until(lambda: stub.tasks)
        stub.send(messages.Released("the scheduler was stopped"))
        with pytest.raises(dispycos.TaskLost, match="the scheduler was stopped"):
            await handle
        with pytest.raises(dispycos.ScheduleError, match="the cluster is gone: the scheduler was stopped"):
            client.submit(compute, 2)

    play(scene, tmp_path)


# --- the line of a program's clients ---


def another(folder: Path, name: str = "another") -> Client:
    return Client(name=name, secret_file=secret_in(folder))


def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits is told after 50 ms what for."""
    monkeypatch.setattr("dispycos.actors.tasks.waiting.PATIENCE_S", 0.05)


def test_clients_of_a_loop_get_the_cluster_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    soon(monkeypatch)

    def told() -> list[str]:
        return [line for line in caplog.messages if "waiting for the cluster" in line]

    async def scene(client: Client, stub: StubScheduler) -> None:
        others = [another(tmp_path, name) for name in ("second", "third")]
        waits = [asyncio.ensure_future(other.schedule(stub.location)) for other in others]
        while len(told()) < 2:
            await asyncio.sleep(0.01)
        assert [word for word in stub.got if isinstance(word.message, messages.Enlist)] == stub.got[:1]
        await client.close()
        assert await waits[0] == 0 and not waits[1].done()
        await others[0].close()
        assert await waits[1] == 0
        await others[1].close()

    play(scene, tmp_path, name="first")
    lines = told()
    assert len(lines) == 2
    assert "another Client of this very program, first (made in stub_scheduler.py, line" in lines[0]
    assert "has it: close that one first; place 1" in lines[0] and "place 2" in lines[1]


def test_who_does_not_wait_any_more_leaves_the_line(tmp_path: Path) -> None:
    async def scene(client: Client, stub: StubScheduler) -> None:
        impatient, cancelled, patient = (another(tmp_path) for _ in range(3))
        waits = [asyncio.ensure_future(other.schedule(stub.location)) for other in (cancelled, patient)]
        with pytest.raises(
            TimeoutError, match=r"within 0.05 s: another Client of this very program, .* has the cluster"
        ):
            await impatient.schedule(stub.location, timeout=0.05)
        waits[0].cancel()
        await client.close()
        assert await waits[1] == 0
        await patient.close()
        assert await impatient.schedule(stub.location) == 0
        await impatient.close()

    play(scene, tmp_path)


def test_schedule_twice_at_once_is_one_stay(tmp_path: Path) -> None:
    async def scene(client: Client, stub: StubScheduler) -> None:
        await client.close()
        assert await asyncio.gather(*(client.schedule(stub.location) for _ in range(2))) == [0, 0]
        assert sum(isinstance(word.message, messages.Enlist) for word in stub.got) == 2

    play(scene, tmp_path)


def test_a_client_that_nobody_refers_to_gives_its_lease_back_when_its_tasks_have_ended(
    tmp_path: Path,
) -> None:
    async def scene(client: Client, stub: StubScheduler) -> None:
        await client.close()
        dropped = another(tmp_path)
        await dropped.schedule(stub.location)
        handle = dropped.submit(compute, 1)
        await stub.until(lambda: stub.tasks)
        del dropped
        gc.collect()
        await asyncio.sleep(0.01)
        assert isinstance(stub.got[-1].message, messages.Enlist)
        stub.end(stub.tasks[0], 1)
        assert await handle == 1
        await stub.until(lambda: stub.got[-1].message == messages.Release())
        assert await client.schedule(stub.location) == 0

    play(scene, tmp_path)


def test_a_client_that_only_a_cycle_refers_to_makes_way_for_the_next(tmp_path: Path) -> None:
    async def scene(client: Client, stub: StubScheduler) -> None:
        await client.close()
        dropped, following = another(tmp_path, "dropped"), another(tmp_path)
        await dropped.schedule(stub.location)
        cycle: list[Any] = [dropped]
        cycle.append(cycle)
        del dropped, cycle
        assert await following.schedule(stub.location) == 0
        await following.close()

    gc.disable()
    try:
        play(scene, tmp_path)
    finally:
        gc.enable()


@pytest.mark.parametrize("first", ["the next waits", "nobody refers to it"])
def test_a_client_that_nobody_refers_to_makes_way_for_the_next(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, first: str
) -> None:
    async def scene(client: Client, stub: StubScheduler) -> None:
        await client.close()
        dropped, following = another(tmp_path, "dropped"), another(tmp_path)
        await dropped.schedule(stub.location)
        handle = dropped.submit(compute, 1)
        await stub.until(lambda: stub.tasks)
        if first == "the next waits":
            waits = asyncio.ensure_future(following.schedule(stub.location))
            await asyncio.sleep(0)
        stub.is_deaf = True
        del dropped
        gc.collect()
        if first == "nobody refers to it":
            await asyncio.sleep(0.01)  # it is closed, and waits for its task
            assert isinstance(stub.got[-1].message, messages.Enlist)
            waits = asyncio.ensure_future(following.schedule(stub.location))
        await stub.until(lambda: stub.got[-1].message == messages.Release())
        stub.is_deaf = False
        stub.send(messages.Released(""))
        assert await waits == 0
        with pytest.raises(dispycos.TaskTerminated):
            await handle
        await following.close()

    play(scene, tmp_path)
    assert (
        "makes way for the Client that was made after it: it is closed, which ends 1 task (compute 1)"
        in caplog.text
    )


# --- close ---


@pytest.mark.parametrize("delay", [0.001, 0.05])
def test_a_cancelled_close_gives_the_cluster_back_all_the_same(tmp_path: Path, delay: float) -> None:
    async def scene(client: Client, stub: StubScheduler) -> None:
        handle = client.submit(compute, 1)
        await stub.until(lambda: stub.tasks)
        stub.is_deaf = True
        closing = asyncio.ensure_future(client.close())
        await asyncio.sleep(delay)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        with pytest.raises(dispycos.NotScheduled):
            client.submit(compute, 2)
        await stub.until(lambda: stub.got[-1].message == messages.Release())
        again = asyncio.ensure_future(client.close())
        await asyncio.sleep(0.05)
        assert not again.done(), "the second one waits for what the first began"
        stub.send(messages.Released(""))
        assert await again == 0
        with pytest.raises(dispycos.TaskTerminated):
            await handle
        stub.is_deaf = False
        assert await client.schedule(stub.location, timeout=5) == 0

    play(scene, tmp_path)


def test_an_end_that_is_cancelled_with_all_tasks_of_its_loop_comes_all_the_same(tmp_path: Path) -> None:
    async def scene(client: Client, stub: StubScheduler) -> None:
        dropped, following = another(tmp_path), another(tmp_path)
        await client.close()
        await dropped.schedule(stub.location)
        del dropped
        gc.collect()
        await asyncio.sleep(0)
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()  # before its first step
        assert await following.schedule(stub.location, timeout=5) == 0
        await following.close()

    play(scene, tmp_path)


def test_the_word_that_an_earlier_client_awaited_in_vain_does_not_end_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dispycos.actors.client.lease.RELEASED_AFTER_S", 0.0)

    async def scene(client: Client, stub: StubScheduler) -> None:
        following = another(tmp_path)
        scheduling = asyncio.ensure_future(following.schedule(stub.location))
        await client.close(terminate=True, timeout=0.0)
        await scheduling
        assert isinstance(following._lease, ClientLease) and not following._lease.ledger.over
        await following.close()

    play(scene, tmp_path)


@pytest.mark.parametrize("when", range(8))
def test_schedule_can_be_cancelled_at_any_point(tmp_path: Path, when: int) -> None:
    async def scene(client: Client, stub: StubScheduler) -> None:
        await client.close()
        scheduling = asyncio.ensure_future(client.schedule(stub.location))
        for _ in range(when**2):
            await asyncio.sleep(0)
        scheduling.cancel()
        await asyncio.wait([scheduling])
        if not scheduling.cancelled():
            await client.close()
        assert await another(tmp_path).schedule(stub.location, timeout=5) == 0

    play(scene, tmp_path)


def test_close_says_which_tasks_wait_for_a_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    soon(monkeypatch)
    monkeypatch.setattr("dispycos.notices.AGAIN_S", 0.1)

    async def scene(client: Client, stub: StubScheduler) -> None:
        def actor(envelope: Envelope, now: float) -> None:
            word = messages.Delivered(int(isinstance(envelope.message, messages.AwaitsMessage)))
            answer = Envelope(envelope.sender, envelope.to, word, envelope.correlation)
            stub.server.runtime.router.send(answer, now)

        for name in ("counter", "compute"):
            compute.__name__ = name
            client.submit(compute, 1)
        await stub.until(lambda: len(stub.tasks) == 2)
        # The other one has no actor there, and answers that it does not.
        stub.server.runtime.attach_inbox(99, actor)
        stub.begin(stub.tasks[0], 99)
        stub.begin(stub.tasks[1], 98)
        stub.is_deaf = True
        closing = asyncio.ensure_future(client.close())
        while caplog.text.count("close() waits") < 3:
            await asyncio.sleep(0.01)
        stub.send(messages.Released(""))
        await closing

    play(scene, tmp_path)
    line = next(line for line in caplog.messages if "close() waits" in line)
    assert line.startswith("close() waits for counter at stub/server-1, waiting in receive()")
    assert "terminate()" in line and "compute" not in line


def entering(client: Client, stub: StubScheduler) -> Client:
    """For `async with`, which names no scheduler."""
    client.schedule = partial(client.schedule, stub.location)  # type: ignore[method-assign]
    return client


async def lose_tasks(client: Client, stub: StubScheduler) -> None:
    """Five, of which one is awaited, one was to be terminated, and one is monitored."""
    handles = [client.io_submit(compute, n) for n in range(5)]
    await stub.until(lambda: len(stub.tasks) == 5)

    async def watch(*, task: Any) -> Any:
        await handles[4].monitor(task)
        return (await task.receive()).type

    watcher = dispycos.Task(watch)
    handles[3].terminate()
    await stub.until(lambda: isinstance(stub.heard[-1].message, messages.Terminate))
    stub.lose_server("the node burnt down")
    with pytest.raises(dispycos.TaskLost):
        await handles[0]
    assert await watcher is dispycos.TaskLost


WORDS = r"2 tasks \(compute 2\) that nobody awaited were lost: the node burnt down"


def test_close_raises_if_tasks_were_lost_that_nobody_awaited(tmp_path: Path) -> None:
    async def scene(client: Client, stub: StubScheduler) -> None:
        await lose_tasks(client, stub)
        with pytest.raises(dispycos.TaskLost, match=WORDS):
            await client.close()
        assert await client.close() == 0
        async with entering(client, stub):
            """Nothing of the first stay is left."""

    play(scene, tmp_path)


def test_leaving_the_block_raises_too(tmp_path: Path) -> None:
    async def scene(client: Client, stub: StubScheduler) -> None:
        await client.close()
        with pytest.raises(dispycos.TaskLost, match=WORDS):
            async with entering(client, stub):
                await lose_tasks(client, stub)

    play(scene, tmp_path)


@pytest.mark.parametrize("how", ["the body raised", "terminate", "in finally"])
def test_lost_tasks_are_a_warning_where_an_exception_would_hide_another(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    async def leave(client: Client, stub: StubScheduler) -> None:
        if how == "the body raised":
            await client.close()
            async with entering(client, stub):
                await lose_tasks(client, stub)
                raise KeyError("mine")
        await lose_tasks(client, stub)
        try:
            if how == "terminate":
                await client.close(terminate=True)
            raise KeyError("mine")
        finally:
            await client.close()

    async def scene(client: Client, stub: StubScheduler) -> None:
        with pytest.raises(KeyError, match="mine"):
            await leave(client, stub)

    play(scene, tmp_path)
    assert re.search(WORDS, caplog.text)


# --- loops that have ended ---


def test_a_client_of_a_loop_that_has_ended_says_so_and_can_be_scheduled_again(tmp_path: Path) -> None:
    client = Client(secret_file=secret_in(tmp_path))

    async def scene(_: Client, stub: StubScheduler) -> None:
        await _.close()
        await client.schedule(stub.location)
        client.submit(compute, 1)

    async def calls(_: Client, stub: StubScheduler) -> None:
        await _.close()
        for call in (client.submit, client.rtask, client.map):
            with pytest.raises(dispycos.NotScheduled, match=r"event loop that has ended"):
                await call(compute, [1])  # type: ignore[arg-type, misc]
        assert await client.close() == 0
        await client.schedule(stub.location)
        handle = client.submit(compute, 2)
        await stub.until(lambda: stub.tasks)
        stub.end(stub.tasks[0], 4)
        assert await handle == 4
        await client.close()

    play(scene, tmp_path)
    with pytest.raises(dispycos.NotScheduled, match="event loop that has ended"):
        client.submit(compute, 1)
    play(calls, tmp_path)


def test_a_client_used_on_another_loop_that_runs_says_so(tmp_path: Path) -> None:
    async def scene(client: Client, stub: StubScheduler) -> None:
        async def elsewhere() -> None:
            for call in (lambda: client.rtask(compute, 1), client.schedule, client.close):
                with pytest.raises(RuntimeError, match="belongs to another event loop"):
                    await call()

        await asyncio.to_thread(asyncio.run, elsewhere())

    play(scene, tmp_path)


def test_a_loop_that_is_closed_with_a_client_gives_the_cluster_back_with_the_next(tmp_path: Path) -> None:
    """Nobody tells of the end of such a loop."""
    client = Client(secret_file=secret_in(tmp_path))
    threads = threading.active_count()

    async def scene(other: Client, stub: StubScheduler) -> None:
        await other.close()
        loop = asyncio.new_event_loop()
        await asyncio.to_thread(loop.run_until_complete, client.schedule(stub.location))
        loop.close()
        assert threading.active_count() > threads + 1
        await other.schedule(stub.location)
        assert [type(word.message) for word in stub.got[-2:]] == [messages.Release, messages.Enlist]

    play(scene, tmp_path)


def test_an_error_that_nobody_awaited_is_told_at_the_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def scene(client: Client, stub: StubScheduler) -> None:
        handles = [client.submit(compute, n) for n in range(2)]
        await stub.until(lambda: len(stub.tasks) == 2)
        for task in stub.tasks:
            stub.fail(task, ValueError(f"bad {stub.arguments(task)[0]}"))
        with pytest.raises(ValueError, match="bad 0"):
            await handles[0]

    play(scene, tmp_path)
    told = capsys.readouterr().err
    assert "ValueError: bad 1" in told and "bad 0" not in told


def test_a_status_task_hears_how_tasks_end(tmp_path: Path) -> None:
    heard: list[Any] = []

    async def watch(*, task: Any) -> None:
        while True:
            word = await task.receive()
            if isinstance(word, dispycos.MonitorStatus):
                heard.append((word.type, word.value))

    async def scene(client: Client, stub: StubScheduler) -> None:
        client.submit(compute, 3)
        client.submit(compute, 4)
        await stub.until(lambda: len(stub.tasks) == 2)
        stub.end(stub.tasks[0], 9)
        stub.end(stub.tasks[1], None, OutcomeKind.TERMINATED)
        while len(heard) < 2:
            await asyncio.sleep(0.001)

    async def main() -> None:
        home_of_this_loop(ClientPayloads(), secret_in(tmp_path))
        await play_here(scene, tmp_path, status_task=dispycos.Task(watch))

    asyncio.run(main())
    assert heard == [(StopIteration, 9), (KeyboardInterrupt, "compute was terminated")]
