"""A client's book of names, told things one after the other: what it answers, asks and says."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from dispycos.actors.sharing.book import Book, Lose, Say, TellPeer
from dispycos.actors.sharing.peers import PeerStatus
from dispycos.machine import Send
from dispycos.protocol.addresses import BOOK, SCHEDULER, Address, Location
from dispycos.protocol.envelope import Envelope
from dispycos.protocol.messages import Gone, Locate, Located, Message, Named, NodeInfo, Spot, WatchPeers

HOME = Address(1, BOOK)
THE_SCHEDULER = Address(9, SCHEDULER)
SERVERS = {
    11: (Spot("10.0.0.1", 9707, 11, "one/server-1"), 101),
    12: (Spot("10.0.0.2", 9707, 12, "two/server-1"), 102),
}
NODES = {
    101: NodeInfo("one", "10.0.0.1", 9706, 1, "Linux", (3, 11), 101),
    102: NodeInfo("two", "10.0.0.2", 9706, 1, "Linux", (3, 11), 102),
}
ASKER = Address(12, 20)


class Desk:
    """Tells the book things; each gives back what it did, check() having passed."""

    def __init__(self, *, scheduler: Address | None = None) -> None:
        self.book = Book(HOME, "script.py")
        self.cluster = SimpleNamespace(scheduler=scheduler, nodes=dict(NODES), servers=dict(SERVERS))
        self.book.cluster = self.cluster
        self.now = 0.0

    def did(self) -> list[object]:
        self.book.check()
        done: list[object] = []
        for effect in self.book.drain():
            if isinstance(effect, Send):
                sent = effect.envelope
                assert sent.sender == HOME
                done.append((sent.to, sent.message, sent.correlation, sent.payload))
            else:
                done.append(effect)
        return done

    def tell(
        self, sender: Address, word: Message, correlation: int = 0, payload: bytes | None = None
    ) -> list[object]:
        self.book.receive(Envelope(HOME, sender, word, correlation, payload), self.now)
        return self.did()

    def name(self, epoch: int, name: str, *, channel: bool = False) -> list[object]:
        return self.tell(Address(epoch, 5), Named(name, channel), 0, handle_of(epoch, name))

    def unname(self, epoch: int, name: str) -> list[object]:
        return self.tell(Address(epoch, 5), Named(name, over=True))

    def locate(self, name: str, correlation: int = 7, **changes: Any) -> list[object]:
        return self.tell(ASKER, Locate(name, **changes), correlation)

    def wait(self, seconds: float) -> list[object]:
        """Time passes; what it does at its deadlines."""
        done, until = [], self.now + seconds
        while (due := self.book.deadline()) is not None and due <= until:
            self.now = due
            self.book.wake(self.now)
            done += self.did()
        self.now = until
        return done

    def lose(self, epoch: int) -> list[object]:
        self.book.lose(epoch)
        return self.did()


def handle_of(epoch: int, name: str) -> bytes:
    return f"{name} of {epoch}".encode()


def found(epoch: int, name: str, correlation: int = 7, asker: Address = ASKER) -> tuple[object, ...]:
    return (asker, Located(), correlation, handle_of(epoch, name))


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_a_name_that_is_known_is_told_at_once(desk: Desk) -> None:
    assert desk.name(11, "db") == []
    assert desk.locate("db") == [found(11, "db")]
    assert desk.book.deadline() is None


def test_who_waits_is_answered_when_the_name_is_registered_and_only_then(desk: Desk) -> None:
    assert desk.locate("db") == []
    assert desk.name(11, "other") == []
    assert desk.name(11, "db", channel=True) == []
    assert desk.name(11, "db") == [found(11, "db")]
    assert desk.name(12, "db") == []  # nobody waits any more


def test_of_several_with_one_name_the_first_is_given_that_is_still_there(desk: Desk) -> None:
    desk.name(12, "agent")
    desk.name(11, "agent")
    assert desk.locate("agent") == [found(12, "agent")]
    desk.unname(12, "agent")
    assert desk.locate("agent") == [found(11, "agent")]
    desk.unname(11, "agent")
    assert desk.locate("agent") == []


@pytest.mark.parametrize(
    "where",
    [("10.0.0.2", 9707), ("10.0.0.2", 9706), ("10.0.0.2", 0), ("two", 0)],
    ids=["server", "node", "address", "name"],
)
def test_a_location_restricts_to_a_server_or_a_node(desk: Desk, where: tuple[str, int]) -> None:
    desk.name(11, "agent")
    assert desk.locate("agent", addr=where[0], port=where[1]) == []
    assert desk.name(1, "agent") == []  # of the client: it is at no location
    assert desk.name(12, "agent") == [found(12, "agent")]


def test_what_a_dead_server_had_is_free_and_nobody_there_is_answered(desk: Desk) -> None:
    desk.name(11, "db")
    desk.tell(Address(11, 30), Locate("late"), 3)
    desk.lose(11)
    assert desk.locate("db") == []
    assert desk.name(12, "late") == []
    assert desk.name(12, "db") == [found(12, "db")]


def test_who_asks_no_more_is_not_answered(desk: Desk) -> None:
    desk.locate("db")
    desk.locate("db", correlation=8)
    desk.locate("db", over=True)
    assert desk.name(11, "db") == [found(11, "db", 8)]


# --- other clients ---


def test_what_is_not_known_is_asked_of_the_scheduler_and_each_second_again() -> None:
    desk = Desk(scheduler=THE_SCHEDULER)
    question = (THE_SCHEDULER, Locate("db"), 1, None)
    assert desk.locate("db") == [question]
    assert desk.wait(3) == [question] * 3
    desk.cluster.scheduler = Address(10, SCHEDULER)  # it was started anew
    assert desk.wait(1) == [(Address(10, SCHEDULER), Locate("db"), 1, None)]
    answer = desk.tell(Address(2, BOOK), Located(), 1, handle_of(2, "db"))
    assert answer == [found(2, "db")]
    assert desk.wait(10) == []
    assert desk.tell(Address(3, BOOK), Located(), 1, handle_of(3, "db")) == []  # the second to know it


def test_the_question_of_another_client_is_answered_to_its_book_and_asked_of_nobody_else() -> None:
    desk = Desk(scheduler=THE_SCHEDULER)
    theirs = Address(2, BOOK)
    asked = Locate("db", asker=theirs, is_patient=True)
    assert desk.tell(THE_SCHEDULER, asked, 4) == []
    assert desk.name(11, "db") == [found(11, "db", 4, theirs)]
    assert desk.tell(THE_SCHEDULER, asked, 5) == [found(11, "db", 5, theirs)]


def test_another_clients_question_is_forgotten_unless_it_is_said_again() -> None:
    desk = Desk(scheduler=THE_SCHEDULER)
    asked = Locate("db", asker=Address(2, BOOK), is_patient=True)
    for _ in range(3):
        desk.tell(THE_SCHEDULER, asked, 4)
        assert desk.wait(4.5) == []  # nor is anything said here
    desk.wait(2)
    assert desk.book.deadline() is None
    assert desk.name(11, "db") == []
    desk.tell(THE_SCHEDULER, Locate("other", asker=Address(2, BOOK)), 5)
    desk.wait(4.5)
    assert desk.name(11, "other") == [found(11, "other", 5, Address(2, BOOK))]


def test_who_the_scheduler_says_is_gone_is_waited_for_by_nobody_here(desk: Desk) -> None:
    gone = Gone([2, 21], [3])
    assert desk.tell(THE_SCHEDULER, gone) == [Lose(gone)]


# --- nobody waits in silence ---


def test_who_waits_for_ever_is_told_of_after_three_seconds_with_what_there_is(desk: Desk) -> None:
    desk.name(11, "data")
    desk.locate("db", is_patient=True)
    desk.locate("db", 8, is_patient=True)
    desk.locate("other", 9)  # it has a timeout
    assert desk.wait(2.9) == []
    text = "2 callers of locate() wait for a task named 'db', which nobody has registered; registered tasks: 'data'"
    assert desk.wait(0.2) == [Say(text)]
    assert desk.wait(29) == []
    assert desk.wait(2) == [Say(text)]


def test_a_name_that_is_elsewhere_is_said_to_be_there(desk: Desk) -> None:
    desk.name(11, "db")
    desk.locate("db", is_patient=True, addr="two")
    (said,) = desk.wait(3.1)
    assert said == Say(
        "1 caller of locate() waits for a task named 'db' at two, which nobody has registered; it is at 10.0.0.1:9707"
    )


# --- peers ---


def test_who_wants_to_hear_of_peers_is_told_of_all_others_and_of_each_that_comes_or_goes(desk: Desk) -> None:
    one, two = Address(11, 20), Address(1, 21)  # at a server, and of the program
    told = [effect.status for effect in desk.tell(one, WatchPeers()) if isinstance(effect, TellPeer)]
    assert [(peer.kind, peer.name, peer.status) for peer in told] == [
        ("client", "script.py", PeerStatus.Online),
        ("node", "one", PeerStatus.Online),
        ("node", "two", PeerStatus.Online),
        ("server", "two/server-1", PeerStatus.Online),
    ]
    here = [effect.status.name for effect in desk.tell(two, WatchPeers()) if isinstance(effect, TellPeer)]
    assert here == ["one", "two", "one/server-1", "two/server-1"]
    assert told[3].location == Location("10.0.0.2", 9707)
    del desk.cluster.servers[12]
    offline = told[3]._replace(status=PeerStatus.Offline)
    assert isinstance(offline, PeerStatus)
    assert desk.did() == [TellPeer(one, offline), TellPeer(two, offline)]
    desk.tell(two, WatchPeers(over=True))
    desk.cluster.servers[13] = (Spot("10.0.0.2", 9707, 13, "two/server-1"), 102)
    assert desk.did() == [TellPeer(one, told[3])]
    desk.lose(11)
    desk.book.cluster = None
    assert desk.did() == []


# --- programs with links of their own, without a scheduler


def test_what_is_not_known_is_asked_of_programs_that_are_linked_then_and_later() -> None:
    desk = Desk()
    theirs = (Address(21, BOOK), Locate("db", asker=HOME), 1, None)
    desk.book.meet(21, PeerStatus(Location("10.0.0.9", 4000), "other", PeerStatus.Online, "program"))
    assert desk.locate("db") == [theirs]
    desk.book.meet(22, PeerStatus(Location("10.0.0.9", 4001), "third", PeerStatus.Online, "program"))
    assert desk.did() == [(Address(22, BOOK), *theirs[1:])]
    desk.book.part(21)
    assert desk.wait(1) == [(Address(22, BOOK), *theirs[1:])]
    assert desk.tell(Address(22, BOOK), Located(), 1, handle_of(22, "db")) == [found(22, "db")]
    assert desk.wait(10) == []


def test_a_program_is_a_peer_and_a_place() -> None:
    desk = Desk()
    desk.book.cluster = None
    other = PeerStatus(Location("10.0.0.9", 4000), "other", PeerStatus.Online, "program")
    desk.tell(ASKER, WatchPeers())
    desk.book.meet(21, other)
    assert desk.did() == [TellPeer(ASKER, other)]
    desk.book.part(21)
    assert desk.did() == [TellPeer(ASKER, other._replace(status=PeerStatus.Offline))]
    desk.book.here = (frozenset({"10.0.0.1"}), 5000)
    desk.name(HOME.epoch, "db")
    assert desk.locate("db", addr="10.0.0.1", port=5000) == [found(HOME.epoch, "db")]
    assert desk.locate("db", 8, addr="10.0.0.1") == [found(HOME.epoch, "db", 8)]
    assert desk.locate("db", 9, addr="10.0.0.1", port=5001) == []
