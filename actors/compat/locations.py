"""The pycos Location: its port may be text, and its host a name."""

from __future__ import annotations

from typing import Any

from dispycos.protocol.addresses import Location as NativeLocation


class _Made(type):
    """An instance is dispycos' own."""

    def __call__(cls, addr: Any, port: Any = 0, *rest: Any) -> NativeLocation:
        host, _, after = str(addr).rpartition(":") if port in (0, None, "") else (str(addr), "", "")
        if host and after.isdigit():
            return NativeLocation(host, int(after))
        try:
            return NativeLocation(str(addr), int(port or 0))
        except ValueError:
            raise ValueError(f"Location({addr!r}, {port!r}): the port is no number") from None

    def __instancecheck__(cls, thing: object) -> bool:
        return isinstance(thing, NativeLocation)


class Location(metaclass=_Made):
    """``Location(host, port)``: addr and port, equal, hashable, shown as addr:port."""
