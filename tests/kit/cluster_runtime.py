"""Processes of the simulated cluster: the turns of dispycos/turns.py in virtual time.

Roles, router, dialler and turn are the real ones; time, links and the kernel's word of the dead (cluster_links.py) are virtual.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any, Final, cast

from dispycos.protocol import watching
from dispycos.protocol.addresses import Address
from dispycos.protocol.codec import Codec
from dispycos.protocol.envelope import Envelope
from dispycos.runtime import Runtime
from dispycos.session.links import LinkReady
from dispycos.session.router import Router
from dispycos.transport.dialler import Dialler
from dispycos.turns import Turns

from .cluster_links import LATENCY_S, End, Mailbox, Universe, Witness
from .network import about

CODEC: Final[Codec[Any]] = Codec(watching.Word)


class Timer:
    """asyncio.TimerHandle."""

    def __init__(self, call: Callable[[], None]) -> None:
        self._call: Callable[[], None] | None = call

    def cancel(self) -> None:
        self._call = None

    def fire(self) -> None:
        if self._call is not None:
            self._call()


class Process(Turns):
    """A process: a runtime in virtual time, alive from `start` to `die`; to roles it looks like a Runtime and its loop."""

    role: str
    mailbox: Mailbox
    witness: Witness
    lock = nullcontext()  # there is one thread

    def __init__(self, world: Universe, name: str) -> None:
        self.world = world
        self.name = name
        self.life = 0
        self.is_alive = False
        self.died_of_kill = False
        self.paused_until = 0.0
        self.longest_pause = 0.0
        self.uplink: Process | None = None
        self.keeps_uplink = True
        world.listeners[f"tcp://{name}"] = self

    # --- life

    def start(self) -> None:
        """A new process under this name."""
        self.life += 1
        self.is_alive = True
        self.paused_until = 0.0
        epoch = self.world.dice.getrandbits(62) * 2 + 1
        token = self.world.dice.getrandbits(62)
        # A runtime of its own.
        super().__init__(Router(CODEC, epoch, about(self.name), self.role, token=token))
        self._now = self.world.now
        self.world.names[epoch] = f"{self.name}.{self.life}"
        self.world.listeners[f"ipc://{epoch}"] = self
        self.mailbox = Mailbox(self)
        self.witness = Witness(self)
        self.deferred: deque[Callable[[], None]] = deque()
        self.unwanted: set[int] = set()  # links that were given up
        self.is_kept = False  # a step keeps the loop: turns go on by the relief thread, and nothing else
        self.is_in_turn = False
        self.is_fed = False  # this turn has had something for the machines
        self._turn_at: float | None = None
        self._timer_at: float | None = None
        self.note("starts")
        self.boot()
        if self.uplink is not None:
            endpoints = self.uplink.endpoints_for(self)
            self.dialler = self.dial(endpoints, uplink=True, keep=self.keeps_uplink)
            self.dialler.on_lost = lambda reason: self.uplink_lost()
        self.turn_soon()

    def boot(self) -> None:
        """What this process is made of."""
        raise NotImplementedError

    def die(self, dying_words: tuple[End, ...] = ()) -> None:
        """As by SIGKILL; what is on its way to these ends still arrives."""
        self.note("dies")
        self.world.dead.add(self.epoch)
        self.is_alive = False
        self.died_of_kill = not dying_words
        self.life += 1
        for end in list(self.mailbox.links.values()):
            end.is_open = False
            end.cable.cut(0.3, whole=dying_words)
        for other in dict.fromkeys(self.world.listeners.values()):
            if other.is_alive:
                other.witness.ended(self.epoch)

    def leave(self) -> None:
        """Runtime.close(): what was said before still leaves."""
        self.router.say_farewell(f"{self.name} has ended")
        self.push()
        self.die(dying_words=tuple(end.other for end in self.mailbox.links.values()))

    def note(self, text: str) -> None:
        if self.world.diary is not None:
            self.world.note(f"{self.name}.{self.life}: {text}")

    # --- time

    def later(self, delay: float, action: Callable[[], None]) -> None:
        """Unless the process has ended by then; later if it is paused."""
        life = self.life

        def fire() -> None:
            if life != self.life:
                return
            if self.paused_until > self.world.now:
                self.world.after(self.paused_until - self.world.now, fire)
            else:
                action()

        self.world.after(delay, fire)

    def pause(self, seconds: float) -> None:
        self.note(f"is paused for {seconds:.3f} s")
        self.paused_until = max(self.paused_until, self.world.now + seconds)
        self.longest_pause = max(self.longest_pause, seconds)
        self.world.referee.disturb(self.name, self.paused_until)

    # --- as of a loop

    @property
    def loop(self) -> Process:
        return self

    def call_later(self, delay: float, call: Callable[..., None], *args: Any) -> Timer:
        """On the loop: later, if a step keeps it then."""
        timer = Timer(partial(call, *args))
        self.later(delay, lambda: self.defer(timer.fire) if self.is_kept else timer.fire())
        return timer

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=cast(asyncio.AbstractEventLoop, self))

    def get_debug(self) -> bool:
        return False

    def is_closed(self) -> bool:
        return not self.is_alive

    # --- as of dispycos.runtime.Runtime

    def clock(self) -> float:
        return self.world.now

    def say(self, level: str, text: str) -> None:
        self.note(f"says: {text}")

    def on_refused(self, text: str) -> None:
        self.note(f"refuses: {text}")

    def outlasts(self, role: str) -> float | None:
        seconds = super().outlasts(role)
        return None if seconds is None else self.world.patience(seconds)

    def attach_inbox(self, actor: int, receive: Callable[[Envelope, float], None]) -> Address:
        def hear(envelope: Envelope, now: float) -> None:
            self.is_fed = True
            if self.world.diary is not None:
                source = f"{self.world.name_of(envelope.sender.epoch)}/{envelope.sender.actor}"
                self.note(f"<- {source} to {actor}: {envelope.message}"[:230])
            receive(envelope, now)

        return super().attach_inbox(actor, hear)

    def send(self, envelope: Envelope, *, may_leave: bool = False) -> None:
        self.put(envelope)
        self.turn_soon()

    def defer(self, call: Callable[[], None]) -> None:
        self.deferred.append(call)
        self.turn_soon()

    def turn_soon(self) -> None:
        now = self.world.now
        if self._turn_at is None or self._turn_at < now:
            delay = LATENCY_S * self.world.dice.random()
            self._turn_at = now + delay
            self.later(delay, self.turn)

    def push(self) -> None:
        self.push_out(self.world.now)
        self._arm()

    # --- links

    def endpoints_for(self, dialler: Process) -> list[str]:
        """discovery.endpoints_of: those of one user on one host connect by ipc first, nodes by tcp."""
        tcp, ipc = f"tcp://{self.name}", f"ipc://{self.epoch}"
        if dialler.role == "server":
            return [ipc]
        return [ipc, tcp] if dialler.role == "client" and self.world.is_one_host else [tcp]

    def listens_at(self, endpoint: str) -> bool:
        return endpoint in (f"tcp://{self.name}", f"ipc://{self.epoch}", "gate://")

    def dial(
        self,
        endpoints: list[str],
        *,
        uplink: bool = False,
        keep: bool = True,
        expected: int = 0,
        wanted: int = 0,
    ) -> Dialler:
        dialler = Dialler(
            cast(Runtime, self), endpoints, uplink=uplink, keep=keep, expected=expected, wanted=wanted
        )
        dialler.on_silence = dialler.on_lost = self.note
        dialler.start()
        return dialler

    def dialler_stopped(self, dialler: Dialler) -> None:
        """Its timers end with the process."""

    def uplink_lost(self) -> None:
        """Dialler.on_lost."""

    def arrived(self, end: End, what: list[bytes] | str) -> None:
        """The kernel has it; it is read in the next turn."""
        if self.is_alive and end.life == self.life:
            self.mailbox.put(end, what)
            self.turn_soon()

    def drop_link(self, link: int, reason: str) -> None:
        self.unwanted.add(link)  # so it need not be read empty
        super().drop_link(link, reason)

    # --- turns

    def _on_ready(self, ready: LinkReady) -> None:
        dialler = self._diallers.get(ready.link)
        if dialler is not None and dialler.wanted not in (0, ready.epoch):
            meant, found = self.world.name_of(dialler.wanted), self.world.name_of(ready.epoch)
            self.world.wrong(f"{self.name} meant {meant}, not {found}")
        super()._on_ready(ready)

    def turn(self) -> None:
        now, self._turn_at = self.world.now, None
        self.is_fed = self.due is not None and self.due <= now
        self.is_in_turn = True
        self.take_turn(now)
        self.is_in_turn = False
        for role in self._roles if self.is_fed else ():
            self._check(role.machine)
        self._arm()
        self.run_deferred()

    def run_deferred(self) -> None:
        for _ in range(len(self.deferred)):
            if self.is_kept or not self.is_alive:
                return
            self.deferred.popleft()()
        if self.deferred:
            self.turn_soon()

    def on_users_side(self) -> None:
        """Here code of the user's runs."""
        if self.is_in_turn:
            self.world.wrong(f"user code of {self.name} runs inside a turn")

    def _check(self, machine: Any) -> None:
        """What must hold between two turns."""
        try:
            machine.check()
        except AssertionError as error:
            self.world.wrong(f"{self.name}: {type(machine).__name__}.check(): {error!r}")

    def read_all(self, *, of: int) -> None:
        """Runtime.read_all(): what that dead process had sent is here, and is heard before its end is told."""
        for end in [end for end in self.mailbox.links.values() if end.other.owner.epoch == of]:
            end.cable.hurry(end)
        self.turn()
        while self.mailbox.has_more:
            self.turn()

    def on_death(self, link: int, epoch: int) -> None:
        self.note(f"sees the end of {self.world.name_of(epoch)}")
        self.read_all(of=epoch)
        self.peer_died(link, epoch, self.world.now)

    def _arm(self) -> None:
        due = self.due
        if due is None or (self._timer_at is not None and self._timer_at <= due):
            return
        self._timer_at = due = max(due, self.world.now)

        def wake() -> None:
            if self._timer_at == due:  # else an earlier one was set since
                self._timer_at = None
                self.turn()

        self.later(due - self.world.now + 1e-9, wake)
