"""The nodes of a cluster: which it takes, how each is set up, how much of it is used, and what is known of it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from typing import Any

from dispycos.config import HostPort
from dispycos.errors import DispycosError
from dispycos.protocol.addresses import Location
from dispycos.protocol.messages import NodeInfo
from dispycos.protocol.status import Status

from ...client.client import Client
from . import remote
from .callbacks import Told
from .given import Entry, Taken, parted
from .jobs import DispyNode, DispyNodeAvailInfo

log = logging.getLogger("dispycos")

UNKNOWN = "no node of this name is here"  # as a scheduler says it
CLEANUP_S = 10.0  # a cleanup has so long


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
        self.known: dict[int, DispyNode] = {}  # by their epochs
        self._limits: dict[int, int] = {}  # CPUs that may be used, by the epochs of nodes
        self._added: list[Entry] = []  # to those that the client was made with
        self.is_holding = False  # the client has a lease, or waits for it
        self.are_there = False  # it has the nodes

    def find(self, node: Any) -> DispyNode | None:
        """By its name or address. From any thread."""
        if isinstance(node, DispyNode):
            return node
        return next((one for one in self.all() if node in (one.name, one.ip_addr)), None)

    def all(self) -> list[DispyNode]:
        return list(self.known.values())

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

    def _allocate(self, entries: list[Entry]) -> None:
        for entry in entries:
            self._client.node_allocate(entry)

    def leave_out(self, error: str) -> bool:
        """Of several nodes one whose name nobody knows, as dispy does."""
        for entry in self._entries:
            what = f"nodes: {HostPort(str(entry.node), entry.port)}: {UNKNOWN}"
            if len(self._entries) > 1 and error.startswith(what):
                log.warning("%s; it is left out", error.partition("\n")[0])
                self._entries.remove(entry)
                self._client._wishes.allocations.remove(entry)
                return True
        return False

    def _taken(self, name: str, addr: str) -> Taken | None:
        """None: no entry has named it; all nodes are used."""
        return next((entry.taken[name, addr] for entry in self._entries if (name, addr) in entry.taken), None)

    def _granted(self, name: str, addr: str) -> int:
        taken = self._taken(name, addr)
        return taken.cpus if taken is not None else 0

    def setup_call(self, name: str, addr: str) -> tuple[Any, ...]:
        """Of run_setup() there. Raises OSError: a file that it needs cannot be read."""
        taken = self._taken(name, addr)
        files, _ = parted(taken.depends if taken is not None else ())
        return self._setup, files, taken.setup_args if taken is not None else ()

    def ask_again(self, node: DispyNode) -> None:
        """What its setup is to have from now on. From any thread."""
        for entry in self._entries:
            if (node.name, node.ip_addr) in entry.taken:
                entry.ask_again(node.name, node.ip_addr)

    # --- what is heard of them ---

    def hear(self, status: Status, info: NodeInfo) -> None:
        if status == Status.NodeDiscovered:
            try:
                call = self.setup_call(info.name, info.addr)
            except OSError as error:
                log.warning("node %s is not used: depends: %s", info.name, error)
            else:
                self._client.enable_node(Location(info.addr, info.port), *call)
        elif status == Status.NodeInitialized:
            new = self.see(info)
            new.is_closed = False
            new.cpus = self._granted(info.name, info.addr) or info.cpus
            self._told.of_change(DispyNode.Initialized, new, None)
        elif status in (Status.NodeClosed, Status.NodeDisconnected, Status.NodeAbandoned):
            node = self.known.get(info.epoch)
            if node is not None and not node.is_closed and self.are_there:
                node.is_closed = True
                self._told.of_change(DispyNode.Closed, node, None)

    def see(self, info: NodeInfo) -> DispyNode:
        node = self.known.get(info.epoch)
        if node is None:
            node = self.known[info.epoch] = DispyNode(info.name, info.addr, info.cpus)
        node._location = Location(info.addr, info.port)
        node.update_time = time.time()
        if info.available is not None:
            cpu, memory, disk, swap = info.available
            node.avail_info = DispyNodeAvailInfo(cpu, memory, disk, swap)
        return node

    def is_away(self, node: DispyNode) -> bool:
        """Whether the client has lost this one."""
        return all(self.known.get(epoch) is not node for epoch in self._ledger().nodes)

    # --- how much is used ---

    def set_cpus(self, node: DispyNode, cpus: int) -> int:
        """Less than 0: all but so many. How many these are."""
        epoch = next(epoch for epoch, one in self.known.items() if one is node)
        granted = self._granted(node.name, node.ip_addr) or node.avail_cpus
        node.cpus = self._limits[epoch] = min(granted, max(0, granted + cpus if cpus < 0 else cpus))
        self._limit(epoch)
        return node.cpus

    def server_came(self) -> None:
        for epoch in list(self._limits):
            self._limit(epoch)

    def _limit(self, epoch: int) -> None:
        lease: Any = self._client._lease
        if epoch not in self._limits or lease is None:
            return
        spots = sorted(spot for spot, node in lease.ledger.servers.values() if node == epoch)
        for number, spot in enumerate(spots):
            lease.suspend_server(Location(spot.addr, spot.port), suspended=number >= self._limits[epoch])

    def _ledger(self) -> Any:
        lease: Any = self._client._lease
        return lease.ledger

    # --- the end ---

    async def clean_up(self, cleanup: Callable[..., Any]) -> None:
        tasks = []
        for node in self.all():
            taken = self._taken(node.name, node.ip_addr)
            call = (cleanup, *(taken.setup_args if taken is not None else ()))
            with contextlib.suppress(DispycosError):  # the node has gone
                tasks.append(self._client._submit(remote.run_cleanup, call, {}, where=node._location))
        if tasks:
            done, _ = await asyncio.wait(tasks, timeout=CLEANUP_S)
            for task in done:
                if not task.cancelled() and (error := task.exception()) is not None:
                    log.warning("cleanup failed: %s: %s", type(error).__name__, error)
