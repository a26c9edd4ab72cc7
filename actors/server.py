"""What a server process does with the tasks it is given: one CPU task at a time, io tasks beside it, each with one outcome."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from dispycos.brokers.placement import FAST_S
from dispycos.machine import Send
from dispycos.protocol import messages
from dispycos.protocol.addresses import CLIENT, Address
from dispycos.protocol.envelope import Envelope, Payload, buffers_of, size_of
from dispycos.protocol.messages import Spot, TaskId
from dispycos.protocol.status import OutcomeKind

from .feeding import DIRECT

ADOPT_AFTER = 0.015  # seconds until the node hears of a task that the client gave directly; the relief thread comes after 20 ms
COPY_MAX = 64 * 1024  # bytes of an outcome that the node keeps a copy of, in case this process dies


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


class Given(NamedTuple):
    """A task that waits here, and its place in the order in which they were given."""

    position: int
    envelope: Envelope

    @property
    def run(self) -> messages.Run:
        return self.envelope.message  # type: ignore[no-any-return]


class Running:
    """A task that was started."""

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
    address: of this machine. node: of the agent that feeds it. spot: what others are told of where it is.
    """

    def __init__(self, address: Address, node: Address, spot: Spot) -> None:
        self.address = address
        self.node = node
        self.spot = spot
        self.running: dict[TaskId, Running] = {}
        self.closing = False
        self._reason = ""
        self._given = 0  # tasks that the node gave so far: the position of the last one
        self._cpu: deque[Given] = deque()
        self._io: deque[Given] = deque()
        self._cpu_task: TaskId | None = None
        self._is_called = False  # the body was told to work, and has not found nothing to do since
        self._taken: dict[TaskId, bool] = {}  # given to the body, not begun; True: to be interrupted then
        self._lent = False  # to the client, which may send one task at a time itself
        self._reclaimed = False  # ... and no more after this one
        self._direct: messages.Run | None = None  # what the client sent itself, and the node does not know of
        self._adopt_at = 0.0
        self._effects: list[object] = []
        self._handlers: dict[type, Callable[[Envelope, float], None]] = {
            messages.Run: self.on_run,
            messages.Terminate: self.on_terminate,
            messages.Recall: self.on_recall,
            messages.Reclaim: self.on_reclaim,
            messages.Shutdown: self.on_shutdown,
            messages.Levels: lambda envelope, now: self._effects.append(SetLevels(envelope.payload)),
            messages.Gone: lambda envelope, now: self._effects.append(Forget(envelope.message.epochs)),
        }

    # --- Machine ---

    def receive(self, envelope: Envelope, now: float) -> None:
        handler = self._handlers.get(type(envelope.message))
        if handler is not None:
            handler(envelope, now)

    def wake(self, now: float) -> None:
        if self._direct is None or self._adopt_at > now:
            return
        if self._direct.task in self.running:
            self._adopt(self._direct)
        else:
            self._adopt_at = now + ADOPT_AFTER  # it has not begun

    def deadline(self) -> float | None:
        return self._adopt_at if self._direct is not None else None

    def drain(self) -> list[object]:
        effects, self._effects = self._effects, []
        return effects

    # --- from the node, and from the client that it is lent to ---

    def on_run(self, envelope: Envelope, now: float) -> None:
        if envelope.sender.epoch == self.node.epoch:
            self._given += 1
            position = self._given
        elif self._accept(envelope, now):
            position = DIRECT + envelope.message.task.number
        else:
            return
        (self._io if envelope.message.io else self._cpu).append(Given(position, envelope))
        self._call()

    def on_terminate(self, envelope: Envelope, now: float) -> None:
        task = envelope.message.task
        if task in self.running:
            self._effects.append(Interrupt(task))
            return
        if task in self._taken:
            self._taken[task] = True
            return
        for queue in (self._cpu, self._io):
            for waiting in queue:
                if waiting.run.task == task:
                    queue.remove(waiting)
                    self._cancel(waiting.run)
                    return

    def on_recall(self, envelope: Envelope, now: float) -> None:
        """Give back the last ones: they would have waited longest. A task is here or given back, never both."""
        count = min(envelope.message.count, len(self._cpu))
        back = [self._cpu.pop().run.task for _ in range(count)]
        self._send(self.node, messages.Recalled(back[::-1]))

    def on_reclaim(self, envelope: Envelope, now: float) -> None:
        if self._direct is not None:
            self._reclaimed = True
        elif self._lent or envelope.sender == self.node:
            self._give_back()  # the node learns from the answer that we are alive

    def on_shutdown(self, envelope: Envelope, now: float) -> None:
        self.closing = True
        self._reason = envelope.message.reason
        for queue in (self._cpu, self._io):
            while queue:
                self._cancel(queue.popleft().run)
        self._taken = dict.fromkeys(self._taken, True)
        self._effects.extend(Interrupt(task) for task in self.running)
        self._stop_if_idle()

    # --- called by the body, on the loop, under the lock ---

    def take(self) -> Given | None:
        """The next task to start now, if any."""
        if self._io:
            given = self._io.popleft()
        elif self._cpu and self._cpu_task is None:
            given = self._cpu.popleft()
            self._cpu_task = given.run.task
        else:
            self._is_called = False
            return None
        self._taken[given.run.task] = False
        return given

    def begin(self, run: messages.Run, actor: int, now: float) -> None:
        """It has its address; its call is opened next."""
        self.running[run.task] = Running(run, actor, now)
        if self._taken.pop(run.task):
            self._effects.append(Interrupt(run.task))

    def enter(self, task: TaskId, now: float) -> bool:
        """Its call is open, the first step comes now. True: the start was announced, and should leave before the step."""
        running = self.running[task]
        running.began = now
        if running.run.fast:
            return False
        self._announce(running)
        return True

    def suspended(self, task: TaskId) -> None:
        """The first step is over and the task goes on: others may want to talk to it."""
        running = self.running.get(task)
        if running is not None and not running.announced:
            self._announce(running)

    def end(self, task: TaskId, outcome: OutcomeKind, payload: Payload, text: str, now: float) -> None:
        """The task has its outcome: to the client, after all that the task sent there, and a copy to the node.

        The client's first, since somebody waits for it; if a death leaves out one of the two, the other is enough.
        """
        running = self.running.pop(task)
        run = running.run
        if outcome == OutcomeKind.TERMINATED and self._reason:
            text = f"{run.function} was terminated: {self._reason}"
        if self._cpu_task == task:
            self._cpu_task = None
        seconds = now - running.began
        size = len(payload) if type(payload) is bytes else sum(map(size_of, buffers_of(payload)))
        copy = payload if size <= COPY_MAX and not isinstance(payload, list) else None
        lent = self._is_lent_after(run, outcome, seconds)
        direct = self._is_direct(task)
        node = 0 if direct else self.node.epoch
        word = messages.Outcome(task, outcome, running.actor, self.spot, seconds, True, text, node, lent)
        self._effects.append(Send(Envelope(Address(run.task.owner, CLIENT), self.address, word, 0, payload)))
        if direct:
            self._direct_ended(lent)
        else:
            self._lent |= lent
            done = messages.Done(task, outcome, seconds, self.address.epoch, running.actor, size, lent)
            self._effects.append(Send(Envelope(self.node, self.address, done, 0, copy)))
        if self._cpu or self._io:
            self._call()
        self._stop_if_idle()

    def refuse(self, run: messages.Run, text: str) -> None:
        """The task was taken but cannot be started: its call or its code cannot be had."""
        self._taken.pop(run.task, None)
        if self._cpu_task == run.task:
            self._cpu_task = None
        self._speak(run, OutcomeKind.REFUSED, text)
        if self._cpu:
            self._call()
        self._stop_if_idle()

    def check(self) -> None:
        """What must hold between two messages."""
        cpu = [running.run.task for running in self.running.values() if not running.run.io]
        assert len(cpu) <= 1, f"two CPU tasks run at once: {cpu}"
        assert self._lent or self._direct is None, "a task came directly, without a loan"
        if cpu:
            assert self._cpu_task == cpu[0], "the running CPU task is not the one taken"

    # --- the loan ---

    def _accept(self, envelope: Envelope, now: float) -> bool:
        """A task that the client sent itself; if this server is not lent to it any more it gets it back."""
        run: messages.Run = envelope.message
        if self.closing or not self._lent or self._direct is not None:
            self._send(envelope.sender, messages.Recalled([run.task]))
            return False
        self._direct = run
        self._adopt_at = now + ADOPT_AFTER
        return True

    def _is_direct(self, task: TaskId) -> bool:
        return self._direct is not None and self._direct.task == task

    def _is_lent_after(self, run: messages.Run, outcome: OutcomeKind, seconds: float) -> bool:
        """Whether the client may send the next task itself: only while its tasks are short, and nobody wants the server."""
        if outcome > OutcomeKind.RAISED or seconds >= FAST_S or self.closing:
            return False
        if self._is_direct(run.task):
            return not self._reclaimed
        return run.lend and not self._cpu

    def _direct_ended(self, lent: bool) -> None:
        self._direct = None
        if not lent:
            self._give_back()

    def _give_back(self) -> None:
        self._lent = self._reclaimed = False
        self._send(self.node, messages.Returned())

    def _adopt(self, run: messages.Run) -> None:
        self._direct = None
        self._lent = self._reclaimed = False
        self._send(self.node, messages.Adopt(run.task, run.function))

    # --- small ---

    def _call(self) -> None:
        """Once is enough until `take` has given None."""
        if not self._is_called:
            self._is_called = True
            self._effects.append(Work())

    def _announce(self, running: Running) -> None:
        running.announced = True
        task = running.run.task
        self._send(Address(task.owner, CLIENT), messages.Started(task, running.actor, self.spot))
        if not self._is_direct(task):
            self._send(self.node, messages.Began(task, self.address.epoch))

    def _cancel(self, run: messages.Run) -> None:
        self._speak(run, OutcomeKind.CANCELLED, "")

    def _speak(self, run: messages.Run, outcome: OutcomeKind, text: str) -> None:
        direct = self._is_direct(run.task)
        node = 0 if direct else self.node.epoch
        word = messages.Outcome(run.task, outcome, 0, self.spot, 0.0, False, text, node)
        self._send(Address(run.task.owner, CLIENT), word)
        if direct:
            self._direct_ended(False)
        else:
            self._send(self.node, messages.Done(run.task, outcome, 0.0, self.address.epoch))

    def _stop_if_idle(self) -> None:
        if self.closing and not self.running and not self._taken:
            self._effects.append(Stop())

    def _send(self, to: Address, word: messages.Message) -> None:
        self._effects.append(Send(Envelope(to, self.address, word)))
