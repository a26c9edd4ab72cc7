"""The small classes of the specification: what nodes= means, and what a status_task is told."""

from __future__ import annotations

import pickle
import re
import time
from typing import Any, cast

import pytest
from msgspec import structs

from dispycos.actors.client.effects import News
from dispycos.actors.client.status import (
    DispycosNodeAllocate,
    DispycosNodeAvailInfo,
    DispycosStatus,
    allocations,
    avail_info,
    choose,
    status_word,
)
from dispycos.actors.tasks.record import Record
from dispycos.actors.tasks.submitting import Task
from dispycos.brokers.allocation import Named, allocate
from dispycos.protocol.addresses import Location
from dispycos.protocol.messages import Allocation, Availability, NodeInfo, Offer
from dispycos.protocol.status import Status

BOX = NodeInfo("box", "10.0.0.5", 9700, 4, "Linux-6", (3, 11), 900)
LEFT = Availability(75.5, 1000, 2000, 3000)


@pytest.mark.parametrize("nodes", [None, (), []])
def test_no_nodes_mean_any_node(nodes: Any) -> None:
    assert allocations(nodes) == []


@pytest.mark.parametrize("nodes", ["10.0.0.*", ["10.0.0.*"], DispycosNodeAllocate("10.0.0.*")])
def test_a_name_or_pattern_means_all_of_its_cpus(nodes: Any) -> None:
    assert words_of(nodes) == [Allocation("10.0.0.*")]


def test_allocations_keep_their_order_and_what_they_ask_for() -> None:
    big = DispycosNodeAllocate("big", port=9800, platform="linux", cpus=-1, memory=10**9, disk=10**10)
    assert words_of([big, "small"]) == [
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
    assert DispycosNodeAllocate(node, port)._as_word()[:2] == word
    if port is None:
        assert words_of([node])[0][:2] == word


class Text(str):
    """As users' own kinds of text are."""


class Whole:
    """As numpy's integers are."""

    def __index__(self) -> int:
        return 3


def test_numbers_and_texts_of_other_kinds_are_taken_and_none_does_not_matter() -> None:
    kinds = DispycosNodeAllocate(Text("box"), Whole(), Text("linux"), Whole(), Whole(), Whole())  # type: ignore[arg-type]
    word = kinds._as_word()
    assert word == Allocation("box", 3, "linux", 3, 3, 3)
    assert {type(part) for part in word[:6]} == {str, int}
    assert DispycosNodeAllocate("*", None, None, None, None, None)._as_word() == Allocation("*")
    assert DispycosNodeAllocate("*", platform=re.compile("Linux"))._as_word().platform == "Linux"


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


class Picky(DispycosNodeAllocate):
    """Answers what it was made with, or raises it."""

    answer: Any = 1

    def allocate(self, *about: Any) -> int:
        self.asked = about
        if isinstance(self.answer, Exception):
            raise self.answer
        return cast(int, self.answer)


OFFERED = Offer(
    NodeInfo("box", "10.0.0.5", 9706, 4, "Linux-6.1", (3, 11), 9, Availability(5.0, 10, 20, 3)), 2, True
)


def picky(answer: object) -> Picky:
    one = Picky("*")
    one.answer = answer
    return one


def test_who_has_an_allocate_of_its_own_is_asked_for_its_nodes() -> None:
    assert [word.own for word in words_of(["a", DispycosNodeAllocate("b"), Picky("c")])] == [
        False,
        False,
        True,
    ]
    on_instance = DispycosNodeAllocate("b")
    on_instance.allocate = lambda *about: 2  # type: ignore[method-assign]
    assert on_instance._as_word().own and choose(on_instance, OFFERED) == (2, "")


@pytest.mark.parametrize(("answer", "count"), [(3, 3), (0, 0), (-1, -1), (-7, -1), (4, 4), (Whole(), 3)])
def test_what_it_answers_counts(answer: object, count: int) -> None:
    one = picky(answer)
    assert choose(one, OFFERED) == (count, "")
    assert one.asked == ("10.0.0.5", "box", "Linux-6.1", 4, 10, 20)


def test_a_node_that_does_not_know_what_it_has_left_is_asked_about_with_none() -> None:
    one = picky(1)
    choose(one, structs.replace(OFFERED, node=OFFERED.node._replace(available=None)))
    assert one.asked[-2:] == (None, None)


@pytest.mark.parametrize("answer", [None, "x", 1.5, True, [1]])
def test_an_answer_that_is_no_number_is_said_and_the_node_is_not_used(answer: object) -> None:
    count, fault = choose(picky(answer), OFFERED)
    assert count == 0
    assert fault == (
        f"nodes[2]: Picky.allocate() of node box must return a number of CPUs, not {answer!r}; the node is not used"
    )


def test_an_exception_of_its_own_is_said_with_its_line_and_the_node_is_not_used() -> None:
    count, fault = choose(picky(ValueError("no such rack")), OFFERED)
    assert count == 0 and "Picky.allocate() of node box raised ValueError('no such rack')" in fault
    assert f"{__file__}:" in fault


def test_more_than_there_are_is_what_there_is_and_said() -> None:
    assert choose(picky(9), OFFERED) == (
        4,
        "nodes[2]: Picky.allocate() of node box returned 9, and it has 4: these are used",
    )


@pytest.mark.parametrize(
    "fields",
    [
        {"node": "10.0.0.*"},
        {"node": "box", "cpus": 3},
        {"node": "*", "cpus": 5},
        {"node": "*", "cpus": -1},
        {"node": "*", "cpus": 0},
        {"node": "*", "platform": "windows"},
        {"node": "*", "platform": "LINUX"},
        {"node": "*", "memory": 11},
        {"node": "*", "memory": 10, "disk": 20},
        {"node": "other"},
    ],
)
def test_the_allocate_of_the_base_gives_what_the_scheduler_would(fields: dict[str, Any]) -> None:
    one, node = DispycosNodeAllocate(**fields), OFFERED.node
    asked = one.allocate(node.addr, node.name, node.platform, node.cpus, 10, 20)
    assert (
        max(0, asked) == allocate(node, [Named(one._as_word())], unrestricted=False)
        or fields.get("cpus") == 0
    )
    assert (asked < 0) == (fields.get("node") == "other" or fields.get("platform") == "windows")


def test_a_place_that_only_its_scheduler_can_find_is_matched_by_what_that_says() -> None:
    class Super(DispycosNodeAllocate):
        def allocate(self, *about: Any) -> int:
            return super().allocate(*about)

    assert choose(Super("gateway"), OFFERED) == (4, "")
    assert choose(Super("box"), structs.replace(OFFERED, is_at=False)) == (-1, "")


def test_a_subclass_that_does_not_call_its_base_is_named() -> None:
    class Lazy(DispycosNodeAllocate):
        def __init__(self) -> None:
            pass

    with pytest.raises(TypeError, match=r"nodes\[1\].*super\(\).__init__"):
        allocations(["a", Lazy()])


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


@pytest.mark.parametrize("field", ["location", "cpu", "memory", "disk", "swap"])
def test_what_a_node_has_left_is_read_only(field: str) -> None:
    info = avail_info(BOX._replace(available=LEFT))
    with pytest.raises(AttributeError):
        setattr(info, field, 1)
    node = status_word(News(Status.NodeInitialized, BOX), cast(Any, None)).info
    with pytest.raises(AttributeError):
        setattr(node, field, 1)


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


def test_the_scheduler_names_each_status() -> None:
    from dispycos.brokers.local import Scheduler

    assert {name: getattr(Scheduler, name, None) for name in Status.__members__} == dict(Status.__members__)


def test_statuses_compare_with_the_numbers_that_scripts_know() -> None:
    from dispycos.brokers.local import Scheduler

    assert (
        DispycosStatus(Status.TaskCreated, None).status
        == Scheduler.TaskStarted
        == Scheduler.TaskCreated
        == 21
    )


def words_of(nodes: Any) -> list[Allocation]:
    return [one._as_word() for one in allocations(nodes)]
