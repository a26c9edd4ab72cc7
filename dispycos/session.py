"""Keeps one conversation between two runtimes whole: each message once, in order, or handed back.

Both ends are equal and both may begin. Each has an incarnation, the next number of its runtime; the two
together name the session (sid), so that nothing from an older session can be taken for this one. Data may
leave as soon as the peer's incarnation is known.

Losses are never guessed from the data. Whoever has reason to doubt (a route came, went or was left; a
timer) sends a HELLO with a probe; the answer echoes it and says what was received, and exactly the blocks
that were sent before the probe and are missing are sent again. A HELLO that takes us for an older
incarnation is always answered, or two ends that each missed the other's last word would wait for ever. A
peer that does not know the sid says RESET: then a new incarnation begins, and what was not confirmed goes
back to the layer above. So it does when the peer's incarnation rises. Nothing is dropped silently.

Two streams, each with numbers and credit of its own: messages, and the chunks of large payloads (bulk).
What is in a block is not looked at here (`packing`).
"""

from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

from .packing import Known, Packing, Unpacking
from .protocol.codec import (
    BULK,
    CONTROL,
    MESSAGES,
    NOTICE,
    VERSION,
    Block,
    Codec,
    Packet,
    control_packet,
    encode_chunks,
    encode_control,
)
from .protocol.control import Control, Hello, Limits, Reset
from .protocol.envelope import About, Buffer, Envelope
from .protocol.errors import ProtocolError
from .stream import UNLIMITED, WINDOW_MESSAGES, Incoming, Outgoing, Parcel
from .transfers import Arrivals, Shipments

ACK_DELAY: Final = 0.02
ACK_BLOCKS: Final = 16
RTO_MIN: Final = 0.2
RTO_MAX: Final = 10.0


class PeerUp(NamedTuple):
    """A peer has told of itself for the first time."""

    epoch: int
    about: About


class PeerReset(NamedTuple):
    """The session with a peer began anew; these messages were not confirmed before it did."""

    epoch: int
    unconfirmed: list[Envelope]


class PeerFault(NamedTuple):
    """A peer that is not our neighbour broke the rules; its session was ended, for people to know."""

    epoch: int
    reason: str


class Local(NamedTuple):
    """What all sessions of a runtime share."""

    codec: Codec[Any]
    epoch: int
    about: About
    incarnations: Iterator[int]
    allocate: Callable[[int], Buffer]
    addresses: Known
    deliveries: list[Envelope]
    events: list[Any]


class Session:
    """One end of the conversation with one peer. Its owner empties `outbox` after each call."""

    def __init__(self, local: Local, peer: int) -> None:
        self.peer = peer
        self.outbox: list[Packet] = []
        self.about: About | None = None
        self._local = local
        self._there = Known(peer)
        self._incarnation = next(local.incarnations)
        self._begin()
        self._know(0)

    def _begin(self) -> None:
        """Both directions start at 1."""
        local, here, there = self._local, self._local.addresses, self._there
        self._out = Outgoing(WINDOW_MESSAGES)
        self._bulk = Outgoing(UNLIMITED)
        self._in = Incoming(WINDOW_MESSAGES)
        self._bulk_in = Incoming(UNLIMITED)
        self._shipments = Shipments()
        self._arrivals = Arrivals(local.allocate)
        self._packing = Packing(local.codec, here, there, self._out, self._shipments)
        self.put = self._packing.put  # not a method of ours that calls it: every message comes by here
        self._unpacking = Unpacking(local.codec, here, there, self._arrivals, local.deliveries, self.put)
        self._ack_at: float | None = None
        self._unacked_blocks = 0
        self._ack_now = False
        self._probe = 0
        self._asked = False
        self._probed_at = 0.0
        self._marks = (0, 0)
        self._rto = RTO_MIN
        self._backoff = 1.0
        self._srtt: float | None = None
        self._alarm: float | None = None

    def _know(self, peer_incarnation: int) -> None:
        self._peer_incarnation = peer_incarnation
        low, high = self._incarnation, peer_incarnation
        if self._local.epoch > self.peer:
            low, high = high, low
        self.sid = low << 32 | high if peer_incarnation else 0

    # What leaves

    def has_backlog(self) -> bool:
        """True while something waits that was never sent."""
        return bool(
            self._packing.count or self._out.waiting or self._bulk.waiting or self._shipments.has_cargo()
        )

    def is_in_flight(self) -> bool:
        return bool(self._out.flight or self._bulk.flight)

    def wants_pump(self) -> bool:
        """True if something may leave now that could not before a block came: an ack, or what waited for credit."""
        return self._ack_now or self.has_backlog()

    def is_busy(self) -> bool:
        return self._asked or self.is_in_flight() or self.has_backlog()

    def unconfirmed(self) -> list[Envelope]:
        """All messages that the peer did not confirm, in the order in which they were sent."""
        return self._packing.unconfirmed()

    def check(self) -> None:
        """What must hold between two calls."""
        self._out.check()
        self._bulk.check()
        self._packing.check()

    def pump(self, now: float, bulk_room: int) -> None:
        """Sends what credit allows, messages first; then the ack, if nothing carried it."""
        if self.sid:
            if self._out.waiting:
                self._pump_messages(now)
            packing = self._packing
            if packing.count and self._out.has_credit(packing.count, len(packing.body) + packing.frames_size):
                packing.cut()
                self._pump_messages(now)
            if self._bulk.waiting or self._shipments.has_cargo():
                self._pump_bulk(now, bulk_room)
        if self._ack_now:
            self._acknowledge()
        self._arm(now)

    def _pump_messages(self, now: float) -> None:
        while parcel := self._out.take(now):
            self._emit(parcel, MESSAGES)
            if parcel.transfers:
                self._shipments.release(parcel.transfers)

    def _pump_bulk(self, now: float, room: int) -> None:
        while room > 0:
            if not self._bulk.waiting and self._shipments.has_cargo():
                chunks, frames, completed = self._shipments.cut()
                self._bulk.cut(len(chunks), encode_chunks(chunks), frames, after=completed)
            parcel = self._bulk.take(now)
            if parcel is None:
                return
            self._emit(parcel, BULK)
            room -= parcel.size

    def _emit(self, parcel: Parcel, stream: int) -> None:
        block = self._block(stream, parcel.seq, parcel.count, 0, parcel.body)
        block.frames = len(parcel.frames)
        self.outbox.append(Packet(block, parcel.frames, parcel.size))

    def _block(self, stream: int, seq: int, count: int, flags: int, body: bytes) -> Block:
        """A header with the newest acks and limits, so that no ack is due any more."""
        if not flags:
            self._ack_at = None
            self._ack_now = False
            self._unacked_blocks = 0
            self._in.note_told()
            self._bulk_in.note_told()
        incoming, bulk = self._in, self._bulk_in
        return Block(
            VERSION,
            self.peer,
            self._local.epoch,
            self.sid,
            stream,
            seq,
            count,
            incoming.ack,
            incoming.limit_messages,
            incoming.limit_bytes,
            bulk.ack,
            bulk.limit_bytes,
            0,
            flags,
            0,
            memoryview(body),
        )

    def _acknowledge(self) -> None:
        self.outbox.append(Packet(self._block(MESSAGES, 0, 0, 0, b""), (), 0))

    def _control(self, record: Control, flags: int = CONTROL) -> None:
        body = encode_control(record)
        self.outbox.append(Packet(self._block(0, 0, 0, flags, body), (), len(body)))

    # What arrives

    def receive(self, packet: Packet, now: float) -> None:
        """A block of the streams, or a lone ack."""
        block = packet.block
        if block.sid != self.sid or not self.sid:
            self._on_stranger(block.sid, now)
            return
        self._confirm(block, now)
        if not block.seq:
            return
        if block.stream == MESSAGES:
            incoming, advance = self._in, self._advance
        elif block.stream == BULK:
            incoming, advance = self._bulk_in, self._advance_bulk
        else:
            raise ProtocolError(f"a block of stream {block.stream}")
        is_new = incoming.put(packet)
        self._unacked_blocks += 1
        if not is_new or self._unacked_blocks >= ACK_BLOCKS:
            self._ack_now = True
        self._ack_soon(now)
        if is_new:
            advance()

    def _advance(self) -> None:
        """Everything that is in order now goes where it belongs."""
        incoming = self._in
        while packet := incoming.peek():
            self._unpacking.open(packet)
            incoming.pop()
        if self._bulk_in.has_early:
            self._advance_bulk()

    def _advance_bulk(self) -> None:
        while (packet := self._bulk_in.peek()) and self._unpacking.open_bulk(packet):
            self._bulk_in.pop()

    def consume(self, now: float) -> None:
        """The layer above has taken what was delivered: its place is free again, and the peer shall know."""
        has_news = self._in.consume(self._arrivals.held_messages, self._arrivals.held_bytes)
        if self._bulk_in.consume(0, 0) or has_news:
            self._ack_soon(now)
            if self._in.is_half_used() or self._bulk_in.is_half_used():
                self._ack_now = True

    def _ack_soon(self, now: float) -> None:
        if self._ack_at is None:
            self._ack_at = now + ACK_DELAY

    # What both ends say of themselves

    def resync(self, now: float) -> None:
        """Something may have been lost: asks the peer what it has."""
        self._backoff = 1.0
        self._ask(now)

    def doubt(self, now: float) -> None:
        """The peer cannot be reached: ask later, if nobody says before that it can."""
        self._asked = True
        self._arm(now)

    def _ask(self, now: float, echo: int = 0) -> None:
        self._probe += 1
        self._asked = True
        self._probed_at = now
        self._marks = (self._out.sent, self._bulk.sent)
        self._hello(self._probe, echo)
        self._alarm = now + self._timeout()

    def _hello(self, probe: int, echo: int) -> None:
        incoming, bulk = self._in, self._bulk_in
        limits = Limits(
            incoming.ack, incoming.limit_messages, incoming.limit_bytes, bulk.ack, bulk.limit_bytes
        )
        about = self._local.about
        self._control(Hello(self._incarnation, self._peer_incarnation, limits, about, probe, echo))

    def on_hello(self, hello: Hello, now: float) -> None:
        if not 0 < hello.incarnation < 2**32:
            raise ProtocolError(f"incarnation {hello.incarnation}")
        if hello.incarnation > self._peer_incarnation:
            self._meet(hello)
        is_current = hello.incarnation == self._peer_incarnation
        is_known = hello.known == self._incarnation
        if is_current and is_known:
            self._confirm(hello.limits, now)
            if self._asked and hello.echo == self._probe:
                self._on_answer(now)
        if hello.probe or not is_known:
            self._answer(hello, now)

    def _meet(self, hello: Hello) -> None:
        """The peer has an incarnation that we did not know."""
        if self._peer_incarnation:
            self._start_anew()
        self._know(hello.incarnation)
        if self.about is None:
            self._local.events.append(PeerUp(self.peer, hello.about))
        self.about = hello.about

    def _answer(self, hello: Hello, now: float) -> None:
        """Whoever was asked may ask back, once."""
        if not hello.echo and (self.is_in_flight() or self._asked):
            self._ask(now, hello.probe)
        else:
            self._hello(0, hello.probe)

    def _on_answer(self, now: float) -> None:
        """All that was sent before the question and is not confirmed now is lost."""
        self._asked = False
        self._backoff = 1.0
        for stream, number, mark in (
            (self._out, MESSAGES, self._marks[0]),
            (self._bulk, BULK, self._marks[1]),
        ):
            for parcel in stream.flight:
                if parcel.seq > mark:
                    break
                parcel.sent_at = now
                parcel.resent = True
                self._emit(parcel, number)
        self._alarm = None
        self._arm(now)

    def on_reset(self, reset: Reset, now: float) -> None:
        """The peer does not have this session any more."""
        if reset.sid == self.sid and self.sid:
            self._start_anew()
            self._incarnation = next(self._local.incarnations)
            self._know(0)
            self._ask(now)

    def _on_stranger(self, sid: int, now: float) -> None:
        """A block of another session between the same two: an older one, or one whose HELLO is on its way."""
        low, high = sid >> 32, sid & 0xFFFFFFFF
        mine, theirs = (low, high) if self._local.epoch < self.peer else (high, low)
        if mine != self._incarnation:
            self._control(Reset(sid), CONTROL | NOTICE)
        elif theirs > self._peer_incarnation and not (self._asked and now < self._probed_at + RTO_MIN):
            self._ask(now)

    def _start_anew(self) -> None:
        unconfirmed = self._packing.unconfirmed()
        self._begin()
        self._local.events.append(PeerReset(self.peer, unconfirmed))

    # Acks, timers

    def _confirm(self, limits: Limits | Block, now: float) -> None:
        """What the peer has, and may be sent; a block says it in the same words as a HELLO."""
        out, bulk = self._out, self._bulk
        out.grant(limits.limit_messages, limits.limit_bytes)
        bulk.grant(UNLIMITED, limits.bulk_limit)
        messages = out.acknowledge(limits.ack)
        chunks = bulk.acknowledge(limits.bulk_ack)
        if not messages and not chunks:
            return
        last = messages[-1] if messages else chunks[-1]
        if not last.resent:
            sample = now - last.sent_at
            self._srtt = sample if self._srtt is None else self._srtt + (sample - self._srtt) / 8
            self._rto = min(RTO_MAX, max(RTO_MIN, 4 * self._srtt))
        if chunks or self._packing.retained or self._shipments.open_pairs:
            self._packing.retire(messages, chunks)
        self._backoff = 1.0
        self._alarm = None
        self._arm(now)

    def _timeout(self) -> float:
        return min(RTO_MAX, self._rto * self._backoff)

    def _arm(self, now: float) -> None:
        """The safety net hangs while an answer, an ack or credit is awaited."""
        if self._out.flight or self._asked or self._bulk.flight or self.has_backlog():
            if self._alarm is None:
                self._alarm = now + self._timeout()
        else:
            self._alarm = None

    def deadline(self) -> float | None:
        if self._alarm is None or (self._ack_at is not None and self._ack_at < self._alarm):
            return self._ack_at
        return self._alarm

    def wake(self, now: float) -> bool:
        """True if an answer is overdue."""
        if self._ack_at is not None and self._ack_at <= now:
            self._ack_at = None
            if self.sid:
                self._acknowledge()
        if self._alarm is not None and self._alarm <= now:
            self._backoff = min(self._backoff * 2, RTO_MAX / RTO_MIN)
            self._ask(now)
            return True
        return False


def reset_block(packet: Packet, epoch: int) -> Packet:
    """The answer to a block of a session that does not exist here."""
    body = encode_control(Reset(packet.block.sid))
    return control_packet(epoch, packet.block.from_epoch, body, CONTROL | NOTICE)
