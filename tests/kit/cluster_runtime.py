"""Processes of the simulated cluster: the turns of dispycos/turns.py in virtual time, on connections as TCP and ipc have them.

Roles, router, dialler and turn are the real ones; time, links and the kernel's word of the dead are virtual. A connection keeps
its order; when it breaks, a part of what was on its way still arrives, and nothing after the first that does not.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any, Final, cast

from dispycos.protocol import messages
from dispycos.protocol.addresses import Address
from dispycos.protocol.codec import Codec
from dispycos.protocol.envelope import Buffer, Envelope
from dispycos.router import Router
from dispycos.runtime import Runtime
from dispycos.transport.dialler import Dialler
from dispycos.turns import FORGET_NODE_S, FORGET_S, Turns

from .network import World, about

CODEC: Final[Codec[Any]] = Codec(messages.Word)
LATENCY_S: Final = 0.001  # from a reason to have a turn until the turn, at most
STEPS_MAX: Final = 100_000  # schedules take 2,000, and 15,000 at most
NOTICED: Final = 0.3  # of sends on a connection that is gone and was not told to be
READ_MAX: Final = 16  # messages that a turn reads; the rest waits for the next


class Universe(World):
    """The world of one schedule, with a diary for people and the faults that were found."""

    def __init__(self, seed: int, *, keeps_diary: bool = False) -> None:
        super().__init__(seed)
        self.diary: list[str] | None = [] if keeps_diary else None
        self.cables: list[Cable] = []
        self.is_one_host = self.dice.random() < 0.5
        self.forget_s, self.forget_node_s = FORGET_S, FORGET_NODE_S
        self.names: dict[int, str] = {}  # of epochs
        self.listeners: dict[str, Process] = {}  # by endpoint

    def run(self, until: float, is_done: Callable[[], bool] = lambda: False) -> None:
        super().run(until, lambda: self._is_restless() or is_done())

    def _is_restless(self) -> bool:
        if self.steps > STEPS_MAX:
            self.wrong("nothing comes to rest")
        return self.steps > STEPS_MAX

    def patience(self, seconds: float) -> float:
        """How long a session outlasts its link here; some worlds are less patient, to have more happen."""
        return {FORGET_S: self.forget_s, FORGET_NODE_S: self.forget_node_s}.get(seconds, seconds)

    def note(self, text: str) -> None:
        if self.diary is not None:
            self.diary.append(f"{self.now:9.4f} {text}")

    def wrong(self, text: str) -> None:
        self.note(f"WRONG: {text}")
        if len(self.faults) < 20:
            self.faults.append(text)

    def name_of(self, epoch: int) -> str:
        return self.names.get(epoch, f"{epoch:x}")


class End:
    """One end of a connection: what is on its way to it."""

    __slots__ = ("cable", "dialled", "is_open", "life", "number", "other", "owner", "queue", "swallows")

    def __init__(self, cable: Cable, owner: Process, *, dialled: bool) -> None:
        self.cable = cable
        self.owner = owner
        self.life = owner.life
        self.dialled = dialled
        self.number = 0  # the listener's gets one with the first message
        self.is_open = True
        self.swallows = True  # what is sent here after a break, until this end is told
        self.queue: deque[tuple[float, list[bytes]]] = deque()
        self.other: End


class Cable:
    """A connection between two processes."""

    def __init__(self, world: Universe, dialler: Process, listener: Process, *, ipc: bool) -> None:
        self.world = world
        self.is_ipc = ipc
        self.is_lane = (dialler.role, listener.role) == ("server", "client")
        self.is_cut = False
        self.delay = 0.0005 + world.dice.random() * world.dice.choice((0.001, 0.02))
        here, there = End(self, dialler, dialled=True), End(self, listener, dialled=False)
        here.other, there.other = there, here
        self.ends = (here, there)
        self._last = {here: 0.0, there: 0.0}

    def send(self, source: End, frames: Sequence[Buffer]) -> bool:
        """False when this end knows that the connection is gone."""
        if self.is_cut and self.world.dice.random() < NOTICED:
            self._tell(source)
        if not source.is_open or (self.is_cut and not source.swallows):
            return False
        if self.is_cut:
            return True
        world, target = self.world, source.other
        arrival = max(self._last[target], world.now + self.delay * (0.5 + world.dice.random()))
        self._last[target] = arrival
        target.queue.append((arrival, [bytes(frame) for frame in frames]))
        world.after(arrival - world.now, lambda: self._arrive(target))
        return True

    def _arrive(self, target: End) -> None:
        if target.queue and target.queue[0][0] <= self.world.now:
            _, frames = target.queue.popleft()
            target.owner.arrived(target, frames)

    def hurry(self, target: End) -> None:
        """Everything that is on its way to this end is there now."""
        while target.queue:
            target.owner.arrived(target, target.queue.popleft()[1])

    def cut(self, patience: float, *, whole: tuple[End, ...] = ()) -> None:
        """Breaks; each end hears of it within this time, a listener perhaps never."""
        if self.is_cut:
            return
        self.is_cut = True
        dice = self.world.dice
        for end in self.ends:
            if end not in whole:
                for _ in range(dice.randrange(len(end.queue) + 1)):
                    end.queue.pop()
            if end.dialled or dice.random() < 0.5:
                self.world.after(patience * dice.random(), partial(self._tell, end))

    def _tell(self, end: End) -> None:
        """That connection is gone: what had arrived is still good, and nothing can be sent."""
        if not end.swallows:
            return
        self.hurry(end)
        end.swallows = False
        if end.dialled:  # the monitor may be read later than a send fails
            lag = self.world.dice.random() * self.world.dice.choice((LATENCY_S, 20 * LATENCY_S))
            self.world.after(lag, partial(end.owner.arrived, end, "connection lost"))

    def close(self, end: End) -> None:
        """One end lets go; what it has sent may still leave."""
        end.is_open = False
        self.cut(0.3, whole=(end.other,))


class Mailbox:
    """The links of one life of a process (turns.Mailbox). What has come is read in the next turn."""

    def __init__(self, owner: Process) -> None:
        self.links: dict[int, End] = {}
        self._owner = owner
        self._inbox: list[tuple[End, list[bytes] | str]] = []  # messages, "" for a handshake, why it is gone
        self._count = 0

    def dial(self, endpoint: str, *, role: str, foreign_key: bytes | None) -> int:
        owner, world = self._owner, self._owner.world
        target = world.listeners[endpoint]
        cable = Cable(world, owner, target, ipc=endpoint.startswith("ipc://"))
        here = cable.ends[0]
        if target.is_alive and target.listens_at(endpoint) and world.is_up(owner, target):  # type: ignore[arg-type]
            world.cables.append(cable)
            world.after(cable.delay, partial(owner.arrived, here, ""))
        else:
            cable.is_cut, here.swallows = True, False
            world.after(cable.delay, partial(owner.arrived, here, "nobody listens there"))
        return self._take(here)

    def put(self, end: End, what: list[bytes] | str) -> None:
        self._inbox.append((end, what))

    @property
    def has_more(self) -> bool:
        return bool(self._inbox)

    def pump(self) -> None:
        inbox = self._inbox
        if self._owner.role == "client":  # transport.Mailbox.listeners_first
            inbox.sort(key=lambda item: item[0].dialled)
        taken, self._inbox = inbox[:READ_MAX], inbox[READ_MAX:]
        for end, what in taken:
            if end.is_open:
                self._read(end, what)
        self.after_sends()

    def _read(self, end: End, what: list[bytes] | str) -> None:
        owner = self._owner
        if what == "":
            owner.on_link_up(end.number, dialled=True, role=None)
        elif isinstance(what, str):
            self.close_link(end.number)
            owner.on_link_down(end.number, what, refused=False)
        else:
            if not end.number:
                proven = None if end.cable.is_ipc else end.other.owner.role
                owner.on_link_up(self._take(end), dialled=False, role=proven)
            owner.on_message(end.number, what)

    def after_sends(self) -> None:
        if self._inbox:
            self._owner.turn_soon()

    def send(self, link: int, frames: Sequence[Buffer]) -> bool:
        end = self.links.get(link)
        return end is not None and end.cable.send(end, frames)

    def close_link(self, link: int) -> None:
        end = self.links.pop(link, None)
        if end is not None:
            self._owner.note(f"closes its link to {end.other.owner.name}")
            if any(unread is end and isinstance(what, list) for unread, what in self._inbox):
                self._owner.world.wrong(
                    f"{self._owner.name} closes a link without reading all that came by it"
                )
            end.cable.close(end)

    def pid_of(self, link: int) -> int:
        end = self.links.get(link)
        return end.other.owner.epoch if end is not None and end.cable.is_ipc and not end.dialled else 0

    def _take(self, end: End) -> int:
        self._count += 1
        end.number = self._count
        self.links[end.number] = end
        return end.number


class Witness:
    """turns.Witness. A process is known by its epoch here, in place of a pid."""

    def __init__(self, owner: Process) -> None:
        self._owner = owner
        self._watched: dict[int, Callable[[], None]] = {}

    def watch(self, epoch: int, pid: int, on_death: Callable[[], None]) -> None:
        self._watched[epoch] = on_death
        if epoch in self._owner.world.dead:
            self.ended(epoch)

    def forget(self, epoch: int) -> None:
        self._watched.pop(epoch, None)

    def ended(self, epoch: int) -> None:
        if epoch in self._watched:
            self._owner.call_later(LATENCY_S, self._tell, epoch)

    def _tell(self, epoch: int) -> None:
        on_death = self._watched.pop(epoch, None)
        if on_death is not None:
            on_death()


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
        super().__init__(Router(CODEC, epoch, about(self.name), self.role))  # a runtime of its own
        self._now = self.world.now
        self.world.names[epoch] = f"{self.name}.{self.life}"
        self.world.listeners[f"ipc://{epoch}"] = self
        self.mailbox = Mailbox(self)
        self.witness = Witness(self)
        self.deferred: deque[Callable[[], None]] = deque()
        self.is_kept = False  # a step keeps the loop: turns go on by the relief thread, and nothing else
        self.is_in_turn = False
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
        if self.uplink is not None and self.uplink.is_alive:
            self.uplink.witness.ended(self.epoch)

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
        def noting(envelope: Envelope, now: float) -> None:
            source = f"{self.world.name_of(envelope.sender.epoch)}/{envelope.sender.actor}"
            self.note(f"<- {source} to {actor}: {envelope.message}"[:230])
            receive(envelope, now)

        return super().attach_inbox(actor, receive if self.world.diary is None else noting)

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
        return endpoint in (f"tcp://{self.name}", f"ipc://{self.epoch}")

    def dial(
        self, endpoints: list[str], *, uplink: bool = False, keep: bool = True, expected: int = 0
    ) -> Dialler:
        dialler = Dialler(cast(Runtime, self), endpoints, uplink=uplink, keep=keep, expected=expected)
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

    # --- turns

    def turn(self) -> None:
        now, self._turn_at = self.world.now, None
        feeds = self.mailbox.has_more or self.router.has_news or (self.due is not None and self.due <= now)
        self.is_in_turn = True
        self.take_turn(now)
        self.is_in_turn = False
        for role in self._roles if feeds else ():
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
