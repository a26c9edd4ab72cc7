"""Packs messages into the blocks of a session, and takes them out again at the other end, in order.

The session numbers blocks, sends them again and counts credit, and never looks into one; what is in them is
decided here. A payload is written into its entry, or leaves in frames of its own behind the block, or, if it
is large, in chunks: those are transfers, and until one is complete what follows it waits (`transfers`).
"""

from collections.abc import Callable, Iterator
from heapq import heappush
from itertools import count
from typing import Any, Final

import msgspec

from ..protocol.addresses import Address
from ..protocol.codec import (
    BLOCK_BYTES,
    BLOCK_FRAMES,
    BLOCK_MESSAGES,
    BODY_MAX,
    INLINE_MAX,
    Codec,
    Packet,
    Transfer,
    Unknown,
    close_body,
    decode_chunks,
    open_body,
    payload_of,
    place,
)
from ..protocol.envelope import ANYBODY, Buffer, Envelope, size_of
from ..protocol.errors import ProtocolError
from .stream import Outgoing, Parcel
from .transfers import Arrivals, Shipments

ADDRESSES_MAX: Final = 4096
LATEST_MAX: Final = 1024  # actors of which is known which block has their latest message
_PLAIN: Final = frozenset((bytes, type(None)))


class Known(dict[int, Address]):
    """The addresses of one runtime, made once each."""

    def __init__(self, epoch: int) -> None:
        super().__init__()
        self._epoch = epoch

    def __missing__(self, actor: int) -> Address:
        if len(self) >= ADDRESSES_MAX:
            self.clear()
        address = self[actor] = Address(self._epoch, actor)
        return address


class Packing:
    """The sending side: the block that is open, and the messages that are not confirmed."""

    def __init__(
        self, codec: Codec[Any], here: Known, there: Known, out: Outgoing, shipments: Shipments
    ) -> None:
        self._codec = codec
        self._write = codec.append
        self._here = here
        self._there = there
        self._out = out
        self._shipments = shipments
        self.retained: list[Parcel] = []  # confirmed blocks with messages that the peer still holds back
        self._latest: dict[int, int] = {}  # by actor: the block with the last message that it sent
        self._open_block()

    def _open_block(self) -> None:
        self._number = self._out.cut_last + 1
        self.body = open_body()
        self.count = 0
        self._frames: list[Buffer] = []
        self.frames_size = 0
        self._transfers: list[int] = []
        self._after = 0

    def put(self, envelope: Envelope, floor: int = 0) -> bool:
        """Takes a message; True when a block became full and could be pumped."""
        payload, sender = envelope.payload, envelope.sender[1]
        if floor or (payload is not None and (payload.__class__ is not bytes or len(payload) > INLINE_MAX)):
            self._put_large(envelope, floor)
        else:  # as in _append, without the call: every message comes by here
            body = self.body
            before = len(body)
            self._write(body, envelope.to[1], sender, envelope.correlation, envelope.message, payload)
            if len(body) > BODY_MAX:
                self._split(before, envelope, payload)
        if self._shipments.open_pairs:
            pair = (envelope.sender.actor, envelope.to.actor)
            self._after = max(self._after, self._shipments.open_pairs.get(pair, 0))
        self._latest[sender] = self._number
        self.count += 1
        if self.count < BLOCK_MESSAGES and len(self.body) + self.frames_size < BODY_MAX:
            return False
        self.cut()
        return True

    def floor(self, actor: int) -> int:
        """The block behind which comes what is said of this actor; 0 if the peer has all that it sent."""
        return self._out.cut_last + (self.count > 0) if actor == ANYBODY else self._latest.get(actor, 0)

    def _append(self, envelope: Envelope, written: Any, floor: int) -> None:
        before = len(self.body)
        self._write(
            self.body,
            envelope.to[1],
            envelope.sender[1],
            envelope.correlation,
            envelope.message,
            written,
            floor,
        )
        if len(self.body) > BODY_MAX:
            self._split(before, envelope, written, floor)

    def _put_large(self, envelope: Envelope, floor: int) -> None:
        """A floor, or a payload that may have to leave in frames of its own or in chunks."""
        placed = place(envelope.payload)
        if placed is None:
            transfer = self._shipments.offer(envelope.payload)
            self._append(envelope, transfer, floor)
            self._shipments.announce(transfer, envelope.payload, (envelope.sender.actor, envelope.to.actor))
            self._transfers.append(transfer.id)
            return
        written, frames = placed
        size = sum(map(size_of, frames))
        if frames and (
            len(self._frames) + len(frames) > BLOCK_FRAMES or self.frames_size + size + BODY_MAX > BLOCK_BYTES
        ):
            self.cut()
        self._append(envelope, written, floor)
        self._frames.extend(frames)
        self.frames_size += size

    def _split(self, before: int, envelope: Envelope, written: Any, floor: int = 0) -> None:
        """The body grew too long: all but the last entry make a block. One that is too long alone has its texts cut."""
        tail: bytes | bytearray = self.body[before:]
        del self.body[before:]
        if len(tail) + 3 > BODY_MAX:
            tail = self._codec.encode_short(
                envelope.to[1], envelope.sender[1], envelope.correlation, envelope.message, written, floor
            )
        self.cut()
        self.body += tail

    def cut(self) -> None:
        """The open block is as large as it will be, and waits in the stream."""
        if self.count:
            body = close_body(self.body, self.count)
            self._out.cut(self.count, body, self._frames, self._transfers, self._after)
            self._open_block()

    def wants_acks(self) -> bool:
        """True while `retire` has something to do for messages."""
        return bool(self.retained or self._shipments.open_pairs or len(self._latest) > LATEST_MAX)

    def retire(self, messages: list[Parcel], chunks: list[Parcel]) -> None:
        """Forgets what is confirmed, but for blocks with messages that the peer still holds back."""
        shipments = self._shipments
        completed = max((parcel.after for parcel in chunks), default=0)
        if completed:
            shipments.confirm(completed)
        if len(self._latest) > LATEST_MAX and messages:
            held, confirmed = {pair[0] for pair in shipments.open_pairs}, messages[-1].seq
            self._latest = {
                actor: seq for actor, seq in self._latest.items() if seq > confirmed or actor in held
            }
        retained = self.retained
        retained.extend(parcel for parcel in messages if parcel.after > shipments.confirmed)
        while retained and retained[0].after <= shipments.confirmed:
            del retained[0]

    def unconfirmed(self) -> list[Envelope]:
        """All messages that the peer did not confirm, in the order in which they were sent."""
        self.cut()
        envelopes: list[Envelope] = []
        latest: dict[tuple[int, int], int] = {}
        for parcel in self.retained:
            for envelope, transfer in self._reopen(parcel):
                pair = (envelope.sender.actor, envelope.to.actor)
                latest[pair] = transfer or latest.get(pair, 0)
                if latest[pair] > self._shipments.confirmed:
                    envelopes.append(envelope)
        for parcel in (*self._out.flight, *self._out.waiting):
            envelopes.extend(envelope for envelope, _ in self._reopen(parcel))
        return envelopes

    def _reopen(self, parcel: Parcel) -> Iterator[tuple[Envelope, int]]:
        here, there = self._here, self._there
        start = 0
        for e in self._codec.decode_entries(parcel.body, parcel.count):
            payload, start = payload_of(e.payload, parcel.frames, start)
            number = 0
            if isinstance(e.payload, Transfer):
                number = e.payload.id
                payload = self._shipments.payload(number) if number > self._shipments.confirmed else None
            yield Envelope(there[e.to], here[e.sender], e.message, e.correlation, payload), number

    def check(self) -> None:
        """What must hold between two calls."""
        entries = msgspec.msgpack.decode(close_body(bytearray(self.body), self.count)) if self.count else []
        assert len(entries) == self.count, "the open block does not hold what was put"


class Unpacking:
    """The receiving side: takes the blocks of both streams in order, and delivers what is complete.

    `may_pass` tells whether a message with this floor may be delivered; else it waits in `behind`, and what follows does not.
    """

    def __init__(
        self,
        codec: Codec[Any],
        here: Known,
        there: Known,
        arrivals: Arrivals,
        deliveries: list[Envelope],
        may_pass: Callable[[Envelope, int], bool] = lambda envelope, floor: True,
    ) -> None:
        self._codec = codec
        self._here = here
        self._there = there
        self._arrivals = arrivals
        self._deliveries = deliveries
        self._may_pass = may_pass
        self.behind: list[tuple[int, int, Envelope]] = []  # a heap: floor, order of arrival
        self._order = count()

    def open(self, packet: Packet) -> None:
        """A block of messages."""
        entries: list[Any] = self._codec.decode_entries(packet.block.body, packet.block.count)
        here, there = self._here, self._there
        frames = packet.frames
        if not frames and not self._arrivals.is_holding() and _are_plain(entries):
            self._deliveries.extend(
                [Envelope(here[e.to], there[e.sender], e.message, e.correlation, e.payload) for e in entries]
            )
            return
        arrived: list[tuple[Envelope, Transfer | None, int]] = []
        start = 0
        for e in entries:
            payload, start = payload_of(e.payload, frames, start)
            transfer = e.payload if isinstance(e.payload, Transfer) else None
            envelope = Envelope(here[e.to], there[e.sender], e.message, e.correlation, payload)
            arrived.append((envelope, transfer, e.floor))
        if start != len(frames):
            raise ProtocolError(f"{len(frames) - start} frames belong to no entry")
        for envelope, transfer, floor in arrived:
            self._accept(envelope, transfer, floor)

    def deliver(self, envelope: Envelope, floor: int) -> None:
        if envelope.message.__class__ is Unknown:
            return  # a word of a newer release
        if not floor or self._may_pass(envelope, floor):
            self._deliveries.append(envelope)
        else:
            heappush(self.behind, (floor, next(self._order), envelope))

    def _accept(self, envelope: Envelope, transfer: Transfer | None, floor: int) -> None:
        if transfer is not None:
            envelope.payload = None
            self._arrivals.announce(envelope, transfer, floor)
        elif self._arrivals.holds((envelope.sender.actor, envelope.to.actor)):
            self._arrivals.hold(envelope, 0, floor)
        else:
            self.deliver(envelope, floor)

    def open_bulk(self, packet: Packet) -> bool:
        """A block of chunks; False while an entry that announces one is on its way: chunks leave after that."""
        chunks = decode_chunks(packet.block.body, packet.block.count)
        if any(not self._arrivals.knows(chunk.transfer) for chunk in chunks):
            return False
        if len(chunks) != len(packet.frames):
            raise ProtocolError(f"{len(chunks)} chunks in {len(packet.frames)} frames")
        for chunk, frame in zip(chunks, packet.frames, strict=True):
            for envelope, _, floor in self._arrivals.store(chunk, frame):
                self.deliver(envelope, floor)
        return True


def _are_plain(entries: list[Any]) -> bool:
    """True if no entry needs a second look: payloads inline, all messages known, none behind others."""
    for e in entries:  # noqa: SIM110 - all() is slower here
        if e.payload.__class__ not in _PLAIN or e.message.__class__ is Unknown or e.floor:
            return False
    return True
