"""What agent, template and zygote say to each other, and the lines that carry it.

A line between agent and child is a socketpair; its frames are `length (4 bytes, big endian) | msgpack`, and
descriptors travel beside them, in order.
"""

from __future__ import annotations

import os
import socket
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Generic, TypeVar

import msgspec

ARGUMENT_MAX = 16 << 20
FRAME_MAX = ARGUMENT_MAX + (1 << 20)  # an argument, and an environment beside it
READ_SIZE = 64 << 10
_ROOM = socket.CMSG_SPACE(8 * 4)  # for 8 descriptors; the kernel never merges those of two writes


# --- the words ------------------------------------------------------------------------------------------


class ForkZygote(msgspec.Struct, tag=True, frozen=True):
    """Agent to template, with the zygote's end of a new line."""

    request: int


class TemplateReady(msgspec.Struct, tag=True, frozen=True):
    pass


class TemplateFailed(msgspec.Struct, tag=True, frozen=True):
    text: str


class ZygoteForked(msgspec.Struct, tag=True, frozen=True):
    request: int


class ForkFailed(msgspec.Struct, tag=True, frozen=True):
    request: int
    text: str


class ZygoteBorn(msgspec.Struct, tag=True, frozen=True):
    """The first word of a zygote: its agent can end it from now on."""

    pid: int


class SetUp(msgspec.Struct, tag=True, frozen=True):
    """Agent to zygote, after the process between template and zygote has ended."""

    agent: int
    adopted: bool  # the zygote is the agent's child now
    tag: str
    folder: str
    environment: dict[str, str | None]
    function: str | None
    argument: bytes


class SetupDone(msgspec.Struct, tag=True, frozen=True):
    pass


class SetupRefused(msgspec.Struct, tag=True, frozen=True):
    text: str


class StartServer(msgspec.Struct, tag=True, frozen=True):
    """Agent to zygote, with the write ends of the server's two output pipes, and its page."""

    request: int
    name: str
    number: int
    entry: str
    argument: bytes


class ServerStarted(msgspec.Struct, tag=True, frozen=True):
    request: int
    pid: int
    folder: str


class StartFailed(msgspec.Struct, tag=True, frozen=True):
    request: int
    text: str


class SignalServer(msgspec.Struct, tag=True, frozen=True):
    pid: int
    signal: int


class EndStep(msgspec.Struct, tag=True, frozen=True):
    """Kill this server if this very step still runs; answered by StepJudged."""

    pid: int
    position: int
    since: int


class StepJudged(msgspec.Struct, tag=True, frozen=True):
    pid: int
    killed: bool


class ServerEnded(msgspec.Struct, tag=True, frozen=True):
    pid: int
    status: int
    peak_rss_bytes: int
    user_s: float
    system_s: float


class EndZygote(msgspec.Struct, tag=True, frozen=True):
    pass


class ZygoteSwept(msgspec.Struct, tag=True, frozen=True):
    """The last word of a zygote; `left` are the processes of its lease that it could not end."""

    left: list[int]


ToTemplate = ForkZygote
FromTemplate = TemplateReady | TemplateFailed | ZygoteForked | ForkFailed
ToZygote = SetUp | StartServer | SignalServer | EndStep | EndZygote
FromZygote = (
    ZygoteBorn
    | SetupDone
    | SetupRefused
    | ServerStarted
    | StartFailed
    | StepJudged
    | ServerEnded
    | ZygoteSwept
)
Word = ToTemplate | FromTemplate | ToZygote | FromZygote
Heard = TypeVar("Heard")


# --- the lines ------------------------------------------------------------------------------------------


def encode_frame(word: Word) -> bytes:
    body = msgspec.msgpack.encode(word)
    if len(body) > FRAME_MAX:
        raise ValueError(f"a message of {len(body)} bytes is over the limit of {FRAME_MAX}")
    return len(body).to_bytes(4, "big") + body


class FrameReader(Generic[Heard]):
    """Cuts what a line delivers into words; keeps the descriptors that came beside them."""

    def __init__(self, kind: Any) -> None:
        self._decoder: msgspec.msgpack.Decoder[Heard] = msgspec.msgpack.Decoder(kind)
        self._buffer = bytearray()
        self.descriptors: deque[int] = deque()

    def read_from(self, line: socket.socket, flags: int = 0) -> bool:
        """One read. False when the other end is gone; BlockingIOError as recv raises it."""
        flags |= getattr(socket, "MSG_CMSG_CLOEXEC", 0)
        try:  # not socket.recv_fds, which drops its flags
            data, beside, _, _ = line.recvmsg(READ_SIZE, _ROOM, flags)
        except ConnectionResetError:
            return False
        self._buffer += data
        for level, kind, numbers in beside:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                self.descriptors.extend(memoryview(numbers).cast("i"))
        return bool(data)

    def words(self) -> Iterator[Heard]:
        """ValueError (msgspec's errors are such) when the other end does not speak this language."""
        while len(self._buffer) >= 4:
            end = 4 + int.from_bytes(self._buffer[:4], "big")
            if end > 4 + FRAME_MAX:
                raise ValueError(f"a message of {end - 4} bytes is over the limit of {FRAME_MAX}")
            if len(self._buffer) < end:
                return
            body = bytes(memoryview(self._buffer)[4:end])
            del self._buffer[:end]
            yield self._decoder.decode(body)


class Line(Generic[Heard]):
    """The child's end of a line: it may block, for its agent always reads."""

    def __init__(self, end: socket.socket, kind: Any) -> None:
        self.end = end
        self.reader: FrameReader[Heard] = FrameReader(kind)
        self.is_open = True

    def send(self, word: Word) -> None:
        try:
            self.end.sendall(encode_frame(word))
        except (BrokenPipeError, ConnectionResetError):
            self.is_open = False  # the agent is gone; the next read says so too, and ends this process

    def receive(self) -> Heard | None:
        """Wait for one word; None when the agent is gone."""
        while True:
            for word in self.reader.words():
                return word
            if not self.reader.read_from(self.end):
                return None

    def close(self) -> None:
        """In a fork: this end, and what came for others, whose readers would wait for us to close it."""
        self.end.close()
        while self.reader.descriptors:
            os.close(self.reader.descriptors.popleft())

    def take(self) -> list[Heard]:
        """All words that are here now; `is_open` is False once the agent is gone."""
        with suppress(BlockingIOError):
            while self.is_open:
                self.is_open = self.reader.read_from(self.end, socket.MSG_DONTWAIT)
        return list(self.reader.words())
