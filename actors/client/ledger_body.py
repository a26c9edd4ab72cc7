"""The ledger's body: hands tasks in, and completes what their handles wait for."""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from functools import partial
from typing import Any, TypeVar

from dispycos.errors import MailboxFull, ScheduleError, TaskRefused, TaskTerminated
from dispycos.protocol import messages
from dispycos.protocol.addresses import CLIENT, SERVER, Address
from dispycos.protocol.envelope import Envelope, Payload, buffers_of, bytes_of
from dispycos.protocol.messages import Marks, TaskId

from ..dispatching.facts import Entry
from ..shipping.pickling import kept_as_it_is
from ..tasks.calling import may_receive, name_of, receives
from ..tasks.cell import Cell
from ..tasks.ends import without_our_frames
from ..tasks.handle import Handle
from ..tasks.handles import monitor_status
from ..tasks.host import TaskHost
from ..tasks.logs import LevelWatch
from ..tasks.options import Options
from ..tasks.passing import has_handles, marked
from ..tasks.record import Record
from ..tasks.streams import Stream, say
from ..tasks.submitting import Task
from ..tasks.waiting import complete, fail
from .code import ClientPayloads
from .effects import Choose, Failed, Freed, GiveSetup, News, Print, Pulsed, Room, Say, Scheduled
from .ledger import Ledger
from .local import Home
from .nearby import NearbyServers
from .output import print_errors, print_output
from .places import find_place
from .repeats import LARGE, Repeats
from .status import status_word
from .turn import ClientRole

BURST_S = 0.002
TaskT = TypeVar("TaskT", bound=Task)

LOCAL_TOLD_MAX = 256  # local tasks of which those who look are told


class LedgerBody(ClientRole):
    host: TaskHost
    choose: Callable[[messages.Offer], None]  # by the program's own allocate(), which is the user's code

    def __init__(self, home: Home, payloads: ClientPayloads, status_task: Task | None) -> None:
        super().__init__(home.runtime, home.host, Ledger(home.runtime.address(CLIENT)))
        self.ledger.watching.peers = home.runtime.router.peers
        self.ledger.watching.actors = self._local_tasks
        self.loop = home.runtime.loop
        self.payloads = payloads
        self.status_task = status_task
        self._status_is_full = False
        if status_task is not None:
            status_task.add_done_callback(self._status_task_ended)
        self.ledger.wants_news = status_task is not None
        self.on_news: Callable[[News | Pulsed], None] | None = None  # as a status_task, without its messages
        self.owner = self.runtime.epoch
        self.record = self.ledger.records.get
        self.hold = self.ledger.tasks.submitters.hold
        self.pass_on = self.ledger.tasks.pass_on
        self.code_for = payloads.answer
        self.scheduled: asyncio.Future[None] = self.loop.create_future()
        self.scheduled.add_done_callback(_look_at)
        self.freed: asyncio.Future[None] = self.loop.create_future()
        self._burst_at = 0.0  # when the first of a burst of tasks was submitted: one object for all of them
        self._room = asyncio.Event()
        self._out, self._err = Stream("stdout"), Stream("stderr")
        self._levels = LevelWatch()
        self._nearby = NearbyServers(self.runtime, self._server_ended)
        self.repeats = Repeats()

    @contextmanager
    def changing(self) -> Iterator[Ledger]:
        """For who changes it outside of a turn, which follows; in a step of the user's, too."""
        with self.host.shield, self.runtime.lock:
            yield self.ledger
            self.runtime.turn_soon()

    # --- tasks ---

    def submit(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], options: Options
    ) -> Task:
        handle, values = self.prepare(self.host.task_class, function, args, kwargs, options)
        self.enter(handle._source, values)
        self.host.caller = copy_context()
        return handle

    def prepare(
        self,
        kind: type[TaskT],
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        options: Options,
    ) -> tuple[TaskT, list[Record] | None]:
        """A handle of this kind, of a task that is pickled and yet to be entered. From any thread: the user's code runs in here."""
        if self.ledger.over:
            raise ScheduleError(f"the cluster is gone: {self.ledger.over}")
        node, server = "", 0
        if options.where is not None:
            node, server = find_place(options.where, self.ledger.nodes, self.ledger.servers)
        name, info, values = name_of(function), (args, kwargs), None
        if has_handles(args, kwargs):
            args, kwargs, handles = marked(args, kwargs)
            values = [self._record_of(handle, name) for handle in handles]
        call = self.payloads.dumps_call(function, name, args, kwargs)
        if type(call) is not bytes:
            call = kept_as_it_is(call, whole=options.retries > 0)
        size = bytes_of(call)
        if size >= LARGE:
            self._tell_if_repeated(name, self.repeats.saw(function, args, kwargs, size))
        if (now := self.runtime.clock()) - self._burst_at > BURST_S:
            self._burst_at = now
        record = Entry(
            name,
            task=TaskId(self.runtime.epoch, self.host.take_number()),
            call=call,
            io=options.io,
            node=node,
            server=server,
            alone=options.alone,
            receives=receives(function),
            may_receive=may_receive(function),
            retries=options.retries,
            timeout=options.timeout,
            priority=options.priority,
            needs=options.resources,
            code=self.payloads.version(),
            submitted=self._burst_at,
        )
        if self.ledger.wants_news:
            record.info = info
        handle = kind.__new__(kind)._bind(self.host, None, name, record)
        record.handle = handle
        return handle, values

    def _tell_if_repeated(self, name: str, found: tuple[int, int] | None) -> None:
        if found is not None:
            size, count = found
            say(
                f"{name}: the same argument of {size >> 20:,} MiB went with {count} calls so far, each time anew; a global of the "
                f"program that the function names, or a variable of a function around it, is sent to each server once",
                "warning",
            )

    def enter(self, record: Any, values: list[Record] | None) -> None:
        """What was prepared is the ledger's from now on."""
        with self.host.shield, self.runtime.lock:
            self.ledger.tasks.submit(record, values)
            if logging.root.level != self._levels.root or not self.runtime.turn_due:  # the first of a burst
                self._send_levels()
            self.runtime.leave()

    def _record_of(self, handle: Handle[Any], name: str) -> Record:
        """Of the task whose value is an argument. Raises TaskRefused."""
        number, source = handle.home.actor, handle._source
        known: Record | None = self.ledger.records.get(number) if handle.home.epoch == self.owner else None
        if isinstance(source, Record) and (source.ended or source.task.owner == self.owner):
            return source  # ended, perhaps just now: the value is here, whoever asked for it; or prepared, and entered before us
        if known is None:
            why = "its value is not here" if source is None else "it is of another Client"
            raise TaskRefused(
                f"{name} cannot wait for the value of {handle.name}: {why}; await it where it was submitted, and pass on the "
                f"value, or pass the handle itself in a list"
            )
        return known

    def _send_levels(self) -> None:
        levels = self._levels.news(self.runtime.clock())
        for epoch in self.ledger.servers if levels is not None else ():
            to = Address(epoch, SERVER)
            self.runtime.send(Envelope(to, self.ledger.address, messages.Levels(), 0, levels))

    async def wait_backlog(self, at_most: int) -> None:
        """Until no more tasks than that wait here for a server."""
        while self.ledger.tasks.waiting > at_most:
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
        return self.host.new_handle()._bind(self.host, None, record.function, record)

    def _local_tasks(self) -> list[messages.TaskReport]:
        """Of this process, for who looks at mailboxes."""
        cells = [cell for cell in list(self.host.cells.values()) if isinstance(cell, Cell) and not cell.ended]
        return [
            messages.TaskReport(
                cell.name,
                self.runtime.epoch,
                cell.actor,
                1,
                True,
                "running",
                0.0,
                cell.actor,
                messages=len(cell.inbox),
                taken=cell.taken_count,
                names=list(cell.names),
            )
            for cell in cells[:LOCAL_TOLD_MAX]
        ]

    # --- correspondence.Records ---

    client = None  # a program uses its Client itself

    def terminate(self, record: Entry) -> None:
        with self.changing() as ledger:
            ledger.tasks.terminate(record, self.runtime.clock())

    def kill_servers_of(self, handles: Iterable[Task]) -> None:
        """Of those that have such a task. What else they had begun is lost with them, the rest goes elsewhere."""
        with self.changing() as ledger:
            for handle in handles:
                if isinstance(handle._source, Entry):
                    ledger.tasks.kill_server_of(handle._source)

    def looked_at(self, record: Entry) -> None:
        self.ledger.tasks.looked_at(record)

    # --- ClientRole: within a turn ---

    def resolved(self, record: Entry) -> None:
        if record.when_started is not None or record.future is not None or self.ledger.wants_news:
            self.runtime.defer(lambda: self._wake(record))
        record.handle = None

    def began(self, record: Entry) -> None:
        if record.when_started is not None:
            self.runtime.defer(lambda: complete(record.when_started, 0))

    def setup_for(self, effect: GiveSetup) -> tuple[str, Payload]:
        request = effect.request
        if request.message.spot is not None:
            return self.payloads.server_setup(effect.call, request.payload)
        node = self.ledger.nodes.get(request.sender.epoch)
        return self.payloads.node_setup(effect.call, node.max_file_size if node is not None else 0)

    def watch_nearby(self, epoch: int, link: int) -> None:
        self.runtime.defer(partial(self._watch, epoch, self.runtime.mailbox.pid_of(link)))

    def forget_nearby(self, epoch: int) -> None:
        self.runtime.defer(partial(self._nearby.forget, epoch))

    # --- on the loop ---

    def _watch(self, epoch: int, pid: int) -> None:
        if not self.is_freed and self._nearby.watch(epoch, pid):
            with self.runtime.lock:
                self.ledger.members.server_nearby(epoch)

    def _server_ended(self, epoch: int, marks: Marks) -> None:
        with self.changing() as ledger:
            ledger.members.server_ended(epoch, marks, self.runtime.clock())

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
                self._tell_status(status_word(effect, self.handle_of))
            if self.on_news is not None:
                self.on_news(effect)
        elif isinstance(effect, Choose):
            self.choose(effect.offer)
        elif isinstance(effect, Room):
            self._room.set()
        elif isinstance(effect, Scheduled):
            complete(self.scheduled, None)
        elif isinstance(effect, Failed):
            fail(self.scheduled, ScheduleError(effect.reason))
        elif isinstance(effect, Freed):
            fail(self.scheduled, ScheduleError(self.ledger.over or effect.reason))
            complete(self.freed, None)

    def _wake(self, record: Entry) -> None:
        """Whoever waits for the start or the end of it."""
        if record.when_started is not None:
            complete(record.when_started, 0)
        if record.future is not None:
            self.host.settle(record)
        if self.status_task is not None:
            self.looked_at(record)
            status = monitor_status(self.payloads, self._make_handle(record), record)
            self._tell_status(status)

    def _tell_status(self, word: object) -> None:
        """A status_task that takes none of it costs itself the rest, and no task its outcome."""
        assert self.status_task is not None
        try:
            self.host.tell(self.status_task, word)
        except MailboxFull as error:
            if not self._status_is_full:
                self._status_is_full = True
                say(f"the status_task misses what happens from now on: {error}", "warning")

    def _status_task_ended(self, task: Task) -> None:
        """Said at once if it failed: what it was to enable or to submit is waited for in vain. Who terminates it knows."""
        if self.freed.done() or task.cancelled():
            return
        error = task.exception()
        if isinstance(error, Exception) and not isinstance(error, TaskTerminated):
            trace = "".join(traceback.format_exception(without_our_frames(error))).strip()
            say(f"the status_task has failed, and hears of nothing any more:\n{trace}", "error")


def _look_at(future: asyncio.Future[Any]) -> None:
    """An exception that nobody awaits is no news: it was said elsewhere."""
    if not future.cancelled():
        future.exception()
