"""Decides whether the statement that defines a name made the function or class that the name is bound to now.

A name of `__main__` may be bound again by code that is no statement of its own: `global f; f = g` or a nested
`def f` in a function, setattr, a mock. The statement, run again, would give the first thing.
"""

import ast
import sys
from collections.abc import Iterator
from enum import Enum
from types import CodeType, FunctionType, ModuleType
from typing import Any

from .sources import PARTS_MAX, codes_of
from .statements import Unit

NOTHING = object()


class Origin(Enum):
    STATEMENT = "the statement made it"
    UNKNOWN = "it bears no mark of the statement, which may have made it all the same"
    ELSEWHERE = "the statement cannot have made it"


def origin_of(thing: Any, unit: Unit, main: ModuleType) -> Origin:
    """Whether `unit`, which defines a name that is bound to `thing`, made it."""
    node = unit.node
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return _of_function(thing, unit, node)
    if isinstance(node, ast.ClassDef):
        return _of_class(thing, unit, node)
    if isinstance(node, ast.Import | ast.ImportFrom):
        if any(found is thing for found in _imported_by(node)):
            return Origin.STATEMENT
        is_own = getattr(thing, "__module__", None) == "__main__" and bool(codes_of(thing))
        return Origin.ELSEWHERE if is_own else Origin.UNKNOWN
    if isinstance(node, ast.Assign | ast.AnnAssign) and _named_by(node.value, main) is thing:
        return Origin.STATEMENT
    marked = any(_is_inside(code, unit) and "<locals>" not in code.co_qualname for code in codes_of(thing))
    return Origin.STATEMENT if marked else Origin.UNKNOWN


def _of_function(thing: Any, unit: Unit, node: ast.FunctionDef | ast.AsyncFunctionDef) -> Origin:
    def is_its_own(code: CodeType) -> bool:
        return (code.co_filename, code.co_firstlineno, code.co_qualname) == (
            unit.file,
            unit.first_line,
            node.name,
        )

    if node.decorator_list:
        return Origin.STATEMENT if any(map(is_its_own, _codes_within(thing))) else Origin.UNKNOWN
    made_it = isinstance(thing, FunctionType) and is_its_own(thing.__code__)
    return Origin.STATEMENT if made_it else Origin.ELSEWHERE


def _of_class(thing: Any, unit: Unit, node: ast.ClassDef) -> Origin:
    if not isinstance(thing, type):
        # What a decorator or a metaclass gives may be anything.
        return Origin.UNKNOWN if node.decorator_list or node.keywords else Origin.ELSEWHERE
    if any(
        _is_inside(code, unit) and code.co_qualname.startswith(f"{node.name}.") for code in codes_of(thing)
    ):
        return Origin.STATEMENT
    if not node.decorator_list and thing.__name__ != node.name:
        return Origin.ELSEWHERE
    return Origin.UNKNOWN  # it may have no code at all: an Enum, an exception


def _is_inside(code: CodeType, unit: Unit) -> bool:
    return code.co_filename == unit.file and unit.first_line <= code.co_firstlineno <= unit.last_line


def _codes_within(thing: Any) -> list[CodeType]:
    """Its code, and that of what a decorator keeps in a closure without saying so by __wrapped__."""
    found: list[CodeType] = []
    todo = [thing]
    seen: set[int] = set()
    while todo and len(seen) < PARTS_MAX:
        part = todo.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        found += codes_of(part)
        if hasattr(part, "__wrapped__"):
            todo.append(part.__wrapped__)
        for cell in (part.__closure__ or ()) if isinstance(part, FunctionType) else ():
            try:
                todo.append(cell.cell_contents)
            except ValueError:
                continue  # not bound yet
    return found


def _imported_by(node: ast.Import | ast.ImportFrom) -> Iterator[Any]:
    """What it would bind now; a relative import may not be told."""
    for alias in node.names:
        if isinstance(node, ast.Import):
            yield sys.modules.get(alias.name if alias.asname else alias.name.split(".")[0], NOTHING)
        elif not node.level:
            yield getattr(sys.modules.get(node.module or ""), alias.name, NOTHING)


def _named_by(value: ast.expr | None, main: ModuleType) -> Any:
    """What `a` or `module.a.b` is bound to now; attributes of instances may run code and are not read."""
    if isinstance(value, ast.Name):
        return vars(main).get(value.id, NOTHING)
    if isinstance(value, ast.Attribute):
        owner = _named_by(value.value, main)
        if isinstance(owner, ModuleType | type):
            return getattr(owner, value.attr, NOTHING)
    return NOTHING
