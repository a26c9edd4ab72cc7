"""The pycos Client, which is Computation in older scripts, and Scheduler: dispycos' own with pycos' names and return values."""

from __future__ import annotations

import inspect
import logging
import os
from collections.abc import Callable, Iterable
from numbers import Real
from types import ModuleType
from typing import Any

from dispycos.brokers.local import Scheduler as NativeScheduler
from dispycos.brokers.private import PrivateProcess, Waiting
from dispycos.config import MIN_PULSE_INTERVAL
from dispycos.errors import NotPicklable, NotScheduled, ScheduleError, TaskLost, TaskRefused
from dispycos.private_options import texts_of
from dispycos.protocol.addresses import Location

from ..client.client import Client as NativeClient
from ..client.lease import ClientLease
from ..client.places import servers_at
from ..client.status import DispycosNodeAllocate
from ..tasks.either_style import must_be_callable
from ..tasks.submitting import MonitorStatus, until_started
from .options import usable
from .program import program
from .pycos import Pycos
from .tasks import cur_task

log = logging.getLogger("dispycos")

BY_POSITION = (
    *("nodes", "status_task", "node_setup", "server_setup", "disable_nodes", "disable_servers"),
    *("pulse_interval", "node_allocations", "ping_interval", "restart_servers", "zombie_period"),
    "abandon_zombie_nodes",
)
BY_POSITION_BEFORE = (
    *("pulse_interval", "nodes", "status_task", "node_setup", "server_setup", "disable_nodes"),
    *("disable_servers", "restart_servers", "abandon_zombie_nodes"),
)
OLDER = {"node_allocations": "nodes", "node_available": "node_setup", "server_available": "server_setup"}
WITHOUT_EFFECT = ("ping_interval", "zombie_period", "timeout")


class Client(NativeClient):
    """A program's hold on the cluster; its parameters by position, too, as either generation of pycos had them.

    Where dispycos raises, its methods return what pycos' return, and say why in a warning: schedule() -1, rtask() and its kin None.
    """

    def __init__(self, components: Any = (), *args: Any, **options: Any) -> None:
        names = BY_POSITION_BEFORE if args and isinstance(args[0], Real) else BY_POSITION
        if len(args) > len(names):
            raise TypeError(f"Client() takes at most {len(names) + 1} parameters, {len(args) + 1} are given")
        given: dict[str, Any] = {}
        for name, value in [*zip(names, args, strict=False), *options.items()]:
            if name in WITHOUT_EFFECT:
                log.debug("Client(%s=...) has no effect: dispycos needs none", name)
            elif value is not None and not (name == "node_allocations" and not value):
                given[OLDER.get(name, name)] = value
        given.setdefault("pulse_interval", 5 * MIN_PULSE_INTERVAL)
        given.setdefault("dest_path", Pycos.instance().dest_path)
        super().__init__([_code(one) for one in _listed(components)], **given)

    async def schedule(self, location: str | Location | None = None, timeout: float | None = None) -> int:
        """0: this client has the cluster; -1: it has not, and a warning says why."""
        if program.local_servers:
            location = None
            _start_alone()
        elif location is None:
            location = program.location
            if location is None and program.peers:  # nodes that peer() has named
                Scheduler(**program.scheduler_options)
        try:
            return await super().schedule(location, timeout)
        except (ScheduleError, TimeoutError) as error:
            log.warning("schedule(): %s", error)
            return -1

    async def close(
        self, await_io: bool = False, terminate: bool = False, timeout: float | None = None
    ) -> int:
        """Give the cluster back, when the CPU tasks have ended. 0."""
        if self._lease is None:
            return 0
        try:
            await super().close(await_io=await_io, terminate=terminate, timeout=timeout)
        except (TaskLost, TimeoutError) as error:
            log.warning("close(): %s", error)
        return 0

    # --- tasks ---

    async def _task(self, where: Any, io: bool, function: Any, args: Any, kwargs: Any) -> Any:
        """Its handle; None if it could not be started, and a MonitorStatus if its arguments cannot be sent."""
        try:
            must_be_callable(function)
            servers = [] if where is None else self._servers_at(where)
            if servers and not any(server.is_open and server.node.is_open for server in servers):
                raise TaskRefused(f"{where} is suspended")
            handle = self._submit(function, args, kwargs, io=io, where=where, alone=True)
            return await until_started(handle)
        except NotPicklable as error:
            log.warning("%s", error)
            return MonitorStatus(None, type(error), str(error))  # type: ignore[arg-type]
        except (TaskRefused, TaskLost, NotScheduled, TypeError, ValueError) as error:
            log.warning("%s was not started: %s", getattr(function, "__name__", function), error)
            return None

    async def rtask(  # type: ignore[override]
        self, gen: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> Any:
        """A CPU task on the least loaded node, when it runs; None if it could not be started.

        A task that has sent a file to a server means that one, as long as it is free: scripts say so by no other word.
        """
        return await self._task(self._near(), False, gen, args, kwargs)

    def _near(self) -> Location | None:
        place: Location | None = getattr(cur_task(), "sent_to", None)
        try:
            servers = [] if place is None else self._servers_at(place)
        except TaskRefused:  # it has ended
            return None
        return place if len(servers) == 1 and servers[0].is_offered and not servers[0].cpu else None

    def _servers_at(self, where: Any) -> list[Any]:
        """Raises TaskRefused, TypeError: no such place is in use."""
        if not isinstance(self._lease, ClientLease):
            return []
        ledger = self._lease.ledger
        there = ledger.dispatcher.fleet.servers
        found = servers_at(where, ledger.nodes, ledger.servers)
        return [there[epoch] for epoch in found if epoch in there]

    async def rtask_at(  # type: ignore[override]
        self, where: Any, gen: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> Any:
        """As rtask, on a node (address, name) or a server (Location)."""
        return await self._task(where, False, gen, args, kwargs)

    async def io_rtask(  # type: ignore[override]
        self, gen: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> Any:
        """As rtask, for a task that mostly waits: it shares its server."""
        return await self._task(None, True, gen, args, kwargs)

    async def io_rtask_at(  # type: ignore[override]
        self, where: Any, gen: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> Any:
        """As io_rtask, on a node or a server."""
        return await self._task(where, True, gen, args, kwargs)

    run, run_at, run_async, run_async_at = rtask, rtask_at, io_rtask, io_rtask_at

    async def rtask_result(self, gen: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """As rtask, and waits: what ``yield rtask()`` gives."""
        return await _result_of(await self.rtask(gen, *args, **kwargs))

    async def rtask_result_at(self, where: Any, gen: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """As rtask_at, and waits."""
        return await _result_of(await self.rtask_at(where, gen, *args, **kwargs))

    async def rtask_results(self, function: Callable[..., Any], items: Iterable[Any]) -> list[Any]:
        """Run function(*item), or function(item), for each; their results in order."""
        tasks = []
        for item in items:
            arguments = item if isinstance(item, tuple | list) else (item,)
            tasks.append(await self.rtask(function, *arguments))
        return [await _result_of(task) for task in tasks]

    run_result, run_result_at, run_results = rtask_result, rtask_result_at, rtask_results

    # --- nodes and servers: what is not there is said, not raised ---

    def _told(self, method: str, *args: Any, **kwargs: Any) -> int:
        try:
            result: int = getattr(super(), method)(*args, **kwargs)
            return result
        except (TaskRefused, NotScheduled) as error:
            log.warning("%s(): %s", method, error)
            return -1

    def enable_node(self, node: Any, *setup_args: Any) -> int:
        """With ``disable_nodes``: have this node set up by ``node_setup(*setup_args)``. 0, or -1 if there is none."""
        return self._told("enable_node", node, *setup_args)

    def enable_server(self, location: Any, *setup_args: Any) -> int:
        """With ``disable_servers``: have this server set up by ``server_setup(*setup_args)``. 0, or -1 if there is none."""
        return self._told("enable_server", location, *setup_args)

    def suspend_server(self, location: Any) -> int:
        """Give it no more tasks. 0, or -1 if there is none."""
        return self._told("suspend_server", location)

    def resume_server(self, location: Any) -> int:
        """End suspend_server(). 0, or -1 if there is none."""
        return self._told("resume_server", location)

    def suspend_node(self, node: Any) -> int:
        """Give its servers no more tasks. 0, or -1 if there is none."""
        return self._told("suspend_node", node)

    def resume_node(self, node: Any) -> int:
        """End suspend_node(). 0, or -1 if there is none."""
        return self._told("resume_node", node)

    def close_server(self, location: Any, terminate: bool = False, restart: bool = False) -> int:
        """End it when its CPU tasks have ended. 0, or -1 if there is none."""
        return self._told("close_server", location, terminate, restart)

    def restart_server(self, location: Any, terminate: bool = False) -> int:
        """close_server() with restart=True."""
        return self.close_server(location, terminate, True)

    def close_node(self, node: Any, terminate: bool = False) -> int:
        """Give it back when its CPU tasks have ended. 0, or -1 if there is none."""
        return self._told("close_node", node, terminate=terminate)

    def restart_node(self, node: Any, *setup_args: Any, terminate: bool = False) -> int:
        """As close_node(), but keep it: it is set up anew. 0, or -1 if there is none."""
        return self._told("restart_node", node, terminate, *setup_args)

    def abandon_zombie(self, location: Any, flag: bool) -> int:
        """For one node another rule than `abandon_zombie_nodes`; None is all. 0, or -1 if there is none."""
        if location is None:
            here = self._cluster().ledger.nodes.values()
            return max(
                [self._told("abandon_zombie", node.name, bool(flag)) for node in list(here)], default=0
            )
        return self._told("abandon_zombie", location, bool(flag))

    def node_allocate(self, node_allocate: Any) -> int:
        """Use what this matches, too. 0, or -1 if it is of no use."""
        return self._told("node_allocate", node_allocate)


Computation = Client
DispycosNodeAllocate._told_platform = staticmethod(str.lower)  # type: ignore[assignment]


async def _result_of(task: Any) -> Any:
    return await task.finish() if hasattr(task, "finish") else task


def _listed(components: Any) -> list[Any]:
    if components is None:
        return []
    if isinstance(components, str | os.PathLike) or not isinstance(components, Iterable):
        return [components]
    return list(components)


def _code(component: Any) -> Any:
    """An object stands for its class."""
    is_code = inspect.isroutine(component) or inspect.isclass(component) or isinstance(component, ModuleType)
    return component if is_code or isinstance(component, str | os.PathLike) else type(component)


class Scheduler(NativeScheduler):
    """``Scheduler()`` starts a private scheduler, for the Client that schedules next; also the names of all statuses.

    Options of pycos that dispycos has no use for (ports of UDP, for one) are said in the debug log.
    """

    NodeIgnore, TaskFinished = 1, 22  # which pycos never sends

    def __init__(self, **options: Any) -> None:
        if program.local_servers:
            _start_alone()
            return
        program.scheduler_options = options
        used = usable(options, "Scheduler")
        if program.peers:
            used["nodes"] = [*used.get("nodes", []), *program.peers]
        super().__init__(**used)


def _start_alone() -> None:
    """`dispycos run --local N`: nobody else is looked for."""
    orders: dict[str, Any] = {**texts_of({"cpus": program.local_servers}), "always": True, "alone": True}
    waiting = Waiting.take()
    if waiting is not None and waiting.has_orders and waiting.orders == orders:
        Waiting.child = waiting
        return
    if waiting is not None and not waiting.has_orders:
        waiting.give(orders)
        Waiting.child = waiting
        return
    if waiting is not None:
        waiting.end()
    Waiting.child = PrivateProcess(orders)
