"""A monitor for commands that look at tasks: it lives as long as the command does, in the command's own loop."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from msgspec import structs

from dispycos.actors.web.reading import RINGS, Reader
from dispycos.actors.web.tables import Tables
from dispycos.actors.web.watching import Monitor
from dispycos.config import Failure, ViewSettings
from dispycos.protocol.addresses import SCHEDULER, Address
from dispycos.protocol.messages import NodeReport, SchedulerReport

from .lookout import Lookout, looking

POLL_S = 1.0
LEASED = (
    "open",
    "opening",
    "closing",
    "suspended",
)  # of several words for a node these are its present scheduler's

log = logging.getLogger("dispycos")


class Viewing:
    """What a command sees by."""

    def __init__(self, lookout: Lookout, title: str) -> None:
        tables = Tables(secrets.token_hex(4), RINGS)
        self.lookout = lookout
        self.reader = Reader(tables, "scheduler", title, 0, time.time())
        self.reader.scheduler = None  # there may be several: their reports are heard as one
        self.tables = tables
        self._hear(self.reader)
        self.monitor = Monitor(lookout.runtime, self.reader, POLL_S, before_tick=self._hear)

    def _hear(self, reader: Reader) -> None:
        report = merge(self.lookout.schedulers.values(), self.lookout.nodes)
        reader.hear(Address(self.lookout.runtime.epoch, SCHEDULER), report, time.time())

    async def look(self, names: frozenset[str]) -> None:
        """Once at these tables, until each client has answered or had its time; who does not is named."""
        loop = asyncio.get_running_loop()
        until = loop.time() + self.lookout.timeout
        with self.monitor.reading(names):
            await self.monitor.ticked()
            while self.unheard() and loop.time() < until:
                await self.monitor.ticked()
        for name in self.unheard():
            log.error("client %s does not answer: what it has is not shown", name)

    def unheard(self) -> list[str]:
        """Clients that have not answered."""
        clients = self.reader.clients.values()
        return [f"{one.name} on {one.host}" for one in clients if one.sight is None and one.state != "ended"]

    def task_named(self, wanted: str) -> str:
        """Its id. Of one client the number alone is enough."""
        clients = [client for client in self.reader.clients.values() if client.state != "ended"]
        if wanted.isascii() and wanted.isdecimal() and len(clients) == 1:
            return clients[0].task_id(int(wanted[:19]))
        return wanted

    async def watch(self) -> None:
        """Goes on asking who is there."""
        while True:
            await asyncio.sleep(POLL_S)
            try:
                await self.lookout.look_again()
            except Failure as failure:  # a name that is not resolved any more: what is linked is watched on
                log.debug("%s", failure)


@asynccontextmanager
async def viewing(settings: ViewSettings, name: str, *, stays: bool = False) -> AsyncIterator[Viewing]:
    """The cluster as it is; with `stays` also what comes later. Raises NothingFound or Refused."""
    async with looking(settings, name, stays=stays, visits_nodes=False) as lookout:
        view = Viewing(lookout, name)
        watching = asyncio.ensure_future(view.watch()) if stays else None
        try:
            yield view
        finally:
            if watching is not None:
                watching.cancel()
            await view.monitor.close()


def merge(reports: Iterable[SchedulerReport], own: dict[int, NodeReport]) -> SchedulerReport:
    """All schedulers, and the nodes that have none, as if one had told of them."""
    nodes: dict[int, tuple[str, str, int, str]] = {
        epoch: (report.node.name, report.node.addr, report.node.port, _state_of(report))
        for epoch, report in own.items()
    }
    clients = {}
    for report in reports:
        clients.update({client.epoch: client for client in report.clients})
        for node, epoch in zip(report.nodes, report.epochs, strict=False):
            if epoch not in nodes or node[3] in LEASED or nodes[epoch][3] not in LEASED:
                nodes[epoch] = node
    told = SchedulerReport("", "", 0, False, list(clients.values()), list(nodes.values()))
    return structs.replace(told, epochs=list(nodes))


def _state_of(report: NodeReport) -> str:
    return f"used by {report.client}" if report.client else "free"
