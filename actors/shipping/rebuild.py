"""Makes functions and classes that were pickled by value; pickle streams refer to these functions by name."""

import importlib
import marshal
import sys
from collections.abc import Callable
from enum import EnumMeta
from functools import lru_cache
from types import CellType, CodeType, FunctionType, ModuleType
from typing import Any


class MirrorModule(ModuleType):
    """The `__main__` of a server: tells its mirror what is looked up."""

    def __init__(
        self, name: str, require: Callable[[tuple[str, ...]], None], look_up: Callable[[str], None]
    ) -> None:
        super().__init__(name)
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
    vars(function).update(state["attributes"])


def make_cached(function: FunctionType, parameters: dict[str, Any]) -> Any:
    """The cache stays where it was filled."""
    return lru_cache(**parameters)(function)


def make_class(metaclass: type, name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> type:
    """Nearly empty: its attributes come later, since they may refer to it."""
    made = metaclass(name, bases, namespace)
    assert isinstance(made, type)
    return made


def make_enum(metaclass: EnumMeta, name: str, bases: tuple[type, ...], members: dict[str, Any]) -> type:
    namespace = metaclass.__prepare__(name, bases)
    for member, value in members.items():
        namespace[member] = value
    make: Any = metaclass.__new__
    made = make(metaclass, name, bases, namespace)
    assert isinstance(made, type)
    return made


def fill_class(kind: type, state: dict[str, Any]) -> None:
    kind.__module__ = state["module"]
    kind.__qualname__ = state["qualname"]
    for name, value in state["attributes"].items():
        setattr(kind, name, value)
    if hasattr(kind, "__abstractmethods__"):
        from abc import update_abstractmethods

        update_abstractmethods(kind)
