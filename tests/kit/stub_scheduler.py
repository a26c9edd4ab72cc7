"""A scheduler with a node and its server, on sockets of their own, that do what a test says: for a real client."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from dispycos.actors.client.client import Client
from dispycos.actors.client.code import ClientPayloads
from dispycos.actors.shipping.pickling import dumps
from dispycos.actors.tasks.ends import Raised
from dispycos.actors.tasks.results import pack_outcome
from dispycos.protocol import messages
from dispycos.protocol.addresses import CLIENT, NODE, SCHEDULER, SERVER, Address, Location
from dispycos.protocol.envelope import Envelope
from dispycos.protocol.messages import Lease, NodeInfo, Spot
from dispycos.protocol.status import OutcomeKind, Status
from dispycos.runtime import Runtime
from dispycos.session.router import Event
from dispycos.transport.secret import Secret
from dispycos.transport.security import Keys


class StubServer:
    """A node and a server in one, linked to the stub's scheduler: each lease has one of its own."""

    def __init__(self, stub: StubScheduler, keys: Keys) -> None:
        self.stub = stub
        self.runtime = Runtime("node", "stub", keys)
        self.runtime.attach_inbox(NODE, self.receive)
        self.runtime.attach_inbox(SERVER, self.receive)
        epoch = self.runtime.epoch
        self.spot = Spot("127.0.0.1", 9707, epoch, "stub/server-1")
        self.node = NodeInfo("stub", "127.0.0.1", 9706, 1, "Linux", (3, 11), epoch)

    def receive(self, envelope: Envelope, now: float) -> None:
        if isinstance(envelope.message, messages.Run):
            self.stub.tasks.append(envelope)
        elif isinstance(envelope.message, messages.Recall):
            self.send(messages.Returned([]))  # all have begun
        self.stub.note(envelope)

    def send(self, word: messages.Message, payload: Any = None, actor: int = SERVER) -> None:
        client = Address(self.stub.client, CLIENT)
        self.runtime.send(Envelope(client, self.runtime.address(actor), word, 0, payload))


class StubScheduler:
    """Grants the cluster at once, with a server or none, takes tasks, and ends them when the test says so."""

    def __init__(self, runtime: Runtime, keys: Keys, *, has_server: bool = True) -> None:
        self.runtime = runtime
        self.machine = self
        self.address = runtime.attach(SCHEDULER, self)
        self.has_server = has_server
        self.is_deaf = False
        self.got: list[Envelope] = []  # by the scheduler
        self.heard: list[Envelope] = []  # by node and server
        self.tasks: list[Envelope] = []
        self.client = 0
        self.servers: list[StubServer] = []  # the last one is the one that does what tests say
        self._keys = keys
        self._granting: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        self._endpoint = runtime.listen("tcp://127.0.0.1:*")
        self.location = Location("127.0.0.1", int(self._endpoint.rpartition(":")[2]))

    # --- Machine and Role ---

    def receive(self, envelope: Envelope, now: float) -> None:
        self.got.append(envelope)
        self.runtime.loop.call_soon_threadsafe(self._changed.set)
        word = envelope.message
        if self.is_deaf:
            return
        if isinstance(word, messages.Enlist):
            self.client = envelope.sender.epoch
            self._granting = self.runtime.loop.create_task(self._grant())
        elif isinstance(word, messages.Release):
            if self._granting is not None:
                self._granting.cancel()
            self.send(messages.Released(""))

    async def _grant(self) -> None:
        self.send(messages.Granted(Lease(1, self.client, "stub", self.runtime.epoch), "stub"))
        if self.has_server:
            await self.add_server()
        self.send(messages.Settled(1, 1))

    async def add_server(self) -> None:
        server = StubServer(self, self._keys)
        self.servers.append(server)
        await server.runtime.dial([self._endpoint], uplink=True).ready
        spot, node = server.spot, server.node
        self.send(messages.NodeNews(Status.NodeInitialized, node))
        self.send(messages.ServerNews(Status.ServerInitialized, spot, node.epoch))

    def note(self, envelope: Envelope) -> None:
        self.heard.append(envelope)
        self.runtime.loop.call_soon_threadsafe(self._changed.set)

    def wake(self, now: float) -> None:
        """No deadline."""

    def deadline(self) -> float | None:
        return None

    def drain(self) -> list[object]:
        return []

    def on_event(self, event: Event, now: float) -> None:
        """Links come and go."""

    def carry_out(self, effect: object, now: float) -> None:
        raise TypeError(f"no such effect: {effect!r}")

    async def close(self) -> None:
        for server in self.servers:
            await server.runtime.close()
        await self.runtime.close()

    # --- what tests say ---

    @property
    def server(self) -> StubServer:
        return self.servers[-1]

    def send(self, word: messages.Message, payload: Any = None) -> None:
        """As the scheduler."""
        self.runtime.send(Envelope(Address(self.client, CLIENT), self.address, word, 0, payload))

    def begin(self, task: Envelope, actor: int = 99) -> None:
        self.server.send(messages.Started(task.message.task, actor, self.server.spot))

    def end(
        self, task: Envelope, value: Any, kind: OutcomeKind = OutcomeKind.RETURNED, **fields: Any
    ) -> None:
        payload = dumps(value, "the value") if kind == OutcomeKind.RETURNED else None
        self.server.send(messages.Outcome(task.message.task, kind, **fields), payload)

    def fail(self, task: Envelope, error: Exception) -> None:
        kind, payload = pack_outcome(ClientPayloads(), Raised(error), task.message.function, False)
        self.server.send(messages.Outcome(task.message.task, kind, started=True), payload)

    def lose_server(self, text: str) -> None:
        """As the node: nobody knows what had begun."""
        self.server.send(messages.ServerLost(self.server.spot.epoch, text), actor=NODE)

    @staticmethod
    def arguments(task: Envelope) -> Any:
        return ClientPayloads().loads(task.payload)[1]

    async def until(self, condition: Callable[[], object]) -> None:
        """Looked at after each message."""
        while not condition():
            self._changed.clear()
            await self._changed.wait()


def secret_in(folder: Path) -> Path:
    file = folder / "secret"
    if not file.exists():
        file.write_text("5a" * 32)
        file.chmod(0o600)
    return file


Scene = Callable[[Client, StubScheduler], Awaitable[None]]


def play(scene: Scene, folder: Path, **options: Any) -> None:
    """Runs the scene on a loop of its own; whatever that complains about fails the test."""

    async def main() -> None:
        complaints: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, complaint: complaints.append(complaint))
        await play_here(scene, folder, **options)
        await asyncio.sleep(0)
        assert complaints == []

    asyncio.run(main())


async def play_here(scene: Scene, folder: Path, *, has_server: bool = True, **options: Any) -> None:
    """Runs the scene with a client, made with these options, that has the stub's cluster."""
    secret_file = secret_in(folder)
    keys = Keys.from_secret(Secret.load_or_make(secret_file))
    stub = StubScheduler(Runtime("scheduler", "stub", keys), keys, has_server=has_server)
    client = Client(secret_file=secret_file, **options)
    try:
        async with asyncio.timeout(20):
            await client.schedule(stub.location)
            await scene(client, stub)
    finally:
        await client.close(terminate=True, timeout=0.5)
        await stub.close()
