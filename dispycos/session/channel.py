"""One of the two channels of a session: its messages in order, and a stream beside them for the chunks of their large payloads.

Each has numbers, credit and packing of its own, so nothing in the one waits for the other; but a message that says what was
before it (`Entry.floor`) is delivered behind that.
"""

from collections.abc import Iterator
from heapq import heappop
from typing import Any, Final, NamedTuple

from ..protocol.codec import Codec
from ..protocol.envelope import ANYBODY, Envelope
from .packing import Known, Packing, Unpacking
from .stream import UNLIMITED, WINDOW_MESSAGES, Parcel, Stream
from .transfers import Arrivals, Shipments

STREAMS: Final = 2  # of a channel: its messages, its chunks


class Local(NamedTuple):
    """What all sessions of a runtime share."""

    codec: Codec[Any]
    epoch: int
    incarnations: Iterator[int]
    addresses: Known
    deliveries: list[Envelope]
    events: list[Any]


class Channel:
    """`number` is its place in the session; `before` is the channel whose messages some of ours come behind."""

    def __init__(
        self,
        number: int,
        local: Local,
        there: Known,
        before: "Channel | None" = None,
    ) -> None:
        self.words = Stream(STREAMS * number, WINDOW_MESSAGES)
        self.chunks = Stream(STREAMS * number + 1, UNLIMITED)
        self.streams = (self.words, self.chunks)
        self.is_fresh = False  # something came since `consume`
        self.shipments = Shipments()
        self.packing = Packing(local.codec, local.addresses, there, self.words.out, self.shipments)
        self.arrivals = Arrivals()
        self._deliveries = local.deliveries
        self._before = before
        self._unpacking = Unpacking(
            local.codec, local.addresses, there, self.arrivals, local.deliveries, self._may_pass
        )
        self.behind = self._unpacking.behind

    def retire(self, stream: Stream, confirmed: list[Parcel]) -> None:
        """The peer has these parcels of one of our streams."""
        if stream is self.chunks:
            self.packing.retire([], confirmed)
        elif self.packing.wants_acks():
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

    def _may_pass(self, envelope: Envelope, floor: int) -> bool:
        """True if all is delivered that was sent before this message and that it comes behind."""
        before = self._before
        if before is None or not floor:
            return True
        return before.words.incoming.ack >= floor and not before.arrivals.holds_from(
            getattr(envelope.message, "actor", ANYBODY)
        )

    def release(self) -> None:
        """Delivers those that waited for the other channel and need not any more."""
        assert self._before is not None
        arrived = self._before.words.incoming.ack
        reached: list[tuple[int, int, Envelope]] = []
        while self.behind and self.behind[0][0] <= arrived:
            reached.append(heappop(self.behind))
        for floor, _, envelope in reached:  # one that waits for chunks goes back
            self._unpacking.deliver(envelope, floor)

    def end(self) -> None:
        """What they waited for will not come; the peer knows that we have them."""
        self._deliveries.extend(envelope for _, _, envelope in sorted(self.behind))
        self.behind.clear()
