"""A server process of the simulated cluster: the real machine, and tasks that take virtual time.

Kept in step with actors/server/body.py. While a step runs, turns go on (the relief thread) and nothing else does.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import inf
from typing import Any, Final, cast

from dispycos.actors.server.queue import Drop, Interrupt, PassOn, Server, Stop, Tell, TellStack, Work
from dispycos.actors.shipping.pickling import loads
from dispycos.actors.tasks.step import KILL_AFTER, NO_STEP, Step
from dispycos.protocol import messages
from dispycos.protocol.addresses import CLIENT, NODE, SERVER, Address
from dispycos.protocol.envelope import Envelope, Payload, buffers_of
from dispycos.protocol.messages import Marks, Run, Spot, TaskId
from dispycos.protocol.status import OutcomeKind
from dispycos.protocol.watching import StackGiven
from dispycos.session.router import Event
from dispycos.session.session import PeerReset

from .cluster_links import End, Universe
from .cluster_runtime import Process
from .cluster_tasks import Book, Cell, Host, Plan, decode

FAREWELL_S: Final = 2.0
INTERRUPTED_S: Final = 0.001  # from a KeyboardInterrupt to the end of a step


class Actor(Cell):
    """A task on a server."""

    run: Run
    plan: Plan
    is_open = False  # its first step has begun
    in_last = False
    is_suspended = False  # its first step is over
    napping = False
    awaits = 0  # tasks that it submitted


class ServerProcess(Host):
    role = "server"
    keeps_uplink = False

    def __init__(
        self,
        world: Universe,
        book: Book,
        node: Process,
        number: int,
        spot: Spot,
        client: int,
        pid: int,
        on_exit: Callable[[ServerProcess, str], None],
    ) -> None:
        super().__init__(world, f"{spot.name}#{pid}")
        self.book = book
        self.uplink = node
        self.node = Address(node.epoch, NODE)
        self.number = number
        self.spot = spot
        self.client = client
        self.pid = pid
        self.marks = Marks(0, 0)  # the page of actors/tasks/page.py: it survives the process
        self.step = NO_STEP
        self.ended_for_step = False
        self._report_exit = on_exit
        self.seen_by: list[
            Callable[[], None]
        ] = []  # clients of its host: each is told, some time after its end

    def boot(self) -> None:
        super().boot()
        spot = self.spot._replace(epoch=self.epoch)
        client = Address(self.client, CLIENT)
        self.machine = Server(
            Address(self.epoch, SERVER), client, self.node, spot, lambda run: self._place(run).address.actor
        )
        self.stepping: Actor | None = None
        self.cells: dict[TaskId, Actor] = {}
        self.parents: dict[TaskId, Actor] = {}  # who submitted what
        self.submitted = 0  # number of the last
        self._stopping = False
        self._quiet_until = 0.0
        self.attach(SERVER, self)

    def start(self) -> None:
        super().start()
        if self.world.is_one_host:
            self.dial([f"ipc://{self.client}"], expected=self.client)  # server/body.open_lane
        self._setup = self.correspondence.expect(self.client, self._got_setup)
        wanted = Envelope(
            Address(self.client, CLIENT),
            Address(self.epoch, 5),
            messages.SetupWanted(self.machine.spot, self.node.epoch),
            self._setup,
        )
        self.send(wanted)

    def _got_setup(self, answer: Envelope | None) -> None:
        if answer is None or answer.message.error:
            self.exit("exit code 1")
            return
        self.submitted = answer.message.first
        ready = messages.ServerReady(self.number, self.pid)
        self.send(Envelope(self.node, self.machine.address, ready))

    # --- the end

    def die(self, dying_words: tuple[End, ...] = ()) -> None:
        super().die(dying_words)
        for see in self.seen_by:
            see()

    def uplink_lost(self) -> None:
        if self.is_alive and not self._stopping:
            self.exit("exit code 1")

    def exit(self, text: str) -> None:
        if self.is_alive:
            self.die()
            self._report_exit(self, text)

    def on_event(self, event: Event, now: float) -> None:
        if isinstance(event, PeerReset):
            self.peer_gone(event.epoch, event.unconfirmed)

    def carry_out(self, effect: object, now: float) -> None:
        if isinstance(effect, Work):
            self.defer(self.work)
        elif isinstance(effect, Drop):
            dropped = self.cells.pop(effect.task)
            self.defer(partial(self.end_cell, dropped))
        elif isinstance(effect, PassOn) and isinstance(effect.envelope.message, messages.Gone):
            for epoch in effect.envelope.message.epochs:
                self.peer_gone(epoch, self.router.bury(epoch, now))
        elif isinstance(effect, PassOn):
            self._hear(effect.envelope)
        elif isinstance(effect, Interrupt):
            interrupted = self.cells.get(effect.task)
            if interrupted is not None:
                self.interrupt(interrupted)
        elif isinstance(effect, Tell):
            self.machine.answer(effect.request, messages.ServerTasks(effect.tasks))
        elif isinstance(effect, TellStack):
            self.machine.answer(effect.request, StackGiven([], "", effect.run.function))
        else:
            assert isinstance(effect, Stop), effect
            self.defer(self._stop)

    def _stop(self) -> None:
        if not self._stopping:
            self._stopping = True
            use = messages.ServerUse(self.machine.ended, self.machine.failed)
            served = messages.Served(use, self.machine.failures.listed())
            self.send(Envelope(self.node, self.machine.address, served))
            self._quiet_until = self.world.now + FAREWELL_S
            self._leave_when_quiet()

    def _leave_when_quiet(self) -> None:
        if not self.router.busy_peers() or self.world.now >= self._quiet_until:
            self._print(b"%d has ended" % self.pid)
            self.leave()
            self._report_exit(self, "exited")
        else:
            self.call_later(0.01, self._leave_when_quiet)

    # --- tasks

    def work(self) -> None:
        while not self.is_kept and self.is_alive:
            envelope = self.machine.take()
            if envelope is None:
                return
            self._begin(envelope)
        self.defer(self.work)

    def _place(self, run: Run) -> Actor:
        """It has an address and a mailbox."""
        plan = self.book.plans[run.task._replace(attempt=1)]
        cell = Actor(self, plan.number, Address(self.epoch, self.take_number()))
        cell.run, cell.plan = run, plan
        self.attach_inbox(cell.address.actor, cell.on_envelope)
        self.cells[run.task] = cell
        return cell

    def _begin(self, envelope: Envelope) -> None:
        run: Run = envelope.message
        self.marks = self.marks._replace(**{"io" if run.io else "cpu": run.position})
        if run.io:
            cell = self.cells[run.task]
        else:
            for other in self.cells.values():
                if not (other.run.io or other.awaits or other.ended):
                    self.world.wrong(f"{self.name} begins {run.task} beside {other.run.task}")
            cell = self._place(run)
            self.machine.begin(run, cell.address.actor, self.world.now, waits=run.fetch)
        self.turn_soon()
        if run.fetch:
            self._fetch(cell)
        else:
            self._open(cell, envelope.payload)

    def _fetch(self, cell: Actor) -> None:
        task = cell.run.task
        correlation = self.correspondence.expect(task.owner, partial(self._fetched, cell))
        to = Address(task.owner, CLIENT)
        self.send(Envelope(to, Address(self.epoch, 5), messages.CallWanted(task), correlation))

    def _fetched(self, cell: Actor, answer: Envelope | None) -> None:
        if cell.ended:
            return
        if answer is None or answer.message.error:
            self._finish(cell, OutcomeKind.RAISED, b"no call")
        else:
            self._open(cell, answer.payload)

    def _open(self, cell: Actor, payload: Payload) -> None:
        """The first step, until it has to wait."""
        task = cell.run.task
        if cell.plan.needs:
            payload = self._without_values(cell, payload)
        if tuple(decode(buffers_of(payload)[0])) != (cell.plan.number, *task):
            self.world.wrong(f"{self.name} got another call for {task}")
        if cell.stopping:
            self._finish(cell, OutcomeKind.TERMINATED)
            return
        if self.machine.enter(task, self.world.now):
            self.push()
        self.note(f"starts task {task.number} ({cell.plan.function})")
        self.book.started(task, self)
        cell.is_open = True
        self._say(cell, first=True)
        for child in cell.plan.children:
            self._submit(cell, child)
        self._step(cell, cell.plan.first, self._first_done)

    def _without_values(self, cell: Actor, payload: Payload) -> Payload:
        """The call as it was submitted; the values in it are to be those of the tasks that it named."""
        call, values = loads(payload)
        plans = [self.book.plans[need] for need in cell.plan.needs]
        found = [(name, b"".join(map(bytes, buffers_of(value)))) for name, value in values]
        if found != [(plan.function, plan.value()) for plan in plans]:
            self.world.wrong(f"{self.name} got other values for {cell.run.task}")
        return call  # type: ignore[no-any-return]

    def _submit(self, cell: Actor, plan: Plan) -> None:
        """NestedTasks.submit; then it speaks to its child."""
        self.submitted += 1
        task = TaskId(self.client, self.submitted)
        self.book.plans[task] = plan
        self.parents[task] = cell
        self.note(f"task {cell.run.task.number} submits task {task.number}: {plan}")
        word = messages.Nested(task.number, plan.function, plan.io)
        cell.awaits += 1
        self.machine.submit(cell.run.task, word, plan.call(task))
        self.defer(partial(self._lend, cell.run.task))
        home = Address(*task[:2])
        client = self.book.clients[task.owner]
        for n in range(plan.expects):
            if n % 2:
                self.tell(cell, home, plan.number)
            else:  # who has the handle by another way may be faster than we are
                client.later(0, partial(client.tell, client.main, home, plan.number))
        if plan.raises and plan.suspends:
            self.send(Envelope(home, cell.address, messages.TerminateActor()))
        self.turn_soon()

    def _lend(self, task: TaskId) -> None:
        self.machine.set_aside(task)
        self.turn_soon()

    def _hear(self, envelope: Envelope) -> None:
        """How a child ended: as the client knows it."""
        word: messages.Outcome = envelope.message
        parent, plan = self.parents.pop(word.task), self.book.plans[word.task]
        if self.book.outcomes.get(word.task, (None,))[0] != word.outcome:
            self.world.wrong(f"{self.name} hears another end of {word.task}: {word}")
        is_plain = word.outcome in (OutcomeKind.RETURNED, OutcomeKind.RAISED)
        if is_plain and [bytes(buffer) for buffer in buffers_of(envelope.payload)] != [plan.value()]:
            self.world.wrong(f"{self.name} hears another value of {word.task}")
        parent.awaits -= 1
        self.defer(partial(self._look, parent))

    def _step(self, cell: Actor, seconds: float, then: Callable[[Actor], None]) -> None:
        self.on_users_side()
        if seconds <= 0:
            then(cell)
            return
        self.stepping, self.is_kept = cell, True
        self.step = Step(cell.run.position, int(self.world.now * 1e9))
        self.later(seconds, partial(self._over, cell, then))

    def _over(self, cell: Actor, then: Callable[[Actor], None]) -> None:
        """The step has ended, unless it was cut short before; then the loop goes on."""
        if self.stepping is cell:
            self.stepping, self.is_kept, self.step = None, False, NO_STEP
            then(cell)
            self.run_deferred()

    def _first_done(self, cell: Actor) -> None:
        if self._is_interrupted(cell):
            return
        if not cell.plan.suspends:
            self._end(cell)
            return
        self.machine.suspended(cell.run.task)
        cell.is_suspended = True
        self.turn_soon()
        cell.on_message = partial(self._look, cell)
        cell.napping = cell.plan.nap > 0
        if cell.napping:
            self.call_later(cell.plan.nap, self._awake, cell)
        self._look(cell)

    def _awake(self, cell: Actor) -> None:
        cell.napping = False
        self._look(cell)

    def _look(self, cell: Actor) -> None:
        """Is all there that it waits for?"""
        waits = cell.napping or cell.awaits or cell.heard < cell.plan.expects
        if not (cell.ended or cell.in_last or waits or not cell.is_suspended):
            cell.in_last = True
            self._say(cell, first=False)
            self._step(cell, cell.plan.last, self._last_done)

    def _last_done(self, cell: Actor) -> None:
        if not self._is_interrupted(cell):
            self._end(cell)

    def _say(self, cell: Actor, *, first: bool) -> None:
        for words in cell.plan.words:
            half = words.times // 2 if cell.plan.suspends else words.times
            for _ in range(half if first else words.times - half):
                self.tell(cell, words.direct or words.home, words.target)

    def interrupt(self, cell: Actor) -> None:
        if not cell.stopping:
            self.call_later(KILL_AFTER, self._drop, cell)
        cell.stopping = True
        if cell.plan.deaf or not cell.is_open:
            return
        if self.stepping is cell:
            cut_short = partial(self._finish, kind=OutcomeKind.TERMINATED)
            self.later(INTERRUPTED_S, partial(self._over, cell, cut_short))
        else:
            self.defer(partial(self._finish, cell, OutcomeKind.TERMINATED))

    def _drop(self, cell: Actor) -> None:
        """It waits on after its KeyboardInterrupt."""
        self._finish(cell, OutcomeKind.TERMINATED)

    def check_kill(self, told: float = inf) -> None:
        """It is about to be killed: was the task whose step runs asked to end, and has that had its time?

        `told`: when the node told the whole server to end, if it did.
        """
        cell, now = self.stepping, self.world.now
        since = min(self.book.asked_to_end.get(cell.run.task, now), told) if cell is not None else now
        had = now - max(since, self.step.since / 1e9)
        if had < KILL_AFTER:
            self.world.wrong(f"{self.name} is killed for a step that had {had:.1f} s of its 5")

    def _is_interrupted(self, cell: Actor) -> bool:
        if cell.stopping and not cell.plan.deaf:
            self._finish(cell, OutcomeKind.TERMINATED)
            return True
        return False

    def _end(self, cell: Actor) -> None:
        self._finish(cell, cell.plan.kind, cell.plan.value())

    def _print(self, line: bytes) -> None:
        """By its pipe, which its agent reads as soon as it can."""
        node = self.uplink
        assert node is not None
        if node.is_alive and node.epoch == self.node.epoch:
            self.book.printed.setdefault(self.client, set()).add(line)
            cast(Any, node).agent.machine.output(self.number, 1, line, 0, self.world.now)
            node.turn_soon()

    def _finish(self, cell: Actor, kind: OutcomeKind, payload: Payload = None) -> None:
        if cell.ended:
            return
        task = cell.run.task
        self.note(f"ends task {task.number}: {kind.name}")
        del self.cells[task]
        self.book.ended(task, kind)
        self.machine.end(task, kind, payload, None, self.world.now)
        self._print(b"%d.%d" % (task.number, task.attempt))
        self.end_cell(cell)
        self.turn_soon()
