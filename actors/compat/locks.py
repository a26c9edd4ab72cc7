"""Locks between the tasks of a process: dispycos' own."""

from __future__ import annotations

from dispycos.actors.sharing.locks import Condition, Event, Lock, RLock, Semaphore

__all__ = ["Condition", "Event", "Lock", "RLock", "Semaphore"]
