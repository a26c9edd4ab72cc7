"""Keeps descriptors for our own use: from strangers that connect to us, and from those that we are made to dial.

libzmq accepts whoever comes, and when no descriptor is left for one that comes by ipc, or for a socket, it ends the process. Its
listener cannot be closed for a while: with it go all connections that it had accepted. So while too many are open that have not
proved themselves the kernel is told to drop what comes for the listening socket, but for nothing else; who knocked in vain knocks
again after a second. Elsewhere than on Linux the door stays open.
"""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import socket
import struct
import sys

log = logging.getLogger("dispycos")

STRANGERS_MAX = 1024  # connections of a listening socket that have not proved themselves ...
STRANGERS_PART = 8  # ... and not more than this part of our descriptors
SPARE_PART = 4  # such a part of them is not for links that we dial; libzmq opens one of a link's five descriptors later

_SO_ATTACH_FILTER, _SO_DETACH_FILTER = 26, 27  # <asm-generic/socket.h>
_DROP_ALL = struct.pack("HBBI", 0x06, 0, 0, 0)  # BPF_RET | BPF_K, 0 bytes of it pass


class Door:
    """In front of one listening socket, which is named by a descriptor of it."""

    def __init__(self, descriptor: int, most: int) -> None:
        self.is_open = True
        self._most = most
        self._socket = socket.socket(fileno=os.dup(descriptor))

    def see(self, strangers: int) -> None:
        """So many are inside that have not proved themselves: shuts the door, and opens it when half as many are left."""
        if self.is_open and strangers >= self._most:
            self._shut()
        elif not self.is_open and strangers <= self._most // 2:
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)
            self.is_open = True

    def _shut(self) -> None:
        code = ctypes.create_string_buffer(_DROP_ALL, len(_DROP_ALL))
        program = struct.pack("HP", 1, ctypes.addressof(code))
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
        except OSError as error:  # a sandbox
            log.debug("strangers cannot be kept out: %s", error)
            self._most = sys.maxsize
        else:
            self.is_open = False

    def close(self) -> None:
        self._socket.close()


def strangers_max() -> int:
    """For a listening socket of this process."""
    return min(STRANGERS_MAX, descriptors_max() // STRANGERS_PART)


def descriptors_max() -> int:
    """How many this process may have now. By no module `resource`: a program may have a file of that name beside it."""
    try:
        soft = os.sysconf("SC_OPEN_MAX")
    except (AttributeError, ValueError):  # Windows
        return sys.maxsize
    return soft if soft > 0 else sys.maxsize


def look_for_descriptors(wanted: int, spare: int, what: str) -> None:
    """Raises OSError, as open() does, when there are not so many for this and so many to spare: their numbers are used in order."""
    found: list[int] = []
    try:
        while len(found) < wanted:
            found += os.pipe()
        if spare and max(found) >= descriptors_max() - spare:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    except OSError as error:
        raise OSError(error.errno, error.strerror, what) from None
    finally:
        for descriptor in found:
            os.close(descriptor)
