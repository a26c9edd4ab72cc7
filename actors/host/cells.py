"""The tasks that live in this process: found by their loop, started, ended; the same in a client and in a server.

A `Cell` is one task (cell.py). The host starts cells and tells of their ends; it also carries what they and their handles say
(handles.py, on top of correspondence.py).
"""

from __future__ import annotations

import asyncio
import contextvars
import weakref
from collections.abc import Callable, Mapping
from typing import Any

from dispycos.protocol import messages
from dispycos.protocol.addresses import FIRST_TASK, Address
from dispycos.protocol.envelope import Envelope
from dispycos.runtime import Runtime

from ..task import Location, Task
from .calling import name_of, with_task
from .cell import Cell, cell_of, context_of, current_cell
from .ends import Outcome, Raised
from .execution import Execution
from .handles import Handles
from .interrupts import Interrupts
from .opening import Parcels, host_that_loads
from .results import pack_outcome
from .subtasks import Subtasks, adopt

_hosts: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, TaskHost] = weakref.WeakKeyDictionary()


class TaskHost(Handles):
    """The tasks of one runtime.

    Parameters
    ----------
    parcels: pickling and code, of a client or of a server.
    interrupts: who may raise KeyboardInterrupt in a running step.
    place: Location of a server; None in a client.
    """

    def __init__(
        self, runtime: Runtime, parcels: Parcels, interrupts: Interrupts, place: Location | None = None
    ) -> None:
        super().__init__(runtime, interrupts.shielded, parcels)
        self.interrupts = interrupts
        self.place = place
        self.home: Any = None  # in a client: who closes the runtime when nobody uses it any more
        self.refused: list[object] = []  # coroutines of tasks that were dropped, which would not be closed
        self._numbers = FIRST_TASK
        _hosts[self.loop] = self

    # --- finding the host ---

    @staticmethod
    def of_running_loop() -> TaskHost:
        """The host that `Task(...)` uses. A loop without one gets one for local tasks and messages between them."""
        try:
            host = _hosts.get(asyncio.get_running_loop())
        except RuntimeError:  # a plain function of a task has no running loop, and yet a host
            cell = current_cell()
            if cell is None or not cell.host.runtime.is_own_thread():
                raise
            return cell.host
        if host is None:
            raise RuntimeError(
                "no dispycos runtime on this event loop: start it with dispycos.run(main) or `async with Client(...)`"
            )
        return host

    @staticmethod
    def find(loop: asyncio.AbstractEventLoop) -> TaskHost | None:
        return _hosts.get(loop)

    @staticmethod
    def of_closed_loops() -> list[TaskHost]:
        """Those of programs that nobody closed before."""
        return [host for loop, host in _hosts.items() if loop.is_closed() and host.home is not None]

    @staticmethod
    def loading() -> Handles:
        """The host that unpickles now."""
        host = host_that_loads()
        return host if host is not None else TaskHost.of_running_loop()

    # --- starting tasks ---

    def adopt_subtasks(self) -> None:
        """asyncio Tasks that tasks make from now on are theirs: for a loop on which nobody else makes any."""

        def find(context: contextvars.Context | None) -> Subtasks | None:
            cell = current_cell() if context is None else cell_of(context)
            return None if cell is None else cell.adopt()

        adopt(self.loop, find)

    def take_number(self) -> int:
        """A new actor id of this runtime, never used again."""
        self._numbers += 1
        return self._numbers

    def start(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        handle: Task | None = None,
        home: Address | None = None,
        on_end: Callable[[Cell, Outcome], None] | None = None,
    ) -> Cell:
        """Start a task here; its first step comes when the caller's is over."""
        if not callable(function):
            raise TypeError(f"a task needs a function, not {type(function).__name__}")
        cell = self.prepare(name_of(function), handle=handle, home=home, on_end=on_end)
        self.loop.call_soon(self.begin, cell, function, args, kwargs)
        return cell

    def prepare(
        self,
        name: str,
        *,
        handle: Task | None = None,
        home: Address | None = None,
        on_end: Callable[[Cell, Outcome], None] | None = None,
    ) -> Cell:
        """Give a task its address and mailbox, before its function is there."""
        with self.shield, self.runtime.lock:
            address = self.runtime.address(self.take_number())
            cell = Cell(self, address, name)
            cell.on_end = on_end
            bound = Task.__new__(Task) if handle is None else handle
            cell.handle = bound._bind(self, home or address, name, cell, direct=address, place=self.place)
            self.cells[address.actor] = cell
            self.runtime.attach_inbox(address.actor, cell.on_envelope)
        return cell

    def begin(
        self, cell: Cell, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> None:
        """Take the first step now; not to be called inside a step."""
        if cell.stopping:
            cell.finished(Raised(KeyboardInterrupt()))
            return
        try:
            args, kwargs = with_task(function, args, kwargs, cell.handle)
        except TypeError as error:
            cell.finished(Raised(error))
            return
        cell.execution = Execution(
            function,
            args,
            kwargs,
            loop=self.loop,
            interrupts=self.interrupts,
            context=context_of(cell),
            owner=cell,
            on_done=cell.finished,
        )
        cell.execution.start()

    def on_cell_end(self, cell: Cell, outcome: Outcome) -> None:
        """Tell who wants to know, and let the task go."""
        self.interrupts.reinstall(over_users=self.place is not None)  # in a client it may be the program's
        if cell.on_end is not None:
            cell.on_end(cell, outcome)
        if self.runtime.is_parents:  # a forked child whose loop runs out
            return
        with self.runtime.lock:
            self.cells.pop(cell.address.actor, None)
            self.runtime.detach(cell.address.actor)
            watchers, cell.watchers = cell.watchers, []
            unanswered = [entry for entry in cell.inbox if isinstance(entry.message, messages.Ask)]
            if cell.asked is not None:
                unanswered.append(cell.asked)
            cell.inbox.clear()
            cell.asked = None
        for request in unanswered:
            self.answer(request, messages.Reply(ok=False))
        if watchers:
            kind, payload = pack_outcome(self.parcels, outcome, cell.name, cell.stopping)
            for watcher, correlation in watchers:
                self.post(Envelope(watcher, cell.address, messages.Ended(kind), correlation, payload))
        if cell.future is not None:
            self.settle(cell)

    # --- closing ---

    def close(self) -> None:
        """Interrupt what still runs, and leave nobody waiting; nobody finds this host any more."""
        for cell in list(self.cells.values()):
            cell.terminate()
        self.give_up()
        _hosts.pop(self.loop, None)
