"""What a node agent's body does within a turn: tells its machine of links, and sorts what that wants done.

The real agent (node/run.py) and the one of the simulated cluster (tests/kit/cluster_bodies.py) derive from it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from dispycos.protocol.envelope import Buffer
from dispycos.protocol.messages import Lease
from dispycos.runtime import Runtime
from dispycos.session.links import SCHEDULER_ROLE, LinkLost, LinkReady
from dispycos.session.router import Event
from dispycos.session.session import PeerReset
from dispycos.turns import FORGET_S

from .agent import Node
from .lease import (
    AnswerCode,
    AwaitClient,
    CloseZygote,
    End,
    ForgetPeer,
    PrepareZygote,
    StartServer,
    StartZygote,
    UseScheduler,
)
from .processes.words import EndStep, KillServer

LAST_WORDS_S = 1.0  # a lease ends when its client has all that the node said, or after so long
LOOK_S = 0.005


class NodeRole:
    """turns.Role of a node agent."""

    runtime: Runtime
    machine: Node
    forget_s = FORGET_S  # after a lease its client's session stays for so long
    # What a body adds:
    start_server: Callable[[int], None]  # by its number
    order: Callable[[KillServer | EndStep], None]  # the zygote
    start_zygote: Callable[[Lease], None]
    prepare_zygote: Callable[[list[Buffer]], None]
    answer_code: Callable[[str, list[Buffer]], None]  # to the zygote
    close_zygote: Callable[[CloseZygote], None]
    end: Callable[[], None]

    def on_event(self, event: Event, now: float) -> None:
        if isinstance(event, LinkReady):
            if event.role == "scheduler":
                self.machine.add_scheduler(event.epoch, now)
            self.machine.peer_up(event.epoch, now)
        elif isinstance(event, LinkLost):
            self.machine.peer_lost(event.epoch, now, lives=self.runtime.lives(event.epoch))
        elif isinstance(event, PeerReset):
            is_dead = self.runtime.router.is_buried(event.epoch)
            self.machine.peer_reset(event.epoch, now, is_dead=is_dead)

    def carry_out(self, effect: object, now: float) -> None:
        if isinstance(effect, StartServer):
            self.start_server(effect.number)
        elif isinstance(effect, KillServer | EndStep):
            self.order(effect)
        elif isinstance(effect, StartZygote):
            self.runtime.router.prefer(effect.lease.scheduler_epoch)
            # It may have had a lease before, and mostly comes by the scheduler.
            self.runtime.keep(effect.lease.client)
            self.start_zygote(effect.lease)
        elif isinstance(effect, PrepareZygote):
            self.prepare_zygote(effect.setup)
        elif isinstance(effect, AnswerCode):
            self.answer_code(effect.error, effect.answer)
        elif isinstance(effect, CloseZygote):
            self.runtime.forget_later(effect.lease.client, self.forget_s)
            self.close_zygote(effect)
        elif isinstance(effect, UseScheduler):
            self.runtime.router.prefer(effect.epoch)
        elif isinstance(effect, AwaitClient):
            self.runtime.defer(partial(self._await_client, effect.lease, now + LAST_WORDS_S))
        elif isinstance(effect, ForgetPeer):
            self.runtime.router.bury(effect.epoch, now)
        elif isinstance(effect, End):
            self.end()
        else:
            raise TypeError(f"no such effect: {effect!r}")

    def _await_client(self, lease: Lease, until: float) -> None:
        runtime, now = self.runtime, self.runtime.clock()
        has_way = runtime.router.neighbours(SCHEDULER_ROLE) or runtime.router.can_reach(lease.client)
        if not (has_way or self.machine.ending):
            until = now + LAST_WORDS_S  # nobody is there who could give this node to somebody else
        if runtime.router.is_busy(lease.client) and now < until:
            runtime.loop.call_later(LOOK_S, self._await_client, lease, until)
            return
        with runtime.lock:
            self.machine.client_has_all(lease, now)
        runtime.turn_soon()
