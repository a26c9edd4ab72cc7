"""What `dispycos doctor` makes of what it saw: for each fact whether it is well, and else what to do about it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from dispycos.config import NODE_PORT, SCHEDULER_PORT, Failure
from dispycos.notices import counted, named
from dispycos.transport.secret import SECRET_REMEDY

from .words import size

Level = Literal["ok", "warning", "error"]

FILES_LEAST: Final = 32  # descriptors of a program, or a node, ...
FILES_SERVER: Final = 4  # ... and for each server of its
FILES_MANY: Final = 1024
FILES_FEW: Final = 256  # each link to another node takes five
DISK_LEAST: Final = 16 << 20
DISK_LITTLE: Final = 256 << 20
MEMORY_LITTLE: Final = 64 << 20  # for each server
SHARED_LITTLE: Final = 64 << 20  # what containers have if nobody says otherwise
THREADS_LEAST: Final = 8  # of a program and its private process, ...
THREADS_SERVER: Final = 4  # ... and of each server, without those of its tasks' libraries
CLOCK_S: Final = 2.0
MULTICAST_REMEDY: Final = (
    "let UDP port 5353 through, or name the machines: Client(nodes=[HOST]), dispycos node --peer HOST"
)


@dataclass(frozen=True, slots=True)
class Finding:
    """`error`: it would stop dispycos, or what was asked for; `warning`: something does not work as it could."""

    check: str
    level: Level
    text: str
    remedy: str = ""


def of_failure(check: str, failure: Failure) -> Finding:
    return Finding(check, "error", failure.text, failure.remedy)


# --- Python and libraries ---


@dataclass(frozen=True, slots=True)
class Library:
    """`least`: the lowest release that will do; `trouble`: why it cannot be imported; `note`: what else is known of it."""

    name: str
    installed: str = ""
    least: str = ""
    trouble: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Installation:
    release: str
    python: str
    least_python: str = ""
    has_gil: bool = True
    has_curve: bool = True
    libraries: tuple[Library, ...] = ()


def of_installation(seen: Installation) -> list[Finding]:
    found = [Finding("python", "ok", f"{seen.python}, dispycos {seen.release}")]
    if is_older(seen.python, seen.least_python):
        found = [Finding("python", "error", f"{seen.python} is too old", f"use {seen.least_python} or later")]
    elif not seen.has_gil:
        found = [
            Finding("python", "warning", f"{seen.python} runs without the GIL, which has not been tested")
        ]
    wrong = [_of_library(library) for library in seen.libraries]
    found += [one for one in wrong if one is not None]
    if not seen.has_curve:
        remedy = "install pyzmq from its wheel, or libzmq built with libsodium"
        found.append(Finding("libraries", "error", "libzmq has no CURVE, which keeps strangers out", remedy))
    if len(found) == 1:
        names = (
            f"{library.name} {library.installed}{f' ({library.note})' if library.note else ''}"
            for library in seen.libraries
        )
        found.append(Finding("libraries", "ok", ", ".join(names)))
    return found


def _of_library(library: Library) -> Finding | None:
    remedy = f"pip install '{library.name}{f'>={library.least}' if library.least else ''}'"
    if not library.installed:
        return Finding("libraries", "error", f"{library.name} is not installed", remedy)
    if is_older(library.installed, library.least):
        text = f"{library.name} {library.installed} is older than {library.least}"
        return Finding("libraries", "error", text, remedy)
    if library.trouble:
        text = f"{library.name} {library.installed} cannot be imported: {library.trouble}"
        return Finding("libraries", "error", text, f"pip install --force-reinstall {library.name}")
    return None


def is_older(release: str, least: str) -> bool:
    """By the numbers that they begin with."""
    return bool(least) and _numbers(release) < _numbers(least)


def _numbers(release: str) -> tuple[int, ...]:
    leading = re.match(r"[0-9]+(?:\.[0-9]+)*", release)
    return tuple(int(number) for number in leading[0].split(".")) if leading else ()


# --- this machine ---


@dataclass(frozen=True, slots=True)
class Machine:
    """`cpus` that a process here may use, of `cpus_present`; bytes of memory, by the machine or its cgroup."""

    cpus: int
    cpus_present: int
    memory: int
    memory_free: int


def of_machine(seen: Machine) -> list[Finding]:
    text = f"{counted(seen.cpus, 'server')} by default, one a CPU"
    if seen.cpus < seen.cpus_present:
        text += (
            f"; the machine has {seen.cpus_present}, of which we are allowed {seen.cpus} (affinity or cgroup)"
        )
    found = [Finding("cpus", "ok", text)]
    text = f"{size(seen.memory_free)} of {size(seen.memory)} left"
    if seen.memory_free < seen.cpus * MEMORY_LITTLE:
        remedy = f"end something, or run fewer servers: dispycos node --cpus {max(1, seen.memory_free // MEMORY_LITTLE)}"
        return [
            *found,
            Finding(
                "memory", "warning", f"{text}, which is little for {counted(seen.cpus, 'server')}", remedy
            ),
        ]
    return [*found, Finding("memory", "ok", text)]


@dataclass(frozen=True, slots=True)
class Limits:
    """Of this process and user; None: there is none, or it is not known. `shared`: bytes of /dev/shm, 0 if it is not there."""

    files: int | None
    files_hard: int | None
    threads: int | None = None  # that this user, or this container, may have ...
    threads_used: int = 0
    shared: int | None = None


def of_limits(seen: Limits, cpus: int) -> list[Finding]:
    found = [_of_files(seen, cpus)]
    if seen.threads is not None:
        left, needed = seen.threads - seen.threads_used, THREADS_LEAST + THREADS_SERVER * cpus
        text = f"{seen.threads_used:,} of {seen.threads:,} processes and threads are used"
        if left < needed:
            level: Level = "error" if left < THREADS_LEAST + THREADS_SERVER else "warning"
            text += f": a program with {counted(cpus, 'server')} needs {needed}"
            found.append(
                Finding(
                    "processes", level, text, "raise what limits them: ulimit -u, or pids of the container"
                )
            )
        else:
            found.append(Finding("processes", "ok", text))
    if seen.shared is not None and seen.shared < SHARED_LITTLE:
        text = f"{size(seen.shared)} are little" if seen.shared else "it is not there, or cannot be written"
        remedy = (
            "dispycos needs none, but multiprocessing, joblib and torch in tasks do: docker run --shm-size 1g"
        )
        found.append(Finding("/dev/shm", "warning", text, remedy))
    elif seen.shared is not None:
        found.append(Finding("/dev/shm", "ok", size(seen.shared)))
    return found


def _of_files(seen: Limits, cpus: int) -> Finding:
    soft, hard = seen.files, seen.files_hard
    if soft is None:
        return Finding("open files", "ok", "no limit")
    most = "any number" if hard is None else f"{hard:,}"
    text = f"{soft:,} a process, which may raise it to {most}"
    remedy = f"ulimit -n {FILES_MANY}" + (
        ", after limits.conf allows it" if hard is not None and hard < FILES_MANY else ""
    )
    needed = FILES_LEAST + FILES_SERVER * cpus
    if soft < needed:
        return Finding(
            "open files", "error", f"{text}: a program with {counted(cpus, 'server')} needs {needed}", remedy
        )
    if soft < FILES_FEW:
        return Finding("open files", "warning", f"{text}: too few for a program that uses many nodes", remedy)
    return Finding("open files", "ok", text)


@dataclass(frozen=True, slots=True)
class Place:
    """A folder that dispycos uses, or would make; `trouble`: why it cannot."""

    what: str
    path: str
    trouble: str = ""
    remedy: str = ""
    free: int | None = None  # bytes


def of_folders(places: Sequence[Place], notes: Sequence[str]) -> list[Finding]:
    """`notes`: of folders that are others than they should be."""
    found = [Finding("folders", "warning", note, "make it writable, or set HOME") for note in notes]
    for place in places:
        text = f"{place.what}: {place.path}"
        if place.trouble:
            found.append(Finding("folders", "error", f"{text}: {place.trouble}", place.remedy))
        elif place.free is not None and place.free < DISK_LITTLE:
            level: Level = "error" if place.free < DISK_LEAST else "warning"
            remedy = "make room, or name another place: TMPDIR, dispycos node --dest_path FOLDER"
            found.append(Finding("folders", level, f"{text}: {size(place.free)} are left", remedy))
        else:
            left = f" ({size(place.free)} left)" if place.free is not None else ""
            found.append(Finding("folders", "ok", f"{text}{left}"))
    return found


def of_clock(now: float, filed: float, built: float) -> Finding:
    """`filed`: what the file system took for now; `built`: when these files were installed. Seconds since 1970."""
    if now < built - CLOCK_S:
        return Finding(
            "clock", "warning", "it is before the time at which dispycos was installed", "set it: timedatectl"
        )
    if abs(filed - now) > CLOCK_S:
        text = f"files that are written now are dated {abs(filed - now):,.0f} s {'ahead' if filed > now else 'back'}"
        return Finding("clock", "warning", text, "have both hosts ask one time server")
    return Finding("clock", "ok", "as that of the file system; clocks of hosts are not compared")


# --- the secret ---


def of_secret(source: str, path: str) -> Finding:
    """`source`: where it comes from; none, if there is none yet, and that will be in `path`."""
    if source:
        return Finding("secret", "ok", f"from {source}, and nobody else can read it")
    text = f"there is none yet: the first program, or node, makes it in {path}"
    return Finding("secret", "ok", text)


# --- the network ---


@dataclass(frozen=True, slots=True)
class Interfaces:
    """Addresses, the one that others are told first in front, each with the name of its interface."""

    addresses: Mapping[str, str]
    is_restricted: bool = False  # by --ip_addr

    @property
    def outward(self) -> list[str]:
        """Those that other machines may reach."""
        return [address for address in self.addresses if not (address.startswith("127.") or address == "::1")]

    def place(self, address: str) -> str:
        """An address with the name of its interface."""
        return f"{address} ({self.addresses[address]})" if self.addresses[address] else address


def of_interfaces(seen: Interfaces) -> list[Finding]:
    places = list(map(seen.place, seen.addresses))
    outward = list(map(seen.place, seen.outward))
    if not places:
        text = "no network interface is up, not even loopback: only servers of this machine can be used"
        return [Finding("addresses", "warning", text, "ip link set lo up; and that to other machines")]
    if seen.is_restricted:
        return [Finding("addresses", "ok", f"{', '.join(places)}, by --ip_addr")]
    if not outward:
        text = f"only {', '.join(places)}: no other machine can be reached, nor reach this one"
        return [Finding("addresses", "warning", text, "for more than this machine bring up its network")]
    text = outward[0]
    if len(outward) > 1:
        text += f"; others are told, too: {named(outward[1:])}; --ip_addr has only some of them used"
    return [Finding("addresses", "ok", text)]


@dataclass(frozen=True, slots=True)
class Echo:
    """From which addresses a question was sent to all, and from which it came back; `trouble`: why nobody could listen."""

    asked: Sequence[str] = ()
    heard: Sequence[str] = ()
    trouble: str = ""


def of_multicast(seen: Echo) -> Finding:
    if seen.trouble:
        return Finding("multicast", "warning", f"no mDNS: {seen.trouble}", MULTICAST_REMEDY)
    deaf = [address for address in seen.asked if address not in seen.heard]
    if deaf:
        text = f"what is sent from {named(deaf)} does not come back: other machines are hardly found by mDNS there"
        return Finding("multicast", "warning", text, MULTICAST_REMEDY)
    return Finding("multicast", "ok", f"mDNS comes back, from {named(list(seen.asked))}")


@dataclass(frozen=True, slots=True)
class Holder:
    """Who has a port: a process of ours, by its role and name, or a stranger."""

    who: str
    is_ours: bool


def of_ports(scheduler: Holder | None, node: Mapping[int, Holder | None]) -> list[Finding]:
    """`node`: the ports of a node and its servers, in order."""
    found = []
    if scheduler is None:
        found.append(Finding("ports", "ok", f"{SCHEDULER_PORT}, of a scheduler, is free"))
    elif scheduler.is_ours:
        found.append(Finding("ports", "ok", f"{SCHEDULER_PORT} is that of {scheduler.who}"))
    else:
        remedy = "for a scheduler here: dispycos scheduler --tcp_port PORT, and --peer HOST:PORT elsewhere"
        found.append(
            Finding(
                "ports", "warning", f"{SCHEDULER_PORT}, of a scheduler, is taken by {scheduler.who}", remedy
            )
        )
    title = f"{min(node)} to {max(node)}"
    strangers = {port: holder for port, holder in node.items() if holder is not None and not holder.is_ours}
    ours = list(
        dict.fromkeys(holder.who for holder in node.values() if holder is not None and holder.is_ours)
    )
    if strangers:
        taken = named([f"{port} by {holder.who}" for port, holder in strangers.items()])
        remedy = (
            f"a node takes the next free ones, where nobody looks who names only this host (port {NODE_PORT}) and firewalls"
            " may be shut: dispycos node --tcp_ports PORT-PORT chooses others"
        )
        found.append(
            Finding("ports", "warning", f"of {title}, of a node and its servers, are taken: {taken}", remedy)
        )
    elif ours:
        found.append(
            Finding("ports", "ok", f"{title}, of a node and its servers, are partly those of {named(ours)}")
        )
    else:
        found.append(Finding("ports", "ok", f"{title}, of a node and its servers, are free"))
    return found


@dataclass(frozen=True, slots=True)
class Peer:
    """A host that was named, and for each port why nobody answers there, or nothing."""

    name: str
    ports: Mapping[int, str] = field(default_factory=dict)
    trouble: str = ""  # it cannot even be tried


def of_peers(peers: Sequence[Peer]) -> list[Finding]:
    return [_of_peer(peer) for peer in peers]


def _of_peer(peer: Peer) -> Finding:
    if peer.trouble:
        return Finding("peer", "error", f"{peer.name}: {peer.trouble}", "check the name, or give an address")
    there = [port for port, trouble in peer.ports.items() if not trouble]
    if there:
        return Finding("peer", "ok", f"{peer.name}: reached by TCP at port {' and '.join(map(str, there))}")
    troubles = "; ".join(f"port {port}: {trouble}" for port, trouble in peer.ports.items())
    remedy = "start `dispycos node` or `dispycos scheduler` there, open its port in the firewalls, or give it: --peer HOST:PORT"
    return Finding("peer", "error", f"{peer.name}: {troubles}", remedy)


@dataclass(frozen=True, slots=True)
class Member:
    """A scheduler, or a node with its Python; `note`: what else is to be said of it."""

    role: str
    name: str
    place: str
    python: tuple[int, int] | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Cluster:
    """Who answered; `foreign`: who showed another secret; `silent`: nodes that only a scheduler knows."""

    members: Sequence[Member] = ()
    foreign: Sequence[Member] = ()
    silent: Sequence[Member] = ()
    refused: str = ""


def of_cluster(seen: Cluster, python: tuple[int, int]) -> list[Finding]:
    from dispycos.brokers.waiting import (  # needs a library, which may be what is missing
        other_python,
        version,
    )

    found = []
    for one in seen.members:
        where = f"{one.role} {one.name} at {one.place}{f', {one.note}' if one.note else ''}"
        if one.python is not None and one.python != python:
            words, _, remedy = other_python(one.python, python).partition(": ")
            found.append(Finding("cluster", "warning", f"{where} {words}", remedy))
        else:
            with_python = f", Python {version(one.python)}" if one.python is not None else ""
            found.append(Finding("cluster", "ok", f"{where}{with_python}"))
    for one in seen.silent:
        text = f"{one.role} {one.name} at {one.place}, {one.note} by what its scheduler knows, does not answer here"
        found.append(
            Finding(
                "cluster",
                "warning",
                text,
                "it is used by way of the scheduler; open its port for direct links",
            )
        )
    for one in seen.foreign:
        text = f"{one.role} {one.name} at {one.place} has another secret, so it is another cluster"
        found.append(Finding("cluster", "warning", text, f"to have it in this one {SECRET_REMEDY}"))
    if seen.refused:
        found.append(Finding("cluster", "error", seen.refused, SECRET_REMEDY))
    if not seen.members and not seen.refused:
        text = "no scheduler and no node was found: programs start servers of their own on this machine (for more: dispycos node)"
        found.append(Finding("cluster", "ok", text))
    return found
