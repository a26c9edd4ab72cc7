"""What `where` means: by name, address or Location; and what is said when nothing is there."""

from __future__ import annotations

from typing import Any

import pytest

from dispycos.actors.client.places import find_place, scheduler_place, servers_at
from dispycos.errors import TaskRefused
from dispycos.protocol.addresses import Location
from dispycos.protocol.messages import NodeInfo, Spot
from dispycos.values import HostPort

NODES = {
    900: NodeInfo("box", "10.0.0.5", 9700, 2, "Linux", (3, 11), 900),
    800: NodeInfo("tin", "10.0.0.6", 9700, 1, "Linux", (3, 11), 800),
}
SERVERS = {
    901: (Spot("10.0.0.5", 9701, 901, "box/server-1"), 900),
    902: (Spot("10.0.0.5", 9702, 902, "box/server-2"), 900),
    801: (Spot("10.0.0.6", 9701, 801, "tin/server-1"), 800),
}


@pytest.mark.parametrize("where", ["tin", "10.0.0.6", "10.0.0.6:9700", Location("10.0.0.6", 9700)])
def test_a_node_is_meant_by_its_name_address_or_location(where: Any) -> None:
    assert find_place(where, NODES, SERVERS) == (str(where), 0)
    assert servers_at(where, NODES, SERVERS) == [801]


def test_of_several_nodes_with_one_address_or_name_all_are_meant() -> None:
    nodes = {**NODES, 700: NodeInfo("lid", "10.0.0.6", 9800, 1, "Linux", (3, 11), 700)}
    nodes[600] = NodeInfo("box", "10.0.0.7", 9700, 1, "Linux", (3, 11), 600)
    servers = {**SERVERS, 701: (Spot("10.0.0.6", 9801, 701, "lid/server-1"), 700)}
    servers[601] = Spot("10.0.0.7", 9701, 601, "box/server-1"), 600
    assert servers_at("10.0.0.6", nodes, servers) == [801, 701]
    assert servers_at("box", nodes, servers) == [901, 902, 601]
    assert servers_at(Location("10.0.0.7", 9700), nodes, servers) == [601], "and not the other box"
    assert find_place(Location("10.0.0.7", 9700), nodes, servers) == ("10.0.0.7:9700", 0)


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


@pytest.mark.parametrize(
    ("location", "place"),
    [
        ("box", HostPort("box")),
        ("box:9800", HostPort("box", 9800)),
        ("[::1]:9800", HostPort("::1", 9800)),
        (Location("10.0.0.5", 9705), HostPort("10.0.0.5", 9705)),
        (Location("::1", 9705), HostPort("::1", 9705)),
    ],
)
def test_a_scheduler_is_meant_by_its_host_and_port(location: Any, place: HostPort) -> None:
    assert scheduler_place(location) == place


@pytest.mark.parametrize(
    ("location", "error", "text"),
    [
        (5, TypeError, "not int"),
        (b"box", TypeError, "not bytes"),
        (("box", 9705), TypeError, r"Location\(host, port\), not tuple"),
        (Location("box", "9705"), TypeError, "port must be a whole number, not '9705'"),  # type: ignore[arg-type]
        (Location("box", True), TypeError, "not True"),
        (Location(5, 9705), TypeError, "address must be a str"),  # type: ignore[arg-type]
        (Location("box", 0), ValueError, "between 1 and 65535, not 0"),
        (Location("box", 70000), ValueError, "not 70000"),
        (Location("box:1", 9705), ValueError, "'box:1' is not an address"),
        ("box:abc", ValueError, "'box:abc': 'abc' is not"),
        ("box:70000", ValueError, "'box:70000'"),
        ("", ValueError, "''"),
    ],
)
def test_what_can_be_no_scheduler_is_said(location: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        scheduler_place(location)


def test_what_is_no_place_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="where must be a str"):
        find_place(5, NODES, SERVERS)  # type: ignore[arg-type]
