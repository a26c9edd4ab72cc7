"""What every long-running process of a cluster has: keys, sockets, its entry in the registry, mDNS, and an orderly end."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Coroutine, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any

import zmq

from dispycos.config import CommonSettings, Failure, Refused
from dispycos.protocol.texts import NAME_MAX, cut
from dispycos.runtime import Runtime
from dispycos.transport.addresses import HostAddresses, find_addresses, resolve, tcp_endpoint
from dispycos.transport.certificates import load_listener
from dispycos.transport.dialler import Dialler
from dispycos.transport.discovery import Multicast, Presence, Registry, endpoints_of
from dispycos.transport.door import SPARE_PART, descriptors_max
from dispycos.transport.folders import Folders, find_folders, make_private
from dispycos.transport.ports import PortTaken
from dispycos.transport.question import Question
from dispycos.transport.secret import SECRET_REMEDY, Secret
from dispycos.transport.security import Keys
from dispycos.values import HostPort
from dispycos.version import PYTHON

log = logging.getLogger("dispycos")

COLLECTOR = (100_000, 50, 100)
KNOCK_S = 3.0
SAY_AGAIN_S = 3600.0
REFUSED_MAX = 1000
KNOCKS_MAX = 16  # at the same time
HINTS_MAX = 32  # finds that have not proved themselves are dialled at the same time
SEEN_MAX = 10_000
OTHER_DIALS_S = 1.5  # a found peer has so long to dial us before we dial it
GOODBYE_S = 0.3
OPEN_FILES_MAX = (
    524_288  # as many as systemd allows by default: where there is no limit we need none that large
)


Place = tuple[tuple[str, ...], int]  # addresses and port


def set_up_logging(*, debug: bool, times: bool = True) -> None:
    """To standard error. With `times` for processes that run for days; not for what a person waits for."""
    words = "%(levelname)s %(message)s" if debug else "dispycos: %(message)s"
    logging.basicConfig(
        level=logging.DEBUG if debug else logging.INFO,
        format=f"%(asctime)s {words}" if times or debug else words,
        datefmt=None if debug else "%Y-%m-%d %H:%M:%S",  # None: with milliseconds
        stream=sys.stderr,
    )
    for name in ("asyncio", "zeroconf"):
        logging.getLogger(name).setLevel(logging.WARNING)


def raise_open_files() -> None:
    """As many descriptors as we are allowed: each link takes five, and the usual 1024 are few for a scheduler.

    Not for servers: users' code may use select(), which ends at 1024. They are forked by one who was forked before this.
    """
    with contextlib.suppress(ImportError, ValueError, OSError):  # Windows; a sandbox that forbids it
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = OPEN_FILES_MAX if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES_MAX)
        if soft != resource.RLIM_INFINITY and soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def load_keys(settings: CommonSettings) -> Keys | None:
    """The cluster's keys; None with --insecure."""
    if settings.insecure:
        log.warning("INSECURE: whoever reaches this process's ports can run code here as %s", _user())
        return None
    secret = Secret.load_or_make(settings.secret_file, settings.secret, group_file=settings.group_secret)
    return Keys.from_secret(secret, load_listener(settings.certfile, settings.keyfile))


def _user() -> str:
    return os.environ.get("USER") or f"user {os.getuid()}"


def is_free(address: str, port: int) -> bool:
    """Whether nobody listens at this port."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    host = "" if address == "*" else address
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                return False
            raise
    return True


class Process:
    """A process of the cluster, from its first socket to its last word.

    Use as ``async with Process(...) as process``; then listen, announce, find others, and wait for the end.
    """

    def __init__(
        self, role: str, name: str, settings: CommonSettings, keys: Keys | None, *, private: bool = False
    ) -> None:
        self.role = role
        self.name = cut(name, NAME_MAX)
        assert keys is not None or settings.insecure
        self.keys = keys
        self.private = private
        self.folders: Folders = find_folders()
        self.runtime = Runtime(role, self.name, keys)
        if settings.debug:
            self.runtime.checks.append(self.runtime.router.check)
        self.runtime.mailbox.spare = descriptors_max() // SPARE_PART  # whatever strangers make us dial
        self.addresses: HostAddresses = find_addresses(settings.ip_addr, settings.ext_ip_addr)
        self.port = 0
        self.ports: tuple[int, ...] = ()
        self.ipc = ""
        self.stopping = asyncio.Event()
        self.hurried = asyncio.Event()  # by a second signal
        self.failure: BaseException | None = None  # of something that ran beside
        self.on_presence: Callable[[Presence], None] = lambda presence: None
        self.notice: Callable[[str, str], None] = lambda text, level: getattr(log, level)(text)
        self.runtime.on_refused = self._on_refused
        self._refused: dict[str, float] = {}  # what was said of whom, and until when it is not said again
        self.knocks = False  # at foreign clusters, so that both ends hear of the refusal
        self.registry = Registry(self.folders.registry)
        self._entry: Path | None = None
        self._multicast: Multicast | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._finds: dict[Place, tuple[Dialler, Presence]] = {}  # and who was found there last
        self._knocked: set[int] = set()
        self._knocking = asyncio.Semaphore(KNOCKS_MAX)
        self.diallers: list[Dialler] = []  # of what was named
        self.seen: dict[str, tuple[int, int] | None] = {}  # names of nodes that were found, and their Pythons

    def tune_collector(self) -> None:
        """This process holds many small objects and few cycles, and runs no user's code: collect rarely."""
        gc.collect()
        gc.freeze()
        gc.set_threshold(*COLLECTOR)

    async def __aenter__(self) -> Process:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if number == signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN:
                continue  # nohup: the end of the terminal is not ours
            # Not everywhere can a loop take signals (Windows; a loop beside the main thread): then Python's own way holds.
            with contextlib.suppress(NotImplementedError, RuntimeError):
                loop.add_signal_handler(number, self._on_signal)
        for note in self.folders.notes:
            log.info("%s", note)
        return self

    def _on_signal(self) -> None:
        if self.stopping.is_set():
            self.hurried.set()
        self.stopping.set()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._entry is not None:
            self.registry.withdraw(self._entry)
        for task in self._tasks:
            task.cancel()
        if self._multicast is not None:
            await self._multicast.close()
        await self.runtime.quiet(GOODBYE_S)
        await self.runtime.close()
        if self.failure is not None and error is None:
            raise self.failure

    # --- being reached ---

    def listen_ipc(self) -> str:
        """A socket for processes of this host and user; returns its path."""
        self.ipc = self.runtime.listen_ipc(make_private(self.folders.sockets))
        return self.ipc

    def listen_tcp(self, port: int) -> int:
        """All addresses, or those of --ip_addr, at this port; returns the real one. Raises PortTaken."""
        for address in self.addresses.to_bind:
            try:
                endpoint = self.runtime.listen(tcp_endpoint(address, port))
            except zmq.ZMQError as error:
                if error.errno == errno.EADDRINUSE:
                    raise PortTaken(
                        f"port {port} is in use by another process", "end that process, or give another port"
                    ) from None
                raise Failure(f"cannot listen at {tcp_endpoint(address, port)}: {error.strerror}") from None
            port = int(endpoint.rpartition(":")[2])
        self.port = port
        return port

    async def announce(self, *, multicast: bool) -> None:
        """Into the registry; and by mDNS, unless private."""
        key = self.keys.listener.public.decode() if self.keys is not None else ""
        tag = self.keys.tag if self.keys is not None else "insecure"
        entry = Presence(
            self.role if not self.private else f"private-{self.role}",
            self.name,
            self.addresses.announced,
            self.port,
            tag,
            self.runtime.epoch,
            key,
            self.ipc,
            PYTHON,
            os.getpid(),
            self.ports,
        )
        self._entry = self.registry.announce(entry)
        if multicast and self._multicast is not None:
            await self._multicast.announce(entry)

    # --- finding others ---

    async def be_found(self) -> None:
        """Announced by mDNS, once others are looked for: they may be there already."""
        await self.browse()
        await self.announce(multicast=True)

    async def browse(self) -> None:
        """Look at the registry now, then listen to mDNS for as long as we live; each find goes to on_presence."""
        self.browse_registry()
        await self.browse_network()

    def browse_registry(self) -> None:
        for entry in self.registry.read():
            if not entry.role.startswith("private"):
                self._found(entry)

    async def browse_network(self, question: Question | None = None) -> None:
        """`question`: what has been asked by mDNS already."""
        self._multicast = Multicast(self.addresses.own if self.addresses.is_restricted else ())
        trouble = await self._multicast.open()
        if trouble:
            log.info("%s; only this host's registry, --peer and --node find others", trouble)
        await self._multicast.browse(self._found, question=question)

    def _found(self, presence: Presence) -> None:
        if presence.epoch == self.runtime.epoch:
            return
        if (self.keys is not None and presence.tag == self.keys.tag) or (
            self.keys is None and presence.tag == "insecure"
        ):
            if presence.role == "node" and len(self.seen) < SEEN_MAX:
                self.seen[presence.name] = presence.python
            self.on_presence(presence)
        elif self.knocks and presence.key and presence.epoch not in self._knocked and self.keys is not None:
            self._knocked.add(presence.epoch)
            self.keep(self._knock(presence))

    def _on_refused(self, text: str) -> None:
        """Each visitor's refusal is said once an hour, however often it comes."""
        now = self.runtime.clock()
        if self._refused.get(text, 0.0) <= now:
            self._refused[text] = now + SAY_AGAIN_S
            self.notice(text, "warning")
            while len(self._refused) > REFUSED_MAX:
                del self._refused[next(iter(self._refused))]

    async def _knock(self, presence: Presence) -> None:
        """It has another secret: both ends shall hear that once, in words."""
        async with self._knocking:
            await self._knock_at(presence)

    async def _knock_at(self, presence: Presence) -> None:
        endpoints = [tcp_endpoint(address, presence.port) for address in presence.addresses]
        knock = self.runtime.dial(endpoints, keep=False, foreign_key=presence.key.encode())
        knock.on_silence = lambda text: None
        try:
            async with asyncio.timeout(KNOCK_S):
                await asyncio.shield(knock.ready)
        except Refused:
            self.notice(
                f"{presence.role} {presence.name} at {presence.addresses[0]}:{presence.port} has another secret than this"
                f" {'program' if self.private else self.role}, so it is not used; to use it {SECRET_REMEDY}",
                "warning",
            )
        except TimeoutError:
            log.debug("%s %s does not answer", presence.role, presence.name)
        finally:
            knock.stop()

    def reach(self, presence: Presence) -> None:
        """Hold a link to a process that was found; it may be faster and dial us."""
        place = (presence.addresses, presence.port)
        if self.runtime.is_linked(presence.epoch):
            return
        if place in self._finds:
            self._finds[place] = self._finds[place][0], presence
            return
        self._bound_hints()
        dialler = self.runtime.dial(endpoints_of(presence), expected=presence.epoch)
        dialler.on_gone = lambda: self._on_gone(place)
        dialler.on_silence = dialler.on_lost = lambda text: log.info(
            "%s %s: %s", presence.role, presence.name, text
        )
        self._finds[place] = dialler, presence

    def _on_gone(self, place: Place) -> None:
        """Another process answers there, perhaps the one that was found there later: anybody may announce a place."""
        dialler, last = self._forget(place)
        if last.epoch != dialler.expected:
            self.reach(last)

    def _forget(self, place: Place) -> tuple[Dialler, Presence]:
        dialler, last = self._finds.pop(place)
        dialler.stop()
        return dialler, last

    def _bound_hints(self) -> None:
        """Of too many that have not proved themselves the first goes: it had its time."""
        hints = [place for place, (dialler, _) in self._finds.items() if not dialler.is_proven]
        if len(hints) >= HINTS_MAX:
            self._forget(hints[0])

    def has_proved(self, epoch: int) -> bool:
        """Whether a process that was found has shown that it has the secret, though it may not have greeted us yet."""
        return any(dialler.is_proven for dialler, _ in self._finds.values() if dialler.expected == epoch)

    def leave(self, epoch: int) -> None:
        """Hold no link any more to a process that was found."""
        for place, (dialler, _) in list(self._finds.items()):
            if dialler.expected == epoch:
                self._forget(place)

    def reach_later(self, presence: Presence) -> None:
        """As reach, unless it dials us first."""
        self.runtime.loop.call_later(OTHER_DIALS_S, self.reach, presence)

    def reach_named(self, places: Iterable[HostPort], port: int, option: str, role: str) -> None:
        """Hold links to places that the user named, where such a role is meant, and say what is wrong with them."""
        for place in places:
            self.keep(self._reach_named(place, port, option, role))

    async def _reach_named(self, place: HostPort, port: int, option: str, role: str) -> None:
        try:
            addresses = await resolve(place.host)
        except Failure as failure:
            self.notice(f"{option} {place}: {failure}", "error")
            return
        dialler = self.runtime.dial([tcp_endpoint(address, place.port or port) for address in addresses])
        dialler.on_silence = lambda text: self.notice(f"{option} {place}: {text}", "warning")
        dialler.on_lost = lambda text: log.info("%s %s: %s", option, place, text)
        self.diallers.append(dialler)
        try:
            found = self.runtime.role_of(await asyncio.shield(dialler.ready))
        except Refused as refusal:
            self.notice(f"{option} {place}: {refusal}; {SECRET_REMEDY}", "error")
            return
        if found not in (role, ""):  # "": the link has ended again
            self.notice(f"{option} {place} is a {found}; the option is for a {role}", "error")
            dialler.stop()

    # --- the end ---

    def keep(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run it beside; it is cancelled at the end."""
        task = asyncio.ensure_future(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        """What runs beside must not fail unheard: the process ends with the error."""
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None and self.failure is None:
            self.failure = task.exception()
            self.stopping.set()
