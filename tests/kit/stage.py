"""A server's tasks for tests: a host without sockets, whose loop makes subtasks, and a world that a bad interrupt would break."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

from dispycos.actors.host.cells import Cell, TaskHost
from dispycos.actors.host.execution import Outcome, Raised
from dispycos.actors.host.interrupts import Interrupts
from dispycos.actors.parcels import dumps_value, loads_plain
from dispycos.protocol.envelope import Payload
from dispycos.runtime import Runtime


class Plain:
    """Parcels of values that everybody has."""

    def dumps(self, value: Any, what: str) -> Payload:
        return dumps_value(value, what)

    def loads(self, payload: Payload) -> Any:
        return loads_plain(payload)

    def version(self) -> int:
        return 0

    def is_behind(self, version: int) -> bool:
        return False

    async def catch_up(self, version: int) -> None:
        raise AssertionError("nothing is behind")

    async def fetch(self, missing: BaseException) -> None:
        raise AssertionError("nothing is missing")


class Stage:
    """Plays scenes with tasks on a loop as a server's, and collects what the loop complains about."""

    def __init__(self, interrupts: Interrupts) -> None:
        self.interrupts = interrupts
        self.complaints: list[dict[str, Any]] = []
        self.loop: asyncio.AbstractEventLoop
        self.host: TaskHost

    def play(self, scene: Callable[[Stage], Awaitable[Any]]) -> Any:
        async def main() -> Any:
            self.loop = asyncio.get_running_loop()
            self.loop.set_exception_handler(lambda _, complaint: self.complaints.append(complaint))
            runtime = Runtime("server", "test", None)
            self.host = TaskHost(runtime, Plain(), self.interrupts)
            self.host.adopt_subtasks()
            try:
                return await asyncio.wait_for(scene(self), 60)
            finally:
                self.host.close()
                await runtime.close()
                gc.collect()
                await asyncio.sleep(0)

        return asyncio.run(main())

    async def start(self, function: Callable[..., Any], *args: Any) -> tuple[Cell, asyncio.Future[Outcome]]:
        """From a callback of the loop, as a server does; returns when the first step is over."""
        done: asyncio.Future[Outcome] = self.loop.create_future()
        started: asyncio.Future[None] = self.loop.create_future()
        cell = self.host.prepare(function.__name__, on_end=lambda _, outcome: done.set_result(outcome))

        def begin() -> None:
            self.host.begin(cell, function, args, {})
            started.set_result(None)

        self.loop.call_soon(begin)
        await started
        return cell, done

    async def run(self, function: Callable[..., Any], *args: Any) -> Outcome:
        _, done = await self.start(function, *args)
        return await done

    def run_one(self, function: Callable[..., Any], *args: Any) -> Outcome:
        outcome: Outcome = self.play(lambda stage: stage.run(function, *args))
        return outcome


def in_thread_soon(body: Callable[[], object], delay: float = 0.05) -> None:
    timer = threading.Timer(delay, body)
    timer.daemon = True
    timer.start()


def terminate_when(cell: Cell, condition: Callable[[], object]) -> None:
    """From a thread, and pursued, as the relief thread does while a step runs."""
    interrupts = cell.host.interrupts

    def watch() -> None:
        until = time.monotonic() + 10
        while not (condition() and interrupts.is_running(cell)) and time.monotonic() < until:
            time.sleep(0.001)
        cell.terminate()
        while not cell.ended and time.monotonic() < until:
            time.sleep(0.02)
            interrupts.nudge()

    in_thread_soon(watch, 0)


def error_of(outcome: Outcome) -> BaseException:
    assert isinstance(outcome, Raised), outcome
    return outcome.error
