"""What a value may be: one that a program gives, and one that stands as text on a command line, in a variable or a file."""

from __future__ import annotations

import ipaddress
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite, isnan
from numbers import Real
from pathlib import Path

PORT_MAX = 65535
NAME_MAX = 63
PASSPHRASE_MIN = 16
NUMBER_MAX = 2**63 - 1
PAUSE_MIN = 0.2
RESOURCE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}")  # a name of one

Parser = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class PortRange:
    """`first-last`, or `first` alone."""

    first: int
    last: int

    def __str__(self) -> str:
        return str(self.first) if self.first == self.last else f"{self.first}-{self.last}"


@dataclass(frozen=True, slots=True)
class HostPort:
    """A place as the user named it, its name not resolved. Without a port the command's default is meant."""

    host: str
    port: int | None = None

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port is None else f"{host}:{self.port}"


# --- of a program; `what` names it in errors ---


def whole_number(value: object, what: str) -> int:
    """What a program gives where a whole number belongs: also those of numpy. Raises TypeError naming `what`."""
    try:
        if not isinstance(value, bool):
            return operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        pass
    raise TypeError(f"{what} must be a whole number, not {value!r}")


def natural_number(value: object, what: str) -> int:
    """0 or more, as whole_number. Raises TypeError, ValueError naming `what`."""
    if type(value) is int and value >= 0:  # asked with each submit
        return value
    number = whole_number(value, what)
    if number < 0:
        raise ValueError(f"{what} must not be negative: {number}")
    return number


def flag(value: object, what: str) -> bool:
    """numpy's bools are bools, too. Raises TypeError, which says `what` it is."""
    if isinstance(value, bool) or type(value).__name__ in ("bool_", "bool"):
        return bool(value)
    raise TypeError(f"{what} must be True or False, not {value!r}")


def positive_seconds(value: object, what: str) -> float:
    """Raises TypeError, ValueError naming `what`."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{what} must be a number of seconds, not {value!r}")
    seconds = float(value)
    if not (isfinite(seconds) and seconds > 0):
        raise ValueError(f"{what} must be a number of seconds above 0, not {value!r}")
    return seconds


def wait_time(value: object, what: str = "timeout") -> float | None:
    """Seconds that are waited at most; None: for ever; 0 and less: a look. Raises TypeError, ValueError naming `what`."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, Real):
        hint = "; its total_seconds() is one" if hasattr(value, "total_seconds") else ""
        raise TypeError(f"{what} must be a number of seconds, or None, not {value!r}{hint}")
    if isnan(seconds := float(value)):
        raise ValueError(f"{what} must be a number of seconds, not {value!r}")
    return seconds


def port_number(value: object, what: str) -> int:
    """A port that can be dialled. Raises TypeError, ValueError naming `what`."""
    port = whole_number(value, what)
    if not 1 <= port <= PORT_MAX:
        raise ValueError(f"{what} must be between 1 and {PORT_MAX}, not {port}")
    return port


# --- texts; what a parser raises is a ValueError, whose text says what would do ---


def parse_whole(text: str) -> int:
    if not re.fullmatch(r"[+-]?[0-9]{1,19}", text.strip()):
        raise ValueError(f"{text!r} is not a whole number")
    number = int(text)
    if abs(number) > NUMBER_MAX:
        raise ValueError(f"{text!r} is too large")
    return number


def parse_port(text: str) -> int:
    port = parse_whole(text)
    if not 0 <= port <= PORT_MAX:
        raise ValueError(f"{text!r} is not a port: 0 (any free one) to {PORT_MAX}")
    return port


def parse_port_range(text: str) -> PortRange:
    first, dash, last = text.strip().partition("-")
    ports = PortRange(parse_port(first), parse_port(last if dash else first))
    if ports.last < ports.first:
        raise ValueError(f"{text!r} runs backwards")
    if dash and ports.first == 0:
        raise ValueError(f"{text!r} starts at port 0")
    return ports


def parse_seconds(text: str) -> float:
    """Seconds, also written 30s, 5m or 2h."""
    match = re.fullmatch(r"([0-9]{1,10}(?:\.[0-9]{1,9})?)\s*([smh]?)", text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a number of seconds (10, 0.5, 30s, 5m, 2h)")
    return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]]


def parse_pause(text: str) -> float:
    """Seconds between two looks."""
    pause = parse_seconds(text)
    if pause < PAUSE_MIN:
        raise ValueError(f"{text!r} is too short: {PAUSE_MIN:g} s at least")
    return pause


def parse_text(text: str) -> str:
    if not text.strip():
        raise ValueError(f"{text!r} names nothing")
    return text.strip()


def parse_node_id(text: str) -> str:
    """A node by NAME, or as tables have it, NAME:PORT."""
    _, colon, port = parse_text(text).rpartition(":")
    if colon:
        parse_port(port)
    return text.strip()


def parse_count(text: str) -> int:
    count = parse_whole(text)
    if count < 0:
        raise ValueError(f"{text!r} is no number of tasks: 0 (all) or more")
    return count


def parse_speed(text: str) -> float:
    """How many times as fast as it was."""
    match = re.fullmatch(r"([0-9]{1,6}(?:\.[0-9]{1,6})?)\s*x?", text.strip().lower())
    if match is None:
        raise ValueError(f"{text!r} is not a speed (1, 0.5, 60; 0 is its end at once)")
    return float(match[1])


def parse_live(text: str) -> str:
    """A state of tasks that have not ended."""
    if text not in ("queued", "running"):
        raise ValueError(f"{text!r} is not queued or running: other tasks have ended")
    return text


def parse_shell(text: str) -> str:
    if text not in ("bash", "zsh", "fish"):
        raise ValueError(f"{text!r} is not bash, zsh or fish: others cannot be completed")
    return text


def parse_size(text: str) -> int:
    """Bytes, also written 64k, 10m, 2g, 1t (powers of 1024). 0 is no limit."""
    match = re.fullmatch(r"([0-9]{1,15}(?:\.[0-9]{1,6})?)\s*([kmgt]?)(?:i?b)?", text.strip().lower())
    if match is None:
        raise ValueError(f"{text!r} is not a size (1000, 64k, 10m, 2g, 1t)")
    size = int(float(match[1]) * 1024 ** " kmgt".index(match[2] or " "))
    if size > NUMBER_MAX:
        raise ValueError(f"{text!r} is too large")
    return size


def parse_passphrase(text: str) -> str:
    """Never repeated in what is said of it."""
    if len(text.strip()) < PASSPHRASE_MIN:
        raise ValueError(
            f"{len(text.strip())} characters are too easy to guess, use {PASSPHRASE_MIN} or more"
        )
    return text


def parse_name(text: str) -> str:
    """A node's name stands in paths, in mDNS and before lines of output."""
    name = text.strip()
    if not name or len(name.encode()) > NAME_MAX:
        raise ValueError(f"{text!r} is not a name: 1 to {NAME_MAX} bytes")
    if name.startswith((".", "-")) or any(c.isspace() or not c.isprintable() or c in '/\\:*"' for c in name):
        raise ValueError(f"{text!r} is not a name: no blank, / \\ : * or quote in it, no . or - first")
    return name


def parse_path(text: str) -> Path:
    if not text.strip() or "\0" in text:
        raise ValueError(f"{text!r} is not a path")
    try:
        return Path(text).expanduser() if text.startswith("~") else Path(text)
    except RuntimeError:
        raise ValueError(f"{text!r}: there is no such user, or the user has no home folder") from None


def parse_host(text: str) -> str:
    """A host name or an address; an IPv6 address may stand in brackets and have a zone."""
    host = text.strip()
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    if ":" in host:
        _require_ipv6(host, text)
    elif not re.fullmatch(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,252})", host):
        raise ValueError(f"{text!r} is not a host name or an IP address")
    elif re.fullmatch(r"[0-9.]+", host):
        _require_ipv4(host, text)
    return host


def _require_ipv6(host: str, text: str) -> None:
    try:
        ipaddress.IPv6Address(host)
    except ValueError:
        raise ValueError(f"{text!r} is not a host name or an IP address") from None


def _require_ipv4(host: str, text: str) -> None:
    try:
        ipaddress.IPv4Address(host)
    except ValueError:
        raise ValueError(f"{text!r} is not an IPv4 address") from None


def parse_nodes(text: str) -> tuple[str, int | None]:
    """What a client calls nodes by, as schedulers compare it, and their port if it is told.

    That is a name as parse_name takes it, a host name or an address, with * for anything; an IPv6 address with a port in
    brackets.
    """
    place = text.strip()
    if place.startswith("[") and "]" in place and ":" in place[: place.index("]")]:
        found = parse_place(place)
        return str(ipaddress.IPv6Address(found.host)), found.port
    name, colon, port = place.partition(":")
    if place.count(":") > 1 or ("*" in port and re.fullmatch(r"[0-9a-fA-F:*]+", place)):
        return (place if "*" in place else str(ipaddress.IPv6Address(parse_host(place)))), None
    if re.fullmatch(r"[0-9]+(\.[0-9]+)+", name):
        _require_ipv4(name, name)
    with_letters = name.replace("*", "x")
    try:
        parse_host(with_letters)  # may be longer than a node's name
    except ValueError:
        parse_name(with_letters)
    return name, _real_port(port) if colon else None


def parse_place(text: str) -> HostPort:
    """host, host:port, [v6]:port or a bare v6 address."""
    place = text.strip()
    bracketed = re.fullmatch(r"(\[[^\]]+\])(?::([0-9]+))?", place)
    if bracketed is not None:
        return HostPort(parse_host(bracketed[1]), _real_port(bracketed[2]))
    if place.count(":") == 1:
        host, _, port = place.partition(":")
        return HostPort(parse_host(host), _real_port(port))
    return HostPort(parse_host(place))


def parse_web(text: str) -> HostPort:
    """[HOST:]PORT; without HOST this host only is meant, an empty one is all addresses."""
    host, colon, port = text.strip().rpartition(":")
    if not colon:
        return HostPort("127.0.0.1", parse_port(port))
    host = host.removeprefix("[").removesuffix("]")
    return HostPort(parse_host(host) if host else "", parse_port(port))


def _real_port(text: str | None) -> int | None:
    if text is None:
        return None
    port = parse_port(text)
    if port == 0:
        raise ValueError("port 0 cannot be dialled")
    return port


def parse_flag(text: str) -> bool:
    word = text.strip().lower()
    if word in ("1", "true", "yes", "on"):
        return True
    if word in ("0", "false", "no", "off", ""):
        return False
    raise ValueError(f"{text!r} is neither yes nor no")


def parse_serve(text: str) -> int:
    clients = parse_whole(text)
    if clients < 1 and clients != -1:
        raise ValueError(f"{text!r}: give the number of clients to serve, or -1 for no limit")
    return clients


def parse_resource(text: str) -> tuple[str, int]:
    name, _, count = text.strip().partition("=")
    if not RESOURCE.fullmatch(name) or not re.fullmatch(r"[0-9]{1,6}", count) or int(count) < 1:
        raise ValueError(f"{text!r}: give NAME=N, a name and a whole number above 0, as gpu=2")
    return name, int(count)
