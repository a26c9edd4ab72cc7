"""The pycos Location: its port may be text, and its host a name."""

from __future__ import annotations

from typing import Any

from dispycos.protocol.addresses import Location as NativeLocation


class _Made(type):
    """An instance is dispycos' own."""

    def __call__(cls, host: Any, tcp_port: Any = 0) -> NativeLocation:
        addr, _, after = str(host).rpartition(":") if tcp_port in (0, None, "") else (str(host), "", "")
        if addr and after.isdigit():
            return NativeLocation(addr, int(after))
        try:
            return NativeLocation(str(host), int(tcp_port or 0))
        except ValueError:
            raise ValueError(f"Location({host!r}, {tcp_port!r}): the port is no number") from None

    def __instancecheck__(cls, thing: object) -> bool:
        return isinstance(thing, NativeLocation)


class Location(metaclass=_Made):
    """``Location(host, port)``: addr and port, equal, hashable, shown as addr:port."""
