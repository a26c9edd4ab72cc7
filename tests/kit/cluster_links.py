"""What is between the processes of the simulated cluster: connections as TCP and ipc have them, and the kernel's word of the dead.

A connection keeps its order; when it breaks, a part of what was on its way still arrives, and nothing after the first that does
not.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

from dispycos.protocol.envelope import Buffer
from dispycos.turns import FORGET_NODE_S, FORGET_S

from .cluster_leases import Referee
from .network import Host, World

if TYPE_CHECKING:
    from .cluster_runtime import Process

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
        self.referee = Referee(self)
        self.listeners: dict[str, Process] = {}  # by endpoint
        self.walls: set[frozenset[str]] = set()  # who can never connect: a firewall, or NAT
        self.gate: list[Process] = []  # nodes behind one address, at which one or the other answers

    def is_up(self, one: Host, other: Host) -> bool:
        return super().is_up(one, other) and frozenset((one.name, other.name)) not in self.walls

    def listener(self, endpoint: str) -> Process:
        """Who answers there now."""
        if not endpoint.startswith("gate://"):
            return self.listeners[endpoint]
        return self.dice.choice([node for node in self.gate if node.is_alive] or self.gate)

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
        self.deaf: End | None = None  # nothing comes to this end any more, and nobody is told
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
        if self.is_cut or self.deaf is source.other:
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
        target = world.listener(endpoint)
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

    def pump(self, *, whole: bool) -> None:
        inbox = self._inbox
        count = len(inbox) if whole else READ_MAX
        if self._owner.role == "client":  # transport.Mailbox.listeners_first
            inbox.sort(key=lambda item: item[0].dialled)
        taken, self._inbox = inbox[:count], inbox[count:]
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
            is_wanted = link not in self._owner.unwanted
            if is_wanted and any(unread is end and isinstance(what, list) for unread, what in self._inbox):
                self._owner.world.wrong(
                    f"{self._owner.name} closes a link without reading all that came by it"
                )
            end.cable.close(end)

    def pid_of(self, link: int) -> int:
        end = self.links.get(link)
        if end is None or not self._owner.world.is_one_host:
            return 0
        return end.other.owner.epoch

    def tells_end(self, link: int) -> bool:
        end = self.links.get(link)
        return end is not None and end.cable.is_ipc and end.dialled

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

    def can_watch(self, pid: int) -> bool:
        return bool(pid)

    def lives(self, epoch: int) -> bool:
        return epoch in self._watched

    def ended(self, epoch: int) -> None:
        if epoch in self._watched:
            self._owner.call_later(LATENCY_S, self._tell, epoch)

    def _tell(self, epoch: int) -> None:
        on_death = self._watched.pop(epoch, None)
        if on_death is not None:
            on_death()
