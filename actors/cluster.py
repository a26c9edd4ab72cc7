"""What a client is told about its cluster and what it asks of nodes: the spec's small classes (6.5, 6.6, 6.7)."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from dispycos.protocol.messages import Allocation, NodeInfo
from dispycos.protocol.status import Status

from .ledger import News, Pulsed, Record
from .task import Location, Task


class DispycosStatus(NamedTuple):
    """A change of a node, server or task, as a status_task gets it (spec 6.5)."""

    status: Status
    info: Any


class TaskInfo(NamedTuple):
    """The info of TaskCreated: start_time is in seconds since the Unix epoch, by the client's clock."""

    task: Task
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    start_time: float


class DispycosNodeAvailInfo(NamedTuple):
    """What a node has left (spec 6.6): cpu in percent, memory, disk and swap in bytes; None where it is not known."""

    location: Location
    cpu: float | None = None
    memory: int | None = None
    disk: int | None = None
    swap: int | None = None


class DispycosNodeInfo(NamedTuple):
    """A node in a status message; answers for its avail_info too, as scripts read either."""

    name: str
    addr: str
    cpus: int
    platform: str
    avail_info: DispycosNodeAvailInfo

    @property
    def location(self) -> Location:
        return self.avail_info.location

    @property
    def cpu(self) -> float | None:
        return self.avail_info.cpu

    @property
    def memory(self) -> int | None:
        return self.avail_info.memory

    @property
    def disk(self) -> int | None:
        return self.avail_info.disk

    @property
    def swap(self) -> int | None:
        return self.avail_info.swap


def avail_info(node: NodeInfo) -> DispycosNodeAvailInfo:
    location = Location(node.addr, node.port)
    if node.available is None:
        return DispycosNodeAvailInfo(location)
    return DispycosNodeAvailInfo(location, *node.available)


def node_info(node: NodeInfo) -> DispycosNodeInfo:
    return DispycosNodeInfo(node.name, node.addr, node.cpus, node.platform, avail_info(node))


def task_info(task: Task, info: tuple[tuple[Any, ...], dict[str, Any]] | None) -> TaskInfo:
    args, kwargs = info if info is not None else ((), {})
    return TaskInfo(task, args, kwargs, time.time())


def status_word(effect: News | Pulsed, handle_of: Callable[[Record], Task]) -> Any:
    """What a status_task gets for a change that the ledger saw."""
    if isinstance(effect, Pulsed):
        return avail_info(effect.node)
    info: Any = effect.info
    if isinstance(info, Record):
        info = task_info(handle_of(info), info.info)
    elif isinstance(info, NodeInfo):
        info = node_info(info)
    return DispycosStatus(effect.status, info)


@dataclass
class DispycosNodeAllocate:
    """Which nodes a client takes, and how many CPUs of each (spec 6.7).

    Parameters
    ----------
    node: name, address, or address pattern with ``*``. port: the node's, if not the default.
    platform: regular expression looked for in the node's platform, ignoring case.
    cpus: None takes all; 0 leaves such nodes out; n > 0 needs and takes n; n < 0 leaves n free.
    memory, disk: bytes that must be available.
    """

    node: str
    port: int | None = None
    platform: str = ""
    cpus: int | None = None
    memory: int = field(default=0)
    disk: int = field(default=0)

    def __post_init__(self) -> None:
        if not isinstance(self.node, str) or not self.node:
            raise TypeError(f"DispycosNodeAllocate: node must be a name or an address, not {self.node!r}")

    def as_word(self) -> Allocation:
        return Allocation(self.node, self.port, self.platform, self.cpus, self.memory, self.disk)


def allocations(nodes: Any) -> list[Allocation]:
    """What Client(nodes=...) means: names, addresses or DispycosNodeAllocate; nothing means any node."""
    if isinstance(nodes, str | DispycosNodeAllocate):
        nodes = [nodes]
    words = []
    for number, item in enumerate(nodes or ()):
        if isinstance(item, str):
            item = DispycosNodeAllocate(item)
        if not isinstance(item, DispycosNodeAllocate):
            raise TypeError(
                f"nodes[{number}] must be a host name, an address or a DispycosNodeAllocate, not {type(item).__name__}"
            )
        if hasattr(item, "allocate"):
            raise TypeError(
                f"nodes[{number}]: a subclass with its own allocate() is not available in this version"
            )
        words.append(item.as_word())
    return words
