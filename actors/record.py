"""One task that this client asked for; its handles look here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dispycos.protocol.addresses import Address
from dispycos.protocol.envelope import Envelope, Payload, buffers_of, size_of
from dispycos.protocol.messages import TaskId

from .dispatching.facts import Entry
from .task import Location

if TYPE_CHECKING:
    from .task import Task


class Record(Entry):
    """From submit until the last handle is gone; until it has ended the ledger and the dispatcher have it.

    Parameters
    ----------
    task: who asked for it, as which of its tasks. call: pickled. code: the version of the program's code that it needs.
    io, node, server, alone, retries: as for Entry.
    """

    __slots__ = (
        "address",
        "call",
        "code",
        "cpu_s",
        "ended",
        "future",
        "handle",
        "held",
        "info",
        "location",
        "outcome",
        "payload",
        "peak_bytes",
        "seconds",
        "started",
        "task",
        "text",
        "watchers",
        "when_started",
    )

    def __init__(
        self,
        task: TaskId,
        function: str,
        call: Payload,
        *,
        io: bool = False,
        node: str = "",
        server: int = 0,
        alone: bool = False,
        retries: int = 0,
        code: int = 0,
    ) -> None:
        size = len(call) if type(call) is bytes else sum(map(size_of, buffers_of(call)))
        super().__init__(function, io=io, node=node, server=server, alone=alone, size=size, retries=retries)
        self.task = task
        self.call = call  # given up when the outcome is there
        self.code = code
        self.address: Address | None = None
        self.location: Location | None = None
        self.started = False  # by what its server said
        self.ended = False  # its outcome is here, and what it printed
        self.outcome = 0
        self.text = ""
        self.seconds: float | None = None  # that it ran, by what its server said
        self.cpu_s: float | None = None  # seconds of CPU; None: not known
        self.peak_bytes: int | None = None  # by which its server's peak of memory rose; None: not known
        self.payload: Payload = None
        self.future: Any = None  # the handle, when somebody waits for the outcome
        self.when_started: Any = None  # a future, while rtask() waits for the start
        self.held: list[Envelope] | None = None  # messages for a task that has no address yet
        self.watchers: list[tuple[Address, int]] | None = None
        self.handle: Task | None = None
        self.info: Any = None  # args and kwargs, kept only for a status_task

    def watch(self, watcher: Address, correlation: int) -> None:
        self.watchers = [*(self.watchers or ()), (watcher, correlation)]
