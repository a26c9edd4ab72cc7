"""Finds processes of the cluster: a registry of files for one user on one host, and mDNS between hosts.

What mDNS finds is a hint, never a sign of life: a killed service stays listed for minutes, and anybody may list one.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import ipaddress
import logging
import os
import re
import socket
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

import msgspec

from .addresses import find_addresses, is_numeric, rank, tcp_endpoint
from .claims import claim, is_claimed, kernel_mark
from .folders import is_listening, make_private

if TYPE_CHECKING:
    from zeroconf import ServiceInfo, ServiceStateChange, Zeroconf
    from zeroconf.asyncio import AsyncServiceBrowser, AsyncZeroconf

log = logging.getLogger("dispycos")

SERVICE_TYPE = "_dispycos._tcp.local."
ENTRY_BYTES_MAX = 64 * 1024
ENTRIES_MAX = 1000
SERVICES_MAX = 1000
NAME_BYTES = 63  # of a name in mDNS
QUESTIONS_MAX = 32  # services asked about at the same time
QUESTION_TIMEOUT_MS = 1500
GOODBYE_TIMEOUT_S = 0.7
QUERY, PTR, IN = 0, 12, 1  # RFC 1035: flags of a question, type of its records, their class
ASK_S = 3.0  # so long after browse() we ask, and are answered, at a port of our own


@dataclass(frozen=True, slots=True)
class Presence:
    """One process of a cluster, as it shows itself to others."""

    role: str
    name: str
    addresses: tuple[str, ...]
    port: int
    tag: str
    epoch: int
    key: str = ""  # the listener's public key: a foreign cluster knocks with it (see security.secure_knock)
    ipc: str = ""  # its socket, if it is a process of this user on this host; known from the registry only
    python: tuple[int, int] | None = None  # it runs that minor version, as far as it says
    pid: int = 0  # as is ...
    ports: tuple[int, ...] = ()  # ... which else it has taken


def endpoints_of(found: Presence) -> list[str]:
    """Where to dial it: if it is a process of this user on this host by its socket, else by its addresses."""
    sockets = [f"ipc://{found.ipc}"] if found.ipc else []
    return sockets + [tcp_endpoint(address, found.port) for address in found.addresses if found.port]


class Registry:
    """The announced processes of this user on this host: one JSON file each in a private folder, claimed while they live."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._host = host_mark()
        self._announced: dict[Path, IO[bytes]] = {}

    def announce(self, entry: Presence) -> Path:
        """Writes the file whole; withdraw() takes it back, and so does the end of this process."""
        make_private(self._folder)
        path = self._folder / f"{self._host}-{entry.pid}-{entry.epoch:016x}.json"
        part = path.with_suffix(".part")
        file = open(part, "wb", buffering=0)  # noqa: SIM115
        claim(file.fileno())
        file.write(msgspec.json.encode(entry))
        part.replace(path)
        self._release(path)
        self._announced[path] = file
        return path

    def withdraw(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        self._release(path)

    def _release(self, path: Path) -> None:
        file = self._announced.pop(path, None)
        if file is not None:
            file.close()

    def read(self) -> list[Presence]:
        """Who lives here. Files and sockets of those who do not are removed; what cannot be read is passed over."""
        entries = []
        for path in self._paths(kernel_mark()):
            entry, lives = _look_at(path)
            if entry is None:
                continue
            if not lives:
                _bury(path, entry)
            elif path.name.startswith(self._host):  # elsewhere its loopback is another
                entries.append(entry)
        return entries

    def _paths(self, mark: str) -> list[Path]:
        try:
            with os.scandir(self._folder) as files:
                names = [f.name for f in files if f.name.startswith(mark) and f.name.endswith(".json")]
        except OSError:
            return []
        return [self._folder / name for name in sorted(names)[:ENTRIES_MAX]]


def _look_at(path: Path) -> tuple[Presence | None, bool]:
    """What is written there, and whether who wrote it lives."""
    try:
        with open(path, "rb") as file:
            entry = msgspec.json.decode(file.read(ENTRY_BYTES_MAX), type=Presence)
            return entry, is_claimed(file.fileno())
    except (OSError, msgspec.DecodeError):
        return None, False


def _bury(path: Path, entry: Presence) -> None:
    with contextlib.suppress(OSError):  # another reader was first
        if entry.ipc and stat.S_ISSOCK(os.lstat(entry.ipc).st_mode) and not is_listening(entry.ipc):
            os.unlink(entry.ipc)
    with contextlib.suppress(OSError):
        path.unlink()


def host_mark() -> str:
    """The same for processes that see each other's loopback; another after a reboot."""
    try:
        network = os.readlink("/proc/self/ns/net")
    except OSError:
        network = ""
    return kernel_mark() + hashlib.sha256(network.encode()).hexdigest()[:8]


OnFound = Callable[[Presence], None]
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Multicast:
    """mDNS on the running loop: announces this process, and tells of others as they show up.

    With addresses (those of --ip_addr) nothing leaves by another interface.

    Port 5353 is shared by all programs of a host that speak mDNS, and an answer that comes by unicast reaches any one of
    them (RFC 6762, 15.1). So who listens there asks for answers to all, which may take a second; the first questions
    come from a port of their own, and are answered there, at once (RFC 6762, 6.7).
    """

    def __init__(self, addresses: Sequence[str] = ()) -> None:
        self._addresses = tuple(a for a in addresses if is_numeric(a))
        self._zeroconf: AsyncZeroconf | None = None
        self._browser: AsyncServiceBrowser | None = None
        self._broadcast: asyncio.Future[Any] | None = None
        self._asking: asyncio.Task[None] | None = None
        self._questions: set[asyncio.Task[None]] = set()
        self._found: dict[str, Presence] = {}
        self._on_found: OnFound = _ignore

    async def open(self) -> str:
        """'' or why there is no mDNS, to be said once; all else is without effect then."""
        addresses = self._addresses or find_addresses().own
        if not addresses:
            return "no mDNS: this host has no network interface"
        try:
            self._zeroconf = await self._start(addresses)
        except (OSError, RuntimeError) as error:
            where = f" on {', '.join(self._addresses)}" if self._addresses else ""
            return f"no mDNS{where}: {error}"
        return ""

    async def _start(self, addresses: Sequence[str], *, own_port: bool = False) -> AsyncZeroconf:
        from zeroconf import InterfaceChoice, IPVersion  # imported late: it costs start-up time
        from zeroconf.asyncio import AsyncZeroconf

        logging.getLogger("zeroconf").addHandler(logging.NullHandler())
        has_ipv4 = any(ipaddress.ip_address(a).version == 4 for a in addresses)
        zeroconf = AsyncZeroconf(
            interfaces=list(self._addresses) if self._addresses else InterfaceChoice.All,
            ip_version=IPVersion.V4Only if has_ipv4 else IPVersion.V6Only,
            unicast=own_port,
        )
        await zeroconf.zeroconf.async_wait_for_start()
        if self._addresses:
            _hear_only(zeroconf, [i.network for i in find_addresses(self._addresses).interfaces])
        return zeroconf

    async def announce(self, presence: Presence) -> None:
        """Visible at once: its name is unique, so nobody has to be asked whether it is free."""
        if self._zeroconf is not None:
            sending = await self._zeroconf.async_register_service(
                _service(presence), cooperating_responders=True
            )
            self._broadcast = asyncio.ensure_future(sending)  # repeats itself for a second or so

    async def browse(self, on_found: OnFound) -> None:
        """on_found is called again when something about a process changed."""
        if self._zeroconf is None:
            return
        from zeroconf import DNSQuestionType
        from zeroconf.asyncio import AsyncServiceBrowser

        self._on_found = on_found
        self._browser = AsyncServiceBrowser(
            self._zeroconf.zeroconf,
            SERVICE_TYPE,
            handlers=[self._on_change],
            question_type=DNSQuestionType.QM,
        )
        self._asking = asyncio.create_task(self._ask_at_own_port())

    async def _ask_at_own_port(self) -> None:
        from zeroconf import DNSOutgoing, DNSQuestion  # type: ignore[attr-defined]
        from zeroconf.asyncio import AsyncServiceBrowser

        try:
            asker = await self._start(self._addresses or find_addresses().own, own_port=True)
        except (OSError, RuntimeError) as error:
            log.debug("no questions by mDNS from a port of our own: %s", error)
            return
        try:
            AsyncServiceBrowser(
                asker.zeroconf, SERVICE_TYPE, handlers=[self._on_change]
            )  # asks in up to 0.1 s
            question = DNSOutgoing(QUERY)
            question.add_question(DNSQuestion(SERVICE_TYPE, PTR, IN))
            asker.zeroconf.async_send(question)
            await asyncio.sleep(ASK_S)
        finally:
            await asker.async_close()

    async def close(self) -> None:
        """Says goodbye, but not for long."""
        for question in self._questions:
            question.cancel()
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.wait([self._asking])
        zeroconf, self._zeroconf = self._zeroconf, None
        if zeroconf is None:
            return
        self._on_found = _ignore
        try:
            await asyncio.wait_for(zeroconf.async_unregister_all_services(), GOODBYE_TIMEOUT_S)
        except (TimeoutError, OSError):
            pass  # others find out when they dial
        if self._broadcast is not None:
            self._broadcast.cancel()
        await zeroconf.async_close()

    def _on_change(
        self, zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange
    ) -> None:
        if state_change.name == "Removed":
            self._found.pop(name, None)
            return
        from zeroconf.asyncio import AsyncServiceInfo

        info = AsyncServiceInfo(service_type, name)
        if info.load_from_cache(zeroconf):
            self._on_answer(name, info)
        elif len(self._questions) < QUESTIONS_MAX:
            question = asyncio.create_task(self._ask(zeroconf, name, info))
            self._questions.add(question)
            question.add_done_callback(self._questions.discard)

    async def _ask(self, zeroconf: Zeroconf, name: str, info: ServiceInfo) -> None:
        from zeroconf import DNSQuestionType, NotRunningException

        with contextlib.suppress(NotRunningException):  # closed meanwhile
            if await info.async_request(zeroconf, QUESTION_TIMEOUT_MS, DNSQuestionType.QM):
                self._on_answer(name, info)

    def _on_answer(self, name: str, info: ServiceInfo) -> None:
        presence = read_service(info)
        if presence is None or self._found.get(name) == presence:
            return
        if name in self._found or len(self._found) < SERVICES_MAX:
            self._found[name] = presence
            self._on_found(presence)


class _OnlyFrom(asyncio.DatagramProtocol):
    """Passes on what comes from these networks."""

    def __init__(self, networks: Sequence[Network], inner: asyncio.DatagramProtocol) -> None:
        self._networks = networks
        self._inner = inner

    def datagram_received(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        sender = ipaddress.ip_address(addr[0])
        if any(sender in network for network in self._networks):
            self._inner.datagram_received(data, addr)

    def error_received(self, exc: Exception) -> None:
        self._inner.error_received(exc)

    def connection_lost(self, exc: Exception | None) -> None:
        self._inner.connection_lost(exc)


def _hear_only(zeroconf: AsyncZeroconf, networks: Sequence[Network]) -> None:
    """zeroconf restricts what it sends first, but listens on all interfaces, and answers whoever asks there."""
    for reader in zeroconf.zeroconf.engine.readers:
        inner = cast(asyncio.DatagramProtocol, reader.transport.get_protocol())
        reader.transport.set_protocol(_OnlyFrom(networks, inner))


def _ignore(presence: Presence) -> None:
    """Nobody asked."""


def _service(presence: Presence) -> ServiceInfo:
    from zeroconf.asyncio import AsyncServiceInfo

    instance = f"{presence.role}-{presence.epoch:016x}"
    return AsyncServiceInfo(
        SERVICE_TYPE,
        f"{instance}.{SERVICE_TYPE}",
        port=presence.port,
        server=f"{instance}.local.",
        addresses=[_packed(a) for a in presence.addresses if is_numeric(a)],
        properties={
            "role": presence.role,
            "tag": presence.tag,
            "name": _announced(presence.name),
            "epoch": f"{presence.epoch:016x}",
            "key": presence.key,
            **({"python": "{}.{}".format(*presence.python)} if presence.python else {}),
        },
    )


def _announced(name: str) -> str:
    """What read_service takes: a record has little room."""
    printable = "".join(letter if letter.isprintable() else "?" for letter in name)
    return printable.encode("utf-8", "replace")[:NAME_BYTES].decode("utf-8", "ignore")


def _packed(address: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)


def read_service(info: ServiceInfo) -> Presence | None:
    """What a service says of itself; None if it is not as ours are: anyone may have sent it."""
    said = info.decoded_properties
    names = ("role", "tag", "name", "epoch", "key", "python")
    role, tag, name, epoch, key, python = (said.get(n) or "" for n in names)
    found = sorted(map(ipaddress.ip_address, info.parsed_addresses()), key=rank)
    addresses = tuple(str(a) for a in found if not (a.version == 6 and a.is_link_local))
    is_ours = (
        re.fullmatch(r"[a-z]{1,16}", role)
        and re.fullmatch(r"[0-9a-f]{16}", tag)
        and re.fullmatch(r"[0-9a-f]{16}", epoch)
        and (not key or len(key) == 40)
        and re.fullmatch(r"([0-9]{1,3}\.[0-9]{1,3})?", python)
        and 0 < len(name) <= NAME_BYTES
        and name.isprintable()
        and info.port
        and addresses
    )
    if not is_ours or info.port is None:
        return None
    major, _, minor = python.partition(".")
    version = (int(major), int(minor)) if python else None
    return Presence(role, name, addresses[:16], info.port, tag, int(epoch, 16), key, python=version)
