"""What tests of the scheduler are made of: a desk to tell it things, peers that behave, and a judge of what it says."""

from __future__ import annotations

import random
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any

from dispycos.brokers.lifecycle import TASK, ClientState, TaskState
from dispycos.brokers.registry import Site
from dispycos.brokers.scheduler import Scheduler
from dispycos.machine import Send
from dispycos.protocol.addresses import CLIENT, NODE, SCHEDULER, Address
from dispycos.protocol.envelope import Envelope
from dispycos.protocol.messages import (
    Admit,
    Allocation,
    Began,
    ClientInfo,
    Close,
    Closed,
    Declined,
    Done,
    Enlist,
    Granted,
    Lease,
    NodeInfo,
    NodeNews,
    Open,
    Opened,
    Outcome,
    OutcomeAck,
    Queued,
    Recall,
    Recalled,
    Register,
    Release,
    Released,
    Run,
    ServerDown,
    ServerNews,
    ServerUp,
    Settled,
    Spot,
    Submit,
    TaskId,
    Terminate,
)
from dispycos.protocol.status import OutcomeKind, Status

PYTHON = (3, 11)
HOME = Address(1, SCHEDULER)
SHORT_S, LONG_S = 0.001, 0.5


def client_info(name: str = "script.py") -> ClientInfo:
    return ClientInfo(name, "here", 77, PYTHON)


def node_info(name: str, epoch: int, cpus: int = 2, **changes: Any) -> NodeInfo:
    info = NodeInfo(name, f"10.0.0.{len(name)}", 9706, cpus, "Linux-x86_64", PYTHON, epoch)
    return info._replace(**changes)


def enlist(*allocations: Allocation, pulse: float = 2.0, **changes: Any) -> Enlist:
    return Enlist(client_info(), list(allocations), pulse, **changes)


class Desk:
    """A scheduler and the envelopes it sent, for tests that tell it one thing after the other."""

    def __init__(self, **changes: Any) -> None:
        self.scheduler = Scheduler("head", "id-1", HOME, private=False, **changes)
        self.now = 100.0
        self.logs: list[object] = []

    def tell(self, sender: Address, *messages: Any, payload: bytes | None = None) -> list[Envelope]:
        for message in messages:
            self.scheduler.receive(Envelope(HOME, sender, message, 0, payload), self.now)
        return self.drain()

    def drain(self) -> list[Envelope]:
        effects = self.scheduler.drain()
        self.scheduler.check()
        self.logs += [effect for effect in effects if not isinstance(effect, Send)]
        return [effect.envelope for effect in effects if isinstance(effect, Send)]

    def wait(self, seconds: float) -> list[Envelope]:
        """Let time pass, waking the scheduler whenever it asked for it."""
        end, sent = self.now + seconds, []
        while (due := self.scheduler.deadline()) is not None and due <= end:
            self.now = max(self.now, due)
            self.scheduler.wake(self.now)
            sent += self.drain()
        self.now = end
        return sent

    # --- what most tests begin with

    def client(self, epoch: int = 50, wants: Enlist | None = None) -> tuple[Address, Lease]:
        address = Address(epoch, CLIENT)
        sent = self.tell(address, wants or enlist())
        granted = next(envelope.message for envelope in sent if isinstance(envelope.message, Granted))
        return address, granted.lease

    def node(
        self, name: str, epoch: int, lease: Lease | None = None, servers: int = 2, **changes: Any
    ) -> Address:
        """Register a node; with a lease, open it and bring its servers up, as epochs epoch * 100 + 1, ..."""
        address = Address(epoch, NODE)
        info = node_info(name, epoch, servers, addr=f"10.0.0.{epoch}")
        self.tell(address, Register(info._replace(**changes)))
        if lease is not None:
            self.tell(address, Opened(lease, servers))
            for number in range(1, servers + 1):
                self.tell(address, ServerUp(lease, spot(name, epoch * 100 + number, number), 1))
        return address

    def back(self, name: str, epoch: int, lease: Lease | None, *, closing: bool = False) -> list[Envelope]:
        """The link of a node heals, and it says which lease it holds."""
        self.scheduler.peer_up(epoch, None, self.now)
        info = node_info(name, epoch, addr=f"10.0.0.{epoch}")
        return self.tell(Address(epoch, NODE), Register(info, lease, closing))


def spot(node: str, epoch: int, number: int) -> Spot:
    return Spot("10.0.0.1", 9706 + number, epoch, f"{node}/server-{number}")


# --- a whole world


@dataclass(eq=False)
class Peer:
    """A process with a link to the scheduler."""

    address: Address
    up: bool = True
    alive: bool = True
    inbox: deque[Envelope] = field(default_factory=deque)  # on the way from the scheduler
    outbox: deque[Envelope] = field(default_factory=deque)  # on the way to it

    def say(self, message: Any) -> None:
        self.outbox.append(Envelope(HOME, self.address, message, 0, None))


@dataclass(eq=False)
class FakeClient(Peer):
    wants: Enlist = field(default_factory=enlist)
    lease: Lease | None = None
    limit: int = 0
    numbers: int = 0
    handed_in: int = 0
    open_tasks: dict[TaskId, Submit] = field(default_factory=dict)
    has: dict[TaskId, int] = field(default_factory=dict)  # the first outcome of each
    servers: list[int] = field(default_factory=list)
    settled: int = 0
    released: bool = False
    releasing: bool = False

    def receive(self, message: Any, dice: random.Random) -> None:
        match message:
            case Granted(lease=lease):
                assert self.lease is None, "granted twice"
                self.lease = lease
            case Admit(limit=limit):
                assert limit > self.limit
                self.limit = limit
            case Outcome():
                self.hears(message, dice)
            case ServerNews(status=Status.ServerInitialized, spot=where):
                self.servers.append(where.epoch)
            case Settled():
                self.settled += 1
            case Released():
                self.released = True

    def hears(self, outcome: Outcome, dice: random.Random) -> None:
        """The first one counts; what a node keeps is confirmed each time that it comes."""
        task = outcome.task
        if outcome.node:
            self.say(OutcomeAck([task], outcome.node))
        if task in self.has:
            return
        self.has[task] = outcome.outcome
        submit = self.open_tasks.get(task)
        again = outcome.outcome == OutcomeKind.LOST and dice.random() < 0.5
        if again and submit is not None and self.may_submit:
            self.submit(submit, task._replace(attempt=task.attempt + 1))

    @property
    def may_submit(self) -> bool:
        return self.lease is not None and not self.releasing and self.handed_in < self.limit

    def submit(self, like: Submit, task: TaskId | None = None) -> None:
        if task is None:
            self.numbers += 1
            task = TaskId(self.address.epoch, self.numbers)
        submit = Submit(task, like.function, like.io, like.node, like.server)
        self.open_tasks[task] = submit
        self.handed_in += 1
        self.say(submit)

    def release(self, terminate: bool, await_io: bool) -> None:
        self.releasing = True
        self.say(Release(terminate, await_io))


@dataclass(eq=False)
class Held:
    """A task as a node has it."""

    run: Run
    server: int = 0
    begun: bool = False


@dataclass(frozen=True)
class Word:
    """An outcome on its way to the client, on a link that the scheduler does not see."""

    outcome: Outcome
    server: int  # that says it; 0: the node itself


@dataclass(eq=False)
class FakeNode(Peer):
    name: str = ""
    cpus: int = 2
    lease: Lease | None = None
    closing: bool = False
    mute: bool = False
    starting: list[int] = field(default_factory=list)
    servers: dict[int, int] = field(default_factory=dict)  # epoch -> number
    tasks: dict[TaskId, Held] = field(default_factory=dict)
    words: deque[Word] = field(default_factory=deque)
    kept: dict[TaskId, Word] = field(default_factory=dict)  # copies, until the client has confirmed them
    epochs: int = 0

    def info(self) -> NodeInfo:
        return node_info(self.name, self.address.epoch, self.cpus, addr=f"10.0.1.{self.name[-1]}")

    def register(self) -> None:
        self.say(Register(self.info(), self.lease))

    def receive(self, message: Any, dice: random.Random) -> None:
        match message:
            case Open(lease=lease, cpus=cpus):
                if self.lease is not None or dice.random() < 0.1:
                    self.say(Declined(lease, "held by somebody for 7 s"))
                    return
                assert 0 < cpus <= self.cpus
                self.lease, self.closing = lease, False
                self.starting = list(range(1, cpus + 1))
                self.say(Opened(lease, cpus))
            case Run():
                assert message.task not in self.tasks, "two Runs of one attempt"
                if message.server and message.server not in self.servers:
                    self.say(Recalled([message.task]))  # that server has died meanwhile
                else:
                    self.tasks[message.task] = Held(message)
            case Terminate(task=task):
                held = self.tasks.get(task)
                if held is not None:
                    self.end(held, OutcomeKind.TERMINATED if held.begun else OutcomeKind.CANCELLED)
            case Recall(count=count):
                waiting = [held for held in self.tasks.values() if not held.begun][-count:]
                for held in waiting:
                    del self.tasks[held.run.task]
                self.say(Recalled([held.run.task for held in waiting]))
            case OutcomeAck(tasks=tasks):
                for task in tasks:
                    self.kept.pop(task, None)
            case Close(lease=lease):
                if lease == self.lease:
                    self.closing = True
                else:
                    self.say(Closed(lease))

    def end(self, held: Held, kind: OutcomeKind, seconds: float | None = None) -> None:
        if seconds is None:
            seconds = LONG_S if held.run.function == "long" else SHORT_S
        task = held.run.task
        del self.tasks[task]
        self.say(Done(task, kind, seconds, held.server))
        outcome = Outcome(task, kind, started=held.begun, node=self.address.epoch)
        if held.server in self.servers:
            self.words.append(Word(outcome, held.server))
            self.kept[task] = self.words[-1]
        else:
            self.words.append(Word(outcome, 0))  # nobody else can say it

    def act(self, dice: random.Random) -> None:
        """One thing that a node does by itself."""
        if self.mute or self.lease is None:
            return
        if self.closing:
            self.close()
        elif self.starting and dice.random() < 0.7:
            self.start_server(dice)
        elif self.servers and dice.random() < 0.06:
            self.lose_server(dice)
        else:
            self.work(dice)

    def start_server(self, dice: random.Random) -> None:
        assert self.lease is not None
        number = self.starting.pop(0)
        self.epochs += 1
        place = Spot("10", number, self.address.epoch * 1000 + self.epochs, f"{self.name}/server-{number}")
        if dice.random() < 0.08:
            self.say(ServerDown(self.lease, place, "exit code 1"))
            return
        self.servers[place.epoch] = number
        self.say(ServerUp(self.lease, place, 1))

    def lose_server(self, dice: random.Random) -> None:
        assert self.lease is not None
        epoch = dice.choice(list(self.servers))
        number = self.servers.pop(epoch)
        self.repeat(epoch, dice)
        for held in [held for held in self.tasks.values() if held.begun and held.server == epoch]:
            self.end(held, OutcomeKind.LOST)
        back = [held for held in self.tasks.values() if not held.begun and held.run.server == epoch]
        for held in back:
            del self.tasks[held.run.task]
        if back:
            self.say(Recalled([held.run.task for held in back]))
        restarting = dice.random() < 0.8
        if restarting:
            self.starting.append(number)
        place = Spot("10", number, epoch, f"{self.name}/server-{number}")
        self.say(ServerDown(self.lease, place, "killed by SIGKILL (9)", restarting=restarting))

    def repeat(self, server: int, dice: random.Random) -> None:
        """What a dead server had not got rid of went down with it, so the node says again what it keeps."""
        self.words = deque(word for word in self.words if word.server != server or dice.random() < 0.5)
        for task, word in list(self.kept.items()):
            if word.server == server:
                del self.kept[task]
                self.words.append(Word(word.outcome, 0))

    def work(self, dice: random.Random) -> None:
        """Begin what can begin; end something."""
        busy = {held.server for held in self.tasks.values() if held.begun and not held.run.io}
        for held in self.tasks.values():
            run = held.run
            if held.begun or not self.servers or (run.server and run.server not in self.servers):
                continue
            free = [epoch for epoch in self.servers if run.io or epoch not in busy]
            if run.server:
                free = [epoch for epoch in free if epoch == run.server]
            if free:
                held.server, held.begun = dice.choice(free), True
                if not run.io:
                    busy.add(held.server)
                if not run.fast:
                    self.say(Began(run.task, held.server))
        begun = [held for held in self.tasks.values() if held.begun]
        for held in dice.sample(begun, min(len(begun), dice.randrange(4))):
            self.end(held, dice.choice((OutcomeKind.RETURNED, OutcomeKind.RETURNED, OutcomeKind.RAISED)))

    def close(self) -> None:
        assert self.lease is not None
        for held in list(self.tasks.values()):
            self.end(held, OutcomeKind.TERMINATED if held.begun else OutcomeKind.CANCELLED)
        for epoch, number in self.servers.items():
            place = Spot("10", number, epoch, f"{self.name}/server-{number}")
            self.say(ServerDown(self.lease, place, "closed", expected=True))
        self.servers, self.starting = {}, []
        self.kept.clear()  # and what is on its way arrives, for its servers waited for that
        self.say(Closed(self.lease))
        self.lease, self.closing = None, False


class Judge:
    """Looks at all that goes in and comes out, and knows what may not be."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler
        self.submitted: dict[TaskId, Submit] = {}
        self.ended: Counter[TaskId] = Counter()
        self.done_at: dict[TaskId, Site] = {}  # where it ended, as long as the client has not confirmed that
        self.confirmed: set[TaskId] = set()
        self.owner: dict[TaskId, int] = {}  # the node that has it, as far as the scheduler can know
        self.runs: dict[TaskId, Run] = {}
        self.servers: dict[int, set[int]] = {}  # by node
        self.away: set[int] = set()
        self.released: set[int] = set()
        self.spent: set[TaskId] = set()  # went down with a node, so they may have started
        self.states: dict[TaskId, TaskState] = {}
        self.short: Counter[str] = Counter()  # runs seen of a function, 0 again after a long one

    def goes_in(self, envelope: Envelope) -> None:
        message, sender = envelope.message, envelope.sender.epoch
        match message:
            case Enlist():
                self.released.discard(sender)
            case Submit(task=task):
                self.submitted[task] = message
            case OutcomeAck(tasks=tasks):
                self.confirmed.update(tasks)
                for task in tasks:
                    self.done_at.pop(task, None)
            case Done(task=task) if self.owner.get(task) == sender:
                self.ended[task] += 1
                site = self.scheduler.registry.nodes[sender].site
                if task not in self.confirmed and site is not None:
                    self.done_at[task] = site
                self.time(message)
                self.disown(task)
            case Recalled(tasks=tasks):
                for task in tasks:
                    if self.owner.get(task) == sender:
                        self.disown(task)
            case ServerUp(lease=lease) if self.holds(sender, lease):
                self.servers.setdefault(sender, set()).add(message.spot.epoch)
            case ServerDown():
                self.servers.get(sender, set()).discard(message.spot.epoch)
            case Closed(lease=lease) if self.holds(sender, lease):
                self.node_ended(sender)

    def time(self, done: Done) -> None:
        name = self.submitted[done.task].function
        if done.outcome <= OutcomeKind.RAISED and done.seconds < 0.005:
            self.short[name] += 1
        elif done.outcome != OutcomeKind.CANCELLED:
            self.short[name] = 0

    def holds(self, node: int, lease: Lease) -> bool:
        known = self.scheduler.registry.nodes.get(node)
        return known is not None and known.lease == lease and known.site is not None

    def disown(self, task: TaskId) -> None:
        self.owner.pop(task, None)
        self.runs.pop(task, None)

    def node_ended(self, node: int) -> None:
        """What it had is nobody's; the scheduler has to speak for it."""
        self.servers.pop(node, None)
        for task in [task for task, owner in self.owner.items() if owner == node]:
            self.disown(task)
            self.spent.add(task)

    def comes_out(self, envelope: Envelope) -> None:
        message, to = envelope.message, envelope.to.epoch
        assert to not in self.released or isinstance(message, Outcome | Released | Queued), message
        match message:
            case Run():
                self.judge_run(message, to)
            case Outcome(task=task) if task in self.done_at:
                living = list(self.scheduler.registry.sites())
                assert self.done_at.pop(task) not in living, f"{task} is spoken for while its node lives"
            case Outcome(task=task):
                known = task in self.confirmed and task not in self.owner and task not in self.spent
                assert not known, f"{task} ended, and the client knows"
                self.ended[task] += 1
                assert self.ended[task] == 1, f"{task} ended twice"
                assert task in self.submitted
                self.disown(task)
            case NodeNews(status=Status.NodeClosed | Status.NodeAbandoned, node=info):
                self.node_ended(info.epoch)
            case Released():
                self.released.add(to)
                left = [task for task in self.submitted if task.owner == to and not self.ended[task]]
                assert not left, f"released, but {left} have not ended"

    def judge_run(self, run: Run, node: int) -> None:
        submit = self.submitted[run.task]
        assert not self.ended[run.task], f"{run.task} runs after its end"
        assert run.task not in self.owner, f"{run.task} has two owners"
        assert run.task not in self.spent, f"{run.task} may start twice"
        assert node not in self.away, "a task for a node that cannot be reached"
        servers = self.servers.get(node, set())
        assert servers, "a task for a node without servers"
        there = [other for task, other in self.runs.items() if self.owner[task] == node]
        if submit.io:
            assert not run.fast
        elif run.fast:
            assert self.short[submit.function] > 0, "a function that is not short was fed ahead"
        else:
            assert sum(not other.io for other in there) < len(servers), "no free slot"
        if submit.server:
            assert submit.server in servers, "not where it was to run"
        if submit.node:
            assert submit.node.startswith("node"), "nobody is called that"
            info = self.scheduler.registry.nodes[node].info
            assert submit.node in (info.name, info.addr), "not where it was to run"
        self.owner[run.task], self.runs[run.task] = node, run

    def look(self) -> None:
        """After each drain."""
        scheduler = self.scheduler
        scheduler.check()
        registry = scheduler.registry
        for position, client in enumerate(registry.queued_clients(), 1):
            holder = registry.active.title if registry.active is not None else "nobody"
            assert client.looking or client.standing == (position, holder), (
                "a client does not know its position"
            )
        if registry.active is None:
            assert all(client.away or client.looking for client in registry.clients.values()), (
                "nobody has the cluster"
            )
        for key, task in registry.tasks.items():
            before = self.states.get(key, TaskState.WAITING)
            assert task.state in _after(before), f"{before} led to {task.state}"
            self.states[key] = task.state
        self.look_for_idleness()

    def look_for_idleness(self) -> None:
        """A free slot and a task that could take it do not exist side by side."""
        registry = self.scheduler.registry
        active = registry.active
        if active is None or active.state is ClientState.CLOSING:
            return
        for site in registry.sites():
            if not site.node.confirmed or site.node.state.name != "OPEN" or not site.servers:
                continue
            assert not registry.io, "an io task waits beside a server"
            if site.slow + site.fast < len(site.servers):
                assert not registry.slow and not registry.fast, "a task waits beside a free slot"


def _after(state: TaskState) -> set[TaskState]:
    """What a batch of events may lead to."""
    reached, edge = {state}, {state}
    while edge:
        edge = {then for now in edge for then in TASK[now]} - reached
        reached |= edge
    return reached
