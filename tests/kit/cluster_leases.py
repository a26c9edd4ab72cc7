"""Who may have the simulated cluster: looks at each grant of its scheduler, and knows what the clients have.

A scheduler is killed and started anew, and knows then only what it is told. Who could tell it in time, because nothing has
disturbed it or the scheduler for as long as a grant is held back, must not be passed over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dispycos.brokers.scheduler import Scheduler
from dispycos.cli.scheduler import HOLD_S
from dispycos.machine import Send
from dispycos.protocol.messages import Granted, Lease

if TYPE_CHECKING:
    from .cluster_bodies import ClientProcess
    from .cluster_links import Universe


class Referee:
    """Of the grants to these clients."""

    def __init__(self, world: Universe) -> None:
        self.world = world
        self.clients: list[ClientProcess] = []
        self.restarts_taken_up = 0  # leases that an earlier life of the scheduler had granted
        self._disturbed: dict[str, float] = {}  # until when

    def disturb(self, name: str, until: float) -> None:
        """This process may not hear, or not be heard, until then."""
        self._disturbed[name] = max(until, self._disturbed.get(name, 0.0))

    def _is_undisturbed(self, name: str) -> bool:
        return self._disturbed.get(name, -HOLD_S) + HOLD_S < self.world.now

    def granted(self, to: int, lease: Lease, scheduler: str) -> None:
        client = next((client for client in self.clients if client.epoch == to), None)
        if client is None or not client.is_alive or client.ledger is None:
            return
        known = client.ledger.lease
        if known is not None and known.number == lease.number:
            self.restarts_taken_up += 1
            if client.ledger.is_freed:
                self.world.wrong(f"{client.name} has the cluster again, though it was released")
            return
        if not self._is_undisturbed(scheduler):
            return
        for other in self.clients:
            if other is not client and other.is_alive and self._is_undisturbed(other.name):
                self._judge_other(client, other, lease)

    def _judge_other(self, client: ClientProcess, other: ClientProcess, lease: Lease) -> None:
        ledger = other.ledger
        if ledger is None or ledger.is_released:
            return
        if ledger.lease is not None:
            if ledger.lease.scheduler == lease.scheduler:
                self.world.wrong(f"{client.name} is granted what {other.name} has")
        elif (
            ledger.standing.queued is not None
            and ledger.standing.wishes is not None
            and client.ledger is not None
        ):
            mine = client.ledger.standing.wishes.ticket if client.ledger.standing.wishes is not None else 0
            if 0 < ledger.standing.wishes.ticket < mine:
                self.world.wrong(f"{client.name} is granted the cluster, and it was the turn of {other.name}")


class WatchedScheduler(Scheduler):
    """The real one, whose grants are judged."""

    def __init__(self, referee: Referee, name: str, *rest: Any, **options: Any) -> None:
        super().__init__(name, *rest, **options)
        self._referee = referee

    def drain(self) -> list[object]:
        effects = super().drain()
        for effect in effects:
            if isinstance(effect, Send) and isinstance(effect.envelope.message, Granted):
                self._referee.granted(effect.envelope.to.epoch, effect.envelope.message.lease, self.name)
        return effects
