"""What joblib's Parallel does with the backend "dispycos", one function after the other in one program at two nodes."""

import os
import threading
import time

import joblib
import numpy
from joblib import Parallel, delayed
from scenarios import chosen, raises, told

import dispycos
from dispycos.actors.pool import joblib_arrays

LONG = 60


def square(x):
    return x * x


def fail_at(n, last):
    if n == last:
        raise LookupError(f"{n} is the last")
    time.sleep(LONG if n > last else 0)
    return n


def seen(array, n):
    return type(array).__name__, array.flags.writeable, float(array[n]), os.getpid()


def inner(n):
    return sum(Parallel(n_jobs=2)(delayed(square)(i) for i in range(n)))


PREPARED = None


def prepare(value):
    global PREPARED
    PREPARED = value


def prepared(_):
    return PREPARED


def test_values_come_in_order_from_all_servers():
    assert Parallel()(delayed(square)(n) for n in range(2000)) == list(map(square, range(2000)))
    assert (
        joblib.effective_n_jobs() == 4
        and joblib.effective_n_jobs(-2) == 3
        and joblib.effective_n_jobs(2) == 2
    )


def test_an_error_is_raised_and_ends_what_runs():
    start = time.monotonic()
    with raises(LookupError, "5 is the last"):
        Parallel()(delayed(fail_at)(n, 5) for n in range(100))
    assert Parallel()(delayed(square)(n) for n in range(4)) == [0, 1, 4, 9]
    assert time.monotonic() - start < LONG / 4, "nobody ended what ran"


def files_in_memory():
    links = (f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd"))
    return [link for link in links if os.path.islink(link) and joblib_arrays._program in os.readlink(link)]


def test_a_large_array_is_mapped_and_read_only_and_its_file_closed():
    array = numpy.arange(500_000, dtype=float)
    found = Parallel()(delayed(seen)(array, n) for n in range(200))
    assert {each[:2] for each in found} == {("memmap", False)}
    assert [each[2] for each in found] == list(range(200))
    assert not files_in_memory()
    array[:] = 7.0  # what is stored is of one Parallel
    assert Parallel()(delayed(seen)(array, n) for n in range(1))[0][2] == 7.0


def test_where_its_file_is_not_it_is_sent_once_to_each_server():
    array, stored = numpy.arange(500_000, dtype=float), joblib_arrays.Arrays._store

    def store_nowhere(self, array):
        made = stored(self, array)
        assert files_in_memory()
        made.path = "/proc/0/fd/0"
        return made

    joblib_arrays.Arrays._store = store_nowhere
    try:
        found = Parallel()(delayed(seen)(array, n) for n in range(200))
    finally:
        joblib_arrays.Arrays._store = stored
    assert {each[:2] for each in found} == {("ndarray", False)}
    assert [each[2] for each in found] == list(range(200))


def test_small_arrays_and_those_within_max_nbytes_travel_with_the_call():
    small = numpy.arange(100, dtype=float)
    assert Parallel()(delayed(seen)(small, n) for n in range(3))[2][:3] == ("ndarray", True, 2.0)
    large = numpy.arange(500_000, dtype=float)
    assert Parallel(max_nbytes=None)(delayed(seen)(large, n) for n in range(3))[2][:3] == (
        "ndarray",
        True,
        2.0,
    )


def test_a_parallel_within_a_task_runs_there():
    assert Parallel()(delayed(inner)(n) for n in range(5)) == [0, 0, 1, 5, 14]


def test_it_is_used_from_several_threads():
    sums = []

    def use():
        with joblib.parallel_config(backend="dispycos"):
            sums.append(sum(Parallel()(delayed(square)(n) for n in range(100))))

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sums == [sum(map(square, range(100)))] * 4


def test_an_initializer_runs_before_the_first_call_of_each_server():
    with joblib.parallel_config(backend="dispycos", initializer=prepare, initargs=("table",)):
        assert set(Parallel()(delayed(prepared)(n) for n in range(50))) == {"table"}


def test_scikit_learn_searches_a_grid_with_cross_validation():
    try:
        from sklearn.linear_model import LogisticRegression
        from sklearn.model_selection import GridSearchCV
    except ImportError:
        print("scikit-learn is not installed")
        return
    random = numpy.random.default_rng(1)
    points = random.normal(size=(20_000, 12))
    kinds = (points[:, 0] + points[:, 1] > 0).astype(int)
    grid = {"C": [1e-6, 0.1, 1.0]}

    def search(backend):
        with joblib.parallel_config(backend=backend, n_jobs=2):
            found = GridSearchCV(LogisticRegression(), grid, cv=3).fit(points, kinds)
        return found.best_params_, found.cv_results_["mean_test_score"].tolist()

    assert search("dispycos") == search("threading")


def test_other_options_take_the_place_of_the_first():
    with joblib.parallel_config(backend="dispycos", name="another"):
        assert Parallel()(delayed(square)(n) for n in range(4)) == [0, 1, 4, 9]


def main():
    dispycos.register_joblib()
    with joblib.parallel_config(backend="dispycos"):
        for name, scenario in chosen(globals()):
            with told(name):
                scenario()


main()
