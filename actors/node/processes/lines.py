"""The line between agent and zygote: a pair of sockets that keep messages apart.

Each message is one word in msgpack, with descriptors beside it. What an agent wants of its template is a folder's name, with the
zygote's end of a new line; the template says nothing.
"""

from __future__ import annotations

import os
import socket
from array import array
from collections.abc import Iterable
from typing import TypeVar

import msgspec

from .words import FromZygote, ToZygote

WORD_MAX = 64 << 10
_ROOM = socket.CMSG_SPACE(4 * 4)  # for 4 descriptors
Heard = TypeVar("Heard")
_encode = msgspec.msgpack.Encoder().encode


def make_line() -> tuple[socket.socket, socket.socket]:
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def send_word(line: socket.socket, word: ToZygote | FromZygote, descriptors: Iterable[int] = ()) -> None:
    beside = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", descriptors))] if descriptors else []
    line.sendmsg([_encode(word)], beside)


def read_word(line: socket.socket, decoder: msgspec.msgpack.Decoder[Heard]) -> tuple[Heard, list[int]] | None:
    """The next word and the descriptors beside it, None when the other end is gone. Never blocks: raises BlockingIOError."""
    flags = socket.MSG_DONTWAIT | getattr(socket, "MSG_CMSG_CLOEXEC", 0)
    try:  # not socket.recv_fds, which drops its flags
        data, beside, _, _ = line.recvmsg(WORD_MAX, _ROOM, flags)
    except ConnectionResetError:  # the other end has left something unread, and may have said more before
        data, beside, _, _ = line.recvmsg(WORD_MAX, _ROOM, flags)
    descriptors = array("i")
    for _, _, numbers in beside:
        descriptors.frombytes(numbers)
    return (decoder.decode(data), list(descriptors)) if data else None


class ZygoteLine:
    """The zygote's end: it may block in sending, for its agent always reads."""

    def __init__(self, end: socket.socket) -> None:
        self.end = end
        self.is_open = True  # nobody wants this zygote to end
        self._decoder: msgspec.msgpack.Decoder[ToZygote] = msgspec.msgpack.Decoder(ToZygote)

    def send(self, word: FromZygote) -> None:
        try:
            send_word(self.end, word)
        except (BrokenPipeError, ConnectionResetError):
            self.is_open = False

    def take(self) -> tuple[ToZygote, list[int]] | None:
        """The next order and its descriptors, if there is one."""
        try:
            found = read_word(self.end, self._decoder)
        except BlockingIOError:
            return None
        self.is_open = self.is_open and found is not None
        return found


def close_all(descriptors: Iterable[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
