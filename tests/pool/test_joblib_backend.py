"""Large arrays of a Parallel: what stands for them in a batch, and how a server comes to them. Told here, without servers."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy
import pytest
from joblib.parallel import BatchedCalls, SequentialBackend

from dispycos.actors.pool.joblib_backend import Arrays, DispycosBackend
from dispycos.actors.pool.kept import Missing, install


def batch_of(*calls: tuple[Any, tuple[Any, ...], dict[str, Any]]) -> BatchedCalls:
    return BatchedCalls(list(calls), (SequentialBackend(nesting_level=1), None))


def same(array: Any, also: Any = None) -> Any:
    return array, also


@pytest.fixture
def arrays(tmp_path: Path) -> Arrays:
    return Arrays(1000, "r", str(tmp_path))


def test_an_array_is_stored_once_for_all_calls_and_mapped(arrays: Arrays, tmp_path: Path) -> None:
    large, small = numpy.arange(1000.0), numpy.arange(3.0)
    calls = batch_of((same, (large,), {"also": large}), (same, (small, large), {}))
    batch = arrays.put_into(calls)
    assert calls.items[0][1][0] is large, "the program's own calls are as they were"
    assert len(os.listdir(tmp_path)) == 1
    (first, also), (_, again) = batch()
    assert first is also is again and isinstance(first, numpy.memmap) and not first.flags.writeable
    assert numpy.array_equal(first, large)
    arrays.close()
    assert not os.listdir(tmp_path)


def test_where_the_file_is_not_the_array_is_missed_until_it_is_sent(arrays: Arrays) -> None:
    large = numpy.arange(2000.0)
    batch = arrays.put_into(batch_of((same, (large,), {})))
    (kept,) = list(arrays.kept.values())
    for stored in batch.stored.values():
        os.unlink(stored.path)
    assert batch() == Missing(kept.key)
    install(*kept)
    ((found, _),) = batch()
    assert numpy.array_equal(found, large) and not found.flags.writeable


def test_a_later_call_lets_go_of_the_arrays_of_an_earlier_one(arrays: Arrays, tmp_path: Path) -> None:
    early = arrays.put_into(batch_of((same, (numpy.arange(1000.0),), {})))
    early()
    arrays.close()
    later = Arrays(1000, "r", str(tmp_path))
    later.put_into(batch_of((same, (numpy.arange(1000.0),), {})))()
    assert isinstance(early(), Missing)
    later.close()


def test_arrays_of_objects_and_without_a_bound_stay_where_they_are(arrays: Arrays, tmp_path: Path) -> None:
    things = numpy.array([object()] * 1000)
    assert not arrays.put_into(batch_of((same, (things,), {}))).stored
    unbound = Arrays(None, "r", str(tmp_path))
    assert not unbound.put_into(batch_of((same, (numpy.arange(1000.0),), {}))).stored


def test_batches_grow_fourfold_while_they_take_next_to_no_time() -> None:
    backend = DispycosBackend()
    backend.parallel = SimpleNamespace(verbose=0)
    sizes = []
    for duration in (0.001, 0.001, 0.04, 0.06, 0.3):
        backend.batch_completed(backend._effective_batch_size, duration)
        sizes.append(backend.compute_batch_size())
    assert sizes == [4, 16, 64, 128, 128], "four times 0.06 s is more than 0.2 s: twice, as joblib does"


def test_calls_without_arrays_are_sent_as_joblib_made_them(arrays: Arrays) -> None:
    calls = batch_of((same, (1,), {"also": "word"}), (same, ([],), {}))
    assert arrays.put_into(calls).calls is calls
    assert arrays.put_into(calls)() == [(1, "word"), ([], None)]
    by_name = batch_of((same, (1,), {"also": numpy.arange(1000.0)}))
    assert len(arrays.put_into(by_name).stored) == 1
