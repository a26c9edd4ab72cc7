"""One stay of a client at a scheduler, from Enlist to Released: the ledger's body (spec 6.4)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import platform
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from dispycos.errors import DispycosError, ScheduleError
from dispycos.protocol import messages
from dispycos.protocol.addresses import CLIENT, SERVER, Address
from dispycos.protocol.envelope import Envelope, Payload, buffers_of
from dispycos.protocol.messages import Allocation, ClientInfo, TaskId
from dispycos.protocol.status import OutcomeKind
from dispycos.protocol.texts import NAME_MAX, cut

from .client_role import ClientRole
from .cluster import status_word
from .connecting import Uplink
from .host.cells import TaskHost, name_of
from .host.results import unpack_outcome
from .ledger import Failed, Freed, Ledger, News, Print, Pulsed, Record, Room, Say, Scheduled, scheduler_of
from .logs import LevelWatch
from .parcels import ClientParcels
from .task import Location, MonitorStatus, Task
from .telling import Stream, print_errors, print_output, say, tell_unread

RELEASED_AFTER_S = 10.0  # for Released, once the tasks were told to end


class Wishes(NamedTuple):
    """What a client wants of its cluster, as it tells the scheduler."""

    name: str
    allocations: list[Allocation]
    pulse_interval: float
    restart_servers: bool
    abandon_zombies: bool


class Seat(ClientRole):
    """The ledger's body: hands tasks in, and completes what their handles wait for."""

    host: TaskHost

    def __init__(self, host: TaskHost, parcels: ClientParcels, status_task: Task | None) -> None:
        super().__init__(host.runtime, host, Ledger(host.runtime.address(CLIENT)))
        self.loop = host.loop
        self.parcels = parcels
        self.status_task = status_task
        if host.records is not None:
            raise ScheduleError("another Client of this event loop has the cluster: close it first")
        self.ledger.wants_news = status_task is not None
        self.runtime.attach(CLIENT, self)
        host.records = self
        host.parcels = self.parcels
        host.home.enter(self)
        self._uplink: Uplink | None = None
        self._scheduled: asyncio.Future[int] = self.loop.create_future()
        self._freed: asyncio.Future[str] = self.loop.create_future()
        self._given_back: asyncio.Future[str] = self.loop.create_future()  # to a scheduler that was given up
        self._room = asyncio.Event()
        self._out, self._err = Stream("stdout"), Stream("stderr")
        self._levels = LevelWatch()
        for future in (self._scheduled, self._freed, self._given_back):
            future.add_done_callback(_look_at)

    # --- getting the cluster ---

    async def take(self, location: str | Location | None, wishes: Wishes, secret_file: Path | None) -> None:
        """Find a scheduler, enlist, wait for the servers."""
        self._uplink = Uplink(self.runtime, secret_file, on_end=self.lose)
        epoch = await self._uplink.reach(location, wishes.allocations)
        python = (sys.version_info[0], sys.version_info[1])
        info = ClientInfo(
            cut(wishes.name, NAME_MAX), platform.node(), os.getpid(), python, self.host.home.ipc
        )
        with self.runtime.lock:
            word = messages.Enlist(
                info,
                wishes.allocations,
                wishes.pulse_interval,
                wishes.restart_servers,
                wishes.abandon_zombies,
            )
            self.ledger.enlist(scheduler_of(epoch), word, self.runtime.clock())
        self.runtime.turn_soon()
        await self._scheduled

    # --- leaving ---

    async def leave(self, *, terminate: bool, await_io: bool, patience: float | None) -> None:
        """Release, wait for Released, end the private process."""
        try:
            scheduler = self.ledger.scheduler
            if scheduler is not None and not self.is_freed:
                await self._release(terminate=terminate, await_io=await_io, patience=patience)
            elif scheduler is not None and self.gave_up and self.runtime.is_linked(scheduler.epoch):
                await self._wait(self._given_back, patience)  # else it turns this process's next client away
        finally:
            if self.ledger.scheduler is not None:
                self.lose("the client left, and its scheduler did not answer")
            if self._uplink is not None:
                await self._uplink.close()
            if self._gone is not None:
                self._gone.cancel()
            tell_unread(self._err, self.parcels, list(self.ledger.unread.values()))
            self.ledger.unread.clear()
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
        await self._wait(self._freed, patience)

    async def _wait(self, answer: asyncio.Future[str], patience: float | None) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(RELEASED_AFTER_S if patience is None else patience):
                await asyncio.shield(answer)

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
            handle = self._make_handle(record)
            record.handle = handle
            self.ledger.submit(record)
            levels = self._levels.news(self.loop.time())
            if levels is not None:
                self._send_levels(levels)
        self.host.note_caller()
        self.runtime.turn_soon()
        return handle

    def _send_levels(self, levels: bytes) -> None:
        for epoch in self.ledger.servers:
            to = Address(epoch, SERVER)
            self.runtime.send(Envelope(to, self.ledger.address, messages.Levels(), 0, levels))

    async def wait_backlog(self, at_most: int) -> None:
        """Until no more tasks than that wait here for the scheduler's credit."""
        while self.ledger.backlog() > at_most:
            self._room.clear()
            self.ledger.ask_for_room(at_most)
            self.runtime.turn_soon()  # it may have fallen since it was looked at, in another thread's turn
            await self._room.wait()

    def handle_of(self, record: Record) -> Task:
        if record.handle is None:
            record.handle = self._make_handle(record)
        return record.handle

    def _make_handle(self, record: Record) -> Task:
        home = Address(record.task.owner, record.task.number)
        return Task._make(self.host, home, record.function, record)

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

    # --- ClientRole: within a turn ---

    def resolved(self, record: Record) -> None:
        if record.when_started is not None or record.future is not None or self.ledger.wants_news:
            self.runtime.defer(lambda: self._wake(record))
        record.handle = None

    def began(self, record: Record) -> None:
        if record.when_started is not None:
            self.runtime.defer(lambda: _set(record.when_started, 0))

    def code_for(self, request: Payload) -> tuple[str, Payload]:
        return self.parcels.answer(request)

    # --- on the loop ---

    def tell(self, effect: object) -> None:
        """Where the caller's context decides what sys.stdout is, as in a notebook, it is that of whoever used us last."""
        self.host.caller.copy().run(self._tell, effect)

    def _tell(self, effect: object) -> None:
        if isinstance(effect, Print):
            text = b"".join(buffers_of(effect.text)).decode("utf-8", "replace")
            if effect.output.stream == 1:
                print_output(self._out, effect.output.server, text)
            else:
                print_errors(self._err, effect.output.server, text)
        elif isinstance(effect, Say):
            say(effect.text, effect.level)
        elif isinstance(effect, News | Pulsed):
            if self.status_task is not None:
                self.host.tell(self.status_task, status_word(effect, self.handle_of))
        elif isinstance(effect, Room):
            self._room.set()
        elif isinstance(effect, Scheduled):
            _set(self._scheduled, effect.servers)
        elif isinstance(effect, Failed):
            _fail(self._scheduled, ScheduleError(effect.reason))
        elif isinstance(effect, Freed):
            _set(self._given_back if self._freed.done() else self._freed, effect.reason)

    def _wake(self, record: Record) -> None:
        """Whoever waits for the start or the end of it."""
        if record.when_started is not None:
            _set(record.when_started, 0)
        if record.future is not None:
            self.host.settle_record(record)
        if self.status_task is not None:
            self.looked_at(record)
            self.host.tell(self.status_task, self._monitor_status(record))

    def _monitor_status(self, record: Record) -> MonitorStatus:
        handle = self._make_handle(record)
        try:
            value = unpack_outcome(
                self.parcels, record.outcome, record.text, record.started, record.payload, record.function
            )
        except BaseException as error:  # what the user's task raised, of whatever kind
            terminated = record.outcome in (OutcomeKind.TERMINATED, OutcomeKind.CANCELLED)
            return MonitorStatus(handle, KeyboardInterrupt if terminated else type(error), str(error))
        return MonitorStatus(handle, StopIteration, value)


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
