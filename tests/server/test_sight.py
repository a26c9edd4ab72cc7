"""What a server tells those who look at it."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any, cast

import psutil

from dispycos.actors.server.meter import Meter
from dispycos.actors.server.queue import Server, Tell
from dispycos.actors.server.sight import Sight
from dispycos.actors.tasks.cell import Cell
from dispycos.machine import Send
from dispycos.protocol.addresses import NODE, SERVER, Address
from dispycos.protocol.envelope import Envelope
from dispycos.protocol.messages import Inventory, ServerTasks, Spot, TaskId, TaskReport
from dispycos.protocol.watching import MAILBOXES, SERVERS

ME, AGENT = Address(1001, SERVER), Address(900, NODE)


def report(number: int, state: str = "running") -> TaskReport:
    return TaskReport("compute", 7, number, 1, False, state, 2.0)


class Desk:
    """A server's machine, and its sight of cells that are made up."""

    def __init__(self) -> None:
        self.machine = Server(ME, Address(7, 1), AGENT, Spot("", 0, 1001, "s"), lambda run: 16)
        self.cells: dict[TaskId, Cell] = {}
        self.meter = Meter()
        self.sight = Sight(cast(Any, None), self.machine, cast(Any, None), self.cells, self.meter)

    def put(self, number: int, **about: Any) -> None:
        self.cells[TaskId(7, number)] = cast(
            Cell, SimpleNamespace(**{"actor": 0, "inbox": [], "taken_count": 0, "names": ()} | about)
        )

    def tell(self, parts: int, *tasks: TaskReport) -> ServerTasks:
        self.sight.tell(Tell(Envelope(ME, AGENT, Inventory(parts), 3), list(tasks)))
        [said] = self.machine.drain()
        assert isinstance(said, Send) and (said.envelope.to, said.envelope.correlation) == (AGENT, 3)
        word = said.envelope.message
        assert isinstance(word, ServerTasks)
        return word


def test_it_tells_what_its_process_uses_and_has_done() -> None:
    desk = Desk()
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
    assert said.use.peak >= 0.9 * said.use.memory


def test_it_counts_the_messages_in_the_mailboxes_of_those_who_have_one() -> None:
    desk = Desk()
    desk.put(1)
    desk.put(2)
    cell = cast(Any, desk.cells[TaskId(7, 2)])
    cell.actor, cell.inbox, cell.taken_count = 20, ["one", "two"], 5
    tasks = [report(1), report(2), report(3, "waiting")]
    assert desk.tell(SERVERS, *tasks).tasks == tasks
    told = report(2)._replace(actor=20, messages=2, taken=5)
    assert desk.tell(MAILBOXES, *tasks).tasks == [report(1), told, report(3, "waiting")]
