"""How many messages a process may have in a mailbox before they are taken, and what waits here for its turn.

A *window* is of one mailbox and one process that sends there: 1,024 messages or 8 MiB that have left and are not known to be
taken. What is beyond it waits at the sender, in order. The receiver gives credit back when half a window was taken since it did
so last; so who sends little never hears of it, and what is taken and not told never closes a window. Credit says how much more
was taken, not how much in all: a window that was forgotten, or begins anew with a new session, gets at most some of the old
one's credit, and is never waited for in vain.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

import msgspec

from dispycos.protocol.addresses import Address
from dispycos.protocol.envelope import Envelope, bytes_of

WINDOW_MESSAGES: Final = 1024
WINDOW_BYTES: Final = 8 * 1024 * 1024
TOLD_MESSAGES: Final = WINDOW_MESSAGES // 2  # taken, and then told
TOLD_BYTES: Final = WINDOW_BYTES // 2
WAITING_MAX: Final = 16 * 1024 * 1024  # bytes at the sender, beyond which it is told
KEPT: Final = 4096  # windows that are not looked through for old ones


class Amount(NamedTuple):
    """Of messages."""

    messages: int
    size: int  # bytes


class Full(Exception):
    """So much waits already."""

    def __init__(self, waiting: Amount) -> None:
        super().__init__(waiting)
        self.waiting = waiting


class Waiting(msgspec.Struct, gc=False, eq=False):
    """A message that has not left. `then` is called when it does, or is dropped. Very many may wait: see `gc`."""

    envelope: Envelope
    size: int
    then: Callable[[], None] | None = None


class Window:
    """What this process has sent to one mailbox, and does not know to be taken."""

    __slots__ = ("messages", "queue", "size")

    def __init__(self) -> None:
        self.messages = 0
        self.size = 0  # bytes
        self.queue: Queue | None = None

    def is_open(self) -> bool:
        return self.messages < WINDOW_MESSAGES and self.size < WINDOW_BYTES

    def is_half_used(self) -> bool:
        return 2 * self.messages >= WINDOW_MESSAGES or 2 * self.size >= WINDOW_BYTES


class Queue:
    """What waits for one mailbox, or for the home of a task, which passes it on."""

    __slots__ = ("entries", "is_home", "size")

    def __init__(self) -> None:
        self.entries: deque[Waiting] = deque()
        self.size = 0  # bytes
        self.is_home = False


class Windows:
    """Those of a process, by the addresses that it sends to. Who calls has the runtime's lock."""

    def __init__(self) -> None:
        self._windows: dict[Address, Window] = {}
        self._queues: dict[Address, Queue] = {}  # none of them empty
        self._sweep_at = KEPT

    def __bool__(self) -> bool:
        return bool(self._windows)

    def put(
        self,
        envelope: Envelope,
        size: int,
        then: Callable[[], None] | None = None,
        waiting_max: int | None = None,
    ) -> bool:
        """True: it leaves now; else it waits here. Raises Full if more than `waiting_max` bytes would."""
        to = envelope.to
        window = self._windows.get(to) or self._open(to)
        queue = window.queue
        if queue is None:
            if window.messages < WINDOW_MESSAGES and window.size < WINDOW_BYTES:
                window.messages += 1
                window.size += size
                return True
            queue = window.queue = self._queues[to] = Queue()
        if waiting_max is not None and queue.entries and queue.size + size > waiting_max:
            raise Full(self.waiting(to))
        queue.entries.append(Waiting(envelope, size, then))
        queue.size += size
        return False

    def _open(self, to: Address) -> Window:
        if len(self._windows) >= self._sweep_at:
            self._sweep()
        window = self._windows[to] = Window()
        return window

    def _sweep(self) -> None:
        """Forget those of which little is out: most of their tasks have ended, and nobody says so of each.

        Of a task that lives what it has not taken is then counted anew. That costs its mailbox half a window for each 4,096
        others to which this process sends meanwhile.
        """
        self._windows = {
            to: window for to, window in self._windows.items() if to in self._queues or window.is_half_used()
        }
        self._sweep_at = 2 * len(self._windows) + KEPT

    def note_home(self, to: Address) -> None:
        """What waits for it waits for no mailbox there."""
        self._queues[to].is_home = True

    def waits(self, to: Address) -> bool:
        """Whether something waits here for that mailbox."""
        return to in self._queues

    def has(self, envelope: Envelope) -> bool:
        """Whether this one waits."""
        queue = self._queues.get(envelope.to)
        return queue is not None and any(entry.envelope is envelope for entry in queue.entries)

    def head(self, to: Address) -> Waiting | None:
        """The next that leaves, while something waits."""
        queue = self._queues.get(to)
        return queue.entries[0] if queue is not None else None

    def waiting(self, to: Address) -> Amount:
        queue = self._queues.get(to)
        return Amount(0, 0) if queue is None else Amount(len(queue.entries), queue.size)

    def credit(self, to: Address, messages: int, size: int) -> list[Waiting]:
        """So much more was taken there: what leaves now, in order."""
        window = self._windows.get(to)
        if window is None:
            return []
        window.messages = max(0, window.messages - messages)
        window.size = max(0, window.size - size)
        leaving: list[Waiting] = []
        queue = window.queue
        if queue is None:
            return leaving
        entries = queue.entries
        while entries and window.messages < WINDOW_MESSAGES and window.size < WINDOW_BYTES:
            entry = entries.popleft()
            window.messages += 1
            window.size += entry.size
            queue.size -= entry.size
            leaving.append(entry)
        if not entries:
            del self._queues[to]
            window.queue = None
        return leaving

    def _remove(self, to: Address, entry: Waiting) -> None:
        queue = self._queues[to]
        queue.entries.remove(entry)
        queue.size -= entry.size
        if not queue.entries:
            del self._queues[to]
            self._windows[to].queue = None

    def withdraw(self, to: Address, correlation: int) -> Waiting | None:
        """Who waited for an answer to it waits no more: it does not leave, if it has not yet."""
        queue = self._queues.get(to)
        for entry in queue.entries if queue is not None else ():
            if entry.envelope.correlation == correlation:
                self._remove(to, entry)
                return entry
        return None

    def close(self, to: Address) -> list[Waiting]:
        """That mailbox is gone: what waited for it."""
        self._windows.pop(to, None)
        queue = self._queues.pop(to, None)
        return list(queue.entries) if queue is not None else []

    def forget(self, epoch: int) -> list[Waiting]:
        """All mailboxes of that process are."""
        gone = [to for to in self._windows if to.epoch == epoch]
        return [entry for to in gone for entry in self.close(to)]

    def last_of(self, sender: Address, epoch: int) -> list[Waiting]:
        """The last that waits from this sender, for each mailbox in that process; homes are none."""
        last: list[Waiting] = []
        for to, queue in self._queues.items():
            if to.epoch == epoch and not queue.is_home:
                own = (entry for entry in reversed(queue.entries) if entry.envelope.sender == sender)
                last += filter(None, [next(own, None)])
        return last

    def check(self) -> None:
        """What must hold between two calls."""
        for to, queue in self._queues.items():
            assert queue.entries and self._windows[to].queue is queue, f"{to}: an empty queue"
            assert queue.size == sum(entry.size for entry in queue.entries), f"{to}: miscounted"
            assert not self._windows[to].is_open(), f"{to}: messages wait though there is room"


class Taken:
    """What was taken out of one mailbox and not told yet to those who sent it."""

    __slots__ = ("_amounts",)

    def __init__(self) -> None:
        self._amounts: dict[int, list[int]] = {}  # by the sender's epoch

    def take(self, envelope: Envelope) -> Amount | None:
        """This was: `add` of its sender and size."""
        payload = envelope.payload
        size = len(payload) if type(payload) is bytes else bytes_of(payload)
        return self.add(envelope.message.via or envelope.sender[0], size)

    def add(self, epoch: int, size: int) -> Amount | None:
        """A message of that process was taken. What is to be told now: nothing until it is half a window."""
        amount = self._amounts.get(epoch)
        if amount is None:
            amount = self._amounts[epoch] = [0, 0]
        amount[0] += 1
        amount[1] += size
        if amount[0] < TOLD_MESSAGES and amount[1] < TOLD_BYTES:
            return None
        del self._amounts[epoch]
        return Amount(*amount)


def senders(envelopes: Iterable[Envelope]) -> set[int]:
    """The processes whose windows count these."""
    return {sender_of(envelope) for envelope in envelopes}


def sender_of(envelope: Envelope) -> int:
    """The process whose window counts it: who sent it, or passed it on."""
    return envelope.message.via or envelope.sender.epoch
