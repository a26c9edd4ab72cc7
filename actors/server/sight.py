"""What a server process tells those who look at it: what it uses, what its tasks have, and where they are now.

Nothing is kept for it. What may run code of the user's, a `__repr__` for example, runs in a thread that is made when somebody
asks and is given up if that does not end: then only the one text is missing. A turn takes no part in it, nor does the loop.
"""

from __future__ import annotations

import ctypes
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from resource import RUSAGE_SELF, getrusage
from typing import Any, Final, NamedTuple

import psutil

from dispycos.protocol.messages import Inventory, Message, ServerTasks, ServerUse, TaskId, TaskReport
from dispycos.protocol.watching import ARGUMENTS, MAILBOXES, StackGiven
from dispycos.runtime import Runtime

from ..tasks.cell import Cell
from ..tasks.running.interrupts import Interrupts
from .arguments import GivenUp, Writing
from .meter import UNIT, Meter
from .queue import Server, Tell, TellStack
from .stacks import stack_of

STATM: Final = Path("/proc/self/statm")
TEXTS_S: Final = 0.15  # for all texts of one answer: a node waits 0.3 s for it
TEXT_S: Final = 0.05  # for those of one task
STACK_S: Final = 0.2
END_S: Final = 2.0  # what was given up and still runs is ended then
LOOK_AGAIN_S: Final = 0.1
HANGING_MAX: Final = 4  # of these; then nothing more is tried
JOBS_MAX: Final = 16  # questions that wait for the thread; those beyond are answered without texts

log = logging.getLogger("dispycos")


class Hand(threading.Thread):
    """Makes these calls, one after the other, for somebody who waits only so long."""

    def __init__(self, calls: deque[Callable[[], Any]]) -> None:
        super().__init__(name="dispycos-sight", daemon=True)
        self.calls = calls
        self.results: SimpleQueue[Any] = SimpleQueue()
        self.ends_at = time.monotonic() + END_S  # if it was given up
        self.is_ended = False  # by us
        self._is_over = False
        self._ending = threading.Lock()
        self.start()

    def run(self) -> None:
        with suppress(GivenUp, IndexError):  # nothing is left to be called, as it was given up
            try:
                while self.calls:
                    self.results.put(self.calls.popleft()())
            finally:
                with self._ending:
                    self._is_over = True

    @property
    def hangs(self) -> bool:
        return not self._is_over

    def end(self) -> None:
        """Code in Python ends now; what waits in a system call costs nobody anything."""
        with self._ending:
            self.is_ended = self.hangs
            if self.hangs:
                identity, error = ctypes.c_ulong(self.ident or 0), ctypes.py_object(GivenUp)
                ctypes.pythonapi.PyThreadState_SetAsyncExc(identity, error)


class Hanging(NamedTuple):
    """Of a task whose arguments could not be written in time."""

    hand: Hand
    text: str


class Sight:
    """`cells`: the tasks that have their address here. `meter`: of the CPU task."""

    def __init__(
        self,
        runtime: Runtime,
        machine: Server,
        interrupts: Interrupts,
        cells: Mapping[TaskId, Cell],
        meter: Meter,
    ) -> None:
        self._runtime = runtime
        self._machine = machine
        self._interrupts = interrupts
        self._cells = cells
        self._meter = meter
        self._jobs: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._thread: threading.Thread | None = None
        # Of the thread alone:
        self._hanging: dict[TaskId, Hanging] = {}
        self._given_up: list[Hand] = []

    # --- within a turn, perhaps on the relief thread: no user code ---

    def tell(self, wanted: Tell) -> None:
        word: Inventory = wanted.request.message
        tasks = [self._with_mailbox(task) if word.parts & MAILBOXES else task for task in wanted.tasks]
        used = self._meter.so_far()
        tasks = [
            task._replace(cpu_s=used[0], peak_bytes=used[1])
            if task.state == "running" and not task.io
            else task
            for task in tasks
        ]
        answer = partial(self._machine.answer, wanted.request)
        running = any(task.state == "running" for task in tasks)
        if not (word.parts & ARGUMENTS and running and self._ask(partial(self._tell_texts, answer, tasks))):
            answer(ServerTasks(tasks, self.use()))

    def tell_stack(self, wanted: TellStack) -> None:
        answer = partial(self._machine.answer, wanted.request)
        cell, function = self._cells.get(wanted.run.task), wanted.run.function
        if cell is None:
            text = "it has ended; its outcome waits until what it sent before has left"
            answer(StackGiven([], text, function))
        elif not self._ask(partial(self._tell_frames, answer, cell, function)):
            answer(StackGiven([], "too many questions at once: ask again", function))

    def use(self) -> ServerUse:
        """So far."""
        used = getrusage(RUSAGE_SELF)
        cpu_s = used.ru_utime + used.ru_stime
        memory, machine = _resident(), self._machine
        peak = max(memory, used.ru_maxrss * UNIT)  # the kernel counts that one now and then
        return ServerUse(machine.ended, machine.failed, cpu_s, memory, peak)

    def _with_mailbox(self, task: TaskReport) -> TaskReport:
        cell = self._cells.get(_id_of(task))
        if cell is None or not cell.actor:
            return task
        return task._replace(
            actor=cell.actor, messages=len(cell.inbox), taken=cell.taken_count, names=list(cell.names)
        )

    def _ask(self, job: Callable[[], None]) -> bool:
        """Have the thread do this. False: it has too much to do."""
        if self._jobs.qsize() >= JOBS_MAX:
            return False
        self._jobs.put(job)
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="dispycos-sight", daemon=True)
            self._thread.start()
        return True

    # --- in the thread, which lasts as long as there is something to do ---

    def _work(self) -> None:
        while True:
            try:
                self._jobs.get(timeout=self._end_hands())()
            except Empty:
                with self._runtime.lock:
                    if self._jobs.empty() and all(hand.is_ended for hand in self._given_up):
                        self._thread = None
                        return
            except Exception:
                log.exception("what was asked about the tasks of this server is not answered")

    def _end_hands(self) -> float:
        """Those that were given up and have had their time. Seconds until it is to be looked again; 0: none is left."""
        now = time.monotonic()
        for hand in self._given_up:
            if hand.ends_at <= now and not hand.is_ended:
                hand.end()
        self._given_up = [hand for hand in self._given_up if hand.hangs]
        left = [hand.ends_at - now for hand in self._given_up if not hand.is_ended]
        return min(*left, LOOK_AGAIN_S) if left else 0.0

    def _answer(self, answer: Callable[[Message], None], word: Message) -> None:
        with self._runtime.lock:
            answer(word)
        self._runtime.turn_soon()

    def _tell_texts(self, answer: Callable[[Message], None], tasks: list[TaskReport]) -> None:
        texts = self._texts([_id_of(task) for task in tasks if task.state == "running"])
        told = [task._replace(args=texts.get(_id_of(task))) for task in tasks]
        self._answer(answer, ServerTasks(told, self.use()))

    def _texts(self, tasks: list[TaskId]) -> dict[TaskId, str | None]:
        """Those that can be had in time."""
        self._hanging = {
            task: one
            for task, one in self._hanging.items()
            if task in self._cells and (one.hand.hangs or one.hand.is_ended)  # else it was only slow
        }
        texts: dict[TaskId, str | None] = {task: one.text for task, one in self._hanging.items()}
        cells = {task: self._cells.get(task) for task in tasks if task not in texts}
        writings = {task: Writing(cell) for task, cell in cells.items() if cell is not None}
        until = time.monotonic() + TEXTS_S
        while writings and time.monotonic() < until and len(self._given_up) < HANGING_MAX:
            hand = Hand(deque(writing.write for writing in writings.values()))
            for task in list(writings):
                writing = writings.pop(task)
                try:
                    texts[task] = hand.results.get(timeout=min(TEXT_S, max(0.0, until - time.monotonic())))
                except Empty:
                    hand.calls.clear()
                    self._given_up.append(hand)
                    texts[task] = text = writing.give_up()
                    self._hanging[task] = Hanging(hand, text)
                    break
        return texts

    def _tell_frames(self, answer: Callable[[Message], None], cell: Cell, function: str) -> None:
        hand = Hand(deque([partial(stack_of, cell, self._interrupts)]))
        try:
            frames, text = hand.results.get(timeout=STACK_S)
        except Empty:
            self._given_up.append(hand)
            frames, text = [], "its frames could not be read in time: ask again"
        self._answer(answer, StackGiven(frames, text, function))


def _id_of(task: TaskReport) -> TaskId:
    return TaskId(task.owner, task.number, task.attempt)


def _resident() -> int:
    """Bytes of memory."""
    try:
        return int(STATM.read_bytes().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        resident: int = psutil.Process().memory_info().rss
        return resident
