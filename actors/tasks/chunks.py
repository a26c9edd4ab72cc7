"""Several calls of one function that run in one task, one after the other: what goes to a server for short items of a map.

Each item has a value or an error of its own. Only a plain function runs so: one that suspends, or wants to know its task, is a
task for each item.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from pickle import PickleBuffer
from types import FunctionType
from typing import Any, NamedTuple

from dispycos.protocol.envelope import Payload

from .calling import ATOMS, COMMON, can_suspend, name_of, no_iterator, with_task
from .current import current_cell
from .ends import Outcome, Raised, Returned, raised
from .results import pack_outcome
from .running.execution import is_coroutine
from .running.interrupts import enter_user_code


class Ran(NamedTuple):
    """How a chunk ended. Items beyond its values have not begun."""

    # As they are if that is no work for pickle; else None, and the value is among the packed.
    values: list[Any]
    # By place: the OutcomeKind and payload of a task that had ended so.
    packed: dict[int, tuple[int, Payload]]
    suspends: bool = False  # the function returned a coroutine: its calls are tasks of their own from now on


class Chunk:
    """A call of this gives (Ran); it goes to a server with its items, as any function with its arguments.

    Parameters
    ----------
    is_spread: each item is a tuple of arguments.
    enough_s: seconds after which the rest is given back; None: all is run.
    """

    def __init__(
        self, function: Callable[..., Any], kwargs: Mapping[str, Any], is_spread: bool, enough_s: float | None
    ) -> None:
        self.function = function
        self.kwargs = kwargs
        self.is_spread = is_spread
        self.enough_s = enough_s

    @property
    def __name__(self) -> str:
        return f"map({name_of(self.function)})"

    def __call__(self, items: list[Any]) -> Ran | Coroutine[Any, Any, Ran]:
        call = self._call()
        cell = current_cell()
        assert cell is not None
        clock = time.perf_counter
        until = clock() + self.enough_s if self.enough_s is not None else float("inf")
        ran = Ran([], {})
        values = ran.values
        for item in items:
            try:
                value = call(item)
            except BaseException as error:  # the edge of user code
                if cell.stopping:
                    raise KeyboardInterrupt from None
                self._pack(cell, ran, raised(error))
            else:
                if type(value) in ATOMS:
                    values.append(value)
                elif is_coroutine(value):
                    return self._end_with(cell, ran, value)
                else:
                    self._pack(cell, ran, Returned(value))
            if cell.stopping:
                raise KeyboardInterrupt
            if clock() >= until:
                break
        return ran

    def _call(self) -> Callable[[Any], Any]:
        function, kwargs = self.function, self.kwargs
        if not isinstance(
            function, FunctionType
        ):  # perhaps of C, which can be interrupted below that one frame only
            if self.is_spread:
                return lambda item: enter_user_code(function, item, kwargs)
            return lambda item: enter_user_code(function, (item,), kwargs)
        if self.is_spread:
            return lambda item: function(*item, **kwargs)
        return partial(function, **kwargs) if kwargs else function

    def _pack(self, cell: Any, ran: Ran, outcome: Outcome) -> None:
        """As the end of a task is packed."""
        name = name_of(self.function)
        if isinstance(outcome, Raised):
            cell.host.explain(outcome.error)
        elif type(outcome.value) not in COMMON:
            outcome = no_iterator(outcome, name)
        kind, payload = pack_outcome(cell.host.payloads, outcome, name, stopping=False)
        if isinstance(payload, list):  # what is large is not copied
            payload = [payload[0], *map(PickleBuffer, payload[1:])]  # type: ignore[list-item]
        ran.packed[len(ran.values)] = (kind, payload)
        ran.values.append(None)

    async def _end_with(self, cell: Any, ran: Ran, coroutine: Coroutine[Any, Any, Any]) -> Ran:
        """The function has to be awaited, as nobody could know: this is the chunk's last item."""
        try:
            outcome: Outcome = Returned(await coroutine)
        except BaseException as error:  # the edge of user code
            if cell.stopping:
                raise
            outcome = raised(error)
        self._pack(cell, ran, outcome)
        return ran._replace(suspends=True)


class _Nobody:
    """Stands for a task, to see whether a function would be given it."""

    handle = None


def runs_alone(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether a call of this is a task of its own in any case: the function suspends, or is given its task."""
    if can_suspend(function):
        return True
    try:
        given = with_task(function, args, kwargs, _Nobody())
    except TypeError:  # its task says so
        return True
    return given[0] is not args or given[1] is not kwargs
