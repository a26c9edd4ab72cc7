"""A node agent through a whole lease, moved by a seed, with servers that die and stall; a judge knows what may not be."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import count

from dispycos.actors.tenancy import CloseZygote, ForgetPeer, KillServer, StartServer, StartZygote
from dispycos.actors.terminations import KILL_AFTER, NO_STEP, EndStep, Look, Step
from dispycos.machine import Log, Send
from dispycos.protocol.addresses import SERVER, Address
from dispycos.protocol.envelope import Envelope, Payload
from dispycos.protocol.messages import (
    Began,
    Close,
    Closed,
    Done,
    Marks,
    Message,
    Open,
    Outcome,
    OutcomeAck,
    Recall,
    Recalled,
    Run,
    ServerDown,
    ServerReady,
    ServerUp,
    Shutdown,
    TaskId,
    Terminate,
)
from dispycos.protocol.status import OutcomeKind

from .node import (
    CLIENT_EPOCH,
    INFO,
    LEASE,
    SERVER_EPOCHS,
    THE_CLIENT,
    THE_NODE,
    THE_SCHEDULER,
    make_node,
)

ENDLESS = 10_000.0  # seconds


@dataclass
class Plan:
    """What a seed makes of a task."""

    id: TaskId
    io: bool
    fast: bool
    named: bool
    seconds: float
    deaf: bool  # ignores its KeyboardInterrupt
    deadly: str  # "", or when it ends its server: "before" or "after" it sent Done
    size: int = 0


@dataclass
class Judge:
    """Knows what may not happen; every violation is an AssertionError."""

    given: set[TaskId] = field(default_factory=set)  # Run sent by the scheduler, its end not heard
    started: set[TaskId] = field(default_factory=set)
    holder: dict[TaskId, int] = field(default_factory=dict)  # server the node gave it to
    reported: dict[TaskId, int] = field(default_factory=dict)  # kinds that servers told the node
    spoken: dict[TaskId, Outcome] = field(default_factory=dict)  # by the node
    heard: set[TaskId] = field(default_factory=set)  # an outcome reached the client
    confirmed: set[TaskId] = field(default_factory=set)  # by the client, to the scheduler
    ended: dict[TaskId, int] = field(default_factory=dict)

    def on_started(self, id: TaskId) -> None:
        assert id not in self.started, f"{id} started twice"
        self.started.add(id)

    def on_given(self, id: TaskId, server: int) -> None:
        assert id not in self.holder, f"{id} is given to {server} while {self.holder.get(id)} has it"
        self.holder[id] = server

    def on_spoken(self, outcome: Outcome) -> None:
        id = outcome.task
        assert id not in self.spoken, f"the node speaks twice for {id}"
        self.spoken[id] = outcome
        if outcome.outcome == OutcomeKind.CANCELLED:
            assert id not in self.started, f"{id} is called cancelled, but it had started"
        if id in self.reported:
            shrunk = outcome.outcome == OutcomeKind.LOST and "bytes was lost" in outcome.text
            assert outcome.outcome == self.reported[id] or shrunk, f"{id} ended otherwise than the node says"

    def on_done(self, said: Done) -> None:
        id = said.task
        assert id in self.given, f"the scheduler hears of {id}, which has ended or was not given"
        self.given.remove(id)
        self.ended[id] = said.outcome
        assert said.outcome == self.reported.get(id, said.outcome), (
            f"{id} ended otherwise than its server said"
        )

    def unheard(self) -> set[TaskId]:
        """For which the scheduler has to speak when the node is gone: they are there, or nobody confirmed their end."""
        return self.given | (self.ended.keys() - self.confirmed)

    def on_recalled(self, id: TaskId) -> None:
        assert id in self.given, f"{id} comes back, but has ended or was not given"
        assert id not in self.started, f"{id} comes back as not started, but it had"
        assert id not in self.spoken and id not in self.reported, f"{id} comes back with an outcome"
        self.given.remove(id)
        self.holder.pop(id, None)


class FakeServer:
    """One server process: CPU tasks in the order they came, io tasks at once."""

    def __init__(self, story: Story, number: int, pid: int) -> None:
        self.story = story
        self.number = number
        self.pid = pid
        self.address = Address(SERVER_EPOCHS + pid, SERVER)
        self.alive = True
        self.ready = False
        self.shutting = False
        self.inbox: list[Run] = []
        self.running: dict[TaskId, Run] = {}
        self.given = 0
        self.positions: dict[TaskId, int] = {}
        self.marks = Marks(0, 0, 0)
        self.step = NO_STEP
        self.asked_to_end: set[int] = set()
        self.answers = story.random.random() < 0.8  # to recalls

    def send(self, message: Message, payload: Payload = None) -> None:
        self.story.to_node(self.address, message, payload)

    def begin(self) -> None:
        if self.alive:
            self.ready = True
            self.send(ServerReady(self.number, self.pid))

    def receive(self, message: Message) -> None:
        if not self.alive:
            return
        if isinstance(message, Run):
            self.take(message)
        elif isinstance(message, Terminate):
            self.interrupt(message.task)
        elif isinstance(message, Recall):
            if self.answers:
                self.story.later(
                    self.story.random.choice((0.001, 0.03, 0.2)), lambda: self.give_back(message.count)
                )
        elif isinstance(message, Shutdown):
            self.shutting = True
            for run in [*self.inbox, *self.running.values()]:
                self.interrupt(run.task)
            self.leave_if_idle()
        else:
            raise AssertionError(f"a server got {message}")

    def take(self, run: Run) -> None:
        cpu = [other for other in [*self.inbox, *self.running.values()] if not other.io]
        if not run.io and cpu:
            assert run.fast and all(other.fast for other in cpu), f"{run.task} came beside {cpu}"
        self.given += 1
        self.positions[run.task] = self.given
        if run.io:
            self.start(run)
        else:
            self.inbox.append(run)
            self.start_next()

    def start_next(self) -> None:
        if self.alive and self.inbox and all(run.io for run in self.running.values()):
            self.start(self.inbox.pop(0))

    def start(self, run: Run) -> None:
        self.running[run.task] = run
        position = self.positions[run.task]
        self.marks = self.marks._replace(**{"io" if run.io else "cpu": position})
        if not run.io:  # an io task waits, and a CPU task computes
            self.step = Step(position, int(self.story.now * 1e9))
        self.story.judge.on_started(run.task)
        if not run.fast:
            self.send(Began(run.task, self.address.epoch))
        seconds = self.story.plans[run.task].seconds
        if seconds < ENDLESS:
            self.story.later(seconds, lambda: self.finish(run, OutcomeKind.RETURNED))

    def finish(self, run: Run, kind: OutcomeKind) -> None:
        if not self.alive or run.task not in self.running:
            return
        plan = self.story.plans[run.task]
        del self.running[run.task]
        if not run.io:
            self.step = NO_STEP
        if plan.deadly == "before":
            self.die("killed by SIGSEGV (11)")
            return
        self.tell(run.task, kind, plan.size)
        if plan.deadly == "after":
            self.die("exited with code 3")
            return
        self.start_next()
        self.leave_if_idle()

    def tell(self, id: TaskId, kind: OutcomeKind, size: int) -> None:
        payload = bytes(size) if 0 < size <= 64 * 1024 else None
        self.send(Done(id, kind, 0.1, 0, 20, size), payload)
        self.story.server_outcome(self, id)

    def interrupt(self, id: TaskId) -> None:
        self.asked_to_end.add(self.positions.get(id, 0))
        queued = next((run for run in self.inbox if run.task == id), None)
        if queued is not None:
            self.inbox.remove(queued)
            self.tell(id, OutcomeKind.CANCELLED, 0)
        elif id in self.running and not self.story.plans[id].deaf:
            run = self.running[id]
            self.story.later(0.01, lambda: self.finish(run, OutcomeKind.TERMINATED))
        elif id in self.running and self.running[id].io:
            run = self.running[id]
            self.story.later(KILL_AFTER, lambda: self.finish(run, OutcomeKind.TERMINATED))  # it is dropped

    def give_back(self, amount: int) -> None:
        if self.alive:
            back, self.inbox = self.inbox[-amount:], self.inbox[:-amount]
            self.send(Recalled([run.task for run in back]))

    def leave_if_idle(self) -> None:
        if self.alive and self.shutting and not self.running and not self.inbox:
            self.die("exited with code 0")

    def die(self, death: str, tell: bool = True) -> None:
        if self.alive:
            self.alive = False
            if tell:
                # The body has read all that the server sent before it reports the exit.
                self.story.to_node_after(self.address, lambda: self.story.report_exit(self, death))


class Story:
    """A node under a scheduler, a client and servers, all moved by a seed; the first violation raises."""

    LATENCIES = (0.0, 0.0005, 0.002)
    STEPS_MAX = 20_000

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.judge = Judge()
        self.now = 0.0
        self.events: list[tuple[float, int, Callable[[], None]]] = []
        self.order = count()
        self.arrived: dict[
            tuple[Address, Address], float
        ] = {}  # the last arrival on each way, which keeps order
        servers = self.random.randint(1, 3)
        kept = self.random.choice((300, 64 * 1024 * 1024))
        self.node = make_node(servers, kept_bytes=kept, kept_count=self.random.choice((5, 1000)))
        self.places: dict[int, FakeServer] = {}
        self.pids = count(1)
        self.up: dict[int, int] = {}  # epochs the scheduler knows as up, by what ServerUp and ServerDown said
        self.given_up: set[str] = set()  # servers that will not be started again
        self.servers = servers
        self.forgotten: list[int] = []
        self.epochs: list[int] = []  # all that were ever ready
        self.closed = self.closing = self.zygote_closed = self.client_gone = self.node_gone = False
        self.zygote = 0
        self.zygote_lost = False  # it has ended, but that is told only after its servers' ends
        self.luck = 0.15 if self.random.random() < 0.05 else 1.0  # too little of it: no server gets ready
        self.unacked: list[TaskId] = []
        self.client_away = 0.5 if self.random.random() < 0.3 else 0.0  # seconds until words reach it
        self.plans = {
            plan.id: plan for plan in (self.make_plan(n) for n in range(1, self.random.randint(8, 40)))
        }

    def make_plan(self, number: int) -> Plan:
        chance = self.random.random
        io = chance() < 0.25
        fast = not io and chance() < 0.6
        seconds = self.random.choice((0.001, 0.002, 0.004)) if fast else self.random.choice((0.01, 0.1, 1.0))
        if fast and chance() < 0.06:
            seconds = 0.3
        if not fast and chance() < 0.04:
            seconds = ENDLESS
        deadly = self.random.choice(("before", "after")) if chance() < 0.08 else ""
        sizes = (0, 40, 40, 200, 100_000)
        size = self.random.choice(sizes)
        id = TaskId(CLIENT_EPOCH, number)
        return Plan(id, io, fast, chance() < 0.1, seconds, chance() < 0.1, deadly, size)

    # --- time

    def later(self, delay: float, what: Callable[[], None]) -> None:
        heapq.heappush(self.events, (self.now + delay, next(self.order), what))

    def on_the_way(self, sender: Address, to: Address, what: Callable[[], None]) -> None:
        """Arrives in order with what went that way before."""
        delay = self.random.choice(self.LATENCIES) + (self.client_away if to == THE_CLIENT else 0.0)
        at = max(self.now + delay, self.arrived.get((sender, to), 0.0))
        self.arrived[sender, to] = at
        heapq.heappush(self.events, (at, next(self.order), what))

    def to_node(self, sender: Address, message: Message, payload: Payload = None) -> None:
        self.on_the_way(
            sender, THE_NODE, lambda: self.node_hears(Envelope(THE_NODE, sender, message, 0, payload))
        )

    def to_node_after(self, sender: Address, what: Callable[[], None]) -> None:
        self.on_the_way(sender, THE_NODE, what)

    def play(self) -> None:
        self.open()
        for _ in range(self.STEPS_MAX):
            deadline = self.node.deadline() if not self.node_gone else None
            at = self.events[0][0] if self.events else None
            if (self.closed or self.node_gone) and at is None:
                break
            if deadline is not None and (at is None or deadline <= at):
                assert deadline >= self.now - 1.0, f"the node wants to wake at {deadline}, which is long past"
                self.now = max(self.now, deadline)
                self.node.wake(self.now)
                self.carry_out()
            else:
                assert at is not None, "nothing will ever happen, but the lease has not ended"
                self.now, _, what = heapq.heappop(self.events)
                what()
                # Sometimes more comes before the node's turn ends.
                soon = bool(self.events) and self.events[0][0] < self.now + 0.001
                if not soon or self.random.random() < 0.7:
                    self.carry_out()
            if not self.node_gone:
                self.node.check()
            assert self.now < 300, f"not at its end after 300 s; still open: {self.judge.given}"
        else:
            raise AssertionError(f"no end after {self.STEPS_MAX} steps")
        self.check_end()

    # --- the node's surroundings

    def node_hears(self, envelope: Envelope) -> None:
        if self.node_gone:
            return
        said = envelope.message
        if envelope.sender.actor == SERVER:
            if isinstance(said, Done) and self.judge.holder.get(said.task) == envelope.sender.epoch:
                self.judge.reported[said.task] = said.outcome
            elif isinstance(said, Recalled):
                for id in said.tasks:
                    if self.judge.holder.get(id) == envelope.sender.epoch:
                        del self.judge.holder[id]
            elif isinstance(said, ServerReady):
                self.epochs.append(envelope.sender.epoch)
        self.node.receive(envelope, self.now)

    def carry_out(self) -> None:
        if self.node_gone:
            return
        for effect in self.node.drain():
            if isinstance(effect, Send):
                self.deliver(effect.envelope)
            elif isinstance(effect, StartZygote):
                self.zygote += 1
                self.later(0.01, self.end_of_setup(self.zygote))
            elif isinstance(effect, StartServer):
                self.start_server(effect.number)
            elif isinstance(effect, KillServer):
                server = self.places.get(effect.number)
                if server is not None:
                    self.later(0.001, partial(server.die, "killed by SIGKILL (9)"))
            elif isinstance(effect, Look):
                self.node.looked(effect.server, self.places[effect.server].step, self.now)
            elif isinstance(effect, EndStep):
                self.later(0.001, partial(self.end_step, self.places[effect.server], effect.step))
            elif isinstance(effect, CloseZygote):
                assert all(not server.alive for server in self.places.values()), (
                    "the zygote was closed too early"
                )
                self.zygote_closed = True
            elif isinstance(effect, ForgetPeer):
                self.forgotten.append(effect.epoch)
            else:
                assert isinstance(effect, Log), effect

    def end_step(self, server: FakeServer, step: Step) -> None:
        if server.alive:
            killed = server.step == step
            assert not killed or step.position in server.asked_to_end, "killed for a task that may go on"
            self.node.judged(server.number, server.pid, killed, self.now)
            if killed:
                server.die("killed by SIGKILL (9)")

    def end_of_setup(self, zygote: int) -> Callable[[], None]:
        def ready() -> None:
            if self.zygote == zygote and not self.zygote_closed:
                if self.random.random() < 0.05:
                    self.node.zygote_failed("node_setup raised ValueError", self.now)
                else:
                    self.node.zygote_ready(self.now)
                    if self.random.random() < 0.05:
                        self.later(self.random.random(), lambda: self.lose_zygote(zygote))

        return ready

    def lose_zygote(self, zygote: int) -> None:
        if self.zygote != zygote or self.zygote_closed:
            return
        self.zygote += 1  # nothing more from this one
        self.zygote_lost = True
        last = self.now
        told = self.random.random() < 0.7
        for server in self.places.values():
            server.die("killed by SIGKILL (9)", tell=told)
            last = max(last, self.arrived.get((server.address, THE_NODE), 0.0))
        patience = self.random.choice((0.0, 0.3, 1.5)) if told else 0.0
        self.later(last - self.now + patience, self.zygote_is_gone)

    def zygote_is_gone(self) -> None:
        self.zygote_lost = False
        if not self.zygote_closed:
            for server in self.places.values():
                server.alive = False
            self.node.zygote_failed("killed by SIGKILL (9)", self.now)

    def start_server(self, number: int) -> None:
        old = self.places.get(number)
        assert old is None or not old.alive, f"server {number} was started twice"
        server = FakeServer(self, number, next(self.pids))
        self.places[number] = server
        chance = self.random.random() * self.luck
        if chance < 0.05 or self.zygote_lost:
            server.alive = False
            self.later(0.001, lambda: self.node.server_failed_to_start(number, "cannot fork", self.now))
        elif chance < 0.15:
            self.later(0.002, lambda: server.die("exited with code 1"))
        else:
            self.later(0.003, server.begin)
            if chance < 0.3:
                self.later(self.random.random(), lambda: server.die("killed by SIGKILL (9)"))

    def report_exit(self, server: FakeServer, death: str) -> None:
        self.node.server_exited(server.number, server.pid, death, False, self.now, server.marks)

    def server_outcome(self, server: FakeServer, id: TaskId) -> None:
        """To the client, unless the server dies with it still in its buffers."""

        def arrive() -> None:
            if server.alive or self.random.random() < 0.5:
                self.client_hears(id)

        self.on_the_way(server.address, THE_CLIENT, arrive)

    def deliver(self, envelope: Envelope) -> None:
        to, said = envelope.to, envelope.message
        if to.actor == SERVER:
            server = next((s for s in self.places.values() if s.address == to), None)
            if isinstance(said, Run):
                self.judge.on_given(said.task, to.epoch)
            if server is not None:
                self.on_the_way(THE_NODE, to, lambda: server.receive(said))
        elif to == THE_CLIENT:
            assert not self.client_gone, f"{said} goes to a client that is gone"
            if isinstance(said, Outcome):
                self.judge.on_spoken(said)
                self.on_the_way(THE_NODE, to, partial(self.client_hears_node, said.task))
        else:
            assert to == THE_SCHEDULER, to
            self.scheduler_hears(said)

    # --- scheduler and client

    def open(self) -> None:
        self.to_node(THE_SCHEDULER, Open(LEASE, INFO, 3, 50.0))
        for id in self.plans:
            self.later(0.02 + self.random.choice((0.0, 0.01, 0.3)), partial(self.give, id))
            if self.random.random() < 0.12:
                self.later(0.02 + self.random.random(), partial(self.to_node, THE_SCHEDULER, Terminate(id)))
        for _ in range(self.random.randint(0, 3)):
            self.later(self.random.random() / 2, lambda: self.to_node(THE_SCHEDULER, Recall(3)))
        if self.random.random() < 0.15:
            self.later(self.random.random(), self.close)
        elif self.random.random() < 0.1:
            self.later(self.random.random(), self.lose_client)
        elif self.random.random() < 0.15:
            self.later(self.random.random() * 1.5, self.lose_node)
        self.later(1.5, self.close_when_done)

    def give(self, id: TaskId) -> None:
        if self.closing or len(self.given_up) == self.servers:
            return
        plan = self.plans[id]
        server = self.random.choice([0, *self.up]) if plan.named else 0
        self.judge.given.add(id)
        self.to_node(THE_SCHEDULER, Run(id, "compute", plan.io, server, fast=plan.fast))

    def scheduler_hears(self, said: object) -> None:
        if isinstance(said, Done):
            self.judge.on_done(said)
        elif isinstance(said, Recalled):
            for id in said.tasks:
                self.judge.on_recalled(id)
                self.later(0.05, partial(self.give, id))
        elif isinstance(said, ServerUp):
            self.up[said.spot.epoch] = said.pid
            self.given_up.discard(said.spot.name)
        elif isinstance(said, ServerDown):
            assert (said.spot.epoch == 0) or said.spot.epoch in self.epochs, (
                "a server went down that never was"
            )
            self.up.pop(said.spot.epoch, None)
            if not said.restarting and not said.expected:
                self.given_up.add(said.spot.name)
                if len(self.given_up) == self.servers:
                    self.later(1.0, self.close_if_hopeless)
        elif isinstance(said, Closed):
            assert not self.closed, "Closed twice"
            assert self.zygote_closed, "Closed before the zygote"
            self.closed = True

    def client_hears(self, id: TaskId) -> None:
        self.judge.heard.add(id)
        self.unacked.append(id)
        if len(self.unacked) == 1:
            self.later(self.random.choice((0.0, 0.02, 0.4)), self.ack)

    def client_hears_node(self, id: TaskId) -> None:
        if (
            not self.node_gone or self.random.random() < 0.5
        ):  # else it was still in the buffers of a dead process
            self.client_hears(id)

    def ack(self) -> None:
        ids, self.unacked = self.unacked, []
        if not self.client_gone:
            self.on_the_way(THE_CLIENT, THE_SCHEDULER, partial(self.scheduler_hears_ack, ids))

    def scheduler_hears_ack(self, ids: list[TaskId]) -> None:
        """It may come before the node's Done; the node gets it all the same."""
        self.judge.confirmed.update(ids)
        self.to_node(THE_SCHEDULER, OutcomeAck(ids))

    def lose_client(self) -> None:
        if not self.closed and not self.closing:
            self.carry_out()
            self.closing = self.client_gone = True
            self.node.peer_reset(CLIENT_EPOCH, [], self.now)

    def lose_node(self) -> None:
        """It dies with its servers; after a while the scheduler knows, and speaks for what it knows of."""
        if self.closed or self.closing:
            return
        self.closing = self.node_gone = True
        for server in self.places.values():
            server.die("killed with its node", tell=False)
        self.later(self.random.choice((0.0, 0.3, 10.0)), self.speak_for_node)

    def speak_for_node(self) -> None:
        for id in self.judge.unheard():
            self.client_hears(id)

    def close_when_done(self) -> None:
        """The scheduler waits for all tasks, then closes; by then all was confirmed, so nothing is kept."""
        tenancy = self.node.tenancy
        if self.closing or self.closed:
            return
        left = self.plans.keys() - self.judge.ended.keys()
        if any(self.plans[id].seconds == ENDLESS for id in left) and self.now > 20:
            self.close()
            return
        if left or self.unacked or self.judge.heard != self.judge.ended.keys():
            assert self.now < 200, f"never done: {left}"
            self.later(0.5, self.close_when_done)
            return
        if max(self.arrived.values()) >= self.now:
            self.later(0.1, self.close_when_done)
            return
        assert tenancy is not None
        assert not tenancy.feeding.tasks, "tasks are left though all have ended"
        assert len(tenancy.outcomes) == 0, "outcomes are kept though all were confirmed"
        self.close()

    def close_if_hopeless(self) -> None:
        if not self.closing and len(self.given_up) == self.servers:
            assert not self.judge.given, f"{self.judge.given} wait for servers that will never come"
            self.close()

    def close(self) -> None:
        if not self.closing:
            self.closing = True
            self.to_node(THE_SCHEDULER, Close(LEASE, terminate=self.random.random() < 0.5))

    def check_end(self) -> None:
        judge = self.judge
        if self.node_gone:
            unheard = (judge.given | judge.ended.keys()) - judge.heard
            assert not unheard, f"the client never hears of {unheard}, which died with the node"
            return
        assert not judge.given, f"no end was told of {judge.given}"
        assert all(not server.alive for server in self.places.values()), "servers outlive their lease"
        assert sorted(self.forgotten) == sorted(self.epochs), "sessions of dead servers are kept"
        assert self.node.tenancy is None and self.node.deadline() is None
        if not self.client_gone:
            unheard = judge.ended.keys() - judge.heard
            assert not unheard, f"the client never hears of {unheard}"
