"""Where user functions are run in tests: on a loop, with interrupts, alone or as tasks of a host without sockets."""

from __future__ import annotations

import abc
import asyncio
import contextvars
import gc
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Self, cast

from dispycos.actors.shipping.pickling import dumps, loads
from dispycos.actors.tasks.cell import Cell
from dispycos.actors.tasks.ends import Outcome, Raised
from dispycos.actors.tasks.host import TaskHost
from dispycos.actors.tasks.running.execution import Execution
from dispycos.actors.tasks.running.interrupts import Interrupts
from dispycos.protocol.envelope import Payload
from dispycos.runtime import Runtime

owner_now: contextvars.ContextVar[object] = contextvars.ContextVar("owner_now", default=None)


class Plain:
    """Payloads of values that everybody has."""

    def dumps(self, value: Any, what: str) -> Payload:
        return dumps(value, what)

    def loads(self, payload: Payload) -> Any:
        return loads(payload)

    def version(self) -> int:
        return 0

    def is_behind(self, version: int) -> bool:
        return False

    async def catch_up(self, version: int) -> None:
        raise AssertionError("nothing is behind")

    async def fetch(self, missing: BaseException) -> None:
        raise AssertionError("nothing is missing")


class Stage(abc.ABC):
    """Plays scenes on a loop, and collects what the loop complains about."""

    loop: asyncio.AbstractEventLoop

    def __init__(self, interrupts: Interrupts) -> None:
        self.interrupts = interrupts
        self.complaints: list[dict[str, Any]] = []

    @classmethod
    @contextmanager
    def opened(cls) -> Iterator[Self]:
        """With its interrupts installed; at the end nobody has complained and nothing is asked for."""
        interrupts = Interrupts()
        stage = cls(interrupts)
        interrupts.install()
        try:
            yield stage
        finally:
            interrupts.uninstall()
        assert stage.complaints == []
        assert interrupts._asks == {}

    def play(self, scene: Callable[[Self], Awaitable[Any]]) -> Any:
        async def main() -> Any:
            self.loop = asyncio.get_running_loop()
            self.loop.set_exception_handler(lambda _, complaint: self.complaints.append(complaint))
            async with self.set_up():
                result = await asyncio.wait_for(scene(self), 100)
            gc.collect()
            await asyncio.sleep(0)
            return result

        return asyncio.run(main())

    @asynccontextmanager
    async def set_up(self) -> AsyncIterator[None]:
        yield

    @abc.abstractmethod
    async def start(
        self, function: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> tuple[Any, asyncio.Future[Outcome]]:
        """From a callback of the loop, as the driver does; returns when the first step is over."""

    async def run(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Outcome:
        _, done = await self.start(function, *args, **kwargs)
        return await done

    def run_one(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Outcome:
        outcome: Outcome = self.play(lambda stage: stage.run(function, *args, **kwargs))
        return outcome

    async def in_callback(self, start: Callable[[], None]) -> None:
        started: asyncio.Future[None] = self.loop.create_future()

        def call() -> None:
            start()
            started.set_result(None)

        self.loop.call_soon(call)
        await started


class Prepared(Execution):
    """One that knows its function."""

    call: tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]

    def begin(self) -> None:
        call = self.call
        del self.call
        self.start(*call)


class BareStage(Stage):
    """Executions, without a host."""

    def prepare(
        self, function: Callable[..., Any], *args: Any, owner: object = "owner", **kwargs: Any
    ) -> tuple[Prepared, asyncio.Future[Outcome]]:
        done: asyncio.Future[Outcome] = self.loop.create_future()
        context = contextvars.copy_context()
        context.run(owner_now.set, owner)
        execution = Prepared(cast(Any, owner), self.loop, self.interrupts, context, done.set_result)
        execution.call = function, args, kwargs
        return execution, done

    async def start(
        self, function: Callable[..., Any], *args: Any, owner: object = "owner", **kwargs: Any
    ) -> tuple[Prepared, asyncio.Future[Outcome]]:
        execution, done = self.prepare(function, *args, owner=owner, **kwargs)
        await self.in_callback(execution.begin)
        return execution, done


class HostStage(Stage):
    """Tasks on a loop as a server's: of a host, without sockets, that knows their subtasks."""

    host: TaskHost

    @asynccontextmanager
    async def set_up(self) -> AsyncIterator[None]:
        runtime = Runtime("server", "test", None)
        self.host = TaskHost(runtime, Plain(), self.interrupts)
        self.host.adopt_subtasks()
        try:
            yield
        finally:
            self.host.close()
            await runtime.close()

    async def start(
        self, function: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> tuple[Cell, asyncio.Future[Outcome]]:
        done: asyncio.Future[Outcome] = self.loop.create_future()
        cell = self.host.prepare(function.__name__, on_end=lambda _, outcome: done.set_result(outcome))
        await self.in_callback(lambda: cell.begin(function, args, kwargs))
        return cell, done


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
