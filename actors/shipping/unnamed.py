"""What has no name to be found by is one thing at both ends all the same: classes made in functions, type variables.

Programs compare them by identity, so each has a token. The table of these belongs to the process, as sys.modules does:
streams that come from anywhere look things up in it. Also how type variables, aliases and new types are made again: those
of PEP 695, and those made inside functions.
"""

import importlib
import os
import typing
from collections import deque
from typing import Any, NewType, ParamSpec, TypeVar, TypeVarTuple
from weakref import WeakValueDictionary, finalize

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
OF_PARAM_SPECS = (typing.ParamSpecArgs, typing.ParamSpecKwargs)


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

    def add(self, token: bytes, thing: Any) -> None:
        """It came, and is nearly empty yet."""
        self._empty.add(token)
        self._enter(thing, token)
        self._kept.append(thing)

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


def reduced(thing: Any) -> tuple[Any, ...]:
    """As __reduce__ has it."""
    if isinstance(thing, OF_PARAM_SPECS):
        return type(thing), (thing.__origin__,)
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
        return make_alias, (thing.__name__, thing.__module__, late), (late, facts), None, None, fill
    token = identities.token_of(thing)
    facts = _facts(thing, VARIABLE)
    if not facts.get("infer_variance"):
        return make_variable, (token, type(thing), thing.__name__, facts)
    parameter = STARS[type(thing)] + _parameter(thing.__name__, facts)
    return make_late_variable, (token, parameter, late), (late, facts), None, None, fill


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


def fill(_: Any, filling: tuple[Late, dict[str, Any]]) -> None:
    late, facts = filling
    vars(late).update(facts)


def make_variable(token: bytes, kind: Any, name: str, facts: dict[str, Any]) -> Any:
    keywords = {name: value for name, value in facts.items() if name != "constraints"}
    return identities.find(token) or _known(token, kind(name, *facts.get("constraints", ()), **keywords))


def make_late_variable(token: bytes, parameter: str, late: Late) -> Any:
    return identities.find(token) or _known(
        token, _run(f"def it[{parameter}](): pass", late).__type_params__[0]
    )


def make_new_type(token: bytes, name: str, module: str, supertype: Any) -> Any:
    known = identities.find(token) or _known(token, NewType(name, supertype))
    known.__module__ = module
    return known


def make_alias(name: str, module: str, late: Late) -> Any:
    return _run(f"type {name} = late.value", late, module, name)


def make_generic_alias(name: str, module: str, value: Any, type_params: tuple[Any, ...]) -> Any:
    scope = {"__name__": module, "make": ALIAS, "it": (name, value), "type_params": type_params}
    return eval("make(*it, type_params=type_params)", scope)  # it takes the module of who calls it


def _known(token: bytes, thing: Any) -> Any:
    identities.add(token, thing)
    return thing


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
