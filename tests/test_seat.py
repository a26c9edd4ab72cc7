"""One stay at a scheduler: how it begins, what it does when the scheduler is silent or gone, and that nobody waits after it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

import dispycos
from dispycos.actors.client import Client
from dispycos.actors.local import host_of_this_loop
from dispycos.actors.parcels import ClientParcels
from dispycos.protocol import messages
from dispycos.protocol.status import OutcomeKind
from tests.kit.stub_scheduler import StubScheduler, play, play_here, secret_in

pytestmark = pytest.mark.timeout(40)


def compute(n: int) -> int:
    return n * n


def test_a_client_says_who_it_is_and_what_it_wants(tmp_path: Path) -> None:
    async def scene(client: Client, stub: StubScheduler) -> None:
        word: Any = stub.got[0].message
        assert isinstance(word, messages.Enlist)
        assert word.client.name == "painter" and word.pulse_interval == 20.0 and word.restart_servers
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
        with pytest.raises(TimeoutError):
            await client.schedule(stub.location, timeout=0.05)
        stub.is_deaf = False
        await client.schedule(stub.location)

    play(scene, tmp_path)


def test_who_leaves_a_silent_scheduler_waits_for_no_task(tmp_path: Path) -> None:
    async def scene(client: Client, stub: StubScheduler) -> None:
        handle, started = client.submit(compute, 1), asyncio.ensure_future(client.rtask(compute, 2))
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


def test_a_lease_that_was_given_up_without_a_link_is_given_back_when_that_heals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "dispycos.actors.client_role.SCHEDULER_GONE_AFTER", 0.001
    )  # before it is dialled again

    async def scene(client: Client, stub: StubScheduler) -> None:
        handle = client.submit(compute, 1)
        await stub.until(lambda: stub.tasks)
        stub.is_deaf = True
        assert client._seat is not None and client._seat._uplink is not None
        dialler: Any = client._seat._uplink._dialler
        runtime = client._seat.runtime
        with runtime.lock:
            runtime.mailbox.close_link(dialler.link)
            runtime.on_link_down(dialler.link, "the cable was pulled", refused=False)
        with pytest.raises(dispycos.TaskLost, match="no link to the scheduler"):
            await handle
        await stub.until(lambda: isinstance(stub.got[-1].message, messages.Release))
        assert stub.got[-1].message == messages.Release(terminate=True, await_io=False)
        closing = asyncio.ensure_future(client.close())
        await asyncio.sleep(0.05)
        assert not closing.done()  # until the scheduler has the lease back, it would turn us away
        stub.send(messages.Released(""))
        await closing
        stub.is_deaf = False
        await client.schedule(stub.location)

    play(scene, tmp_path)


def test_a_second_stay_on_the_same_loop_is_refused(tmp_path: Path) -> None:
    async def scene(client: Client, stub: StubScheduler) -> None:
        with pytest.raises(dispycos.ScheduleError, match="another Client of this event loop"):
            await Client().schedule(stub.location)

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
        host_of_this_loop(ClientParcels(), secret_in(tmp_path))
        await play_here(scene, tmp_path, status_task=dispycos.Task(watch))

    asyncio.run(main())
    assert heard == [(StopIteration, 9), (KeyboardInterrupt, "compute was terminated")]
