"""One thing at both ends: classes made in functions and type variables have no name, but programs compare them by identity.

The table belongs to the process, as sys.modules does: streams that come from anywhere look things up in it.
"""

import os
from collections import deque
from dataclasses import dataclass
from typing import Any
from weakref import ReferenceType, ref

KEPT_MAX = 1000  # of those that came, so many live on although nobody refers to them: their attributes may have changed


@dataclass(eq=False)
class _Entry:
    thing: ReferenceType[Any]
    token: bytes
    is_whole: bool


class Identities:
    """Things and their tokens, while they live. By id(): a metaclass may say what is equal, or that nothing can be hashed."""

    def __init__(self) -> None:
        self._entries: dict[int, _Entry] = {}
        self._by_token: dict[bytes, _Entry] = {}
        self._kept: deque[Any] = deque(maxlen=KEPT_MAX)

    def token_of(self, thing: Any) -> bytes:
        """Random, since clients and servers give tokens to what is theirs."""
        entry = self._entries.get(id(thing)) or self._enter(thing, os.urandom(16), is_whole=True)
        return entry.token

    def find(self, token: bytes) -> Any:
        """None when it never was here, or is no more."""
        entry = self._by_token.get(token)
        return None if entry is None else entry.thing()

    def add(self, token: bytes, thing: Any) -> None:
        """It came, and is nearly empty yet."""
        self._enter(thing, token, is_whole=False)
        self._kept.append(thing)

    def is_whole(self, thing: Any) -> bool:
        """What came once is filled once: from then on its attributes are what is done to them here."""
        entry = self._entries.get(id(thing))
        return entry is not None and entry.is_whole

    def set_whole(self, thing: Any) -> None:
        self._entries[id(thing)].is_whole = True

    def _enter(self, thing: Any, token: bytes, is_whole: bool) -> _Entry:
        key = id(thing)

        def forget(_: ReferenceType[Any]) -> None:
            self._entries.pop(key, None)
            self._by_token.pop(token, None)

        new = _Entry(ref(thing, forget), token, is_whole)
        entry = self._entries.setdefault(key, new)  # another thread may be as far
        self._by_token.setdefault(entry.token, entry)
        return entry


identities = Identities()
