"""The sync style of a Client: ``with dispycos.Client() as client`` gives a SyncClient, whose methods wait in the caller's thread.

Its work is done by the Client, on the program's loop thread (loop_thread.py). How tasks are submitted is in sync_submitting.py.
"""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable, Coroutine
from functools import partial, wraps
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, NoReturn, ParamSpec

from dispycos.errors import NotScheduled, TaskLost
from dispycos.habits import CLIENT, hint
from dispycos.protocol import messages
from dispycos.protocol.addresses import Location
from dispycos.values import wait_time

from ..tasks.ends import Raised, Returned, plain
from ..tasks.streams import say
from .cluster_calls import ClusterCalls
from .in_process import InProcess
from .local import GOODBYE_S
from .loop_thread import LoopThread, is_cell, loop_thread
from .sync_submitting import SyncSubmits
from .sync_task import SyncTask, of_sync_style, open_in_thread
from .together import CLOSED, SyncTogether, would_wait_for_itself

if TYPE_CHECKING:
    from ..tasks.cell import Cell
    from ..tasks.signatures import Method
    from .lease import ClientLease
    from .local import Held

P = ParamSpec("P")
OPENED = "with dispycos.Client()"
NOT_HERE = {
    "open": "this client is open already: use it, or make another Client",
    "schedule": "this client has the cluster already, until close(): for another time make another Client",
    "status_task": "a status_task is a task on an event loop, and belongs to the async style: `async with dispycos.Client(...)`; "
    "here ask client.nodes(), servers() and tasks(), or task.monitor(client.me)",
}


def _awaited(
    method: Callable[Concatenate[Any, P], Coroutine[Any, Any, int]],
) -> Callable[[object], Method[Callable[P, int]]]:
    """Has the function that it decorates be this method of a Client, for plain code."""

    @wraps(method)
    def call(self: SyncClient, /, *args: P.args, **kwargs: P.kwargs) -> int:
        return self._call(method(self._client, *args, **kwargs), f"{method.__name__}()")

    called: Any = plain(call)
    return lambda _: called


def _on_loop(
    method: Callable[Concatenate[Any, P], int],
) -> Callable[[object], Method[Callable[P, int]]]:
    @wraps(method)
    def call(self: SyncClient, /, *args: P.args, **kwargs: P.kwargs) -> int:
        return self._thread.do(partial(method, self._client, *args, **kwargs), f"{method.__name__}()")

    called: Any = plain(call)
    return lambda _: called


class SyncClient(SyncSubmits, SyncTogether):
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
        self._thread.may_wait(OPENED)
        self._must_not_wait_for_itself(is_kept=is_kept)
        self._call(self._client.schedule(), OPENED)
        lease = self._here()
        lease.inside = threading.current_thread()
        if is_kept and is_cell():
            self._thread.opened = lease
        tell = partial(_tell_left_open, lease)
        self._thread.before_end.append(tell)
        self._thread.call_soon(
            lambda: lease.left.add_done_callback(lambda _: self._thread.before_end.remove(tell))
        )

    def _must_not_wait_for_itself(self, *, is_kept: bool) -> None:
        """Raises RuntimeError where the one that has the cluster can only be left by who would wait here."""
        if is_kept and is_cell() and self._thread.opened is not None:  # the same cell is run again
            self._thread.opened.forsake_soon()
        here = threading.current_thread()

        async def ahead() -> Held | None:
            await asyncio.sleep(0)  # one that is forsaken leaves now
            found: Held | None = self._client._ahead_of(here)
            return found

        if self._call(ahead(), OPENED) is not None:
            gc.collect()  # a client to which nobody refers any more may be left in a cycle
            if (lease := self._call(ahead(), OPENED)) is not None:
                raise RuntimeError(would_wait_for_itself(lease.title, "this thread"))

    @plain
    def close(self, await_io: bool = False, terminate: bool = False, timeout: float | None = None) -> int:
        """Give the cluster back: waits for CPU tasks, then until the servers are gone. The end of the ``with`` does it, too.

        Parameters
        ----------
        await_io: wait for io tasks, too. Else they are told to end when no CPU task is left.
        terminate: end the tasks instead: each gets its KeyboardInterrupt and has about 5 s.
        timeout: seconds; after them as with terminate. None: as long as it takes.

        Raises
        ------
        TaskLost: tasks were lost or refused and nobody asked for their values; the text says how many, and why.
        """
        if self._thread.has_ended:  # in a __del__, when there is little else left, or a generator
            return 0
        patience = wait_time(timeout, "close(): timeout")

        async def leave() -> TaskLost | None:
            try:
                found: TaskLost | None = await self._client._leave(
                    terminate=terminate, await_io=await_io, patience=patience
                )
                return found
            finally:
                if (mailbox := self._mailbox) is not None and not mailbox.ended:
                    mailbox.finished(Returned(None))

        lost = self._call(leave(), "close()")
        if lost is not None:
            raise lost
        return 0

    @plain
    def ready(self) -> None:
        """Wait until at most 4,096 submitted tasks wait in this process; paces an endless stream of submits."""
        self._call(self._client.ready(), "ready()")

    # --- messages ---

    @property
    @plain
    def me(self) -> SyncTask[None]:
        """A handle of this program's mailbox: tasks that are given it send() to it, or ask() it."""
        self._here()
        if self._mailbox is None:
            self._thread.do(self._make_mailbox, "me")
        assert self._mailbox is not None
        return of_sync_style(self._mailbox.handle)

    @plain
    def receive(self, timeout: float | None = None, alarm_value: Any = None) -> Any:
        """The oldest message that was sent to ``client.me``; waits for one, at most `timeout` seconds, then gives `alarm_value`.

        It is whatever was sent; or a MonitorStatus, of a task of which ``handle.monitor(client.me)`` was asked.
        """
        mailbox: Any = self.me._source
        seconds = wait_time(timeout, "receive(): timeout")
        host = self._here().host

        async def take() -> Any:
            try:
                async with asyncio.timeout(seconds), self._receiving:
                    return await mailbox.receive_pickled()
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
        self._thread.do(lambda: mailbox.reply_pickled(payload), "reply()")

    def _make_mailbox(self) -> None:
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

    # --- nodes, servers, files ---

    @_on_loop(ClusterCalls.enable_node)
    def enable_node(self) -> None: ...
    @_on_loop(ClusterCalls.enable_server)
    def enable_server(self) -> None: ...
    @_on_loop(ClusterCalls.suspend_server)
    def suspend_server(self) -> None: ...
    @_on_loop(ClusterCalls.resume_server)
    def resume_server(self) -> None: ...
    @_on_loop(ClusterCalls.suspend_node)
    def suspend_node(self) -> None: ...
    @_on_loop(ClusterCalls.resume_node)
    def resume_node(self) -> None: ...
    @_on_loop(ClusterCalls.close_server)
    def close_server(self) -> None: ...
    @_on_loop(ClusterCalls.restart_server)
    def restart_server(self) -> None: ...
    @_on_loop(ClusterCalls.close_node)
    def close_node(self) -> None: ...
    @_on_loop(ClusterCalls.restart_node)
    def restart_node(self) -> None: ...
    @_on_loop(ClusterCalls.abandon_zombie)
    def abandon_zombie(self) -> None: ...
    @_on_loop(ClusterCalls.node_allocate)
    def node_allocate(self) -> None: ...
    @_awaited(ClusterCalls.send_file)
    def send_file(self) -> None: ...
    @_awaited(ClusterCalls.del_file)
    def del_file(self) -> None: ...

    def __repr__(self) -> str:
        return repr(self._client)

    def _repr_html_(self) -> str:
        found: str = self._client._repr_html_()
        return found

    # --- what is not for plain code ---

    if not TYPE_CHECKING:

        @plain
        def __getattr__(self, name: str) -> NoReturn:
            text = (
                f"a client of the sync style (`with dispycos.Client()`) has no {name!r}{hint(CLIENT, name)}"
            )
            raise AttributeError(NOT_HERE.get(name, text), name=name, obj=self)

    def __reduce__(self) -> tuple[Any, ...]:
        reduced: tuple[Any, ...] = self._client.__reduce__()
        return reduced

    @plain
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

    def _here(self) -> ClientLease | InProcess:
        lease: ClientLease | InProcess | None = self._client._lease
        if lease is not None and lease.runtime.is_parents:
            self._thread.may_wait("a client")
        if lease is None or not lease.is_open:
            raise NotScheduled(CLOSED)
        return lease


def _tell_left_open(lease: ClientLease | InProcess) -> None:
    """The program ends. On the loop's thread."""
    if not lease.is_leaving:
        say(
            f"{lease.title} is open at the end of the program, which ends its tasks: use `with dispycos.Client(...)`",
            "warning",
        )
        lease.leave(terminate=True, patience=GOODBYE_S)
