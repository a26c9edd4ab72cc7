"""Locks between the tasks of a process: dispycos' own, and the names that methods had in Python 2."""

from __future__ import annotations

from dispycos.actors.sharing import locks
from dispycos.actors.sharing.locks import Lock, RLock, Semaphore

__all__ = ["Condition", "Event", "Lock", "RLock", "Semaphore"]


class Condition(locks.Condition):
    """dispycos' own."""

    notifyAll = locks.Condition.notify_all


class Event(locks.Event):
    """dispycos' own."""

    isSet = locks.Event.is_set
