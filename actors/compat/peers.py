"""Where this program is to others: the port at which other programs reach its tasks."""

from __future__ import annotations

import logging

from dispycos.protocol.addresses import Location
from dispycos.transport.addresses import HostAddresses, find_addresses, tcp_endpoint

from ..tasks.host import TaskHost
from .program import program

log = logging.getLogger("dispycos")


def location_of(host: TaskHost) -> Location:
    """Of a server its own; a program listens from the first time on that somebody asks where it is."""
    if host.place is not None:
        return host.place
    if program.location_here is None:
        program.location_here = program.call(_listen, host)
    here: Location = program.location_here
    return here


def addresses() -> HostAddresses:
    """Those that Pycos(host=...) and the environment leave."""
    settings = program.settings
    return find_addresses(_listed(settings.get("ip_addr")), _listed(settings.get("ext_ip_addr")))


def _listen(host: TaskHost) -> Location:
    here = addresses()
    port = int(program.settings.get("tcp_port") or program.settings.get("node_port") or 0)
    for address in here.to_bind:
        try:
            endpoint = host.runtime.listen(tcp_endpoint(address, port))
        except Exception as error:  # ZeroMQ's own
            raise OSError(f"Pycos: port {port} of {address} cannot be used: {error}") from None
        port = int(endpoint.rpartition(":")[2])
    return Location(here.main, port)


def _listed(given: object) -> tuple[str, ...]:
    if given is None:
        return ()
    return tuple(map(str, given)) if isinstance(given, list | tuple) else (str(given),)
