"""What an Executor has under way: from submit() in any thread to the client on its loop, and back into the futures."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from copy import copy
from functools import partial
from typing import Any, TypeVar

from dispycos.errors import InitializerFailed, TaskLost, TaskRefused, TaskTerminated
from dispycos.notices import counted, listing
from dispycos.protocol.addresses import Location

from ..client.in_process import Lease
from ..client.loop_thread import LoopThread, loop_thread
from ..tasks.calling import name_of
from ..tasks.ends import without_our_frames
from ..tasks.options import Options
from ..tasks.submitting import Task
from .cluster import Cluster
from .future import Call, Future
from .kept import After, Install, Kept, Missing

SLICE_S = 0.005  # handing over goes on for so long before the loop has its turn

AFTER_SHUTDOWN = "cannot schedule new futures after shutdown"  # in the standard library's words
AFTER_EXIT = "cannot schedule new futures after interpreter shutdown"


ErrorT = TypeVar("ErrorT", bound=Exception)
Place = tuple[Location, str]  # a server, and the key of what it misses


class Calls:
    """Of one Executor, which it does not know: so one that nobody refers to any more can be shut down.

    Parameters
    ----------
    max_workers: calls that servers have at a time; None: as many as there is room for.
    retries: how often a call is started again that was lost with its server.
    setup: what a server has to have before its first call; None: nothing.
    """

    def __init__(
        self,
        cluster: Cluster,
        max_workers: int | None,
        retries: int,
        setup: Kept | None,
    ) -> None:
        self.thread: LoopThread = loop_thread()
        self._loop = self.thread.loop
        self._cluster = cluster
        self.max_workers = max_workers
        self._retries = retries
        self._setup = setup
        self.kept: dict[str, Kept] = {} if setup is None else {setup.key: setup}  # what servers may miss
        self._lock = threading.Lock()
        self._refusal: Exception | None = None  # why nothing is taken any more
        self._is_shut = False
        self._is_parents = False  # this is a forked child
        self._waiting: deque[Future[Any]] = deque()  # for the loop
        self._is_called = False  # the loop will look at them
        self.ended = threading.Event()  # it was shut down, and all its calls have ended
        # On the loop:
        self._given: dict[Future[Any], None] = {}  # the client has them
        self._behind: dict[Place, list[Future[Any]]] = {}  # they wait until this server has what they miss
        self._installs: set[Task[Any]] = set()  # which give it to it
        self._lease: Lease | None = None
        self._taking: asyncio.Task[Lease] | None = None
        self._ending: asyncio.Task[None] | None = None

    # --- in any thread ---

    def submit(self, call: Call) -> Future[Any]:
        future: Future[Any] = Future(self, call)
        with self._lock:
            if self._refusal is not None:
                raise _own(self._refusal)
            self._waiting.append(future)
            if self._is_called:
                return future
            self._is_called = True
        self._loop.call_soon_threadsafe(self._pump)
        return future

    def withdraw(self, future: Future[Any]) -> bool:
        """Whether no server has it: then none will."""
        with self._lock:
            if future._is_withdrawn:
                return False
            if future._call is not None:
                future._call = None
                future._is_withdrawn = True
                return True
        if future._handle is None and not future.done() and not self.thread.is_here:
            future._wait_for_task()  # it is just being handed over
        handle, lease = future._handle, self._lease
        if handle is None or lease is None:
            return False
        record: Any = handle._source
        with lease.host.shield, lease.runtime.lock:
            if future._is_withdrawn or record.over or record.at is not None:
                return False
            future._is_withdrawn = True
            handle.terminate()
        return True

    def must_be_picklable(self, call: Call) -> None:
        """Raises NotPicklable, which names the argument. For those who put several calls into one."""
        function, args, kwargs = call
        if (lease := self._lease) is not None:
            payloads: Any = lease.host.payloads
            payloads.dumps_call(function, name_of(function), args, kwargs)

    def leave_to_parent(self) -> None:
        """In a forked child: calls are the parent's, whose loop has them. Nothing is taken here, and nothing to wait for."""
        self._lock = threading.Lock()  # a thread of the parent's may have had it
        self._refusal = RuntimeError(
            f"this Executor belongs to the process that process {os.getpid()} was forked from: make another one here"
        )
        self._is_parents = True
        self.ended = threading.Event()
        self.ended.set()

    def shut(self, *, cancel: bool = False, text: str = AFTER_SHUTDOWN) -> None:
        """Nothing is taken any more; `ended` is set when what was taken has ended. With `cancel`: what no server has is not run."""
        if self._is_parents:
            return
        with self._lock:
            self._is_shut = True
            self._refusal = self._refusal or RuntimeError(text)
        if self._loop.is_closed():  # the loop thread has ended before us, and all calls with it
            self.ended.set()
        else:
            self._loop.call_soon_threadsafe(self._shut, cancel)

    def terminate(self, *, kill: bool) -> None:
        """As shut(cancel=True), and what runs is ended; with `kill` its servers are killed at once."""
        self.shut(cancel=True)
        if not (self._is_parents or self._loop.is_closed()):
            self._loop.call_soon_threadsafe(self._terminate, kill)

    def count_servers(self) -> int:
        """Of the cluster; 0 before the first call has been handed over."""
        lease = self._lease
        return lease.server_count if lease is not None else 0

    def what_is_left(self) -> str:
        """For people, of one that was shut down."""
        calls = [future._call for future in list(self._waiting)]
        names = [name_of(call[0]) for call in calls if call is not None]
        names += [future._handle.name for future in list(self._given) if future._handle is not None]
        what = listing(names) if names else "its servers to be given back"
        return f"the Executor made in {self._cluster.made_at} waits for {what}; Ctrl-C, or its terminate_workers(), ends that"

    def __str__(self) -> str:
        under_way = counted(
            len(self._given) + sum(future._call is not None for future in list(self._waiting)), "call"
        )
        return f"{self._cluster.made_at}: {under_way} under way{', shut down' if self._is_shut else ''}"

    # --- on the loop ---

    def _pump(self) -> None:
        """Hand over what waits; for a moment, if that is much."""
        with self._lock:
            self._is_called = False
        waiting = self._waiting
        while waiting and waiting[0]._call is None:
            waiting.popleft()
        lease = self._lease_for(waiting)
        if lease is not None:
            until = time.monotonic() + SLICE_S
            while waiting and self._has_room(lease):
                self._give(waiting.popleft(), lease)
                if time.monotonic() > until:
                    self._pump_soon()
                    return
        self._end_if_over()

    def _lease_for(self, waiting: deque[Future[Any]]) -> Lease | None:
        """None: there is nothing to do, or the cluster has to be waited for."""
        if self._lease is not None and self._lease.is_open:
            return self._lease
        self._lease = None
        if waiting and self._taking is None:
            try:
                self._lease = self._cluster.at_hand()
            except Exception as error:  # the program's own client is closed
                self._fail_waiting(error)
            else:
                if self._lease is None:
                    self._taking = self._loop.create_task(self._cluster.take())
                    self._taking.add_done_callback(self._taken)
        return self._lease

    def _pump_soon(self) -> None:
        with self._lock:
            is_called, self._is_called = self._is_called, True
        if not is_called:
            self._loop.call_soon(self._pump)

    def _has_room(self, lease: Lease) -> bool:
        limit = self.max_workers
        return limit is None or len(self._given) < limit or lease.server_count <= limit

    def _taken(self, taking: asyncio.Task[Lease]) -> None:
        self._taking = None
        if not taking.cancelled():
            error = taking.exception()
            if isinstance(error, Exception):
                self._fail_waiting(error)
            else:
                self._lease = taking.result()
        self._pump_soon()

    def _fail_waiting(self, error: Exception) -> None:
        while self._waiting:
            self._fail(self._waiting.popleft(), error)

    def _fail(self, future: Future[Any], error: Exception) -> None:
        if self._claim(future) is not None:
            self._end_by(future, _own(error))

    def _end_by(self, future: Future[Any], error: BaseException | None) -> None:
        self._complete(future, partial(future.set_exception, error))

    def _complete(self, future: Future[Any], end: Callable[[], None]) -> None:
        """What else is to be done goes on, whatever the program's callbacks raise; and it may have ended the future itself."""
        if future.done():
            return
        try:
            end()
        except BaseException as error:  # the standard library catches Exception
            self.thread.report("a callback of a future", error)

    def _claim(self, future: Future[Any]) -> Call | None:
        """Its call, which nobody may withdraw from us any more; None: somebody has."""
        with self._lock:
            call, future._call = future._call, None
        return call

    def _give(self, future: Future[Any], lease: Lease) -> None:
        call = self._claim(future)
        if call is None:
            return
        function, args, kwargs = call
        if self._setup is not None:
            function = After(self._setup.key, function)
        try:
            handle = lease.submit(function, args, kwargs, Options(self._retries))
        except Exception as error:  # it cannot be pickled, or the cluster is gone
            self._end_by(future, error)
            return
        self._given[future] = None
        future._has_task(handle)
        handle.add_done_callback(partial(self._finish, future, call if self.kept else None))

    def _finish(self, future: Future[Any], call: Call | None, handle: Task[Any]) -> None:
        del self._given[future]
        if not future._is_withdrawn:
            self._settle(future, call, handle)
        if self._waiting or self._is_shut:
            self._pump_soon()

    def _settle(self, future: Future[Any], call: Call | None, handle: Task[Any]) -> None:
        if handle.cancelled():
            self._end_by(future, TaskTerminated(f"{handle.name} was cancelled, by its task"))
            return
        error = handle.exception()
        if error is not None:
            self._end_by(future, error)
            return
        value = handle.result()
        if type(value) is Missing and call is not None:
            self._put_behind(future, call, handle.location, value.key)
        else:
            self._complete(future, partial(future.set_result, value))

    # --- what servers miss ---

    def _put_behind(self, future: Future[Any], call: Call, server: Location | None, key: str) -> None:
        """It has not run: once this server has what it misses it is given again."""
        if isinstance(self._refusal, InitializerFailed):
            self._end_by(future, _own(self._refusal))
            return
        lease, missing = self._lease, self.kept.get(key)
        if lease is None or not lease.is_open:  # it has made way: the next one's servers will do
            with self._lock:
                future._handle, future._call = None, call
            self._waiting.appendleft(future)
            self._pump_soon()
            return
        if server is None or missing is None:
            self._end_by(future, TaskLost("what the call needs is not kept any more", started=False))
            return
        with self._lock:
            future._handle, future._call = None, call
        place = server, key
        if place in self._behind:
            self._behind[place].append(future)
            return
        self._behind[place] = [future]
        try:
            handle = lease.submit(Install(missing), missing.args, {}, Options(where=server))
        except TaskRefused:  # it has gone
            self._give_again(place)
        except Exception as error:  # it cannot be pickled
            self._fail_behind(place, error)
        else:
            self._installs.add(handle)
            handle.add_done_callback(partial(self._installed, place))

    def _installed(self, place: Place, handle: Task[Any]) -> None:
        self._installs.remove(handle)
        error = None if handle.cancelled() else handle.exception()
        may_try_again = isinstance(error, TaskRefused | TaskTerminated) or (
            isinstance(error, TaskLost) and not error.started
        )
        if isinstance(error, Exception) and not may_try_again:
            self._fail_behind(place, error)
        else:
            self._give_again(place)

    def _give_again(self, place: Place) -> None:
        self._waiting.extendleft(reversed(self._behind.pop(place, ())))
        self._pump_soon()

    def _fail_behind(self, place: Place, error: Exception) -> None:
        if self._setup is not None and place[1] == self._setup.key and not self._is_broken():
            self._break(error)
        for future in self._behind.pop(place, ()):
            self._fail(future, error)
        self._pump_soon()

    def _is_broken(self) -> bool:
        return isinstance(self._refusal, InitializerFailed)

    def _break(self, error: Exception) -> None:
        logging.getLogger("concurrent.futures").critical(
            "Exception in initializer:", exc_info=without_our_frames(error)
        )
        broken = InitializerFailed(
            f"the initializer of this Executor has failed: {type(error).__name__}: {error}"
        )
        broken.__cause__ = error
        with self._lock:
            self._refusal = broken
        for futures in self._behind.values():
            self._waiting.extend(futures)
        self._fail_waiting(broken)

    # --- ends ---

    def _shut(self, cancel: bool) -> None:
        self._pump()
        if cancel:
            if self._lease is not None:
                self._lease.runtime.turn()  # servers that are free have what was submitted before
            for future in [
                *self._waiting,
                *self._given,
                *(one for some in self._behind.values() for one in some),
            ]:
                future.cancel()
        self._end_if_over()

    def _terminate(self, kill: bool) -> None:
        given = [future._handle for future in self._given if future._handle is not None]
        handles = [*given, *self._installs]
        for handle in handles:
            handle.terminate()
        if kill and self._lease is not None:
            self._lease.kill_servers_of(handles)

    def _end_if_over(self) -> None:
        if not self._is_shut or self._given or self._behind or self._ending is not None:
            return
        if any(future._call is not None for future in self._waiting):
            return
        if self._taking is not None:
            self._taking.cancel()  # nobody wants the cluster any more
        else:
            self._ending = self._loop.create_task(self._end())

    async def _end(self) -> None:
        try:
            await self._cluster.leave()
        finally:
            self.ended.set()


def _own(error: ErrorT) -> ErrorT:
    """For one of those that get the same: who raises it adds a line to its traceback."""
    try:
        copied = copy(error)
    except Exception:  # it cannot be made from its args
        return error
    copied.__cause__ = error.__cause__
    return copied
