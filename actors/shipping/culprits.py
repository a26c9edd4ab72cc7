"""The last way to pickle: dill's pickler, which knows much of Python that nobody else does; and if that fails, the culprit.

It is written in Python, so it can remember the way down to what it is at: the error says which part of the value cannot be
pickled, of which type it is, and where in the value it hides. Imported only when the fast ways have failed.
"""

import inspect
import io
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from types import (
    AsyncGeneratorType,
    CellType,
    CoroutineType,
    FunctionType,
    GeneratorType,
    MethodType,
    ModuleType,
    TracebackType,
)
from typing import Any

import dill

from dispycos.errors import NotPicklable

from .by_value import PROTOCOL, REDUCERS, REFUSED, BufferCallback, Cached, Names

STEPS_MAX = 20
INSTEAD = {
    CoroutineType: "await it first, and give its value",
    Future: "wait for it first, and give its value; only the handle of a task is waited for: of client.submit(), or the "
    "future.task of an Executor",
    GeneratorType: "a list of its values can be sent: list(...)",
    AsyncGeneratorType: "a list of its values can be sent: [value async for value in ...]",
}
PICKLERS = frozenset({"pickle", "copyreg", "dill", "dispycos"})  # packages whose frames tell users nothing
OURS = (FunctionType, type, ModuleType, Cached, *REFUSED)


def dumps_by_dill(
    value: Any, names: Names, refused: Exception, what: Any, buffers: BufferCallback | None = None
) -> bytes:
    """Raises NotPicklable; `refused` is the error of a faster way, which nests more deeply.

    `what` is the name of the value, or the function of which it is a call.
    """
    file = io.BytesIO()
    pickler = DillPickler(file, names, buffers)
    try:
        pickler.dump(value)
        return file.getvalue()
    except Exception as error:  # edge of user code (__reduce__, __getstate__), which raises what it likes
        if error.__context__ is refused:
            error.__context__ = None
        if not isinstance(error, RecursionError):
            refused = error
    if isinstance(what, str):
        raise _refusal(what, pickler.way, refused)
    raise _refused_call(what, value, pickler.way, refused)


def _refused_call(function: Any, call: tuple[Any, ...], way: "list[_Step]", error: Exception) -> NotPicklable:
    """It names the argument."""
    names = (
        getattr(function, name, None) for name in ("__qualname__", "__name__")
    )  # the second of what wraps one
    called = next(filter(None, names), type(function).__qualname__)
    _, args, kwargs = call
    if way[1:] and way[1].thing is function:
        return _refusal(f"the function {called}", way[1:], error)
    if len(way) < 3:
        return _refusal(f"the call of {called}", [], error)
    place = (
        _argument(function, _index(args, way[2].thing))
        if way[1].thing is args
        else _key(kwargs, way[2].thing)
    )
    return _refusal(f"argument {place} of {called}", way[2:], error)


def _argument(function: Any, index: int) -> str:
    try:
        return f"{index + 1} ({list(inspect.signature(function).parameters)[index]!r})"
    except (TypeError, ValueError, IndexError):
        return str(index + 1)


def _refusal(what: str, way: "list[_Step]", error: Exception) -> NotPicklable:
    path = _places(way)
    text = _text(error)
    if len(path) > STEPS_MAX:
        path[STEPS_MAX:] = ["further in"]
    elif way:
        text = _complaint(way[-1].thing, way[-1].error or error)
    refusal = NotPicklable(f"{what}: {text}{': ' if path else ''}{', '.join(reversed(path))}{_instead(way)}")
    refusal.__cause__ = error.with_traceback(_in_users_code(error.__traceback__))
    return refusal


def _in_users_code(trace: TracebackType | None) -> TracebackType | None:
    """Of a __reduce__ or the like that raised; None if the pickler did."""
    found = trace
    while trace is not None:
        package = str(trace.tb_frame.f_globals.get("__name__")).partition(".")[0]
        trace = trace.tb_next
        if package in PICKLERS:
            found = trace
    return found


def _instead(way: "list[_Step]") -> str:
    """What to do, where what was meant is plain: of the outermost."""
    for step in way:
        is_asyncios = hasattr(type(step.thing), "_asyncio_future_blocking")  # as asyncio.isfuture() asks
        for kind in (Future,) if is_asyncios else type(step.thing).__mro__:
            if kind in INSTEAD:
                return f"; {INSTEAD[kind]}"
    return ""


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


class _Step:
    """What is being pickled, and what it is to be made of, if it said so."""

    def __init__(self, thing: Any) -> None:
        self.thing = thing
        self.make: Any = None
        self.args: Any = None
        self.state: Any = None
        self.error: Exception | None = None


class DillPickler(dill.Pickler):  # type: ignore[misc]
    def __init__(self, file: io.BytesIO, names: Names, buffers: BufferCallback | None) -> None:
        super().__init__(file, PROTOCOL, recurse=True, buffer_callback=buffers)
        self._names = names
        self.way: list[_Step] = []

    def reducer_override(self, thing: Any) -> Any:
        """NotImplemented leaves it to dill: plain values as well, of which pickle in C does not ask."""
        is_dills = type(thing) in self.dispatch and type(thing) not in REDUCERS
        return NotImplemented if is_dills and not isinstance(thing, OURS) else self._names.reduce(thing)

    def save(self, thing: Any, *options: Any, **more: Any) -> None:
        step = _Step(thing)
        self.way.append(step)
        try:
            super().save(thing, *options, **more)
        except (
            Exception
        ) as error:  # edge of user code; that of the innermost: Python 3.14 adds notes to it, which may fail
            if step is self.way[-1]:
                step.error = error
            raise
        self.way.pop()

    def save_reduce(self, make: Any, args: Any, state: Any = None, *more: Any, **options: Any) -> None:
        step = self.way[-1]
        step.make, step.args, step.state = make, args, state
        super().save_reduce(make, args, state, *more, **options)


def _places(way: list[_Step]) -> list[str]:
    """From the outside in. What an object is made of (its state, arguments) is no place that people know; what is in it is."""
    found: list[str] = []
    at = 0
    while at + 1 < len(way):
        inner = [step.thing for step in way[at + 1 : at + 6]]
        is_definition = isinstance(way[at].thing, FunctionType | type)
        place, depth = _in_definition(way[at], inner) if is_definition else _in_object(way[at], inner)
        found.append(place)
        at += depth
    return found


def _in_object(step: _Step, inner: list[Any]) -> tuple[str, int]:
    """Where in it the way goes on, and how many steps that takes."""
    thing, first = step.thing, inner[0]
    kind = type(thing).__qualname__
    if first is step.make:
        return f"the function that makes a {kind}", 1
    if first is type(thing):
        return f"the class of {kind}", 1
    if first is step.state:
        if isinstance(thing, partial) and len(inner) > 2:
            which = _key(inner[1], inner[2]) if isinstance(inner[1], dict) else _index(inner[1], inner[2]) + 1
            return f"argument {which} of partial {getattr(thing.func, '__qualname__', '')}", 3
        for depth, table in enumerate(inner[:-1][:2], 1):  # with slots it is a pair of tables
            if isinstance(table, dict):
                return f"attribute {_key(table, inner[depth])} of {kind}", depth + 1
        return f"the state of {kind}", 1
    if step.args and isinstance(first, tuple) and len(inner) > 1:
        return _in_arguments(thing, first, inner[1]), 2
    return f"{_item(thing, first)} of {kind}", 1


def _in_arguments(thing: Any, args: tuple[Any, ...], part: Any) -> str:
    """An argument that is an attribute as well is known by that name."""
    kind = type(thing).__qualname__
    if isinstance(thing, MethodType):
        return f"the object of method {thing.__func__.__qualname__}"
    if (name := _key(getattr(thing, "__dict__", {}), part)) != "?":
        return f"attribute {name} of {kind}"
    return f"argument {_index(args, part) + 1} of {kind}()"


def _in_definition(step: _Step, inner: list[Any]) -> tuple[str, int]:
    """As by_value.py takes functions and classes apart."""
    thing = step.thing
    name = f"class {thing.__qualname__}" if isinstance(thing, type) else thing.__qualname__
    if inner[0] is step.state and isinstance(step.state, dict) and len(inner) > 2:
        field, table, part = _key(step.state, inner[1]), inner[1], inner[2]
        if isinstance(table, tuple):
            return f"default {_index(table, part) + 1} of {name}", 3
        word = {"'kwdefaults'": "default of", "'annotations'": "annotation of"}.get(field, "attribute")
        return f"{word} {_key(table, part)} of {name}", 3
    if len(inner) > 4 and isinstance(inner[2], CellType):
        return f"variable {thing.__code__.co_freevars[_index(inner[1], inner[2])]!r} of {name}", 5
    if len(inner) > 1 and isinstance(inner[1], type):
        return f"metaclass {inner[1].__qualname__} of {name}", 2
    if len(inner) > 2 and isinstance(inner[2], type):
        return f"base {inner[2].__qualname__} of {name}", 3
    return f"a part of {name}", 1


def _item(container: Any, part: Any) -> str:
    if isinstance(container, Mapping):
        is_key = any(key is part for key in container)
        return f"key {_short(part)}" if is_key else f"item {_key(container, part)}"
    return f"item {index}" if (index := _index(container, part)) >= 0 else "an item"


def _key(table: Mapping[Any, Any], part: Any) -> str:
    return next((_short(key) for key, value in table.items() if value is part), "?")


def _index(container: Any, part: Any) -> int:
    """-1 where it has no order."""
    is_ordered = isinstance(container, Sequence | deque)
    return next((index for index, item in enumerate(container) if item is part), -1) if is_ordered else -1


def _short(key: Any) -> str:
    try:
        text = repr(key)
    except Exception:  # edge of user code
        text = f"of type {type(key).__name__}"
    return text if len(text) <= 40 else text[:37] + "..."
