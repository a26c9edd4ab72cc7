"""A node agent through a whole lease, moved by a seed, with servers and zygotes that die and stall; a judge knows what may not be.

The simulated cluster plays what a node and its servers say to others. Here are many more deaths and failures, of a node alone.
"""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Callable
from functools import partial
from itertools import count
from math import inf

from dispycos.actors.node.inquiries import ANSWER_S
from dispycos.actors.node.lease import (
    RESTARTS_MAX,
    CloseZygote,
    End,
    ForgetPeer,
    StartServer,
    StartZygote,
)
from dispycos.actors.node.processes.words import EndStep, KillServer
from dispycos.actors.tasks.step import KILL_AFTER, NO_STEP, Step
from dispycos.machine import Log, Send
from dispycos.protocol.addresses import SERVER, Address
from dispycos.protocol.envelope import Envelope
from dispycos.protocol.messages import (
    Close,
    Closed,
    Inventory,
    Kill,
    Marks,
    Message,
    NodeReport,
    Open,
    ServerDown,
    ServerLost,
    ServerReady,
    ServerTasks,
    ServerUp,
    Shutdown,
    TaskId,
    Terminate,
)

from .node import CLIENT_EPOCH, INFO, LEASE, SERVER_EPOCHS, THE_CLIENT, THE_NODE, THE_SCHEDULER, make_node

ASKER = Address(66, 20)
SIGKILL = "killed by SIGKILL (9)"


class FakeServer:
    """One process: it does one step after the other, and is deaf or not to what it is told."""

    def __init__(self, story: Story, number: int, pid: int) -> None:
        self.story, self.number, self.pid = story, number, pid
        self.address = Address(SERVER_EPOCHS + pid, SERVER)
        self.alive = True
        self.ready = self.up = False  # as the node, and the scheduler, have heard
        self.told = self.lost = self.buried = self.forgotten = (
            False  # its exit to the node, and what that said
        )
        self.ended_for_step = False
        self.told_to_end = ""  # "close" or "drain"
        self.shut_at = inf  # its tasks are told to end, all of them
        self.ask_times: dict[int, float] = {}  # by position: when the client asked the node for its end
        self.step, self.steps = NO_STEP, 0
        self.hangs = story.dice.random() < 0.2  # a step does not end before it is killed
        self.mute = story.dice.random() < 0.3  # it answers no questions

    def begin(self) -> None:
        if self.alive:
            self.story.to_node(self.address, ServerReady(self.number, self.pid))
            self.next_step()

    def next_step(self) -> None:
        if not self.alive:
            return
        if self.told_to_end:
            self.die("exited with code 0")
            return
        self.steps += 1
        self.step = Step(self.steps, int(self.story.now * 1e9))
        if not self.hangs or self.steps < 3:
            self.story.later(self.story.dice.choice((0.01, 0.3, 3.0, 5.2)), self.next_step)
        elif self.pid % 2:
            self.step = NO_STEP  # it hangs in what is no task's

    def receive(self, envelope: Envelope) -> None:
        said = envelope.message
        if not self.alive:
            return
        if isinstance(said, Shutdown):
            assert not (self.told_to_end == "close" and said.drain), "it drains though it was to end"
            self.told_to_end = "drain" if said.drain else "close"
        elif isinstance(said, Inventory):
            if not self.mute:
                self.story.to_node(self.address, ServerTasks([]), envelope.correlation)
        else:
            assert isinstance(said, Terminate), f"a server got {said}"

    def die(self, death: str) -> None:
        if self.alive:
            self.alive = False
            # The body has read all that it sent before it reports the exit.
            self.story.on_the_way(self.address, partial(self.story.report_exit, self, death))


class Story:
    """A node under a scheduler and a client; the first violation raises."""

    STEPS_MAX = 20_000

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.now = 0.0
        self.events: list[tuple[float, int, Callable[[], None]]] = []
        self.order = count()
        self.arrived: dict[Address, float] = {}  # the last arrival from each, which keeps order
        self.node = make_node(self.dice.randint(1, 3))
        self.node.step_of = self.step_of
        self.pids = count(1)
        self.places: dict[int, FakeServer] = {}
        self.servers: list[FakeServer] = []
        self.luck = self.dice.choice((0.2, 1.0, 1.0, 1.0))  # too little of it: no server gets ready
        self.zygote = 0  # the present one's number
        self.has_zygote = False
        self.restarting: set[str] = set()  # servers that are to come again, by what the scheduler was told
        self.in_row: Counter[str] = Counter()  # starts of servers that were never ready, under one zygote
        self.questions: dict[int, float] = {}  # unanswered, and when they were asked
        self.ending = self.finishing = self.closing = self.client_gone = False
        self.zygote_closed = self.closed = self.ended = False

    # --- time

    def later(self, delay: float, what: Callable[[], None]) -> None:
        heapq.heappush(self.events, (self.now + delay, next(self.order), what))

    def on_the_way(self, sender: Address, what: Callable[[], None]) -> None:
        at = max(self.now + self.dice.choice((0.0, 0.0005, 0.002)), self.arrived.get(sender, 0.0))
        self.arrived[sender] = at
        heapq.heappush(self.events, (at, next(self.order), what))

    def to_node(self, sender: Address, message: Message, correlation: int = 0) -> None:
        self.on_the_way(sender, partial(self.node_hears, Envelope(THE_NODE, sender, message, correlation)))

    def play(self) -> None:
        self.to_node(THE_SCHEDULER, Open(LEASE, INFO, 3, 50.0))
        for asked in sorted(self.dice.random() * 12 for _ in range(20)):
            self.later(
                0.02 + asked, self.dice.choice((self.ask, self.terminate, self.kill, self.lose_a_server))
            )
        if self.dice.random() < 0.5:
            self.later(self.dice.random() * 12, self.finish)
        self.later(self.dice.choice((0.01, 1.0, 14.0)) * self.dice.random(), self.end_of_lease)
        self.later(40.0, self.close_at_last)
        for _ in range(self.STEPS_MAX):
            deadline = self.node.deadline()
            at = self.events[0][0] if self.events else None
            if at is None and deadline is None:
                break
            if deadline is not None and (at is None or deadline <= at):
                self.now = max(self.now, deadline)
                self.node.wake(self.now)
                self.carry_out()
            else:
                assert at is not None
                self.now, _, what = heapq.heappop(self.events)
                what()
                soon = bool(self.events) and self.events[0][0] < self.now + 0.001
                if not soon or self.dice.random() < 0.7:  # else more comes before the node's turn ends
                    self.carry_out()
            self.node.check()
            self.check()
        else:
            raise AssertionError(f"no end after {self.STEPS_MAX} steps")
        self.carry_out()
        self.check_end()

    # --- what others do

    def living(self) -> list[FakeServer]:
        return [server for server in self.servers if server.alive and server.ready]

    def ask(self) -> None:
        number = next(self.order)
        self.questions[number] = self.now
        self.to_node(ASKER, Inventory(), number)

    def terminate(self) -> None:
        for server in self.living():
            position = server.steps + self.dice.choice((0, 0, 1, 7))
            word = Terminate(TaskId(CLIENT_EPOCH, position), server.address.epoch, position, "compute")
            self.to_node(THE_CLIENT, word)

    def kill(self) -> None:
        for server in self.living()[:1]:
            self.to_node(THE_CLIENT, Kill(server.address.epoch))

    def lose_a_server(self) -> None:
        if self.dice.random() < 0.3:
            self.lose_zygote()
        elif self.living():
            self.dice.choice(self.living()).die("killed by SIGSEGV (11)")

    def lose_zygote(self) -> None:
        """First the exits of its servers are told, mostly, then its own."""
        if not self.has_zygote:
            return
        self.has_zygote = False
        tell = self.dice.random() < 0.7
        for server in self.places.values():
            if tell:
                server.die(SIGKILL)
            server.alive = False
        last = max([self.now, *self.arrived.values()])
        self.later(
            last - self.now + self.dice.choice((0.0, 0.3, 1.5)), partial(self.zygote_gone, self.zygote)
        )

    def zygote_gone(self, number: int) -> None:
        if number == self.zygote and not self.zygote_closed:
            self.node.zygote_failed(SIGKILL, self.now)

    def finish(self) -> None:
        self.carry_out()
        self.ending = self.finishing = True
        self.node.finish(self.now, terminate=self.dice.random() < 0.3)

    def end_of_lease(self) -> None:
        dice = self.dice.random()
        if dice < 0.3:
            self.close()
        elif dice < 0.5 and self.node.granted is not None:
            self.carry_out()
            self.ending = self.closing = self.client_gone = True
            self.node.peer_reset(CLIENT_EPOCH, self.now, is_dead=True)

    def close_at_last(self) -> None:
        assert self.ending or not self.restarting, f"{self.restarting} were to come again"
        if self.finishing and not self.closing and not self.ended:
            waits_for = [server for server in self.servers if server.alive]
            assert waits_for, "it finishes, and nobody is there any more"
            assert all(server.told_to_end for server in waits_for), "it finishes, and did not say so"
        self.close()

    def close(self) -> None:
        if self.node.granted is not None:
            self.ending = self.closing = True
            self.to_node(THE_SCHEDULER, Close(LEASE))

    # --- the node's surroundings

    def node_hears(self, envelope: Envelope) -> None:
        said = envelope.message
        if isinstance(said, ServerReady):
            server = self.by(envelope.sender.epoch)
            server.ready = True
            self.in_row.clear()
        elif isinstance(said, Terminate) and not self.closed:
            server = self.by(said.server)
            server.ask_times.setdefault(said.position, self.now)
        self.node.receive(envelope, self.now)

    def by(self, epoch: int) -> FakeServer:
        return next(server for server in self.servers if server.address.epoch == epoch)

    def carry_out(self) -> None:
        for effect in self.node.drain():
            self.do(effect)

    def do(self, effect: object) -> None:
        if isinstance(effect, Send):
            self.deliver(effect.envelope)
        elif isinstance(effect, StartZygote):
            assert not self.has_zygote and not self.zygote_closed, "a second zygote"
            assert not self.finishing, "a zygote at a node that finishes"
            self.zygote += 1
            self.in_row.clear()
            self.later(0.01, partial(self.end_of_setup, self.zygote))
        elif isinstance(effect, StartServer):
            self.start_server(effect.number)
        elif isinstance(effect, KillServer):
            if effect.number in self.places:
                self.later(0.001, partial(self.places[effect.number].die, SIGKILL))
        elif isinstance(effect, EndStep):
            self.later(
                self.dice.choice((0.001, 0.3)),
                partial(self.end_step, self.places[effect.number], effect.step),
            )
        elif isinstance(effect, CloseZygote):
            assert all(not server.alive for server in self.servers), "the zygote was closed too early"
            self.zygote_closed, self.has_zygote = True, False
        elif isinstance(effect, ForgetPeer):
            server = self.by(effect.epoch)
            assert server.lost or self.client_gone, "its session goes before its last word"
            server.forgotten = True
        elif isinstance(effect, End):
            assert self.finishing and not self.ended and self.node.granted is None
            self.ended = True
        else:
            assert isinstance(effect, Log), effect

    def end_of_setup(self, number: int) -> None:
        if number != self.zygote or self.zygote_closed:
            return
        if self.dice.random() < 0.1:
            self.node.zygote_failed("node_setup raised ValueError", self.now)
        else:
            self.has_zygote = True
            self.node.zygote_ready(self.now)

    def step_of(self, number: int) -> Step:
        """Its page can be read until its end was told."""
        server = self.places[number]
        assert not server.told
        return server.step

    def start_server(self, number: int) -> None:
        name = f"box/server-{number}"
        assert not self.finishing, f"{name} is started at a node that finishes"
        old = self.places.get(number)
        assert old is None or not old.alive, f"{name} was started twice"
        server = FakeServer(self, number, next(self.pids))
        self.places[number] = server
        self.servers.append(server)
        self.restarting.discard(name)
        self.in_row[name] += 1
        assert self.in_row[name] <= RESTARTS_MAX + 1, f"{name} is started for ever"
        chance = self.dice.random() * self.luck
        if chance < 0.1 or not self.has_zygote:
            server.alive = False
            text = "cannot fork" if self.has_zygote else "its zygote has ended"
            later = self.dice.choice((0.001, 0.4)) if self.has_zygote else 0.001
            self.later(later, partial(self.not_started, number, self.zygote, text))
        elif chance < 0.2:
            self.later(0.002, lambda: server.die("exited with code 1"))
        else:
            self.later(self.dice.choice((0.003, 0.5)), server.begin)

    def not_started(self, number: int, zygote: int, text: str) -> None:
        if zygote == self.zygote:  # else the end of its zygote was told after it
            self.node.server_failed_to_start(number, text, self.now)

    def end_step(self, server: FakeServer, step: Step) -> None:
        if not server.alive:
            return
        if server.step == step:
            asked_at = min(server.ask_times.get(step.position, inf), server.shut_at)
            assert self.now >= max(asked_at, step.since / 1e9) + KILL_AFTER, "it had not had its 5 s"
            server.ended_for_step = True
            server.die(SIGKILL)

    def report_exit(self, server: FakeServer, death: str) -> None:
        server.told = True
        marks = Marks(server.steps, 0)
        self.node.server_exited(server.number, death, marks, self.now, for_step=server.ended_for_step)

    def deliver(self, envelope: Envelope) -> None:
        to, said = envelope.to, envelope.message
        if to.actor == SERVER:
            server = self.by(to.epoch)
            assert not server.forgotten, f"{said} goes to the dead"
            if isinstance(said, Shutdown) and not said.drain:
                server.shut_at = min(server.shut_at, self.now)
            self.on_the_way(THE_NODE, partial(server.receive, envelope))
        elif to == THE_CLIENT:
            assert not self.client_gone, f"{said} goes to a client that is gone"
            if isinstance(said, ServerLost):
                server = self.by(said.server)
                blamed = said.text.endswith("compute did not end within 5 s of its KeyboardInterrupt")
                assert server.ended_for_step or not blamed, f"{said} blames wrongly"
                alone = server.ended_for_step and server.shut_at == inf
                assert blamed or not alone, f"{said} blames nobody"
                assert server.ready and not server.lost and not server.alive, f"{said} is said wrongly"
                assert said.marks in (None, Marks(server.steps, 0)), f"{said} knows its page wrongly"
                server.lost = True
        elif to == ASKER:
            assert isinstance(said, NodeReport)
            del self.questions[envelope.correlation]  # no second answer
            epochs = {report.spot.epoch for report in said.servers}
            assert epochs <= {server.address.epoch for server in self.servers if server.ready}
        else:
            assert to == THE_SCHEDULER
            if self.closed:
                assert isinstance(said, Closed) and said.reason == "this node does not hold it", (
                    f"{said} after the end"
                )
            else:
                self.scheduler_hears(said)

    def scheduler_hears(self, said: Message) -> None:
        if isinstance(said, ServerUp):
            server = self.by(said.spot.epoch)
            assert server.ready and not server.up, "up twice"
            server.up = True
            assert not self.finishing, "it offers a server, and drains"
        elif isinstance(said, ServerDown):
            name = said.spot.name
            assert not said.restarting or not self.finishing, f"{name} will not come again"
            assert said.spot.epoch == 0 or self.by(said.spot.epoch).ready, "down, and never was"
            if said.spot.epoch:
                self.by(said.spot.epoch).buried = True
            if said.restarting:
                self.restarting.add(name)
            else:
                self.restarting.discard(name)
        elif isinstance(said, Closed):
            assert self.zygote_closed, "Closed before the zygote"
            self.closed = True
            assert said.last == self.finishing

    # --- what must hold

    def check(self) -> None:
        for asked in self.questions.values():
            assert self.now <= asked + 3 * ANSWER_S, "a question is not answered"
        for server in self.servers:
            if server.told_to_end == "close" and server.alive:
                assert self.now <= 60, f"server {server.number} outlives its lease"

    def check_end(self) -> None:
        assert self.closed and self.zygote_closed and self.node.granted is None, "the lease has not ended"
        assert self.ended == self.finishing, "the node was to end"
        assert not self.questions, f"questions without an answer: {self.questions}"
        for server in self.servers:
            assert not server.alive, "servers outlive their lease"
            assert server.buried == server.forgotten == server.ready, (
                f"{server.address}: what was said of its end"
            )
            assert server.lost == server.ready or self.client_gone, f"the client waits for {server.address}"
