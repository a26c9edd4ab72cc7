"""That a request gets its own reply, or the word that nobody is left to give one."""

from __future__ import annotations

import asyncio
import traceback
from typing import Any

import pytest

from dispycos import Task, TaskLost
from dispycos.actors.tasks.current import current_cell, current_host, host_of
from dispycos.actors.tasks.host import TaskHost
from dispycos.protocol import messages
from dispycos.protocol.addresses import HOST, Address
from dispycos.protocol.envelope import Envelope
from tests.kit.local_tasks import Pull, host_scene, play

pytestmark = [pytest.mark.timeout(30), pytest.mark.usefixtures("own_home")]


def test_a_request_gets_its_reply() -> None:
    async def child(task: Any = None) -> None:
        for _ in range(2):
            number = await task.receive()
            task.reply(number + 1)

    async def scene() -> None:
        handle = Task(child)
        assert await handle.ask(1) == 2
        assert await handle.ask(2, timeout=5) == 3

    play(scene)


def test_requests_of_several_askers_are_not_mixed_up() -> None:
    async def server(task: Any = None) -> None:
        for _ in range(20):
            task.reply(await task.receive())

    async def client(handle: Task, number: int) -> bool:
        return bool(await handle.ask(number) == number)

    async def scene() -> None:
        handle = Task(server)
        assert all(await asyncio.gather(*(Task(client, handle, number) for number in range(20))))

    play(scene)


def test_an_asker_waits_as_long_as_it_said() -> None:
    async def child(task: Any = None) -> Any:
        await task.receive()
        await task.sleep(0.05)
        task.reply("late")
        return await task.receive()

    async def scene() -> None:
        handle = Task(child)
        with pytest.raises(TimeoutError, match=r"^child has not answered within 0\.01 s$") as info:
            await handle.ask("?", timeout=0.01)
        frames = [frame.name for frame in traceback.extract_tb(info.value.__traceback__)]
        assert frames == ["scene"], "a reader has no use for ours"
        handle.send("after the late reply")
        assert await handle == "after the late reply"

    play(scene)


@pytest.mark.parametrize("taken", [True, False])
def test_who_asked_a_task_that_ends_is_told(taken: bool) -> None:
    async def child(task: Any = None) -> None:
        if taken:
            await task.receive()
        await task.sleep(0.02)

    async def scene() -> None:
        with pytest.raises(TaskLost, match="child ended without a reply"):
            await Task(child).ask("?", timeout=5)

    play(scene)


def test_who_asks_a_task_that_has_ended_is_told() -> None:
    async def child() -> None: ...

    async def scene() -> None:
        handle = Task(child)
        await handle
        with pytest.raises(TaskLost):
            await handle.ask("?", timeout=5)

    play(scene)


def test_nothing_is_kept_of_calls_that_are_over() -> None:
    async def child(task: Any = None) -> None:
        task.reply(await task.receive())
        await task.receive()
        await task.receive()

    async def scene() -> None:
        handle = Task(child)
        host = current_host()
        await handle.ask(1)
        with pytest.raises(TimeoutError):
            await handle.ask(2, timeout=0.01)
        await handle.deliver("end")
        await handle
        await asyncio.sleep(0)
        assert host._calls == {}
        assert set(host.cells.values()) == {current_cell()}

    play(scene)


def test_a_call_to_a_process_that_dies_is_answered_by_nothing() -> None:
    async def scene(host: TaskHost, payloads: Pull) -> None:
        far = host.handle(Address(99, 20), "far", None, None)
        asking = asyncio.ensure_future(far.ask("?"))
        delivering = asyncio.ensure_future(far.deliver("word"))
        other = asyncio.ensure_future(host.handle(Address(98, 20), "other", None, None).deliver("x"))
        await asyncio.sleep(0.01)
        host.peer_gone(99, [])
        with pytest.raises(TaskLost, match="far ended without a reply"):
            await asking
        assert await delivering == 0
        assert not other.done()
        other.cancel()

    host_scene(scene)


def test_messages_that_a_dead_process_did_not_confirm_are_told(caplog: pytest.LogCaptureFixture) -> None:
    async def scene(host: TaskHost, payloads: Pull) -> None:
        tell = Envelope(Address(99, 20), host.address, messages.Tell(), 0, b"")
        host.peer_gone(99, [tell, tell])
        host.peer_gone(98, [])

    host_scene(scene)
    assert len(caplog.messages) == 1 and "2 messages" in caplog.messages[0]


def test_answers_outside_of_tasks_come_to_the_process() -> None:
    async def scene(host: TaskHost, payloads: Pull) -> None:
        assert host.address == host.runtime.address(HOST)
        assert host.me() == host.address
        assert host_of(asyncio.get_running_loop()) is host
        host.close()
        assert host_of(asyncio.get_running_loop()) is None

    host_scene(scene)
