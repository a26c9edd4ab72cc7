"""The nodes of a cluster: which it takes, how each is set up, how much of it is used, and what is known of it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from typing import Any

from dispycos.errors import DispycosError
from dispycos.protocol.addresses import Location
from dispycos.protocol.messages import NodeInfo
from dispycos.protocol.status import Status
from dispycos.values import HostPort

from ...client.client import Client
from ...tasks.record import Record
from . import remote
from .callbacks import Told
from .given import Entry, Taken, parted
from .jobs import DispyNode, DispyNodeAvailInfo, NodeState

log = logging.getLogger("dispycos")

UNKNOWN, REFUSED = "no node of this name is here", "refused: "  # as a scheduler says it
CLEANUP_S = 10.0  # a cleanup has so long
AFTER_LEASE = {NodeState.UP: NodeState.LENT, NodeState.CLOSING: NodeState.CLOSED}
AFTER_END = {NodeState.UP: NodeState.GONE, NodeState.CLOSING: NodeState.CLOSED}  # of the node


class Nodes:
    """Those of one cluster. Used on the loop, where nothing else is said.

    Parameters
    ----------
    client: has the nodes. entries: which ones; empty: all. setup: called on each before its first job. told: hears of them.
    """

    def __init__(
        self, client: Client, entries: list[Entry], setup: Callable[..., Any] | None, told: Told
    ) -> None:
        self._client, self._entries, self._setup, self._told = client, entries, setup, told
        self._known: dict[int, DispyNode] = {}  # by their epochs
        self._unused: dict[DispyNode, NodeInfo] = {}  # of this lease; closed in one before
        self._added: list[Entry] = []  # to those that the client was made with
        self.is_holding = False  # the client has a lease, or waits for it
        self.are_there = False  # it has the nodes
        self.on_up: Callable[[], None] = lambda: None
        self.on_gone: Callable[[DispyNode], None] = lambda _: None

    def find(self, node: Any) -> DispyNode | None:
        """By its name or address; not one that is gone. From any thread."""
        return next((one for one in self.listed() if node in (one, one.name, one.ip_addr)), None)

    def of(self, record: Record) -> DispyNode | None:
        """Where this task runs; None: its server is not known any more, or it was so short that it got no address."""
        at = self._ledger().servers.get(record.address.epoch) if record.address is not None else None
        return self._known.get(at[1]) if at is not None else None

    def listed(self) -> list[DispyNode]:
        """Not those that are gone. From any thread."""
        return [node for node in self.all() if node._state is not NodeState.GONE]

    def all(self) -> list[DispyNode]:
        return list(self._known.values())

    # --- which, and how each is set up ---

    def add(self, entries: list[Entry]) -> None:
        self._entries += entries
        self._added += entries
        if self.is_holding:
            self._allocate(entries)

    def begin(self) -> None:
        """The client has a lease, and nothing has been said to it."""
        self.is_holding = True
        self._allocate(self._added)

    def end(self) -> None:
        self.is_holding = self.are_there = False
        self._unused.clear()
        for node in self._known.values():
            node._state = AFTER_LEASE.get(node._state, node._state)

    def _allocate(self, entries: list[Entry]) -> None:
        for entry in entries:
            self._client.node_allocate(entry)

    def leave_out(self, error: str) -> bool:
        """Of several nodes one whose name nobody knows, or that refuses us, as dispy does."""
        for entry in self._entries:
            what = f"nodes: {HostPort(str(entry.node), entry.port)}: "
            if len(self._entries) > 1 and error.startswith((what + UNKNOWN, what + REFUSED)):
                log.warning("%s; it is left out", error.partition("\n")[0])
                self._entries.remove(entry)
                self._client._wishes.allocations.remove(entry)
                return True
        return False

    def _taken(self, name: str, addr: str) -> Taken | None:
        """None: no entry has named it; all nodes are used."""
        return next((entry.taken[name, addr] for entry in self._entries if (name, addr) in entry.taken), None)

    def _granted(self, node: DispyNode) -> int:
        taken = self._taken(node.name, node.ip_addr)
        return taken.cpus if taken is not None else node.avail_cpus

    def setup_call(self, name: str, addr: str) -> tuple[Any, ...]:
        """Of run_setup() there. Raises OSError: a file that it needs cannot be read."""
        taken = self._taken(name, addr)
        files, _ = parted(taken.depends if taken is not None else ())
        node = self._at(name, addr)
        for there, path in node._sent.items() if node is not None else ():
            files[there] = path.read_bytes()
        return self._setup, files, taken.setup_args if taken is not None else ()

    # --- what is heard of them ---

    def hear(self, status: Status, info: NodeInfo) -> None:
        if status == Status.NodeDiscovered:
            self._discovered(info)
        elif status == Status.NodeInitialized:
            self._initialized(self._see(info))
        elif status in (Status.NodeClosed, Status.NodeDisconnected, Status.NodeAbandoned):
            node = self._known.get(info.epoch)
            if node is not None and self.are_there and node._state in AFTER_END:
                node._state = AFTER_END[node._state]
                self.on_gone(node)
                self._told.of_change(DispyNode.Closed, node, None)

    def _discovered(self, info: NodeInfo) -> None:
        place, node = Location(info.addr, info.port), self._at(info.name, info.addr)
        if node is not None and node._state is NodeState.CLOSED:
            self._unused[node] = info
            return
        try:
            call = self.setup_call(info.name, info.addr)
        except OSError as error:
            log.warning("node %s is not used: depends: %s", info.name, error)
        else:
            self._client.enable_node(place, *call)

    def _initialized(self, node: DispyNode) -> None:
        is_told_of, node._state = node._state is NodeState.LENT and node.cpus > 0, NodeState.UP
        granted = self._granted(node)
        node.cpus = granted if node._limit is None else min(granted, node._limit)
        if node._is_suspended:
            self._client.suspend_node(node._location)
        self._limit_all()
        if not is_told_of:
            self._told.of_change(DispyNode.Initialized, node, None)
        self.on_up()

    def pulsed(self, info: NodeInfo) -> None:
        node = self._known.get(info.epoch)
        if node is not None and node._state is NodeState.UP:
            self._told.of_change(DispyNode.AvailInfo, self._see(info), None)

    def _see(self, info: NodeInfo) -> DispyNode:
        node = self._known.get(info.epoch) or self._come_back(info)
        if node is None:
            node = self._known[info.epoch] = DispyNode(info.name, info.addr, info.cpus)
        node._location = Location(info.addr, info.port)
        node.update_time = time.time()
        if info.available is not None:
            cpu, memory, disk, swap = info.available
            node.avail_info = DispyNodeAvailInfo(cpu, memory, disk, swap)
        return node

    def _come_back(self, info: NodeInfo) -> DispyNode | None:
        """As another process: those of this program's own are so in each lease."""
        here = self._ledger().nodes
        for epoch, node in self._known.items():
            if epoch not in here and (node.name, node.ip_addr) == (info.name, info.addr):
                self._known[info.epoch] = self._known.pop(epoch)
                return node
        return None

    def _at(self, name: str, addr: str) -> DispyNode | None:
        return next((node for node in self.all() if (node.name, node.ip_addr) == (name, addr)), None)

    def is_away(self, node: DispyNode) -> bool:
        """Whether the client has lost this one."""
        return all(self._known.get(epoch) is not node for epoch in self._ledger().nodes)

    def _ledger(self) -> Any:
        lease: Any = self._client._lease
        return lease.ledger

    # --- what a script wants of one: it holds for the next lease, too ---

    def suspend(self, node: DispyNode, flag: bool) -> None:
        node._is_suspended = flag
        if node._state is NodeState.UP:
            (self._client.suspend_node if flag else self._client.resume_node)(node._location)

    def close(self, node: DispyNode, *, terminate: bool) -> None:
        if node._state is NodeState.UP:
            self._client.close_node(node._location, terminate=terminate)
            node._state = NodeState.CLOSING
        elif node._state is NodeState.LENT:
            node._state = NodeState.CLOSED

    def open(self, node: DispyNode) -> None:
        """If it was closed, or has gone: it is new, should it come back."""
        node._state = NodeState.GONE
        if node in self._unused:
            self._discovered(self._unused.pop(node))

    def restart(self, node: DispyNode, *, terminate: bool) -> None:
        """With a new setup, for which its NodeAllocate is asked anew. Raises OSError."""
        for entry in self._entries:
            if (node.name, node.ip_addr) in entry.taken:
                entry.ask_again(node.name, node.ip_addr)
        call = self.setup_call(node.name, node.ip_addr)
        if node._state is NodeState.UP:
            self._client.restart_node(node._location, terminate, *call)
            node._is_restarted = True

    def set_cpus(self, node: DispyNode, cpus: int) -> int:
        """Less than 0: all but so many. How many these are."""
        granted = self._granted(node)
        node.cpus = node._limit = min(granted, max(0, granted + cpus if cpus < 0 else cpus))
        self._limit_all()
        return node.cpus

    def server_came(self, place: Location) -> None:
        self._limit_all()
        homes = (
            home for spot, home in self._ledger().servers.values() if Location(spot.addr, spot.port) == place
        )
        node = self._known.get(next(homes, 0))
        if node is not None and node._is_restarted:
            node._is_restarted = False
            self._told.of_change(DispyNode.Initialized, node, None)

    def _limit_all(self) -> None:
        for epoch, node in self._known.items():
            if node._limit is not None and node._state is NodeState.UP:
                lease: Any = self._client._lease
                with lease.changing() as ledger:
                    spots = sorted(spot for spot, home in ledger.servers.values() if home == epoch)
                    for number, spot in enumerate(spots):
                        ledger.members.control.suspend_server(spot, epoch, suspended=number >= node._limit)

    # --- the end ---

    async def clean_up(self, cleanup: Callable[..., Any]) -> None:
        tasks = []
        for node in self.all():
            if node._state is not NodeState.UP:
                continue
            taken = self._taken(node.name, node.ip_addr)
            call = (cleanup, *(taken.setup_args if taken is not None else ()))
            with contextlib.suppress(DispycosError):  # the node has gone
                tasks.append(self._client._submit(remote.run_cleanup, call, {}, where=node._location))
        if tasks:
            done, _ = await asyncio.wait(tasks, timeout=CLEANUP_S)
            for task in done:
                if not task.cancelled() and (error := task.exception()) is not None:
                    log.warning("cleanup failed: %s: %s", type(error).__name__, error)
