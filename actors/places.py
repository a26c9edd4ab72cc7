"""Which node or server of those that a client has is meant by a name, an address or a Location."""

from __future__ import annotations

from collections.abc import Mapping

from dispycos.errors import TaskRefused
from dispycos.protocol.messages import NodeInfo, Spot

from .task import Location

Nodes = Mapping[int, NodeInfo]
Servers = Mapping[int, tuple[Spot, str]]  # with the name of its node


def find_place(where: str | Location, nodes: Nodes, servers: Servers) -> tuple[str, int]:
    """(name of a node, 0) or ("", epoch of a server). Raises TaskRefused, which says what there is."""
    if isinstance(where, str):
        for node in nodes.values():
            if where in (node.addr, node.name, f"{node.addr}:{node.port}"):
                return node.name, 0
    elif isinstance(where, Location):
        for epoch, (spot, _) in servers.items():
            if (spot.addr, spot.port) == where:
                return "", epoch
        for node in nodes.values():
            if (node.addr, node.port) == where:
                return node.name, 0
    else:
        raise TypeError(f"where must be a str (a node) or a Location, not {type(where).__name__}")
    raise TaskRefused(f"no node or server {where} is in use; {_what_there_is(nodes, servers)}")


def servers_at(where: str | Location, nodes: Nodes, servers: Servers) -> list[int]:
    """Epochs of the one server, or of all servers of the node."""
    node, server = find_place(where, nodes, servers)
    if server:
        return [server]
    return [epoch for epoch, (_, name) in servers.items() if name == node]


def _what_there_is(nodes: Nodes, servers: Servers) -> str:
    named = ", ".join(f"{node.name} ({node.addr}:{node.port})" for node in nodes.values())
    located = ", ".join(f"{spot.addr}:{spot.port}" for spot, _ in servers.values())
    return f"nodes: {named or 'none'}; servers: {located or 'none'}"
