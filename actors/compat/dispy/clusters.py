"""dispy's clusters: a Client of dispycos each, on the loop of this program, whose tasks are the jobs.

One cluster of a program has the nodes at a time. It lends them to another one that wants them whenever it has no jobs.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable
from functools import partial
from os import PathLike
from pathlib import Path, PurePath
from types import TracebackType
from typing import Any

from dispycos.errors import DispycosError
from dispycos.living import refuse_in_server
from dispycos.protocol.messages import NodeInfo
from dispycos.protocol.status import Status

from ...client.client import Client
from ...client.effects import News, Pulsed
from ...tasks.record import Record
from ..clients import _start_alone
from ..names import DOCS
from ..program import program
from . import remote
from .callbacks import Told
from .given import (
    BY_POSITION,
    PORTS,
    SECRETS,
    USED,
    WITHOUT_EFFECT,
    Entry,
    callback_of,
    component_of,
    computation_of,
    listed,
    parted,
    pulse_options,
    wishes_of,
)
from .jobs import ClusterStatus, DispyJob, NodeState
from .line import line
from .logs import set_level
from .nodes import Nodes
from .pending import Pending
from .printing import table

log = logging.getLogger("dispycos")

LEND_S = 3.0  # without jobs; then a shared cluster gives its nodes back until it has some
RETRIES = 3  # of a reentrant job, whose server or node was lost


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
    pulse_interval: seconds, 10 to 100 of those that are asked for; a node that is silent for five has gone. None: it may come back.
    reentrant: a job whose server or node dies is run again.
    recover_file: where the jobs that have ended are kept for recover_jobs(), should this program be killed; False: nowhere.

    Raises
    ------
    TypeError, ValueError, FileNotFoundError: a parameter is of no use; the text names it.
    """

    _what = "JobCluster"
    _shared: set[str] = set()
    _lends = False  # to other programs

    def __init__(self, computation: Any, *args: Any, **options: Any) -> None:
        if len(args) > len(BY_POSITION):
            raise TypeError(
                f"{self._what}() takes {len(BY_POSITION) + 1} parameters by position; name the others ({DOCS})"
            )
        refuse_in_server(f"a {self._what}")
        given = self._given({**dict(zip(BY_POSITION, args, strict=False)), **options})
        function, self.name, files = computation_of(computation)
        self._told = Told(
            callback_of(given.get("job_status") or given.get("callback"), 1, "job_status"),
            callback_of(given.get("cluster_status"), 3, "cluster_status"),
        )
        setup, cleanup = given.get("setup"), given.get("cleanup", True)
        for what, called in (("setup", setup), ("cleanup", cleanup)):
            if called not in (None, True, False) and not callable(called):
                raise TypeError(f"{what} must be a function, not {type(called).__name__}")
        self._cleanup = cleanup if callable(cleanup) else None
        if given.get("loglevel") is not None:
            set_level(given["loglevel"])
        wishes = wishes_of(given.get("nodes"))
        is_anywhere = program.local_servers > 0
        entries = [Entry(wish, self, is_anywhere=is_anywhere) for wish in wishes]
        components = [*files, *map(component_of, listed(given.get("depends")))]
        self._client = Client(
            [one for one in components if one is not None],
            nodes=entries,
            node_setup=remote.run_setup,
            disable_nodes=True,
            cleanup=cleanup is not False,
            name=self.name,
            **pulse_options(given.get("pulse_interval")),
        )
        self._wanted, self._changed = asyncio.Event(), asyncio.Event()
        file = given.get("recover_file", given.get("fault_recover"))
        path = Path(file).absolute() if isinstance(file, str | PathLike) else None
        self._journal = program.call(line.journal, path) if file is not False else None
        self._nodes = Nodes(self._client, entries, setup, self._told)
        self._pending = Pending(
            self._client,
            function,
            self.name,
            RETRIES if given.get("reentrant") else 0,
            self._nodes,
            self._told,
            journal=self._journal,
            changed=self._changed.set,
            wanted=self._wanted.set,
        )
        self._began = time.time()
        self._is_closing = self._is_closed = self._terminates = False
        self._over = threading.Event()
        program.call(self._begin)

    @property
    def cluster_status(self) -> Any:
        """The callback that hears of each change; may be set."""
        return self._told.cluster_status

    @cluster_status.setter
    def cluster_status(self, callback: Any) -> None:
        self._told.cluster_status = callback_of(callback, 3, "cluster_status")

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
        if node is not None:
            target = self._nodes.find(node)
            if target is None or target.is_closed:
                log.warning(
                    "submit_node(): the cluster has no node %s now: wait for DispyNode.Initialized", node
                )
                return None
        try:
            files, code = parted(kwargs.pop("dispy_job_depends", ()))
        except OSError as error:
            log.warning("submit(): dispy_job_depends: %s", error)
            return None
        job = DispyJob(args, kwargs, id)
        job._node, job._files, job._code = target, files, code
        self._pending.submit(job)
        return job

    def cancel(self, job: DispyJob) -> int:
        """End it: if it runs it gets KeyboardInterrupt. 0; -1 if it has ended."""
        return program.call(self._pending.cancel, job)

    # --- waiting, ends ---

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for all jobs: True; False after `timeout` seconds."""
        return self._pending.wait(timeout)

    def __call__(self) -> None:
        """As wait()."""
        self.wait()

    def close(self, timeout: float | None = None, terminate: bool = False) -> bool | None:
        """Wait for the jobs, and give the nodes back: True. None if that was done before.

        After `timeout` seconds: with `terminate` the jobs are ended, else nothing is done: False.
        """
        if self._is_closed:
            return None
        program.refuse_to_block("close()", "leave it to a thread, or to the end of the program")
        if not self.wait(0 if terminate and timeout is None else timeout) and not terminate:
            return False
        self._is_closing = True
        program.call(self._begin_close, terminate)
        self._over.wait()
        self._is_closed = True
        return True

    def _begin_close(self, terminate: bool) -> None:
        self._pending.close(terminate=terminate)
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
        return ClusterStatus(self._nodes.listed(), len(self._pending.jobs))

    def stats(self, wall_time: float | None = None) -> None:
        """Print what each node has done."""
        wall_s = time.time() - self._began if wall_time is None else wall_time
        print(table(self._nodes.all(), len(self._pending.jobs), self._pending.total_s, wall_s))

    print_status = stats

    def node_jobs(self, node: Any, from_node: bool = False) -> list[DispyJob] | int:
        """Its jobs that run on this node; -1 if there is no such node."""
        here = self._nodes.find(node)
        if here is None:
            return -1
        return [job for job in self._pending.all() if job._node is here and job.start_time is not None]

    def allocate_node(self, node: Any) -> int:
        """Use this, too, or again after deallocate_node(). 0; -1 if it is of no use."""
        known = self._nodes.find(node)
        if known is None or known.is_closed:
            if known is not None:
                program.call(self._nodes.open, known)
            return self.discover_nodes([node])
        return self._at_node("allocate_node", node, self._nodes.suspend, flag=False)

    def discover_nodes(self, nodes: Any) -> int:
        """Look for these, too. 0; -1 if they are of no use."""
        try:
            entries = [Entry(wish, self, is_anywhere=False) for wish in wishes_of(nodes)]
        except (TypeError, ValueError) as error:
            log.warning("discover_nodes(): %s", error)
            return -1
        program.call(self._nodes.add, entries)
        return 0 if entries else -1

    def deallocate_node(self, node: Any) -> int:
        """Give it no more jobs. 0; -1 if there is no such node."""
        return self._at_node("deallocate_node", node, self._nodes.suspend, flag=True)

    def close_node(self, node: Any, terminate_pending: bool = False) -> int:
        """Give it back when its jobs have ended, or with `terminate_pending` end them. 0; -1 if there is no such node."""
        return self._at_node("close_node", node, self._nodes.close, terminate=terminate_pending)

    def resetup_node(self, node: Any, terminate_pending: bool = False) -> int:
        """Have it set up anew, for which its NodeAllocate is asked anew. 0; -1 if there is no such node."""
        return self._at_node("resetup_node", node, self._nodes.restart, terminate=terminate_pending)

    def send_file(self, path: Any, node: Any, relay: bool = False) -> int:
        """Send it to this node, for later jobs. 0; -1 if there is no such node. Raises FileNotFoundError."""
        if not Path(path).is_file():
            raise FileNotFoundError(path)
        known = self._nodes.find(node)
        if known is None:
            return -1
        there = PurePath(remote.path_at_client(str(path)))
        known._sent[str(there)] = Path(path).absolute()
        if known._state is not NodeState.UP:
            return 0  # with its next setup
        folder = None if there.parent == PurePath() else str(there.parent)
        return int(program.wait(self._client.send_file(known._location, path, folder, True)))

    def set_node_cpus(self, node: Any, cpus: int) -> int:
        """Use at most so many CPUs of it; less than 0: all but so many. How many these are; -1 if there is no such node."""
        known = self._nodes.find(node)
        if known is None:
            return -1
        return program.call(self._nodes.set_cpus, known, int(cpus))

    def _at_node(self, method: str, node: Any, function: Callable[..., None], **options: bool) -> int:
        known = self._nodes.find(node)
        if known is None:
            log.warning("%s(): the cluster has no node %s", method, node)
            return -1
        try:
            program.call(partial(function, known, **options))
            return 0
        except (DispycosError, OSError, TypeError, ValueError) as error:
            log.warning("%s(): %s", method, error)
            return -1

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
        pending = self._pending
        try:
            while not (self._is_closing and not pending.jobs):
                await self._wanted.wait()
                self._wanted.clear()
                if not self._is_closing or pending.jobs:
                    async with line.turn():
                        await self._hold()
        finally:
            pending.fail_all("the cluster was closed")
            if self._journal is not None:
                self._journal.leave()
            line.open.remove(self)
            self._over.set()

    async def _hold(self) -> None:
        """From schedule() to the end of the client's lease."""
        if program.local_servers:
            _start_alone()
        nodes, pending = self._nodes, self._pending
        scheduling = asyncio.ensure_future(self._client.schedule(self._location()))
        await asyncio.sleep(0)  # its lease is made, and nothing has been said to it
        lease: Any = self._client._lease
        if lease is not None:
            lease.on_news, lease.ledger.wants_news = self._hear, True
            nodes.begin()
        closing = asyncio.ensure_future(self._until(lambda: self._is_closing))
        try:
            await asyncio.wait([scheduling, closing], return_when=asyncio.FIRST_COMPLETED)
            if not scheduling.done():
                scheduling.cancel()
                return
            await scheduling
            nodes.are_there = True
            pending.hand_in_all()
            await self._until_done()
            if self._cleanup is not None:
                await nodes.clean_up(self._cleanup)
        except (DispycosError, TimeoutError, OSError, ValueError) as error:
            if nodes.leave_out(str(error)):
                self._wanted.set()
                return
            log.warning("no cluster for %s: %s", self.name, error)
            pending.refuse(error)
        except BaseException:
            self._terminates = True  # the loop ends
            raise
        finally:
            closing.cancel()
            nodes.end()
            with contextlib.suppress(DispycosError):  # of tasks that were lost their jobs tell
                await self._client.close(await_io=False, terminate=self._terminates)

    def _location(self) -> Any:
        return None if program.local_servers else program.location

    async def _until_done(self) -> None:
        """Without jobs; and it is closed, or somebody else wants the nodes, or, of another program, may want them."""
        jobs = self._pending.jobs
        while True:
            await self._until(lambda: not jobs and (self._is_closing or line.waiting or self._lends))
            try:
                async with asyncio.timeout(LEND_S):
                    await self._until(lambda: jobs or self._is_closing or line.waiting)
            except TimeoutError:
                return
            if not jobs:
                return

    async def _until(self, condition: Callable[[], object]) -> None:
        while not condition():
            self._changed.clear()
            await self._changed.wait()

    def _hear(self, news: News | Pulsed) -> None:
        if isinstance(news, Pulsed):
            self._nodes.pulsed(news.node)
            return
        info: Any = news.info
        if isinstance(info, Record):
            if news.status == Status.TaskCreated:
                self._pending.task_started(info)
        elif isinstance(info, NodeInfo):
            if news.status != Status.NodeDiscovered or not self._is_closing:
                self._nodes.hear(news.status, info)
        elif news.status == Status.ServerInitialized:
            self._nodes.server_came(info)


class SharedJobCluster(JobCluster):
    """As JobCluster, with a scheduler that is named: scheduler_host, scheduler_node in older scripts.

    When it has had no jobs for 3 s other programs get the nodes, if they wait for them, unless it is `exclusive`. It waits for
    them when it has jobs again.
    """

    _what = "SharedJobCluster"
    _shared = {"scheduler_host", "scheduler_node", "scheduler_port"}

    def __init__(self, computation: Any, *args: Any, **options: Any) -> None:
        self._scheduler = options.get("scheduler_host") or options.get("scheduler_node")
        port = options.get("scheduler_port")
        if self._scheduler and port and int(port) not in PORTS:
            self._scheduler = f"{self._scheduler}:{port}"
        self._lends = self._location() is not None and not options.get("exclusive")
        super().__init__(computation, *args, **options)

    def _location(self) -> Any:
        return None if program.local_servers else self._scheduler or program.location
