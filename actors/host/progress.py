"""A server's marks of the last CPU tasks that it began: one for those of its node, one for those that its client sent itself.

They are in a file mapped into memory, which outlives SIGKILL and costs no call. Short tasks are not announced one by one, and
the words on those that ended last may die with the process. With the marks it is known exactly which tasks had started, so
that none is started twice (DESIGN section 9).
"""

from __future__ import annotations

import mmap
import struct
from pathlib import Path

from dispycos.protocol.messages import TaskId

from ..supervisor import UNKNOWN, Marks

NAME = ".dispycos-progress"
_LAYOUT = struct.Struct("<QQQ")


class Progress:
    """The writing end, in the server's own folder."""

    def __init__(self, folder: Path) -> None:
        path = folder / NAME
        path.write_bytes(bytes(2 * _LAYOUT.size))
        with open(path, "r+b") as file:
            self._map = mmap.mmap(file.fileno(), 2 * _LAYOUT.size)

    def begin(self, task: TaskId, *, direct: bool = False) -> None:
        """This task's first step comes next; `direct`: its client sent it itself."""
        _LAYOUT.pack_into(self._map, _LAYOUT.size if direct else 0, *task)


def last_begun(folder: Path) -> Marks:
    """The marks that a dead server left; UNKNOWN if there are none to be read."""
    try:
        data = (folder / NAME).read_bytes()
    except OSError:  # it died before it made one, or a task removed its folder
        return UNKNOWN
    if len(data) != 2 * _LAYOUT.size:
        return UNKNOWN
    return Marks(*(TaskId(*_LAYOUT.unpack_from(data, n * _LAYOUT.size)) for n in range(2)))
