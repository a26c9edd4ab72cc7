"""That what has no name is one thing at both ends: classes made in functions, type variables, PEP 695."""

import gc
import sys
from pathlib import Path

import pytest

from dispycos.actors.shipping.by_value import KEPT_MAX, Identities
from tests.kit.shipping_scripts import run_python

BEGIN = """
from shipping_client import Remote

def echo(value):
    return value
"""


def outcome(folder: Path, program: str) -> list[str]:
    """What it prints, with a server process of its own."""
    return run_python(folder, "script.py", files={"script.py": BEGIN + program}).splitlines()


def test_a_thing_has_one_token_while_it_lives() -> None:
    table = Identities()
    thing = type("Thing", (), {})
    token = table.token_of(thing)
    assert table.token_of(thing) == token and table.find(token) is thing and table.is_whole(thing)
    del thing
    gc.collect()
    assert table.find(token) is None


def test_the_last_that_came_live_on_though_nobody_refers_to_them() -> None:
    table = Identities()
    for number in range(KEPT_MAX + 1):
        table.add(number.to_bytes(2, "big"), type(f"Class{number}", (), {}))
    gc.collect()
    assert table.find(b"\0\0") is None
    assert table.find(b"\0\1") is not None


def test_classes_whose_metaclass_says_that_all_are_equal_are_told_apart() -> None:
    class Meta(type):
        def __eq__(cls, other: object) -> bool:
            return True

    table = Identities()
    assert table.token_of(Meta("A", (), {})) != table.token_of(Meta("B", (), {}))


def test_a_class_made_in_a_function_comes_back_as_the_same_class(tmp_path: Path) -> None:
    assert outcome(
        tmp_path,
        """
import abc, collections, enum, functools, typing
from dataclasses import dataclass

def program(remote):
    @dataclass
    class Point:
        x: int
        def up(self): return Point(self.x + 1)
    @dataclass(slots=True)
    class Slots:
        x: int
    class Far(Point):
        def up(self): return super().up().x
    class Color(enum.Enum):
        RED = 1
        BLUE = 2
        def other(self): return Color.BLUE if self is Color.RED else Color.RED
    Pair = collections.namedtuple("Pair", "a b")
    class Typed(typing.NamedTuple):
        a: int = 3
    class Row(typing.TypedDict):
        a: int
    class Meta(type):
        def __new__(meta, name, bases, space, *, tag): return super().__new__(meta, name, bases, space)
        def __init__(cls, name, bases, space, *, tag):
            super().__init__(name, bases, space)
            cls.tag = tag
    class Tagged(metaclass=Meta, tag="t"):
        def __eq__(self, other): return type(other) is type(self) and other.tag == "t"
    class Plugin(abc.ABC):
        def __init_subclass__(cls, *, key): cls.key = key
    class Mine(Plugin, key="mine"):
        @functools.cached_property
        def found(self): return self.key
        def __eq__(self, other): return type(other) is type(self) and other.found == "mine"
    T = typing.TypeVar("T")
    class Box(typing.Generic[T]): pass
    Id = typing.NewType("Id", int)
    for value in (Point(1), Slots(2), Far(3), Color.RED, Pair(1, 2), Typed(), Tagged(), Mine()):
        back = remote.call(echo, value)
        print(back == value and type(back) is type(value), end=" ")
    print()
    print([remote.call(echo, thing) is thing for thing in (Row, T, Id, Color.BLUE)])
    print(remote.call(echo, Box[int]) == Box[int], remote.call(lambda: Color.RED.other()) is Color.BLUE)
    print(remote.call(lambda: Far(4).up()), remote.call(lambda: Mine().found))

with Remote() as remote:
    program(remote)
""",
    ) == ["True " * 8, "[True, True, True, True]", "True True", "5 mine"]


def test_it_is_one_class_over_there_and_those_of_two_calls_are_two(tmp_path: Path) -> None:
    assert outcome(
        tmp_path,
        """
def factory():
    class Counter:
        count = 0
        @classmethod
        def up(cls):
            cls.count += 1
            return cls.count
    return Counter

def born_there():
    class There: pass
    return There(), There

def program(remote, other):
    first, second = factory(), factory()
    print([remote.call(lambda: first.up()) for _ in range(3)], remote.call(lambda: second.up()), first.count)
    print(remote.call(lambda a, b: type(a) is first and type(b) is second, first(), second()))
    thing, There = remote.call(born_there)
    print(isinstance(thing, There), isinstance(other.call(echo, thing), There))
    print(remote.call(lambda value: type(value) is There, other.call(echo, thing)))
    print(isinstance(remote.call(born_there)[0], There))

with Remote() as remote, Remote() as other:
    program(remote, other)
""",
    ) == ["[1, 2, 3] 1 0", "True", "True True", "True", "False"]


def test_a_class_that_misses_code_while_it_is_made_is_whole_in_the_end(tmp_path: Path) -> None:
    assert outcome(
        tmp_path,
        """
FACTOR = 3

def helper(x):
    return x * FACTOR

def program(remote):
    class Uses:
        how = staticmethod(helper)
        def value(self): return self.how(2)
    print(remote.call(echo, Uses()).value(), remote.call(lambda: Uses().value()), len(remote.pulls) > 0)

with Remote() as remote:
    program(remote)
""",
    ) == ["6 6 True"]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="PEP 695 came with Python 3.12")
def test_generic_functions_classes_and_aliases_travel_by_value(tmp_path: Path) -> None:
    assert outcome(
        tmp_path,
        """
from typing import TYPE_CHECKING, Callable
if TYPE_CHECKING:
    from nowhere import Ghost

def program(remote):
    class Box[T: (int, str)]:
        def __init__(self, value: T): self.value = value
        def mapped[U](self, f: Callable[[T], U]) -> "Box[U]": return Box(f(self.value))
        def __eq__(self, other): return type(other) is type(self) and other.value == self.value
    class Caller[R, *Ts, **P]:
        def call(self, f: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R: return f(*args, **kwargs)
    class Ordered[T: Ordered]: pass
    class Haunted[T: Ghost]:
        def value(self) -> T: return 5
    type Tree = list[Tree] | int
    type Pair[T] = tuple[T, list[T]]
    type Unknown = Ghost
    def ident[T](x: T) -> T: return x
    print(remote.call(lambda box: box.mapped(lambda x: x + 1), Box(4)) == Box(5), remote.call(ident, 6))
    print(remote.call(lambda: Caller().call(max, 1, 2)), remote.call(lambda: Haunted().value()))
    print([type(p).__name__ for p in remote.call(lambda: Caller.__type_params__)])
    print(remote.call(lambda: Ordered.__type_params__[0].__bound__) is Ordered)
    print(remote.call(lambda: Box.__type_params__[0].__constraints__), remote.call(lambda: Unknown.__name__))
    looks = lambda: (str(Tree.__value__)[-5:], str(Pair[int])[-9:], Pair.__type_params__ == Pair.__value__.__parameters__)
    print(remote.call(looks) == looks(), looks()[2])
    print(remote.call(lambda: Box.__type_params__[0]) is Box.__type_params__[0])

with Remote() as remote:
    program(remote)
""",
    ) == [
        "True 6",
        "2 5",
        "['TypeVar', 'TypeVarTuple', 'ParamSpec']",
        "True",
        "(<class 'int'>, <class 'str'>) Unknown",
        "True True",
        "True",
    ]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="PEP 695 came with Python 3.12")
def test_classes_that_name_each_other_in_bounds_and_aliases_are_no_cycle(tmp_path: Path) -> None:
    assert outcome(
        tmp_path,
        """
class First[T: Second]:
    def value(self): return Second().of(), str(Alias.__value__)

type Alias = First | Second

class Second(First["Second"]):
    def of(self) -> Alias: return 1

with Remote() as remote:
    print(remote.call(First().value))
""",
    ) == ["(1, '__main__.First | __main__.Second')"]


@pytest.mark.skipif(sys.version_info < (3, 14), reason="annotations are evaluated late from Python 3.14 on")
def test_classes_that_name_each_other_in_annotations_are_no_cycle(tmp_path: Path) -> None:
    assert outcome(
        tmp_path,
        """
class First:
    other: Second
    def value(self, other: Second) -> Second: return Second

class Second:
    other: First

with Remote() as remote:
    print(remote.call(First().value, None).__annotations__["other"] is First)
""",
    ) == ["True"]


@pytest.mark.skipif(sys.version_info < (3, 13), reason="PEP 696 came with Python 3.13")
def test_defaults_of_type_parameters_travel(tmp_path: Path) -> None:
    assert outcome(
        tmp_path,
        """
def program(remote):
    class Box[T: int = bool, **P = [str]]: pass
    print(remote.call(lambda: [(p.__name__, p.__default__) for p in Box.__type_params__]))

with Remote() as remote:
    program(remote)
""",
    ) == ["[('T', <class 'bool'>), ('P', [<class 'str'>])]"]


@pytest.mark.skipif(sys.version_info < (3, 14), reason="annotations are evaluated late from Python 3.14 on")
def test_annotations_that_name_what_does_not_exist_do_not_hinder(tmp_path: Path) -> None:
    assert outcome(
        tmp_path,
        """
def program(remote):
    class Uses:
        owner: Ghost
        def value(self, other: Ghost, number: int) -> int: return number
    def ghostly(x: Ghost) -> int: return x
    print(remote.call(ghostly, 3), remote.call(lambda: Uses().value(None, 4)))
    print(remote.call(lambda: (ghostly.__annotations__["x"], Uses.__annotations__)))

with Remote() as remote:
    program(remote)
""",
    ) == ["3 4", "('Ghost', {'owner': 'Ghost'})"]
