"""The pycos Channel: dispycos' own, with pycos' return values, and for threads, too."""

from __future__ import annotations

import logging
from typing import Any, Self

from dispycos.errors import ChannelClosed, NameTaken, TaskLost
from dispycos.protocol.addresses import Location

from ..sharing.channel import Channel as NativeChannel
from ..sharing.channel import Channels
from .network import join
from .program import program

log = logging.getLogger("dispycos")


class Channel(NativeChannel):
    """Sends each message on to all tasks and channels that subscribe."""

    __slots__ = ()

    def __init__(self, name: str, transform: Any = None) -> None:
        program.call(super().__init__, name, transform)

    def send(self, message: Any) -> int:
        """0."""
        result: int = program.call(super().send, message)
        return result

    async def subscribe(self, subscriber: Any, timeout: float | None = None) -> int:
        """0: all that is sent from now on goes there, too; -1: not within the timeout, or it is closed."""
        return await self._tried(super().subscribe(subscriber, timeout))

    async def unsubscribe(self, subscriber: Any, timeout: float | None = None) -> int:
        """0: nothing more goes there; -1 as subscribe()."""
        return await self._tried(super().unsubscribe(subscriber, timeout))

    async def _tried(self, call: Any) -> int:
        try:
            result: int = await call
            return result
        except (ChannelClosed, TimeoutError) as error:
            log.warning("%s", error)
            return -1

    def register(self) -> int:
        """0; -1 if another channel has the name."""
        join()
        try:
            result: int = program.call(super().register)
            return result
        except (NameTaken, ChannelClosed) as error:
            log.warning("register(): %s", error)
            return -1

    def unregister(self) -> int:
        """0."""
        result: int = program.call(super().unregister)
        return result

    def set_transform(self, transform: Any) -> int:
        """0."""
        result: int = program.call(super().set_transform, transform)
        return result

    def close(self) -> int:
        """0."""
        result: int = program.call(super().close)
        return result

    @classmethod
    async def locate(  # type: ignore[override]  # None instead of an error
        cls, name: str, location: str | Location | None = None, timeout: float | None = None
    ) -> Self | None:
        """The channel of this name, here or in other programs; None if there is none within `timeout` seconds."""
        join()
        try:
            found: Self = await program.host.sharing.names.locate(name, location, timeout, channel=True)
            return found
        except (TimeoutError, TaskLost):
            return None


Channels.channel_class = Channel
