"""How a task's function is called: whether it suspends, who fills its parameter `task`, and what is no value of a task.

All is told by a few attributes of the function, with each call: inspect.signature() takes longer than a short task.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from types import AsyncGeneratorType, CodeType, FunctionType, GeneratorType, MethodType
from typing import Any, NamedTuple, Protocol

from dispycos.protocol.texts import NAME_MAX, cut

from .ends import Outcome, Raised, Returned

SUSPENDS = (
    inspect.CO_COROUTINE | inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR | inspect.CO_ITERABLE_COROUTINE
)
PASSES_ON = inspect.CO_VARKEYWORDS
LAYERS_MAX = 32  # partials and decorators around one function
ATOMS = frozenset((type(None), bool, int, float, str, bytes))  # values with nothing of the user's in them
COMMON = ATOMS | {list, tuple, dict}  # most values: known to be no coroutine and no iterator
ITERATORS = ("builtins", "itertools")  # where their types are

_placeholder = getattr(functools, "Placeholder", object())  # of Python 3.14


class HasHandle(Protocol):
    """A task here, whose handle is made when it is wanted."""

    @property
    def handle(self) -> object: ...


class Layer(NamedTuple):
    """What a callable calls, and what it adds to the arguments."""

    called: Any
    positional: int
    named: Mapping[str, Any]


def name_of(function: Callable[..., Any]) -> str:
    name = getattr(function, "__name__", None)
    if type(name) is str and 0 < len(name) <= NAME_MAX:
        return name
    return cut(name if isinstance(name, str) and name else type(function).__name__, NAME_MAX)


def beneath(function: Any) -> Layer | None:
    """One layer in: of a method, a partial, what functools.wraps was used for, a class, an object with __call__."""
    if isinstance(function, MethodType):
        return Layer(function.__func__, 1, {})
    if isinstance(function, functools.partial):
        given = sum(argument is not _placeholder for argument in function.args)
        return Layer(function.func, given, function.keywords)
    wrapped = getattr(function, "__wrapped__", None)
    if wrapped is not None:
        return Layer(wrapped, 0, {})
    if isinstance(function, type):
        made_by = (getattr(function, name) for name in ("__init__", "__new__"))
        return next((Layer(method, 1, {}) for method in made_by if hasattr(method, "__code__")), None)
    method = getattr(type(function), "__call__", None)  # noqa: B004
    return Layer(method, 1, {}) if hasattr(method, "__code__") else None


def can_suspend(function: Any) -> bool:
    """Whether it is an `async def` or a generator function, in whatever layers. All others are plain: no loop runs for them."""
    if type(function) is MethodType:
        function = function.__func__
    if type(function) is FunctionType and not hasattr(function, "__wrapped__"):
        return bool(function.__code__.co_flags & SUSPENDS)  # most, told at once
    for _ in range(LAYERS_MAX):
        code: CodeType | None = getattr(function, "__code__", None)
        if code is not None and code.co_flags & SUSPENDS:
            return True
        layer = beneath(function) if not isinstance(function, type) else None
        if layer is None:
            return False
        function = layer.called
    return False


def receives(function: Any) -> bool:
    """Whether it takes messages, as its code says by `receive` and by `task` or `current_task`. What it calls is not looked at."""
    for _ in range(LAYERS_MAX):
        code: CodeType | None = getattr(function, "__code__", None)
        if code is not None and not hasattr(function, "__wrapped__"):
            names = code.co_names
            return "receive" in names and ("task" in code.co_varnames or "current_task" in names)
        layer = beneath(function) if not isinstance(function, type) else None
        if layer is None:
            return False
        function = layer.called
    return False


def may_receive(function: Any) -> bool:
    """Whether it could be an actor that receives() takes for none: it suspends, and has its task, which it may hand on."""
    code: CodeType | None = getattr(function, "__code__", None)
    return code is not None and bool(code.co_flags & SUSPENDS) and "task" in code.co_varnames


def with_task(
    function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], cell: HasHandle
) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
    """The arguments, and the task itself for a parameter `task` that the caller left open.

    Raises
    ------
    TypeError: the caller's arguments reach as far as `task`, but not to all that have to follow.
    """
    code: CodeType | None = getattr(function, "__code__", None)  # a method gives its function's
    if code is not None and "task" not in code.co_varnames and not code.co_flags & PASSES_ON:
        return args, kwargs  # most, told at once
    called, taken, named, layers = function, len(args), kwargs, 0
    while code is None or "task" not in (
        names := code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    ):
        layers += 1
        can_pass = layers <= LAYERS_MAX and (code is None or code.co_flags & PASSES_ON)
        layer = beneath(called) if can_pass else None
        if layer is None:
            return args, kwargs
        called = layer.called
        taken += layer.positional
        named = {**layer.named, **named}
        code = getattr(called, "__code__", None)
    if "task" in named:
        return args, kwargs
    place = names.index("task")
    if place >= code.co_argcount:
        return args, {**kwargs, "task": cell.handle}
    if isinstance(called, MethodType):
        taken += 1
    if place < taken:
        required = code.co_argcount - len(called.__defaults__ or ())
        missing = [name for name in names[taken:required] if name not in named]
        if missing:
            raise TypeError(_missing(name_of(function), missing))
        return args, kwargs
    if place >= code.co_posonlyargcount:
        return args, {**kwargs, "task": cell.handle}
    return ((*args, cell.handle) if place == taken else args), kwargs


def keywords_of(function: Callable[..., Any]) -> set[str] | None:
    """What it takes by name; None: whatever is given, or nobody knows. Slow."""
    try:
        parameters = inspect.signature(function, follow_wrapped=False).parameters.values()
    except (TypeError, ValueError):  # of a builtin
        return None
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return None
    return {parameter.name for parameter in parameters if parameter.kind is not parameter.POSITIONAL_ONLY}


def _missing(name: str, missing: list[str]) -> str:
    those = ", ".join(missing)
    return (
        f"{name}() misses {those}: what was given by position begins with its `task`, which then is the caller's. "
        f"To get the task itself, from dispycos, put it last or behind a star: def {name}({those}, *, task)"
    )


def no_iterator(outcome: Returned, name: str) -> Outcome:
    """The same; an error where the value is an iterator of Python's own, whose items nobody has computed."""
    kind = type(outcome.value)
    if kind is AsyncGeneratorType:
        remedy = "an `async def` that is a task has no `yield`: return a list, or send the items as messages"
    elif hasattr(kind, "__next__") and kind.__module__ in ITERATORS:
        remedy = "return a list of its items"
        if kind is GeneratorType:
            remedy += (
                f", or make {name} itself a generator function (functools.wraps tells it of a decorated one)"
            )
    else:
        return outcome
    article = "an" if kind is AsyncGeneratorType else "a"
    return Raised(
        TypeError(f"{name} returned {article} {kind.__name__}, which cannot be a task's value: {remedy}")
    )
