"""Says which part of a value cannot be pickled, of which type it is, and where in the value it hides.

The way down follows what pickling itself would take: the reduction of an object and not its attributes, so that a lock which
a __getstate__ leaves out is not blamed for what it keeps in.
"""

import copyreg
import functools
import inspect
import sys
from collections.abc import Container, Iterable, Iterator, Mapping
from itertools import islice
from types import FunctionType, GetSetDescriptorType, MemberDescriptorType, MethodType, ModuleType
from typing import Any, TypeAlias

from .pickling import PROTOCOL, Names, dumps_by_value, dumps_naming, reason
from .type_params import annotations_of
from .words import NotPicklable

DEPTH_MAX = 20
WIDTH_MAX = 1000

Part: TypeAlias = tuple[str, Any]  # what people call it, and itself


def explained_call(
    function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], error: Exception
) -> NotPicklable:
    """The error of pickling a call: it names the argument."""
    called = getattr(function, "__qualname__", None) or type(function).__qualname__
    for what, value in _call_parts(function, called, args, kwargs):
        failure = _failure(value)
        if failure is not None:
            return explained(value, what, failure)
    return _refusal(f"the call of {called}: {_text(error)}", error)


def explained(value: Any, what: str, error: Exception) -> NotPicklable:
    """The error of pickling the value, which `what` names, with the place of the part that fails."""
    path, culprit, error = _descend(value, error)
    where = f": {', '.join(reversed(path))}" if path else ""
    return _refusal(f"{what}: {_complaint(culprit, error)}{where}", error)


def _refusal(text: str, cause: Exception) -> NotPicklable:
    refusal = NotPicklable(text)
    refusal.__cause__ = cause
    return refusal


def _complaint(culprit: Any, error: Exception) -> str:
    """Pickle names the type of what it refuses; user code that fails does not."""
    text = _text(error)
    kind = type(culprit)
    if text.startswith("cannot pickle") or kind.__qualname__ in text or isinstance(error, RecursionError):
        return text
    module = "" if kind.__module__ in ("builtins", "__main__") else f"{kind.__module__}."
    return f"cannot pickle '{module}{kind.__qualname__}' object: {type(error).__qualname__}: {text}"


def _text(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deeply to be pickled"
    return str(error) or type(error).__name__


# --- the way down ---


def _descend(value: Any, error: Exception) -> tuple[list[str], Any, Exception]:
    """The steps from the value to the innermost part that fails by itself, that part, and its error."""
    path: list[str] = []
    seen = {id(value): value}  # kept alive: parts are made on the way, and an id may come again
    while (found := _failing_part(value, seen)) is not None:
        step, part, failure = found
        if len(path) == DEPTH_MAX:
            path.append("further in")
            break
        path.append(step)
        value, error = part, failure
        seen[id(part)] = part
    return path, value, error


def _failing_part(value: Any, seen: Container[int]) -> tuple[str, Any, Exception] | None:
    try:
        for step, part in islice(_parts(value), WIDTH_MAX):
            failure = None if id(part) in seen else _failure(part)
            if failure is not None:
                return step, part, failure
    except Exception:  # edge of user code: a __reduce__ that gives no tuple of the right things
        pass
    return None


def _failure(value: Any) -> Exception | None:
    names = Names(sys.modules["__main__"])
    try:
        dumps_by_value(value, names)
    except Exception as error:  # edge of user code
        by_value = error
    else:
        return None
    try:
        dumps_naming(value, names)
    except Exception as error:
        return reason(by_value, error)
    return by_value


# --- the parts of a value ---


def _call_parts(
    function: Any, called: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Iterator[Part]:
    yield f"the function {called}", function
    try:
        parameters = list(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        parameters = []
    for index, value in enumerate(args):
        name = f" ({parameters[index]!r})" if index < len(parameters) else ""
        yield f"argument {index + 1}{name} of {called}", value
    for key, value in kwargs.items():
        yield f"argument {key!r} of {called}", value


def _parts(value: Any) -> Iterator[Part]:
    kind = type(value)
    if kind is dict:
        yield from _items(value.items(), "dict")
    elif kind in (list, tuple):
        yield from ((f"item {index} of {kind.__name__}", item) for index, item in enumerate(list(value)))
    elif kind in (set, frozenset):
        yield from ((f"an item of {kind.__name__}", item) for item in list(value))
    elif isinstance(value, FunctionType):
        yield from _function_parts(value)
    elif isinstance(value, type):
        yield from _class_parts(value)
    elif isinstance(value, MethodType):
        yield f"the object of method {value.__func__.__qualname__}", value.__self__
    elif isinstance(value, property):
        yield from ((f"{name} of property", getattr(value, name)) for name in ("fget", "fset", "fdel"))
    elif isinstance(value, staticmethod | classmethod):
        yield f"the function of {kind.__name__}", value.__func__
    elif isinstance(value, functools.partial):
        yield from _partial_parts(value)
    elif not isinstance(value, ModuleType):
        yield from _reduced_parts(value)


def _items(pairs: Iterable[tuple[Any, Any]], kind: str) -> Iterator[Part]:
    for key, item in list(pairs):
        yield f"key {_short(key)} of {kind}", key
        yield f"item {_short(key)} of {kind}", item


def _function_parts(function: FunctionType) -> Iterator[Part]:
    name = function.__qualname__
    for variable, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield f"variable {variable!r} of {name}", cell.cell_contents
        except ValueError:
            continue  # not bound yet
    for index, default in enumerate(function.__defaults__ or ()):
        yield f"default {index} of {name}", default
    for parameter, default in (function.__kwdefaults__ or {}).items():
        yield f"default of {parameter!r} of {name}", default
    for attribute, item in vars(function).items():
        yield f"attribute {attribute!r} of {name}", item
    for annotated, hint in annotations_of(function).items():
        yield f"annotation of {annotated!r} of {name}", hint


def _class_parts(kind: type) -> Iterator[Part]:
    name = f"class {kind.__qualname__}"
    attributes: dict[str, Any] = dict(vars(kind))
    for attribute, item in attributes.items():
        if not isinstance(item, GetSetDescriptorType | MemberDescriptorType):  # made by the class itself
            yield f"attribute {attribute!r} of {name}", item
    for base in kind.__bases__:
        yield f"base {base.__qualname__} of {name}", base
    if type(kind) is not type:
        yield f"metaclass {type(kind).__qualname__} of {name}", type(kind)


def _partial_parts(partial: "functools.partial[Any]") -> Iterator[Part]:
    yield "the function of partial", partial.func
    called = getattr(partial.func, "__qualname__", "the function")
    for index, item in enumerate(partial.args):
        yield f"argument {index + 1} of partial {called}", item
    for key, item in partial.keywords.items():
        yield f"argument {key!r} of partial {called}", item


def _reduced_parts(value: Any) -> Iterator[Part]:
    """What the object says it is made of; nothing if it cannot say, since then it is the culprit itself."""
    kind = type(value).__qualname__
    try:
        reducer = copyreg.dispatch_table.get(type(value))
        reduced = reducer(value) if reducer is not None else value.__reduce_ex__(PROTOCOL)
    except Exception:  # edge of user code
        if isinstance(value, Mapping):  # a mappingproxy: by value goes into it
            yield from _items(value.items(), kind)
        return
    if isinstance(reduced, str):
        if hasattr(value, "__wrapped__"):
            yield f"attribute '__wrapped__' of {kind}", value.__wrapped__
        return
    if not isinstance(reduced, tuple) or not 2 <= len(reduced) <= 6:
        return
    fields: list[Any] = [*reduced, None, None, None]
    make, args, state, items, pairs = fields[:5]
    yield from _making_parts(value, kind, make, args)
    yield from _state_parts(kind, state)
    yield from ((f"item {index} of {kind}", item) for index, item in enumerate(items or ()))
    yield from _items(pairs or (), kind)


def _making_parts(value: Any, kind: str, make: Any, args: Any) -> Iterator[Part]:
    """Most often the class, or copyreg's function for it; an argument that is an attribute as well is known by that name."""
    yield f"the function that makes a {kind}", make
    items = list(args) if isinstance(args, tuple) else []
    if items and items[0] is type(value):
        yield f"the class of {kind}", items.pop(0)
        called = kind
    else:
        called = getattr(make, "__qualname__", kind)
    own = {id(item): name for name, item in getattr(value, "__dict__", {}).items()}
    for index, item in enumerate(items):
        if id(item) in own:
            yield f"attribute {own[id(item)]!r} of {kind}", item
        else:
            yield f"argument {index + 1} of {called}()", item


def _state_parts(kind: str, state: Any) -> Iterator[Part]:
    """As copyreg has it: a dict of attributes, or a pair of that and of what is in slots; else what a __getstate__ gave."""
    attributes: dict[Any, Any]
    if isinstance(state, tuple) and len(state) == 2 and all(isinstance(part, dict | None) for part in state):
        attributes = {**(state[0] or {}), **(state[1] or {})}
    elif isinstance(state, dict):
        attributes = state
    else:
        yield f"the state of {kind}", state
        return
    for name, item in list(attributes.items()):
        yield f"attribute {name!r} of {kind}", item


def _short(key: Any) -> str:
    try:
        text = repr(key)
    except Exception:  # edge of user code
        text = f"of type {type(key).__name__}"
    return text if len(text) <= 40 else text[:37] + "..."
