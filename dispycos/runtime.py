"""The one driver: it owns the clock, the lock, the sockets and the timer of one event loop, and takes its turns (turns.py).

What a turn *defers* runs at its end, outside the lock, and on the loop's thread only: there is the user's code.
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
from typing import Any

from . import turns, version
from .living import ParentsLock, let_go, living
from .protocol import messages, watching
from .protocol.addresses import Address
from .protocol.codec import Codec
from .protocol.envelope import Envelope
from .protocol.texts import NAME_MAX, cut
from .session.links import CLIENT_ROLE
from .session.router import Router
from .transport.addresses import is_named, resolve_endpoint
from .transport.dialler import Dialler
from .transport.mailbox import Mailbox
from .transport.secret import SECRET_REMEDY
from .transport.security import Keys
from .transport.witness import Witness
from .turns import Role, Turns

log = logging.getLogger("dispycos")

READS_MAX = 10_000


class Runtime(Turns):
    """Sockets, sessions and actors of one event loop, known to others by its epoch.

    Parameters
    ----------
    role: "client", "node", "scheduler", "server" or "viewer"; proven to others by the key for it.
    name: for people, in status and errors; a long one is cut.
    keys: the cluster's keys, or None for loopback and ipc only.
    """

    def __init__(self, role: str, name: str, keys: Keys | None) -> None:
        self.loop = asyncio.get_running_loop()
        self.name = cut(name, NAME_MAX)
        codec: Codec[messages.Message] = Codec(watching.Word)
        epoch, token = secrets.randbits(63) | 1, secrets.randbits(63)
        super().__init__(Router(codec, epoch, version.about(self.name), role, token=token))
        self.lock: AbstractContextManager[Any] = threading.RLock()
        self.mailbox: Mailbox = Mailbox(self.loop, self, keys)
        # Servers talk to their client by its listener; that one is dead is told by the scheduler, after its last words.
        self.mailbox.listeners_first = role == CLIENT_ROLE
        self.witness: Witness = Witness(self.loop)
        self.on_refused: Callable[[str], None] = log.warning
        self.clock = time.monotonic if _tells_monotonic(self.loop) else self.loop.time
        self._now = self.clock()
        self._thread = threading.get_ident()
        self._wanted: set[Dialler] = set()
        self._deferred: deque[Callable[[], None]] = deque()
        self._deferring = False
        self.turn_due = False
        self.turns = 0  # on the loop: it is not kept by anybody
        self.on_due: Callable[[], None] | None = None  # called once when a turn falls due, then forgotten
        self._has_left = False  # something since the last turn, or one is taken
        self._will_push = False  # the turn that runs the deferred calls sends, after them, what they leave
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._closed = False
        self.is_parents = False  # in a forked child: it belongs to the parent
        self.in_child: list[
            Callable[[], None]
        ] = []  # called first in each forked child, for what goes with this runtime
        living.add(self)

    @property
    def is_open(self) -> bool:
        """Whether anything can still be sent."""
        return not self._closed

    # --- what steps, roles and other threads call ---

    def attach(self, actor: int, role: Role) -> Address:
        with self.lock:
            return super().attach(actor, role)

    def remove(self, actor: int, role: Role) -> None:
        with self.lock:
            super().remove(actor, role)

    def send(self, envelope: Envelope, *, may_leave: bool = False) -> None:
        """Queue for the end of this turn, or have it `leave`; a full block leaves at once. From any thread."""
        with self.lock:
            if self._closed:
                raise RuntimeError("this runtime is closed: the client or server it belonged to has ended")
            self.put(envelope)
            if may_leave and not self.turn_due:
                self.leave()
                return
        self.turn_soon()

    def leave(self) -> None:
        """What was put leaves: the first since the last turn at once, as somebody may wait for the answer, more with the next.

        Under the lock, by a step with interrupts held off: machines are fed and drained in here, if no turn is under way.
        """
        if self._has_left or self.turn_due or not self.is_own_thread():
            self.turn_soon()
        else:
            self.push()

    def say(self, level: str, text: str) -> None:
        getattr(log, level)(text)

    def defer(self, call: Callable[[], None]) -> None:
        """Run this on the loop's thread, outside the lock, at the end of the turn. From any thread."""
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
            self._has_left = True
            self.push_out(self.clock())
            self._arm()

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
        wanted: int = 0,
    ) -> Dialler:
        """Hold a link to the process that listens at these endpoints (all of them its own; the first to answer is kept)."""
        dialler = Dialler(
            self,
            endpoints,
            uplink=uplink,
            keep=keep,
            foreign_key=foreign_key,
            expected=expected,
            wanted=wanted,
            resolve=resolve_endpoint if any(map(is_named, endpoints)) else None,
        )
        self._wanted.add(dialler)
        dialler.start()
        return dialler

    def open_link(self, endpoint: str, dialler: turns.Dialler) -> int:
        with self.lock:
            return super().open_link(endpoint, dialler)

    def greet(self, link: int) -> None:
        with self.lock:
            super().greet(link)

    def drop_link(self, link: int, reason: str) -> None:
        with self.lock:
            super().drop_link(link, reason)

    def learn_way(self, epoch: int, by: int) -> None:
        """What is for that runtime goes by this neighbour, unless there is a link of its own."""
        with self.lock:
            self.router.learn_way(epoch, by, self.clock())
        self.turn_soon()

    def dialler_stopped(self, dialler: Dialler) -> None:
        """For Dialler: it tries no more."""
        self._wanted.discard(dialler)

    def on_stranger(self, address: str, reason: str) -> None:
        self.defer(partial(self.on_refused, f"refused {address}: {reason}; {SECRET_REMEDY}"))

    # --- the turn ---

    def turn(self, *, run_deferred: bool = True) -> None:
        """Read, feed, wake, carry out, send. On the loop's thread or, under the lock, on the relief thread."""
        if self.is_parents:
            return
        with self.lock:
            if self._closed:
                return
            self.turn_due = False
            self._has_left = True  # within the turn nothing leaves by itself
            is_own = self.is_own_thread()
            self.turns += is_own
            self.take_turn(self.clock())
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
        self._has_left = False

    def _turn_if_due(self) -> None:
        if self.turn_due:
            self.turn()

    def on_death(self, link: int, epoch: int) -> None:
        self.read_all()
        with self.lock:
            if not self._closed:
                self._has_left = True  # its roles are told one after the other
                self.peer_died(link, epoch, self.clock())

    def _arm(self) -> None:
        """Set the one timer to when a turn is due; a later time is looked at when the timer fires."""
        due = self.due
        if due is None or (self._timer is not None and self._timer_at <= due) or not self.is_own_thread():
            return
        if self._timer is not None:
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


def _tells_monotonic(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether its time() is asyncio's own: then the clock can be read without two calls in between, as each turn does."""
    return getattr(type(loop), "time", None) is asyncio.BaseEventLoop.time


def _nothing() -> None:
    """Only there to have the deferred calls run again."""
