"""The scheduler's body: tells its machine of links and peers; all the rest it does by sending."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from types import MappingProxyType

from dispycos.runtime import Runtime
from dispycos.session.links import LinkLost, LinkReady
from dispycos.session.router import Event
from dispycos.session.session import PeerReset

from .finding import Finder
from .outbox import Look, StopLooking
from .scheduler import Scheduler

GOODBYE_S = 0.5


class Broker:
    """turns.Role of a scheduler.

    The runtime tells of the ends of processes of this host; of others only silence tells. `seen`: see Finder.
    """

    def __init__(
        self,
        runtime: Runtime,
        scheduler: Scheduler,
        seen: Mapping[str, tuple[int, int] | None] = MappingProxyType({}),
    ) -> None:
        self.runtime = runtime
        self._finder = Finder(runtime, scheduler, seen)
        self.machine = scheduler
        runtime.attach(scheduler.address.actor, self)

    def on_event(self, event: Event, now: float) -> None:
        if isinstance(event, LinkReady):
            self.machine.peer_up(event.epoch, now)
        elif isinstance(event, LinkLost):
            self.machine.peer_lost(event.epoch, now, lives=self.runtime.lives(event.epoch))
        elif isinstance(event, PeerReset):
            self.machine.peer_reset(event.epoch, event.unconfirmed, now)

    async def end(self, why: str) -> None:
        """Give the nodes back and tell the clients, before this process ends."""
        with self.runtime.lock:
            self.machine.stop(why, self.runtime.clock())
        self.runtime.turn_soon()
        await asyncio.sleep(0)
        await self.runtime.quiet(GOODBYE_S)

    def carry_out(self, effect: object, now: float) -> None:
        if isinstance(effect, Look):
            self.runtime.defer(partial(self._finder.look, effect.client, effect.first))
        elif isinstance(effect, StopLooking):
            self.runtime.defer(partial(self._finder.stop_looking, effect.client))
        else:
            raise TypeError(f"no such effect: {effect!r}")
