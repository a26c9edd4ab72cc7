"""The client's machine: what it asked for and is owed, what it has, and how it stands with its scheduler.

Three parts with one subject each share the facts (holdings.py): owned.py has the tasks, members.py the nodes and servers,
standing.py the lease. watching.py tells those who look. This one gives each message to whose it is, and lets the dispatcher
pass over what changed.
"""

from __future__ import annotations

from collections.abc import Iterable

from dispycos.protocol import messages
from dispycos.protocol.addresses import Address
from dispycos.protocol.envelope import Envelope

from .effects import Failed
from .holdings import Holdings
from .members import Members
from .owned import Tasks
from .standing import Standing
from .watching import Watching


class Ledger(Holdings):
    """dispycos.machine.Machine of a client, for one lease."""

    def __init__(self, address: Address) -> None:
        super().__init__(address)
        self.tasks = Tasks(self)
        self.members = Members(self, self.tasks)
        self.standing = Standing(self, self.tasks, self.members)
        self.watching = Watching(self, self.tasks, self.members, self.standing)
        parts = (self.tasks, self.members, self.standing, self.watching)
        self._handlers = {word: handler for part in parts for word, handler in part.handlers.items()}

    # --- Machine ---

    def receive(self, envelope: Envelope, now: float) -> None:
        handler = self._handlers.get(type(envelope.message))
        if handler is not None:
            self.now = now
            self.is_changed = True
            handler(envelope, now)

    def deadline(self) -> float | None:
        due = (
            self.dispatcher.deadline(),
            self.tasks.deadline(),
            self.members.deadline(),
            self.standing.deadline(),
        )
        return min((one for one in due if one is not None), default=None)

    def wake(self, now: float) -> None:
        self.now = now
        self.is_changed = True
        self.dispatcher.wake(now)
        self.tasks.wake(now)
        self.members.wake(now)
        self.standing.wake(now)

    def drain(self) -> list[object]:
        if self.is_changed:
            self.is_changed = False
            if self.members.all_gone:
                self.standing.scheduler_lost(self.members.all_gone)
            self.members.control.watch()
            self.tasks.place(self.now)
            self.standing.watch(self.now)
        return super().drain()

    # --- called by the body, for what concerns more than one part ---

    def session_lost(self, epoch: int, unconfirmed: Iterable[Envelope], now: float) -> None:
        self.is_changed = True
        self.standing.session_lost(epoch, now)
        self.members.session_lost(epoch, unconfirmed)

    def link_lost(self, epoch: int, now: float) -> None:
        self.members.link_lost(epoch, now)
        self.standing.link_lost(epoch, now)

    def unsent(self, word: messages.Message, reason: str, now: float) -> None:
        """This word of ours cannot be sent at all: whoever waits for an answer hears that."""
        if isinstance(word, messages.Enlist):
            self.effects.append(Failed(reason))
        elif isinstance(word, messages.Run):
            self.tasks.unsent(word, reason, now)

    def check(self) -> None:
        self.dispatcher.check()
        self.tasks.check()
