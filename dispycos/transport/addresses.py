"""Knows which addresses this host has, which of them a process uses and tells others, and resolves names."""

from __future__ import annotations

import ipaddress
import socket
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass

import psutil

from ..config import Failure

LOOKUP_TIMEOUT_S = 5.0
ANY = "*"

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Interface = ipaddress.IPv4Interface | ipaddress.IPv6Interface


class AddressError(Failure):
    """An address or a name that cannot be used."""


class ForeignAddress(AddressError):
    """Not this host's, though it was given as such."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class HostAddresses:
    """What a process uses: all addresses of the host or those of --ip_addr; others may see --ext_ip_addr."""

    interfaces: tuple[Interface, ...]
    is_restricted: bool = False
    external: tuple[str, ...] = ()

    @property
    def own(self) -> tuple[str, ...]:
        """Those that reach beyond this host first; loopback last."""
        return tuple(str(i.ip) for i in self.interfaces)

    @property
    def announced(self) -> tuple[str, ...]:
        """What a peer is told: it tries all and keeps the first that answers.

        Not the inner ones of a NAT, which may be another's at the peer: with --ext_ip_addr only those of --ip_addr that have none
        at their place. Loopback only where there is no other: at the peer it would be the peer's own.
        """
        inner = len(self.external) if self.is_restricted or not self.external else len(self.interfaces)
        outward = tuple(str(i.ip) for i in self.interfaces[inner:] if not i.ip.is_loopback)
        return tuple(dict.fromkeys((*self.external, *outward))) or self.own

    @property
    def main(self) -> str:
        """The address in this process's Location."""
        return next(iter(self.announced), "127.0.0.1")

    @property
    def to_bind(self) -> tuple[str, ...]:
        return self.own if self.is_restricted else (ANY,)


def find_addresses(ip_addr: Sequence[str] = (), ext_ip_addr: Sequence[str] = ()) -> HostAddresses:
    """Of names that are given those that this host has. Raises ForeignAddress when an --ip_addr is not this host's."""
    found = _interfaces()
    if not ip_addr:
        return HostAddresses(found, external=tuple(ext_ip_addr))
    by_address = {str(i.ip): i for i in found}
    chosen: list[Interface] = []
    for text in dict.fromkeys(ip_addr):
        ours = [by_address.get(address) or _loopback(address) for address in numbers_of(text)]
        if not any(ours):
            raise ForeignAddress(
                f"{text} is not an address of this host",
                f"it has {', '.join(by_address) or 'none'}; for that of a router in front: --ext_ip_addr",
            )
        chosen += filter(None, ours)
    return HostAddresses(tuple(chosen), is_restricted=True, external=tuple(ext_ip_addr))


def numbers_of(host: str) -> tuple[str, ...]:
    """All addresses of a host, none if it is not known. As resolve(), but it blocks."""
    if is_numeric(host):
        return (host,)
    try:
        return tuple({str(found[4][0]): None for found in socket.getaddrinfo(host, None)})
    except (OSError, UnicodeError):
        return ()


def _loopback(text: str) -> Interface | None:
    """The whole of 127/8 is this host, though only 127.0.0.1 is listed."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if not address.is_loopback:
        return None
    return ipaddress.ip_interface(f"{address}/{8 if address.version == 4 else 128}")


def _interfaces() -> tuple[Interface, ...]:
    """Of interfaces that are up: IPv4 before IPv6, loopback last. Link-local IPv6 needs a zone: left out."""
    up = {name for name, found in psutil.net_if_stats().items() if found.isup}
    found = [
        interface
        for name, addresses in psutil.net_if_addrs().items()
        if name in up
        for address in addresses
        if address.family in (socket.AF_INET, socket.AF_INET6)
        if (interface := _interface(address.address, address.netmask)) is not None
    ]
    return tuple(sorted(found, key=_rank))


def _interface(address: str, netmask: str | None) -> Interface | None:
    if "%" in address:
        return None
    if netmask is None:
        return ipaddress.ip_interface(address)
    if ":" in netmask:  # IPv6Interface takes a length only
        return ipaddress.ip_interface(f"{address}/{int(ipaddress.IPv6Address(netmask)).bit_count()}")
    return ipaddress.ip_interface(f"{address}/{netmask}")


def _rank(interface: Interface) -> tuple[bool, bool, int]:
    return rank(interface.ip)


def rank(address: Address) -> tuple[bool, bool, int]:
    """Sorts addresses by how likely a peer reaches us there."""
    return address.is_loopback, address.is_link_local, address.version


def is_numeric(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def tcp_endpoint(address: str, port: int | str) -> str:
    """As libzmq takes it."""
    return f"tcp://[{address}]:{port}" if ":" in address else f"tcp://{address}:{port}"


async def resolve(host: str, timeout_s: float = LOOKUP_TIMEOUT_S) -> tuple[str, ...]:
    """All addresses of a host. Raises AddressError when it has none, or none is told in time.

    In a thread: libzmq would hold up every socket of its context meanwhile. That is a daemon, so that a name server that never
    answers does not hold up the end of the program.
    """
    if is_numeric(host):
        return (host,)
    import asyncio  # late: a private process looks for addresses before all else, and this costs start-up time

    answer: Future[tuple[str, ...]] = Future()
    answer.set_running_or_notify_cancel()  # who waits no longer need not be told
    threading.Thread(target=_look_up, args=(host, answer), daemon=True, name=f"dns {host}").start()
    try:
        return await asyncio.wait_for(asyncio.wrap_future(answer), timeout_s)
    except TimeoutError:
        raise AddressError(f"no name server told the address of {host} within {timeout_s:g} s") from None


def is_named(endpoint: str) -> bool:
    """Whether its host has to be resolved: an --ext_ip_addr may be a name, which means another address inside of a cloud."""
    return endpoint.startswith("tcp://") and not is_numeric(_host_of(endpoint))


def _host_of(endpoint: str) -> str:
    return endpoint.removeprefix("tcp://").rpartition(":")[0].strip("[]")


async def resolve_endpoint(endpoint: str) -> tuple[str, ...]:
    """With all addresses of its host. Raises AddressError."""
    if not is_named(endpoint):
        return (endpoint,)
    port = endpoint.rpartition(":")[2]
    return tuple(tcp_endpoint(address, port) for address in await resolve(_host_of(endpoint)))


def _look_up(host: str, answer: Future[tuple[str, ...]]) -> None:
    try:
        found = (str(info[4][0]) for info in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM))
        answer.set_result(tuple(dict.fromkeys(found)))
    except (OSError, UnicodeError) as error:  # UnicodeError: no name server would take it
        reason = f"{host} is not known: {getattr(error, 'strerror', None) or error}"
        answer.set_exception(AddressError(reason, "check the name, or give an address"))
