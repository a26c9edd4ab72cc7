"""How a task's function is called: who fills `task`, what suspends, and what is no value."""

from __future__ import annotations

import functools
import itertools
import types
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest

from dispycos.actors.tasks.calling import (
    beneath,
    can_suspend,
    may_receive,
    name_of,
    no_iterator,
    receives,
    with_task,
)
from dispycos.actors.tasks.ends import Raised, Returned

ME = "the task itself"
CELL = SimpleNamespace(handle=ME)
Call = Callable[..., Any]


def called(function: Call, *args: Any, **kwargs: Any) -> Any:
    """What the function gets, given these by its caller."""
    positional, named = with_task(function, args, kwargs, CELL)
    return function(*positional, **named)


def decorated(function: Call) -> Call:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


def last(x: Any, task: Any = None) -> Any:
    return x, task


def first(task: Any, factor: int = 2) -> Any:
    return task, factor


def behind_a_star(x: Any, *, task: Any) -> Any:
    return x, task


def by_position_only(x: Any, task: Any, /) -> Any:
    return x, task


def without(x: Any) -> Any:
    task = [x]
    return task[0]


def many(*task: Any, **rest: Any) -> Any:
    return task, rest


class Job:
    def run(self, task: Any, factor: int = 2) -> Any:
        return task, factor

    @classmethod
    def of_class(cls, task: Any = None) -> Any:
        return task

    @staticmethod
    def of_nobody(task: Any = None) -> Any:
        return task

    @decorated
    def wrapped(self, x: Any, task: Any = None) -> Any:
        return x, task

    def __call__(self, x: Any, task: Any = None) -> Any:
        return x, task


class Made:
    def __init__(self, task: Any = None) -> None:
        self.task = task


@dataclass
class Item:
    x: int
    task: Any = None


@pytest.mark.parametrize(
    ("function", "args", "kwargs", "got"),
    [
        (last, (1,), {}, (1, ME)),
        (last, (1, "mine"), {}, (1, "mine")),
        (last, (1,), {"task": "mine"}, (1, "mine")),
        (last, (1,), {"task": None}, (1, None)),
        (last, (), {"x": 1}, (1, ME)),
        (first, (), {}, (ME, 2)),
        (first, (3,), {}, (3, 2)),
        (first, (), {"factor": 5}, (ME, 5)),
        (first, (3, 4), {}, (3, 4)),
        (behind_a_star, (1,), {}, (1, ME)),
        (behind_a_star, (1,), {"task": "mine"}, (1, "mine")),
        (by_position_only, (1,), {}, (1, ME)),
        (by_position_only, (1, "mine"), {}, (1, "mine")),
        (without, (1,), {}, 1),
        (many, (1,), {"x": 2}, ((1,), {"x": 2})),
        (Job().run, (), {}, (ME, 2)),
        (Job().run, (3,), {}, (3, 2)),
        (Job.of_class, (), {}, ME),
        (Job.of_class, (3,), {}, 3),
        (Job().of_nobody, (), {}, ME),
        (Job().of_nobody, (3,), {}, 3),
        (Job().wrapped, (1,), {}, (1, ME)),
        (Job().wrapped, (1, 2), {}, (1, 2)),
        (Job(), (1,), {}, (1, ME)),
        (Job(), (1, 2), {}, (1, 2)),
        (decorated(last), (1,), {}, (1, ME)),
        (decorated(last), (1, 2), {}, (1, 2)),
        (decorated(decorated(behind_a_star)), (1,), {}, (1, ME)),
        (decorated(first), (3,), {}, (3, 2)),
        (functools.lru_cache(first), (3,), {}, (3, 2)),
        (functools.partial(last, 1), (), {}, (1, ME)),
        (functools.partial(last, 1), (2,), {}, (1, 2)),
        (functools.partial(last, 1, 2), (), {}, (1, 2)),
        (functools.partial(last, task="bound"), (1,), {}, (1, "bound")),
        (functools.partial(first, "bound"), (), {}, ("bound", 2)),
        (functools.partial(first), (3,), {}, (3, 2)),
        (functools.partial(functools.partial(last), 1), (), {}, (1, ME)),
        (functools.partial(Job().run, 7), (), {}, (7, 2)),
        (functools.partial(decorated(last), 1), (), {}, (1, ME)),
        (max, (1, 2), {}, 2),
        (lambda task=None: task, (), {}, ME),
        (lambda *, task: task, (), {}, ME),
    ],
)
def test_a_parameter_task_is_the_callers_if_it_is_given_and_else_the_task_itself(
    function: Call, args: tuple[Any, ...], kwargs: dict[str, Any], got: Any
) -> None:
    assert called(function, *args, **kwargs) == got


def test_a_class_is_given_the_task_like_a_function() -> None:
    assert (called(Made).task, called(Made, 3).task) == (ME, 3)
    assert (called(Item, 1).task, called(Item, 1, 2).task, called(Item, x=1, task=3).task) == (ME, 2, 3)


@pytest.mark.skipif(not hasattr(functools, "Placeholder"), reason="placeholders came with Python 3.14")
def test_a_placeholder_of_a_partial_is_no_iterator() -> None:
    placed = functools.partial(last, functools.Placeholder, "bound")  # type: ignore[attr-defined,unused-ignore]
    assert called(placed, 1) == (1, "bound")


def test_arguments_that_end_at_the_task_say_so() -> None:
    def work(task: Any, x: int) -> None: ...

    class Worker:
        def work(self, task: Any, x: int, y: int = 0) -> None: ...

    for function in (work, Worker().work, decorated(work), functools.partial(work, 5)):
        given = () if isinstance(function, functools.partial) else (5,)
        with pytest.raises(TypeError, match=r"misses x: .* `task`, .* the caller's.* dispycos, put it last"):
            with_task(function, given, {}, CELL)
        assert with_task(function, given, {"x": 1}, CELL) == (given, {"x": 1})


def plain() -> None: ...


async def coroutine() -> None: ...


def generator() -> Generator[Any, Any, None]:
    yield


async def stream() -> AsyncIterator[None]:
    yield


@types.coroutine
def old_coroutine() -> Generator[Any, Any, None]:
    yield


class Kinds:
    async def coroutine(self) -> None: ...

    def plain(self) -> None: ...


class CallsCoroutine:
    async def __call__(self) -> None: ...


def test_functions_that_suspend_are_known_in_any_layers() -> None:
    suspend = (coroutine, generator, stream, old_coroutine, Kinds().coroutine, CallsCoroutine())
    do_not = (plain, Kinds().plain, Kinds, Job(), max, lambda: None, CallsCoroutine)
    for function in suspend:
        for layered in (
            function,
            functools.partial(function),
            decorated(function),
            decorated(decorated(function)),
        ):
            assert can_suspend(layered), function
    for other in do_not:
        for layered in (other, functools.partial(other), decorated(other)):
            assert not can_suspend(layered), other


def current_task() -> Any: ...


def test_functions_that_receive_messages_are_known_in_any_layers() -> None:
    async def actor(x: int, *, task: Any) -> None:
        await task.receive()

    async def another() -> None:
        current_task().receive()

    def reads(socket: Any) -> None:
        socket.receive()

    class Acts:
        def __call__(self, task: Any) -> Any:
            yield task.receive()

    for function in (actor, another, Acts()):
        for layered in (function, functools.partial(function), decorated(function)):
            assert receives(layered), function
    for other in (reads, plain, coroutine, Acts, max, Kinds().coroutine):
        for layered in (other, functools.partial(other), decorated(other)):
            assert not receives(layered), other


def test_layers_that_lead_to_themselves_have_an_end() -> None:
    def endless(**kwargs: Any) -> str:
        return "called"

    endless.__wrapped__ = endless  # type: ignore[attr-defined]
    assert not can_suspend(endless)
    assert called(endless) == "called"
    assert beneath(endless) is not None


def test_functions_are_called_by_their_names() -> None:
    assert [name_of(f) for f in (last, max, Job(), Job)] == ["last", "max", "Job", "Job"]


@pytest.mark.parametrize(
    ("value", "kind", "remedy"),
    [
        ((x for x in "ab"), "generator", "a list .* make it itself a generator function"),
        (map(str, "ab"), "map", "a list of its items"),
        (zip("ab", "cd", strict=True), "zip", "a list of its items"),
        (iter([1]), "list_iterator", "a list of its items"),
        (reversed([1]), "list_reverseiterator", "a list of its items"),
        (itertools.chain("ab"), "chain", "a list of its items"),
        (stream(), "async_generator", "has no `yield`"),
    ],
)
def test_an_iterator_of_pythons_own_is_no_iterator(value: Any, kind: str, remedy: str) -> None:
    outcome = no_iterator(Returned(value), "it")
    assert isinstance(outcome, Raised)
    with pytest.raises(
        TypeError, match=f"it returned an? {kind}, which cannot be a task's value: .*{remedy}"
    ):
        raise outcome.error


def test_all_else_is_a_value_also_an_iterator_of_a_class_of_the_users() -> None:
    class Countdown(Iterator[int]):
        def __next__(self) -> int:
            raise StopIteration

    for value in (None, 5, [1], range(3), Countdown(), {"a": 1}.items(), Countdown, map):
        outcome = Returned(value)
        assert no_iterator(outcome, "it") is outcome


def test_who_suspends_and_has_its_task_might_take_messages() -> None:
    async def serves(task: Any) -> None:
        await helper(task)

    async def helper(task: Any) -> None:
        await task.receive()

    async def fetches(url: str) -> str:
        return url

    assert may_receive(serves) and not receives(serves)
    assert not any(map(may_receive, (fetches, last, Job, print)))
