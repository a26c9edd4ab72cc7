"""The sync style of a Client: ``with dispycos.Client() as client`` gives a SyncClient, whose methods wait in the caller's thread.

Its work is done by the Client, on the program's loop thread (loop_thread.py). Calls are pickled in the caller's thread, where the
user's code may run and fail, and handed over many at a time.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine, Iterable, Mapping
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from dispycos.errors import NotScheduled, TaskLost
from dispycos.protocol import messages
from dispycos.protocol.addresses import Location
from dispycos.protocol.status import OutcomeKind

from ..tasks.ends import Raised, Returned
from ..tasks.options import PLAIN, Options, count, merged
from ..tasks.streams import say
from ..tasks.submitting import Optioned, Task, must_be_callable
from .in_process import InProcess
from .loop_thread import LoopThread, is_cell, loop_thread
from .sync_map import SyncMap
from .sync_task import SyncTask, of_sync_style, open_in_thread, plain
from .together import CLOSED, SyncTogether

if TYPE_CHECKING:
    from ..tasks.cell import Cell
    from ..tasks.map import Map
    from ..tasks.record import Record
    from .lease import ClientLease
    from .status import DispycosNodeAllocate

V = TypeVar("V")
NOT_HERE = {
    "open": "this client is open already: use it, or make another Client",
    "schedule": "this client has the cluster already, until close(): for another time make another Client",
    "status_task": "a status_task is a task on an event loop, and belongs to the async style: `async with dispycos.Client(...)`; "
    "here ask client.nodes(), servers() and tasks(), or task.monitor(client.me)",
}

if TYPE_CHECKING:
    from .sync_signatures import maps, submits, submits_at
else:
    maps = submits = submits_at = plain


class SyncClient(SyncTogether):
    """A program's hold on the cluster, for plain code: what ``with dispycos.Client(...) as client:`` gives.

    It has the methods of a Client; those that are awaited there wait here. It and its handles may be used in any thread in which
    no event loop runs. Ctrl-C ends what the main thread waits for, and nothing else; what leaves the ``with`` by an error ends
    the tasks.

    Messages come to ``client.me``: give this handle to a task, which sends to it, and take them by ``client.receive()``.
    """

    def __init__(self, client: Any) -> None:
        self._client = client  # a Client (client.py), whose file knows this one
        self._thread: LoopThread = loop_thread()
        self._mailbox: Cell | None = None
        self._receiving = asyncio.Lock()

    def _enter(self, *, is_kept: bool) -> None:
        if (
            is_kept and is_cell()
        ):  # what the same cell opened when it was run before is in our way, and only we can end it
            self._thread.forsake_opened()
        self._call(self._client.schedule(), "with dispycos.Client()")
        lease = self._here()
        if is_kept and is_cell():
            self._thread.forsake_opened = lease.forsake_soon
        tell = partial(_tell_left_open, lease)
        self._thread.before_end.append(tell)
        self._thread.call_soon(
            lambda: lease.left.add_done_callback(lambda _: self._thread.before_end.remove(tell))
        )

    def _exit(self, kind: type[BaseException] | None) -> None:
        lost = self._leave(terminate=kind is not None)
        if lost is not None:
            raise lost

    def _leave(self, **how: Any) -> TaskLost | None:
        async def leave() -> TaskLost | None:
            try:
                found: TaskLost | None = await self._client._leave(**how)
                return found
            finally:
                if (mailbox := self._mailbox) is not None and not mailbox.ended:
                    mailbox.finished(Returned(None))

        return self._call(leave(), "close()")

    @plain
    def close(self, await_io: bool = False, terminate: bool = False, timeout: float | None = None) -> int:
        """Give the cluster back: waits for CPU tasks, then until the servers are gone; at the end of the ``with`` at the latest.

        Parameters and what is raised are those of Client.close().
        """
        lost = self._leave(terminate=terminate, await_io=await_io, patience=timeout)
        if lost is not None:
            raise lost
        return 0

    # --- tasks ---

    @submits
    def submit(self, function: Any, /, *args: Any, retries: int = 0, **kwargs: Any) -> SyncTask[Any]:
        """Queue a CPU task; returns its handle at once: ``client.submit(f, x).result()``. See Client.submit."""
        return self._submit(function, args, kwargs, retries=retries)

    @submits
    def io_submit(self, function: Any, /, *args: Any, retries: int = 0, **kwargs: Any) -> SyncTask[Any]:
        """As submit, for a task that mostly waits: it shares its server."""
        return self._submit(function, args, kwargs, io=True, retries=retries)

    @submits
    def rtask(self, function: Any, /, *args: Any, retries: int = 0, **kwargs: Any) -> SyncTask[Any]:
        """Run a CPU task; returns its handle when it runs. See Client.rtask."""
        return self._started(self._submit(function, args, kwargs, alone=True, retries=retries))

    @submits_at
    def rtask_at(
        self, where: Any, function: Any, /, *args: Any, retries: int = 0, **kwargs: Any
    ) -> SyncTask[Any]:
        """As rtask, on a node (its address, name or Location) or on one server (its Location)."""
        return self._started(self._submit(function, args, kwargs, where=where, alone=True, retries=retries))

    @submits
    def io_rtask(self, function: Any, /, *args: Any, retries: int = 0, **kwargs: Any) -> SyncTask[Any]:
        """As rtask, for a task that mostly waits: it shares its server, and close() does not wait for it."""
        return self._started(self._submit(function, args, kwargs, io=True, alone=True, retries=retries))

    @submits_at
    def io_rtask_at(
        self, where: Any, function: Any, /, *args: Any, retries: int = 0, **kwargs: Any
    ) -> SyncTask[Any]:
        """As io_rtask, on a node or a server."""
        return self._started(
            self._submit(function, args, kwargs, io=True, where=where, alone=True, retries=retries)
        )

    @plain
    def options(
        self,
        *,
        timeout: float | None = None,
        retries: int | None = None,
        priority: int | None = None,
        gpus: int | None = None,
        resources: Mapping[str, int] | None = None,
    ) -> SyncOptioned:
        """An object with submit, io_submit, rtask, rtask_at, io_rtask, io_rtask_at and map, whose tasks run so. See
        Client.options for the parameters and what is raised.
        """
        given = {"timeout": timeout, "retries": retries, "priority": priority}
        return SyncOptioned(self, merged(PLAIN, {**given, "gpus": gpus, "resources": resources}))

    @maps
    def map(
        self, function: Callable[..., Any], /, *iterables: Iterable[Any], **options: Any
    ) -> SyncMap[Any, Any]:
        """``for x, value in client.map(f, xs)``: see Client.map for it and its options.

        The iterables are read in a thread of their own, ahead of the values: they may block, and wait for tasks.
        """
        self._here()
        must_be_callable(function)
        return SyncMap(self._thread, self._call(self._map(function, iterables, options), "map()"))

    async def _map(self, function: Any, iterables: Any, options: Any) -> Map[Any, Any]:
        values: Map[Any, Any] = self._client.map(function, *iterables, **options)
        values.read_in_thread()
        return values

    @plain
    def ready(self) -> None:
        """Wait until few enough submitted tasks wait in this process; paces an endless stream of submits."""
        self._call(self._client.ready(), "ready()")

    # --- messages ---

    @property
    def me(self) -> SyncTask[Any]:
        """A handle of this program's mailbox: tasks that are given it send() to it, or ask() it."""
        self._here()
        if self._mailbox is None:
            self._call(self._make_mailbox(), "me")
        assert self._mailbox is not None
        return of_sync_style(self._mailbox.handle)

    @plain
    def receive(self, timeout: float | None = None, alarm_value: Any = None) -> Any:
        """The oldest message that was sent to ``client.me``; waits for one, at most `timeout` seconds, then gives `alarm_value`."""
        mailbox = self.me._source
        host = self._here().host

        async def take() -> Any:
            try:
                async with asyncio.timeout(timeout), self._receiving:
                    return await mailbox.receive_pickled(None)  # type: ignore[union-attr]
            except TimeoutError:
                return None

        envelope = self._call(take(), "receive()")
        if envelope is None:
            return alarm_value
        if not isinstance(envelope.message, messages.Ended):
            return open_in_thread(host, lambda: host.payloads.loads(envelope.payload))
        outcome = self._call(host.open_message(envelope), "receive()")
        if isinstance(outcome, Raised):
            raise outcome.error
        return outcome.value

    @plain
    def reply(self, value: Any) -> None:
        """Answer the request (ask) that was received last.

        Raises
        ------
        RuntimeError: the last message expects no answer, or was answered already.
        """
        mailbox: Any = self.me._source
        payload = self._here().host.payloads.dumps(value, "the reply")

        async def reply() -> None:
            mailbox.reply_pickled(payload)

        self._call(reply(), "reply()")

    async def _make_mailbox(self) -> None:
        if self._mailbox is None:
            host = self._here().host
            with host.shield, host.runtime.lock:
                cell = host.prepare(self._client._wishes.name)
                cell.bind(SyncTask.__new__(SyncTask))
            self._mailbox = cell

    # --- what there is ---

    @plain
    def nodes(self) -> list[str]:
        """Addresses of the nodes that this client has, each once."""
        found: list[str] = self._call(self._client.nodes(), "nodes()")
        return found

    @plain
    def servers(self) -> list[Location]:
        """Locations of the servers that this client has."""
        return self._call(self._client.servers(), "servers()")

    @plain
    def tasks(self, where: str | Location | None = None) -> list[SyncTask[Any]]:
        """Handles of the tasks that run now: on a node (address, name, Location), on a server (Location), or on all."""

        async def handles() -> list[SyncTask[Any]]:
            return [of_sync_style(handle) for handle in await self._client.tasks(where)]

        return self._call(handles(), "tasks()")

    @property
    def dest_path(self) -> Path:
        """The folder for files that tasks send to their client."""
        found: Path = self._client.dest_path
        return found

    # --- nodes, servers, files: as the Client's ---

    @plain
    def enable_node(self, where: str | Location, /, *setup_args: Any) -> int:
        """See Client.enable_node."""
        return self._do(lambda: self._client.enable_node(where, *setup_args), "enable_node()")

    @plain
    def enable_server(self, location: Location, /, *setup_args: Any) -> int:
        """See Client.enable_server."""
        return self._do(lambda: self._client.enable_server(location, *setup_args), "enable_server()")

    @plain
    def suspend_server(self, location: Location, /) -> int:
        """See Client.suspend_server."""
        return self._do(lambda: self._client.suspend_server(location), "suspend_server()")

    @plain
    def resume_server(self, location: Location, /) -> int:
        """See Client.resume_server."""
        return self._do(lambda: self._client.resume_server(location), "resume_server()")

    @plain
    def suspend_node(self, where: str | Location, /) -> int:
        """See Client.suspend_node."""
        return self._do(lambda: self._client.suspend_node(where), "suspend_node()")

    @plain
    def resume_node(self, where: str | Location, /) -> int:
        """See Client.resume_node."""
        return self._do(lambda: self._client.resume_node(where), "resume_node()")

    @plain
    def close_server(self, location: Location, terminate: bool = False, restart: bool = False) -> int:
        """See Client.close_server."""
        return self._do(lambda: self._client.close_server(location, terminate, restart), "close_server()")

    @plain
    def restart_server(self, location: Location, terminate: bool = False) -> int:
        """See Client.restart_server."""
        return self._do(lambda: self._client.restart_server(location, terminate), "restart_server()")

    @plain
    def close_node(self, where: str | Location, /, terminate: bool = False) -> int:
        """See Client.close_node."""
        return self._do(lambda: self._client.close_node(where, terminate), "close_node()")

    @plain
    def restart_node(self, where: str | Location, terminate: bool = False, *setup_args: Any) -> int:
        """See Client.restart_node."""
        return self._do(lambda: self._client.restart_node(where, terminate, *setup_args), "restart_node()")

    @plain
    def abandon_zombie(self, where: str | Location, flag: bool, /) -> int:
        """See Client.abandon_zombie."""
        return self._do(lambda: self._client.abandon_zombie(where, flag), "abandon_zombie()")

    @plain
    def node_allocate(self, allocation: DispycosNodeAllocate | str | Location) -> int:
        """See Client.node_allocate."""
        return self._do(lambda: self._client.node_allocate(allocation), "node_allocate()")

    @plain
    def send_file(
        self,
        where: str | Location | Task,
        path: str | bytes | os.PathLike[Any],
        dir: str | bytes | os.PathLike[Any] | None = None,
        overwrite: bool = False,
        timeout: float | None = None,
        progress: Callable[[int, int], object] | None = None,
    ) -> int:
        """See Client.send_file; `progress` is called in dispycos's own thread."""
        sent: int = self._call(
            self._client.send_file(where, path, dir, overwrite, timeout, progress), "send_file()"
        )
        return sent

    @plain
    def del_file(
        self,
        where: str | Location | Task,
        name: str | bytes | os.PathLike[Any],
        dir: str | bytes | os.PathLike[Any] | None = None,
        timeout: float | None = None,
    ) -> int:
        """See Client.del_file."""
        sent: int = self._call(self._client.del_file(where, name, dir, timeout), "del_file()")
        return sent

    def __repr__(self) -> str:
        return repr(self._client)

    def _repr_html_(self) -> str:
        found: str = self._client._repr_html_()
        return found

    # --- what is not for plain code ---

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> NoReturn:
            text = NOT_HERE.get(
                name, f"a client of the sync style (`with dispycos.Client()`) has no {name!r}"
            )
            raise AttributeError(text, name=name, obj=self)

    def __reduce__(self) -> tuple[Any, ...]:
        return self._client.__reduce__()  # type: ignore[no-any-return]

    def __enter__(self) -> NoReturn:
        raise RuntimeError(
            "this client is open already: use it as it is, and end it by close(); `with` is for a new dispycos.Client(...)"
        )

    def __exit__(self, *error: object) -> None: ...

    async def __aenter__(self) -> NoReturn:
        raise RuntimeError(
            "this client is of the sync style, as it was entered with `with`: use its methods without await, "
            "or `async with dispycos.Client(...)` in the first place"
        )

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    # --- inside ---

    def _call(self, coroutine: Coroutine[Any, Any, V], what: str) -> V:
        return self._thread.call(coroutine, what=what)

    def _do(self, function: Callable[[], int], what: str) -> int:
        async def do() -> int:
            return function()

        return self._call(do(), what)

    def _here(self) -> ClientLease | InProcess:
        lease: ClientLease | InProcess | None = self._client._lease
        if lease is not None and lease.runtime.is_parents:
            self._thread.may_wait("a client")
        if lease is None or not lease.is_open:
            raise NotScheduled(CLOSED)
        return lease

    def _submit(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        io: bool = False,
        where: str | Location | None = None,
        alone: bool = False,
        retries: int = 0,
        options: Options = PLAIN,
    ) -> SyncTask[Any]:
        lease = self._here()
        must_be_callable(function)
        how: dict[str, Any] = {"io": io, "where": where, "alone": alone, "retries": count(retries)}
        if isinstance(lease, InProcess):
            begun: Future[SyncTask[Any]] = Future()
            self._thread.may_wait("submit()")
            self._thread.call_soon(
                lambda: _settle(begun, partial(_begin_here, lease, function, args, kwargs, how))
            )
            return begun.result()  # told before the loop is the task's
        handle: SyncTask[Any]
        handle, values = lease.prepare(SyncTask, function, args, kwargs, **how, options=options)
        self._thread.call_soon(partial(_hand_in, lease, handle, values))
        return handle

    def _started(self, handle: SyncTask[Any]) -> SyncTask[Any]:
        record: Any = handle._source
        if record is None:  # it runs in this process, as soon as the loop has its turn
            return handle

        async def wait() -> None:
            if record.address is None and not record.ended:
                record.when_started = self._thread.loop.create_future()
                try:
                    await record.when_started
                except asyncio.CancelledError:
                    handle._host.terminate(handle)
                    raise

        self._call(wait(), "rtask()")
        if record.ended and not record.started and record.outcome in (OutcomeKind.REFUSED, OutcomeKind.LOST):
            handle.result()
        return handle


class SyncOptioned:
    """What options() gives: a SyncClient's ways to have tasks run."""

    def __init__(self, client: SyncClient, options: Options) -> None:
        self._base = client
        self._client = Optioned(client._client, options)
        self._thread = client._thread
        self._options = options

    submit = SyncClient.submit
    io_submit = SyncClient.io_submit
    rtask = SyncClient.rtask
    rtask_at = SyncClient.rtask_at
    io_rtask = SyncClient.io_rtask
    io_rtask_at = SyncClient.io_rtask_at
    map = SyncClient.map

    @plain
    def options(
        self,
        *,
        timeout: float | None = None,
        retries: int | None = None,
        priority: int | None = None,
        gpus: int | None = None,
        resources: Mapping[str, int] | None = None,
    ) -> SyncOptioned:
        """As SyncClient.options(), with what this one says besides."""
        given = {"timeout": timeout, "retries": retries, "priority": priority}
        return SyncOptioned(
            self._base, merged(self._options, {**given, "gpus": gpus, "resources": resources})
        )

    def _submit(
        self, function: Callable[..., Any], args: Any, kwargs: Any, *, retries: int = 0, **how: Any
    ) -> SyncTask[Any]:
        retries = retries or self._options.retries
        return self._base._submit(function, args, kwargs, retries=retries, options=self._options, **how)

    _here = property(lambda self: self._base._here)
    _started = property(lambda self: self._base._started)
    _call = SyncClient._call
    _map = SyncClient._map

    def __repr__(self) -> str:
        return repr(self._client)


def _begin_here(
    lease: InProcess, function: Any, args: Any, kwargs: Any, how: dict[str, Any]
) -> SyncTask[Any]:
    """A task of this process, on the loop's thread. What it raises keeps its traceback."""
    own = lease.submit(function, args, kwargs, **how)
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
        return
    record: Any = handle._source
    record.outcome, record.text = (
        OutcomeKind.REFUSED,
        f"{handle.name} cannot be run: its client was closed meanwhile",
    )
    record.ended = True
    lease.resolved(record)


def _tell_left_open(lease: ClientLease | InProcess) -> None:
    """The program ends."""
    if not lease.is_leaving:
        say(
            f"{lease.title} is open at the end of the program, which ends its tasks: use `with dispycos.Client(...)`",
            "warning",
        )
