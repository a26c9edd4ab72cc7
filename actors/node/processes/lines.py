"""What agent and zygote say to each other, and the lines that carry it.

A line is a pair of sockets that keep messages apart: each is one word in msgpack, with descriptors beside it. What an agent
wants of its template is a folder's name, with the zygote's end of a new line; the template says nothing.
"""

from __future__ import annotations

import asyncio
import os
import select
import socket
import tempfile
from array import array
from collections import deque
from collections.abc import Callable, Iterable
from typing import TypeVar

import msgspec

WORD_MAX = 64 << 10
_ROOM = socket.CMSG_SPACE(4 * 4)  # for 4 descriptors


# --- the words ------------------------------------------------------------------------------------------


class ZygoteBorn(msgspec.Struct, tag=True, frozen=True):
    """The first word of a zygote: orders may come."""

    pid: int


class ZygoteFailed(msgspec.Struct, tag=True, frozen=True):
    """There is none, or it could not begin to serve."""

    text: str


class Prepare(msgspec.Struct, tag=True, frozen=True):
    """Call `entry` before servers are forked, which inherit what it returns. With a memory that holds its frames, and the write
    ends of two pipes for what it prints. Answered by Prepared or PrepareFailed, and CodeAsked meanwhile.
    """

    entry: str
    argument: bytes


class CodeAsked(msgspec.Struct, tag=True, frozen=True):
    """What is prepared lacks code: the request, encoded. Answered by CodeAnswered."""

    request: bytes


class CodeAnswered(msgspec.Struct, tag=True, frozen=True):
    """With a memory that holds the answer."""

    error: str = ""


class Prepared(msgspec.Struct, tag=True, frozen=True):
    pass


class PrepareFailed(msgspec.Struct, tag=True, frozen=True):
    text: str


class StartServer(msgspec.Struct, tag=True, frozen=True):
    """With the write ends of the server's two output pipes, and its page. Answered by ServerStarted or StartFailed."""

    number: int
    entry: str
    argument: bytes


class ServerStarted(msgspec.Struct, tag=True, frozen=True):
    number: int
    pid: int


class StartFailed(msgspec.Struct, tag=True, frozen=True):
    number: int
    text: str


class KillServer(msgspec.Struct, tag=True, frozen=True):
    number: int


class EndStep(msgspec.Struct, tag=True, frozen=True):
    """Kill this server if this very step still runs; answered by StepJudged, if it has not ended."""

    number: int
    position: int
    since: int


class StepJudged(msgspec.Struct, tag=True, frozen=True):
    number: int
    killed: bool


class ServerEnded(msgspec.Struct, tag=True, frozen=True):
    number: int
    status: int


ToZygote = Prepare | CodeAnswered | StartServer | KillServer | EndStep
FromZygote = (
    ZygoteBorn
    | ZygoteFailed
    | CodeAsked
    | Prepared
    | PrepareFailed
    | ServerStarted
    | StartFailed
    | StepJudged
    | ServerEnded
)
Heard = TypeVar("Heard")
_encode = msgspec.msgpack.Encoder().encode


# --- the lines ------------------------------------------------------------------------------------------


def make_line() -> tuple[socket.socket, socket.socket]:
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


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
            self.end.send(_encode(word))
        except (BrokenPipeError, ConnectionResetError):
            self.is_open = False

    def wait(self) -> tuple[ToZygote, list[int]] | None:
        """The next order and its descriptors; None: there will be none."""
        select.select([self.end], [], [])
        return self.take()

    def take(self) -> tuple[ToZygote, list[int]] | None:
        """The next order and its descriptors, if there is one."""
        try:
            found = read_word(self.end, self._decoder)
        except BlockingIOError:
            return None
        self.is_open = self.is_open and found is not None
        return found


class AgentLine:
    """The agent's end: never blocks, hands on each word as it comes, and that there will be none."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        end: socket.socket,
        on_word: Callable[[FromZygote], None],
        on_lost: Callable[[], None],
    ) -> None:
        self._loop, self._end = loop, end
        self._decoder: msgspec.msgpack.Decoder[FromZygote] = msgspec.msgpack.Decoder(FromZygote)
        self._on_word, self._on_lost = on_word, on_lost
        self._queue: deque[tuple[bytes, tuple[int, ...]]] = deque()
        self.is_open = True
        end.setblocking(False)
        loop.add_reader(end, self._read)

    def send(self, word: ToZygote, descriptors: tuple[int, ...] = ()) -> None:
        """The descriptors beside it are the line's from now on: sent, then closed here."""
        if not self.is_open:
            close_all(descriptors)
            return
        self._queue.append((_encode(word), descriptors))
        if len(self._queue) == 1:
            self._write()

    def say_no_more(self) -> None:
        """The other end reads that this was all."""
        if self.is_open:
            self._end.shutdown(socket.SHUT_WR)

    def _read(self) -> None:
        try:
            found = read_word(self._end, self._decoder)
        except BlockingIOError:
            return
        if found is not None:
            self._on_word(found[0])
            return
        self.is_open = False
        self._loop.remove_reader(self._end)
        self._drop_queue()
        self._end.close()
        self._on_lost()

    def _write(self) -> None:
        try:
            while self._queue:
                data, descriptors = self._queue[0]
                beside = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", descriptors))]
                self._end.sendmsg([data], beside if descriptors else [])
                close_all(descriptors)
                self._queue.popleft()
            self._loop.remove_writer(self._end)
        except BlockingIOError:
            self._loop.add_writer(self._end, self._write)
        except OSError:  # it is gone, as will be read; or was told that this is all
            self._drop_queue()

    def _drop_queue(self) -> None:
        self._loop.remove_writer(self._end)
        for _, descriptors in self._queue:
            close_all(descriptors)
        self._queue.clear()


# --- memories -------------------------------------------------------------------------------------------


def write_memory(frames: Iterable[bytes | bytearray | memoryview]) -> int:
    """The descriptor of a file without a path, with these in it; larger than a word may be. Raises OSError."""
    if hasattr(os, "memfd_create"):
        memory = os.memfd_create("dispycos-setup")
    else:
        with tempfile.TemporaryFile() as file:
            memory = os.dup(file.fileno())
    with open(os.dup(memory), "wb") as file:
        for frame in frames:
            file.write(len(frame).to_bytes(8, "little"))
            file.write(frame)
    return memory


def read_memory(memory: int) -> list[bytes]:
    """What was written there; closes it."""
    with open(memory, "rb") as file:
        file.seek(0)
        frames = []
        while head := file.read(8):
            frames.append(file.read(int.from_bytes(head, "little")))
    return frames


def close_all(descriptors: Iterable[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
