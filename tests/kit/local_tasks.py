"""Local tasks for tests: a program's main task to play a scene in, and a host without sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import dispycos
from dispycos.actors.shipping.pickling import dumps, loads
from dispycos.actors.shipping.words import CodeRequest, MissingCode
from dispycos.actors.tasks.calling import with_task
from dispycos.actors.tasks.host import TaskHost
from dispycos.actors.tasks.running.interrupts import Interrupts
from dispycos.protocol.envelope import Payload
from dispycos.runtime import Runtime


class Custom(Exception):
    """Of the user's own."""


def play(scene: Callable[..., Any]) -> Any:
    """Runs the scene as the main task; whatever the loop complains about fails the test."""
    complaints: list[dict[str, Any]] = []

    async def main(task: Any = None) -> Any:
        asyncio.get_running_loop().set_exception_handler(lambda _, complaint: complaints.append(complaint))
        async with asyncio.timeout(15):
            args, kwargs = with_task(scene, (), {}, SimpleNamespace(handle=task))
            return await scene(*args, **kwargs)

    value = dispycos.run(main)
    assert complaints == []
    return value


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.001)


class Pull:
    """Payloads that miss code until it has been fetched."""

    def __init__(self) -> None:
        self.known = False
        self.fetched = 0
        self.caught_up: list[int] = []

    def dumps(self, value: Any, what: str) -> Payload:
        return dumps(value, what)

    def loads(self, payload: Payload) -> Any:
        value = loads(payload)
        if value == "needs code" and not self.known:
            raise MissingCode(CodeRequest(names=["Shape"]))
        return value

    def version(self) -> int:
        return 3

    def is_behind(self, version: int) -> bool:
        return version > 3

    async def catch_up(self, version: int) -> None:
        self.caught_up.append(version)

    async def fetch(self, missing: MissingCode) -> None:
        await asyncio.sleep(0.01)
        self.fetched += 1
        self.known = True


def host_scene(scene: Callable[[TaskHost, Pull], Awaitable[None]]) -> None:
    """On a runtime without sockets, with payloads of our own."""

    async def main() -> None:
        runtime = Runtime("client", "test", None)
        payloads = Pull()
        host = TaskHost(runtime, payloads, Interrupts())
        try:
            async with asyncio.timeout(10):
                await scene(host, payloads)
        finally:
            host.close()
            await runtime.close()

    asyncio.run(main())
