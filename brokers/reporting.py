"""Says what there is to those who look; how many tasks, the client that has the cluster is asked, and not waited for long."""

from __future__ import annotations

from typing import Final

from msgspec import structs

from dispycos.protocol import messages
from dispycos.protocol.addresses import Address
from dispycos.protocol.envelope import Envelope
from dispycos.protocol.messages import ClientReport, Counts, SchedulerReport

from .outbox import Outbox
from .registry import Client, Registry
from .waiting import state_of

ANSWER_S: Final = 0.3  # for a client to count its tasks


class Reporting:
    """The answers to Inventory."""

    def __init__(self, registry: Registry, out: Outbox, about: SchedulerReport) -> None:
        self.registry = registry
        self.out = out
        self._about = about  # this scheduler, without clients and nodes
        self._askers: dict[Address, int] = {}  # with the correlation of what they asked last

    def on_inventory(self, envelope: Envelope, now: float) -> None:
        client, is_asked = self.registry.active, bool(self._askers)
        self._askers[envelope.sender] = envelope.correlation
        if client is None or client.away or client.lost:
            self._answer(None)
        elif not is_asked:
            self.registry.alarms.set(self._overdue, self, now + ANSWER_S)
            self.out.tell(client, messages.Inventory())

    def on_counts(self, envelope: Envelope, now: float) -> None:
        client = self.registry.active
        if client is not None and envelope.sender == client.address:
            self._answer(envelope.message)

    def _overdue(self, about: object, now: float) -> None:
        self._answer(None)

    def _answer(self, counts: Counts | None) -> None:
        self.registry.alarms.forget(self)
        registry = self.registry
        clients = [self._report(client, counts) for client in registry.clients.values()]
        nodes = [
            (node.info.name, node.info.addr, node.info.port, state_of(node, registry))
            for node in registry.nodes.values()
        ]
        epochs = [node.epoch for node in registry.nodes.values()]
        report = structs.replace(self._about, clients=clients, nodes=nodes, epochs=epochs)
        for asker, correlation in self._askers.items():
            self.out.send(asker, report, correlation)
        self._askers.clear()

    def _report(self, client: Client, counts: Counts | None) -> ClientReport:
        info, epoch = client.wants.client, client.address.epoch
        if client is not self.registry.active:
            return ClientReport(info.name, info.host, info.pid, "queued", 0, 0, 0, epoch)
        if counts is None:
            return ClientReport(info.name, info.host, info.pid, "running", None, None, None, epoch)
        return ClientReport(
            info.name, info.host, info.pid, "running", counts.waiting, counts.running, counts.ended, epoch
        )
