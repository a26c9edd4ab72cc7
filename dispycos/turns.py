"""The turns of a runtime: read, feed the machines, wake who is due, carry out what they want done, send.

Without clock, socket, thread or lock: the time is an argument, links are a mailbox's, what has to wait for the end of the turn
is handed to `defer`, and the next deadline is a value. Runtime (runtime.py) drives it by asyncio on sockets, tests/kit in
virtual time on links that break, so what is simulated is what runs.

No user code runs inside a turn, and no future is completed there: such things are *deferred*. That is why another thread may
run a turn while a user's step keeps the main thread (actors/tasks/running/relief.py).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, Protocol

from .machine import Log, Machine, Send
from .protocol import messages
from .protocol.addresses import HOST, Address
from .protocol.envelope import Buffer, Envelope
from .protocol.status import FileState
from .session.alarms import Alarms
from .session.links import NODE_ROLE, SERVER_ROLE, CloseLink, LinkLost, LinkReady
from .session.router import Event, Router, Unsent
from .session.session import PeerReset

FORGET_S: Final = 90.0  # a client or viewer whose link was lost so long ago will not resume its session ...
FORGET_NODE_S: Final = 1000.0  # ... a node may
LATE_S: Final = 0.01  # after its deadline: a turn that was held up for so long knows little of what has come
ANSWERED_BY_DELIVERED: Final = (messages.Tell, messages.AwaitsMessage, messages.Publish, messages.Subscribe)
FILE_WORDS: Final = (messages.FileOffer, messages.FileDigest, messages.FileChunk, messages.FileDelete)
ROUNDS_MAX: Final = 64  # loopback rounds in one turn; the rest waits for the next


class Role(Protocol):
    """A machine and the body that carries out its effects."""

    @property
    def machine(self) -> Machine: ...
    def on_event(self, event: Event, now: float) -> None:
        """A link or a peer came or went."""

    def carry_out(self, effect: object, now: float) -> None:
        """An effect of the role's own kind; Send and Log are the runtime's business."""


class Mailbox(Protocol):
    """Where links are (transport/mailbox.py). From within `pump` it tells on_link_up, on_link_down and on_message."""

    @property
    def has_more(self) -> bool: ...  # the last pump left something unread, and another turn was asked for
    def pump(self, *, whole: bool) -> None: ...  # whole: all that has come, however much
    def send(self, link: int, frames: Sequence[Buffer]) -> bool: ...  # False: it takes nothing more
    def after_sends(self) -> None: ...
    def dial(self, endpoint: str, *, role: str, foreign_key: bytes | None) -> int: ...
    def close_link(self, link: int) -> None: ...
    def pid_of(self, link: int) -> int: ...  # 0: not a process of this host, as far as is known
    def tells_end(self, link: int) -> bool: ...  # the kernel says there when the other end is gone


class Witness(Protocol):
    """Sees processes of this host end (transport/witness.py); called on the loop."""

    def watch(self, epoch: int, pid: int, on_death: Callable[[], None]) -> None: ...
    def forget(self, epoch: int) -> None: ...
    def can_watch(self, pid: int) -> bool: ...
    def lives(self, epoch: int) -> bool: ...


class Dialler(Protocol):
    """Whose link it is that we dialled (transport/dialler.py); called on the loop."""

    uplink: bool
    wanted: int
    foreign_key: bytes | None
    is_proven: bool

    def connected(self, link: int) -> None: ...
    def link_ready(self, link: int, epoch: int) -> None: ...
    def link_down(self, link: int, reason: str, *, refused: bool) -> None: ...


class Turns(ABC):
    """Router and actors of one runtime. What drives it derives from it, and sees that one call at a time is made."""

    # What a body adds:
    mailbox: Mailbox
    witness: Witness
    on_refused: Callable[[str], None]  # a stranger or a member of another cluster knocked
    say: Callable[[str, str], None]  # level, as a method of logging.Logger, and line: for the operator

    def __init__(self, router: Router) -> None:
        self.router = router
        self.epoch = router.epoch
        self.role = router.role
        # For what comes to actors that are not here; True: taken care of.
        self.fallback: Callable[[Envelope], bool] | None = None
        self.due: float | None = None  # a turn is to be taken then, or before
        self._now = 0.0  # of the present turn, or the last
        self._actors: dict[int, Callable[[Envelope, float], None]] = {}
        self._roles: list[Role] = []
        self._diallers: dict[int, Dialler] = {}  # by their links
        self._neighbours: dict[int, str] = {}  # their roles
        self._broken: dict[int, None] = {}  # links that take nothing more, and may have something to read
        self._forgets = Alarms()  # of sessions without a link
        self._kept: set[int] = set()  # not to be forgotten though they have none
        self.checks: list[Callable[[], None]] = []  # of what must hold after each turn, with --debug

    @abstractmethod
    def defer(self, call: Callable[[], None]) -> None:
        """Have this run after the turn, on the loop's thread, in order. From any thread."""

    @abstractmethod
    def turn_soon(self) -> None:
        """Have another turn as soon as possible; many calls, one turn. From any thread."""

    # --- actors ---

    def attach(self, actor: int, role: Role) -> Address:
        """Put a role's machine at this actor id."""
        self._roles.append(role)
        return self.attach_inbox(actor, role.machine.receive)

    def attach_inbox(self, actor: int, receive: Callable[[Envelope, float], None]) -> Address:
        """Hand what comes for this actor id to `receive`, within a turn; it must not run user code."""
        self._actors[actor] = receive
        return Address(self.epoch, actor)

    def remove(self, actor: int, role: Role) -> None:
        """Take a role away."""
        self._roles.remove(role)
        self.detach(actor)

    def detach(self, actor: int) -> None:
        """What still comes for it goes to the fallback, if there is one, else whoever asks is answered."""
        self._actors.pop(actor, None)

    def address(self, actor: int) -> Address:
        return Address(self.epoch, actor)

    def put(self, envelope: Envelope) -> None:
        """Queue for the end of this turn, for which the caller asks; a full block leaves at once."""
        if self.router.send(envelope, self._now):
            self._transmit()

    # --- peers ---

    def is_linked(self, epoch: int) -> bool:
        """Whether there is a direct link to this runtime, whoever dialled it."""
        return self.router.is_linked(epoch)

    def lives(self, epoch: int) -> bool:
        """Whether the process of this runtime is known to live, because it is of this host: it may still be silent for long."""
        return self.witness.lives(epoch)

    def role_of(self, epoch: int) -> str:
        """What a runtime that is linked says it is: "node", "scheduler" ..."""
        return self._neighbours.get(epoch, "")

    def outlasts(self, role: str) -> float | None:
        """Seconds for which a session with such a peer is kept without a link; None: other routes are left, its end is told."""
        if SERVER_ROLE in (self.role, role):
            return None
        return FORGET_NODE_S if role == NODE_ROLE else FORGET_S

    def forget_later(self, epoch: int, seconds: float) -> None:
        """If that process is not linked then, its session goes: for long-lived ones, which many others visit."""
        self._kept.discard(epoch)
        self._forgets.set(self._now + seconds, epoch)

    def keep(self, epoch: int) -> None:
        """Its session stays, however it was to be forgotten before, until `forget_later` is called again."""
        self._kept.add(epoch)

    def peer_died(self, link: int, epoch: int, now: float) -> None:
        """A process of this host has ended, and all that it had sent was read: the end of its link, then its own."""
        self._now = now
        self._close(link, "its process has ended", now)
        for event in self.router.take_events():
            self._on_event(event, now)
        self._on_event(PeerReset(epoch, self.router.bury(epoch, now)), now)
        self.turn_soon()

    @abstractmethod
    def on_death(self, link: int, epoch: int) -> None:
        """The witness's word, outside of a turn: read all, then call `peer_died`."""

    # --- links ---

    def open_link(self, endpoint: str, dialler: Dialler) -> int:
        """For Dialler: one attempt. Raises OSError."""
        link = self.mailbox.dial(endpoint, role=self.role, foreign_key=dialler.foreign_key)
        self._diallers[link] = dialler
        return link

    def drop_link(self, link: int, reason: str) -> None:
        """For Dialler: give up a link that is not wanted any more."""
        self._diallers.pop(link, None)
        self.router.say_farewell(reason, link)
        self._transmit()
        self.router.link_down(link, self._now)
        self.mailbox.close_link(link)

    def on_link_up(self, link: int, *, dialled: bool, role: str | None) -> None:
        """The mailbox's word: there is a connection; `role` is what the peer has proved."""
        dialler = self._diallers.get(link)
        if dialler is None:
            self._introduce(link, dialled=dialled, uplink=False, role=role, wanted=0)
            return
        if dialler.foreign_key is None:
            dialler.is_proven = True
        self.defer(partial(dialler.connected, link))

    def greet(self, link: int) -> None:
        """For Dialler: say who we are to whoever is at the other end, and hear who that is."""
        dialler = self._diallers.get(link)
        if dialler is not None:
            self._introduce(link, dialled=True, uplink=dialler.uplink, role=None, wanted=dialler.wanted)
            self.turn_soon()

    def _introduce(self, link: int, *, dialled: bool, uplink: bool, role: str | None, wanted: int) -> None:
        mailbox = self.mailbox
        pid, tells_end = mailbox.pid_of(link), mailbox.tells_end(link)
        self.router.link_up(
            link,
            self._now,
            dialled=dialled,
            uplink=uplink,
            role=role,
            witnessed=tells_end or self.witness.can_watch(pid),
            pid=pid,
            wanted=wanted,
        )

    def on_link_down(self, link: int, reason: str, *, refused: bool) -> None:
        """The mailbox's word: it is gone, after all that had come by it."""
        self.router.link_down(link, self._now)
        self._release(link, reason, refused=refused)

    def on_message(self, link: int, frames: Sequence[Buffer]) -> None:
        """The mailbox's word: one message."""
        self.router.receive(link, frames, self._now)

    # --- the turn ---

    def take_turn(self, now: float) -> None:
        """Read, feed, wake, carry out, send.

        Who is woken knows what had come before: a process that was stopped for a second would else take for late what waits
        in its sockets. Nothing is confirmed meanwhile, so credit bounds what there is to read.
        """
        self._now = now
        due = self.due
        if due is None or due > now:
            self.mailbox.pump(whole=False)
        else:
            self.mailbox.pump(whole=now - due > LATE_S)
            self._settle(now)
            self._wake(now)
        self._settle(now)
        if self._broken and not self.mailbox.has_more:
            self._drop_broken(now)
        self._send_all(now)
        for check in self.checks:
            try:
                check()
            except AssertionError as error:
                self.say("error", f"what must hold after a turn does not: {error}")

    def push_out(self, now: float) -> None:
        """Send what is queued, without reading."""
        self._now = now
        self._settle(now)
        self._send_all(now)

    def _wake(self, now: float) -> None:
        """Tell whose deadline passed."""
        self.due = None
        due = self.router.deadline()
        if due is not None and due <= now:
            self.router.wake(now)
        for role in self._roles:
            due = role.machine.deadline()
            if due is not None and due <= now:
                role.machine.wake(now)
        while self._forgets and self._forgets[0][0] <= now:
            _, epoch = self._forgets.pop_first()
            assert isinstance(epoch, int)
            if not (epoch in self._kept or self.router.is_linked(epoch) or self.lives(epoch)):
                self.router.forget(epoch, now)  # of one that lives the death will be told
                self.defer(partial(self.witness.forget, epoch))

    def _settle(self, now: float) -> None:
        """Feed and carry out until nothing is left to do."""
        router = self.router
        for _ in range(ROUNDS_MAX):
            events, deliveries = router.take_events(), router.take_deliveries()
            for event in events:
                self._on_event(event, now)
            actors = self._actors
            for envelope in deliveries:
                receive = actors.get(envelope.to.actor)
                if receive is not None:
                    receive(envelope, now)
                else:
                    self._undeliverable(envelope)
            has_carried = False  # which may leave the machine something more to say
            for role in self._roles:
                for effect in role.machine.drain():
                    if type(effect) is Send:
                        router.send(effect.envelope, now)
                    elif type(effect) is Log:
                        self.say(effect.level, effect.text)
                    else:
                        role.carry_out(effect, now)
                        has_carried = True
            if not (has_carried or router.has_news):
                return
        self.turn_soon()

    def _undeliverable(self, envelope: Envelope) -> None:
        """The actor has ended: whoever asks for an answer gets one, the rest is dropped."""
        if self.fallback is not None and self.fallback(envelope):
            return
        reply = answer_of_nobody(envelope)
        if reply is not None:
            self.router.send(reply, self._now)

    def _on_event(self, event: Event, now: float) -> None:
        if isinstance(event, LinkReady):
            self._on_ready(event)
        elif isinstance(event, CloseLink):
            self._close(event.link, event.reason, now, refused=event.refused)
        elif isinstance(event, LinkLost):
            seconds = self.outlasts(self._neighbours.pop(event.epoch, ""))
            if seconds is not None and event.epoch not in self._kept:
                self.forget_later(event.epoch, seconds)
        elif isinstance(event, Unsent):
            self.say("error", event.reason)
        elif isinstance(event, PeerReset) and event.fault:
            self.say("warning", f"a process broke the rules of the protocol: {event.fault}")
        for role in self._roles:
            role.on_event(event, now)

    def _on_ready(self, ready: LinkReady) -> None:
        self._neighbours[ready.epoch] = ready.role
        dies = ready.role == NODE_ROLE or not self.mailbox.tells_end(ready.link)
        if ready.pid and ready.role != SERVER_ROLE and dies:
            # Of a scheduler that we dialled the end of the link is enough: it is dialled again either way. A server's end is its
            # agent's word, who knows also how it came.
            on_death = partial(self.on_death, ready.link, ready.epoch)
            self.defer(partial(self.witness.watch, ready.epoch, ready.pid, on_death))
        dialler = self._diallers.get(ready.link)
        if dialler is not None:
            self.defer(partial(dialler.link_ready, ready.link, ready.epoch))

    def _close(self, link: int, reason: str, now: float, *, refused: bool = False) -> None:
        self.router.link_down(link, now)
        self.mailbox.close_link(link)
        if not self._release(link, reason, refused=refused) and refused:
            self.on_refused(reason)

    def _release(self, link: int, reason: str, *, refused: bool = False) -> bool:
        """Tell who dialled it that it is gone; False if that was nobody here."""
        dialler = self._diallers.pop(link, None)
        if dialler is not None:
            self.defer(partial(dialler.link_down, link, reason, refused=refused))
        return dialler is not None

    def _drop_broken(self, now: float) -> None:
        """All is read by now: a send fails as soon as the connection has ended, though its last words may be unheard."""
        for link in self._broken:
            self._close(link, "it took nothing more", now)
        self._broken.clear()
        self.turn_soon()

    def _send_all(self, now: float) -> None:
        """The end of each turn; what is left to do then has a deadline."""
        self.router.flush(now)
        self._transmit()
        if self.router.is_dirty:
            self.turn_soon()
        self.mailbox.after_sends()
        due = self.router.deadline()
        for role in self._roles:
            other = role.machine.deadline()
            if other is not None and (due is None or other < due):
                due = other
        if self._forgets and (due is None or self._forgets[0][0] < due):
            due = self._forgets[0][0]
        if due is not None and (self.due is None or due < self.due):
            self.due = due

    def _transmit(self) -> None:
        """Give the mailbox what is cut; credit bounds it, since libzmq tells nobody what has left."""
        for link, frames in self.router.take_outgoing():
            if not self.mailbox.send(link, frames):
                self._broken[link] = None
                self.turn_soon()


def answer_of_nobody(asker: Envelope) -> Envelope | None:
    """To a message for a task that has ended or never was: to who waits for an answer, else to who counts what it sent."""
    message = asker.message
    answer: messages.Message
    if isinstance(message, messages.Ask):
        answer = messages.Reply(ok=False)
    elif isinstance(message, messages.Watch):
        answer = messages.Ended(0, "it had ended before")
    elif isinstance(message, ANSWERED_BY_DELIVERED) and asker.correlation:
        answer = messages.Delivered(0)
    elif isinstance(message, messages.Tell):
        sender = message.via or asker.sender.epoch
        return Envelope(Address(sender, HOST), asker.to, messages.NoMailbox())
    elif isinstance(message, FILE_WORDS):
        answer = messages.FileAnswer(FileState.REFUSED, "nobody takes files there now")
    elif isinstance(message, messages.PlaceWanted):
        answer = messages.PlaceGiven([], "its client has no cluster now")
    else:
        return None
    return Envelope(asker.sender, asker.to, answer, asker.correlation)
