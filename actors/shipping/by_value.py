"""Pickles functions and classes that have no name by value; imported only when needed, since it imports dill.

dill's pickler is the base for descriptors and other corners of Python. What it would copy although a copy is
not the thing (locks, files, sockets) is refused, and functions keep the globals of their module, not a copy.
"""

import dataclasses
import dis
import importlib
import io
import marshal
import sys
from _thread import LockType, RLock
from collections.abc import Iterator
from enum import Enum, EnumMeta
from functools import cached_property, lru_cache
from socket import socket
from types import CellType, CodeType, FunctionType, GetSetDescriptorType, MemberDescriptorType, ModuleType
from typing import Any, cast, is_typeddict

import dill

from . import type_params
from .identities import identities
from .pickling import PROTOCOL, BufferCallback, Names, reduced_view
from .rebuild import (
    fill_cell,
    fill_class,
    fill_function,
    fill_new_class,
    globals_of,
    make_cached,
    make_cell,
    make_class,
    make_code,
    make_enum,
    make_function,
    make_typed_dict,
    module_named,
)

REFUSED = (LockType, RLock, socket, io.FileIO, io.BufferedIOBase, io.TextIOWrapper)
Cached = type(lru_cache(len))
ALLOWED_IO = (io.BytesIO,)
GLOBAL_OPS = {"LOAD_GLOBAL", "LOAD_NAME", "STORE_GLOBAL", "DELETE_GLOBAL", "LOAD_FROM_DICT_OR_GLOBALS"}
SENTINELS = {  # compared by identity
    id(getattr(dataclasses, name)): name
    for name in ("MISSING", "KW_ONLY", "_FIELD", "_FIELD_CLASSVAR", "_FIELD_INITVAR", "_HAS_DEFAULT_FACTORY")
    if hasattr(dataclasses, name)
}
LATE_ANNOTATIONS = {"__annotate__", "__annotate_func__", "__annotations_cache__"}  # from Python 3.14 on
NEEDED_AT_ONCE = ("__slots__", "__orig_bases__")  # the making of a class reads them
NOT_COPIED = {"__dict__", "__weakref__", "__module__", "__qualname__", "_abc_impl", *NEEDED_AT_ONCE}


class ByValuePickler(dill.Pickler):  # type: ignore[misc]
    def __init__(
        self, file: io.BytesIO, names: Names, force: Any, buffers: BufferCallback | None = None
    ) -> None:
        super().__init__(file, PROTOCOL, recurse=True, buffer_callback=buffers)
        self._names = names
        self._force = force

    def reducer_override(self, thing: Any) -> Any:
        if id(thing) in SENTINELS:
            return SENTINELS[id(thing)]
        if isinstance(thing, REFUSED) and not isinstance(thing, ALLOWED_IO):
            kind = type(thing)
            raise TypeError(f"cannot pickle '{kind.__module__}.{kind.__qualname__}' object")
        if isinstance(thing, ModuleType):
            return self._module(thing)
        if isinstance(thing, CodeType):
            return make_code, (marshal.dumps(thing),)
        if isinstance(thing, CellType):
            return _cell(thing)
        if isinstance(thing, FunctionType):
            return self._reference(thing) or self._function(thing)
        if isinstance(thing, type):
            return self._reference(thing) or self._class(thing)
        if isinstance(thing, type_params.KINDS):
            return self._names.reference_by(thing, thing.__name__) or type_params.reduced(thing)
        if isinstance(thing, type_params.OF_PARAM_SPECS):
            return type_params.reduced(thing)
        if isinstance(thing, memoryview):
            return reduced_view(thing)
        if isinstance(thing, cached_property):  # with a lock up to Python 3.11
            return cached_property, (thing.func,), {"attrname": thing.attrname}
        if isinstance(thing, Cached):
            return self._reference(thing) or (make_cached, (thing.__wrapped__, thing.cache_parameters()))
        if getattr(thing, "__module__", None) == "__main__" and hasattr(thing, "__wrapped__"):
            return self._reference(thing) or NotImplemented
        return NotImplemented

    def _reference(self, thing: Any) -> str | None:
        """None for what is forced, and for the methods of a forced class."""
        if self._force is not None and thing.__module__ == "__main__":
            name = self._names.name_of(thing)
            if name is not None and vars(self._names.main).get(name.split(".")[0]) is self._force:
                return None
        return self._names.reference(thing)

    def _module(self, module: ModuleType) -> Any:
        if sys.modules.get(module.__name__) is not module:
            raise TypeError(f"cannot pickle module {module.__name__!r}: it cannot be imported by that name")
        self._names.modules.add(module.__name__)
        return module_named, (module.__name__,)

    def _function(self, function: FunctionType) -> Any:
        module = function.__globals__.get("__name__")
        owner = sys.modules.get(module) if isinstance(module, str) else None
        if module is None or owner is None or vars(owner) is not function.__globals__:
            return NotImplemented  # exec'd in a dictionary of its own: dill copies what it needs of it
        needed = _globals_in(function.__code__)
        if module == "__main__":
            self._names.looked_up.update(needed)
        else:
            self._names.modules.add(module)
        scope = (globals_of, (module, needed))
        state = {
            "name": function.__name__,
            "qualname": function.__qualname__,
            "module": function.__module__,
            "doc": function.__doc__,
            "defaults": function.__defaults__,
            "kwdefaults": function.__kwdefaults__,
            "annotations": type_params.annotations_of(function),
            "type_params": getattr(function, "__type_params__", ()),
            "attributes": vars(function),
            "rewriters": _rewriters(function.__globals__, needed),
        }
        return (
            make_function,
            (function.__code__, Reduced(scope), function.__closure__),
            state,
            None,
            None,
            fill_function,
        )

    def _class(self, kind: type) -> Any:
        if kind.__module__ == "builtins" or not _is_made_by_python(kind):
            return NotImplemented
        token = identities.token_of(kind)
        if is_typeddict(kind):
            made: Any = (make_typed_dict, (token, kind.__name__))
            attributes = {n: v for n, v in _own_attributes(kind) if n not in NOT_COPIED}
        elif isinstance(kind, EnumMeta):
            members = {
                name: vars(member)["_value_"] for name, member in dict[str, Any](kind.__members__).items()
            }
            made = (make_enum, (token, type(kind), kind.__name__, kind.__bases__, members))
            attributes = {n: v for n, v in _own_attributes(kind) if _is_enum_attribute(n, v, members)}
        else:
            first = {name: vars(kind)[name] for name in NEEDED_AT_ONCE if name in vars(kind)}
            made = (make_class, (token, type(kind), kind.__name__, kind.__bases__, first))
            attributes = {n: v for n, v in _own_attributes(kind) if n not in NOT_COPIED}
        if LATE_ANNOTATIONS & attributes.keys():
            attributes = {n: v for n, v in attributes.items() if n not in LATE_ANNOTATIONS}
            attributes["__annotations__"] = type_params.annotations_of(kind)
        state = {"module": kind.__module__, "qualname": kind.__qualname__, "attributes": attributes}
        return *made, state, None, None, fill_class if kind is self._force else fill_new_class


class Reduced:
    """Stands in a reduction for something that is made by a call."""

    def __init__(self, reduction: tuple[Any, ...]) -> None:
        self._reduction = reduction

    def __reduce__(self) -> tuple[Any, ...]:
        return self._reduction


def _rewriters(scope: dict[str, Any], needed: tuple[str, ...]) -> dict[str, str]:
    """Modules bound to names that no text can bind, by what rewrote the code: pytest does with each `assert`."""
    found = {name: scope.get(name) for name in needed if not name.isidentifier()}
    return {name: module.__name__ for name, module in found.items() if isinstance(module, ModuleType)}


def _cell(cell: CellType) -> Any:
    try:
        contents = (cell.cell_contents,)
    except ValueError:
        return make_cell, ()  # not bound yet
    return make_cell, (), contents, None, None, fill_cell


def _own_attributes(kind: type) -> Iterator[tuple[str, Any]]:
    for name, value in vars(kind).items():
        made_by_type = isinstance(value, GetSetDescriptorType | MemberDescriptorType)
        if not (made_by_type and getattr(value, "__objclass__", None) is kind):
            yield name, value


def _is_enum_attribute(name: str, value: Any, members: dict[str, Any]) -> bool:
    """What the class body added; members and what EnumMeta keeps for itself are made again."""
    if name in members or name in NOT_COPIED or name in ("__new__", "_generate_next_value_"):
        return False
    return isinstance(value, FunctionType) or not (name.startswith("_") or name in vars(Enum))


def _is_made_by_python(kind: type) -> bool:
    return bool(kind.__flags__ & (1 << 9))  # Py_TPFLAGS_HEAPTYPE


@lru_cache(maxsize=1024)
def _globals_in(code: CodeType) -> tuple[str, ...]:
    found: set[str] = set()
    todo = [code]
    while todo:
        current = todo.pop()
        found.update(cast(str, op.argval) for op in dis.get_instructions(current) if op.opname in GLOBAL_OPS)
        todo += [const for const in current.co_consts if isinstance(const, CodeType)]
    builtin = vars(importlib.import_module("builtins"))
    return tuple(sorted(name for name in found if name not in builtin))
