"""Another function takes the place of a running task's, by hot_swap(), where that allows it and lets HotSwapException pass."""

from __future__ import annotations

from collections.abc import Callable
from operator import itemgetter
from typing import Any

from dispycos.errors import HotSwapException

from .ends import Outcome, Raised

Call = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]


class Swap:
    """Of one task. `throw_in`: raise this where it is suspended; on the loop, in no step of the task."""

    shown: Callable[[Call], Any] = staticmethod(itemgetter(0))  # what the exception has of the call

    def __init__(self, throw_in: Callable[[BaseException], None]) -> None:
        self._throw_in = throw_in
        self._is_allowed = False
        self._wanted: Call | None = None  # until that is allowed
        self._offered: Call | None = None  # the exception is on its way, or was caught

    def want(self, call: Call) -> None:
        """The last one counts."""
        self._wanted = call
        self.offer()

    def allow(self, flag: bool) -> None:
        """Then `offer` is to be called when the step is over."""
        self._is_allowed = flag

    def offer(self) -> None:
        """Raise it, if it is wanted and allowed."""
        if self._wanted is not None and self._is_allowed:
            self._offered, self._wanted = self._wanted, None
            self._throw_in(HotSwapException(self.shown(self._offered)))

    def accepted_by(self, outcome: Outcome) -> Call | None:
        """What is to go on in place of a function that has ended so; None: nothing is."""
        call, self._offered = self._offered, None
        if call is None or not isinstance(outcome, Raised) or not _is_acceptance(outcome.error):
            return None
        self._is_allowed = False
        return call


def _is_acceptance(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):  # it has left an asyncio.TaskGroup
        return error.split(HotSwapException)[1] is None
    return isinstance(error, HotSwapException)
