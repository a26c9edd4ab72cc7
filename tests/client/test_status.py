"""The small classes of the specification: what nodes= means, and what a status_task is told."""

from __future__ import annotations

import pickle
import re
import time
from typing import Any, cast

import pytest

from dispycos.actors.client.effects import News
from dispycos.actors.client.status import (
    DispycosNodeAllocate,
    DispycosNodeAvailInfo,
    DispycosStatus,
    allocations,
    avail_info,
    status_word,
)
from dispycos.actors.tasks.handle import Task
from dispycos.actors.tasks.record import Record
from dispycos.protocol.addresses import Location
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


@pytest.mark.parametrize(
    ("node", "port", "word"),
    [
        ("box", None, ("box", None)),
        (" box ", None, ("box", None)),
        ("box:9800", None, ("box", 9800)),
        ("box", 9800, ("box", 9800)),
        (Location("10.0.0.5", 9800), None, ("10.0.0.5", 9800)),
        ("10.0.0.*", None, ("10.0.0.*", None)),
        ("10.0.0.*:9800", None, ("10.0.0.*", 9800)),
        ("0:0:0:0:0:0:0:1", None, ("::1", None)),
        ("[::1]:9800", None, ("::1", 9800)),
        (Location("::1", 9800), None, ("::1", 9800)),
        ("fd00:*", None, ("fd00:*", None)),
        ("rack[1]?", None, ("rack[1]?", None)),
        ("7", None, ("7", None)),
        ("a" * 60 + ".example.com", None, ("a" * 60 + ".example.com", None)),
    ],
)
def test_a_node_is_named_in_these_ways(node: Any, port: Any, word: tuple[str, int | None]) -> None:
    assert DispycosNodeAllocate(node, port).as_word()[:2] == word
    if port is None:
        assert allocations([node])[0][:2] == word


class Text(str):
    """As users' own kinds of text are."""


class Whole:
    """As numpy's integers are."""

    def __index__(self) -> int:
        return 3


def test_numbers_and_texts_of_other_kinds_are_taken_and_none_does_not_matter() -> None:
    kinds = DispycosNodeAllocate(Text("box"), Whole(), Text("linux"), Whole(), Whole(), Whole())  # type: ignore[arg-type]
    word = kinds.as_word()
    assert word == Allocation("box", 3, "linux", 3, 3, 3)
    assert {type(part) for part in word} == {str, int}
    assert DispycosNodeAllocate("*", None, None, None, None, None).as_word() == Allocation("*")
    assert DispycosNodeAllocate("*", platform=re.compile("Linux")).as_word().platform == "Linux"


@pytest.mark.parametrize(
    ("given", "error", "text"),
    [
        ({"node": None}, TypeError, "node must be"),
        ({"node": 5}, TypeError, "not 5"),
        ({"node": b"box"}, TypeError, "not b'box'"),
        ({"node": ""}, ValueError, "node ''"),
        ({"node": "a b"}, ValueError, "node 'a b'"),
        ({"node": "http://box"}, ValueError, "'http://box'"),
        ({"node": "box:abc"}, ValueError, "'box:abc': 'abc' is not"),
        ({"node": "box:0"}, ValueError, "port 0"),
        ({"node": "10.0.0.256"}, ValueError, "'10.0.0.256' is not an IPv4"),
        ({"node": "box:1", "port": 2}, ValueError, "leave out port=2"),
        ({"node": Location("box", 1), "port": 2}, ValueError, "leave out port=2"),
        ({"node": Location("box", 0)}, ValueError, "not 0"),
        ({"port": "9706"}, TypeError, "port must be a whole number, not '9706'"),
        ({"port": 70000}, ValueError, "not 70000"),
        ({"port": True}, TypeError, "not True"),
        ({"cpus": "2"}, TypeError, "cpus must be a whole number, not '2'"),
        ({"cpus": 1.0}, TypeError, "not 1.0"),
        ({"memory": 1e9}, TypeError, "memory must be"),
        ({"disk": -1}, ValueError, "disk must not be negative"),
        ({"platform": 5}, TypeError, "platform must be a regular expression, not 5"),
        ({"platform": "("}, ValueError, r"platform '\(' is no regular expression"),
    ],
)
def test_an_allocation_of_no_use_is_refused_at_once(
    given: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        DispycosNodeAllocate(**{"node": "*", **given})


def test_an_allocation_that_was_changed_is_checked_when_it_is_used() -> None:
    changed = DispycosNodeAllocate("box")
    changed.cpus = "2"  # type: ignore[assignment]
    with pytest.raises(TypeError, match=r"nodes\[1\]: .*cpus"):
        allocations(["a", changed])


@pytest.mark.parametrize("nodes", [5, b"box", object()])
def test_nodes_that_are_no_list_are_named(nodes: Any) -> None:
    with pytest.raises(TypeError, match="nodes must be a list"):
        allocations(nodes)


def test_an_allocate_of_ones_own_is_refused_not_ignored() -> None:
    class Picky(DispycosNodeAllocate):
        def allocate(self, *args: Any) -> int:
            return 1

    with pytest.raises(TypeError, match=r"nodes\[1\].*allocate\(\) is not available"):
        allocations(["a", Picky("b")])


def status_of(info: object, task: Task | None = None) -> DispycosStatus:
    word = status_word(News(Status.NodeDiscovered, info), lambda _: cast(Task, task))
    assert isinstance(word, DispycosStatus)
    return word


def test_a_node_tells_its_place_before_it_tells_its_load() -> None:
    assert avail_info(BOX) == DispycosNodeAvailInfo(Location("10.0.0.5", 9700), None, None, None, None)


def test_a_node_tells_its_load() -> None:
    info = avail_info(BOX._replace(available=LEFT))
    assert info == DispycosNodeAvailInfo(Location("10.0.0.5", 9700), 75.5, 1000, 2000, 3000)


def test_a_node_in_a_status_answers_for_its_load_too() -> None:
    info = status_of(BOX._replace(available=LEFT)).info
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
    record = Record("f", info=((1, 2), {"x": 3}))
    info = status_of(record, task).info
    assert (info.task, info.args, info.kwargs) == (task, (1, 2), {"x": 3})
    assert before <= info.start_time <= time.time()
    assert status_of(Record("f"), task).info[1:3] == ((), {})


def test_a_status_can_be_sent_to_a_status_task_anywhere() -> None:
    status = status_of(BOX._replace(available=LEFT))
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
