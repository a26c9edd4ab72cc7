"""What a client's body does within a turn, with a runtime that only notes: links, effects, and answers to servers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest

from dispycos.actors.client.effects import (
    Bury,
    Forward,
    Freed,
    GiveCode,
    GiveSetup,
    Resolve,
    Room,
    Say,
)
from dispycos.actors.client.ledger import Ledger
from dispycos.actors.client.turn import ClientRole
from dispycos.actors.dispatching.facts import Entry
from dispycos.machine import Send
from dispycos.notices import PATIENCE_S
from dispycos.protocol import messages
from dispycos.protocol.addresses import CLIENT, NODE, SCHEDULER, SERVER, Address
from dispycos.protocol.envelope import Envelope
from dispycos.protocol.messages import TaskId
from dispycos.protocol.status import OutcomeKind, Status
from dispycos.runtime import Runtime
from dispycos.session.links import LinkLost, LinkReady
from dispycos.session.session import PeerDistance, PeerReset

ME = Address(7, CLIENT)
BROKER = Address(5, SCHEDULER)
ENLIST = messages.Enlist(messages.ClientInfo("c", "h", 1, (3, 11)), [], 50.0)


class Dialler:
    def __init__(self, stop: Callable[[], object]) -> None:
        self.stop = stop


class Desk(ClientRole):
    """A body, its runtime, its loop, router and host in one: all of them only note."""

    def __init__(self) -> None:
        super().__init__(cast(Runtime, self), self, Ledger(ME))
        self.loop = self.router = self
        self.lock = nullcontext()
        self.deferred: list[Callable[[], None]] = []
        self.gone: list[tuple[int, list[Any]]] = []
        self.lost: list[int] = []
        self.relayed: list[tuple[Entry, Envelope]] = []
        self.ended: list[Entry] = []
        self.told: list[object] = []
        self.heard: list[Entry] = []
        self.sent: list[Envelope] = []
        self.watched: list[tuple[int, int]] = []
        self.linked = False
        self.unknown: list[int] = []  # servers that nobody told of
        self.buried: set[int] = set()
        self.kept: set[int] = set()  # sessions
        self.dialled: dict[int, list[str]] = {}  # links that are held, by epoch
        self.forwarded: list[Envelope] = []
        self.homes = {5}  # the tasks for whose home a message is taken
        self.ledger.standing.enlist(BROKER, ENLIST, 0.0)
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

    def is_linked(self, epoch: int) -> bool:
        return self.linked

    def is_buried(self, epoch: int) -> bool:
        return epoch in self.buried

    def keep(self, epoch: int) -> None:
        self.kept.add(epoch)

    def forget_later(self, epoch: int, seconds: float) -> None:
        self.kept.discard(epoch)

    def dial(self, endpoints: list[str], *, wanted: int) -> Dialler:
        self.dialled[wanted] = endpoints
        return Dialler(partial(self.dialled.pop, wanted))

    def bury(self, epoch: int, now: float) -> list[str]:
        return [f"unconfirmed by {epoch}"]

    def send(self, envelope: Envelope, now: float) -> None:
        self.sent.append(envelope)

    # --- host and body ---

    def peer_gone(self, epoch: int, unconfirmed: Iterable[Any]) -> None:
        self.gone.append((epoch, list(unconfirmed)))

    def relay(self, record: Entry, envelope: Envelope) -> None:
        self.relayed.append((record, envelope))

    def has_ended(self, record: Entry) -> None:
        self.ended.append(record)

    def record_lost(self, number: int) -> None:
        self.lost.append(number)

    def take_number(self) -> int:
        return 17

    def forward(self, envelope: Envelope) -> bool:
        self.forwarded.append(envelope)
        return envelope.to.actor in self.homes

    def resolved(self, record: Entry) -> None:
        self.heard.append(record)

    def began(self, record: Entry) -> None:
        self.heard.append(record)

    def code_for(self, request: Any) -> Any:
        return "", b"code"

    def setup_for(self, effect: GiveSetup) -> Any:
        return "", [b"setup", effect.call]

    def tell(self, effect: object) -> None:
        self.told.append(effect)


@pytest.fixture
def desk() -> Desk:
    return Desk()


def ready(epoch: int, role: str) -> LinkReady:
    return LinkReady(1, epoch, role)


def test_a_scheduler_that_forgot_us_is_told_all_again_when_it_is_back(desk: Desk) -> None:
    desk.on_event(PeerReset(5, []), 0.0)
    desk.run()
    assert desk.gone == [(5, [])] and desk.told == desk.sent == []
    desk.on_event(ready(5, "scheduler"), 1.0)
    desk.run()
    assert desk.sent == [Envelope(BROKER, ME, ENLIST)]


def test_what_was_on_its_way_to_tasks_that_are_ended_is_no_news(desk: Desk) -> None:
    told, asked = Envelope(ME, ME, messages.Tell()), Envelope(ME, ME, messages.Tell(), 7)
    desk.on_event(PeerReset(33, [told, asked]), 0.0)
    desk.ledger.is_terminating = True
    desk.on_event(PeerReset(34, [told, asked]), 0.0)
    assert desk.gone == [(33, [told, asked]), (34, [asked])]


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
        messages.ServerNews(Status.ServerInitialized, spot, 900),
    ):
        desk.ledger.receive(Envelope(ME, BROKER, word), 0.0)
    desk.on_event(PeerReset(33, []), 0.0)
    desk.run()
    assert desk.gone == [(33, [])]
    assert desk.sent == [Envelope(Address(900, NODE), ME, messages.Kill(33))]


def test_a_scheduler_that_was_started_anew_is_told_all(desk: Desk) -> None:
    desk.on_event(ready(33, "server"), 0.0)
    desk.on_event(ready(5, "scheduler"), 0.0)
    desk.run()
    assert desk.sent == []
    desk.on_event(ready(6, "scheduler"), 0.0)
    desk.run()
    assert desk.sent == [Envelope(Address(6, SCHEDULER), ME, ENLIST)] and desk.told == []


def test_a_broken_link_to_the_scheduler_is_said_after_a_while_and_costs_nothing(desk: Desk) -> None:
    desk.ledger.wake(PATIENCE_S)
    for epoch in (33, 5):
        desk.on_event(LinkLost(1, epoch), 10.0)
    assert desk.ledger.deadline() == 10.0 + PATIENCE_S
    desk.ledger.wake(10.0 + PATIENCE_S)
    desk.run()
    [word] = desk.told
    assert isinstance(word, Say) and word.text.startswith("no link to the scheduler for 3 s; still trying")
    desk.on_event(ready(5, "scheduler"), 20.0)
    desk.run()
    assert desk.told == [word, Say("the scheduler is back")] and desk.sent == [] and not desk.is_freed
    assert desk.ledger.deadline() is None


def test_who_is_freed_loses_nothing_more(desk: Desk) -> None:
    desk.carry_out(Freed(""), 0.0)
    desk.lose("gone")
    desk.private_ended("gone")
    desk.on_event(LinkLost(1, 5), 0.0)
    desk.on_event(ready(6, "scheduler"), 0.0)
    desk.run()
    assert desk.told == [Freed("")] and desk.sent == []


def test_who_is_freed_buries_the_servers_of_whom_nobody_told(desk: Desk) -> None:
    desk.unknown = [44]
    desk.carry_out(Freed(""), 0.0)
    assert desk.gone == [(44, ["unconfirmed by 44"])]


def test_the_dead_are_buried_and_nobody_waits_for_them(desk: Desk) -> None:
    desk.on_event(ready(33, "server"), 0.0)
    desk.on_event(ready(34, "server"), 0.0)
    desk.on_event(ready(5, "scheduler"), 0.0)
    assert [epoch for epoch, _ in desk.watched] == [33, 34]
    desk.carry_out(Bury(33), 0.0)
    assert [epoch for epoch, _ in desk.watched] == [34]
    assert desk.gone == [(33, ["unconfirmed by 33"])]


def test_news_waits_for_the_loop(desk: Desk) -> None:
    desk.carry_out(Say("words"), 0.0)
    desk.carry_out(Room(), 0.0)
    assert desk.told == []
    desk.run()
    assert desk.told == [Say("words"), Room()]


def test_of_a_lost_task_nobody_expects_an_answer(desk: Desk) -> None:
    record = Entry("compute", task=TaskId(7, 16), call=b"call")
    record.outcome = OutcomeKind.LOST
    desk.carry_out(Resolve(record), 0.0)
    desk.run()
    assert desk.heard == [record] and desk.lost == [16]


def test_a_server_gets_the_code_that_it_asks_for(desk: Desk) -> None:
    desk.carry_out(GiveCode(Envelope(ME, Address(33, SERVER), messages.CodeWanted(), 4)), 0.0)
    assert desk.sent == [Envelope(Address(33, SERVER), ME, messages.CodeGiven(""), 4, b"code")]


def test_a_server_that_asks_for_its_setup_hears_where_it_begins_to_count_and_a_node_does_not(
    desk: Desk,
) -> None:
    place = messages.Spot("10.0.0.5", 9701, 33, "box/server-1")
    for spot in (place, None, place):
        wanted = Envelope(ME, Address(33, SERVER if spot else NODE), messages.SetupWanted(spot), 4)
        desk.carry_out(GiveSetup(wanted, "call"), 0.0)
    assert [envelope.message.first for envelope in desk.sent] == [17 << 32, 0, 17 << 32]
    assert [envelope.payload for envelope in desk.sent] == 3 * [[b"setup", "call"]]


def test_what_came_before_its_task_is_forwarded_or_turned_away(desk: Desk) -> None:
    asker = Address(33, 20)
    early = [Envelope(Address(ME.epoch, number), asker, messages.Ask(), number) for number in (5, 6)]
    for envelope in early:
        desk.carry_out(Forward(envelope), 0.0)
    desk.run()
    assert desk.forwarded == early
    assert desk.sent == [Envelope(asker, early[1].to, messages.Reply(ok=False), 6)]


def test_an_effect_that_nobody_knows_is_an_error(desk: Desk) -> None:
    with pytest.raises(TypeError, match="no such effect"):
        desk.carry_out(object(), 0.0)


BOX = messages.NodeInfo("box", "10.0.0.5", 9700, 1, "Linux", (3, 11), 900, None, ("10.0.0.5", "fd00::5"), "")


def tell_of(desk: Desk, status: Status, node: messages.NodeInfo = BOX) -> None:
    desk.ledger.receive(Envelope(ME, BROKER, messages.NodeNews(status, node)), 0.0)
    desk.run()


def test_a_node_is_dialled_when_it_has_granted_the_lease_and_left_when_it_is_gone(desk: Desk) -> None:
    tell_of(desk, Status.NodeDiscovered)
    assert not desk.dialled
    tell_of(desk, Status.NodeInitialized)
    assert desk.dialled == {900: ["tcp://10.0.0.5:9700", "tcp://[fd00::5]:9700"]} and desk.kept == {900}
    tell_of(desk, Status.NodeDisconnected)
    tell_of(desk, Status.NodeResumed)
    assert list(desk.dialled) == [900] and desk.kept == {900}, "it is still ours"
    tell_of(desk, Status.NodeClosed)
    assert not (desk.dialled or desk.kept)


def test_all_nodes_are_left_with_the_lease(desk: Desk) -> None:
    tell_of(desk, Status.NodeInitialized)
    tell_of(desk, Status.NodeInitialized, BOX._replace(epoch=901))
    desk.ledger.receive(Envelope(ME, BROKER, messages.Released("done")), 0.0)
    desk.run()
    assert not (desk.dialled or desk.kept)


def test_a_node_of_this_host_is_dialled_by_its_socket_first(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "n.sock").touch()
    tell_of(desk, Status.NodeInitialized, BOX._replace(ipc=str(tmp_path / "n.sock")))
    tell_of(desk, Status.NodeInitialized, BOX._replace(epoch=901, ipc=str(tmp_path / "another host's.sock")))
    assert desk.dialled[900][0] == f"ipc://{tmp_path}/n.sock"
    assert desk.dialled[901][0] == "tcp://10.0.0.5:9700"


def test_beyond_a_bound_nodes_are_reached_by_the_scheduler(desk: Desk) -> None:
    desk.node_links._max = 2
    for epoch in range(900, 905):
        tell_of(desk, Status.NodeInitialized, BOX._replace(epoch=epoch))
    assert list(desk.dialled) == [900, 901]


def test_a_private_scheduler_that_is_its_own_node_is_not_dialled(desk: Desk) -> None:
    desk.linked = True
    tell_of(desk, Status.NodeInitialized)
    assert not desk.dialled


def test_what_a_dead_node_was_asked_for_is_not_asked_of_it_again(desk: Desk) -> None:
    tell_of(desk, Status.NodeInitialized)
    word = Envelope(Address(900, NODE), ME, messages.Kill(1001))
    desk.buried.add(900)
    desk.on_event(PeerReset(900, [word]), 0.0)
    desk.run()
    assert not desk.sent


def test_a_server_of_another_host_is_as_far_as_its_session_says(desk: Desk) -> None:
    """Of one that is linked, being of this host, what the session measures is mostly how busy it is."""
    tell_of(desk, Status.NodeInitialized)
    desk.on_event(PeerDistance(1001, 0.04), 0.0)
    for number in (1, 2):
        spot = messages.Spot("10.0.0.5", 9700, 1000 + number, f"box/server-{number}")
        word = messages.ServerNews(Status.ServerInitialized, spot, 900)
        desk.ledger.receive(Envelope(ME, BROKER, word), 0.0)
    near, far = (desk.ledger.dispatcher.fleet.servers[epoch] for epoch in (1002, 1001))
    assert (near.srtt, far.srtt) == (0.0, 0.04)
    desk.on_event(PeerDistance(1002, 0.02), 0.0)
    desk.linked = True
    desk.on_event(PeerDistance(1001, 0.01), 0.0)
    assert (near.srtt, far.srtt) == (0.02, 0.04)


def test_the_ledger_hears_of_links_to_its_nodes(desk: Desk) -> None:
    tell_of(desk, Status.NodeInitialized)
    desk.on_event(ready(900, "node"), 0.0)
    tell_of(desk, Status.NodeDisconnected)
    assert not desk.ledger.dispatcher.fleet.nodes[900].is_silent
    desk.on_event(LinkLost(1, 900), 0.0)
    assert desk.ledger.dispatcher.fleet.nodes[900].is_silent
