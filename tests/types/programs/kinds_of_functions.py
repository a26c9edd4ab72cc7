"""Methods, partials, objects that are called, generic functions, lambdas and the like: each keeps its parameters and its result."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, ParamSpec, Protocol, TypedDict, TypeVar, Unpack, assert_type, overload

from dispycos import Client, Task

T = TypeVar("T")
N = TypeVar("N", bound=float)
P = ParamSpec("P")
R = TypeVar("R")


class Model:
    def predict(self, x: int, bias: float = 0.0) -> float:
        return x + bias

    async def fit(self, rows: list[int]) -> dict[str, float]:
        return {"sum": float(sum(rows))}

    @classmethod
    def made(cls, scale: float) -> Model:
        return cls()

    @staticmethod
    def loss(a: float, b: float) -> float:
        return a - b

    def __call__(self, x: int) -> str:
        return str(x)


class Scorer(Protocol):
    def __call__(self, row: str, *, weight: float = ...) -> float: ...


class Wishes(TypedDict, total=False):
    depth: int


def first(items: Sequence[T]) -> T:
    return items[0]


def twice(n: N) -> list[N]:
    return [n, n]


def total(*numbers: int) -> int:
    return sum(numbers)


async def power(base: float, exponent: int) -> float:
    return base**exponent


def by_name(*, a: int, b: str = "") -> str:
    return b * a


def wishing(n: int, **wishes: Unpack[Wishes]) -> str:
    return f"{n} {wishes}"


@overload
def read(name: str, binary: bytes) -> bytes: ...
@overload
def read(name: str, binary: None = None) -> str: ...
def read(name: str, binary: bytes | None = None) -> str | bytes:
    return name if binary is None else binary


def logged(f: Callable[P, R]) -> Callable[P, R]:
    return f


def retried(f: Callable[P, Coroutine[Any, Any, R]]) -> Callable[P, Coroutine[Any, Any, R]]:
    return f


@logged
def square(n: int) -> int:
    return n * n


@retried
async def name(n: int, mark: str = "") -> str:
    return mark + str(n)


@functools.cache
def cube(n: int) -> int:
    return n**3


async def right(client: Client, scorer: Scorer) -> None:
    model, k = Model(), 3
    assert_type(client.submit(model.predict, 3, bias=1.0), Task[float])
    assert_type(client.submit(model.fit, [1]), Task[dict[str, float]])
    assert_type(client.submit(Model.made, 3.0), Task[Model])
    assert_type(client.submit(Model.loss, 1.0, 3.0), Task[float])
    assert_type(client.submit(Model.predict, model, 4), Task[float])
    assert_type(client.submit(model, 3), Task[str])
    assert_type(client.submit(scorer, "abc", weight=2.0), Task[float])
    assert_type(client.submit(functools.partial(power, 2.0), 3), Task[float])
    assert_type(client.submit(first, [1, 2]), Task[int])
    assert_type(client.submit(twice, 3), Task[list[int]])
    assert_type(client.submit(total, 1, 2, 3), Task[int])
    assert_type(client.submit(by_name, a=1), Task[str])
    assert_type(client.submit(wishing, 3, depth=2), Task[str])
    assert_type(client.submit(read, "x", b"y"), Task[bytes])
    assert_type(client.submit(read, "x"), Task[str])
    assert_type(client.submit(name, 2, mark="."), Task[str])
    assert_type(client.submit(cube, 2), Task[int])
    assert_type(client.submit(lambda: k + 1), Task[int])
    assert_type(client.submit(math.hypot, 3, 4), Task[float])
    assert_type(await parallel(client, square, [1, 2]), list[int])


async def parallel(client: Client, f: Callable[[T], R], items: list[T]) -> list[R]:
    return await client.gather(*[client.submit(f, item) for item in items])


async def mapped(client: Client, scorer: Scorer) -> None:
    async for word, letter in client.map(first, ["ab", "cd"]):
        assert_type(word, str)
        assert_type(letter, str)
    async for x, value in client.map(Model().predict, [1, 2]):
        assert_type(x, int)
        assert_type(value, float)
    async for row, score in client.map(scorer, ["a"], kwargs={"weight": 2.0}):
        assert_type(row, str)
        assert_type(score, float)
    async for number, _ in client.map(lambda n: n + 1, [1]):
        assert_type(number, int)
    async for text, parsed in client.map(float, ["1"]):
        assert_type(text, str)
        assert_type(parsed, float)


async def wrong(client: Client) -> None:
    model = Model()
    client.submit(model.predict, "3")  # error
    client.submit(model.predict, 3, bais=1.0)  # error
    client.submit(Model.made, "x")  # error
    client.submit(model, "x")  # error
    client.submit(by_name, 1)  # error
    client.submit(by_name, a="x")  # error
    client.submit(total, 1, "2")  # error
    client.submit(twice, "x")  # error
    client.submit(name, 1, "x", "y")  # error
    client.submit(cube(2))  # error
    client.submit(len, 5)  # error
    client.map(model, ["a"])  # error
    client.map(first, [1])  # error
