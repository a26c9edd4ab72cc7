"""A thousand stories of clients, nodes and servers that come, fail and go; each from a seed that a failure prints.

Every message is carried in order per link, a link that is down keeps what it was given (as a session does), and the
judge looks at all that goes into the scheduler and comes out. Bugs are planted to see that the stories find them.
"""

from __future__ import annotations

import random
from typing import Any

import pytest
from msgspec.structs import replace

from dispycos.brokers import leasing, scheduler, sharing, waiting
from dispycos.brokers.leasing import Leasing
from dispycos.brokers.lifecycle import NodeState
from dispycos.brokers.outbox import Look
from dispycos.brokers.registry import Alarms, Client, Node, Registry, Share
from dispycos.brokers.reporting import Reporting
from dispycos.brokers.scheduler import Scheduler
from dispycos.brokers.waiting import Waiting
from dispycos.machine import Send
from dispycos.protocol.addresses import CLIENT, NODE, Address
from dispycos.protocol.envelope import Envelope
from dispycos.protocol.messages import Allocation, Hopeless, Lease, Register, Wanting
from dispycos.protocol.status import Status

from ..kit.scheduler import FORGET_S, HOME, FakeClient, FakeNode, Judge, Peer, Viewer, enlist

SEEDS = 1000
EVENTS = 120
VIEWER = Address(2, 20)


class World:
    """One story: a scheduler, some nodes and clients, and what a seed does to them."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.now = 0.0
        self.scheduler = Scheduler("head", "id-1", HOME, private=False)
        self.judge = Judge(self.scheduler)
        self.clients: dict[int, FakeClient] = {}
        self.nodes: dict[int, FakeNode] = {}
        self.viewer = Viewer(VIEWER)
        self.epochs = 2
        self.looks: list[int] = []  # clients whose places are being looked for
        self.deaths: list[Peer] = []  # of this host, and not told yet
        for number in range(self.dice.randint(1, 3)):
            self.add_node(f"node{number}")
        self.add_client()

    # --- the world

    def new_address(self, actor: int) -> Address:
        self.epochs += 1
        return Address(self.epochs, actor)

    def is_local(self, address: Address) -> bool:
        local = self.dice.random() < 0.3
        if local:
            self.judge.local.add(address.epoch)
        return local

    def add_node(self, name: str) -> FakeNode:
        address = self.new_address(NODE)
        node = FakeNode(address, self.is_local(address), name=name, cpus=self.dice.randint(1, 3))
        self.nodes[address.epoch] = node
        node.register()
        return node

    def add_client(self) -> None:
        allocations = self.dice.choice(([], [], [], [Allocation("*", cpus=1)], [Allocation("node0")]))
        address = self.new_address(CLIENT)
        wants = enlist(*allocations, abandon_zombies=self.dice.random() < 0.5)
        client = self.clients[address.epoch] = FakeClient(address, self.is_local(address), wants=wants)
        client.say(client.wants)

    def peers(self) -> list[Peer]:
        everybody: list[Peer] = [*self.clients.values(), *self.nodes.values()]
        return [peer for peer in everybody if peer.alive]

    def drain(self) -> None:
        for effect in self.scheduler.drain():
            if isinstance(effect, Send):
                self.judge.comes_out(effect.envelope)
                epoch = effect.envelope.to.epoch
                peer: Peer | None = self.clients.get(epoch) or self.nodes.get(epoch)
                if peer is not None and peer.alive:
                    peer.inbox.append(effect.envelope)
            elif isinstance(effect, Look):
                self.looks.append(effect.client)
        self.judge.look()

    def find_places(self) -> None:
        """Those that clients named are looked for; by its name a node is known without being found."""
        looks, self.looks = self.looks, []
        for client in looks:
            self.scheduler.looked(client, "", self.now)
        self.drain()

    def carry_in(self, peer: Peer, count: int) -> None:
        for _ in range(min(count, len(peer.outbox))):
            envelope = peer.outbox.popleft()
            self.judge.goes_in(envelope)
            self.scheduler.receive(envelope, self.now)
            self.drain()

    def carry_out(self, peer: Peer, count: int) -> None:
        if isinstance(peer, FakeNode) and peer.mute:
            return
        assert isinstance(peer, FakeNode | FakeClient)
        for _ in range(min(count, len(peer.inbox))):
            peer.receive(peer.inbox.popleft(), self.dice)

    def look_around(self) -> None:
        for _ in range(self.dice.randint(1, 2)):
            self.viewer.ask()
        self.carry_in(self.viewer, 2)

    def pass_time(self, seconds: float) -> None:
        self.find_places()
        end = self.now + seconds
        for _ in range(10_000):
            due = self.scheduler.deadline()
            if due is None or due > end:
                break
            self.now = self.judge.now = max(self.now, due)
            self.scheduler.wake(self.now)
            self.drain()
        else:
            raise AssertionError("the scheduler wakes for ever")
        self.now = self.judge.now = end

    # --- what happens to peers

    def cut(self, peer: Peer) -> None:
        peer.up = False
        self.judge.cut(peer.address.epoch)
        self.scheduler.peer_lost(peer.address.epoch, self.now, lives=peer.is_local)
        self.drain()

    def mend(self, peer: Peer) -> None:
        epoch = peer.address.epoch
        peer.up = True
        self.judge.away.pop(epoch, None)
        self.scheduler.peer_up(epoch, self.now)
        self.drain()
        if isinstance(peer, FakeNode):
            if epoch not in self.scheduler.registry.nodes:
                self.forget_session(peer)
            peer.register()

    def reset(self, node: FakeNode) -> None:
        """Its session began anew, as the runtime tells; the process is the same."""
        self.tell_of_death(node)
        self.forget_session(node)
        node.register()

    @staticmethod
    def forget_session(node: FakeNode) -> None:
        node.inbox.clear()
        node.outbox.clear()

    def kill(self, peer: Peer) -> None:
        """The process ends; whether the scheduler hears of it at once, later, or from its successor, differs."""
        peer.alive = False
        how = self.dice.randrange(3)
        if how == 0:
            self.tell_of_death(peer)
        else:
            if peer.up:
                self.cut(peer)
            if peer.is_local:
                self.deaths.append(peer)
        if isinstance(peer, FakeNode) and (how == 2 or self.dice.random() < 0.7):
            self.add_node(peer.name)

    def tell_of_death(self, peer: Peer) -> None:
        epoch = peer.address.epoch
        if isinstance(peer, FakeClient):
            self.judge.dies(epoch)
        self.scheduler.peer_reset(epoch, list(peer.inbox), self.now)
        self.drain()
        assert epoch not in self.judge.nodes, "its client believes that it lives"

    def tell_of_deaths(self) -> None:
        while self.deaths:
            self.tell_of_death(self.deaths.pop())

    # --- a story

    def run(self, events: int) -> None:
        for _ in range(events):
            self.one_event()
        self.finish()

    def one_event(self) -> None:
        dice = self.dice
        peer = dice.choice(self.peers() or [self.add_node("node0")])
        chance = dice.random()
        if chance < 0.30 and peer.up:
            self.carry_in(peer, dice.randint(1, 8))
        elif chance < 0.55 and peer.up:
            self.carry_out(peer, dice.randint(1, 8))
        elif chance < 0.80:
            if isinstance(peer, FakeClient):
                self.client_acts(peer)
            elif isinstance(peer, FakeNode):
                peer.act(dice)
        elif chance < 0.83:
            self.look_around()
        elif chance < 0.93:
            self.pass_time(dice.choice((0.1, 0.4, 1.0, 4.0, 12.0, 70.0)))
        else:
            self.disturb(peer)

    def disturb(self, peer: Peer) -> None:
        dice = self.dice
        chance = dice.random()
        if self.deaths and chance < 0.5:
            self.tell_of_deaths()
        elif not peer.up:
            self.mend(peer)
        elif chance < 0.4:
            self.cut(peer)
        elif chance < 0.55:
            self.kill(peer)
        elif chance < 0.75 and len(self.clients) < 5:
            self.add_client()
        elif isinstance(peer, FakeNode):
            self.trouble(peer)

    def trouble(self, node: FakeNode) -> None:
        chance = self.dice.random()
        if chance < 0.3:
            node.mute = not node.mute
        elif chance < 0.6 and node.lease is not None:
            node.close("at its terminal")
        elif chance < 0.75:
            self.reset(node)
        elif chance < 0.9:
            node.lease, node.servers, node.starting = None, {}, []
            node.register()
        else:
            node.register()

    def client_acts(self, client: FakeClient) -> None:
        chance = self.dice.random()
        if client.releasing:
            return
        if chance < 0.2 and client.lease is not None:
            client.say(Wanting(self.dice.randint(1, 9)))
        elif chance > 0.95:
            client.release()

    # --- its end

    def finish(self) -> None:
        """Nothing more goes wrong, all close: now everything has to come to an end."""
        self.tell_of_deaths()
        for _ in range(400):
            for peer in self.peers():
                if not peer.up:
                    self.mend(peer)
                if isinstance(peer, FakeNode):
                    peer.mute = False
                elif isinstance(peer, FakeClient) and peer.lease is not None and not peer.releasing:
                    peer.release()
                self.carry_out(peer, 1000)
                if isinstance(peer, FakeNode):
                    peer.act(self.dice)
            for peer in self.peers():
                self.carry_in(peer, 1000)
            self.pass_time(0.5)
            if not self.scheduler.registry.clients and not any(peer.outbox for peer in self.peers()):
                break
        for peer in self.peers():
            self.carry_out(peer, 10_000)
        self.pass_time(FORGET_S)
        self.judge_the_end()

    def judge_the_end(self) -> None:
        registry = self.scheduler.registry
        assert not registry.clients, f"{len(registry.clients)} clients did not come to an end"
        assert not registry.servers and registry.active is None and not self.judge.asked
        for client in self.clients.values():
            assert client.released or not client.alive, f"client {client.address.epoch} was not released"
        assert all(self.nodes[epoch].alive for epoch in registry.nodes), "a dead node is kept"
        for node in self.nodes.values():
            assert node.lease is None or node.closing or not node.alive, "a node keeps a lease of nobody"


@pytest.fixture(autouse=True)
def small_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stories are short, so what takes long in life is made to happen early."""
    monkeypatch.setattr(leasing, "FORGET_AFTER_S", FORGET_S)


def tell(seed: int) -> None:
    try:
        World(seed).run(EVENTS)
    except Exception as error:
        raise AssertionError(f"seed {seed}: {type(error).__name__}: {error}") from error


def test_a_thousand_stories_end_well() -> None:
    for seed in range(SEEDS):
        tell(seed)


def test_a_story_is_the_same_each_time() -> None:
    def told(seed: int) -> list[str]:
        world = World(seed)
        said: list[str] = []
        judge = world.judge.comes_out

        def listen(envelope: Envelope) -> None:
            said.append(repr(envelope))
            judge(envelope)

        world.judge.comes_out = listen  # type: ignore[method-assign]
        world.run(EVENTS)
        return said

    assert told(7) == told(7)


# --- planted bugs: (where, what, by what it is replaced)

Bug = tuple[Any, str, Any]


def nothing(*about: object, **more: object) -> None:
    pass


def takes_a_link_for_a_word(self: Scheduler, epoch: int, now: float) -> None:
    REAL_PEER_UP(self, epoch, now)
    node = self.registry.nodes.get(epoch)
    if node is not None:
        node.confirmed = True


def forgets_to_close_what_it_abandons(self: Leasing, node: Node) -> None:
    node.turn(NodeState.CLOSING) if node.state is not NodeState.CLOSING else None
    if not node.zombie:
        REAL_CLOSE(self, node)


def never_minds_which_lease(self: Leasing, envelope: Envelope, lease: Lease) -> Share | None:
    node = self.registry.nodes.get(envelope.sender.epoch)
    return node.share if node is not None else None


def believes_in_old_leases(self: Leasing, node: Node, word: Register, now: float) -> None:
    REAL_COMPARE(self, node, replace(word, lease=node.lease) if word.lease is None else word, now)


def uses_the_same_number_again(self: Leasing, node: Node, client: Client) -> None:
    client.opened.clear()
    REAL_OPEN(self, node, client)


def gives_the_last_the_cluster(self: Registry) -> Any:
    return REAL_QUEUED(self)[::-1]


def looks_before_it_counts_the_dead(self: Leasing, envelope: Envelope, now: float) -> None:
    """Whether the last server is gone is asked while it is still in the table."""
    share = self._share_of(envelope, envelope.message.lease)
    was_up = share is not None and envelope.message.spot.epoch in share.servers
    kept = self.out.effects[:]
    REAL_SERVER_DOWN(self, envelope, now)
    if was_up:
        new = self.out.effects[len(kept) :]
        told = [effect for effect in new if isinstance(effect, Send)]
        self.out.effects[:] = kept + [one for one in told if not isinstance(one.envelope.message, Hopeless)]


def tells_of_the_node_alone(self: Leasing, share: Share, status: Status, *rest: Any) -> None:
    if status not in (Status.ServerClosed, Status.ServerAbandoned):
        REAL_TELL_SERVER(self, share, status, *rest)


def answers_only_the_first(self: Reporting, envelope: Envelope, now: float) -> None:
    if not self._askers or envelope.sender in self._askers:
        REAL_INVENTORY(self, envelope, now)
        self._askers[envelope.sender] = 1


def waits_for_tasks(self: Scheduler, envelope: Envelope, now: float) -> None:
    if self.registry.active is None or envelope.sender != self.registry.active.address:
        REAL_RELEASE(self, envelope, now)


def knows_no_successor(self: Registry, info: object) -> None:
    return None


def goes_on_with_a_new_session(self: Leasing, node: Node, why: str, level: str = "warning") -> None:
    if "session was lost" not in why and "process ended" not in why:
        REAL_NODE_GONE(self, node, why, level)


REAL_PEER_UP, REAL_RELEASE = Scheduler.peer_up, Scheduler.on_release
REAL_CLOSE, REAL_COMPARE, REAL_OPEN = Leasing._close, Leasing._compare_lease, Leasing._open
REAL_QUEUED = Registry.queued_clients
REAL_SERVER_DOWN, REAL_TELL_SERVER = Leasing.on_server_down, Leasing._tell_server
REAL_NODE_GONE, REAL_INVENTORY = Leasing.node_gone, Reporting.on_inventory

BUGS: list[Bug] = [
    (scheduler, "CLIENT_PATIENCE_S", 1e9),
    (scheduler, "CLIENT_PATIENCE_S", 30.0),
    (scheduler, "CLOSE_PATIENCE_S", 1e9),
    (leasing, "FORGET_AFTER_S", 1e9),
    (leasing, "NODE_PATIENCE_PULSES", 7),
    (sharing, "DECLINED_AGAIN_S", 9.0),
    (Alarms, "cancel", nothing),
    (Alarms, "has", lambda self, handler: False),
    (Scheduler, "peer_up", takes_a_link_for_a_word),
    (Scheduler, "on_release", waits_for_tasks),
    (Waiting, "on_wanting", nothing),
    (Scheduler, "_tell_positions", nothing),
    (Waiting, "tell_of_hope", nothing),
    (Registry, "queued_clients", gives_the_last_the_cluster),
    (Registry, "node_like", knows_no_successor),
    (waiting, "_may_serve", lambda node, client: False),
    (Leasing, "_close", forgets_to_close_what_it_abandons),
    (Leasing, "_share_of", never_minds_which_lease),
    (Leasing, "_compare_lease", believes_in_old_leases),
    (Leasing, "_open", uses_the_same_number_again),
    (Leasing, "on_server_down", looks_before_it_counts_the_dead),
    (Leasing, "_tell_server", tells_of_the_node_alone),
    (Leasing, "node_gone", goes_on_with_a_new_session),
    (Leasing, "offer_all", nothing),
    (Reporting, "_overdue", nothing),
    (Reporting, "on_inventory", answers_only_the_first),
]


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: f"{bug[0].__name__.split('.')[-1]}.{bug[1]}")
def test_a_planted_bug_is_found(bug: Bug, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(*bug)
    with pytest.raises(AssertionError, match="seed"):
        for seed in range(SEEDS):
            tell(seed)
