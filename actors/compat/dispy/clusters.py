"""dispy's clusters: a Client of dispycos each, on the loop of this program, whose tasks are the jobs.

One cluster of a program has the nodes at a time. It lends them to another one that wants them whenever it has no jobs.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path, PurePath
from types import TracebackType
from typing import Any, NamedTuple

from dispycos.config import HostPort
from dispycos.errors import DispycosError, NotPicklable, TaskLost, TaskTerminated
from dispycos.protocol.addresses import Location
from dispycos.protocol.messages import NodeInfo
from dispycos.protocol.status import OutcomeKind, Status

from ...client.client import Client
from ...client.effects import News, Pulsed
from ...client.lease import ClientLease
from ...tasks.options import Options
from ...tasks.record import Record
from ...tasks.submitting import Task as NativeTask
from ..clients import _start_alone
from ..names import DOCS
from ..program import program
from ..tasks import Task, cur_task
from . import remote
from .given import (
    BY_POSITION,
    PORTS,
    SECRETS,
    USED,
    WITHOUT_EFFECT,
    Entry,
    Taken,
    callback_of,
    component_of,
    computation_of,
    listed,
    parted,
    wishes_of,
)
from .jobs import ClusterStatus, DispyJob, DispyNode, DispyNodeAvailInfo
from .line import line
from .logs import set_level
from .printing import table

log = logging.getLogger("dispycos")

UNKNOWN = "no node of this name is here"  # as a scheduler says it
CLEANUP_S = 10.0  # a cleanup has so long
EARLIEST_S = (
    0.01  # a callback hears of no end sooner: scripts note a job behind submit(), and dispy is never faster
)
BRIEF_S = 0.05  # seconds; jobs that last longer begin in their order, each on a free server
MANY = 100  # jobs of which nothing is known yet: taken for brief
RETRIES = 3  # of a reentrant job, whose server or node was lost


class _Prepared(NamedTuple):
    """A job that is pickled, for this lease of the client."""

    lease: ClientLease
    task: NativeTask
    values: list[Record] | None


class _Failure(NamedTuple):
    status: int
    text: str


def _failure_of(error: Exception) -> _Failure:
    status = DispyJob.Cancelled if isinstance(error, NotPicklable | TypeError) else DispyJob.Terminated
    return _Failure(status, f"{type(error).__name__}: {error}")


class JobCluster:
    """Has a function, or a program, run with many arguments on the CPUs of nodes: ``submit()`` gives a DispyJob for each.

    Parameters
    ----------
    computation: a function, a method, or the path of a program.
    nodes: names, addresses (``*`` matches), tuples or NodeAllocate; only these are used. None: all that are found, else servers
        of this program's own.
    depends: functions, classes, modules and files that it needs. Functions, classes and modules are found by themselves, too.
    job_status, callback: called with a job that has ended, or has a provisional result.
    cluster_status: called with (status, node, job) for each change.
    setup: called on each node before its first job, with the setup_args of its NodeAllocate; what it assigns to globals all jobs
        there have. cleanup: called there at the end; False keeps the files.
    reentrant: a job whose server or node dies is run again.

    Raises
    ------
    TypeError, ValueError, FileNotFoundError: a parameter is of no use; the text names it.
    """

    _what = "JobCluster"
    _shared: set[str] = set()

    def __init__(self, computation: Any, *args: Any, **options: Any) -> None:
        if len(args) > len(BY_POSITION):
            raise TypeError(
                f"{self._what}() takes {len(BY_POSITION) + 1} parameters by position; name the others ({DOCS})"
            )
        given = self._given({**dict(zip(BY_POSITION, args, strict=False)), **options})
        self._function, self.name, files = computation_of(computation)
        self._job_status = callback_of(given.get("job_status") or given.get("callback"), 1, "job_status")
        self.cluster_status = callback_of(given.get("cluster_status"), 3, "cluster_status")
        self._setup, cleanup = given.get("setup"), given.get("cleanup", True)
        for what, function in (("setup", self._setup), ("cleanup", cleanup)):
            if function not in (None, True, False) and not callable(function):
                raise TypeError(f"{what} must be a function, not {type(function).__name__}")
        self._cleanup = cleanup if callable(cleanup) else None
        self._retries = RETRIES if given.get("reentrant") else 0
        if given.get("loglevel") is not None:
            set_level(given["loglevel"])
        wishes = wishes_of(given.get("nodes"))
        is_anywhere = program.local_servers > 0
        self._entries = [Entry(wish, self, is_anywhere=is_anywhere) for wish in wishes]
        components = [*files, *map(component_of, listed(given.get("depends")))]
        self._client = Client(
            [one for one in components if one is not None],
            nodes=self._entries,
            node_setup=remote.run_setup,
            disable_nodes=True,
            cleanup=cleanup is not False,
            name=self.name,
        )
        self._nodes: dict[int, DispyNode] = {}
        self._jobs: dict[int, DispyJob] = {}  # that have not ended, by their numbers
        self._incoming: deque[tuple[DispyJob, _Prepared | None, _Failure | None]] = deque()
        self._is_taking = False
        self._queue: deque[DispyJob] = deque()  # not yet the client's
        self._limits: dict[int, int] = {}  # CPUs that nodes may use, by their epochs
        self._calls = 0  # of callbacks that are due
        self._idle = threading.Condition()
        self._began = time.time()
        self._total_s, self._ended = 0.0, 0
        self._added: list[Entry] = []  # to those that the client was made with
        self._is_holding = self._has_nodes = False
        self._is_closing = self._is_closed = self._terminates = False
        self._failure: BaseException | None = None
        self._wanted, self._changed = asyncio.Event(), asyncio.Event()
        self._inbox = Task(self.unfinished_jobs)
        self._inbox.set_daemon()
        self._over = threading.Event()
        program.call(self._begin)

    def _given(self, options: dict[str, Any]) -> dict[str, Any]:
        for name, value in options.items():
            if name in SECRETS and value:
                log.warning(
                    "%s(%s=...) is not used: dispycos has a secret of its own, see `dispycos run --help`",
                    self._what,
                    name,
                )
            elif name in WITHOUT_EFFECT:
                log.debug("%s(%s=%r) has no effect: dispycos needs none", self._what, name, value)
            elif name not in USED | SECRETS | self._shared:
                raise TypeError(f"{self._what}() has no parameter {name!r} here: see {DOCS} of dispycos")
        return options

    # --- jobs ---

    def submit(self, *args: Any, **kwargs: Any) -> DispyJob | None:
        """Have the computation called with these; its job, at once. ``dispy_job_depends=[...]``: files for this job alone.

        None, with a warning, if one of these files is not there.
        """
        return self._submit(None, None, args, kwargs)

    def submit_node(self, node: Any, *args: Any, **kwargs: Any) -> DispyJob | None:
        """As submit, on this node: a DispyNode, an address or a name. None, with a warning, if the cluster has none such yet."""
        return self._submit(node, None, args, kwargs)

    def submit_job_id(self, job_id: Any, *args: Any, **kwargs: Any) -> DispyJob | None:
        """As submit, with the `id` of the job."""
        return self._submit(None, job_id, args, kwargs)

    def submit_job_id_node(self, job_id: Any, node: Any, *args: Any, **kwargs: Any) -> DispyJob | None:
        """As submit_node, with the `id` of the job."""
        return self._submit(node, job_id, args, kwargs)

    def _submit(self, node: Any, id: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> DispyJob | None:
        if self._is_closing:
            raise RuntimeError(f"the cluster of {self.name} is closed")
        target = None
        if node is not None and (target := self._node_of(node)) is None:
            log.warning(
                "submit_node(): the cluster has no node %s (yet): wait for DispyNode.Initialized", node
            )
            return None
        try:
            files, code = parted(kwargs.pop("dispy_job_depends", ()))
        except OSError as error:
            log.warning("submit(): dispy_job_depends: %s", error)
            return None
        job = DispyJob(args, kwargs, id)
        job._node, job._files, job._code = target, files, code
        prepared, failure = None, None
        try:  # now, as the script may change the arguments; and here, where it does not wait for the loop
            if self._has_nodes:
                prepared = self._prepare(job)
            else:
                payloads = self._client._payloads
                job._args, job._kwargs = payloads.loads(payloads.dumps((args, kwargs), "the arguments"))
        except DispycosError as error:
            failure = _failure_of(error)
        except Exception as error:  # the user's __reduce__ may raise anything
            failure = _Failure(DispyJob.Cancelled, f"{type(error).__name__}: {error}")
        with self._idle:
            is_first = not self._jobs
            self._jobs[job._number] = job
        if is_first:
            program.call(self._look)
        self._incoming.append((job, prepared, failure))
        if not self._is_taking:
            self._is_taking = True
            program.host.loop.call_soon_threadsafe(self._take_all)
        return job

    def _take_all(self) -> None:
        self._is_taking = False
        while self._incoming:
            self._take(*self._incoming.popleft())

    def _take(self, job: DispyJob, prepared: _Prepared | None, failure: _Failure | None) -> None:
        self._tell_cluster(DispyJob.Created, None, job)
        if failure is not None:
            self._fail(job, *failure)
        elif self._failure is not None:
            self._fail(job, DispyJob.Terminated, str(self._failure))
        elif self._has_nodes:
            self._hand_in(job, prepared)
        else:
            self._queue.append(job)
            self._wanted.set()

    def _prepare(self, job: DispyJob) -> _Prepared:
        """From any thread."""
        lease = self._client._lease
        assert isinstance(lease, ClientLease)
        run = remote.run_program if isinstance(self._function, str) else remote.run_job
        call = (self._function, job._number, self._inbox, job._files, job._code, job._args, job._kwargs)
        options = Options(
            where=job._node._location if job._node is not None else None,
            alone=not self._are_brief(),
            retries=self._retries,
        )
        task, values = lease.prepare(lease.host.task_class, run, call, {}, options)
        record: Any = task._source
        record.function = self.name  # which its user knows
        return _Prepared(lease, task, values)

    def _are_brief(self) -> bool:
        """Such jobs may wait behind others at a server, as tasks do."""
        if self._ended == 0:
            return len(self._jobs) > MANY
        return self._total_s < self._ended * BRIEF_S

    def _hand_in(self, job: DispyJob, prepared: _Prepared | None = None) -> None:
        try:
            if prepared is None or prepared.lease is not self._client._lease:
                prepared = self._prepare(job)
            prepared.lease.enter(prepared.task._source, prepared.values)
        except Exception as error:
            self._fail(job, *_failure_of(error))
        else:
            job._task = prepared.task
            job._task.add_done_callback(partial(self._task_ended, job))

    def cancel(self, job: DispyJob) -> int:
        """End it: if it runs it gets KeyboardInterrupt. 0; -1 if it has ended."""
        result: int = program.call(self._cancel, job)
        return result

    def _cancel(self, job: Any) -> int:
        if not isinstance(job, DispyJob) or job._number not in self._jobs or job.status == DispyJob.Cancelled:
            log.warning("cancel(): %r is no job that has not ended", getattr(job, "id", job))
            return -1
        if job in self._queue:
            self._queue.remove(job)
            self._fail(job, DispyJob.Cancelled)
        else:
            job.status = DispyJob.Cancelled
            job._task.terminate()
        return 0

    # --- waiting, ends ---

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for all jobs: True; False after `timeout` seconds."""
        with self._idle:
            return self._idle.wait_for(lambda: not self._jobs, timeout)

    def __call__(self) -> None:
        """As wait()."""
        self.wait()

    def close(self, timeout: float | None = None, terminate: bool = False) -> bool | None:
        """Wait for the jobs, and give the nodes back: True. None if that was done before.

        After `timeout` seconds: with `terminate` the jobs are ended, else nothing is done: False.
        """
        if self._is_closed:
            return None
        if not self.wait(0 if terminate and timeout is None else timeout) and not terminate:
            return False
        self._is_closing = True
        program.call(self._begin_close, terminate)
        self._over.wait()
        self._is_closed = True
        return True

    def _begin_close(self, terminate: bool) -> None:
        for job in list(self._queue):
            self._fail(job, DispyJob.Cancelled, "the cluster was closed")
        self._queue.clear()
        for job in list(self._jobs.values()):
            if terminate and job._task is not None:
                job._task.terminate()
        self._terminates = terminate
        self._changed.set()
        self._wanted.set()

    def shutdown(self) -> None:
        """As close()."""
        self.close()

    def __enter__(self) -> JobCluster:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(terminate=kind is not None)

    # --- what there is ---

    def status(self) -> ClusterStatus:
        """Its nodes, and how many jobs have not ended."""
        return ClusterStatus(list(self._nodes.values()), len(self._jobs))

    def stats(self, wall_time: float | None = None) -> None:
        """Print what each node has done."""
        wall_s = time.time() - self._began if wall_time is None else wall_time
        print(table(list(self._nodes.values()), len(self._jobs), self._total_s, wall_s))

    print_status = stats

    def node_jobs(self, node: Any, from_node: bool = False) -> list[DispyJob] | int:
        """Its jobs that run on this node; -1 if there is no such node."""
        here = self._node_of(node)
        if here is None:
            return -1
        return [job for job in list(self._jobs.values()) if job._node is here and job.start_time is not None]

    def allocate_node(self, node: Any) -> int:
        """Use this, too, or again after deallocate_node(). 0; -1 if it is of no use."""
        known = self._node_of(node)
        if known is None or known.is_closed:
            return self.discover_nodes([node])
        return self._said("resume_node", known._location)

    def discover_nodes(self, nodes: Any) -> int:
        """Look for these, too. 0; -1 if they are of no use."""
        try:
            entries = [Entry(wish, self, is_anywhere=False) for wish in wishes_of(nodes)]
        except (TypeError, ValueError) as error:
            log.warning("discover_nodes(): %s", error)
            return -1
        program.call(self._add, entries)
        return 0 if entries else -1

    def _add(self, entries: list[Entry]) -> None:
        self._entries += entries
        self._added += entries
        if self._is_holding:
            for entry in entries:
                self._client.node_allocate(entry)

    def deallocate_node(self, node: Any) -> int:
        """Give it no more jobs. 0; -1 if there is no such node."""
        return self._at_node("suspend_node", node)

    def close_node(self, node: Any, terminate_pending: bool = False) -> int:
        """Give it back when its jobs have ended, or with `terminate_pending` end them. 0; -1 if there is no such node."""
        return self._at_node("close_node", node, terminate=terminate_pending)

    def resetup_node(self, node: Any, terminate_pending: bool = False) -> int:
        """Have it set up anew, for which its NodeAllocate is asked anew. 0; -1 if there is no such node."""
        known = self._node_of(node)
        if known is None:
            return self._at_node("restart_node", node)
        for entry in self._entries:
            if (known.name, known.ip_addr) in entry.taken:
                entry.ask_again(known.name, known.ip_addr)
        try:
            call = self._setup_call(known.name, known.ip_addr)
        except OSError as error:
            log.warning("resetup_node(): %s", error)
            return -1
        return self._said("restart_node", known._location, terminate_pending, *call)

    def send_file(self, path: Any, node: Any, relay: bool = False) -> int:
        """Send it to this node, for later jobs. 0; -1 if there is no such node. Raises FileNotFoundError."""
        if not Path(path).is_file():
            raise FileNotFoundError(path)
        known = self._node_of(node)
        if known is None:
            return -1
        folder = str(PurePath(remote.path_at_client(str(path))).parent)
        sending = self._client.send_file(known._location, path, None if folder == "." else folder, True)
        return int(program.wait(sending))

    def set_node_cpus(self, node: Any, cpus: int) -> int:
        """Use at most so many CPUs of it; less than 0: all but so many. How many these are; -1 if there is no such node."""
        known = self._node_of(node)
        if known is None:
            return -1
        epoch = next(epoch for epoch, one in self._nodes.items() if one is known)
        granted, cpus = self._granted(known.name, known.ip_addr) or known.avail_cpus, int(cpus)
        known.cpus = self._limits[epoch] = min(granted, max(0, granted + cpus if cpus < 0 else cpus))
        program.call(self._limit, epoch)
        return known.cpus

    def _limit(self, epoch: int) -> None:
        lease: Any = self._client._lease
        if epoch not in self._limits or lease is None:
            return
        spots = sorted(spot for spot, node in lease.ledger.servers.values() if node == epoch)
        for number, spot in enumerate(spots):
            lease.suspend_server(Location(spot.addr, spot.port), suspended=number >= self._limits[epoch])

    def _at_node(self, method: str, node: Any, **options: Any) -> int:
        known = self._node_of(node)
        if known is None:
            log.warning("%s(): the cluster has no node %s", method, node)
            return -1
        return self._said(method, known._location, **options)

    def _said(self, method: str, *args: Any, **options: Any) -> int:
        try:
            program.call(partial(getattr(self._client, method), *args, **options))
            return 0
        except (DispycosError, TypeError, ValueError) as error:
            log.warning("%s(): %s", method, error)
            return -1

    def _node_of(self, node: Any) -> DispyNode | None:
        if isinstance(node, DispyNode):
            return node
        known = list(self._nodes.values())
        return next((one for one in known if node in (one.name, one.ip_addr)), None)

    # --- on the loop ---

    def look_around(self) -> None:
        """Another cluster wants the nodes."""
        self._changed.set()

    def _begin(self) -> None:
        line.enter(self)
        self._wanted.set()
        self._serving = program.host.loop.create_task(self._serve())

    async def _serve(self) -> None:
        """Until the cluster is closed."""
        try:
            while not (self._is_closing and not self._jobs):
                await self._wanted.wait()
                self._wanted.clear()
                if not self._is_closing or self._jobs:
                    async with line.turn():
                        await self._hold()
        finally:
            for job in list(self._jobs.values()):
                self._fail(job, DispyJob.Terminated, "the cluster was closed")
            line.open.remove(self)
            self._over.set()

    async def _hold(self) -> None:
        """From schedule() to the end of the client's lease."""
        if program.local_servers:
            _start_alone()
        scheduling = asyncio.ensure_future(self._client.schedule(self._location()))
        await asyncio.sleep(0)  # its lease is made, and nothing has been said to it
        lease: Any = self._client._lease
        if lease is not None:
            lease.on_news, lease.ledger.wants_news = self._hear, True
            self._is_holding = True
            for entry in self._added:
                self._client.node_allocate(entry)
        closing = asyncio.ensure_future(self._until(lambda: self._is_closing))
        try:
            await asyncio.wait([scheduling, closing], return_when=asyncio.FIRST_COMPLETED)
            if not scheduling.done():
                scheduling.cancel()
                return
            await scheduling
            while self._queue:
                self._hand_in(self._queue.popleft())
            self._has_nodes = True
            await self._until(lambda: not self._jobs and (self._is_closing or line.waiting > 0))
            if self._cleanup is not None:
                await self._clean_up()
        except (DispycosError, TimeoutError, OSError, ValueError) as error:
            if self._leaves_out(str(error)):
                self._wanted.set()
                return
            self._failure = error
            log.warning("no cluster for %s: %s", self.name, error)
            for job in list(self._jobs.values()):
                self._fail(job, DispyJob.Terminated, str(error))
            self._queue.clear()
        except BaseException:
            self._terminates = True  # the loop ends
            raise
        finally:
            closing.cancel()
            self._is_holding = self._has_nodes = False
            with contextlib.suppress(DispycosError):  # of tasks that were lost their jobs tell
                await self._client.close(await_io=False, terminate=self._terminates)
            self._look()

    def _location(self) -> Any:
        return None if program.local_servers else program.location

    def _leaves_out(self, error: str) -> bool:
        """Of several nodes one whose name nobody knows, as dispy does."""
        for entry in self._entries:
            what = f"nodes: {HostPort(str(entry.node), entry.port)}: {UNKNOWN}"
            if len(self._entries) > 1 and error.startswith(what):
                log.warning("%s; it is left out", error.partition("\n")[0])
                self._entries.remove(entry)
                self._client._wishes.allocations.remove(entry)
                return True
        return False

    async def _until(self, condition: Callable[[], object]) -> None:
        while not condition():
            self._changed.clear()
            await self._changed.wait()

    async def _clean_up(self) -> None:
        tasks = []
        for node in list(self._nodes.values()):
            taken = self._taken(node.name, node.ip_addr)
            call = (self._cleanup, *(taken.setup_args if taken is not None else ()))
            with contextlib.suppress(DispycosError):  # the node has gone
                tasks.append(self._client._submit(remote.run_cleanup, call, {}, where=node._location))
        if tasks:
            done, _ = await asyncio.wait(tasks, timeout=CLEANUP_S)
            for task in done:
                if not task.cancelled() and (error := task.exception()) is not None:
                    log.warning("cleanup failed: %s: %s", type(error).__name__, error)

    def _taken(self, name: str, addr: str) -> Taken | None:
        """None: no entry has named it; all nodes are used."""
        return next((entry.taken[name, addr] for entry in self._entries if (name, addr) in entry.taken), None)

    def _granted(self, name: str, addr: str) -> int:
        taken = self._taken(name, addr)
        return taken.cpus if taken is not None else 0

    def _setup_call(self, name: str, addr: str) -> tuple[Any, ...]:
        """Of run_setup() there. Raises OSError: a file that it needs cannot be read."""
        taken = self._taken(name, addr)
        files, _ = parted(taken.depends if taken is not None else ())
        return self._setup, files, taken.setup_args if taken is not None else ()

    def _hear(self, news: News | Pulsed) -> None:
        if isinstance(news, Pulsed):
            self._see_node(news.node)
            return
        info: Any = news.info
        if isinstance(info, Record):
            if news.status == Status.TaskCreated:
                self._started(info)
        elif isinstance(info, NodeInfo):
            self._hear_of_node(news.status, info)
        elif news.status == Status.ServerInitialized:
            for epoch in list(self._limits):
                self._limit(epoch)

    def _ledger(self) -> Any:
        lease: Any = self._client._lease
        return lease.ledger

    def _hear_of_node(self, status: Status, info: NodeInfo) -> None:
        if status == Status.NodeDiscovered and not self._is_closing:
            try:
                call = self._setup_call(info.name, info.addr)
            except OSError as error:
                log.warning("node %s is not used: depends: %s", info.name, error)
            else:
                self._client.enable_node(Location(info.addr, info.port), *call)
        elif status == Status.NodeInitialized:
            new = self._see_node(info)
            new.is_closed = False
            new.cpus = self._granted(info.name, info.addr) or info.cpus
            self._tell_cluster(DispyNode.Initialized, new, None)
        elif status in (Status.NodeClosed, Status.NodeDisconnected, Status.NodeAbandoned):
            node = self._nodes.get(info.epoch)
            if node is not None and not node.is_closed and self._has_nodes:
                node.is_closed = True
                self._tell_cluster(DispyNode.Closed, node, None)

    def _see_node(self, info: NodeInfo) -> DispyNode:
        node = self._nodes.get(info.epoch)
        if node is None:
            node = self._nodes[info.epoch] = DispyNode(info.name, info.addr, info.cpus)
        node._location = Location(info.addr, info.port)
        node.update_time = time.time()
        if info.available is not None:
            cpu, memory, disk, swap = info.available
            node.avail_info = DispyNodeAvailInfo(cpu, memory, disk, swap)
        return node

    def _started(self, record: Record) -> None:
        number = record.info[0][1] if record.info and len(record.info[0]) == 7 else 0
        job = self._jobs.get(number)
        if job is not None and job.start_time is None:
            self._set_started(job, record, time.time())

    def _set_started(self, job: DispyJob, record: Record, when: float) -> None:
        job.start_time = when
        if record.location is not None:
            job.ip_addr = record.location.addr
            job._node = job._node or self._node_of(job.ip_addr)
        if job._node is not None:
            job._node.busy += 1
            job._node.tx += record.size
        if job.status == DispyJob.Created:
            job.status = DispyJob.Running
            self._tell_cluster(DispyJob.Running, job._node, job)

    # --- ends of jobs ---

    async def unfinished_jobs(self) -> None:
        """What running jobs say."""
        task = cur_task()
        assert task is not None
        while True:
            number, what, *rest = await task.receive()
            job = self._jobs.get(number)
            if job is None:
                continue
            try:
                self._take_message(job, what, rest)
            except OSError as error:
                log.warning("file %s of job %s cannot be written: %s", rest[0], job.id, error)
            job._wait += 1
            if job._report is not None and job._wait >= job._report.sent:
                self._finish(job, job._report)

    def _take_message(self, job: DispyJob, what: str, rest: list[Any]) -> None:
        if what == "file":
            name, start, piece = rest
            path = Path(remote.path_at_client(name))  # never outside of this folder
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(path, "r+b" if start else "wb") as file:
                file.seek(start)
                file.write(piece)
        else:
            job.status, job.result = DispyJob.ProvisionalResult, rest[0]
            self._tell_job(job)

    def _task_ended(self, job: DispyJob, task: Any) -> None:
        record = task._source
        if job.start_time is None and isinstance(record, Record) and record.outcome != OutcomeKind.CANCELLED:
            self._set_started(job, record, time.time() - (record.seconds or 0.0))
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if error is None:
            report = task.result()
            if job._wait < report.sent:
                job._report = report
                return
            self._finish(job, report)
            return
        if isinstance(error, TaskTerminated | asyncio.CancelledError):
            was_queued = isinstance(record, Record) and record.outcome == OutcomeKind.CANCELLED
            self._fail(job, DispyJob.Cancelled if was_queued else DispyJob.Terminated)
        elif isinstance(error, TaskLost):
            here = [self._nodes.get(epoch) for epoch in self._ledger().nodes]
            is_away = (
                job._node is not None and job._node not in here
            )  # None: it died before it was told where it is
            self._fail(job, DispyJob.Abandoned if is_away else DispyJob.Terminated, str(error))
        else:
            self._fail(job, DispyJob.Terminated, f"{type(error).__name__}: {error}")

    def _finish(self, job: DispyJob, report: Any) -> None:
        job.stdout, job.stderr = report.stdout, report.stderr
        job.result, job.exception = report.result, report.exception
        if job._node is not None:
            job._node.rx += _size_of(job._task._source)
        self._end(job, DispyJob.Finished if report.exception is None else DispyJob.Terminated, report.seconds)

    def _fail(self, job: DispyJob, status: int, text: str | None = None) -> None:
        job.result, job.exception = None, text
        self._end(job, status, 0.0)

    def _end(self, job: DispyJob, status: int, seconds: float) -> None:
        if self._jobs.get(job._number) is not job:
            return
        early_s = job.submit_time + EARLIEST_S - time.time()
        if 0 < early_s <= EARLIEST_S and (self._job_status is not None or self.cluster_status is not None):
            program.host.loop.call_later(early_s, self._end, job, status, seconds)
            return
        job.status = status
        if job.start_time is not None or status != DispyJob.Cancelled:
            job.end_time = time.time()
        if job._node is not None and job.start_time is not None:
            job._node.busy -= 1
            job._node.jobs_done += 1
            job._node.cpu_time += seconds
            job._node.update_time = time.time()
        self._total_s += seconds
        self._ended += 1
        job._args, job._kwargs, job._report, job._files, job._code = (), {}, None, {}, []
        with self._idle:
            del self._jobs[job._number]
            self._idle.notify_all()
        job.finish.set()
        self._tell_job(job)
        self._look()
        self._changed.set()

    # --- callbacks ---

    def _tell_job(self, job: DispyJob) -> None:
        if self._job_status is not None:
            self._call(partial(self._job_status, job))
        self._tell_cluster(job.status, job._node, job)

    def _tell_cluster(self, status: int, node: DispyNode | None, job: DispyJob | None) -> None:
        if self.cluster_status is not None:
            self._call(partial(self.cluster_status, status, node, job))

    def _call(self, callback: Callable[[], object]) -> None:
        self._calls += 1
        self._look()
        loop = program.host.loop

        def done() -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(self._called)

        line.callbacks.put(callback, done)

    def _called(self) -> None:
        self._calls -= 1
        self._look()

    def _look(self) -> None:
        """The end of the program waits for jobs and callbacks."""
        self._inbox.set_daemon(not self._jobs and not self._calls)


class SharedJobCluster(JobCluster):
    """As JobCluster, with a scheduler that is named: scheduler_host, scheduler_node in older scripts."""

    _what = "SharedJobCluster"
    _shared = {"scheduler_host", "scheduler_node", "scheduler_port"}

    def __init__(self, computation: Any, *args: Any, **options: Any) -> None:
        self._scheduler = options.get("scheduler_host") or options.get("scheduler_node")
        port = options.get("scheduler_port")
        if self._scheduler and port and int(port) not in PORTS:
            self._scheduler = f"{self._scheduler}:{port}"
        super().__init__(computation, *args, **options)

    def _location(self) -> Any:
        return None if program.local_servers else self._scheduler or program.location


def recover_jobs(*args: Any, **kwargs: Any) -> Any:
    """Refused: jobs end with their client."""
    raise NotImplementedError(
        f"recover_jobs() is not covered: jobs end with the program that submitted them, see {DOCS} of dispycos"
    )


def _size_of(record: Any) -> int:
    payload = getattr(record, "payload", None)
    parts = payload if isinstance(payload, list | tuple) else [payload] if payload is not None else []
    return sum(memoryview(part).nbytes for part in parts)
