"""What a client's body does within a turn: tells the ledger of links, answers servers, and sorts what the ledger wants done.

The stay at a real scheduler (seat.py) and the one in the simulated cluster (tests/kit/cluster_bodies.py) derive from it, so
that what is simulated is what runs; node_role.py is the same for node agents. All of it may run on either thread, under the
lock: no user code and no future here, such things are deferred.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Protocol

from dispycos.links import SERVER_ROLE, LinkLost, LinkReady
from dispycos.protocol import messages
from dispycos.protocol.envelope import Envelope, Payload
from dispycos.protocol.status import OutcomeKind
from dispycos.router import Event, Unsent
from dispycos.runtime import Runtime
from dispycos.session import PeerReset

from .effects import TOLD, Began, Forget, Freed, Give, Resolve
from .ledger import Ledger
from .record import Record

SCHEDULER_GONE_AFTER = 10.0  # seconds without a link until its tasks are given up
STARTED_ANEW = "the scheduler was started anew and does not know this client"


class Host(Protocol):
    """Who waits for answers here (cells.TaskHost)."""

    def peer_gone(self, epoch: int, unconfirmed: Iterable[Envelope]) -> None: ...
    def record_lost(self, number: int) -> None: ...


class ClientRole:
    """runtime.Role of a ledger, for one stay at a scheduler."""

    host: Host
    # What a body adds:
    resolved: Callable[[Record], None]  # it has its outcome
    began: Callable[[Record], None]  # it runs
    code_for: Callable[[Payload], tuple[str, Payload]]  # (error, answer) to a server that asks for code
    watch_nearby: Callable[[int, int], None]  # a server that is linked: epoch and link
    forget_nearby: Callable[[int], None]
    tell: Callable[[object], None]  # on the loop: news for people, for a status_task, and for who waits

    def __init__(self, runtime: Runtime, host: Host, ledger: Ledger) -> None:
        self.runtime = runtime
        self.host = host
        self.machine = self.ledger = ledger
        self.is_freed = False
        self.gave_up = False  # it was freed without a word of its scheduler
        self._gone: Any = None  # the timer that gives the scheduler up

    # --- links ---

    def on_event(self, event: Event, now: float) -> None:
        if isinstance(event, PeerReset):
            self.host.peer_gone(event.epoch, event.unconfirmed)
            self.ledger.session_lost(event.epoch, event.unconfirmed)
            if self._is_schedulers(event.epoch):
                self.ledger.scheduler_lost(STARTED_ANEW)
        elif isinstance(event, LinkLost) and self._is_schedulers(event.epoch):
            self.runtime.defer(self._await_link)
        elif isinstance(event, Unsent):
            self.ledger.unsent(event.envelope.message, event.reason, now)
        elif isinstance(event, LinkReady) and event.role == SERVER_ROLE:
            self.watch_nearby(event.epoch, event.link)
        elif isinstance(event, LinkReady) and self._is_another_scheduler(event):
            self.ledger.scheduler_lost(STARTED_ANEW)

    def _is_another_scheduler(self, event: LinkReady) -> bool:
        if event.role != "scheduler" or self.ledger.scheduler is None or self.is_freed:
            return False
        return not self._is_schedulers(event.epoch)

    def _is_schedulers(self, epoch: int) -> bool:
        return self.ledger.scheduler is not None and epoch == self.ledger.scheduler.epoch

    def _await_link(self) -> None:
        """On the loop: the scheduler's link broke, and is redialled; after a while its tasks are given up."""
        if self._gone is None and not self.is_freed:
            self._gone = self.runtime.loop.call_later(SCHEDULER_GONE_AFTER, self._give_up)

    def _give_up(self) -> None:
        self._gone = None
        scheduler = self.ledger.scheduler
        if scheduler is None or self.is_freed or self.runtime.is_linked(scheduler.epoch):
            return
        if self.runtime.lives(scheduler.epoch):
            self._await_link()  # it is stopped: its death would be told
        else:
            self.lose(f"no link to the scheduler for {SCHEDULER_GONE_AFTER:g} s")
            self._give_lease_back()

    def _give_lease_back(self) -> None:
        """Should the link heal: its end of the silence may have been shorter, and then the scheduler still counts on us."""
        self.gave_up = True
        with self.runtime.lock:
            self.ledger.release(terminate=True, await_io=False)
        self.runtime.turn_soon()

    def lose(self, reason: str) -> None:
        """On the loop: without its scheduler a client has nothing."""
        if not self.is_freed:
            with self.runtime.lock:
                self.ledger.scheduler_lost(reason)
            self.runtime.turn_soon()

    # --- effects ---

    def carry_out(self, effect: object, now: float) -> None:
        if type(effect) is Resolve:
            self._resolve(effect.record)
        elif type(effect) is Began:
            self.began(effect.record)
        elif isinstance(effect, Give):
            self._give(effect.request, now)
        elif isinstance(effect, Forget):
            self.forget_nearby(effect.epoch)
            self.host.peer_gone(effect.epoch, self.runtime.router.bury(effect.epoch, now))
        elif isinstance(effect, TOLD):
            if isinstance(effect, Freed):
                self.is_freed = True
                self._bury_servers(now)
            self.runtime.defer(partial(self.tell, effect))
        else:
            raise TypeError(f"no such effect: {effect!r}")

    def _bury_servers(self, now: float) -> None:
        """Those of whom nobody told, because they died before they were known."""
        router = self.runtime.router
        for epoch in router.neighbours(SERVER_ROLE):
            self.host.peer_gone(epoch, router.bury(epoch, now))

    def _resolve(self, record: Record) -> None:
        self.resolved(record)
        if record.outcome == OutcomeKind.LOST:
            self.runtime.defer(partial(self.host.record_lost, record.task.number))

    def _give(self, request: Envelope, now: float) -> None:
        """Code and large calls, for servers."""
        word: messages.Message
        payload: Payload = None
        if isinstance(request.message, messages.CallWanted):
            record = self.ledger.records.get(request.message.task.number)
            payload = record.call if record is not None else None
            word = messages.CallGiven("" if payload is not None else "the task has ended")
        else:
            error, payload = self.code_for(request.payload)
            word = messages.CodeGiven(error)
        answer = Envelope(request.sender, self.ledger.address, word, request.correlation, payload)
        self.runtime.router.send(answer, now)
