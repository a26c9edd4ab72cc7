"""The pycos Pycos: the tasks and peers of this process, as scripts see them."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any

from dispycos.config import Failure
from dispycos.errors import FileNotSent, TaskLost, TaskRefused
from dispycos.living import is_server
from dispycos.protocol.addresses import Location
from dispycos.transport.addresses import resolve
from dispycos.transport.folders import temporary_folder

from ..sharing.sharing import peer_status
from .names import LACKS
from .network import LOOK_S, join
from .options import ALSO, NAMED_BEFORE
from .peers import addresses, dest_path, location_of
from .program import program
from .tasks import Task
from .tasks import cur_task as running_task

log = logging.getLogger("dispycos")

USED = ("name", "dest_path", "max_file_size", "tcp_port", "node_port", "ip_addr", "ext_ip_addr")
BY_POSITION = (
    *("udp_port", "tcp_port", "host", "ext_host", "socket_family", "ipv4_udp_multicast", "name"),
    *("discover_peers", "secret", "certfile", "keyfile", "notifier", "dest_path", "max_file_size"),
)


class Pycos:
    """``Pycos()``, at the first call with parameters, and ``Pycos.instance()``: always the same one."""

    _instance: Pycos | None = None

    def __new__(cls, *args: Any, **options: Any) -> Pycos:
        if len(args) > len(BY_POSITION):
            raise TypeError(f"Pycos() takes at most {len(BY_POSITION)} parameters, {len(args)} are given")
        options = {**dict(zip(BY_POSITION, args, strict=False)), **options}
        if Pycos._instance is None:
            Pycos._instance = super().__new__(cls)
            Pycos._instance._set_up(options)
        elif options:
            log.debug("Pycos() is there already: its parameters are those of the first call")
        return Pycos._instance

    def _set_up(self, options: dict[str, Any]) -> None:
        self._told: list[Task] = []  # of peers
        self._ignores_peers = False
        for given, value in options.items():
            name = NAMED_BEFORE.get(given, given)
            if name in ("secret", "certfile", "keyfile") and value:
                log.warning("Pycos(%s=...) is not used: dispycos has a secret of its own", name)
            elif name in USED and value is not None:
                program.settings[name] = value
            elif name not in ALSO and name not in USED:
                raise TypeError(f"Pycos() has no parameter {given!r} here: {LACKS}")
            else:
                log.debug("Pycos(%s=%r) has no effect: dispycos needs none", given, value)
        if program.settings.get("dest_path"):
            self.dest_path = program.settings["dest_path"]

    @classmethod
    def instance(cls, *args: Any, **options: Any) -> Pycos:
        """The one of this process."""
        return cls(*args, **options)

    # --- what it is ---

    @property
    def name(self) -> str:
        """Of this process, as its peers see it."""
        return str(program.settings.get("name") or socket.gethostname())

    @property
    def location(self) -> Location:
        """Where this process is to others."""
        return location_of(program.host)

    @property
    def locations(self) -> list[Location]:
        """As location."""
        return [self.location]

    @property
    def dest_path(self) -> str:
        """The folder for files that others send: in a server its own folder."""
        return os.getcwd() if is_server() else dest_path()

    @dest_path.setter
    def dest_path(self, path: Any) -> None:
        folder = temporary_folder() / "pycos" / os.path.expanduser(path)  # an absolute path is its own
        folder.mkdir(parents=True, exist_ok=True)
        program.settings["dest_path"] = str(folder)

    @staticmethod
    def scheduler() -> Pycos:
        """As instance()."""
        return Pycos()

    @staticmethod
    def cur_task(scheduler: Any = None) -> Task | None:
        """The task that runs."""
        return running_task()

    # --- its tasks ---

    def join(self, show_running: bool = False, timeout: float | None = None) -> bool:
        """Wait in a thread until all tasks that are no daemons have ended; False at the timeout."""
        if show_running:
            for cell in list(program.busy.values()):
                log.warning("waiting for %s", cell.name)
        return program.join(timeout)

    def finish(self) -> None:
        """As at the end of the program: wait for its tasks, and close."""
        program.finish()

    def terminate(self) -> None:
        """End all tasks, and close."""
        program.terminate()
        program.finish()

    def is_alive(self) -> bool:
        """Whether tasks run."""
        return bool(program.busy)

    def num_tasks(self) -> int:
        """How many tasks of this process have not ended."""
        return len(program.host.cells)

    def atexit(self, priority: int, func: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """Have this called at the end of the program; the highest priority first."""
        program.at_end.append((priority, func, args, kwargs))

    def drop_atexit(self, priority: int, func: Callable[..., Any]) -> None:
        """It is not called for that priority."""
        program.at_end[:] = [entry for entry in program.at_end if entry[:2] != (priority, func)]

    # --- other programs, and places of nodes and schedulers ---

    async def peer(
        self,
        loc: Any,
        udp_port: Any = None,
        stream_send: bool = False,
        relay: bool = False,
        task: Any = None,
        broadcast: bool = False,
    ) -> int:
        """Have a link to the program, scheduler or node at this Location. 0; -1 if nobody of this cluster answers there.

        A host alone: what runs there is found by itself, as on this network. A scheduler is used by schedule(), and a node, too.
        """
        network = join()
        place = _place(loc)
        if network is None or place is None:
            return 0
        if not place.port:
            return await _is_host(place.addr)
        role = await network.peer(place)
        if role == "scheduler":
            program.location = str(place)
        elif role == "node" and str(place) not in program.peers:
            program.peers.append(str(place))
        return 0 if role else -1

    async def close_peer(self, location: Any, timeout: float | None = None) -> int:
        """0: links end by themselves."""
        return 0

    def discover_peers(self, port: Any = None) -> int:  # scripts call it with `yield`, and without
        """0: from now on programs find this one, and this one them."""
        join()
        return 0

    @property
    def ignore_peers(self) -> bool:
        """Has no effect: who is of another cluster is not heard."""
        return self._ignores_peers

    @ignore_peers.setter
    def ignore_peers(self, ignore: Any) -> None:
        self._ignores_peers = bool(ignore)

    def peers(self) -> list[Location]:
        """Where the other programs are that are linked."""
        network = join()
        return (
            [status.location for status in network.peers() if status.location] if network is not None else []
        )

    def peer_status(self, task: Task | None) -> int:
        """Have this task sent a PeerStatus for each program, node and server, now and whenever one comes or goes. 0.

        None: nobody is told any more.
        """
        join()
        if task is None:
            for told in list(self._told):
                program.call(peer_status, told, False)
            self._told.clear()
            return 0
        self._told.append(task)
        return program.call(peer_status, task)

    async def locate(self, name: str, timeout: float | None = None) -> Location | None:
        """Where the program of this name is; None if there is none within `timeout` seconds."""
        loop = asyncio.get_running_loop()
        until = None if timeout is None else loop.time() + timeout
        if name == self.name:
            return self.location
        network = join()
        while network is not None and (until is None or loop.time() < until):
            found = next((peer.location for peer in network.peers() if peer.name == name), None)
            if found is not None:
                return found
            await asyncio.sleep(LOOK_S)
        return None

    # --- files ---

    async def send_file(
        self, location: Any, file: Any, dir: Any = None, overwrite: bool = False, timeout: float | None = None
    ) -> int:
        """Send a file to a node, a server or a program, or from a server to the client. 0: it is there; -1: it is not, as a warning
        says.
        """
        return await self._transfer("send", location, file, dir, overwrite, timeout, None)

    async def del_file(self, location: Any, file: Any, dir: Any = None, timeout: float | None = None) -> int:
        """Delete a file where send_file(location, file, dir) puts it. 0 or -1."""
        return await self._transfer("delete", location, file, dir, timeout)

    async def _transfer(self, what: str, location: Any, *args: Any) -> int:
        host = program.host
        records = host.records
        network = program.network
        try:
            if network is not None and any(peer.location == location for peer in network.peers()):
                await getattr(network.files, what)(location, *args)
                return 0
            if records is None:
                raise TaskRefused("there is no cluster, and no such program is linked")
            files = records.files
            try:
                await getattr(files, what)(location, *args)
            except TaskRefused:
                if host.place is None:
                    raise
                # It is no node's, nor a server's of the lease.
                await getattr(files, what)(records.client, *args)
            task = running_task()
            if task is not None and isinstance(location, Location):
                task.sent_to = location
            return 0
        except (OSError, FileNotSent, TaskRefused, TaskLost, TimeoutError, TypeError, ValueError) as error:
            log.warning("file %s to %s: %s", args[0], location, error)
            return -1


async def _is_host(host: str) -> int:
    """0: what runs there is found by itself, if it is on a network of this host; -1: it is not known."""
    try:
        found = await resolve(host)
    except Failure as error:
        log.warning("peer(): %s", error)
        return -1
    networks = [interface.network for interface in addresses().interfaces]
    if not any(ip_address(one) in network for one in found for network in networks):
        log.warning(
            "peer(%r): it is on another network, so name the port, too: Location(%r, 9706)", host, host
        )
    return 0


def _place(where: Any) -> Location | None:
    """Raises ValueError: it is no place."""
    if where is None:
        return None
    if isinstance(where, Location):
        return where
    host, _, port = str(where).rpartition(":") if str(where).count(":") == 1 else (str(where), "", "")
    return Location(host, int(port or 0))
