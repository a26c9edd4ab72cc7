"""Many kinds of values, each as argument, result, message, global of a function, and beside what only dill takes."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.kit.shipping_scripts import run_python

# Each with what is asked of it at both ends. What plain pickle takes is not here.
FAST = {
    "lambda": ("lambda n: n + 1", "it(2)"),
    "closure": ("made(3)", "it()"),
    "recursive closure": ("recursive()", "it(4)"),
    "generator function": ("generating()", "list(it())"),
    "coroutine function": ("waiting()", "asyncio.run(it())"),
    "function with globals of its own": ("elsewhere()", "(it(), it())"),
    "generic function": ("functools.singledispatch(lambda thing: 5)", "it(0)"),
    "cached function": ("functools.lru_cache(lambda n: 2 * n)", "it(4)"),
    "partial": ("functools.partial(lambda a, b: a - b, 5)", "it(2)"),
    "code": ("made(3).__code__", "it.co_name"),
    "cell": ("made(3).__closure__[0]", "it.cell_contents"),
    "empty cell": ("types.CellType()", "type(it).__name__"),
    "module": ("os", "it.__name__"),
    "local class": ("local()", "it(2).double, it.of(), it.own().__name__, it.__doc__"),
    "instance of a local class": ("local()(2)", "it.double, type(it).__name__"),
    "method of one": ("local()(2).grown", "it(3)"),
    "class with slots": ("slotted()", "it.__slots__, hasattr(it(), 'a')"),
    "class with a metaclass": ("with_metaclass()", "len(it), it.__class__.__name__"),
    "named tuple": ("collections.namedtuple('Pair', 'a b')(1, 2)", "it.a, it._asdict()"),
    "data class": ("record()(4)", "repr(it), [f.name for f in dataclasses.fields(it)]"),
    "enum": ("flags()", "[flag.name for flag in it], it(3)._value_"),
    "member of one": ("flags().A", "it.name, (it | type(it).B)._value_"),
    "typed dictionary": ("typed()", "it.__annotations__, it(x=1)"),
    "protocol": ("protocol()", "isinstance(5, it)"),
    "type variable": ("typing.TypeVar('T', bound=int)", "it.__name__, it.__bound__"),
    "new type": ("typing.NewType('Metres', int)", "it.__name__, it(5)"),
    "property": ("property(lambda self: 5)", "it.fget(0)"),
    "static method": ("staticmethod(lambda: 5)", "it.__func__()"),
    "class method": ("classmethod(lambda kind: 5)", "it.__func__(0)"),
    "cached property": ("functools.cached_property(lambda self: 5)", "it.func(0)"),
    "type without a name": ("types.FunctionType", "it.__name__"),
    "mapping proxy": ("types.MappingProxyType({1: 2})", "dict(it)"),
    "memoryview": ("memoryview(bytearray(b'abcd')).cast('B', (2, 2))", "it.shape, it[1, 1]"),
    "dictionary with a factory": ("collections.defaultdict(lambda: 7)", "it['x']"),
    "list that holds itself": ("circle()", "it[0] is it, it[1]()"),
    "weak dictionary": ("weakref.WeakKeyDictionary({KEPT: 1})", "type(it).__name__"),
    "dictionary of weak values": ("weakref.WeakValueDictionary({1: KEPT})", "type(it).__name__"),
}
BY_DILL = {
    "context": ("contextvars.copy_context()", "it.run(lambda: 5)"),
    "weak reference": ("weakref.ref(KEPT)", "type(it).__name__"),
    "dead weak reference": ("weakref.ref(Thing())", "it()"),
    "keys of a dictionary": ("{1: 2}.keys()", "type(it).__name__, list(it)"),
    "values of one": ("{1: 2}.values()", "type(it).__name__, list(it)"),
    "items of an ordered one": ("collections.OrderedDict({1: 2}).items()", "type(it).__name__, list(it)"),
    "super": ("super(Heir, Heir())", "it.word()"),
    "type of keys": ("type({}.keys())", "it.__name__"),
    "attribute of a type": ("types.FunctionType.__code__", "it.__name__"),
    "class method of a type": ("vars(dict)['fromkeys']", "it.__name__"),
    "text in memory": ("io.StringIO('abc')", "it.getvalue()"),
}
REFUSED = {
    "lock": "threading.Lock()",
    "condition": "threading.Condition()",
    "thread": "threading.Thread()",
    "file": "open(__file__)",
    "binary file": "open(__file__, 'rb')",
    "socket": "socket.socket()",
    "generator": "generating()()",
    "frame": "sys._getframe()",
    "context variable": "contextvars.ContextVar('V')",
}
USES = ["argument", "result", "message", "global", "beside"]
SCRIPT = """
import asyncio, collections, contextvars, dataclasses, enum, functools, io, json, os, socket, sys, threading
import types, typing, weakref
from dispycos.actors.shipping.pickling import dumps, loads
from dispycos.errors import NotPicklable
from shipping_client import Remote, RemoteFailure

class Thing:
    def word(self):
        return "thing"

class Heir(Thing):
    def word(self):
        return "heir"

KEPT = Thing()

def made(n):
    def inner():
        return n
    return inner

def recursive():
    def factorial(n):
        return 1 if n < 2 else n * factorial(n - 1)
    return factorial

def generating():
    def three():
        yield from range(3)
    return three

def waiting():
    async def five():
        return 5
    return five

def elsewhere():
    scope = {"__name__": "nowhere", "COUNT": 3}
    exec("def up():\\n    global COUNT\\n    COUNT += 1\\n    return look()\\ndef look(): return COUNT", scope)
    return scope["up"]

def local():
    class Local:
        "Made in a function."
        def __init__(self, n):
            self.n = n
        @property
        def double(self):
            return self.n * 2
        @staticmethod
        def of():
            return 5
        @classmethod
        def own(cls):
            return cls
        def grown(self, by):
            return self.n + by
    return Local

def slotted():
    class Slotted:
        __slots__ = ("a", "__weakref__")
    return Slotted

def with_metaclass():
    class Sized(type):
        def __len__(cls):
            return 7
    class Made(metaclass=Sized):
        pass
    return Made

def record():
    @dataclasses.dataclass(order=True)
    class Record:
        x: int
        y: list = dataclasses.field(default_factory=list)
    return Record

def flags():
    class Flags(enum.Flag):
        A = 1
        B = 2
    return Flags

def typed():
    class Typed(typing.TypedDict):
        x: int
    return Typed

def protocol():
    @typing.runtime_checkable
    class Closing(typing.Protocol):
        def close(self): ...
    return Closing

def circle():
    found = []
    found += [found, lambda: 5]
    return found

def ask(it, asking):
    return repr(eval(asking, {"asyncio": asyncio, "dataclasses": dataclasses, "it": it}))

def says(do):
    try:
        return do()
    except (NotPicklable, RemoteFailure) as error:
        return f"{type(error).__name__}: {error}"

def uses_of(kind, making, asking):
    make = eval(f"lambda: {making}", globals())
    made = globals()["IT_" + kind] = make()
    ask_global = eval(f"lambda: ask(IT_{kind}, {asking!r})", globals())
    return {
        "asking": asking,
        "here": ask(make(), asking),
        "argument": says(lambda: remote.call(ask, made, asking)),
        "result": says(lambda: ask(remote.call(make), asking)),
        "message": says(lambda: ask(loads(dumps(made)), asking)),
        "global": says(lambda: remote.call(ask_global)),
    }

def beside(kind, asking):
    both = weakref.ref(KEPT), globals()["IT_" + kind]
    return says(lambda: ask(loads(dumps(both))[1], asking))

def loaded():
    return "dill" in sys.modules

if __name__ == "__main__":
    found = {}
    with Remote() as remote:
        for kinds in json.load(sys.stdin):
            found |= {kind: uses_of(kind.replace(" ", "_"), *how) for kind, how in kinds.items()}
            found.setdefault("dill", [loaded(), remote.call(loaded)])
        for kind, uses in found.items():
            if kind != "dill":
                uses["beside"] = beside(kind.replace(" ", "_"), uses["asking"])
    print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Any:
    refused = {kind: (making, "0") for kind, making in REFUSED.items()}
    text = json.dumps([FAST, BY_DILL, refused])
    folder: Path = tmp_path_factory.mktemp("kinds")
    return json.loads(run_python(folder, "script.py", files={"script.py": SCRIPT}, text=text))


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("kind", [*FAST, *BY_DILL])
def test_it_is_there_what_it_is_here(found: Any, kind: str, use: str) -> None:
    assert found[kind][use] == found[kind]["here"]


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_none_when_copied_is_refused(found: Any, kind: str, use: str) -> None:
    assert "cannot pickle" in found[kind][use]


def test_what_is_common_needs_no_dill_at_either_end(found: Any) -> None:
    assert found["dill"] == [False, False]
