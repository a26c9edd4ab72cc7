"""Nodes and servers that ask what belongs there: who is answered at once, who waits to be enabled, and what is said meanwhile."""

from __future__ import annotations

import pytest

from dispycos.actors.client.effects import GiveSetup, Say
from dispycos.actors.client.holdings import Holdings
from dispycos.actors.client.setups import Setups
from dispycos.notices import PATIENCE_S
from dispycos.protocol.addresses import CLIENT, NODE, SERVER, Address
from dispycos.protocol.envelope import Envelope
from dispycos.protocol.messages import NodeInfo, SetupWanted, Spot

ME = Address(7, CLIENT)


class Desk:
    def __init__(self) -> None:
        self.has = Holdings(ME)
        self.setups = Setups(self.has)
        self.has.nodes[90] = NodeInfo("rhea", "10.0.0.5", 9706, 2, "Linux", (3, 11), 90)

    def node(self, epoch: int = 90, now: float = 0.0) -> Envelope:
        asked = Envelope(ME, Address(epoch, NODE), SetupWanted(), 1)
        self.setups.asked(asked, now)
        return asked

    def server(self, epoch: int, number: int = 1, now: float = 0.0) -> Envelope:
        asked = Envelope(ME, Address(epoch, SERVER), SetupWanted(spot(epoch, number), 90), 1)
        self.setups.asked(asked, now)
        return asked

    def given(self) -> list[tuple[Envelope, object]]:
        """And nothing else was done."""
        effects, self.has.effects = self.has.effects, []
        assert all(isinstance(effect, GiveSetup) for effect in effects)
        return [(effect.request, effect.call) for effect in effects if isinstance(effect, GiveSetup)]

    def said(self, now: float) -> list[str]:
        self.setups.wake(now)
        effects, self.has.effects = self.has.effects, []
        return [effect.text for effect in effects if isinstance(effect, Say)]


def spot(epoch: int, number: int = 1) -> Spot:
    return Spot("10.0.0.5", 9706 + number, epoch, f"rhea/server-{number}")


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_who_asks_is_answered_at_once_with_the_call_that_counts_for_all(desk: Desk) -> None:
    desk.setups.nodes.call = "load"
    node, server = desk.node(), desk.server(101)
    assert desk.given() == [(node, "load"), (server, None)]


def test_a_disabled_node_waits_until_it_is_enabled_and_its_next_zygote_gets_the_same(desk: Desk) -> None:
    desk.setups.nodes.disabled, desk.setups.nodes.call = True, "load"
    asked = desk.node()
    assert desk.given() == [] and desk.setups.why_waiting() == "rhea waits for enable_node()"
    desk.setups.enable_node(90, "load(5)", 1.0)
    assert desk.given() == [(asked, "load(5)")] and desk.setups.why_waiting() == ""
    again = desk.node()
    assert desk.given() == [(again, "load(5)")]


def test_a_node_may_be_enabled_before_it_asks(desk: Desk) -> None:
    desk.setups.nodes.disabled = True
    desk.setups.enable_node(90, None, 0.0)
    assert desk.given() == []
    asked = desk.node()
    assert desk.given() == [(asked, None)]


def test_a_server_is_enabled_by_its_place_so_that_the_one_that_replaces_it_is_too(desk: Desk) -> None:
    desk.setups.servers.disabled = True
    first, other = desk.server(101, 1), desk.server(102, 2)
    assert desk.setups.known_servers() == [spot(101, 1), spot(102, 2)]
    assert desk.setups.why_waiting() == "rhea/server-1, rhea/server-2 wait for enable_server()"
    desk.setups.enable_server(spot(101, 1), "open(1)", 0.0)
    assert desk.given() == [(first, "open(1)")]
    successor = desk.server(201, 1)
    assert desk.given() == [(successor, "open(1)")]
    assert desk.setups.known_servers() == [spot(201, 1), spot(102, 2)], "it may be enabled once more"
    assert desk.setups.why_waiting() == "rhea/server-2 waits for enable_server()"
    desk.setups.enable_server(spot(102, 2), None, 0.0)
    assert desk.given() == [(other, None)]


def test_of_two_that_ask_from_one_place_the_last_is_alive(desk: Desk) -> None:
    desk.setups.servers.disabled = True
    desk.server(101), desk.server(201)
    desk.setups.enable_server(spot(201), None, 0.0)
    assert [asked.sender.epoch for asked, _ in desk.given()] == [201]


def test_a_setup_that_takes_long_is_said_after_a_while_and_again_later_until_it_is_done(desk: Desk) -> None:
    desk.setups.nodes.call = "load"
    desk.node(now=10.0)
    desk.given()
    assert desk.setups.deadline() == 10.0 + PATIENCE_S and desk.said(10.0) == []
    assert desk.said(10.0 + PATIENCE_S) == ["node_setup has been running for 3 s: rhea"]
    again = desk.setups.deadline()
    assert again is not None and again > 10.0 + 2 * PATIENCE_S
    desk.setups.done(90)
    assert desk.setups.deadline() is None and desk.said(again) == []


def test_where_nothing_is_called_nothing_takes_long(desk: Desk) -> None:
    desk.node()
    assert desk.setups.deadline() is None


def test_a_node_that_is_gone_waits_for_nothing(desk: Desk) -> None:
    desk.setups.nodes.disabled = True
    desk.node()
    desk.setups.done(90)
    assert desk.setups.why_waiting() == ""
