"""The backend "dispycos" of joblib: each batch is a call of an Executor."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from joblib.parallel import AutoBatchingMixin, FallbackToBackend, ParallelBackendBase, SequentialBackend

from dispycos.errors import NotPicklable

from ..tasks.ends import plain
from . import inner_threads
from .executor import OPTIONS, Executor
from .future import Future
from .joblib_arrays import Arrays

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
    return holder._count_servers()


class DispycosBackend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc]
    """Of one Parallel, which has an Executor of its own: what it has begun can be ended alone.

    Parameters
    ----------
    options: of the Executor.
    """

    supports_retrieve_callback = True
    supports_inner_max_num_threads = True
    default_n_jobs = -1
    _effective_batch_size: int

    def __init__(
        self, nesting_level: int | None = None, inner_max_num_threads: int | None = None, **options: Any
    ) -> None:
        super().__init__(nesting_level=nesting_level, inner_max_num_threads=inner_max_num_threads)
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
        is_sequential = n_jobs is None or n_jobs == 1
        n_jobs = self.effective_n_jobs(n_jobs)
        if is_sequential:
            raise FallbackToBackend(SequentialBackend(nesting_level=self.nesting_level))
        if self.inner_max_num_threads is not None:
            inner_threads.must_be_possible()
        self.parallel = parallel
        self._n_jobs = n_jobs
        self._array_options = max_nbytes if mmap_mode is not None else None, mmap_mode or "r", temp_folder
        self._options = {**self.backend_kwargs, **options}
        self._workers = Executor(n_jobs, **self._options)
        self._callbacks = ThreadPoolExecutor(1, "joblib")
        # joblib runs the calls of one job in the program itself; these are for servers, where the initializer has run.
        return max(n_jobs, 2)

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
        batch.threads = self.inner_max_num_threads
        calls.kept.update({key: self._arrays.kept[key] for key in batch.stored})
        future = self._workers.submit(batch)
        if callback is not None:
            # It asks the program's iterable for more, which may take its time: not on the loop.
            thread = self._callbacks
            future.add_done_callback(lambda done: _call(thread, callback, (done, func)))
        return future

    def retrieve_result_callback(self, done: tuple[Future[Any], Any]) -> Any:
        future, calls = done
        try:
            return future.result()
        except NotPicklable as error:
            if future._handle is None and (workers := self._workers) is not None:  # it is not the value
                for call in calls.items:
                    workers._calls.must_be_picklable(call)
            raise error from None

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


def _call(thread: ThreadPoolExecutor, callback: Callable[[Any], Any], done: object) -> None:
    with contextlib.suppress(RuntimeError):  # the Parallel was ended meanwhile
        thread.submit(callback, done)
