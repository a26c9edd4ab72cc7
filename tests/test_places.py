"""What `where` means: by name, address or Location; and what is said when nothing is there."""

from __future__ import annotations

from typing import Any

import pytest

from dispycos.actors.places import find_place, servers_at
from dispycos.actors.task import Location
from dispycos.errors import TaskRefused
from dispycos.protocol.messages import NodeInfo, Spot

NODES = {
    900: NodeInfo("box", "10.0.0.5", 9700, 2, "Linux", (3, 11), 900),
    800: NodeInfo("tin", "10.0.0.6", 9700, 1, "Linux", (3, 11), 800),
}
SERVERS = {
    901: (Spot("10.0.0.5", 9701, 901, "box/server-1"), "box"),
    902: (Spot("10.0.0.5", 9702, 902, "box/server-2"), "box"),
    801: (Spot("10.0.0.6", 9701, 801, "tin/server-1"), "tin"),
}


@pytest.mark.parametrize("where", ["tin", "10.0.0.6", "10.0.0.6:9700", Location("10.0.0.6", 9700)])
def test_a_node_is_meant_by_its_name_address_or_location(where: Any) -> None:
    assert find_place(where, NODES, SERVERS) == ("tin", 0)
    assert servers_at(where, NODES, SERVERS) == [801]


def test_a_server_is_meant_by_its_location() -> None:
    assert find_place(Location("10.0.0.5", 9702), NODES, SERVERS) == ("", 902)
    assert servers_at(Location("10.0.0.5", 9702), NODES, SERVERS) == [902]


def test_all_servers_of_a_node_are_meant_by_the_node() -> None:
    assert servers_at("box", NODES, SERVERS) == [901, 902]


def test_who_names_what_is_not_there_is_told_what_is() -> None:
    with pytest.raises(TaskRefused) as caught:
        find_place("shed", NODES, SERVERS)
    assert str(caught.value) == (
        "no node or server shed is in use; nodes: box (10.0.0.5:9700), tin (10.0.0.6:9700); "
        "servers: 10.0.0.5:9701, 10.0.0.5:9702, 10.0.0.6:9701"
    )
    with pytest.raises(TaskRefused, match="nodes: none; servers: none"):
        servers_at(Location("10.0.0.9", 1), {}, {})


def test_what_is_no_place_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="where must be a str"):
        find_place(5, NODES, SERVERS)  # type: ignore[arg-type]
