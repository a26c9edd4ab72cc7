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
import os
import sys
import types
import typing
from _thread import LockType, RLock
from abc import ABCMeta, update_abstractmethods
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from enum import Enum, EnumMeta
from functools import cached_property, lru_cache
from pickle import PickleBuffer
from socket import socket
from types import CellType, CodeType, FunctionType, ModuleType
from typing import Any, NewType, ParamSpec, TypedDict, TypeVar, TypeVarTuple, cast, is_typeddict
from weakref import WeakKeyDictionary, WeakValueDictionary, finalize

from .statements import codes_in, globals_in

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
KEPT_MAX = 1000  # of those that came, so many live on although nobody refers to them: their attributes may have changed
ALIAS: Any = getattr(typing, "TypeAliasType", ())  # from Python 3.12 on
LACKS = object()
VARIABLE = {
    "constraints": (),
    "bound": None,
    "covariant": False,
    "contravariant": False,
    "infer_variance": False,
    "default": getattr(typing, "NoDefault", None),  # from 3.13 on
}
KINDS = (TypeVar, ParamSpec, TypeVarTuple, NewType, ALIAS)
STARS = {TypeVar: "", TypeVarTuple: "*", ParamSpec: "**"}
# Of random numbers: a copy gives those that the first one gives.
GENERATORS = {
    ("random", "Random"),
    ("numpy.random._generator", "Generator"),
    ("numpy.random.mtrand", "RandomState"),
}
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
        self.generators: list[Any] = []  # of random numbers, of which copies go
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

    def global_of(self, thing: Any) -> str:
        """The global that it is, or is found in; "" for what has no name."""
        return (self.name_of(thing) or "").split(".")[0]

    def reduce(self, thing: Any) -> Any:
        """As reducer_override has it: a name, a reduction or NotImplemented."""
        if isinstance(thing, FunctionType):
            return self._reference(thing) or self._function(thing)
        if isinstance(thing, type):
            return self._reference(thing) or self._class(thing)
        if isinstance(thing, types.MethodType | types.BuiltinMethodType) and (
            found := self._own_method(thing)
        ):
            return found
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
        if isinstance(thing, KINDS):
            return self._reference_by(thing, thing.__name__) or self._taken_apart(reduced_variable(thing))
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
        if is_generator(thing):
            self.generators.append(thing)
        reducer = copyreg.dispatch_table.get(type(thing))
        reduced = reducer(thing) if reducer is not None else thing.__reduce_ex__(PROTOCOL)
        if isinstance(reduced, str):
            self._note_named(thing, reduced)
        return reduced

    def _own_method(self, method: Any) -> Reduction | None:
        """`random.random` and the like, of a generator that its module has: servers have one of their own."""
        owner, name = method.__self__, method.__name__
        if not is_generator(owner):
            return None
        module = sys.modules[type(owner).__module__]
        is_own = getattr(getattr(module, name, None), "__self__", None) is owner
        return self._taken_apart((getattr, (module, name))) if is_own else None

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
            "annotations": annotations_of(function),
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
            attributes["__annotations__"] = annotations_of(kind)
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


def is_generator(thing: Any) -> bool:
    return any((kind.__module__, kind.__name__) in GENERATORS for kind in type(thing).__mro__)


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
    WeakKeyDictionary: lambda table: (type(table), (dict(table),)),
    WeakValueDictionary: lambda table: (type(table), (dict(table),)),
    typing.ParamSpecArgs: lambda args: (typing.ParamSpecArgs, (args.__origin__,)),
    typing.ParamSpecKwargs: lambda kwargs: (typing.ParamSpecKwargs, (kwargs.__origin__,)),
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


# --- what has no name is one thing at both ends all the same: classes made in functions, type variables ---


class Identities:
    """Things and their tokens, while they live. By id(): a metaclass may say what is equal, or that nothing can be hashed."""

    def __init__(self) -> None:
        self._tokens: dict[int, bytes] = {}
        self._things: WeakValueDictionary[bytes, Any] = WeakValueDictionary()
        self._empty: set[bytes] = set()  # these came, and are not filled yet
        self._kept: deque[Any] = deque(maxlen=KEPT_MAX)

    def token_of(self, thing: Any) -> bytes:
        """Random, since clients and servers give tokens to what is theirs."""
        return self._tokens.get(id(thing)) or self._enter(thing, os.urandom(16))

    def find(self, token: bytes) -> Any:
        """None when it never was here, or is no more."""
        return self._things.get(token)

    def add(self, token: bytes, thing: Any) -> Any:
        """It came, and is nearly empty yet."""
        self._empty.add(token)
        self._enter(thing, token)
        self._kept.append(thing)
        return thing

    def is_whole(self, thing: Any) -> bool:
        """What came once is filled once: from then on its attributes are what is done to them here."""
        return self.token_of(thing) not in self._empty

    def set_whole(self, thing: Any) -> None:
        self._empty.discard(self.token_of(thing))

    def _enter(self, thing: Any, token: bytes) -> bytes:
        token = self._tokens.setdefault(id(thing), token)  # another thread may be as far
        self._things[token] = thing
        finalize(thing, self._tokens.pop, id(thing), None).atexit = False
        return token


identities = Identities()


# --- type variables, aliases, new types ---


def reduced_variable(thing: Any) -> tuple[Any, ...]:
    """As __reduce__ has it."""
    if isinstance(thing, NewType):
        return make_new_type, (
            identities.token_of(thing),
            thing.__name__,
            thing.__module__,
            thing.__supertype__,
        )
    late = Late()
    if isinstance(thing, ALIAS):
        facts = _facts(thing, {"value": LACKS})
        if facts and thing.__type_params__:
            return make_generic_alias, (
                thing.__name__,
                thing.__module__,
                facts["value"],
                thing.__type_params__,
            )
        return make_alias, (thing.__name__, thing.__module__, late), (late, facts), None, None, fill_late
    token = identities.token_of(thing)
    facts = _facts(thing, VARIABLE)
    if not facts.get("infer_variance"):
        return make_variable, (token, type(thing), thing.__name__, facts)
    parameter = STARS[type(thing)] + _parameter(thing.__name__, facts)
    return make_late_variable, (token, parameter, late), (late, facts), None, None, fill_late


def _facts(thing: Any, without: dict[str, Any]) -> dict[str, Any]:
    """What it was made with; without what cannot be evaluated, since it exists for type checkers only."""
    found = {name: _attribute(thing, f"__{name}__", default) for name, default in without.items()}
    return {name: value for name, value in found.items() if value is not without[name]}


def _attribute(thing: Any, name: str, default: Any) -> Any:
    try:
        return getattr(thing, name, default)
    except Exception:  # bounds, defaults and values are evaluated now, and are any code of the user's
        return default


def _parameter(name: str, facts: dict[str, Any]) -> str:
    """As it stands between the brackets."""
    if "constraints" in facts:
        parts = [f"late.constraints[{index}]" for index in range(len(facts["constraints"]))]
        name += f": ({', '.join(parts)})"
    elif "bound" in facts:
        name += ": late.bound"
    return name + (" = late.default" if "default" in facts else "")


class Late:
    """What is evaluated when it is asked for, and may refer to what is being made."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise NameError(f"its {name} could not be evaluated where it was made")


def fill_late(_: Any, filling: tuple[Late, dict[str, Any]]) -> None:
    late, facts = filling
    vars(late).update(facts)


def make_variable(token: bytes, kind: Any, name: str, facts: dict[str, Any]) -> Any:
    keywords = {name: value for name, value in facts.items() if name != "constraints"}
    return identities.find(token) or identities.add(
        token, kind(name, *facts.get("constraints", ()), **keywords)
    )


def make_late_variable(token: bytes, parameter: str, late: Late) -> Any:
    known = identities.find(token)
    return known or identities.add(token, _run(f"def it[{parameter}](): pass", late).__type_params__[0])


def make_new_type(token: bytes, name: str, module: str, supertype: Any) -> Any:
    known = identities.find(token) or identities.add(token, NewType(name, supertype))
    known.__module__ = module
    return known


def make_alias(name: str, module: str, late: Late) -> Any:
    return _run(f"type {name} = late.value", late, module, name)


def make_generic_alias(name: str, module: str, value: Any, type_params: tuple[Any, ...]) -> Any:
    scope = {"__name__": module, "make": ALIAS, "it": (name, value), "type_params": type_params}
    return eval("make(*it, type_params=type_params)", scope)  # it takes the module of who calls it


def _run(source: str, late: Late, module: str = __name__, name: str = "it") -> Any:
    scope: dict[str, Any] = {"late": late, "__name__": module}
    exec(source, scope)
    return scope[name]


def annotations_of(thing: Any) -> dict[str, Any]:
    """From Python 3.14 on they are evaluated now, and where they name what exists for type checkers only they stay text."""
    try:
        return dict(thing.__annotations__)
    except Exception:  # annotations are any code of the user's
        annotationlib: Any = importlib.import_module("annotationlib")
        return dict(annotationlib.get_annotations(thing, format=annotationlib.Format.STRING))
