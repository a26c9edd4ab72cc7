"""The pycos Location: its port may be text, and its host a name, which is looked up."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

from dispycos.protocol.addresses import Location as NativeLocation
from dispycos.transport.addresses import numbers_of, rank

from .peers import addresses


class _Made(type):
    """An instance is dispycos' own."""

    def __call__(cls, host: Any, tcp_port: Any = 0) -> NativeLocation:
        addr, _, after = str(host).rpartition(":") if tcp_port in (0, None, "") else (str(host), "", "")
        if addr and after.isdigit():
            return NativeLocation(_address_of(addr), int(after))
        try:
            return NativeLocation(_address_of(str(host)), int(tcp_port or 0))
        except ValueError:
            raise ValueError(f"Location({host!r}, {tcp_port!r}): the port is no number") from None

    def __instancecheck__(cls, thing: object) -> bool:
        return isinstance(thing, NativeLocation)


def _address_of(host: str) -> str:
    """By which tasks and peers tell where they are; the name itself if it is not known here."""
    if host == "localhost":
        return "127.0.0.1"
    found = numbers_of(host)
    if not found:
        return host
    address = min(map(ip_address, found), key=rank)
    is_own_name = address.is_loopback and str(address) != host
    return addresses().main if is_own_name else str(address)


class Location(metaclass=_Made):
    """``Location(host, port)``: addr and port, equal, hashable, shown as addr:port."""
