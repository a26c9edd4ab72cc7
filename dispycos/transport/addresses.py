"""Knows which addresses this host has, which of them a process uses and tells others, and resolves names."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import psutil

from ..config import Failure

LOOKUPS_MAX = 16  # threads at most; a name server that hangs holds one each
LOOKUP_TIMEOUT_S = 5.0
ANY = "*"

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Interface = ipaddress.IPv4Interface | ipaddress.IPv6Interface
Answer: TypeAlias = "asyncio.Future[tuple[str, ...]]"


class AddressError(Failure):
    """An address or a name that cannot be used."""


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

        Loopback only where there is no other: at the peer it would be the peer's own.
        """
        outward = tuple(str(i.ip) for i in self.interfaces if not i.ip.is_loopback)
        return tuple(dict.fromkeys((*self.external, *outward))) or self.own

    @property
    def main(self) -> str:
        """The address in this process's Location."""
        return next(iter(self.announced), "127.0.0.1")

    @property
    def to_bind(self) -> tuple[str, ...]:
        return self.own if self.is_restricted else (ANY,)


def find_addresses(ip_addr: Sequence[str] = (), ext_ip_addr: Sequence[str] = ()) -> HostAddresses:
    """Raises AddressError when an --ip_addr is not this host's. Takes numbers: names are resolved before."""
    found = _interfaces()
    if not ip_addr:
        return HostAddresses(found, external=tuple(ext_ip_addr))
    by_address = {str(i.ip): i for i in found}
    chosen = []
    for text in dict.fromkeys(ip_addr):
        interface = by_address.get(text) or _loopback(text)
        if interface is None:
            raise AddressError(
                f"{text} is not an address of this host",
                f"it has {', '.join(by_address) or 'none'}; for that of a router in front: --ext_ip_addr",
            )
        chosen.append(interface)
    return HostAddresses(tuple(chosen), is_restricted=True, external=tuple(ext_ip_addr))


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


class Resolver:
    """Names to numbers, in threads of its own: libzmq would hold up every socket of its context meanwhile.

    The threads are daemons, so that a name server that never answers does not hold up the end of the program.
    """

    def __init__(self, lookups_max: int = LOOKUPS_MAX) -> None:
        self._free = threading.Semaphore(lookups_max)

    async def resolve(self, host: str, timeout_s: float = LOOKUP_TIMEOUT_S) -> tuple[str, ...]:
        """All addresses of host. Raises AddressError when it has none, or none is told in time."""
        if is_numeric(host):
            return (host,)
        if not self._free.acquire(blocking=False):
            raise AddressError(f"{host} was not looked up: too many names are being looked up")
        loop = asyncio.get_running_loop()
        answer: Answer = loop.create_future()
        threading.Thread(
            target=self._look_up, args=(host, loop, answer), daemon=True, name=f"dns {host}"
        ).start()
        try:
            return await asyncio.wait_for(answer, timeout_s)
        except TimeoutError:
            raise AddressError(f"no name server told the address of {host} within {timeout_s:g} s") from None

    def _look_up(self, host: str, loop: asyncio.AbstractEventLoop, answer: Answer) -> None:
        try:
            outcome = partial(_succeed, answer, _getaddrinfo(host))
        except (OSError, UnicodeError) as error:  # UnicodeError: no name server would take it
            reason = f"{host} is not known: {getattr(error, 'strerror', None) or error}"
            outcome = partial(_fail, answer, AddressError(reason, "check the name, or give an address"))
        finally:
            self._free.release()
        _tell(loop, outcome)


def _getaddrinfo(host: str) -> tuple[str, ...]:
    found: Iterable[str] = (
        str(info[4][0]) for info in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    )
    return tuple(dict.fromkeys(found))


def _succeed(answer: Answer, result: tuple[str, ...]) -> None:
    if not answer.done():
        answer.set_result(result)


def _fail(answer: Answer, failure: AddressError) -> None:
    if not answer.done():
        answer.set_exception(failure)


def _tell(loop: asyncio.AbstractEventLoop, action: Callable[[], object]) -> None:
    try:
        loop.call_soon_threadsafe(action)
    except RuntimeError:
        return  # the loop was closed while the name server thought
