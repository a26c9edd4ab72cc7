"""Tells whether the statement that defines a name made the function or class that the name is bound to now.

A name of `__main__` may be bound again by code that is no statement of its own: `global f; f = g` or a nested
`def f` in a function, setattr, a mock. The statement, run again, would give the first thing.
"""

import ast
import sys
from collections.abc import Iterator
from types import CodeType, FunctionType, ModuleType
from typing import Any

from .statements import Unit

NOTHING = object()
PARTS_MAX = 1000


def made_by(thing: Any, unit: Unit, main: ModuleType) -> bool | None:
    """None if the thing, to which a name of the statement is bound, bears no mark of it, but may come from it."""
    node = unit.node
    if isinstance(node, ast.Import | ast.ImportFrom):
        if any(found is thing for found in _imported_by(node)):
            return True
        return False if getattr(thing, "__module__", None) == "__main__" and codes_of(thing) else None
    is_decorated = bool(getattr(node, "decorator_list", ()))
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not is_decorated:
        return isinstance(thing, FunctionType) and _is_at_top_of(thing.__code__, unit)
    if isinstance(node, ast.Assign | ast.AnnAssign) and _named_by(node.value, main) is thing:
        return True
    if any(_is_at_top_of(code, unit) for code in codes_of(thing, closures=is_decorated)):
        return True
    # What a decorator or a metaclass gives may be anything, and a class may have no code at all: an Enum, an exception.
    if not isinstance(node, ast.ClassDef) or is_decorated:
        return None
    is_other = thing.__name__ != node.name if isinstance(thing, type) else not node.keywords
    return False if is_other else None


def codes_of(thing: Any, closures: bool = False) -> list[CodeType]:
    """The code of a live function or class: its own and that of what it wraps, as it says or in its closure."""
    found: list[CodeType] = []
    todo = [thing]
    seen: set[int] = set()
    while todo and len(seen) < PARTS_MAX:
        part = todo.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        if isinstance(part, type):
            todo += [value for value in vars(part).values() if not isinstance(value, type)]
            continue
        if isinstance(part, FunctionType):
            found.append(part.__code__)
            todo += _held_by(part) if closures else []
        elif isinstance(part, property):
            todo += [part.fget, part.fset, part.fdel]
        elif isinstance(part, staticmethod | classmethod):
            todo.append(part.__func__)
        if hasattr(part, "__wrapped__"):
            todo.append(part.__wrapped__)
    return found


def _held_by(function: FunctionType) -> Iterator[Any]:
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:
            continue  # not bound yet


def _is_at_top_of(code: CodeType, unit: Unit) -> bool:
    is_inside = code.co_filename == unit.file and unit.first_line <= code.co_firstlineno <= unit.last_line
    return is_inside and "<locals>" not in code.co_qualname


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
