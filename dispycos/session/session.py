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

Two channels, of equal making (`channel`): control words, and the messages between tasks. Each has two streams with numbers
and credit of their own, for its messages and for the chunks of large payloads, so no control word waits for anything else.
One that is to come behind messages of the other channel says so itself (`way`). What is in a block is not looked at here.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

from ..protocol.codec import (
    NOTICE,
    RECORD,
    VERSION,
    Block,
    Packet,
    control_packet,
    encode_chunks,
    encode_control,
)
from ..protocol.control import Control, Hello, Limits, Reset
from ..protocol.envelope import Envelope
from ..protocol.errors import ProtocolError
from .channel import STREAMS, Channel, Local
from .packing import Known
from .stream import Parcel, Stream

ACK_DELAY: Final = 0.02
ACK_BLOCKS: Final = 16
RTO_MIN: Final = 0.2
RTO_MAX: Final = 10.0
NEVER: Final = float("inf")
NEAR_S: Final = 0.001  # of what is nearer nobody makes a difference
NEARER: Final = 0.8  # times what was known: that is news


class PeerReset(NamedTuple):
    """The session with a peer began anew; these messages were not confirmed before it did."""

    epoch: int
    unconfirmed: list[Envelope]
    fault: str = ""  # what the peer did against the rules, for people


class PeerDistance(NamedTuple):
    """How long a word to it and its answer travel, at best: said when that is known, and when it turns out to be less."""

    epoch: int
    seconds: float


class Traffic(NamedTuple):
    """Between the two ends, since the session began."""

    sent: int  # messages
    received: int
    size: int  # bytes that were sent
    rtt_s: float | None  # there and back
    waiting: int  # messages that have not left


class Session:
    """One end of the conversation with one peer. Its owner empties `outbox` after each call."""

    def __init__(self, local: Local, peer: int) -> None:
        self.peer = peer
        self.outbox: list[Packet] = []
        self._local = local
        self._there = Known(peer)
        self._incarnation = next(local.incarnations)
        self._begin()
        self._know(0)

    def _begin(self) -> None:
        """Both directions start at 1."""
        self._messages = Channel(1, self._local, self._there)
        self._control = Channel(0, self._local, self._there, before=self._messages)
        self._channels = (self._control, self._messages)
        self._streams = (*self._control.streams, *self._messages.streams)
        # Looked at often.
        self._flights = [stream.out.flight for stream in self._streams]
        ready = [channel.shipments.ready for channel in self._channels]
        self._queues = [*(stream.out.waiting for stream in self._streams), *ready]
        self._behind = self._control.behind
        # By way; not a method of ours that calls them: every message comes by here.
        self.puts: tuple[Callable[[Envelope], bool], ...] = (
            self._control.packing.put,
            self._messages.packing.put,
            self._put_behind,
        )
        self._unsaid: dict[Stream, None] = {}  # those of which the peer does not know what we have
        self._ack_at: float | None = None
        self._unacked_blocks = 0
        self._ack_now = False
        self._probe = 0
        self._asked = False
        self._probed_at = 0.0
        self._marks = [0] * len(self._streams)
        self._rto = RTO_MIN
        self._backoff = 1.0
        self._srtt: float | None = None
        self._shortest = NEVER  # way to the peer and back
        self._alarm: float | None = None

    def _know(self, peer_incarnation: int) -> None:
        self._peer_incarnation = peer_incarnation
        low, high = self._incarnation, peer_incarnation
        if self._local.epoch > self.peer:
            low, high = high, low
        self.sid = low << 32 | high if peer_incarnation else 0

    # What leaves

    def _put_behind(self, envelope: Envelope) -> bool:
        """A control word that is to arrive after what its subject has sent."""
        return self._control.packing.put(envelope, self._messages.packing.floor(envelope.message.actor))

    def has_backlog(self) -> bool:
        """True while something waits that was never sent."""
        return any(self._queues) or bool(self._control.packing.count or self._messages.packing.count)

    def traffic(self) -> Traffic:
        """For who looks."""
        words = [channel.words for channel in self._channels]
        not_cut = sum(channel.packing.count for channel in self._channels)
        sent = sum(stream.out.messages for stream in words) + not_cut
        waiting = sum(parcel.count for stream in words for parcel in stream.out.waiting) + not_cut
        received = sum(stream.incoming.messages for stream in words)
        size = sum(stream.out.bytes for stream in self._streams)
        return Traffic(sent, received, size, self._srtt, waiting)

    def is_in_flight(self) -> bool:
        return any(self._flights)

    def wants_pump(self) -> bool:
        """True if something may leave now that could not before a block came: an ack, or what waited for credit."""
        return self._ack_now or self.has_backlog()

    def is_busy(self) -> bool:
        return self._asked or self.is_in_flight() or self.has_backlog()

    def unconfirmed(self) -> list[Envelope]:
        """All messages that the peer did not confirm, those of each channel in the order in which they were sent."""
        return self._control.packing.unconfirmed() + self._messages.packing.unconfirmed()

    def end(self) -> list[Envelope]:
        """The session is over: what was confirmed to the peer is delivered, what it did not confirm is handed back."""
        self._control.end()
        return self.unconfirmed()

    def check(self) -> None:
        """What must hold between two calls."""
        for stream in self._streams:
            stream.out.check()
        for channel in self._channels:
            channel.packing.check()

    def pump(self, now: float) -> None:
        """Sends what credit allows, control words first and chunks last; then the acks, if nothing carried them."""
        if self.sid:
            for channel in self._channels:
                out, packing = channel.words.out, channel.packing
                if out.waiting:
                    self._pump_words(channel, now)
                if packing.count and out.has_credit(packing.count, len(packing.body) + packing.frames_size):
                    packing.cut()
                    self._pump_words(channel, now)
            for channel in self._channels:
                if channel.chunks.out.waiting or channel.shipments.ready:
                    self._pump_chunks(channel, now)
        if self._ack_now:
            self._acknowledge()
        self._arm(now)

    def _pump_words(self, channel: Channel, now: float) -> None:
        while parcel := channel.words.out.take(now):
            self._emit(channel.words, parcel)
            if parcel.transfers:
                channel.shipments.release(parcel.transfers)

    def _pump_chunks(self, channel: Channel, now: float) -> None:
        out, shipments = channel.chunks.out, channel.shipments
        while True:
            if not out.waiting and shipments.ready:
                chunks, frames, completed = shipments.cut()
                out.cut(len(chunks), encode_chunks(chunks), frames, after=completed)
            parcel = out.take(now)
            if parcel is None:
                return
            self._emit(channel.chunks, parcel)

    def _emit(self, stream: Stream, parcel: Parcel) -> None:
        block = self._block(stream, parcel.seq, parcel.count, parcel.body)
        block.frames = len(parcel.frames)
        self.outbox.append(Packet(block, parcel.frames, parcel.size))

    def _block(self, stream: Stream, seq: int, count: int, body: bytes) -> Block:
        """A header with the newest ack and limits of its stream, so that none is due any more."""
        incoming = stream.incoming
        incoming.note_told()
        unsaid = self._unsaid
        unsaid.pop(stream, None)
        if not unsaid:
            self._ack_at = None
            self._ack_now = False
            self._unacked_blocks = 0
        return Block(
            VERSION,
            self.peer,
            self._local.epoch,
            self.sid,
            stream.number,
            seq,
            count,
            incoming.ack,
            incoming.limit_messages,
            incoming.limit_bytes,
            0,
            0,
            0,
            memoryview(body),
        )

    def hurry_acks(self) -> bool:
        """Those that would be said soon are said by the next pump(): there may be no later one. False if there are none."""
        self._ack_now = self._ack_now or self._ack_at is not None
        return self._ack_now

    def _acknowledge(self) -> None:
        for stream in list(self._unsaid):
            self.outbox.append(Packet(self._block(stream, 0, 0, b""), (), 0))

    def _say(self, record: Control, flags: int = RECORD) -> None:
        self.outbox.append(control_packet(self._local.epoch, self.peer, encode_control(record), flags))

    # What arrives

    def receive(self, packet: Packet, now: float) -> None:
        """A block of the streams, or a lone ack."""
        block = packet.block
        if block.sid != self.sid or not self.sid:
            self._on_stranger(block.sid, now)
            return
        if block.stream >= len(self._streams):
            raise ProtocolError(f"a block of stream {block.stream}")
        stream = self._streams[block.stream]
        self._confirm(stream, block, now)
        if not block.seq:
            return
        is_new = stream.incoming.put(packet)
        self._unacked_blocks += 1
        if not is_new or self._unacked_blocks >= ACK_BLOCKS:
            self._ack_now = True
        self._ack_soon(stream, now)
        if is_new:
            self._channels[block.stream // STREAMS].advance()
            if self._behind:
                self._control.release()

    def consume(self, now: float) -> None:
        """The layer above has taken what was delivered: its place is free again, and the peer shall know."""
        for channel in self._channels:
            if channel.is_fresh:
                channel.is_fresh = False
                arrivals = channel.arrivals
                self._give_credit(channel.words, arrivals.held_messages, arrivals.held_bytes, now)
                if channel.chunks.incoming.ack:
                    self._give_credit(channel.chunks, 0, 0, now)

    def _give_credit(self, stream: Stream, held_messages: int, held_bytes: int, now: float) -> None:
        if stream.incoming.consume(held_messages, held_bytes):
            self._ack_soon(stream, now)
            if stream.incoming.is_half_used():
                self._ack_now = True

    def _ack_soon(self, stream: Stream, now: float) -> None:
        self._unsaid[stream] = None
        if self._ack_at is None:
            self._ack_at = now + ACK_DELAY

    # What both ends say of themselves

    def resync(self, now: float) -> None:
        """Something may have been lost: asks the peer what it has."""
        self._backoff = 1.0
        self._shortest = NEVER  # it may be another way
        self._ask(now)

    def doubt(self, now: float) -> None:
        """The peer cannot be reached: ask later, if nobody says before that it can."""
        self._asked = True
        self._arm(now)

    def _ask(self, now: float, echo: int = 0) -> None:
        self._probe += 1
        self._asked = True
        self._probed_at = now
        self._marks = [stream.out.sent for stream in self._streams]
        self._hello(self._probe, echo)
        self._alarm = now + self._timeout()

    def _hello(self, probe: int, echo: int) -> None:
        limits = [stream.incoming.tell() for stream in self._streams]
        self._say(Hello(self._incarnation, self._peer_incarnation, limits, probe, echo))

    def on_hello(self, hello: Hello, now: float) -> None:
        if not 0 < hello.incarnation < 2**32:
            raise ProtocolError(f"incarnation {hello.incarnation}")
        if hello.incarnation > self._peer_incarnation:
            if self._peer_incarnation:
                self._start_anew()
            self._know(hello.incarnation)
        is_current = hello.incarnation == self._peer_incarnation
        is_known = hello.known == self._incarnation
        if is_current and is_known:
            for stream, limits in zip(self._streams, hello.limits, strict=False):
                self._confirm(stream, limits, now)
            if self._asked and hello.echo == self._probe:
                self._on_answer(now)
        if hello.probe or not is_known:
            self._answer(hello, now)

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
        for stream, mark in zip(self._streams, self._marks, strict=True):
            for parcel in stream.out.flight:
                if parcel.seq > mark:
                    break
                parcel.sent_at = now
                parcel.resent = True
                self._emit(stream, parcel)
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
            self._say(Reset(sid), RECORD | NOTICE)
        elif theirs > self._peer_incarnation and not (self._asked and now < self._probed_at + RTO_MIN):
            self._ask(now)

    def _start_anew(self) -> None:
        unconfirmed = self.end()
        self._begin()
        self._local.events.append(PeerReset(self.peer, unconfirmed))

    # Acks, timers

    def _note_distance(self, seconds: float) -> None:
        """Nothing is said of one that is near from the beginning."""
        if seconds > NEAR_S or NEAR_S < self._shortest < NEVER:
            self._local.events.append(PeerDistance(self.peer, seconds))
        self._shortest = seconds

    def _confirm(self, stream: Stream, limits: Limits | Block, now: float) -> None:
        """What the peer has of a stream, and may be sent; a block says it in the same words as a HELLO."""
        stream.out.grant(limits.limit_messages, limits.limit_bytes)
        confirmed = stream.out.acknowledge(limits.ack)
        if not confirmed:
            return
        last = confirmed[-1]
        if not last.resent:
            sample = now - last.sent_at
            self._srtt = sample if self._srtt is None else self._srtt + (sample - self._srtt) / 8
            self._rto = min(RTO_MAX, max(RTO_MIN, 4 * self._srtt))
            if sample < NEARER * self._shortest:
                self._note_distance(sample)
        self._channels[stream.number // STREAMS].retire(stream, confirmed)
        self._backoff = 1.0
        self._alarm = None
        self._arm(now)

    def _timeout(self) -> float:
        return min(RTO_MAX, self._rto * self._backoff)

    def _arm(self, now: float) -> None:
        """The safety net hangs while an answer, an ack or credit is awaited."""
        if self._asked or self.is_in_flight() or self.has_backlog():
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
    return control_packet(epoch, packet.block.from_epoch, body, RECORD | NOTICE)
