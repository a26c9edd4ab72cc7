"""Tells at once when a process of this host has ended, however it ended.

While a process lives on this host its silence means nothing: it may be stopped, or in C code that holds the GIL.

By a descriptor of the kernel (pidfd, Linux) that names one process, whatever gets its number afterwards. It is opened
while the link that told the number is fresh. Should the process be gone even by then, and its number given away, then
the new owner is watched: the death is told late, but never of one who lives. Where there are no such descriptors, and of
processes that cannot be seen from here, nothing is told, and silence has to do, as between hosts.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import os
import socket
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress

log = logging.getLogger("dispycos")

_CREDENTIALS = struct.Struct("=iII")  # struct ucred: pid, uid, gid

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
        if self._closed or not self.can_watch(pid):
            return
        try:
            descriptor = open_process(pid)
        except ProcessLookupError:
            self._loop.call_soon(on_death)
            return
        if descriptor is not None:
            self._watched[epoch] = descriptor
            self._loop.add_reader(descriptor, self._ended, epoch, on_death)

    def can_watch(self, pid: int) -> bool:
        """Whether the end of this process would be told."""
        return (
            pid > 0 and pid != os.getpid() and hasattr(os, "pidfd_open") and len(self._watched) < WATCHED_MAX
        )

    def lives(self, epoch: int) -> bool:
        """Whether this runtime's process is known to live."""
        return epoch in self._watched

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


def pid_behind(descriptor: int) -> int:
    """The process of this host at the other end of a connection; 0: of another host, or it cannot be seen from here.

    Of a Unix socket that we connected it is who listens there. From the kernel, so what the peer says of itself does not count. A
    connection by TCP that two processes hold, because one was forked from the other, has no owner, and nor has one that was not
    accepted yet.
    """
    if sys.platform != "linux":
        return 0
    try:
        with socket.socket(fileno=os.dup(descriptor)) as connection:
            if connection.family == socket.AF_UNIX:
                return int(
                    _CREDENTIALS.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
                )
            here, there = (
                _endpoint(*name[:2]) for name in (connection.getsockname(), connection.getpeername())
            )
    except (OSError, ValueError):  # it is gone; or is none of TCP
        return 0
    if here[0] != there[0]:  # the kernel gives both ends of a connection within the host the same address
        return 0
    wanted = next((f"socket:[{inode}]" for ends, inode in _connections() if ends == (there, here)), "")
    owners = [pid for pid in _pids() if wanted and wanted in _links(pid)]
    return owners[0] if len(owners) == 1 else 0


def _endpoint(address: str, port: int) -> tuple[object, int]:
    found = ipaddress.ip_address(address)
    return getattr(found, "ipv4_mapped", None) or found, port


def _connections() -> Iterator[tuple[tuple[tuple[object, int], tuple[object, int]], str]]:
    """((near end, far end), inode) of each TCP socket of our network namespace."""
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with suppress(OSError), open(table) as lines:
            next(lines)
            for line in lines:
                fields = line.split()
                yield (_row_endpoint(fields[1]), _row_endpoint(fields[2])), fields[9]


def _row_endpoint(text: str) -> tuple[object, int]:
    """As the kernel writes it: words of 32 bits in the byte order of the host, in hexadecimal."""
    address, _, port = text.partition(":")
    words = bytes.fromhex(address)
    raw = b"".join(
        words[n : n + 4][:: -1 if sys.byteorder == "little" else 1] for n in range(0, len(words), 4)
    )
    return _endpoint(str(ipaddress.ip_address(raw)), int(port, 16))


def _pids() -> Iterator[int]:
    return (int(name) for name in os.listdir("/proc") if name.isdigit())


def _links(pid: int) -> set[str]:
    """What this process has open; nothing of what is another user's."""
    links = set()
    with suppress(OSError):
        for name in os.listdir(f"/proc/{pid}/fd"):
            with suppress(OSError):
                links.add(os.readlink(f"/proc/{pid}/fd/{name}"))
    return links
