"""The turn without a clock or a socket: what it reads, whom it wakes, which links it drops, and what it leaves for later."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from dispycos.machine import Send
from dispycos.protocol import messages, watching
from dispycos.protocol.addresses import Address
from dispycos.protocol.codec import Codec
from dispycos.protocol.envelope import About, Buffer, Envelope
from dispycos.session.links import LinkLost, LinkReady
from dispycos.session.router import Event, Router
from dispycos.session.session import PeerReset
from dispycos.turns import FORGET_S, Turns

CODEC: Codec[Any] = Codec(watching.Word)
ROLE_ACTOR = 7
LINK = 1  # the only one, at either end


class Owner:
    """A dialler that only notes."""

    uplink = True
    wanted = 0
    foreign_key: bytes | None = None
    is_proven = False

    def __init__(self) -> None:
        self.heard: list[tuple[Any, ...]] = []

    def connected(self, link: int) -> None:
        self.heard.append(("connected", link))

    def link_ready(self, link: int, epoch: int) -> None:
        self.heard.append(("ready", link, epoch))

    def link_down(self, link: int, reason: str, *, refused: bool) -> None:
        self.heard.append(("down", link, refused))


class Role:
    """A role and its machine, which does nothing by itself."""

    def __init__(self) -> None:
        self.machine = self
        self.due: float | None = None
        self.woken: list[float] = []
        self.events: list[type[Event]] = []
        self.got: list[str] = []
        self.effects: list[object] = []
        self.carried: list[object] = []
        self.on_carry: Callable[[], None] = lambda: None

    def receive(self, envelope: Envelope, now: float) -> None:
        self.got.append(envelope.message.text)

    def wake(self, now: float) -> None:
        self.woken.append(now)
        self.due = None

    def deadline(self) -> float | None:
        return self.due

    def drain(self) -> list[object]:
        effects, self.effects = self.effects, []
        return effects

    def carry_out(self, effect: object, now: float) -> None:
        self.carried.append(effect)
        self.on_carry()

    def on_event(self, event: Event, now: float) -> None:
        self.events.append(type(event))


class Witness:
    """It sees all processes that have a pid."""

    def __init__(self) -> None:
        self.watched: dict[int, Callable[[], None]] = {}

    def can_watch(self, pid: int) -> bool:
        return pid > 0

    def watch(self, epoch: int, pid: int, on_death: Callable[[], None]) -> None:
        self.watched[epoch] = on_death

    def lives(self, epoch: int) -> bool:
        return epoch in self.watched

    def forget(self, epoch: int) -> None:
        self.watched.pop(epoch, None)


class Desk(Turns):
    """A body and its mailbox in one: a link to another desk, and what is deferred waits to be run."""

    def __init__(self, epoch: int, role: str) -> None:
        about = About((1, 1), "0.1", role)
        super().__init__(Router(CODEC, epoch, about, role))
        self.mailbox = self
        self.witness: Any = Witness()
        self.other: Desk
        self.arrived: list[list[bytes]] = []
        self.reads_max = 100
        self.takes = True  # what is sent
        self.closed: list[int] = []
        self.deferred: list[Callable[[], None]] = []
        self.pids = 0
        self.is_due = False
        self.here = Role()
        self.attach(ROLE_ACTOR, self.here)

    def defer(self, call: Callable[[], None]) -> None:
        self.deferred.append(call)

    def turn_soon(self) -> None:
        self.is_due = True

    def run_deferred(self) -> None:
        calls, self.deferred = self.deferred, []
        for call in calls:
            call()

    def note(self, text: str) -> None:
        """Something for the other desk."""
        self.put(Envelope(self.other.address(ROLE_ACTOR), self.address(ROLE_ACTOR), messages.Notice(text)))

    # --- mailbox, witness

    @property
    def has_more(self) -> bool:
        return bool(self.arrived)

    def pump(self, *, whole: bool) -> None:
        count = len(self.arrived) if whole else self.reads_max
        taken, self.arrived = self.arrived[:count], self.arrived[count:]
        for frames in taken:
            self.on_message(LINK, frames)

    def send(self, link: int, frames: Sequence[Buffer]) -> bool:
        if self.takes:
            self.other.arrived.append([bytes(frame) for frame in frames])
        return self.takes

    def after_sends(self) -> None:
        """No edge to lose."""

    def dial(self, endpoint: str, *, role: str, foreign_key: bytes | None) -> int:
        return LINK

    def close_link(self, link: int) -> None:
        self.closed.append(link)

    def pid_of(self, link: int) -> int:
        return self.pids

    def tells_end(self, link: int) -> bool:
        return False

    def on_death(self, link: int, epoch: int) -> None:
        self.peer_died(link, epoch, self._now)


def linked(now: float = 0.0, pid: int = 4711) -> tuple[Desk, Desk, Owner]:
    """A client that dialled a scheduler, and whose dialler that was."""
    client, scheduler, owner = Desk(2, "client"), Desk(4, "scheduler"), Owner()
    client.other, scheduler.other = scheduler, client
    scheduler.pids = pid
    client.open_link("there", owner)
    client.on_link_up(LINK, dialled=True, role=None)
    client.run_deferred()
    client.greet(LINK)
    scheduler.on_link_up(LINK, dialled=False, role=None)
    talk(client, scheduler, now)
    client.run_deferred()
    scheduler.run_deferred()
    assert owner.heard == [("connected", LINK), ("ready", LINK, 4)]
    return client, scheduler, owner


def talk(client: Desk, scheduler: Desk, now: float) -> None:
    for _ in range(6):
        client.take_turn(now)
        scheduler.take_turn(now)


def test_what_one_sends_the_other_gets_in_one_turn_of_each() -> None:
    client, scheduler, _ = linked()
    client.note("first")
    talk(client, scheduler, 0.0)  # their sessions have met
    client.note("second")
    client.take_turn(0.0)
    scheduler.take_turn(0.0)
    assert scheduler.here.got == ["first", "second"]


def test_what_a_machine_says_while_its_effect_is_carried_out_leaves_with_the_same_turn() -> None:
    """A server's body gives an io task its address, and the machine tells the client of it."""
    here, there, _ = linked()
    here.note("hello")
    talk(here, there, 0.0)  # their sessions have met

    def answer() -> None:
        here.here.on_carry = lambda: None
        word = Envelope(there.address(ROLE_ACTOR), here.address(ROLE_ACTOR), messages.Notice("placed"))
        here.here.effects += [Send(word), "work"]

    here.here.on_carry = answer
    here.here.effects = ["place"]
    here.take_turn(0.0)
    there.take_turn(0.0)
    assert here.here.carried == ["place", "work"]
    assert there.here.got == ["hello", "placed"]


def test_what_does_not_hold_after_a_turn_is_said_and_the_turn_is_whole() -> None:
    client, scheduler, _ = linked()
    said: list[tuple[str, str]] = []
    client.say = lambda level, text: said.append((level, text))

    def check() -> None:
        if client.here.got:
            raise AssertionError("it got something")

    client.checks = [check, client.router.check]
    scheduler.note("hello")
    talk(client, scheduler, 0.0)
    assert client.here.got == ["hello"]
    assert set(said) == {("error", "what must hold after a turn does not: it got something")}


def test_a_link_that_takes_nothing_more_is_read_empty_and_only_then_dropped() -> None:
    client, scheduler, _ = linked()
    client.note("hello")
    talk(client, scheduler, 0.0)
    for number in range(3):
        client.note(f"{number}")
        client.take_turn(0.0)
    scheduler.takes, scheduler.reads_max = False, 1
    scheduler.note("answer")
    scheduler.push_out(0.0)
    for _ in range(2):
        scheduler.take_turn(0.0)
        assert scheduler.closed == [] and scheduler.is_due
    scheduler.take_turn(0.0)
    assert scheduler.here.got == ["hello", "0", "1", "2"]
    assert scheduler.closed == [LINK] and not scheduler.is_linked(client.epoch)


def test_of_a_link_that_takes_nothing_more_its_dialler_hears_though_the_mailbox_never_says_so() -> None:
    """Else nobody dials again: the mailbox tells nothing of a link that was closed."""
    client, _, owner = linked()
    client.takes = False
    client.note("into the void")
    client.push_out(0.0)
    assert client.is_due
    client.take_turn(0.0)
    assert owner.heard == [("connected", LINK), ("ready", LINK, 4)]  # not inside a turn
    client.run_deferred()
    assert owner.heard[2:] == [("down", LINK, False)]
    assert client.closed == [LINK]


def test_a_turn_is_due_at_the_earliest_deadline_and_nobody_is_woken_before() -> None:
    client, scheduler, _ = linked()
    second = Role()
    client.attach(8, second)
    talk(client, scheduler, 0.1)
    client.here.due, second.due = 1.0, 0.5
    client.take_turn(0.1)
    assert client.due is not None and client.due <= 0.5
    client.take_turn(0.4)
    assert client.here.woken == second.woken == []
    client.take_turn(0.5)
    assert (client.here.woken, second.woken) == ([], [0.5])
    client.take_turn(2.0)
    assert client.here.woken == [2.0]


def test_who_is_woken_late_knows_all_that_came_before() -> None:
    """Else a client that computes for a second takes for stuck what has ended meanwhile, and asks back what waits there."""
    client, scheduler, _ = linked()
    client.note("hello")
    talk(client, scheduler, 0.0)  # their sessions have met
    for number in range(3):
        client.note(f"{number}")
        client.take_turn(0.0)
    known: list[list[str]] = []
    scheduler.here.wake = lambda now: known.append(list(scheduler.here.got))  # type: ignore[method-assign]
    scheduler.here.due, scheduler.reads_max = 1.0, 1
    scheduler.push_out(0.0)
    scheduler.take_turn(2.0)
    assert known == [["hello", "0", "1", "2"]]


def test_who_is_woken_in_time_knows_what_was_read_in_that_turn() -> None:
    client, scheduler, _ = linked()
    client.note("hello")
    talk(client, scheduler, 0.0)  # their sessions have met
    client.note("again")
    client.take_turn(0.0)
    known: list[list[str]] = []
    scheduler.here.wake = lambda now: known.append(list(scheduler.here.got))  # type: ignore[method-assign]
    scheduler.here.due = 1.0
    scheduler.push_out(0.0)
    scheduler.take_turn(1.0)
    assert known == [["hello", "again"]]


def test_a_session_without_a_link_is_forgotten_in_time() -> None:
    client, scheduler, _ = linked(pid=0)
    scheduler.note("unconfirmed")
    scheduler.on_link_down(LINK, "gone", refused=False)
    scheduler.take_turn(1.0)
    assert scheduler.router.busy_peers() == [client.epoch]
    scheduler.take_turn(1.0 + FORGET_S - 0.1)
    assert scheduler.router.busy_peers() == [client.epoch]
    assert scheduler.due is not None and scheduler.due <= 1.0 + FORGET_S
    scheduler.take_turn(1.0 + FORGET_S)
    assert scheduler.router.busy_peers() == []


def test_a_session_with_a_process_that_is_known_to_live_is_kept_without_a_link() -> None:
    client, scheduler, _ = linked()
    assert list(scheduler.witness.watched) == [client.epoch]
    scheduler.note("unconfirmed")
    scheduler.on_link_down(LINK, "gone", refused=False)
    scheduler.take_turn(1.0)
    scheduler.take_turn(1.0 + FORGET_S)
    assert scheduler.router.busy_peers() == [client.epoch]


def test_a_session_whose_link_is_back_is_kept() -> None:
    client, scheduler, _ = linked()
    scheduler.note("kept")
    scheduler.forget_later(client.epoch, 5.0)
    scheduler.takes = False
    scheduler.router.flush(0.0)
    scheduler._wake(6.0)
    assert scheduler.router.busy_peers() == [client.epoch]


def test_a_session_that_is_kept_is_not_forgotten_until_that_is_asked_for_again() -> None:
    client, scheduler, _ = linked()
    scheduler.witness.watched.clear()
    scheduler.note("unconfirmed")
    scheduler.on_link_down(LINK, "gone", refused=False)
    scheduler.take_turn(1.0)
    scheduler.keep(client.epoch)
    scheduler.take_turn(1.0 + FORGET_S)
    assert scheduler.router.busy_peers() == [client.epoch]
    scheduler.forget_later(client.epoch, 5.0)
    scheduler.take_turn(10.0 + FORGET_S)
    assert scheduler.router.busy_peers() == []


def test_of_a_dead_process_the_end_of_its_link_is_told_then_its_own() -> None:
    client, scheduler, _ = linked()
    scheduler.witness.watched[client.epoch]()
    assert scheduler.here.events == [LinkReady, LinkLost, PeerReset]
    assert scheduler.closed == [LINK]
    scheduler.put(Envelope(Address(client.epoch, 7), scheduler.address(7), messages.Notice("late")))
    scheduler.take_turn(0.0)
    assert scheduler.here.events[3:] == [PeerReset]  # it comes back at once
