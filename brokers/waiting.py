"""Nobody waits in silence: what a client is told of the tasks that wait, and which of them would wait for ever.

After 3 s it is said what is missing, and again at growing intervals while nothing changes. Tasks that no server
can ever take are refused with the reason.
"""

from __future__ import annotations

from typing import Final

from dispycos.notices import NAMED_MAX, PATIENCE_S, counted, listing, next_pause
from dispycos.protocol.messages import Notice
from dispycos.protocol.status import OutcomeKind

from .dispatch import LISTED_MAX, Dispatch
from .lifecycle import ClientState, NodeState
from .outbox import Outbox
from .placement import allocate
from .registry import Alarm, Client, Node, Registry, Site, Task

WORKING: Final = frozenset({ClientState.ACTIVE, ClientState.FINISHING})
REMEDY: Final = (
    "repair what they complain of, then schedule a new Client, for which they are tried anew, "
    "or start `dispycos node` on another host"
)


class Waiting:
    """The words for the client that has the cluster while it waits."""

    def __init__(self, registry: Registry, dispatch: Dispatch, out: Outbox) -> None:
        self.registry = registry
        self.dispatch = dispatch
        self.out = out

    # --- for a server

    def watch(self, client: Client, now: float) -> None:
        """After a placement pass: is there nothing that could take tasks?"""
        starved = (Alarm.CLIENT_STARVED, client.epoch)
        if self.dispatch.has_usable_server():
            client.patience = PATIENCE_S
        if not self._is_starving(client):
            self.registry.alarms.cancel(*starved)
        elif starved not in self.registry.alarms.times:
            self.registry.alarms.set(*starved, now + client.patience)

    def _is_starving(self, client: Client) -> bool:
        if client.state not in WORKING or self.dispatch.has_usable_server():
            return False
        # That there is no node at all is said once also if no task waits.
        is_alone = client.patience == PATIENCE_S and not any(self.registry.sites())
        return is_alone or self.registry.waiting() > 0

    def on_client_starved(self, epoch: int, now: float) -> None:
        client = self.registry.clients[epoch]
        waiting = self.registry.waiting()
        who = f"{counted(waiting, 'task')} cannot run: " if waiting else ""
        self._tell(client, f"{who}{self.missing(client)}; still waiting", "warning")
        client.patience = next_pause(client.patience)

    def missing(self, client: Client) -> str:
        """Why a client has no server, for people."""
        nodes = list(self.registry.nodes.values())
        if nodes:
            there = ", ".join(f"{node.info.name} ({state_of(node, client)})" for node in nodes[:LISTED_MAX])
            return f"none of the {len(nodes)} known nodes can be used: {there}"
        return (
            "no node found: start `dispycos node` here or on a host with the same secret, "
            "or name one that mDNS does not reach: Client(nodes=['host'])"
        )

    def refuse_hopeless(self, client: Client) -> None:
        """All servers of all nodes failed to start: what waits would wait for ever."""
        if client.state not in WORKING or self.registry.servers or not self.registry.waiting():
            return
        failed = [site for site in self.registry.sites() if site.is_hopeless]
        if not failed or any(_may_serve(node, client) for node in self.registry.nodes.values()):
            return
        whys = "; ".join(site.failure for site in failed[:NAMED_MAX])
        text = f"no server of any node can be started: {whys}\n{REMEDY}"
        self.dispatch.end_waiting(OutcomeKind.REFUSED, text)

    # --- for close()

    def on_close_waits(self, epoch: int, now: float) -> None:
        client = self.registry.clients[epoch]
        if client.state is ClientState.FINISHING:
            self._tell_of_tasks(client)
        elif client.state is ClientState.CLOSING:
            silent = ", ".join(site.node.title for site in self.registry.sites() if site.node.away)
            if silent:
                self._tell(client, f"close() waits some seconds for {silent}: no link", "warning")

    def _tell_of_tasks(self, client: Client) -> None:
        """Of tasks that run it is no warning: to wait for them is what close() is for."""
        tasks = self.dispatch.work(client.await_io)
        silent: dict[Node, list[Task]] = {}
        for task in tasks:
            site = task.site or task.bound
            if site is not None and not site.node.confirmed:
                silent.setdefault(site.node, []).append(task)
        where = "".join(
            f", {len(there)} of them on {node.title}, which is silent" for node, there in silent.items()
        )
        names = listing(task.submit.function for task in tasks)
        text = f"close() waits for {names}{where}; close(terminate=True) would end the wait"
        hindered = silent or not self.dispatch.has_usable_server()
        if tasks:
            self._tell(client, text, "warning" if hindered else "info")

    # --- for a silent node

    def tell_of_zombie(self, site: Site, silence: float) -> None:
        there = self.tasks_of(site)
        text = f"{site.node.title} has been silent for {silence:g} s and gets no new tasks until it is back"
        if there:
            names = listing(task.submit.function for task in there)
            text += (
                f"; {names} go on then, unless it has ended them for want of its scheduler. terminate() ends the wait for "
                "one, close(terminate=True) for all, and Client(abandon_zombie_nodes=True) gives such nodes up"
            )
        self._tell(site.client, text, "warning")

    def tasks_of(self, site: Site) -> list[Task]:
        """Those that are there, or may run nowhere else."""
        return [task for task in self.registry.tasks.values() if site in (task.site, task.bound)]

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
