"""The jobs of a cluster that have not ended: how each becomes a task of its client, what it says, and how it ends."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from dispycos.errors import DispycosError, NotPicklable, TaskLost, TaskRefused, TaskTerminated
from dispycos.protocol.envelope import Payload, bytes_of
from dispycos.protocol.status import OutcomeKind

from ...client.client import Client
from ...client.lease import ClientLease
from ...tasks.options import Options
from ...tasks.record import Record
from ...tasks.submitting import Task as NativeTask
from ..program import program
from ..tasks import Task, cur_task
from . import remote
from .callbacks import Told
from .jobs import DispyJob, DispyNode, NodeState
from .journal import Journal
from .nodes import Nodes

log = logging.getLogger("dispycos")

# A callback hears of no end sooner: scripts note a job behind submit(), and dispy is never faster.
EARLIEST_S = 0.01
BRIEF_S = 0.05  # seconds; jobs that last longer begin in their order, each on a free server
MANY = 100  # jobs of which nothing is known yet: taken for brief


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


class Pending:
    """Those of one cluster. Used on the loop, where nothing else is said.

    Parameters
    ----------
    client: whose tasks they are. function: what they call, or the name of a program; `name` is for people.
    retries: of a job whose server or node was lost.
    nodes, told, journal: of the cluster. changed: to be called when some came, or one has ended. wanted: when they need nodes.
    """

    def __init__(
        self,
        client: Client,
        function: Any,
        name: str,
        retries: int,
        nodes: Nodes,
        told: Told,
        *,
        journal: Journal | None,
        changed: Callable[[], object],
        wanted: Callable[[], object],
    ) -> None:
        self._client, self._function, self._name, self._retries = client, function, name, retries
        self._nodes, self._told, self._changed, self._wanted = nodes, told, changed, wanted
        self._journal = journal
        self.jobs: dict[int, DispyJob] = {}  # by their numbers
        self._incoming: deque[tuple[DispyJob, _Prepared | None, _Failure | None]] = deque()
        self._is_taking = False
        self._queue: deque[DispyJob] = deque()  # not yet the client's
        self._idle = threading.Condition()
        self.total_s, self._ended = 0.0, 0  # of jobs that have ended
        self._failure: BaseException | None = None  # there is no cluster for them
        self._inbox = Task(self.unfinished_jobs)
        self._inbox.set_daemon()
        told.on_due = self._look
        nodes.on_up, nodes.on_gone = self.hand_in_all, self.node_gone

    def all(self) -> list[DispyJob]:
        return list(self.jobs.values())

    def wait(self, timeout: float | None) -> bool:
        """Until there is none; False after `timeout` seconds. From any thread."""
        if self.jobs and timeout != 0:
            program.refuse_to_block("wait()", "look at `cluster.wait(0)`, with `yield task.sleep(...)`")
        with self._idle:
            return self._idle.wait_for(lambda: not self.jobs, timeout)

    # --- their way to the client ---

    def submit(self, job: DispyJob) -> None:
        """From any thread."""
        prepared, failure = None, None
        if isinstance(self._function, str):
            job._args, job._kwargs = tuple(map(str, job._args)), {}  # a program's
        try:  # now, as the script may change the arguments; and here, where it does not wait for the loop
            if self._has_place(job):
                prepared = self._prepare(job)
            else:
                job._args, job._kwargs = self._copied(job)
        except DispycosError as error:
            failure = _failure_of(error)
        except Exception as error:  # the user's __reduce__ may raise anything
            failure = _Failure(DispyJob.Cancelled, f"{type(error).__name__}: {error}")
        with self._idle:
            is_first = not self.jobs
            self.jobs[job._number] = job
        if is_first:
            program.call(self._look)
        self._incoming.append((job, prepared, failure))
        if not self._is_taking:
            self._is_taking = True
            program.host.loop.call_soon_threadsafe(self._take_all)

    def _copied(self, job: DispyJob) -> Any:
        payloads = self._client._payloads
        with self._naming(job):
            return payloads.loads(payloads.dumps((job._args, job._kwargs), "the arguments"))

    @contextmanager
    def _naming(self, job: DispyJob) -> Iterator[None]:
        """What cannot be pickled is told as a parameter of the user's function, not of ours."""
        try:
            yield
        except NotPicklable:
            self._client._payloads.dumps_call(self._function, self._name, job._args, job._kwargs)
            raise

    def _take_all(self) -> None:
        self._is_taking = False
        count = 0
        while self._incoming:
            count += 1
            self._take(*self._incoming.popleft())
        if self._journal is not None and count:
            self._journal.submitted(count)
        self._changed()

    def _take(self, job: DispyJob, prepared: _Prepared | None, failure: _Failure | None) -> None:
        self._told.of_change(DispyJob.Created, None, job)
        if failure is not None:
            self.fail(job, *failure)
        elif self._failure is not None:
            self.fail(job, DispyJob.Terminated, str(self._failure))
        elif self._has_place(job):
            self._hand_in(job, prepared)
        else:
            self._queue.append(job)
            if not self._nodes.are_there:
                self._wanted()

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
        with self._naming(job):
            task, values = lease.prepare(lease.host.task_class, run, call, {}, options)
        record: Any = task._source
        record.function = self._name  # which its user knows
        return _Prepared(lease, task, values)

    def _are_brief(self) -> bool:
        """Such jobs may wait behind others at a server, as tasks do."""
        if self._ended == 0:
            return len(self.jobs) > MANY
        return self.total_s < self._ended * BRIEF_S

    def _hand_in(self, job: DispyJob, prepared: _Prepared | None = None) -> None:
        try:
            if prepared is None or prepared.lease is not self._client._lease:
                prepared = self._prepare(job)
            prepared.lease.enter(prepared.task._source, prepared.values)
        except Exception as error:
            self.fail(job, *_failure_of(error))
        else:
            job._task = prepared.task
            job._task.add_done_callback(partial(self._task_ended, job))

    def _has_place(self, job: DispyJob) -> bool:
        return self._nodes.are_there and (job._node is None or job._node._state is NodeState.UP)

    def hand_in_all(self) -> None:
        """The nodes are there, or one more."""
        queue, self._queue = self._queue, deque()
        for job in queue:
            if self._has_place(job):
                self._hand_in(job)
            else:
                self._queue.append(job)

    def node_gone(self, node: DispyNode) -> None:
        for job in [job for job in self._queue if job._node is node]:
            self._queue.remove(job)
            self.fail(job, DispyJob.Abandoned, f"node {node.name} was closed")

    # --- ends that somebody wants ---

    def cancel(self, job: Any) -> int:
        if not isinstance(job, DispyJob) or job._number not in self.jobs or job.status == DispyJob.Cancelled:
            log.warning("cancel(): %r is no job that has not ended", getattr(job, "id", job))
            return -1
        if job in self._queue:
            self._queue.remove(job)
            self.fail(job, DispyJob.Cancelled)
        else:
            job.status = DispyJob.Cancelled
            job._task.terminate()
        return 0

    def close(self, *, terminate: bool) -> None:
        """No more come."""
        for job in list(self._queue):
            self.fail(job, DispyJob.Cancelled, "the cluster was closed")
        self._queue.clear()
        for job in self.all():
            if terminate and job._task is not None:
                job._task.terminate()

    def refuse(self, error: BaseException) -> None:
        """There is no cluster for them, nor for those that come."""
        self._failure = error
        self.fail_all(str(error))
        self._queue.clear()

    def fail_all(self, text: str) -> None:
        for job in self.all():
            self.fail(job, DispyJob.Terminated, text)

    # --- what is heard of them ---

    def task_started(self, record: Record) -> None:
        number = record.info[0][1] if record.info and len(record.info[0]) == 7 else 0
        job = self.jobs.get(number)
        if job is not None:
            self._set_started(job, record, time.time())

    def _set_started(self, job: DispyJob, record: Record, when: float) -> None:
        if job._node is not None and job.start_time is not None:
            job._node.busy -= 1  # its server or node was lost there
        is_again, job.start_time = job.start_time is not None, when
        if record.location is not None:
            job.ip_addr = record.location.addr
            job._node = self._nodes.of(record) or self._nodes.find(job.ip_addr)
        if job._node is not None:
            job._node.busy += 1
            job._node.tx += record.size
        if job.status == DispyJob.Created or (is_again and job.status != DispyJob.Cancelled):
            job.status = DispyJob.Running
            self._told.of_change(DispyJob.Running, job._node, job)

    async def unfinished_jobs(self) -> None:
        """What running jobs say."""
        task = cur_task()
        assert task is not None
        while True:
            number, what, *rest = await task.receive()
            job = self.jobs.get(number)
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
            self._told.of_job(job)

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
            self.fail(job, DispyJob.Cancelled if was_queued else DispyJob.Terminated)
            return
        is_away = job._node is not None and self._nodes.is_away(job._node)  # without a node it died early
        text = str(error) if isinstance(error, TaskLost) else f"{type(error).__name__}: {error}"
        for before in (", ", ": "):
            text = text.replace(before + remote.OF_REPORT, "")
        is_abandoned = is_away and isinstance(error, TaskLost | TaskRefused)
        self.fail(job, DispyJob.Abandoned if is_abandoned else DispyJob.Terminated, text)

    # --- ends ---

    def _finish(self, job: DispyJob, report: Any) -> None:
        job.stdout, job.stderr = report.stdout, report.stderr
        job.result, job.exception = report.result, report.exception
        came: Payload = job._task._source.payload
        if job._node is not None:
            job._node.rx += bytes_of(came)
        status = DispyJob.Finished if report.exception is None else DispyJob.Terminated
        self._end(job, status, report.seconds, came)

    def fail(self, job: DispyJob, status: int, text: str | None = None) -> None:
        job.result, job.exception = None, text
        self._end(job, status, 0.0, None)

    def _end(self, job: DispyJob, status: int, seconds: float, report: Payload) -> None:
        if self.jobs.get(job._number) is not job:
            return
        early_s = job.submit_time + EARLIEST_S - time.time()
        if 0 < early_s <= EARLIEST_S and self._told.hears:
            program.host.loop.call_later(early_s, self._end, job, status, seconds, report)
            return
        job.status = status
        if job.start_time is not None or status != DispyJob.Cancelled:
            job.end_time = time.time()
        if job._node is not None and job.start_time is not None:
            job._node.busy -= 1
            job._node.jobs_done += 1
            job._node.cpu_time += seconds
            job._node.update_time = time.time()
        self.total_s += seconds
        self._ended += 1
        job._args, job._kwargs, job._report, job._files, job._code = (), {}, None, {}, []
        if self._journal is not None:
            self._journal.ended(job, report)
        job._task = None  # and its value as it came
        with self._idle:
            del self.jobs[job._number]
            self._idle.notify_all()
        job.finish.set()
        self._told.of_job(job)
        self._look()
        self._changed()

    def _look(self) -> None:
        """The end of the program waits for jobs and callbacks."""
        self._inbox.set_daemon(not self.jobs and not self._told.due)
