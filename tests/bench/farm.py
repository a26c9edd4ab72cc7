"""Very many nodes in one process, each with a runtime and sockets of its own, whose servers end each task at once.

A node says what a real one says, in the same order, and starts no process. Its one server is a runtime beside it, which dials
the client's socket as servers do that are on the client's host. With `relayed` node and server are one runtime that the client
has no link to, as behind a firewall: all tasks pass the scheduler.
"""

from __future__ import annotations

import asyncio
import random
import resource
import sys
from collections.abc import Callable
from functools import partial
from itertools import cycle

import zmq

from dispycos.actors.shipping.pickling import dumps
from dispycos.actors.tasks.page import PageWriter, make_page
from dispycos.protocol import messages, watching
from dispycos.protocol.addresses import NODE, SCHEDULER, SERVER, Address
from dispycos.protocol.envelope import Envelope, Payload
from dispycos.protocol.messages import Availability, Lease, NodeInfo, ServerReport, ServerUse, Spot
from dispycos.protocol.status import OutcomeKind
from dispycos.runtime import Runtime
from dispycos.transport.discovery import Registry, endpoints_of
from dispycos.transport.folders import find_folders
from dispycos.transport.secret import Secret
from dispycos.transport.security import Keys

GIB = 1 << 30
MACHINE = watching.Machine(1.0, 64 * GIB, 1000 * GIB, 8 * GIB)
NOTHING = dumps(None, "the value")
DIALS = 50  # at once


class FakeNode:
    """A node of one server, as its scheduler and client know it."""

    def __init__(
        self, number: int, keys: Keys, context: zmq.Context[zmq.Socket[bytes]], relayed: bool
    ) -> None:
        self._relayed = relayed
        name, addr = f"farm-{number:04}", f"10.0.{number // 250}.{number % 250 + 1}"
        self.runtime = runtime = Runtime("node", name, keys)
        runtime.mailbox.context = context  # one for all: each has threads of its own
        self._server = server = runtime if relayed else Runtime("server", f"{name}/server-1", keys)
        server.mailbox.context = context
        self.spot = Spot(addr, 51349, server.epoch, f"{name}/server-1")
        self.info = NodeInfo(
            name, addr, 51348, 1, "Linux", sys.version_info[:2], runtime.epoch, _left(), host=name
        )
        self.lease: Lease | None = None
        self.pulse_interval = 10.0
        self._client: messages.ClientInfo | None = None
        self._use = ServerUse()
        self._actors = 0
        runtime.attach_inbox(NODE, self._on_word)
        server.attach_inbox(SERVER, self._on_word)
        self._handlers: dict[type, Callable[[Envelope], None]] = {
            messages.Run: self._on_run,
            messages.Open: self._on_open,
            messages.Close: self._on_close,
            messages.Recall: self._on_recall,
            watching.Look: self._on_look,
        }

    async def join(self, endpoints: list[str]) -> None:
        epoch = await self.runtime.dial(endpoints, uplink=True).ready
        self._say(Address(epoch, SCHEDULER), messages.Register(self.info))

    def pulse(self) -> None:
        self.info = self.info._replace(available=_left())
        if self.lease is not None and self.info.available is not None:
            word = messages.Pulse(self.runtime.epoch, self.info.available, hears_client=True)
            self._say(Address(self.lease.scheduler_epoch, SCHEDULER), word)

    def _say(
        self, to: Address, word: messages.Message, payload: Payload = None, correlation: int = 0
    ) -> None:
        self.runtime.send(Envelope(to, self.runtime.address(NODE), word, correlation, payload))

    def _say_as_server(self, to: Address, word: messages.Message, payload: Payload = None) -> None:
        self._server.send(Envelope(to, self._server.address(SERVER), word, 0, payload))

    def _on_word(self, envelope: Envelope, now: float) -> None:
        handler = self._handlers.get(type(envelope.message))
        if handler is not None:  # others ask for what a farm has not
            handler(envelope)

    def _on_open(self, envelope: Envelope) -> None:
        word: messages.Open = envelope.message
        self.lease, self._client, self.pulse_interval = word.lease, word.client, word.pulse_interval
        self.runtime.router.prefer(word.lease.scheduler_epoch)
        self.runtime.keep(word.lease.client)
        if not self._relayed:
            self._server.defer(partial(self._dial, f"ipc://{word.client.ipc}", word.lease.client))
        self._say(envelope.sender, messages.Opened(word.lease, 1, word.pulse_interval))
        self._say(envelope.sender, messages.ServerUp(word.lease, self.spot, 4242))

    def _dial(self, endpoint: str, client: int) -> None:
        self._server.dial([endpoint], uplink=True, keep=False, wanted=client)

    def _on_close(self, envelope: Envelope) -> None:
        self.lease = self._client = None
        self._say(envelope.sender, messages.Closed(envelope.message.lease))

    def _on_run(self, envelope: Envelope) -> None:
        run: messages.Run = envelope.message
        self._actors += 1
        actor = 16 + self._actors
        self._use = self._use._replace(ended=self._use.ended + 1, cpu_s=self._use.cpu_s + 1e-5)
        if not run.short:
            self._say_as_server(envelope.sender, messages.Started(run.task, actor, self.spot))
        word = messages.Outcome(run.task, OutcomeKind.RETURNED, actor, seconds=1e-5, cpu_s=1e-5)
        self._say_as_server(envelope.sender, word, NOTHING)

    def _on_recall(self, envelope: Envelope) -> None:
        self._say_as_server(envelope.sender, messages.Returned([]))

    def _on_look(self, envelope: Envelope) -> None:
        servers = []
        if envelope.message.parts & watching.SERVERS and self.lease is not None:
            servers = [ServerReport(self.spot, 4242, [], self._use)]
        sight = watching.NodeSight(self.info, self._client, 1.0, MACHINE, servers, [], [])
        self._say(envelope.sender, sight, correlation=envelope.correlation)


def _left() -> Availability:
    part = random.random()
    return Availability(100 * part, int(64 * GIB * part), 500 * GIB, 8 * GIB)


def find_scheduler() -> list[str]:
    """Where the scheduler of this home listens."""
    found = Registry(find_folders().registry).read()
    return endpoints_of(next(entry for entry in found if entry.role == "scheduler"))


async def main(count: int, relayed: bool) -> None:
    # The client looks for one in each server: that of the first descriptors is found soon.
    PageWriter(make_page())
    keys, context = Keys.from_secret(Secret.load_or_make()), zmq.Context(io_threads=1)
    context.set(zmq.MAX_SOCKETS, 65536)
    nodes = [FakeNode(number, keys, context, relayed) for number in range(count)]
    endpoints = find_scheduler()
    for first in range(0, count, DIALS):
        await asyncio.gather(*(node.join(endpoints) for node in nodes[first : first + DIALS]))
    print(f"{count} nodes are there", flush=True)
    for node in cycle(nodes):
        node.pulse()
        await asyncio.sleep(node.pulse_interval / count)


if __name__ == "__main__":
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    asyncio.run(main(int(sys.argv[1]), "relayed" in sys.argv[2:]))
