"""Finds the schedulers and nodes of a cluster, as one who only looks, and asks them what they have."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

from dispycos.config import NODE_PORT, SCHEDULER_PORT, NothingFound, Refused, ViewSettings
from dispycos.protocol import messages
from dispycos.protocol.addresses import NODE, SCHEDULER, Address
from dispycos.protocol.envelope import Envelope
from dispycos.protocol.messages import NodeReport, SchedulerReport
from dispycos.runtime import Runtime
from dispycos.transport.addresses import find_addresses, resolve, tcp_endpoint
from dispycos.transport.certificates import load_listener
from dispycos.transport.discovery import Multicast, Presence, Registry, endpoints_of
from dispycos.transport.folders import find_folders
from dispycos.transport.secret import Secret
from dispycos.transport.security import Keys
from dispycos.values import HostPort

LOOK_S = 0.4  # mDNS answers within this where there is anybody
BESIDE_S = 0.5  # the node of a private process, if it has one, answers so long after its scheduler
NAMED_S = 5.0  # what was named and does not answer is dialled anew after this
ASKER = 20  # our actor

log = logging.getLogger("dispycos")


@asynccontextmanager
async def looking(
    settings: ViewSettings, name: str, *, stays: bool = False, visits_nodes: bool = True
) -> AsyncIterator[Lookout]:
    """A look around. `stays`: who comes later is found, too. `visits_nodes`: those that only a scheduler knows have to answer
    here as well; they can be reached by that one. Raises NothingFound or Refused if there is nobody.
    """
    secret = Secret.load_or_make(settings.secret_file, settings.secret, group_file=settings.group_secret)
    keys = Keys.from_secret(secret, load_listener(settings.certfile, None))
    lookout = Lookout(Runtime("viewer", name, keys), keys.tag, settings)
    lookout.visits_nodes = visits_nodes
    try:
        await lookout.look(stays=stays)
        lookout.complain()
        yield lookout
    finally:
        await lookout.close()


class Lookout:
    """The answers, and how to get them."""

    def __init__(self, runtime: Runtime, tag: str, settings: ViewSettings) -> None:
        self.runtime = runtime
        self.schedulers: dict[int, SchedulerReport] = {}
        self.nodes: dict[int, NodeReport] = {}
        self.foreign: list[Presence] = []  # of other clusters
        self.refused = ""
        self.silent: list[str] = []  # what was named and did not answer
        self.visits_nodes = True
        self._tag = tag
        self._settings = settings
        self._correlations = count(1)
        self._asked: dict[int, asyncio.Future[None]] = {}
        self._whom: dict[Address, None] = {}  # who has answered
        self._visits: set[asyncio.Task[Any]] = set()
        self._seen: set[int] = set()
        self._endpoints: set[str] = set()  # that were dialled
        self._named: dict[HostPort, list[asyncio.Task[int]]] = {}  # what was named, and who is asked there
        self._named_at = 0.0
        self._multicast: Multicast | None = None
        runtime.attach_inbox(ASKER, self._on_answer)

    async def look(self, *, stays: bool = False) -> None:
        """The registry, what was named, and mDNS; every process found is asked once."""
        self._read_registry()
        await self._visit_all_named()
        own = find_addresses(self._settings.ip_addr)
        self._multicast = Multicast(own.own if own.is_restricted else ())
        await self._multicast.open()
        try:
            await self._multicast.browse(self._found)
            await asyncio.sleep(LOOK_S)
            if self._visits:
                await asyncio.wait(self._visits, timeout=self._settings.timeout)
        finally:
            if not stays:
                await self._leave_multicast()
        self.silent = [
            str(place) for place, asking in self._named.items() if not any(one.done() for one in asking)
        ]

    async def look_again(self) -> None:
        """Those who are there are asked anew; who does not answer is not there any more, until it does."""
        self._read_registry()
        await self._visit_all_named()
        for address in [one for one in self._whom if not self.runtime.is_linked(one.epoch)]:
            del self._whom[address]
            self._forget(address)
        asking = {address: asyncio.ensure_future(self._question(address)) for address in self._whom}
        for address, answered in asking.items():
            if not await answered:
                self._forget(address)

    def _forget(self, address: Address) -> None:
        reports: dict[int, Any] = self.schedulers if address.actor == SCHEDULER else self.nodes
        reports.pop(address.epoch, None)

    async def close(self) -> None:
        await self._leave_multicast()
        await self.runtime.close()

    async def _leave_multicast(self) -> None:
        multicast, self._multicast = self._multicast, None
        if multicast is not None:
            await multicast.close()

    def _read_registry(self) -> None:
        for entry in Registry(find_folders().registry).read():
            self._found(entry)

    async def _visit_all_named(self) -> None:
        """Those of whom none is linked."""
        now = self.runtime.clock()
        if self._named and now < self._named_at + NAMED_S:
            return
        self._named_at = now
        for place in self._settings.peer:
            before = self._named.get(place, ())
            if any(one.done() and self.runtime.is_linked(one.result()) for one in before):
                continue
            for one in before:
                one.cancel()
            self._named[place] = await self._visit_named(place)

    async def _visit_named(self, place: HostPort) -> list[asyncio.Task[int]]:
        """Without a port there may be a scheduler, a node or both: who answers is not kept waiting for the other."""
        addresses = await resolve(place.host)
        ports = [place.port] if place.port else [SCHEDULER_PORT, NODE_PORT]
        asking = [
            asyncio.ensure_future(self._ask([tcp_endpoint(address, port) for address in addresses]))
            for port in ports
        ]
        self._remember(asyncio.ensure_future(_await_first(asking)))
        return asking

    def _remember(self, visit: asyncio.Task[Any]) -> None:
        self._visits.add(visit)
        visit.add_done_callback(self._visits.discard)

    def _found(self, found: Presence) -> None:
        if found.epoch in self._seen:
            return
        self._seen.add(found.epoch)
        if found.tag != self._tag:
            self.foreign.append(found)
        else:
            self._visit(endpoints_of(found))

    def _visit(self, endpoints: list[str]) -> asyncio.Task[int]:
        self._endpoints.update(endpoints)
        visit = asyncio.ensure_future(self._ask(endpoints))
        self._remember(visit)
        return visit

    async def _ask(self, endpoints: list[str]) -> int:
        """The epoch of who answers there; 0 if nobody does."""
        dialler = self.runtime.dial(endpoints, uplink=False, keep=False)
        dialler.on_silence = lambda text: None
        try:
            epoch = await dialler.ready
        except Refused as refusal:
            self.refused = f"{endpoints[0]}: {refusal}"
            return 0
        except asyncio.CancelledError:
            dialler.stop()
            return 0
        if self.runtime.role_of(epoch) == "node":
            await self._question(Address(epoch, NODE))
            return epoch
        node = asyncio.ensure_future(self._question(Address(epoch, NODE)))
        await self._question(Address(epoch, SCHEDULER))
        report = self.schedulers.get(epoch)
        if report is not None and report.private:
            await asyncio.wait([node], timeout=BESIDE_S)
        node.cancel()
        if report is not None and self.visits_nodes:
            await self._visit_nodes_of(report)
        return epoch

    async def _visit_nodes_of(self, report: SchedulerReport) -> None:
        """mDNS ends where the network does; a scheduler has nodes beyond."""
        places = [tcp_endpoint(addr, port) for _, addr, port, _ in self.unheard(report)]
        visits = [self._visit([place]) for place in places if place not in self._endpoints]
        if visits:
            await asyncio.wait(visits, timeout=self._settings.timeout)

    def unheard(self, report: SchedulerReport) -> list[tuple[str, str, int, str]]:
        """The nodes of this scheduler that have not answered here."""
        heard = {(node.node.addr, node.node.port) for node in self.nodes.values()}
        return [node for node in report.nodes if node[1:3] not in heard]

    async def _question(self, whom: Address) -> bool:
        """Whether it answers in time."""
        correlation = next(self._correlations)
        self._asked[correlation] = answer = self.runtime.loop.create_future()
        self.runtime.send(Envelope(whom, self.runtime.address(ASKER), messages.Inventory(), correlation))
        try:
            return bool((await asyncio.wait([answer], timeout=self._settings.timeout))[0])
        finally:
            self._asked.pop(correlation, None)

    def _on_answer(self, envelope: Envelope, now: float) -> None:
        report, sender = envelope.message, envelope.sender
        if isinstance(report, SchedulerReport):
            self.schedulers[sender.epoch] = report
            for epoch in (*(client.epoch for client in report.clients), *report.epochs):
                self.runtime.learn_way(epoch, sender.epoch)
        elif isinstance(report, NodeReport):
            self.nodes[sender.epoch] = report
        self._whom[sender] = None
        future = self._asked.get(envelope.correlation)
        if future is not None and not future.done():
            future.set_result(None)

    @property
    def timeout(self) -> float:
        """Seconds that anybody has to answer."""
        return self._settings.timeout

    # --- what is said of it ---

    def complain(self) -> None:
        """Of what was named, and does not answer. Raises NothingFound or Refused if nobody does."""
        silent = ", ".join(self.silent)
        if not self.schedulers and not self.nodes:
            raise self._nobody(silent)
        if silent:
            log.error("--peer %s: no scheduler or node answers there", silent)
        if self.refused:
            log.error("%s", self.refused)

    def _nobody(self, silent: str) -> NothingFound | Refused:
        foreign = (
            f"; {len(self.foreign)} process{'es' * (len(self.foreign) > 1)} of another cluster (another secret)"
            if self.foreign
            else ""
        )
        if self.refused:
            return Refused(f"{self.refused}{foreign}", "copy the secret file from one host to the other")
        if silent:
            return NothingFound(
                f"--peer {silent}: no scheduler or node answers there, and no other was found{foreign}",
                "start one there: dispycos node; or give its port: --peer HOST:PORT",
            )
        return NothingFound(
            f"no scheduler, node or client was found{foreign}",
            "start one: dispycos node; or name one: --peer HOST",
        )


async def _await_first(asking: list[asyncio.Task[int]]) -> None:
    await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
    await asyncio.wait(asking, timeout=LOOK_S)
