"""Numbers the blocks of one stream of a session: sequence, cumulative ack and credit, for both directions.

Blocks keep the boundaries at which they were first cut, so a copy is either wholly new or wholly known.
Credit is absolute and cumulative: it can be told again and again, late or twice, and only the largest counts.
"""

from collections import deque
from collections.abc import Sequence
from typing import Final

import msgspec

from ..protocol.codec import Packet
from ..protocol.control import Limits
from ..protocol.envelope import Buffer, size_of
from ..protocol.errors import ProtocolError

WINDOW_MESSAGES: Final = 1024
WINDOW_BYTES: Final = 8 * 1024 * 1024
UNLIMITED: Final = 2**62


class Parcel(msgspec.Struct):
    """A block as it was cut; it stays the same however often it is sent."""

    seq: int
    count: int
    body: bytes
    frames: Sequence[Buffer]
    size: int
    total_messages: int
    total_bytes: int
    transfers: Sequence[int] = ()
    after: int = 0
    sent_at: float = 0.0
    resent: bool = False


class Outgoing:
    """What leaves on a stream: parcels that wait for credit, and parcels that wait for their ack.

    A new stream starts with the credit of one window, without being told.
    """

    __slots__ = (
        "_limit_bytes",
        "_limit_messages",
        "bytes",
        "cut_last",
        "flight",
        "messages",
        "sent",
        "waiting",
    )

    def __init__(self, limit_messages: int) -> None:
        self.waiting: deque[Parcel] = deque()
        self.flight: list[Parcel] = []  # an empty deque takes 600 bytes, and there are many sessions
        self.sent = 0
        self.cut_last = 0
        self.messages = 0
        self.bytes = 0
        self._limit_messages = limit_messages
        self._limit_bytes = WINDOW_BYTES

    def cut(
        self, count: int, body: bytes, frames: Sequence[Buffer], transfers: Sequence[int] = (), after: int = 0
    ) -> None:
        size = len(body) + sum(map(size_of, frames))
        self.cut_last += 1
        self.messages += count
        self.bytes += size
        self.waiting.append(
            Parcel(self.cut_last, count, body, frames, size, self.messages, self.bytes, transfers, after)
        )

    def has_credit(self, count: int, size: int) -> bool:
        """True if a block cut now could leave at once."""
        if self.waiting:
            return False
        return self.messages + count <= self._limit_messages and self.bytes + size <= self._limit_bytes

    def take(self, now: float) -> Parcel | None:
        """The next parcel that credit allows; it is in flight from now on."""
        if not self.waiting:
            return None
        parcel = self.waiting[0]
        if parcel.total_messages > self._limit_messages or parcel.total_bytes > self._limit_bytes:
            return None
        parcel.sent_at = now
        self.sent = parcel.seq
        self.flight.append(self.waiting.popleft())
        return parcel

    def check(self) -> None:
        """What must hold between two calls."""
        numbers = [parcel.seq for parcel in (*self.flight, *self.waiting)]
        assert numbers == list(range(self.cut_last - len(numbers) + 1, self.cut_last + 1)), (
            "a block is missing or twice there"
        )
        assert all(parcel.seq <= self.sent for parcel in self.flight), "in flight, but never sent"

    def grant(self, limit_messages: int, limit_bytes: int) -> None:
        if limit_messages > self._limit_messages:
            self._limit_messages = limit_messages
        if limit_bytes > self._limit_bytes:
            self._limit_bytes = limit_bytes

    def acknowledge(self, ack: int) -> list[Parcel]:
        """The parcels that this ack confirms for the first time."""
        if ack > self.sent:
            raise ProtocolError(f"block {ack} confirmed, but only {self.sent} were sent")
        flight = self.flight
        if not flight or flight[0].seq > ack:
            return []
        count = ack - flight[0].seq + 1
        confirmed = flight[:count]
        del flight[:count]
        return confirmed


class Incoming:
    """What arrives on a stream: the blocks in order, and those that came too early for it."""

    __slots__ = (
        "_early",
        "_early_bytes",
        "_early_messages",
        "_told_bytes",
        "_told_messages",
        "_window_messages",
        "ack",
        "bytes",
        "limit_bytes",
        "limit_messages",
        "messages",
    )

    def __init__(self, window_messages: int) -> None:
        self.ack = 0
        self.messages = 0
        self.bytes = 0
        self.limit_messages = window_messages  # what the peer may send altogether, as of now
        self.limit_bytes = WINDOW_BYTES
        self._window_messages = window_messages
        self._told_messages = window_messages
        self._told_bytes = WINDOW_BYTES
        self._early: dict[int, Packet] = {}
        self._early_messages = 0
        self._early_bytes = 0

    def put(self, packet: Packet) -> bool:
        """Keeps a block until its turn; False for one that came before."""
        block = packet.block
        if block.seq <= self.ack or block.seq in self._early:
            return False
        messages = self.messages + self._early_messages + block.count
        size = self.bytes + self._early_bytes + packet.size
        if messages > self.limit_messages or size > self.limit_bytes:
            raise ProtocolError(f"{messages} messages, {size} bytes are more than was granted")
        self._early[block.seq] = packet
        self._early_messages += block.count
        self._early_bytes += packet.size
        return True

    def peek(self) -> Packet | None:
        return self._early.get(self.ack + 1)

    def pop(self) -> None:
        """The block that peek showed has been dealt with."""
        self.ack += 1
        packet = self._early.pop(self.ack)
        self._early_messages -= packet.block.count
        self._early_bytes -= packet.size
        self.messages += packet.block.count
        self.bytes += packet.size

    def consume(self, held_messages: int, held_bytes: int) -> bool:
        """Gives credit back for all but what is held; what was granted is never taken away. True if the peer was told less."""
        limit_messages = self.messages - held_messages + self._window_messages
        limit_bytes = self.bytes - held_bytes + WINDOW_BYTES
        if limit_messages > self.limit_messages:
            self.limit_messages = limit_messages
        if limit_bytes > self.limit_bytes:
            self.limit_bytes = limit_bytes
        return self.limit_messages > self._told_messages or self.limit_bytes > self._told_bytes

    def tell(self) -> Limits:
        """What the peer may know of us now."""
        return Limits(self.ack, self.limit_messages, self.limit_bytes)

    def note_told(self) -> None:
        """The peer is being told the limits as they are now."""
        self._told_messages = self.limit_messages
        self._told_bytes = self.limit_bytes

    def is_half_used(self) -> bool:
        """True if the peer has used half of what it was told."""
        left_messages = self._told_messages - self.messages
        left_bytes = self._told_bytes - self.bytes
        return left_messages * 2 <= self._window_messages or left_bytes * 2 <= WINDOW_BYTES


class Stream:
    """Both directions of the stream with this number."""

    __slots__ = ("incoming", "number", "out")

    def __init__(self, number: int, window_messages: int) -> None:
        self.number = number
        self.out = Outgoing(window_messages)
        self.incoming = Incoming(window_messages)
