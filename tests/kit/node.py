"""A node agent's world without processes, driven by hand: each step gives back what the node did."""

from __future__ import annotations

from typing import Any

from dispycos.actors.node.agent import Node
from dispycos.actors.tasks.step import NO_STEP, Step
from dispycos.machine import Log, Send
from dispycos.protocol.addresses import CLIENT, NODE, SCHEDULER, SERVER, Address
from dispycos.protocol.envelope import Envelope, Payload
from dispycos.protocol.messages import (
    ClientInfo,
    Lease,
    Message,
    NodeInfo,
    Open,
    ServerReady,
    SetupDone,
    SetupWanted,
)
from dispycos.protocol.watching import Machine

CLIENT_EPOCH, SCHEDULER_EPOCH, NODE_EPOCH, SERVER_EPOCHS = 7, 1, 100, 1000
THE_CLIENT = Address(CLIENT_EPOCH, CLIENT)
THE_SCHEDULER = Address(SCHEDULER_EPOCH, SCHEDULER)
THE_NODE = Address(NODE_EPOCH, NODE)
LEASE = Lease(1, CLIENT_EPOCH, "sched", SCHEDULER_EPOCH)
INFO = ClientInfo("script.py", "host", 4242, (3, 11))
MACHINE = Machine(0.5, 1 << 34, 1 << 41, 1 << 30)


def make_node(servers: int = 2, **options: Any) -> Node:
    info = NodeInfo("box", "10.0.0.5", 9700, servers, "Linux", (3, 11), NODE_EPOCH)
    ports = list(range(9701, 9701 + servers))
    return Node(info, THE_NODE, ports, min_pulse_interval=10, max_pulse_interval=100, **options)


def server_address(number: int, life: int = 1) -> Address:
    """Of the `life`-th process at a place."""
    return Address(SERVER_EPOCHS * life + number, SERVER)


class Hand:
    """Drives one node step by step; each step gives back what the node did, check() having passed."""

    def __init__(self, servers: int = 2, **options: Any) -> None:
        self.node = make_node(servers, **options)
        self.steps: dict[int, Step] = {}  # what the pages of the servers say
        self.node.step_of = lambda number: self.steps.get(number, NO_STEP)
        self.servers = servers
        self.now = 0.0
        self.logs: list[str] = []
        self.setups: list[
            tuple[Message, int]
        ] = []  # what the client was asked and told of them, and which zygote's it was

    def did(self) -> list[object]:
        """Effects since the last look: what was sent as (who, message) or (who, message, payload)."""
        done: list[object] = []
        for effect in self.node.drain():
            if isinstance(effect, Log):
                self.logs.append(effect.text)
            elif isinstance(effect, Send):
                to, said = self._who(effect.envelope.to), effect.envelope.message
                payload = effect.envelope.payload
                if isinstance(said, SetupWanted | SetupDone):
                    self.setups.append((said, effect.envelope.correlation))
                    continue
                done.append((to, said) if payload is None else (to, said, payload))
            else:
                done.append(effect)
        self.node.check()
        return done

    def _who(self, address: Address) -> object:
        names = {THE_CLIENT: "client", THE_SCHEDULER: "scheduler"}
        if address.actor == SERVER:
            return address.epoch % SERVER_EPOCHS
        return names.get(address, address)

    def tell(
        self, sender: Address, *messages: Message, payload: Payload = None, correlation: int = 0
    ) -> None:
        for message in messages:
            self.node.receive(Envelope(THE_NODE, sender, message, correlation, payload), self.now)

    def hear(
        self, sender: Address, *messages: Message, payload: Payload = None, correlation: int = 0
    ) -> list[object]:
        self.tell(sender, *messages, payload=payload, correlation=correlation)
        return self.did()

    def wake_at(self, now: float) -> list[object]:
        self.now = now
        self.node.wake(now)
        return self.did()

    def call(self, name: str, *arguments: object) -> list[object]:
        getattr(self.node, name)(*arguments, self.now)
        return self.did()

    def open(self) -> Hand:
        """A lease with all its servers ready."""
        self.hear(THE_SCHEDULER, Open(LEASE, INFO, self.servers, 50.0))
        self.call("zygote_ready")
        for number in range(1, self.servers + 1):
            self.ready(number)
        return self

    def ready(self, number: int, life: int = 1) -> list[object]:
        return self.hear(server_address(number, life), ServerReady(number, 10 * life + number))
