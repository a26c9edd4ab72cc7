"""One script with all that a `__main__` may hold; run as a user would, with the kit on PYTHONPATH."""

import abc
import dataclasses
import enum
import functools
import logging
import math
import os.path as paths
import threading
import typing
from collections import defaultdict, namedtuple
from math import hypot as length

from shipping_client import Remote

try:
    import not_installed_anywhere as fast
except ImportError:
    fast = None

T = typing.TypeVar("T")
x = 5
Pair = namedtuple("Pair", "left right")
Named = namedtuple("Other", "a")  # its own name is another
Level = enum.Enum("Level", "LOW HIGH")
LOCK = threading.Lock()
LOG = logging.getLogger("everything")
FILE = open(__file__)  # noqa: SIM115
square = lambda value: value * value  # noqa: E731
OPERATIONS = {"add": lambda a, b: a + b, "twice": lambda a: 2 * a}
counter, guard = 7, threading.RLock()


class Color(enum.Enum):
    RED = 1
    BLUE = 2

    @property
    def low(self):
        return self.name.lower()


class Base:
    subclasses = {}

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        Base.subclasses[cls.__name__] = cls

    def scale(self):
        return FACTOR


@dataclasses.dataclass
class Point(Base, typing.Generic[T]):
    x: int
    y: int
    color: Color = Color.RED
    tags: list = dataclasses.field(default_factory=list)

    class Inner:
        pass

    def norm(self):
        return helper(self.x, self.y) * self.scale()


class Other(Base):
    pass


FACTOR = 10


def helper(a, b):
    return math.sqrt(a * a + b * b)


def even(n):
    return True if n == 0 else odd(n - 1)


def odd(n):
    return False if n == 0 else even(n - 1)


REGISTRY = {}
NAMES = []


def register(function):
    assert function.__name__ not in REGISTRY
    REGISTRY[function.__name__] = function
    NAMES.append(function.__name__)
    return function


@register
def alpha(n):
    return n + 1


@register
def beta(n):
    return NAMES.count("beta") * n


def counted(function):
    @functools.wraps(function)
    def wrapper(*args):
        wrapper.calls += 1
        return function(*args)

    wrapper.calls = 0
    return wrapper


@counted
def decorated(n):
    return n * FACTOR


def adder(n):
    def add(m):
        return n + m + x

    return add


add_three = adder(3)
aliased = helper


def plain(n):
    return -n


plain = counted(plain)


@functools.lru_cache(maxsize=100)
def cached(n):
    return 1 if n < 2 else n * cached(n - 1)


@functools.singledispatch
def kind_of(value):
    return "something"


@kind_of.register
def _(value: int):
    return "int"


@kind_of.register(Point)
def _(value):
    return "point"


if x > 3:

    def inside_if(n):
        return n + x

else:

    def inside_if(n):
        return 0


try:
    from no_such_module import inside_try
except ImportError:

    def inside_try(n):
        return n - x


class Shape(abc.ABC):
    @abc.abstractmethod
    def area(self): ...


class Circle(Shape):
    def __init__(self, radius):
        self.radius = radius

    def area(self):
        return math.pi * self.radius**2


Circle.unit = "m2"


def annotated(point: "Point", later: "Color" = None) -> "Circle":
    return sorted(typing.get_type_hints(annotated))


def total():
    global state
    state = globals().get("state", 0) + 1
    return state


groups = defaultdict(list)
groups["a"].append(1)


def compute(point):
    with LOCK, guard:
        made = Point(point.x + 1, point.y + 1, Color.BLUE)
        made.found = [made.norm(), even(4), square(3), OPERATIONS["add"](1, 2), x, counter, fast]
        return [point, made, Color.BLUE, Pair(1, 2), Named(3), Level.HIGH]


def use(*functions):
    return [function(2) for function in functions]


def early():
    return late_value  # noqa: F821


def main():
    with Remote() as remote:
        call = remote.call
        point, made, blue, pair, named, level = call(compute, Point(2, 3))
        assert type(point) is Point and type(made) is Point and type(pair) is Pair and type(named) is Named
        assert blue is Color.BLUE and level is Level.HIGH and blue.low == "blue"
        assert made.found == [50.0, True, 9, 3, 5, 7, None], made.found
        rounds = len(remote.pulls)
        call(compute, Point(1, 1))
        assert len(remote.pulls) == rounds == 1, remote.pulls
        assert call(use, alpha, beta) == [3, 2]
        assert call(lambda: (sorted(REGISTRY), NAMES, REGISTRY["alpha"] is alpha)) == (
            ["alpha", "beta"],
            ["alpha", "beta"],
            True,
        )
        assert call(use, decorated, add_three, plain, cached, square) == [20, 10, -2, 2, 4]
        assert call(lambda: (plain.calls, decorated.calls)) == (1, 1)
        assert call(use, inside_if, inside_try) == [7, -3]
        assert call(aliased, 3, 4) == 5.0 and call(length, 3, 4) == 5.0
        assert [call(kind_of, v) for v in (1, Point(1, 2), "")] == ["int", "point", "something"]
        circle = call(Circle, 2)
        assert type(circle) is Circle and circle.unit == "m2"
        assert call(lambda c: c.unit + type(c).unit, circle) == "m2m2"
        assert call(annotated, None) == ["later", "point", "return"]
        assert [call(total), call(total)] == [1, 2]
        assert call(lambda: dict(groups)) == {"a": [1]}
        assert call(lambda: sorted(Base.subclasses)) == ["Other", "Point"]
        assert type(call(Point.Inner)) is Point.Inner
        assert call(lambda: (FILE.readline()[:3], LOG.name, paths.basename(__file__))) == (
            '"""',
            "everything",
            "everything.py",
        )
        depth = 4
        assert call(lambda n: [n * depth, square(depth), adder(depth)(1)], 2) == [8, 16, 10]
        try:
            call(early)
        except Exception as error:
            assert "NameError" in str(error), error
        else:
            raise AssertionError("early() ran")
        globals()["late_value"] = 12
        assert call(early) == 12
        print("everything travels")


if __name__ == "__main__":
    main()
