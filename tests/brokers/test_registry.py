"""The tables: what check() finds, deadlines, and who replaces whom."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from dispycos.brokers.lifecycle import ClientState, NodeState
from dispycos.brokers.registry import Alarms, Node, Registry, Share
from dispycos.protocol.addresses import CLIENT, NODE, Address
from tests.kit.scheduler import Desk, enlist, node_info


def busy() -> Registry:
    """A registry with a client that has a node of two servers, another node, and a client that waits."""
    desk = Desk()
    _, lease = desk.client()
    desk.node("alpha", 7, lease)
    desk.node("beta", 8)
    desk.tell(Address(51, CLIENT), enlist())
    return desk.scheduler.registry


def share(registry: Registry) -> Share:
    return registry.shares[0]


def lose_the_client(registry: Registry) -> None:
    registry.active = None


def grant_to_two(registry: Registry) -> None:
    registry.clients[51].state = ClientState.ACTIVE


def keep_who_has_gone(registry: Registry) -> None:
    registry.clients[51].state = ClientState.GONE


def lose_the_lease(registry: Registry) -> None:
    registry.nodes[7].lease = None


def forget_the_share(registry: Registry) -> None:
    registry.nodes[7].share = None


def leave_the_share_behind(registry: Registry) -> None:
    registry.nodes[7].state = NodeState.IDLE


def give_a_share_to_one_who_waits(registry: Registry) -> None:
    share(registry).client = registry.clients[51]


def have_a_server_twice(registry: Registry) -> None:
    registry.shares[1].servers.update(share(registry).servers)


def believe_in_one_who_is_away(registry: Registry) -> None:
    registry.nodes[7].away = True


def call_a_node_silent_that_spoke(registry: Registry) -> None:
    registry.nodes[7].zombie = True


def mistake_a_node_for_another(registry: Registry) -> None:
    registry.nodes[9] = registry.nodes.pop(7)


def watch_one_who_is_gone(registry: Registry) -> None:
    node = Node(Address(9, NODE), node_info("gamma", 9), NodeState.GONE)
    registry.alarms.set(lambda about, now: None, node, 1.0)


@pytest.mark.parametrize(
    "damage",
    [
        lose_the_client,
        grant_to_two,
        keep_who_has_gone,
        lose_the_lease,
        forget_the_share,
        leave_the_share_behind,
        give_a_share_to_one_who_waits,
        have_a_server_twice,
        believe_in_one_who_is_away,
        call_a_node_silent_that_spoke,
        mistake_a_node_for_another,
        watch_one_who_is_gone,
    ],
)
def test_check_finds_tables_that_do_not_agree(damage: Callable[[Registry], None]) -> None:
    registry = busy()
    registry.check()
    damage(registry)
    with pytest.raises(AssertionError):
        registry.check()


def test_a_node_is_replaced_by_one_of_the_same_name_or_port_at_its_address() -> None:
    registry = Registry()
    node = Node(Address(7, NODE), node_info("alpha", 7, addr="10.0.0.1", port=9706))
    registry.nodes[7] = node
    assert registry.node_like(node_info("alpha", 8, addr="10.0.0.1", port=9999)) is node
    assert registry.node_like(node_info("beta", 8, addr="10.0.0.1", port=9706)) is node
    assert registry.node_like(node_info("beta", 8, addr="10.0.0.1", port=9999)) is None
    assert registry.node_like(node_info("alpha", 8, addr="10.0.0.2", port=9706)) is None
    behind_the_same_router = node_info("alpha", 8, addr="10.0.0.1", port=9706)._replace(host="another")
    assert registry.node_like(behind_the_same_router) is None
    node.away, node.confirmed = True, False
    assert registry.node_like(behind_the_same_router) is node
    node.away = False
    node.info = node.info._replace(port=0)
    assert registry.node_like(node_info("beta", 8, addr="10.0.0.1", port=0)) is None


class Caller:
    """Notes who was called, about whom, and when."""

    def __init__(self) -> None:
        self.alarms = Alarms()
        self.heard: list[tuple[str, str, float]] = []

    def silent(self, about: str, now: float) -> None:
        self.heard.append(("silent", about, now))
        self.alarms.cancel(self.waits, about)

    def waits(self, about: str, now: float) -> None:
        self.heard.append(("waits", about, now))


def test_alarms_come_in_the_order_of_their_deadlines_as_they_were_set_last() -> None:
    caller = Caller()
    alarms = caller.alarms
    assert alarms.next() is None
    alarms.set(caller.silent, "a", 5.0)
    alarms.set(caller.silent, "b", 3.0)
    alarms.set(caller.waits, "c", 4.0)
    alarms.set(caller.silent, "a", 2.5)  # moved
    alarms.cancel(caller.waits, "c")
    alarms.cancel(caller.waits, "d")  # was never set
    alarms.set(caller.silent, "e", 2.9)
    alarms.forget("e")
    assert alarms.next() == 2.5
    alarms.wake(2.4)
    assert not caller.heard
    alarms.wake(9.0)
    assert caller.heard == [("silent", "a", 9.0), ("silent", "b", 9.0)]
    assert alarms.next() is None


def test_what_one_alarm_leads_to_may_cancel_the_next() -> None:
    caller = Caller()
    caller.alarms.set(caller.waits, "a", 2.0)
    caller.alarms.set(caller.silent, "a", 1.0)
    assert caller.alarms.has(caller.waits)
    caller.alarms.wake(3.0)
    assert caller.heard == [("silent", "a", 3.0)] and not caller.alarms.has(caller.waits)
