"""What a server process does with the tasks that its client gives it: one CPU task at a time, io tasks beside it, each with one
outcome.

The client alone gives it tasks, and owns them: it is told where they are and how they end. What has not begun is given back
when the client asks (`Recall`), and at once when the server drains.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import msgspec

from dispycos.machine import Log, Send
from dispycos.protocol import messages
from dispycos.protocol.addresses import Address
from dispycos.protocol.envelope import Envelope, Payload
from dispycos.protocol.messages import Spot, TaskId, TaskReport
from dispycos.protocol.status import OutcomeKind
from dispycos.protocol.watching import StackGiven, StackWanted

from ..tasks.failures import Failures

REPORTED_MAX = 256  # tasks named in a report


class Drop(msgspec.Struct, frozen=True):
    """This io task ends without having begun: take its address and mailbox away."""

    task: TaskId


class Work(msgspec.Struct, frozen=True):
    """There are tasks to start: call `take` on the loop."""


class Interrupt(msgspec.Struct, frozen=True):
    """KeyboardInterrupt for this task, wherever it is."""

    task: TaskId


class Tell(msgspec.Struct, frozen=True):
    """Somebody looks: answer this with these tasks, and with what only the body knows."""

    request: Envelope
    tasks: list[TaskReport]


class TellStack(msgspec.Struct, frozen=True):
    """Somebody asks where this task, which has its address, is now."""

    request: Envelope
    run: messages.Run


class PassOn(msgspec.Struct, frozen=True):
    """A word for the body: Placed, Outcome or ValueWanted of what was submitted here, Levels of the client, Gone."""

    envelope: Envelope


class Stop(msgspec.Struct, frozen=True):
    """Nothing is left to do: end the process."""


@dataclass(slots=True, eq=False)
class Running:
    """A task that has its address."""

    run: messages.Run
    actor: int
    began: float
    announced: bool = False
    interrupted: bool = False
    waits_for: int = 0  # tasks that it submitted and that have not ended


class Server:
    """The machine of a server process.

    Parameters
    ----------
    address: of this machine. client: whose tasks it runs. node: of the agent that started it. spot: what others are told of
        where it is. place: gives an io task its mailbox, perhaps on the relief thread; returns its actor.
    """

    def __init__(
        self,
        address: Address,
        client: Address,
        node: Address,
        spot: Spot,
        place: Callable[[messages.Run], int],
    ) -> None:
        self.address = address
        self.client = client
        self.node = node
        self.spot = spot
        self._place = place
        self.running: dict[TaskId, Running] = {}
        self.ended = self.failed = 0  # tasks, since the process began
        self.failures = Failures()
        self.draining = False  # it begins nothing that was not placed, and gives that back
        self._is_ending = False  # when nothing is left, so does the process
        self._reason = ""
        self._cpu: deque[Envelope] = deque()
        self._io: deque[Envelope] = deque()  # placed, and to be started
        # CPU tasks that are not aside: one, or more of those that go on again.
        self._holding: set[TaskId] = set()
        self.aside: set[TaskId] = set()  # CPU tasks that wait for what they submitted: others run beside them
        self._submitted: dict[int, TaskId] = {}  # by number: the CPU task here that waits for it
        self._is_called = False  # the body was told to work, and has not found nothing to do since
        self._effects: list[object] = []
        self._handlers: dict[Address, dict[type, Callable[[Envelope, float], None]]] = {
            client: {
                messages.Run: self.on_run,
                messages.Recall: self.on_recall,
                messages.Terminate: self.on_terminate,
                messages.Placed: self._pass_on,
                messages.Outcome: self.on_outcome,
                messages.ValueWanted: self._pass_on,
                messages.Levels: self._pass_on,
            },
            node: {
                messages.Terminate: self.on_terminate,
                messages.Shutdown: self.on_shutdown,
                messages.Inventory: self.on_inventory,
                StackWanted: self.on_stack_wanted,
                messages.Gone: self._pass_on,
            },
        }

    # --- Machine ---

    def receive(self, envelope: Envelope, now: float) -> None:
        speaker = self._handlers.get(envelope.sender)
        handler = speaker.get(type(envelope.message)) if speaker is not None else None
        if handler is not None:
            handler(envelope, now)
        elif speaker is None:
            what = f"{type(envelope.message).__name__} from {envelope.sender}"
            self._effects.append(Log("warning", f"{what} is refused: this server is of {self.client}"))

    def deadline(self) -> None:
        """The agent alone watches the time."""

    def wake(self, now: float) -> None:
        pass

    def drain(self) -> list[object]:
        effects, self._effects = self._effects, []
        return effects

    # --- from the client

    def on_run(self, envelope: Envelope, now: float) -> None:
        run: messages.Run = envelope.message
        if self.draining:
            self._give_back([envelope])
        elif run.io:
            running = self.running[run.task] = Running(run, self._place(run), now)
            self._io.append(envelope)
            self._send(self.client, messages.Placed(run.task, running.actor, self.spot))
            self._call()
        else:
            self._cpu.append(envelope)
            self._call()

    def on_recall(self, envelope: Envelope, now: float) -> None:
        """A task is here or given back, never both."""
        back: deque[Envelope] = deque()
        while self._cpu and self._cpu[-1].message.position > envelope.message.after:
            back.appendleft(self._cpu.pop())
        self._give_back(back)

    def on_terminate(self, envelope: Envelope, now: float) -> None:
        """What has not begun is dropped at once, whoever keeps the thread."""
        task = envelope.message.task
        running = self.running.get(task)
        if running is not None:
            placed = _find(self._io, task) if running.run.io else None
            if placed is None:
                self._interrupt(running)
            else:
                self._io.remove(placed)
                self._drop(placed.message)
        elif (waiting := _find(self._cpu, task)) is not None:
            self._cpu.remove(waiting)
            self._speak(waiting.message)

    def on_outcome(self, envelope: Envelope, now: float) -> None:
        """Of a task that was submitted here. The last one that a CPU task waits for: that goes on."""
        parent = self._submitted.pop(envelope.message.task.number, None)
        running = self.running.get(parent) if parent is not None else None
        if parent is not None and running is not None:
            running.waits_for -= 1
            if parent in self.aside and not running.waits_for:
                self.aside.discard(parent)
                self._holding.add(parent)
                self._send(self.client, messages.Aside(parent, False))
        self._pass_on(envelope, now)

    # --- from the node

    def on_shutdown(self, envelope: Envelope, now: float) -> None:
        """What has no address goes back. Without `drain` what was placed and has not begun is dropped, the rest is interrupted."""
        word: messages.Shutdown = envelope.message
        self._is_ending = True
        self._give_all_back()
        if not word.drain:
            self._reason = word.reason
            placed, self._io = self._io, deque()
            for given in placed:
                self._drop(given.message)
            for running in self.running.values():
                self._interrupt(running)
        self._stop_if_idle()

    def on_inventory(self, envelope: Envelope, now: float) -> None:
        waiting = [_report(given.message, "waiting", 0.0) for given in list(self._cpu)[:REPORTED_MAX]]
        running = [
            _report(task.run, "running", now - task.began)
            for task in list(self.running.values())[:REPORTED_MAX]
        ]
        tasks = [*running, *waiting]
        if envelope.message.parts:
            self._effects.append(Tell(envelope, tasks))
        else:
            self.answer(envelope, messages.ServerTasks(tasks))

    def on_stack_wanted(self, envelope: Envelope, now: float) -> None:
        task = envelope.message.task
        running, waiting = self.running.get(task), _find([*self._cpu, *self._io], task)
        if waiting is not None:
            function, text = waiting.message.function, "it waits for its turn, and has no stack yet"
            self.answer(envelope, StackGiven([], text, function))
        elif running is not None:
            self._effects.append(TellStack(envelope, running.run))
        else:
            self.answer(envelope, StackGiven([], "it has ended"))

    def answer(self, request: Envelope, word: messages.Message) -> None:
        self._effects.append(Send(Envelope(request.sender, self.address, word, request.correlation)))

    # --- called by the body, under the lock, on the loop ---

    def take(self) -> Envelope | None:
        """The next task to start now, if any; of a CPU task `begin` is called before anything else is."""
        if self._io:
            return self._io.popleft()
        if self._cpu and not self._holding:
            return self._cpu.popleft()
        self._is_called = False
        return None

    def begin(self, run: messages.Run, actor: int, now: float, *, waits: bool) -> None:
        """A CPU task is opened next, or its call fetched first (`waits`); the actor of a short one is 0 until it has an address."""
        self._holding.add(run.task)
        self.running[run.task] = Running(run, actor, now)
        if waits:
            self._send(self.client, messages.Placed(run.task, actor, self.spot))

    def enter(self, task: TaskId, now: float) -> bool:
        """Its call is open, the first step comes now. True: the start was announced, and should leave before the step."""
        running = self.running[task]
        running.began = now
        if running.run.short:
            return False
        self._announce(running)
        return True

    def suspended(self, task: TaskId, actor: int = 0) -> None:
        """The first step is over and the task goes on: others may want to talk to it."""
        running = self.running.get(task)
        if running is not None and not running.announced:
            running.actor = actor or running.actor
            self._announce(running)

    def submit(self, parent: TaskId | None, word: messages.Nested, call: Payload) -> None:
        """A task here, if it is one, has this run by its client."""
        running = self.running.get(parent) if parent is not None else None
        if running is not None and not running.run.io:
            running.waits_for += 1
            self._submitted[word.number] = running.run.task
        self._effects.append(Send(Envelope(self.client, self.address, word, 0, call)))

    def want_close(self, word: messages.CloseWanted) -> None:
        """A task here wants this server, or its node, closed: what has not begun goes elsewhere, and does not run behind it."""
        self._give_all_back()
        self._send(self.client, word)

    def set_aside(self, task: TaskId) -> bool:
        """This CPU task is between two steps: if those that it submitted have not all ended, others may run here. True if so."""
        running = self.running.get(task)
        if running is None or task in self.aside or not running.waits_for:
            return False
        if not running.announced:
            self._announce(running)
        self._holding.discard(task)
        self.aside.add(task)
        self._send(self.client, messages.Aside(task, True))
        if self._cpu and not self._holding:
            self._call()
        return True

    def seconds_of(self, task: TaskId, now: float) -> float:
        """How long it has run."""
        return now - self.running[task].began

    def end(
        self,
        task: TaskId,
        outcome: OutcomeKind,
        payload: Payload,
        marks: tuple[int, int] | None,
        now: float,
        *,
        actor: int = 0,
        cpu_s: float | None = None,
        peak_bytes: int | None = None,
        error: str = "",
    ) -> None:
        """The task has its outcome: to the client, after all that the task sent there.

        `marks` are behind what it wrote, in the streams of its output. What it used of the CPU and by how much it raised the
        peak of the memory may be unknown. `error` is the name of what it raised.
        """
        running = self.running.pop(task)
        self.ended += 1
        if outcome == OutcomeKind.RAISED:
            self.failed += 1
            self.failures.add(running.run.function, error)
        text = self._why(running.run) if outcome == OutcomeKind.TERMINATED else ""
        self.aside.discard(task)
        if task in self._holding:
            self._holding.discard(task)
            if self._cpu and not self._holding:
                self._call()
        seconds = now - running.began
        word = messages.Outcome(
            task, outcome, actor or running.actor, None, seconds, True, text, marks, cpu_s, peak_bytes
        )
        self._effects.append(Send(Envelope(self.client, self.address, word, 0, payload)))
        self._stop_if_idle()

    def check(self) -> None:
        """What must hold between two messages."""
        cpu = [running for running in self.running.values() if not running.run.io]
        never_lent = [running.run.task for running in cpu if not running.announced]
        assert len(never_lent) <= 1, f"two CPU tasks run at once: {never_lent}"
        assert not self.aside & self._holding, "it waits aside, and holds the server"
        assert {running.run.task for running in cpu} == self.aside | self._holding, "who runs was not taken"
        assert not (self.draining and self._cpu), "it drains and keeps what has not begun"
        assert not (self._reason and self._io), "it ends and keeps what has not begun"
        assert all(given.message.task in self.running for given in self._io), "it waits without an address"

    # --- small ---

    def _interrupt(self, running: Running) -> None:
        """Once: both its client and the node ask, and what it does then is not to be interrupted."""
        if not running.interrupted:
            running.interrupted = True
            self._effects.append(Interrupt(running.run.task))

    def _pass_on(self, envelope: Envelope, now: float) -> None:
        self._effects.append(PassOn(envelope))

    def _call(self) -> None:
        """Once is enough until `take` has given None."""
        if not self._is_called:
            self._is_called = True
            self._effects.append(Work())

    def _announce(self, running: Running) -> None:
        running.announced = True
        self._send(self.client, messages.Started(running.run.task, running.actor, self.spot))

    def _give_all_back(self) -> None:
        self.draining = True
        back, self._cpu = self._cpu, deque()
        self._give_back(back)

    def _give_back(self, given: Iterable[Envelope]) -> None:
        positions = [envelope.message.position for envelope in given]
        self._send(self.client, messages.Returned(positions, self.draining))

    def _drop(self, run: messages.Run) -> None:
        """It was placed, and will not begin."""
        del self.running[run.task]
        self._effects.append(Drop(run.task))
        self._speak(run)

    def _speak(self, run: messages.Run) -> None:
        """It ends without having begun."""
        self.ended += 1
        word = messages.Outcome(run.task, OutcomeKind.CANCELLED, 0, None, 0.0, False, self._why(run))
        self._send(self.client, word)

    def _why(self, run: messages.Run) -> str:
        return f"{run.function} was terminated: {self._reason}" if self._reason else ""

    def _stop_if_idle(self) -> None:
        if self._is_ending and not self.running:
            self._effects.append(Stop())

    def _send(self, to: Address, word: messages.Message) -> None:
        self._effects.append(Send(Envelope(to, self.address, word)))


def _find(given: Iterable[Envelope], task: TaskId) -> Envelope | None:
    return next((envelope for envelope in given if envelope.message.task == task), None)


def _report(run: messages.Run, state: str, since: float) -> TaskReport:
    task = run.task
    return TaskReport(run.function, task.owner, task.number, task.attempt, run.io, state, since)
