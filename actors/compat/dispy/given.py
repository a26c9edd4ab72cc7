"""What scripts give a cluster: its parameters, nodes, code and callbacks."""

from __future__ import annotations

import inspect
import os
import shutil
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from dispycos.config import MAX_PULSE_INTERVAL, MIN_PULSE_INTERVAL

from ...client.status import DispycosNodeAllocate
from .jobs import DispyNode, DispyNodeAvailInfo
from .remote import path_at_client

BY_POSITION = ("nodes", "depends", "job_status", "cluster_status")
WITHOUT_EFFECT = {
    *("host", "ip_addr", "ext_host", "ext_ip_addr", "dispy_port", "port", "node_port", "client_port"),
    *("ipv4_udp_multicast", "dest_path", "ping_interval", "poll_interval"),
    *("exclusive", "resend_job_results"),
}
USED = {
    "setup",
    "cleanup",
    "reentrant",
    "loglevel",
    "callback",
    "recover_file",
    "fault_recover",
    "pulse_interval",
    *BY_POSITION,
}
SECRETS = {"secret", "keyfile", "certfile"}
PORTS = {*range(51347, 51351), *range(9700, 9703)}  # dispy's defaults, old and new: no node of ours is there


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


class Taken(NamedTuple):
    """What an entry said of a node that it took; allocate() of a script's own may say another thing for each."""

    offer: tuple[str, int, int | None, int | None]  # platform, CPUs, memory and disk in bytes
    cpus: int
    depends: list[Any]
    setup_args: tuple[Any, ...]


class Entry(DispycosNodeAllocate):
    """The same, as dispycos asks it."""

    def __init__(self, wish: NodeAllocate, cluster: Any, *, is_anywhere: bool) -> None:
        port = int(wish.port) if wish.port and int(wish.port) not in PORTS else None
        host = "*" if is_anywhere or not wish.host else str(wish.host)
        super().__init__(host, port=None if "*" in host else port)
        self.wish, self._cluster = wish, cluster
        self.taken: dict[tuple[str, str], Taken] = {}  # by names and addresses of nodes

    def allocate(
        self, ip_addr: str, name: str, platform: str, cpus: int, memory: int | None, disk: int | None
    ) -> int:
        if super().allocate(ip_addr, name, platform, cpus, memory, disk) < 0:
            return -1
        info = None if memory is None else DispyNodeAvailInfo(100.0, memory, disk or 0, 0.0)
        wanted = int(self.wish.allocate(self._cluster, ip_addr, name, cpus, info, platform) or 0)
        if wanted <= 0:
            return -1
        wanted, offer = min(wanted, cpus), (platform, cpus, memory, disk)
        self.taken[name, ip_addr] = Taken(offer, wanted, list(self.wish.depends), tuple(self.wish.setup_args))
        return wanted

    @staticmethod
    def _told_platform(platform: str) -> str:
        """pycos' scripts have it in lower case."""
        return platform

    __hash__, __eq__ = object.__hash__, object.__eq__  # each is itself

    def ask_again(self, name: str, ip_addr: str) -> None:
        """Of a node that it took: what its jobs are to have from now on."""
        self.allocate(ip_addr, name, *self.taken[name, ip_addr].offer)


def wishes_of(nodes: Any) -> list[NodeAllocate]:
    """What ``JobCluster(nodes=...)`` means. Raises TypeError, ValueError."""
    if nodes is None or nodes == []:
        return []
    if isinstance(nodes, str | NodeAllocate | dict | DispyNode):
        nodes = [nodes]
    if not isinstance(nodes, Iterable):
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


def pulse_options(interval: Any) -> dict[str, Any]:
    """For the client. None: a node that is silent may come back; else its jobs are lost after 5 of them. Raises ValueError."""
    if interval is None:
        return {}
    try:
        seconds = float(interval)
    except (TypeError, ValueError):
        seconds = 0.0
    if not 0.1 <= seconds <= 1000:
        raise ValueError(f"pulse_interval must be a number of seconds from 0.1 to 1000, not {interval!r}")
    allowed = min(max(seconds, MIN_PULSE_INTERVAL), MAX_PULSE_INTERVAL)
    return {"pulse_interval": allowed, "abandon_zombie_nodes": True}


def listed(depends: Any) -> Iterable[Any]:
    if depends is None:
        return []
    return (
        [depends] if isinstance(depends, str | os.PathLike) or not isinstance(depends, Iterable) else depends
    )


def component_of(item: Any) -> Any:
    """An object stands for its class, a partial for its function."""
    item = item.func if isinstance(item, partial) else item
    is_code = inspect.isroutine(item) or inspect.isclass(item) or isinstance(item, ModuleType)
    if isinstance(item, bool | int | float | bytes):
        raise TypeError(f"depends: {item!r} is neither a function, a class, a module nor a file")
    return item if is_code or isinstance(item, str | os.PathLike) else type(item)


def parted(depends: Any) -> tuple[dict[str, bytes], list[Any]]:
    """Files, by the paths that they have at a node, and code. Raises OSError."""
    items = [component_of(item) for item in listed(depends)]
    files = [item for item in items if isinstance(item, str | os.PathLike)]
    code = [item for item in items if not isinstance(item, str | os.PathLike)]
    return {path_at_client(str(path)): Path(path).read_bytes() for path in files}, code


def computation_of(given: Any) -> tuple[Any, str, list[str]]:
    """What runs, its name, and the files that it needs."""
    if isinstance(given, str | os.PathLike):
        path = given if Path(given).is_file() else shutil.which(given)
        if path is None:
            raise FileNotFoundError(f"computation: there is no program {given}")
        return path_at_client(str(path)), str(given), [str(path)]
    if not callable(given):
        raise TypeError(
            f"computation must be a function or the path of a program, not {type(given).__name__}"
        )
    is_of_class = isinstance(getattr(given, "__self__", None), type)
    # jobs of a method get its instance as first argument
    function = given if is_of_class else getattr(given, "__func__", given)
    return function, getattr(function, "__name__", type(function).__name__), []


def callback_of(function: Any, count: int, what: str) -> Any:
    if function is None:
        return None
    if not callable(function):
        raise TypeError(f"{what} must be a function, not {type(function).__name__}")
    try:
        inspect.signature(function).bind(*range(count))
    except TypeError:
        raise TypeError(f"{what} must take {count} argument{'s' * (count > 1)}") from None
    except ValueError:
        pass  # of C code nothing is known
    return function
