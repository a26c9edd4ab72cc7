"""What a Client has in the place of a lease when its tasks run in this very process, to be stepped through with a debugger.

Each task is a local one, on the loop of the program: no other process, no scheduler, no port. Its function is the program's own,
so that breakpoints in it hold and tracebacks are whole. Arguments and values are pickled as for the way to a server and back: what
cannot travel is named here too, and what a task changes in its arguments the program does not see.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from types import FunctionType
from typing import Any, Final

from dispycos.errors import ArgumentFailed, ScheduleError
from dispycos.notices import PATIENCE_S, listing
from dispycos.protocol.addresses import Location
from dispycos.protocol.status import ENDED, OutcomeKind

from ..tasks.calling import may_receive, name_of, receives
from ..tasks.cell import Cell
from ..tasks.ends import Outcome, Raised, Returned, raised
from ..tasks.handle import Handle
from ..tasks.options import Options
from ..tasks.passing import filled_in, has_handles, marked
from ..tasks.step import KILL_AFTER
from ..tasks.streams import say
from ..tasks.submitting import Submits, Task
from ..tasks.waiting import complete, fail, telling
from .code import ClientPayloads, SetupCall
from .lease import ClientLease
from .local import Held, Home
from .needs import doubt
from .shown import Shown
from .wishes import Wishes

PLACE: Final = Location("127.0.0.1", 0)  # of the one server that there is: this process


class OwnCell(Cell):
    """A task that would run in a server elsewhere."""

    client: Submits
    io = False
    alone = False  # by rtask
    receives = False  # its function takes messages
    may_receive = False  # or could, for all that is known
    told_to_end: asyncio.Future[None] | None = None  # while it waits for values
    at: Location | None = None  # it has begun there

    def bind(self, handle: Task[Any]) -> Task[Any]:
        super().bind(handle)._place = PLACE
        return handle

    def begin(self, *call: Any) -> None:
        self.at = PLACE
        super().begin(*call)

    def terminate(self) -> None:
        super().terminate()
        if self.told_to_end is not None:
            self.host.loop.call_soon_threadsafe(complete, self.told_to_end, None)

    @property
    def over(self) -> bool:
        return self.ended

    def _finish(self, outcome: Outcome) -> None:
        is_interrupt = isinstance(outcome, Raised) and isinstance(outcome.error, KeyboardInterrupt)
        if is_interrupt and not self.stopping and self.host.interrupts.was_ctrl_c():
            self.host.interrupts.pass_on()  # it ends the program, as if that had called the function itself
        super()._finish(self._as_it_arrives(outcome))

    def _as_it_arrives(self, outcome: Outcome) -> Outcome:
        if isinstance(outcome, Raised):
            return outcome
        payloads = self.host.payloads
        try:
            return Returned(payloads.loads(payloads.dumps(outcome.value, f"the value of {self.name}")))
        except Exception as error:  # NotPicklable, or what the value's own methods raise
            return raised(error)


def _passed_on(name: str, needed: str, error: BaseException) -> ArgumentFailed:
    """As reasons.passed_on tells it."""
    why, chain = vars(error).get("_passed_on", ("", [""]))
    if chain[-1] == needed:  # that one did not run either
        cause = error.__cause__
    else:
        is_cancelled = isinstance(error, asyncio.CancelledError)
        how = "was terminated" if is_cancelled else f"raised {type(error).__name__}: {error}"
        why, chain, cause = f"{needed} {how}", [needed], error
    chain = [*chain, name]
    failed = ArgumentFailed(f"{name} did not run: {why} ({' -> '.join(chain)})")
    vars(failed)["_passed_on"] = why, chain
    failed.__cause__ = cause
    return failed


class InProcess(Held):
    """There is nothing to wait for, and nothing to give back but the tasks."""

    def __init__(
        self, home: Home, payloads: ClientPayloads, status_task: Task[Any] | None, wishes: Wishes, title: str
    ) -> None:
        super().__init__(home, title)
        self.host = home.host
        self.runtime = home.runtime
        self.loop = home.runtime.loop
        self.scheduled: asyncio.Future[None] = self.loop.create_future()
        self.waits_for = "it has not begun"
        self._payloads = payloads
        self._status_task = status_task
        self._wishes = wishes
        self._client = InProcessClient(self)
        self._cells: dict[OwnCell, None] = {}  # those that have not ended
        self._counts: Counter[str] = Counter()  # of those that have, by how
        self._changed = asyncio.Event()  # one has ended, or all are to end
        self._hurried = False

    # --- beginning ---

    async def take(self, location: str | Location | None, secret_file: Path | None) -> None:
        """There is nothing to wait for but the setups, which run once, here. Raises what they raise, and ScheduleError."""
        self.host.payloads = self._payloads
        disabled = (self._wishes.disable_nodes, self._wishes.disable_servers)
        for call, waits in zip((self._wishes.node_setup, self._wishes.server_setup), disabled, strict=True):
            if call is not None and not waits:  # for arguments that come with nodes, and here come none
                await self._set_up(call)
        self.is_open = True
        complete(self.scheduled, None)

    async def _set_up(self, call: SetupCall) -> None:
        self.waits_for = f"{call.name} has not ended"
        value = await self._start(call.function, call.name, (), {}, io=True)
        if value is not None and not (isinstance(value, int) and value == 0):
            raise ScheduleError(f"{call.name} failed: it returned {value!r}, and 0 or None would be success")

    # --- tasks ---

    def submit(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], options: Options
    ) -> Task[Any]:
        """Of the options `io` and `alone` make a difference: there is one place, who steps through a task has time, and it is
        not lost before the program is."""
        name, handles = name_of(function), list[Handle[Any]]()
        if has_handles(args, kwargs):
            args, kwargs, handles = marked(args, kwargs)
        call = self._payloads.dumps_call(function, name, args, kwargs)
        copy, args, kwargs = self._payloads.loads(call)
        if copy is not None and not isinstance(function, FunctionType):
            function = copy  # a method's object goes along
        return self._start(function, name, args, kwargs, io=options.io, alone=options.alone, handles=handles)

    def _start(
        self,
        function: Callable[..., Any],
        name: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        io: bool,
        alone: bool = True,
        handles: Sequence[Handle[Any]] = (),
    ) -> Task[Any]:
        with self.host.shield, self.runtime.lock:
            cell = OwnCell(self.host, name)
            cell.client, cell.io, cell.alone = self._client, io, alone
            cell.receives, cell.may_receive = receives(function), may_receive(function)
            cell.take_address()
            handle = cell.handle
        self._cells[cell] = None
        cell.at_end(partial(self._ended, cell))
        if self._status_task is not None and self.is_open:
            self.host.in_background(self.host.monitor(handle, self._status_task))
        if handles:
            self.host.in_background(self._begin_with_values(cell, function, args, kwargs, handles))
        else:
            self.loop.call_soon(cell.begin, function, args, kwargs)
        return handle

    async def _begin_with_values(
        self, cell: OwnCell, function: Any, args: Any, kwargs: Any, handles: Sequence[Handle[Any]]
    ) -> None:
        values = []
        cell.told_to_end = told_to_end = self.loop.create_future()
        for place, handle in enumerate(handles, 1):
            ends = handle, told_to_end
            await asyncio.wait(ends, timeout=PATIENCE_S, return_when=asyncio.FIRST_COMPLETED)
            asked = self.host.cells.get(handle.home.actor)  # until it has ended
            if isinstance(asked, OwnCell) and asked.may_receive and not cell.stopping:
                say(doubt(cell.name, handle.name, place), "warning")
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if cell.stopping:
                cell.finished(Raised(KeyboardInterrupt()))
                return
            try:
                value = handle.result()
                values.append(
                    self._payloads.loads(self._payloads.dumps(value, f"the value of {handle.name}"))
                )
            except (Exception, asyncio.CancelledError) as error:
                cell.finished(Raised(_passed_on(cell.name, handle.name, error)))
                return
        # Not in here, where an asyncio.Task is running: its function may be one, too.
        self.loop.call_soon(cell.begin, function, *filled_in(args, kwargs, values))

    def _ended(self, cell: OwnCell) -> None:
        del self._cells[cell]
        kind = OutcomeKind.RETURNED if isinstance(cell.outcome, Returned) else OutcomeKind.RAISED
        self._counts[ENDED[OutcomeKind.TERMINATED if cell.stopping and kind else kind]] += 1
        self._changed.set()

    async def wait_backlog(self, at_most: int) -> None:
        """What was submitted has begun when the loop has had its turn."""
        await asyncio.sleep(0)

    def tasks_at(self, where: str | Location | None) -> list[Task[Any]]:
        return [cell.handle for cell in self._cells]

    def addresses(self) -> list[str]:
        return [PLACE.addr]

    def locations(self) -> list[Location]:
        return [PLACE]

    server_count = 1

    def kill_servers_of(self, handles: Iterable[Task[Any]]) -> None:
        """There is none but the program: they are told to end."""
        for handle in handles:
            handle.terminate()

    def shown(self, name: str, state: str) -> Shown:
        tasks = {"running": len(self._cells)} if self._cells else {}
        return Shown(name, state or "tasks run in this process", tasks={**tasks, **self._counts})

    # --- leaving ---

    def leave(
        self, *, terminate: bool, await_io: bool = False, patience: float | None = None
    ) -> asyncio.Task[None]:
        """The Task waits for the tasks, and after `patience` seconds has them end."""
        self.is_open = False
        if terminate:
            self.hurry()
        if self._ending is None:
            fail(self.scheduled, ScheduleError("the client was closed before its setups had ended"))
            self._ending = asyncio.Task(self._end(await_io, patience), loop=self.loop)
        return self._ending

    def hurry(self) -> None:
        """The tasks are told to end, and have 5 s."""
        if not self._hurried:
            self._hurried = True
            for cell in list(self._cells):
                cell.terminate()
            self._changed.set()

    def make_way(self) -> None:
        self.hurry()

    async def _end(self, await_io: bool, patience: float | None) -> None:
        try:
            with telling(self.loop, partial(self._tell_who_waits, await_io)):
                await self._wait(lambda: not self._hurried and self._awaited(await_io), patience)
            self.hurry()
            await self._wait(lambda: bool(self._cells), KILL_AFTER if patience is None else patience)
            if self._cells:
                say(f"{listing(cell.name for cell in self._cells)} went on though told to end", "warning")
        finally:
            complete(self.left, None)
            self.home.leave(self)

    def _awaited(self, await_io: bool) -> list[OwnCell]:
        return [cell for cell in self._cells if await_io or not cell.io]

    async def _wait(self, goes_on: Callable[[], object], patience: float | None) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                while goes_on():
                    self._changed.clear()
                    await self._changed.wait()

    async def _tell_who_waits(self, await_io: bool) -> None:
        if awaited := self._awaited(await_io):
            say(f"close() waits for {listing(cell.name for cell in awaited)}", "warning")

    def take_lost(self) -> None:
        """Here none is lost."""

    def vanish(self) -> None:
        self.is_open = False
        self.home.leave(self)


class InProcessClient(Submits):
    """The client of a task here, as that task sees it."""

    def __init__(self, lease: InProcess) -> None:
        self._lease = lease

    def _here(self) -> object:
        return self._lease

    def _run(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], options: Options
    ) -> Task[Any]:
        return self._lease.submit(function, args, kwargs, options)


Lease = ClientLease | InProcess
