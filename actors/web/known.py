"""What a viewer knows of clients, nodes and servers, by what they said last."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final

from dispycos.protocol.messages import NodeInfo, ServerUse, TaskReport
from dispycos.protocol.watching import ClientSight, Machine, Peer

HISTORY: Final = 60  # samples of a node
ARGS_KEPT: Final = 20_000  # texts of arguments, by task


class History(list[float]):
    """The last values, the newest at the end."""

    def add(self, value: float) -> None:
        """Whole numbers where that is exact enough for a chart: as JSON they cost a tenth."""
        self.append(round(value, 1) if value < 10 and value % 1 else round(value))
        if len(self) > HISTORY:
            del self[0]


@dataclass(slots=True, eq=False)
class KnownNode:
    info: NodeInfo
    id: str
    state: str = "idle"
    text: str = ""
    client: str | None = None
    machine: Machine | None = None
    resting: str = ""
    # Ports of servers that are not there, and why.
    absent: list[tuple[int, str]] = field(default_factory=list)
    seen: float = 0.0  # the last word of it
    asked_at: float = 0.0
    rate: float = 0.0
    done: int = 0
    failed: int = 0
    submitted: int = 0
    running: int = 0
    servers: int = 0
    ended_rate: Rate = field(default_factory=lambda: Rate())
    cpu_history: History = field(default_factory=History)
    rate_history: History = field(default_factory=History)


@dataclass(slots=True, eq=False)
class KnownServer:
    epoch: int
    id: str
    node: int  # epoch
    node_id: str
    port: int
    name: str
    state: str = "starting"
    text: str = ""
    running: int = 0
    ahead: int = 0
    ended: int = 0
    failed: int = 0
    pid: int = 0
    task: TaskReport | None = None
    tasks: dict[int, TaskReport] = field(default_factory=dict)  # that run there, by number
    task_id: str | None = None
    since: float | None = None  # when that began
    use: ServerUse | None = None
    seen: float = 0.0
    is_gone: bool = False


@dataclass(slots=True, eq=False)
class KnownClient:
    epoch: int
    id: str
    name: str = ""
    host: str = ""
    pid: int = 0
    state: str = "queued"
    place: int | None = None
    since: float = 0.0
    ended: float | None = None
    text: str = ""
    sight: ClientSight | None = None  # the last
    task: int = 0  # the last that ended and was told
    line: int = 0
    death: int = 0
    unanswered: int = 0  # looks in a row
    told: set[str] = field(default_factory=set)  # of from_clients.LONG, that it has told of
    args: dict[int, str] = field(default_factory=dict)  # as text, by number of the task
    peers: dict[int, Peer] = field(default_factory=dict)
    linked_at: float = 0.0  # when these were told

    def task_id(self, number: int) -> str:
        return f"{self.id}.{number}"

    def failure_id(self, number: int) -> str | None:
        return f"{self.id}.f{number}" if number else None

    def keep_args(self, number: int, text: str) -> None:
        self.args[number] = text
        while len(self.args) > ARGS_KEPT:
            del self.args[next(iter(self.args))]


@dataclass(slots=True)
class Rate:
    """Of a counter, over the time since it was looked at last."""

    count: int = 0
    at: float = 0.0
    value: float = 0.0

    def saw(self, count: int, now: float) -> float:
        if self.at and now > self.at:
            self.value = max(0.0, (count - self.count) / (now - self.at))
        self.count, self.at = count, now
        return self.value


@dataclass(slots=True)
class Mailbox:
    """Of a task: the age of its oldest message is known as well as it was looked at."""

    came: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=3600))
    rate: Rate = field(default_factory=Rate)

    def saw(self, messages: int, taken: int, now: float) -> tuple[float | None, float]:
        """(age of the oldest message, messages taken a second)."""
        came = self.came
        came.append((now, taken + messages))
        while len(came) > 1 and came[0][1] <= taken:  # all that had come by then was taken
            came.popleft()
        oldest = now - came[0][0] if messages else None
        return oldest, self.rate.saw(taken, now)
