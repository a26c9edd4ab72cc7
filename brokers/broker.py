"""The scheduler's body: tells its machine of links and peers; all the rest it does by sending."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import partial

from dispycos.links import LinkLost, LinkReady
from dispycos.router import Event
from dispycos.runtime import Runtime
from dispycos.session import PeerReset

from .finding import Finder
from .outbox import Look, StopLooking
from .scheduler import Scheduler

LOOKS = 3  # at a node whose link was lost: is it dead?
LOOK_S = 0.3
GOODBYE_S = 0.5


class Broker:
    """runtime.Role of a scheduler.

    `is_dead(epoch)` knows of nodes of this host that ended without a word: one that was named is linked by tcp, which
    tells no process. The runtime tells of processes that are linked by ipc; of others only silence tells.
    `seen`: see Finder.
    """

    def __init__(
        self,
        runtime: Runtime,
        scheduler: Scheduler,
        is_dead: Callable[[int], bool],
        seen: Mapping[str, tuple[int, int] | None],
    ) -> None:
        self.runtime = runtime
        self._finder = Finder(runtime, scheduler, seen)
        self._is_dead = is_dead
        self.machine = scheduler
        runtime.attach(scheduler.address.actor, self)

    def on_event(self, event: Event, now: float) -> None:
        if isinstance(event, LinkReady):
            self.machine.peer_up(event.epoch, event.about, now)
        elif isinstance(event, LinkLost):
            self.machine.peer_lost(event.epoch, now)
            if event.epoch in self.machine.registry.nodes:
                self.runtime.defer(partial(self._look_at, event.epoch, LOOKS))
        elif isinstance(event, PeerReset):
            self.machine.peer_reset(event.epoch, event.unconfirmed, now)

    async def end(self, why: str) -> None:
        """Give the nodes back and tell the clients, before this process ends."""
        with self.runtime.lock:
            self.machine.stop(why, self.runtime.clock())
        self.runtime.turn_soon()
        await asyncio.sleep(0)
        await self.runtime.quiet(GOODBYE_S)

    def _look_at(self, epoch: int, looks: int) -> None:
        if self.runtime.is_linked(epoch):
            return
        if self._is_dead(epoch):
            with self.runtime.lock:
                self.machine.peer_reset(epoch, [], self.runtime.clock())
            self.runtime.turn_soon()
        elif looks > 1:
            self.runtime.loop.call_later(LOOK_S, self._look_at, epoch, looks - 1)

    def carry_out(self, effect: object, now: float) -> None:
        if isinstance(effect, Look):
            self.runtime.defer(partial(self._finder.look, effect.client))
        elif isinstance(effect, StopLooking):
            self.runtime.defer(partial(self._finder.stop_looking, effect.client))
        else:
            raise TypeError(f"no such effect: {effect!r}")
