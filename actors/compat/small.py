"""Singleton, Struct, serialize: what scripts of pycos use beside tasks; and what several of its classes are."""

from __future__ import annotations

import pickle
from typing import Any, Self


class Closing:
    """Closed at the end of its `with`."""

    def close(self) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class Singleton(type):
    """Metaclass of a class that has one instance."""

    _instances: dict[type, Any] = {}

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        if cls not in Singleton._instances:
            Singleton._instances[cls] = super().__call__(*args, **kwargs)
        return Singleton._instances[cls]

    @classmethod
    def discard(mcs, cls: type) -> None:
        """The next one is new."""
        Singleton._instances.pop(cls, None)

    empty = discard


class Struct:
    """``Struct(a=1, b=2)``: these are its attributes, and it has no others."""

    def __init__(self, **items: Any) -> None:
        self.__dict__.update(items)

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in self.__dict__:
            raise AttributeError(f"invalid attribute {name!r}")
        self.__dict__[name] = value

    def __repr__(self) -> str:
        return f"Struct({', '.join(f'{name}={value!r}' for name, value in self.__dict__.items())})"


def serialize(thing: Any) -> bytes:
    """By pickle."""
    return pickle.dumps(thing, pickle.HIGHEST_PROTOCOL)


def deserialize(data: bytes) -> Any:
    """What serialize() was given."""
    return pickle.loads(data)
