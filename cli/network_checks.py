"""What `dispycos doctor` looks at on the network: addresses, multicast, ports, hosts that are named, and who is there."""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import suppress
from dataclasses import replace
from typing import Final

import psutil

from dispycos.actors.node.resources import cpu_count
from dispycos.config import NODE_PORT, SCHEDULER_PORT, Failure, ViewSettings
from dispycos.protocol.messages import NodeReport, SchedulerReport
from dispycos.runtime import Runtime
from dispycos.transport.addresses import find_addresses, resolve
from dispycos.transport.certificates import load_listener
from dispycos.transport.discovery import Presence, Registry
from dispycos.transport.folders import find_folders
from dispycos.transport.ports import plan_ports
from dispycos.transport.probe import stranger_at
from dispycos.transport.question import ANSWER_MAX, GROUP, GROUP_6, PORT, Question, interface_of
from dispycos.transport.secret import Secret, SecretError
from dispycos.transport.security import Keys
from dispycos.values import HostPort
from dispycos.version import PYTHON

from . import findings
from .findings import Cluster, Echo, Finding, Holder, Interfaces, Member, Peer
from .host_checks import load_secret
from .lookout import Lookout
from .process import is_free

ECHO_S: Final = 1.0  # what we send is back within this
REACH_S: Final = 1.0  # a host that is named takes a connection within this


def look_at_interfaces(settings: ViewSettings) -> list[Finding]:
    return findings.of_interfaces(interfaces(settings))


def interfaces(settings: ViewSettings) -> Interfaces:
    """Raises ForeignAddress for an --ip_addr of another host."""
    names = {entry.address: name for name, found in psutil.net_if_addrs().items() for entry in found}
    own = find_addresses(settings.ip_addr)
    return Interfaces({address: names.get(address, "") for address in own.own}, own.is_restricted)


# --- multicast ---


async def look_at_multicast(settings: ViewSettings) -> list[Finding]:
    seen = interfaces(settings)
    addresses = seen.outward or list(seen.addresses)
    return [findings.of_multicast(await echo(addresses))] if addresses else []


async def echo(addresses: list[str]) -> Echo:
    """Asks by mDNS, as a program does at its start, and listens beside all others of this host for that very question."""
    try:
        question = Question(addresses)
    except OSError as error:
        return Echo(trouble=f"nothing can be sent: {error.strerror or error}")
    senders, heard = question.senders, set[tuple[str, int]]()
    asked = [address for address, _ in senders]
    try:
        with _listener(asked) as ear, suppress(TimeoutError):
            question.ask()
            async with asyncio.timeout(ECHO_S):
                await _hear(ear, set(senders), heard)
    except OSError as error:
        return Echo(trouble=f"nobody can listen at UDP port {PORT}: {error.strerror or error}")
    finally:
        question.close()
    return Echo(asked, [address for address, _ in heard])


async def _hear(ear: socket.socket, wanted: set[tuple[str, int]], heard: set[tuple[str, int]]) -> None:
    loop = asyncio.get_running_loop()
    while not wanted <= heard:
        _, sender = await loop.sock_recvfrom(ear, ANSWER_MAX)
        heard |= wanted & {(sender[0].partition("%")[0], sender[1])}


def _listener(addresses: list[str]) -> socket.socket:
    """At mDNS's port, which all who listen there share."""
    family = socket.AF_INET6 if ":" in addresses[0] else socket.AF_INET
    ear = socket.socket(family, socket.SOCK_DGRAM)
    try:
        ear.setblocking(False)
        ear.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with suppress(AttributeError):  # Windows
            ear.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        ear.bind(("", PORT))
        for address in addresses:
            _join(ear, family, address)
    except BaseException:
        ear.close()
        raise
    return ear


def _join(ear: socket.socket, family: int, address: str) -> None:
    if family == socket.AF_INET:
        group = socket.inet_aton(GROUP) + socket.inet_aton(address)
        ear.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group)
    else:
        group = socket.inet_pton(family, GROUP_6) + struct.pack("@I", interface_of(address))
        ear.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, group)


# --- ports ---


def look_at_ports(settings: ViewSettings) -> list[Finding]:
    address = find_addresses(settings.ip_addr).to_bind[0]
    ours = {
        port: f"{entry.role} {entry.name} (pid {entry.pid})"
        for entry in Registry(find_folders().registry).read()
        for port in (entry.port, *entry.ports)
    }

    def holder(port: int) -> Holder | None:
        if port in ours:
            return Holder(ours[port], True)
        return None if is_free(address, port) else Holder(stranger(port), False)

    node = plan_ports((), cpu_count()).ports
    return findings.of_ports(holder(SCHEDULER_PORT), {port: holder(port) for port in node})


def stranger(port: int) -> str:
    """Who listens there, as far as this user may know."""
    with suppress(psutil.Error, OSError):
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port and connection.pid:
                return f"{psutil.Process(connection.pid).name()} (pid {connection.pid})"
    return "another program"


# --- others ---


async def look_at_peers(settings: ViewSettings) -> list[Finding]:
    return findings.of_peers(await asyncio.gather(*map(_peer, settings.peer)))


async def _peer(place: HostPort) -> Peer:
    try:
        addresses = await resolve(place.host, REACH_S)
    except Failure as failure:
        return Peer(str(place), trouble=failure.text)
    ports = [place.port] if place.port else [SCHEDULER_PORT, NODE_PORT]
    return Peer(str(place), {port: await _reach(addresses, port) for port in ports})


async def _reach(addresses: tuple[str, ...], port: int) -> str:
    """Why no process of a cluster is there; '' if one may be."""
    troubles = await asyncio.gather(*(_connect(address, port) for address in addresses))
    if "" not in troubles:
        return troubles[0]
    return await stranger_at(addresses, port, REACH_S)


async def _connect(address: str, port: int) -> str:
    try:
        async with asyncio.timeout(REACH_S):
            _, writer = await asyncio.open_connection(address, port)
    except ConnectionRefusedError:
        return "nobody listens there"
    except TimeoutError:
        return f"no answer within {REACH_S:g} s: it is off, or a firewall keeps us out"
    except OSError as error:
        return f"it cannot be reached: {error.strerror or error}"
    writer.close()
    return ""


async def look_at_cluster(settings: ViewSettings) -> list[Finding]:
    """Nothing, if there is no secret to do so by: another check tells of that."""
    try:
        secret = load_secret(settings)
    except SecretError:
        return []
    # Else nobody can have the same.
    seen = await cluster(settings, secret) if secret is not None else Cluster()
    return findings.of_cluster(seen, PYTHON)


async def cluster(settings: ViewSettings, secret: Secret) -> Cluster:
    """As `dispycos status` finds it; of hosts that are named without those that are not known."""
    keys = Keys.from_secret(secret, load_listener(settings.certfile, None))
    known = tuple([place for place in settings.peer if await _addresses(place)])
    lookout = Lookout(Runtime("viewer", "doctor", keys), keys.tag, replace(settings, peer=known))
    try:
        await lookout.look()
        unheard = [one for report in lookout.schedulers.values() for one in lookout.unheard(report)]
        silent = [Member("node", name, f"{addr}:{port}", note=state) for name, addr, port, state in unheard]
        members = [*map(_scheduler, lookout.schedulers.values()), *map(_node, lookout.nodes.values())]
        return Cluster(members, list(map(_stranger, lookout.foreign)), silent, lookout.refused)
    finally:
        await lookout.close()


async def _addresses(place: HostPort) -> tuple[str, ...]:
    try:
        return await resolve(place.host, REACH_S)
    except Failure:  # which the check of peers tells
        return ()


def _scheduler(report: SchedulerReport) -> Member:
    place = f"{report.addr}:{report.port}" if report.port else "no port, for its own program"
    return Member("scheduler", report.name, place, note="INSECURE" if report.insecure else "")


def _node(report: NodeReport) -> Member:
    node = report.node
    note = f"takes nothing new: {report.resting}" if report.resting else ""
    return Member("node", node.name, f"{node.addr}:{node.port}", node.python, note)


def _stranger(found: Presence) -> Member:
    return Member(found.role, found.name, f"{found.addresses[0]}:{found.port}")
