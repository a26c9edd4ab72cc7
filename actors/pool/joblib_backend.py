"""The backend "dispycos" of joblib: each batch is a call of an Executor, and large arrays are stored once for all of them."""

from __future__ import annotations

import contextlib
import copy
import itertools
import os
import secrets
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from joblib.parallel import AutoBatchingMixin, FallbackToBackend, ParallelBackendBase, SequentialBackend

from ..tasks.ends import plain
from .executor import OPTIONS, Executor
from .future import Future
from .kept import Kept, Missing, install, keep_only, value_of

SHARED_MEMORY = "/dev/shm"

_program = secrets.token_hex(8)  # the keys of its arrays begin so
_numbers = itertools.count()
_alive: set[str] = set()  # keys of arrays of Parallels that are not over
_lock = threading.Lock()
_holder: tuple[dict[str, Any], Executor] | None = (
    None  # it keeps the servers, from the first Parallel to the program's end
)


def _servers_of(options: dict[str, Any]) -> int:
    """How many there are; an Executor with these options has them from now on."""
    global _holder
    with _lock:
        if _holder is not None and _holder[0] != options:
            _holder[1].shutdown()  # a loop has one cluster at a time
            _holder = None
        if _holder is None:
            _holder = options, Executor(**options)
        holder = _holder[1]
    if not holder._calls.count_servers():
        holder.submit(int).result()  # once: later it would wait behind what runs
    return holder._calls.count_servers()


class DispycosBackend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc]
    """Of one Parallel, which has an Executor of its own: what it has begun can be ended alone.

    Parameters
    ----------
    options: of the Executor.
    """

    supports_retrieve_callback = True
    default_n_jobs = -1
    _effective_batch_size: int

    def __init__(self, nesting_level: int | None = None, **options: Any) -> None:
        super().__init__(nesting_level=nesting_level)
        self.backend_kwargs = options
        self._options = options
        self._workers: Executor | None = None
        self._arrays: Arrays | None = None
        self._callbacks: ThreadPoolExecutor | None = None

    @plain
    def effective_n_jobs(self, n_jobs: int | None) -> int:
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs is None or n_jobs == 1:
            return 1
        cluster = {name: value for name, value in self.backend_kwargs.items() if name in (*OPTIONS, "client")}
        servers = _servers_of(cluster)
        return min(n_jobs, servers) if n_jobs > 0 else max(servers + 1 + n_jobs, 1)

    @plain
    def configure(
        self,
        n_jobs: int = 1,
        parallel: Any = None,
        max_nbytes: int | None = 1 << 20,
        mmap_mode: str | None = "r",
        temp_folder: str | None = None,
        prefer: str | None = None,
        require: str | None = None,
        verbose: int = 0,
        context: object = None,
        **options: Any,
    ) -> int:
        n_jobs = self.effective_n_jobs(n_jobs)
        if n_jobs == 1:
            raise FallbackToBackend(SequentialBackend(nesting_level=self.nesting_level))
        self.parallel = parallel
        self._n_jobs = n_jobs
        self._array_options = max_nbytes if mmap_mode is not None else None, mmap_mode or "r", temp_folder
        self._options = {**self.backend_kwargs, **options}
        self._workers = Executor(n_jobs, **self._options)
        self._callbacks = ThreadPoolExecutor(1, "joblib")
        return n_jobs

    def compute_batch_size(self) -> int:
        """As joblib's, which doubles batches that take less than 0.2 s; these four times, if they will take less then, too."""
        before, duration = self._effective_batch_size, self._smoothed_batch_duration
        size: int = super().compute_batch_size()
        if size > before and 4 * duration < self.MIN_IDEAL_BATCH_DURATION:
            size = self._effective_batch_size = 4 * before
        return size

    def start_call(self) -> None:
        self._arrays = Arrays(*self._array_options)

    def submit(self, func: Any, callback: Callable[[Any], Any] | None = None) -> Future[Any]:
        assert self._workers is not None and self._arrays is not None and self._callbacks is not None
        calls = self._workers._calls
        batch = self._arrays.put_into(func)
        calls.kept.update(self._arrays.kept)
        future = self._workers.submit(batch)
        if callback is not None:
            # It asks the program's iterable for more, which may take its time: not on the loop.
            thread = self._callbacks
            future.add_done_callback(lambda done: _call(thread, callback, done))
        return future

    def retrieve_result_callback(self, future: Future[Any]) -> Any:
        return future.result()

    def stop_call(self) -> None:
        if self._arrays is not None:
            keys = self._arrays.close()
            self._arrays = None
            if self._workers is not None:
                for key in keys:
                    self._workers._calls.kept.pop(key, None)

    def terminate(self) -> None:
        if self._workers is not None:
            self._workers.shutdown(wait=False)
        if self._callbacks is not None:
            self._callbacks.shutdown(wait=False)
        self._workers = self._callbacks = None
        self.reset_batch_stats()

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """What runs is ended, and nothing of it is heard of."""
        if self._workers is not None:
            self._workers.terminate_workers()
            self._workers = Executor(self._n_jobs, **self._options) if ensure_ready else None


def _call(thread: ThreadPoolExecutor, callback: Callable[[Any], Any], future: object) -> None:
    with contextlib.suppress(RuntimeError):  # the Parallel was ended meanwhile
        thread.submit(callback, future)


# --- large arrays ---


class Stored:
    """Stands for an array in the arguments of a call, and opens it on a server."""

    def __init__(self, key: str, path: str, mode: str) -> None:
        self.key = key
        self.path = path
        self.mode = mode

    def open(self) -> bool:
        """False: the file is not on this host, or not for this user."""
        import numpy

        try:
            install(self.key, numpy.load, (self.path, self.mode))
        except OSError:
            return False
        return True


class Batch:
    """joblib's own batch, on a server that has its arrays."""

    def __init__(self, calls: Any, stored: dict[str, Stored]) -> None:
        self.calls = calls
        self.stored = stored
        self.program = _program
        self.alive = sorted(_alive)  # other arrays of this program are not needed any more
        function = calls.items[0][0] if calls.items else calls
        self.__name__ = getattr(function, "__name__", type(function).__name__)

    def __call__(self) -> Any:
        keep_only(self.program, self.alive)
        for key, stored in self.stored.items():
            if value_of(key) is None and not stored.open():
                return Missing(key)
        if self.stored:
            self.calls.items = [
                (function, tuple(map(_found, args)), {name: _found(value) for name, value in kwargs.items()})
                for function, args, kwargs in self.calls.items
            ]
        return self.calls()


def _found(value: Any) -> Any:
    return value_of(value.key) if isinstance(value, Stored) else value


def read_only(array: Any) -> Any:
    """As one that is mapped: all tasks of this server have the same."""
    array.setflags(write=False)
    return array


class Arrays:
    """Those of one call of a Parallel: each is written once, to a file that servers of this host map into their memory.

    Parameters
    ----------
    min_bytes: of arrays that are stored; None: none is. mode: of the mapping, as numpy.load has it.
    folder: for the files; None: in shared memory, if there is room, else in the temporary directory.
    """

    def __init__(self, min_bytes: int | None, mode: str, folder: str | None) -> None:
        self._min_bytes = min_bytes
        self._mode = mode
        self._folder = folder or os.environ.get("JOBLIB_TEMP_FOLDER")
        self._made: list[str] = []
        self._stored: dict[
            int, tuple[Any, Stored]
        ] = {}  # by id, with the array, so that nothing else gets that
        self.kept: dict[str, Kept] = {}  # for servers that cannot open the file

    def put_into(self, calls: Any) -> Batch:
        """joblib's batch with what stands for its large arrays."""
        used: dict[str, Stored] = {}
        if self._min_bytes is None or not _has_arrays(calls.items):
            return Batch(calls, used)
        light = copy.copy(calls)
        light.items = [
            (
                function,
                tuple(self._lightened(value, used) for value in args),
                {name: self._lightened(value, used) for name, value in kwargs.items()},
            )
            for function, args, kwargs in calls.items
        ]
        return Batch(light, used)

    def _lightened(self, value: Any, used: dict[str, Stored]) -> Any:
        size = getattr(value, "nbytes", 0)
        if (
            not isinstance(size, int)
            or self._min_bytes is None
            or size < self._min_bytes
            or not _is_array(value)
        ):
            return value
        known = self._stored.get(id(value))
        if known is None:
            known = self._stored[id(value)] = value, self._store(value)
        used[known[1].key] = known[1]
        return known[1]

    def _store(self, array: Any) -> Stored:
        import numpy

        key = f"{_program}-{next(_numbers)}"
        _alive.add(key)
        folder = tempfile.mkdtemp(prefix="dispycos-joblib-", dir=self._folder or _roomy_folder(array.nbytes))
        self._made.append(folder)
        path = os.path.join(folder, f"{key}.npy")
        numpy.save(path, array, allow_pickle=False)
        self.kept[key] = Kept(key, read_only, (numpy.asarray(array),))
        return Stored(key, path, self._mode)

    def close(self) -> list[str]:
        """Their keys. Servers that have a file mapped keep it until they hear of the next call."""
        for folder in self._made:
            shutil.rmtree(folder, ignore_errors=True)
        _alive.difference_update(self.kept)
        self._stored.clear()
        keys = list(self.kept)
        self.kept.clear()
        return keys


def _has_arrays(calls: list[tuple[Any, tuple[Any, ...], dict[str, Any]]]) -> bool:
    """By their types: there are few among many values."""
    numpy = sys.modules.get("numpy")
    if numpy is None:
        return False
    kinds = {type(value) for _, args, _ in calls for value in args}
    kinds.update(type(value) for _, _, kwargs in calls if kwargs for value in kwargs.values())
    return any(issubclass(kind, numpy.ndarray) for kind in kinds)


def _is_array(value: Any) -> bool:
    import numpy

    return isinstance(value, numpy.ndarray) and not value.dtype.hasobject


def _roomy_folder(size: int) -> str | None:
    with contextlib.suppress(OSError):
        if os.access(SHARED_MEMORY, os.W_OK) and shutil.disk_usage(SHARED_MEMORY).free > 2 * size:
            return SHARED_MEMORY
    return None
