"""How many threads numpy and other libraries compute with during a call: one in a server, unless a program says how many."""

from __future__ import annotations

import contextlib
import importlib.util
import os
from collections.abc import Iterator

from joblib.parallel import ParallelBackendBase


def must_be_possible() -> None:
    """Raises ModuleNotFoundError, which says what to install."""
    if importlib.util.find_spec("threadpoolctl") is None:
        raise ModuleNotFoundError(
            "inner_max_num_threads needs threadpoolctl, here and on each node: pip install 'dispycos[joblib]'"
        )


@contextlib.contextmanager
def limited_to(threads: int) -> Iterator[None]:
    """Those that are loaded are told; those that are loaded meanwhile find it in the environment."""
    from threadpoolctl import threadpool_limits

    names = ParallelBackendBase.MAX_NUM_THREADS_VARS
    before = {name: os.environ[name] for name in names if name in os.environ}
    os.environ.update(dict.fromkeys(names, str(threads)))
    try:
        with threadpool_limits(threads):
            yield
    finally:
        for name in names:
            os.environ.pop(name, None)
        os.environ.update(before)
