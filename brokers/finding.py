"""Looks for the nodes at the places that clients name (spec 6.4, `nodes`): resolves names, dials, and tells the scheduler."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from dispycos.config import NODE_PORT, Refused
from dispycos.protocol.messages import Allocation
from dispycos.runtime import Runtime
from dispycos.transport.addresses import AddressError, find_addresses, resolve, tcp_endpoint
from dispycos.transport.dialler import Dialler
from dispycos.transport.secret import SECRET_REMEDY
from dispycos.values import HostPort

from .registry import Client
from .scheduler import Scheduler
from .waiting import other_python

Python = tuple[int, int]

ANSWER_S = 1.5  # a node that is named has so long to answer before its client gets what else there is
LOOK_S = 0.01


class Finder:
    """What a scheduler's body does about Look and StopLooking.

    `seen` holds the names of nodes that were found and are about to register, with their Python if they said it: such a name
    need not be a host's, and one of another Python is not dialled.
    """

    def __init__(self, runtime: Runtime, machine: Scheduler, seen: Mapping[str, Python | None]) -> None:
        self.runtime = runtime
        self.machine = machine
        self._seen = seen
        self._searches: dict[int, set[asyncio.Task[str]]] = {}  # by client
        self._diallers: dict[HostPort, tuple[int, Dialler]] = {}  # with the client that named it last

    def look(self, client: int, first: int) -> None:
        search = asyncio.ensure_future(self._look(client, first))
        self._searches.setdefault(client, set()).add(search)
        search.add_done_callback(partial(self._looked, client))

    def stop_looking(self, client: int) -> None:
        """Links that came about stay, like those to nodes that were found otherwise."""
        for search in self._searches.pop(client, ()):
            search.cancel()
        for place, (owner, dialler) in list(self._diallers.items()):
            if owner == client and not dialler.link:
                dialler.stop()
                del self._diallers[place]

    async def _look(self, epoch: int, first: int) -> str:
        client = self.machine.registry.clients.get(epoch)
        if client is None:  # it has left
            return ""
        faults = await asyncio.gather(
            *(self._find(client, number) for number in client.places if number >= first)
        )
        return next(filter(None, faults), "")

    def _looked(self, client: int, search: asyncio.Task[str]) -> None:
        """The client must not wait for ever, whatever went wrong."""
        if search.cancelled():
            return
        error = search.exception()
        fault = search.result() if error is None else f"nodes: the search for them failed: {error!r}"
        self._tell(partial(self.machine.looked, client, fault))

    async def _find(self, client: Client, number: int) -> str:
        """What is wrong with the place, for the person who named it; empty also if nobody answers there yet."""
        place = client.named[number].allocation
        fault = await self._fault_of(client, number, place)
        if not fault and place.cpus != 0:
            fault = _misfit(self._pythons_at(client, number), client)
        return f"nodes: {HostPort(place.node, place.port)}: {fault}" if fault else ""

    async def _fault_of(self, client: Client, number: int, place: Allocation) -> str:
        if self._pythons_at(client, number):
            return ""
        own = find_addresses().own
        try:
            addresses = await resolve(place.node)
        except AddressError as error:
            if place.node == socket.gethostname():  # no name server need know it
                addresses = own
            elif place.node in self._seen or place.cpus == 0:
                python = self._seen.get(place.node)
                return _misfit([python], client) if python is not None and place.cpus != 0 else ""
            else:
                return f"no node of this name is here, and as a host {error}"
        is_here = any(map(_is_loopback, addresses)) or not set(own).isdisjoint(addresses)
        known = (*addresses, *(own if is_here else ()))
        self._tell(partial(self.machine.found, client.epoch, number, known, ()))
        if place.cpus == 0:
            return ""
        if is_here and place.port is not None and place.port == self.machine.port:
            return "that is this scheduler, no node; a scheduler is named by schedule(location)"
        return await self._await_node(client, number, addresses)

    async def _await_node(self, client: Client, number: int, addresses: tuple[str, ...]) -> str:
        """Whoever answers at these is asked what it is; they are not waited for long."""
        until = self.runtime.clock() + ANSWER_S
        dialler: Dialler | None = None
        while not self._pythons_at(client, number) and self.runtime.clock() < until:
            if dialler is None:
                dialler = self._dial(client, number, addresses)
            elif dialler.ready.done() and (fault := self._fault_at(dialler)):
                return fault
            await asyncio.sleep(LOOK_S)
        return ""

    def _dial(self, client: Client, number: int, addresses: tuple[str, ...]) -> Dialler:
        allocation = client.named[number].allocation
        place = HostPort(allocation.node, allocation.port)
        if place in self._diallers:
            self._diallers.pop(place)[1].stop()
        dialler = self.runtime.dial([tcp_endpoint(address, place.port or NODE_PORT) for address in addresses])
        self._diallers[place] = client.epoch, dialler

        def on_silence(text: str) -> None:
            if not self._pythons_at(client, number):
                self._tell(partial(self.machine.tell, client.epoch, f"nodes: {place}: {text}"))

        def on_ready(ready: asyncio.Future[int]) -> None:
            if not ready.cancelled() and ready.exception() is None:
                self._tell(partial(self.machine.found, client.epoch, number, (), (ready.result(),)))

        dialler.on_silence = on_silence
        dialler.ready.add_done_callback(on_ready)
        return dialler

    def _fault_at(self, dialler: Dialler) -> str:
        try:
            role = self.runtime.role_of(dialler.ready.result())
        except Refused as refusal:
            return f"{refusal}; {SECRET_REMEDY}"
        if role in ("node", ""):  # "": its link is gone again
            return ""
        dialler.stop()
        return f"it is a {role}, no node; a scheduler is named by schedule(location)"

    def _pythons_at(self, client: Client, number: int) -> list[Python]:
        """Of the nodes that are known at that place."""
        nodes = self.machine.registry.nodes.values()
        return [node.info.python for node in nodes if client.named[number].is_at(node.info)]

    def _tell(self, word: Callable[[float], None]) -> None:
        with self.runtime.lock:
            word(self.runtime.clock())
        self.runtime.turn_soon()


def _misfit(pythons: Sequence[Python], client: Client) -> str:
    """Why nodes of these Pythons are of no use to the client; empty if one of them is, or there is none."""
    ours = client.wants.client.python
    return other_python(pythons[0], ours) if pythons and ours not in pythons else ""


def _is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address.partition("%")[0]).is_loopback
