"""dispycos.Executor: a concurrent.futures.Executor whose calls run on the servers of a cluster."""

from __future__ import annotations

import concurrent.futures
import itertools
import os
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, TypedDict, Unpack, cast, overload

from dispycos.habits import no_keyword
from dispycos.living import refuse_in_server
from dispycos.values import wait_time

from ..client.client import Client
from ..client.program_name import place_of_caller
from ..client.sync_client import SyncClient
from ..tasks.calling import name_of
from ..tasks.chunks import runs_alone
from ..tasks.either_style import must_be_callable
from ..tasks.ends import plain
from ..tasks.options import count
from .calls import Calls
from .cluster import Cluster
from .end import end_with_program, wait_for_end
from .future import Future
from .kept import kept

if TYPE_CHECKING:
    from ..client.status import Nodes
    from ..tasks.signatures import Co, Gen, P, R, S, Y


class ClientOptions(TypedDict, total=False):
    """What an Executor hands on to its Client."""

    components: Iterable[Any]
    pulse_interval: float
    nodes: Nodes
    node_setup: Callable[..., Any]
    server_setup: Callable[..., Any]
    abandon_zombie_nodes: bool
    secret_file: str | os.PathLike[str]
    name: str
    cwd: str | os.PathLike[str]
    cleanup: bool
    dest_path: str | os.PathLike[str]
    max_file_size: int | str
    local: bool


class MapOptions(TypedDict, total=False):
    """Of Executor.map, for type checkers."""

    timeout: float | None
    chunksize: int
    buffersize: int | None


OPTIONS = tuple(ClientOptions.__annotations__)
OF_EXECUTOR = ("max_workers", "initializer", "initargs", "client", "retries", *OPTIONS)


class Executor(concurrent.futures.Executor):
    """Calls functions on the servers of a cluster, as concurrent.futures.ProcessPoolExecutor does in processes of its own.

    ``with dispycos.Executor() as pool: pool.map(f, xs)``. It has the cluster from the first call until it is shut down. A server
    that dies takes only its call along, which raises TaskLost or is tried again (`retries`); the Executor goes on.
    Functions need no ``if __name__ == "__main__"`` around the program, and may be lambdas and closures.

    Parameters
    ----------
    max_workers: how many servers may have calls of this Executor at a time; None: all. There are no more than the cluster has.
    mp_context: None; how servers are started is their node's affair.
    initializer: called as ``initializer(*initargs)`` on each server before the first call there. If it raises, InitializerFailed
        (a concurrent.futures.BrokenExecutor) is raised by futures and by submit().
    max_tasks_per_child: None; servers are not ended after so many calls.
    client: what ``with dispycos.Client() as client:`` gave: its cluster is used, and the Executor does not close it.
    retries: how often a call is started again that was lost with its server.
    options: of the Client that is made, as ``nodes``, ``components``, ``secret_file``, ``cwd``; see ``help(dispycos.Client)``.
        Executors with equal options share one; without any that which the program has open is used.

    Raises
    ------
    TypeError, ValueError: a parameter is of no use; the text names it.
    ScheduleError: this is a remote task.
    """

    @plain
    def __init__(
        self,
        max_workers: int | None = None,
        mp_context: None = None,
        initializer: Callable[..., Any] | None = None,
        initargs: tuple[Any, ...] = (),
        *,
        max_tasks_per_child: None = None,
        client: SyncClient | None = None,
        retries: int = 0,
        **options: Unpack[ClientOptions],
    ) -> None:
        refuse_in_server("an Executor")
        _refuse("mp_context", mp_context, "servers are forked by their node, not by this program")
        _refuse(
            "max_tasks_per_child",
            max_tasks_per_child,
            "servers stay; restart_server() of a Client starts one anew",
        )
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        if not isinstance(initargs, tuple | list):
            raise TypeError(f"initargs must be a tuple of arguments, not {type(initargs).__name__}")
        if client is not None and options:
            raise TypeError(f"Executor(): {next(iter(options))} belongs to the client that is given")
        if client is not None and not isinstance(client, SyncClient):
            hint = ": open it by `with`, and give what that gives" if isinstance(client, Client) else ""
            raise TypeError(f"client must be one of the sync style, not {type(client).__name__}{hint}")
        if _is_lock_of_tqdm(initializer):
            initializer = None
        unknown = [name for name in options if name not in OPTIONS]
        if unknown:
            raise TypeError(
                no_keyword(f"Executor() has no parameter {unknown[0]!r}", unknown[0], OF_EXECUTOR)
            )
        self._calls = Calls(
            Cluster(options, client, place_of_caller()),
            _max_workers(max_workers),
            count(retries),
            None if initializer is None else kept(initializer, *initargs),
        )
        end_with_program(self._calls)
        weakref.finalize(self, self._calls.shut).atexit = False

    @overload  # of an `async def` or a generator function: what it returns
    def submit(self, fn: Callable[P, Co[R]], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]: ...
    @overload
    def submit(self, fn: Callable[P, Gen[Y, S, R]], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]: ...
    @overload
    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]: ...
    @plain
    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Have ``fn(*args, **kwargs)`` called on a server; returns its future at once.

        What cannot be pickled is an error of the future: NotPicklable, which names the argument.

        Raises
        ------
        RuntimeError: the Executor was shut down. InitializerFailed. TypeError: `fn` is no function.
        """
        must_be_callable(fn)
        return self._calls.submit((fn, args, kwargs))

    # fmt: off
    @overload
    def map(self, fn: Callable[..., Co[R]], *iterables: Iterable[Any], **o: Unpack[MapOptions]) -> Iterator[R]: ...
    @overload
    def map(self, fn: Callable[..., Gen[Y, S, R]], *iterables: Iterable[Any], **o: Unpack[MapOptions]) -> Iterator[R]: ...
    @overload
    def map(self, fn: Callable[..., R], *iterables: Iterable[Any], **o: Unpack[MapOptions]) -> Iterator[R]: ...
    # fmt: on
    @plain
    def map(
        self,
        fn: Callable[..., Any],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[Any]:
        """As the builtin map(fn, *iterables), with the calls on servers; the values come in order.

        When the iterator is left, or a call raises, what no server has yet is cancelled; at Ctrl-C the rest is ended, too.

        Parameters
        ----------
        timeout: seconds from now; then TimeoutError is raised by the iterator.
        chunksize: so many calls are made by one task: 1,000 of short ones are a hundred times as fast.
        buffersize: tasks that are submitted ahead of who takes the values; None: all of them at once.
        """
        must_be_callable(fn)
        if not isinstance(chunksize, int):
            raise TypeError(f"chunksize must be a number of calls (int), not {chunksize!r}")
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        if buffersize is not None and (not isinstance(buffersize, int) or isinstance(buffersize, bool)):
            raise TypeError("buffersize must be an integer or None")
        if buffersize is not None and buffersize < 1:
            raise ValueError("buffersize must be None or > 0")
        timeout = wait_time(timeout, "map(): timeout")
        until = None if timeout is None else time.monotonic() + timeout
        if chunksize == 1:
            return _Mapped(self, fn, zip(*iterables, strict=False), until, buffersize)
        if runs_alone(fn, iterables, {}):
            raise TypeError(
                f"{name_of(fn)} suspends, or gets its task: each call is a task of its own, so leave out chunksize"
            )
        chunks = _chunks(iterables, chunksize)
        mapped = _Mapped(self, Chunk(fn), chunks, until, buffersize)
        values = cast("_Chained", _Chained.from_iterable(mapped))
        values.close = mapped.close
        return values

    @plain
    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls, and give the cluster back when those have ended that there are.

        Parameters
        ----------
        wait: until then.
        cancel_futures: cancel what no server has yet.
        """
        if self._calls.ended.is_set():  # in a __del__ at the program's end perhaps, where little else is left
            return
        if wait:
            self._calls.thread.must_be_elsewhere("shutdown(wait=True)")
        self._calls.shut(cancel=cancel_futures)
        if wait:
            self._wait("info")

    @property
    def _max_workers(self) -> int:
        """How many calls may run at a time: under this name libraries ask the standard library's executors, dask for one.

        Waits for the servers, if there are none yet and nobody has said how many.
        """
        return self._calls.max_workers or self._count_servers()

    def _count_servers(self) -> int:
        """Of the cluster, which is waited for if there are none."""
        if not self._calls.count_servers():
            self.submit(int).result()
        return self._calls.count_servers()

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "cannot pickle an Executor, which is its program's: a task submits by `task.client`, or dispycos.current_client()"
        )

    def __repr__(self) -> str:
        return f"<Executor made in {self._calls}>"

    def _wait(self, level: str) -> None:
        try:
            wait_for_end(self._calls, level)
        except KeyboardInterrupt:
            self.terminate_workers()
            raise

    def terminate_workers(self) -> None:
        """End what runs, by KeyboardInterrupt, and 5 s later at the latest; cancel what waits; take no more calls.

        Futures of what ran raise TaskTerminated. Servers of a cluster that others share live on.
        """
        self._calls.terminate(kill=False)

    def kill_workers(self) -> None:
        """As terminate_workers(), and the servers with calls of this Executor are killed at once; their node starts others."""
        self._calls.terminate(kill=True)

    @plain
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None and issubclass(kind, KeyboardInterrupt):
            self.terminate_workers()
        if kind is None:
            self.shutdown(wait=True)
        else:  # nobody expects to wait
            self.shutdown(wait=False)
            if not self._calls.thread.is_here:
                self._wait("warning")


class Chunk:
    """Several calls of a function as one."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.__wrapped__ = function
        self.__name__ = name_of(function)

    def __call__(self, *columns: list[Any]) -> list[Any]:
        return list(map(self.__wrapped__, *columns))


def _chunks(iterables: tuple[Iterable[Any], ...], size: int) -> Iterator[tuple[list[Any], ...]]:
    """Columns, which are pickled in half the time of rows."""
    if len(iterables) == 1:
        items = iter(iterables[0])
        while chunk := list(itertools.islice(items, size)):
            yield (chunk,)
        return
    rows = zip(*iterables, strict=False)
    while some := list(itertools.islice(rows, size)):
        yield tuple(map(list, zip(*some, strict=True)))


class _Mapped(Iterator[Any]):
    """The values, in order. The calls are submitted before the first is asked for; with a buffersize so many of them."""

    def __init__(
        self,
        executor: Executor,
        function: Callable[..., Any],
        calls: Iterator[tuple[Any, ...]],
        until: float | None,
        ahead: int | None,
    ) -> None:
        self._executor = weakref.ref(executor)
        self._function = function
        self._calls = calls
        self._until = until
        self._futures: deque[Future[Any]] = deque()
        self._is_lazy = ahead is not None
        try:
            for args in itertools.islice(calls, ahead):
                self._futures.append(executor.submit(function, *args))
        except (
            BaseException
        ) as error:  # the iterable's, or a Ctrl-C: nobody gets the values of what was submitted
            self._cancel(end=isinstance(error, KeyboardInterrupt))
            raise

    @plain
    def __next__(self) -> Any:
        if not self._futures:
            raise StopIteration
        if self._is_lazy:
            self._submit_next()
        future = self._futures.popleft()
        try:
            return future.result(None if self._until is None else self._until - time.monotonic())
        except BaseException as error:
            self._futures.appendleft(future)
            self._cancel(end=isinstance(error, KeyboardInterrupt))
            raise
        finally:
            del future

    def _submit_next(self) -> None:
        executor = self._executor()
        args = next(self._calls, None) if executor is not None else None
        if executor is not None and args is not None:
            self._futures.append(executor.submit(self._function, *args))

    def _cancel(self, *, end: bool = False) -> None:
        while self._futures:
            future = self._futures.popleft()
            if not future.cancel() and end and not future.done():
                future.task.terminate()

    def close(self) -> None:
        """Nobody wants the rest."""
        self._cancel()

    __del__ = close


class _Chained(itertools.chain[Any]):
    """The values of chunks, one by one."""

    close: Callable[[], None]  # as the generator has it that the standard library's map() gives


def _is_lock_of_tqdm(initializer: Any) -> bool:
    """tqdm's process_map so gives its bars' lock to children that share its terminal. Servers have a line of output each."""
    owner = getattr(initializer, "__self__", None)
    is_tqdm = getattr(owner, "__module__", "").partition(".")[0] == "tqdm"
    return is_tqdm and getattr(initializer, "__name__", "") == "set_lock"


def _refuse(name: str, value: object, why: str) -> None:
    if value is not None:
        raise TypeError(f"Executor() takes no {name}: {why}")


def _max_workers(number: int | None) -> int | None:
    if number is not None and (not isinstance(number, int) or isinstance(number, bool)):
        raise TypeError(f"max_workers must be an int, not {type(number).__name__}")
    if number is not None and number <= 0:
        raise ValueError("max_workers must be greater than 0")
    return number
