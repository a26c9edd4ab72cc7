"""That every word has a tag of its own and comes out of the codec as it went in, also between releases."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator
from typing import Any, get_args, get_type_hints

import msgspec
import pytest

from dispycos.protocol import messages, watching
from dispycos.protocol.addresses import Address
from dispycos.protocol.codec import Codec, Unknown, close_body, open_body
from dispycos.protocol.envelope import BEHIND, CONTROL, MESSAGES
from dispycos.protocol.messages import Message
from dispycos.protocol.watching import Word

WORDS: tuple[type[Message], ...] = get_args(Word)
CODEC: Codec[Message] = Codec(Word)
TO, SENDER = Address(2**64 - 1, 17), Address(2**63 + 5, 2**31)


def tag_of(word: type[Message]) -> int:
    tag = word.__struct_config__.tag
    assert isinstance(tag, int)
    return tag


def tuples() -> list[type]:
    """The parts that words are made of."""
    return [
        item
        for module in (messages, watching)
        for item in vars(module).values()
        if isinstance(item, type) and issubclass(item, tuple) and item.__module__ == module.__name__
    ]


def samples_of(kind: Any) -> Iterator[Any]:
    """Values of a field's type: a plain one, and those at the edges."""
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        for option in get_args(kind):
            yield from samples_of(option)
    elif kind is type(None):
        yield None
    elif kind is bool:
        yield from (True, False)
    elif kind is int:
        yield from (1, 0, 2**64 - 1)
    elif kind is float:
        yield from (1.5, 0.0, 1e300)
    elif kind is bytes:
        yield from (b"name", b"", b"\xff\0")
    elif kind is str:
        yield from ("word", "", "Zoë\n\0 ✓")
    elif origin is list:
        yield from ([sample] for sample in samples_of(get_args(kind)[0]))
        yield []
    elif origin is dict:
        yield from ({"word": sample} for sample in samples_of(get_args(kind)[1]))
    elif origin is tuple:
        yield tuple(next(samples_of(part)) for part in get_args(kind) if part is not ...)
    elif isinstance(kind, type) and issubclass(kind, tuple):
        yield from filled(kind)
    else:
        raise TypeError(f"no sample for {kind!r}")


def filled(kind: Any) -> Iterator[Any]:
    """The struct or named tuple with each sample of each field, the others at their first."""
    hints = get_type_hints(kind)
    names = kind.__struct_fields__ if issubclass(kind, Message) else kind._fields
    first = {name: next(samples_of(hints[name])) for name in names}
    yield kind(**first)
    for name in names:
        for sample in samples_of(hints[name]):
            yield kind(**{**first, name: sample})


def to_bytes(*words: Any) -> bytes:
    body = open_body()
    for word in words:
        CODEC.append(body, TO.actor, SENDER.actor, 2**40, word, b"payload")
    return close_body(body, len(words))


def through_the_codec(word: Any) -> Any:
    (entry,) = CODEC.decode_entries(memoryview(to_bytes(word)), 1)
    assert (entry.to, entry.sender, entry.correlation) == (TO.actor, SENDER.actor, 2**40)
    assert entry.payload == b"payload"
    return entry.message


def test_every_tag_has_one_meaning() -> None:
    tags = [tag_of(word) for word in WORDS]
    assert len(set(tags)) == len(tags)
    assert all(10 <= tag <= 127 for tag in tags), "up to 127 a tag is one byte"


def test_all_is_control_but_what_tasks_say_to_each_other_and_what_comes_behind_that() -> None:
    by_way: dict[int, set[str]] = {}
    for word in WORDS:
        by_way.setdefault(word.way, set()).add(word.__name__)
    between_tasks = {
        "Tell",
        "Delivered",
        "Ask",
        "Reply",
        "Watch",
        "Ended",
        "AwaitsMessage",
        "Link",
        "HotSwap",
    }
    channels = {"Publish", "Subscribe"}
    files = {"FileOffer", "FileDigest", "FileChunk", "FileAnswer", "FileDelete", "FileDrop"}
    assert by_way[MESSAGES] == between_tasks | channels | files | {"Output"}
    assert by_way[BEHIND] == {"Outcome", "Released"}
    assert by_way.keys() == {CONTROL, MESSAGES, BEHIND}


@pytest.mark.parametrize("word", WORDS, ids=lambda word: word.__name__)
def test_a_word_comes_out_of_the_codec_as_it_went_in(word: type[Message]) -> None:
    for sample in filled(word):
        received = through_the_codec(sample)
        assert type(received) is word
        assert received == sample


@pytest.mark.parametrize("word", WORDS, ids=lambda word: word.__name__)
def test_a_word_cannot_be_changed_by_who_reads_it(word: type[Message]) -> None:
    config = word.__struct_config__
    assert config.frozen and config.array_like
    assert not get_type_hints(word).keys() - {*word.__struct_fields__, "way"}


@pytest.mark.parametrize("kind", [*WORDS, *tuples()], ids=lambda kind: kind.__name__)
def test_fields_with_defaults_come_last(kind: Any) -> None:
    """A peer of an older release leaves out what it does not know: that must be at the end."""
    if issubclass(kind, Message):
        has_default = [not field.required for field in msgspec.structs.fields(kind)]
    else:
        has_default = [name in kind._field_defaults for name in kind._fields]
    assert has_default == sorted(has_default)


@pytest.mark.parametrize("word", WORDS, ids=lambda word: word.__name__)
def test_a_word_of_a_later_release_with_more_fields_is_understood(word: type[Message]) -> None:
    sample = next(filled(word))
    longer = [tag_of(word), *msgspec.structs.astuple(sample), "a field of a later release", {"more": [1]}]
    assert through_the_codec(longer) == sample


@pytest.mark.parametrize("word", WORDS, ids=lambda word: word.__name__)
def test_a_word_of_an_older_release_without_the_last_fields_is_understood(word: type[Message]) -> None:
    fields = msgspec.structs.fields(word)
    sample = next(filled(word))
    required = [getattr(sample, field.name) for field in fields if field.required]
    received = through_the_codec([tag_of(word), *required])
    assert received == word(*required)


def test_a_word_that_nobody_knows_does_not_spoil_its_neighbours() -> None:
    known = messages.Notice("here")
    entries = CODEC.decode_entries(memoryview(to_bytes(known, [250, "what"], known)), 3)
    assert [entry.message for entry in entries] == [known, Unknown(250), known]


def test_a_task_id_is_never_taken_for_another() -> None:
    """(owner, number, attempt): a second try is another task to whoever books it."""
    first = messages.TaskId(7, 1)
    assert first.attempt == 1
    assert first != first._replace(attempt=2)
    assert len({first, messages.TaskId(7, 1, 1), messages.TaskId(8, 1), messages.TaskId(7, 2)}) == 3
