"""What a client's body does within a turn, with a runtime that only notes: links, effects, and answers to servers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import nullcontext
from typing import Any, cast

import pytest

from dispycos.actors.client_role import SCHEDULER_GONE_AFTER, STARTED_ANEW, ClientRole
from dispycos.actors.effects import Failed, Forget, Freed, Give, Resolve, Room, Say
from dispycos.actors.ledger import Ledger
from dispycos.actors.record import Record
from dispycos.links import LinkLost, LinkReady
from dispycos.machine import Send
from dispycos.protocol import messages
from dispycos.protocol.addresses import CLIENT, NODE, SCHEDULER, SERVER, Address
from dispycos.protocol.envelope import Envelope
from dispycos.protocol.messages import TaskId
from dispycos.protocol.status import OutcomeKind, Status
from dispycos.runtime import Runtime
from dispycos.session import PeerReset

ME = Address(7, CLIENT)
BROKER = Address(5, SCHEDULER)
ENLIST = messages.Enlist(messages.ClientInfo("c", "h", 1, (3, 11)), [], 50.0)


class Desk(ClientRole):
    """A body, its runtime, its loop, router and host in one: all of them only note."""

    def __init__(self) -> None:
        super().__init__(cast(Runtime, self), self, Ledger(ME))
        self.loop = self.router = self
        self.lock = nullcontext()
        self.deferred: list[Callable[[], None]] = []
        self.timers: list[tuple[float, Callable[[], None]]] = []
        self.gone: list[tuple[int, list[str]]] = []
        self.lost: list[int] = []
        self.told: list[object] = []
        self.heard: list[Record] = []
        self.sent: list[Envelope] = []
        self.watched: list[tuple[int, int]] = []
        self.linked = False
        self.living = False
        self.unknown: list[int] = []  # servers that nobody told of
        self.ledger.enlist(BROKER, ENLIST, 0.0)
        self.ledger.drain()

    def neighbours(self, role: str) -> list[int]:
        return self.unknown

    def run(self) -> None:
        """The loop has its turn, and what the ledger wants is done."""
        for effect in self.ledger.drain():
            if isinstance(effect, Send):
                self.sent.append(effect.envelope)
            else:
                self.carry_out(effect, 0.0)
        deferred, self.deferred = self.deferred, []
        for call in deferred:
            call()

    def watch_nearby(self, epoch: int, link: int) -> None:
        self.watched.append((epoch, link))

    def forget_nearby(self, epoch: int) -> None:
        self.watched = [(watched, link) for watched, link in self.watched if watched != epoch]

    # --- runtime, loop, router ---

    def defer(self, call: Callable[[], None]) -> None:
        self.deferred.append(call)

    def turn_soon(self) -> None:
        """Tests say when."""

    def lives(self, epoch: int) -> bool:
        return self.living

    def is_linked(self, epoch: int) -> bool:
        return self.linked

    def call_later(self, delay: float, call: Callable[[], None]) -> object:
        self.timers.append((delay, call))
        return call

    def bury(self, epoch: int, now: float) -> list[str]:
        return [f"unconfirmed by {epoch}"]

    def send(self, envelope: Envelope, now: float) -> None:
        self.sent.append(envelope)

    # --- host and body ---

    def peer_gone(self, epoch: int, unconfirmed: Iterable[Any]) -> None:
        self.gone.append((epoch, list(unconfirmed)))

    def record_lost(self, number: int) -> None:
        self.lost.append(number)

    def resolved(self, record: Record) -> None:
        self.heard.append(record)

    def began(self, record: Record) -> None:
        self.heard.append(record)

    def code_for(self, request: Any) -> Any:
        return "", b"code"

    def tell(self, effect: object) -> None:
        self.told.append(effect)


@pytest.fixture
def desk() -> Desk:
    return Desk()


def ready(epoch: int, role: str) -> LinkReady:
    return LinkReady(1, epoch, cast(Any, None), role)


def test_a_scheduler_that_forgot_us_is_lost(desk: Desk) -> None:
    desk.on_event(PeerReset(5, []), 0.0)
    desk.run()
    assert desk.gone == [(5, [])] and desk.told == [Failed(STARTED_ANEW), Freed(STARTED_ANEW)]
    assert desk.is_freed


def test_another_peer_that_was_reset_is_only_gone(desk: Desk) -> None:
    desk.on_event(PeerReset(33, []), 0.0)
    desk.run()
    assert desk.gone == [(33, [])] and desk.told == []


def test_a_server_whose_session_began_anew_is_killed_by_its_node(desk: Desk) -> None:
    """Nobody knows any more what it was told and what it said."""
    box = messages.NodeInfo("box", "10.0.0.5", 9700, 1, "Linux", (3, 11), 900)
    spot = messages.Spot("10.0.0.5", 9701, 33, "box/server-1")
    for word in (
        messages.NodeNews(Status.NodeInitialized, box),
        messages.ServerNews(Status.ServerInitialized, spot, "box", node_epoch=900),
    ):
        desk.ledger.receive(Envelope(ME, BROKER, word), 0.0)
    desk.on_event(PeerReset(33, []), 0.0)
    desk.run()
    assert desk.gone == [(33, [])]
    assert desk.sent == [Envelope(Address(900, NODE), ME, messages.Kill(33))]


def test_another_scheduler_at_its_place_means_that_ours_is_lost(desk: Desk) -> None:
    desk.on_event(ready(33, "server"), 0.0)
    desk.on_event(ready(5, "scheduler"), 0.0)
    desk.run()
    assert desk.told == []
    desk.on_event(ready(6, "scheduler"), 0.0)
    desk.run()
    assert desk.told == [Failed(STARTED_ANEW), Freed(STARTED_ANEW)]


def test_a_broken_link_to_the_scheduler_is_waited_for_once_and_then_given_up(desk: Desk) -> None:
    for epoch in (33, 5, 5):
        desk.on_event(LinkLost(1, epoch), 0.0)
    desk.run()
    ((delay, give_up),) = desk.timers
    assert delay == SCHEDULER_GONE_AFTER
    give_up()
    desk.run()
    assert desk.told == [
        Failed("no link to the scheduler for 10 s"),
        Freed("no link to the scheduler for 10 s"),
    ]
    assert desk.sent == [Envelope(BROKER, ME, messages.Release())]


def test_a_scheduler_of_this_host_that_lives_is_waited_for_however_long(desk: Desk) -> None:
    desk.living = True
    desk.on_event(LinkLost(1, 5), 0.0)
    desk.run()
    for _ in range(10):
        ((_, give_up),) = desk.timers
        desk.timers.clear()
        give_up()
        desk.run()
    assert desk.told == []
    desk.living = False
    desk.timers.pop()[1]()
    desk.run()
    assert desk.told[0] == Failed("no link to the scheduler for 10 s")


def test_a_scheduler_that_was_given_up_may_say_later_that_the_lease_has_ended(desk: Desk) -> None:
    desk._give_up()
    desk.run()
    over, desk.told = desk.ledger.over, []
    desk.ledger.receive(Envelope(ME, BROKER, messages.Released("nothing was heard of it for 10 s")), 20.0)
    desk.run()
    assert not [word for word in desk.told if isinstance(word, Say)]
    assert desk.ledger.over == over == "no link to the scheduler for 10 s"


def test_a_link_that_came_back_costs_nothing(desk: Desk) -> None:
    desk.on_event(LinkLost(1, 5), 0.0)
    desk.run()
    desk.linked = True
    desk.timers[0][1]()
    desk.run()
    assert desk.told == [] and not desk.is_freed


def test_who_is_freed_loses_nothing_more(desk: Desk) -> None:
    desk.carry_out(Freed(""), 0.0)
    desk.lose("gone")
    desk.on_event(LinkLost(1, 5), 0.0)
    desk.on_event(ready(6, "scheduler"), 0.0)
    desk.run()
    assert desk.told == [Freed("")] and desk.timers == []


def test_who_is_freed_buries_the_servers_of_whom_nobody_told(desk: Desk) -> None:
    desk.unknown = [44]
    desk.carry_out(Freed(""), 0.0)
    assert desk.gone == [(44, ["unconfirmed by 44"])]


def test_the_dead_are_buried_and_nobody_waits_for_them(desk: Desk) -> None:
    desk.on_event(ready(33, "server"), 0.0)
    desk.on_event(ready(34, "server"), 0.0)
    desk.on_event(ready(5, "scheduler"), 0.0)
    assert [epoch for epoch, _ in desk.watched] == [33, 34]
    desk.carry_out(Forget(33), 0.0)
    assert [epoch for epoch, _ in desk.watched] == [34]
    assert desk.gone == [(33, ["unconfirmed by 33"])]


def test_news_waits_for_the_loop(desk: Desk) -> None:
    desk.carry_out(Say("words"), 0.0)
    desk.carry_out(Room(), 0.0)
    assert desk.told == []
    desk.run()
    assert desk.told == [Say("words"), Room()]


def test_of_a_lost_task_nobody_expects_an_answer(desk: Desk) -> None:
    record = Record(TaskId(7, 16), "compute", b"call")
    record.outcome = OutcomeKind.LOST
    desk.carry_out(Resolve(record), 0.0)
    desk.run()
    assert desk.heard == [record] and desk.lost == [16]


def test_a_server_gets_the_call_that_it_fetches_or_hears_that_the_task_has_ended(desk: Desk) -> None:
    record = Record(TaskId(7, 16), "compute", [b"a large call"])
    desk.ledger.submit(record)
    for number in (16, 17):
        wanted = messages.CallWanted(TaskId(7, number))
        desk.carry_out(Give(Envelope(ME, Address(33, SERVER), wanted, number)), 0.0)
    assert desk.sent == [
        Envelope(Address(33, SERVER), ME, messages.CallGiven(""), 16, [b"a large call"]),
        Envelope(Address(33, SERVER), ME, messages.CallGiven("the task has ended"), 17, None),
    ]


def test_a_server_gets_the_code_that_it_asks_for(desk: Desk) -> None:
    desk.carry_out(Give(Envelope(ME, Address(33, SERVER), messages.CodeWanted(), 4)), 0.0)
    assert desk.sent == [Envelope(Address(33, SERVER), ME, messages.CodeGiven(""), 4, b"code")]


def test_an_effect_that_nobody_knows_is_an_error(desk: Desk) -> None:
    with pytest.raises(TypeError, match="no such effect"):
        desk.carry_out(object(), 0.0)
