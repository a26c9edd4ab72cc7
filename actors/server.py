"""What a server process does with the tasks that its client gives it: one CPU task at a time, io tasks beside it, each with one
outcome.

The client alone gives it tasks, and owns them: it is told where they are and how they end. What has not begun is given back
when the client asks (`Recall`), and at once when the server drains.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import msgspec

from dispycos.machine import Send
from dispycos.protocol import messages
from dispycos.protocol.addresses import Address
from dispycos.protocol.envelope import Envelope, Payload
from dispycos.protocol.messages import Spot, TaskId, TaskReport
from dispycos.protocol.status import OutcomeKind

REPORTED_MAX = 256  # tasks named in a report


class Place(msgspec.Struct, frozen=True):
    """Give this io task its address and mailbox now, perhaps on the relief thread; then call `placed`."""

    given: Envelope


class Work(msgspec.Struct, frozen=True):
    """There are tasks to start: call `take` on the loop."""


class Interrupt(msgspec.Struct, frozen=True):
    """KeyboardInterrupt for this task, wherever it is."""

    task: TaskId


class Forget(msgspec.Struct, frozen=True):
    """These processes are dead: nobody waits for them any more."""

    epochs: list[int]


class SetLevels(msgspec.Struct, frozen=True):
    """The client logs other things than before."""

    levels: Payload


class Stop(msgspec.Struct, frozen=True):
    """Nothing is left to do: end the process."""


class Running:
    """A task that has its address."""

    __slots__ = ("actor", "announced", "began", "run")

    def __init__(self, run: messages.Run, actor: int, began: float) -> None:
        self.run = run
        self.actor = actor
        self.began = began
        self.announced = False


class Server:
    """The machine of a server process.

    Parameters
    ----------
    address: of this machine. client: whose tasks it runs. node: of the agent that started it. spot: what others are told of
        where it is.
    """

    def __init__(self, address: Address, client: Address, node: Address, spot: Spot) -> None:
        self.address = address
        self.client = client
        self.node = node
        self.spot = spot
        self.running: dict[TaskId, Running] = {}
        self.draining = False
        self._reason = ""
        self._cpu: deque[Envelope] = deque()
        self._io: deque[Envelope] = deque()  # placed, and to be started
        self._cpu_task: TaskId | None = None
        self._is_called = False  # the body was told to work, and has not found nothing to do since
        self._asked: set[TaskId] = (
            set()
        )  # of those that the body has taken: to be interrupted when they have an address
        self._effects: list[object] = []
        self._handlers: dict[type, Callable[[Envelope, float], None]] = {
            messages.Run: self.on_run,
            messages.Recall: self.on_recall,
            messages.Terminate: self.on_terminate,
            messages.Shutdown: self.on_shutdown,
            messages.Inventory: self.on_inventory,
            messages.Levels: lambda envelope, now: self._effects.append(SetLevels(envelope.payload)),
            messages.Gone: lambda envelope, now: self._effects.append(Forget(envelope.message.epochs)),
        }

    # --- Machine ---

    def receive(self, envelope: Envelope, now: float) -> None:
        handler = self._handlers.get(type(envelope.message))
        if handler is not None and envelope.sender in (self.client, self.node):
            handler(envelope, now)

    def deadline(self) -> None:
        """The agent alone watches the time."""

    def wake(self, now: float) -> None:
        pass

    def drain(self) -> list[object]:
        effects, self._effects = self._effects, []
        return effects

    # --- from the client

    def on_run(self, envelope: Envelope, now: float) -> None:
        if envelope.sender != self.client:
            return
        if self.draining:
            self._send(self.client, messages.Returned([envelope.message.position], draining=True))
        elif envelope.message.io:
            self._effects.append(Place(envelope))
        else:
            self._cpu.append(envelope)
            self._call()

    def on_recall(self, envelope: Envelope, now: float) -> None:
        """A task is here or given back, never both."""
        back = []
        while self._cpu and self._cpu[-1].message.position > envelope.message.after:
            back.append(self._cpu.pop().message.position)
        self._send(self.client, messages.Returned(back[::-1], self.draining))

    def on_terminate(self, envelope: Envelope, now: float) -> None:
        task = envelope.message.task
        if task in self.running:
            self._effects.append(Interrupt(task))
        elif task == self._cpu_task:  # the body has taken it, and not begun
            self._asked.add(task)
        else:
            for waiting in self._cpu:
                if waiting.message.task == task:
                    self._cpu.remove(waiting)
                    self._speak(waiting.message, OutcomeKind.CANCELLED)
                    return

    # --- from the node

    def on_shutdown(self, envelope: Envelope, now: float) -> None:
        word: messages.Shutdown = envelope.message
        self.draining = True
        back = [given.message.position for given in self._cpu]
        self._send(self.client, messages.Returned(back, draining=True))
        self._cpu.clear()
        if not word.drain:
            self._reason = word.reason
            if self._cpu_task is not None and self._cpu_task not in self.running:
                self._asked.add(self._cpu_task)
            self._effects.extend(Interrupt(task) for task in self.running)
        self._stop_if_idle()

    def on_inventory(self, envelope: Envelope, now: float) -> None:
        waiting = [_report(given.message, "waiting", 0.0) for given in list(self._cpu)[:REPORTED_MAX]]
        running = [
            _report(task.run, "running", now - task.began)
            for task in list(self.running.values())[:REPORTED_MAX]
        ]
        answer = messages.ServerTasks([*running, *waiting])
        self._effects.append(Send(Envelope(envelope.sender, self.address, answer, envelope.correlation)))

    # --- called by the body, under the lock: on the loop, but for `placed` ---

    def placed(self, given: Envelope, actor: int, now: float) -> None:
        """An io task has its address; it is started when the loop gets to it."""
        run: messages.Run = given.message
        self.running[run.task] = Running(run, actor, now)
        self._io.append(given)
        self._send(self.client, messages.Placed(run.task, actor, self.spot))
        self._call()

    def take(self) -> Envelope | None:
        """The next task to start now, if any."""
        if self._io:
            return self._io.popleft()
        if self._cpu and self._cpu_task is None:
            envelope = self._cpu.popleft()
            self._cpu_task = envelope.message.task
            return envelope
        self._is_called = False
        return None

    def begin(self, run: messages.Run, actor: int, now: float, *, waits: bool) -> None:
        """A CPU task has its address; its call is opened next, or fetched first (`waits`)."""
        self.running[run.task] = Running(run, actor, now)
        if waits:
            self._send(self.client, messages.Placed(run.task, actor, self.spot))
        if run.task in self._asked:
            self._asked.discard(run.task)
            self._effects.append(Interrupt(run.task))

    def enter(self, task: TaskId, now: float) -> bool:
        """Its call is open, the first step comes now. True: the start was announced, and should leave before the step."""
        running = self.running[task]
        running.began = now
        if running.run.short:
            return False
        self._announce(running)
        return True

    def suspended(self, task: TaskId) -> None:
        """The first step is over and the task goes on: others may want to talk to it."""
        running = self.running.get(task)
        if running is not None and not running.announced:
            self._announce(running)

    def seconds_of(self, task: TaskId, now: float) -> float:
        """How long it has run."""
        return now - self.running[task].began

    def end(
        self, task: TaskId, outcome: OutcomeKind, payload: Payload, marks: tuple[int, int] | None, now: float
    ) -> None:
        """The task has its outcome: to the client, after all that the task sent there.

        `marks` are behind what it wrote, in the streams of its output.
        """
        running = self.running.pop(task)
        run = running.run
        is_drained = outcome == OutcomeKind.TERMINATED and self._reason
        text = f"{run.function} was terminated: {self._reason}" if is_drained else ""
        if self._cpu_task == task:
            self._cpu_task = None
        word = messages.Outcome(
            task, outcome, running.actor, self.spot, now - running.began, True, text, marks
        )
        self._effects.append(Send(Envelope(self.client, self.address, word, 0, payload)))
        if self._cpu:
            self._call()
        self._stop_if_idle()

    def check(self) -> None:
        """What must hold between two messages."""
        cpu = [running.run.task for running in self.running.values() if not running.run.io]
        assert len(cpu) <= 1, f"two CPU tasks run at once: {cpu}"
        if cpu:
            assert self._cpu_task == cpu[0], "the running CPU task is not the one taken"
        assert not (self.draining and self._cpu), "it drains and keeps what has not begun"

    # --- small ---

    def _call(self) -> None:
        """Once is enough until `take` has given None."""
        if not self._is_called:
            self._is_called = True
            self._effects.append(Work())

    def _announce(self, running: Running) -> None:
        running.announced = True
        self._send(self.client, messages.Started(running.run.task, running.actor, self.spot))

    def _speak(self, run: messages.Run, outcome: OutcomeKind) -> None:
        self._send(self.client, messages.Outcome(run.task, outcome, 0, self.spot, 0.0, False))

    def _stop_if_idle(self) -> None:
        if self.draining and not self.running and self._cpu_task is None:
            self._effects.append(Stop())

    def _send(self, to: Address, word: messages.Message) -> None:
        self._effects.append(Send(Envelope(to, self.address, word)))


def _report(run: messages.Run, state: str, since: float) -> TaskReport:
    task = run.task
    return TaskReport(run.function, task.owner, task.number, task.attempt, run.io, state, since)
