"""One task that this client asked for; its handles look here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dispycos.protocol.addresses import Address
from dispycos.protocol.envelope import Envelope, Payload
from dispycos.protocol.messages import TaskId

from .dispatching.facts import Entry
from .task import Location

if TYPE_CHECKING:
    from .task import Task


class Record(Entry, eq=False, kw_only=True):
    """From submit until the last handle is gone; until it has ended the ledger and the dispatcher have it."""

    task: TaskId  # who asked for it, as which of its tasks
    call: Payload  # pickled; given up when the outcome is there
    code: int = 0  # the version of the program's code that it needs
    address: Address | None = None
    location: Location | None = None
    started: bool = False  # by what its server said
    ended: bool = False  # its outcome is here, and what it printed
    outcome: int = 0
    text: str = ""
    seconds: float | None = None  # that it ran, by what its server said
    cpu_s: float | None = None  # seconds of CPU; None: not known
    peak_bytes: int | None = None  # by which its server's peak of memory rose; None: not known
    payload: Payload = None
    future: Any = None  # the handle, when somebody waits for the outcome
    when_started: Any = None  # a future, while rtask() waits for the start
    held: list[Envelope] | None = None  # messages for a task that has no address yet
    watchers: list[tuple[Address, int]] | None = None
    handle: Task | None = None
    submitter: Address | None = None  # the server of the task that submitted it, told of its end
    info: Any = None  # args and kwargs, kept only for a status_task

    @property
    def home(self) -> Address:
        return Address(self.task.owner, self.task.number)

    def watch(self, watcher: Address, correlation: int) -> None:
        self.watchers = [*(self.watchers or ()), (watcher, correlation)]
