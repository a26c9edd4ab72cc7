"""Tells at once when a process of this host has ended, however it ended.

By a descriptor of the kernel (pidfd, Linux) that names one process, whatever gets its number afterwards. It is opened
while the link that told the number is fresh. Should the process be gone even by then, and its number given away, then
the new owner is watched: the death is told late, but never of one who lives. Where there are no such descriptors, and of
processes that cannot be seen from here, nothing is told, and silence has to do, as between hosts.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable

log = logging.getLogger("dispycos")

WATCHED_MAX = 512  # a descriptor each; of those beyond only silence tells


class Witness:
    """Watches the processes behind runtimes, which are known by their epochs. On the loop's thread only."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._watched: dict[int, int] = {}  # descriptors
        self._closed = False

    def watch(self, epoch: int, pid: int, on_death: Callable[[], None]) -> None:
        """Call `on_death` once, from the loop, when the process ends; in place of what was said of this epoch before."""
        self.forget(epoch)
        if self._closed or pid <= 0 or pid == os.getpid() or len(self._watched) >= WATCHED_MAX:
            return
        try:
            descriptor = open_process(pid)
        except ProcessLookupError:
            self._loop.call_soon(on_death)
            return
        if descriptor is not None:
            self._watched[epoch] = descriptor
            self._loop.add_reader(descriptor, self._ended, epoch, on_death)

    def forget(self, epoch: int) -> None:
        """Its end is no news any more."""
        descriptor = self._watched.pop(epoch, None)
        if descriptor is not None:
            self._loop.remove_reader(descriptor)
            os.close(descriptor)

    def close(self) -> None:
        self._closed = True
        for epoch in list(self._watched):
            self.forget(epoch)

    def _ended(self, epoch: int, on_death: Callable[[], None]) -> None:
        self.forget(epoch)
        on_death()


def open_process(pid: int) -> int | None:
    """A descriptor that becomes readable when the process ends; None where there is none. Raises ProcessLookupError."""
    if not hasattr(os, "pidfd_open"):
        return None
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        raise
    except OSError as error:  # an old kernel, a sandbox's filter, no descriptor left
        log.debug("process %d cannot be watched: %s", pid, error)
        return None
