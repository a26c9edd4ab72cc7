"""That what comes is unpickled when its code is there, and fails where it is read."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from dispycos import Task, TaskTerminated
from dispycos.actors.tasks.ends import Outcome, Raised, Returned
from dispycos.actors.tasks.host import TaskHost
from dispycos.actors.tasks.opening import settle
from dispycos.errors import DispycosError, RemoteError
from dispycos.protocol import messages
from dispycos.protocol.envelope import Envelope
from tests.kit.local_tasks import Pull, host_scene, play

pytestmark = [pytest.mark.timeout(30), pytest.mark.usefixtures("own_home")]


def test_a_message_of_newer_code_catches_up_first() -> None:
    async def reader(task: Any = None) -> Any:
        return await task.receive()

    async def scene(host: TaskHost, payloads: Pull) -> None:
        handle = Task(reader)
        await asyncio.sleep(0)
        word = messages.Tell(code=5)
        host.post(Envelope(handle.home, host.address, word, 0, host.payloads.dumps("new", "")))
        assert await handle == "new"
        assert payloads.caught_up == [5]

    host_scene(scene)


def test_a_message_whose_code_is_missing_waits_for_it_and_keeps_its_place() -> None:
    async def reader(task: Any = None) -> list[Any]:
        return [await task.receive() for _ in range(3)]

    async def scene(host: TaskHost, payloads: Pull) -> None:
        handle = Task(reader)
        for message in ("first", "needs code", "last"):
            handle.send(message)
        assert await handle == ["first", "needs code", "last"]
        assert payloads.fetched == 1

    host_scene(scene)


def test_settling_keeps_what_a_future_can_hold() -> None:
    async def scene(host: TaskHost, payloads: Pull) -> None:
        def settled(outcome: Outcome) -> Task:
            handle = Task.__new__(Task)._bind(host, host.runtime.address(99), "compute", None)
            settle(handle, outcome)
            return handle

        for error, kind in [
            (ValueError("x"), ValueError),
            (KeyboardInterrupt(), TaskTerminated),
            (SystemExit(2), DispycosError),
            (StopIteration(2), DispycosError),
            (asyncio.CancelledError(), RemoteError),
        ]:
            assert type(settled(Raised(error)).exception()) is kind
        assert settled(Returned(5)).result() == 5

    host_scene(scene)


class Thorny:
    """Pickles, and fails where it is unpickled."""

    def __reduce__(self) -> Any:
        return _prick, ()


def _prick() -> None:
    raise LookupError("thorn")


def test_a_message_that_cannot_be_rebuilt_is_an_error_at_its_reader_and_the_next_one_comes() -> None:
    async def child(task: Any = None) -> Any:
        with pytest.raises(LookupError, match="thorn"):
            await task.receive()
        return await task.receive()

    async def scene() -> None:
        handle = Task(child)
        handle.send(Thorny())
        handle.send("next")
        assert await handle == "next"

    play(scene)
