"""Turns blocks and entries into bytes and back; bytes from outside are well formed or raise ProtocolError.

A ZeroMQ message is frame 0, an array of block headers with their bodies, then the payload frames of these
blocks in order. A relay reads headers only. A body is an array of entries, or chunks, or a control record.
"""

from collections.abc import Sequence
from numbers import Integral, Real
from typing import Annotated, Any, Final, Generic, TypeVar, get_args

import msgspec

from .control import Control, Unsigned
from .envelope import Buffer, Payload, buffers_of, size_of
from .errors import ProtocolError
from .texts import fitted

KIB: Final = 1024
INLINE_MAX: Final = 16 * KIB
FRAME_MAX: Final = 256 * KIB
BODY_MAX: Final = 128 * KIB
BLOCK_MESSAGES: Final = 64
BLOCK_FRAMES: Final = 63
MESSAGE_MAX: Final = 1024 * KIB
HEAD_MAX: Final = FRAME_MAX
BLOCK_BYTES: Final = MESSAGE_MAX - 2 * KIB
HEADER_SIZE: Final = 128
BUFFERS_MAX: Final = 4096
TRANSFER_MAX: Final = 16 * KIB * KIB * KIB
TEXT_LIMITS: Final = (16 * KIB, KIB, 64)  # characters of each text in a message that is too long

VERSION: Final = 3
RECORD: Final = 1  # flags: the body is a record of links or sessions, outside the streams
NOTICE: Final = 2  # ... to which nobody answers

_ARRAY = b"\xdc\x00\x00"
_Sizes = Annotated[list[Unsigned], msgspec.Meta(max_length=BUFFERS_MAX)]

M = TypeVar("M")


class Block(msgspec.Struct, array_like=True, gc=False):
    """The header that relays read, and a body that they do not.

    Ack and limits are those of the same stream in the other direction; `seq` 0 says them alone, or is outside the streams.
    """

    version: Unsigned
    to_epoch: Unsigned
    from_epoch: Unsigned
    sid: Unsigned
    stream: Unsigned
    seq: Unsigned
    count: Unsigned
    ack: Unsigned
    limit_messages: Unsigned
    limit_bytes: Unsigned
    hops: Unsigned
    flags: Unsigned
    frames: Unsigned
    body: memoryview


class Packet(msgspec.Struct, gc=False):
    """A block with the frames that belong to it."""

    block: Block
    frames: Sequence[Buffer]
    size: int


class Transfer(msgspec.Struct, frozen=True):
    """Stands for a payload that travels in chunks."""

    id: Unsigned
    sizes: _Sizes
    single: bool


class Chunk(msgspec.Struct, array_like=True, frozen=True):
    """Says where the next frame belongs in a transfer, its buffers taken as one."""

    transfer: Unsigned
    offset: Unsigned


class Unknown(msgspec.Struct, array_like=True, frozen=True):
    """A message with a tag that this version has not heard of."""

    message_tag: int


WirePayload = None | bytes | Unsigned | list[bytes] | Transfer


class Entry(msgspec.Struct, Generic[M], array_like=True, gc=False):
    """A message inside a body; the payload is inline, 0 for one frame, n for a list of n, or a Transfer.

    With a floor it is delivered behind this block of the messages between tasks, and behind all that its subject sent in it.
    """

    to: Unsigned
    sender: Unsigned
    correlation: Unsigned
    message: M
    payload: WirePayload = None
    floor: Unsigned = 0


class _LooseEntry(msgspec.Struct, array_like=True):
    to: Unsigned
    sender: Unsigned
    correlation: Unsigned
    message: msgspec.Raw
    payload: WirePayload = None
    floor: Unsigned = 0


class _Head(msgspec.Struct, array_like=True):
    tag: int


_OUTSIDE = (ValueError, RecursionError, OverflowError, MemoryError)


def _decode(decoder: "msgspec.msgpack.Decoder[M]", data: Buffer) -> M:
    try:
        return decoder.decode(data)
    except _OUTSIDE as error:
        raise ProtocolError(f"malformed: {error}") from None


def _plain(value: Any) -> Any:
    """What users give as a name or a number may be of a subclass, or numpy's."""
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value)
    if hasattr(value, "item"):  # numpy's bool, or an array without dimensions
        return value.item()
    raise TypeError(f"Encoding objects of type {type(value).__qualname__} is unsupported")


_encoder: Final = msgspec.msgpack.Encoder(enc_hook=_plain)
_blocks: Final = msgspec.msgpack.Decoder(list[Block])
_chunks: Final = msgspec.msgpack.Decoder(list[Chunk])
_controls: "msgspec.msgpack.Decoder[Control]" = msgspec.msgpack.Decoder(Control)
_raws: Final = msgspec.msgpack.Decoder(list[msgspec.Raw])
_loose: Final = msgspec.msgpack.Decoder(_LooseEntry)
_heads: Final = msgspec.msgpack.Decoder(_Head)
_versions: Final = msgspec.msgpack.Decoder(list[_Head])


def encode_control(record: Control) -> bytes:
    return _encoder.encode(record)


def decode_control(body: Buffer) -> Control:
    return _decode(_controls, body)


def control_packet(epoch: int, to: int, body: bytes, flags: int = RECORD) -> Packet:
    """A block outside of the streams and of any session, from this epoch to that."""
    block = Block(VERSION, to, epoch, 0, 0, 0, 0, 0, 0, 0, 0, flags, 0, memoryview(body))
    return Packet(block, (), len(body))


def encode_chunks(chunks: list[Chunk]) -> bytes:
    return _encoder.encode(chunks)


def decode_chunks(body: Buffer, count: int) -> list[Chunk]:
    chunks = _decode(_chunks, body)
    if len(chunks) != count:
        raise ProtocolError(f"{count} chunks declared, {len(chunks)} found")
    return chunks


def encode_message(packets: Sequence[Packet]) -> list[Buffer]:
    """The frames of one ZeroMQ message; `group` says how many packets fit."""
    frames: list[Buffer] = [_encoder.encode([packet.block for packet in packets])]
    for packet in packets:
        if packet.frames:
            frames.extend(packet.frames)
    return frames


def decode_message(frames: Sequence[Buffer]) -> list[Packet]:
    """Takes a ZeroMQ message apart after counting it; bodies and payload frames stay as they are."""
    if not 1 <= len(frames) <= 1 + BLOCK_FRAMES:
        raise ProtocolError(f"{len(frames)} frames in a message")
    sizes = list(map(size_of, frames))
    if sizes[0] > HEAD_MAX or (len(sizes) > 1 and (max(sizes) > FRAME_MAX or sum(sizes) > MESSAGE_MAX)):
        raise ProtocolError(f"a message of {sum(sizes)} bytes, its largest frame {max(sizes)}")
    packets: list[Packet] = []
    start = 1
    for block in _decode_blocks(frames[0]):
        size = len(block.body)
        stop = start + block.frames
        if block.version != VERSION:
            raise _other_version(block.version)
        if stop > len(frames) or block.count > BLOCK_MESSAGES or size > BODY_MAX:
            raise ProtocolError("a block larger than allowed")
        if stop == start:
            packets.append(Packet(block, (), size))
        else:
            packets.append(Packet(block, frames[start:stop], size + sum(sizes[start:stop])))
        start = stop
    if start != len(frames):
        raise ProtocolError(f"{len(frames) - start} frames belong to no block")
    return packets


def _decode_blocks(head: Buffer) -> list[Block]:
    try:
        return _decode(_blocks, head)
    except ProtocolError:
        for block in _decode(_versions, head):  # of another version only that is sure
            if block.tag != VERSION:
                raise _other_version(block.tag) from None
        raise


def _other_version(version: int) -> ProtocolError:
    return ProtocolError(
        f"a block of version {version}, where {VERSION} is spoken: another release of dispycos"
    )


def group(packets: Sequence[Packet]) -> list[list[Packet]]:
    """Splits packets into runs that each fit one ZeroMQ message."""
    if len(packets) == 1:
        return [[packets[0]]]
    groups: list[list[Packet]] = []
    head = frames = total = HEAD_MAX + 1
    for packet in packets:
        inline = len(packet.block.body) + HEADER_SIZE
        size = packet.size + HEADER_SIZE
        count = packet.block.frames
        if head + inline > HEAD_MAX or frames + count > BLOCK_FRAMES or total + size > MESSAGE_MAX:
            groups.append([])
            head, frames, total = KIB, 0, KIB
        groups[-1].append(packet)
        head, frames, total = head + inline, frames + count, total + size
    return groups


class Codec(Generic[M]):
    """Encodes and decodes the messages of one union."""

    def __init__(self, message_type: Any) -> None:
        members = get_args(message_type) or (message_type,)
        self._tags = {member.__struct_config__.tag for member in members}
        generic: Any = Entry
        entry: Any = generic[message_type]
        self._entry: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(entry)
        self._entries: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(list[entry])
        self._encode_into = _encoder.encode_into

    def append(
        self,
        body: bytearray,
        to: int,
        sender: int,
        correlation: int,
        message: M,
        payload: Any,
        floor: int = 0,
    ) -> None:
        """Adds an entry to an open body; what cannot be encoded raises and leaves the body as it was."""
        size = len(body)
        try:
            if floor:
                self._encode_into((to, sender, correlation, message, payload, floor), body, -1)
            else:
                self._encode_into((to, sender, correlation, message, payload), body, -1)
        except Exception:
            del body[size:]
            body += self.encode_short(to, sender, correlation, message, payload, floor)

    def encode_short(
        self, to: int, sender: int, correlation: int, message: M, payload: Any, floor: int = 0
    ) -> bytes:
        """The entry with its texts cut until it fits into a body, alone if need be.

        Raises
        ------
        ValueError: it is too long without them. What msgspec raises: something in it is no word.
        """
        for limit in TEXT_LIMITS:
            entry = _encoder.encode((to, sender, correlation, fitted(message, limit), payload, floor))
            if len(entry) + len(_ARRAY) <= BODY_MAX:
                return entry
        raise ValueError(
            f"a message of {len(entry)} bytes, {type(message).__name__}: anything large belongs into the payload"
        )

    def decode_entries(self, body: Buffer, count: int) -> list[Entry[M | Unknown]]:
        """All entries of a body; one whose message has an unknown tag carries Unknown in its place."""
        try:
            entries: list[Entry[Any]] = self._entries.decode(body)
        except _OUTSIDE:
            entries = [self._decode_entry(raw) for raw in _decode(_raws, body)]
        if len(entries) != count:
            raise ProtocolError(f"{count} entries declared, {len(entries)} found")
        return entries

    def _decode_entry(self, raw: msgspec.Raw) -> Entry[Any]:
        try:
            entry: Entry[Any] = self._entry.decode(raw)
            return entry
        except _OUTSIDE as error:
            loose = _decode(_loose, memoryview(raw))
            tag = _decode(_heads, memoryview(loose.message)).tag
            if tag in self._tags:
                raise ProtocolError(f"malformed message {tag}: {error}") from None
            return Entry(loose.to, loose.sender, loose.correlation, Unknown(tag), loose.payload, loose.floor)


def open_body() -> bytearray:
    return bytearray(_ARRAY)


def close_body(body: Buffer, count: int) -> bytes:
    """Writes the number of entries that `open_body` left room for."""
    return b"\xdc" + count.to_bytes(2, "big") + bytes(body[3:])


def place(payload: Payload) -> tuple[Any, list[Buffer]] | None:
    """How a payload is written into its entry and the frames that follow; None if it travels in chunks."""
    buffers = buffers_of(payload)
    size = sum(map(size_of, buffers))
    if size > TRANSFER_MAX or len(buffers) > BUFFERS_MAX:
        raise ValueError(
            f"a payload of {size} bytes in {len(buffers)} buffers is larger than messages may be"
        )
    if size <= INLINE_MAX:
        return payload, []
    if size > FRAME_MAX or len(buffers) > BLOCK_FRAMES:
        return None
    return (len(buffers) if isinstance(payload, list) else 0), buffers


def payload_of(written: Any, frames: Sequence[Buffer], start: int) -> tuple[Payload, int]:
    """The payload an entry speaks of, and where the frames of the next entry start."""
    if not isinstance(written, int):
        return written, start
    stop = start + max(written, 1)
    if stop > len(frames):
        raise ProtocolError("an entry speaks of frames that its block does not have")
    return (list(frames[start:stop]) if written else frames[start]), stop
