"""Handles among the arguments of a call: marks stand for the values of their tasks, which are put in where the call is opened.

A value travels as it was pickled where it was made: who passes it on does not open it.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from typing import Any

from dispycos.protocol.envelope import Buffer, Payload, size_of

from ..shipping.pickling import OUT_OF_BAND_MIN, dumps, kept_as_it_is
from .ends import add_note
from .handle import Handle

Call = tuple[Any, tuple[Any, ...], dict[str, Any]]


class Mark(int):
    """Stands for the value of this number."""


def marked(
    args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any], list[Handle[Any]]]:
    """The arguments with marks, and the handles whose values they stand for, by number; each once."""
    found: dict[Handle[Any], Mark] = {}

    def mark(value: Any) -> Any:
        if isinstance(value, Handle) and value.stands_for_value:
            return found.setdefault(value, Mark(len(found)))
        return value

    args = tuple(map(mark, args))
    kwargs = {name: mark(value) for name, value in kwargs.items()}
    return args, kwargs, list(found)


def has_handles(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Asked with each call."""
    for value in args:
        if isinstance(value, Handle):
            return True
    return bool(kwargs) and any(isinstance(value, Handle) for value in kwargs.values())


def filled(call: Payload, values: Sequence[tuple[str, Payload]], *, whole: bool) -> Payload:
    """A call with the values for its marks, each with the name of its task. Raises ValueError if that is too large."""
    payload = dumps((_packed(call), [(name, _packed(value)) for name, value in values]), "the call")
    return kept_as_it_is(payload, whole=whole)


def _packed(payload: Payload) -> Any:
    if isinstance(payload, list):
        return list(map(_outside, payload))
    return None if payload is None else _outside(payload)


def _outside(buffer: Buffer) -> Any:
    """Large ones are not copied."""
    if size_of(buffer) < OUT_OF_BAND_MIN:
        return bytes(buffer)
    return pickle.PickleBuffer(buffer)


def opened(loads: Callable[[Payload], Any], payload: Payload) -> Call:
    """(function, args, kwargs) of a call, whether it was filled or not."""
    call: Any = loads(payload)
    if len(call) == 3:
        three: Call = call
        return three
    bare, packed = call
    function, args, kwargs = loads(_unpacked(bare))
    values = [_value(loads, name, value) for name, value in packed]

    return function, *filled_in(args, kwargs, values)


def filled_in(
    args: tuple[Any, ...], kwargs: dict[str, Any], values: Sequence[Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments, with values for their marks."""

    def fill(value: Any) -> Any:
        return values[value] if type(value) is Mark else value

    return tuple(map(fill, args)), {name: fill(value) for name, value in kwargs.items()}


def _unpacked(packed: Any) -> Payload:
    return list(map(_own, packed)) if isinstance(packed, list) else _own(packed)


def _own(buffer: Any) -> Any:
    """What came as a frame of its own is in a bytearray of this process, which the value may have as it is."""
    if isinstance(buffer, memoryview) and isinstance(buffer.obj, bytearray):
        return buffer.obj
    return buffer


def _value(loads: Callable[[Payload], Any], name: str, packed: Any) -> Any:
    try:
        return loads(_unpacked(packed))
    except Exception as error:
        add_note(error, f"while the value of {name}, one of its arguments, was unpickled")
        raise
