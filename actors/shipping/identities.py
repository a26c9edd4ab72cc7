"""One thing at both ends: classes made in functions and type variables have no name, but programs compare them by identity.

The table belongs to the process, as sys.modules does: streams that come from anywhere look things up in it.
"""

import os
from collections import deque
from typing import Any
from weakref import WeakValueDictionary, finalize

KEPT_MAX = 1000  # of those that came, so many live on although nobody refers to them: their attributes may have changed


class Identities:
    """Things and their tokens, while they live. By id(): a metaclass may say what is equal, or that nothing can be hashed."""

    def __init__(self) -> None:
        self._tokens: dict[int, bytes] = {}
        self._things: WeakValueDictionary[bytes, Any] = WeakValueDictionary()
        self._empty: set[bytes] = set()  # these came, and are not filled yet
        self._kept: deque[Any] = deque(maxlen=KEPT_MAX)

    def token_of(self, thing: Any) -> bytes:
        """Random, since clients and servers give tokens to what is theirs."""
        return self._tokens.get(id(thing)) or self._enter(thing, os.urandom(16))

    def find(self, token: bytes) -> Any:
        """None when it never was here, or is no more."""
        return self._things.get(token)

    def add(self, token: bytes, thing: Any) -> None:
        """It came, and is nearly empty yet."""
        self._empty.add(token)
        self._enter(thing, token)
        self._kept.append(thing)

    def is_whole(self, thing: Any) -> bool:
        """What came once is filled once: from then on its attributes are what is done to them here."""
        return self.token_of(thing) not in self._empty

    def set_whole(self, thing: Any) -> None:
        self._empty.discard(self.token_of(thing))

    def _enter(self, thing: Any, token: bytes) -> bytes:
        token = self._tokens.setdefault(id(thing), token)  # another thread may be as far
        self._things[token] = thing
        finalize(thing, self._tokens.pop, id(thing), None).atexit = False
        return token


identities = Identities()
