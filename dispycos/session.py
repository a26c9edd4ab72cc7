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
"""

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

import msgspec

from .protocol.addresses import Address
from .protocol.codec import (
    BLOCK_BYTES,
    BLOCK_FRAMES,
    BLOCK_MESSAGES,
    BODY_MAX,
    BULK,
    CONTROL,
    INLINE_MAX,
    MESSAGES,
    NOTICE,
    VERSION,
    Block,
    Codec,
    Packet,
    Transfer,
    Unknown,
    close_body,
    decode_chunks,
    encode_chunks,
    encode_control,
    open_body,
    payload_of,
    place,
)
from .protocol.control import Control, Hello, Limits, Reset, Unsupported
from .protocol.envelope import About, Buffer, Envelope, size_of
from .protocol.errors import ProtocolError
from .stream import UNLIMITED, WINDOW_MESSAGES, Incoming, Outgoing, Parcel
from .transfers import Arrivals, Shipments

ACK_DELAY: Final = 0.02
ACK_BLOCKS: Final = 16
RTO_MIN: Final = 0.2
RTO_MAX: Final = 10.0
ADDRESSES_MAX: Final = 4096


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
        self._codec = local.codec
        self._write = local.codec.append
        self._there = Known(peer)
        self._incarnation = next(local.incarnations)
        self._begin()
        self._know(0)

    def _begin(self) -> None:
        """Both directions start at 1."""
        self._out = Outgoing(WINDOW_MESSAGES)
        self._bulk = Outgoing(UNLIMITED)
        self._in = Incoming(WINDOW_MESSAGES)
        self._bulk_in = Incoming(UNLIMITED)
        self._shipments = Shipments()
        self._arrivals = Arrivals(self._local.allocate)
        self._retained: deque[Parcel] = deque()
        self._after: int = 0
        self._open_block()
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

    def put(self, envelope: Envelope) -> bool:
        """Takes a message; True when a block became full and could be pumped."""
        payload = envelope.payload
        if payload is not None and (payload.__class__ is not bytes or len(payload) > INLINE_MAX):
            self._put_large(envelope)
        else:  # as in _append, without the call: every message comes by here
            body = self._body
            before = len(body)
            self._write(
                body, envelope.to[1], envelope.sender[1], envelope.correlation, envelope.message, payload
            )
            if len(body) > BODY_MAX:
                self._split(before)
        if self._shipments.open_pairs:
            pair = (envelope.sender.actor, envelope.to.actor)
            self._after = max(self._after, self._shipments.latest(pair))
        self._count += 1
        if self._count < BLOCK_MESSAGES and len(self._body) + self._frames_size < BODY_MAX:
            return False
        self._cut()
        return True

    def _append(self, envelope: Envelope, written: Any) -> None:
        before = len(self._body)
        self._write(
            self._body, envelope.to[1], envelope.sender[1], envelope.correlation, envelope.message, written
        )
        if len(self._body) > BODY_MAX:
            self._split(before)

    def _put_large(self, envelope: Envelope) -> None:
        """A payload that may have to leave in frames of its own, or in chunks."""
        placed = place(envelope.payload)
        if placed is None:
            transfer = self._shipments.offer(envelope.payload)
            self._append(envelope, transfer)
            self._shipments.announce(transfer, envelope.payload, (envelope.sender.actor, envelope.to.actor))
            self._transfers.append(transfer.id)
            return
        written, frames = placed
        size = sum(map(size_of, frames))
        if frames and (
            len(self._frames) + len(frames) > BLOCK_FRAMES
            or self._frames_size + size + BODY_MAX > BLOCK_BYTES
        ):
            self._cut()
        self._append(envelope, written)
        self._frames.extend(frames)
        self._frames_size += size

    def _split(self, before: int) -> None:
        """The body grew too long: all but the last entry make a block."""
        tail = self._body[before:]
        del self._body[before:]
        if len(tail) + 3 > BODY_MAX:
            raise ValueError(f"a message of {len(tail)} bytes: anything large belongs into the payload")
        self._cut()
        self._body += tail

    def _open_block(self) -> None:
        self._body = open_body()
        self._count = 0
        self._frames: list[Buffer] = []
        self._frames_size = 0
        self._transfers: list[int] = []
        self._after = 0

    def _cut(self) -> None:
        if self._count:
            body = close_body(self._body, self._count)
            self._out.cut(self._count, body, self._frames, self._transfers, self._after)
            self._open_block()

    def check(self) -> None:
        """What must hold between two calls."""
        self._out.check()
        self._bulk.check()
        entries = (
            msgspec.msgpack.decode(close_body(bytearray(self._body), self._count)) if self._count else []
        )
        assert len(entries) == self._count, "the open block does not hold what was put"

    def has_backlog(self) -> bool:
        """True while something waits that was never sent."""
        return bool(self._count or self._out.waiting or self._bulk.waiting or self._shipments.has_cargo())

    def is_in_flight(self) -> bool:
        return bool(self._out.flight or self._bulk.flight)

    def wants_pump(self) -> bool:
        """True if something may leave now that could not before a block came: an ack, or what waited for credit."""
        return self._ack_now or self.has_backlog()

    def is_busy(self) -> bool:
        return self._asked or self.is_in_flight() or self.has_backlog()

    def pump(self, now: float, bulk_room: int) -> None:
        """Sends what credit allows, messages first; then the ack, if nothing carried it."""
        if self.sid:
            if self._out.waiting:
                self._pump_messages(now)
            if self._count and self._out.has_credit(self._count, len(self._body) + self._frames_size):
                self._cut()
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
            self._deliver(packet)
            incoming.pop()
        if self._bulk_in.has_early:
            self._advance_bulk()

    def _advance_bulk(self) -> None:
        while packet := self._bulk_in.peek():
            chunks = decode_chunks(packet.block.body, packet.block.count)
            if any(not self._arrivals.knows(chunk.transfer) for chunk in chunks):
                return  # the entry is on its way: chunks leave after the block that announces them
            if len(chunks) != len(packet.frames):
                raise ProtocolError(f"{len(chunks)} chunks in {len(packet.frames)} frames")
            for chunk, frame in zip(chunks, packet.frames, strict=True):
                self._local.deliveries.extend(self._arrivals.store(chunk, frame))
            self._bulk_in.pop()

    def _deliver(self, packet: Packet) -> None:
        entries: list[Any] = self._codec.decode_entries(packet.block.body, packet.block.count)
        here, there = self._local.addresses, self._there
        frames = packet.frames
        if not frames and not self._arrivals.is_holding() and _are_plain(entries):
            self._local.deliveries.extend(
                [Envelope(here[e.to], there[e.sender], e.message, e.correlation, e.payload) for e in entries]
            )
            return
        arrived: list[tuple[Envelope, Transfer | None]] = []
        start = 0
        for e in entries:
            payload, start = payload_of(e.payload, frames, start)
            transfer = e.payload if isinstance(e.payload, Transfer) else None
            envelope = Envelope(here[e.to], there[e.sender], e.message, e.correlation, payload)
            arrived.append((envelope, transfer))
        if start != len(frames):
            raise ProtocolError(f"{len(frames) - start} frames belong to no entry")
        for envelope, transfer in arrived:
            self._accept(envelope, transfer)

    def _accept(self, envelope: Envelope, transfer: Transfer | None) -> None:
        if isinstance(envelope.message, Unknown):
            tag = Unsupported(envelope.message.message_tag)
            envelope.message = tag
            self.put(Envelope(envelope.sender, envelope.to, tag, envelope.correlation))
            if transfer is None:
                return
        if transfer is not None:
            envelope.payload = None
            self._arrivals.announce(envelope, transfer)
        elif self._arrivals.holds((envelope.sender.actor, envelope.to.actor)):
            self._arrivals.hold(envelope)
        else:
            self._local.deliveries.append(envelope)

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
        unconfirmed = self.unconfirmed()
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
        if chunks or self._retained or self._shipments.open_pairs:
            self._retire(messages, chunks)
        self._backoff = 1.0
        self._alarm = None
        self._arm(now)

    def _retire(self, messages: list[Parcel], chunks: list[Parcel]) -> None:
        """Forgets what is confirmed, but for blocks with messages that the peer still holds back."""
        shipments = self._shipments
        completed = max((parcel.after for parcel in chunks), default=0)
        if completed:
            shipments.confirm(completed)
        retained = self._retained
        retained.extend(parcel for parcel in messages if parcel.after > shipments.confirmed)
        while retained and retained[0].after <= shipments.confirmed:
            retained.popleft()

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

    # What was not confirmed

    def unconfirmed(self) -> list[Envelope]:
        """All messages that the peer did not confirm, in the order in which they were sent."""
        self._cut()
        envelopes: list[Envelope] = []
        latest: dict[tuple[int, int], int] = {}
        for parcel in self._retained:
            for envelope, transfer in self._reopen(parcel):
                pair = (envelope.sender.actor, envelope.to.actor)
                latest[pair] = transfer or latest.get(pair, 0)
                if latest[pair] > self._shipments.confirmed:
                    envelopes.append(envelope)
        for parcel in (*self._out.flight, *self._out.waiting):
            envelopes.extend(envelope for envelope, _ in self._reopen(parcel))
        return envelopes

    def _reopen(self, parcel: Parcel) -> Iterator[tuple[Envelope, int]]:
        here, there = self._local.addresses, self._there
        start = 0
        for e in self._codec.decode_entries(parcel.body, parcel.count):
            payload, start = payload_of(e.payload, parcel.frames, start)
            number = 0
            if isinstance(e.payload, Transfer):
                number = e.payload.id
                payload = self._shipments.payload(number) if number > self._shipments.confirmed else None
            yield Envelope(there[e.to], here[e.sender], e.message, e.correlation, payload), number


_PLAIN: Final = frozenset((bytes, type(None)))


def _are_plain(entries: list[Any]) -> bool:
    """True if no entry needs a second look: payloads inline, all messages known."""
    for e in entries:  # noqa: SIM110 - all() is slower here
        if e.payload.__class__ not in _PLAIN or e.message.__class__ is Unknown:
            return False
    return True


def reset_block(packet: Packet, epoch: int) -> Packet:
    """The answer to a block of a session that does not exist here."""
    body = encode_control(Reset(packet.block.sid))
    return control_packet(epoch, packet.block.from_epoch, body, CONTROL | NOTICE)


def control_packet(epoch: int, to: int, body: bytes, flags: int = CONTROL) -> Packet:
    block = Block(VERSION, to, epoch, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, flags, 0, memoryview(body))
    return Packet(block, (), len(body))
