"""What a server tells those who look at it."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import psutil
import pytest

from dispycos.actors.server import sight
from dispycos.actors.server.meter import Meter
from dispycos.actors.server.queue import Server, Tell, TellStack
from dispycos.actors.server.sight import HANGING_MAX, JOBS_MAX, Hand, Sight
from dispycos.actors.tasks.cell import Cell
from dispycos.machine import Send
from dispycos.protocol.addresses import NODE, SERVER, Address
from dispycos.protocol.envelope import Envelope
from dispycos.protocol.messages import Inventory, Message, Run, ServerTasks, Spot, TaskId, TaskReport
from dispycos.protocol.watching import ARGUMENTS, MAILBOXES, SERVERS, StackGiven, StackWanted
from tests.kit.programs import wait_until

ME, AGENT = Address(1001, SERVER), Address(900, NODE)


def report(number: int, state: str = "running") -> TaskReport:
    return TaskReport("compute", 7, number, 1, False, state, 2.0)


class Desk:
    """A server's machine, and its sight of cells that are made up."""

    def __init__(self) -> None:
        self.machine = Server(ME, Address(7, 1), AGENT, Spot("", 0, 1001, "s"), lambda run: 16)
        self.cells: dict[TaskId, Cell] = {}
        self.turn_due = threading.Event()
        runtime = SimpleNamespace(lock=threading.RLock(), turn_soon=self.turn_due.set)
        interrupts = SimpleNamespace(running=0, is_running=lambda owner: False)
        self.meter = Meter()
        self.sight = Sight(cast(Any, runtime), self.machine, cast(Any, interrupts), self.cells, self.meter)

    def put(self, number: int, *args: Any, **about: Any) -> None:
        """A plain function that runs with these arguments."""
        call: Any = (print, args, {})
        cell = SimpleNamespace(actor=0, inbox=[], taken_count=0, names=(), call=call, execution=None)
        cell.ended, cell.own_handle, cell.subtasks = False, None, None
        vars(cell).update(about)
        self.cells[TaskId(7, number)] = cast(Cell, cell)

    def tell(self, parts: int, *tasks: TaskReport) -> ServerTasks:
        self.sight.tell(Tell(Envelope(ME, AGENT, Inventory(parts), 3), list(tasks)))
        word = self.said()
        assert isinstance(word, ServerTasks)
        return word

    def said(self) -> Message:
        [said] = self.machine.drain()
        assert isinstance(said, Send) and (said.envelope.to, said.envelope.correlation) == (AGENT, 3)
        word = said.envelope.message
        assert isinstance(word, Message)
        return word

    def texts(self, *numbers: int) -> list[str | None]:
        """When the thread has made them."""
        self.sight.tell(Tell(Envelope(ME, AGENT, Inventory(ARGUMENTS), 3), [report(n) for n in numbers]))
        return self.texts_said()

    def texts_said(self) -> list[str | None]:
        assert self.turn_due.wait(20)
        self.turn_due.clear()
        word = self.said()
        assert isinstance(word, ServerTasks)
        return [task.args for task in word.tasks]

    def threads(self) -> list[threading.Thread]:
        return [thread for thread in threading.enumerate() if thread.name == "dispycos-sight"]


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    for name, seconds in (("END_S", 60.0), ("TEXT_S", 0.3), ("TEXTS_S", 30.0)):  # this machine may be busy
        monkeypatch.setattr(sight, name, seconds)
    desk = Desk()
    yield desk
    wait_until(lambda: not desk.threads(), 20, "nothing is left of its threads")


class Hanging:
    """Its text comes when it is let go."""

    def __init__(self) -> None:
        self.go = threading.Event()

    def __repr__(self) -> str:
        self.go.wait(30)
        return "at last"


class Spinning:
    def __repr__(self) -> str:
        while True:
            pass


class Stubborn:
    def __repr__(self) -> str:
        while True:
            try:
                while True:
                    pass
            except Exception as error:  # what it may catch
                del error


LATE = "<Hanging: its __repr__ takes too long>"


def test_it_tells_what_its_process_uses_and_has_done(desk: Desk) -> None:
    desk.machine.ended, desk.machine.failed = 12, 3
    before = psutil.Process().cpu_times()
    said = desk.tell(SERVERS, report(1))
    after = psutil.Process().cpu_times()
    assert said.tasks == [report(1)]
    assert (said.use.ended, said.use.failed) == (12, 3)
    tick = 1 / os.sysconf("SC_CLK_TCK")
    assert before.user + before.system - 2 * tick <= said.use.cpu_s <= after.user + after.system + 2 * tick
    resident = psutil.Process().memory_info().rss
    assert 0.5 * resident < said.use.memory < 2 * resident
    assert said.use.peak >= said.use.memory


def test_it_counts_the_messages_in_the_mailboxes_of_those_who_have_one(desk: Desk) -> None:
    desk.put(1)
    desk.put(2)
    cell = cast(Any, desk.cells[TaskId(7, 2)])
    cell.actor, cell.inbox, cell.taken_count = 20, ["one", "two"], 5
    tasks = [report(1), report(2), report(3, "waiting")]
    assert desk.tell(SERVERS, *tasks).tasks == tasks
    told = report(2)._replace(actor=20, messages=2, taken=5)
    assert desk.tell(MAILBOXES, *tasks).tasks == [report(1), told, report(3, "waiting")]


def test_no_thread_is_made_for_what_needs_no_text(desk: Desk) -> None:
    desk.put(1, "never looked at")
    waiting = report(1, "waiting")
    assert desk.tell(ARGUMENTS, waiting).tasks == [waiting]
    assert desk.threads() == []


def test_who_wants_arguments_gets_them_from_a_thread(desk: Desk) -> None:
    class Where:
        def __repr__(self) -> str:
            return threading.current_thread().name

    desk.put(1, Where(), 5)
    desk.put(2)
    assert desk.texts(1, 2, 3) == ["dispycos-sight, 5", "", None]


def test_a_text_that_does_not_come_is_no_other_tasks_business(desk: Desk) -> None:
    hanging = Hanging()
    for number, value in enumerate([1, hanging, 3], start=1):
        desk.put(number, value)
    assert desk.texts(1, 2, 3) == ["1", LATE, "3"]
    assert desk.texts(1, 2, 3) == ["1", LATE, "3"], "and it is not tried again"
    assert len([thread for thread in desk.threads() if isinstance(thread, Hand)]) == 1
    hanging.go.set()
    wait_until(lambda: not desk.threads(), 20, "it was only slow")
    assert desk.texts(1, 2, 3) == ["1", "at last", "3"]


def test_so_many_that_hang_and_nothing_more_is_tried(desk: Desk) -> None:
    hanging = [Hanging() for _ in range(HANGING_MAX + 1)]
    for number, value in enumerate(hanging, start=1):
        desk.put(number, value)
        assert desk.texts(number) == [LATE if number <= HANGING_MAX else None]
    desk.put(99, "fine")
    assert desk.texts(99) == [None]
    for value in hanging:
        value.go.set()


def test_code_that_does_not_end_is_ended_and_not_tried_again_for_its_task(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sight, "END_S", 0.6)
    desk.put(1, Spinning())
    desk.put(2, Stubborn())
    texts = [f"<{name}: its __repr__ takes too long>" for name in ("Spinning", "Stubborn")]
    assert desk.texts(1, 2) == texts
    wait_until(lambda: not desk.threads(), 20, "it was ended, though nobody looks any more")
    assert desk.texts(1, 2) == texts
    assert desk.threads() == [] or not any(isinstance(thread, Hand) for thread in desk.threads())
    del desk.cells[TaskId(7, 1)]
    desk.put(2, "another value")
    assert desk.texts(1, 2) == [None, texts[1]], "one that has ended is forgotten"
    assert list(desk.sight._hanging) == [TaskId(7, 2)]


def test_questions_that_are_too_many_are_answered_without_texts(desk: Desk) -> None:
    hanging = Hanging()
    desk.put(1, hanging)
    wanted = Tell(Envelope(ME, AGENT, Inventory(ARGUMENTS), 3), [report(1)])
    with desk.sight._runtime.lock:  # the thread cannot answer
        for _ in range(JOBS_MAX + 5):
            desk.sight.tell(wanted)
        answers = desk.machine.drain()
    assert 3 <= len(answers) <= 5, "one or two are being answered"
    hanging.go.set()
    wait_until(lambda: not desk.threads(), 20, "all are answered")
    desk.machine.drain()


def test_where_a_task_is_comes_from_a_thread_too(desk: Desk) -> None:
    run = Run(TaskId(7, 1), "compute", 1)
    wanted = TellStack(Envelope(ME, AGENT, StackWanted(1001, TaskId(7, 1)), 3), run)
    desk.sight.tell_stack(wanted)
    text = "it has ended; its outcome waits until what it sent before has left"
    assert desk.said() == StackGiven([], text, "compute")
    desk.put(1)
    desk.sight.tell_stack(wanted)
    assert desk.turn_due.wait(20)
    text = "its call, or code that it needs, is fetched from its client"
    assert desk.said() == StackGiven([], text, "compute")


def test_a_cpu_task_that_runs_tells_what_it_has_used_and_an_io_task_does_not(desk: Desk) -> None:
    io = report(2)._replace(io=True)
    assert [task.cpu_s for task in desk.tell(SERVERS, report(1), io).tasks] == [None, None], "it is short"
    desk.meter.begin(measured=True)
    cpu, shared = desk.tell(SERVERS, report(1), io).tasks
    assert cpu.cpu_s is not None and cpu.peak_bytes is not None
    assert (shared.cpu_s, shared.peak_bytes) == (None, None)


def test_the_names_of_a_task_are_told_with_its_mailbox(desk: Desk) -> None:
    desk.put(1, actor=5, names=("letters",))
    [task] = desk.tell(MAILBOXES, report(1)).tasks
    assert (task.actor, task.names) == (5, ["letters"])
