"""What a client is told about its cluster and what it asks of nodes: the spec's small classes (6.5, 6.6, 6.7)."""

from __future__ import annotations

import inspect
import re
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeAlias

from dispycos.brokers.allocation import Named, servers_by
from dispycos.protocol.addresses import Location
from dispycos.protocol.messages import Allocation, Availability, NodeInfo, Offer
from dispycos.protocol.status import Status
from dispycos.values import natural_number, parse_nodes, port_number, whole_number

from ..tasks.record import Record
from ..tasks.submitting import Task
from .effects import News, Pulsed

ENTRY: Final = "a host name, an address, a Location or a DispycosNodeAllocate"


@dataclass(frozen=True, slots=True)
class DispycosStatus:
    """A change of a node, server or task, as a status_task gets it by ``await task.receive()``.

    Attributes
    ----------
    status: what happened, a name of Scheduler: ``if word.status == Scheduler.NodeInitialized``.
    info: of a node's status (``Scheduler.Node...``) a DispycosNodeInfo, of a server's its Location, of TaskCreated a TaskInfo;
        else None.
    """

    status: Status
    info: Any


class TaskInfo(NamedTuple):
    """A task that has started: the info of ``Scheduler.TaskCreated``.

    Attributes
    ----------
    task: its handle.
    args, kwargs: what it was called with.
    start_time: seconds since the Unix epoch, by the client's clock.
    """

    task: Task
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    start_time: float


class DispycosNodeAvailInfo(NamedTuple):
    """What a node has left. A status_task gets one with each pulse of a node.

    Attributes
    ----------
    location: of the node.
    cpu: percent of its CPUs that is free. memory, disk, swap: bytes that are free. Each is None while it is not known.
    """

    location: Location
    cpu: float | None = None
    memory: int | None = None
    disk: int | None = None
    swap: int | None = None


class DispycosNodeInfo(NamedTuple):
    """A node, in what a status_task gets.

    Attributes
    ----------
    name, addr: of the node, as rtask_at takes them.
    cpus: how many CPUs it has for tasks.
    platform: what ``platform.platform()`` gives there.
    avail_info: what it has left. Its location, cpu, memory, disk and swap can be read here, too.
    """

    name: str
    addr: str
    cpus: int
    platform: str
    avail_info: DispycosNodeAvailInfo

    @property
    def location(self) -> Location:
        """Where it is: address and port."""
        return self.avail_info.location

    @property
    def cpu(self) -> float | None:
        """Percent of its CPUs that is free; None while it is not known."""
        return self.avail_info.cpu

    @property
    def memory(self) -> int | None:
        """Bytes of memory that are free; None while it is not known."""
        return self.avail_info.memory

    @property
    def disk(self) -> int | None:
        """Bytes that are free where tasks run; None while it is not known."""
        return self.avail_info.disk

    @property
    def swap(self) -> int | None:
        """Bytes of swap that are free; None while it is not known."""
        return self.avail_info.swap


def avail_info(node: NodeInfo) -> DispycosNodeAvailInfo:
    location = Location(node.addr, node.port)
    if node.available is None:
        return DispycosNodeAvailInfo(location)
    return DispycosNodeAvailInfo(location, *node.available)


def status_word(effect: News | Pulsed, handle_of: Callable[[Any], Task]) -> Any:
    """What a status_task gets for a change that the ledger saw."""
    if isinstance(effect, Pulsed):
        return avail_info(effect.node)
    info: Any = effect.info
    if isinstance(info, Record):
        args, kwargs = info.info or ((), {})
        info = TaskInfo(handle_of(info), args, kwargs, time.time())
    elif isinstance(info, NodeInfo):
        platform = DispycosNodeAllocate._told_platform(info.platform)
        info = DispycosNodeInfo(info.name, info.addr, info.cpus, platform, avail_info(info))
    return DispycosStatus(effect.status, info)


@dataclass
class DispycosNodeAllocate:
    """Which nodes a client takes, and how many CPUs of each.

    Parameters
    ----------
    node: name of a node, host name, address, ``"host:port"`` or Location; in names and addresses ``*`` stands for anything.
        A host that is named is dialled, so its node need not be found by itself.
    port: the node's, if not the default.
    platform: regular expression looked for in the node's platform, ignoring case.
    cpus: None takes all; 0 leaves such nodes out; n > 0 needs and takes n; n < 0 leaves n free.
    memory, disk: bytes that must be available; None or 0: it does not matter.

    A subclass may have an allocate() of its own. It is called in the program, on the client's loop, for each node that no entry
    before it in `nodes` has decided on, whatever this entry names.

    Raises
    ------
    TypeError, ValueError: a parameter is of no use; the text names it.
    """

    node: str | Location
    port: int | None = None
    platform: str | re.Pattern[str] | None = ""
    cpus: int | None = None
    memory: int | None = 0
    disk: int | None = 0

    def __post_init__(self) -> None:
        self._as_word()

    @staticmethod
    def _told_platform(platform: str) -> str:
        """As allocate() and status messages have it."""
        return platform

    def allocate(
        self, ip_addr: str, name: str, platform: str, cpus: int, memory: int | None, disk: int | None
    ) -> int:
        """How many CPUs of a node to take: n > 0 so many, 0 does not use it, n < 0 leaves it to the next entry of `nodes`.

        Parameters
        ----------
        ip_addr, name, platform: of the node; platform is what platform.platform() gives there.
        cpus: those that it has. memory, disk: bytes that are available; None if that is not known.
        """
        known = (
            Availability(0.0, memory or 0, disk or 0, 0) if memory is not None or disk is not None else None
        )
        word = self._as_word()
        node = NodeInfo(name, ip_addr, word.port or 0, cpus, platform, (0, 0), 0, known)
        # Whether a scheduler has found the node at this place, which it knows best.
        there = vars(self).get("_offered")
        if there is False or not Named(word, epochs=(0,) if there else ()).matches(node):
            return -1
        return servers_by(word, node)

    def _as_word(self) -> Allocation:
        """As schedulers know it."""
        what = "DispycosNodeAllocate"
        node, port = self._place(what)
        cpus = whole_number(self.cpus, f"{what}: cpus") if self.cpus is not None else None
        memory, disk = (
            natural_number(0 if value is None else value, f"{what}: {name}")
            for name, value in (("memory", self.memory), ("disk", self.disk))
        )
        own = getattr(self.allocate, "__func__", None) is not DispycosNodeAllocate.allocate
        return Allocation(node, port, self._pattern(what), cpus, memory, disk, own)

    def _place(self, what: str) -> tuple[str, int | None]:
        given = self.node
        if isinstance(given, Location):
            if self.port is not None:
                raise ValueError(f"{what}: {given} has a port of its own, so leave out port={self.port!r}")
            return self._parsed(given.addr, what)[0], port_number(given.port, f"{what}: port")
        node, port = self._parsed(given, what)
        if self.port is None:
            return node, port
        if port is not None:
            raise ValueError(f"{what}: {given!r} has a port of its own, so leave out port={self.port!r}")
        return node, port_number(self.port, f"{what}: port")

    def _parsed(self, text: object, what: str) -> tuple[str, int | None]:
        if not isinstance(text, str):
            raise TypeError(f"{what}: node must be a name, an address or a Location, not {text!r}")
        try:
            return parse_nodes(text)
        except ValueError as error:
            raise ValueError(f"{what}: node {text!r}: {error}") from None

    def _pattern(self, what: str) -> str:
        pattern = self.platform.pattern if isinstance(self.platform, re.Pattern) else self.platform or ""
        if not isinstance(pattern, str):
            raise TypeError(f"{what}: platform must be a regular expression, not {self.platform!r}")
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"{what}: platform {pattern!r} is no regular expression: {error}") from None
        return str(pattern)


def choose(allocation: DispycosNodeAllocate, offer: Offer) -> tuple[int, str]:
    """What its own allocate() answers for a node, and what is wrong with that, for people."""
    node = offer.node
    has = node.available
    memory, disk = (has.memory, has.disk) if has is not None else (None, None)
    what = f"nodes[{offer.entry}]: {type(allocation).__name__}.allocate() of node {node.name}"
    vars(allocation)["_offered"] = offer.is_at
    try:
        platform = allocation._told_platform(node.platform)
        answer: object = allocation.allocate(node.addr, node.name, platform, node.cpus, memory, disk)
    except Exception as error:
        return 0, f"{what} raised {where_raised(error)}; the node is not used"
    if inspect.iscoroutine(answer):
        answer.close()
    try:
        count = whole_number(answer, what)
    except (TypeError, ValueError):
        return 0, f"{what} must return a number of CPUs, not {answer!r}; the node is not used"
    if count > node.cpus:
        return node.cpus, f"{what} returned {count}, and it has {node.cpus}: these are used"
    return max(count, -1), ""


def where_raised(error: Exception) -> str:
    """With the last line of it."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{error!r} ({frames[-1].filename}:{frames[-1].lineno})" if frames else repr(error)


Node: TypeAlias = str | Location | DispycosNodeAllocate
Nodes: TypeAlias = Node | Iterable[Node] | None  # as Client(nodes=...) takes them


def allocations(nodes: Nodes) -> list[DispycosNodeAllocate]:
    """What Client(nodes=...) means: names, addresses, Locations or DispycosNodeAllocate; nothing means any node."""
    if nodes is None:
        return []
    if isinstance(nodes, str | DispycosNodeAllocate | Location):
        nodes = [nodes]
    if not isinstance(nodes, Iterable) or isinstance(nodes, bytes | bytearray):
        raise TypeError(f"nodes must be a list, {ENTRY}, not {type(nodes).__name__}")
    words = []
    for number, item in enumerate(nodes):
        if not isinstance(item, str | DispycosNodeAllocate | Location):
            raise TypeError(f"nodes[{number}] must be {ENTRY}, not {type(item).__name__}")
        try:
            allocation = item if isinstance(item, DispycosNodeAllocate) else DispycosNodeAllocate(item)
            allocation._as_word()
        except AttributeError as error:
            missing = f"nodes[{number}]: {error}: its __init__ has to call super().__init__(node)"
            raise TypeError(missing) from None
        except (TypeError, ValueError) as error:
            raise type(error)(f"nodes[{number}]: {error}") from None
        words.append(allocation)
    return words
