"""A task that somebody here asked for: what its handles look at, until the last of them is gone."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from dispycos.protocol.addresses import Address, Location
from dispycos.protocol.envelope import Envelope, Payload
from dispycos.protocol.messages import TaskId
from dispycos.protocol.status import ENDED, OutcomeKind


class Usage(NamedTuple):
    """What a task has used.

    Attributes
    ----------
    seconds: that it ran, from its first step.
    cpu_s: seconds of CPU; None: not known.
    peak_bytes: bytes by which the peak of its server's memory rose while it ran; None: not known.
    """

    seconds: float
    cpu_s: float | None
    peak_bytes: int | None


class Record(msgspec.Struct, eq=False):
    """What is known of it. A client's are its dispatcher's entries, too (actors/dispatching/facts.py): a million may wait."""

    function: str
    task: TaskId = TaskId(0, 0)  # who asked for it, as which of its tasks
    call: Payload = None  # pickled; given up when the outcome is there
    size: int = 0  # of that, in bytes
    code: int = 0  # the version of the program's code that it needs
    io: bool = False
    alone: bool = False  # somebody waits for its start (rtask): an actor, never behind another
    receives: bool = False  # its function takes messages: an actor, too
    may_receive: bool = False  # its function does not, but hands its task to what might
    retries: int = 0
    attempt: int = 1
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
    taken: Any = None  # Taken: of what was sent to its home, and went on from there
    watchers: list[tuple[Address, int]] | None = None
    handle: Any = None  # its Task, while somebody has one
    submitter: Address | None = None  # the server of the task that submitted it, told of its end
    info: Any = None  # args and kwargs, kept only for a status_task

    @property
    def home(self) -> Address:
        return Address(self.task.owner, self.task.number)

    @property
    def resources(self) -> dict[str, list[int]]:
        """What it has of its node's, known to its client."""
        return {}

    @property
    def state(self) -> str:
        """For people."""
        if not self.ended:
            return "queued" if self.address is None else "running"
        took = "" if self.seconds is None else f" in {self.seconds:.3g} s"
        return f"{ENDED[OutcomeKind(self.outcome)]}{took}"

    def watch(self, watcher: Address, correlation: int) -> None:
        self.watchers = [*(self.watchers or ()), (watcher, correlation)]
