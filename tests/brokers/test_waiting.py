"""Nobody waits in silence: what a client is told that lacks servers, and when there is no hope for any."""

from __future__ import annotations

import pytest

from dispycos.brokers.scheduler import CLOSE_PATIENCE_S
from dispycos.brokers.waiting import REMEDY
from dispycos.notices import listing
from dispycos.protocol.addresses import CLIENT, NODE, Address
from dispycos.protocol.envelope import Envelope
from dispycos.protocol.messages import (
    Closed,
    Declined,
    Hopeless,
    Lease,
    Notice,
    Opened,
    Register,
    Release,
    Released,
    ServerDown,
    ServerUp,
    Settled,
    Wanting,
)
from tests.kit.scheduler import HOME, Desk, enlist, node_info, spot, words

LINES = "\n    ImportError: no module named 'numpie'"


def notices(sent: list[Envelope]) -> list[tuple[str, str]]:
    return [(word.level, word.text) for word in words(sent, Notice)]


def fail(desk: Desk, node: Address, lease: Lease, *numbers: int, epoch: int = 0) -> list[Envelope]:
    """These servers of a node are not started again."""
    name = desk.scheduler.registry.nodes[node.epoch].info.name
    downs = [
        ServerDown(lease, spot(name, epoch, number), "exited with code 1", lines=LINES) for number in numbers
    ]
    return desk.tell(node, *downs)


def open_node(desk: Desk, name: str, epoch: int, lease: Lease, servers: int = 2) -> Address:
    """It has granted the lease, and no server is up yet."""
    address = Address(epoch, NODE)
    desk.tell(address, Register(node_info(name, epoch, servers, addr=f"10.0.0.{epoch}")))
    desk.tell(address, Opened(lease, servers))
    return address


# --- servers that cannot be started


def why(name: str, epoch: int, server: int) -> str:
    return f"node {name} (10.0.0.{epoch}:9706): server {name}/server-{server} exited with code 1{LINES}"


def test_when_no_server_can_be_started_the_client_hears_their_last_words_once() -> None:
    desk = Desk()
    client, lease = desk.client()
    node = open_node(desk, "alpha", 7, lease)
    assert not words(fail(desk, node, lease, 1), Hopeless), "another may get ready"
    text = f"no server of any node can be started: {why('alpha', 7, 2)}\n{REMEDY}"
    sent = fail(desk, node, lease, 2)
    assert words(sent, Hopeless) == [Hopeless(why("alpha", 7, 2), 7), Hopeless(text)]
    assert not desk.wait(1000.0)
    assert desk.tell(client, Wanting(1))[0].message == Hopeless(text), "of what was submitted since"


def test_the_last_server_of_a_node_may_have_been_up_before_it_failed() -> None:
    desk = Desk()
    _, lease = desk.client()
    node = desk.node("alpha", 7, lease, servers=1)
    [of_node, _] = words(fail(desk, node, lease, 1, epoch=701), Hopeless)
    assert of_node == Hopeless(why("alpha", 7, 1), 7)


@pytest.mark.parametrize("other", ["works", "opens", "is declined", "is silent", "closes for another"])
def test_while_another_node_may_serve_only_the_one_that_failed_is_hopeless(other: str) -> None:
    desk = Desk()
    beta = Address(8, NODE)
    register = Register(node_info("beta", 8, 1, addr="10.0.0.8"))
    if other == "closes for another":
        desk.tell(beta, Register(register.node, Lease(9, 40, "id-1", HOME.epoch)))
    _, lease = desk.client()
    node = open_node(desk, "alpha", 7, lease, servers=1)
    if other == "works":
        desk.node("beta", 8, lease, servers=1)
    elif other != "closes for another":
        desk.tell(beta, register)
        if other == "is declined":
            desk.tell(beta, Declined(lease, "held by bob for 7 s"))
        elif other == "is silent":
            desk.lose(8)
    assert words(fail(desk, node, lease, 1), Hopeless) == [Hopeless(why("alpha", 7, 1), 7)]


@pytest.mark.parametrize("hope", ["a node", "a server"])
def test_when_there_is_hope_again_wanting_is_answered_by_what_is_missing(hope: str) -> None:
    desk = Desk()
    client, lease = desk.client()
    node = open_node(desk, "alpha", 7, lease, servers=1)
    fail(desk, node, lease, 1)
    if hope == "a node":
        beta = open_node(desk, "beta", 8, lease, servers=1)
    else:
        desk.tell(node, ServerUp(lease, spot("alpha", 701, 1), 1))
    assert not words(desk.tell(client, Wanting(1)), Hopeless)
    if hope == "a node":
        sent = fail(desk, beta, lease, 1)
        assert [word.node for word in words(sent, Hopeless)] == [8, 0], "and told anew when that one fails"
        assert why("alpha", 7, 1) in sent[-1].message.reason and why("beta", 8, 1) in sent[-1].message.reason


def test_a_node_of_no_use_to_the_client_is_no_hope() -> None:
    desk = Desk()
    desk.tell(Address(8, NODE), Register(node_info("beta", 8, python=(3, 12))))
    _, lease = desk.client()
    node = open_node(desk, "alpha", 7, lease, servers=1)
    assert [word.node for word in words(fail(desk, node, lease, 1), Hopeless)] == [7, 0]


def test_a_failed_server_that_came_up_after_all_and_is_started_again_is_hope() -> None:
    desk = Desk()
    _, lease = desk.client()
    node = open_node(desk, "alpha", 7, lease, servers=1)
    fail(desk, node, lease, 1)
    desk.tell(node, ServerUp(lease, spot("alpha", 701, 1), 1))
    assert not words(
        desk.tell(node, ServerDown(lease, spot("alpha", 701, 1), "died", restarting=True)), Hopeless
    )


def test_while_nodes_are_still_looked_for_there_is_hope() -> None:
    desk = Desk()
    _, lease = desk.client()
    node = open_node(desk, "alpha", 7, lease, servers=1)
    desk.scheduler.hold_settling(True)
    assert [word.node for word in words(fail(desk, node, lease, 1), Hopeless)] == [7]
    desk.scheduler.hold_settling(False)
    assert [word.node for word in words(desk.drain(), Hopeless)] == [0]


def test_a_client_that_closes_is_told_of_no_hope() -> None:
    desk = Desk()
    client, lease = desk.client()
    node = open_node(desk, "alpha", 7, lease, servers=1)
    desk.tell(client, Release())
    assert not words(fail(desk, node, lease, 1), Hopeless)
    assert words(desk.tell(node, Closed(lease)), Released) == [Released()]


# --- nothing that could take tasks


@pytest.mark.parametrize(
    ("end", "missing"),
    [
        ("silent", "none of the 1 known nodes can be used: alpha (not reachable)"),
        ("declined", "none of the 1 known nodes can be used: alpha (declined)"),
        ("opening", "none of the 1 known nodes can be used: alpha (opening)"),
        ("closing", "none of the 1 known nodes can be used: alpha (closing)"),
        ("other", "none of the 1 known nodes can be used: alpha (has Python 3.12)"),
        ("fine", "they may not run on the servers that there are; known nodes: alpha (open)"),
        ("dead", "no node found: start `dispycos node` here or on a host with the same secret, or name one that "
         "mDNS does not reach: Client(nodes=['host'])"),
    ],
)  # fmt: skip
def test_who_wants_servers_is_told_what_is_missing(end: str, missing: str) -> None:
    desk = Desk()
    client, lease = desk.client()
    if end == "opening":
        desk.node("alpha", 7)
    elif end == "closing":
        desk.tell(Address(7, NODE), Register(node_info("alpha", 7), Lease(9, 40, "id-1", 77)))
    elif end == "other":
        desk.node("alpha", 7, python=(3, 12))
    elif end == "declined":
        desk.tell(desk.node("alpha", 7), Declined(lease, "held by bob"))
    else:
        desk.node("alpha", 7, lease)
    desk.wait(7.0)
    if end == "silent":
        desk.lose(7)
    elif end == "dead":
        desk.die(7)
    assert notices(desk.tell(client, Wanting(2))) == [
        ("warning", f"2 tasks cannot run: {missing}; still waiting")
    ]
    assert notices(desk.tell(client, Wanting(1))) == [
        ("warning", f"1 task cannot run: {missing}; still waiting")
    ]


def test_who_does_not_have_the_cluster_may_want_what_he_likes() -> None:
    desk = Desk()
    client, lease = desk.client()
    desk.tell(Address(51, CLIENT), enlist())
    assert not desk.tell(Address(51, CLIENT), Wanting(1))
    node = desk.node("alpha", 7, lease)
    desk.tell(client, Release())
    assert not desk.tell(client, Wanting(1)), "it closes"
    desk.tell(node, Closed(lease))
    assert not desk.tell(client, Wanting(1))


def test_that_there_is_no_node_is_said_unasked_after_3_s_and_not_twice_in_one_breath() -> None:
    desk = Desk()
    client, _ = desk.client()
    assert not desk.wait(2.9)
    [(level, text)] = notices(desk.wait(0.1))
    assert level == "warning" and text.startswith("no node found: ") and text.endswith("; still waiting")
    desk.wait(0.1)
    assert not desk.tell(client, Wanting(1))
    assert not desk.wait(30.0)
    [(_, again)] = notices(desk.tell(client, Wanting(1)))
    assert again == f"1 task cannot run: {text}"


def test_a_client_that_has_left_or_has_a_node_by_then_is_not_told_that_there_is_none() -> None:
    desk = Desk()
    client, _ = desk.client()
    desk.tell(client, Release())
    _, lease = desk.client(51)
    desk.node("alpha", 7, lease)
    assert not desk.wait(1000.0)


# --- close()


def test_a_close_that_waits_for_a_node_without_a_link_says_so() -> None:
    desk = Desk()
    client, lease = desk.client(wants=enlist(pulse=50.0))
    desk.node("alpha", 7, lease)
    desk.node("beta", 8, lease)
    desk.lose(7)
    desk.tell(client, Release())
    assert notices(desk.wait(3.0)) == [
        ("warning", "close() waits some seconds for node alpha (10.0.0.7:9706): no link")
    ]
    assert words(desk.wait(CLOSE_PATIENCE_S - 3.0), Released)


# --- words


def test_a_listing_counts_by_function_and_names_no_more_than_five() -> None:
    functions = [f"f{number % 7}" for number in range(8)]
    assert listing(functions) == "8 tasks (f0 2, f1 1, f2 1, f3 1, f4 1, ...)"
    assert listing(functions[:1]) == "1 task (f0 1)"


def test_settled_says_how_many_servers_there_are_also_if_there_are_none() -> None:
    desk = Desk()
    address = Address(7, NODE)
    desk.tell(address, Register(node_info("alpha", 7, 1)))
    _, lease = desk.client()
    desk.tell(address, Opened(lease, 1))
    assert words(fail(desk, address, lease, 1), Settled) == [Settled(1, 0)]
