"""What travels between actors: a typed word, where to, where from, and bytes that no relay reads."""

from typing import Any, Final

import msgspec

from .addresses import Address

Buffer = bytes | bytearray | memoryview
Payload = Buffer | list[Buffer] | None


# The ways of a session, `way` of each class of messages: in the channel of control words, in that of the messages between
# tasks, or in that of control words but behind what its subject (`actor`) has sent in the other.
CONTROL: Final = 0
MESSAGES: Final = 1
BEHIND: Final = 2
ANYBODY: Final = -1  # as `actor`: behind all that was sent


class Envelope(msgspec.Struct, gc=False):
    """One message on its way; a list as payload is a pickle stream followed by its out-of-band buffers."""

    to: Address
    sender: Address
    message: Any
    correlation: int = 0
    payload: Payload = None


class About(msgspec.Struct, array_like=True, frozen=True):
    """What a runtime tells of itself, before anything else is said."""

    protocol: tuple[int, int]  # the oldest and the newest that it speaks
    version: str
    name: str = ""
    pid: int = 0  # as it knows itself; 0: not told


def buffers_of(payload: Payload) -> list[Buffer]:
    if payload is None:
        return []
    return payload if isinstance(payload, list) else [payload]


def size_of(buffer: Buffer) -> int:
    """The bytes in a buffer; len() of a memoryview counts items."""
    return buffer.nbytes if isinstance(buffer, memoryview) else len(buffer)


def bytes_of(payload: Payload) -> int:
    """The bytes in all its buffers."""
    if type(payload) is bytes:  # most are
        return len(payload)
    if payload is None:
        return 0
    return sum(map(size_of, payload)) if isinstance(payload, list) else size_of(payload)
