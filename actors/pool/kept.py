"""What servers keep for the calls of one Executor, by keys: that its initializer has run there, and large arguments.

A call names the keys that it needs. A server that misses one runs nothing and answers Missing; then it is given what it misses, by
a task of its own on that very server, and the call again.
"""

from __future__ import annotations

import inspect
import secrets
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from ..tasks.calling import name_of

_kept: dict[str, Any] = {}  # of this process


class Missing(NamedTuple):
    """The value of a call that has not run: its server has nothing of that key."""

    key: str


class Kept(NamedTuple):
    """What a server gets by install(): `make(*args)`, once."""

    key: str
    make: Callable[..., Any]
    args: tuple[Any, ...]


def kept(make: Callable[..., Any], *args: Any) -> Kept:
    return Kept(secrets.token_hex(8), make, args)


def install(key: str, make: Callable[..., Any], args: tuple[Any, ...]) -> None:
    """On a server."""
    if key not in _kept:
        _kept[key] = make(*args)


class Install:
    """The task that does so, called with the arguments. In errors it has the name of what makes it."""

    def __init__(self, missing: Kept) -> None:
        self.key = missing.key
        self.make = missing.make
        self.__name__ = self.__qualname__ = name_of(missing.make)

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(self.make)

    def __call__(self, *args: Any) -> None:
        install(self.key, self.make, args)


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
        self.function = function
        self.__name__ = name_of(function)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs) if self.key in _kept else Missing(self.key)
