"""What a client's body does within a turn: tells the ledger of links, answers servers, and sorts what the ledger wants done.

The body of a real client (ledger_body.py) and the one in the simulated cluster (tests/kit/cluster_bodies.py) derive from it, so
that what is simulated is what runs; node/turn.py is the same for node agents. All of it may run on either thread, under the
lock: no user code and no future here, such things are deferred.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Protocol

from dispycos.protocol import messages
from dispycos.protocol.envelope import Envelope, Payload
from dispycos.protocol.status import OutcomeKind
from dispycos.runtime import Runtime
from dispycos.session.links import SCHEDULER_ROLE, SERVER_ROLE, LinkLost, LinkReady
from dispycos.session.router import Event, Unsent
from dispycos.session.session import PeerDistance, PeerReset

from ..dispatching.facts import Entry
from .effects import TOLD, Began, Bury, Dial, Forward, Freed, GiveCode, GiveSetup, HangUp, Relay, Resolve
from .ledger import Ledger
from .links import NodeLinks, endpoints_to
from .standing import scheduler_of


class Answers(Protocol):
    """Who waits for answers here, and has the numbers of tasks (tasks/host.py)."""

    def take_number(self) -> int: ...
    def forward(self, envelope: Envelope) -> bool: ...
    def peer_gone(self, epoch: int, unconfirmed: Iterable[Envelope]) -> None: ...
    def record_lost(self, number: int) -> None: ...
    def relay(self, record: Entry, envelope: Envelope) -> None: ...
    def has_ended(self, record: Entry) -> None: ...


class ClientRole:
    """turns.Role of a ledger, for one lease."""

    host: Answers
    # What a body adds:
    resolved: Callable[[Entry], None]  # it has its outcome
    began: Callable[[Entry], None]  # it runs
    # (error, answer) to a server that asks for code; to a node or server that asks for its setup
    code_for: Callable[[Payload], tuple[str, Payload]]
    setup_for: Callable[[GiveSetup], tuple[str, Payload]]
    watch_nearby: Callable[[int, int], None]  # a server that is linked: epoch and link
    forget_nearby: Callable[[int], None]
    tell: Callable[[object], None]  # on the loop: news for people, for a status_task, and for who waits
    endpoints_to = staticmethod(endpoints_to)  # a node

    def __init__(self, runtime: Runtime, host: Answers, ledger: Ledger) -> None:
        self.runtime = runtime
        self.host = host
        self.machine = self.ledger = ledger
        self.node_links = NodeLinks(runtime)
        self.is_freed = False

    # --- links ---

    def on_event(self, event: Event, now: float) -> None:
        if isinstance(event, PeerReset):
            self._peer_gone(event.epoch, event.unconfirmed)
            is_dead = self.runtime.router.is_buried(event.epoch)
            self.ledger.session_lost(event.epoch, () if is_dead else event.unconfirmed, now)
        elif isinstance(event, PeerDistance):
            if not self.runtime.is_linked(event.epoch):  # a server of this host is linked, and near
                self.ledger.members.distance_is(event.epoch, event.seconds)
        elif isinstance(event, LinkLost):
            self.ledger.link_lost(event.epoch, now)
        elif isinstance(event, Unsent):
            self.ledger.unsent(event.envelope.message, event.reason, now)
        elif isinstance(event, LinkReady) and event.role == SERVER_ROLE:
            self.watch_nearby(event.epoch, event.link)
        elif isinstance(event, LinkReady):
            self.ledger.members.link_ready(event.epoch)
            if event.role == SCHEDULER_ROLE and not self.is_freed:
                self.ledger.standing.scheduler_back(scheduler_of(event.epoch), now)

    def lose(self, reason: str) -> None:
        """On the loop: its private scheduler has ended with its node, or the client leaves without a word of its scheduler."""
        if not self.is_freed:
            with self.runtime.lock:
                self.ledger.standing.scheduler_lost(reason)
            self.runtime.turn_soon()

    def private_ended(self, reason: str) -> None:
        """On the loop: the private scheduler has, and its node."""
        if not self.is_freed:
            with self.runtime.lock:
                self.ledger.members.all_lost(reason, self.runtime.clock())
            self.runtime.turn_soon()

    # --- effects ---

    def carry_out(self, effect: object, now: float) -> None:
        if type(effect) is Resolve:
            self._resolve(effect.record)
        elif type(effect) is Began:
            self.began(effect.record)
        elif type(effect) is Relay:
            self.host.relay(effect.record, effect.envelope)
        elif isinstance(effect, GiveCode):
            error, payload = self.code_for(effect.request.payload)
            self._answer(effect.request, messages.CodeGiven(error), payload, now)
        elif isinstance(effect, GiveSetup):
            self._give_setup(effect, now)
        elif isinstance(effect, Forward):
            if not self.host.forward(effect.envelope):
                self.ledger.tasks.turn_away(effect.envelope)
        elif isinstance(effect, Bury):
            self.forget_nearby(effect.epoch)
            self._peer_gone(effect.epoch, self.runtime.router.bury(effect.epoch, now))
        elif isinstance(effect, Dial):
            self.node_links.dial(effect.node, self.endpoints_to(effect.node))
        elif isinstance(effect, HangUp):
            self.node_links.hang_up(effect.node)
        elif isinstance(effect, TOLD):
            if isinstance(effect, Freed):
                self.is_freed = True
                self._bury_servers(now)
                self.node_links.hang_up_all()
            self.runtime.defer(partial(self.tell, effect))
        else:
            raise TypeError(f"no such effect: {effect!r}")

    def _peer_gone(self, epoch: int, unconfirmed: Iterable[Envelope]) -> None:
        if self.ledger.is_terminating:  # with all that was on its way to its tasks, which is no news
            unconfirmed = [entry for entry in unconfirmed if entry.correlation]
        self.host.peer_gone(epoch, unconfirmed)

    def _bury_servers(self, now: float) -> None:
        """Those of whom nobody told, because they died before they were known."""
        router = self.runtime.router
        for epoch in router.neighbours(SERVER_ROLE):
            self._peer_gone(epoch, router.bury(epoch, now))

    def _resolve(self, record: Entry) -> None:
        self.resolved(record)
        self.host.has_ended(record)
        if record.outcome == OutcomeKind.LOST:
            self.runtime.defer(partial(self.host.record_lost, record.task.number))

    def _give_setup(self, effect: GiveSetup, now: float) -> None:
        request = effect.request
        error, payload = self.setup_for(effect)
        first, keep = 0, self.ledger.members.setups.keeps_files
        if request.message.spot is not None:
            first = self.ledger.tasks.submitters.add(request.sender.epoch, self.host.take_number())
        self._answer(request, messages.SetupGiven(error, first, keep), payload, now)

    def _answer(self, request: Envelope, word: messages.Message, payload: Payload, now: float) -> None:
        answer = Envelope(request.sender, self.ledger.address, word, request.correlation, payload)
        self.runtime.router.send(answer, now)
