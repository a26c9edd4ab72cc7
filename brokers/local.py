"""What a program calls to have a private scheduler of its own making."""

from __future__ import annotations

from typing import Any

from dispycos.config import Failure, PrivateSettings
from dispycos.living import refuse_in_server
from dispycos.private_options import private_settings, texts_of
from dispycos.protocol.status import Status
from dispycos.transport.addresses import find_addresses

from .private import PrivateProcess, Waiting


class _Statuses(type):
    """Each status is a name of the class: Scheduler.NodeInitialized."""

    def __getattr__(cls, name: str) -> Status:
        try:
            return Status[name]
        except KeyError:
            raise AttributeError(
                f"Scheduler has no {name}; its statuses are {', '.join(Status.__members__)}"
            ) from None

    def __dir__(cls) -> list[str]:
        return [*super().__dir__(), *Status.__members__]


class Scheduler(metaclass=_Statuses):
    """A private scheduler for the Client that schedules next; its child process starts at once.

    There is no need to keep the object.

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

    def __init__(self, **options: Any) -> None:
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
