"""A scheduler and a server in one, on a socket of its own, that does what a test says: for a real client at its other end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from dispycos.actors.client import Client
from dispycos.actors.host.ends import Raised
from dispycos.actors.host.results import pack_outcome
from dispycos.actors.parcels import ClientParcels, dumps_value
from dispycos.actors.task import Location
from dispycos.protocol import messages
from dispycos.protocol.addresses import CLIENT, SCHEDULER, Address
from dispycos.protocol.envelope import Envelope
from dispycos.protocol.messages import Lease, Spot
from dispycos.protocol.status import OutcomeKind
from dispycos.router import Event
from dispycos.runtime import Runtime
from dispycos.transport.security import Keys, Secret


class StubScheduler:
    """Grants the cluster at once, takes so many tasks, and ends them when the test says so."""

    def __init__(self, runtime: Runtime, *, admits: int = 100_000) -> None:
        self.runtime = runtime
        self.machine = self
        self.address = runtime.attach(SCHEDULER, self)
        self.admits = admits
        self.is_deaf = False
        self.got: list[Envelope] = []
        self.tasks: list[Envelope] = []
        self.client = 0
        self._changed = asyncio.Event()
        endpoint = runtime.listen("tcp://127.0.0.1:*")
        self.location = Location("127.0.0.1", int(endpoint.rpartition(":")[2]))

    # --- Machine and Role ---

    def receive(self, envelope: Envelope, now: float) -> None:
        self.got.append(envelope)
        self.runtime.loop.call_soon_threadsafe(self._changed.set)
        word = envelope.message
        if isinstance(word, messages.Submit):
            self.tasks.append(envelope)
        if self.is_deaf:
            return
        if isinstance(word, messages.Enlist):
            self.client = envelope.sender.epoch
            self.send(messages.Granted(Lease(1, self.client, "stub", self.runtime.epoch), "stub"))
            self.send(messages.Admit(self.admits))
            self.send(messages.Settled(1, 1))
        elif isinstance(word, messages.Release):
            self.send(messages.Released(""))

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

    # --- what tests say ---

    def send(self, word: messages.Message, payload: Any = None) -> None:
        self.runtime.send(Envelope(Address(self.client, CLIENT), self.address, word, 0, payload))

    def begin(self, task: Envelope, actor: int = 99) -> None:
        spot = Spot("127.0.0.1", 9707, self.runtime.epoch, "stub/server-1")
        self.send(messages.Started(task.message.task, actor, spot))

    def end(self, task: Envelope, value: Any, kind: OutcomeKind = OutcomeKind.RETURNED) -> None:
        payload = dumps_value(value, "the value") if kind == OutcomeKind.RETURNED else None
        self.send(messages.Outcome(task.message.task, kind, started=kind != OutcomeKind.REFUSED), payload)

    def fail(self, task: Envelope, error: Exception) -> None:
        kind, payload = pack_outcome(ClientParcels(), Raised(error), task.message.function, False)
        self.send(messages.Outcome(task.message.task, kind, started=True), payload)

    @staticmethod
    def arguments(task: Envelope) -> Any:
        return ClientParcels().loads(task.payload)[1]

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


async def play_here(scene: Scene, folder: Path, *, admits: int = 100_000, **options: Any) -> None:
    """Runs the scene with a client, made with these options, that has the stub's cluster."""
    secret_file = secret_in(folder)
    runtime = Runtime("scheduler", "stub", Keys.from_secret(Secret.load_or_make(secret_file)))
    stub = StubScheduler(runtime, admits=admits)
    client = Client(secret_file=secret_file, **options)
    try:
        async with asyncio.timeout(20):
            await client.schedule(stub.location)
            await scene(client, stub)
    finally:
        await client.close(terminate=True, timeout=0.5)
        await runtime.close()
