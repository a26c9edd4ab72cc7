"""What a program calls: the Client, its hold on the cluster (spec 6.4)."""

from __future__ import annotations

import asyncio
import os
import sys
import weakref
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, Self

from dispycos.brokers.private import Waiting
from dispycos.config import MIN_PULSE_INTERVAL
from dispycos.errors import NotScheduled, TaskLost
from dispycos.habits import CLIENT, hint
from dispycos.living import refuse_in_server, wants_tasks_here
from dispycos.protocol.addresses import Location
from dispycos.values import flag, positive_seconds, wait_time

from ..tasks.current import host_of, running_loop
from ..tasks.ends import brief, plain
from ..tasks.options import Options
from ..tasks.streams import say
from ..tasks.submitting import Submits, Task
from .cluster_calls import ClusterCalls
from .program_name import place_of_caller, program_name
from .together import CLOSED, Together, would_wait_for_itself

if TYPE_CHECKING:
    from .code import SetupCall
    from .in_process import InProcess
    from .lease import ClientLease
    from .local import Held
    from .shown import Shown
    from .status import Nodes
    from .sync_client import SyncClient

OF_SYNC = (
    "that is of the sync style (`with dispycos.Client() as client`); here a task of this program has the mailbox: "
    "`dispycos.Task(function)`, and in it `await task.receive()` and `task.reply(value)`"
)
NOT_SENT = "cannot pickle a Client, which is its program's: in a task it is `task.client`, or dispycos.current_client()"
BACKLOG_MAX = 4096  # tasks that wait in this process when ready() says that there is room for more


class Client(Submits, Together, ClusterCalls):
    """A program's hold on the cluster: ships functions to servers and runs them there as remote tasks.

    In an ``async def``: ``async with dispycos.Client() as client: print(await client.submit(pow, 2, 10))``, or
    ``await client.schedule()`` ... ``await client.close()``; in generator functions with ``yield`` for ``await``. In plain code:
    ``with dispycos.Client() as client: print(client.submit(pow, 2, 10).result())``, which gives a SyncClient, whose methods wait.

    The cluster is the nodes (machines) that are found, else this machine alone. A node has a server process for each of its CPUs.
    A server runs one CPU task (submit, rtask) at a time, and beside it any number of io tasks (io_submit, io_rtask), which mostly
    wait. One Client of an event loop has the cluster at a time, others wait in schedule(). A Client that nobody refers to any
    more is closed; what it still runs is ended if another one waits. A loop that ends gives the clusters of its clients back;
    such a Client can be scheduled again in the next.

    Parameters
    ----------
    components: functions, classes, modules and paths of files that tasks use. What is missing is sent when it is needed.
    pulse_interval: seconds between two reports of a node's load; nodes allow 10 to 100 if they were told no others
        (``--min_pulse_interval``, ``--max_pulse_interval``). A node that does not allow it takes the nearest, and that is said.
    nodes: host names, addresses (``*`` matches), Locations or DispycosNodeAllocate; only matching nodes are used. Empty: all.
    status_task: a Task that gets a DispycosStatus for every change, and a MonitorStatus for every task that ends.
    node_setup: a function that prepares each node, in its folder and before its servers are forked; what it assigns to globals
        all servers there share. It has no network. It succeeds by returning 0 or None; otherwise its node is not used.
    server_setup: a function that prepares each server before its first task; as node_setup.
    disable_nodes, disable_servers: nodes, or servers, wait to be enabled, which a status_task does that hears of them:
        ``client.enable_node(where, *args)``, ``client.enable_server(location, *args)``; the arguments go to the setup.
    restart_servers: a server that is closed on purpose, by close_server() or in a task, is started anew. A server that dies is
        replaced in any case.
    abandon_zombie_nodes: what becomes of a node that was silent for 5 pulses. True: it is given up, and its tasks are lost.
        False: it gets no new tasks, and those it has are waited for: if it comes back they go on. A node ends them itself
        after 60 s without scheduler and client; then they are lost when it is back, and 15 minutes later in any case.
    secret_file: the file that has the cluster's secret. None: what ``DISPYCOS_SECRET`` or ``DISPYCOS_SECRET_FILE`` says, else
        ``~/.config/dispycos/secret``, which is made when it is missing.
    name: of the program, for those who look at the cluster; by default that of its script.
    cwd: the folder in which tasks run, on every node where it exists (this host; others that share it). Elsewhere, and without
        it, they run in a folder of their server, which is removed at the end with all that was written there; files named in
        `components` lie in the folder above, ``../name``, and with their relative folders.
    cleanup: False: the folders of this client stay on the nodes, with all files; where that is is said at the end.
    dest_path: the folder for files that tasks send to their client; made with the first of them. By default one of this client
        alone, ``clients/PID-...`` in the folder of the user (``dispycos-UID``) under the temporary directory. It is not removed.
    max_file_size: bytes, or text as "10m", that a file may have that tasks send here; 0: no limit.
    local: True: tasks run in this process, on its loop, to be stepped through with a debugger; no other process is started, and
        nothing goes by network. None: as the variable ``DISPYCOS_LOCAL`` says (1, 0). There is one server then, this process,
        where setups run once; a plain function has it alone until it returns, also if it is terminated.

    Raises
    ------
    TypeError, ValueError, FileNotFoundError, NotADirectoryError: a parameter is of no use; the text names it.
    """

    @plain
    def __init__(
        self,
        components: Iterable[Any] = (),
        pulse_interval: float = 5 * MIN_PULSE_INTERVAL,
        nodes: Nodes = (),
        status_task: Task | None = None,
        node_setup: Callable[..., Any] | None = None,
        server_setup: Callable[..., Any] | None = None,
        disable_nodes: bool = False,
        disable_servers: bool = False,
        restart_servers: bool = False,
        abandon_zombie_nodes: bool = False,
        *,
        secret_file: str | os.PathLike[str] | None = None,
        name: str | None = None,
        cwd: str | os.PathLike[str] | None = None,
        cleanup: bool = True,
        dest_path: str | os.PathLike[str] | None = None,
        max_file_size: int | str = 0,
        local: bool | None = None,
    ) -> None:
        if name is not None and not isinstance(name, str):
            raise TypeError(f"name must be a str, not {type(name).__name__}")
        if secret_file is not None and not isinstance(secret_file, str | os.PathLike):
            raise TypeError(
                f"secret_file must be the path of a file (str or PathLike), not {type(secret_file).__name__}"
            )
        self._is_local = wants_tasks_here() if local is None else flag(local, "local")
        # Imported late: it takes as long as the imports of the process that is started ahead, on another CPU.
        if self._is_local:
            Waiting.end_ahead()
        else:
            Waiting.start_ahead()
        from .code import ClientPayloads
        from .status import allocations
        from .wishes import Wishes, folder_of, size_of

        self.status_task = status_task
        self._payloads = ClientPayloads(components, cwd)
        self._secret_file = Path(secret_file) if secret_file is not None else None
        self._wishes = Wishes(
            name or program_name(),
            allocations(nodes),
            positive_seconds(pulse_interval, "pulse_interval"),
            flag(abandon_zombie_nodes, "abandon_zombie_nodes"),
            self._setup(node_setup, "node_setup"),
            self._setup(server_setup, "server_setup"),
            flag(disable_nodes, "disable_nodes"),
            flag(disable_servers, "disable_servers"),
            flag(restart_servers, "restart_servers"),
            flag(cleanup, "cleanup"),
            folder_of(dest_path),
            size_of(max_file_size),
        )
        self._made_at = place_of_caller()
        self._lease: ClientLease | InProcess | None = None
        self._sync: SyncClient | None = None  # what `with` gave
        self._is_sync = False  # by `with` or open()
        self._yields = False  # an Executor's

    def _setup(self, function: Callable[..., Any] | None, what: str) -> SetupCall | None:
        if function is None:
            return None
        if not callable(function):
            raise TypeError(f"{what} must be a function, not {type(function).__name__}")
        return self._payloads.setup_call(function, ())

    # --- the cluster ---

    @brief
    async def schedule(self, location: str | Location | None = None, timeout: float | None = None) -> int:
        """Get the cluster; returns 0 when every known node has started its servers or refused.

        Parameters
        ----------
        location: host name, address or Location of a scheduler; None: one of this cluster that is found, else a private one.
        timeout: seconds; None waits for the clients before us, those of this program among them, as long as they take.

        Raises
        ------
        TimeoutError: not scheduled in time, for the reason that it says; the client has left the queue.
        TypeError, ValueError: location or timeout are of no use.
        FileNotFoundError: a component has gone since the Client was made.
        ScheduleError: no such scheduler, wrong secret, or it refused; the text says what to do.
        """
        refuse_in_server("a Client")
        _refuse_trio()
        from .in_process import InProcess
        from .lease import ClientLease
        from .local import GOODBYE_S, home_of_this_loop

        if timeout is not None:
            positive_seconds(timeout, "schedule(): timeout")
        lease = self._lease
        has_left = lease is None or lease.left.done()
        if lease is not None and not has_left and self._is_of_this_loop(lease) and not lease.is_leaving:
            await _within(timeout, asyncio.shield(lease.scheduled), lease)
            return 0
        self._payloads.look_for_files()
        lease = self._lease = (InProcess if self._is_local else ClientLease)(
            home_of_this_loop(self._payloads, self._secret_file),
            self._payloads,
            self.status_task,
            self._wishes,
            f"{self._wishes.name} (made in {self._made_at})",
        )
        lease.yields = self._yields
        forsaken = weakref.finalize(self, lease.forsake_soon)  # __del__ would run at exit, without modules
        forsaken.atexit = False
        lease.left.add_done_callback(lambda _: forsaken.detach())
        try:
            await _within(timeout, lease.take(location, self._secret_file), lease)
        except asyncio.CancelledError:
            lease.leave(terminate=True, patience=GOODBYE_S)
            raise
        except BaseException:
            await asyncio.shield(lease.leave(terminate=True, patience=GOODBYE_S))
            raise
        return 0

    @brief
    async def close(
        self, await_io: bool = False, terminate: bool = False, timeout: float | None = None
    ) -> int:
        """Give the cluster back: waits for CPU tasks (with await_io for io tasks too), then until the servers are gone.

        When the waiting is cancelled the tasks are told to end, and the cluster is given back all the same.

        Parameters
        ----------
        await_io: wait for io tasks, too. Else they are told to end when no CPU task is left.
        terminate: end the tasks instead: each gets its KeyboardInterrupt and has about 5 s.
        timeout: seconds; after them as with terminate. None: as long as it takes.

        Raises
        ------
        TaskLost: tasks were lost or refused and nobody awaited them; the text says how many, and why. Not with terminate, and
            not while another exception is handled: then it is a warning.
        """
        patience = wait_time(timeout, "close(): timeout")
        lost = await self._leave(terminate=terminate, await_io=await_io, patience=patience)
        if lost is not None and sys.exception() is None:
            raise lost
        if lost is not None:
            say(str(lost), "warning")
        return 0

    async def _leave(
        self, *, terminate: bool, await_io: bool = False, patience: float | None = None
    ) -> TaskLost | None:
        lease = self._lease
        if lease is None or lease.runtime.is_parents or not self._is_of_this_loop(lease):
            return None
        ending = lease.leave(terminate=terminate, await_io=await_io, patience=patience)
        try:
            await asyncio.shield(ending)
        except asyncio.CancelledError:
            lease.hurry()
            raise
        return lease.take_lost()

    @plain
    def open(self) -> SyncClient:
        """The sync style without a `with`, for a client that is kept, as over the cells of a notebook: its methods wait.

        End it by ``client.close()``. In a notebook the client that a cell opened takes the place of the one that was opened
        before, whose tasks end: so a cell can be run again.
        """
        return self._opened(is_kept=True)

    def _opened(self, *, is_kept: bool) -> SyncClient:
        from .sync_client import SyncClient

        if self._lease is not None and not self._lease.left.done():
            raise RuntimeError(
                "this Client is in use already: leave it first, or make another one for `with`"
            )
        opened = SyncClient(self)
        opened._enter(is_kept=is_kept)
        self._is_sync = True
        return opened

    @plain
    def __enter__(self) -> SyncClient:
        """The sync style: a client whose methods wait. Its loop runs in a thread of the program."""
        self._sync = self._opened(is_kept=False)
        return self._sync

    @plain
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._sync is not None
        self._sync.close(terminate=kind is not None)

    @brief
    async def __aenter__(self) -> Self:
        if self._is_sync and self._lease is not None and not self._lease.left.done():
            raise RuntimeError(
                "this Client is in use in the sync style (`with`): use what that gave, without await"
            )
        _refuse_trio()
        here = asyncio.current_task()
        if (ahead := self._ahead_of(here)) is not None:
            raise RuntimeError(would_wait_for_itself(ahead.title, "this asyncio Task"))
        await self.schedule()
        assert self._lease is not None
        self._lease.inside = here
        return self

    @brief
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        lost = await self._leave(terminate=kind is not None)
        if lost is not None:
            raise lost

    # --- tasks ---

    @brief
    async def ready(self) -> None:
        """Wait until at most 4,096 submitted tasks wait in this process; paces an endless stream of submits."""
        await self._here().wait_backlog(BACKLOG_MAX)

    # --- what there is ---

    @property
    def status_task(self) -> Task | None:
        """The Task that gets a DispycosStatus for every change, or None; may be set until schedule() is called."""
        return self._status_task

    @status_task.setter
    def status_task(self, task: Task | None) -> None:
        if task is not None and not isinstance(task, Task):
            raise TypeError(f"status_task must be a Task, not {type(task).__name__}")
        self._status_task = task

    @brief
    async def nodes(self) -> list[str]:
        """Addresses of the nodes that this client has, each once: several nodes may have one."""
        return self._here().addresses()

    @brief
    async def servers(self) -> list[Location]:
        """Locations of the servers that this client has."""
        return self._here().locations()

    @brief
    async def tasks(self, where: str | Location | None = None) -> list[Task]:
        """Handles of the tasks that run now: on a node (address, name, Location), on a server (Location), or on all."""
        return self._here().tasks_at(where)

    @property
    def dest_path(self) -> Path:
        """The folder for files that tasks send to their client."""
        return self._wishes.dest_path

    # --- at a prompt, in a notebook ---

    def __repr__(self) -> str:
        return self._shown().as_line()

    def _repr_html_(self) -> str:
        return self._shown().as_html()

    def _shown(self) -> Shown:
        from .shown import Shown

        lease = self._lease
        if lease is None:
            return Shown(self._wishes.name, "not scheduled")
        if lease.left.done():
            state = "closed"
        elif lease.is_leaving:
            state = "closing"
        else:
            state = "" if lease.is_open else f"waits: {lease.waits_for}"
        return lease.shown(self._wishes.name, state)

    # --- what it is not for ---

    if not TYPE_CHECKING:

        @plain
        def __getattr__(self, name: str) -> NoReturn:
            instead = f": {OF_SYNC}" if name in ("me", "receive", "reply") else hint(CLIENT, name)
            raise AttributeError(f"a Client has no {name!r}{instead}", name=name, obj=self)

    def __reduce__(self) -> NoReturn:
        raise TypeError(NOT_SENT)

    # --- inside ---

    def _ahead_of(self, who: object) -> Held | None:
        """On the loop: the lease of a client that only this thread, or asyncio.Task, can leave, which would wait for it here."""
        home = getattr(host_of(asyncio.get_running_loop()), "home", None)
        found: Held | None = home.inside(who) if home is not None and not self._is_local else None
        return found

    def _cluster(self) -> ClientLease:
        """For what is about nodes and servers."""
        from .lease import ClientLease

        lease = self._here(opening=True)
        if not isinstance(lease, ClientLease):
            raise NotScheduled(
                "this client runs its tasks in this process (local=True, or DISPYCOS_LOCAL): it has no nodes and servers "
                "to enable, close or send files to"
            )
        return lease

    def _here(self, *, opening: bool = False) -> ClientLease | InProcess:
        """With `opening` also while schedule() waits: a status_task hears of nodes then."""
        lease = self._lease
        if self._is_sync and running_loop() is None and lease is not None and not lease.left.done():
            raise RuntimeError(
                "this Client is in use in the sync style: use what `with dispycos.Client(...) as client` or open() gave"
            )
        is_there = lease is not None and (lease.is_open or (opening and not lease.is_leaving))
        if lease is not None and is_there and lease.loop is running_loop():
            return lease
        if lease is not None and not self._is_of_this_loop(lease):
            raise NotScheduled(
                "this client belongs to an event loop that has ended (asyncio.run ended), and its cluster was given back "
                "then: call schedule() again, or use `async with Client(...)`"
            )
        if self._is_sync and lease is not None and not lease.is_open:
            raise NotScheduled(CLOSED)
        if lease is None or not lease.is_open:
            raise NotScheduled(
                "this client has no cluster: use `async with Client(...)`, or `await schedule()` first; without async def: "
                "`with Client(...) as client:`"
            )
        return lease

    @staticmethod
    def _is_of_this_loop(lease: ClientLease | InProcess) -> bool:
        """False: its loop has ended. A thread without a loop may use another's."""
        if lease.loop.is_closed():
            return False
        if running_loop() not in (None, lease.loop):
            raise RuntimeError(
                "this client belongs to another event loop, which has not ended: use it there "
                "(asyncio.run_coroutine_threadsafe), or make another Client for this one"
                + (
                    ", or give fixture and test the same loop_scope"
                    if "pytest_asyncio" in sys.modules
                    else ""
                )
            )
        return True

    def _run(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], options: Options
    ) -> Task:
        # A status_task submits as servers come, before schedule() returns; where nothing was granted there is nobody to ask yet.
        lease = self._here(opening=self._lease is not None and bool(self._lease.addresses()))
        return lease.submit(function, args, kwargs, options)


def _refuse_trio() -> None:
    if sys.modules.get("trio") is not None and running_loop() is None:
        raise RuntimeError(
            "dispycos needs an asyncio event loop, and this is trio: run it by anyio's asyncio backend, or use "
            "`with dispycos.Client(...)` in a thread (trio.to_thread.run_sync)"
        )


async def _within(
    timeout: float | None, scheduled: Awaitable[object], lease: ClientLease | InProcess
) -> None:
    try:
        async with asyncio.timeout(timeout):
            await scheduled
    except TimeoutError:
        raise TimeoutError(f"schedule(): not within {timeout:g} s: {lease.waits_for}") from None
