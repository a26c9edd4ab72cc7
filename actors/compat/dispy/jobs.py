"""dispy's jobs and nodes, as scripts hold them."""

from __future__ import annotations

import itertools
import threading
import time
from enum import Enum, auto
from pathlib import Path
from typing import Any, NamedTuple

from ..program import program

_ids = itertools.count(1)


class DispyJob:
    """A call of the computation: ``job()`` waits for it, and gives its result, None if it failed; `exception` is why, as text."""

    Created, Running, ProvisionalResult = 5, 6, 7
    Cancelled, Terminated, Abandoned, Finished = 8, 9, 10, 11

    __slots__ = (
        *("id", "result", "stdout", "stderr", "exception", "submit_time", "start_time", "end_time", "status"),
        *(
            "ip_addr",
            "finish",
            "_args",
            "_kwargs",
            "_number",
            "_task",
            "_node",
            "_wait",
            "_report",
            "_files",
            "_code",
        ),
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
        self._files: dict[str, bytes] = {}  # for this job alone
        self._code: list[Any] = []
        self._report: Any = None  # its end, while messages are missing

    def __call__(self, clear: bool = False) -> Any:
        """Wait for its end, and give its result. Raises RuntimeError: in a pycos task."""
        if not self.finish.is_set():
            program.refuse_to_block("job()", "look at `job.finish.is_set()`, with `yield task.sleep(...)`")
        self.finish.wait()
        if clear:
            self.finish.clear()
        return self.result

    def __lt__(self, other: DispyJob) -> bool:
        return self._number < other._number


class NodeState(Enum):
    """What a cluster has of a node that it knows."""

    LENT = auto()  # it gets it back when it has jobs
    UP = auto()
    GONE = auto()
    CLOSING = auto()  # the script said so
    CLOSED = auto()


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
        # of the cluster, which may have lent it and got it back, perhaps as another process
        self._location: Any = None
        self._state = NodeState.LENT
        self._limit: int | None = None  # CPUs that may be used
        self._is_suspended = False
        self._is_restarted = False  # and no server has come since
        self._sent: dict[str, Path] = {}  # files, by their paths there

    def __repr__(self) -> str:
        return f"{self.name} ({self.ip_addr})"

    @property
    def is_closed(self) -> bool:
        """The script said so."""
        return self._state in (NodeState.CLOSING, NodeState.CLOSED)


class ClusterStatus(NamedTuple):
    """What ``cluster.status()`` gives."""

    nodes: list[DispyNode]
    jobs_pending: int
