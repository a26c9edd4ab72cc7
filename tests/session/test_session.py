"""The session: two ends, and between them a network that reorders, doubles, delays and loses as it likes."""

import itertools
from typing import Any, ClassVar

import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from dispycos.protocol.addresses import Address
from dispycos.protocol.codec import RECORD, Codec, Packet, decode_control, decode_message, encode_message
from dispycos.protocol.control import Hello, Reset
from dispycos.protocol.envelope import ANYBODY, BEHIND, CONTROL, MESSAGES, Envelope
from dispycos.protocol.errors import ProtocolError
from dispycos.session.channel import Local
from dispycos.session.packing import LATEST_MAX, Known
from dispycos.session.session import ACK_DELAY, PeerDistance, PeerReset, Session, reset_block
from dispycos.session.stream import WINDOW_MESSAGES


class Note(msgspec.Struct, array_like=True, tag=1, frozen=True):
    way: ClassVar[int] = MESSAGES
    n: int
    text: str = ""


class Later(msgspec.Struct, array_like=True, tag=2, frozen=True):
    way: ClassVar[int] = MESSAGES
    n: int


class End:
    """One runtime that talks to one other."""

    def __init__(self, epoch: int, peer: int, union: Any = Note) -> None:
        self.epoch, self.peer = epoch, peer
        self.deliveries: list[Envelope] = []
        self.events: list[Any] = []
        codec: Codec[Any] = Codec(union)
        self._local = Local(
            codec,
            epoch,
            itertools.count(1),
            Known(epoch),
            self.deliveries,
            self.events,
        )
        self.session: Session | None = None

    def open(self) -> Session:
        if self.session is None:
            self.session = Session(self._local, self.peer)
        return self.session

    def send(self, n: int, payload: Any = None, actor: int = 16) -> None:
        to = Address(self.peer, 16)
        self.put(Envelope(to, Address(self.epoch, actor), Note(n), 0, payload))

    def put(self, envelope: Envelope) -> None:
        self.open().puts[envelope.message.way](envelope)

    def take(self, now: float) -> list[Packet]:
        """What leaves now."""
        if self.session is None:
            return []
        self.session.consume(now)
        self.session.pump(now)
        packets = self.session.outbox[:]
        self.session.outbox.clear()
        return packets

    def receive(self, packet: Packet, now: float) -> list[Packet]:
        """Takes a block through the codec, as a router would; answers that need no session."""
        (arrived,) = decode_message([bytes(frame) for frame in encode_message([packet])])
        record = decode_control(arrived.block.body) if arrived.block.flags & RECORD else None
        if self.session is None:
            if not isinstance(record, Hello):
                return [reset_block(arrived, self.epoch)] if record is None else []
            self.open()
        session = self.open()
        if record is None:
            session.receive(arrived, now)
        elif isinstance(record, Hello):
            session.on_hello(record, now)
        elif isinstance(record, Reset):
            session.on_reset(record, now)
        return []

    def got(self) -> list[int]:
        return [envelope.message.n for envelope in self.deliveries]


def pair() -> tuple[End, End]:
    return End(5, 7), End(7, 5)


def deliver_words(one: End, other: End) -> list[Packet]:
    """All but the chunks, which are late: the chunks."""
    packets = one.take(0.0)
    for packet in packets:
        if packet.block.stream % 2 == 0:
            other.receive(packet, 0.0)
    return [packet for packet in packets if packet.block.stream % 2]


def talk(one: End, other: End, now: float = 0.0) -> None:
    """Lets both say all they have to say, over a network without faults."""
    for _ in range(100):
        packets = [(other, packet) for packet in one.take(now)] + [
            (one, packet) for packet in other.take(now)
        ]
        if not packets:
            return
        for end, packet in packets:
            end.receive(packet, now)
    raise AssertionError("they never stop talking")


def greeted() -> tuple[End, End]:
    one, other = pair()
    one.open().resync(0.0)
    talk(one, other)
    return one, other


def test_the_first_messages_wait_for_the_greeting_only() -> None:
    one, other = pair()
    one.send(1)
    one.open().resync(0.0)
    talk(one, other)
    assert other.got() == [1]


def test_both_ends_may_begin_at_once() -> None:
    one, other = pair()
    for end, n in ((one, 1), (other, 2)):
        end.send(n)
        end.open().resync(0.0)
    talk(one, other)
    assert (one.got(), other.got()) == ([2], [1])


def test_a_block_that_comes_twice_is_delivered_once() -> None:
    one, other = greeted()
    one.send(1)
    (block,) = one.take(0.0)
    other.receive(block, 0.0)
    other.receive(block, 0.0)
    assert other.got() == [1]
    # A copy is answered at once: the sender may not know that it has arrived.
    assert len(other.take(0.0)) == 1


def test_blocks_that_overtake_each_other_are_put_in_order() -> None:
    one, other = greeted()
    blocks = []
    for n in range(3):
        one.send(n)
        blocks += one.take(0.0)
    for block in reversed(blocks):
        other.receive(block, 0.0)
    assert other.got() == [0, 1, 2]


def word_and_answer(one: End, other: End, now: float, seconds: float) -> None:
    one.send(1)
    (block,) = one.take(now)
    other.receive(block, now + seconds / 2)
    other.send(1)  # so that its ack leaves at once
    (answer,) = other.take(now + seconds / 2)
    one.receive(answer, now + seconds)


def test_how_far_a_peer_is_is_told_when_it_is_known_and_when_it_is_less() -> None:
    one, other = greeted()
    del one.events[:]
    for now, seconds in enumerate((0.05, 0.06, 0.045, 0.03, 0.0005, 0.02)):
        word_and_answer(one, other, float(now), seconds)
    told = [round(event.seconds, 6) for event in one.events]
    assert told == [0.05, 0.03, 0.0005] and {type(event) for event in one.events} == {PeerDistance}


def test_by_another_way_the_distance_is_another() -> None:
    one, other = greeted()
    word_and_answer(one, other, 1.0, 0.02)
    one.open().resync(2.0)
    talk(one, other, 2.0)
    del one.events[:]
    word_and_answer(one, other, 3.0, 0.04)
    assert [round(event.seconds, 6) for event in one.events] == [0.04]


def test_of_a_peer_that_is_near_nothing_is_told() -> None:
    one, other = greeted()
    del one.events[:]
    word_and_answer(one, other, 1.0, 0.0004)
    word_and_answer(one, other, 2.0, 0.0002)
    assert one.events == []


def test_an_ack_rides_on_data_or_follows_after_its_delay() -> None:
    one, other = greeted()
    one.send(1)
    (block,) = one.take(0.0)
    other.receive(block, 0.0)
    session = other.open()
    assert other.take(0.0) == []
    assert session.deadline() == ACK_DELAY
    session.wake(ACK_DELAY)
    (ack,) = other.take(ACK_DELAY)
    assert (ack.block.seq, ack.block.ack, ack.block.limit_messages) == (0, 1, 1 + WINDOW_MESSAGES)
    one.receive(ack, ACK_DELAY)
    assert not one.open().is_busy()
    assert one.open().deadline() is None


def test_what_was_lost_is_sent_again_after_a_question_and_nothing_else_is() -> None:
    one, other = greeted()
    one.send(1)
    one.take(0.0)  # lost
    session = one.open()
    due = session.deadline()
    assert due is not None
    assert session.wake(due)
    (question,) = one.take(due)
    one.send(2)
    (second,) = one.take(due)
    other.receive(second, due)
    other.receive(question, due)
    (answer,) = [packet for packet in other.take(due) if packet.block.flags & RECORD]
    one.receive(answer, due)
    again = one.take(due)
    assert [packet.block.seq for packet in again] == [1]
    other.receive(again[0], due)
    assert other.got() == [1, 2]


def test_the_answer_to_an_earlier_question_tells_nothing_of_what_was_sent_since() -> None:
    one, other = greeted()
    one.open().resync(1.0)
    (question,) = one.take(1.0)
    one.send(1)
    assert [packet.block.seq for packet in one.take(1.0)] == [1]  # on its way
    one.open().resync(1.0)
    one.take(1.0)
    other.receive(question, 1.0)
    for answer in other.take(1.0):
        one.receive(answer, 1.0)
    assert not [packet for packet in one.take(1.0) if packet.block.seq]


def test_an_incarnation_that_nobody_has_is_a_protocol_error() -> None:
    one, _ = greeted()
    for incarnation in (0, 2**32):
        with pytest.raises(ProtocolError):
            one.open().on_hello(Hello(incarnation, 1, [], 0, 0), 0.0)


def test_the_timer_backs_off_to_ten_seconds() -> None:
    one, _ = greeted()
    one.send(1)
    one.take(0.0)
    session = one.open()
    pauses, now = [], 0.0
    for _ in range(9):
        due = session.deadline()
        assert due is not None
        pauses.append(due - now)
        now = due
        session.wake(now)
    assert pauses == pytest.approx([0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10, 10, 10])


def test_credit_stops_the_sender_until_the_messages_are_taken() -> None:
    one, other = greeted()
    for n in range(3000):
        one.send(n)
    for packet in one.take(0.0):
        other.receive(packet, 0.0)
    assert other.got() == list(range(1024))
    talk(one, other)
    talk(one, other, 1.0)
    other.open().wake(1.0)
    for _ in range(20):
        for end in (one, other):
            due = end.open().deadline()
            end.open().wake(due if due is not None else 0.0)
        talk(one, other, 2.0)
    assert other.got() == list(range(3000))


def test_more_than_was_granted_is_a_protocol_error() -> None:
    one, other = greeted()
    for n in range(64):
        one.send(n)
    (block,) = one.take(0.0)
    for seq in range(2, 18):
        block.block.seq = seq
        other.receive(block, 0.0)
    block.block.seq = 18
    with pytest.raises(ProtocolError, match="more than was granted"):
        other.receive(block, 0.0)


def test_an_ack_for_what_was_never_sent_is_a_protocol_error() -> None:
    one, other = greeted()
    one.send(1)
    (block,) = one.take(0.0)
    block.block.ack = 9
    with pytest.raises(ProtocolError, match="confirmed"):
        other.receive(block, 0.0)


def test_a_peer_that_forgot_us_hands_back_what_it_had_not_confirmed() -> None:
    one, other = greeted()
    one.send(1)
    talk(one, other)
    other.open().wake(ACK_DELAY)
    talk(one, other)
    other.session = None
    one.send(2, b"x" * 40)
    (block,) = one.take(1.0)
    (reset,) = other.receive(block, 1.0)
    one.receive(reset, 1.0)
    assert one.events[-1] == PeerReset(7, [Envelope(Address(7, 16), Address(5, 16), Note(2), 0, b"x" * 40)])
    one.send(3)
    talk(one, other, 1.0)
    assert other.got() == [1, 3]


def test_a_reset_of_an_older_session_is_ignored() -> None:
    one, other = greeted()
    one.send(1)
    one.receive(Packet(reset_block(one.take(0.0)[0], 7).block, (), 0), 0.0)
    talk(one, other)
    count = len(one.events)
    one.open().on_reset(Reset(1 << 32 | 1), 0.0)
    assert len(one.events) == count


def test_a_hello_that_takes_us_for_another_is_always_answered() -> None:
    one, _ = greeted()
    session = one.open()
    (hello,) = [Hello(1, 99, [])]
    session.on_hello(hello, 0.0)
    (answer,) = one.take(0.0)
    record = decode_control(answer.block.body)
    assert isinstance(record, Hello)
    assert record.known == 1


def test_a_large_payload_holds_back_its_own_pair_and_nobody_else() -> None:
    one, other = greeted()
    large = [bytes([3]) * 300_000, bytes([4]) * 5]
    one.send(1, large, actor=16)
    one.send(2, actor=16)
    one.send(3, actor=17)
    late = deliver_words(one, other)
    assert other.got() == [3]
    for packet in late:
        other.receive(packet, 0.0)
    talk(one, other)
    assert other.got() == [3, 1, 2]
    assert other.deliveries[1].payload == large


def test_chunks_that_come_before_their_message_wait_for_it() -> None:
    one, other = greeted()
    one.send(1, bytes(300_000))
    message, chunks = one.take(0.0)
    other.receive(chunks, 0.0)
    assert other.got() == []
    other.receive(message, 0.0)
    assert other.got() == [1]


def test_chunks_are_views_of_the_senders_buffer() -> None:
    one, _ = greeted()
    payload = bytes(2**20)
    one.send(1, payload)
    frames = [frame for packet in one.take(0.0) for frame in packet.frames]
    assert all(isinstance(frame, memoryview) and frame.obj is payload for frame in frames)


def test_messages_that_wait_for_a_payload_are_unconfirmed_though_acked() -> None:
    one, other = greeted()
    large = bytes(300_000)
    one.send(1)
    one.send(2, large)
    one.send(3)
    deliver_words(one, other)
    other.open().wake(ACK_DELAY)
    for packet in other.take(ACK_DELAY):
        one.receive(packet, ACK_DELAY)
    unconfirmed = one.open().unconfirmed()
    assert [envelope.message.n for envelope in unconfirmed] == [2, 3]
    assert unconfirmed[0].payload is large


@pytest.mark.parametrize("payload", [None, b"x", bytes(300_000)])
def test_a_word_that_the_peer_does_not_know_is_left_out_and_the_others_arrive(payload: Any) -> None:
    one, other = End(5, 7, Note | Later), End(7, 5)
    one.open().resync(0.0)
    talk(one, other)
    one.send(1)
    one.put(Envelope(Address(7, 16), Address(5, 18), Later(1), 44, payload))
    one.send(2)
    talk(one, other)
    assert other.got() == [1, 2]
    assert one.deliveries == []


def test_a_message_that_cannot_be_sent_is_the_callers_mistake() -> None:
    one, other = greeted()
    one.send(1)
    with pytest.raises(TypeError, match="unsupported"):
        one.put(Envelope(Address(7, 16), Address(5, 16), Note(object())))  # type: ignore[arg-type]
    one.send(3)
    talk(one, other)
    assert other.got() == [1, 3]


class Conversation(RuleBasedStateMachine):
    """Two ends; every block may be lost, doubled, delayed or overtaken; ends forget each other."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.ends = pair()
        self.air: tuple[list[Packet], list[Packet]] = ([], [])  # on its way to ends[0], ends[1]
        self.sent: tuple[list[int], list[int]] = ([], [])
        self.handed: tuple[set[int], set[int]] = (set(), set())
        self.count = 0

    def collect(self) -> None:
        for index, end in enumerate(self.ends):
            self.air[1 - index].extend(end.take(self.now))
            for event in end.events:
                if isinstance(event, PeerReset):
                    self.handed[index].update(envelope.message.n for envelope in event.unconfirmed)
            end.events.clear()

    @rule(
        index=st.integers(0, 1), size=st.sampled_from([0, 0, 40, 20_000, 300_000]), burst=st.integers(1, 70)
    )
    def send(self, index: int, size: int, burst: int) -> None:
        fresh = self.ends[index].session is None
        for n in range(burst):
            self.count += 1
            self.sent[index].append(self.count)
            self.ends[index].send(self.count, bytes(size) if size and not n else None)
        if fresh:
            self.ends[index].open().resync(self.now)
        self.collect()

    @precondition(lambda self: any(self.air))
    @rule(data=st.data(), index=st.integers(0, 1), copy=st.booleans())
    def arrive(self, data: st.DataObject, index: int, copy: bool) -> None:
        air = self.air[index]
        if air:
            position = data.draw(st.integers(0, len(air) - 1))
            packet = air[position] if copy else air.pop(position)
            self.air[1 - index].extend(self.ends[index].receive(packet, self.now))
            self.collect()

    @rule(index=st.integers(0, 1))
    def arrive_all(self, index: int) -> None:
        for packet in self.air[index][:]:
            self.air[index].remove(packet)
            self.air[1 - index].extend(self.ends[index].receive(packet, self.now))
        self.collect()

    @precondition(lambda self: any(self.air))
    @rule(data=st.data(), index=st.integers(0, 1))
    def lose(self, data: st.DataObject, index: int) -> None:
        if self.air[index]:
            self.air[index].pop(data.draw(st.integers(0, len(self.air[index]) - 1)))

    @rule(seconds=st.sampled_from([0.01, 0.03, 0.3, 3.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        for end in self.ends:
            if end.session is not None:
                end.session.wake(self.now)
        self.collect()

    @rule(index=st.integers(0, 1))
    def forget(self, index: int) -> None:
        end = self.ends[index]
        if end.session is not None:
            self.handed[index].update(envelope.message.n for envelope in end.session.unconfirmed())
            end.session = None

    @rule(index=st.integers(0, 1))
    def path_up(self, index: int) -> None:
        if self.ends[index].session is not None:
            self.ends[index].open().resync(self.now)
            self.collect()

    @invariant()
    def order_holds(self) -> None:
        for end in self.ends:
            assert end.got() == sorted(set(end.got()))

    def teardown(self) -> None:
        """With a network that works again, all arrives or was handed back, and both fall silent."""
        for _ in range(40):
            for _ in range(20):
                if not any(self.air):
                    break
                for index in (0, 1):
                    self.arrive_all(index)
            self.wait(0.3)
        for index in (0, 1):
            missing = set(self.sent[index]) - set(self.ends[1 - index].got()) - self.handed[index]
            assert not missing, sorted(missing)[:9]
            session = self.ends[index].session
            assert session is None or not session.is_busy()


Conversation.TestCase.settings = settings(
    max_examples=200,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestConversation = Conversation.TestCase


class Order(Note, tag=3, frozen=True):
    """A control word."""

    way = CONTROL


class Verdict(Note, tag=4, frozen=True):
    """A control word about an actor: to come behind what that one has sent."""

    way = BEHIND
    actor: int = 16


class Farewell(Note, tag=5, frozen=True):
    """The last word of all."""

    way = BEHIND
    actor = ANYBODY


ALL = Note | Order | Verdict | Farewell


def with_control_words() -> tuple[End, End]:
    one, other = End(5, 7, ALL), End(7, 5, ALL)
    one.open().resync(0.0)
    talk(one, other)
    return one, other


def say(end: End, word: Note) -> None:
    """From an actor that speaks for others, as a server's machine does."""
    end.put(Envelope(Address(end.peer, 16), Address(end.epoch, 1), word))


def of_stream(packets: list[Packet], number: int) -> list[Packet]:
    return [packet for packet in packets if packet.block.stream == number]


def test_a_control_word_does_not_wait_for_messages_that_have_no_credit() -> None:
    one, other = with_control_words()
    for n in range(3000):
        one.send(n)
    one.take(0.0)  # all that credit allows, and lost
    say(one, Order(-1))
    (block,) = one.take(0.0)
    other.receive(block, 0.0)
    assert other.got() == [-1]


def test_control_words_are_sent_first() -> None:
    one, _ = with_control_words()
    one.send(1)
    one.send(2, bytes(300_000))
    say(one, Order(3))
    assert [packet.block.stream for packet in one.take(0.0)] == [0, 2, 3]


def test_a_control_word_does_not_wait_for_chunks_nor_for_its_pair() -> None:
    one, other = with_control_words()
    one.send(1, bytes(300_000), actor=1)
    one.send(2, actor=1)
    say(one, Order(3))
    late = deliver_words(one, other)
    assert other.got() == [3]
    for packet in late:
        other.receive(packet, 0.0)
    talk(one, other)
    assert other.got() == [3, 1, 2]


def test_a_word_about_an_actor_comes_behind_its_messages_and_holds_up_no_other() -> None:
    one, other = with_control_words()
    one.send(1, actor=16)
    messages = one.take(0.0)
    say(one, Verdict(2))
    say(one, Order(3))
    (control,) = one.take(0.0)
    other.receive(control, 0.0)
    assert other.got() == [3]
    other.receive(messages[0], 0.0)
    assert other.got() == [3, 1, 2]


def test_a_word_about_an_actor_does_not_wait_for_those_of_others() -> None:
    one, other = with_control_words()
    one.send(1, actor=17)
    one.take(0.0)  # lost
    say(one, Verdict(2))
    for packet in one.take(0.0):
        other.receive(packet, 0.0)
    assert other.got() == [2]


def test_a_word_about_an_actor_comes_behind_its_large_payloads() -> None:
    one, other = with_control_words()
    one.send(1, bytes(300_000), actor=16)
    one.send(2, bytes(300_000), actor=17)
    say(one, Verdict(3))
    packets = one.take(0.0)
    *chunks, last = of_stream(packets, 3)
    for packet in [*of_stream(packets, 2), *of_stream(packets, 0), *chunks]:
        other.receive(packet, 0.0)
    assert other.got() == [1, 3]  # the other's payload is not complete
    other.receive(last, 0.0)
    assert other.got() == [1, 3, 2]


def test_a_large_word_about_an_actor_comes_behind_its_messages_too() -> None:
    one, other = with_control_words()
    one.send(1, actor=16)
    (message,) = one.take(0.0)
    one.put(Envelope(Address(7, 16), Address(5, 1), Verdict(2), 0, bytes(300_000)))
    for packet in one.take(0.0):
        other.receive(packet, 0.0)
    assert other.got() == []
    other.receive(message, 0.0)
    assert other.got() == [1, 2]
    assert other.deliveries[1].payload == bytes(300_000)


def test_the_last_word_of_all_comes_behind_everybody() -> None:
    one, other = with_control_words()
    one.send(1, actor=17)
    (message,) = one.take(0.0)
    say(one, Farewell(2))
    (control,) = one.take(0.0)
    other.receive(control, 0.0)
    assert other.got() == []
    other.receive(message, 0.0)
    assert other.got() == [1, 2]


def test_a_word_that_waits_for_what_will_not_come_is_delivered_with_the_end_of_the_session() -> None:
    one, other = with_control_words()
    one.send(1, actor=16)
    one.take(0.0)  # lost
    say(one, Verdict(2))
    talk(one, other)
    assert other.got() == []
    assert other.open().end() == []
    assert other.got() == [2]


def test_what_is_handed_back_is_of_both_channels() -> None:
    one, _ = with_control_words()
    one.send(1)
    say(one, Order(2))
    say(one, Verdict(3))
    assert [envelope.message for envelope in one.open().unconfirmed()] == [Order(2), Verdict(3), Note(1)]


def test_control_words_have_credit_of_their_own_and_get_it_back() -> None:
    one, other = with_control_words()
    for n in range(3000):
        say(one, Order(n))
        one.send(n)
    for _ in range(20):
        talk(one, other)
        for end in (one, other):
            due = end.open().deadline()
            end.open().wake(due if due is not None else 0.0)
    orders = [e.message.n for e in other.deliveries if isinstance(e.message, Order)]
    notes = [e.message.n for e in other.deliveries if not isinstance(e.message, Order)]
    assert orders == notes == list(range(3000))


def test_which_actors_have_spoken_is_not_known_without_bound() -> None:
    one, other = with_control_words()
    for n in range(5 * LATEST_MAX):
        one.send(n, actor=n + 16)
        if n % 100 == 0:
            talk(one, other)
            other.open().wake(other.open().deadline() or 0.0)
            talk(one, other)
    assert len(one.open()._messages.packing._latest) <= 2 * LATEST_MAX


def test_a_block_of_a_stream_that_does_not_exist_is_a_protocol_error() -> None:
    one, other = greeted()
    one.send(1)
    (block,) = one.take(0.0)
    block.block.stream = 4
    with pytest.raises(ProtocolError, match="stream 4"):
        other.receive(block, 0.0)
