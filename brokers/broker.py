"""The scheduler's body: tells its machine of links and peers; all the rest it does by sending."""

from __future__ import annotations

from dispycos.links import LinkLost, LinkReady
from dispycos.router import Event
from dispycos.runtime import Runtime
from dispycos.session import PeerReset

from .scheduler import Scheduler


class Broker:
    """runtime.Role of a scheduler."""

    def __init__(self, runtime: Runtime, scheduler: Scheduler) -> None:
        self.runtime = runtime
        self.machine = scheduler
        runtime.attach(scheduler.address.actor, self)

    def on_event(self, event: Event, now: float) -> None:
        if isinstance(event, LinkReady):
            self.machine.peer_up(event.epoch, event.about, now)
        elif isinstance(event, LinkLost):
            self.machine.peer_lost(event.epoch, now)
        elif isinstance(event, PeerReset):
            self.machine.peer_reset(event.epoch, event.unconfirmed, now)

    def carry_out(self, effect: object, now: float) -> None:
        raise TypeError(f"no such effect: {effect!r}")
