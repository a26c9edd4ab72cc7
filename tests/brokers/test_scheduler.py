"""The scheduler told one thing after the other: what it answers, and to whom."""

from __future__ import annotations

from typing import Any

import pytest

from dispycos.brokers import leasing, scheduler, sharing
from dispycos.brokers.lifecycle import NodeState
from dispycos.brokers.outbox import Look, StopLooking
from dispycos.brokers.reporting import ANSWER_S
from dispycos.config import MAX_PULSE_INTERVAL
from dispycos.machine import Log
from dispycos.protocol.addresses import BOOK, CLIENT, NODE, Address
from dispycos.protocol.envelope import Envelope
from dispycos.protocol.messages import (
    AbandonZombie,
    Accept,
    Allocate,
    Allocation,
    Availability,
    Close,
    Closed,
    CloseNode,
    Counts,
    Declined,
    Gone,
    Granted,
    Hopeless,
    Inventory,
    Lease,
    Left,
    Locate,
    NodeNews,
    Notice,
    Offer,
    Open,
    Opened,
    Pulse,
    Queued,
    Register,
    Release,
    Released,
    SchedulerReport,
    ServerDown,
    ServerNews,
    ServerUp,
    Settled,
    Turned,
    Wanting,
)
from dispycos.protocol.status import Status
from dispycos.turns import FORGET_NODE_S
from tests.kit.scheduler import HOME, PYTHON, SETTLE_S, Desk, enlist, node_info, spot, words

VIEWER = Address(99, 20)


def news(sent: list[Envelope]) -> list[Status]:
    """What a client is told of its nodes."""
    return [word.status for word in words(sent, NodeNews)]


# --- clients


def test_the_first_client_gets_the_cluster_and_the_others_hear_where_they_stand() -> None:
    desk = Desk()
    first, second, third = (Address(epoch, CLIENT) for epoch in (50, 51, 52))
    lease = Lease(12, 50, "id-1", HOME.epoch)
    assert words(desk.tell(first, enlist())) == [Granted(lease, "head"), Settled(0, 0)]
    desk.tell(second, enlist())
    assert words(desk.tell(third, enlist())) == [Queued(2, "script.py on here (pid 77)", 14)]
    sent = desk.tell(second, Release())
    assert [(e.to, e.message) for e in sent] == [
        (second, Released("it left the queue")),
        (third, Queued(1, "script.py on here (pid 77)", 14)),
    ]
    sent = desk.tell(first, Release())
    assert [(e.to, type(e.message)) for e in sent[:2]] == [(first, Released), (third, Granted)]


def test_clients_are_served_in_the_order_in_which_they_came() -> None:
    desk = Desk()
    clients = [Address(epoch, CLIENT) for epoch in (53, 51, 54, 50)]
    sent = [envelope for client in clients for envelope in desk.tell(client, enlist())]
    served = [envelope.to for envelope in sent if isinstance(envelope.message, Granted)]
    for client in clients:
        assert served[-1] == client
        sent = desk.tell(client, Release())
        served += [envelope.to for envelope in sent if isinstance(envelope.message, Granted)]
    assert served == clients


@pytest.mark.parametrize(("private", "level"), [(False, "warning"), (True, "debug")])
def test_that_a_client_vanished_is_not_said_at_its_own_terminal(private: bool, level: str) -> None:
    desk = Desk()
    desk.scheduler.private = private
    desk.client(50)
    desk.die(50)
    assert [log.level for log in desk.logs if isinstance(log, Log) and "is gone" in log.text] == [level]


def test_a_client_that_vanished_from_the_queue_holds_up_nobody() -> None:
    desk = Desk()
    holder, _ = desk.client(50)
    ghost, patient = Address(51, CLIENT), Address(52, CLIENT)
    desk.tell(ghost, enlist())
    desk.tell(patient, enlist())
    desk.lose(51)
    sent = desk.tell(holder, Release())
    assert [e.to for e in sent if isinstance(e.message, Granted)] == [patient]
    desk.wait(scheduler.CLIENT_PATIENCE_S - 0.1)
    assert 51 in desk.scheduler.registry.clients
    assert words(desk.wait(0.1)) == [Released("nothing was heard of it for 60 s")]
    assert 51 not in desk.scheduler.registry.clients


def test_a_queued_client_that_comes_back_in_time_keeps_its_place() -> None:
    desk = Desk()
    holder, _ = desk.client(50)
    desk.tell(Address(51, CLIENT), enlist())
    desk.lose(51)
    desk.wait(scheduler.CLIENT_PATIENCE_S - 1.0)
    desk.scheduler.peer_up(51, desk.now)
    desk.wait(scheduler.CLIENT_PATIENCE_S)
    assert [e.to.epoch for e in desk.tell(holder, Release()) if isinstance(e.message, Granted)] == [51]


def test_who_comes_back_to_a_cluster_that_nobody_has_gets_it_and_the_others_hear_who_has_it() -> None:
    desk = Desk()
    first, _ = desk.client(50)
    for epoch in (51, 52):
        desk.tell(Address(epoch, CLIENT), enlist())
        desk.lose(epoch)
    desk.tell(first, Release())
    desk.scheduler.peer_up(51, desk.now)
    sent = desk.drain()
    assert [(e.to.epoch, type(e.message)) for e in sent if isinstance(e.message, Granted | Queued)] == [
        (51, Granted),
        (52, Queued),
    ]
    assert words(sent, Queued) == [Queued(1, "script.py on here (pid 77)", 14)]


@pytest.mark.parametrize(
    ("wants", "reason"),
    [
        (enlist(pulse=0.0), "pulse_interval"),
        (enlist(pulse=float("nan")), "pulse_interval"),
        (enlist(pulse=float("inf")), "pulse_interval"),
        (enlist(Allocation(platform="(")), "not a regular expression"),
    ],
)
def test_a_client_that_cannot_be_served_is_turned_away_in_words(wants: Any, reason: str) -> None:
    [turned] = words(Desk().tell(Address(50, CLIENT), wants))
    assert isinstance(turned, Turned) and reason in turned.reason


def test_a_process_has_one_client_at_a_time_and_the_queue_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk()
    client, _ = desk.client()
    assert words(desk.tell(client, enlist()), Turned)
    monkeypatch.setattr(scheduler, "CLIENTS_MAX", 1)
    assert words(desk.tell(Address(51, CLIENT), enlist()), Turned)


def test_a_name_that_a_client_does_not_know_is_asked_of_all_others_in_its_name() -> None:
    desk = Desk()
    for epoch in (50, 51, 52):
        desk.tell(Address(epoch, CLIENT), enlist())
    book = Address(51, BOOK)
    sent = desk.tell(book, Locate("db", addr="one"), correlation=7)
    asked = Locate("db", addr="one", asker=book)
    assert [(envelope.to, envelope.message, envelope.correlation) for envelope in sent] == [
        (Address(epoch, BOOK), asked, 7) for epoch in (50, 52)
    ]


def test_clients_that_look_for_each_other_hear_who_is_gone_and_so_do_their_servers() -> None:
    desk = Desk()
    lease = desk.client(50)[1]
    node = desk.node("one", 10, lease)
    second, third = Address(51, CLIENT), Address(52, CLIENT)
    desk.tell(second, enlist())
    desk.tell(third, enlist())
    books = [Address(epoch, BOOK) for epoch in (50, 51, 52)]
    down = ServerDown(lease, spot("one", 1001, 1), "killed", restarting=True)

    def gone(sent: list[Envelope]) -> list[Any]:
        return [(envelope.to, envelope.message) for envelope in sent if isinstance(envelope.message, Gone)]

    assert gone(desk.tell(node, down)) == []  # none has asked for a name
    desk.tell(node, ServerUp(lease, spot("one", 1003, 1), 1))
    desk.tell(books[1], Locate("db"), correlation=7)
    down = ServerDown(lease, spot("one", 1003, 1), "killed", restarting=True)
    assert gone(desk.tell(node, down)) == [(book, Gone([1003])) for book in books[1:]]
    assert gone(desk.die(52)) == [(books[0], Gone([52])), (books[1], Gone([52])), (node, Gone([52]))]
    assert gone(desk.tell(second, Release())) == [(books[0], Gone([], [51])), (node, Gone([], [51]))]
    assert desk.tell(books[0], Locate("db"), correlation=8) == []  # nobody is left to be asked


def test_a_release_of_nobody_is_answered() -> None:
    assert words(Desk().tell(Address(9, CLIENT), Release()), Released)


# --- nodes


def test_a_client_hears_of_its_nodes_and_servers_in_order_and_then_that_all_is_settled() -> None:
    desk = Desk()
    node = desk.node("alpha", 7)
    sent = desk.tell(Address(50, CLIENT), enlist())
    [opened] = words(sent, Open)
    assert opened.cpus == 2 and not words(sent, Settled)
    assert [news.status for news in words(sent, NodeNews)] == [Status.NodeDiscovered]
    assert [news.status for news in words(desk.tell(node, Opened(opened.lease, 2)))] == [
        Status.NodeInitialized
    ]
    sent = desk.tell(node, ServerUp(opened.lease, spot("alpha", 701, 1), 1))
    assert [news.status for news in words(sent)] == [Status.ServerInitialized]
    assert {news.node for news in words(sent)} == {7}
    sent = desk.tell(node, ServerDown(opened.lease, spot("alpha", 0, 2), "exit code 1"))
    assert [type(word) for word in words(sent)] == [Notice, Settled]
    assert words(sent, Settled) == [Settled(1, 1)]


def test_settled_waits_for_what_is_being_looked_for_and_a_late_node_is_opened_without_it() -> None:
    desk = Desk()
    desk.scheduler.hold_settling(True)
    _, lease = desk.client()
    desk.node("alpha", 7, lease)
    assert not words(desk.drain(), Settled)
    desk.scheduler.hold_settling(False)
    assert words(desk.drain()) == [Settled(1, 2)]
    sent = desk.tell(Address(8, NODE), Register(node_info("beta", 8, addr="10.0.0.8")))
    assert [type(word) for word in words(sent)] == [NodeNews, Open]


def test_a_silent_node_is_named_and_not_waited_for() -> None:
    desk = Desk()
    desk.node("alpha", 7)
    desk.client()
    sent = desk.wait(SETTLE_S)
    [notice] = words(sent, Notice)
    assert "alpha" in notice.text and words(sent, Settled) == [Settled(0, 0)]


def test_settled_does_not_wait_for_a_node_that_came_later() -> None:
    desk = Desk()
    alpha = desk.node("alpha", 7)
    _, lease = desk.client()
    beta = desk.node("beta", 8)
    desk.tell(beta, Opened(lease, 1))
    sent = desk.tell(alpha, Opened(lease, 1), ServerUp(lease, spot("alpha", 701, 1), 1))
    assert words(sent, Settled) == [Settled(2, 1)]


@pytest.mark.parametrize("end", ["is lost", "dies", "closes"])
def test_settled_does_not_wait_for_a_node_that_will_have_no_servers_soon(end: str) -> None:
    desk = Desk()
    node = desk.node("alpha", 7)
    _, lease = desk.client()
    assert not words(desk.tell(node, Opened(lease, 2)), Settled)
    if end == "is lost":
        sent = desk.lose(7)
    elif end == "dies":
        sent = desk.die(7)
    else:
        sent = desk.tell(node, Closed(lease, "close at its terminal"))
    assert words(sent, Settled) == [Settled(end == "is lost", 0)]


def test_settled_does_not_wait_for_a_node_that_has_too_little_left_when_its_turn_comes() -> None:
    desk = Desk()
    left = Availability(0.0, 2000, 0, 0)
    node = Address(7, NODE)
    first, lease = desk.client()
    desk.node("alpha", 7, lease, available=left)
    desk.tell(first, Release())
    desk.tell(Address(51, CLIENT), enlist(Allocation(memory=1000)))
    desk.tell(node, Pulse(7, left._replace(memory=500)))
    assert words(desk.tell(node, Closed(lease)), Settled) == [Settled(0, 0)]


def test_who_closes_before_all_is_settled_leaves_nothing_to_wait_for_to_the_next() -> None:
    desk = Desk()
    node = desk.node("alpha", 7)
    client, _ = desk.client()
    desk.tell(client, Release())
    assert not words(desk.wait(SETTLE_S), Notice)
    desk.die(node.epoch)
    assert words(desk.tell(Address(51, CLIENT), enlist()), Settled) == [Settled(0, 0)]


def test_a_node_may_say_something_else_of_itself_when_it_registers_anew_and_there_may_not_be_too_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(leasing, "NODES_MAX", 1)
    desk = Desk()
    desk.node("alpha", 7)
    desk.node("alpha", 7, servers=4)
    assert desk.scheduler.registry.nodes[7].info.cpus == 4
    [refusal] = words(desk.tell(Address(8, NODE), Register(node_info("beta", 8, addr="10.0.0.8"))))
    assert refusal == Notice("scheduler head has 1 nodes already", "error")
    assert list(desk.scheduler.registry.nodes) == [7]


def test_a_client_whose_allocations_match_nothing_is_told_what_there_is() -> None:
    desk = Desk()
    desk.node("alpha", 7)
    desk.tell(Address(50, CLIENT), enlist(Allocation("beta")))
    desk.scheduler.looked(50, "", desk.now)
    desk.drain()
    [notice] = words(desk.wait(3.0))
    assert "alpha (not asked for)" in notice.text


def test_a_node_with_another_python_is_left_out_and_both_sides_hear_why() -> None:
    desk = Desk()
    desk.tell(Address(7, NODE), Register(node_info("alpha", 7, python=(3, 12))))
    sent = desk.tell(Address(50, CLIENT), enlist())
    notices = [(e.to.epoch, e.message.text) for e in sent if isinstance(e.message, Notice)]
    assert [to for to, _ in notices] == [50, 7]
    assert all("alpha" in text and "3.12" in text and "3.11" in text for _, text in notices)
    assert not words(sent, Open)
    assert not words(desk.tell(Address(7, NODE), Register(node_info("alpha", 7, python=(3, 12)))))


def test_a_node_that_declines_is_named_once_and_asked_again() -> None:
    desk = Desk()
    node = desk.node("alpha", 7)
    client, lease = desk.client()
    sent = desk.tell(node, Declined(lease, "held by bob for 7 s"))
    assert [type(word) for word in words(sent)] == [Notice, Settled]
    assert "held by bob for 7 s" in words(sent, Notice)[0].text
    assert not words(desk.wait(sharing.DECLINED_AGAIN_S - 0.1), Open)
    sent = desk.wait(0.1)
    assert [type(word) for word in words(sent)] == [Open], "it was discovered before"
    [again] = words(sent)
    assert not words(desk.tell(node, Declined(again.lease, "held by bob for 17 s")))
    desk.tell(client, Release())
    assert not desk.wait(1000.0)


def test_who_declined_one_client_is_asked_for_the_next_at_once() -> None:
    desk = Desk()
    node = desk.node("alpha", 7)
    client, lease = desk.client()
    desk.tell(node, Declined(lease, "held by bob for 7 s"))
    desk.tell(client, Release())
    sent = desk.tell(Address(51, CLIENT), enlist())
    assert news(sent) == [Status.NodeDiscovered] and words(sent, Open)
    assert not words(desk.wait(sharing.DECLINED_AGAIN_S - 0.1), Open), "its answer is still to come"


def test_a_node_that_still_holds_an_old_lease_closes_it_before_it_gets_the_new_one() -> None:
    desk = Desk()
    desk.client()
    old = Lease(9, 40, "id-1", 77)
    node = Address(7, NODE)
    assert words(desk.tell(node, Register(node_info("alpha", 7), old))) == [Close(old)]
    assert [type(word) for word in words(desk.tell(node, Closed(old)))] == [NodeNews, Open]


def test_a_lease_of_another_scheduler_is_not_ours_to_close() -> None:
    desk = Desk()
    desk.client()
    sent = desk.tell(Address(7, NODE), Register(node_info("alpha", 7), Lease(9, 40, "id-2", 77)))
    assert not words(sent, Close) and words(sent, Open), "it declines that, with the name of who has it"


def test_a_node_started_again_takes_the_place_of_its_earlier_process() -> None:
    desk = Desk()
    _, lease = desk.client()
    desk.node("alpha", 7, lease)
    sent = desk.tell(Address(8, NODE), Register(node_info("alpha", 8, addr="10.0.0.7")))
    assert news(sent) == [Status.NodeClosed, Status.NodeDiscovered]
    assert words(sent, NodeNews)[0].text == "is gone: it was started again"
    assert [word.status for word in words(sent, ServerNews)] == [Status.ServerClosed] * 2
    assert list(desk.scheduler.registry.nodes) == [8]


def test_silence_counts_from_the_first_link_that_was_lost_and_is_told_once() -> None:
    desk = Desk()
    _, lease = desk.client()
    desk.node("alpha", 7, lease)
    assert news(desk.lose(7)) == [Status.NodeDisconnected]
    desk.lose(50)
    desk.wait(50.0)
    assert not desk.lose(7) and not desk.lose(50)
    assert words(desk.wait(10.0), Close) == [Close(lease)]


def test_a_node_back_within_patience_goes_on() -> None:
    desk = Desk()
    _, lease = desk.client()
    desk.node("alpha", 7, lease)
    [lost] = words(desk.lose(7))
    assert (lost.status, lost.text) == (Status.NodeDisconnected, "its link is down")
    desk.wait(9.9)
    desk.scheduler.peer_up(7, desk.now)
    assert not desk.drain(), "used before it said what it has still"
    assert news(desk.back("alpha", 7, lease)) == [Status.NodeResumed]
    assert not desk.wait(1000.0)


def test_a_node_silent_for_five_pulses_is_abandoned_if_so_asked_and_closes_when_it_is_back() -> None:
    desk = Desk()
    _, lease = desk.client(wants=enlist(abandon_zombies=True))
    node = desk.node("alpha", 7, lease)
    assert news(desk.lose(7)) == [Status.NodeDisconnected]
    assert not desk.wait(9.9)
    sent = desk.wait(0.1)
    [abandoned] = words(sent, NodeNews)
    assert (abandoned.status, abandoned.text) == (Status.NodeAbandoned, "was silent for 10 s")
    assert [word.status for word in words(sent, ServerNews)] == [Status.ServerAbandoned] * 2
    assert words(sent, Close) == [Close(lease)]
    assert not words(desk.back("alpha", 7, lease))
    assert [type(word) for word in words(desk.tell(node, Closed(lease)))] == [NodeNews, Open]


def test_of_a_single_node_a_client_may_want_another_end_when_it_is_a_zombie_or_will_be() -> None:
    for asked, by_default, abandoned in (
        ("before", False, True),
        ("before", True, False),
        ("after", False, True),
        ("never", True, True),
    ):
        desk = Desk()
        client, lease = desk.client(wants=enlist(abandon_zombies=by_default))
        desk.node("alpha", 7, lease)
        if asked == "before":
            desk.tell(client, AbandonZombie(7, not by_default), AbandonZombie(8, by_default))
        desk.lose(7)
        sent = desk.wait(10.0)
        if asked == "after":
            assert Status.NodeAbandoned not in news(sent)
            sent = desk.tell(client, AbandonZombie(7, True))
        assert (Status.NodeAbandoned in news(sent)) is abandoned


def test_a_zombie_that_is_not_to_be_abandoned_is_named_once_and_goes_on_when_it_is_back() -> None:
    desk = Desk()
    _, lease = desk.client()
    desk.node("alpha", 7, lease)
    desk.lose(7)
    assert [word.text for word in words(desk.wait(500.0))] == [
        "node alpha (10.0.0.7:9706) has been silent for 10 s and gets no new tasks until it is back; those that it has "
        "go on then, unless it has ended them for want of its scheduler. terminate() ends the wait for one, "
        "close(terminate=True) for all, and Client(abandon_zombie_nodes=True) gives such nodes up"
    ]
    assert news(desk.back("alpha", 7, lease)) == [Status.NodeResumed]
    assert len(desk.scheduler.registry.servers) == 2


def test_a_zombie_is_gone_at_the_latest_when_its_session_goes() -> None:
    desk = Desk()
    _, lease = desk.client()
    desk.node("alpha", 7, lease)
    desk.lose(7)
    assert not words(desk.wait(leasing.FORGET_AFTER_S - 1), NodeNews)
    [gone] = words(desk.wait(1.0), NodeNews)
    assert gone.status == Status.NodeClosed and "its session is gone" in gone.text


def test_a_node_of_this_host_that_lives_is_not_forgotten() -> None:
    desk = Desk()
    _, lease = desk.client()
    desk.node("alpha", 7, lease)
    desk.lose(7, lives=True)
    desk.wait(1e6)
    assert desk.scheduler.registry.nodes[7].zombie
    assert news(desk.die(7)) == [Status.NodeClosed]


def test_a_zombie_that_is_known_to_be_dead_is_gone_at_once() -> None:
    desk = Desk()
    _, lease = desk.client()
    desk.node("alpha", 7, lease)
    desk.node("beta", 8, lease)
    desk.lose(7)
    desk.lose(8)
    desk.wait(20.0)
    assert [word.node.name for word in words(desk.die(7), NodeNews)] == ["alpha"]
    sent = desk.tell(Address(9, NODE), Register(node_info("beta", 9, addr="10.0.0.8")))
    assert news(sent) == [Status.NodeClosed, Status.NodeDiscovered]


def test_a_client_that_closes_does_not_wait_for_a_zombie() -> None:
    desk = Desk()
    client, lease = desk.client()
    node = desk.node("alpha", 7, lease)
    desk.lose(7)
    desk.wait(20.0)
    sent = desk.tell(client, Release())
    assert [word.text for word in words(sent, NodeNews)] == ["was silent when the client closed"]
    assert words(sent, Released) == [Released()]
    second, _ = desk.client(51)
    assert not words(desk.back("alpha", 7, lease), Open), "it closes first"
    assert words(desk.tell(node, Closed(lease)), Open)[0].lease.client == second.epoch


def test_a_node_that_ends_its_lease_when_it_is_back_is_not_resumed_and_is_opened_anew_when_it_has() -> None:
    desk = Desk()
    _, lease = desk.client()
    node = desk.node("alpha", 7, lease)
    desk.lose(7)
    desk.wait(8.0)
    assert not desk.back("alpha", 7, lease, closing=True)
    sent = desk.tell(node, Closed(lease, "its scheduler was silent for 60 s"))
    closed, _ = words(sent, NodeNews)
    assert closed.text == "closed the lease: its scheduler was silent for 60 s"
    assert words(sent, Open)


def test_a_node_whose_lease_has_ended_by_the_time_it_is_back_is_opened_anew() -> None:
    desk = Desk()
    _, lease = desk.client()
    node = desk.node("alpha", 7, lease)
    desk.lose(7)
    desk.scheduler.peer_up(7, desk.now)
    sent = desk.tell(node, Closed(lease, "its scheduler was silent for 60 s"))
    assert news(sent) == [Status.NodeClosed] and not words(sent, Open)
    assert words(desk.back("alpha", 7, None), Open)


def test_a_node_whose_link_broke_behind_its_word_is_not_used_before_the_next() -> None:
    """The loss of a link is told before what had come by it."""
    desk = Desk()
    _, lease = desk.client()
    node = desk.node("alpha", 7, lease)
    desk.lose(7)
    assert desk.tell(node, Register(node_info("alpha", 7), lease)) == []
    assert news(desk.back("alpha", 7, lease)) == [Status.NodeResumed]


def test_a_node_that_comes_back_with_a_new_session_is_another_one_and_ends_what_it_has() -> None:
    desk = Desk()
    _, lease = desk.client()
    node = desk.node("alpha", 7, lease)
    desk.lose(7)
    desk.scheduler.peer_up(7, desk.now)
    [gone] = words(desk.die(7), NodeNews)
    assert (gone.status, gone.text) == (Status.NodeClosed, "is gone: its session was lost")
    sent = desk.tell(node, Register(node_info("alpha", 7), lease))
    assert words(sent) == [Close(lease)]
    [again] = words(desk.tell(node, Closed(lease)), Open)
    assert again.lease == lease._replace(opening=13), "what it said of the first may still come"


def test_a_node_with_a_new_session_and_no_lease_gets_one_of_another_number() -> None:
    desk = Desk()
    _, lease = desk.client()
    node = desk.node("alpha", 7, lease)
    desk.die(7)
    sent = desk.tell(node, Register(node_info("alpha", 7)))
    assert news(sent) == [Status.NodeDiscovered]
    assert words(sent, Open)[0].lease == lease._replace(opening=13)


def test_the_scheduler_gives_a_node_up_before_the_runtime_forgets_its_session() -> None:
    assert leasing.FORGET_AFTER_S < FORGET_NODE_S
    assert leasing.NODE_PATIENCE_PULSES * MAX_PULSE_INTERVAL < leasing.FORGET_AFTER_S


def test_a_node_whose_process_ended_is_gone_at_once() -> None:
    desk = Desk()
    _, lease = desk.client()
    desk.node("alpha", 7, lease)
    desk.lose(7)
    [gone] = words(desk.die(7), NodeNews)
    assert gone.text == "is gone: its process ended"
    assert not desk.scheduler.registry.nodes


def test_a_node_that_closes_by_itself_is_not_opened_again_for_this_client() -> None:
    desk = Desk()
    client, lease = desk.client()
    node = desk.node("alpha", 7, lease)
    sent = desk.tell(node, Closed(lease, "close at its terminal"))
    [closed] = words(sent, NodeNews)
    assert closed.text == "closed the lease: close at its terminal"
    assert not words([*sent, *desk.wait(1000.0)], Open)
    desk.tell(client, Release())
    assert words(desk.tell(Address(51, CLIENT), enlist()), Open), "but for the next"


def test_a_node_that_lost_its_lease_is_opened_anew() -> None:
    desk = Desk()
    _, lease = desk.client()
    node = desk.node("alpha", 7, lease)
    sent = desk.tell(node, Register(node_info("alpha", 7, addr="10.0.0.7"), None))
    assert news(sent) == [Status.NodeClosed, Status.NodeDiscovered] and words(sent, Open)


def test_a_pulse_goes_on_to_the_client_and_what_it_says_is_remembered() -> None:
    desk = Desk()
    client, lease = desk.client()
    node = desk.node("alpha", 7, lease)
    pulse = Pulse(7, Availability(50.0, 1, 2, 3))
    assert [(e.to, e.message) for e in desk.tell(node, pulse)] == [(client, pulse)]
    assert desk.scheduler.registry.nodes[7].info.available == pulse.available
    assert not desk.tell(Address(8, NODE), pulse), "of a node that is not known"


def test_files_that_go_with_a_lease_are_told_before_its_end() -> None:
    desk = Desk()
    client, lease = desk.client()
    node = desk.node("alpha", 7, lease)
    desk.tell(client, Release())
    left = Left(2, 10, ["out.txt", "a/b.bin"])
    assert words(desk.tell(node, left)) == [left]
    assert words(desk.tell(node, Closed(lease)), Released)
    assert words(desk.tell(node, left)) == [], "nobody has it now"


def test_a_node_that_ends_after_its_client_is_not_given_to_the_next() -> None:
    desk = Desk()
    client, lease = desk.client()
    node = desk.node("alpha", 7, lease)
    other = Address(51, CLIENT)
    desk.tell(other, enlist())
    desk.tell(client, Release())
    sent = desk.tell(node, Closed(lease, last=True))
    assert Granted in map(type, words(sent)) and not words(sent, Open)
    assert not desk.scheduler.registry.nodes
    desk.node("alpha", 8)
    assert desk.scheduler.registry.nodes[8].state is NodeState.OPENING, "the next one of that name is"


# --- the end of a scheduler


def test_a_scheduler_that_stops_gives_its_nodes_back_and_tells_everybody_why_once() -> None:
    desk = Desk()
    client, lease = desk.client()
    node = desk.node("alpha", 7, lease)
    queued = Address(51, CLIENT)
    desk.tell(queued, enlist())
    desk.scheduler.stop("the scheduler head was stopped", desk.now)
    assert [(e.to, e.message) for e in desk.drain()] == [
        (client, Released("the scheduler head was stopped")),
        (node, Close(lease)),
        (queued, Released("the scheduler head was stopped")),
    ]
    assert not desk.tell(node, Closed(lease))
    assert not desk.scheduler.registry.clients and desk.scheduler.deadline() is None


def test_a_scheduler_that_stops_takes_no_more_clients() -> None:
    """They would get nodes from a process that is about to end, and the nodes would stay occupied."""
    desk = Desk()
    desk.node("alpha", 7)
    desk.scheduler.stop("the scheduler head was stopped", desk.now)
    [turned] = words(desk.tell(Address(52, CLIENT), enlist()))
    assert isinstance(turned, Turned) and "stopped" in turned.reason


# --- the end of a lease


def test_release_closes_the_nodes_at_once_and_the_next_client_gets_them_when_they_have() -> None:
    desk = Desk()
    client, lease = desk.client()
    alpha, beta = desk.node("alpha", 7, lease), desk.node("beta", 8, lease, servers=1)
    desk.tell(Address(51, CLIENT), enlist())
    assert [(e.to, e.message) for e in desk.tell(client, Release())] == [
        (alpha, Close(lease)),
        (beta, Close(lease)),
    ]
    assert not desk.tell(client, Release()), "said twice"
    assert not words(desk.tell(alpha, Closed(lease)), Released, Granted)
    sent = desk.tell(beta, Closed(lease))
    assert [type(word) for word in words(sent)][:4] == [ServerNews, NodeNews, Released, Granted]
    assert [e.to for e in sent if isinstance(e.message, Open)] == [alpha, beta]


def test_a_node_that_comes_while_a_client_closes_is_for_the_next() -> None:
    desk = Desk()
    client, lease = desk.client()
    alpha = desk.node("alpha", 7, lease)
    desk.tell(client, Release())
    assert not desk.tell(Address(8, NODE), Register(node_info("beta", 8, addr="10.0.0.8")))
    desk.tell(alpha, Closed(lease))
    sent = desk.tell(Address(51, CLIENT), enlist())
    assert [e.to.epoch for e in sent if isinstance(e.message, Open)] == [7, 8]


def test_a_node_that_does_not_close_holds_up_the_next_client_for_a_bounded_time() -> None:
    desk = Desk()
    client, lease = desk.client()
    desk.node("alpha", 7, lease)
    desk.tell(Address(51, CLIENT), enlist())
    desk.tell(client, Release())
    assert not words(desk.wait(scheduler.CLOSE_PATIENCE_S - 0.1), Granted)
    sent = desk.wait(0.2)
    ends = [(e.to.epoch, type(e.message)) for e in sent if isinstance(e.message, Released | Granted | Open)]
    assert ends == [(50, Released), (51, Granted), (7, Open)]


def test_a_client_does_not_wait_for_a_node_that_had_not_granted_the_lease_when_it_closed() -> None:
    desk = Desk()
    node = desk.node("alpha", 7)
    client, lease = desk.client()
    assert words(desk.tell(client, Release())) == [Close(lease)]
    assert words(desk.tell(node, Declined(lease, "held by bob")), Released), "it crossed the Close"
    assert words(desk.tell(Address(51, CLIENT), enlist()), Open)


def test_the_process_of_a_client_that_ended_is_cleared_away_without_a_word_to_it() -> None:
    desk = Desk()
    _, lease = desk.client()
    node = desk.node("alpha", 7, lease)
    assert [(e.to, e.message) for e in desk.die(50)] == [
        (node, Gone([50])),  # first: its servers need not wait for it at their end
        (node, Close(lease)),
    ]
    down = ServerDown(lease, spot("alpha", 701, 1), "closed", expected=True)
    assert not desk.tell(node, Pulse(7, Availability(1.0, 1, 1, 1)), down, Closed(lease))
    assert not desk.scheduler.registry.clients


def test_the_death_of_a_client_that_closes_is_told_to_its_nodes_and_lets_the_next_in() -> None:
    desk = Desk()
    client, lease = desk.client()
    node = desk.node("alpha", 7, lease)
    desk.tell(client, Release())
    assert [(e.to, e.message) for e in desk.die(50)] == [(node, Gone([50]))]
    desk.tell(Address(51, CLIENT), enlist())
    assert [e.to.epoch for e in desk.tell(node, Closed(lease)) if isinstance(e.message, Granted)] == [51]


def test_the_death_of_a_client_in_the_queue_is_no_news_for_nodes() -> None:
    desk = Desk()
    _, lease = desk.client()
    desk.node("alpha", 7, lease)
    desk.tell(Address(51, CLIENT), enlist())
    assert not desk.die(51)
    assert list(desk.scheduler.registry.clients) == [50]


def test_a_client_that_is_known_to_be_dead_is_not_said_to_be_silent_later() -> None:
    desk = Desk()
    _, lease = desk.client()
    desk.node("alpha", 7, lease)
    desk.lose(50)
    desk.wait(scheduler.CLIENT_PATIENCE_S - 1.0)
    desk.die(50)
    desk.wait(2.0)
    assert [log.text for log in desk.logs if isinstance(log, Log) and "is gone" in log.text] == [
        "script.py on here (pid 77) is gone: its process ended"
    ]
    assert desk.scheduler.registry.active is not None, "its node has not closed yet"
    assert desk.scheduler.registry.active.parting == "its process ended"


def test_a_client_silent_for_a_minute_is_closed_and_can_learn_of_it_later() -> None:
    desk = Desk()
    _, lease = desk.client()
    node = desk.node("alpha", 7, lease)
    desk.lose(50)
    assert not words(desk.wait(59.0), Close)
    assert words(desk.wait(1.0), Close) == [Close(lease)]
    [released] = words(desk.tell(node, Closed(lease)), Released)
    assert "60 s" in released.reason


def test_a_client_of_this_host_that_lives_is_waited_for_however_long() -> None:
    desk = Desk()
    _, lease = desk.client()
    node = desk.node("alpha", 7, lease)
    desk.lose(50, lives=True)
    assert not words(desk.wait(1e6), Close)
    assert words(desk.die(50), Close) == [Close(lease)]
    desk.tell(node, Closed(lease))
    assert not desk.scheduler.registry.clients


def test_what_an_old_lease_still_says_is_ignored() -> None:
    desk = Desk()
    client, old = desk.client()
    node = desk.node("alpha", 7, old)
    desk.tell(client, Release())
    desk.tell(node, Closed(old))
    _, lease = desk.client(51)
    assert lease != old
    late = (ServerUp(old, spot("alpha", 777, 1), 1), Declined(old, "no"), Closed(old))
    assert not desk.tell(node, *late)
    assert not desk.scheduler.registry.servers


def test_a_node_that_opens_for_a_lease_which_was_given_up_is_told_to_close_it() -> None:
    desk = Desk()
    client, old = desk.client()
    node = desk.node("alpha", 7, old)
    desk.tell(client, Release())
    desk.tell(node, Closed(old))
    desk.client(51)
    assert [(e.to, e.message) for e in desk.tell(node, Opened(old, 2))] == [(node, Close(old))]
    assert not desk.tell(node, Closed(old, "this node does not hold it"))
    assert desk.scheduler.registry.nodes[7].state is NodeState.OPENING


def test_late_words_about_a_lease_that_a_node_closed_are_not_taken_for_words_about_the_next_one() -> None:
    """Its own Closed and its answer to our Close cross the new Open."""
    desk = Desk()
    _, lease = desk.client(wants=enlist(abandon_zombies=True))
    node = desk.node("alpha", 7, lease)
    desk.lose(7)
    assert words(desk.wait(10.0), Close)
    desk.scheduler.peer_up(7, desk.now)
    [again] = words(desk.tell(node, Closed(lease, "its scheduler was silent for 60 s")), Open)
    assert again.lease == lease._replace(opening=13)
    assert not desk.tell(node, Closed(lease, "this node does not hold it"))
    assert words(desk.tell(node, Opened(again.lease, 2)), NodeNews)


# --- status


def reports(sent: list[Envelope]) -> list[tuple[int, int, Any]]:
    """To whom, about which question, and the tasks of the client that has the cluster."""
    return [
        (e.to.epoch, e.correlation, e.message.clients[0][4:7])
        for e in sent
        if isinstance(e.message, SchedulerReport)
    ]


def test_an_inventory_names_clients_and_nodes_and_the_client_counts_its_tasks() -> None:
    desk = Desk(addr="10.0.0.1", port=9705, insecure=True)
    client, lease = desk.client()
    desk.node("alpha", 7, lease, servers=1)
    desk.wait(10.0)
    desk.tell(Address(51, CLIENT), enlist())
    [asked] = desk.tell(VIEWER, Inventory(), correlation=123)
    assert (asked.to, asked.message) == (client, Inventory())
    assert not desk.tell(Address(51, CLIENT), Counts(7, 7, 7)), "of one who has nothing"
    [answer] = desk.tell(client, Counts(1, 2, 3))
    assert (answer.to, answer.correlation) == (VIEWER, 123)
    report = answer.message
    assert (report.name, report.addr, report.port, report.private, report.insecure) == (
        "head",
        "10.0.0.1",
        9705,
        False,
        True,
    )
    assert [(c.state, c.queued, c.running, c.done) for c in report.clients] == [
        ("running", 1, 2, 3),
        ("queued", 0, 0, 0),
    ]
    assert report.nodes == [("alpha", "10.0.0.7", 9706, "open")]
    assert not desk.tell(client, Counts(1, 2, 3)) and desk.scheduler.deadline() is None


def test_who_looks_is_answered_without_counts_when_the_client_does_not_answer() -> None:
    desk = Desk()
    client, _ = desk.client()
    desk.wait(10.0)
    desk.tell(VIEWER, Inventory(), correlation=1)
    assert not desk.wait(ANSWER_S - 0.01)
    assert reports(desk.wait(0.01)) == [(99, 1, (None, None, None))]
    assert not desk.tell(client, Counts(1, 2, 3)), "too late"


def test_all_who_look_at_once_cost_the_client_one_answer() -> None:
    desk = Desk()
    client, _ = desk.client()
    assert words(desk.tell(VIEWER, Inventory(), correlation=1)) == [Inventory()]
    assert not desk.tell(Address(98, 20), Inventory(), correlation=5)
    assert reports(desk.tell(client, Counts(1, 2, 3))) == [(99, 1, (1, 2, 3)), (98, 5, (1, 2, 3))]
    assert words(desk.tell(VIEWER, Inventory(), correlation=2)) == [Inventory()], "it is asked each time anew"


@pytest.mark.parametrize("end", ["lost", "dead"])
def test_a_client_that_cannot_be_reached_is_not_waited_for(end: str) -> None:
    desk = Desk()
    _, lease = desk.client()
    desk.node("alpha", 7, lease)
    desk.lose(50) if end == "lost" else desk.die(50)
    assert reports(desk.tell(VIEWER, Inventory(), correlation=1)) == [(99, 1, (None, None, None))]


def test_a_scheduler_without_clients_answers_at_once() -> None:
    desk = Desk()
    desk.node("alpha", 7)
    [report] = words(desk.tell(VIEWER, Inventory()))
    assert (report.clients, report.nodes) == ([], [("alpha", "10.0.0.7", 9706, "free")])


def test_a_word_that_is_nothing_for_a_scheduler_is_logged() -> None:
    desk = Desk()
    assert not desk.tell(Address(9, CLIENT), Settled(0, 0))
    assert [log.level for log in desk.logs if isinstance(log, Log)] == ["warning"]


def test_the_tests_speak_of_the_python_that_their_nodes_have() -> None:
    assert node_info("alpha", 7).python == PYTHON == enlist().client.python


# --- places that clients name


def test_a_client_that_names_a_place_gets_the_cluster_when_it_was_looked_for() -> None:
    desk = Desk()
    desk.node("alpha", 7)
    client = Address(50, CLIENT)
    assert not words(desk.tell(client, enlist(Allocation("box"), Allocation("10.0.*"))))
    assert Look(50) in desk.logs
    assert desk.scheduler.registry.clients[50].places == {0: Allocation("box")}
    desk.scheduler.found(50, 0, ["10.0.0.7"], [], desk.now)
    desk.scheduler.looked(50, "", desk.now)
    sent = desk.drain()
    assert words(sent, Granted) and words(sent, Open)


def test_a_client_that_names_what_is_not_there_is_turned_away_and_holds_up_nobody() -> None:
    desk = Desk()
    looking, other = Address(50, CLIENT), Address(51, CLIENT)
    desk.tell(looking, enlist(Allocation("box")))
    assert Granted in map(type, words(desk.tell(other, enlist())))
    desk.scheduler.looked(50, "nodes: box is not known", desk.now)
    assert words(desk.drain()) == [Turned("nodes: box is not known")]
    assert StopLooking(50) in desk.logs
    desk.scheduler.looked(50, "said too late", desk.now)
    desk.scheduler.found(50, 0, ["10.0.0.7"], [7], desk.now)
    assert not desk.drain(), "it has left"


def test_a_node_that_answers_late_at_a_named_place_is_used_then() -> None:
    desk = Desk()
    desk.node("alpha", 7)
    client = Address(50, CLIENT)
    desk.tell(client, enlist(Allocation("gateway", 2222)))
    desk.scheduler.looked(50, "", desk.now)
    assert not words(desk.drain(), Open)
    desk.scheduler.found(50, 0, [], [7, 8], desk.now)
    assert [e.to.epoch for e in desk.drain() if isinstance(e.message, Open)] == [7], "8 has not registered"
    assert not desk.wait(1000.0), "it is not waited for"


def test_what_is_wrong_with_a_place_is_passed_on_to_its_client() -> None:
    desk = Desk()
    desk.client()
    desk.scheduler.tell(50, "nodes: box: no answer yet", desk.now)
    assert words(desk.drain()) == [Notice("nodes: box: no answer yet", "warning")]
    desk.scheduler.tell(51, "nodes: box: no answer yet", desk.now)
    assert not desk.drain(), "it has left"


def test_what_the_operator_names_is_looked_for_and_restricts_nobody() -> None:
    desk = Desk()
    desk.scheduler.also = [Allocation("box")]
    desk.node("alpha", 7)
    desk.tell(Address(50, CLIENT), enlist())
    assert desk.scheduler.registry.clients[50].places == {0: Allocation("box")}
    desk.scheduler.looked(50, "", desk.now)
    assert words(desk.drain(), Open)


@pytest.mark.parametrize(("asked", "given", "option"), [(2.0, 10.0, "--min"), (500.0, 100.0, "--max")])
def test_a_pulse_interval_that_nodes_do_not_allow_is_said_once(
    asked: float, given: float, option: str
) -> None:
    desk = Desk()
    client = Address(50, CLIENT)
    [lease] = [word.lease for word in words(desk.tell(client, enlist(pulse=asked)), Granted)]
    nodes = [desk.node(name, epoch) for name, epoch in (("alpha", 7), ("beta", 8))]
    said = [words(desk.tell(node, Opened(lease, 2, given)), Notice) for node in nodes]
    assert [len(notices) for notices in said] == [1, 0]
    assert f"{option}_pulse_interval {asked:g}" in said[0][0].text and f"takes {given:g} s" in said[0][0].text


def test_a_node_is_a_zombie_after_five_of_the_pulses_that_it_sends() -> None:
    desk = Desk()
    client = Address(50, CLIENT)
    [lease] = [word.lease for word in words(desk.tell(client, enlist(pulse=0.001)), Granted)]
    node = desk.node("alpha", 7)
    desk.tell(node, Opened(lease, 2, 10.0))
    desk.lose(7)
    desk.wait(49.0)
    assert not desk.scheduler.registry.nodes[7].zombie
    desk.wait(2.0)
    assert desk.scheduler.registry.nodes[7].zombie


# --- nodes that a client does not want any more


def test_a_node_that_its_client_closes_is_given_back_without_a_word_and_not_offered_again() -> None:
    desk = Desk()
    client, lease = desk.client()
    node = desk.node("rhea", 60, lease)
    [close] = desk.tell(client, CloseNode(60))
    assert (close.to, close.message) == (node, Close(lease, goes_on=True))
    assert desk.tell(client, CloseNode(60)) == []
    sent = desk.tell(node, Closed(lease))
    assert [word.text for word in words(sent, NodeNews)] == [""] and news(sent) == [Status.NodeClosed]
    assert words(desk.wait(30.0), Open) == []
    [notice] = words(desk.tell(client, Wanting(1)), Notice)
    assert "rhea (closed by this client" in notice.text
    desk.tell(client, Release())
    _, lease = desk.client(51)
    assert desk.scheduler.registry.nodes[60].lease == lease  # the next client gets it


def test_a_node_that_was_closed_while_its_scheduler_was_away_is_closed_by_the_next() -> None:
    for first in (CLIENT, NODE):
        desk = Desk(hold_until=103.0)
        held = Lease(9, 50, "id-1", 4)
        node, info = Address(60, NODE), node_info("rhea", 60)
        told: dict[int, list[Any]] = {
            CLIENT: [enlist(lease=held, nodes=[info]), CloseNode(60)],
            NODE: [Register(info, held)],
        }
        sent = desk.tell(Address(50 if first == CLIENT else 60, first), *told.pop(first))
        [(second, said)] = told.items()
        sent += desk.tell(Address(50 if second == CLIENT else 60, second), *said)
        sent += desk.wait(5.0)
        assert [envelope.to for envelope in sent if isinstance(envelope.message, Close)][-1:] == [node]
        assert desk.scheduler.registry.nodes[60].state is NodeState.CLOSING


# --- allocations of the client's own


OWN = Allocation("*", own=True)


def offers(sent: list[Envelope]) -> list[tuple[int, int]]:
    return [(word.node.epoch, word.entry) for word in words(sent, Offer)]


def test_a_client_is_asked_for_each_node_and_gets_what_it_says() -> None:
    desk = Desk()
    for name, epoch in (("alpha", 7), ("beta", 8), ("gamma", 9)):
        desk.node(name, epoch)
    client = Address(50, CLIENT)
    sent = desk.tell(client, enlist(OWN))
    assert offers(sent) == [(7, 0), (8, 0), (9, 0)]
    assert not words(sent, Open) and not words(sent, Settled)  # schedule() waits for the answers
    assert [word.cpus for word in words(desk.tell(client, Accept(7, 0, 1)), Open)] == [1]
    assert not words(desk.tell(client, Accept(8, 0, 0)))
    assert not words(desk.tell(client, Accept(9, 0, -1)))
    desk.tell(Address(7, NODE), Opened(Lease(11, 50, "id-1", HOME.epoch), 1))
    assert desk.scheduler.registry.nodes[8].share is None and desk.scheduler.registry.nodes[9].share is None


def test_entries_are_applied_in_their_order_and_each_is_asked_once() -> None:
    desk = Desk()
    client = Address(50, CLIENT)
    desk.tell(client, enlist(OWN, Allocation("alpha", cpus=1), OWN))
    desk.scheduler.looked(50, "", desk.now)
    desk.drain()
    desk.node("alpha", 7)
    desk.node("beta", 8)
    assert desk.scheduler.registry.clients[50].asked == {(7, 0), (8, 0)}
    assert [word.cpus for word in words(desk.tell(client, Accept(7, 0, -1)), Open)] == [1]
    assert offers(desk.tell(client, Accept(8, 0, -1))) == [(8, 2)]
    assert not offers(desk.tell(Address(8, NODE), Register(node_info("beta", 8, addr="10.0.0.8"))))
    assert words(desk.tell(client, Accept(8, 2, 1)), Open)


def test_while_a_client_computes_nobody_is_said_to_have_no_hope_and_the_next_client_asks_anew() -> None:
    desk = Desk()
    client = Address(50, CLIENT)
    desk.node("alpha", 7)
    desk.tell(client, enlist(OWN))
    [notice] = words(desk.tell(client, Wanting(1)), Notice)
    assert "alpha (the program's own allocate() has not answered)" in notice.text
    assert not words(desk.wait(60.0), Hopeless)
    desk.tell(client, Release())
    assert offers(desk.tell(Address(51, CLIENT), enlist(OWN))) == [(7, 0)]
    assert not words(desk.tell(client, Accept(7, 0, 2)))


def test_an_allocation_that_comes_later_is_used_and_restricts_nobody_who_had_none() -> None:
    for first, cpus in (((), [1, 2]), ((Allocation("zeus"),), [1])):
        desk = Desk()
        client, _ = desk.client(wants=enlist(*first)) if not first else (Address(50, CLIENT), None)
        if first:
            desk.tell(client, enlist(*first))
            desk.scheduler.looked(50, "", desk.now)
            desk.drain()
        desk.tell(client, Allocate(Allocation("10.0.0.7", cpus=1)))
        assert Look(50, len(first)) in desk.logs
        desk.node("alpha", 7)
        desk.node("beta", 8)
        shared = [share.node.epoch for share in desk.scheduler.registry.shares]
        assert shared == [7, 8][: len(cpus)]
        assert [
            desk.scheduler.registry.clients[50].servers_of(desk.scheduler.registry.nodes[n].info)
            for n in shared
        ] == cpus


def test_a_node_that_was_closed_is_used_again_when_an_allocation_names_it() -> None:
    desk = Desk()
    client, lease = desk.client()
    node = desk.node("rhea", 60, lease)
    desk.tell(client, CloseNode(60))
    desk.tell(node, Closed(lease))
    assert not words(desk.tell(client, Allocate(Allocation("other"))), Open)
    assert words(desk.tell(client, Allocate(Allocation("rhea"))), Open)


def test_what_is_wrong_with_a_place_that_was_named_later_is_said_and_the_client_stays() -> None:
    desk = Desk()
    client, _ = desk.client()
    desk.tell(client, Allocate(Allocation("box")))
    desk.scheduler.looked(50, "nodes: box: no such host", desk.now)
    assert words(desk.drain()) == [Notice("nodes: box: no such host", "warning")]
    [notice] = words(desk.tell(client, Allocate(Allocation("*", platform="["))), Notice)
    assert "is not a regular expression" in notice.text
