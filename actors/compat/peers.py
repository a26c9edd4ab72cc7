"""Where this program is to others: the port at which other programs reach its tasks, and the folder for their files."""

from __future__ import annotations

import logging

from dispycos.protocol.addresses import Location
from dispycos.transport.addresses import HostAddresses, find_addresses, tcp_endpoint
from dispycos.transport.folders import make_private, temporary_folder

from ..tasks.host import TaskHost
from .program import program

log = logging.getLogger("dispycos")


def location_of(host: TaskHost) -> Location:
    """Of a server its own; a program listens from the first time on that somebody asks where it is."""
    if host.place is not None:
        return host.place
    if program.location_here is None:
        program.call(_listen, host)
    here: Location = program.location_here
    return here


def dest_path() -> str:
    """The folder for files that others send to this program."""
    if "dest_path" not in program.settings:
        program.settings["dest_path"] = str(make_private(temporary_folder() / "pycos"))
    return str(program.settings["dest_path"])


def addresses() -> HostAddresses:
    """Those that Pycos(host=...) and the environment leave."""
    settings = program.settings
    return find_addresses(_listed(settings.get("ip_addr")), _listed(settings.get("ext_ip_addr")))


def _listen(host: TaskHost) -> None:
    """On the loop; of several that ask at the same time the first one does it."""
    if program.location_here is not None:
        return
    here = addresses()
    port = int(program.settings.get("tcp_port") or program.settings.get("node_port") or 0)
    for address in here.to_bind:
        try:
            endpoint = host.runtime.listen(tcp_endpoint(address, port))
        except Exception as error:  # ZeroMQ's own
            raise OSError(f"Pycos: port {port} of {address} cannot be used: {error}") from None
        port = int(endpoint.rpartition(":")[2])
    program.location_here = Location(here.main, port)


def _listed(given: object) -> tuple[str, ...]:
    if given is None:
        return ()
    return tuple(map(str, given)) if isinstance(given, list | tuple) else (str(given),)
