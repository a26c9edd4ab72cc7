"""Which files are taken, in which order things are done for each, and what becomes of those whose sender is gone."""

from __future__ import annotations

from typing import Any

import pytest

from dispycos.actors.tasks.files.receiving import (
    ACTIVE_MAX,
    CompareFile,
    DeleteFile,
    DiscardFile,
    Ground,
    OpenFile,
    Receiving,
    Verdict,
    WriteFile,
)
from dispycos.actors.tasks.files.sending import CHUNK, WINDOW, Crooked, Window, straight
from dispycos.machine import Send
from dispycos.protocol.addresses import FILES, Address
from dispycos.protocol.envelope import Envelope
from dispycos.protocol.messages import FileAnswer, FileChunk, FileDelete, FileDigest, FileDrop, FileOffer
from dispycos.protocol.status import FileState

HERE = Address(1, FILES)
SENDER = Address(7, 20)
KEY = (7, 1)
GO, DONE = Verdict(FileState.GO), Verdict(FileState.DONE)


class Hand:
    """Tells the machine what comes, and shows what it wants."""

    def __init__(self, size_max: int = 0, ground: Ground | str = Ground("/root")) -> None:
        self.ground = ground
        self.machine = Receiving(HERE, "node a", lambda client, port: self.ground, size_max, "allow {}")
        self._correlation = 0

    def hear(self, word: Any, payload: Any = None, sender: Address = SENDER) -> list[Any]:
        self._correlation += 1
        self.machine.receive(Envelope(HERE, sender, word, self._correlation, payload), 0.0)
        return self.drain()

    def done(self, verdict: Verdict, key: tuple[int, int] = KEY) -> list[Any]:
        self.machine.done(key, verdict)
        return self.drain()

    def drain(self) -> list[Any]:
        """Answers as (state, text), effects as they are."""
        return [
            (effect.envelope.message.state, effect.envelope.message.text)
            if isinstance(effect, Send)
            else effect
            for effect in self.machine.drain()
        ]

    def begin(self, size: int) -> None:
        [effect] = self.hear(offer(size))
        assert isinstance(effect, OpenFile)
        assert self.done(GO) == [(FileState.GO, "")]


def offer(size: int = 3, number: int = 1, path: bytes = b"dir/name") -> FileOffer:
    return FileOffer(number, 5, path, size, 0o600)


def test_a_file_is_opened_written_chunk_by_chunk_and_answered() -> None:
    hand = Hand()
    hand.begin(5)
    assert hand.hear(FileChunk(1, 0), b"abc") == [WriteFile(KEY, b"abc", False)]
    assert hand.hear(FileChunk(1, 3), b"de") == [], "one at a time"
    assert hand.done(GO) == [(FileState.GO, ""), WriteFile(KEY, b"de", True)]
    assert hand.done(DONE) == [(FileState.DONE, "")]
    assert hand.hear(FileChunk(1, 0), b"x") == [
        (FileState.REFUSED, "node a does not take the file: it was given up here")
    ]


def test_one_of_the_same_size_is_compared_first() -> None:
    hand = Hand()
    hand.hear(offer())
    assert hand.done(Verdict(FileState.COMPARE)) == [(FileState.COMPARE, "")]
    assert hand.hear(FileDigest(1, b"d")) == [CompareFile(KEY, b"d")]
    assert hand.done(DONE) == [(FileState.DONE, "")]


def test_a_file_over_the_limit_is_refused_before_it_travels_with_limit_and_remedy() -> None:
    [(state, text)] = Hand(size_max=1000).hear(offer(1001))
    assert state == FileState.REFUSED
    for part in ("node a", "dir/name", "1,001", "1,000", "allow 1001"):
        assert part in text


def test_it_is_refused_where_it_has_no_ground_also_if_that_goes_while_it_waits() -> None:
    assert Hand(ground="gone").hear(offer()) == [(FileState.REFUSED, "node a does not take dir/name: gone")]


@pytest.mark.parametrize(
    "path", [b"/etc/x", b"../x", b"a/../../x", b"", b".", b"a\0b", b"x" * 256, b"a/" * 3000 + b"x"]
)
def test_a_path_that_does_not_lead_down_is_refused_by_who_sends_and_by_who_takes(path: bytes) -> None:
    with pytest.raises(Crooked):
        straight(path)
    [(state, _)] = Hand().hear(offer(path=path))
    assert state == FileState.REFUSED
    [(state, _)] = Hand().hear(FileDelete(5, path))
    assert state == FileState.REFUSED


def test_what_breaks_the_order_is_refused_and_nothing_is_left() -> None:
    for chunk, data in (
        (FileChunk(1, 2), b"x"), (FileChunk(1, 0), b""), (FileChunk(1, 0), b"xxxx"), (FileDigest(1, b""), None),
    ):  # fmt: skip
        hand = Hand()
        hand.begin(3)
        [(state, _), discarded] = hand.hear(chunk, data)
        assert (state, discarded) == (FileState.REFUSED, DiscardFile(KEY))


def test_no_more_than_a_window_waits() -> None:
    hand = Hand()
    hand.begin(100)
    for at in range(WINDOW + 1):
        hand.hear(FileChunk(1, at), b"x")
    [(state, _)] = hand.hear(FileChunk(1, WINDOW + 1), b"x")
    assert state == FileState.REFUSED
    assert hand.done(GO) == [DiscardFile(KEY)]


def test_a_sender_that_vanishes_leaves_nothing_also_while_something_is_written() -> None:
    hand = Hand()
    hand.begin(5)
    hand.machine.peer_gone(8)
    assert hand.drain() == []
    hand.machine.peer_gone(7)
    assert hand.drain() == [DiscardFile(KEY)]
    hand.begin(5)
    hand.hear(FileChunk(1, 0), b"abc")
    hand.machine.peer_gone(7)
    assert hand.drain() == [], "it is being written"
    assert hand.done(GO) == [DiscardFile(KEY)]


def test_a_failed_write_ends_it_for_all_chunks_that_came() -> None:
    hand = Hand()
    hand.begin(5)
    hand.hear(FileChunk(1, 0), b"ab")
    hand.hear(FileChunk(1, 2), b"cd")
    full = Verdict(FileState.REFUSED, "no room")
    assert hand.done(full) == [(FileState.REFUSED, "node a does not take dir/name: no room")] * 2


def test_so_many_are_taken_at_a_time_and_the_next_begins_when_one_ends() -> None:
    hand = Hand()
    for number in range(1, ACTIVE_MAX + 2):
        assert len(hand.hear(offer(number=number))) == (number <= ACTIVE_MAX)
    answered, opened = hand.done(DONE)
    assert answered == (FileState.DONE, "") and isinstance(opened, OpenFile)
    assert opened.key == (7, ACTIVE_MAX + 1)


def test_at_the_end_of_a_lease_everybody_is_told_and_nothing_stays() -> None:
    hand = Hand()
    hand.begin(3)
    hand.hear(FileChunk(1, 0), b"a")
    hand.machine.clear("over")
    assert hand.drain() == [(FileState.REFUSED, "node a does not take dir/name: over")]
    assert hand.done(GO) == [DiscardFile(KEY)]


def test_drop_and_delete() -> None:
    hand = Hand()
    hand.begin(3)
    assert hand.hear(FileDrop(1)) == [DiscardFile(KEY)]
    [effect] = hand.hear(FileDelete(5, b"a/b"))
    assert isinstance(effect, DeleteFile) and effect.path == [b"a", b"b"]
    hand.machine.answer(effect.request, Verdict(FileState.MISSING))
    assert hand.drain() == [(FileState.MISSING, "")]


def test_a_window_lets_so_many_chunks_go_and_counts_what_has_arrived() -> None:
    window = Window(CHUNK * (WINDOW + 1) + 5)
    taken = []
    while (piece := window.take()) is not None:
        taken.append(piece)
    assert taken == [(CHUNK * at, CHUNK) for at in range(WINDOW)]
    window.confirm()
    assert window.confirmed == CHUNK and window.take() == (CHUNK * WINDOW, CHUNK) and window.take() is None
    window.confirm()
    assert window.take() == (CHUNK * (WINDOW + 1), 5)
    for _ in range(WINDOW):
        window.confirm()
    assert window.is_done and window.take() is None
    assert Window(0).is_done


def test_answers_are_known_words() -> None:
    assert FileAnswer(FileState.GO) == FileAnswer(1, "")
