"""Which place is meant by a name, an address or a Location: a node or server that a client has, or a scheduler."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from dispycos.errors import TaskRefused
from dispycos.protocol.addresses import Location
from dispycos.protocol.messages import FilePlace, NodeInfo, Spot
from dispycos.values import HostPort, parse_place, port_number

Nodes = Mapping[int, NodeInfo]
Servers = Mapping[int, tuple[Spot, int]]  # with the epoch of its node


def find_place(where: str | Location, nodes: Nodes, servers: Servers) -> tuple[str, int]:
    """(what its scheduler knows a node by, 0) or ("", epoch of a server). Raises TaskRefused, which says what there is.

    Several nodes may have one address or one name: then any of them is meant.
    """
    if isinstance(where, Location):
        for epoch, (spot, _) in servers.items():
            if Location(spot.addr, spot.port) == where:
                return "", epoch
    elif not isinstance(where, str):
        raise TypeError(f"where must be a str (a node) or a Location, not {type(where).__name__}")
    if any(_is_meant(where, node) for node in nodes.values()):
        return str(where), 0
    raise TaskRefused(f"no node or server {where} is in use; {_what_there_is(nodes, servers)}")


def servers_at(where: str | Location, nodes: Nodes, servers: Servers) -> list[int]:
    """Epochs of the one server, or of all servers of the nodes that are meant."""
    _, server = find_place(where, nodes, servers)
    if server:
        return [server]
    meant = {epoch for epoch, node in nodes.items() if _is_meant(where, node)}
    return [epoch for epoch, (_, node) in servers.items() if node in meant]


def nodes_at(where: str | Location, nodes: Nodes) -> list[int]:
    """Epochs of all nodes that are meant. Raises TaskRefused, which says what there is."""
    if not isinstance(where, str | Location):
        raise TypeError(f"a node is named by a str or a Location, not {type(where).__name__}")
    meant = [epoch for epoch, node in nodes.items() if _is_meant(where, node)]
    if not meant:
        raise TaskRefused(f"no node {where} is known; nodes: {_listed(nodes)}")
    return meant


def server_at(where: Location, known: Iterable[tuple[Spot, int]]) -> tuple[Spot, int]:
    """The one that is there, of these, with the epoch of its node. Raises TaskRefused, which says what there is."""
    if not isinstance(where, Location):
        raise TypeError(
            f"a server is named by its Location (addr, port), not {type(where).__name__}: {where!r}"
        )
    known = list(known)
    for spot, node in known:
        if Location(spot.addr, spot.port) == where:
            return spot, node
    raise TaskRefused(f"no server {where} is known; there are {located(spot for spot, _ in known)}")


def file_places(where: str | Location, nodes: Nodes, servers: Servers, waiting: Servers) -> list[FilePlace]:
    """Who takes files for the node or server that is meant; of several nodes of one address or name, all.

    `waiting`: servers that wait to be enabled. Raises TaskRefused, which says what there is.
    """
    known = {**servers, **waiting}
    if isinstance(where, Location):
        for spot, node in known.values():
            if Location(spot.addr, spot.port) == where:
                return [FilePlace(node, spot.port, f"server {spot.name}")]
    elif not isinstance(where, str):
        raise TypeError(f"where must be a str (a node) or a Location, not {type(where).__name__}")
    meant = [epoch for epoch, node in nodes.items() if _is_meant(where, node)]
    if not meant:
        raise TaskRefused(f"no node or server {where} is in use; {_what_there_is(nodes, known)}")
    return [FilePlace(epoch, 0, f"node {nodes[epoch].name}") for epoch in meant]


def located(spots: Iterable[Spot]) -> str:
    return ", ".join(f"{spot.addr}:{spot.port}" for spot in spots) or "none"


def _is_meant(where: str | Location, node: NodeInfo) -> bool:
    return str(where) in (node.name, node.addr, str(Location(node.addr, node.port)))


def _what_there_is(nodes: Nodes, servers: Servers) -> str:
    return f"nodes: {_listed(nodes)}; servers: {located(spot for spot, _ in servers.values())}"


def _listed(nodes: Nodes) -> str:
    """By name: each time the same."""
    return ", ".join(sorted(f"{node.name} ({node.addr}:{node.port})" for node in nodes.values())) or "none"


def scheduler_place(location: object) -> HostPort:
    """What schedule(location) means. Raises TypeError, ValueError."""
    what = "schedule(): location"
    if isinstance(location, Location):
        if not isinstance(location.addr, str):
            raise TypeError(f"{what}: the address must be a str, not {type(location.addr).__name__}")
        place = _parsed(str(location.addr), what)
        if place.port is not None:
            raise ValueError(f"{what}: {location.addr!r} is not an address; the port has a field of its own")
        return HostPort(place.host, port_number(location.port, f"{what}: port"))
    if isinstance(location, str):
        return _parsed(location, what)
    raise TypeError(
        f"{what} must be a str ('host' or 'host:port') or a dispycos.Location(host, port), not {type(location).__name__}"
    )


def _parsed(text: str, what: str) -> HostPort:
    try:
        return parse_place(text)
    except ValueError as error:
        raise ValueError(f"{what} {text!r}: {error}") from None
