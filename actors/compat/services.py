"""RPS, which is RTI in older scripts: a function that other programs have run as tasks of the program that registered it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

from dispycos.errors import TaskLost

from ..tasks.calling import name_of
from .tasks import Task

CALL, MONITOR, END = "call", "monitor", "end"


class RPS:
    """``RPS(function, name=None)``: after register() others find it with ``yield RPS.locate(name)``.

    ``yield rps(*args)`` runs the function there and gives its Task; None if the service has ended.
    """

    def __init__(self, method: Callable[..., Any], name: str | None = None) -> None:
        self.name = name or name_of(method)
        self._task = Task(_serve, method)
        self._task.set_daemon()

    def __reduce__(self) -> Any:
        return _located, (self._task, self.name)

    @property
    def location(self) -> Any:
        """Of the program that has it."""
        return self._task.location

    def register(self) -> int:
        """Others find it from now on. 0; -1 if another one of this process has the name."""
        return self._task.register(_title(self.name))

    def unregister(self) -> int:
        """It is not found any more; who has found it may go on. 0."""
        return self._task.unregister(_title(self.name))

    @classmethod
    async def locate(cls, name: str, location: Any = None, timeout: float | None = None) -> Self | None:
        """The service of this name; None if there is none within `timeout` seconds."""
        task = await Task.locate(_title(name), location, timeout)
        return None if task is None else _located(task, name, cls)

    async def __call__(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return await self._task.ask((CALL, args, kwargs))
        except TaskLost:
            return None

    async def monitor(self, task: Any) -> int:
        """Have this task sent a MonitorStatus for each task of the service that ends. 0; -1 if the service has ended."""
        try:
            result: int = await self._task.ask((MONITOR, task, None))
            return result
        except TaskLost:
            return -1

    def close(self) -> int:
        """The service ends; tasks that it has started go on. 0."""
        self.unregister()
        return self._task.send((END, None, None))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RPS) and self._task == other._task

    def __hash__(self) -> int:
        return hash(self._task)

    def __repr__(self) -> str:
        return f"<RPS {self.name}>"


RTI = RPS


def _title(name: str) -> str:
    """Services have names of their own."""
    return f"RPS {name}"


def _located(task: Task, name: str, kind: type[Any] = RPS) -> Any:
    service = object.__new__(kind)
    service.name, service._task = name, task
    return service


async def _serve(method: Callable[..., Any], *, task: Any) -> None:
    monitor = None
    while True:
        word, what, kwargs = await task.receive()
        if word == END:
            return
        if word == MONITOR:
            monitor = what
            task.reply(0)
            continue
        started = Task(method, *what, **kwargs)
        if monitor is not None:
            started.notify(monitor)
        task.reply(started)
