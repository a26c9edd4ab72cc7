"""The tasks that live in this process: found by their loop, started, ended; the same in a client and in a server.

A `Cell` is one task (cell.py). The host starts cells, and carries what they and their handles say (handles.py, on top of
correspondence.py).
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from typing import Any

from .calling import name_of
from .cell import Cell
from .current import cell_of, current_cell, register
from .either_style import must_be_callable
from .ends import Outcome, plain
from .handles import Handles
from .running.subtasks import Subtasks, adopt
from .submitting import Submits, Task, client_of


class TaskHost(Handles):
    """The tasks of one runtime."""

    # --- starting tasks ---

    def adopt_subtasks(self) -> None:
        """asyncio Tasks that tasks make from now on are theirs: for a loop on which nobody else makes any."""

        def find(context: contextvars.Context | None) -> Subtasks | None:
            cell = current_cell() if context is None else cell_of(context)
            return cell.adopt() if isinstance(cell, Cell) else None

        adopt(self.loop, find)

    def start(
        self, handle: Task, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        """Start a task here, with this handle; its first step comes when the caller's is over."""
        must_be_callable(function)
        with self.shield, self.runtime.lock:
            cell = self.prepare(name_of(function))
            cell.bind(handle)
        self.loop.call_soon(cell.begin, function, args, kwargs)

    def prepare(self, name: str, on_end: Callable[[Cell, Outcome], None] | None = None) -> Cell:
        """A task of this process's own, with its address and mailbox, before its function is there. Under the lock."""
        cell = Cell(self, name)
        cell.on_end = on_end
        cell.take_address()
        return cell

    # --- closing ---

    def close(self) -> None:
        """Interrupt what still runs, and leave nobody waiting; nobody finds this host any more."""
        for cell in list(self.cells.values()):
            cell.terminate()
        self.give_up()
        register(self.loop, None)


@plain
def current_client() -> Submits:
    """The client of the remote task that runs now; to be called in it, or in what it calls.

    What the task submits there is handed to the program's Client, which places it as any other task. Its handle can be awaited,
    sent, asked and ended as one of the program's. A plain function may submit, too, but only an ``async def`` or a
    generator function can wait.

    Raises
    ------
    RuntimeError: no remote task runs here.
    """
    cell = current_cell()
    return client_of(None if cell is None else cell.host, cell, "current_client()")


@plain
def current_task() -> Task:
    """The task that runs now, for a function that does not have it as its parameter `task`, and for what it calls.

    Raises
    ------
    RuntimeError: no task runs here.
    """
    cell = current_cell()
    if cell is None:
        raise RuntimeError("current_task() is for what a task calls, and no task runs here")
    handle: Task = cell.handle
    return handle
