"""Large arrays of a Parallel: what stands for them in a batch, and how a server comes to them. Told here, without servers."""

from __future__ import annotations

import importlib.util
import os
import pickle
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from textwrap import dedent
from types import SimpleNamespace
from typing import Any

import joblib
import numpy
import pytest
import threadpoolctl
from joblib.parallel import BatchedCalls, FallbackToBackend, SequentialBackend

import dispycos
from dispycos.actors.pool import joblib_arrays, joblib_backend
from dispycos.actors.pool.joblib_arrays import Arrays
from dispycos.actors.pool.joblib_backend import DispycosBackend
from dispycos.actors.pool.kept import Install, Missing


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


def test_arrays_share_one_file_in_memory_that_needs_no_removing_and_another_has_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    arrays = Arrays(1000, "c", None)
    large: list[Any] = [
        numpy.arange(1001.0),
        numpy.asfortranarray(numpy.ones((30, 40))),
        numpy.arange(4000)[::2],
    ]
    large.append(numpy.zeros(500, dtype=[("a", "M8[s]"), ("b", "i4")]))
    batch = arrays.put_into(batch_of(*((same, (array,), {}) for array in large)))
    assert len({stored.path for stored in batch.stored.values()}) == 1 and not os.listdir(tmp_path)
    monkeypatch.setattr(joblib_arrays, "_has_room", lambda _: False)
    rest = arrays.put_into(batch_of((same, (numpy.arange(2000.0),), {})))
    assert len(os.listdir(tmp_path)) == 1
    for array, (found, _) in zip(large, batch(), strict=True):
        assert numpy.array_equal(found, array) and found.dtype == array.dtype
        assert found.flags.f_contiguous == array.flags.f_contiguous or not array.flags.c_contiguous
        found[0] = found[1]  # in its own copy
    assert rest()[0][0][1999] == 1999
    arrays.close()
    assert not os.listdir(tmp_path) and not os.path.exists(next(iter(batch.stored.values())).path)


def test_where_the_file_is_not_the_array_is_missed_until_it_is_sent(arrays: Arrays) -> None:
    large = numpy.arange(2000.0)
    batch = arrays.put_into(batch_of((same, (large,), {})))
    (kept,) = list(arrays.kept.values())
    for stored in batch.stored.values():
        os.unlink(stored.path)
    assert batch() == Missing(kept.key)
    Install(kept)(*kept.args)
    ((found, _),) = batch()
    assert numpy.array_equal(found, large) and not found.flags.writeable


def test_a_file_that_the_program_has_mapped_is_mapped_by_tasks_which_may_write_there(
    arrays: Arrays, tmp_path: Path
) -> None:
    output = numpy.memmap(tmp_path / "output", dtype=float, shape=(3, 4), mode="w+", offset=64)
    views = [output, output[1], numpy.asarray(output)[:, 1], output[::-2, ::-1], output.T]
    batch = arrays.put_into(batch_of(*((same, (view,), {}) for view in views)))
    output[:] = numpy.arange(12).reshape(3, 4)
    found = [array for array, _ in pickle.loads(pickle.dumps(batch))()]
    assert all(isinstance(array, numpy.memmap) for array in found)
    assert [array.tolist() for array in found] == [view.tolist() for view in views]
    found[3][0, 0] = 100
    assert output[2, 3] == 100 and not numpy.shares_memory(output, found[3])
    arrays.close()
    assert (tmp_path / "output").exists()


def test_where_another_file_has_its_name_it_is_sent_and_read_only(arrays: Arrays, tmp_path: Path) -> None:
    output = numpy.memmap(tmp_path / "output", dtype=float, shape=3, mode="w+")
    batch = arrays.put_into(batch_of((same, (output,), {})))
    (tmp_path / "output").rename(tmp_path / "away")
    (tmp_path / "output").write_bytes(b"something else")
    (kept,) = arrays.kept.values()
    assert batch() == Missing(kept.key)
    Install(kept)(*kept.args)
    ((found, _),) = batch()
    assert not found.flags.writeable


def test_what_is_of_no_file_or_of_the_programs_own_kind_travels_as_it_is(
    arrays: Arrays, tmp_path: Path
) -> None:
    copy = numpy.memmap(tmp_path / "copy", dtype=float, shape=3, mode="w+")
    things = [
        numpy.memmap(tmp_path / "copy", dtype=float, shape=3, mode="c"),
        numpy.ma.masked_greater(numpy.arange(2000.0), 10),
        numpy.zeros(2000, dtype=[("a", float)]).view(numpy.recarray),
        numpy.zeros(0),
        copy[:0],
    ]
    assert not arrays.put_into(batch_of(*((same, (thing,), {}) for thing in things))).stored


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


def test_one_server_is_no_reason_to_run_calls_in_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joblib_backend, "_servers_of", lambda _: 1)
    backend = DispycosBackend()
    assert backend.effective_n_jobs(-1) == 1 and backend.configure(-1) == 2
    with pytest.raises(FallbackToBackend):
        backend.configure(1)


def threads_now() -> tuple[str | None, list[int]]:
    pools = threadpoolctl.threadpool_info()
    return os.environ.get("OMP_NUM_THREADS"), [pool["num_threads"] for pool in pools]


def test_libraries_have_as_many_threads_as_a_program_says_while_its_calls_run() -> None:
    before = threads_now()
    dispycos.register_joblib()
    with joblib.parallel_config(backend="dispycos", inner_max_num_threads=3, local=True):
        found = joblib.Parallel(n_jobs=2)(joblib.delayed(threads_now)() for _ in range(2))
    assert before[1], "numpy has some"
    assert found == [("3", [3] * len(before[1]))] * 2
    assert threads_now() == before


def test_threads_that_nobody_can_limit_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joblib_backend, "_servers_of", lambda _: 2)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        ModuleNotFoundError, match=r"needs threadpoolctl, .* pip install 'dispycos\[joblib\]'"
    ):
        DispycosBackend(inner_max_num_threads=2).configure(2)
    assert DispycosBackend().configure(2) == 2


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


def test_an_argument_that_cannot_be_pickled_is_named_by_the_function_it_is_for() -> None:
    dispycos.register_joblib()
    with (
        joblib.parallel_config(backend="dispycos", local=True),
        pytest.raises(
            dispycos.NotPicklable, match=r"^argument 2 \('y'\) of divmod: cannot pickle '_thread.lock'"
        ),
    ):
        joblib.Parallel(n_jobs=2, batch_size=2)(
            joblib.delayed(divmod)(n, m) for n, m in [(1, 2), (3, threading.Lock())]
        )


LEFT = """
    import builtins, sys, joblib, numpy, dispycos

    dispycos.register_joblib()
    with joblib.parallel_config(backend="dispycos", local=True):
        parallel = joblib.Parallel(n_jobs=2, return_as="generator", max_nbytes=100, temp_folder=sys.argv[1])
        builtins.values = parallel(joblib.delayed(numpy.sum)(array) for array in [numpy.ones(100)] * 50)
        print(next(values))  # it goes when modules have lost what they had
"""


def test_a_generator_of_values_that_is_left_at_the_end_leaves_no_file_and_no_trace(tmp_path: Path) -> None:
    program = [sys.executable, "-W", "ignore", "-c", dedent(LEFT), str(tmp_path)]
    done = subprocess.run(program, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("100.0\n", "")
    assert not os.listdir(tmp_path)
