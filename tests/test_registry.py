"""The tables: what check() finds, deadlines, and who replaces whom."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from dispycos.brokers.lifecycle import NodeState, TaskState
from dispycos.brokers.registry import Alarm, Alarms, Node, Registry
from dispycos.protocol.addresses import NODE, Address
from dispycos.protocol.messages import Submit, TaskId
from dispycos.protocol.status import OutcomeKind

from .kit.scheduler import Desk, node_info


def busy() -> Registry:
    """A registry with a client, a node of two servers, two tasks that run and one that waits."""
    desk = Desk()
    client, lease = desk.client()
    desk.node("alpha", 7, lease)
    desk.tell(client, *(Submit(TaskId(50, number), "f") for number in (1, 2, 3)))
    return desk.scheduler.registry


def lose_a_waiting_task(registry: Registry) -> None:
    registry.slow.clear()


def queue_a_running_task(registry: Registry) -> None:
    registry.slow.append(registry.tasks[TaskId(50, 1)])


def swap_the_order(registry: Registry) -> None:
    registry.tasks[TaskId(50, 3)].turn = -1
    task = registry.tasks[TaskId(50, 2)]
    task.state, task.site = TaskState.WAITING, None
    registry.slow.append(task)
    registry.slow.reverse()


def miscount(registry: Registry) -> None:
    next(registry.sites()).slow += 1


def lose_the_client(registry: Registry) -> None:
    registry.active = None


def forget_a_server(registry: Registry) -> None:
    registry.servers.popitem()


def forget_the_site(registry: Registry) -> None:
    registry.nodes[7].site = None


def leave_the_site_behind(registry: Registry) -> None:
    registry.nodes[7].state = NodeState.IDLE


def admit_too_much(registry: Registry) -> None:
    assert registry.active is not None
    registry.active.limit = 2


def hear_of_what_is_not_there(registry: Registry) -> None:
    next(registry.sites()).heard[TaskId(50, 99)] = None


def call_ended_what_is_there(registry: Registry) -> None:
    unheard: Any = next(registry.sites()).unheard
    unheard[TaskId(50, 1)] = OutcomeKind.RETURNED


def speak_for_a_stranger(registry: Registry) -> None:
    unheard: Any = next(registry.sites()).unheard
    unheard[TaskId(51, 1)] = OutcomeKind.RETURNED


def watch_nobody(registry: Registry) -> None:
    registry.alarms.set(Alarm.NODE_SILENT, 999, 1.0)


@pytest.mark.parametrize(
    "damage",
    [
        lose_a_waiting_task,
        queue_a_running_task,
        swap_the_order,
        miscount,
        lose_the_client,
        forget_a_server,
        forget_the_site,
        leave_the_site_behind,
        admit_too_much,
        hear_of_what_is_not_there,
        call_ended_what_is_there,
        speak_for_a_stranger,
        watch_nobody,
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
    node.info = node.info._replace(port=0)
    assert registry.node_like(node_info("beta", 8, addr="10.0.0.1", port=0)) is None


def test_alarms_come_one_at_a_time_in_the_order_of_their_deadlines() -> None:
    alarms = Alarms()
    assert alarms.next() is None and alarms.take_due(99.0) is None
    alarms.set(Alarm.NODE_SILENT, 1, 5.0)
    alarms.set(Alarm.NODE_SILENT, 2, 3.0)
    alarms.set(Alarm.CLIENT_SILENT, 3, 4.0)
    alarms.set(Alarm.NODE_SILENT, 1, 2.5)  # moved
    alarms.cancel(Alarm.CLIENT_SILENT, 3)
    alarms.cancel(Alarm.CLIENT_SILENT, 4)  # was never set
    assert alarms.next() == 2.5
    assert alarms.take_due(2.4) is None
    assert alarms.take_due(2.5) == (Alarm.NODE_SILENT, 1)
    assert alarms.take_due(9.0) == (Alarm.NODE_SILENT, 2)
    assert alarms.take_due(9.0) is None and alarms.next() is None
