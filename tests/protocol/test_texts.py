"""Texts on their way into messages."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from dispycos.protocol.texts import cut, fitted


class Text(str):
    """A program's own kind of str, which encoders refuse."""


class Place(NamedTuple):
    name: str
    port: int


class Word(msgspec.Struct, array_like=True, tag=1, frozen=True):
    place: Place
    lines: list[str]
    number: int


def test_a_short_text_stays_as_it_is() -> None:
    assert cut("twelve chars", 12) == "twelve chars"


def test_a_long_text_says_how_long_it_was() -> None:
    assert cut("x" * 340_012, 3) == "xxx... (cut: 340,012 characters)"


def test_the_end_can_be_kept_too() -> None:
    assert cut("begin" + "." * 1000 + "end", 8, 3) == "begin... (cut: 1,008 characters) ...end"


def test_what_leaves_can_be_encoded() -> None:
    sendable = cut(Text("caf\udce9"), 100)
    assert type(sendable) is str and sendable == r"caf\udce9"
    msgspec.msgpack.encode(sendable)


def test_every_text_in_a_message_is_cut_and_nothing_else() -> None:
    word = Word(Place("a" * 50, 9700), ["b", Text("c" * 50)], 7)
    assert fitted(word, 2) == Word(
        Place("aa... (cut: 50 characters)", 9700), ["b", "cc... (cut: 50 characters)"], 7
    )
