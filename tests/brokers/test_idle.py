"""A client that runs nothing for the zombie_period loses the cluster, and the next one has it."""

from __future__ import annotations

from dispycos.protocol.addresses import CLIENT, Address
from dispycos.protocol.envelope import Envelope
from dispycos.protocol.messages import Availability, Close, Closed, Granted, Lease, Pulse, Released
from tests.kit.scheduler import Desk, enlist, words

LOAD = Availability(50.0, 1, 2, 3)
WHY = "it ran nothing for 1000 s, the --zombie_period of scheduler head"


def world(period: float = 1000.0) -> tuple[Desk, Lease, list[Address]]:
    """A client that has two nodes, and one that waits."""
    desk = Desk(zombie_period=period)
    _, lease = desk.client(50)
    nodes = [desk.node(name, epoch, lease) for name, epoch in (("a", 5), ("b", 6))]
    desk.tell(Address(51, CLIENT), enlist())
    return desk, lease._replace(opening=0), nodes


def pulse(desk: Desk, node: Address, idle_s: float) -> list[Envelope]:
    return desk.tell(node, Pulse(node.epoch, LOAD, idle_s=idle_s))


def lease_at(desk: Desk, node: Address) -> Lease:
    lease = desk.scheduler.registry.nodes[node.epoch].lease
    assert lease is not None
    return lease


def test_a_client_that_runs_nothing_on_any_node_loses_the_cluster_and_hears_why() -> None:
    desk, _, (first, second) = world()
    assert words(pulse(desk, first, 1000.0), Close) == [], "the other node may be busy"
    assert words(pulse(desk, second, 999.9), Close) == []
    assert len(words(pulse(desk, second, 1001.0), Close)) == 2
    desk.tell(first, Closed(lease_at(desk, first)))
    sent = desk.tell(second, Closed(lease_at(desk, second)))
    assert [(e.to.epoch, e.message) for e in sent if isinstance(e.message, Released)] == [(50, Released(WHY))]
    assert [e.to.epoch for e in sent if isinstance(e.message, Granted)] == [51]


def test_who_runs_something_on_one_node_keeps_all() -> None:
    desk, _, (first, second) = world()
    for round_ in range(5):
        assert words(pulse(desk, first, 1000.0 + 50 * round_), Close) == []
        assert words(pulse(desk, second, 5.0), Close) == []


def test_a_node_that_is_busy_again_counts_as_busy() -> None:
    desk, _, (first, second) = world()
    pulse(desk, first, 2000.0)
    pulse(desk, first, 0.0)
    assert words(pulse(desk, second, 2000.0), Close) == []


def test_a_zombie_does_not_keep_the_cluster_for_a_client_that_idles() -> None:
    desk, _, (first, second) = world()
    desk.lose(second.epoch)
    assert words(pulse(desk, first, 2000.0), Close) == [], "it may be back soon, and busy"
    desk.wait(50.0)
    assert words(pulse(desk, first, 2050.0), Close) != []


def test_zero_is_never() -> None:
    desk, _, nodes = world(0.0)
    for node in nodes:
        assert words(pulse(desk, node, 1e9), Close) == []


def test_a_client_all_of_whose_nodes_closed_for_idleness_is_discarded() -> None:
    desk, _, (first, second) = world(0.0)
    assert words(desk.tell(first, Closed(lease_at(desk, first), "idle", dismissed=True)), Released) == []
    sent = desk.tell(second, Closed(lease_at(desk, second), "nothing ran", dismissed=True))
    assert words(sent, Released) == [Released("nothing ran")]
    assert [e.to.epoch for e in sent if isinstance(e.message, Granted)] == [51]


def test_a_node_that_closes_for_another_reason_leaves_the_client_what_it_has() -> None:
    desk, _, nodes = world(0.0)
    for node in nodes:
        assert words(desk.tell(node, Closed(lease_at(desk, node), "its operator closed it")), Released) == []
