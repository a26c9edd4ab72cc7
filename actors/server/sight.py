"""What a server process tells those who look at it: what it uses, and what its tasks have. Nothing is kept for them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from typing import Final

from dispycos.protocol.messages import Inventory, ServerTasks, ServerUse, TaskId, TaskReport
from dispycos.protocol.watching import MAILBOXES
from dispycos.runtime import Runtime

from ..tasks.cell import Cell
from .meter import UNIT
from .queue import Server, Tell

STATM: Final = Path("/proc/self/statm")


class Sight:
    """`cells`: the tasks that have their address here."""

    def __init__(self, runtime: Runtime, machine: Server, cells: Mapping[TaskId, Cell]) -> None:
        self._runtime = runtime
        self._machine = machine
        self._cells = cells

    def tell(self, wanted: Tell) -> None:
        """Within a turn, perhaps on the relief thread: no user code."""
        word: Inventory = wanted.request.message
        tasks = wanted.tasks
        if word.parts & MAILBOXES:
            tasks = [self._with_mailbox(task) for task in tasks]
        self._machine.answer(wanted.request, ServerTasks(tasks, self.use()))

    def use(self) -> ServerUse:
        """So far."""
        used = getrusage(RUSAGE_SELF)
        cpu_s = used.ru_utime + used.ru_stime
        machine = self._machine
        return ServerUse(machine.ended, machine.failed, cpu_s, _resident(), used.ru_maxrss * UNIT)

    def _with_mailbox(self, task: TaskReport) -> TaskReport:
        cell = self._cells.get(TaskId(task.owner, task.number, task.attempt))
        if cell is None or not cell.actor:
            return task
        return task._replace(actor=cell.actor, messages=len(cell.inbox), taken=cell.taken_count)


def _resident() -> int:
    """Bytes of memory; 0 where the kernel does not tell."""
    try:
        return int(STATM.read_bytes().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0
