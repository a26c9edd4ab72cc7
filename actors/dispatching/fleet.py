"""The nodes and servers that a client has, who may be given something, and the names that tasks ask for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from .facts import Entry, FleetNode, FleetServer, Needs, Pin
from .placement import Choice

LISTED_MAX: Final = 20  # nodes or servers that an error message lists


class Fleet:
    """What there is. Whoever changes a load, or whether something is offered, says so by `changed`."""

    def __init__(self) -> None:
        self.nodes: dict[int, FleetNode] = {}
        self.servers: dict[int, FleetServer] = {}
        self.pins: dict[
            tuple[str, Needs], Pin
        ] = {}  # of nodes, by the names and resources that tasks asked for
        self.choice = Choice()
        self.changed: dict[FleetServer, None] = {}  # since the last pass
        self.shut: dict[FleetNode | FleetServer, None] = {}  # those that are not open
        self.past: dict[
            int, tuple[int, int]
        ] = {}  # of nodes that are gone: tasks that ended, and failed, there

    def update(self, lag: float) -> Iterable[FleetServer]:
        """Puts the servers that changed where they belong now, and says which they are."""
        changed, self.changed = self.changed, {}
        for server in changed:
            self.choice.update(server, lag)
        return changed

    # --- nodes and servers

    def add_node(
        self, epoch: int, title: str, names: tuple[str, ...], resources: dict[str, int]
    ) -> FleetNode:
        node = self.nodes[epoch] = FleetNode(epoch, title, names, resources=resources)
        node.units = {name: list(range(count)) for name, count in resources.items()}
        node.ended, node.failed = self.past.pop(epoch, (0, 0))
        for pin in self.pins.values():
            if not pin.name or pin.name in names:
                pin.nodes.append(node)
                node.pins.append(pin)
        return node

    def remove_node(self, node: FleetNode) -> list[Pin]:
        """Its servers were removed before. The names that nobody bears any more."""
        del self.nodes[node.epoch]
        self.past[node.epoch] = node.ended, node.failed
        self.shut.pop(node, None)
        bare = []
        for pin in node.pins:
            pin.nodes.remove(node)
            if pin.name and not pin.nodes:
                del self.pins[pin.name, pin.needs]
                bare.append(pin)
        return bare

    def add_server(self, epoch: int, name: str, node: FleetNode, srtt: float) -> FleetServer:
        server = self.servers[epoch] = FleetServer(epoch, name, node, Pin(name), srtt)
        server.pin.server = server
        node.servers[epoch] = server
        node.failure = ""
        self.changed[server] = None
        return server

    def remove_server(self, server: FleetServer) -> None:
        del self.servers[server.epoch]
        del server.node.servers[server.epoch]
        server.node.ended += server.ended
        server.node.failed += server.failed
        self.changed.pop(server, None)
        self.shut.pop(server, None)
        self.choice.remove(server)

    def counts(self) -> dict[int, tuple[int, int]]:
        """By node, also those that are gone: tasks that ended, and of these, that failed."""
        counts = dict(self.past)
        for epoch, node in self.nodes.items():
            servers = node.servers.values()
            ended = node.ended + sum(server.ended for server in servers)
            counts[epoch] = ended, node.failed + sum(server.failed for server in servers)
        return counts

    def open(self, place: FleetNode | FleetServer, is_open: bool) -> list[FleetServer]:
        """Or shut it. The servers that it is about."""
        place.is_open = is_open
        if is_open:
            self.shut.pop(place, None)
        else:
            self.shut[place] = None
        servers = list(place.servers.values()) if isinstance(place, FleetNode) else [place]
        self.changed.update(dict.fromkeys(servers))
        return servers

    def touch(self, node: FleetNode) -> None:
        """Whether it is offered changed."""
        self.changed.update(dict.fromkeys(node.servers.values()))

    # --- names

    def bind(self, entry: Entry) -> str:
        """Find where a task that names its server or node waits; why it cannot be there, else nothing."""
        if entry.server:
            server = self.servers.get(entry.server)
            if server is None:
                there = [server.name for server in self.servers.values()]
                return f"there is no such server ({entry.server:016x}); there are: {_listing(there)}"
            entry.pin = server.pin
            if entry.needs:
                entry.pin = server.asking.setdefault(
                    entry.needs, Pin(server.name, server=server, needs=entry.needs)
                )
            return server.closing or _lacks(entry.needs, [server.node])
        pin = self.pins.get((entry.node, entry.needs))
        if pin is None:
            nodes = [node for node in self.nodes.values() if not entry.node or entry.node in node.names]
            if not nodes and entry.node:
                titles = [node.title for node in self.nodes.values()]
                return f"there is no node {entry.node}; there are: {_listing(titles)}"
            pin = self.pins[entry.node, entry.needs] = Pin(entry.node, nodes, needs=entry.needs)
            for node in nodes:
                node.pins.append(pin)
        entry.pin = pin
        return self.failure_of(pin) or (_lacks(entry.needs, pin.nodes) if pin.name else "")

    def failure_of(self, pin: Pin) -> str:
        """Why there will never be a server there; empty if there may be one."""
        if not pin.name:
            return ""  # more nodes may come
        if any(not node.closing and (node.servers or not node.failure) for node in pin.nodes):
            return ""
        first = pin.nodes[0]
        return first.closing or f"no server can be started: {first.failure}"

    def why_waits(self, pin: Pin) -> str:
        """Why what needs resources is not given, for people; empty: other tasks have them now."""
        return _lacks(pin.needs, [pin.server.node] if pin.server is not None else pin.nodes)

    def pins_of(self, server: FleetServer) -> Iterator[Pin]:
        yield from server.pins
        yield from server.node.pins

    def servers_of(self, pin: Pin) -> list[FleetServer]:
        if pin.server is not None:
            return [pin.server]
        return [server for node in pin.nodes for server in node.servers.values()]

    def free_at(self, pin: Pin | None) -> FleetServer | None:
        """A free server there, of the least loaded node; None: anywhere."""
        if pin is None:
            first = self.choice.nodes.first()
            return first.free.first() if first is not None else None
        if pin.server is not None:
            node = pin.server.node
            return pin.server if pin.server in node.free.level_of and node.has(pin.needs) else None
        level_of = self.choice.nodes.level_of
        nodes = [node for node in pin.nodes if node in level_of and node.has(pin.needs)]
        return min(nodes, key=level_of.__getitem__).free.first() if nodes else None

    def io_at(self, pin: Pin | None) -> FleetServer | None:
        """The one there that is next for io tasks."""
        if pin is None:
            return self.choice.io.first()
        level_of = self.choice.io.level_of
        servers = [
            server for server in self.servers_of(pin) if server in level_of and server.node.has(pin.needs)
        ]
        return min(servers, key=level_of.__getitem__, default=None)

    def check(self) -> None:
        """What belongs together knows of each other; who did not change stands where its load says."""
        for server in self.servers.values():
            assert server.node.servers.get(server.epoch) is server, f"{server.name} is not on its node"
            assert server.is_open is (server not in self.shut) and not (server.is_open and server.closing)
        for node in self.nodes.values():
            assert self.nodes[node.epoch] is node
            assert node.is_open is (node not in self.shut) and not (node.is_open and node.closing)
            assert all(node in pin.nodes and (not pin.name or pin.name in node.names) for pin in node.pins)
            self._check_resources(node)
        if not self.changed:
            self.choice.check(self.nodes.values())

    def _check_resources(self, node: FleetNode) -> None:
        """Each unit is free, or one task has it."""
        had = [entry for server in node.servers.values() for entry in (*server.cpu, *server.io.values())]
        for name, count in node.resources.items():
            lent = [unit for entry in had if entry.units for unit in entry.units.get(name, ())]
            assert sorted([*node.units[name], *lent]) == list(range(count)), f"{node.title}: {name} is wrong"


def told(resources: Iterable[tuple[str, int]]) -> str:
    """For people."""
    return ", ".join(f"{name}={count}" for name, count in resources)


def _lacks(needs: Needs, nodes: Iterable[FleetNode]) -> str:
    """Why none of these nodes will ever have so much free; empty if one may."""
    lacking = []
    for node in nodes:
        if all(node.resources.get(name, 0) >= count for name, count in needs):
            return ""
        lacking.append(f"node {node.title} has {told(node.resources.items()) or 'no resources'}")
    there = "; ".join(lacking[:LISTED_MAX]) or "there is no node"
    return f"{told(needs)} is needed, and {there}"


def _listing(names: list[str]) -> str:
    if not names:
        return "none"
    more = f" and {len(names) - LISTED_MAX} more" if len(names) > LISTED_MAX else ""
    return ", ".join(sorted(names)[:LISTED_MAX]) + more
