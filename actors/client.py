"""The client's body: finds or starts a scheduler, hands tasks in, and completes what their handles wait for (spec 6.4)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import platform
import sys
import traceback
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any

from dispycos.brokers.local import PrivateProcess, Scheduler
from dispycos.config import MAX_PULSE_INTERVAL, MIN_PULSE_INTERVAL, SCHEDULER_PORT, parse_place
from dispycos.errors import DispycosError, NotScheduled, ScheduleError, TaskRefused
from dispycos.links import LinkLost, LinkReady
from dispycos.protocol import messages
from dispycos.protocol.addresses import CLIENT, Address
from dispycos.protocol.envelope import Envelope, Payload
from dispycos.protocol.messages import ClientInfo, TaskId
from dispycos.protocol.status import OutcomeKind
from dispycos.router import Event
from dispycos.runtime import Runtime
from dispycos.session import PeerReset
from dispycos.transport.addresses import Resolver, tcp_endpoint
from dispycos.transport.dialler import Dialler, Refused
from dispycos.transport.discovery import Entry, Registry, endpoints_of
from dispycos.transport.folders import find_folders
from dispycos.transport.security import Keys, Secret

from .cluster import DispycosStatus, allocations, avail_info, node_info, task_info
from .host.cells import TaskHost, name_of
from .host.results import unpack_outcome
from .ledger import (
    Began,
    Failed,
    Forget,
    Freed,
    Give,
    Ledger,
    News,
    Print,
    Pulsed,
    Record,
    Resolve,
    Say,
    Scheduled,
    scheduler_of,
)
from .local import host_of_this_loop
from .parcels import ClientParcels
from .task import Location, MonitorStatus, Task

log = logging.getLogger("dispycos")

MAP_AHEAD = 4096  # tasks of one map() that are in flight
UNREAD_TOLD = 10  # tracebacks that are printed at close()
SCHEDULER_GONE_AFTER = 10.0  # seconds without a link until its tasks are given up


class Client:
    """A program's hold on the cluster: ships functions to servers and runs them there as remote tasks.

    Use it as ``async with Client([compute]) as client:``, or ``await client.schedule()`` ... ``await client.close()``; in
    generator functions with ``yield``.

    Parameters
    ----------
    components: functions, classes, modules and paths of files that tasks use. What is missing is sent when it is needed.
    pulse_interval: seconds between two reports of a node's load; between 10 and 100 unless the node allows others.
    nodes: host names, addresses (``*`` matches) or DispycosNodeAllocate; only matching nodes are used. Empty: all.
    status_task: a Task that gets a DispycosStatus for every change, and a MonitorStatus for every task that ends.
    restart_servers: taken and without effect: it is about servers that are closed on purpose, and nothing closes one yet.
        A server that dies is replaced in any case.
    abandon_zombie_nodes: what becomes of a node that was silent for 5 pulses. True: it is given up, and its tasks are lost.
        False: it gets no new tasks, and those it has are waited for: if it comes back they go on. A node ends them itself
        after 60 s without its scheduler; then they are lost when it is back, and 15 minutes later in any case.

    Raises
    ------
    TypeError, ValueError, FileNotFoundError: a parameter is of no use; the text names it.
    """

    def __init__(
        self,
        components: Iterable[Any] = (),
        pulse_interval: float = 5 * MIN_PULSE_INTERVAL,
        nodes: Any = (),
        status_task: Task | None = None,
        *,
        restart_servers: bool = False,
        abandon_zombie_nodes: bool = False,
        secret_file: str | os.PathLike[str] | None = None,
        name: str | None = None,
    ) -> None:
        if status_task is not None and not isinstance(status_task, Task):
            raise TypeError(f"status_task must be a Task, not {type(status_task).__name__}")
        if not MIN_PULSE_INTERVAL <= pulse_interval <= MAX_PULSE_INTERVAL:
            raise ValueError(
                f"pulse_interval is {pulse_interval:g} s; it must be between {MIN_PULSE_INTERVAL:g} and {MAX_PULSE_INTERVAL:g}"
            )
        self.status_task = status_task
        self._parcels = ClientParcels(components)
        self._allocations = allocations(nodes)
        self._pulse_interval = pulse_interval
        self._restart_servers = restart_servers
        self._abandon_zombies = abandon_zombie_nodes
        self._secret_file = Path(secret_file) if secret_file is not None else None
        self._name = name or os.path.basename(sys.argv[0] or "python") or "python"
        self._seat: Seat | None = None

    # --- the cluster ---

    async def schedule(self, location: str | Location | None = None, timeout: float | None = None) -> int:
        """Get the cluster; returns 0 when every known node has started its servers or refused.

        Parameters
        ----------
        location: host name, address or Location of a scheduler; None: one of this cluster that is found, else a private one.
        timeout: seconds; None waits for the clients before us as long as they take.

        Raises
        ------
        TimeoutError: not scheduled in time; the client has left the queue.
        ScheduleError: no such scheduler, wrong secret, or it refused; the text says what to do.
        """
        if self._seat is not None:
            return 0
        seat = Seat(self, host_of_this_loop(self._parcels, self._secret_file))
        try:
            async with asyncio.timeout(timeout):
                await seat.take(location)
        except BaseException:
            await seat.leave(terminate=True, await_io=False, patience=1.0)
            raise
        self._seat = seat
        return 0

    async def close(
        self, await_io: bool = False, terminate: bool = False, timeout: float | None = None
    ) -> int:
        """Give the cluster back: waits for CPU tasks (with await_io for io tasks too), then until the servers are gone.

        Parameters
        ----------
        terminate: end the tasks instead: each gets its KeyboardInterrupt and has about 5 s.
        timeout: seconds; after them as with terminate.
        """
        seat, self._seat = self._seat, None
        if seat is not None:
            await seat.leave(terminate=terminate, await_io=await_io, patience=timeout)
        return 0

    async def __aenter__(self) -> Client:
        await self.schedule()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close(terminate=kind is not None)

    # --- tasks ---

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Task:
        """Queue a CPU task for the least loaded node; returns its handle at once. Await the handle for the value.

        Raises
        ------
        NotPicklable: naming the argument that cannot be sent.
        """
        return self._submit(function, args, kwargs)

    def io_submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Task:
        """As submit, for a task that mostly waits: it shares its server."""
        return self._submit(function, args, kwargs, io=True)

    async def rtask(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Task:
        """Run a CPU task on the least loaded node; returns its handle when it runs. It has its server alone.

        Raises
        ------
        NotPicklable: naming the argument that cannot be sent.
        TaskRefused, TaskLost: it cannot be run, or its server died before it started.
        """
        return await self._until_started(self._submit(function, args, kwargs))

    async def rtask_at(
        self, where: str | Location, function: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> Task:
        """As rtask, on a node (its address, name or Location) or on one server (its Location)."""
        return await self._until_started(self._submit(function, args, kwargs, where=where))

    async def io_rtask(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Task:
        """As rtask, for a task that mostly waits: it shares its server, and close() does not wait for it."""
        return await self._until_started(self._submit(function, args, kwargs, io=True))

    async def io_rtask_at(
        self, where: str | Location, function: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> Task:
        """As io_rtask, on a node or a server."""
        return await self._until_started(self._submit(function, args, kwargs, io=True, where=where))

    async def map(
        self, function: Callable[..., Any], /, *iterables: Iterable[Any], progress: bool = False
    ) -> AsyncIterator[tuple[Any, Any]]:
        """Run function(x) for every x; gives (x, value) as the tasks end. With several iterables x is a tuple.

        A task that raises raises here; the others are terminated. `progress` keeps a count on standard error.
        """
        arguments = iter(zip(*iterables, strict=False))
        waiting: dict[Task, Any] = {}
        ended: deque[Task] = deque()
        bell = asyncio.Event()

        def on_end(handle: Any) -> None:
            ended.append(handle)
            bell.set()

        count = 0
        try:
            exhausted = False
            while True:
                while not exhausted and len(waiting) < MAP_AHEAD:
                    args = next(arguments, None)
                    if args is None:
                        exhausted = True
                        break
                    handle = self.submit(function, *args)
                    waiting[handle] = args[0] if len(args) == 1 else args
                    handle.add_done_callback(on_end)
                if not waiting:
                    return
                while not ended:
                    bell.clear()
                    await bell.wait()
                handle = ended.popleft()
                argument = waiting.pop(handle)
                value = handle.result()
                count += 1
                if progress:
                    print(f"\r{count} done, {len(waiting)} in flight ", end="", file=sys.stderr, flush=True)
                yield argument, value
        finally:
            if progress and count:
                print(file=sys.stderr)
            for handle in waiting:
                handle.terminate()

    async def ready(self) -> None:
        """Wait until few enough submitted tasks wait in this process; paces an endless stream of submits."""
        ledger = self._here().ledger
        while ledger.backlog() > MAP_AHEAD:
            await asyncio.sleep(0.001)

    # --- what there is ---

    async def nodes(self) -> list[str]:
        """Addresses of the nodes that this client has."""
        return [node.addr for node in self._here().ledger.nodes.values()]

    async def servers(self) -> list[Location]:
        """Locations of the servers that this client has."""
        return [Location(spot.addr, spot.port) for spot, _ in self._here().ledger.servers.values()]

    async def tasks(self, where: str | Location | None = None) -> list[Task]:
        """Handles of the tasks that run now: on a node (address, name, Location), on a server (Location), or on all."""
        seat = self._here()
        chosen = None if where is None else set(seat.servers_at(where))
        return [
            seat.handle_of(record)
            for record in list(seat.ledger.records.values())
            if record.address is not None and (chosen is None or record.address.epoch in chosen)
        ]

    # --- inside ---

    def _here(self) -> Seat:
        if self._seat is None:
            raise NotScheduled(
                "this client has no cluster: call schedule() first, or use `async with Client(...)`"
            )
        return self._seat

    def _submit(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        io: bool = False,
        where: str | Location | None = None,
    ) -> Task:
        seat = self._here()
        if not callable(function):
            raise TypeError(f"a task needs a function, not {type(function).__name__}")
        node, server = ("", 0) if where is None else seat.place(where)
        return seat.submit(function, args, kwargs, io=io, node=node, server=server)

    async def _until_started(self, handle: Task) -> Task:
        record = handle._state
        assert isinstance(record, Record)
        if not record.started and not record.ended:
            record.when_started = asyncio.get_running_loop().create_future()
            try:
                await record.when_started
            except asyncio.CancelledError:
                handle.terminate()
                raise
        if record.ended and not record.started and record.outcome in (OutcomeKind.REFUSED, OutcomeKind.LOST):
            await handle
        return handle


class Seat:
    """One stay at a scheduler, from Enlist to Released: the ledger's body."""

    def __init__(self, client: Client, host: TaskHost) -> None:
        self.client = client
        self.host = host
        self.runtime: Runtime = host.runtime
        self.loop = host.loop
        self.parcels = client._parcels
        if host.records is not None:
            raise ScheduleError("another Client of this event loop has the cluster: close it first")
        self.ledger = Ledger(self.runtime.address(CLIENT))
        self.ledger.wants_news = client.status_task is not None
        self.machine = self.ledger
        self.runtime.attach(CLIENT, self)
        host.records = self
        host.parcels = self.parcels
        host.home.enter(self)
        self._dialler: Dialler | None = None
        self._private: PrivateProcess | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._scheduled: asyncio.Future[int] = self.loop.create_future()
        self._freed: asyncio.Future[str] = self.loop.create_future()
        self._gone: asyncio.TimerHandle | None = None
        self._leaving = False
        for future in (self._scheduled, self._freed):
            future.add_done_callback(_look_at)

    # --- getting the cluster ---

    async def take(self, location: str | Location | None) -> None:
        """Find a scheduler, enlist, wait for the servers."""
        epoch = await self._reach_scheduler(location)
        python = (sys.version_info[0], sys.version_info[1])
        info = ClientInfo(self.client._name, platform.node(), os.getpid(), python, self.host.home.ipc)
        with self.runtime.lock:
            word = messages.Enlist(
                info,
                self.client._allocations,
                self.client._pulse_interval,
                self.client._restart_servers,
                self.client._abandon_zombies,
            )
            self.ledger.enlist(scheduler_of(epoch), word, self.loop.time())
        self.runtime.turn_soon()
        await self._scheduled

    async def _reach_scheduler(self, location: str | Location | None) -> int:
        private = Scheduler.take()
        if location is not None:
            if private is not None:
                await private.close()
            return await self._dial_named(location)
        if private is None:
            entry = self._registered()
            if entry is not None:
                return await self._dial(endpoints_of(entry.presence), f"the scheduler {entry.name}")
            private = PrivateProcess(self._private_settings())
        self._private = private
        return await self._use_private(private)

    def _private_settings(self) -> dict[str, Any]:
        return {
            "nodes": [
                f"{word.node}:{word.port}" if word.port else word.node
                for word in self.client._allocations
                if "*" not in word.node
            ],
            "secret_file": str(self.client._secret_file) if self.client._secret_file else None,
            "debug": log.isEnabledFor(logging.DEBUG),
        }

    async def _use_private(self, private: PrivateProcess) -> int:
        """The child's first line says where it listens, its second what it found on the network."""
        first = await private.next_line()
        dialling = asyncio.ensure_future(self._dial([first["endpoint"]], "the private scheduler"))
        try:
            while "use" not in (survey := await private.next_line()):
                self.say(survey["notice"], survey.get("level", "info"))
        except BaseException:
            dialling.cancel()
            raise
        epoch = await dialling
        if survey["use"] == "scheduler":
            assert self._dialler is not None
            self._dialler.stop()
            await private.close()
            self._private = None
            return await self._dial(survey["endpoints"], f"the scheduler {survey['name']}")
        self._watcher = asyncio.ensure_future(self._watch(private))
        return epoch

    async def _watch(self, private: PrivateProcess) -> None:
        """Pass its notices on; its end is the end of our tasks."""
        try:
            while True:
                line = await private.next_line(timeout=float("inf"))
                if "notice" in line:
                    self.say(line["notice"], line.get("level", "info"))
        except ScheduleError as error:
            if not self._freed.done():
                with self.runtime.lock:
                    self.ledger.scheduler_lost(str(error))
                self.runtime.turn_soon()

    def _registered(self) -> Entry | None:
        """A scheduler of our cluster on this host, of the same user."""
        tag = self._keys().tag
        for entry in Registry(find_folders().registry).read():
            if entry.role == "scheduler" and entry.tag == tag:
                return entry
        return None

    def _keys(self) -> Keys:
        return Keys.from_secret(Secret.load_or_make(self.client._secret_file))

    async def _dial_named(self, location: str | Location) -> int:
        if isinstance(location, str):
            place = parse_place(location)
            host, port = place.host, place.port or SCHEDULER_PORT
        else:
            host, port = location.addr, location.port
        endpoints = [tcp_endpoint(address, port) for address in await Resolver().resolve(host)]
        return await self._dial(endpoints, f"the scheduler at {host}:{port}")

    async def _dial(self, endpoints: list[str], what: str) -> int:
        self._dialler = dialler = self.runtime.dial(endpoints, uplink=True)
        dialler.on_silence = lambda text: self.say(f"{what}: {text}", "warning")
        try:
            return await asyncio.shield(dialler.ready)
        except Refused as refusal:
            raise ScheduleError(f"{what} refused this client: {refusal}") from None

    # --- leaving ---

    async def leave(self, *, terminate: bool, await_io: bool, patience: float | None) -> None:
        """Release, wait for Released, end the private process."""
        self._leaving = True
        try:
            if self.ledger.scheduler is not None and not self._freed.done():
                await self._release(terminate=terminate, await_io=await_io, patience=patience)
        finally:
            if self._watcher is not None:
                self._watcher.cancel()
            if self._dialler is not None:
                self.runtime.push()
                self._dialler.stop()
            if self._private is not None:
                await self._private.close()
            if self._gone is not None:
                self._gone.cancel()
            self._tell_unread()
            self.runtime.remove(CLIENT, self)
            self.host.records = None
            await self.host.home.leave(self)

    async def _release(self, *, terminate: bool, await_io: bool, patience: float | None) -> None:
        if not terminate:
            self._send_release(terminate=False, await_io=await_io)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(patience):
                    await asyncio.shield(self._freed)
                return
        self._send_release(terminate=True, await_io=False)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SCHEDULER_GONE_AFTER if patience is None else patience):
                await asyncio.shield(self._freed)

    def _send_release(self, *, terminate: bool, await_io: bool) -> None:
        with self.runtime.lock:
            self.ledger.release(terminate=terminate, await_io=await_io)
        self.runtime.turn_soon()

    # --- tasks ---

    def submit(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        io: bool,
        node: str,
        server: int,
    ) -> Task:
        if self.ledger.over:
            raise ScheduleError(f"the cluster is gone: {self.ledger.over}")
        name = name_of(function)
        call = self.parcels.dumps_call(function, args, kwargs)
        with self.host.shield, self.runtime.lock:
            task = TaskId(self.runtime.epoch, self.host.take_number())
            record = Record(task, name, call, io=io, node=node, server=server, code=self.parcels.version())
            if self.ledger.wants_news:
                record.info = (args, kwargs)
            handle = Task._make(self.host, Address(task.owner, task.number), name, record)
            record.handle = handle
            self.ledger.submit(record)
        self.runtime.turn_soon()
        return handle

    def place(self, where: str | Location) -> tuple[str, int]:
        """What rtask_at's `where` means: (node, 0) or ("", epoch of a server)."""
        if isinstance(where, str):
            for node in self.ledger.nodes.values():
                if where in (node.addr, node.name, f"{node.addr}:{node.port}"):
                    return node.name, 0
        elif isinstance(where, Location):
            for epoch, (spot, _) in self.ledger.servers.items():
                if (spot.addr, spot.port) == where:
                    return "", epoch
            for node in self.ledger.nodes.values():
                if (node.addr, node.port) == where:
                    return node.name, 0
        else:
            raise TypeError(f"where must be a str (a node) or a Location, not {type(where).__name__}")
        nodes = (
            ", ".join(f"{node.name} ({node.addr}:{node.port})" for node in self.ledger.nodes.values())
            or "none"
        )
        servers = ", ".join(f"{spot.addr}:{spot.port}" for spot, _ in self.ledger.servers.values()) or "none"
        raise TaskRefused(f"no node or server {where} is in use; nodes: {nodes}; servers: {servers}")

    def servers_at(self, where: str | Location) -> list[int]:
        node, server = self.place(where)
        if server:
            return [server]
        return [epoch for epoch, (_, name) in self.ledger.servers.items() if name == node]

    def handle_of(self, record: Record) -> Task:
        if record.handle is None:
            record.handle = Task._make(
                self.host, Address(record.task.owner, record.task.number), record.function, record
            )
        return record.handle

    # --- host.Records ---

    def record(self, number: int) -> Record | None:
        return self.ledger.records.get(number)

    def terminate(self, record: Record) -> None:
        with self.runtime.lock:
            self.ledger.terminate(record)
        self.runtime.turn_soon()

    def pass_on(self, record: Record, envelope: Envelope) -> None:
        self.ledger.pass_on(record, envelope)

    def looked_at(self, record: Record) -> None:
        self.ledger.unread.pop(record.task.number, None)

    def _tell_unread(self) -> None:
        """Errors of tasks that nobody awaited: they must not go unheard."""
        unread = list(self.ledger.unread.values())
        self.ledger.unread.clear()
        for record in unread[:UNREAD_TOLD]:
            try:
                unpack_outcome(
                    self.parcels, record.outcome, record.text, True, record.payload, record.function
                )
            except BaseException as error:  # what the user's task raised, of whatever kind
                trace = "".join(traceback.format_exception(error.__cause__ or error)).strip()
                place = record.location
                print_output(
                    messages.Output(
                        f"{record.function} at {place}", 2, f"nobody awaited this error:\n{trace}"
                    )
                )
        if len(unread) > UNREAD_TOLD:
            self.say(f"{len(unread) - UNREAD_TOLD} more tasks raised, and nobody awaited them", "warning")

    # --- runtime.Role ---

    def on_event(self, event: Event, now: float) -> None:
        if isinstance(event, PeerReset):
            self.host.peer_gone(event.epoch, event.unconfirmed)
            if self.ledger.scheduler is not None and event.epoch == self.ledger.scheduler.epoch:
                self.ledger.scheduler_lost("the scheduler was started anew and does not know this client")
        elif isinstance(event, LinkLost) and self._is_schedulers(event.epoch):
            self.runtime.defer(self._await_link)
        elif isinstance(event, LinkReady) and self._is_another_scheduler(event):
            self.ledger.scheduler_lost("the scheduler was started anew and does not know this client")

    def _is_another_scheduler(self, event: LinkReady) -> bool:
        if event.role != "scheduler" or self.ledger.scheduler is None or self._freed.done():
            return False
        return not self._is_schedulers(event.epoch)

    def _is_schedulers(self, epoch: int) -> bool:
        return self.ledger.scheduler is not None and epoch == self.ledger.scheduler.epoch

    def _await_link(self) -> None:
        """The scheduler's link broke: it is redialled; after a while its tasks are given up."""
        if self._gone is None and not self._freed.done():
            self._gone = self.loop.call_later(SCHEDULER_GONE_AFTER, self._give_up)

    def _give_up(self) -> None:
        self._gone = None
        scheduler = self.ledger.scheduler
        if scheduler is not None and not self.runtime.is_linked(scheduler.epoch) and not self._freed.done():
            with self.runtime.lock:
                self.ledger.scheduler_lost(f"no link to the scheduler for {SCHEDULER_GONE_AFTER:g} s")
            self.runtime.turn_soon()

    def carry_out(self, effect: object, now: float) -> None:
        if type(effect) is Resolve:
            self._resolve(effect.record)
        elif type(effect) is Began:
            self._began(effect.record)
        elif isinstance(effect, Give):
            self._give(effect.request)
        elif isinstance(effect, Print):
            self.runtime.defer(lambda: print_output(effect.output))
        elif isinstance(effect, Say):
            self.runtime.defer(lambda: self.say(effect.text, effect.level))
        elif isinstance(effect, Forget):
            self.host.peer_gone(effect.epoch, self.runtime.router.bury(effect.epoch, now))
        elif isinstance(effect, News | Pulsed):
            self.runtime.defer(lambda: self._tell_status(effect))
        elif isinstance(effect, Scheduled):
            self.runtime.defer(lambda: _set(self._scheduled, effect.servers))
        elif isinstance(effect, Failed):
            self.runtime.defer(lambda: _fail(self._scheduled, ScheduleError(effect.reason)))
        elif isinstance(effect, Freed):
            self.runtime.defer(lambda: _set(self._freed, effect.reason))
        else:
            raise TypeError(f"no such effect: {effect!r}")

    def _resolve(self, record: Record) -> None:
        if record.when_started is not None or record.future is not None or self.ledger.wants_news:
            self.runtime.defer(lambda: self._wake(record))
        if record.outcome == OutcomeKind.LOST:
            self.runtime.defer(lambda: self.host.record_lost(record.task.number))
        record.handle = None

    def _began(self, record: Record) -> None:
        if record.when_started is not None:
            self.runtime.defer(lambda: _set(record.when_started, 0))

    def _wake(self, record: Record) -> None:
        """On the loop: whoever waits for the start or the end of it."""
        if record.when_started is not None:
            _set(record.when_started, 0)
        if record.future is not None:
            self.host.settle_record(record)
        status_task = self.client.status_task
        if status_task is not None:
            self.looked_at(record)
            handle = Task._make(
                self.host, Address(record.task.owner, record.task.number), record.function, record
            )
            self.host.tell(status_task, self._monitor_status(handle, record))

    def _monitor_status(self, handle: Task, record: Record) -> MonitorStatus:
        try:
            value = unpack_outcome(
                self.parcels, record.outcome, record.text, record.started, record.payload, record.function
            )
        except BaseException as error:  # what the user's task raised, of whatever kind
            terminated = record.outcome in (OutcomeKind.TERMINATED, OutcomeKind.CANCELLED)
            return MonitorStatus(handle, KeyboardInterrupt if terminated else type(error), str(error))
        return MonitorStatus(handle, StopIteration, value)

    def _tell_status(self, effect: News | Pulsed) -> None:
        status_task = self.client.status_task
        if status_task is None:
            return
        word: Any
        if isinstance(effect, Pulsed):
            word = avail_info(effect.node)
        elif isinstance(effect.info, Record):
            word = DispycosStatus(effect.status, task_info(self.handle_of(effect.info), effect.info.info))
        elif isinstance(effect.info, messages.NodeInfo):
            word = DispycosStatus(effect.status, node_info(effect.info))
        else:
            word = DispycosStatus(effect.status, effect.info)
        self.host.tell(status_task, word)

    # --- code and calls for servers ---

    def _give(self, request: Envelope) -> None:
        word: messages.Message
        payload: Payload = None
        if isinstance(request.message, messages.CallWanted):
            record = self.ledger.records.get(request.message.task.number)
            payload = record.call if record is not None else None
            word = messages.CallGiven("" if payload is not None else "the task has ended")
        else:
            error, payload = self.parcels.answer(request.payload)
            word = messages.CodeGiven(error)
        self.runtime.router.send(
            Envelope(request.sender, self.ledger.address, word, request.correlation, payload), 0.0
        )

    # --- words for people ---

    def say(self, text: str, level: str = "info") -> None:
        """Warnings go to the terminal, the rest to the log."""
        getattr(log, level)(text)


def print_output(output: messages.Output) -> None:
    """What a server wrote, with its name before each line."""
    stream = sys.stdout if output.stream == 1 else sys.stderr
    lines = output.text.splitlines() or [""]
    stream.write("".join(f"[{output.server}] {line}\n" for line in lines))
    stream.flush()


def _set(future: asyncio.Future[Any], value: Any) -> None:
    if not future.done():
        future.set_result(value)


def _fail(future: asyncio.Future[Any], error: DispycosError) -> None:
    if not future.done():
        future.set_exception(error)


def _look_at(future: asyncio.Future[Any]) -> None:
    """An exception that nobody awaits is no news: it was said elsewhere."""
    if not future.cancelled():
        future.exception()
