"""The scheduler's brain: gives the cluster to one client after the other.

It decides who has which nodes, and knows of no task. Nodes and servers are leased in leasing.py; what those who wait are told
is in waiting.py; the tables are in registry.py. A handler records what happened; `drain` then decides what follows, in this
order: a client that has done leaves, the next one gets the cluster, those who wait hear their position.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import isfinite
from typing import Final

from dispycos.notices import PATIENCE_S
from dispycos.protocol.addresses import Address
from dispycos.protocol.envelope import Envelope
from dispycos.protocol.messages import (
    Allocation,
    ClientReport,
    Closed,
    Counts,
    Declined,
    Enlist,
    Gone,
    Granted,
    Inventory,
    Left,
    Notice,
    Opened,
    Pulse,
    Queued,
    Register,
    Release,
    Released,
    SchedulerReport,
    ServerDown,
    ServerUp,
    Turned,
    Wanting,
)

from .allocation import Named, fault_of
from .leasing import Leasing
from .lifecycle import ClientState
from .outbox import Look, Outbox, StopLooking
from .registry import CLIENT_ALARMS, Alarm, Client, Registry
from .waiting import Waiting, other_python, state_of

CLIENTS_MAX: Final = 1000
ANSWER_S: Final = 0.3  # for a client to count its tasks
CLIENT_PATIENCE_S: Final = (
    60.0  # a client of another host that cannot be reached for so long is gone; sooner than its session
)
CLOSE_PATIENCE_S: Final = 15.0  # nodes kill their servers after 5 s; later than this is not waited for

Handler = Callable[[Envelope, float], None]


class Scheduler:
    """A machine (dispycos.machine) that is also told which peers can be reached."""

    def __init__(
        self,
        name: str,
        scheduler_id: str,
        address: Address,
        *,
        private: bool,
        addr: str = "",
        port: int = 0,
        insecure: bool = False,
    ) -> None:
        self.name = name
        self.scheduler_id = scheduler_id
        self.address = address
        self.private = private
        self.addr = addr
        self.port = port
        self.insecure = insecure
        self.also: list[Allocation] = []  # what its operator names beside the clients
        self.registry = Registry()
        self.out = Outbox(address)
        self.waiting = Waiting(self.registry, self.out)
        self.leasing = Leasing(self.registry, self.waiting, self.out, name, scheduler_id)
        self._asked: list[tuple[float, Envelope]] = []  # for a report, until the client's counts are there
        self._now = 0.0
        self._stopped = ""  # why this scheduler ends, if it does
        self._queue_changed = False
        self._stirred = True  # something happened since the last drain
        self._handlers: dict[type, Handler] = {
            Wanting: self.waiting.on_wanting,
            Counts: self.on_counts,
            Enlist: self.on_enlist,
            Release: self.on_release,
            Register: self.leasing.on_register,
            Opened: self.leasing.on_opened,
            Declined: self.leasing.on_declined,
            ServerUp: self.leasing.on_server_up,
            ServerDown: self.leasing.on_server_down,
            Closed: self.leasing.on_closed,
            Pulse: self.leasing.on_pulse,
            Left: self.leasing.on_left,
            Inventory: self.on_inventory,
        }
        self._on_alarm: dict[Alarm, Callable[[int, float], None]] = {
            Alarm.CLIENT_SILENT: self._client_silent,
            Alarm.CLIENT_ALONE: self.waiting.on_alone,
            Alarm.CLOSE_WAITS: self.waiting.on_close_waits,
            Alarm.CLOSE_OVERDUE: self.leasing.on_close_overdue,
            Alarm.NODE_SILENT: self.leasing.on_node_silent,
            Alarm.NODE_FORGOTTEN: self.leasing.on_node_forgotten,
            Alarm.NODE_UNSETTLED: self.leasing.on_node_unsettled,
            Alarm.NODE_DECLINED: self.leasing.on_node_declined,
        }

    # --- the machine

    def receive(self, envelope: Envelope, now: float) -> None:
        self._now = now
        self._stirred = True
        handler = self._handlers.get(type(envelope.message))
        if handler is None:
            self.out.log("warning", f"{type(envelope.message).__name__} is nothing for a scheduler: ignored")
        else:
            handler(envelope, now)

    def wake(self, now: float) -> None:
        self._now = now
        self._stirred = True
        while (due := self.registry.alarms.take_due(now)) is not None:
            alarm, about = due
            self._on_alarm[alarm](about, now)
        while self._asked and self._asked[0][0] <= now:
            self._send_report(self._asked.pop(0)[1], None)

    def deadline(self) -> float | None:
        due = self.registry.alarms.next()
        if self._asked and (due is None or self._asked[0][0] < due):
            return self._asked[0][0]
        return due

    def drain(self) -> list[object]:
        if not self._stirred:
            return []
        self._stirred = False
        client = self.registry.active
        if client is not None and client.state is ClientState.CLOSING and not any(self.registry.sites()):
            self._part(client)
        if self.registry.active is None and self.registry.clients:
            self._grant_next(self._now)
        if self._queue_changed:
            self._tell_positions()
        client = self.registry.active
        if client is not None and client.state is ClientState.ACTIVE:
            if not self.leasing.held:  # else more nodes may be found
                self.waiting.tell_of_hopeless(client)
            self.leasing.settle(client)
        return self.out.drain()

    def hold_settling(self, held: bool) -> None:
        """Nodes are still being looked for: those that come count as known, and Settled waits."""
        self._stirred = True
        self.leasing.held = held

    def check(self) -> None:
        """Do the tables agree? Holds whenever the machine has been drained."""
        self.registry.check()

    # --- peers

    def peer_up(self, epoch: int, about: object, now: float) -> None:
        self._stirred = True
        self._now = now
        client = self.registry.clients.get(epoch)
        if client is not None and client.away:
            client.away = False
            self.registry.alarms.cancel(Alarm.CLIENT_SILENT, epoch)
        node = self.registry.nodes.get(epoch)
        if node is not None and node.away:
            node.away = False  # its Register follows

    def peer_lost(self, epoch: int, now: float, *, lives: bool = False) -> None:
        """Its link is gone; it may come back, as if nothing had happened. If it `lives` that is waited for: its death is told."""
        self._stirred = True
        self._now = now
        client = self.registry.clients.get(epoch)
        if client is not None and not client.away:
            client.away = True
            if not lives:
                self.registry.alarms.set(Alarm.CLIENT_SILENT, epoch, now + CLIENT_PATIENCE_S)
        node = self.registry.nodes.get(epoch)
        if node is not None and not node.away:
            self.leasing.node_lost(node, now, lives=lives)

    def peer_reset(self, epoch: int, unconfirmed: list[Envelope], now: float) -> None:
        """Its process is another one now. What was not confirmed needs no look: the tables know more."""
        self._stirred = True
        self._now = now
        client = self.registry.clients.get(epoch)
        if client is not None:
            client.lost = True
            self.registry.alarms.cancel(Alarm.CLIENT_SILENT, epoch)
            if client is self.registry.active:
                self._tell_nodes_of_death(client)
            self._client_gone(client, "its process ended")
        node = self.registry.nodes.get(epoch)
        if node is not None:
            # Of one that is linked only the session is gone: it was away for too long, and registers anew.
            self.leasing.node_gone(node, "its process ended" if node.away else "its session was lost")

    # --- clients: the queue

    def on_enlist(self, envelope: Envelope, now: float) -> None:
        wants: Enlist = envelope.message
        fault = self._fault_of(wants, envelope.sender)
        if fault:
            self.out.send(envelope.sender, Turned(fault))
            return
        client = Client(envelope.sender, wants, [Named(word) for word in (*wants.allocations, *self.also)])
        self.registry.clients[client.epoch] = client
        self._queue_changed = True
        self.out.log("info", f"{client.title} wants the cluster")
        if any(named.is_place for named in client.named):
            client.looking = True
            self.out.effects.append(Look(client.epoch))

    def _fault_of(self, wants: Enlist, sender: Address) -> str:
        if self._stopped:
            return self._stopped
        if sender.epoch in self.registry.clients:
            return "this process has a client that is not closed yet"
        if len(self.registry.clients) >= CLIENTS_MAX:
            return f"{CLIENTS_MAX} clients wait already"
        if not (isfinite(wants.pulse_interval) and wants.pulse_interval > 0):
            return f"pulse_interval {wants.pulse_interval} is not a number of seconds"
        return next(filter(None, map(fault_of, wants.allocations)), "")

    # --- clients: the places that they name

    def places(self, epoch: int) -> dict[int, Allocation]:
        """What is to be looked for on behalf of a client, by its number there; nothing if it has left."""
        client = self.registry.clients.get(epoch)
        if client is None:
            return {}
        return {k: named.allocation for k, named in enumerate(client.named) if named.is_place}

    def is_there(self, epoch: int, number: int) -> bool:
        """Whether a node is known at that place, or the client has left."""
        client = self.registry.clients.get(epoch)
        nodes = self.registry.nodes.values()
        return client is None or any(client.named[number].is_at(node.info) for node in nodes)

    def python_of(self, epoch: int) -> tuple[int, int] | None:
        """The client's; None if it has left."""
        client = self.registry.clients.get(epoch)
        return client.wants.client.python if client is not None else None

    def unfit(self, epoch: int, number: int) -> str:
        """Why no node at that place is of any use to the client; empty if one is, or none is known there."""
        client = self.registry.clients.get(epoch)
        if client is None:
            return ""
        place, ours = client.named[number], client.wants.client.python
        pythons = [node.info.python for node in self.registry.nodes.values() if place.is_at(node.info)]
        return "" if not pythons or ours in pythons else other_python(pythons[0], ours)

    def found(
        self, epoch: int, number: int, addresses: Iterable[str], nodes: Iterable[int], now: float
    ) -> None:
        """The addresses of such a place, and the epochs of nodes that answered there."""
        client, nodes = self.registry.clients.get(epoch), tuple(nodes)
        if client is None:
            return
        place = client.named[number]
        client.named[number] = place._replace(
            addresses=(*place.addresses, *addresses), epochs=(*place.epochs, *nodes)
        )
        if client is self.registry.active:
            self._stir(now)
            for node in nodes:
                self.leasing.offer_one(node, client, now)

    def looked(self, epoch: int, fault: str, now: float) -> None:
        """The client waits no longer for its places to be found; with a fault it is turned away."""
        client = self.registry.clients.get(epoch)
        if client is None or not client.looking:
            return
        self._stir(now)
        client.looking = False
        self._queue_changed = True
        if fault and client.state is ClientState.QUEUED:
            self.out.tell(client, Turned(fault))
            self._remove(client)

    def tell(self, epoch: int, text: str, now: float) -> None:
        """A warning for a client."""
        client = self.registry.clients.get(epoch)
        if client is not None:
            self._stir(now)
            self.out.tell(client, Notice(text, "warning"))

    def _stir(self, now: float) -> None:
        self._stirred = True
        self._now = now

    def on_release(self, envelope: Envelope, now: float) -> None:
        client = self.registry.clients.get(envelope.sender.epoch)
        if client is None:
            self.out.send(envelope.sender, Released("it did not have the cluster"))
        elif client.state is ClientState.QUEUED:
            self.out.tell(client, Released("it left the queue"))
            self._remove(client)
        elif client.state is ClientState.ACTIVE:
            self._close(client)

    def _client_silent(self, epoch: int, now: float) -> None:
        """It is told all the same: should its link heal, it learns what became of it."""
        self._client_gone(
            self.registry.clients[epoch], f"nothing was heard of it for {CLIENT_PATIENCE_S:g} s"
        )

    def _client_gone(self, client: Client, why: str) -> None:
        level = "debug" if self.private else "warning"  # the terminal was that client's
        self.out.log(level, f"{client.title} is gone: {why}")
        if client.state is ClientState.QUEUED:
            self.out.tell(client, Released(why))
            self._remove(client)
            return
        client.parting = why
        if client.state is ClientState.ACTIVE:
            self._close(client)

    def _tell_nodes_of_death(self, client: Client) -> None:
        """Its servers would wait some seconds, at their end, for it to hear their last words."""
        for site in self.registry.sites():
            self.out.send(site.node.address, Gone([client.epoch]))

    def stop(self, why: str, now: float) -> None:
        """This scheduler ends: nodes end the lease, clients hear why."""
        self._stirred = True
        self._now = now
        self._stopped = why
        for client in list(self.registry.clients.values()):
            self.out.tell(client, Released(why))
            client.lost = True  # that was the last word
            if client.state is ClientState.QUEUED:
                self._remove(client)
                continue
            client.parting = why
            if client.state is ClientState.ACTIVE:
                self._close(client)

    def _remove(self, client: Client) -> None:
        client.state = ClientState.GONE
        del self.registry.clients[client.epoch]
        for alarm in CLIENT_ALARMS:
            self.registry.alarms.cancel(alarm, client.epoch)
        self._queue_changed = True
        if any(named.is_place for named in client.named):
            self.out.effects.append(StopLooking(client.epoch))

    def _tell_positions(self) -> None:
        self._queue_changed = False
        active = self.registry.active
        holder = active.title if active is not None else "nobody"
        for position, client in enumerate(self.registry.queued_clients(), 1):
            if client.standing != (position, holder) and not client.looking:
                client.standing = (position, holder)
                self.out.tell(client, Queued(position, holder))

    # --- clients: the lease

    def _grant_next(self, now: float) -> None:
        """To the first who can be reached: a ghost at the head holds up nobody."""
        queue = self.registry.queued_clients()
        client = next((client for client in queue if not client.away and not client.looking), None)
        if client is None:
            return
        client.turn(ClientState.ACTIVE)
        client.lease = self.leasing.new_lease(client)
        self.registry.active = client
        self._queue_changed = True
        self.out.log("info", f"{client.title} has the cluster")
        self.out.tell(client, Granted(client.lease, self.name))
        self.leasing.offer_all(client, now)
        self.registry.alarms.set(Alarm.CLIENT_ALONE, client.epoch, now + PATIENCE_S)

    def _close(self, client: Client) -> None:
        client.turn(ClientState.CLOSING)
        self.leasing.close_all(client)
        self.registry.alarms.set(Alarm.CLOSE_WAITS, client.epoch, self._now + PATIENCE_S)
        self.registry.alarms.set(Alarm.CLOSE_OVERDUE, client.epoch, self._now + CLOSE_PATIENCE_S)

    def _part(self, client: Client) -> None:
        """Nothing of it is left but its place."""
        self.leasing.forgive_all()
        self.out.tell(client, Released(client.parting))
        client.turn(ClientState.GONE)
        self.registry.active = None
        self._remove(client)
        self.out.log("info", f"{client.title} has left the cluster")

    # --- status

    def on_inventory(self, envelope: Envelope, now: float) -> None:
        """Its tasks are known to the client that has the cluster: it is asked, and not waited for long."""
        client = self.registry.active
        if client is None or client.away or client.lost:
            self._send_report(envelope, None)
            return
        self._asked.append((now + ANSWER_S, envelope))
        self.out.tell(client, Inventory())

    def on_counts(self, envelope: Envelope, now: float) -> None:
        client = self.registry.active
        if client is not None and envelope.sender == client.address:
            asked, self._asked = self._asked, []
            for _, request in asked:
                self._send_report(request, envelope.message)

    def _send_report(self, request: Envelope, counts: Counts | None) -> None:
        registry = self.registry
        clients = [self._report(client, counts) for client in registry.clients.values()]
        nodes = [
            (node.info.name, node.info.addr, node.info.port, state_of(node, registry.active))
            for node in registry.nodes.values()
        ]
        report = SchedulerReport(self.name, self.addr, self.port, self.private, clients, nodes, self.insecure)
        self.out.send(request.sender, report, request.correlation)

    def _report(self, client: Client, counts: Counts | None) -> ClientReport:
        info = client.wants.client
        if client is not self.registry.active:
            return ClientReport(info.name, info.host, info.pid, "queued", 0, 0, 0)
        waiting, running, ended = (
            (counts.waiting, counts.running, counts.ended) if counts is not None else (None, None, None)
        )
        return ClientReport(info.name, info.host, info.pid, "running", waiting, running, ended)
