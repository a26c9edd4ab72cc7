"""How tasks are submitted: the same calls for a program with its Client and for a task in a server with its `task.client`."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Iterable
from functools import partial
from typing import Any, Generic

from dispycos.protocol.addresses import Location
from dispycos.protocol.status import OutcomeKind

from .map import Progress, values_of
from .record import Record
from .roles import HandleT


class Submits(ABC, Generic[HandleT]):
    """Has functions run as remote tasks."""

    @abstractmethod
    def _submit(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        io: bool = False,
        where: str | Location | None = None,
        alone: bool = False,
        retries: int = 0,
    ) -> HandleT:
        """`alone`: its start is waited for."""

    @abstractmethod
    def _here(self) -> object:
        """Raises NotScheduled if nothing can be submitted."""

    def submit(self, function: Callable[..., Any], /, *args: Any, retries: int = 0, **kwargs: Any) -> HandleT:
        """Queue a CPU task for the least loaded node; returns its handle at once. Await the handle for the value.

        What it is called with is not to be changed before it has ended, as far as that is buffers (arrays) of more than 1 MiB
        altogether: they are not copied, unless `retries` asks for it.

        Parameters
        ----------
        retries: how often it may be started again when it was lost with its server or node; so it starts at most
            1 + `retries` times, and ``task.attempt`` tells which time this is. One that raised, or that was terminated, has
            ended. A parameter of the function that is called ``retries`` is given by its position.

        Raises
        ------
        NotPicklable: naming the argument that cannot be sent. TypeError, ValueError: `retries` is no count.
        """
        return self._submit(function, args, kwargs, retries=retries)

    def io_submit(
        self, function: Callable[..., Any], /, *args: Any, retries: int = 0, **kwargs: Any
    ) -> HandleT:
        """As submit, for a task that mostly waits: it shares its server."""
        return self._submit(function, args, kwargs, io=True, retries=retries)

    async def rtask(
        self, function: Callable[..., Any], /, *args: Any, retries: int = 0, **kwargs: Any
    ) -> HandleT:
        """Run a CPU task on the least loaded node; returns its handle when it runs. It has its server alone.

        `retries` is as for submit.

        Raises
        ------
        NotPicklable: naming the argument that cannot be sent.
        TaskRefused, TaskLost: it cannot be run, or its server died before it started.
        """
        return await _until_started(self._submit(function, args, kwargs, alone=True, retries=retries))

    async def rtask_at(
        self,
        where: str | Location,
        function: Callable[..., Any],
        /,
        *args: Any,
        retries: int = 0,
        **kwargs: Any,
    ) -> HandleT:
        """As rtask, on a node (its address, name or Location) or on one server (its Location).

        A task that was lost with the one server where it had to run is not started again.
        """
        return await _until_started(
            self._submit(function, args, kwargs, where=where, alone=True, retries=retries)
        )

    async def io_rtask(
        self, function: Callable[..., Any], /, *args: Any, retries: int = 0, **kwargs: Any
    ) -> HandleT:
        """As rtask, for a task that mostly waits: it shares its server, and close() does not wait for it."""
        return await _until_started(
            self._submit(function, args, kwargs, io=True, alone=True, retries=retries)
        )

    async def io_rtask_at(
        self,
        where: str | Location,
        function: Callable[..., Any],
        /,
        *args: Any,
        retries: int = 0,
        **kwargs: Any,
    ) -> HandleT:
        """As io_rtask, on a node or a server."""
        return await _until_started(
            self._submit(function, args, kwargs, io=True, where=where, alone=True, retries=retries)
        )

    def map(
        self,
        function: Callable[..., Any],
        /,
        *iterables: Iterable[Any],
        progress: bool = False,
        retries: int = 0,
    ) -> AsyncGenerator[tuple[Any, Any], None]:
        """Run function(x) for every x; ``async for`` gets (x, value) as the tasks end. With several iterables x is a tuple.

        The iterables are read as the values are taken, at most 4096 ahead, so they may be endless. A task that raises raises
        here, as an iterable does; then, and when the loop is left, the tasks that have not ended are terminated. `progress`
        keeps a count on standard error; `retries` is as for submit, for each task.

        Raises
        ------
        TypeError: there is nothing to call, or nothing to call it with. NotPicklable: naming the argument.
        """
        self._here()
        must_be_callable(function)
        if not iterables:
            raise TypeError("map() needs an iterable beside the function")
        calls = zip(*iterables, strict=False)  # the shortest ends it, as with Python's own map
        submit = partial(self.submit, function, retries=count(retries))
        return values_of(submit, calls, Progress() if progress else None)


async def _until_started(handle: HandleT) -> HandleT:
    record = handle._source
    assert isinstance(record, Record)
    if record.address is None and not record.ended:
        record.when_started = asyncio.get_running_loop().create_future()
        try:
            await record.when_started
        except asyncio.CancelledError:
            handle.terminate()
            raise
    if record.ended and not record.started and record.outcome in (OutcomeKind.REFUSED, OutcomeKind.LOST):
        await handle
    return handle


def must_be_callable(function: object) -> None:
    if not callable(function):
        raise TypeError(f"a task needs a function, not {type(function).__name__}")


def count(retries: object) -> int:
    if not isinstance(retries, int) or isinstance(retries, bool):
        raise TypeError(f"retries must be an int, not {type(retries).__name__}")
    if retries < 0:
        raise ValueError(f"retries must not be negative: {retries}")
    return retries
