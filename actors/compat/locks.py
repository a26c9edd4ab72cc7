"""Locks between the tasks of a process: dispycos' own, which threads may open, too, and the names that methods had in Python 2."""

from __future__ import annotations

from dispycos.actors.sharing import locks
from dispycos.actors.sharing.locks import Lock, RLock

from .program import program

__all__ = ["Condition", "Event", "Lock", "RLock", "Semaphore"]


class Condition(locks.Condition):
    """dispycos' own; who notifies need not have it."""

    def notify(self, n: int = 1) -> None:
        """Wake so many of those who wait; they go on when they have the lock."""
        program.call(self._wake, n)

    def _wake(self, n: int) -> None:
        while n > 0 and self._line.call_next():
            n -= 1

    def notify_all(self) -> None:
        """Wake all."""
        self.notify(len(self._line))

    notifyAll = notify_all


class Semaphore(locks.Semaphore):
    """dispycos' own."""

    def release(self, n: int = 1) -> None:
        """Let `n` more have it."""
        program.call(super().release, n)


class Event(locks.Event):
    """dispycos' own."""

    isSet = locks.Event.is_set

    def set(self) -> None:
        """Have all who wait go on."""
        program.call(super().set)
