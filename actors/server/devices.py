"""CUDA_VISIBLE_DEVICES while a CPU task runs that has GPUs: of those that its node sees, the ones that are the task's."""

from __future__ import annotations

import os

from dispycos.protocol.messages import TaskId

from ..tasks.step import VISIBLE_DEVICES as VARIABLE


class Devices:
    """The variable of this process, and what it was before."""

    def __init__(self) -> None:
        self._task: TaskId | None = None  # whose it is now
        self._before: str | None = None

    def begin(self, task: TaskId, units: dict[str, list[int]] | None) -> None:
        """Before the first step, and before its call is unpickled, which may import what looks at the variable."""
        if not units or "gpu" not in units or self._task == task:
            return
        self.end()
        self._task, self._before = task, os.environ.get(VARIABLE)
        os.environ[VARIABLE] = visible(units["gpu"], self._before)

    def end(self, task: TaskId | None = None) -> None:
        """This task, or any, has ended, or lets others run."""
        if self._task is None or task not in (None, self._task):
            return
        self._task = None
        if self._before is None:
            os.environ.pop(VARIABLE, None)
        else:
            os.environ[VARIABLE] = self._before


def visible(gpus: list[int], listed: str | None) -> str:
    """These of the node's own list; without one they are counted as CUDA does."""
    names = [name.strip() for name in listed.split(",")] if listed else []
    return ",".join(names[gpu] if gpu < len(names) else str(gpu) for gpu in gpus)
