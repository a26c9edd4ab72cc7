"""One of the two channels of a session: its messages in order, and a stream beside them for the chunks of their large payloads.

Each has numbers, credit and packing of its own, so nothing in the one waits for the other; but a message that says what was
before it (`Entry.floor`) is delivered behind that.
"""

from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

from .packing import Known, Packing, Unpacking
from .protocol.codec import Codec, encode_chunks
from .protocol.envelope import ANYBODY, Buffer, Envelope
from .stream import UNLIMITED, WINDOW_MESSAGES, Parcel, Stream
from .transfers import Arrivals, Shipments

STREAMS: Final = 2  # of a channel: its messages, its chunks


class Ends(NamedTuple):
    """Between whom a session is, and where its messages go."""

    codec: Codec[Any]
    here: Known
    there: Known
    allocate: Callable[[int], Buffer]
    deliveries: list[Envelope]


class Channel:
    """`number` is its place in the session; `before` is the channel whose messages some of ours come behind."""

    def __init__(
        self,
        number: int,
        ends: Ends,
        answer: Callable[[Envelope], object],
        before: "Channel | None" = None,
    ) -> None:
        self.words = Stream(STREAMS * number, WINDOW_MESSAGES)
        self.chunks = Stream(STREAMS * number + 1, UNLIMITED)
        self.streams = (self.words, self.chunks)
        self.is_fresh = False  # something came since `consume`
        self.shipments = Shipments()
        self.packing = Packing(ends.codec, ends.here, ends.there, self.words.out, self.shipments)
        self._arrivals = Arrivals(ends.allocate)
        self._deliveries = ends.deliveries
        self._before = before
        self._unpacking = Unpacking(
            ends.codec, ends.here, ends.there, self._arrivals, ends.deliveries, answer, self._may_pass
        )

    # What leaves

    def has_backlog(self) -> bool:
        """True while something waits that was never sent."""
        return bool(
            self.packing.count or self.words.out.waiting or self.chunks.out.waiting or self.shipments.ready
        )

    def is_in_flight(self) -> bool:
        return bool(self.words.out.flight or self.chunks.out.flight)

    def take_words(self, now: float) -> Iterator[Parcel]:
        """The messages that credit allows, those of the open block last."""
        packing, out = self.packing, self.words.out
        yield from self._take_cut(now)
        if packing.count and out.has_credit(packing.count, len(packing.body) + packing.frames_size):
            packing.cut()
            yield from self._take_cut(now)

    def _take_cut(self, now: float) -> Iterator[Parcel]:
        while parcel := self.words.out.take(now):
            if parcel.transfers:
                self.shipments.release(parcel.transfers)
            yield parcel

    def take_chunks(self, now: float, room: int) -> Iterator[Parcel]:
        out, shipments = self.chunks.out, self.shipments
        while room > 0:
            if not out.waiting and shipments.ready:
                chunks, frames, completed = shipments.cut()
                out.cut(len(chunks), encode_chunks(chunks), frames, after=completed)
            parcel = out.take(now)
            if parcel is None:
                return
            room -= parcel.size
            yield parcel

    def retire(self, stream: Stream, confirmed: list[Parcel]) -> None:
        """The peer has these parcels of one of our streams."""
        if stream is self.chunks:
            self.packing.retire([], confirmed)
        else:
            self.packing.retire(confirmed, [])

    # What arrives

    def advance(self) -> None:
        """Everything that is in order now goes where it belongs."""
        self.is_fresh = True
        incoming, unpacking = self.words.incoming, self._unpacking
        while packet := incoming.peek():
            unpacking.open(packet)
            incoming.pop()
        chunks = self.chunks.incoming
        while (packet := chunks.peek()) and unpacking.open_bulk(packet):
            chunks.pop()

    def consume(self) -> Iterator[Stream]:
        """The layer above has taken what was delivered; the streams of which the peer shall know it."""
        self.is_fresh = False
        arrivals = self._arrivals
        if self.words.incoming.consume(arrivals.held_messages, arrivals.held_bytes):
            yield self.words
        if self.chunks.incoming.consume(0, 0):
            yield self.chunks

    def _may_pass(self, envelope: Envelope, floor: int) -> bool:
        """True if all is delivered that was sent before this message and that it comes behind."""
        before = self._before
        if before is None or not floor:
            return True
        return before.words.incoming.ack >= floor and not before._arrivals.holds_from(
            getattr(envelope.message, "actor", ANYBODY)
        )

    def release(self) -> None:
        """Those that waited for the other channel, if they need not any more."""
        waiting, self._unpacking.behind = self._unpacking.behind, []
        for envelope, floor in waiting:
            self._unpacking.deliver(envelope, floor)

    @property
    def is_behind(self) -> bool:
        return bool(self._unpacking.behind)

    def end(self) -> None:
        """What they waited for will not come; the peer knows that we have them."""
        self._deliveries.extend(envelope for envelope, _ in self._unpacking.behind)
        self._unpacking.behind = []
