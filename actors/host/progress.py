"""A server's mark of the last CPU task that it began, in a file mapped into memory: it outlives SIGKILL and costs no call.

Short tasks are not announced one by one, and the words on those that ended last may die with the process. With the mark the
agent knows exactly which tasks had started, so that none is started twice (DESIGN section 9).
"""

from __future__ import annotations

import mmap
import struct
from pathlib import Path

from dispycos.protocol.messages import TaskId

NAME = ".dispycos-progress"
_LAYOUT = struct.Struct("<QQQ")


class Progress:
    """The writing end, in the server's own folder."""

    def __init__(self, folder: Path) -> None:
        path = folder / NAME
        path.write_bytes(bytes(_LAYOUT.size))
        with open(path, "r+b") as file:
            self._map = mmap.mmap(file.fileno(), _LAYOUT.size)

    def begin(self, task: TaskId) -> None:
        """This task's first step comes next."""
        _LAYOUT.pack_into(self._map, 0, *task)


def last_begun(folder: Path) -> TaskId | None:
    """The mark that a dead server left; None if there is none to be read."""
    try:
        data = (folder / NAME).read_bytes()
    except OSError:  # it died before it made one, or a task removed its folder
        return None
    return TaskId(*_LAYOUT.unpack(data)) if len(data) == _LAYOUT.size else None
