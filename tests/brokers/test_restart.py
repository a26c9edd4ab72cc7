"""A scheduler that was killed and started anew is told what there is: who has the cluster goes on, who waits keeps its place."""

from __future__ import annotations

from typing import Any

import pytest

from dispycos.brokers.lifecycle import NodeState
from dispycos.brokers.scheduler import OUTDATED
from dispycos.protocol.addresses import CLIENT, NODE, Address
from dispycos.protocol.envelope import Envelope
from dispycos.protocol.messages import (
    Availability,
    Close,
    Closed,
    Granted,
    Lease,
    NodeInfo,
    NodeNews,
    Open,
    Opened,
    Pulse,
    Queued,
    Register,
    Release,
    Released,
    ServerUp,
)
from dispycos.protocol.status import Status
from tests.kit.scheduler import HOME, Desk, client_info, enlist, node_info, spot, words

HOLD_S = 3.0
EARLIER = 999  # epoch of the life before


def had(number: int, client: int) -> Lease:
    """A lease that the life before has granted."""
    return Lease(number, client, "id-1", EARLIER)


def info(name: str, epoch: int) -> NodeInfo:
    return node_info(name, epoch, addr=f"10.0.0.{epoch}")


class Restarted(Desk):
    """It counts on from 1000: all that the life before gave out is less."""

    def __init__(self) -> None:
        super().__init__(count=1000, hold_until=100.0 + HOLD_S)

    def comes(self, epoch: int, **fields: Any) -> list[Envelope]:
        return self.tell(Address(epoch, CLIENT), enlist(**fields))

    def registers(self, name: str, epoch: int, lease: Lease | None = None, **fields: Any) -> list[Envelope]:
        return self.tell(Address(epoch, NODE), Register(info(name, epoch), lease, **fields))

    def granted(self, sent: list[Envelope]) -> list[tuple[int, int]]:
        """To whom, and the number."""
        return [(e.to.epoch, e.message.lease.number) for e in sent if isinstance(e.message, Granted)]


@pytest.fixture
def desk() -> Restarted:
    return Restarted()


# --- the hold


def test_nothing_is_granted_until_those_who_had_something_can_have_come_back(desk: Restarted) -> None:
    assert words(desk.comes(50)) == [Queued(1, "", 1001)]
    assert desk.wait(HOLD_S - 0.1) == []
    assert desk.granted(desk.wait(0.1)) == [(50, 1002)]


def test_one_that_is_known_to_have_granted_nothing_grants_at_once() -> None:
    assert words(Desk().tell(Address(50, CLIENT), enlist()), Granted)


# --- who has the cluster


def test_who_had_the_cluster_has_it_at_once_with_its_nodes_and_servers_as_they_are(desk: Restarted) -> None:
    lease, alpha = had(20, 50), Address(7, NODE)
    assert desk.registers("alpha", 7, lease, client=client_info()) == []
    sent = desk.comes(50, lease=lease, nodes=[info("alpha", 7)])
    now = Lease(20, 50, "id-1", HOME.epoch)
    assert desk.granted(sent) == [(50, 20)]
    assert [(e.to, e.message.lease) for e in sent if isinstance(e.message, Open)] == [(alpha, now)]
    sent = desk.tell(alpha, Opened(now, 1), ServerUp(now, spot("alpha", 701, 1), 1))
    assert [news.status for news in words(sent, NodeNews)] == [Status.NodeInitialized]
    assert list(desk.scheduler.registry.servers) == [701]


def test_nodes_may_come_after_their_client(desk: Restarted) -> None:
    lease = had(20, 50)
    desk.comes(50, lease=lease, nodes=[info("alpha", 7)])
    [opened] = words(desk.registers("alpha", 7, lease), Open)
    assert opened.lease.number == 20
    [opened] = words(desk.registers("beta", 8, lease), Open)
    assert opened.lease.number == 20, "it was granted, and its client has not heard of that"


def test_a_node_that_does_not_come_is_silent_and_one_that_lost_the_lease_is_gone_and_new(
    desk: Restarted,
) -> None:
    lease = had(20, 50)
    desk.comes(50, lease=lease, nodes=[info("alpha", 7), info("beta", 8)])
    sent = desk.registers("beta", 8)
    assert [news.status for news in words(sent, NodeNews)] == [Status.NodeClosed, Status.NodeDiscovered]
    assert words(sent, Open)
    sent = desk.wait(900.0)
    assert [news.status for news in words(sent, NodeNews) if news.node.epoch == 7] == [Status.NodeClosed]


def test_a_client_that_says_its_nodes_after_they_came_without_its_lease_hears_that_they_lost_it(
    desk: Restarted,
) -> None:
    desk.registers("alpha", 7)
    sent = desk.comes(50, lease=had(20, 50), nodes=[info("alpha", 7)])
    assert [news.status for news in words(sent, NodeNews)] == [Status.NodeClosed, Status.NodeDiscovered]


def test_a_lease_that_was_granted_and_of_which_its_client_has_not_heard_is_its_lease(desk: Restarted) -> None:
    desk.registers("alpha", 7, had(20, 50), client=client_info())
    assert desk.granted(desk.comes(50, ticket=12)) == [(50, 20)]


def test_of_two_leases_the_newest_counts_and_the_other_is_closed(desk: Restarted) -> None:
    old, new = had(20, 50), had(21, 51)
    desk.registers("alpha", 7, old, client=client_info("old"))
    assert desk.granted(desk.comes(50, lease=old)) == [(50, 20)]
    sent = desk.registers("beta", 8, new, client=client_info("new"))
    assert [(e.to.epoch, e.message.lease.number) for e in sent if isinstance(e.message, Close)] == [(7, 20)]
    assert not desk.granted(desk.comes(51, lease=new)), "the first has to close"
    [close] = words(sent, Close)
    sent = desk.tell(Address(7, NODE), Closed(close.lease))
    assert [(e.to.epoch, e.message) for e in sent if isinstance(e.message, Released)] == [
        (50, Released(OUTDATED))
    ]
    assert desk.granted(sent) == [(51, 21)]


def test_a_client_that_comes_with_an_older_lease_hears_that_it_is_over(desk: Restarted) -> None:
    desk.comes(51, lease=had(21, 51))
    assert words(desk.comes(50, lease=had(20, 50))) == [Released(OUTDATED)]
    assert [close.lease for close in words(desk.registers("alpha", 7, had(20, 50)), Close)] == [had(20, 50)]


def test_while_a_node_holds_a_lease_whose_client_has_not_come_nobody_else_gets_the_cluster(
    desk: Restarted,
) -> None:
    lease = had(20, 50)
    desk.registers("alpha", 7, lease, client=client_info("slow.py"))
    desk.comes(51)
    sent = desk.wait(10 * HOLD_S)
    assert words(sent) == []
    assert desk.scheduler.registry.clients[51].standing == (1, "slow.py on here (pid 77)")
    assert desk.granted(desk.registers("alpha", 7)) == [(51, 1002)], (
        "the node has ended it: nobody spoke for it"
    )


def test_a_node_that_holds_what_is_over_has_to_close_it_however_late_it_comes(desk: Restarted) -> None:
    lease = had(20, 50)
    desk.comes(50, lease=lease)
    assert words(desk.tell(Address(50, CLIENT), Release())) == [Released()]
    desk.comes(51)
    assert [close.lease for close in words(desk.registers("alpha", 7, lease), Close)] == [lease]
    assert desk.granted(desk.wait(HOLD_S)) == [(51, 1002)]


def test_what_another_scheduler_granted_is_not_taken_for_its_own(desk: Restarted) -> None:
    other = Lease(20, 50, "id-2", 4)
    assert words(desk.registers("alpha", 7, other)) == []
    [word] = words(desk.comes(50, lease=other))
    assert word == Released("another scheduler was started in the place of its own")
    assert not desk.scheduler.registry.claims


def test_a_process_that_wants_the_cluster_anew_does_not_go_on_with_what_it_had(desk: Restarted) -> None:
    desk.registers("alpha", 7, had(20, 50), client=client_info())
    assert [close.lease for close in words(desk.comes(50, ticket=30), Close)] == [had(20, 50)]


# --- who had done


def test_who_had_done_is_let_go_when_its_nodes_have_closed_and_the_next_gets_the_cluster(
    desk: Restarted,
) -> None:
    lease = had(20, 50)
    desk.comes(51, ticket=12)
    sent = desk.comes(50, lease=lease, releasing=True, nodes=[info("alpha", 7)])
    assert not words(sent, Released)
    [close] = words(desk.registers("alpha", 7, lease), Close)
    desk.wait(HOLD_S)
    sent = desk.tell(Address(7, NODE), Closed(close.lease))
    assert [(e.to.epoch, type(e.message)) for e in sent if isinstance(e.message, Released | Granted)] == [
        (50, Released),
        (51, Granted),
    ]


def test_who_has_nothing_left_is_let_go_at_once(desk: Restarted) -> None:
    assert words(desk.comes(50, lease=had(20, 50), releasing=True), Released) == [Released()]
    assert words(desk.comes(51, releasing=True)) == [Released("it left the queue")]


def test_who_has_done_in_the_same_turn_in_which_it_comes_back_is_let_go_when_its_nodes_have_closed(
    desk: Restarted,
) -> None:
    lease, client = had(20, 50), Address(50, CLIENT)
    desk.registers("alpha", 7, lease)
    sent = desk.tell(client, enlist(lease=lease, nodes=[info("alpha", 7)]), Release())
    assert not words(sent, Released)
    [close] = words(sent, Close)
    assert words(desk.tell(Address(7, NODE), Closed(close.lease)), Released) == [Released()]


def test_who_leaves_the_queue_or_dies_there_has_its_nodes_closed(desk: Restarted) -> None:
    client = Address(50, CLIENT)
    desk.registers("alpha", 7, had(20, 50))
    sent = desk.tell(client, enlist(ticket=12), Release())
    assert [(e.to.epoch, type(e.message)) for e in sent] == [(50, Released), (7, Close)]


# --- who waits


def test_those_who_waited_keep_their_order_and_newcomers_stand_behind(desk: Restarted) -> None:
    for epoch, ticket in ((53, 0), (52, 14), (51, 13)):
        desk.comes(epoch, ticket=ticket)
    assert [client.epoch for client in desk.scheduler.registry.queued_clients()] == [51, 52, 53]
    assert [number for _, number in desk.granted(desk.wait(HOLD_S))] == [1002], "newer than all before it"


def test_a_clock_that_went_back_gives_out_nothing_that_is_older(desk: Restarted) -> None:
    desk.comes(51, ticket=5000)
    desk.comes(52)
    desk.registers("alpha", 7, had(6000, 50), client=client_info())
    desk.registers("alpha", 7)
    assert [client.ticket for client in desk.scheduler.registry.queued_clients()] == [5000, 5001]
    assert desk.granted(desk.wait(HOLD_S)) == [(51, 6001)]


# --- ends


def test_what_a_node_said_before_its_link_broke_is_no_sign_that_it_is_there() -> None:
    desk = Desk()
    _, lease = desk.client()
    node = desk.node("alpha", 7, lease)
    desk.lose(7)
    assert desk.tell(node, Register(info("alpha", 7), lease)) == []
    assert not desk.scheduler.registry.nodes[7].confirmed
    assert [news.status for news in words(desk.back("alpha", 7, lease), NodeNews)] == [Status.NodeResumed]


def test_one_that_is_stopped_has_what_was_not_taken_up_closed(desk: Restarted) -> None:
    desk.registers("alpha", 7, had(20, 50), client=client_info())
    desk.scheduler.stop("it was stopped", desk.now)
    assert words(desk.drain()) == [Close(had(20, 50))]


def test_a_client_that_its_nodes_hear_is_not_given_up_for_its_silence() -> None:
    desk = Desk()
    _, lease = desk.client()
    node = desk.node("alpha", 7, lease)
    desk.lose(50)
    desk.wait(50.0)
    desk.tell(node, Pulse(7, Availability(0.0, 0, 0, 0), hears_client=True))
    assert not words(desk.wait(59.0), Close)
    assert words(desk.wait(1.1), Close)
    assert desk.scheduler.registry.nodes[7].state is NodeState.CLOSING
