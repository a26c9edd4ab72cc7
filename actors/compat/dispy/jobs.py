"""dispy's jobs and nodes, as scripts hold them."""

from __future__ import annotations

import itertools
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

from ...client.status import DispycosNodeAllocate

PORTS = {
    51347,
    51348,
    51349,
    51350,
    9700,
    9701,
    9702,
}  # dispy's defaults, old and new: no node of ours is there

_ids = itertools.count(1)


class DispyJob:
    """A call of the computation: ``job()`` waits for it, and gives its result, None if it failed; `exception` is why, as text."""

    Created, Running, ProvisionalResult = 5, 6, 7
    Cancelled, Terminated, Abandoned, Finished = 8, 9, 10, 11

    __slots__ = (
        *("id", "result", "stdout", "stderr", "exception", "submit_time", "start_time", "end_time", "status"),
        *("ip_addr", "finish", "_args", "_kwargs", "_number", "_task", "_node", "_wait", "_report"),
    )

    def __init__(self, args: tuple[Any, ...], kwargs: dict[str, Any], id: Any = None) -> None:
        self._number = next(_ids)
        self.id: Any = self._number if id is None else id
        self.result: Any = None
        self.stdout: Any = None
        self.stderr: Any = None
        self.exception: str | None = None
        self.submit_time: float = time.time()
        self.start_time: float | None = None
        self.end_time: float | None = None
        self.status = DispyJob.Created
        self.ip_addr: str | None = None
        self.finish = threading.Event()
        self._args, self._kwargs = args, kwargs
        self._task: Any = None  # its handle, once it is the client's
        self._node: DispyNode | None = None
        self._wait = 0  # messages of it that have come
        self._report: Any = None  # its end, while messages are missing

    def __call__(self, clear: bool = False) -> Any:
        """Wait for its end, and give its result."""
        self.finish.wait()
        if clear:
            self.finish.clear()
        return self.result

    def __lt__(self, other: DispyJob) -> bool:
        return self._number < other._number


class DispyNodeAvailInfo(NamedTuple):
    """What a node has left: cpu in percent, memory and disk in bytes, swap in percent."""

    cpu: float
    memory: int
    disk: int
    swap: float


class DispyNode:
    """A node that a cluster has, and what it has done for it."""

    Initialized, Closed, AvailInfo = 4, 16, 17

    def __init__(self, name: str, ip_addr: str, cpus: int) -> None:
        self.name, self.ip_addr, self.avail_cpus = name, ip_addr, cpus
        self.cpus = 0  # in use
        self.busy = 0
        self.jobs_done = 0
        self.cpu_time = 0.0
        self.tx = self.rx = 0  # bytes of calls and results
        self.update_time = time.time()
        self.avail_info: DispyNodeAvailInfo | None = None
        self._location: Any = None


class ClusterStatus(NamedTuple):
    """What ``cluster.status()`` gives."""

    nodes: list[DispyNode]
    jobs_pending: int


class NodeAllocate:
    """Which nodes a cluster takes, how many CPUs of each, and what its setup gets there.

    Parameters
    ----------
    host: name or address; ``*`` matches. port: used unless it is one of dispy's own.
    cpus: at most so many; 0: all; less than 0: all but so many.
    depends: files that go to these nodes. setup_args: a tuple, for `setup` there.
    """

    def __init__(
        self, host: str, port: int | None = None, cpus: int = 0, depends: Any = (), setup_args: Any = ()
    ) -> None:
        if not isinstance(setup_args, tuple):
            raise TypeError(f"NodeAllocate: setup_args must be a tuple, not {type(setup_args).__name__}")
        for path in depends:
            if not isinstance(path, str | Path) or not Path(path).is_file():
                raise FileNotFoundError(f"NodeAllocate: depends: no such file: {path}")
        self.host = self.ip_addr = host
        self.port, self.cpus, self.depends, self.setup_args = port, int(cpus or 0), list(depends), setup_args

    def allocate(
        self,
        cluster: Any,
        ip_addr: str,
        name: str,
        cpus: int,
        avail_info: DispyNodeAvailInfo | None = None,
        platform: str = "",
    ) -> int:
        """How many CPUs of a node to use; 0: the next entry decides. For subclasses."""
        if self.cpus > 0:
            return min(cpus, self.cpus)
        return cpus + self.cpus if cpus + self.cpus > 0 else cpus


class Entry(DispycosNodeAllocate):
    """The same, as dispycos asks it."""

    def __init__(self, wish: NodeAllocate, cluster: Any, *, is_anywhere: bool) -> None:
        port = int(wish.port) if wish.port and int(wish.port) not in PORTS else None
        host = "*" if is_anywhere or not wish.host else str(wish.host)
        super().__init__(host, port=None if "*" in host else port)
        self.wish, self._cluster = wish, cluster
        self.taken: set[tuple[str, str]] = set()  # names and addresses of nodes

    def allocate(
        self, ip_addr: str, name: str, platform: str, cpus: int, memory: int | None, disk: int | None
    ) -> int:
        if super().allocate(ip_addr, name, platform, cpus, memory, disk) < 0:
            return -1
        info = None if memory is None else DispyNodeAvailInfo(100.0, memory, disk or 0, 0.0)
        wanted = int(self.wish.allocate(self._cluster, ip_addr, name, cpus, info, platform) or 0)
        if wanted <= 0:
            return -1
        self.taken.add((name, ip_addr))
        return min(wanted, cpus)


def wishes_of(nodes: Any) -> list[NodeAllocate]:
    """What ``JobCluster(nodes=...)`` means. Raises TypeError, ValueError."""
    if nodes is None or nodes == []:
        return []
    if isinstance(nodes, str | NodeAllocate | dict | DispyNode):
        nodes = [nodes]
    if not isinstance(nodes, list | tuple | set):
        raise TypeError(
            f"nodes must be a list of names, addresses or NodeAllocate, not {type(nodes).__name__}"
        )
    return [_wish_of(entry) for entry in nodes]


def _wish_of(entry: Any) -> NodeAllocate:
    if isinstance(entry, NodeAllocate):
        return entry
    if isinstance(entry, DispyNode):
        return NodeAllocate(entry.ip_addr)
    if isinstance(entry, str) and entry:
        return NodeAllocate(entry)
    if isinstance(entry, dict):
        return NodeAllocate(**{"host" if name == "ip_addr" else name: value for name, value in entry.items()})
    if isinstance(entry, tuple | list) and entry:
        return NodeAllocate(*entry)
    raise TypeError(f"nodes: {entry!r} is no name, address, tuple, dict or NodeAllocate")
