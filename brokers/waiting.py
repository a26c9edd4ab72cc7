"""Nobody waits in silence: what the client that has the cluster is told of servers that are missing, and of silent nodes."""

from __future__ import annotations

from typing import Final

from dispycos.notices import NAMED_MAX, counted
from dispycos.protocol.envelope import Envelope
from dispycos.protocol.messages import Hopeless, Notice, Wanting

from .allocation import allocate
from .lifecycle import ClientState, NodeState
from .outbox import Outbox
from .registry import Client, Node, Registry, Site

LISTED_MAX: Final = 20  # nodes that a message lists

REMEDY: Final = (
    "repair what they complain of, then schedule a new Client, for which they are tried anew, "
    "or start `dispycos node` on another host"
)


class Waiting:
    """The words for the client that has the cluster while it waits."""

    def __init__(self, registry: Registry, out: Outbox) -> None:
        self.registry = registry
        self.out = out

    # --- for a server

    def on_alone(self, epoch: int, now: float) -> None:
        """It has had the cluster for a while."""
        if not any(self.registry.sites()):
            self._tell(self.registry.clients[epoch], f"{self._missing()}; still waiting", "warning")

    def on_wanting(self, envelope: Envelope, now: float) -> None:
        client = self.registry.active
        word: Wanting = envelope.message
        if client is None or client.address != envelope.sender:
            return
        if client.hopeless:
            self.out.tell(client, Hopeless(client.hopeless))
        else:
            text = f"{counted(word.tasks, 'task')} cannot run: {self._missing()}; still waiting"
            self._tell(client, text, "warning")

    def _missing(self) -> str:
        """Why the client has no server, for people."""
        nodes, client = list(self.registry.nodes.values()), self.registry.active
        if nodes:
            there = ", ".join(f"{node.info.name} ({state_of(node, client)})" for node in nodes[:LISTED_MAX])
            return f"none of the {len(nodes)} known nodes can be used: {there}"
        return (
            "no node found: start `dispycos node` here or on a host with the same secret, "
            "or name one that mDNS does not reach: Client(nodes=['host'])"
        )

    def tell_of_hopeless(self, client: Client) -> None:
        """All servers of all nodes failed to start: what waits would wait for ever."""
        failed = [site for site in self.registry.sites() if site.is_hopeless]
        may_come = any(_may_serve(node, client) for node in self.registry.nodes.values())
        if client.state is not ClientState.ACTIVE or self.registry.servers or not failed or may_come:
            client.hopeless = ""
            return
        whys = "; ".join(site.failure for site in failed[:NAMED_MAX])
        text = f"no server of any node can be started: {whys}\n{REMEDY}"
        if text != client.hopeless:
            client.hopeless = text
            self.out.tell(client, Hopeless(text))

    # --- for nodes that are silent

    def on_close_waits(self, epoch: int, now: float) -> None:
        silent = ", ".join(site.node.title for site in self.registry.sites() if site.node.away)
        if silent:
            client = self.registry.clients[epoch]
            self._tell(client, f"close() waits some seconds for {silent}: no link", "warning")

    def tell_of_zombie(self, site: Site, silence: float) -> None:
        text = (
            f"{site.node.title} has been silent for {silence:g} s and gets no new tasks until it is back; those that it has "
            "go on then, unless it has ended them for want of its scheduler. terminate() ends the wait for one, "
            "close(terminate=True) for all, and Client(abandon_zombie_nodes=True) gives such nodes up"
        )
        self._tell(site.client, text, "warning")

    def _tell(self, client: Client, text: str, level: str) -> None:
        self.out.tell(client, Notice(text, level))


# --- small, for people


def _may_serve(node: Node, client: Client) -> bool:
    """Now or later, as far as is known."""
    if node.site is not None:
        return not node.site.is_hopeless
    return node.info.python == client.wants.client.python and allocate(node.info, client.allocations) > 0


def state_of(node: Node, client: Client | None) -> str:
    if node.away:
        return "not reachable"
    if node.site is not None:
        return "its servers cannot be started" if node.site.is_hopeless else node.state.name.lower()
    if node.state is NodeState.CLOSING:
        return "closing"
    if client is None:
        return "free"
    if node.info.python != client.wants.client.python:
        return f"has Python {version(node.info.python)}"
    return "declined" if node.state is NodeState.DECLINED else "not asked for"


def version(python: tuple[int, int]) -> str:
    return f"{python[0]}.{python[1]}"


def other_python(theirs: tuple[int, int], ours: tuple[int, int]) -> str:
    """Why such a node is of no use to a program, and what to do: byte code of another Python crashes the interpreter."""
    needed = version(ours)
    return f"runs Python {version(theirs)}, this program {needed}: run `dispycos node` there with Python {needed}"
