"""A thousand stories of clients, nodes and servers that come, fail and go; each from a seed that a failure prints.

Every message is carried in order per link, a link that is down keeps what it was given (as a session does), and the
judge looks at all that goes into the scheduler and comes out. Bugs are planted to see that the stories find them.
"""

from __future__ import annotations

import random
from typing import Any

import pytest
from dispycos.brokers.dispatch import Dispatch

from dispycos.brokers import dispatch, leasing, placement, placing, scheduler
from dispycos.brokers.leasing import Leasing
from dispycos.brokers.lifecycle import NodeState, TaskState
from dispycos.brokers.outbox import Look
from dispycos.brokers.registry import Site, Task
from dispycos.brokers.scheduler import Scheduler
from dispycos.machine import Send
from dispycos.protocol.addresses import CLIENT, NODE, Address
from dispycos.protocol.envelope import Envelope
from dispycos.protocol.messages import (
    Allocation,
    Enlist,
    OutcomeAck,
    Register,
    ServerUp,
    Submit,
    TaskId,
    Terminate,
)
from dispycos.protocol.status import OutcomeKind

from ..kit.scheduler import HOME, FakeClient, FakeNode, Judge, Peer, enlist

SEEDS = 1000
EVENTS = 120


class World:
    """One story: a scheduler, some nodes and clients, and what a seed does to them."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.now = 0.0
        self.scheduler = Scheduler("head", "id-1", HOME, private=False)
        self.judge = Judge(self.scheduler)
        self.clients: dict[int, FakeClient] = {}
        self.nodes: dict[int, FakeNode] = {}
        self.epochs = 1
        self.events: list[str] = []
        self.looks: list[int] = []  # clients whose places are being looked for
        for number in range(self.dice.randint(1, 3)):
            self.add_node(f"node{number}")
        self.add_client()

    # --- the world

    def new_epoch(self) -> int:
        self.epochs += 1
        return self.epochs

    def add_node(self, name: str) -> FakeNode:
        node = FakeNode(Address(self.new_epoch(), NODE), name=name, cpus=self.dice.randint(1, 3))
        self.nodes[node.address.epoch] = node
        node.register()
        return node

    def add_client(self) -> None:
        allocations = self.dice.choice(([], [], [], [Allocation("*", cpus=1)], [Allocation("node0")]))
        client = FakeClient(
            Address(self.new_epoch(), CLIENT),
            wants=enlist(*allocations, abandon_zombies=self.dice.random() < 0.5),
        )
        self.clients[client.address.epoch] = client
        client.say(client.wants)

    def peers(self) -> list[FakeClient | FakeNode]:
        everybody: list[FakeClient | FakeNode] = [*self.clients.values(), *self.nodes.values()]
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

    def carry_in(self, peer: FakeClient | FakeNode, count: int) -> None:
        for _ in range(min(count, len(peer.outbox))):
            envelope = peer.outbox.popleft()
            self.judge.goes_in(envelope)
            self.scheduler.receive(envelope, self.now)
        self.drain()

    def carry_out(self, peer: FakeClient | FakeNode, count: int) -> None:
        if isinstance(peer, FakeNode) and peer.mute:
            return
        for _ in range(min(count, len(peer.inbox))):
            peer.receive(peer.inbox.popleft().message, self.dice)

    def carry_words(self, node: FakeNode, count: int) -> None:
        """Outcomes go straight to the client, unless it is cut off from everybody."""
        for _ in range(min(count, len(node.words))):
            client = self.clients[node.words[0].outcome.task.owner]
            if client.alive and not client.up:
                return
            outcome = node.words.popleft().outcome
            if client.alive:
                client.hears(outcome, self.dice)

    def pass_time(self, seconds: float) -> None:
        self.find_places()
        end = self.now + seconds
        for _ in range(10_000):
            due = self.scheduler.deadline()
            if due is None or due > end:
                break
            self.now = max(self.now, due)
            self.scheduler.wake(self.now)
            self.drain()
        else:
            raise AssertionError("the scheduler wakes for ever")
        self.now = end

    # --- what happens to peers

    def cut(self, peer: FakeClient | FakeNode) -> None:
        peer.up = False
        self.judge.away.add(peer.address.epoch)
        self.scheduler.peer_lost(peer.address.epoch, self.now)
        self.drain()

    def mend(self, peer: FakeClient | FakeNode) -> None:
        epoch = peer.address.epoch
        peer.up = True
        self.judge.away.discard(epoch)
        self.scheduler.peer_up(epoch, None, self.now)
        self.drain()
        known = self.scheduler.registry
        if isinstance(peer, FakeNode):
            if epoch not in known.nodes:
                peer.inbox.clear()
                peer.outbox.clear()  # given up by the other side: the session began anew
            peer.register()

    @staticmethod
    def has_said(peer: Peer, word: type) -> bool:
        return any(isinstance(envelope.message, word) for envelope in peer.outbox)

    def kill(self, peer: FakeClient | FakeNode) -> None:
        """The process ends; whether the scheduler hears of it at once, later, or from its successor, differs."""
        peer.alive = False
        if isinstance(peer, FakeNode):
            peer.words.clear()
        epoch = peer.address.epoch
        how = self.dice.randrange(3)
        if how == 0:
            self.scheduler.peer_reset(epoch, list(peer.inbox), self.now)
            self.drain()
        elif peer.up:
            self.cut(peer)
        if isinstance(peer, FakeNode) and (how == 2 or self.dice.random() < 0.7):
            self.add_node(peer.name)

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
        elif chance < 0.65 and isinstance(peer, FakeNode):
            self.carry_words(peer, dice.randint(1, 8))
        elif chance < 0.90:
            if isinstance(peer, FakeClient):
                self.client_acts(peer)
            else:
                peer.act(dice)
        elif chance < 0.95:
            self.pass_time(dice.choice((0.01, 0.06, 1.0, 4.0, 12.0)))
        else:
            self.disturb(peer)

    def disturb(self, peer: FakeClient | FakeNode) -> None:
        dice = self.dice
        chance = dice.random()
        if not peer.up:
            self.mend(peer)
        elif chance < 0.4:
            self.cut(peer)
        elif chance < 0.6:
            self.kill(peer)
        elif chance < 0.75 and len(self.clients) < 5:
            self.add_client()
        elif isinstance(peer, FakeNode):
            if chance < 0.85:
                peer.mute = not peer.mute
            elif chance < 0.92 and peer.lease is not None:
                peer.close()
            else:
                peer.register()

    def client_acts(self, client: FakeClient) -> None:
        dice = self.dice
        chance = dice.random()
        if client.lease is None or client.releasing:
            if chance < 0.05 and not client.releasing:
                client.release(False, False)
        elif chance < 0.75:
            for _ in range(min(dice.choice((1, 1, 3, 12)), client.limit - client.handed_in)):
                client.submit(self.any_task(client))
        elif chance < 0.92 and client.open_tasks:
            client.say(Terminate(dice.choice(list(client.open_tasks))))
        elif chance > 0.96:
            client.release(dice.random() < 0.4, dice.random() < 0.5)

    def any_task(self, client: FakeClient) -> Submit:
        dice = self.dice
        chance = dice.random()
        function = dice.choice(("short", "short", "long"))
        io = dice.random() < 0.2
        node, server = "", 0
        if chance < 0.12:
            node = dice.choice(("node0", "node1", "nobody"))
        elif chance < 0.24:
            server = dice.choice([*client.servers, 12345])
        return Submit(TaskId(0, 0), function, io, node, server)

    # --- its end

    def finish(self) -> None:
        """Nothing more goes wrong, all close: now everything has to come to an end."""
        for _ in range(400):
            for peer in self.peers():
                if not peer.up:
                    self.mend(peer)
                if isinstance(peer, FakeNode):
                    peer.mute = False
                elif peer.lease is not None and not peer.releasing:
                    peer.release(False, True)
                self.carry_out(peer, 1000)
                if isinstance(peer, FakeNode):
                    peer.act(self.dice)
                    self.carry_words(peer, 1000)
                    self.revive(peer)
            if not any(isinstance(peer, FakeNode) and peer.name == "node0" for peer in self.peers()):
                self.add_node("node0")
            for peer in self.peers():
                self.carry_in(peer, 1000)
            self.pass_time(0.5)
            if not self.scheduler.registry.clients and not any(
                self.has_said(peer, Enlist) for peer in self.peers()
            ):
                break
        for peer in self.peers():
            if isinstance(peer, FakeNode):
                self.carry_words(peer, 10_000)
            self.carry_out(peer, 10_000)
        self.judge_the_end()

    def revive(self, node: FakeNode) -> None:
        """Without any server tasks would wait for ever, and that is right: so somebody sees to the node."""
        known = self.scheduler.registry.nodes.get(node.address.epoch)
        if known is not None and known.state is NodeState.DECLINED and not self.has_said(node, Register):
            node.register()
        idle = not node.servers and not node.starting and not self.has_said(node, ServerUp)
        if node.lease is not None and idle and not node.closing:
            node.starting = [1]

    def judge_the_end(self) -> None:
        registry = self.scheduler.registry
        assert not registry.clients, f"{len(registry.clients)} clients did not come to an end"
        assert not registry.tasks and not registry.servers and registry.active is None
        for client in self.clients.values():
            if client.alive:
                assert client.released, f"client {client.address.epoch} was not released"
                assert client.settled <= 1
        alive = {client.address.epoch for client in self.clients.values() if client.alive}
        for task, submit in self.judge.submitted.items():
            if task.owner in alive:
                assert self.judge.ended[task] == 1, f"{submit} ended {self.judge.ended[task]} times"
                assert task in self.clients[task.owner].has, f"the client never hears how {submit} ended"


@pytest.fixture(autouse=True)
def small_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stories are short, so what takes long in life is made to happen early."""
    monkeypatch.setattr(placement, "SAMPLES_MIN", 3)
    monkeypatch.setattr(placement, "SAMPLES_KEPT", 5)
    monkeypatch.setattr(leasing, "FORGET_AFTER_S", 60.0)
    for module in (dispatch, scheduler):
        monkeypatch.setattr(module, "CREDIT", 32)


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


def uses_nodes_that_are_away(site: Site) -> bool:
    return site.node.state is NodeState.OPEN


def sees_one_server_too_many(servers: int, slow: int, fast: int) -> int:
    return placement.cpu_level(servers + 1 if servers else 0, slow, fast)


def takes_recalled_tasks_back_begun_or_not(self: Dispatch, task: Task) -> bool:
    task.state = TaskState.WAITING  # and the load of the site stays as it was
    task.site = None
    return True


def forgets_recalled_tasks(self: Dispatch, tasks: list[Task]) -> None:
    pass


def places_lost_tasks_again(self: Dispatch, site: Site, kind: OutcomeKind, text: str) -> None:
    here = [task for task in self.registry.tasks.values() if task.site is site and task.bound is None]
    for task in here:
        task.state, task.site, task.server = TaskState.WAITING, None, None
    self._requeue(here)
    REAL_DROP_SITE(self, site, kind, text)


def drop_site_forgets_the_unheard(self: Dispatch, site: Site, kind: OutcomeKind, text: str) -> None:
    site.unheard.clear()
    REAL_DROP_SITE(self, site, kind, text)


def forgets_what_is_confirmed(self: Dispatch, envelope: Envelope, now: float) -> None:
    pass


def forgets_what_is_confirmed_early(self: Dispatch, envelope: Envelope, now: float) -> None:
    done = [task for task in envelope.message.tasks if task not in self.registry.tasks]
    ack = OutcomeAck(done, envelope.message.node)
    REAL_ON_OUTCOME_ACK(self, Envelope(HOME, envelope.sender, ack), now)


def takes_the_first_news_of_an_end_for_its_confirmation(
    self: Dispatch, envelope: Envelope, now: float
) -> None:
    REAL_ON_DONE(self, envelope, now)
    for site in self.registry.sites():
        site.unheard.pop(envelope.message.task, None)


def says_cancelled_but_keeps_it_queued(self: Dispatch, task: Task) -> None:
    pass


def leaves_its_pinned_tasks_waiting(self: Dispatch, server: object, death: str) -> None:
    pass


def believes_every_done(self: Dispatch, envelope: Envelope, now: float) -> None:
    task = self.registry.tasks.get(envelope.message.task)
    if task is not None and task.site is not None:
        self._forget(task)  # and its slot stays taken


def forgets_to_close_a_silent_node(self: Leasing, epoch: int, now: float) -> None:
    node = self.registry.nodes[epoch]
    if node.site is not None:
        self._site_gone(node, OutcomeKind.LOST, "was silent")
        node.turn(NodeState.CLOSING)


def counts_everything_as_short(self: object) -> bool:
    return True


REAL_DROP_SITE, REAL_ON_DONE = Dispatch.drop_site, Dispatch.on_done
REAL_ON_OUTCOME_ACK = Dispatch.on_outcome_ack

BUGS: list[Bug] = [
    (placing, "is_usable", uses_nodes_that_are_away),
    (placing, "cpu_level", sees_one_server_too_many),
    (dispatch, "_sort", lambda queue: None),
    (Dispatch, "_take_back", takes_recalled_tasks_back_begun_or_not),
    (Dispatch, "_requeue", forgets_recalled_tasks),
    (Dispatch, "drop_site", places_lost_tasks_again),
    (Dispatch, "drop_site", drop_site_forgets_the_unheard),
    (Dispatch, "on_outcome_ack", forgets_what_is_confirmed),
    (Dispatch, "on_outcome_ack", forgets_what_is_confirmed_early),
    (Dispatch, "on_done", takes_the_first_news_of_an_end_for_its_confirmation),
    (Dispatch, "_unqueue", says_cancelled_but_keeps_it_queued),
    (Dispatch, "server_gone", leaves_its_pinned_tasks_waiting),
    (Dispatch, "on_done", believes_every_done),
    (Leasing, "on_node_silent", forgets_to_close_a_silent_node),
    (placement.Pace, "fast", property(counts_everything_as_short)),
    (scheduler, "CLIENT_PATIENCE_S", 1e9),
    (leasing, "FORGET_AFTER_S", 1e9),
]


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: f"{bug[0].__name__.split('.')[-1]}.{bug[1]}")
def test_a_planted_bug_is_found(bug: Bug, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(*bug)
    with pytest.raises(AssertionError, match="seed"):
        for seed in range(SEEDS):
            tell(seed)
