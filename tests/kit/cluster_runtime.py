"""Processes of the simulated cluster: the runtime's turn in virtual time, around a real router, and connections as TCP has them.

Kept in step with dispycos/runtime.py, dispycos/transport/mailbox.py and dialler.py: a turn reads all that has come, feeds the
machines, carries out, flushes. A connection keeps its order; when it breaks, a part of what was on its way still arrives, and
nothing after the first that does not.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any, Final

from dispycos.links import CloseLink, LinkLost, LinkReady, LinkRefused
from dispycos.machine import Log, Send
from dispycos.protocol import messages
from dispycos.protocol.addresses import Address
from dispycos.protocol.codec import Codec
from dispycos.protocol.envelope import Buffer, Envelope, size_of
from dispycos.router import Event, Router
from dispycos.runtime import FORGET_NODE_S, FORGET_S, ROUNDS_MAX, outlasts
from dispycos.session import PeerReset

from .network import World, about

CODEC: Final[Codec[Any]] = Codec(messages.Word)
LATENCY_S: Final = 0.001  # from a reason to have a turn until the turn, at most


class Universe(World):
    """The world of one schedule, with a diary for people and the faults that were found."""

    def __init__(self, seed: int, *, keeps_diary: bool = False) -> None:
        super().__init__(seed)
        self.diary: list[str] | None = [] if keeps_diary else None
        self.cables: list[Cable] = []
        self.is_one_host = self.dice.random() < 0.5
        self.forget_s, self.forget_node_s = FORGET_S, FORGET_NODE_S
        self.names: dict[int, str] = {}  # of epochs
        self.processes: dict[int, Process] = {}  # by epoch

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

    __slots__ = (
        "cable",
        "dialled",
        "is_lane",
        "is_open",
        "life",
        "number",
        "other",
        "owner",
        "queue",
        "swallows",
    )

    def __init__(self, cable: Cable, owner: Process, *, dialled: bool) -> None:
        self.cable = cable
        self.owner = owner
        self.life = owner.life
        self.dialled = dialled
        self.is_lane = False  # a server's own link to its client
        self.number = 0  # the listener's gets one with the first message
        self.is_open = True
        self.swallows = True  # what is sent here after a break, until this end is told
        self.queue: deque[tuple[float, list[bytes]]] = deque()
        self.other: End


class Cable:
    """A connection between two processes."""

    def __init__(self, world: Universe, dialler: Process, listener: Process, delay: float) -> None:
        self.world = world
        self.delay = delay
        self.is_cut = False
        here, there = End(self, dialler, dialled=True), End(self, listener, dialled=False)
        here.other, there.other = there, here
        self.ends = (here, there)
        self._last = {here: 0.0, there: 0.0}

    def send(self, source: End, frames: Sequence[Buffer]) -> bool:
        """False when this end knows that the connection is gone."""
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
                self.world.after(patience * dice.random(), self._telling(end))

    def _telling(self, end: End) -> Callable[[], None]:
        def tell() -> None:
            end.swallows = False
            if end.dialled and end.is_open:
                self.hurry(end)  # what had arrived before is still good
                end.owner.arrived(end, None)

        return tell

    def close(self, end: End) -> None:
        """One end lets go; what it has sent may still leave."""
        end.is_open = False
        self.cut(0.3, whole=(end.other,))


class Timer:
    """asyncio.TimerHandle."""

    def __init__(self, call: Callable[[], None]) -> None:
        self._call: Callable[[], None] | None = call

    def cancel(self) -> None:
        self._call = None

    def fire(self) -> None:
        if self._call is not None:
            self._call()


class Process:
    """A process: a runtime in virtual time, alive from `start` to `die`."""

    role: str
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

    # --- life

    def start(self) -> None:
        """A new process under this name."""
        self.life += 1
        self.is_alive = True
        self.paused_until = 0.0
        self.epoch = self.world.dice.getrandbits(62) * 2 + 1
        self.world.names[self.epoch] = f"{self.name}.{self.life}"
        self.world.processes[self.epoch] = self
        self.neighbours: dict[int, str] = {}  # their roles
        self.router = Router(CODEC, self.epoch, about(self.name), self.role)
        self.roles: list[Any] = []
        self.actors: dict[int, Callable[[Envelope, float], None]] = {}
        self.inbox: list[tuple[End, list[bytes] | None]] = []
        self.links: dict[int, End] = {}
        self.watched: dict[int, int] = {}  # by epoch, the links of those whose end is seen
        self.deferred: deque[Callable[[], None]] = deque()
        self._link_count = 0
        self._turn_at: float | None = None
        self._wake_at: float | None = None
        self.note("starts")
        self.boot()
        if self.uplink is not None:
            self.dial()
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
        for end in list(self.links.values()):
            end.is_open = False
            end.cable.cut(0.3, whole=dying_words)
        for other in self.world.processes.values():
            if self.epoch in other.watched:
                other.later(LATENCY_S, partial(other.on_death, self.epoch))

    def leave(self) -> None:
        """Runtime.close(): what was said before still leaves."""
        self.router.say_farewell(f"{self.name} has ended")
        self.push()
        ends = list(self.links.values())
        self.die(dying_words=tuple(end.other for end in ends))

    def note(self, text: str) -> None:
        if self.world.diary is not None:
            self.world.note(f"{self.name}.{self.life}: {text}")

    # --- time

    def later(self, delay: float, action: Callable[[], None]) -> None:
        """On the loop, unless the process has ended by then; later if it is paused."""
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

    # --- what roles, bodies and tasks call, as of dispycos.runtime.Runtime and its loop

    @property
    def loop(self) -> Process:
        return self

    def call_later(self, delay: float, call: Callable[..., None], *args: Any) -> Timer:
        timer = Timer(partial(call, *args))
        self.later(delay, timer.fire)
        return timer

    def clock(self) -> float:
        return self.world.now

    def lives(self, epoch: int) -> bool:
        return epoch in self.watched

    def is_linked(self, epoch: int) -> bool:
        return self.router.is_linked(epoch)

    def attach(self, actor: int, role: Any) -> Address:
        self.roles.append(role)
        return self.attach_inbox(actor, role.machine.receive)

    def attach_inbox(self, actor: int, receive: Callable[[Envelope, float], None]) -> Address:
        self.actors[actor] = receive
        return Address(self.epoch, actor)

    def remove(self, actor: int, role: Any) -> None:
        self.roles.remove(role)
        del self.actors[actor]

    def send(self, envelope: Envelope) -> None:
        self.router.send(envelope, self.world.now)
        if self.router.has_outgoing:
            self._transmit()
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
        now = self.world.now
        self._settle(now)
        self.router.flush(now)
        self._transmit()

    def forget_later(self, epoch: int, seconds: float) -> None:
        def forget() -> None:
            if not self.lives(epoch) and not self.router.is_linked(epoch):
                self.router.forget(epoch, self.world.now)

        self.later(seconds, forget)

    # --- links

    def dial(self) -> None:
        """One attempt to have the uplink; more follow."""
        target = self.uplink
        if target is None or any(
            end.dialled and end.is_open and not end.is_lane for end in self.links.values()
        ):
            return
        if not target.is_alive or not self.world.is_up(self, target):  # type: ignore[arg-type]
            self._dial_again()
            return
        self._link_to(target, uplink=True)

    def open_lane(self, epoch: int) -> None:
        """host/run_server.py: a link of a server's own to its client, where both are on one host."""
        target = self.world.processes[epoch]
        if target.is_alive and target.epoch == epoch:
            self._link_to(target, uplink=False)

    def _link_to(self, target: Process, *, uplink: bool) -> None:
        cable = Cable(self.world, self, target, self._delay())
        self.world.cables.append(cable)
        end = cable.ends[0]
        for side in cable.ends:
            side.is_lane = not uplink
        self._take_link(end)
        one_host = self.world.is_one_host
        self.router.link_up(end.number, self.world.now, dialled=True, uplink=uplink, witnessed=one_host)
        self.turn_soon()

    def _delay(self) -> float:
        return 0.0005 + self.world.dice.random() * self.world.dice.choice((0.001, 0.02))

    def _dial_again(self) -> None:
        if self.keeps_uplink:
            self.later(0.05 + self.world.dice.random() * 0.4, self.dial)

    def _take_link(self, end: End) -> None:
        self._link_count += 1
        end.number = self._link_count
        self.links[end.number] = end

    def _drop_link(self, end: End) -> None:
        self.links.pop(end.number, None)
        end.cable.close(end)
        if end.is_lane:
            if end.dialled:
                self.later(0.05 + self.world.dice.random(), self.lane_lost)
        elif end.dialled:
            self.uplink_lost()
            self._dial_again()

    def uplink_lost(self) -> None:
        """Dialler.on_lost."""

    def lane_lost(self) -> None:
        """Its dialler tries again."""

    def arrived(self, end: End, frames: list[bytes] | None) -> None:
        """The kernel has it; it is read in the next turn. None: the connection is gone."""
        if self.is_alive and end.life == self.life:
            self.inbox.append((end, frames))
            self.turn_soon()

    # --- the turn

    def turn(self) -> None:
        self._turn_at = None
        now = self.world.now
        self._pump(now)
        due = self.router.deadline()
        if due is not None and due <= now:
            self.router.wake(now)
        worked = False
        for role in list(self.roles):
            due = role.machine.deadline()
            if due is not None and due <= now:
                role.machine.wake(now)
                worked = True
        if self._settle(now) or worked:
            for role in self.roles:
                self._check(role.machine)
        self.router.flush(now)
        self._transmit()
        self._arm(now)
        self.run_deferred()

    def run_deferred(self) -> None:
        for _ in range(len(self.deferred)):
            self.deferred.popleft()()
        if self.deferred:
            self.turn_soon()

    def _check(self, machine: Any) -> None:
        """What must hold between two turns."""
        try:
            machine.check()
        except AssertionError as error:
            self.world.wrong(f"{self.name}: {type(machine).__name__}.check(): {error!r}")

    def _pump(self, now: float) -> None:
        inbox, self.inbox = self.inbox, []
        for end, frames in inbox:
            if not end.is_open:
                continue
            if frames is None:
                self.router.link_down(end.number, now)
                self._drop_link(end)
                continue
            if not end.number:
                self._take_link(end)
                role = end.other.owner.role
                proven = None if role == "server" else role  # ipc proves none
                one_host = self.world.is_one_host
                self.router.link_up(end.number, now, dialled=False, role=proven, witnessed=one_host)
            self.router.receive(end.number, frames, now)

    def _settle(self, now: float) -> bool:
        """True if there was anything for the machines."""
        router = self.router
        for n in range(ROUNDS_MAX):
            events, deliveries = router.take_events(), router.take_deliveries()
            for event in events:
                self._on_event(event, now)
            for envelope in deliveries:
                if self.world.diary is not None:
                    self._note_delivery(envelope)
                receive = self.actors.get(envelope.to.actor)
                if receive is not None:
                    receive(envelope, now)
                else:
                    self._undeliverable(envelope)
            worked = bool(events or deliveries)
            for role in list(self.roles):
                for effect in role.machine.drain():
                    worked = True
                    if type(effect) is Send:
                        router.send(effect.envelope, now)
                    elif type(effect) is Log:
                        self.note(f"says: {effect.text}")
                    else:
                        role.carry_out(effect, now)
            if not worked:
                return n > 0
        self.turn_soon()
        return True

    def _note_delivery(self, envelope: Envelope) -> None:
        self.note(f"<- {self.world.name_of(envelope.sender.epoch)}/{envelope.sender.actor} to {envelope.to.actor}: "
                  f"{envelope.message}"[:230])  # fmt: skip

    def fallback(self, envelope: Envelope) -> bool:
        return False

    def _undeliverable(self, envelope: Envelope) -> None:
        if self.fallback(envelope):
            return
        message = envelope.message
        reply: messages.Message | None = None
        if isinstance(message, messages.Tell) and envelope.correlation:
            reply = messages.Delivered(0)
        elif isinstance(message, messages.Ask):
            reply = messages.Reply(ok=False)
        if reply is not None:
            self.router.send(
                Envelope(envelope.sender, envelope.to, reply, envelope.correlation), self.world.now
            )

    def _on_event(self, event: Event, now: float) -> None:
        if isinstance(event, CloseLink | LinkRefused):
            self.router.link_down(event.link, now)
            end = self.links.get(event.link)
            if end is not None:
                self.note(f"closes its link to {end.other.owner.name}: {event.reason}")
                self._drop_link(end)
        elif isinstance(event, LinkLost):
            self.note(f"has no link to {self.world.name_of(event.epoch)} any more")
            seconds = outlasts(self.role, self.neighbours.pop(event.epoch, ""))
            if seconds is not None:
                self.forget_later(event.epoch, self.world.patience(seconds))
        elif isinstance(event, LinkReady):
            self.neighbours[event.epoch] = event.role
            self.note(f"has a link to {self.world.name_of(event.epoch)}")
            if self.world.is_one_host and event.role != "server":
                self.watched[event.epoch] = event.link
        for role in list(self.roles):
            role.on_event(event, now)

    def on_death(self, epoch: int) -> None:
        """Runtime._on_death: of a process that is linked by ipc."""
        link = self.watched.pop(epoch, None)
        if link is None or not self.is_alive:
            return
        self.note(f"sees the end of {self.world.name_of(epoch)}")
        end = self.links.get(link)
        if end is not None:
            end.cable.hurry(end)
        self.turn()
        now = self.world.now
        self.router.link_down(link, now)
        end = self.links.get(link)
        if end is not None:
            self._drop_link(end)
        for event in self.router.take_events():
            self._on_event(event, now)
        self._on_event(PeerReset(epoch, self.router.bury(epoch, now)), now)
        self.turn_soon()

    def _transmit(self) -> None:
        router = self.router
        for _ in range(ROUNDS_MAX):
            for link, frames, _ in router.take_outgoing():
                end = self.links.get(link)
                if end is None:
                    continue
                if end.cable.send(end, frames):
                    router.link_drained(link, sum(map(size_of, frames)))
                else:
                    router.link_down(link, self.world.now)
                    self._drop_link(end)
                    self.turn_soon()
            if not router.is_dirty:
                return
            router.flush(self.world.now)
        self.turn_soon()

    def _arm(self, now: float) -> None:
        due = self.router.deadline()
        for role in self.roles:
            other = role.machine.deadline()
            if other is not None and (due is None or other < due):
                due = other
        if due is None or (self._wake_at is not None and self._wake_at <= due):
            return
        self._wake_at = due = max(due, now)

        def wake() -> None:
            if self._wake_at == due:  # else an earlier one was set since
                self._wake_at = None
                self.turn()

        self.later(due - now + 1e-9, wake)
