"""The codec: what goes in comes out, and nothing from outside raises anything but ProtocolError."""

import contextlib
from fractions import Fraction
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dispycos.protocol import codec as c
from dispycos.protocol.codec import Block, Chunk, Codec, Packet, Transfer, Unknown
from dispycos.protocol.control import Hello, Ping, Reset
from dispycos.protocol.errors import ProtocolError


class Word(msgspec.Struct, array_like=True, tag=1, frozen=True):
    n: int
    text: str = ""


class Later(msgspec.Struct, array_like=True, tag=9, frozen=True):
    """A word that only newer peers know."""

    n: int


class LongerWord(msgspec.Struct, array_like=True, tag=1, frozen=True):
    """Word, as a newer peer says it."""

    n: int
    text: str
    more: list[int]


CODEC: Codec[Any] = Codec(Word)


class Settings(msgspec.Struct, array_like=True, tag=2, frozen=True):
    name: str
    count: int
    period: float
    on: bool
    more: list[float] = []


class Name(str):
    pass


class Count(int):
    pass


class Period(float):
    pass


NEWER: Codec[Any] = Codec(LongerWord | Later)


def body_of(*entries: tuple[Any, Any], codec: Codec[Any] = CODEC) -> bytes:
    body = c.open_body()
    for message, payload in entries:
        codec.append(body, 17, 18, 5, message, payload)
    return c.close_body(body, len(entries))


def packet(body: bytes = b"\x90", frames: tuple[bytes, ...] = (), seq: int = 1, count: int = 0) -> Packet:
    block = Block(
        c.VERSION, 2**64 - 1, 2, 3, 1, seq, count, 0, 1024, 2**40, 0, 0, len(frames), memoryview(body)
    )
    return Packet(block, frames, len(body) + sum(map(len, frames)))


def test_names_and_numbers_of_subclasses_and_of_numpy_travel_as_plain_ones() -> None:
    codec: Codec[Any] = Codec(Settings)
    given = [
        Settings(Name("n"), Count(3), Period(0.5), True),
        Settings(np.str_("n"), np.int64(3), np.float64(0.5), np.bool_(True)),  # type: ignore[arg-type]
        Settings("n", np.array(3), np.float32(0.5), True, [np.float16(2), Fraction(1, 2)]),  # type: ignore[arg-type, list-item]
    ]
    body = body_of(*[(settings, None) for settings in given], codec=codec)
    got = [entry.message for entry in codec.decode_entries(body, 3)]
    assert got == [Settings("n", 3, 0.5, True)] * 2 + [Settings("n", 3, 0.5, True, [2.0, 0.5])]


def test_what_is_no_word_is_an_error_where_it_is_said() -> None:
    with pytest.raises(TypeError, match="object"):
        body_of((Word(1, object()), None))  # type: ignore[arg-type]


def test_entries_come_out_as_they_went_in() -> None:
    body = body_of((Word(1, "a"), None), (Word(2), b"x"), (Word(3), [b"y", b"z"]), (Word(4), 2))
    entries = CODEC.decode_entries(body, 4)
    assert [(e.to, e.sender, e.correlation) for e in entries] == [(17, 18, 5)] * 4
    assert [e.message for e in entries] == [Word(1, "a"), Word(2), Word(3), Word(4)]
    assert [e.payload for e in entries] == [None, b"x", [b"y", b"z"], 2]


def test_a_floor_is_written_only_where_there_is_one() -> None:
    body = c.open_body()
    for floor in (0, 300):
        CODEC.append(body, 17, 18, 5, Word(1), b"x", floor)
    assert [entry.floor for entry in CODEC.decode_entries(c.close_body(body, 2), 2)] == [0, 300]
    assert len(body) == 3 + len(body_of((Word(1), b"x"))[3:]) * 2 + 3  # as a number of three bytes


def test_a_word_whose_text_is_cut_keeps_its_floor() -> None:
    body = c.open_body()
    CODEC.append(body, 17, 18, 5, Word(1, "caf\udce9"), None, 300)
    (entry,) = CODEC.decode_entries(c.close_body(body, 1), 1)
    assert entry.floor == 300


@pytest.mark.parametrize("fields", [16, 13])
def test_a_block_of_another_version_is_told_as_that_whatever_it_looks_like(fields: int) -> None:
    block = [1, *([0] * (fields - 2)), b"\x90"]
    with pytest.raises(ProtocolError, match="a block of version 1, where 3 is spoken"):
        c.decode_message([msgspec.msgpack.encode([block])])


def test_a_transfer_is_told_from_other_payloads() -> None:
    entries = CODEC.decode_entries(body_of((Word(1), Transfer(7, [300_000, 5], False))), 1)
    assert entries[0].payload == Transfer(7, [300_000, 5], False)


def test_an_unknown_word_does_not_spoil_its_block() -> None:
    body = body_of(
        (LongerWord(1, "a", []), None), (Later(2), b"x"), (LongerWord(3, "", [4]), None), codec=NEWER
    )
    entries = CODEC.decode_entries(body, 3)
    assert [e.message for e in entries] == [Word(1, "a"), Unknown(9), Word(3)]


@pytest.mark.parametrize("body", [b"", b"\xc0", b"\x91\x01", b"\x91\x95\x01\x01\x01\x93\x01\xa1a\xa1a\xc0"])
def test_a_malformed_body_is_a_protocol_error(body: bytes) -> None:
    with pytest.raises(ProtocolError):
        CODEC.decode_entries(body, 1)


def test_a_wrong_count_is_a_protocol_error() -> None:
    with pytest.raises(ProtocolError, match="2 entries declared"):
        CODEC.decode_entries(body_of((Word(1), None)), 2)
    with pytest.raises(ProtocolError, match="chunks declared"):
        c.decode_chunks(c.encode_chunks([Chunk(1, 0)]), 2)


def test_what_cannot_be_encoded_leaves_the_body_as_it_was() -> None:
    body = c.open_body()
    with pytest.raises(TypeError):
        CODEC.append(body, 1, 2, 3, object(), None)
    assert body == c.open_body()


def test_packets_pass_through_a_message_untouched() -> None:
    packets = [packet(body_of((Word(1), 0)), (b"one",)), packet(b"body"), packet(b"", (b"two", b"three"))]
    frames = c.encode_message(packets)
    decoded = c.decode_message(frames)
    assert [bytes(p.block.body) for p in decoded] == [bytes(p.block.body) for p in packets]
    assert [list(p.frames) for p in decoded] == [[b"one"], [], [b"two", b"three"]]
    assert decoded[0].frames[0] is frames[1]
    assert [p.size for p in decoded] == [p.size for p in packets]


@pytest.mark.parametrize(
    "frames",
    [
        [],
        [b"\x90", b"stray"],
        [b"\x90"] * 65,
        [b"\x90", bytes(c.FRAME_MAX + 1)],
        [b"\x90", *[bytes(c.FRAME_MAX)] * 5],
        [bytes(c.HEAD_MAX + 1)],
        c.encode_message([packet(frames=(b"one",))])[:1],
        c.encode_message([packet(count=65)]),
        c.encode_message([packet(body=bytes(c.BODY_MAX + 1))]),
        [b"\xdd\xff\xff\xff\xff"],
        [b"\x91" * 100_000],
    ],
    ids=lambda frames: f"{len(frames)} frames",
)
def test_a_message_beyond_its_limits_is_a_protocol_error(frames: list[bytes]) -> None:
    with pytest.raises(ProtocolError):
        c.decode_message(frames)


def test_unknown_trailing_fields_are_ignored() -> None:
    block = msgspec.to_builtins(packet(b"body").block)
    block[-1] = b"body"
    (decoded,) = c.decode_message([msgspec.msgpack.encode([[*block, "trace", 7]])])
    assert bytes(decoded.block.body) == b"body"


@given(st.lists(st.tuples(st.integers(0, c.BODY_MAX), st.lists(st.integers(0, c.FRAME_MAX), max_size=3))))
@settings(max_examples=60, deadline=None)
def test_groups_fit_a_message_and_keep_the_order(shapes: list[tuple[int, list[int]]]) -> None:
    packets = [packet(bytes(body), tuple(map(bytes, frames))) for body, frames in shapes]
    groups = c.group(packets)
    assert [p for group in groups for p in group] == packets
    for group in groups:
        assert len(c.decode_message(c.encode_message(group))) == len(group)


@pytest.mark.parametrize(
    ("payload", "placed"),
    [
        (None, (None, [])),
        (b"x", (b"x", [])),
        ([b"x", b"y"], ([b"x", b"y"], [])),
        (bytes(c.INLINE_MAX + 1), (0, [bytes(c.INLINE_MAX + 1)])),
        ([bytes(c.INLINE_MAX), b"x"], (2, [bytes(c.INLINE_MAX), b"x"])),
        (bytes(c.FRAME_MAX + 1), None),
        ([bytes(c.INLINE_MAX)] * (c.BLOCK_FRAMES + 1), None),
    ],
    ids=["none", "small", "small list", "frame", "frames", "large", "many"],
)
def test_payloads_go_inline_in_frames_or_in_chunks(payload: Any, placed: Any) -> None:
    assert c.place(payload) == placed
    if placed is not None:
        assert c.payload_of(placed[0], placed[1], 0)[0] == payload


def test_too_many_buffers_are_the_callers_mistake() -> None:
    with pytest.raises(ValueError, match="buffers"):
        c.place([b""] * (c.BUFFERS_MAX + 1))


def valid_message() -> list[bytes]:
    body = body_of((Word(1, "text"), b"payload"), (Word(2), 0), (Word(3), Transfer(1, [300_000], True)))
    return [bytes(frame) for frame in c.encode_message([packet(body, (b"frame",), count=3), packet()])]


def decode_all(frames: list[bytes]) -> None:
    """All that a receiver does with a message."""
    for received in c.decode_message(frames):
        for entry in CODEC.decode_entries(received.block.body, received.block.count):
            c.payload_of(entry.payload, received.frames, 0)


@given(st.binary(max_size=300), st.lists(st.binary(max_size=20), max_size=3))
@settings(max_examples=300, deadline=None)
def test_random_bytes_raise_nothing_but_protocol_errors(head: bytes, frames: list[bytes]) -> None:
    for decode in (
        lambda: decode_all([head, *frames]),
        lambda: CODEC.decode_entries(head, 1),
        lambda: c.decode_chunks(head, 1),
        lambda: c.decode_control(head),
    ):
        with contextlib.suppress(ProtocolError):
            decode()


@given(st.data())
@settings(max_examples=400, deadline=None)
def test_mutated_messages_raise_nothing_but_protocol_errors(data: st.DataObject) -> None:
    frames = valid_message()
    head = bytearray(frames[0])
    for _ in range(data.draw(st.integers(1, 4))):
        head[data.draw(st.integers(0, len(head) - 1))] = data.draw(st.integers(0, 255))
    del head[data.draw(st.integers(0, len(head))) :]
    with contextlib.suppress(ProtocolError):
        decode_all([bytes(head), *frames[1:]])


def test_the_message_that_is_mutated_is_valid() -> None:
    decode_all(valid_message())


def test_control_records_come_out_as_they_went_in() -> None:
    for record in (Ping(), Reset(2**63)):
        assert c.decode_control(c.encode_control(record)) == record
    with pytest.raises(ProtocolError):
        c.decode_control(msgspec.msgpack.encode([5, -1]))
    assert Hello.__struct_config__.tag == 5
