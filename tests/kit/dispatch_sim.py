"""One schedule of faults for the client's dispatcher, from a seed: what it decides is compared with what really happened.

A client submits, ends tasks, computes and is stopped; servers die, drain and lose their sessions; links are cut, nodes come,
are suspended, fall silent, close and die. Then everything heals, and each task must have its one true outcome.
"""

from __future__ import annotations

from collections import deque
from random import Random
from typing import Any, Final, cast

from dispycos.actors.dispatching.dispatch import Dispatcher
from dispycos.actors.dispatching.facts import Entry
from dispycos.actors.dispatching.learning import FUNCTIONS_MAX
from dispycos.protocol.status import OutcomeKind

from .dispatch_referee import LOOK_S, Referee
from .dispatch_told import Again, Ended, Kill, Listener, Recall, Runs, Terminate
from .dispatch_world import Book, Plan, SimNode, SimServer, Word, World

TROUBLE_S: Final = 2.0
REST_S: Final = 150.0  # after which all has ended, when nothing is in the way; the longest stop is 90
RICH: Final = (("gpu", 4), ("licence", 2))  # enough for all of ...
NEEDS: Final = ((("gpu", 1),), (("gpu", 1),), (("gpu", 2),), (("gpu", 1), ("licence", 1)))
RAN: Final = (OutcomeKind.RETURNED, OutcomeKind.RAISED)
UNSTARTED: Final = (OutcomeKind.CANCELLED, OutcomeKind.REFUSED)


class Task(Entry, eq=False, kw_only=True):
    """An entry, its plan, and how it ended as its client was told."""

    plan: Plan
    outcomes: list[tuple[OutcomeKind, str]] = []


class Client:
    """The body of a dispatcher: a turn for what arrived, unless it computes or is stopped."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.told = Listener()
        self.dispatcher = Dispatcher(self.told)
        self.referee = Referee(world)
        self.tasks: dict[int, Task] = {}
        self.nodes: dict[int, SimNode] = {}
        self.inbox: deque[Word] = deque()
        self.away_until = 0.0
        self.unreadable: set[int] = set()  # servers whose pages nobody could read
        self.lost_at: dict[tuple[int, int], int] = {}  # attempts, by the server that they were lost with
        self._turn_at: float | None = None
        self.unended = 0

    def hear(self, word: Word) -> None:
        self.inbox.append(word)
        self.turn_at(self.world.now)

    def turn_at(self, when: float) -> None:
        when = max(when, self.away_until, self.world.now)
        if self._turn_at is None or when < self._turn_at:
            self._turn_at = when
            self.world.at(when, self._turn, when)

    def _turn(self, when: float) -> None:
        if self._turn_at != when:
            return  # there was one before
        self._turn_at = None
        now = self.world.now
        if now < self.away_until:
            self.turn_at(self.away_until)
            return
        dispatcher = self.dispatcher
        while self.inbox:
            kind, *rest = self.inbox.popleft()
            self.world.note(f"client hears {kind} {rest}")
            getattr(self, f"on_{kind}", self._on_fact)(*rest, kind=kind)
        due = dispatcher.deadline()
        if due is not None and due <= now:
            dispatcher.wake(now)
        dispatcher.place(now)
        told = self.told.drain()
        for word in told:
            self._carry_out(word)
        if self.world.steps % 4 == 0:  # it looks at all there is
            dispatcher.check()
        due = dispatcher.deadline()
        self.referee.judge(told, due == 0.0)
        if due is not None:
            self.turn_at(due)

    # --- words

    def _on_fact(self, *rest: Any, kind: str) -> None:
        dispatcher, referee, now = self.dispatcher, self.referee, self.world.now
        referee.hear(kind, *rest)
        if kind == "returned":
            epoch, positions, draining = rest
            had = [t for t in self.tasks.values() if t.at is not None and t.at.epoch == epoch]
            dispatcher.returned(epoch, positions, draining=draining)
            self._again(had)
        elif kind in ("server_lost", "node_lost"):
            had = [
                t
                for t in self.tasks.values()
                if t.at is not None and rest[0] in (t.at.epoch, t.at.node.epoch)
            ]
            self.lost_at.update({(t.plan.number, t.attempt): t.at.epoch for t in had if t.at is not None})
            getattr(dispatcher, kind)(*rest)
            self._again(had)
        elif kind == "node_opened":
            dispatcher.node_opened(rest[0], rest[1] == "OPEN")
        elif kind == "node_silent":
            dispatcher.node_silent(rest[0], now)
        elif kind == "server_up":
            if rest[2] in dispatcher.fleet.nodes:
                dispatcher.server_up(*rest)
        else:
            getattr(dispatcher, kind)(*rest)

    def _again(self, tasks: list[Task]) -> None:
        for task in tasks:
            self.referee.again(task)

    def on_placed(self, epoch: int, number: int, attempt: int, *, kind: str) -> None:
        task = self.tasks[number]
        if task.at is not None and (task.attempt, task.at.epoch) == (attempt, epoch):
            self.dispatcher.placed(task, epoch, self.world.now, started=kind == "started")
            self.referee.placed(task)

    on_started = on_placed

    def on_outcome(
        self,
        epoch: int,
        number: int,
        attempt: int,
        how: OutcomeKind,
        seconds: float,
        started: bool,
        *,
        kind: str,
    ) -> None:
        task = self.tasks[number]
        self.referee.ended_at(epoch, task, seconds, how in RAN)
        if self.dispatcher.outcome(task, epoch, how, seconds, self.world.now, started=started):
            self._ended(task, how, "its server said so")

    def _carry_out(self, effect: object) -> None:
        world = self.world
        if isinstance(effect, Runs):
            server = self._server(effect.server.epoch)
            world.note(
                f"client gives {effect.server.name} {[(cast(Any, e).plan.number, e.position) for e in effect.entries]}"
            )
            for entry in effect.entries:
                assert isinstance(entry, Task)
                if server is not None:
                    server.link.say(server.hear, ("run", entry.plan, entry.attempt, entry.position))
        elif isinstance(effect, Recall):
            world.note(f"client recalls from {effect.server.name} behind {effect.after}")
            server = self._server(effect.server.epoch)
            if server is not None:
                server.link.say(server.hear, ("recall", effect.after))
        elif isinstance(effect, Terminate):
            assert isinstance(effect.entry, Task)
            server = self._server(effect.server.epoch)
            if server is not None:
                server.link.say(server.hear, ("terminate", effect.entry.plan.number, effect.entry.attempt))
        elif isinstance(effect, Kill):
            node = self.nodes[effect.server.node.epoch]
            node.link.say(node.hear, ("kill", effect.server.epoch))
        elif isinstance(effect, Ended):
            assert isinstance(effect.entry, Task)
            self._ended(effect.entry, effect.kind, effect.text)
        else:
            assert isinstance(effect, Again) and isinstance(effect.entry, Task)
            world.note(f"task {effect.entry.plan.number} is tried again")

    def _server(self, epoch: int) -> SimServer | None:
        """None: it is dead, and what is sent there is lost."""
        node = self.nodes.get(epoch // 1000)
        return node.servers.get(epoch) if node is not None else None

    def _ended(self, task: Task, how: OutcomeKind, text: str) -> None:
        self.world.note(f"task {task.plan.number} is {how.name}: {text}")
        self.unended -= 1
        task.outcomes.append((how, text))
        if len(task.outcomes) > 1:
            self.world.wrong(f"task {task.plan.number} has two outcomes: {task.outcomes}")

    # --- the user

    def submit(self, plan: Plan, **wishes: Any) -> Task:
        task = self.tasks[plan.number] = Task(plan.function, io=plan.io, plan=plan, **wishes)
        self.unended += 1
        self.dispatcher.submit(task)
        self.referee.submitted(task)
        self.turn_at(self.world.now)
        return task

    def terminate(self, task: Task) -> None:
        self.world.note(f"user terminates {task.plan.number}")
        self.dispatcher.terminate(task, self.world.now)
        self.turn_at(self.world.now)


class Schedule:
    """All of one seed."""

    def __init__(self, seed: int, *, keeps_diary: bool = False) -> None:
        self.world = World(seed, keeps_diary=keeps_diary)
        self.dice = self.world.dice
        self.more_dice = Random(seed)
        self.book = Book(self.world)
        self.client = Client(self.world)
        self.delay = self.dice.choice((0.0001, 0.0001, 0.0005, 0.02))
        self.is_violent = self.dice.random() < 0.8
        self._numbers = 0
        self._nodes = 0
        for _ in range(self.dice.choice((1, 1, 2, 3))):
            self._add_node()

    def _add_node(self, *, rich: bool = False) -> None:
        self._nodes += 1
        delay = self.delay * self.dice.choice((1, 1, 3))
        slots = self.dice.choice((1, 2, 2, 3, 4))
        self.client.nodes[self._nodes] = SimNode(
            self.world, self.book, self.client, self._nodes, slots, delay, RICH if rich else self._resources()
        )

    def _resources(self) -> tuple[tuple[str, int], ...]:
        """By another dice, so that the rest of a seed's schedule is what it was."""
        gpus, licences = self.more_dice.choice((0, 1, 2, 4)), self.more_dice.choice((0, 0, 1))
        return tuple((name, count) for name, count in (("gpu", gpus), ("licence", licences)) if count)

    def play(self) -> list[str]:
        """Runs all of it; what went wrong, in words."""
        world = self.world
        try:
            self._plan_all()
            world.run(1.0 + TROUBLE_S, lambda: False)
            self._heal()
            world.run(world.now + REST_S, lambda: not self.client.unended)
            if not world.faults:
                self._judge()
        except AssertionError as error:
            world.wrong(f"it does not hold: {error}")
        return world.faults

    def _plan_all(self) -> None:
        world, dice = self.world, self.dice
        if dice.random() < 0.3:
            self._batch()  # before any server is there
        for _ in range(dice.choice((1, 2, 3, 4))):
            world.after(0.07 + dice.random() * TROUBLE_S * 0.8, self._batch)
        for _ in range(dice.choice((0, 1, 2, 4, 6)) if self.is_violent else 0):
            world.after(dice.random() * TROUBLE_S, self._trouble)
        for _ in range(dice.choice((0, 0, 1, 3))):
            world.after(dice.random() * TROUBLE_S, self._end_some)
        if dice.random() < 0.01:
            world.after(dice.random(), self._many_functions)
        world.after(LOOK_S, self._tick)

    def _tick(self) -> None:
        """A client that does nothing looks whether it should have."""
        client = self.client
        if self.world.now >= client.away_until and not client.inbox:
            client.referee.look()
        if client.unended:
            self.world.after(LOOK_S, self._tick)

    # --- tasks

    def _batch(self) -> None:
        dice = self.dice
        functions = dice.choice(
            (
                ("tiny",),
                ("tiny", "quick"),
                ("mid",),
                ("slow",),
                ("io",),
                ("tiny", "io"),
                ("tiny", "quick", "mid", "slow", "io", "odd"),
            )
        )
        size = dice.choice((0, 100, 100, 100, 300_000, 2_000_000))
        retries = dice.choice((0, 0, 1, 1, 2))
        is_named = dice.random() < 0.3
        is_waited = dice.random() < 0.2
        is_needy = self.more_dice.random() < 0.3
        for _ in range(dice.choice((1, 2, 5, 20, 60, 150) if functions == ("tiny",) else (1, 2, 5, 10, 25))):
            wishes: dict[str, Any] = {"size": size, "retries": retries}
            if is_named and dice.random() < 0.5:
                self._name(wishes)
            if is_waited and dice.random() < 0.5:
                wishes["alone"] = True
            wishes["needs"] = (
                self.more_dice.choice(NEEDS) if is_needy and self.more_dice.random() < 0.7 else ()
            )
            self.client.submit(self._new_plan(dice.choice(functions)), **wishes)

    def _name(self, wishes: dict[str, Any]) -> None:
        servers = list(self.client.dispatcher.fleet.servers)
        if servers and self.dice.random() < 0.5:
            wishes["server"] = self.dice.choice(servers)
        else:
            wishes["node"] = self.dice.choice(("everywhere", "node1", "node2", "nowhere"))

    def _new_plan(self, function: str) -> Plan:
        dice = self.dice
        self._numbers += 1
        plan = Plan(self._numbers, function)
        if function == "tiny":
            plan.step = dice.choice((0.0, 0.0001, 0.0003))
        elif function == "quick":
            plan.step = dice.choice((0.001, 0.002))
        elif function == "mid":
            plan.step = 0.015 + dice.random() * 0.01
        elif function == "slow":
            plan.step = 0.1 + dice.random() * 0.2
        elif function == "io":
            plan.io, plan.nap = True, dice.random() * 0.3
            plan.step = dice.choice((0.0, 0.0, 0.0, 0.2))
        else:
            plan.nap = dice.random() * 0.1
        if not plan.io and dice.random() < 0.02:
            plan.step += 0.3  # it takes longer than ever
        plan.raises = dice.random() < 0.1
        if self.is_violent:
            plan.keeps_gil = dice.random() < 0.05
            plan.poison = dice.random() < 0.01
        plan.deaf = dice.random() < 0.03
        return plan

    def _many_functions(self) -> None:
        for _ in range(FUNCTIONS_MAX + 50):
            self._numbers += 1
            self.client.terminate(self.client.submit(Plan(self._numbers, f"lambda {self._numbers}")))
        self.client.referee.judge_learners(len(self.client.dispatcher.learners))

    def _end_some(self) -> None:
        tasks = [task for task in self.client.tasks.values() if not task.over]
        for task in self.dice.sample(tasks, min(len(tasks), self.dice.choice((1, 3, 10)))):
            self.client.terminate(task)

    # --- trouble

    def _trouble(self) -> None:
        dice = self.dice
        gentle = (self._cut, self._compute, self._suspend, self._compute)
        harsh = (self._kill_server, self._kill_server, self._kill_server, self._reset, self._silence)
        rare = (self._drain_node, self._kill_node, self._stop, self._drain_server, self._join)
        dice.choice(dice.choice((gentle, harsh, harsh, rare)))()

    def _some_server(self) -> SimServer | None:
        servers = [s for node in self.client.nodes.values() for s in node.servers.values()]
        return self.dice.choice(servers) if servers else None

    def _some_node(self) -> SimNode | None:
        nodes = [node for node in self.client.nodes.values() if node.is_alive and not node.is_closing]
        return self.dice.choice(nodes) if nodes else None

    def _cut(self) -> None:
        server = self._some_server()
        if server is not None:
            self.world.note(f"CUT {server.name}")
            server.link.cut_until = self.world.now + self.dice.choice((0.02, 0.2, 1.0))

    def _compute(self) -> None:
        """The client keeps its interpreter."""
        self.client.away_until = self.world.now + self.dice.choice((0.03, 0.2, 1.0))

    def _stop(self) -> None:
        self.world.note("STOP client")
        self.client.away_until = self.world.now + 90.0

    def _join(self) -> None:
        if self._nodes < 5:
            self._add_node()

    def _suspend(self) -> None:
        node = self._some_node()
        if node is not None:
            servers = list(node.servers.values())
            if servers and int(self.world.now * 1e6) % 2:
                self.world.note(f"SUSPEND {servers[0].name}")
                node.say("server_opened", servers[0].epoch, False)
                self.world.after(self.dice.random() * 0.5, self._resume_server, node, servers[0].epoch)
                return
            self.world.note(f"SUSPEND {node.name}")
            node.say("node_opened", node.epoch, "SUSPENDED")
            self.world.after(self.dice.random() * 0.5, self._resume, node)

    def _resume(self, node: SimNode) -> None:
        if node.is_alive and not node.is_closing:
            node.say("node_opened", node.epoch, "OPEN")

    def _resume_server(self, node: SimNode, epoch: int) -> None:
        if node.is_alive:
            node.say("server_opened", epoch, True)

    def _kill_server(self) -> None:
        server = self._some_server()
        if server is not None:
            server.die("was killed by SIGKILL (9)")

    def _drain_server(self) -> None:
        server = self._some_server()
        if server is not None:
            self.world.note(f"DRAIN {server.name}")
            server.hear(("drain",))

    def _reset(self) -> None:
        """A session is lost with all that was under way; its client hears of it at once."""
        server = self._some_server()
        if server is not None:
            self.world.note(f"RESET {server.name}")
            server.link.lose()
            self.client.hear(("session_reset", server.epoch))

    def _silence(self) -> None:
        node = self._some_node()
        if node is None:
            return
        self.world.note(f"SILENCE {node.name}")
        until = self.world.now + self.dice.choice((0.3, 1.0, 15.0))
        for link in (node.link, *(server.link for server in node.servers.values())):
            link.cut_until = until
        self.client.hear(("node_silent", node.epoch))
        self.world.at(until, self._heard, node)

    def _heard(self, node: SimNode) -> None:
        if node.is_alive:
            node.say("node_heard", node.epoch)

    def _drain_node(self) -> None:
        node = self._some_node()
        if node is not None:
            node.drain()

    def _kill_node(self) -> None:
        node = self._some_node()
        if node is not None:
            node.die()

    def _heal(self) -> None:
        """The longest cut and stop come to an end by themselves. Somebody is there in the end."""
        if not any(node.is_alive and not node.is_closing for node in self.client.nodes.values()):
            self._add_node()
        for task in self.client.tasks.values():
            if task.needs and (task.node or task.server) and not task.over:
                self.client.terminate(task)  # the node that it names may never have so much
        if any(task.needs and not task.over for task in self.client.tasks.values()):
            self._add_node(rich=True)

    # --- what came of it

    def _judge(self) -> None:
        for task in self.client.tasks.values():
            self._judge_task(task, task.plan)

    def _judge_task(self, task: Task, plan: Plan) -> None:
        wrong, book = self.world.wrong, self.book
        where = f"task {plan.number}.{task.attempt} ({plan.function})"
        if not task.outcomes:
            wrong(f"{where} has no outcome; it is {'at ' + task.at.name if task.at else 'waiting'}")
            return
        kind, text = task.outcomes[0]
        last = (plan.number, task.attempt)
        if book.counts.get(plan.number, 0) > 1 + task.retries:
            wrong(f"{where} started {book.counts[plan.number]} times, and had {task.retries} retries")
        if kind in UNSTARTED and last in book.starts:
            wrong(f"{where} had started, but is {kind.name}: {text}")
        if kind in RAN and book.ends.get(last) is not kind:
            wrong(f"{where} is {kind.name}, but what it did is {book.ends.get(last)}")
        if kind is OutcomeKind.REFUSED and not (task.node or task.server):
            wrong(f"{where} was refused: {text}")
        if kind is OutcomeKind.TERMINATED and not task.terminated:
            wrong(f"{where} was terminated, and nobody wished it")
        if kind is OutcomeKind.LOST and last not in book.starts and not self._may_be_lost(task, text):
            wrong(f"{where} had not started, but is lost: {text}")
        if kind is OutcomeKind.LOST and task.attempt <= task.retries and not (task.terminated or task.server):
            wrong(f"{where} was not tried again: {text}")

    def _may_be_lost(self, task: Task, text: str) -> bool:
        """Nobody knew what had begun, or it had an address and its server's end took what was sent there."""
        server = self.client.lost_at.get((task.plan.number, task.attempt))
        return server in self.client.unreadable or task.placed or "silent" in text


def failures(count: int, first: int) -> list[str]:
    """What went wrong in so many schedules, with their seeds."""
    return [f"seed {seed}: {fault}" for seed in range(first, first + count) for fault in play(seed)]


def play(seed: int) -> list[str]:
    return Schedule(seed).play()


def story(seed: int) -> list[str]:
    """One schedule, line by line."""
    schedule = Schedule(seed, keeps_diary=True)
    schedule.play()
    assert schedule.world.diary is not None
    return schedule.world.diary
