"""Nobody waits in silence: what the client that has the cluster and lacks servers is told, and the words for people who look."""

from __future__ import annotations

from typing import Final

from dispycos.notices import NAMED_MAX, PATIENCE_S, counted
from dispycos.protocol.envelope import Envelope
from dispycos.protocol.messages import Hopeless

from .lifecycle import ClientState, NodeState
from .outbox import Outbox
from .registry import Client, Node, Registry, Share

LISTED_MAX: Final = 20  # nodes that a message lists

REMEDY: Final = (
    "repair what they complain of, then schedule a new Client, for which they are tried anew, "
    "or start `dispycos node` on another host"
)


class Waiting:
    """Tells the client that has the cluster what it lacks."""

    def __init__(self, registry: Registry, out: Outbox) -> None:
        self.registry = registry
        self.out = out

    def on_alone(self, client: Client, now: float) -> None:
        """That there is no node at all is said also if no task waits."""
        if not self.registry.shares and not client.hopeless:
            client.told_alone = now + PATIENCE_S
            self.out.warn(client, f"{missing(self.registry)}; still waiting")

    def on_wanting(self, envelope: Envelope, now: float) -> None:
        client = self.registry.active
        if client is None or client.address != envelope.sender or client.state is not ClientState.ACTIVE:
            return
        if client.hopeless:
            self.out.tell(client, Hopeless(client.hopeless))
        elif now >= client.told_alone:  # else it has just been said
            tasks = counted(envelope.message.tasks, "task")
            self.out.warn(client, f"{tasks} cannot run: {missing(self.registry)}; still waiting")

    def tell_of_hope(self, client: Client) -> None:
        """What waits for servers that will never be there would wait for ever."""
        why = hopeless(self.registry, client)
        if why and why != client.hopeless:
            self.out.tell(client, Hopeless(why))
        client.hopeless = why


def missing(registry: Registry) -> str:
    """Why tasks of the client that has the cluster find no server."""
    nodes = list(registry.nodes.values())
    if not nodes:
        return (
            "no node found: start `dispycos node` here or on a host with the same secret, "
            "or name one that mDNS does not reach: Client(nodes=['host'])"
        )
    there = ", ".join(f"{node.info.name} ({state_of(node, registry)})" for node in nodes[:LISTED_MAX])
    if any(share.is_usable for share in registry.shares):
        return f"they may not run on the servers that there are; known nodes: {there}"
    return f"none of the {len(nodes)} known nodes can be used: {there}"


def hopeless(registry: Registry, client: Client) -> str:
    """Why no task of this client can ever run; empty while there is a node that has servers, or may have some later."""
    if any(_may_serve(node, client) for node in registry.nodes.values()):
        return ""
    failed = [*client.failed.values(), *(share.failure for share in registry.shares if share.is_hopeless)]
    return (
        f"no server of any node can be started: {'; '.join(failed[:NAMED_MAX])}\n{REMEDY}" if failed else ""
    )


def _may_serve(node: Node, client: Client) -> bool:
    if node.share is not None:
        return not node.share.is_hopeless
    if node.epoch in client.failed:
        return False
    is_fit = node.info.python == client.wants.client.python
    return is_fit and (client.asks_for(node.info) is not None or client.servers_of(node.info) > 0)


def of_zombie(share: Share, silence: float) -> str:
    return (
        f"{share.node.title} has been silent for {silence:g} s and gets no new tasks until it is back; those that it has "
        "go on then, unless it has ended them for want of its scheduler. terminate() ends the wait for one, "
        "close(terminate=True) for all, and Client(abandon_zombie_nodes=True) gives such nodes up"
    )


def state_of(node: Node, registry: Registry) -> str:
    client = registry.active
    if node.away:
        return "not reachable"
    if node.share is not None:
        return "its servers cannot be started" if node.share.is_hopeless else node.state.name.lower()
    if node.state is NodeState.CLOSING:
        return "closing"
    if node.epoch in registry.claims:
        return f"held by {node.holder}"
    if client is None:
        return "free"
    if node.info.python != client.wants.client.python:
        return f"has Python {version(node.info.python)}"
    if client.asks_for(node.info) is not None:
        return "the program's own allocate() has not answered"
    if node.epoch in client.closed:
        return "closed by this client; node_allocate() takes it again"
    return "declined" if node.state is NodeState.DECLINED else "not asked for"


def version(python: tuple[int, int]) -> str:
    return f"{python[0]}.{python[1]}"


def other_python(theirs: tuple[int, int], ours: tuple[int, int]) -> str:
    """Why such a node is of no use to a program, and what to do: byte code of another Python crashes the interpreter."""
    needed = version(ours)
    return f"runs Python {version(theirs)}, this program {needed}: run `dispycos node` there with Python {needed}"
