"""What servers keep for the calls of one Executor, by keys: that its initializer has run there, and large arguments.

A call names the keys that it needs. A server that misses one runs nothing and answers Missing; then it is given what it misses, by
a task of its own on that very server, and the call again.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Coroutine, Generator, Iterable
from typing import Any, NamedTuple

from ..tasks.calling import can_suspend, name_of
from ..tasks.running.execution import is_coroutine

_kept: dict[str, Any] = {}  # of this process


class Missing(NamedTuple):
    """The value of a call that has not run: its server has nothing of that key."""

    key: str


class Kept(NamedTuple):
    """What a server gets by Install: `make(*args)`, once."""

    key: str
    make: Callable[..., Any]
    args: tuple[Any, ...]


def kept(make: Callable[..., Any], *args: Any) -> Kept:
    return Kept(secrets.token_hex(8), make, args)


class Install:
    """The task that makes it, called with the arguments. In errors it has the name of what makes it, which may suspend."""

    def __init__(self, missing: Kept) -> None:
        self.key = missing.key
        self.__wrapped__ = missing.make
        self.__name__ = self.__qualname__ = name_of(missing.make)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.key in _kept:
            return None
        value = self.__wrapped__(*args, **kwargs)
        if is_coroutine(value):
            return self._await(value)
        if can_suspend(self.__wrapped__):
            return self._resume(value)
        _kept[self.key] = value
        return None

    async def _await(self, value: Coroutine[Any, Any, Any]) -> None:
        _kept[self.key] = await value

    def _resume(self, value: Generator[Any, Any, Any]) -> Generator[Any, Any, None]:
        _kept[self.key] = yield value


def keep(key: str, value: Any) -> None:
    _kept[key] = value


def value_of(key: str) -> Any:
    """None: it is not here."""
    return _kept.get(key)


def keep_only(owner: str, keys: Iterable[str]) -> None:
    """Of this owner's, whose keys begin with its name, nothing else is needed any more."""
    for key in [key for key in _kept if key.startswith(owner) and key not in keys]:
        del _kept[key]


class After:
    """A function that runs where this is kept, and nowhere else."""

    def __init__(self, key: str, function: Callable[..., Any]) -> None:
        self.key = key
        self.__wrapped__ = function
        self.__name__ = name_of(function)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.__wrapped__(*args, **kwargs) if self.key in _kept else Missing(self.key)
