"""What is said on a link between its two ends, and when that changes routes."""

from typing import Any

import pytest

from dispycos.protocol.codec import decode_control
from dispycos.protocol.control import Bye, Control, LinkHello, Ping, Pong, Reset, Routes
from dispycos.protocol.envelope import About
from dispycos.protocol.errors import ProtocolError
from dispycos.session.alarms import Alarms
from dispycos.session.links import CloseLink, Link, LinkLost, LinkReady, Topology
from dispycos.session.neighbours import CLOSING_PATIENCE, GREETING_PATIENCE, Neighbours
from dispycos.session.relay import Relay

ABOUT = About((1, 1), "0.1")
SERVER = LinkHello(ABOUT, 20, "server", [])
TOKEN = 5


class Desk:
    """The neighbours of a node of epoch 30, and what it said to them."""

    def __init__(self, role: str = "node") -> None:
        self.topology = Topology()
        self.alarms = Alarms()
        self.events: list[Any] = []
        relay = Relay(self.topology, 30, role)
        self.neighbours = Neighbours(30, ABOUT, role, self.topology, relay, self.alarms, self.events, TOKEN)

    def link(
        self,
        number: int,
        *,
        dialled: bool = False,
        role: str | None = None,
        witnessed: bool = False,
        pid: int = 0,
        wanted: int = 0,
    ) -> Link:
        link = Link(
            number,
            self.topology.busy,
            dialled=dialled,
            proven=role,
            is_witnessed=witnessed,
            pid=pid,
            wanted=wanted,
        )
        self.neighbours.link_up(link, 0.0)
        return link

    def greeted(self, number: int, hello: LinkHello, *, dialled: bool = False) -> Link:
        link = self.link(number, dialled=dialled)
        self.neighbours.hear(link, hello, 0.0)
        link.outbox.clear()
        return link


def said(link: Link) -> list[Control]:
    records = [decode_control(packet.block.body) for packet in link.outbox]
    link.outbox.clear()
    return records


def test_whoever_connects_is_greeted_at_once_and_counts_when_it_has_answered() -> None:
    desk = Desk()
    link = desk.link(1)
    assert said(link) == [LinkHello(ABOUT, 30, "node", [], 0, TOKEN)]
    assert desk.topology.route(20) is None
    assert desk.neighbours.hear(link, SERVER, 0.0)
    assert desk.topology.route(20) is link
    assert desk.events == [LinkReady(1, 20, "server")]


def test_a_greeting_that_we_object_to_changes_no_routes_and_is_answered_in_words() -> None:
    desk = Desk()
    link = desk.link(1, role="client")
    said(link)
    assert not desk.neighbours.hear(link, SERVER, 0.0)
    reason = "it calls itself 'server', but is known as 'client'"
    assert said(link) == [Bye(reason)]
    assert desk.neighbours.farewells == [CloseLink(1, reason, refused=True)]
    assert not desk.events


def test_a_dialler_that_means_one_process_says_so_and_refuses_every_other() -> None:
    desk = Desk("client")
    link = desk.link(1, dialled=True, wanted=40)
    assert said(link) == [LinkHello(ABOUT, 30, "client", [], 40, TOKEN)]
    assert not desk.neighbours.hear(link, LinkHello(ABOUT, 41, "node", []), 0.0)
    reason = "another process than the one that was meant answers there"
    assert said(link) == [Bye(reason)]
    assert not desk.events and desk.neighbours.farewells == [CloseLink(1, reason, refused=True)]


def test_who_means_another_process_costs_nobody_the_link_that_it_has_here() -> None:
    """Two nodes behind one address: the client that is linked to this one meant the other."""
    desk = Desk()
    first = desk.greeted(1, LinkHello(ABOUT, 40, "client", [], 30, 7))
    second = desk.link(2)
    said(second)
    assert not desk.neighbours.hear(second, LinkHello(ABOUT, 40, "client", [], 31, 7), 0.0)
    assert said(second) == [Bye("another process than the one that was meant answers there")]
    assert desk.topology.route(40) is first and said(first) == []


def test_a_second_link_of_a_runtime_is_taken_only_with_the_token_of_the_first() -> None:
    desk = Desk()
    first = desk.greeted(1, LinkHello(ABOUT, 40, "client", [], 0, 7))
    thief = desk.link(2)
    said(thief)
    assert not desk.neighbours.hear(thief, LinkHello(ABOUT, 40, "client", [], 0, 8), 0.0)
    assert said(thief) == [Bye("it calls itself what another runtime is, without its token")]
    assert desk.topology.route(40) is first
    second = desk.link(3)
    assert desk.neighbours.hear(second, LinkHello(ABOUT, 40, "client", [], 0, 7), 0.0)
    assert desk.topology.route(40) is second


def test_the_token_holds_while_there_is_no_link_until_the_session_is_over() -> None:
    desk = Desk()
    desk.greeted(1, LinkHello(ABOUT, 40, "client", [], 0, 7))
    desk.neighbours.link_down(1)
    other = LinkHello(ABOUT, 40, "client", [], 0, 8)
    assert not desk.neighbours.hear(desk.link(2), other, 0.0)
    desk.neighbours.forget(40)
    assert desk.neighbours.hear(desk.link(3), other, 0.0)


def test_pings_are_answered_and_change_no_routes() -> None:
    desk = Desk()
    link = desk.greeted(1, SERVER)
    assert not desk.neighbours.hear(link, Ping(), 0.0)
    assert said(link) == [Pong()]


def test_routes_of_a_relay_are_learned() -> None:
    desk = Desk()
    link = desk.greeted(1, LinkHello(ABOUT, 40, "scheduler", [50]))
    assert desk.neighbours.hear(link, Routes([60], []), 0.0)
    assert desk.topology.leads_to(link, 50) and desk.topology.leads_to(link, 60)


def test_a_node_tells_of_its_servers_but_not_to_other_servers() -> None:
    desk = Desk()
    scheduler = desk.greeted(1, LinkHello(ABOUT, 40, "scheduler", []))
    other = desk.greeted(2, LinkHello(ABOUT, 21, "server", []))
    said(scheduler)
    desk.greeted(3, SERVER)
    assert said(scheduler) == [Routes([20], [])]
    assert said(other) == []
    assert desk.neighbours.link_down(3)
    assert said(scheduler) == [Routes([], [20])]
    assert desk.events[-1] == LinkLost(3, 20)


@pytest.mark.parametrize("record", [Reset(1), SERVER, Routes([1], [])])
def test_what_is_not_said_to_a_neighbour_or_not_by_this_one_is_a_protocol_error(record: Control) -> None:
    desk = Desk()
    link = desk.greeted(1, SERVER)
    with pytest.raises(ProtocolError):
        desk.neighbours.hear(link, record, 0.0)


def test_a_word_before_the_greeting_is_a_protocol_error() -> None:
    desk = Desk()
    with pytest.raises(ProtocolError, match="before the greeting"):
        desk.neighbours.hear(desk.link(1), Ping(), 0.0)


def test_of_two_links_the_lesser_is_left_with_a_word_and_closed_when_that_stays_unanswered() -> None:
    desk = Desk()
    older = desk.greeted(1, SERVER, dialled=True)
    newer = desk.greeted(2, SERVER)  # dialled by the smaller epoch
    assert desk.topology.route(20) is newer
    assert said(older) == [Bye("there is another link")]
    assert not desk.neighbours.wake(older, CLOSING_PATIENCE)  # its routes are gone already
    assert desk.neighbours.farewells == [CloseLink(1, "it did not answer in time")]


def test_who_does_not_greet_is_refused_after_a_while() -> None:
    desk = Desk()
    link = desk.link(1)
    assert desk.alarms.pop_first() == (GREETING_PATIENCE, link)
    assert not desk.neighbours.wake(link, GREETING_PATIENCE - 1)
    assert desk.neighbours.farewells == []
    assert not desk.neighbours.wake(link, GREETING_PATIENCE)
    assert [word.refused for word in desk.neighbours.farewells] == [True]


def test_a_silent_link_is_asked_and_then_given_up() -> None:
    desk = Desk("scheduler")
    link = desk.greeted(1, LinkHello(ABOUT, 31, "node", []))
    asked, changed, now = 0, False, 0.0
    while not changed:
        now, sleeper = desk.alarms.pop_first()
        assert sleeper is link and now < 30
        changed = desk.neighbours.wake(link, now)
        asked += sum(isinstance(record, Ping) for record in said(link))
    assert asked == 3
    assert desk.topology.route(31) is None
    assert desk.neighbours.farewells == [CloseLink(1, "it has been silent for too long")]


def test_a_link_whose_end_the_kernel_tells_is_not_asked() -> None:
    desk = Desk("scheduler")
    link = desk.link(1, witnessed=True)
    desk.neighbours.hear(link, LinkHello(ABOUT, 31, "node", []), 0.0)
    assert link.is_ready and link.due is None


@pytest.mark.parametrize(
    ("told", "witnessed", "pid"),
    [(4711, True, 4711), (0, True, 4711), (815, False, 0)],
    ids=["itself", "nothing is said", "ssh or a proxy"],
)
def test_the_end_of_who_passes_a_link_on_is_not_the_end_of_the_peer(
    told: int, witnessed: bool, pid: int
) -> None:
    """So its silence counts, and a tunnel that breaks is no death."""
    desk = Desk("scheduler")
    link = desk.link(1, witnessed=True, pid=4711)
    desk.neighbours.hear(link, LinkHello(About((1, 1), "0.1", pid=told), 31, "node", []), 0.0)
    assert (link.due is None) == witnessed
    assert desk.events == [LinkReady(1, 31, "node", pid)]


def test_a_link_is_closed_once() -> None:
    desk = Desk()
    link = desk.greeted(1, SERVER)
    assert desk.neighbours.close(link, "its process is dead")
    assert not desk.neighbours.close(link, "its process is dead")
    assert desk.neighbours.farewells == [CloseLink(1, "its process is dead")]
