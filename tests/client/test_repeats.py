"""That large arguments which go with call after call are told of, once, and nothing else is."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from dispycos.actors.client.repeats import KEPT_MAX, LARGE, MUCH, OFTEN, Repeats
from dispycos.actors.pool.executor import Chunk as ExecutorsChunk
from dispycos.actors.pool.kept import After
from dispycos.actors.tasks.chunks import Chunk

SIZE = MUCH // OFTEN + 1  # of a call


class Model:
    """A large one."""

    nbytes = 3 * LARGE

    def score(self, x: object) -> None: ...


def score(x: object, model: object = None) -> None: ...


Call = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]


@pytest.mark.parametrize(
    "make",
    [
        lambda model: (score, (1, model), {}),
        lambda model: (score, (1,), {"model": model}),
        lambda model: (model.score, (1,), {}),
        lambda model: (partial(score, model=model), (1,), {}),
        lambda model: (partial(score, model), (), {}),
        lambda model: (Chunk(score, {"model": model}, False, None), ([1, 2],), {}),
        lambda model: (Chunk(model.score, {}, False, None), ([1, 2],), {}),
        lambda model: (After("key", ExecutorsChunk(partial(score, model=model))), ([1, 2],), {}),
    ],
)
def test_the_same_one_is_told_of_once(make: Callable[[Model], Call]) -> None:
    repeats, model = Repeats(), Model()
    told = [repeats.saw(*make(model), SIZE) for _ in range(3 * OFTEN)]
    assert told == [*[None] * (OFTEN - 1), (Model.nbytes, OFTEN), *[None] * (2 * OFTEN)]


def test_one_that_is_not_large_itself_is_not_meant() -> None:
    class Small:
        nbytes = 100

    repeats, small = Repeats(), Small()
    assert [repeats.saw(score, (small, Model()), {}, SIZE) for _ in range(20)] == [None] * 20


def test_each_time_another_one_is_as_it_has_to_be() -> None:
    repeats = Repeats()
    assert [repeats.saw(score, (Model(), 5, "text"), {}, SIZE) for _ in range(20)] == [None] * 20, (
        "also where the last one was in memory"
    )


def test_few_bytes_are_not_worth_a_word_until_they_are_many() -> None:
    repeats, model = Repeats(), Model()
    told = [repeats.saw(score, (model,), {}, Model.nbytes) for _ in range(100)]
    [count] = [number for number, one in enumerate(told, 1) if one is not None]
    assert count * Model.nbytes >= MUCH > (count - 1) * Model.nbytes


def test_nothing_is_kept_alive_nor_without_end() -> None:
    repeats, model = Repeats(), Model()
    reference = weakref.ref(model)
    several = [Model() for _ in range(3 * KEPT_MAX)]
    for one in (model, *several):
        repeats.saw(score, (one,), {}, SIZE)
    del model, one
    assert reference() is None and len(repeats._seen) <= KEPT_MAX
