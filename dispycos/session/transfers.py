"""Large payloads on their way in chunks: cutting them up, putting them together, keeping order around them.

Chunks of one transfer after the other leave on their channel's second stream, after the entry that announces them was sent.
Until a payload is complete, its entry and all later ones between the same two actors are held back.
"""

import mmap
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from ..protocol.codec import FRAME_MAX, TRANSFER_MAX, Chunk, Transfer
from ..protocol.envelope import ANYBODY, Buffer, Envelope, Payload, buffers_of, bytes_of, size_of
from ..protocol.errors import ProtocolError

CHUNKS_PER_BLOCK: Final = 3
ASSEMBLIES_MAX: Final = 64

LAZY_MIN: Final = 1024 * 1024

Pair = tuple[int, int]


def room_for(length: int) -> Buffer:
    """A buffer to be filled. Large ones get their pages as they are written: zeroing 64 MiB at once would keep a turn for 40 ms."""
    if length < LAZY_MIN:
        return bytearray(length)
    return memoryview(mmap.mmap(-1, length, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))


_NO_VIEWS: Final[deque[memoryview]] = deque()  # never filled


class Cargo(NamedTuple):
    """Some chunks to leave together, and the last transfer that they complete (0: none)."""

    chunks: list[Chunk]
    frames: list[Buffer]
    completed: int


class Shipments:
    """The sending side: payloads by transfer, and a cursor in the one that is being cut up."""

    def __init__(self) -> None:
        self.confirmed = 0
        self._announced = 0
        self._payloads: dict[int, Payload] = {}
        self.ready: list[int] = []  # transfers whose chunks may leave
        self._views = _NO_VIEWS
        self._offset = 0
        self.open_pairs: dict[
            Pair, int
        ] = {}  # with the transfer that their next message waits for at the receiver

    def offer(self, payload: Payload) -> Transfer:
        """What an entry with this payload has to say; it counts once it is announced."""
        sizes = [size_of(buffer) for buffer in buffers_of(payload)]
        return Transfer(self._announced + 1, sizes, not isinstance(payload, list))

    def announce(self, transfer: Transfer, payload: Payload, pair: Pair) -> None:
        """The entry of this transfer is in a body."""
        self._announced = transfer.id
        self._payloads[transfer.id] = payload
        self.open_pairs[pair] = transfer.id

    def payload(self, number: int) -> Payload:
        return self._payloads[number]

    def release(self, numbers: Iterable[int]) -> None:
        """The entries of these transfers were sent, so their chunks may follow."""
        self.ready.extend(numbers)

    def cut(self) -> Cargo:
        """Takes the next chunks."""
        cargo = Cargo([], [], 0)
        while self.ready and len(cargo.chunks) < CHUNKS_PER_BLOCK:
            number = self.ready[0]
            if not self._views:
                self._views = deque(_views(self._payloads[number]))
                self._offset = 0
            frame = self._next_frame()
            cargo.chunks.append(Chunk(number, self._offset))
            cargo.frames.append(frame)
            self._offset += size_of(frame)
            if not self._views:
                del self.ready[0]
                cargo = cargo._replace(completed=number)
        return cargo

    def _next_frame(self) -> Buffer:
        """A view where a chunk lies in one buffer; small buffers and edges are copied together."""
        views = self._views
        room = FRAME_MAX
        pieces: list[memoryview] = []
        while views and room:
            piece = views[0][:room]
            room -= piece.nbytes
            if piece.nbytes == views[0].nbytes:
                views.popleft()
            else:
                views[0] = views[0][piece.nbytes :]
            pieces.append(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def confirm(self, completed: int) -> None:
        """All transfers up to this one have arrived."""
        for number in range(self.confirmed + 1, completed + 1):
            del self._payloads[number]
        self.confirmed = max(self.confirmed, completed)
        self.open_pairs = {
            pair: number for pair, number in self.open_pairs.items() if number > self.confirmed
        }


class Assembly:
    """A payload that arrives: its buffers, and how much of them is filled."""

    def __init__(self, transfer: Transfer) -> None:
        self._single = transfer.single
        self._sizes = transfer.sizes
        self._buffers: list[Buffer] = []
        self._views: deque[memoryview] = deque()
        self._offset = 0
        self.total = sum(transfer.sizes)
        if self.total > TRANSFER_MAX or (self._single and len(self._sizes) != 1) or not self.total:
            raise ProtocolError(f"a transfer of {self.total} bytes in {len(self._sizes)} buffers")

    def is_begun(self) -> bool:
        return bool(self._buffers)

    def is_complete(self) -> bool:
        return self._offset == self.total

    def write(self, offset: int, frame: Buffer) -> None:
        size = size_of(frame)
        if offset != self._offset or size > self.total - offset or not size:
            raise ProtocolError(f"a chunk of {size} bytes for {offset}, where {self._offset} is next")
        if not self._buffers:
            self._buffers = self._allocate_all()
            self._views = deque(memoryview(buffer) for buffer in self._buffers if size_of(buffer))
        self._offset += size
        rest = memoryview(frame)
        views = self._views
        while rest.nbytes:
            piece = rest[: views[0].nbytes]
            views[0][: piece.nbytes] = piece
            rest = rest[piece.nbytes :]
            if piece.nbytes == views[0].nbytes:
                views.popleft()
            else:
                views[0] = views[0][piece.nbytes :]

    def _allocate_all(self) -> list[Buffer]:
        try:
            return [room_for(length) for length in self._sizes]
        except (MemoryError, OverflowError, OSError):
            raise ProtocolError(f"no memory for a transfer of {self.total} bytes") from None

    def payload(self) -> Payload:
        return self._buffers[0] if self._single else self._buffers


class Held(NamedTuple):
    """A message that waits for its payload, the transfer of this number, or for that of another (0)."""

    envelope: Envelope
    number: int
    floor: int


class Arrivals:
    """The receiving side: transfers that are not complete, and the messages that wait for them."""

    def __init__(self) -> None:
        self.held_messages = 0
        self.held_bytes = 0
        self._assemblies: dict[int, Assembly] = {}
        self._pairs: dict[int, Pair] = {}
        self._held: dict[Pair, deque[Held]] = {}
        self._begun = 0
        self._newest = 0

    def is_holding(self) -> bool:
        return bool(self._held)

    def holds(self, pair: Pair) -> bool:
        return pair in self._held

    def holds_from(self, sender: int) -> bool:
        """True while something of this actor is held; of anybody, if it is ANYBODY."""
        return bool(self._held) and (sender == ANYBODY or any(pair[0] == sender for pair in self._held))

    def knows(self, number: int) -> bool:
        """False for a transfer that no entry has announced yet."""
        return number <= self._newest

    def announce(self, envelope: Envelope, transfer: Transfer, floor: int = 0) -> None:
        """An entry whose payload is to come: it is held, and so is what follows it."""
        if transfer.id != self._newest + 1:
            raise ProtocolError(f"transfer {transfer.id} after {self._newest}")
        self._assemblies[transfer.id] = Assembly(transfer)
        self._newest = transfer.id
        self._pairs[transfer.id] = (envelope.sender.actor, envelope.to.actor)
        self.hold(envelope, transfer.id, floor)

    def hold(self, envelope: Envelope, number: int = 0, floor: int = 0) -> None:
        pair = (envelope.sender.actor, envelope.to.actor)
        self._held.setdefault(pair, deque()).append(Held(envelope, number, floor))
        self.held_messages += 1
        self.held_bytes += bytes_of(envelope.payload)

    def store(self, chunk: Chunk, frame: Buffer) -> "list[Held]":
        """Puts a chunk into its place; the messages that need no longer wait."""
        assembly = self._assemblies.get(chunk.transfer)
        if assembly is None:
            raise ProtocolError(f"a chunk of transfer {chunk.transfer}, which is complete")
        if not assembly.is_begun():
            self._begun += 1
            if self._begun > ASSEMBLIES_MAX:
                raise ProtocolError(f"{self._begun} transfers at the same time")
        assembly.write(chunk.offset, frame)
        if not assembly.is_complete():
            return []
        self._begun -= 1
        return self._release(self._pairs.pop(chunk.transfer))

    def _release(self, pair: Pair) -> "list[Held]":
        queue = self._held[pair]
        released: list[Held] = []
        while queue:
            held = queue[0]
            envelope, number, _ = held
            if number and not self._assemblies[number].is_complete():
                return released
            queue.popleft()
            self.held_messages -= 1
            self.held_bytes -= bytes_of(envelope.payload)
            if number:
                envelope.payload = self._assemblies.pop(number).payload()
            released.append(held)
        del self._held[pair]
        return released


def _views(payload: Payload) -> Sequence[memoryview]:
    return [memoryview(buffer).cast("B") for buffer in buffers_of(payload) if size_of(buffer)]
