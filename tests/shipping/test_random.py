"""Generators of random numbers: what a module has goes by its name, and of copies that draw the same is told."""

import random
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from dispycos.actors.shipping import pickling
from dispycos.actors.shipping.pickling import Repeated, dumps_call, loads
from dispycos.actors.shipping.words import CodeRequest
from dispycos.actors.tasks.chunks import Chunk
from tests.kit.shipping_mains import main_of


def arrives(function: Any, *args: Any) -> Any:
    return loads(dumps_call(function, args, {}))


@pytest.fixture(params=["random.Random", "numpy.random.default_rng", "numpy.random.RandomState"])
def generator(request: pytest.FixtureRequest) -> Any:
    module, _, name = request.param.rpartition(".")
    return getattr(pytest.importorskip(module), name)(7)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Any:
    monkeypatch.setattr(pickling, "repeated", Repeated())
    return caplog


def test_what_a_module_draws_by_is_that_of_the_module_over_there() -> None:
    chunk: Any = arrives(Chunk(random.expovariate, {}, False, None))[0]
    given = [
        arrives(random.random)[0],
        arrives(random.randint)[0],
        arrives(partial(random.gauss, 0))[0].func,
        arrives(map, [random.choice])[1][0][0],
        chunk.function,
    ]
    here = random.random.__self__  # type: ignore[attr-defined]
    assert all(method.__self__ is here for method in given)
    assert given[:2] == [random.random, random.randint]


def test_so_is_numpys() -> None:
    numpy = pytest.importorskip("numpy")
    for method in (numpy.random.rand, numpy.random.randint, numpy.random.normal):
        assert arrives(method)[0].__self__ is method.__self__


def test_a_generator_of_ones_own_goes_with_its_state(generator: Any) -> None:
    copy = arrives(generator.random)[0]
    assert copy.__self__ is not generator and copy() == generator.random()


def test_calls_that_get_one_generator_as_it_was_are_told_of_once(generator: Any, told: Any) -> None:
    def simulate(*args: Any) -> None: ...

    arrives(simulate, generator)
    assert told.messages == []
    for _ in range(3):
        arrives(simulate, [generator])
    [text] = told.messages
    assert text.startswith(
        f"calls of simulate get copies of one generator of random numbers ({type(generator).__name__})"
    )


def test_a_generator_that_went_on_and_one_for_each_call_are_not_told_of(generator: Any, told: Any) -> None:
    for _ in range(3):
        arrives(print, generator)
        generator.random()
    for _ in range(3):
        arrives(print, random.Random(0))
    assert told.messages == []


def test_a_global_generator_is_told_of_when_a_second_server_gets_it(tmp_path: Path, told: Any) -> None:
    program = (
        "import random\nrng = random.Random()\ndraw = random.random\ndef f(): return rng.random(), draw()\n"
    )
    with main_of(tmp_path, program) as (_, snapshot):
        made_of = dict(snapshot.answer(CodeRequest(["f"])).made_of)
        snapshot.answer(CodeRequest(["f"], have=made_of["rng"]))  # the same server once more
        assert told.messages == []
        for _ in range(2):
            snapshot.answer(CodeRequest(["f"]))
    [text] = told.messages
    assert text.startswith("rng draws random numbers, and goes to each server as it is in the program")
