"""The scheduler told one thing after the other: what it answers, and to whom."""

from __future__ import annotations

from typing import Any

import pytest
from dispycos.brokers.placement import AHEAD_MAX

from dispycos.brokers import dispatch, leasing, scheduler
from dispycos.brokers.lifecycle import NodeState
from dispycos.brokers.outbox import Look, StopLooking
from dispycos.config import MAX_PULSE_INTERVAL
from dispycos.machine import Log
from dispycos.protocol.addresses import CLIENT, NODE, Address
from dispycos.protocol.envelope import Envelope
from dispycos.protocol.messages import (
    Admit,
    Adopt,
    Allocation,
    Availability,
    Began,
    Close,
    Closed,
    Declined,
    Done,
    Gone,
    Granted,
    Inventory,
    Lease,
    Left,
    NodeNews,
    Notice,
    Open,
    Opened,
    Outcome,
    OutcomeAck,
    Pulse,
    Queued,
    Recall,
    Recalled,
    Register,
    Release,
    Released,
    Run,
    SchedulerReport,
    ServerDown,
    ServerNews,
    ServerUp,
    Settled,
    Submit,
    TaskId,
    Terminate,
    Turned,
)
from dispycos.protocol.status import OutcomeKind, Status
from dispycos.turns import FORGET_NODE_S

from .kit.scheduler import HOME, PYTHON, Desk, enlist, node_info, spot

RETURNED = OutcomeKind.RETURNED


def words(sent: list[Envelope], *kinds: type) -> list[Any]:
    return [envelope.message for envelope in sent if not kinds or isinstance(envelope.message, kinds)]


def placed(sent: list[Envelope]) -> list[tuple[int, int]]:
    """Number of the task, epoch of the node."""
    return [(e.message.task.number, e.to.epoch) for e in sent if isinstance(e.message, Run)]


def submit(number: int, function: str = "f", owner: int = 50, **where: Any) -> Submit:
    return Submit(TaskId(owner, number), function, **where)


def done(number: int, kind: OutcomeKind = RETURNED, seconds: float = 1.0) -> Done:
    return Done(TaskId(50, number), kind, seconds)


def heard(*numbers: int, node: int = 7) -> OutcomeAck:
    return OutcomeAck([TaskId(50, number) for number in numbers], node)


def make_short(desk: Desk, client: Address, node: Address, function: str = "f") -> None:
    """Run a function until it counts as short."""
    for number in range(1001, 1021):
        desk.tell(client, submit(number, function))
        desk.tell(node, done(number, seconds=0.001))
        desk.tell(client, OutcomeAck([TaskId(50, number)], node.epoch))


# --- clients


def test_the_first_client_gets_the_cluster_and_the_others_hear_where_they_stand() -> None:
    desk = Desk()
    first, second, third = (Address(epoch, CLIENT) for epoch in (50, 51, 52))
    sent = desk.tell(first, enlist())
    lease = Lease(1, 50, "id-1", HOME.epoch)
    assert words(sent) == [Granted(lease, "head"), Admit(4096), Settled(0, 0)]
    desk.tell(second, enlist())
    assert words(desk.tell(third, enlist())) == [Queued(2, "script.py on here (pid 77)")]
    assert [
        (e.to, e.message.position) for e in desk.tell(second, Release()) if isinstance(e.message, Queued)
    ] == [(third, 1)]
    sent = desk.tell(first, Release())
    assert [(e.to, type(e.message)) for e in sent[:2]] == [(first, Released), (third, Granted)]


@pytest.mark.parametrize(("private", "level"), [(False, "warning"), (True, "debug")])
def test_that_a_client_vanished_is_not_said_at_its_own_terminal(private: bool, level: str) -> None:
    desk = Desk()
    desk.scheduler.private = private
    desk.client(50)
    desk.scheduler.peer_reset(50, [], desk.now)
    desk.drain()
    assert [log.level for log in desk.logs if isinstance(log, Log) and "is gone" in log.text] == [level]


def test_a_client_that_vanished_from_the_queue_holds_up_nobody() -> None:
    desk = Desk()
    holder, _ = desk.client(50)
    ghost, patient = Address(51, CLIENT), Address(52, CLIENT)
    desk.tell(ghost, enlist())
    desk.tell(patient, enlist())
    desk.scheduler.peer_lost(51, desk.now)
    sent = desk.tell(holder, Release())
    assert [e.to for e in sent if isinstance(e.message, Granted)] == [patient]
    assert 51 in desk.scheduler.registry.clients
    desk.wait(scheduler.CLIENT_PATIENCE_S)
    assert 51 not in desk.scheduler.registry.clients


def test_a_queued_client_that_comes_back_in_time_keeps_its_place() -> None:
    desk = Desk()
    holder, _ = desk.client(50)
    desk.tell(Address(51, CLIENT), enlist())
    desk.scheduler.peer_lost(51, desk.now)
    desk.wait(9.0)
    desk.scheduler.peer_up(51, None, desk.now)
    desk.wait(9.0)
    assert [e.to.epoch for e in desk.tell(holder, Release()) if isinstance(e.message, Granted)] == [51]


@pytest.mark.parametrize(
    ("wants", "reason"),
    [
        (enlist(pulse=0.0), "pulse_interval"),
        (enlist(pulse=float("nan")), "pulse_interval"),
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
    assert [news.status for news in words(sent)] == [Status.ServerDiscovered, Status.ServerInitialized]
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
    sent = desk.wait(leasing.SETTLE_PATIENCE_S)
    [notice] = words(sent, Notice)
    assert "alpha" in notice.text and words(sent, Settled) == [Settled(0, 0)]


def test_a_client_without_any_node_is_told_what_is_missing() -> None:
    desk = Desk()
    desk.client()
    assert not desk.wait(2.9)
    [notice] = words(desk.wait(0.2))
    assert (
        "no node found" in notice.text and "dispycos node" in notice.text and "Client(nodes=" in notice.text
    )


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
    [again] = words(desk.wait(leasing.DECLINED_AGAIN_S), Open)
    assert not words(desk.tell(node, Declined(again.lease, "held by bob for 17 s")))
    desk.tell(client, Release())
    assert desk.scheduler.deadline() is None


def test_a_node_that_still_holds_an_old_lease_closes_it_before_it_gets_the_new_one() -> None:
    desk = Desk()
    desk.client()
    old = Lease(9, 40, "id-1", 77)
    node = Address(7, NODE)
    assert words(desk.tell(node, Register(node_info("alpha", 7), old))) == [Close(old, terminate=True)]
    assert [type(word) for word in words(desk.tell(node, Closed(old)))] == [NodeNews, Open]


def test_a_node_started_again_takes_the_place_of_its_earlier_process() -> None:
    desk = Desk()
    client, lease = desk.client()
    desk.node("alpha", 7, lease)
    desk.tell(client, submit(1))
    sent = desk.tell(Address(8, NODE), Register(node_info("alpha", 8, addr="10.0.0.7")))
    [outcome] = words(sent, Outcome)
    assert (outcome.outcome, outcome.started) == (OutcomeKind.LOST, True) and "alpha" in outcome.text
    assert [news.status for news in words(sent, NodeNews)] == [Status.NodeClosed, Status.NodeDiscovered]
    assert [news.status for news in words(sent, ServerNews)] == [Status.ServerClosed] * 2
    assert list(desk.scheduler.registry.nodes) == [8]


def test_a_node_back_within_patience_goes_on_and_got_nothing_new_meanwhile() -> None:
    desk = Desk()
    client, lease = desk.client()
    node = desk.node("alpha", 7, lease)
    desk.tell(client, submit(1))
    desk.scheduler.peer_lost(7, desk.now)
    assert [news.status for news in words(desk.drain())] == [Status.NodeDisconnected]
    assert not placed(desk.tell(client, submit(2)))
    desk.wait(9.9)
    desk.scheduler.peer_up(7, None, desk.now)
    assert not words(desk.drain()), "used before it said what it has still"
    assert placed(desk.back("alpha", 7, lease)) == [(2, 7)]
    assert not words(desk.tell(node, done(1)), Outcome)


def test_a_node_silent_for_five_pulses_is_abandoned_if_so_asked_and_closes_when_it_is_back() -> None:
    desk = Desk()
    client, lease = desk.client(wants=enlist(abandon_zombies=True))
    node = desk.node("alpha", 7, lease)
    desk.tell(client, submit(1), submit(2, node="alpha"), submit(3, node="alpha"))
    desk.scheduler.peer_lost(7, desk.now)
    sent = desk.wait(10.0)
    outcomes = [(o.task.number, o.outcome, o.started) for o in words(sent, Outcome)]
    assert outcomes == [
        (1, OutcomeKind.LOST, True),
        (2, OutcomeKind.LOST, True),
        (3, OutcomeKind.REFUSED, False),
    ]
    assert [news.status for news in words(sent, NodeNews)] == [
        Status.NodeDisconnected,
        Status.NodeAbandoned,
    ]
    assert [news.status for news in words(sent, ServerNews)] == [Status.ServerAbandoned] * 2
    assert words(sent, Close) == [Close(lease, terminate=True)]
    assert not words(desk.back("alpha", 7, lease))
    assert [type(word) for word in words(desk.tell(node, Closed(lease)))] == [NodeNews, Open]


def test_a_zombie_that_is_not_to_be_abandoned_keeps_its_tasks_and_goes_on_when_it_is_back() -> None:
    desk = Desk()
    client, lease = desk.client()
    node = desk.node("alpha", 7, lease)
    desk.tell(client, submit(1, "compute"), submit(2, "compute"), submit(3, "wait", io=True))
    desk.scheduler.peer_lost(7, desk.now)
    [news] = words(desk.drain())
    assert news.text == "its link is down; 3 tasks (compute 2, wait 1) may still run there"
    assert [word.text for word in words(desk.wait(500.0))] == [
        "node alpha (10.0.0.7:9706) has been silent for 10 s and gets no new tasks until it is back; 3 tasks "
        "(compute 2, wait 1) go on then, unless it has ended them for want of its scheduler. terminate() ends the wait for one, "
        "close(terminate=True) for all, and Client(abandon_zombie_nodes=True) gives such nodes up"
    ]
    assert not placed(desk.tell(client, submit(4, io=True)))
    sent = desk.back("alpha", 7, lease)
    assert placed(sent) == [(4, 7)]
    assert [news.status for news in words(sent, NodeNews)] == [Status.NodeResumed]
    assert not words(desk.tell(node, done(1)), Outcome)
    assert placed(desk.tell(client, submit(5))) == [(5, 7)]


def test_a_zombie_is_gone_at_the_latest_when_its_session_goes() -> None:
    desk = Desk()
    client, lease = desk.client()
    desk.node("alpha", 7, lease)
    desk.tell(client, submit(1))
    desk.scheduler.peer_lost(7, desk.now)
    assert not words(desk.wait(leasing.FORGET_AFTER_S - 1), Outcome)
    [outcome] = words(desk.wait(1.0), Outcome)
    assert outcome.outcome == OutcomeKind.LOST and "its session is gone" in outcome.text


def test_a_zombie_that_is_known_to_be_dead_is_gone_at_once() -> None:
    desk = Desk()
    client, lease = desk.client()
    desk.node("alpha", 7, lease)
    desk.node("beta", 8, lease)
    desk.tell(client, submit(1, node="alpha"), submit(2, node="beta"))
    for epoch in (7, 8):
        desk.scheduler.peer_lost(epoch, desk.now)
    desk.wait(20.0)
    desk.scheduler.peer_reset(7, [], desk.now)
    assert [outcome.task.number for outcome in words(desk.drain(), Outcome)] == [1]
    sent = desk.tell(Address(9, NODE), Register(node_info("beta", 9, addr="10.0.0.8")))
    assert [outcome.task.number for outcome in words(sent, Outcome)] == [2]


def test_the_wait_for_a_task_that_was_terminated_at_a_silent_node_has_an_end() -> None:
    desk = Desk()
    client, lease = desk.client()
    node = desk.node("alpha", 7, lease)
    desk.tell(client, submit(1), submit(2))
    desk.tell(client, Terminate(TaskId(50, 1)))
    desk.scheduler.peer_lost(7, desk.now)
    desk.drain()
    desk.wait(5.0)
    desk.tell(client, Terminate(TaskId(50, 2)))
    assert not words(desk.wait(4.9), Outcome)
    outcomes = words(desk.wait(0.1), Outcome)
    assert [(o.task.number, o.outcome, o.started) for o in outcomes] == [
        (1, OutcomeKind.LOST, True),
        (2, OutcomeKind.LOST, True),
    ]
    assert outcomes[0].text == (
        "terminated, but node alpha (10.0.0.7:9706) has been silent since: "
        "it may still run there, until the node is back and ends it"
    )
    assert not desk.wait(500.0), "there is nothing left to say"
    desk.back("alpha", 7, lease)
    assert not desk.tell(node, done(1, OutcomeKind.TERMINATED), Recalled([TaskId(50, 2)]))


def test_a_task_terminated_at_a_node_that_is_back_in_time_ends_there() -> None:
    desk = Desk()
    client, lease = desk.client()
    node = desk.node("alpha", 7, lease)
    desk.tell(client, submit(1))
    desk.scheduler.peer_lost(7, desk.now)
    assert words(desk.tell(client, Terminate(TaskId(50, 1))), Terminate)
    desk.wait(9.0)
    desk.back("alpha", 7, lease)
    assert not words(desk.wait(100.0), Outcome)
    assert not words(desk.tell(node, done(1, OutcomeKind.TERMINATED)), Outcome)


def test_a_client_that_closes_with_terminate_does_not_wait_for_a_zombie() -> None:
    desk = Desk()
    client, lease = desk.client()
    node = desk.node("alpha", 7, lease)
    desk.tell(client, submit(1))
    desk.scheduler.peer_lost(7, desk.now)
    desk.wait(20.0)
    sent = desk.tell(client, Release(terminate=True))
    [outcome] = words(sent, Outcome)
    assert outcome.outcome == OutcomeKind.TERMINATED and "was silent when the client closed" in outcome.text
    assert words(sent, Released) == [Released()]
    second, _ = desk.client(51)
    assert not words(desk.back("alpha", 7, lease), Open), "it closes first"
    assert words(desk.tell(node, Closed(lease)), Open)[0].lease.client == second.epoch


def test_a_client_that_closes_when_its_tasks_have_ended_does_not_wait_for_a_zombie_either() -> None:
    desk = Desk()
    client, lease = desk.client()
    desk.node("alpha", 7, lease)
    desk.scheduler.peer_lost(7, desk.now)
    [_, silent] = words([*desk.drain(), *desk.wait(20.0)], NodeNews, Notice)
    assert silent.text.endswith("gets no new tasks until it is back")
    assert words(desk.tell(client, Release()), Released) == [Released()]


def test_a_node_that_ended_its_lease_while_it_was_away_gets_nothing_more_and_is_opened_anew_when_it_has() -> (
    None
):
    desk = Desk()
    client, lease = desk.client()
    node = desk.node("alpha", 7, lease)
    desk.tell(client, submit(1), submit(2))
    desk.scheduler.peer_lost(7, desk.now)
    assert [news.status for news in words(desk.drain())] == [Status.NodeDisconnected]
    desk.wait(8.0)
    assert not words(desk.back("alpha", 7, lease, closing=True), Run, NodeNews)
    assert not placed(desk.tell(client, submit(3)))
    assert not words(desk.tell(node, done(1, OutcomeKind.TERMINATED)), Outcome)
    sent = desk.tell(node, Closed(lease, "its scheduler was silent for 60 s"))
    [lost] = [outcome for outcome in words(sent, Outcome) if outcome.task.number == 2]
    assert lost.outcome == OutcomeKind.LOST and "silent for 60 s" in lost.text
    assert words(sent, Open)


def test_a_node_whose_lease_has_ended_by_the_time_it_is_back_is_opened_anew() -> None:
    desk = Desk()
    client, lease = desk.client()
    node = desk.node("alpha", 7, lease)
    desk.tell(client, submit(1))
    desk.scheduler.peer_lost(7, desk.now)
    desk.scheduler.peer_up(7, None, desk.now)
    sent = desk.tell(node, Closed(lease, "its scheduler was silent for 60 s"))
    assert words(sent, Outcome)[0].outcome == OutcomeKind.LOST and not words(sent, Open)
    assert words(desk.back("alpha", 7, None), Open)


def test_a_node_that_comes_back_with_a_new_session_is_another_one_and_ends_what_it_has() -> None:
    desk = Desk()
    client, lease = desk.client()
    node = desk.node("alpha", 7, lease)
    desk.tell(client, submit(1))
    desk.scheduler.peer_lost(7, desk.now)
    desk.scheduler.peer_up(7, None, desk.now)
    desk.scheduler.peer_reset(7, [], desk.now)
    sent = desk.tell(node, Register(node_info("alpha", 7), lease))
    [outcome] = words(sent, Outcome)
    assert outcome.outcome == OutcomeKind.LOST and "its session was lost" in outcome.text
    assert words(sent, Close, Open) == [Close(lease, terminate=True)]
    assert words(desk.tell(node, Closed(lease)), Open)


def test_the_scheduler_gives_a_node_up_before_the_runtime_forgets_its_session() -> None:
    assert leasing.FORGET_AFTER_S < FORGET_NODE_S
    assert leasing.NODE_PATIENCE_PULSES * MAX_PULSE_INTERVAL < leasing.FORGET_AFTER_S


def test_a_node_whose_process_ended_is_gone_at_once() -> None:
    desk = Desk()
    client, lease = desk.client()
    desk.node("alpha", 7, lease)
    desk.tell(client, submit(1))
    desk.scheduler.peer_lost(7, desk.now)
    desk.scheduler.peer_reset(7, [], desk.now)
    [outcome] = words(desk.drain(), Outcome)
    assert outcome.text == "node alpha (10.0.0.7:9706) is gone: its process ended"
    assert not desk.scheduler.registry.nodes


def test_a_node_that_closes_by_itself_is_spoken_for_and_not_opened_again_for_this_client() -> None:
    desk = Desk()
    client, lease = desk.client()
    node = desk.node("alpha", 7, lease)
    desk.tell(client, submit(1))
    sent = desk.tell(node, Closed(lease, "close at its terminal"))
    assert words(sent, Outcome)[0].outcome == OutcomeKind.LOST and not words(sent, Open)
    assert "close at its terminal" in words(sent, NodeNews)[0].text


def test_a_node_that_lost_its_lease_is_opened_anew() -> None:
    desk = Desk()
    client, lease = desk.client()
    node = desk.node("alpha", 7, lease)
    desk.tell(client, submit(1))
    sent = desk.tell(node, Register(node_info("alpha", 7, addr="10.0.0.7"), None))
    assert words(sent, Outcome)[0].outcome == OutcomeKind.LOST and words(sent, Open)


def test_a_pulse_goes_on_to_the_client_and_what_it_says_is_remembered() -> None:
    desk = Desk()
    _, lease = desk.client()
    node = desk.node("alpha", 7, lease)
    pulse = Pulse("alpha", Availability(50.0, 1, 2, 3))
    assert words(desk.tell(node, pulse)) == [pulse]
    assert desk.scheduler.registry.nodes[7].info.available == pulse.available


def test_files_that_go_with_a_lease_are_told_before_its_end() -> None:
    desk = Desk()
    client, lease = desk.client()
    node = desk.node("alpha", 7, lease)
    desk.tell(client, Release())
    left = Left(2, 10, ["out.txt", "a/b.bin"])
    assert words(desk.tell(node, left)) == [left]
    assert words(desk.tell(node, Closed(lease)), Released)
    assert words(desk.tell(node, left)) == [], "nobody has it now"


# --- tasks


def test_the_payload_reaches_the_node_untouched() -> None:
    desk = Desk()
    client, lease = desk.client()
    node = desk.node("alpha", 7, lease)
    payload = b"pickled"
    [run] = desk.tell(client, submit(1, code=3, fetch=True), payload=payload)
    assert run.to == node and run.payload is payload
    assert run.message == Run(TaskId(50, 1), "f", code=3, fetch=True)


def test_a_cpu_task_has_a_server_alone_and_the_least_loaded_node_is_first() -> None:
    desk = Desk()
    client, lease = desk.client()
    alpha = desk.node("alpha", 7, lease)
    desk.node("beta", 8, lease, servers=4)
    runs = placed(desk.tell(client, *(submit(number) for number in range(1, 9))))
    assert [node for _, node in runs] == [7, 8, 8, 7, 8, 8]
    assert [number for number, _ in runs] == [1, 2, 3, 4, 5, 6]
    assert placed(desk.tell(alpha, done(4))) == [(7, 7)]


def test_io_tasks_are_spread_and_do_not_wait_for_a_free_server() -> None:
    desk = Desk()
    client, lease = desk.client()
    desk.node("alpha", 7, lease)
    desk.node("beta", 8, lease)
    desk.tell(client, *(submit(number) for number in range(1, 5)))
    runs = placed(desk.tell(client, *(submit(number, io=True) for number in range(11, 19))))
    assert sorted(node for _, node in runs) == [7] * 4 + [8] * 4


def test_short_tasks_wait_evenly_behind_busy_servers_up_to_a_limit() -> None:
    desk = Desk()
    client, lease = desk.client()
    alpha = desk.node("alpha", 7, lease)
    make_short(desk, client, alpha)
    desk.node("beta", 8, lease)
    runs = placed(desk.tell(client, *(submit(number) for number in range(1, 13))))
    assert [sum(at == node for _, at in runs) for node in (7, 8)] == [6, 6]
    runs += placed(desk.tell(client, *(submit(number) for number in range(13, 5 * AHEAD_MAX))))
    each = 2 * (1 + AHEAD_MAX)
    assert [sum(at == node for _, at in runs) for node in (7, 8)] == [each, each]
    assert [number for number, _ in runs] == list(range(1, 2 * each + 1))


def test_short_tasks_do_not_push_aside_an_earlier_one_that_needs_a_server() -> None:
    desk = Desk()
    client, lease = desk.client()
    node = desk.node("alpha", 7, lease)
    make_short(desk, client, node)
    desk.tell(client, *(submit(number) for number in range(1, 5)))
    assert not placed(desk.tell(client, submit(5, "other"), submit(6)))
    desk.tell(node, *(done(number, seconds=0.001) for number in (1, 2)))
    assert placed(desk.tell(node, done(3, seconds=0.001))) == [(5, 7), (6, 7)]


def test_waiting_tasks_change_their_queue_when_their_function_turns_out_short_or_long() -> None:
    desk = Desk()
    client, lease = desk.client()
    node = desk.node("alpha", 7, lease, servers=1)
    desk.tell(client, *(submit(number) for number in range(1, AHEAD_MAX + 56)))
    for number in range(1, 20):
        assert placed(desk.tell(node, done(number, seconds=0.001))) == [(number + 1, 7)]
    runs = placed(desk.tell(node, done(20, seconds=0.001)))
    assert [number for number, _ in runs] == list(range(21, AHEAD_MAX + 22))
    assert not placed(desk.tell(node, done(21, seconds=0.9)))
    assert not desk.scheduler.registry.fast and len(desk.scheduler.registry.slow) == 34


def test_a_task_for_a_busy_server_waits_for_it_and_holds_up_nobody() -> None:
    desk = Desk()
    client, lease = desk.client()
    node = desk.node("alpha", 7, lease)
    desk.tell(client, submit(1, server=701))
    desk.tell(node, Began(TaskId(50, 1), 701))
    sent = desk.tell(client, submit(2, server=701), submit(3, server=701, io=True), submit(4))
    assert sorted(placed(sent)) == [(3, 7), (4, 7)]
    assert not placed(desk.tell(node, done(4)))
    assert placed(desk.tell(node, done(1))) == [(2, 7)]


def test_a_task_for_a_server_that_runs_an_unpinned_one_waits_for_it() -> None:
    desk = Desk()
    client, lease = desk.client()
    node = desk.node("alpha", 7, lease)
    desk.tell(client, submit(1))
    desk.tell(node, Began(TaskId(50, 1), 702))
    assert not placed(desk.tell(client, submit(2, server=702)))
    assert placed(desk.tell(node, done(1))) == [(2, 7)]


def test_free_slots_go_to_the_earliest_whether_pinned_or_not() -> None:
    desk = Desk()
    client, lease = desk.client()
    node = desk.node("alpha", 7, lease)
    sent = desk.tell(
        client, submit(1), submit(2, node="alpha"), submit(3), submit(4, node="alpha"), submit(5)
    )
    assert [number for number, _ in placed(sent)] == [1, 2]
    later = [placed(desk.tell(node, done(number)))[0][0] for number in (1, 2, 3)]
    assert later == [3, 4, 5]


def test_a_pinned_task_is_not_starved_by_short_ones() -> None:
    desk = Desk()
    client, lease = desk.client()
    node = desk.node("alpha", 7, lease, servers=1)
    make_short(desk, client, node)
    desk.tell(client, submit(1), submit(2))
    desk.tell(client, submit(3, "other", node="alpha"), submit(4))
    desk.tell(node, done(1, seconds=0.001))
    assert placed(desk.tell(node, done(2, seconds=0.001))) == [(3, 7)]


def test_a_task_for_what_there_is_not_is_refused_with_what_there_is() -> None:
    desk = Desk()
    client, lease = desk.client()
    desk.node("alpha", 7, lease)
    sent = desk.tell(client, submit(1, node="beta"), submit(2, server=999), submit(3, node="10.0.0.7"))
    refused = words(sent, Outcome)
    assert [(o.task.number, o.outcome, o.started) for o in refused] == [(1, 6, False), (2, 6, False)]
    assert "beta" in refused[0].text and "alpha (10.0.0.7:9706)" in refused[0].text
    assert "alpha/server-1, alpha/server-2" in refused[1].text
    assert placed(sent) == [(3, 7)]


def test_tasks_for_an_address_are_spread_over_the_nodes_that_have_it() -> None:
    desk = Desk()
    client, lease = desk.client()
    for name, epoch in (("a", 7), ("b", 8)):
        desk.node(name, epoch, lease, servers=1, addr="10.0.0.1", port=9000 + epoch)
    sent = desk.tell(client, *(submit(number, node="10.0.0.1") for number in (1, 2, 3, 4)))
    assert sorted(node for _, node in placed(sent)) == [7, 8]
    assert [sum(map(len, site.pinned.values())) for site in desk.scheduler.registry.sites()] == [1, 1]
    sent = desk.tell(client, *(submit(number, node="10.0.0.1", io=True) for number in (5, 6)))
    assert sorted(node for _, node in placed(sent)) == [7, 8]


def test_a_task_for_an_address_and_port_goes_to_that_node_though_another_has_its_name() -> None:
    desk = Desk()
    client, lease = desk.client()
    for epoch, addr in ((7, "10.0.0.1"), (8, "10.0.0.2")):
        desk.node("a", epoch, lease, servers=1, addr=addr)
    assert placed(desk.tell(client, submit(1, node="10.0.0.2:9706"))) == [(1, 8)]
    assert not placed(desk.tell(client, submit(2, node="10.0.0.2:9706")))


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


def test_a_dead_server_takes_along_what_waited_for_it() -> None:
    desk = Desk()
    client, lease = desk.client()
    node = desk.node("alpha", 7, lease)
    desk.tell(client, submit(1, server=701), submit(2, server=701))
    sent = desk.tell(
        node, done(1, OutcomeKind.LOST), ServerDown(lease, spot("alpha", 701, 1), "killed by SIGKILL (9)")
    )
    assert [(o.task.number, o.outcome) for o in words(sent, Outcome)] == [(2, OutcomeKind.REFUSED)]
    assert "SIGKILL" in words(sent, Outcome)[0].text
    assert words(sent, ServerNews)[0].text == "killed by SIGKILL (9)"


def test_terminate_drops_a_waiting_task_and_goes_on_to_the_node_of_another() -> None:
    desk = Desk()
    client, lease = desk.client()
    node = desk.node("alpha", 7, lease, servers=1)
    desk.tell(client, submit(1), submit(2), submit(3, node="alpha"))
    for number in (2, 3):
        [outcome] = words(desk.tell(client, Terminate(TaskId(50, number))))
        assert (outcome.task.number, outcome.outcome, outcome.started) == (
            number,
            OutcomeKind.CANCELLED,
            False,
        )
    [passed] = desk.tell(client, Terminate(TaskId(50, 1)))
    assert passed.to == node and passed.message == Terminate(TaskId(50, 1))
    assert not desk.tell(Address(66, CLIENT), Terminate(TaskId(50, 1)))


def test_recalled_tasks_are_placed_again_before_later_ones() -> None:
    desk = Desk()
    client, lease = desk.client()
    node = desk.node("alpha", 7, lease, servers=1)
    desk.tell(client, submit(1), submit(2), submit(3))
    sent = desk.tell(node, Recalled([TaskId(50, 1)]))
    assert placed(sent) == [(1, 7)]


def test_a_task_terminated_while_it_was_recalled_does_not_come_back() -> None:
    desk = Desk()
    client, lease = desk.client()
    node = desk.node("alpha", 7, lease)
    desk.tell(client, submit(1))
    desk.tell(client, Terminate(TaskId(50, 1)))
    [outcome] = words(desk.tell(node, Recalled([TaskId(50, 1)])))
    assert (outcome.outcome, outcome.started) == (OutcomeKind.CANCELLED, False)


def test_a_task_that_had_begun_is_never_placed_again() -> None:
    desk = Desk()
    client, lease = desk.client()
    node = desk.node("alpha", 7, lease)
    desk.tell(client, submit(1))
    [outcome] = words(desk.tell(node, Began(TaskId(50, 1), 701), Recalled([TaskId(50, 1)])))
    assert (outcome.outcome, outcome.started) == (OutcomeKind.LOST, True)


def test_an_adopted_task_takes_its_place_until_it_ends_though_it_was_never_handed_in() -> None:
    desk = Desk()
    client, lease = desk.client()
    alpha = desk.node("alpha", 7, lease, servers=1)
    desk.node("beta", 8, lease, servers=1)
    desk.tell(alpha, Adopt(TaskId(50, 9), "f", 701))
    assert placed(desk.tell(client, submit(1), submit(2))) == [(1, 8)]
    assert placed(desk.tell(alpha, done(9))) == [(2, 7)]
    assert desk.scheduler.registry.clients[50].ended == 0


def test_with_its_node_an_adopted_task_is_lost() -> None:
    desk = Desk()
    _, lease = desk.client()
    alpha = desk.node("alpha", 7, lease)
    desk.tell(alpha, Adopt(TaskId(50, 9), "f", 701))
    desk.scheduler.peer_lost(7, desk.now)
    desk.scheduler.peer_reset(7, [], desk.now)
    [outcome] = words(desk.drain(), Outcome)
    assert (outcome.task.number, outcome.outcome, outcome.started) == (9, OutcomeKind.LOST, True)


@pytest.mark.parametrize("adopt", [Adopt(TaskId(51, 9), "f", 701), Adopt(TaskId(50, 1), "f", 701)])
def test_what_is_not_the_clients_or_known_already_is_not_adopted(adopt: Adopt) -> None:
    desk = Desk()
    client, lease = desk.client()
    alpha = desk.node("alpha", 7, lease)
    desk.tell(client, submit(1))
    desk.tell(alpha, adopt)
    assert [task.number for task in desk.scheduler.registry.tasks] == [1]


def test_short_tasks_that_wait_while_others_are_idle_are_recalled() -> None:
    desk = Desk()
    client, lease = desk.client()
    alpha = desk.node("alpha", 7, lease, servers=1)
    make_short(desk, client, alpha)
    runs = placed(desk.tell(client, *(submit(number) for number in range(1, 12))))
    assert len(runs) == 11
    desk.node("beta", 8, lease, servers=1)
    assert not desk.wait(0.04)
    assert [(e.to, e.message) for e in desk.wait(0.02)] == [(alpha, Recall(5))]
    back = [TaskId(50, number) for number in range(7, 12)]
    assert placed(desk.tell(alpha, Recalled(back))) == [(number, 8) for number in range(7, 12)]
    assert not words(desk.wait(5.0), Recall)


def test_a_node_with_nothing_to_give_back_is_not_asked_all_the_time() -> None:
    desk = Desk()
    client, lease = desk.client()
    alpha = desk.node("alpha", 7, lease, servers=1)
    make_short(desk, client, alpha)
    desk.tell(client, submit(1), submit(2))
    desk.node("beta", 8, lease, servers=1)
    assert words(desk.wait(0.06), Recall)
    assert not words(desk.tell(alpha, Recalled([])))
    assert not words(desk.wait(0.5), Recall)
    assert words(desk.wait(1.0), Recall)


def test_credit_is_raised_a_quarter_at_a_time_and_going_beyond_it_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for module in (dispatch, scheduler):
        monkeypatch.setattr(module, "CREDIT", 8)
    desk = Desk()
    client, lease = desk.client()
    node = desk.node("alpha", 7, lease)
    sent = desk.tell(client, *(submit(number) for number in range(1, 10)))
    assert [(o.task.number, o.outcome) for o in words(sent, Outcome)] == [(9, OutcomeKind.REFUSED)]
    assert not words(desk.tell(node, done(1)), Admit)
    assert words(desk.tell(node, done(2)), Admit) == [Admit(10)]


def test_a_task_of_somebody_without_the_cluster_is_refused() -> None:
    desk = Desk()
    client, lease = desk.client()
    desk.node("alpha", 7, lease)
    for sender, task in ((Address(60, CLIENT), submit(1, owner=60)), (client, submit(1, owner=60))):
        [answer] = desk.tell(sender, task)
        assert answer.to == sender and answer.message.outcome == OutcomeKind.REFUSED


def test_a_task_handed_in_twice_runs_once_and_a_stranger_ends_nothing() -> None:
    desk = Desk()
    client, lease = desk.client()
    desk.node("alpha", 7, lease)
    other = desk.node("beta", 8, lease)
    assert placed(desk.tell(client, submit(1), submit(1))) == [(1, 7)]
    desk.tell(other, done(1))
    assert TaskId(50, 1) in desk.scheduler.registry.tasks
    assert sum("ignored" in log.text for log in desk.logs if isinstance(log, Log)) == 2


# --- outcomes and who has heard them


def test_an_acknowledgement_goes_on_to_the_node_that_keeps_the_outcome() -> None:
    desk = Desk()
    client, lease = desk.client()
    alpha = desk.node("alpha", 7, lease)
    desk.node("beta", 8, lease)
    desk.tell(client, submit(1, node="alpha"), submit(2, node="alpha"))
    desk.tell(alpha, done(1), done(2))
    sent = desk.tell(client, heard(1, 2))
    assert [(e.to, e.message) for e in sent] == [(alpha, OutcomeAck([TaskId(50, 1), TaskId(50, 2)]))]


def test_a_node_that_is_gone_is_spoken_for_what_it_ended_and_the_client_has_not_heard() -> None:
    desk = Desk()
    client, lease = desk.client()
    node = desk.node("alpha", 7, lease, servers=4)
    desk.tell(client, submit(1), submit(2), submit(3), submit(4))
    desk.tell(node, done(1), done(2), done(3))
    desk.tell(client, heard(2))
    desk.scheduler.peer_lost(7, desk.now)
    desk.scheduler.peer_reset(7, [], desk.now)
    outcomes = words(desk.drain(), Outcome)
    assert sorted((o.task.number, o.outcome, o.started) for o in outcomes) == [
        (1, OutcomeKind.LOST, True),
        (3, OutcomeKind.LOST, True),
        (4, OutcomeKind.LOST, True),
    ]
    texts = {o.task.number: o.text for o in outcomes}
    assert texts[4] == "node alpha (10.0.0.7:9706) is gone: its process ended"
    assert texts[1] == texts[3] == f"it ended, but its outcome was lost: {texts[4]}"


@pytest.mark.parametrize("end", ["silent", "started again", "lease lost"])
def test_unheard_outcomes_are_spoken_for_however_a_node_is_given_up(end: str) -> None:
    desk = Desk()
    client, lease = desk.client(wants=enlist(abandon_zombies=True))
    node = desk.node("alpha", 7, lease)
    desk.tell(client, submit(1))
    desk.tell(node, done(1))
    if end == "silent":
        desk.scheduler.peer_lost(7, desk.now)
        sent = desk.wait(10.0)
    elif end == "started again":
        sent = desk.tell(Address(8, NODE), Register(node_info("alpha", 8, addr="10.0.0.7")))
    else:
        sent = desk.tell(node, Register(node_info("alpha", 7, addr="10.0.0.7"), None))
    assert [(o.task.number, o.outcome) for o in words(sent, Outcome)] == [(1, OutcomeKind.LOST)]


def test_a_client_that_hears_before_the_scheduler_leaves_nothing_to_speak_for() -> None:
    desk = Desk()
    client, lease = desk.client()
    node = desk.node("alpha", 7, lease)
    desk.tell(client, submit(1))
    assert words(desk.tell(client, heard(1))) == [OutcomeAck([TaskId(50, 1)])]
    desk.tell(node, done(1))
    [site] = desk.scheduler.registry.sites()
    assert not site.heard and not site.unheard
    desk.scheduler.peer_reset(7, [], desk.now)
    assert not words(desk.drain(), Outcome)


def test_an_outcome_that_came_twice_is_confirmed_twice_and_nothing_of_it_remains() -> None:
    desk = Desk()
    client, lease = desk.client()
    node = desk.node("alpha", 7, lease)
    desk.tell(client, submit(1))
    desk.tell(node, done(1))
    desk.tell(client, heard(1))
    desk.tell(client, heard(1))  # the node said it again when its server died
    [site] = desk.scheduler.registry.sites()
    assert not site.heard and not site.unheard


def test_only_the_client_that_has_the_cluster_confirms_its_outcomes() -> None:
    desk = Desk()
    client, lease = desk.client()
    node = desk.node("alpha", 7, lease)
    other = Address(51, CLIENT)
    desk.tell(other, enlist())
    desk.tell(client, submit(1))
    desk.tell(node, done(1))
    assert not desk.tell(other, heard(1)) and not desk.tell(Address(99, CLIENT), heard(1))
    [site] = desk.scheduler.registry.sites()
    assert list(site.unheard) == [TaskId(50, 1)]
    assert not desk.tell(client, heard(1, node=12345)), "a node that there is not"


def test_a_task_that_the_client_knows_to_have_ended_does_not_run_again() -> None:
    desk = Desk()
    client, lease = desk.client()
    node = desk.node("alpha", 7, lease)
    desk.tell(client, submit(1))
    desk.tell(client, heard(1))
    assert not placed(desk.tell(node, Recalled([TaskId(50, 1)])))
    assert not desk.scheduler.registry.tasks


@pytest.mark.parametrize("kind", [OutcomeKind.TERMINATED, OutcomeKind.CANCELLED])
def test_an_outcome_that_is_on_its_way_when_a_lease_is_closed_in_order_is_not_called_lost(
    kind: OutcomeKind,
) -> None:
    """The node says both at once: the outcome to the client, Done and Closed to the scheduler; they race."""
    desk = Desk()
    client, lease = desk.client()
    node = desk.node("alpha", 7, lease)
    desk.tell(client, submit(1))
    desk.tell(client, Release(terminate=True))
    sent = desk.tell(node, done(1, kind), Closed(lease))
    assert not [o for o in words(sent, Outcome) if o.outcome != kind]


# --- who is told that servers are dead


def test_the_servers_that_live_hear_which_are_dead() -> None:
    desk = Desk()
    _, lease = desk.client()
    alpha = desk.node("alpha", 7, lease)
    beta = desk.node("beta", 8, lease)
    sent = desk.tell(alpha, ServerDown(lease, spot("alpha", 701, 1), "killed by SIGKILL (9)"))
    assert [(e.to, e.message) for e in sent if isinstance(e.message, Gone)] == [
        (alpha, Gone([701])),
        (beta, Gone([701])),
    ]
    desk.scheduler.peer_reset(7, [], desk.now)
    sent = desk.drain()
    assert [(e.to, e.message) for e in sent if isinstance(e.message, Gone)] == [(beta, Gone([702]))]
    assert [news.text for news in words(sent, ServerNews)] == [""], "the news of the node says why"


def test_nobody_hears_of_a_server_that_never_was() -> None:
    desk = Desk()
    _, lease = desk.client()
    alpha = desk.node("alpha", 7, lease)
    assert not words(desk.tell(alpha, ServerDown(lease, spot("alpha", 0, 2), "exit code 1")), Gone)


def test_a_lease_that_closes_does_not_tell_every_node_of_every_server_that_ends() -> None:
    """They all end; on a hundred nodes with 64 servers that were 640,000 messages."""
    desk = Desk()
    client, lease = desk.client()
    alpha = desk.node("alpha", 7, lease)
    desk.node("beta", 8, lease)
    desk.tell(client, Release())
    sent = desk.tell(alpha, ServerDown(lease, spot("alpha", 701, 1), "exited with code 0", expected=True))
    assert [news.text for news in words(sent, ServerNews)] == [""]
    sent += desk.tell(alpha, Closed(lease))
    assert not words(sent, Gone)


# --- the end of a scheduler


def test_a_scheduler_that_stops_gives_its_nodes_back_and_tells_everybody_why() -> None:
    desk = Desk()
    client, lease = desk.client()
    node = desk.node("alpha", 7, lease)
    queued = Address(51, CLIENT)
    desk.tell(queued, enlist())
    desk.tell(client, submit(1))
    desk.scheduler.stop("the scheduler head was stopped", desk.now)
    sent = desk.drain()
    assert [(e.to, e.message) for e in sent] == [
        (client, Released("the scheduler head was stopped")),
        (queued, Released("the scheduler head was stopped")),
        (node, Close(lease, terminate=True)),
    ]
    assert not words(desk.tell(node, done(1, OutcomeKind.TERMINATED), Closed(lease)), Granted, Open)
    assert not desk.scheduler.registry.clients and desk.scheduler.deadline() is None


def test_stopping_ends_the_wait_of_a_client_that_finishes() -> None:
    desk = Desk()
    client, lease = desk.client()
    node = desk.node("alpha", 7, lease)
    desk.tell(client, submit(1))
    assert not desk.tell(client, Release())
    desk.scheduler.stop("the scheduler head was stopped", desk.now)
    assert [(e.to, e.message) for e in desk.drain() if e.to == node] == [(node, Close(lease, terminate=True))]


def test_a_client_whose_scheduler_stopped_hears_nothing_after_its_release() -> None:
    desk = Desk()
    client, lease = desk.client()
    node = desk.node("alpha", 7, lease)
    desk.tell(client, submit(1), submit(2), submit(3))
    desk.scheduler.stop("the scheduler head was stopped", desk.now)
    sent = [e.message for e in desk.drain() if e.to == client]
    sent += [e.message for e in desk.tell(node, Closed(lease)) if e.to == client]
    assert isinstance(sent[-1], Released) and len([word for word in sent if isinstance(word, Released)]) == 1


def test_a_scheduler_that_stops_takes_no_more_clients() -> None:
    """They would get nodes from a process that is about to end, and the nodes would stay occupied."""
    desk = Desk()
    desk.node("alpha", 7)
    desk.scheduler.stop("the scheduler head was stopped", desk.now)
    [turned] = words(desk.tell(Address(52, CLIENT), enlist()))
    assert isinstance(turned, Turned) and "stopped" in turned.reason


# --- the end of a lease


def test_close_waits_for_tasks_that_wait_and_run_and_then_for_the_nodes() -> None:
    desk = Desk()
    client, lease = desk.client()
    node = desk.node("alpha", 7, lease, servers=1)
    desk.tell(client, submit(1), submit(2), submit(3, io=True))
    assert not desk.tell(client, Release())
    assert words(desk.tell(client, submit(4)), Outcome)[0].outcome == OutcomeKind.REFUSED
    assert placed(desk.tell(node, done(1))) == [(2, 7)]
    assert words(desk.tell(node, done(2))) == [Close(lease)]
    assert not words(desk.tell(node, done(3, OutcomeKind.TERMINATED)))
    desk.tell(client, heard(1, 2, 3))
    sent = desk.tell(node, Closed(lease))
    assert [type(word) for word in words(sent)] == [ServerNews, NodeNews, Released]
    assert not desk.scheduler.registry.clients and desk.scheduler.deadline() is None


def test_close_with_await_io_waits_for_io_tasks_as_well() -> None:
    desk = Desk()
    client, lease = desk.client()
    node = desk.node("alpha", 7, lease)
    desk.tell(client, submit(1, io=True))
    assert not desk.tell(client, Release(await_io=True))
    assert words(desk.tell(node, done(1))) == [Close(lease, await_io=True)]


def test_close_with_terminate_cancels_what_waits_and_speaks_for_what_the_node_does_not() -> None:
    desk = Desk()
    client, lease = desk.client()
    node = desk.node("alpha", 7, lease, servers=1)
    desk.tell(client, submit(1), submit(2))
    sent = desk.tell(client, Release(terminate=True))
    assert [(o.task.number, o.outcome) for o in words(sent, Outcome)] == [(2, OutcomeKind.CANCELLED)]
    assert words(sent, Close) == [Close(lease, terminate=True)]
    sent = desk.tell(node, Closed(lease))
    assert [(o.task.number, o.outcome) for o in words(sent, Outcome)] == [(1, OutcomeKind.TERMINATED)]


def test_a_second_release_ends_the_waiting_of_the_first() -> None:
    desk = Desk()
    client, lease = desk.client()
    desk.node("alpha", 7, lease)
    desk.tell(client, submit(1))
    assert not desk.tell(client, Release())
    assert words(desk.tell(client, Release(terminate=True)), Close)


def test_a_client_that_finishes_gets_the_nodes_its_tasks_still_need() -> None:
    desk = Desk()
    client, _ = desk.client()
    desk.tell(client, submit(1))
    assert not desk.tell(client, Release())
    assert words(desk.tell(Address(7, NODE), Register(node_info("alpha", 7))), Open)


def test_a_node_that_does_not_close_holds_up_the_next_client_for_a_bounded_time() -> None:
    desk = Desk()
    client, lease = desk.client()
    desk.node("alpha", 7, lease)
    desk.tell(Address(51, CLIENT), enlist())
    desk.tell(client, Release())
    assert not words(desk.wait(scheduler.CLOSE_PATIENCE_S - 0.1), Granted)
    sent = desk.wait(0.2)
    assert [
        (e.to.epoch, type(e.message)) for e in sent if isinstance(e.message, Released | Granted | Open)
    ] == [
        (50, Released),
        (51, Granted),
        (7, Open),
    ]


def test_the_process_of_a_client_that_ended_is_cleared_away_without_a_word_to_it() -> None:
    desk = Desk()
    client, lease = desk.client()
    node = desk.node("alpha", 7, lease)
    desk.tell(client, *(submit(number) for number in range(1, 9)))
    desk.scheduler.peer_reset(50, [], desk.now)
    assert [(e.to, e.message) for e in desk.drain()] == [
        (node, Gone([50])),  # first: its servers need not wait for it at their end
        (node, Close(lease, terminate=True)),
    ]
    assert not desk.tell(node, Closed(lease))
    assert not desk.scheduler.registry.clients


def test_the_death_of_a_client_in_the_queue_is_no_news_for_nodes() -> None:
    desk = Desk()
    _, lease = desk.client()
    desk.node("alpha", 7, lease)
    desk.tell(Address(51, CLIENT), enlist())
    desk.scheduler.peer_reset(51, [], desk.now)
    assert not desk.drain()
    assert list(desk.scheduler.registry.clients) == [50]


def test_a_client_that_is_known_to_be_dead_is_not_said_to_be_silent_later() -> None:
    desk = Desk()
    _, lease = desk.client()
    desk.node("alpha", 7, lease)
    desk.scheduler.peer_lost(50, desk.now)
    desk.scheduler.peer_reset(50, [], desk.now)
    desk.drain()
    assert desk.scheduler.registry.active is not None
    desk.wait(10.0)
    assert desk.scheduler.registry.active.parting == "its process ended"


def test_a_client_of_this_host_that_lives_is_waited_for_however_long() -> None:
    desk = Desk()
    _, lease = desk.client()
    node = desk.node("alpha", 7, lease)
    desk.scheduler.peer_lost(50, desk.now, lives=True)
    assert words(desk.wait(1e6), Close) == []
    desk.scheduler.peer_reset(50, [], desk.now)
    assert words(desk.drain(), Close) == [Close(lease, terminate=True)]
    desk.tell(node, Closed(lease))


def test_a_node_of_this_host_that_lives_is_not_forgotten() -> None:
    desk = Desk()
    _, lease = desk.client()
    desk.node("alpha", 7, lease)
    desk.scheduler.peer_lost(7, desk.now, lives=True)
    desk.wait(1e6)
    assert 7 in desk.scheduler.registry.nodes and desk.scheduler.registry.nodes[7].zombie


def test_a_client_silent_for_a_minute_is_closed_and_can_learn_of_it_later() -> None:
    desk = Desk()
    _, lease = desk.client()
    node = desk.node("alpha", 7, lease)
    desk.scheduler.peer_lost(50, desk.now)
    assert words(desk.wait(59.0), Close) == []
    assert words(desk.wait(1.0), Close) == [Close(lease, terminate=True)]
    [released] = words(desk.tell(node, Closed(lease)), Released)
    assert "60 s" in released.reason


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
    assert [(e.to, e.message) for e in desk.tell(node, Opened(old, 2))] == [
        (node, Close(old, terminate=True))
    ]
    assert not desk.tell(node, Closed(old, "this node does not hold it"))
    assert desk.scheduler.registry.nodes[7].state is NodeState.OPENING


def test_late_words_about_a_lease_that_a_node_closed_are_not_taken_for_words_about_the_next_one() -> None:
    """Its own Closed and its answer to our Close cross the new Open."""
    desk = Desk()
    _, lease = desk.client(wants=enlist(abandon_zombies=True))
    node = desk.node("alpha", 7, lease)
    desk.scheduler.peer_lost(7, desk.now)
    assert words(desk.wait(10.0), Close)
    desk.scheduler.peer_up(7, None, desk.now)
    [again] = words(desk.tell(node, Closed(lease, "its scheduler was silent for 60 s")), Open)
    assert again.lease == lease._replace(number=2)
    assert not desk.tell(node, Closed(lease, "this node does not hold it"))
    assert words(desk.tell(node, Opened(again.lease, 2)), NodeNews)


# --- status


def test_an_inventory_names_clients_nodes_and_tasks() -> None:
    desk = Desk(addr="10.0.0.1", port=9705, insecure=True)
    client, lease = desk.client()
    desk.node("alpha", 7, lease, servers=1)
    desk.tell(Address(51, CLIENT), enlist())
    desk.tell(client, submit(1), submit(2))
    desk.scheduler.receive(Envelope(HOME, Address(99, CLIENT), Inventory(), 123), desk.now)
    [answer] = desk.drain()
    assert (answer.to.epoch, answer.correlation) == (99, 123)
    report = answer.message
    assert isinstance(report, SchedulerReport)
    assert (report.name, report.addr, report.port, report.insecure) == ("head", "10.0.0.1", 9705, True)
    assert [(c.state, c.queued, c.running, c.done) for c in report.clients] == [
        ("running", 1, 1, 0),
        ("queued", 0, 0, 0),
    ]
    assert report.nodes == [("alpha", "10.0.0.7", 9706, "open")]


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
    assert desk.scheduler.places(50) == {0: Allocation("box")}
    assert not desk.scheduler.is_there(50, 0)
    desk.scheduler.found(50, 0, ["10.0.0.7"], [], desk.now)
    assert desk.scheduler.is_there(50, 0)
    desk.scheduler.looked(50, "", desk.now)
    sent = desk.drain()
    assert [type(word) for word in words(sent)][:2] == [Granted, Admit] and words(sent, Open)


def test_a_client_that_names_what_is_not_there_is_turned_away_and_holds_up_nobody() -> None:
    desk = Desk()
    looking, other = Address(50, CLIENT), Address(51, CLIENT)
    desk.tell(looking, enlist(Allocation("box")))
    assert Granted in map(type, words(desk.tell(other, enlist())))
    desk.scheduler.looked(50, "nodes: box is not known", desk.now)
    assert words(desk.drain()) == [Turned("nodes: box is not known")]
    assert StopLooking(50) in desk.logs
    desk.scheduler.looked(50, "said twice", desk.now)
    desk.scheduler.found(50, 0, ["10.0.0.7"], [7], desk.now)
    assert not desk.drain() and desk.scheduler.is_there(50, 0), "it has left"


def test_a_node_that_answers_late_at_a_named_place_is_used_then() -> None:
    desk = Desk()
    desk.node("alpha", 7)
    client = Address(50, CLIENT)
    desk.tell(client, enlist(Allocation("gateway", 2222)))
    desk.scheduler.looked(50, "", desk.now)
    assert not words(desk.drain(), Open)
    desk.scheduler.found(50, 0, [], [7], desk.now)
    assert words(desk.drain(), Open)


def test_a_place_where_all_nodes_are_of_another_python_is_unfit() -> None:
    desk = Desk()
    other = (PYTHON[0], PYTHON[1] + 1)
    desk.tell(Address(50, CLIENT), enlist(Allocation("alpha"), Allocation("10.0.0.8"), Allocation("nobody")))
    desk.node("alpha", 7, python=other)
    assert desk.scheduler.unfit(50, 0).startswith(f"runs Python {other[0]}.{other[1]}, this program ")
    desk.node("alpha", 8)
    assert [desk.scheduler.unfit(50, number) for number in range(3)] == ["", "", ""]


def test_what_the_operator_names_is_looked_for_and_restricts_nobody() -> None:
    desk = Desk()
    desk.scheduler.also = [Allocation("box")]
    desk.node("alpha", 7)
    desk.tell(Address(50, CLIENT), enlist())
    assert desk.scheduler.places(50) == {0: Allocation("box")}
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
    desk.scheduler.peer_lost(7, desk.now)
    desk.wait(49.0)
    assert not desk.scheduler.registry.nodes[7].zombie
    desk.wait(2.0)
    assert desk.scheduler.registry.nodes[7].zombie
