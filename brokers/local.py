"""What a program calls to have a private scheduler of its own making."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath
from typing import ClassVar, TypeAlias, TypedDict, Unpack

from dispycos.config import Failure, PrivateSettings
from dispycos.living import refuse_in_server
from dispycos.private_options import private_settings, texts_of
from dispycos.protocol.status import Status
from dispycos.transport.addresses import find_addresses

from .private import PrivateProcess, Waiting

Texts: TypeAlias = str | Sequence[str]


class SchedulerOptions(TypedDict, total=False):
    """For type checkers; private_options.py has what is done with them."""

    nodes: Texts
    ip_addr: Texts
    ext_ip_addr: Texts
    name: str
    cpus: int
    resource: Texts
    dest_path: str | PurePath
    max_file_size: int | str
    min_pulse_interval: float
    max_pulse_interval: float
    zombie_period: float
    secret_file: str | PurePath
    debug: bool
    node: Texts
    host: Texts
    ext_host: Texts


class Scheduler:
    """A private scheduler for the Client that schedules next; its child process starts at once.

    There is no need to keep the object: ``dispycos.Scheduler(cpus=2)`` as a line before the Client is enough. Names of the class
    are what a status_task hears: ``if word.status == Scheduler.NodeInitialized``.

    Parameters
    ----------
    nodes: names, addresses, ``"host:port"`` of nodes to use beside those that are found.
    ip_addr: the only addresses of this host to use, mDNS included; `node` and `host` are the same.
    ext_ip_addr: addresses by which others reach it.
    name, cpus, dest_path, max_file_size, min_pulse_interval, max_pulse_interval: as options of `dispycos node`, for the node
        that is started here where none is found.
    zombie_period: seconds after which a Client that runs nothing gives the nodes back; 0, the default: never.
    secret_file: file that holds the cluster's secret; the Client needs the same. debug: say more.

    Raises
    ------
    TypeError: there is no such option; the text lists those there are. ValueError: its value is of no use.
    """

    # What a status_task is told.
    NodeDiscovered: ClassVar[Status] = Status.NodeDiscovered
    NodeInitialized: ClassVar[Status] = Status.NodeInitialized
    NodeSuspended: ClassVar[Status] = Status.NodeSuspended
    NodeResumed: ClassVar[Status] = Status.NodeResumed
    NodeClosed: ClassVar[Status] = Status.NodeClosed
    NodeDisconnected: ClassVar[Status] = Status.NodeDisconnected
    NodeAbandoned: ClassVar[Status] = Status.NodeAbandoned
    ServerDiscovered: ClassVar[Status] = Status.ServerDiscovered
    ServerInitialized: ClassVar[Status] = Status.ServerInitialized
    ServerSuspended: ClassVar[Status] = Status.ServerSuspended
    ServerResumed: ClassVar[Status] = Status.ServerResumed
    ServerClosed: ClassVar[Status] = Status.ServerClosed
    ServerDisconnected: ClassVar[Status] = Status.ServerDisconnected
    ServerAbandoned: ClassVar[Status] = Status.ServerAbandoned
    TaskCreated: ClassVar[Status] = Status.TaskCreated
    TaskStarted: ClassVar[Status] = Status.TaskStarted
    TaskAbandoned: ClassVar[Status] = Status.TaskAbandoned
    TaskTerminated: ClassVar[Status] = Status.TaskTerminated
    ClientScheduled: ClassVar[Status] = Status.ClientScheduled
    ClientClosed: ClassVar[Status] = Status.ClientClosed

    def __init__(self, **options: Unpack[SchedulerOptions]) -> None:
        refuse_in_server("a Scheduler")
        orders = {**texts_of(options), "always": True}
        try:
            settings = private_settings(PrivateSettings(), texts_of(options))
            find_addresses(settings.ip_addr, settings.ext_ip_addr)
        except Failure as failure:
            raise ValueError(f"Scheduler(): {failure}") from None
        waiting = Waiting.take()
        if waiting is not None and waiting.orders != orders:
            waiting.end()  # what was said last counts
            waiting = None
        Waiting.child = waiting or PrivateProcess(orders)
