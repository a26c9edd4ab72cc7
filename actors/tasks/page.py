"""A server's page: memory that the server writes and its agent reads, which needs no message and outlives SIGKILL.

Short tasks are not announced one by one, and the words on those that ended last may die with the process. From the page the
agent knows which tasks had begun, so that none is started twice, whose step keeps a server, and whether anything runs there.

The memory is an anonymous file of the agent's, sealed in its size. It has no path, so no task can remove it with its working
folder, and a forked child of a task does not have it. Each field is one aligned word of 64 bits, which processors store and
load whole: a cast memoryview does one store, where struct copies byte by byte, and a reader finds halves of two values.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from contextlib import suppress
from typing import Final

from dispycos.protocol.messages import Marks

from .step import NO_STEP, Step

# The fields. Tasks are known by their positions in the order in which the server was given them, beginning with 1.
CPU: Final = 0  # the last CPU task begun
IO: Final = 1  # the last io task begun
BEGUN: Final = 2  # how many have begun ...
ENDED: Final = 3  # ... and how many have ended
SINCE: Final = 4  # when the step of STEP began, on the monotonic clock in nanoseconds; written before it
STEP: Final = 5  # the task whose step runs, 0: none
OWNER: Final = 6  # the server's process: a forked one may hold the pages of others too, until it closes them
SIZE: Final = 7 * 8

NAME: Final = "dispycos-page"  # of the file, by which a client of the same user finds it


def make_page() -> int:
    """The descriptor of a new page, all of whose fields are 0. Raises OSError."""
    if hasattr(os, "memfd_create"):
        import fcntl

        page = os.memfd_create(NAME, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(page, SIZE)
        fcntl.fcntl(page, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
        return page
    page, path = tempfile.mkstemp()
    os.unlink(path)
    os.ftruncate(page, SIZE)
    return page


def open_page(pid: int) -> PageReader | None:
    """The page of this server, for who is of its host and user; None where it cannot be had."""
    folder = f"/proc/{pid}/fd"
    with suppress(OSError):
        for name in os.listdir(folder):
            with suppress(OSError):  # it was closed meanwhile
                if os.readlink(f"{folder}/{name}").startswith(f"/memfd:{NAME}"):
                    descriptor = os.open(f"{folder}/{name}", os.O_RDONLY | os.O_CLOEXEC)
                    page = PageReader(descriptor)
                    os.close(descriptor)
                    if page.owner == pid:
                        return page
                    page.close()
    return None


class PageReader:
    """What its agent, or a client, reads; also of a server that is dead."""

    def __init__(self, descriptor: int) -> None:
        self._memory = mmap.mmap(descriptor, SIZE, prot=mmap.PROT_READ)
        self._words = memoryview(self._memory).cast("Q")

    def close(self) -> None:
        """In a process that has no use for it."""
        self._words.release()
        self._memory.close()

    @property
    def owner(self) -> int:
        return self._words[OWNER]

    def marks(self) -> Marks:
        """The last tasks that it began."""
        words = self._words
        return Marks(words[CPU], words[IO])

    def step(self) -> Step:
        """The step that runs, if any. It may be over already, unless the process is stopped."""
        words = self._words
        while position := words[STEP]:
            since = words[SINCE]
            if words[STEP] == position:
                return Step(position, since)
        return NO_STEP

    def running(self) -> int:
        """How many tasks have begun and not ended."""
        ended = self._words[ENDED]  # first: what begins meanwhile counts
        return self._words[BEGUN] - ended


class PageWriter:
    """The server's end. Steps are written by whoever brackets them (interrupts.py), into `words`."""

    def __init__(self, descriptor: int) -> None:
        memory = mmap.mmap(descriptor, SIZE)
        if hasattr(mmap, "MADV_DONTFORK"):
            with suppress(OSError):  # a kernel without it: then only our own care keeps children away
                memory.madvise(mmap.MADV_DONTFORK)
        self.words = memoryview(memory).cast("Q")
        self.words[OWNER] = os.getpid()
        self._parents: memoryview | None = None
        self._count = 0

    def in_child(self) -> None:
        """In a forked child, which does not have the memory: what is written from here on is nobody's."""
        self._parents = self.words  # kept: to unmap what is not there could hit what has come in its place
        self.words = memoryview(bytearray(SIZE)).cast("Q")

    def begin(self, mark: int, position: int) -> None:
        """This task has begun; `mark` is CPU or IO."""
        words = self.words
        words[mark] = position
        self._count += 1
        words[BEGUN] = self._count

    def end(self) -> None:
        """A task has ended."""
        self.words[ENDED] += 1
