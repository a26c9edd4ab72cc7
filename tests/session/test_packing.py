"""Messages into blocks and out of them: what goes where, and what is handed back."""

import os
from typing import Any, cast

import msgspec
import pytest

from dispycos.protocol.addresses import Address
from dispycos.protocol.codec import (
    BLOCK_MESSAGES,
    BODY_MAX,
    FRAME_MAX,
    INLINE_MAX,
    VERSION,
    Block,
    Codec,
    Packet,
    encode_chunks,
)
from dispycos.protocol.envelope import Envelope
from dispycos.protocol.errors import ProtocolError
from dispycos.session.packing import ADDRESSES_MAX, Known, Packing, Unpacking
from dispycos.session.stream import UNLIMITED, Outgoing, Parcel
from dispycos.session.transfers import LAZY_MIN, Arrivals, Shipments, room_for


class Note(msgspec.Struct, array_like=True, tag=1, frozen=True):
    n: int
    text: str = ""


class Later(msgspec.Struct, array_like=True, tag=2, frozen=True):
    n: int


class Many(msgspec.Struct, array_like=True, tag=3, frozen=True):
    numbers: list[int]


HERE, THERE = 5, 7


class Pair:
    """The packing of one end, the unpacking of the other, and between them a stream without a session."""

    def __init__(self, sent: Any = Note, understood: Any = Note) -> None:
        self.out = Outgoing(UNLIMITED)
        self.shipments = Shipments()
        self.packing = Packing(Codec(sent), Known(HERE), Known(THERE), self.out, self.shipments)
        self.got: list[Envelope] = []
        self.unpacking = Unpacking(Codec(understood), Known(THERE), Known(HERE), Arrivals(), self.got)

    def put(self, *numbers: int, payload: Any = None, actor: int = 16) -> bool:
        full = [
            self.packing.put(Envelope(Address(THERE, 16), Address(HERE, actor), Note(n), 0, payload))
            for n in numbers
        ]
        return any(full)

    def take(self) -> list[Parcel]:
        """What was cut, as if it were sent."""
        self.packing.cut()
        parcels = []
        while parcel := self.out.take(0.0):
            self.shipments.release(parcel.transfers)
            parcels.append(parcel)
        return parcels

    def chunks(self) -> tuple[Parcel, Packet]:
        """The next chunks that leave, as the session keeps them and as they arrive."""
        chunks, frames, completed = self.shipments.cut()
        bulk = Outgoing(UNLIMITED)
        bulk.cut(len(chunks), encode_chunks(chunks), frames, after=completed)
        parcel = bulk.take(0.0)
        assert parcel is not None
        return parcel, packet_of(parcel)

    def numbers(self) -> list[int]:
        return [envelope.message.n for envelope in self.got]


def packet_of(parcel: Parcel) -> Packet:
    body = memoryview(parcel.body)
    block = Block(VERSION, THERE, HERE, 1, 1, parcel.seq, parcel.count, 0, 0, 0, 0, 0, 0, body)
    return Packet(block, parcel.frames, parcel.size)


def test_messages_share_a_block_and_come_out_in_order_with_their_addresses() -> None:
    pair = Pair()
    pair.put(1, 2, payload=b"inline")
    (parcel,) = pair.take()
    pair.unpacking.open(packet_of(parcel))
    assert pair.numbers() == [1, 2]
    assert {(e.to, e.sender, e.payload) for e in pair.got} == {
        (Address(THERE, 16), Address(HERE, 16), b"inline")
    }


def test_a_block_is_full_by_number_or_by_size() -> None:
    pair = Pair()
    assert not pair.put(*range(BLOCK_MESSAGES - 1))
    assert pair.put(BLOCK_MESSAGES)
    assert pair.put(1, payload=bytes(FRAME_MAX))


def test_an_entry_that_makes_the_body_too_long_begins_the_next_block() -> None:
    pair = Pair()
    pair.put(*range(BODY_MAX // INLINE_MAX), payload=bytes(INLINE_MAX))
    parcels = pair.take()
    assert [parcel.count for parcel in parcels] == [BODY_MAX // INLINE_MAX - 1, 1]
    assert all(len(parcel.body) <= BODY_MAX for parcel in parcels)


def test_payloads_over_16_kib_leave_in_frames_of_their_own() -> None:
    pair = Pair()
    payload = bytes(INLINE_MAX + 1)
    pair.put(1, payload=payload)
    pair.put(2, payload=[payload, payload])
    (parcel,) = pair.take()
    assert [len(frame) for frame in parcel.frames] == [INLINE_MAX + 1] * 3
    pair.unpacking.open(packet_of(parcel))
    assert [envelope.payload for envelope in pair.got] == [payload, [payload, payload]]


def test_frames_that_no_entry_speaks_of_are_a_protocol_error() -> None:
    pair = Pair()
    pair.put(1)
    (parcel,) = pair.take()
    parcel.frames = [b"too much"]
    with pytest.raises(ProtocolError, match="belong to no entry"):
        pair.unpacking.open(packet_of(parcel))


def test_what_follows_a_large_payload_waits_for_it_but_only_of_the_same_pair() -> None:
    pair = Pair()
    large = bytes(FRAME_MAX + 1)
    pair.put(1, payload=large)
    pair.put(2)
    pair.put(3, actor=17)
    for parcel in pair.take():
        pair.unpacking.open(packet_of(parcel))
    assert pair.numbers() == [3]
    assert pair.unpacking.open_bulk(pair.chunks()[1])
    assert pair.numbers() == [3, 1, 2]
    assert pair.got[1].payload == large


def test_chunks_before_the_message_that_announces_them_are_to_come_again() -> None:
    pair = Pair()
    pair.put(1, payload=bytes(FRAME_MAX + 1))
    (parcel,) = pair.take()
    _, chunks = pair.chunks()
    assert not pair.unpacking.open_bulk(chunks)
    pair.unpacking.open(packet_of(parcel))
    assert pair.unpacking.open_bulk(chunks)
    assert pair.numbers() == [1]


def test_a_message_that_is_not_understood_is_left_out_and_the_others_are_delivered() -> None:
    pair = Pair(sent=Note | Later)
    pair.packing.put(Envelope(Address(THERE, 16), Address(HERE, 17), Later(1), 9))
    pair.put(2)
    (parcel,) = pair.take()
    pair.unpacking.open(packet_of(parcel))
    assert pair.numbers() == [2]


def test_all_that_was_put_is_unconfirmed_sent_or_not() -> None:
    pair = Pair()
    pair.put(1, payload=bytes(FRAME_MAX + 1))
    pair.take()
    pair.put(2)
    handed_back = pair.packing.unconfirmed()
    assert [envelope.message.n for envelope in handed_back] == [1, 2]
    assert handed_back[0].payload == bytes(FRAME_MAX + 1)


def test_a_confirmed_block_is_kept_while_the_peer_holds_its_messages_back() -> None:
    pair = Pair()
    pair.put(1, payload=bytes(FRAME_MAX + 1))
    (parcel,) = pair.take()
    pair.packing.retire(pair.out.acknowledge(parcel.seq), [])
    pair.put(2)
    assert [envelope.message.n for envelope in pair.packing.unconfirmed()] == [1, 2]
    chunks, _ = pair.chunks()
    pair.packing.retire([], [chunks])
    assert not pair.packing.retained
    assert [envelope.message.n for envelope in pair.packing.unconfirmed()] == [2]


def test_a_text_too_long_for_a_block_is_cut_with_a_word_and_takes_nothing_along() -> None:
    pair = Pair()
    pair.put(1)
    pair.packing.put(Envelope(Address(THERE, 16), Address(HERE, 16), Note(2, "x" * 340_012), 5, b"payload"))
    pair.put(3)
    for parcel in pair.take():
        assert len(parcel.body) <= BODY_MAX
        pair.unpacking.open(packet_of(parcel))
    assert pair.numbers() == [1, 2, 3]
    cut = pair.got[1]
    assert cut.message.text.startswith("xxxx") and cut.message.text.endswith("... (cut: 340,012 characters)")
    assert (cut.correlation, cut.payload) == (5, b"payload")


def test_a_text_that_is_no_unicode_is_sent_in_words() -> None:
    pair = Pair()
    pair.packing.put(Envelope(Address(THERE, 16), Address(HERE, 16), Note(1, "caf\udce9")))
    pair.put(2)
    (parcel,) = pair.take()
    pair.unpacking.open(packet_of(parcel))
    assert [envelope.message.text for envelope in pair.got] == [r"caf\udce9", ""]


@pytest.mark.parametrize(
    ("message", "refused"),
    [
        (Many(list(range(BODY_MAX))), "Many: anything large belongs into the payload"),
        (Note(cast(Any, object())), "object"),
    ],
)
def test_a_message_that_cannot_be_sent_is_the_callers_mistake_and_leaves_the_others(
    message: Any, refused: str
) -> None:
    pair = Pair(sent=Note | Many)
    pair.put(1)
    with pytest.raises((ValueError, TypeError), match=refused):
        pair.packing.put(Envelope(Address(THERE, 16), Address(HERE, 16), message))
    pair.packing.check()
    assert [envelope.message.n for envelope in pair.packing.unconfirmed()] == [1]


def test_room_for_a_large_payload_is_this_process_s_own() -> None:
    room = memoryview(room_for(LAZY_MIN))
    assert room.nbytes == LAZY_MIN and not any(room[:: LAZY_MIN // 16])
    room[0] = 1
    child = os.fork()
    if not child:
        room[0] = 2
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert room[0] == 1


def test_addresses_are_made_once_and_not_without_bound() -> None:
    known = Known(HERE)
    assert known[16] is known[16]
    for actor in range(ADDRESSES_MAX + 10):
        assert known[actor] == Address(HERE, actor)
    assert len(known) <= ADDRESSES_MAX
