"""RPS, which is RTI in older scripts: a function that other programs have run as tasks of the program that registered it."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any, Self

from dispycos.errors import TaskLost
from dispycos.protocol.addresses import Address
from dispycos.protocol.envelope import Envelope

from ..tasks.calling import name_of
from ..tasks.cell import Cell
from .tasks import Task

CALL, MONITOR, END = "call", "monitor", "end"


class RPS:
    """``RPS(function, name=None)``: after register() others find it with ``yield RPS.locate(name)``.

    ``yield rps(*args)`` runs the function there and gives its Task; None if the service has ended.
    """

    def __init__(self, method: Callable[..., Any], name: str | None = None) -> None:
        self.name = name or name_of(method)
        self._take(Task(_serve, method))
        self._task.set_daemon()

    def _take(self, task: Task) -> None:
        self._task = task
        self._is_closed = False
        self._started: weakref.WeakSet[Task] = weakref.WeakSet()  # by this one

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
        if self._is_closed:
            return None
        ending = None if isinstance(self._task._source, Cell) else _Ending(self._task)
        watcher = None if ending is None else ending.watcher
        try:
            started = await self._task.ask((CALL, (args, watcher), kwargs))
        except TaskLost:
            return None
        if ending is not None:
            ending.is_of(started)
        self._started.add(started)
        return started

    def monitor(self, task: Any) -> int:  # scripts call it with `yield`, and without
        """Have this task sent a MonitorStatus for each task of the service that ends. 0; -1 if the service has ended."""
        return self._task.send((MONITOR, task, None))

    def close(self) -> int:
        """Of the program that has it: the service ends, and tasks that it has started go on. Of others: those end that this one has
        started, and of which there are handles yet; it starts no more. 0.
        """
        if isinstance(self._task._source, Cell):
            self.unregister()
            self._task.send((END, None, None))
        for task in self._started:
            task.terminate()
        self._is_closed = True
        return 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RPS) and self._task == other._task

    def __hash__(self) -> int:
        return hash(self._task)

    def __repr__(self) -> str:
        return f"<RPS {self.name}>"


RTI = RPS


class _Ending:
    """How a task ends that another program starts for us: that is said without being asked, however soon."""

    def __init__(self, service: Task) -> None:
        self._host = service._host
        self._heard: list[Envelope | None] = []
        self._task: Task | None = None
        with self._host.shield:
            correlation = self._host.expect(service.home.epoch, self._hear)
        self.watcher = tuple(self._host.address), correlation

    def _hear(self, answer: Envelope | None) -> None:
        self._heard.append(answer)
        if self._task is not None:
            self._host.hear_end(self._task, answer)

    def is_of(self, task: Task) -> None:
        self._task = task
        task._watched = True
        if self._heard:
            self._host.hear_end(task, self._heard[0])


def _title(name: str) -> str:
    """Services have names of their own."""
    return f"RPS {name}"


def _located(task: Task, name: str, kind: type[Any] = RPS) -> Any:
    service = object.__new__(kind)
    service.name = name
    service._take(task)
    return service


async def _serve(method: Callable[..., Any], *, task: Any) -> None:
    monitor = None
    while True:
        word, what, kwargs = await task.receive()
        if word == END:
            return
        if word == MONITOR:
            monitor = what
            continue
        args, watcher = what
        started = Task(method, *args, **kwargs)
        if watcher is not None:  # it is told, too, if that ends before anybody has the handle
            address, correlation = watcher
            cell: Any = started._source
            with task._host.shield, task._host.runtime.lock:
                cell.watch(Address(*address), correlation)
        if monitor is not None:
            started.notify(monitor)
        task.reply(started)
