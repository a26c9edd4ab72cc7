"""The one driver: it owns the clock, the lock, the mailbox and the router of one event loop, and feeds the machines.

A turn reads every socket that may have something, feeds all envelopes to the actors, wakes what is due, carries out what the
machines want done, and sends everything for one peer as one ZeroMQ message. No user code runs inside a turn: what has to run
user code or complete a future is *deferred* to the end of the turn, outside the lock. That is why another thread may run a
turn while a user's step keeps the main thread (actors/host/relief.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from . import version
from .links import CLIENT_ROLE, NODE_ROLE, SERVER_ROLE, CloseLink, LinkLost, LinkReady, LinkRefused
from .living import ParentsLock, let_go, living
from .machine import Log, Machine, Send
from .protocol import messages
from .protocol.addresses import Address
from .protocol.codec import Codec
from .protocol.envelope import Envelope
from .protocol.texts import NAME_MAX, cut
from .router import Event, Router, Unsent
from .session import PeerReset
from .transport.dialler import Dialler
from .transport.mailbox import Buffer, Mailbox
from .transport.security import SECRET_REMEDY, Keys
from .transport.witness import Witness

log = logging.getLogger("dispycos")

FORGET_S = 90.0  # a client or viewer whose link was lost so long ago will not resume its session ...
FORGET_NODE_S = 1000.0  # ... a node may
READS_MAX = 10_000
ROUNDS_MAX = 64  # loopback rounds in one turn; the rest waits for the next


class Role(Protocol):
    """A machine and the body that carries out its effects."""

    @property
    def machine(self) -> Machine: ...
    def on_event(self, event: Event, now: float) -> None:
        """A link or a peer came or went."""

    def carry_out(self, effect: object, now: float) -> None:
        """An effect of the role's own kind; Send and Log are the runtime's business."""


class Runtime:
    """Sockets, sessions and actors of one event loop, known to others by its epoch.

    Parameters
    ----------
    role: "client", "node", "scheduler", "server" or "viewer"; proven to others by the key for it.
    name: for people, in status and errors; a long one is cut.
    keys: the cluster's keys, or None for loopback and ipc only.
    """

    def __init__(self, role: str, name: str, keys: Keys | None) -> None:
        self.loop = asyncio.get_running_loop()
        self.role = role
        self.name = cut(name, NAME_MAX)
        self.epoch = secrets.randbits(63) | 1
        self.lock: AbstractContextManager[Any] = threading.RLock()
        self.codec: Codec[messages.Message] = Codec(messages.Word)
        self.router = Router(self.codec, self.epoch, version.about(self.name), role)
        self.mailbox = Mailbox(self.loop, self, keys)
        # Servers talk to their client by its listener; that one is dead is told by the scheduler, after its last words.
        self.mailbox.listeners_first = role == CLIENT_ROLE
        self.witness = Witness(self.loop)
        self.on_refused: Callable[[str], None] = (
            log.warning
        )  # a stranger or a member of another cluster knocked
        self.fallback: Callable[[Envelope], bool] | None = (
            None  # for actors that are not here; True: taken care of
        )
        self.clock = time.monotonic if _tells_monotonic(self.loop) else self.loop.time
        self._now = self.clock()
        self._thread = threading.get_ident()
        self._actors: dict[int, Callable[[Envelope, float], None]] = {}
        self._roles: list[Role] = []
        self._diallers: dict[int, Dialler] = {}
        self._neighbours: dict[int, str] = {}  # their roles
        self._wanted: set[Dialler] = set()
        self._broken: dict[int, None] = {}  # links that take nothing more, and may have something to read
        self._deferred: deque[Callable[[], None]] = deque()
        self._deferring = False
        self.turn_due = False
        self.turns = 0  # on the loop: it is not kept by anybody
        self.on_due: Callable[[], None] | None = None  # called once when a turn falls due, then forgotten
        self._will_push = False  # the turn that runs the deferred calls sends, after them, what they leave
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._closed = False
        self.is_parents = False  # in a forked child: it belongs to the parent
        self.in_child: list[
            Callable[[], None]
        ] = []  # called first in each forked child, for what goes with this runtime
        living.add(self)

    # --- actors ---

    def attach(self, actor: int, role: Role) -> Address:
        """Put a role's machine at this actor id."""
        with self.lock:
            self._roles.append(role)
            return self.attach_inbox(actor, role.machine.receive)

    def attach_inbox(self, actor: int, receive: Callable[[Envelope, float], None]) -> Address:
        """Hand what comes for this actor id to `receive`, under the lock; it must not run user code."""
        self._actors[actor] = receive
        return Address(self.epoch, actor)

    def remove(self, actor: int, role: Role) -> None:
        """Take a role away."""
        with self.lock:
            self._roles.remove(role)
            self.detach(actor)

    def detach(self, actor: int) -> None:
        """What still comes for it goes to actor 0's fallback, if there is one, else it is dropped."""
        self._actors.pop(actor, None)

    def address(self, actor: int) -> Address:
        return Address(self.epoch, actor)

    # --- what steps, roles and other threads call ---

    def send(self, envelope: Envelope) -> None:
        """Queue for the end of this turn; a full block leaves at once. From any thread."""
        with self.lock:
            if self._closed:
                raise RuntimeError("this runtime is closed: the client or server it belonged to has ended")
            self.router.send(envelope, self._now)
            if self.router.has_outgoing:
                self._transmit()
        self.turn_soon()

    def defer(self, call: Callable[[], None]) -> None:
        """Run this on the loop's thread, outside the lock, at the end of the turn."""
        self._deferred.append(call)
        if not self._deferring:
            self._deferring = True
            self._call_soon(self._run_deferred)

    def turn_soon(self) -> None:
        """Have a turn after the present callback; many calls, one turn."""
        if self.turn_due:
            return
        self.turn_due = True
        if (ring := self.on_due) is not None:
            self.on_due = None
            ring()
        if not self._will_push or not self.is_own_thread():
            self._call_soon(self._turn_if_due)

    def _call_soon(self, call: Callable[[], None]) -> None:
        try:
            if threading.get_ident() == self._thread:
                self.loop.call_soon(call)
            else:
                self.loop.call_soon_threadsafe(call)
        except RuntimeError:
            log.debug("the loop is closed: %s is not called any more", call)

    def push(self) -> None:
        """Send now what is queued, without waiting for the end of the turn, and without reading."""
        with self.lock:
            if self._closed:
                return
            now = self._now = self.clock()
            self._settle(now)
            self.router.flush(now)
            self._transmit()
            self.mailbox.after_sends()
            self._arm()

    def forget_later(self, epoch: int, seconds: float) -> None:
        """If that process is not linked then, its session goes: for long-lived ones, which many others visit."""
        self.loop.call_later(seconds, self._forget, epoch)

    def lives(self, epoch: int) -> bool:
        """Whether the process of this runtime is known to live, because it is of this host: it may still be silent for long."""
        return self.witness.lives(epoch)

    def _forget(self, epoch: int) -> None:
        with self.lock:
            if self.lives(epoch):
                return  # its death will be told
            if not self._closed and not self.router.is_linked(epoch):
                self.router.forget(epoch, self._now)
                self.witness.forget(epoch)

    def is_linked(self, epoch: int) -> bool:
        """Whether there is a direct link to this runtime, whoever dialled it."""
        return self.router.is_linked(epoch)

    def role_of(self, epoch: int) -> str:
        """What a runtime that is linked says it is: "node", "scheduler" ..."""
        return self._neighbours.get(epoch, "")

    def is_own_thread(self) -> bool:
        return threading.get_ident() == self._thread

    # --- connecting ---

    def listen(self, endpoint: str) -> str:
        """Bind; returns the endpoint with its real port. Raises zmq.ZMQError when it is taken."""
        with self.lock:
            return self.mailbox.listen(endpoint)

    def listen_ipc(self, folder: Path) -> str:
        """A socket for processes of this host and user, in a folder of theirs alone; returns its path."""
        path = folder / f"{self.role[0]}{os.getpid()}-{self.epoch & 0xFFFFFFFF:08x}.sock"
        self.listen(f"ipc://{path}")
        return str(path)

    def dial(
        self,
        endpoints: Sequence[str],
        *,
        uplink: bool = False,
        keep: bool = True,
        foreign_key: bytes | None = None,
        expected: int = 0,
    ) -> Dialler:
        """Hold a link to the process that listens at these endpoints (all of them its own; the first to answer is kept)."""
        dialler = Dialler(
            self, endpoints, uplink=uplink, keep=keep, foreign_key=foreign_key, expected=expected
        )
        self._wanted.add(dialler)
        dialler.start()
        return dialler

    def open_link(self, endpoint: str, dialler: Dialler) -> int:
        """For Dialler: one attempt."""
        with self.lock:
            link = self.mailbox.dial(endpoint, role=self.role, foreign_key=dialler.foreign_key)
            self._diallers[link] = dialler
            return link

    def dialler_stopped(self, dialler: Dialler) -> None:
        """For Dialler: it tries no more."""
        self._wanted.discard(dialler)

    def drop_link(self, link: int, reason: str) -> None:
        """For Dialler: give up a link that is not wanted any more."""
        with self.lock:
            self._diallers.pop(link, None)
            self.router.say_farewell(reason, link)
            self._transmit()
            self.router.link_down(link, self._now)
            self.mailbox.close_link(link)

    # --- mailbox.Owner ---

    def on_link_up(self, link: int, *, dialled: bool, role: str | None) -> None:
        dialler = self._diallers.get(link)
        uplink = dialler is not None and dialler.uplink
        if dialler is not None and dialler.foreign_key is None:
            dialler.is_proven = True
        mailbox = self.mailbox
        witnessed = mailbox.tells_end(link) or self.witness.can_watch(mailbox.pid_of(link))
        self.router.link_up(link, self._now, dialled=dialled, uplink=uplink, role=role, witnessed=witnessed)

    def on_link_down(self, link: int, reason: str, *, refused: bool) -> None:
        self.router.link_down(link, self._now)
        dialler = self._diallers.pop(link, None)
        if dialler is not None:
            self.defer(lambda: dialler.link_down(link, reason, refused=refused))

    def on_message(self, link: int, frames: Sequence[Buffer]) -> None:
        self.router.receive(link, frames, self._now)

    def on_stranger(self, address: str, reason: str) -> None:
        self.on_refused(f"refused {address}: {reason}; {SECRET_REMEDY}")

    # --- the turn ---

    def turn(self, *, run_deferred: bool = True) -> None:
        """Read, feed, wake, carry out, send. On the loop's thread or, under the lock, on the relief thread."""
        if self.is_parents:
            return
        with self.lock:
            if self._closed:
                return
            self.turn_due = False
            now = self._now = self.clock()
            self.mailbox.pump()
            is_own = self.is_own_thread()
            self.turns += is_own
            if self._timer is None or self._timer_at <= now or not is_own:
                self._wake(now)
            self._settle(now)
            if self._broken and not self.mailbox.has_more:
                self._drop_broken(now)
            self.router.flush(now)
            self._transmit()
            self.mailbox.after_sends()
            self._arm()
        if run_deferred and self._deferred and is_own:
            self._will_push = True
            try:
                self._run_deferred()
            finally:
                self._will_push = False
                if self.turn_due:  # what the steps left leaves now, not a turn of the loop later
                    self.turn_due = False
                    self.push()

    def _wake(self, now: float) -> None:
        """Tell whose deadline passed; the timer stands at the earliest of all."""
        due = self.router.deadline()
        if due is not None and due <= now:
            self.router.wake(now)
        for role in self._roles:
            due = role.machine.deadline()
            if due is not None and due <= now:
                role.machine.wake(now)

    def _turn_if_due(self) -> None:
        if self.turn_due:
            self.turn()

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
            for role in self._roles:
                for effect in role.machine.drain():
                    if type(effect) is Send:
                        router.send(effect.envelope, now)
                    elif type(effect) is Log:
                        getattr(log, effect.level)(effect.text)
                    else:
                        role.carry_out(effect, now)
            if not router.has_news:
                return
        self.turn_soon()

    def _undeliverable(self, envelope: Envelope) -> None:
        """The actor has ended: whoever asks for an answer gets one, the rest is dropped."""
        if self.fallback is not None and self.fallback(envelope):
            return
        message = envelope.message
        reply: messages.Message | None = None
        is_tell = isinstance(message, messages.Tell) and envelope.correlation
        if is_tell or isinstance(message, messages.AwaitsMessage):
            reply = messages.Delivered(0)
        elif isinstance(message, messages.Ask):
            reply = messages.Reply(ok=False)
        elif isinstance(message, messages.Watch) and not message.end:
            reply = messages.Ended(0, "it had ended before")
        if reply is not None:
            self.router.send(Envelope(envelope.sender, envelope.to, reply, envelope.correlation), self._now)

    def _on_event(self, event: Event, now: float) -> None:
        if isinstance(event, LinkReady):
            self._neighbours[event.epoch] = event.role
            self._watch(event)
            ready = self._diallers.get(event.link)
            if ready is not None:
                self.defer(partial(ready.link_ready, event.link, event.epoch))
        elif isinstance(event, LinkRefused):
            self._refuse(event.link, event.reason)
        elif isinstance(event, CloseLink):
            self.router.link_down(event.link, now)
            self.mailbox.close_link(event.link)
            dialler = self._diallers.pop(event.link, None)
            if dialler is not None:
                self.defer(partial(dialler.link_down, event.link, event.reason, refused=False))
        elif isinstance(event, LinkLost):
            self._forget_lost(event.epoch, self._neighbours.pop(event.epoch, ""))
        elif isinstance(event, Unsent):
            log.error("%s", event.reason)
        for role in self._roles:
            role.on_event(event, now)

    def _forget_lost(self, epoch: int, role: str) -> None:
        seconds = outlasts(self.role, role)
        if seconds is not None:
            self.defer(partial(self.forget_later, epoch, seconds))

    def _watch(self, ready: LinkReady) -> None:
        """Its process, if it is of this host; a server's end is its agent's word, who knows also how it came."""
        pid = self.mailbox.pid_of(ready.link)
        if pid and ready.role != SERVER_ROLE:
            on_death = partial(self._on_death, ready.link, ready.epoch)
            self.defer(partial(self.witness.watch, ready.epoch, pid, on_death))

    def _on_death(self, link: int, epoch: int) -> None:
        """A process of this host has ended: first all that it had sent, then the end of its link, then its own."""
        self.read_all()
        with self.lock:
            if self._closed:
                return
            now = self._now = self.clock()
            self.router.link_down(link, now)
            self.mailbox.close_link(link)
            for event in self.router.take_events():
                self._on_event(event, now)
            self._on_event(PeerReset(epoch, self.router.bury(epoch, now)), now)
        self.turn_soon()

    def _refuse(self, link: int, reason: str) -> None:
        self.mailbox.close_link(link)
        dialler = self._diallers.pop(link, None)
        if dialler is not None:
            self.defer(lambda: dialler.link_down(link, reason, refused=True))
        else:
            self.on_refused(reason)

    def _transmit(self) -> None:
        """Give libzmq what is cut; credit bounds it, since libzmq tells nobody what has left."""
        router = self.router
        for _ in range(ROUNDS_MAX):
            for link, frames, size in router.take_outgoing():
                if self.mailbox.send(link, frames):
                    router.link_drained(link, size)
                else:
                    self._broken[link] = None
                    self.turn_soon()
            if not router.is_dirty:
                return
            router.flush(self._now)
        self.turn_soon()

    def _drop_broken(self, now: float) -> None:
        """All is read by now: a send fails as soon as the connection has ended, though its last words may be unheard."""
        broken, self._broken = self._broken, {}
        for link in broken:
            self.router.link_down(link, now)
            self.mailbox.close_link(link)
        self.turn_soon()

    def _arm(self) -> None:
        """Set the one timer to the earliest deadline; a later one is looked at when the timer fires."""
        due = self.router.deadline()
        for role in self._roles:
            other = role.machine.deadline()
            if other is not None and (due is None or other < due):
                due = other
        if due is None or threading.get_ident() != self._thread:
            return
        if self._timer is not None:
            if self._timer_at <= due:
                return
            self._timer.cancel()
        if self.loop.is_closed():
            return
        self._timer_at = due
        self._timer = self.loop.call_at(due, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self.turn()

    def _run_deferred(self) -> None:
        self._deferring = False
        deferred = self._deferred
        try:
            for _ in range(len(deferred)):
                deferred.popleft()()
        finally:  # one that fails is the loop's to report; the others have their turn
            if deferred:
                self.defer(_nothing)

    def turn_elsewhere(self) -> None:
        """A turn on another thread, or inside a step of this one: what is deferred waits for the loop."""
        with self.lock:
            self.mailbox.look_at_all()
            self.turn(run_deferred=False)

    def hand_back(self) -> None:
        """From another thread that ran turns: the loop goes on."""
        with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
            self.loop.call_soon_threadsafe(self.take_back)

    def read_all(self) -> None:
        """Turns until every socket is read empty: before a process is told to be dead, its last words are heard."""
        for _ in range(READS_MAX):
            self.take_back()
            if not self.mailbox.has_more:
                return

    def take_back(self) -> None:
        """On the loop's thread, after another thread ran turns: no edge and no deadline may be missed."""
        with self.lock:
            self.mailbox.look_at_all()
        self.turn()

    def descriptors(self) -> list[int]:
        with self.lock:
            return self.mailbox.descriptors()

    async def quiet(self, patience: float, *, also_unreachable: bool = False) -> bool:
        """Wait until everything sent is confirmed by those who can be reached, or by all; False after `patience` seconds."""
        until = self.clock() + patience
        while self.clock() < until:
            with self.lock:
                if self.router.is_quiet and not (also_unreachable and self.router.busy_peers()):
                    return True
            await asyncio.sleep(0.002)
        return False

    async def close(self) -> None:
        """Say farewell, close every socket; calls after this raise."""
        self.close_now()

    def close_now(self) -> None:
        """As close, of a loop that may have ended."""
        with self.lock:
            self.router.say_farewell(f"{self.name} has ended")
        self.push()
        with self.lock:
            self._closed = True
            if self._timer is not None:
                self._timer.cancel()
            for dialler in list(self._wanted):
                dialler.stop()
            self.witness.close()
            self.mailbox.close()
        living.discard(self)

    # --- in a forked child ---

    def die_in_child(self) -> None:
        """Its sockets and its loop are the parent's: no call of ours touches them from here on."""
        self.is_parents = self._closed = True
        self.lock = ParentsLock()
        self._deferred.clear()
        let_go(self.loop)
        for call in self.in_child:
            call()


def outlasts(own_role: str, peer_role: str) -> float | None:
    """For how many seconds a session is kept without a link; None where other routes are left, and the end is told."""
    if SERVER_ROLE in (own_role, peer_role):
        return None
    return FORGET_NODE_S if peer_role == NODE_ROLE else FORGET_S


def _tells_monotonic(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether its time() is asyncio's own: then the clock can be read without two calls in between, as each turn does."""
    return getattr(type(loop), "time", None) is asyncio.BaseEventLoop.time


def _nothing() -> None:
    """Only there to have the deferred calls run again."""
