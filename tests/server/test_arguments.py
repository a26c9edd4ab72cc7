"""Arguments as text: short, whatever they are, and nothing is kept for it."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NamedTuple, NoReturn, cast

import pytest

from dispycos.actors.server.arguments import TEXT_MAX, Writing
from dispycos.actors.tasks.cell import Cell


class Fake:
    """A cell, as far as it is looked at."""

    call: Any = None
    execution: Any = None
    own_handle: Any = None

    def suspended(self) -> list[Any]:
        return self.layers

    def __init__(self, *layers: Any) -> None:
        self.layers = [*layers]
        if layers:
            self.execution = self


def text_of(*args: Any, **kwargs: Any) -> str | None:
    fake = Fake()
    fake.call = (print, args, kwargs)
    return Writing(cast(Cell, fake)).write()


def text_in(*layers: Any, own: Any = None) -> str | None:
    fake = Fake(*layers)
    fake.own_handle = own
    return Writing(cast(Cell, fake)).write()


class Big:
    """Of which so much was looked at."""

    looks = 0

    def __repr__(self) -> str:
        Big.looks += 1
        return "Big()"


class Point(NamedTuple):
    x: int
    y: int


@dataclass
class Model:
    name: str
    weights: list[Big]
    hidden: int = field(default=3, repr=False)


@dataclass
class Spoken:
    name: str

    def __repr__(self) -> str:
        return f"spoken {self.name}"


class Colour(Enum):
    RED = 1


class Listed(list[Any]):
    pass


class Failing:
    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __repr__(self) -> str:
        raise self.error


class Wrong:
    def __repr__(self) -> Any:
        return 5


class Unsortable:
    def __lt__(self, other: object) -> NoReturn:
        raise AssertionError("nobody sorts it")

    def __repr__(self) -> str:
        return "u"


# --- what is written


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "None"),
        (3.5, "3.5"),
        ("a 'b'", "\"a 'b'\""),
        ([1, [2]], "[1, [2]]"),
        ((1,), "(1,)"),
        ({}, "{}"),
        ({"b": 1, "a": {2}}, "{'b': 1, 'a': {2}}"),
        (set(), "set()"),
        (frozenset(), "frozenset()"),
        (frozenset({1}), "frozenset({1})"),
        (deque([1]), "deque([1])"),
        (b"abc", "b'abc'"),
        (Point(1, 2), "Point(x=1, y=2)"),
        (Colour.RED, "<Colour.RED: 1>"),
        (OrderedDict(a=1), "OrderedDict({'a': 1})"),
        (defaultdict(list, a=[1]), "defaultdict({'a': [1]})"),
        (Counter("aab"), "Counter({'a': 2, 'b': 1})"),
        (Listed([1, 2]), "Listed([1, 2])"),
        (Spoken("x"), "spoken x"),
        (Model("m", []), "Model(name='m', weights=[])"),
        ({Unsortable()}, "{u}"),
        (1 << 5000, "<int of 5,001 bits>"),
        (bytes(1_000_000), f"<bytes of 1,000,000 bytes: {repr(bytes(80))[:80]}...>"),
        ("x" * 1000, f"'{'x' * 37}...{'x' * 38}'"),
        (Failing(ValueError("no")), "<Failing: its __repr__ raised ValueError>"),
        (Failing(SystemExit(3)), "<Failing: its __repr__ raised SystemExit>"),
        ([Failing(KeyboardInterrupt()), 1], "[<Failing: its __repr__ raised KeyboardInterrupt>, 1]"),
        (Wrong(), "<Wrong: its __repr__ raised TypeError>"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_value_is_written_short(value: Any, text: str) -> None:
    assert text_of(value) == text
    assert text_of(0, value, key=value) == f"0, {text}, key={text}"[: TEXT_MAX - 3] + (
        "..." if len(text) * 2 + 9 > TEXT_MAX else f"0, {text}, key={text}"[TEXT_MAX - 3 :]
    )


def test_of_big_things_little_is_looked_at() -> None:
    big = [Big() for _ in range(1000)]
    bigs = [big, tuple(big), Listed(big), dict.fromkeys(range(1000), Big()), set(big), Model("m", big)]
    for value in bigs:
        Big.looks = 0
        text = text_of(value)
        assert text is not None and "..." in text and len(text) < 100
        assert Big.looks <= 7
    Big.looks = 0
    assert len(text_of(*big) or "") == TEXT_MAX
    assert Big.looks < 50


def test_what_cannot_be_sent_is_written_out() -> None:
    class Odd:
        def __repr__(self) -> str:
            return "\udcff"

    assert text_of(Odd()) == "\\udcff"
    assert text_of() == ""


# --- where they are found


async def nap(a: Any, /, b: Any, *rest: Any, c: Any = 3, task: Any = None, **named: Any) -> None:
    await asyncio.sleep(0)
    b = "another"  # noqa: F841
    del a
    await asyncio.sleep(0)


def counted(first: Any, second: Any = 2) -> Generator[Any, Any, None]:
    yield lambda: first  # a parameter that another function uses, too


def test_of_a_suspended_coroutine_the_parameters_are_as_they_are_now() -> None:
    handle = object()
    coroutine = nap(1, [2], 3, 4, task=handle, e=5)
    assert text_in(coroutine, own=handle) == "a=1, b=[2], c=3, *rest=(3, 4), e=5"
    coroutine.send(None)
    coroutine.send(None)
    assert text_in(coroutine, own=handle) == "b='another', c=3, *rest=(3, 4), e=5"
    coroutine.close()
    assert text_in(coroutine) is None, "it has ended"
    plain = nap(1, 2)
    assert text_in(plain) == "a=1, b=2, c=3, task=None"
    plain.close()


def test_of_generators_the_outermost_counts() -> None:
    inner, outer = counted("inner"), counted("outer")
    next(outer)
    assert text_in(outer, inner, None) == "first='outer', second=2"


def test_what_is_no_coroutine_has_no_arguments() -> None:
    assert text_in(object()) is None
    assert Writing(cast(Cell, Fake())).write() is None


class Held:
    def __repr__(self) -> str:
        return "Held()"


async def lets_go(held: Any) -> None:
    await asyncio.sleep(0)
    del held
    await asyncio.sleep(0)


def yields_locals(held: Any) -> Generator[Any, Any, Any]:
    seen = locals()
    yield
    return seen["held"]


def test_who_was_looked_at_keeps_nothing_that_it_has_let_go() -> None:
    held = Held()
    gone = weakref.ref(held)
    coroutine = lets_go(held)
    del held
    coroutine.send(None)
    assert text_in(coroutine) == "held=Held()"
    coroutine.send(None)
    gc.collect()
    assert gone() is None
    coroutine.close()


def test_who_looks_at_its_own_names_goes_on_to_see_them() -> None:
    held = Held()
    generator = yields_locals(held)
    next(generator)
    assert text_in(generator) == "held=Held()"
    with pytest.raises(StopIteration) as stop:
        next(generator)
    assert stop.value.value is held


def test_of_one_that_is_given_up_it_is_told_how_far_it_came() -> None:
    class Model:
        def __init__(self, writing: Callable[[], str]) -> None:
            self.writing = writing

        def __repr__(self) -> str:
            texts.append(self.writing())
            return "late"

    texts: list[str] = []
    fake = Fake()
    writing = Writing(cast(Cell, fake))
    fake.call = (print, (1,), {"m": [Model(lambda: writing.give_up())], "last": Held()})
    late = writing.write()
    assert texts == ["1, m=<Model: its __repr__ takes too long>"]
    assert late is not None and "last" not in late, "what comes behind it is not held any more"
