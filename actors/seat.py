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
from dispycos.links import LinkLost, LinkReady
from dispycos.protocol import messages
from dispycos.protocol.addresses import CLIENT, Address
from dispycos.protocol.envelope import Envelope, Payload
from dispycos.protocol.messages import Allocation, ClientInfo, TaskId
from dispycos.protocol.status import OutcomeKind
from dispycos.router import Event
from dispycos.runtime import Runtime
from dispycos.session import PeerReset

from .cluster import status_word
from .connecting import Uplink
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
    Room,
    Say,
    Scheduled,
    scheduler_of,
)
from .parcels import ClientParcels
from .task import Location, MonitorStatus, Task
from .telling import print_output, say, tell_unread

SCHEDULER_GONE_AFTER = 10.0  # seconds without a link until its tasks are given up


class Wishes(NamedTuple):
    """What a client wants of its cluster, as it tells the scheduler."""

    name: str
    allocations: list[Allocation]
    pulse_interval: float
    restart_servers: bool
    abandon_zombies: bool


class Seat:
    """The ledger's body: hands tasks in, hears of links and of the ledger's effects, completes what handles wait for."""

    def __init__(self, host: TaskHost, parcels: ClientParcels, status_task: Task | None) -> None:
        self.host = host
        self.runtime: Runtime = host.runtime
        self.loop = host.loop
        self.parcels = parcels
        self.status_task = status_task
        if host.records is not None:
            raise ScheduleError("another Client of this event loop has the cluster: close it first")
        self.ledger = Ledger(self.runtime.address(CLIENT))
        self.ledger.wants_news = status_task is not None
        self.machine = self.ledger
        self.runtime.attach(CLIENT, self)
        host.records = self
        host.parcels = self.parcels
        host.home.enter(self)
        self._uplink: Uplink | None = None
        self._scheduled: asyncio.Future[int] = self.loop.create_future()
        self._freed: asyncio.Future[str] = self.loop.create_future()
        self._gone: asyncio.TimerHandle | None = None
        self._room = asyncio.Event()
        for future in (self._scheduled, self._freed):
            future.add_done_callback(_look_at)

    # --- getting the cluster ---

    async def take(self, location: str | Location | None, wishes: Wishes, secret_file: Path | None) -> None:
        """Find a scheduler, enlist, wait for the servers."""
        self._uplink = Uplink(self.runtime, secret_file, on_end=self._lose)
        epoch = await self._uplink.reach(location, wishes.allocations)
        info = ClientInfo(
            wishes.name, platform.node(), os.getpid(), (sys.version_info[0], sys.version_info[1])
        )
        with self.runtime.lock:
            word = messages.Enlist(
                info,
                wishes.allocations,
                wishes.pulse_interval,
                wishes.restart_servers,
                wishes.abandon_zombies,
            )
            self.ledger.enlist(scheduler_of(epoch), word, self.loop.time())
        self.runtime.turn_soon()
        await self._scheduled

    # --- leaving ---

    async def leave(self, *, terminate: bool, await_io: bool, patience: float | None) -> None:
        """Release, wait for Released, end the private process."""
        try:
            if self.ledger.scheduler is not None and not self._freed.done():
                await self._release(terminate=terminate, await_io=await_io, patience=patience)
        finally:
            if self.ledger.scheduler is not None:
                self._lose("the client left, and its scheduler did not answer")
            if self._uplink is not None:
                await self._uplink.close()
            if self._gone is not None:
                self._gone.cancel()
            tell_unread(self.parcels, list(self.ledger.unread.values()))
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
            handle = self._make_handle(record)
            record.handle = handle
            self.ledger.submit(record)
        self.runtime.turn_soon()
        return handle

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

    # --- runtime.Role: links ---

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
        if scheduler is not None and not self.runtime.is_linked(scheduler.epoch):
            self._lose(f"no link to the scheduler for {SCHEDULER_GONE_AFTER:g} s")

    def _lose(self, reason: str) -> None:
        """On the loop: without its scheduler a client has nothing."""
        if not self._freed.done():
            with self.runtime.lock:
                self.ledger.scheduler_lost(reason)
            self.runtime.turn_soon()

    # --- runtime.Role: what the ledger wants ---

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
            self.runtime.defer(lambda: say(effect.text, effect.level))
        elif isinstance(effect, Forget):
            self.host.peer_gone(effect.epoch, self.runtime.router.bury(effect.epoch, now))
        elif isinstance(effect, Room):
            self.runtime.defer(self._room.set)
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

    def _give(self, request: Envelope) -> None:
        """Code and large calls, for servers."""
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

    # --- on the loop ---

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

    def _tell_status(self, effect: News | Pulsed) -> None:
        if self.status_task is not None:
            self.host.tell(self.status_task, status_word(effect, self.handle_of))


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
