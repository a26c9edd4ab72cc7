"""Programs find each other, by the registry of this host and by mDNS, and talk by links of their own: no scheduler is needed.

It begins when somebody gives a name, looks for one, or asks for peers. A program that only computes needs none of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Coroutine
from typing import Any

from dispycos.config import Failure, Refused
from dispycos.errors import TaskRefused
from dispycos.protocol.addresses import PROGRAM, PROGRAM_FILES, Location
from dispycos.protocol.envelope import Envelope
from dispycos.protocol.messages import FilePlace
from dispycos.runtime import Runtime
from dispycos.session.links import CLIENT_ROLE, LinkLost, LinkReady
from dispycos.session.router import Event
from dispycos.transport.addresses import resolve, tcp_endpoint
from dispycos.transport.certificates import client_keys
from dispycos.transport.dialler import Dialler
from dispycos.transport.discovery import Multicast, Presence, Registry, endpoints_of
from dispycos.transport.folders import find_folders
from dispycos.version import PYTHON

from ..sharing.peers import PeerStatus
from ..tasks.files.receiver import Receiver
from ..tasks.files.receiving import Ground
from ..tasks.files.sender import Files
from ..tasks.host import TaskHost
from .peers import addresses, dest_path, location_of
from .program import program

log = logging.getLogger("dispycos")

ROLE = "program"
LOOK_S = 0.25  # between two looks into the registry
STRANGER_S = 1.0  # who has dialled us and is found nowhere by then is known by its link alone
GONE_S = 3.0  # a program without a link for so long is gone
ANSWER_S = 5.0  # who is named by peer() answers within this


class Network:
    """Of this program. turns.Role: hears of links. Everything is called on the loop."""

    def __init__(self, host: TaskHost) -> None:
        self._host = host
        self._runtime: Runtime = host.runtime
        self.machine = Silent()
        self._book = host.home.directory.machine
        self._keys = client_keys(None)
        self._here = location_of(host)
        self._registry = Registry(find_folders().registry)
        self._multicast: Multicast | None = None
        self._known: dict[int, Presence] = {}
        self._diallers: dict[int, Dialler] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._book.here = (frozenset(addresses().own), self._here.port)
        self._runtime.attach(PROGRAM, self)
        entry = Presence(
            ROLE,
            str(program.settings.get("name") or self._runtime.name),
            addresses().announced,
            self._here.port,
            self._keys.tag,
            self._runtime.epoch,
            self._keys.listener.public.decode(),
            python=PYTHON,
            pid=os.getpid(),
        )
        self.entry = entry
        self._path = self._registry.announce(entry)
        program.at_close.append(self._close)
        size_max = int(program.settings.get("max_file_size") or 0)
        self._receiver = Receiver(
            self._runtime,
            "program " + entry.name,
            self._ground_of,
            size_max,
            "Pycos(max_file_size={})",
            PROGRAM_FILES,
        )
        self.files = Files(host, self._runtime.epoch, self._places_of, log.warning)
        self._keep(self._look())
        self._keep(self._search(entry))

    def _keep(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.Task(coroutine, loop=self._runtime.loop)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _close(self) -> None:
        for task in self._tasks:
            task.cancel()
        self._registry.withdraw(self._path)
        self._receiver.close("the program ends")
        if self._multicast is not None:
            await self._multicast.close()

    # --- finding ---

    async def _look(self) -> None:
        while True:
            for entry in self._registry.read():
                self._on_found(entry)
            await asyncio.sleep(LOOK_S)

    async def _search(self, entry: Presence) -> None:
        multicast = Multicast(addresses().own if addresses().is_restricted else ())
        if trouble := await multicast.open():
            log.debug("%s; programs of other hosts are named by Pycos().peer()", trouble)
            return
        self._multicast = multicast
        await multicast.browse(self._on_found)
        await multicast.announce(entry)

    def _on_found(self, found: Presence) -> None:
        epoch = found.epoch
        if found.role != ROLE or found.tag != self._keys.tag or epoch == self._runtime.epoch:
            return
        self._known[epoch] = found
        if epoch in self._diallers or self._runtime.is_linked(epoch):
            self._welcome(epoch)
            return
        dialler = self._runtime.dial(endpoints_of(found), expected=epoch)
        dialler.on_silence = dialler.on_lost = log.debug
        self._diallers[epoch] = dialler

    async def peer(self, location: Location) -> str:
        """The role of who answers there, "client" for a program; "" if nobody does; "known": it has that one."""
        if any(peer.location == location for peer in self._book.here_are()):
            return "known"
        try:
            found = await resolve(location.addr)
            dialler = self._runtime.dial([tcp_endpoint(one, location.port) for one in found])
            dialler.on_silence = dialler.on_lost = log.debug
            async with asyncio.timeout(ANSWER_S):
                epoch = await asyncio.shield(dialler.ready)
        except (TimeoutError, Refused, Failure) as error:
            log.warning(
                "peer(): nobody of this cluster answers at %s: %s", location, str(error) or "no answer"
            )
            with contextlib.suppress(UnboundLocalError):
                dialler.stop()
            return ""
        role = self._runtime.role_of(epoch)
        if role == CLIENT_ROLE:
            self._diallers.setdefault(epoch, dialler)
            self._known.setdefault(
                epoch, Presence(ROLE, str(location), (found[0],), location.port, self._keys.tag, epoch)
            )
            self._welcome(epoch)
        else:
            dialler.stop()
        return role

    # --- turns.Role: within a turn, on either thread ---

    def on_event(self, event: Event, now: float) -> None:
        if isinstance(event, LinkReady) and event.role == CLIENT_ROLE:
            epoch = event.epoch
            self._runtime.keep(epoch)
            self._runtime.defer(lambda: self._welcome(epoch))
            self._runtime.defer(lambda: self._take_in_later(epoch))
        elif isinstance(event, LinkLost):
            epoch = event.epoch
            self._runtime.defer(lambda: self._miss(epoch))

    def carry_out(self, effect: object, now: float) -> None:
        raise TypeError(f"no such effect: {effect!r}")

    # --- who is there ---

    def _welcome(self, epoch: int) -> None:
        if epoch in self._book.programs or not self._runtime.is_linked(epoch):
            return
        if self._runtime.role_of(epoch) != CLIENT_ROLE:
            return
        known = self._known.get(epoch)
        if known is None:  # it has found us, and we have not read yet who it is
            return
        where = Location(known.addresses[0] if known.addresses else self._here.addr, known.port)
        with self._runtime.lock:
            self._book.meet(epoch, PeerStatus(where, known.name, PeerStatus.Online, ROLE))
        self._runtime.turn_soon()

    def _take_in_later(self, epoch: int) -> None:
        self._runtime.loop.call_later(STRANGER_S, self._take_in, epoch)

    def _take_in(self, epoch: int) -> None:
        if self._runtime.is_open and self._runtime.is_linked(epoch):
            self._known.setdefault(epoch, Presence(ROLE, f"{epoch:x}", (), 0, self._keys.tag, epoch))
            self._welcome(epoch)

    def _miss(self, epoch: int) -> None:
        if epoch in self._book.programs or epoch in self._diallers:
            self._runtime.loop.call_later(GONE_S, self._part, epoch)

    def _part(self, epoch: int) -> None:
        """It is gone: whoever waits for an answer from it waits no more."""
        if self._runtime.is_linked(epoch) or not self._runtime.is_open:
            return
        dialler = self._diallers.pop(epoch, None)
        if dialler is not None:
            dialler.stop()
        self._known.pop(epoch, None)
        with self._runtime.lock:
            now = self._runtime.clock()
            self._book.part(epoch)
            self._host.peer_gone(epoch, self._runtime.router.bury(epoch, now))
            self._receiver.machine.peer_gone(epoch)
        self._runtime.turn_soon()

    # --- files

    def _ground_of(self, client: int, port: int) -> Ground | str:
        """Where files from other programs belong."""
        return Ground(dest_path())

    async def _places_of(self, where: Any) -> list[FilePlace]:
        for epoch, peer in self._book.programs.items():
            if peer.location == where:
                return [FilePlace(epoch, 0, f"program {peer.name}", PROGRAM_FILES)]
        raise TaskRefused(f"no program at {where} is linked")

    def peers(self) -> list[PeerStatus]:
        """The programs that are linked."""
        return list(self._book.programs.values())


class Silent:
    """machine.Machine of a role that only hears events."""

    def receive(self, envelope: Envelope, now: float) -> None:
        """Nobody writes to it."""

    def wake(self, now: float) -> None:
        """It has no deadline."""

    def deadline(self) -> float | None:
        return None

    def drain(self) -> list[object]:
        return []


def join() -> Network | None:
    """Have programs find this one, and this one them; None in a server, whose client does. On the loop, or from any thread."""
    host = program.host
    if host.place is not None or host.home is None:
        return None
    network: Network | None = program.network
    if network is None:
        network = program.network = program.call(Network, host)
    return network
