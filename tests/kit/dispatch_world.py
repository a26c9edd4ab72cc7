"""What the dispatcher is played against, in virtual time: links, servers, nodes, and the book of what really happened.

A server does what a real one does as far as its client can tell: one CPU task at a time in the order given, io tasks beside,
words of a batch leave late or die with it, and while a step keeps the thread another one reads within 20 ms, unless
the step keeps the interpreter too.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Final

from dispycos.protocol.status import OutcomeKind

RELIEF_S: Final = 0.02
KILL_AFTER_S: Final = 5.0
TORN: Final = 1 << 63  # a mark that nobody wrote
FETCH_S: Final = 0.0005  # between two short tasks

Word = tuple[Any, ...]


class World:
    """Virtual time, dice, and faults in words."""

    def __init__(self, seed: int, *, keeps_diary: bool = False) -> None:
        self.dice = random.Random(seed)
        self.now = 1.0
        self.faults: list[str] = []
        self.diary: list[str] | None = [] if keeps_diary else None
        self.steps = 0
        self._order = count()
        self._due: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []

    def at(self, when: float, call: Callable[..., None], *args: Any) -> None:
        heapq.heappush(self._due, (when, next(self._order), call, args))

    def after(self, seconds: float, call: Callable[..., None], *args: Any) -> None:
        self.at(self.now + seconds, call, *args)

    def run(self, until: float, is_done: Callable[[], bool]) -> None:
        due = self._due
        while due and due[0][0] <= until and not self.faults and not is_done():
            when, _, call, args = heapq.heappop(due)
            self.now = max(self.now, when)
            self.steps += 1
            call(*args)

    def note(self, text: str) -> None:
        if self.diary is not None:
            self.diary.append(f"{self.now:9.4f} {text}")

    def wrong(self, text: str) -> None:
        self.faults.append(f"at {self.now:.4f}: {text}")
        self.note(f"WRONG {text}")


class Link:
    """Between the client and one other: what is said arrives in order; late, after a cut, or with a lost session never."""

    def __init__(self, world: World, delay: float) -> None:
        self.world = world
        self.delay = delay
        self.cut_until = 0.0
        self.sides: dict[Callable[[Word], None], deque[Word]] = {}
        self.quiet_at: dict[Callable[[Word], None], float] = {}

    def say(self, to: Callable[[Word], None], word: Word) -> None:
        world = self.world
        jitter = world.dice.random() * 0.2
        when = max(world.now + self.delay * (1 + jitter), self.quiet_at.get(to, 0.0), self.cut_until)
        self.quiet_at[to] = when
        self.sides.setdefault(to, deque()).append(word)
        world.at(when, self._arrive, to)

    def _arrive(self, to: Callable[[Word], None]) -> None:
        words = self.sides[to]
        if not words:
            return  # it was lost
        if self.world.now < self.cut_until:
            self.world.at(self.cut_until, self._arrive, to)
        else:
            to(words.popleft())

    def lose(self) -> None:
        """All that is under way."""
        for words in self.sides.values():
            words.clear()

    @property
    def is_cut(self) -> bool:
        return self.world.now < self.cut_until


@dataclass(eq=False)
class Plan:
    """What a task will do."""

    number: int
    function: str
    io: bool = False
    step: float = 0.0  # seconds that it keeps the thread
    nap: float = 0.0  # seconds that it waits then
    keeps_gil: bool = False
    deaf: bool = False  # to its KeyboardInterrupt
    poison: bool = False  # its server dies of it
    raises: bool = False

    @property
    def is_short(self) -> bool:
        return self.step < 0.005 and not self.nap


@dataclass(eq=False)
class Job:
    """A Run at a server."""

    plan: Plan
    attempt: int
    position: int
    began: float = -1.0
    stopping: bool = False


@dataclass(eq=False)
class Book:
    """What really happened."""

    world: World
    starts: dict[tuple[int, int], str] = field(default_factory=dict)  # (task, attempt): server
    counts: dict[int, int] = field(default_factory=dict)
    ends: dict[tuple[int, int], OutcomeKind] = field(default_factory=dict)

    def started(self, job: Job, server: str) -> None:
        key = (job.plan.number, job.attempt)
        if key in self.starts:
            self.world.wrong(f"task {key} starts on {server}, and had started on {self.starts[key]}")
        self.starts[key] = server
        self.counts[job.plan.number] = self.counts.get(job.plan.number, 0) + 1


class SimServer:
    """A server process."""

    def __init__(self, node: SimNode, epoch: int, name: str) -> None:
        self.node = node
        self.world = node.world
        self.epoch = epoch
        self.name = name
        self.link = Link(node.world, node.delay)
        self.is_alive = True
        self.is_draining = False
        self.mail: deque[Word] = deque()
        self.cpu: deque[Job] = deque()
        self.io: deque[Job] = deque()
        self.running: dict[int, Job] = {}  # by position
        self.cpu_job: Job | None = None
        self.stepping: Job | None = None
        self.step_ends = 0.0
        self.mark_cpu = self.mark_io = 0  # the page
        self.out: list[Word] = []  # said, and still in this process
        self._will_flush = False
        self._will_read = False

    # --- words

    def hear(self, word: Word) -> None:
        if not self.is_alive:
            return
        self.mail.append(word)
        if self.stepping is None:
            self._read()
        elif not self._will_read and not self.stepping.plan.keeps_gil:
            self._will_read = True
            self.world.after(self.world.dice.random() * RELIEF_S, self._read)

    def _read(self) -> None:
        self._will_read = False
        if not self.is_alive or (self.stepping is not None and self.stepping.plan.keeps_gil):
            return  # at the end of the step
        while self.mail and self.is_alive:
            kind, *rest = self.mail.popleft()
            getattr(self, f"on_{kind}")(*rest)
        self.flush()
        self.work()

    def say(self, *word: Any) -> None:
        self.out.append(word)

    def flush(self) -> None:
        self._will_flush = False
        if self.is_alive:
            for word in self.out:
                self.link.say(self.node.client.hear, (*word[:1], self.epoch, *word[1:]))
            self.out.clear()
            self._leave_if_done()

    def flush_soon(self) -> None:
        if not self._will_flush:
            self._will_flush = True
            self.world.after(self.world.dice.random() * 0.005, self.flush)

    # --- what it is told

    def on_run(self, plan: Plan, attempt: int, position: int) -> None:
        if self.is_draining:
            self.say("returned", [position], True)
            return
        job = Job(plan, attempt, position)
        if plan.io:
            self.say("placed", plan.number, attempt)
            self.io.append(job)
        else:
            self.cpu.append(job)

    def on_recall(self, after: int) -> None:
        back = []
        while self.cpu and self.cpu[-1].position > after:
            back.append(self.cpu.pop().position)
        self.say("returned", back[::-1], self.is_draining)

    def on_terminate(self, number: int, attempt: int) -> None:
        for queue in (self.cpu, self.io):
            for job in queue:
                if (job.plan.number, job.attempt) == (number, attempt):
                    queue.remove(job)
                    self._say_outcome(job, OutcomeKind.CANCELLED, started=False)
                    return
        for job in self.running.values():
            if (job.plan.number, job.attempt) == (number, attempt):
                job.stopping = True
                if job.plan.deaf:
                    self.world.after(KILL_AFTER_S, self._kill_if_there, job)
                elif self.stepping is job and not job.plan.keeps_gil:
                    self.world.after(0.001, self._end_step, job)
                elif self.stepping is not job:
                    self.world.after(0.0, self._finish, job)
                return

    def on_drain(self) -> None:
        self.is_draining = True
        back = [job.position for job in self.cpu]
        self.cpu.clear()
        self.say("returned", back, True)

    def _kill_if_there(self, job: Job) -> None:
        if self.running.get(job.position) is job:
            self.die("was killed for a task that did not end")

    # --- tasks

    def work(self) -> None:
        if not self.is_alive or self.stepping is not None:
            return
        if self.io:
            self._begin(self.io.popleft())
        elif self.cpu and self.cpu_job is None:
            self.cpu_job = self.cpu.popleft()
            self._begin(self.cpu_job)
        else:
            self.flush()

    def _begin(self, job: Job) -> None:
        plan = job.plan
        job.began = self.world.now
        self.running[job.position] = job
        if plan.io:
            self.mark_io = job.position
        else:
            self.mark_cpu = job.position
        self.world.note(f"{self.name} begins {plan.number}.{job.attempt}")
        self.node.book.started(job, self.name)
        if not plan.is_short:
            self.say("started", plan.number, job.attempt)
            self.flush()
        if plan.poison:
            self.world.after(plan.step, self.die, "was killed by SIGSEGV (11)")
        self.stepping = job
        self.world.after(plan.step + FETCH_S, self._end_step, job)

    def _end_step(self, job: Job) -> None:
        if not self.is_alive or self.stepping is not job:
            return
        self.stepping = None
        if job.plan.nap and not (job.stopping and not job.plan.deaf):
            self.world.after(job.plan.nap, self._finish, job)
        else:
            self._finish(job)
        self._read() if self.mail else self.work()

    def _finish(self, job: Job) -> None:
        if not self.is_alive or self.running.get(job.position) is not job:
            return
        if self.stepping is not None and self.stepping is not job:
            self.world.after(0.005, self._finish, job)  # its turn comes when the step is over
            return
        del self.running[job.position]
        if self.cpu_job is job:
            self.cpu_job = None
        kind = OutcomeKind.RAISED if job.plan.raises else OutcomeKind.RETURNED
        if job.stopping and not job.plan.deaf:
            kind = OutcomeKind.TERMINATED
        self._say_outcome(job, kind, started=True)
        self.work()

    def _say_outcome(self, job: Job, kind: OutcomeKind, *, started: bool) -> None:
        number, attempt = job.plan.number, job.attempt
        self.node.book.ends[number, attempt] = kind
        seconds = self.world.now - job.began if started else 0.0
        self.say("outcome", number, attempt, kind, seconds, started)
        self.flush_soon()

    # --- ends

    def _leave_if_done(self) -> None:
        busy = self.cpu or self.io or self.running or self.mail or self.out
        if self.is_draining and not busy:
            # What it said is confirmed before it goes.
            quiet = max(self.link.quiet_at.get(self.node.client.hear, 0.0), self.link.cut_until)
            if self.world.now < quiet + self.link.delay:
                self.world.at(quiet + self.link.delay, self._leave_if_done)
            else:
                self.die("exited")

    def die(self, death: str) -> None:
        if not self.is_alive:
            return
        self.is_alive = False
        self.world.note(f"{self.name} {death}; marks {self.mark_cpu} {self.mark_io}; unsaid {len(self.out)}")
        if self.link.is_cut:
            self.link.lose()
        self.node.bury(self, death)


class SimNode:
    """An agent with its servers, each started again when it dies."""

    def __init__(
        self,
        world: World,
        book: Book,
        client: Any,
        epoch: int,
        slots: int,
        delay: float,
        resources: tuple[tuple[str, int], ...] = (),
    ) -> None:
        self.world = world
        self.book = book
        self.client = client
        self.epoch = epoch
        self.name = f"node{epoch}"
        self.delay = delay
        self.link = Link(world, delay)
        self.slots = slots
        self.is_alive = True
        self.is_closing = False
        self.servers: dict[int, SimServer] = {}
        self._born = 0
        self.say("node_up", self.epoch, self.name, (self.name, "everywhere"), resources)
        for _ in range(slots):
            world.after(world.dice.random() * 0.05, self._start)

    def say(self, *word: Any) -> None:
        self.link.say(self.client.hear, word)

    def hear(self, word: Word) -> None:
        kind, *rest = word
        if self.is_alive:
            getattr(self, f"on_{kind}")(*rest)

    def on_kill(self, epoch: int) -> None:
        if epoch in self.servers:
            self.servers[epoch].die("was killed, since its session was lost")

    def on_terminate(self, number: int, attempt: int) -> None:
        pass  # its servers keep the 5 s of what they have begun

    def _start(self) -> None:
        if not self.is_alive or self.is_closing:
            return
        self._born += 1
        epoch = self.epoch * 1000 + self._born
        server = self.servers[epoch] = SimServer(self, epoch, f"{self.name}/s{self._born}")
        self.say("server_up", epoch, server.name, self.epoch, 2 * self.delay)

    def bury(self, server: SimServer, death: str) -> None:
        """Its last words are read before its end is told. Sometimes nobody can read the page."""
        del self.servers[server.epoch]
        marks: tuple[int | None, int | None] = (server.mark_cpu, server.mark_io)
        if self.world.dice.random() < 0.1:
            self.client.unreadable.add(server.epoch)
            marks = self.world.dice.choice(((None, None), (TORN, TORN), (TORN, marks[1]), (marks[0], TORN)))
        word = ("server_lost", server.epoch, f"server {server.name} {death}", *marks)
        read = server.link.quiet_at.get(self.client.hear, 0.0)
        if self.world.dice.random() < 0.3:  # now and then last words are late
            read, server.link.cut_until = 0.0, self.world.now + 0.3
        self.world.at(max(self.world.now + 0.005, read), self._tell_end, word)

    def _tell_end(self, word: Word) -> None:
        if not self.is_alive:
            self.client.unreadable.add(word[1])  # who would have read it is dead, too
            return
        self.say(*word)
        if self.is_closing and not self.servers:
            self.is_alive = False
            self.say("node_lost", self.epoch, f"{self.name} closed")
        else:
            self.world.after(0.02 + self.world.dice.random() * 0.2, self._start)

    def drain(self) -> None:
        """It is to end: its servers say it, and it does."""
        self.is_closing = True
        self.world.note(f"{self.name} drains")
        if self.world.dice.random() < 0.7:
            self.say("node_opened", self.epoch, "CLOSING")
        for server in list(self.servers.values()):
            server.hear(("drain",))
        if not self.servers:
            self.is_alive = False
            self.say("node_lost", self.epoch, f"{self.name} closed")

    def die(self) -> None:
        """All of it. Somebody tells the client, after what was said before."""
        self.is_alive = False
        self.world.note(f"{self.name} is killed")
        read = self.world.now
        for server in list(self.servers.values()):
            server.is_alive = False
            self.client.unreadable.add(server.epoch)
            if server.link.is_cut:
                server.link.lose()
            read = max(read, server.link.quiet_at.get(self.client.hear, 0.0))
        self.servers.clear()
        self.link.cut_until = 0.0
        self.world.at(read + 0.01, self.say, "node_lost", self.epoch, f"{self.name} is gone")
