"""What a cluster of dispy makes of nodes that it cannot have, and of those that come back. The client is a stand-in."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from dispycos.actors.compat.dispy.callbacks import Told
from dispycos.actors.compat.dispy.given import Entry, wishes_of
from dispycos.actors.compat.dispy.jobs import DispyNode, NodeState
from dispycos.actors.compat.dispy.nodes import Nodes
from dispycos.protocol.addresses import Location
from dispycos.protocol.messages import NodeInfo
from dispycos.protocol.status import Status


class Client:
    """Notes what it is told."""

    def __init__(self, entries: list[Entry]) -> None:
        self.said: list[tuple[Any, ...]] = []
        self._wishes = SimpleNamespace(allocations=list(entries))
        self._lease = SimpleNamespace(ledger=SimpleNamespace(nodes=set(), servers={}))

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **options: self.said.append((name, args[0]))


def info(epoch: int, port: int, name: str = "a") -> NodeInfo:
    return NodeInfo(name, "10.0.0.1", port, 2, "Linux", (3, 11), epoch)


def nodes_of(*names: Any) -> tuple[Nodes, Any]:
    entries = [Entry(wish, None, is_anywhere=False) for wish in wishes_of(list(names))]
    client: Any = Client(entries)
    return Nodes(client, entries, None, Told(None, None)), client


@pytest.mark.parametrize("port", [None, 9706])
def test_of_several_nodes_one_that_refuses_us_or_is_not_known_is_left_out(port: int | None) -> None:
    first = ("10.0.0.1", port) if port else "10.0.0.1"
    place = "10.0.0.1:9706" if port else "10.0.0.1"
    for why in ("refused: it has another secret; copy it", "no node of this name is here"):
        nodes, client = nodes_of(first, "10.0.0.2")
        assert nodes.leave_out(f"nodes: {place}: {why}")
        assert [entry.node for entry in client._wishes.allocations] == ["10.0.0.2"]
    nodes, client = nodes_of(first, "10.0.0.2")
    assert not nodes.leave_out(f"nodes: {place}: no reason")
    nodes, client = nodes_of(first)
    assert not nodes.leave_out(f"nodes: {place}: refused: it has another secret")


def get(nodes: Nodes, client: Any, epoch: int, port: int) -> DispyNode:
    """In a new lease."""
    nodes.begin()
    nodes.are_there = True
    client._lease.ledger.nodes = {epoch}
    nodes.hear(Status.NodeDiscovered, info(epoch, port))
    nodes.hear(Status.NodeInitialized, info(epoch, port))
    return nodes.all()[0]


def test_a_node_that_comes_back_as_another_process_is_the_same_and_as_the_script_wanted_it() -> None:
    nodes, client = nodes_of()
    node = get(nodes, client, 1, 9000)
    nodes.suspend(node, True)
    nodes.end()
    assert node._state is NodeState.LENT
    del client.said[:]
    assert get(nodes, client, 2, 9001) is node
    assert len(nodes.all()) == 1
    there = Location("10.0.0.1", 9001)
    assert client.said == [("enable_node", there), ("suspend_node", there)]


def test_a_node_that_was_closed_is_not_used_in_the_next_lease_before_it_is_allocated_again() -> None:
    nodes, client = nodes_of()
    node = get(nodes, client, 1, 9000)
    nodes.close(node, terminate=False)
    nodes.hear(Status.NodeClosed, info(1, 9000))
    nodes.end()
    del client.said[:]
    nodes.begin()
    client._lease.ledger.nodes = {2}
    nodes.hear(Status.NodeDiscovered, info(2, 9001))
    assert client.said == []
    nodes.open(node)
    assert client.said == [("enable_node", Location("10.0.0.1", 9001))]


def test_a_node_that_has_gone_is_not_listed_and_a_closed_one_is() -> None:
    nodes, client = nodes_of()
    node = get(nodes, client, 1, 9000)
    gone: list[DispyNode] = []
    nodes.on_gone = gone.append
    nodes.hear(Status.NodeAbandoned, info(1, 9000))
    assert (gone, nodes.listed(), nodes.find("a"), nodes.all()) == ([node], [], None, [node])
    assert get(nodes, client, 2, 9001) is node
    nodes.close(node, terminate=True)
    nodes.hear(Status.NodeClosed, info(2, 9001))
    assert nodes.listed() == [node]
    assert node.is_closed
