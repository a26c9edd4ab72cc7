"""Large arguments that go with one call after the other, though a global would be sent once: that is said, once each."""

from __future__ import annotations

import functools
import pickle
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import FunctionType
from typing import Any, Final

from ..tasks.calling import ATOMS

LARGE: Final = 1 << 20  # bytes of a call, and of what is in it
MUCH: Final = 256 << 20  # bytes of such calls until it is said ...
OFTEN: Final = 5  # ... and how many calls
KEPT_MAX: Final = 16  # objects that are looked at


class Repeats:
    """What was in large calls lately. It keeps nothing of it alive: what has no weak references is not looked at."""

    def __init__(self) -> None:
        # By id(): and in how many calls; -1: it was said.
        self._seen: dict[int, tuple[weakref.ref[Any], int]] = {}
        self._lock = threading.Lock()

    def saw(
        self, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], size: int
    ) -> tuple[int, int] | None:
        """A large call of `size` bytes. What is to be said now: bytes of an argument, and with how many calls it went."""
        with self._lock:
            for one in _parts(function, args, kwargs):
                count = self._count(one)
                if count >= OFTEN and count * size >= MUCH:
                    self._seen[id(one)] = self._seen[id(one)][0], -1
                    own = _size_alone(one)
                    if own >= LARGE:
                        return own, count
        return None

    def _count(self, one: object) -> int:
        known, count = self._seen.pop(id(one), (None, 0))
        if known is None or known() is not one:
            count = 0
            try:
                known = weakref.ref(one)
            except TypeError:
                return 0
        count = count + 1 if count >= 0 else -1
        self._seen[id(one)] = known, count
        if len(self._seen) > KEPT_MAX:
            del self._seen[next(iter(self._seen))]
        return count


def _parts(function: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Iterator[Any]:
    """Those of a partial and the object of a method, too; what wraps one has it, a chunk of a map with arguments for it."""
    while not isinstance(function, FunctionType | type):
        inner = getattr(function, "function", None) or getattr(function, "__wrapped__", None)
        if inner is None:
            break
        kwargs = {**kwargs, **getattr(function, "kwargs", {})}
        function = inner
    if isinstance(function, functools.partial):
        args, kwargs = (*function.args, *args), {**function.keywords, **kwargs}
    for one in (getattr(function, "__self__", None), *args, *kwargs.values()):
        if type(one) not in ATOMS:
            yield one


def _size_alone(one: object) -> int:
    """Pickled; 0 if that is not known."""
    nbytes = getattr(one, "nbytes", None)
    if isinstance(nbytes, int):
        return nbytes
    try:
        return len(pickle.dumps(one, 5))
    except Exception:  # it goes by value perhaps, which only the call itself can
        return 0
