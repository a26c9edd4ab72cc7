"""Finds the client's scheduler, or starts a private one, and holds the link to it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from dispycos.brokers.allocation import Named
from dispycos.brokers.private import PrivateProcess, Waiting
from dispycos.config import SCHEDULER_PORT, Refused
from dispycos.errors import ScheduleError
from dispycos.private_options import texts_of
from dispycos.protocol.addresses import Location
from dispycos.protocol.messages import Allocation
from dispycos.runtime import Runtime
from dispycos.transport.addresses import AddressError, resolve, tcp_endpoint
from dispycos.transport.certificates import client_keys
from dispycos.transport.dialler import Dialler
from dispycos.transport.discovery import Presence, Registry, endpoints_of
from dispycos.transport.folders import find_folders
from dispycos.transport.probe import stranger_at
from dispycos.values import HostPort

from ..tasks.streams import say
from .places import scheduler_place

log = logging.getLogger("dispycos")

ANSWER_S = 0.4  # a scheduler that was named has answered by then, or it is looked who is there
START_REMEDY = "start `dispycos scheduler` there, or call schedule() without a location"
PLACE_REMEDY = (
    f"give the place of a `dispycos scheduler` (its port is {SCHEDULER_PORT} if it was told no other); "
    "nodes are named by Client(nodes=...)"
)
YOUNG_S = 3.0  # private processes that die younger, and before a task has ended ...
YOUNG_MAX = 3  # ... are replaced so often in a row
FOUND_S = 2.0  # a scheduler that has just proved itself to the private process has so long to greet us


class Uplink:
    """The way to one scheduler, from `reach` to `close`.

    On the loop are told: `on_death`, that the private scheduler which was started for this client was killed (it says whether that
    one had been of use), and `on_end`, why there is none any more.
    """

    def __init__(
        self,
        runtime: Runtime,
        secret_file: Path | None,
        on_death: Callable[[], bool],
        on_end: Callable[[str], None],
    ) -> None:
        self.runtime = runtime
        self._secret_file = secret_file
        self._on_death = on_death
        self._on_end = on_end
        self._dialler: Dialler | None = None
        self._private: PrivateProcess | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._young = 0  # private processes that died young, in a row

    async def reach(self, location: str | Location | None, nodes: Iterable[Allocation]) -> int:
        """Its epoch, once the link is up: of the one at this place; else of the private one that Scheduler() started, of
        one that is found, or of a private one that is started now, and starts no node if there are some among these.
        """
        place = scheduler_place(location) if location is not None else None
        private = Waiting.take()
        is_asked_for = private is not None and private.has_orders
        entry = self._registered() if place is None and not is_asked_for else None
        if private is not None and (place is not None or entry is not None):
            private.end()
        if place is not None:
            return await self._dial_named(place)
        if entry is not None:
            return await self._dial(endpoints_of(entry), f"the scheduler {entry.name}")
        private = private or PrivateProcess()
        if not private.has_orders:
            private.give(self._private_orders(nodes))
        return await self._use_private(private)

    def drop(self) -> None:
        """What is queued leaves, then the link ends, and soon after the private process. Does not wait, and needs no loop."""
        if self._watcher is not None and not self.runtime.loop.is_closed():
            self._watcher.cancel()
        self.runtime.push()
        _stop(self._dialler)
        if self._private is not None:
            self._private.end()

    async def close(self) -> None:
        """As drop, and waits for the end of the private process."""
        self.drop()
        if self._private is not None:
            await self._private.close()

    # --- a scheduler that is there ---

    def _registered(self) -> Presence | None:
        """A scheduler of our cluster on this host, of the same user."""
        tag = client_keys(self._secret_file).tag
        for entry in Registry(find_folders().registry).read():
            if entry.role == "scheduler" and entry.tag == tag:
                return entry
        return None

    async def _dial_named(self, place: HostPort) -> int:
        host, port = place.host, place.port or SCHEDULER_PORT
        what = f"the scheduler at {HostPort(host, port)}"
        try:
            addresses = await resolve(host)
        except AddressError as error:
            raise ScheduleError(f"schedule(): {error}") from None
        dialling = asyncio.ensure_future(
            self._dial([tcp_endpoint(address, port) for address in addresses], what)
        )
        try:
            await asyncio.wait([dialling], timeout=ANSWER_S)
            if not dialling.done() and (fault := await stranger_at(addresses, port, ANSWER_S)):
                raise ScheduleError(f"{what} is not there: {fault}; {START_REMEDY}")
            epoch = await dialling
        finally:
            dialling.cancel()
        role = self.runtime.role_of(epoch)
        if role != "scheduler":
            raise ScheduleError(f"{HostPort(host, port)} is a {role}, no scheduler: {PLACE_REMEDY}")
        return epoch

    async def _dial(self, endpoints: list[str], what: str) -> int:
        self._dialler = dialler = self.runtime.dial(endpoints, uplink=True)
        dialler.on_silence = lambda text: say(f"{what}: {text}", "warning")
        try:
            return await asyncio.shield(dialler.ready)
        except Refused as refusal:
            raise ScheduleError(f"{what} refused this client: {refusal}") from None

    # --- a private one ---

    def _private_orders(self, nodes: Iterable[Allocation]) -> dict[str, Any]:
        debug = log.isEnabledFor(logging.DEBUG) or None
        orders: dict[str, Any] = dict(texts_of({"secret_file": self._secret_file, "debug": debug}))
        if any(Named(word).is_place and word.cpus != 0 for word in nodes):
            orders["named"] = True
        return orders

    async def _use_private(self, private: PrivateProcess) -> int:
        """The child's first line says where it listens, its second what it found on the network."""
        self._private = private
        self.runtime.in_child.append(private.in_child)
        first = await private.next_line()
        dialling = asyncio.ensure_future(self._dial([first["endpoint"]], "the private scheduler"))
        try:
            while "use" not in (survey := await private.next_line()):
                say(survey["notice"], survey.get("level", "info"))
        except BaseException:
            dialling.cancel()
            raise
        epoch = await dialling
        if survey["use"] == "scheduler":
            return await self._move(private, survey)
        self._watcher = asyncio.ensure_future(self._watch(private))
        return epoch

    async def _move(self, private: PrivateProcess, found: dict[str, Any]) -> int:
        """To a scheduler that the private process has found; without a link to that, to one that looks for none."""
        own, epoch = self._dialler, 0
        try:
            async with asyncio.timeout(FOUND_S):
                epoch = await self._dial(found["endpoints"], f"the scheduler {found['name']}")
        except (TimeoutError, ScheduleError):
            _stop(self._dialler)
        finally:
            _stop(own)
        await private.close()
        self._private = None
        if epoch:
            return epoch
        return await self._use_private(PrivateProcess({**private.orders, "always": True}))

    async def _watch(self, private: PrivateProcess) -> None:
        """Pass its notices on. One that is killed is replaced, but not for ever if they die before they are of use."""
        clock = self.runtime.clock
        began = clock()
        try:
            while True:
                line = await private.next_line(timeout=float("inf"))
                if "notice" in line:
                    say(line["notice"], line.get("level", "info"))
        except ScheduleError as error:
            if private.was_killed:
                was_of_use = self._on_death() or clock() - began >= YOUNG_S
                self._young = 0 if was_of_use else self._young + 1
                if self._young <= YOUNG_MAX:
                    say(f"{error}; another one takes its place", "warning")
                    await self._replace(private)
                    return
            self._on_end(str(error))

    async def _replace(self, dead: PrivateProcess) -> None:
        _stop(self._dialler)
        dead.end()  # its pipes close
        try:
            await self._use_private(PrivateProcess({**dead.orders, "always": True}, dead.id))
        except ScheduleError as error:
            self._on_end(str(error))


def _stop(dialler: Dialler | None) -> None:
    if dialler is not None:
        dialler.stop()
