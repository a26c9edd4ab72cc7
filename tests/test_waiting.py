"""Nobody waits in silence: what a client is told while its tasks wait, and which of them are refused."""

from __future__ import annotations

from typing import Any

import pytest

from dispycos.brokers.waiting import REMEDY
from dispycos.notices import AGAIN_MAX_S, AGAIN_S, listing
from dispycos.protocol.addresses import NODE, Address
from dispycos.protocol.envelope import Envelope
from dispycos.protocol.messages import (
    Closed,
    Declined,
    Done,
    Lease,
    NodeNews,
    Notice,
    Opened,
    Outcome,
    Recalled,
    Register,
    Release,
    Released,
    Run,
    ServerDown,
    ServerUp,
    Settled,
    Submit,
    TaskId,
)
from dispycos.protocol.status import OutcomeKind

from .kit.scheduler import Desk, enlist, node_info, spot

LINES = "\n    ImportError: no module named 'numpie'"


def words(sent: list[Envelope], *kinds: type) -> list[Any]:
    return [envelope.message for envelope in sent if not kinds or isinstance(envelope.message, kinds)]


def notices(sent: list[Envelope]) -> list[tuple[str, str]]:
    return [(word.level, word.text) for word in words(sent, Notice)]


def submit(number: int, function: str = "compute", **where: Any) -> Submit:
    return Submit(TaskId(50, number), function, **where)


def fail(desk: Desk, node: Address, lease: Lease, *numbers: int) -> list[Envelope]:
    """These servers of a node are not started again."""
    name = desk.scheduler.registry.nodes[node.epoch].info.name
    return desk.tell(
        node,
        *(ServerDown(lease, spot(name, 0, number), "exited with code 1", lines=LINES) for number in numbers),
    )


def open_node(desk: Desk, name: str, epoch: int, lease: Lease, servers: int = 2) -> Address:
    """It has granted the lease, and no server is up yet."""
    address = Address(epoch, NODE)
    desk.tell(address, Register(node_info(name, epoch, servers, addr=f"10.0.0.{epoch}")))
    desk.tell(address, Opened(lease, servers))
    return address


# --- servers that cannot be started


def test_tasks_are_refused_with_the_last_words_of_the_servers_when_none_can_be_started() -> None:
    desk = Desk()
    client, lease = desk.client()
    node = open_node(desk, "alpha", 7, lease)
    desk.tell(client, submit(1), submit(2, io=True), submit(3, node="alpha"))
    assert not words(fail(desk, node, lease, 1), Outcome), "another may get ready"
    outcomes = {outcome.task.number: outcome for outcome in words(fail(desk, node, lease, 2), Outcome)}
    assert {(o.outcome, o.started) for o in outcomes.values()} == {(OutcomeKind.REFUSED, False)}
    why = f"node alpha (10.0.0.7:9706): server alpha/server-2 exited with code 1{LINES}"
    assert outcomes[1].text == outcomes[2].text == f"no server of any node can be started: {why}\n{REMEDY}"
    assert outcomes[3].text == f"no server can be started: {why}"
    [late] = words(desk.tell(client, submit(4)), Outcome)
    assert late.outcome == OutcomeKind.REFUSED
    assert not desk.wait(1000.0)


def test_tasks_that_come_back_from_a_node_without_servers_are_refused_too() -> None:
    desk = Desk()
    client, lease = desk.client()
    node = desk.node("alpha", 7, lease, servers=1)
    desk.tell(client, submit(1), submit(2, node="alpha", io=True))
    down = ServerDown(lease, spot("alpha", 701, 1), "killed by SIGKILL (9)", restarting=True)
    assert not words(desk.tell(node, down), Outcome)
    fail(desk, node, lease, 1)
    sent = desk.tell(node, Recalled([TaskId(50, 1), TaskId(50, 2)]))
    assert sorted((o.task.number, o.outcome) for o in words(sent, Outcome)) == [
        (1, OutcomeKind.REFUSED),
        (2, OutcomeKind.REFUSED),
    ]


@pytest.mark.parametrize("other", ["works", "opens", "is declined", "is silent"])
def test_while_another_node_may_run_them_tasks_wait_unless_they_are_bound(other: str) -> None:
    desk = Desk()
    client, lease = desk.client()
    node = open_node(desk, "alpha", 7, lease, servers=1)
    if other == "works":
        desk.node("beta", 8, lease, servers=1)
        desk.tell(client, submit(9))
    else:
        beta = Address(8, NODE)
        desk.tell(beta, Register(node_info("beta", 8, 1, addr="10.0.0.8")))
        if other == "is declined":
            desk.tell(beta, Declined(lease, "held by bob for 7 s"))
        elif other == "is silent":
            desk.scheduler.peer_lost(8, desk.now)
    desk.tell(client, submit(1), submit(2, node="alpha"))
    assert [o.task.number for o in words(fail(desk, node, lease, 1), Outcome)] == [2]


def test_a_node_that_comes_later_is_used_though_others_failed() -> None:
    desk = Desk()
    client, lease = desk.client()
    node = open_node(desk, "alpha", 7, lease)
    fail(desk, node, lease, 1, 2)
    beta = open_node(desk, "beta", 8, lease, servers=1)
    assert not words(desk.tell(client, submit(1)), Outcome)
    assert words(desk.tell(beta, ServerUp(lease, spot("beta", 801, 1), 1)), Run)


def test_a_server_that_comes_up_after_all_takes_tasks_again() -> None:
    desk = Desk()
    client, lease = desk.client()
    node = open_node(desk, "alpha", 7, lease, servers=1)
    fail(desk, node, lease, 1)
    desk.tell(node, ServerUp(lease, spot("alpha", 701, 1), 1))
    assert words(desk.tell(client, submit(1)), Run)


def test_while_nodes_are_still_looked_for_nothing_is_refused() -> None:
    desk = Desk()
    client, lease = desk.client()
    node = open_node(desk, "alpha", 7, lease, servers=1)
    desk.scheduler.hold_settling(True)
    desk.tell(client, submit(1))
    assert not words(fail(desk, node, lease, 1), Outcome)
    desk.scheduler.hold_settling(False)
    assert words(desk.drain(), Outcome)


def test_a_client_that_closes_is_not_kept_by_tasks_that_can_never_run() -> None:
    desk = Desk()
    client, lease = desk.client()
    node = open_node(desk, "alpha", 7, lease, servers=1)
    desk.tell(client, submit(1))
    desk.tell(client, Release())
    fail(desk, node, lease, 1)
    assert words(desk.tell(node, Closed(lease)), Released) == [Released()]


# --- nothing that could take tasks


def test_who_has_no_server_is_told_what_is_missing_and_again_at_growing_intervals() -> None:
    desk = Desk()
    client, lease = desk.client()
    desk.node("alpha", 7, lease)
    desk.scheduler.peer_lost(7, desk.now)
    desk.tell(client, submit(1), submit(2))
    text = "2 tasks cannot run: none of the 1 known nodes can be used: alpha (not reachable); still waiting"
    assert not notices(desk.wait(2.9))
    assert notices(desk.wait(0.1)) == [("warning", text)]
    zombie, again = notices(desk.wait(AGAIN_S))
    assert "has been silent" in zombie[1] and again == ("warning", text)
    assert not notices(desk.wait(2 * AGAIN_S - 0.1))
    assert notices(desk.wait(0.1)) == [("warning", text)]
    assert notices(desk.wait(4 * AGAIN_S)) == [("warning", text)]
    assert notices(desk.wait(8 * AGAIN_S)) == [("warning", text)]
    assert AGAIN_MAX_S == 20 * AGAIN_S


def test_when_a_server_is_back_patience_begins_anew() -> None:
    desk = Desk()
    client, lease = desk.client()
    desk.node("alpha", 7, lease, servers=1)
    desk.tell(client, submit(1), submit(2))
    for _ in range(2):
        desk.scheduler.peer_lost(7, desk.now)
        assert len(notices([*desk.drain(), *desk.wait(3.0)])) == 1
        desk.back("alpha", 7, lease)
        assert not notices(desk.wait(1000.0)), "a task that waits for a busy server is no news"


def test_who_lets_nothing_wait_is_told_once_that_there_is_no_node() -> None:
    desk = Desk()
    desk.client()
    [(level, text)] = notices(desk.wait(3600.0))
    assert level == "warning" and "dispycos node" in text and text.endswith("; still waiting")


# --- close()


def test_a_close_that_waits_says_for_what() -> None:
    desk = Desk()
    client, lease = desk.client()
    node = desk.node("alpha", 7, lease)
    desk.tell(client, submit(1), submit(2, "wait", io=True), submit(3))
    desk.tell(client, Release())
    text = "close() waits for 2 tasks (compute 2); close(terminate=True) would end the wait"
    assert notices(desk.wait(3.0)) == [("info", text)]
    desk.tell(node, Done(TaskId(50, 1), OutcomeKind.RETURNED, 1.0))
    desk.scheduler.peer_lost(7, desk.now)
    assert words(desk.drain(), NodeNews)
    where = ", 1 of them on node alpha (10.0.0.7:9706), which is silent"
    text = f"close() waits for 1 task (compute 1){where}; close(terminate=True) would end the wait"
    assert notices(desk.wait(3.0))[0] == ("warning", text)


def test_a_close_that_waits_for_io_tasks_names_them_and_one_that_does_not_wait_says_nothing() -> None:
    desk = Desk()
    client, lease = desk.client()
    desk.node("alpha", 7, lease)
    desk.tell(client, submit(2, "wait", io=True))
    desk.tell(client, Release(await_io=True))
    [(_, text)] = notices(desk.wait(3.0))
    assert "1 task (wait 1)" in text
    desk.tell(client, Release(terminate=True))
    assert not notices(desk.wait(14.0)), "its nodes close"


def test_a_close_that_waits_for_a_node_without_a_link_says_so() -> None:
    desk = Desk()
    client, lease = desk.client(wants=enlist(pulse=50.0))
    desk.node("alpha", 7, lease)
    desk.scheduler.peer_lost(7, desk.now)
    desk.tell(client, Release())
    assert notices(desk.wait(3.0)) == [
        ("warning", "close() waits some seconds for node alpha (10.0.0.7:9706): no link")
    ]
    assert words(desk.wait(12.0), Released)


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
