"""Tasks that need resources of a node: who gets which, who waits, and when they are free again."""

from __future__ import annotations

from typing import Any

import pytest

from dispycos.actors.tasks.options import PLAIN, merged
from dispycos.protocol.status import OutcomeKind
from tests.dispatching.test_dispatch import Desk

GPU = (("gpu", 1),)


def desk_with(*gpus: int) -> Desk:
    """A node of two servers for each of these numbers."""
    desk = Desk()
    for node, count in enumerate(gpus, start=1):
        join(desk, node, count)
    desk.place()
    return desk


def join(desk: Desk, node: int, gpus: int) -> None:
    desk.dispatcher.node_up(node, f"node{node}", (f"node{node}",), (("gpu", gpus),) if gpus else ())
    for server in (1, 2):
        desk.dispatcher.server_up(100 * node + server, f"node{node}/s{server}", node)


def test_a_task_that_asks_goes_where_so_much_is_free_and_holds_up_nobody() -> None:
    desk = desk_with(0, 1)
    first, second = desk.submit(2, needs=GPU)
    (plain,) = desk.submit()
    given = desk.place()
    assert (1, 202) in given or (1, 201) in given
    assert {task for task, _ in given} == {1, 3}
    assert first.resources == {"gpu": [0]} and second.resources == {} and plain.resources == {}
    desk.end(first)
    assert [task for task, _ in desk.place()] == [2]
    assert second.resources == {"gpu": [0]} and first.resources == {}


def test_each_has_its_own_numbers_the_lowest_that_are_free() -> None:
    desk = desk_with(4)
    a, b = desk.submit(1, needs=GPU) + desk.submit(1, needs=(("gpu", 2),))
    desk.place()
    assert (a.resources, b.resources) == ({"gpu": [0]}, {"gpu": [1, 2]})
    desk.end(a)
    (c,) = desk.submit(1, needs=(("gpu", 2),))
    desk.place()
    assert c.resources == {"gpu": [0, 3]}


def test_what_a_dead_server_had_is_free_again_for_those_that_wait_at_others() -> None:
    desk = desk_with(1)
    desk.submit(2, needs=GPU)
    ((_, server),) = desk.place()
    desk.dispatcher.server_lost(server, "it died", 1, 0)
    ((task, other),) = desk.place()
    assert task == 2 and other != server


def test_nothing_is_given_behind_others_that_needs_something() -> None:
    desk = desk_with(9)
    desk.submit(9, needs=GPU)
    assert len(desk.place()) == 2


def test_io_tasks_are_counted_too() -> None:
    desk = desk_with(1)
    first, _ = desk.submit(2, io=True, needs=GPU)
    assert [task for task, _ in desk.place()] == [1]
    desk.end(first)
    assert [task for task, _ in desk.place()] == [2]


def test_what_no_node_has_is_waited_for_and_said() -> None:
    desk = desk_with(0, 1)
    desk.submit(3, needs=(("gpu", 2),))
    assert desk.place() == []
    assert desk.dispatcher.lacks
    told = (3, "gpu=2 is needed, and node node1 has no resources; node node2 has gpu=1")
    assert desk.dispatcher.lacking() == told
    join(desk, 3, 2)
    assert len(desk.place()) == 1 and not desk.dispatcher.lacks


def test_a_place_that_will_never_have_so_much_is_refused() -> None:
    desk = desk_with(1)
    desk.submit(1, node="node1", needs=(("gpu", 2),))
    desk.submit(1, server=101, needs=(("gpu", 2),))
    desk.submit(1, server=101, needs=GPU)
    assert [end[:2] for end in desk.ends()] == [(1, OutcomeKind.REFUSED), (2, OutcomeKind.REFUSED)]
    assert desk.place() == [(3, 101)]


@pytest.mark.parametrize(
    ("kind", "given", "word"),
    [
        (TypeError, {"gpus": 0.5}, "gpus must be a whole number"),
        (ValueError, {"gpus": -1}, "gpus must not be negative"),
        (TypeError, {"resources": ["gpu"]}, "resources must be a dict"),
        (TypeError, {"resources": {"gpu": "x"}}, "resources: gpu must be a whole number"),
        (ValueError, {"resources": {"my gpu": 1}}, "is no name of a resource"),
        (ValueError, {"gpus": 1, "resources": {"gpu": 1}}, "mean the same"),
    ],
)
def test_resources_of_no_use_are_refused_in_words(
    kind: type[Exception], given: dict[str, Any], word: str
) -> None:
    with pytest.raises(kind, match=word):
        merged(PLAIN, {"gpus": None, "resources": None, **given})


def test_options_add_to_those_before() -> None:
    one = merged(PLAIN, {"gpus": 1, "resources": {"licence": 2}})
    assert one.resources == (("gpu", 1), ("licence", 2))
    assert merged(one, {"gpus": 0, "resources": None}).resources == (("licence", 2),)
