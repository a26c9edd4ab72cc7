"""What travels between actors: a typed word, where to, where from, and bytes that no relay reads."""

from typing import Any

import msgspec

from .addresses import Address

Buffer = bytes | bytearray | memoryview
Payload = Buffer | list[Buffer] | None


class Envelope(msgspec.Struct, gc=False):
    """One message on its way; a list as payload is a pickle stream followed by its out-of-band buffers."""

    to: Address
    sender: Address
    message: Any
    correlation: int = 0
    payload: Payload = None


class About(msgspec.Struct, array_like=True, frozen=True):
    """What a runtime tells of itself, before anything else is said."""

    protocol: tuple[int, int]
    version: str
    python: tuple[int, int]
    pickle: int
    platform: str
    max_frame: int
    features: tuple[str, ...] = ()
    clock: float = 0.0
    name: str = ""


def buffers_of(payload: Payload) -> list[Buffer]:
    if payload is None:
        return []
    return payload if isinstance(payload, list) else [payload]


def size_of(buffer: Buffer) -> int:
    """The bytes in a buffer; len() of a memoryview counts items."""
    return buffer.nbytes if isinstance(buffer, memoryview) else len(buffer)
