"""The small classes of the specification: what nodes= means, and what a status_task is told."""

from __future__ import annotations

import pickle
import time
from typing import Any

import pytest

from dispycos.actors.cluster import (
    DispycosNodeAllocate,
    DispycosNodeAvailInfo,
    DispycosStatus,
    allocations,
    avail_info,
    node_info,
    task_info,
)
from dispycos.actors.task import Location, Task
from dispycos.protocol.messages import Allocation, Availability, NodeInfo
from dispycos.protocol.status import Status

BOX = NodeInfo("box", "10.0.0.5", 9700, 4, "Linux-6", (3, 11), 900)
LEFT = Availability(75.5, 1000, 2000, 3000)


@pytest.mark.parametrize("nodes", [None, (), []])
def test_no_nodes_mean_any_node(nodes: Any) -> None:
    assert allocations(nodes) == []


@pytest.mark.parametrize("nodes", ["10.0.0.*", ["10.0.0.*"], DispycosNodeAllocate("10.0.0.*")])
def test_a_name_or_pattern_means_all_of_its_cpus(nodes: Any) -> None:
    assert allocations(nodes) == [Allocation("10.0.0.*")]


def test_allocations_keep_their_order_and_what_they_ask_for() -> None:
    big = DispycosNodeAllocate("big", port=9800, platform="linux", cpus=-1, memory=10**9, disk=10**10)
    assert allocations([big, "small"]) == [
        Allocation("big", 9800, "linux", -1, 10**9, 10**10),
        Allocation("small"),
    ]


@pytest.mark.parametrize(
    ("nodes", "text"), [([1], r"nodes\[0\].*not int"), (["a", None], r"nodes\[1\].*not NoneType")]
)
def test_what_is_no_node_is_named(nodes: Any, text: str) -> None:
    with pytest.raises(TypeError, match=text):
        allocations(nodes)


@pytest.mark.parametrize("node", ["", None, 5])
def test_an_allocation_needs_a_node(node: Any) -> None:
    with pytest.raises(TypeError, match="must be a name or an address"):
        DispycosNodeAllocate(node)


def test_an_allocate_of_ones_own_is_refused_not_ignored() -> None:
    class Picky(DispycosNodeAllocate):
        def allocate(self, *args: Any) -> int:
            return 1

    with pytest.raises(TypeError, match=r"nodes\[1\].*allocate\(\) is not available"):
        allocations(["a", Picky("b")])


def test_a_node_tells_its_place_before_it_tells_its_load() -> None:
    assert avail_info(BOX) == DispycosNodeAvailInfo(Location("10.0.0.5", 9700), None, None, None, None)


def test_a_node_tells_its_load() -> None:
    info = avail_info(BOX._replace(available=LEFT))
    assert info == DispycosNodeAvailInfo(Location("10.0.0.5", 9700), 75.5, 1000, 2000, 3000)


def test_a_node_in_a_status_answers_for_its_load_too() -> None:
    info = node_info(BOX._replace(available=LEFT))
    assert (info.name, info.addr, info.cpus, info.platform) == ("box", "10.0.0.5", 4, "Linux-6")
    assert (info.location, info.cpu, info.memory, info.disk, info.swap) == (
        Location("10.0.0.5", 9700),
        75.5,
        1000,
        2000,
        3000,
    )
    assert info.avail_info == avail_info(BOX._replace(available=LEFT))


def test_a_created_task_comes_with_its_arguments_and_the_time() -> None:
    task = Task.__new__(Task)
    before = time.time()
    info = task_info(task, ((1, 2), {"x": 3}))
    assert (info.task, info.args, info.kwargs) == (task, (1, 2), {"x": 3})
    assert before <= info.start_time <= time.time()
    assert task_info(task, None)[1:3] == ((), {})


def test_a_status_can_be_sent_to_a_status_task_anywhere() -> None:
    status = DispycosStatus(Status.NodeDiscovered, node_info(BOX._replace(available=LEFT)))
    received = pickle.loads(pickle.dumps(status))
    assert received == status
    assert received.status is Status.NodeDiscovered


def test_statuses_compare_with_the_numbers_that_scripts_know() -> None:
    from dispycos.brokers.local import Scheduler

    assert (
        DispycosStatus(Status.TaskCreated, None).status
        == Scheduler.TaskStarted
        == Scheduler.TaskCreated
        == 21
    )
