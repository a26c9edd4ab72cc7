"""That a mailbox is bounded, what waits for it is in order, and nobody waits in vain."""

from __future__ import annotations

import random
from collections import deque

import pytest

from dispycos.actors.tasks import windows as machine
from dispycos.actors.tasks.windows import (
    KEPT,
    WAITING_MAX,
    WINDOW_BYTES,
    WINDOW_MESSAGES,
    Amount,
    Full,
    Taken,
    Window,
    Windows,
)
from dispycos.protocol import messages
from dispycos.protocol.addresses import Address
from dispycos.protocol.envelope import Envelope, bytes_of

TO, OTHER, ME = Address(2, 20), Address(2, 21), Address(1, 16)


def tell(number: int = 0, to: Address = TO, *, correlation: int = 0, sender: Address = ME) -> Envelope:
    return Envelope(to, sender, messages.Tell(number), correlation, b"x")


def full(size: int = 1) -> Windows:
    """With nothing that waits."""
    windows = Windows()
    for number in range(WINDOW_MESSAGES):
        assert windows.put(tell(number), size)
    return windows


def test_a_window_of_messages_leaves_and_the_next_waits() -> None:
    windows = full()
    assert not windows.put(tell(), 7)
    assert windows.waits(TO) and windows.waiting(TO) == Amount(1, 7)
    head = windows.head(TO)
    assert head is not None and head.envelope == tell() and windows.head(OTHER) is None
    windows.check()


def test_a_window_of_bytes_leaves_and_the_next_waits() -> None:
    windows = Windows()
    assert windows.put(tell(), WINDOW_BYTES - 1)
    assert windows.put(tell(), 100 * WINDOW_BYTES)  # whatever its size: there was room
    assert not windows.put(tell(), 1)


def test_mailboxes_do_not_wait_for_each_other() -> None:
    windows = full()
    windows.put(tell(), 1)
    assert windows.put(tell(to=OTHER), 1)
    assert not windows.waits(OTHER) and windows.waiting(OTHER) == Amount(0, 0)


def test_credit_lets_so_many_go_in_order() -> None:
    windows = full()
    for number in range(10):
        windows.put(tell(number), 1)
    assert [entry.envelope.message.code for entry in windows.credit(TO, 3, 3)] == [0, 1, 2]
    assert windows.waiting(TO) == Amount(7, 7)
    assert not windows.put(tell(10), 1)  # behind those that wait
    assert [entry.envelope.message.code for entry in windows.credit(TO, 100, 100)] == [*range(3, 11)]
    windows.check()
    assert windows.put(tell(), 1)


def test_credit_of_another_life_is_no_more_than_a_window() -> None:
    windows = Windows()
    windows.put(tell(), 1)
    assert windows.credit(TO, 500, 500) == [] == windows.credit(OTHER, 1, 1)
    assert [windows.put(tell(), 1) for _ in range(WINDOW_MESSAGES + 1)].count(False) == 1


def test_send_is_told_of_16_mib_and_nothing_of_it_is_kept() -> None:
    windows = full()
    # Alone it may be as large as it is.
    assert not windows.put(tell(), 2 * WAITING_MAX, waiting_max=WAITING_MAX)
    with pytest.raises(Full) as raised:
        windows.put(tell(), 1, waiting_max=WAITING_MAX)
    assert raised.value.waiting == windows.waiting(TO) == Amount(1, 2 * WAITING_MAX)
    assert not windows.put(tell(), 1)  # deliver() waits


def test_who_gives_up_waiting_sends_nothing() -> None:
    windows = full()
    for number in (1, 2, 3):
        windows.put(tell(number, correlation=number), 5)
    gone = windows.withdraw(TO, 2)
    assert gone is not None and gone.envelope.correlation == 2
    assert not windows.has(gone.envelope) and windows.has(windows.last_of(ME, TO.epoch)[0].envelope)
    assert windows.withdraw(TO, 2) is None is windows.withdraw(OTHER, 1)
    assert [entry.envelope.correlation for entry in windows.credit(TO, 9, 9)] == [1, 3]


def test_what_waits_for_a_mailbox_that_is_gone_is_given_back_and_it_begins_anew() -> None:
    windows = full()
    windows.put(tell(4), 1)
    windows.put(tell(to=OTHER), 1)
    assert [entry.envelope.message.code for entry in windows.close(TO)] == [4]
    assert windows.close(TO) == [] and windows.put(tell(), 1)
    assert windows.forget(3) == [] and windows
    assert windows.forget(2) == [] and not windows


def test_the_last_of_a_sender_is_found_in_each_mailbox_of_a_process() -> None:
    windows = full()
    for number in range(4):
        windows.put(tell(number), 1)
    windows.put(tell(9, sender=OTHER), 1)
    assert [entry.envelope.message.code for entry in windows.last_of(ME, TO.epoch)] == [3]
    assert windows.last_of(ME, 77) == [] == windows.last_of(TO, TO.epoch)
    windows.note_home(TO)  # whoever it is for will get it from there
    assert windows.last_of(ME, TO.epoch) == []


def test_windows_of_which_little_is_out_are_forgotten_beyond_a_number() -> None:
    windows = full()
    windows.put(tell(), 1)
    for actor in range(10 * KEPT):
        windows.put(tell(to=Address(3, actor)), 1)
    assert len(windows._windows) <= 2 * KEPT
    assert windows.waits(TO) and not windows.put(tell(), 1)


def test_credit_is_given_for_half_a_window_and_not_before() -> None:
    taken = Taken()
    for _ in range(WINDOW_MESSAGES // 2 - 1):
        assert taken.add(1, 2) is None
    assert taken.add(8, 2) is None
    assert taken.add(1, 2) == Amount(WINDOW_MESSAGES // 2, WINDOW_MESSAGES)
    assert taken.add(1, WINDOW_BYTES // 2) == Amount(1, WINDOW_BYTES // 2)


@pytest.mark.parametrize(
    ("payload", "size"),
    [(None, 0), (b"abc", 3), (memoryview(b"abcd"), 4), ([b"ab", bytearray(5)], 7), (bytearray(2), 2)],
)
def test_both_ends_count_the_bytes_of_a_payload_alike(payload: object, size: int) -> None:
    assert bytes_of(payload) == size  # type: ignore[arg-type]


# --- many senders and receivers, from a seed ---


class Played:
    """Processes that send to mailboxes, on lines that keep their order; a receiver takes when it is its turn, or sleeps."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.windows = [Windows() for _ in range(3)]
        self.boxes = [Address(9, actor) for actor in range(3)]
        self.asleep = {self.chance.choice(self.boxes)}
        self.inbox: dict[Address, deque[tuple[int, int, int]]] = {box: deque() for box in self.boxes}
        self.taken = {box: Taken() for box in self.boxes}
        self.got: dict[tuple[int, Address], list[int]] = {}
        self.sent: dict[tuple[int, Address], int] = {}
        self.lines: dict[int, deque[tuple[int, Envelope, int]]] = {n: deque() for n in range(3)}  # to boxes
        self.back: dict[int, deque[tuple[Address, Amount]]] = {n: deque() for n in range(3)}  # credit

    def send(self, who: int, box: Address) -> None:
        number = self.sent[who, box] = self.sent.get((who, box), 0) + 1
        size = self.chance.choice((1, 1, 1, 1000, WINDOW_BYTES // 5))
        envelope = tell(number, box, sender=Address(who, 16))
        if self.windows[who].put(envelope, size):
            self.lines[who].append((who, envelope, size))

    def arrive(self, who: int) -> None:
        if self.lines[who]:
            _, envelope, size = self.lines[who].popleft()
            self.inbox[envelope.to].append((who, envelope.message.code, size))

    def take(self, box: Address) -> None:
        if self.inbox[box] and box not in self.asleep:
            who, number, size = self.inbox[box].popleft()
            self.got.setdefault((who, box), []).append(number)
            amount = self.taken[box].add(who, size)
            if amount is not None:
                self.back[who].append((box, amount))

    def hear(self, who: int) -> None:
        if self.back[who]:
            box, amount = self.back[who].popleft()
            for entry in self.windows[who].credit(box, *amount):
                self.lines[who].append((who, entry.envelope, entry.size))

    def check(self) -> None:
        for windows in self.windows:
            windows.check()
        for box, inbox in self.inbox.items():
            for who in range(3):
                mine = [size for sender, _, size in inbox if sender == who]
                assert len(mine) <= WINDOW_MESSAGES, "a mailbox holds more than its window"
                assert sum(mine[:-1]) < WINDOW_BYTES, "a mailbox holds more bytes than its window"
            if box in self.asleep:
                assert all(box != other for _, other in self.got), "it sleeps"

    def play(self) -> None:
        for _ in range(60):
            who, box = self.chance.randrange(3), self.chance.choice(self.boxes)
            for _ in range(self.chance.choice((1, 30, 700))):
                self.send(who, box)
            for _ in range(self.chance.randrange(900)):
                self.arrive(self.chance.randrange(3))
                self.take(self.chance.choice(self.boxes))
                self.hear(self.chance.randrange(3))
            self.check()
        self.rest()
        for who, box in self.sent:
            if box not in self.asleep:
                assert not self.windows[who].waits(box), "it waits in vain, behind one that sleeps"
        self.asleep.clear()
        self.rest()
        assert self.got == {pair: [*range(1, count + 1)] for pair, count in self.sent.items()}, (
            "lost, doubled or out of order"
        )

    def rest(self) -> None:
        """Until nothing moves any more."""
        while True:
            before = self.moves()
            for who in range(3):
                for _ in range(2000):
                    self.arrive(who)
                    self.hear(who)
            for box in self.boxes:
                while self.inbox[box] and box not in self.asleep:
                    self.take(box)
            if self.moves() == before:
                return

    def moves(self) -> tuple[int, ...]:
        return (
            *map(len, self.lines.values()),
            *map(len, self.back.values()),
            *(len(got) for got in self.got.values()),
            *map(len, self.inbox.values()),
        )


def play(seeds: range) -> None:
    for seed in seeds:
        try:
            Played(seed).play()
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error


def test_messages_of_many_processes_to_many_mailboxes() -> None:
    play(range(5))


def _ignores_the_queue(patch: pytest.MonkeyPatch) -> None:
    """What is new overtakes what waits."""
    original = Windows.put

    def put(self: Windows, envelope: Envelope, size: int, *rest: object) -> bool:
        window = self._windows.get(envelope.to, Window())
        queue, window.queue = window.queue, None
        try:
            return original(self, envelope, size)
        finally:
            window.queue = window.queue or queue

    patch.setattr(Windows, "put", put)


def _never_closes(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(machine, "WINDOW_MESSAGES", 10 * WINDOW_MESSAGES)
    patch.setattr(machine, "WINDOW_BYTES", 10 * WINDOW_BYTES)


def _gives_too_little(patch: pytest.MonkeyPatch) -> None:
    original = Taken.add

    def add(self: Taken, epoch: int, size: int) -> Amount | None:
        amount = original(self, epoch, size)
        return Amount(amount.messages // 2, amount.size // 2) if amount is not None else None

    patch.setattr(Taken, "add", add)


def _gives_for_all_senders(patch: pytest.MonkeyPatch) -> None:
    original = Taken.add
    patch.setattr(Taken, "add", lambda self, epoch, size: original(self, 0, size))


def _gives_only_at_the_end_of_a_window(patch: pytest.MonkeyPatch) -> None:
    """Bytes are not looked at."""
    original = Taken.add
    patch.setattr(
        Taken,
        "add",
        lambda self, epoch, size: original(self, epoch, 0),
    )


def _leaves_from_the_end(patch: pytest.MonkeyPatch) -> None:
    original = Windows.credit
    patch.setattr(Windows, "credit", lambda self, *amount: original(self, *amount)[::-1])


def _forgets_what_left_by_credit(patch: pytest.MonkeyPatch) -> None:
    """Only what leaves at once is counted."""
    original = Windows.credit

    def credit(self: Windows, to: Address, messages: int, size: int) -> list[machine.Waiting]:
        leaving = original(self, to, messages, size)
        window = self._windows.get(to, Window())
        window.messages -= len(leaving)
        window.size -= sum(entry.size for entry in leaving)
        return leaving

    patch.setattr(Windows, "credit", credit)


@pytest.mark.parametrize(
    "fault",
    [
        _ignores_the_queue,
        _never_closes,
        _gives_too_little,
        _gives_for_all_senders,
        _gives_only_at_the_end_of_a_window,
        _leaves_from_the_end,
        _forgets_what_left_by_credit,
    ],
)
def test_the_play_finds(fault: object, monkeypatch: pytest.MonkeyPatch) -> None:
    fault(monkeypatch)  # type: ignore[operator]
    with pytest.raises(AssertionError):
        play(range(5))
