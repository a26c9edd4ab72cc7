"""How plain code has functions run as tasks: submit, rtask, map ... of a SyncClient, and of what its options() gives.

Calls are pickled in the caller's thread, where the user's code may run and fail, and handed over many at a time.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import Future
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from dispycos.protocol.status import OutcomeKind

from ..tasks.either_style import EitherStyle, has_started, must_be_callable
from ..tasks.ends import plain
from ..tasks.options import Options
from .in_process import InProcess
from .loop_thread import LoopThread
from .sync_map import SyncMap
from .sync_task import SyncTask

if TYPE_CHECKING:
    from ..tasks.mapping import Work
    from ..tasks.record import Record
    from .lease import ClientLease
    from .sync_signatures import maps, submits, submits_at
else:
    maps = submits = submits_at = plain

V = TypeVar("V")


class SyncSubmits(EitherStyle[SyncTask[Any], "SyncOptioned"]):
    """As Submits, for plain code."""

    _client: Any  # the Client, or what its options() gave
    _thread: LoopThread

    @abstractmethod
    def _here(self) -> ClientLease | InProcess:
        """Raises NotScheduled if nothing can be submitted."""

    @submits
    def submit(self, function: Any, /, *args: Any, retries: int = 0, **kwargs: Any) -> SyncTask[Any]:
        """Have ``function(*args, **kwargs)`` run as a task on the least loaded node; returns its handle, a SyncTask, at once.

        ``client.submit(f, x).result()`` is what the function returns, or raises what it raised. It may be a plain function, an
        ``async def``, or a generator function that has ``yield`` for ``await``. A parameter `task` that is left open gets the
        task itself. This is a CPU task: its server runs no other one meanwhile.

        An argument that is a handle of ``submit`` or ``io_submit`` stands for its value, which the task waits for; put it into
        a list to pass on the handle itself.

        Parameters
        ----------
        retries: how often it may be started again when it was lost with its server or node; a parameter of the function that
            is called ``retries`` is given by its position.

        Raises
        ------
        NotPicklable: naming the argument that cannot be sent. TypeError, ValueError: `retries` is no count.
        NotScheduled: the client was closed.
        """
        return self._submit(function, args, kwargs, retries=retries)

    @submits
    def io_submit(self, function: Any, /, *args: Any, retries: int = 0, **kwargs: Any) -> SyncTask[Any]:
        """As submit, for a task that mostly waits: it shares its server with others of its kind, and with one CPU task."""
        return self._submit(function, args, kwargs, io=True, retries=retries)

    @submits
    def rtask(self, function: Any, /, *args: Any, retries: int = 0, **kwargs: Any) -> SyncTask[Any]:
        """As submit, but waits until the task runs. For actors, which receive messages while they run: it has its server for
        itself, save for io tasks.

        Raises
        ------
        TaskRefused, TaskLost: it cannot be run, or its server died before it started. Others as submit.
        """
        return self._started(self._submit(function, args, kwargs, alone=True, retries=retries))

    @submits_at
    def rtask_at(
        self, where: Any, function: Any, /, *args: Any, retries: int = 0, **kwargs: Any
    ) -> SyncTask[Any]:
        """As rtask, at a place: ``client.rtask_at("host", function, x)``.

        Parameters
        ----------
        where: a node, by its address, name or Location; or one server, by its Location (``client.servers()``). A task that was
            lost with the one server where it had to run is not started again.

        Raises
        ------
        TaskRefused: there is no such place; the text says which there are. Others as rtask.
        """
        return self._started(self._submit(function, args, kwargs, where=where, alone=True, retries=retries))

    @submits
    def io_rtask(self, function: Any, /, *args: Any, retries: int = 0, **kwargs: Any) -> SyncTask[Any]:
        """As rtask, for a task that mostly waits: it shares its server, and close() does not wait for it."""
        return self._started(self._submit(function, args, kwargs, io=True, alone=True, retries=retries))

    @submits_at
    def io_rtask_at(
        self, where: Any, function: Any, /, *args: Any, retries: int = 0, **kwargs: Any
    ) -> SyncTask[Any]:
        """As io_rtask, on a node (its address, name or Location) or on one server (its Location)."""
        return self._started(
            self._submit(function, args, kwargs, io=True, where=where, alone=True, retries=retries)
        )

    @maps
    def map(
        self, function: Callable[..., Any], /, *iterables: Iterable[Any], **options: Any
    ) -> SyncMap[Any, Any]:
        """Run function(x) for every x of an iterable: ``for x, value in client.map(function, xs)`` gets them as they end.

        With several iterables the function is called with an item of each, and x is a tuple of these. They are read in a thread of
        their own, ahead of the values: they may block, and wait for tasks. When the loop is left, what has not ended is terminated.

        Parameters
        ----------
        ordered: give values in the order of the items, not as they end. Default: False.
        return_exceptions: an item that raises has the exception as its value. False, the default: the first one is raised here,
            with a note that names the item, and ends the rest. In any case ``failures`` of what this returns has (item, error).
        chunksize: so many items at most go together. "auto", the default: by their run time, which is measured.
        retries: how often an item may be run again that was lost with its server. Default: 0.
        timeout: seconds, from when the first value is asked for, until the last; then TimeoutError. None, the default: any.
        progress: show how far it is, on standard error: a bar, or a line in notebooks and files. Default: False.
        kwargs: a dict of keyword arguments of each call.

        Raises
        ------
        TypeError, ValueError: there is nothing to call, or nothing to call it with, or an option is of no use.
        While values are taken: what an item raised; NotPicklable; what an iterable raised; TimeoutError.
        """
        self._here()
        must_be_callable(function)
        return SyncMap(self._thread, self._call(self._map(function, iterables, options), "map()"))

    async def _map(self, function: Any, iterables: Any, options: Any) -> Work:
        work: Work = self._client.map(function, *iterables, **options)._work
        work.read_in_thread()
        return work

    # --- inside ---

    def _call(self, coroutine: Coroutine[Any, Any, V], what: str) -> V:
        return self._thread.call(coroutine, what)

    def _with(self, options: Options) -> SyncOptioned:
        return SyncOptioned(self, options)

    def _run(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], options: Options
    ) -> SyncTask[Any]:
        lease = self._here()
        if isinstance(lease, InProcess):
            begun: Future[SyncTask[Any]] = Future()
            self._thread.may_wait("submit()")
            self._thread.call_soon(
                lambda: _settle(begun, partial(_begin_here, lease, function, args, kwargs, options))
            )
            return begun.result()  # told before the loop is the task's
        handle: SyncTask[Any]
        handle, values = lease.prepare(SyncTask, function, args, kwargs, options)
        self._thread.call_soon(partial(_hand_in, lease, handle, values))
        return handle

    def _started(self, handle: SyncTask[Any]) -> SyncTask[Any]:
        # One of this process runs as soon as the loop has its turn, which may be its own then.
        if handle._source is not None and not self._call(has_started(handle), "rtask()"):
            handle.result()
        return handle


class SyncOptioned(SyncSubmits):
    """What ``client.options(...)`` gives: it has the client's submit, rtask, map and the like, for tasks that run so."""

    def __init__(self, client: SyncSubmits, options: Options) -> None:
        self._base = client
        self._thread = client._thread
        self._client = client._client._with(options)
        self._options = options

    def _with(self, options: Options) -> SyncOptioned:
        return SyncOptioned(self._base, options)

    def _here(self) -> ClientLease | InProcess:
        return self._base._here()

    def __repr__(self) -> str:
        return repr(self._client)


def _begin_here(lease: InProcess, function: Any, args: Any, kwargs: Any, options: Options) -> SyncTask[Any]:
    """A task of this process, on the loop's thread. What it raises keeps its traceback."""
    own = lease.submit(function, args, kwargs, options)
    cell: Any = own._source
    handle: SyncTask[Any] = SyncTask.__new__(SyncTask)._bind(
        own._host, own.home, own.name, None, own.direct, own.location, own.stands_for_value
    )
    cell.at_end(lambda: handle._complete(cell.outcome))
    own._look()  # else asyncio would say of its error that nobody took it
    return handle


def _settle(future: Future[V], function: Callable[[], V]) -> None:
    try:
        future.set_result(function())
    except Exception as error:
        future.set_exception(error)


def _hand_in(lease: ClientLease, handle: SyncTask[Any], values: list[Record] | None) -> None:
    """On the loop's thread."""
    if lease.is_open and not lease.ledger.over:
        lease.enter(handle._source, values)
        lease.host.caller = copy_context()  # of the thread that woke the loop
        return
    record: Any = handle._source
    record.outcome, record.text = (
        OutcomeKind.REFUSED,
        f"{handle.name} cannot be run: its client was closed meanwhile",
    )
    record.ended = True
    lease.resolved(record)
