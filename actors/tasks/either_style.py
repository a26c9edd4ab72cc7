"""How a function is submitted as a task, in either style: what is taken for one, by which options, and when it has started."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

from dispycos.habits import KEYWORDS, hint
from dispycos.protocol.status import OutcomeKind

from .calling import keywords_of, name_of
from .ends import plain
from .handle import Handle
from .options import OF_OPTIONS, PLAIN, Options, merged
from .record import Record

TaskT = TypeVar("TaskT", bound=Handle[Any])
OptionedT = TypeVar("OptionedT")

SAID_OF_TASKS = OF_OPTIONS.union(KEYWORDS)


class EitherStyle(ABC, Generic[TaskT, OptionedT]):
    """What has functions run as tasks, in either style."""

    _options = PLAIN

    @abstractmethod
    def _here(self) -> object:
        """Raises NotScheduled if nothing can be submitted."""

    @abstractmethod
    def _run(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], options: Options
    ) -> TaskT: ...

    @abstractmethod
    def _with(self, options: Options) -> OptionedT: ...

    def _submit(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        retries: int = 0,
        **how: Any,
    ) -> TaskT:
        must_be_callable(function)
        if kwargs and not SAID_OF_TASKS.isdisjoint(kwargs):
            refuse_options(function, kwargs)
        return self._run(function, args, kwargs, self._options.of_call(retries, **how))

    @plain
    def options(
        self,
        *,
        timeout: float | None = None,
        retries: int | None = None,
        priority: int | None = None,
        gpus: int | None = None,
        resources: Mapping[str, int] | None = None,
    ) -> OptionedT:
        """An object with submit, io_submit, rtask, rtask_at, io_rtask, io_rtask_at and map, whose tasks run so.

        It may be kept, and used as often as the client itself; its own ``options()`` adds to what it says.

        Parameters
        ----------
        timeout: seconds that a task may run, from its start. Then it is ended as by ``terminate()``, and awaiting it raises
            TaskTimeout. Each start of one that has `retries` has them anew.
        retries: as for submit, where a call says none of its own.
        priority: an int; of the tasks that wait in this program those with more are given to servers first. 0 is usual.
            What a server has been given stays there.
        gpus: the same as ``resources={"gpu": gpus}``. A CPU task that has some sees only these, by CUDA_VISIBLE_DEVICES, from
            its start until it ends, or waits for tasks of its own.
        resources: how many of its node's resources a task has while it runs, by name, as ``{"licence": 1}``; it waits for a node
            that has so many free (``dispycos node --resource licence=1``). 0 is none. ``task.resources`` tells which they are.

        Raises
        ------
        TypeError, ValueError: a value is of no use; the text names it.
        """
        given = {"timeout": timeout, "retries": retries, "priority": priority}
        return self._with(merged(self._options, {**given, "gpus": gpus, "resources": resources}))


async def has_started(handle: Handle[Any]) -> bool:
    """When that is known. False: it was refused, or lost before, as who asks for its value is told."""
    record = handle._source
    if not isinstance(record, Record):  # it runs in this process, as soon as the loop has its turn
        await asyncio.sleep(0)
        return True
    if record.address is None and not record.ended:
        record.when_started = asyncio.get_running_loop().create_future()
        try:
            await record.when_started
        except asyncio.CancelledError:
            handle.terminate()
            raise
    return record.started or record.outcome not in (OutcomeKind.REFUSED, OutcomeKind.LOST)


def must_be_callable(function: object) -> None:
    if not callable(function) or isinstance(function, Handle):
        raise TypeError(
            f"a task needs a function, not {type(function).__name__}: give it uncalled, and its arguments behind it"
        )


def refuse_options(function: Callable[..., Any], kwargs: Mapping[str, Any]) -> None:
    """Raises TypeError: what this function takes for no argument of its own is meant for options()."""
    if (taken := keywords_of(function)) is None:
        return
    meant = [name for name in kwargs if name in SAID_OF_TASKS and name not in taken]
    if meant:
        ours = ", ".join(f"{name}={kwargs[name]!r}" for name in meant if name in OF_OPTIONS)
        if ours:
            remedy = f"; if it is about the task: client.options({ours}).submit(...)"
        else:
            remedy = hint(KEYWORDS, meant[0])
        raise TypeError(f"{name_of(function)} has no parameter {meant[0]!r}{remedy}")
