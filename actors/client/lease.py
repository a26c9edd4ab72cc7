"""A client's lease, from Enlist to Released: the ledger's body (spec 6.4)."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import platform
from collections.abc import Awaitable, Callable, Iterator
from contextvars import copy_context
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from dispycos.errors import DispycosError, ScheduleError, TaskLost
from dispycos.notices import NAMED_MAX, PATIENCE_S, listing, next_pause
from dispycos.protocol import messages
from dispycos.protocol.addresses import CLIENT, SERVER, Address, Location
from dispycos.protocol.envelope import Envelope, Payload, buffers_of
from dispycos.protocol.messages import Allocation, ClientInfo, Marks, TaskId
from dispycos.protocol.status import OutcomeKind
from dispycos.protocol.texts import NAME_MAX, cut
from dispycos.version import PYTHON

from ..dispatching.facts import Entry
from ..shipping.pickling import kept_as_it_is
from ..tasks.calling import name_of
from ..tasks.handle import Task
from ..tasks.handles import monitor_status
from ..tasks.host import TaskHost
from ..tasks.logs import LevelWatch
from ..tasks.streams import Stream, say
from .code import ClientPayloads
from .connect import Uplink
from .effects import Failed, Freed, News, Print, Pulsed, Room, Say, Scheduled
from .ledger import Ledger
from .local import GOODBYE_S, Home
from .nearby import NearbyServers
from .output import print_errors, print_output, tell_unread
from .standing import scheduler_of
from .status import status_word
from .turn import ClientRole

RELEASED_AFTER_S = 10.0  # for Released, once the tasks were told to end
ASKED_MAX = 1000  # tasks that are asked whether they wait for a message
ANSWER_S = 1.0


class Wishes(NamedTuple):
    """What a client wants of its cluster, as it tells the scheduler."""

    name: str
    allocations: list[Allocation]
    pulse_interval: float
    abandon_zombies: bool


class ClientLease(ClientRole):
    """The ledger's body: hands tasks in, and completes what their handles wait for.

    From schedule() on it stands in the line of its loop's clients: first come, first served. It does not know its Client, so
    that one can be collected which nobody refers to.
    """

    host: TaskHost

    def __init__(
        self, home: Home, payloads: ClientPayloads, status_task: Task | None, wishes: Wishes, title: str
    ) -> None:
        super().__init__(home.runtime, home.host, Ledger(home.runtime.address(CLIENT)))
        self.home = home
        self.loop = home.runtime.loop
        self.payloads = payloads
        self.status_task = status_task
        self.wishes = wishes
        self.title = title  # for people: which of the program's clients it is
        self.is_open = False  # it has the cluster, and nobody has said that it should go
        self.is_forsaken = False  # nobody refers to its client
        self.lost: list[Entry] = []  # tasks of which it has to be said that they were lost; known at the end
        self.ledger.wants_news = status_task is not None
        self._uplink: Uplink | None = None
        self._ending: asyncio.Task[None] | None = None
        self._awaits_io = False
        self._ended_before = 0  # tasks that had ended when its private scheduler last died
        self.scheduled: asyncio.Future[int] = self.loop.create_future()
        self.left: asyncio.Future[None] = self.loop.create_future()  # the next in line may go on
        self._freed: asyncio.Future[str] = self.loop.create_future()
        self._hurried: asyncio.Future[None] = self.loop.create_future()
        self._room = asyncio.Event()
        self.scheduled.add_done_callback(_look_at)
        home.enter(self)
        self._out, self._err = Stream("stdout"), Stream("stderr")
        self._levels = LevelWatch()
        self._nearby = NearbyServers(self.runtime, self._server_ended)

    # --- getting the cluster ---

    async def take(self, location: str | Location | None, secret_file: Path | None) -> None:
        """Wait in line, find a scheduler, enlist, wait for the servers."""
        await self._wait_in_line()
        self._sit_down()
        self._uplink = Uplink(
            self.runtime, secret_file, on_death=self._private_died, on_end=self.private_ended
        )
        wishes = self.wishes
        epoch = await self._uplink.reach(location, wishes.allocations)
        info = ClientInfo(
            cut(wishes.name, NAME_MAX), platform.node(), os.getpid(), PYTHON, self.host.home.ipc
        )
        with self.runtime.lock:
            word = messages.Enlist(
                info,
                wishes.allocations,
                wishes.pulse_interval,
                wishes.abandon_zombies,
            )
            self.ledger.standing.enlist(scheduler_of(epoch), word, self.runtime.clock())
        self.runtime.turn_soon()
        await asyncio.shield(self.scheduled)
        self.is_open = True

    async def _wait_in_line(self) -> None:
        if len(self.home.ahead_of(self)) == 1:
            gc.collect()  # of a client that has the cluster perhaps only a cycle is left, as an error with its traceback makes one
        while ahead := self.home.ahead_of(self):
            if ahead[0].is_forsaken:
                ahead[0].make_way()
            with telling(self.loop, self._tell_of_line):
                await asyncio.wait([ahead[-1].left])

    async def _tell_of_line(self) -> None:
        ahead = self.home.ahead_of(self)
        if not ahead:
            return
        has_it = "is being closed" if ahead[0].is_leaving else "has it: close that one first"
        say(
            f"waiting for the cluster: another Client of this very program, {ahead[0].title}, {has_it}; "
            f"place {len(ahead)} in the line",
            "warning",
        )

    def _sit_down(self) -> None:
        self.host.payloads = self.payloads
        self.host.records = self
        self.runtime.attach(CLIENT, self)
        self.home.directory.machine.cluster = self.ledger

    # --- leaving ---

    @property
    def is_leaving(self) -> bool:
        return self._ending is not None

    def leave(
        self, *, terminate: bool, await_io: bool = False, patience: float | None = None
    ) -> asyncio.Task[None]:
        """Give the cluster back. What can be done at once is done when this returns.

        The Task is the rest: it waits for Released, `patience` seconds and then, with all tasks told to end, as long again.
        It goes on when nobody waits for it any more, and ends soon when it is cancelled, as at the end of its loop.
        """
        self.is_open = False
        if self._ending is None:
            self._awaits_io = await_io
            _fail(self.scheduled, ScheduleError("the client was closed before it had the cluster"))
            if terminate:
                self.hurry()
            else:
                self._release(terminate=False)
            self._ending = self._begin_end(patience)
        elif terminate:
            self.hurry()
        return self._ending

    def _begin_end(self, patience: float | None) -> asyncio.Task[None]:
        ending = asyncio.Task(self._end(patience), loop=self.loop)
        ending.add_done_callback(partial(self._see_end, patience))
        return ending

    def _see_end(self, patience: float | None, ending: asyncio.Task[None]) -> None:
        """A Task that is cancelled before its first step takes none: of all Tasks of the loop, at its end."""
        if ending.cancelled() and not self.left.done():
            self._ending = self._begin_end(patience)

    def hurry(self) -> None:
        """The tasks are told to end, and none is waited for."""
        if not self._hurried.done():
            self._hurried.set_result(None)
            self._release(terminate=True)

    def _release(self, *, terminate: bool) -> None:
        if self._has_lease():
            with self.runtime.lock:
                self.ledger.standing.release(terminate=terminate, await_io=self._awaits_io and not terminate)
            self.runtime.turn_soon()

    def _has_lease(self) -> bool:
        """Or waits for it, in the scheduler's queue."""
        return self.ledger.scheduler is not None and not self.is_freed

    def forsake_soon(self) -> None:
        """Nobody refers to its client any more. From any thread, and wherever the garbage collector comes by."""
        if self._ending is None and not self.runtime.is_parents:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self.loop.call_soon_threadsafe(self._forsake)

    def _forsake(self) -> None:
        """As a close() for which nobody waits: handles that are kept get their values, unless another Client waits."""
        self.is_forsaken = True
        self.leave(terminate=False)
        if self.home.has_line():
            self.make_way()

    def make_way(self) -> None:
        if self.ledger.records and not self._hurried.done():
            tasks = listing(record.function for record in self.ledger.records.values())
            say(
                f"{self.title} is not referred to any more, and another Client waits for the cluster: it is closed, "
                f"which ends {tasks}",
                "warning",
            )
        self.hurry()

    async def _end(self, patience: float | None) -> None:
        try:
            await self._await_release(patience)
        except asyncio.CancelledError:
            self.hurry()
            if self._has_lease():
                await asyncio.wait([self._freed], timeout=GOODBYE_S)
        finally:
            self._stand_up()
            try:
                if self._uplink is not None:
                    await self._uplink.close()
            finally:
                _set(self.left, None)
                self.home.leave(self)

    async def _await_release(self, patience: float | None) -> None:
        if not self._has_lease():
            return
        if not self._hurried.done():
            with telling(self.loop, self._tell_who_waits):
                ends = (self._freed, self._hurried)
                await asyncio.wait(ends, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
        if self._freed.done():
            return
        self.hurry()
        await asyncio.wait([self._freed], timeout=_limit(patience))

    def vanish(self) -> None:
        """Give the cluster back without a word from it: the loop is closed."""
        self.is_open = False
        self._release(terminate=True)
        self._stand_up()
        self.home.leave(self)

    def _stand_up(self) -> None:
        if self.host.records is not self:
            return  # it was still in line
        if self.ledger.scheduler is not None:
            self.lose("the client left, and its scheduler did not answer")
        if self._uplink is not None:
            self._uplink.drop()
        self._tell_unread()
        self._nearby.close()
        self.runtime.remove(CLIENT, self)
        self.home.directory.machine.cluster = None
        self.host.records = None

    # --- words about its tasks ---

    async def _tell_who_waits(self) -> None:
        """Of the tasks that are waited for: those that wait for a message may do so for ever."""
        with self.runtime.lock:
            self.ledger.tasks.say_what_close_waits_for()
        self.runtime.turn_soon()
        records = [
            record
            for record in list(self.ledger.records.values())
            if record.address is not None and (self._awaits_io or not record.io)
        ][:ASKED_MAX]
        answers = await asyncio.gather(*(self._awaits_message(record.address) for record in records))
        waiting = [record for record, waits in zip(records, answers, strict=True) if waits]
        if not waiting:
            return
        names = [f"{record.function} at {self._server_of(record)}" for record in waiting[:NAMED_MAX]]
        more = f" and {len(waiting) - NAMED_MAX} more" if len(waiting) > NAMED_MAX else ""
        what = f"{self.title}, to which nobody refers any more," if self.is_forsaken else "close()"
        say(
            f"{what} waits for {', '.join(names)}{more}, waiting in receive() for a message: "
            "send them what ends them, terminate() them, or use close(terminate=True)",
            "warning",
        )

    async def _awaits_message(self, task: Address | None) -> bool:
        assert task is not None
        try:
            answer = await self.host.call(task, messages.AwaitsMessage(), None, ANSWER_S)
        except TimeoutError:
            return False
        return answer is not None and bool(answer.message.code)

    def _server_of(self, record: Entry) -> str:
        spot, _ = self.ledger.servers.get(record.address.epoch if record.address else 0, (None, 0))
        return spot.name if spot is not None else str(record.location)

    def _tell_unread(self) -> None:
        """Of those that were lost nobody hears if close() is not awaited, or an exception is under way; see `take_lost`."""
        unread, self.ledger.tasks.unread = list(self.ledger.tasks.unread.values()), {}
        tell_unread(
            self._err, self.payloads, [record for record in unread if record.outcome == OutcomeKind.RAISED]
        )
        self.lost = [record for record in unread if record.outcome != OutcomeKind.RAISED]
        if self.lost and (self._hurried.done() or self.is_forsaken):
            say(str(self.take_lost()), "warning")

    def take_lost(self) -> TaskLost | None:
        """What close() raises, once."""
        lost, self.lost = self.lost, []
        if not lost:
            return None
        is_or_are = "was" if len(lost) == 1 else "were"
        what = "lost" if any(record.outcome == OutcomeKind.LOST for record in lost) else "refused"
        reasons = list(dict.fromkeys(record.text for record in lost))
        more = f"; and {len(reasons) - NAMED_MAX} other reasons" if len(reasons) > NAMED_MAX else ""
        return TaskLost(
            f"{listing(record.function for record in lost)} that nobody awaited {is_or_are} {what}: "
            f"{'; '.join(reasons[:NAMED_MAX])}{more}",
            started=any(record.started for record in lost),
        )

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
        alone: bool = False,
        retries: int = 0,
    ) -> Task:
        if self.ledger.over:
            raise ScheduleError(f"the cluster is gone: {self.ledger.over}")
        name = name_of(function)
        call = self.payloads.dumps_call(function, name, args, kwargs)
        if type(call) is not bytes:
            call = kept_as_it_is(call, whole=retries > 0)
        with self.host.shield, self.runtime.lock:
            task = TaskId(self.runtime.epoch, self.host.take_number())
            record = Entry(
                name,
                task=task,
                call=call,
                io=io,
                node=node,
                server=server,
                alone=alone,
                retries=retries,
                code=self.payloads.version(),
            )
            if self.ledger.wants_news:
                record.info = (args, kwargs)
            handle = self._make_handle(record)
            record.handle = handle
            self.ledger.tasks.submit(record)
            if logging.root.level != self._levels.root or not self.runtime.turn_due:  # the first of a burst
                self._send_levels()
            self.runtime.leave()
        self.host.caller = copy_context()
        return handle

    def _send_levels(self) -> None:
        levels = self._levels.news(self.runtime.clock())
        for epoch in self.ledger.servers if levels is not None else ():
            to = Address(epoch, SERVER)
            self.runtime.send(Envelope(to, self.ledger.address, messages.Levels(), 0, levels))

    async def wait_backlog(self, at_most: int) -> None:
        """Until no more tasks than that wait here for a server."""
        while self.ledger.tasks.backlog() > at_most:
            self._room.clear()
            self.ledger.tasks.ask_for_room(at_most)
            self.runtime.turn_soon()  # it may have fallen since it was looked at, in another thread's turn
            await self._room.wait()

    def handle_of(self, record: Entry) -> Task:
        handle: Task | None = record.handle
        if handle is None:
            handle = record.handle = self._make_handle(record)
        return handle

    def _make_handle(self, record: Entry) -> Task:
        return Task.__new__(Task)._bind(self.host, None, record.function, record)

    # --- correspondence.Records ---

    client = None  # a program uses its Client itself

    @property
    def owner(self) -> int:
        return self.runtime.epoch

    def hold(self, envelope: Envelope) -> bool:
        return self.ledger.tasks.submitters.hold(envelope)

    def record(self, number: int) -> Entry | None:
        return self.ledger.records.get(number)

    def terminate(self, record: Entry) -> None:
        with self.runtime.lock:
            self.ledger.tasks.terminate(record, self.runtime.clock())
        self.runtime.turn_soon()

    def pass_on(self, record: Entry, envelope: Envelope) -> None:
        self.ledger.tasks.pass_on(record, envelope)

    def looked_at(self, record: Entry) -> None:
        self.ledger.tasks.unread.pop(record.task.number, None)

    # --- ClientRole: within a turn ---

    def resolved(self, record: Entry) -> None:
        if record.when_started is not None or record.future is not None or self.ledger.wants_news:
            self.runtime.defer(lambda: self._wake(record))
        record.handle = None

    def began(self, record: Entry) -> None:
        if record.when_started is not None:
            self.runtime.defer(lambda: _set(record.when_started, 0))

    def code_for(self, request: Payload) -> tuple[str, Payload]:
        return self.payloads.answer(request)

    def watch_nearby(self, epoch: int, link: int) -> None:
        self.runtime.defer(partial(self._watch, epoch, self.runtime.mailbox.pid_of(link)))

    def forget_nearby(self, epoch: int) -> None:
        self.runtime.defer(partial(self._nearby.forget, epoch))

    # --- on the loop ---

    def _watch(self, epoch: int, pid: int) -> None:
        if not self.is_freed and self._nearby.watch(epoch, pid):
            with self.runtime.lock:
                self.ledger.members.server_nearby(epoch)

    def _private_died(self) -> bool:
        """Whether a task has ended since the last one died."""
        before, self._ended_before = self._ended_before, self.ledger.tasks.ended
        if self.ledger.scheduler is not None and not self.is_freed:
            with self.runtime.lock:
                self.ledger.members.private_died(self.runtime.clock())
            self.runtime.turn_soon()
        return self._ended_before > before

    def _server_ended(self, epoch: int, marks: Marks) -> None:
        with self.runtime.lock:
            self.ledger.members.server_ended(epoch, marks, self.runtime.clock())
        self.runtime.turn_soon()

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
            _set(self.scheduled, effect.servers)
        elif isinstance(effect, Failed):
            _fail(self.scheduled, ScheduleError(effect.reason))
        elif isinstance(effect, Freed):
            _set(self._freed, effect.reason)

    def _wake(self, record: Entry) -> None:
        """Whoever waits for the start or the end of it."""
        if record.when_started is not None:
            _set(record.when_started, 0)
        if record.future is not None:
            self.host.settle(record)
        if self.status_task is not None:
            self.looked_at(record)
            status = monitor_status(self.payloads, self._make_handle(record), record)
            self.host.tell(self.status_task, status)


@contextlib.contextmanager
def telling(loop: asyncio.AbstractEventLoop, tell: Callable[[], Awaitable[None]]) -> Iterator[None]:
    """Nobody waits in silence: while the block lasts `tell` is called after 3 s, then at growing intervals."""

    async def tell_again() -> None:
        pause = PATIENCE_S
        while True:
            await asyncio.sleep(pause)
            await tell()
            pause = next_pause(pause)

    teller = asyncio.Task(tell_again(), loop=loop)
    try:
        yield
    finally:
        teller.cancel()


def _limit(patience: float | None) -> float:
    return RELEASED_AFTER_S if patience is None else patience


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
