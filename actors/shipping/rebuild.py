"""Makes functions and classes that were pickled by value; pickle streams refer to these functions by name."""

import builtins
import importlib
import marshal
import sys
from abc import ABCMeta, update_abstractmethods
from collections.abc import Callable
from contextlib import suppress
from enum import EnumMeta
from functools import lru_cache
from types import CellType, CodeType, FunctionType, ModuleType
from typing import Any, TypedDict, cast

from .identities import identities


class MirrorModule(ModuleType):
    """The `__main__` of a server: tells its mirror what is looked up."""

    def __init__(
        self, name: str, require: Callable[[tuple[str, ...]], None], look_up: Callable[[str], None]
    ) -> None:
        super().__init__(name)
        vars(self)["__builtins__"] = builtins  # code in C that imports looks there
        vars(self)["__dispycos_require__"] = require
        vars(self)["__dispycos_look_up__"] = look_up

    def __getattr__(self, name: str) -> Any:
        vars(self)["__dispycos_look_up__"](name)
        if name in vars(self):
            return vars(self)[name]
        raise AttributeError(f"module '__main__' has no attribute {name!r}", name=name, obj=self)


def globals_of(module: str, needed: tuple[str, ...]) -> dict[str, Any]:
    if module != "__main__":
        return vars(importlib.import_module(module))
    main = sys.modules["__main__"]
    if isinstance(main, MirrorModule):
        vars(main)["__dispycos_require__"](needed)
    return vars(main)


def module_named(name: str) -> ModuleType:
    return importlib.import_module(name)


def make_code(data: bytes) -> CodeType:
    code = marshal.loads(data)
    assert isinstance(code, CodeType)
    return code


def make_cell() -> CellType:
    return CellType()


def fill_cell(cell: CellType, contents: tuple[Any]) -> None:
    cell.cell_contents = contents[0]


def make_view(buffer: Any, format: str, shape: tuple[int, ...]) -> "memoryview[Any]":
    plain: Any = memoryview(buffer).cast("B")
    return cast("memoryview[Any]", plain.cast(format, shape))


def make_function(
    code: CodeType, scope: dict[str, Any], closure: tuple[CellType, ...] | None
) -> FunctionType:
    return FunctionType(code, scope, None, None, closure)


def fill_function(function: FunctionType, state: dict[str, Any]) -> None:
    function.__name__ = state["name"]
    function.__qualname__ = state["qualname"]
    function.__module__ = state["module"]
    function.__doc__ = state["doc"]
    function.__defaults__ = state["defaults"]
    function.__kwdefaults__ = state["kwdefaults"]
    function.__annotations__ = state["annotations"]
    if state["type_params"]:
        generic: Any = function
        generic.__type_params__ = state["type_params"]
    vars(function).update(state["attributes"])
    for name, module in state["rewriters"].items():
        with suppress(ImportError):  # a node without it: most functions do without, too
            function.__globals__.setdefault(name, importlib.import_module(module))


def make_cached(function: FunctionType, parameters: dict[str, Any]) -> Any:
    """The cache stays where it was filled."""
    return lru_cache(**parameters)(function)


def make_class(
    token: bytes, metaclass: type, name: str, bases: tuple[type, ...], namespace: dict[str, Any]
) -> type:
    """Nearly empty: its attributes come later, since they may refer to it."""
    known = identities.find(token)
    if known is None:
        try:
            known = metaclass(name, bases, dict(namespace))
        except (
            TypeError
        ):  # it was made with keywords, and does without their effects: those are attributes now
            known = _made_bare(metaclass, name, bases, namespace)
        identities.add(token, known)
    assert isinstance(known, type)
    return known


def _made_bare(metaclass: type, name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> type:
    """By no code of the user's, whose __init_subclass__ is away meanwhile."""
    make: Any = ABCMeta.__new__ if issubclass(metaclass, ABCMeta) else type.__new__
    hears: Any = next(
        (kind for base in bases for kind in base.__mro__ if "__init_subclass__" in vars(kind)), object
    )
    if hears is object:
        return cast(type, make(metaclass, name, bases, namespace))
    heard = vars(hears)["__init_subclass__"]
    hears.__init_subclass__ = classmethod(lambda cls: None)
    try:
        return cast(type, make(metaclass, name, bases, namespace))
    finally:
        hears.__init_subclass__ = heard


def make_enum(
    token: bytes, metaclass: EnumMeta, name: str, bases: tuple[type, ...], members: dict[str, Any]
) -> type:
    known = identities.find(token)
    if known is None:
        namespace = metaclass.__prepare__(name, bases)
        for member, value in members.items():
            namespace[member] = value
        make: Any = metaclass.__new__
        known = make(metaclass, name, bases, namespace)
        identities.add(token, known)
    assert isinstance(known, type)
    return known


def make_typed_dict(token: bytes, name: str) -> type:
    """Its metaclass makes dict the base, and takes none but TypedDict."""
    known = identities.find(token)
    if known is None:
        make: Any = TypedDict
        known = make(name, {})
        identities.add(token, known)
    assert isinstance(known, type)
    return known


def fill_new_class(kind: type, state: dict[str, Any]) -> None:
    """Unless it has been here before, or came from here."""
    if not identities.is_whole(kind):
        fill_class(kind, state)


def fill_class(kind: type, state: dict[str, Any]) -> None:
    kind.__module__ = state["module"]
    kind.__qualname__ = state["qualname"]
    for name, value in state["attributes"].items():
        setattr(kind, name, value)
    if hasattr(kind, "__abstractmethods__"):
        update_abstractmethods(kind)
    identities.set_whole(kind)
