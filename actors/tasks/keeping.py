"""Which messages a mailbox keeps, if its task has chosen not to make senders wait: those that fit, or the newest alone.

Only send() and deliver() are dropped. A request waits for its answer, and a monitor's word is said once.
"""

from __future__ import annotations

from collections import deque
from typing import Final, NamedTuple

from dispycos.protocol import messages
from dispycos.protocol.envelope import Envelope, bytes_of

from .windows import WINDOW_BYTES, WINDOW_MESSAGES

WAIT: Final = "wait"
DROP_OLDEST: Final = "drop_oldest"
NEWEST: Final = "newest"
POLICIES: Final = (WAIT, DROP_OLDEST, NEWEST)


class MailboxState(NamedTuple):
    """A task's mailbox, as ``task.mailbox()`` tells.

    Attributes
    ----------
    policy: "wait", "drop_oldest" or "newest"; see ``help(dispycos.Task.mailbox)``.
    waiting: messages that are there and not taken.
    size: bytes of these, pickled.
    dropped: messages that were dropped so far, by the policy.
    """

    policy: str
    waiting: int
    size: int
    dropped: int


def must_be_policy(policy: object) -> None:
    """Raises ValueError."""
    if policy not in POLICIES:
        raise ValueError(f"policy must be one of {', '.join(map(repr, POLICIES))}, not {policy!r}")


class Keeping:
    """Of one inbox. Its messages by send() and deliver() are *paid*: credit for them was given when they came."""

    def __init__(self, inbox: deque[Envelope]) -> None:
        self.policy = WAIT
        self.dropped = 0
        self.paid = 0  # messages in the inbox
        self._size = 0  # bytes of these
        self._inbox = inbox

    def choose(self, policy: str) -> list[Envelope]:
        """From now on. What is to be paid now; some of it may be dropped already."""
        self.policy = policy
        if policy == WAIT:
            return []
        unpaid = [entry for entry in self._inbox if _may_go(entry)][self.paid :]
        for entry in unpaid:
            self._count(entry)
        self._make_room()
        return unpaid

    def came(self, envelope: Envelope) -> bool:
        """It is in the inbox. True: it is to be paid now."""
        if self.policy == WAIT or not _may_go(envelope):
            return False
        self._count(envelope)
        self._make_room()
        return True

    def took(self, envelope: Envelope) -> bool:
        """The task has taken it. True: it is to be paid now."""
        if not _may_go(envelope) or not self.paid:
            return True
        self.paid -= 1
        self._size -= bytes_of(envelope.payload)
        return False

    def _count(self, envelope: Envelope) -> None:
        self.paid += 1
        self._size += bytes_of(envelope.payload)

    def _make_room(self) -> None:
        most = 1 if self.policy == NEWEST else WINDOW_MESSAGES
        while self.paid > most or (self.paid > 1 and self._size > WINDOW_BYTES):
            oldest = next(entry for entry in self._inbox if _may_go(entry))
            self._inbox.remove(oldest)
            self.took(oldest)
            self.dropped += 1


def _may_go(envelope: Envelope) -> bool:
    return isinstance(envelope.message, messages.Tell)


def is_counted(envelope: Envelope) -> bool:
    """Whether it is of a window: send(), deliver() and ask() are, a monitor's word is not."""
    return isinstance(envelope.message, messages.Tell | messages.Ask)
