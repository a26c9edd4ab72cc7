"""Decides how each thing inside a pickle goes: by the name that it is found by, or else taken apart, to be made again.

Also how that is done, since what pickles refer to is here: pickle itself takes objects apart, but no functions and classes.
What would not be the thing if it were a copy (locks, files, sockets) is refused; functions keep the globals of their module.
"""

import builtins
import copyreg
import dataclasses
import importlib
import io
import marshal
import sys
import types
import weakref
from _thread import LockType, RLock
from abc import ABCMeta, update_abstractmethods
from collections.abc import Callable
from contextlib import suppress
from enum import Enum, EnumMeta
from functools import cached_property, lru_cache
from pickle import PickleBuffer
from socket import socket
from types import CellType, CodeType, FunctionType, ModuleType
from typing import Any, TypedDict, cast, is_typeddict

from . import unnamed
from .statements import codes_in, globals_in
from .unnamed import identities

PROTOCOL = 5
REFUSED = (LockType, RLock, socket, io.FileIO, io.BufferedIOBase, io.TextIOWrapper)
ALLOWED_IO = (io.BytesIO,)
MADE_BY_TYPE = (types.GetSetDescriptorType, types.MemberDescriptorType)
Cached = type(lru_cache(len))
SENTINELS = {  # compared by identity
    id(getattr(dataclasses, name)): name
    for name in ("MISSING", "KW_ONLY", "_FIELD", "_FIELD_CLASSVAR", "_FIELD_INITVAR", "_HAS_DEFAULT_FACTORY")
    if hasattr(dataclasses, name)
}
LATE_ANNOTATIONS = {"__annotate__", "__annotate_func__", "__annotations_cache__"}  # from Python 3.14 on
NEEDED_AT_ONCE = ("__slots__", "__orig_bases__")  # the making of a class reads them
NOT_COPIED = {"__dict__", "__weakref__", "__module__", "__qualname__", "_abc_impl", *NEEDED_AT_ONCE}
REQUIRE = "__dispycos_require__"  # in the globals of a mirror: asks for names that a function will look up
OF_TYPES = {id(kind): name for name, kind in vars(types).items() if isinstance(kind, type)}

Reduction = tuple[Any, ...]
BufferCallback = Callable[[PickleBuffer], bool]


class Names:
    """The names by which the live objects of `__main__` can be referred to, and what one pickle made use of.

    `force` goes by value although it has a name.
    """

    def __init__(self, main: ModuleType, force: Any = None) -> None:
        self.main = main
        self.used: set[str] = set()
        self.looked_up: set[str] = set()  # by functions that travel by value, when they are called
        self.modules: set[str] = set()
        self.by_value = False  # it holds what plain pickle does not take
        self._force = force
        self._bound: dict[int, str] | None = None
        self._scopes: dict[int, _Scope] = {}

    def name_of(self, thing: Any) -> str | None:
        """Its qualified name in `__main__`, or else a global that it is bound to."""
        qualified = getattr(thing, "__qualname__", None)
        if isinstance(qualified, str) and "<" not in qualified and _find(self.main, qualified) is thing:
            return qualified
        if self._bound is None:
            self._bound = {id(live): name for name, live in list(vars(self.main).items()) if callable(live)}
        return self._bound.get(id(thing))

    def home_of(self, thing: Any) -> str | None:
        """The global that it is defined under, or is an attribute of."""
        qualified = getattr(thing, "__qualname__", None)
        if getattr(thing, "__module__", None) != "__main__" or not isinstance(qualified, str):
            return None
        return qualified.split(".")[0] if _find(self.main, qualified) is thing else None

    def reduce(self, thing: Any) -> Any:
        """As reducer_override has it: a name, a reduction or NotImplemented."""
        if isinstance(thing, FunctionType):
            return self._reference(thing) or self._function(thing)
        if isinstance(thing, type):
            return self._reference(thing) or self._class(thing)
        if isinstance(thing, types.MethodType | memoryview):
            return REDUCERS[type(thing)](thing)
        if (reducer := REDUCERS.get(type(thing))) is not None:
            return self._taken_apart(reducer(thing))
        if id(thing) in SENTINELS:
            return SENTINELS[id(thing)]
        if isinstance(thing, REFUSED) and not isinstance(thing, ALLOWED_IO):
            raise TypeError(f"cannot pickle '{type(thing).__module__}.{type(thing).__qualname__}' object")
        if isinstance(thing, ModuleType):
            return self._module(thing)
        if isinstance(thing, unnamed.KINDS):
            return self._reference_by(thing, thing.__name__) or self._taken_apart(unnamed.reduced(thing))
        if isinstance(thing, Cached):
            made = make_cached, (thing.__wrapped__, thing.cache_parameters())
            return self._reference(thing) or self._taken_apart(made)
        is_wrapper = hasattr(thing, "__wrapped__") and getattr(thing, "__module__", None) == "__main__"
        return (is_wrapper and self._reference(thing)) or self._reduced(thing)

    # --- by name ---

    def _reference(self, thing: Any) -> str | None:
        """The name to write for it, which is noted; None when it has none, and for what is forced with its methods."""
        if getattr(thing, "__module__", None) != "__main__":
            return self._reference_by(thing, getattr(thing, "__qualname__", None))
        name = self.name_of(thing)
        if name is None:
            return None
        top = name.split(".")[0]
        if self._force is not None and vars(self.main).get(top) is self._force:
            return None
        self.used.add(top)
        return name

    def _reference_by(self, thing: Any, qualified: Any) -> str | None:
        """The name, if the thing is found by it in its module."""
        module = getattr(thing, "__module__", None)
        if not isinstance(module, str) or not isinstance(qualified, str):
            return None
        if _find(sys.modules.get(module), qualified) is not thing:
            return None
        self._note_named(thing, qualified)
        return qualified

    def _reduced(self, thing: Any) -> Any:
        """As pickle does it; who says that a name is enough is noted."""
        reducer = copyreg.dispatch_table.get(type(thing))
        reduced = reducer(thing) if reducer is not None else thing.__reduce_ex__(PROTOCOL)
        if isinstance(reduced, str):
            self._note_named(thing, reduced)
        return reduced

    def _note_named(self, thing: Any, name: str) -> None:
        module = getattr(thing, "__module__", None)
        if module == "__main__":
            self.used.add(name.split(".")[0])
        elif isinstance(module, str):
            self.modules.add(module)

    def _module(self, module: ModuleType) -> Reduction:
        if sys.modules.get(module.__name__) is not module:
            raise TypeError(f"cannot pickle module {module.__name__!r}: it cannot be imported by that name")
        self.modules.add(module.__name__)
        return self._taken_apart((importlib.import_module, (module.__name__,)))

    # --- by value ---

    def _taken_apart(self, reduction: Reduction) -> Reduction:
        self.by_value = True
        return reduction

    def _function(self, function: FunctionType) -> Reduction:
        scope = function.__globals__
        needed = _globals_in(function.__code__)
        module = scope.get("__name__")
        owner = sys.modules.get(module) if isinstance(module, str) else None
        is_of_module = owner is not None and vars(owner) is scope
        if not is_of_module:  # exec'd in a dictionary of its own
            made: Any = self._scopes.setdefault(id(scope), _Scope((make_scope, (module,))))
        else:
            made = _Scope((globals_of, (module, needed)))
            if module == "__main__":
                self.looked_up.update(needed)
            else:
                self.modules.add(str(module))
        state = {
            "name": function.__name__,
            "qualname": function.__qualname__,
            "module": function.__module__,
            "doc": function.__doc__,
            "defaults": function.__defaults__,
            "kwdefaults": function.__kwdefaults__,
            "annotations": unnamed.annotations_of(function),
            "type_params": getattr(function, "__type_params__", ()),
            "attributes": vars(function),
            "globals": {} if is_of_module else {name: scope[name] for name in needed if name in scope},
            "rewriters": _rewriters(scope, needed) if is_of_module else {},
        }
        args = function.__code__, made, function.__closure__
        return self._taken_apart((make_function, args, state, None, None, fill_function))

    def _class(self, kind: type) -> Any:
        if kind.__module__ == "builtins" and (name := OF_TYPES.get(id(kind))) is not None:
            return self._taken_apart((getattr, (types, name)))
        if kind.__module__ == "builtins" or not kind.__flags__ & (1 << 9):  # Py_TPFLAGS_HEAPTYPE
            return NotImplemented
        attributes = {name: value for name, value in vars(kind).items() if _is_own(kind, name, value)}
        first: dict[str, Any] = {name: vars(kind)[name] for name in NEEDED_AT_ONCE if name in vars(kind)}
        bases: tuple[Any, ...] = kind.__bases__
        if isinstance(kind, EnumMeta):
            members = dict[str, Any](kind.__members__)
            first = {name: vars(member)["_value_"] for name, member in members.items()}
            attributes = {n: v for n, v in attributes.items() if _is_enum_attribute(n, v, members)}
        elif is_typeddict(kind):
            bases = (TypedDict,)
        if LATE_ANNOTATIONS & attributes.keys():
            attributes = {n: v for n, v in attributes.items() if n not in LATE_ANNOTATIONS}
            attributes["__annotations__"] = unnamed.annotations_of(kind)
        state = {
            "module": kind.__module__,
            "qualname": kind.__qualname__,
            "attributes": attributes,
            "anew": kind is self._force,
        }
        made = identities.token_of(kind), type(kind), kind.__name__, bases, first
        return self._taken_apart((make_class, made, state, None, None, fill_class))


class _Scope:
    """Stands in a reduction for globals, which are made by a call."""

    def __init__(self, reduction: Reduction) -> None:
        self._reduction = reduction

    def __reduce__(self) -> Reduction:
        return self._reduction


def _find(module: Any, qualified: str) -> Any:
    found = module
    for part in qualified.split("."):
        found = getattr(found, part, None)
    return found


def _rewriters(scope: dict[str, Any], needed: tuple[str, ...]) -> dict[str, str]:
    """Modules bound to names that no text can bind, by what rewrote the code: pytest does with each `assert`."""
    found = {name: scope.get(name) for name in needed if not name.isidentifier()}
    return {name: module.__name__ for name, module in found.items() if isinstance(module, ModuleType)}


def _is_own(kind: type, name: str, value: Any) -> bool:
    """Not made by its making."""
    is_made = isinstance(value, MADE_BY_TYPE) and getattr(value, "__objclass__", None) is kind
    return name not in NOT_COPIED and not is_made


def _is_enum_attribute(name: str, value: Any, members: dict[str, Any]) -> bool:
    """What the class body added; members and what EnumMeta keeps for itself are made again."""
    if name in members or name in ("__new__", "_generate_next_value_"):
        return False
    return isinstance(value, FunctionType) or not (name.startswith("_") or name in vars(Enum))


def _globals_in(code: CodeType) -> tuple[str, ...]:
    found = {name for inner in codes_in(code) for name in globals_in(inner)}
    return tuple(sorted(found - vars(builtins).keys()))


def _cell(cell: CellType) -> Reduction:
    try:
        contents = (cell.cell_contents,)
    except ValueError:
        return CellType, ()  # not bound yet
    return CellType, (), contents, None, None, fill_cell


def reduced_view(view: memoryview) -> Reduction:
    """What it shows travels, and can be written into as here."""
    return make_view, (PickleBuffer(view), view.format, view.shape)


REDUCERS: dict[type, Callable[[Any], Reduction]] = {
    property: lambda p: (property, (p.fget, p.fset, p.fdel, p.__doc__)),
    staticmethod: lambda method: (staticmethod, (method.__func__,)),
    classmethod: lambda method: (classmethod, (method.__func__,)),
    cached_property: lambda p: (cached_property, (p.func,), {"attrname": p.attrname}),  # it had a lock once
    types.MethodType: lambda method: (types.MethodType, (method.__func__, method.__self__)),
    CodeType: lambda code: (marshal.loads, (marshal.dumps(code),)),
    CellType: _cell,
    memoryview: reduced_view,
    types.MappingProxyType: lambda proxy: (types.MappingProxyType, (dict(proxy),)),
    weakref.WeakKeyDictionary: lambda table: (type(table), (dict(table),)),
    weakref.WeakValueDictionary: lambda table: (type(table), (dict(table),)),
    **dict.fromkeys(unnamed.OF_PARAM_SPECS, unnamed.reduced),
}


# --- what pickles call, at the other end ---


def globals_of(module: str, needed: tuple[str, ...]) -> dict[str, Any]:
    scope = vars(importlib.import_module(module))
    if module == "__main__" and (require := scope.get(REQUIRE)) is not None:
        require(needed)
    return scope


def make_scope(name: Any) -> dict[str, Any]:
    return {"__name__": name, "__builtins__": builtins}


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
    for name in ("name", "qualname", "module", "doc", "defaults", "kwdefaults", "annotations"):
        setattr(function, f"__{name}__", state[name])
    if state["type_params"]:
        generic: Any = function
        generic.__type_params__ = state["type_params"]
    vars(function).update(state["attributes"])
    function.__globals__.update(state["globals"])
    for name, module in state["rewriters"].items():
        with suppress(ImportError):  # a node without it: most functions do without, too
            function.__globals__.setdefault(name, importlib.import_module(module))


def make_cached(function: FunctionType, parameters: dict[str, Any]) -> Any:
    """The cache stays where it was filled."""
    return lru_cache(**parameters)(function)


def make_class(
    token: bytes, metaclass: type, name: str, bases: tuple[Any, ...], first: dict[str, Any]
) -> type:
    """Nearly empty: its attributes come later, since they may refer to it."""
    known = identities.find(token)
    if known is None:
        bases = types.resolve_bases(bases)
        try:
            namespace = metaclass.__prepare__(name, bases)
            for attribute, value in first.items():
                namespace[attribute] = value
            known = metaclass(name, bases, namespace)
        except TypeError:  # made with keywords, it does without their effects: those are attributes now
            known = _made_bare(metaclass, name, bases, dict(first))
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


def fill_class(kind: type, state: dict[str, Any]) -> None:
    """Unless it has been here before, or came from here."""
    if identities.is_whole(kind) and not state["anew"]:
        return
    kind.__module__, kind.__qualname__ = state["module"], state["qualname"]
    for name, value in state["attributes"].items():
        setattr(kind, name, value)
    if hasattr(kind, "__abstractmethods__"):
        update_abstractmethods(kind)
    identities.set_whole(kind)
