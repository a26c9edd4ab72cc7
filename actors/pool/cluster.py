"""Which cluster an Executor uses: a loop has one lease at a time, so Executors share it where they can."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any
from weakref import WeakKeyDictionary

from ..client.client import Client
from ..client.in_process import Lease
from ..client.sync_client import SyncClient
from ..tasks.current import host_of


class Shared:
    """A client of Executors that want the same; the last of them closes it."""

    def __init__(self, options: Mapping[str, Any], made_at: str) -> None:
        self.options = options
        self.users = 0
        self.client = Client(**options)
        self.client._made_at = made_at
        self.client._yields = True
        self.scheduled = asyncio.ensure_future(self.client.schedule())

    @property
    def is_usable(self) -> bool:
        """Now or soon."""
        if not self.scheduled.done():
            return True
        return not self.scheduled.cancelled() and self.scheduled.exception() is None and self.lease.is_open

    @property
    def lease(self) -> Lease:
        assert self.client._lease is not None
        return self.client._lease

    async def close(self) -> None:
        if not self.scheduled.done():
            self.scheduled.cancel()
            await asyncio.wait([self.scheduled])
        await self.client.close()


_shared: WeakKeyDictionary[asyncio.AbstractEventLoop, list[Shared]] = WeakKeyDictionary()


class Cluster:
    """As one Executor sees it. All of it is called on the loop.

    Parameters
    ----------
    options: of the Client that is made if there is none to share. Without any, whatever client of this loop has the cluster is
        used.
    client: the program's own, used and never closed.
    made_at: the line that made the Executor.
    """

    def __init__(self, options: Mapping[str, Any], client: SyncClient | None, made_at: str) -> None:
        self._options = options
        self._client = client
        self.made_at = made_at
        self._shared: Shared | None = None

    def at_hand(self) -> Lease | None:
        """Of a client that has the cluster already. Raises NotScheduled if the program's own has none."""
        if self._client is not None:
            return self._client._here()
        shared = self._find()
        if shared is None:
            first = None if self._options else _first()
            return first if first is not None and first.is_open else None
        if not shared.scheduled.done() or self._shared not in (None, shared):
            return None
        self._join(shared)
        return shared.lease

    async def take(self) -> Lease:
        """Raises what Client() and schedule() raise."""
        await self.leave()
        while (lease := self.at_hand()) is None:
            shared, first = self._find(), None if self._options else _first()
            if shared is None and first is not None and (not first.is_leaving or first.home.has_line()):
                ends = [first.left] if first.is_leaving else [first.scheduled, first.left]
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
                await asyncio.sleep(0)
                continue
            if shared is None:
                shared = Shared(self._options, self.made_at)
                _shared.setdefault(asyncio.get_running_loop(), []).append(shared)
            self._join(shared)
            await asyncio.shield(shared.scheduled)
        return lease

    def _find(self) -> Shared | None:
        known = _shared.setdefault(asyncio.get_running_loop(), [])
        known[:] = [each for each in known if each.is_usable]
        return next((each for each in known if not self._options or each.options == self._options), None)

    def _join(self, shared: Shared) -> None:
        if self._shared is not shared:
            self._shared = shared
            shared.users += 1

    async def leave(self) -> None:
        """The client is closed if nobody else uses it."""
        shared, self._shared = self._shared, None
        if shared is None:
            return
        shared.users -= 1
        if not shared.users:
            known = _shared[asyncio.get_running_loop()]
            known[:] = [each for each in known if each is not shared]
            await shared.close()


def _first() -> Lease | None:
    """Who has the cluster of this loop, or is about to."""
    host = host_of(asyncio.get_running_loop())
    first: Lease | None = host.home.first() if host is not None else None
    return first
