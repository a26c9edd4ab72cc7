"""The tasks that live in this process: found by their loop, started, ended; the same in a client and in a server.

A `Cell` is one task (cell.py). The host starts cells and tells of their ends; it also carries what they and their handles say
(handles.py, on top of correspondence.py).
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Mapping
from typing import Any

from dispycos.protocol import messages
from dispycos.protocol.addresses import FIRST_TASK, Address, Location
from dispycos.protocol.envelope import Envelope
from dispycos.runtime import Runtime

from .calling import can_suspend, name_of, with_task
from .cell import Cell
from .current import cell_of, context_of, current_cell, register
from .ends import Outcome, Raised, Returned, raised
from .handle import Task
from .handles import Handles
from .opening import Payloads
from .results import pack_outcome
from .running.execution import Execution, call_plainly, is_coroutine
from .running.interrupts import Interrupts
from .running.subtasks import Subtasks, adopt
from .submitting import Submits


class TaskHost(Handles):
    """The tasks of one runtime.

    Parameters
    ----------
    payloads: pickling and code, of a client or of a server.
    interrupts: who may raise KeyboardInterrupt in a running step.
    place: Location of a server; None in a client.
    """

    def __init__(
        self, runtime: Runtime, payloads: Payloads, interrupts: Interrupts, place: Location | None = None
    ) -> None:
        super().__init__(runtime, interrupts.shielded, payloads)
        self.interrupts = interrupts
        self.place = place
        self.home: Any = None  # in a client: who closes the runtime when nobody uses it any more
        self.refused: list[object] = []  # coroutines of tasks that were dropped, which would not be closed
        self._numbers = FIRST_TASK
        register(self.loop, self)

    # --- starting tasks ---

    def adopt_subtasks(self) -> None:
        """asyncio Tasks that tasks make from now on are theirs: for a loop on which nobody else makes any."""

        def find(context: contextvars.Context | None) -> Subtasks | None:
            cell = current_cell() if context is None else cell_of(context)
            return cell.adopt() if isinstance(cell, Cell) else None

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
        on_end: Callable[[Cell, Outcome], None] | None = None,
    ) -> Cell:
        """Start a task here; its first step comes when the caller's is over."""
        if not callable(function):
            raise TypeError(f"a task needs a function, not {type(function).__name__}")
        with self.shield, self.runtime.lock:
            cell = self.prepare(name_of(function), handle=handle, on_end=on_end)
        self.loop.call_soon(self.begin, cell, function, args, kwargs)
        return cell

    def prepare(
        self,
        name: str,
        *,
        handle: Task | None = None,
        on_end: Callable[[Cell, Outcome], None] | None = None,
    ) -> Cell:
        """A task of this process's own, with its address and mailbox, before its function is there. Under the lock."""
        cell = Cell(self, name)
        cell.on_end = on_end
        self.give_address(cell)
        if handle is not None:
            cell.bind(handle)
        return cell

    def give_address(self, cell: Cell) -> Address:
        """From any thread. Who asks for that of a task that has ended gets one where nobody is."""
        with self.shield, self.runtime.lock:
            if cell._address is None:
                actor = self.take_number()
                cell._address = self.runtime.address(actor)
                if not cell.ended:
                    self.cells[actor] = cell
                    self.runtime.attach_inbox(actor, cell.on_envelope)
            return cell._address

    def begin(
        self,
        cell: Cell,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        context: contextvars.Context | None = None,
    ) -> None:
        """Take the first step now, in this context, its own, or in a copy of the present one; not to be called inside a step."""
        if cell.stopping:
            cell.finished(Raised(KeyboardInterrupt()))
            return
        try:
            args, kwargs = with_task(function, args, kwargs, cell)
        except TypeError as error:
            cell.finished(Raised(error))
            return
        context = context_of(cell, context)
        if can_suspend(function):
            cell.execution = self._execution(cell, context, function, args, kwargs)
            cell.execution.start()
        else:
            self._call(cell, context, function, args, kwargs)

    def _call(
        self,
        cell: Cell,
        context: contextvars.Context,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> None:
        """A plain function is one step, and needs nothing that waits; but it may return a coroutine to go on with."""
        self.interrupts.begin(cell)
        try:
            if (
                cell.stopping
            ):  # looked at again: terminate() in another thread looks for the step after it has said so
                raise KeyboardInterrupt
            value = call_plainly(self.loop, context, function, args, kwargs)
        except BaseException as error:  # the edge of user code
            self.interrupts.end()
            cell.finished(raised(error))
            return
        due = self.interrupts.end()
        if not is_coroutine(value):
            cell.finished(Returned(value))
            return
        cell.execution = self._execution(cell, context, function, args, kwargs)
        cell.execution.go_on(value, due)

    def _execution(
        self,
        cell: Cell,
        context: contextvars.Context,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> Execution:
        return Execution(
            function,
            args,
            kwargs,
            loop=self.loop,
            interrupts=self.interrupts,
            context=context,
            owner=cell,
            on_done=cell.finished,
        )

    def on_cell_end(self, cell: Cell, outcome: Outcome) -> None:
        """Tell who wants to know, and let the task go."""
        self.interrupts.reinstall(over_users=self.place is not None)  # in a client it may be the program's
        if cell.leaves and not self.runtime.is_parents:
            for leave in cell.leaves:
                leave()
        if cell.on_end is not None:
            cell.on_end(cell, outcome)
        if self.runtime.is_parents:  # a forked child whose loop runs out
            return
        if not cell.actor:  # nobody could reach it
            return
        with self.runtime.lock:
            self.cells.pop(cell.actor, None)
            self.runtime.detach(cell.actor)
            watchers, cell.watchers = cell.watchers, ()
            followers, cell.followers = cell.followers, ()
            unanswered = cell.take_unanswered() if cell.inbox or cell.asked is not None else ()
        for request in unanswered:
            self.answer(request, messages.Reply(ok=False))
        for request in followers:
            self.answer(request, messages.Ended(0))
        if watchers:
            kind, payload = pack_outcome(self.payloads, outcome, cell.name, cell.stopping)
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
        register(self.loop, None)


def current_client() -> Submits[Task]:
    """The client of the remote task that runs now; to be called in it, or in what it calls.

    What the task submits there is handed to the program's Client, which places it as any other task. Its handle can be awaited,
    sent, asked and ended as one of the program's. A plain function may submit, too, but only an ``async def`` or a
    generator function can wait.

    Raises
    ------
    RuntimeError: no remote task runs here.
    """
    cell = current_cell()
    client: Submits[Task] | None = (
        None if cell is None or cell.host.records is None else cell.host.records.client
    )
    if client is None:
        raise RuntimeError(
            "current_client() is for remote tasks: elsewhere use the Client that your program made"
        )
    return client
