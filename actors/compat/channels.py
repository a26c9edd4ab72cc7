"""The pycos Channel: dispycos' own, with pycos' return values, and for threads, too."""

from __future__ import annotations

import logging
import string
from collections.abc import Awaitable
from typing import Any, Self

from dispycos.errors import ChannelClosed, NameTaken, TaskLost
from dispycos.protocol.addresses import Location

from ..sharing.channel import Channel as NativeChannel
from ..sharing.channel import Channels
from .network import join
from .peers import location_of
from .program import program

log = logging.getLogger("dispycos")

NO_FIRST = string.punctuation + string.whitespace
_place: Any = vars(NativeChannel)["location"]


class Channel(NativeChannel):
    """Sends each message on to all tasks and channels that subscribe."""

    __slots__ = ()

    def __init__(self, name: str, transform: Any = None) -> None:
        title = name if not isinstance(name, str) else name.lstrip(NO_FIRST) or name
        if title != name:
            log.warning("a channel's name begins with a letter or a digit: %r becomes %r", name, title)
        program.call(super().__init__, title, transform)

    @property
    def location(self) -> Location | None:
        """Of the server or program where it was made."""
        place: Location | None = _place.__get__(self)
        if place is None and self.address.epoch == self._host.runtime.epoch:
            place = location_of(self._host)
        return place

    @location.setter
    def location(self, place: Location | None) -> None:
        _place.__set__(self, place)

    def send(self, message: Any) -> int:
        """0."""
        return program.call(super().send, message)

    async def deliver(self, message: Any, timeout: float | None = None, n: int = 0) -> int:
        """How many have it; see dispycos' own. -1: `n` is no number of subscribers."""
        if not isinstance(n, int) or n < 0:
            return -1
        return await super().deliver(message, timeout, n)

    async def subscribe(self, subscriber: Any, timeout: float | None = None) -> int:
        """0: all that is sent from now on goes there, too; -1: not within the timeout, it is closed, or that is no subscriber."""
        return await self._tried(super().subscribe(subscriber, timeout))

    async def unsubscribe(self, subscriber: Any, timeout: float | None = None) -> int:
        """0: nothing more goes there; -1 as subscribe()."""
        return await self._tried(super().unsubscribe(subscriber, timeout))

    async def _tried(self, call: Awaitable[int]) -> int:
        try:
            return await call
        except (ChannelClosed, TimeoutError, TypeError, ValueError) as error:
            log.warning("%s", error)
            return -1

    def register(self) -> int:
        """0; -1 if another channel has the name."""
        join()
        try:
            return program.call(super().register)
        except (NameTaken, ChannelClosed) as error:
            log.warning("register(): %s", error)
            return -1

    def unregister(self) -> int:
        """0."""
        return program.call(super().unregister)

    def set_transform(self, transform: Any) -> int:
        """0."""
        return program.call(super().set_transform, transform)

    def close(self) -> int:
        """0."""
        return program.call(super().close)

    @classmethod
    async def locate(  # type: ignore[override]  # None instead of an error
        cls, name: str, location: str | Location | None = None, timeout: float | None = None
    ) -> Self | None:
        """The channel of this name, in other programs a registered one; None if there is none within `timeout` seconds."""
        join()
        if location is None:
            for channel in program.host.sharing.channels.channels.values():
                if channel.name == name:
                    here: Self = channel
                    return here
        try:
            found: Self = await program.host.sharing.names.locate(name, location, timeout, channel=True)
            return found
        except (TimeoutError, TaskLost):
            return None


Channels.channel_class = Channel
