"""The scheduler's brain: gives the cluster to one client after the other, and knows nothing of their tasks.

Which nodes a client gets is decided in allocation.py; which are there is known to leasing.py, what a client has of each to
sharing.py; what a client is told that lacks servers is in waiting.py; the tables are in registry.py. A handler records what
happened; `drain` then decides what follows, in this order: a client that has closed leaves, the next one gets the cluster, those
who wait hear their position, and who has the cluster hears that its nodes are ready, or that there is no hope for any.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import isfinite
from typing import Final

from msgspec import structs

from dispycos.notices import PATIENCE_S
from dispycos.protocol import messages
from dispycos.protocol.addresses import BOOK, Address
from dispycos.protocol.envelope import Envelope
from dispycos.protocol.messages import Allocation, Enlist, Lease, Queued, Released, SchedulerReport, Turned

from .allocation import Named, fault_of
from .leasing import Leasing
from .lifecycle import ClientState
from .outbox import Look, Outbox, StopLooking
from .registry import Client, Registry
from .reporting import Reporting
from .waiting import Waiting

CLIENTS_MAX: Final = 1000
CLIENT_PATIENCE_S: Final = 60.0  # a client of another host that cannot be reached for so long is gone
OUTDATED: Final = "it was away too long: its lease has ended meanwhile"
CLOSE_PATIENCE_S: Final = 15.0  # nodes kill their servers after 5 s; later than this is not waited for


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
        count: int = 0,
        hold_until: float | None = None,
        zombie_period: float = 0.0,
        max_file_size: int = 0,
    ) -> None:
        """`count` is what tickets and leases are counted on from: microseconds of the wall clock at the start, so that what
        another life of this scheduler gave out is older. Until `hold_until` nothing is granted: an earlier life has granted
        what it did not take back, and who has that comes first. A client that runs nothing for `zombie_period` seconds loses the
        cluster; 0: it does not. `max_file_size` is what nodes take at most, in bytes; 0: what they allow themselves.
        """
        self.name = name
        self._max_file_size = max_file_size
        self.address = address
        self.private = private
        self.port = port
        self.zombie_period = zombie_period
        self.also: list[Allocation] = []  # what its operator names beside the clients
        self.registry = registry = Registry()
        self.out = out = Outbox(address)
        self.waiting = Waiting(registry, out)
        self.leasing = leasing = Leasing(registry, out, name, scheduler_id)
        leasing.max_file_size = max_file_size
        reporting = Reporting(registry, out, SchedulerReport(name, addr, port, private, [], [], insecure))
        registry.count = count
        self.is_holding = hold_until is not None
        if hold_until is not None:
            leasing.held = True
            registry.alarms.set(self._hold_over, self, hold_until)
        self._now = 0.0
        self._stopped = ""  # why this scheduler ends, if it does
        self._queue_changed = False
        self._stirred = True  # something happened since the last drain
        self._handlers: dict[type, Callable[[Envelope, float], None]] = {
            Enlist: self.on_enlist,
            messages.Release: self.on_release,
            messages.CloseNode: leasing.on_close_node,
            messages.Allocate: self.on_allocate,
            messages.AbandonZombie: leasing.on_abandon_zombie,
            messages.Accept: leasing.on_accept,
            messages.Wanting: self.waiting.on_wanting,
            messages.Register: leasing.on_register,
            messages.Opened: leasing.on_opened,
            messages.Declined: leasing.on_declined,
            messages.ServerUp: leasing.on_server_up,
            messages.ServerDown: leasing.on_server_down,
            messages.Closed: self.on_closed,
            messages.Pulse: self.on_pulse,
            messages.Left: leasing.pass_on,
            messages.Inventory: reporting.on_inventory,
            messages.Counts: reporting.on_counts,
            messages.Locate: self.on_locate,
        }

    # --- the machine

    def receive(self, envelope: Envelope, now: float) -> None:
        self._stir(now)
        handler = self._handlers.get(type(envelope.message))
        if handler is None:
            self.out.log("warning", f"{type(envelope.message).__name__} is nothing for a scheduler: ignored")
        else:
            handler(envelope, now)

    def wake(self, now: float) -> None:
        self._stir(now)
        self.registry.alarms.wake(now)

    def deadline(self) -> float | None:
        return self.registry.alarms.next()

    def drain(self) -> list[object]:
        if not self._stirred:
            return []
        while self._stirred:  # what one step changes is seen by the next
            self._stirred = False
            self._see_claims()
            self._end_lease()
            self._grant_next()
        if self._queue_changed:
            self._tell_positions()
        client = self.registry.active
        if client is not None and client.state is ClientState.ACTIVE:
            self.leasing.settle(client)
            if not self.leasing.held:  # more nodes may be found
                self.waiting.tell_of_hope(client)
        return self.out.drain()

    def hold_settling(self, held: bool) -> None:
        """Nodes are still being looked for: those that come count as known, and Settled waits."""
        self._stirred = True
        self.leasing.held = held

    def check(self) -> None:
        self.registry.check()

    def _stir(self, now: float) -> None:
        self._stirred = True
        self._now = now

    # --- peers

    def peer_up(self, epoch: int, now: float) -> None:
        self._stir(now)
        client, node = self.registry.clients.get(epoch), self.registry.nodes.get(epoch)
        if client is not None:
            client.away = False
            self.registry.alarms.cancel(self._client_silent, client)
        if node is not None:
            node.away = False  # its Register follows

    def peer_lost(self, epoch: int, now: float, *, lives: bool = False) -> None:
        """Its link is gone; it may come back, as if nothing had happened. If it `lives` that is waited for: its death is told."""
        self._stir(now)
        client, node = self.registry.clients.get(epoch), self.registry.nodes.get(epoch)
        if client is not None and not client.away:
            client.away = True
            if not lives:
                self.registry.alarms.set(self._client_silent, client, now + CLIENT_PATIENCE_S)
        if node is not None and not node.away:
            self.leasing.node_lost(node, now, lives=lives)

    def peer_reset(self, epoch: int, unconfirmed: list[Envelope], now: float) -> None:
        """Its process is another one now. What was not confirmed needs no look: the tables know more."""
        self._stir(now)
        client, node = self.registry.clients.get(epoch), self.registry.nodes.get(epoch)
        if client is not None:
            client.lost = True
            self.registry.alarms.cancel(self._client_silent, client)
            # Else its servers would wait some seconds, at their end, for it to hear their last words.
            for share in self.registry.shares if client is self.registry.active else ():
                self.out.send(share.node.address, messages.Gone([epoch]))
            self._client_gone(client, "its process ended")
        if node is not None:
            # Of one that is linked only the session is gone: it was away for too long, and registers anew.
            self.leasing.node_gone(node, "its process ended" if node.away else "its session was lost")

    def stop(self, why: str, now: float) -> None:
        """This scheduler ends: nodes end the lease, clients hear why."""
        self._stir(now)
        self._stopped = why
        for client in list(self.registry.clients.values()):
            self.out.tell(client, Released(why))
            client.lost = True  # that was the last word
            self._let_go(client, why)
        self.leasing.close_claims()

    # --- clients: the queue

    def on_enlist(self, envelope: Envelope, now: float) -> None:
        wants: Enlist = envelope.message
        fault = self._fault_of(wants, envelope.sender)
        if fault:
            self.out.send(envelope.sender, Turned(fault))
            return
        over = self._why_over(wants)
        if over:
            self.out.send(envelope.sender, Released(over))
            return
        registry, had, ticket = self.registry, wants.lease, wants.ticket
        if had is not None:
            ticket = had.number
            registry.note(ticket)
            registry.claims[envelope.sender.epoch] = had
        registry.count = max(registry.count, ticket)
        named = [Named(word) for word in (*self.also, *wants.allocations)]
        client = Client(envelope.sender, wants, named, ticket or registry.next_number())
        registry.clients[client.epoch] = client
        self._queue_changed = True
        self.out.log("info", f"{client.title} wants the cluster")
        if client.places:
            client.looking = True
            self.out.effects.append(Look(client.epoch))

    def _why_over(self, wants: Enlist) -> str:
        """It comes back to what has ended."""
        had = wants.lease
        if had is None:
            return "it left the queue" if wants.releasing else ""
        if had.scheduler != self.leasing.scheduler_id:
            return "another scheduler was started in the place of its own"
        return OUTDATED if had.number < self.registry.newest else ""

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

    def on_release(self, envelope: Envelope, now: float) -> None:
        """Its tasks have ended, or nobody cares for them: the nodes close at once."""
        client = self.registry.clients.get(envelope.sender.epoch)
        if client is None:
            self.out.send(envelope.sender, Released("it did not have the cluster"))
        elif client.epoch in self.registry.claims:  # it has just come back: its nodes have to close first
            client.wants = structs.replace(client.wants, releasing=True)
        else:
            self._let_go(client, "")

    def on_pulse(self, envelope: Envelope, now: float) -> None:
        """The servers know best whether a client idles: its tasks need not pass here, and an io task that waits runs."""
        self.leasing.on_pulse(envelope, now)
        period, word = self.zombie_period, envelope.message
        if not 0 < period <= word.idle_s:
            return
        heard = [share for share in self.registry.shares if not share.node.zombie]
        if heard and all(share.idle_s >= period for share in heard):
            self._dismiss(f"it ran nothing for {period:g} s, the --zombie_period of scheduler {self.name}")

    def on_closed(self, envelope: Envelope, now: float) -> None:
        self.leasing.on_closed(envelope, now)
        if envelope.message.dismissed and not self.registry.shares:
            self._dismiss(envelope.message.reason)

    def _dismiss(self, why: str) -> None:
        """The next one is to have the cluster."""
        client = self.registry.active
        if client is not None and client.state is ClientState.ACTIVE:
            self.out.log("info", f"{client.title} loses the cluster: {why}")
            self._let_go(client, why)

    def _client_silent(self, client: Client, now: float) -> None:
        """It is told all the same: should its link heal, it learns what became of it."""
        if client.heard_at + CLIENT_PATIENCE_S > now:  # its nodes have links to it
            self.registry.alarms.set(self._client_silent, client, client.heard_at + CLIENT_PATIENCE_S)
            return
        self._client_gone(client, f"nothing was heard of it for {CLIENT_PATIENCE_S:g} s")

    def _client_gone(self, client: Client, why: str) -> None:
        level = "debug" if self.private else "warning"  # the terminal was that client's
        self.out.log(level, f"{client.title} is gone: {why}")
        self._let_go(client, why)

    def _let_go(self, client: Client, why: str) -> None:
        """From the queue at once; who has the cluster leaves when its nodes have closed."""
        client.parting = client.parting or why
        if client.state is ClientState.QUEUED:
            for held in self.registry.claims.values():
                if held.client == client.epoch:  # of a grant of which it has not heard
                    self.registry.note(held.number + 1)
            self._stirred = True
            self.out.tell(client, Released(why or "it left the queue"))
            self._remove(client)
        elif client.state is ClientState.ACTIVE:
            client.turn(ClientState.CLOSING)
            self._stirred = True
            self.leasing.close_all(client)
            self.registry.alarms.set(self._close_waits, client, self._now + PATIENCE_S)
            self.registry.alarms.set(self.leasing.end_all, client, self._now + CLOSE_PATIENCE_S)

    def _remove(self, client: Client) -> None:
        client.turn(ClientState.GONE)
        if client.places:
            self.out.effects.append(StopLooking(client.epoch))
        del self.registry.clients[client.epoch]
        self.registry.claims.pop(client.epoch, None)
        self.registry.alarms.forget(client)
        epochs = [client.epoch]
        gone = messages.Gone(epochs) if client.lost else messages.Gone([], epochs)
        self.out.tell_others(self.registry, client, gone)
        self._queue_changed = True

    def _tell_positions(self) -> None:
        self._queue_changed = False
        active = self.registry.active
        if active is not None:
            holder = active.title
        else:
            came_with = filter(None, map(self.registry.nodes.get, self.registry.claims))
            holder = next((node.holder for node in came_with), "")
        for position, client in enumerate(self.registry.queued_clients(), 1):
            if client.standing != (position, holder) and not client.looking:
                client.standing = (position, holder)
                self.out.tell(client, Queued(position, holder, client.ticket))

    def on_locate(self, envelope: Envelope, now: float) -> None:
        """The book of a client does not know a name: those of the others may, and answer it."""
        word = structs.replace(envelope.message, asker=envelope.sender)
        self.registry.has_asked = True
        for client in self.registry.clients.values():
            if client.epoch != envelope.sender.epoch and not client.lost:
                self.out.send(Address(client.epoch, BOOK), word, envelope.correlation)

    # --- clients: the lease

    def _see_claims(self) -> None:
        """Who has the newest lease that is known of has the cluster, and goes on having it; all others are over."""
        registry, active = self.registry, self.registry.active
        if active is not None and active.lease is not None and active.lease.number < registry.newest:
            self._let_go(active, OUTDATED)
        for epoch, held in list(registry.claims.items()):
            if held.number < registry.newest and epoch in registry.clients:
                self._let_go(registry.clients[epoch], OUTDATED)
        self.leasing.weigh_claims(self._now)
        if registry.active is None:
            holders = (registry.clients.get(held.client) for held in registry.claims.values())
            if (holder := next(filter(None, holders), None)) is not None:
                self._give(holder, registry.newest)

    def _end_lease(self) -> None:
        client = self.registry.active
        if client is not None and client.state is ClientState.CLOSING and not self.registry.shares:
            self._part(client)

    def _hold_over(self, about: object, now: float) -> None:
        self.is_holding = self.leasing.held = False

    def _grant_next(self) -> None:
        """To the first who can be reached: a ghost at the head holds up nobody."""
        if self.is_holding or self.registry.active is not None or self.registry.claims:
            return
        queue = self.registry.queued_clients()
        client = next((client for client in queue if not client.away and not client.looking), None)
        if client is not None:
            self._give(client, self.registry.next_number())

    def _give(self, client: Client, number: int) -> None:
        leasing = self.leasing
        client.turn(ClientState.ACTIVE)
        client.lease = Lease(number, client.epoch, leasing.scheduler_id, self.address.epoch)
        self.registry.active = client
        self.registry.note(number)
        self.registry.claims.pop(client.epoch, None)
        self._queue_changed = True
        self.out.log("info", f"{client.title} has the cluster")
        self.out.tell(client, messages.Granted(client.lease, self.name, self._max_file_size))
        for info in client.wants.nodes:
            leasing.hear_of(info, client, self._now)
        leasing.offer_all(client, self._now)
        self.registry.alarms.set(self.waiting.on_alone, client, self._now + PATIENCE_S)
        if client.wants.releasing:
            self._let_go(client, "")

    def _close_waits(self, client: Client, now: float) -> None:
        silent = ", ".join(share.node.title for share in self.registry.shares if share.node.away)
        if silent:
            self.out.warn(client, f"close() waits some seconds for {silent}: no link")

    def _part(self, client: Client) -> None:
        """Nothing of it is left but its place."""
        assert client.lease is not None
        self.out.tell(client, Released(client.parting))
        self.registry.active, self._stirred = None, True
        # It is over: a node that comes with it later has to close it.
        self.registry.note(client.lease.number + 1)
        self._remove(client)
        self.out.log("info", f"{client.title} has left the cluster")

    # --- clients: the places that they name

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
                client.closed -= {node} if number >= client.first_own else set()
                self.leasing.offer_one(node, client, now)

    def on_allocate(self, envelope: Envelope, now: float) -> None:
        client, word = self.registry.clients.get(envelope.sender.epoch), envelope.message.allocation
        fault = fault_of(word)
        if client is None or fault:
            self.out.send(envelope.sender, messages.Notice(fault or "it left the queue", "warning"))
            return
        named, number = Named(word), len(client.named)
        client.named.append(named)
        has, unrestricted = (
            client.wants.allocations,
            client.wants.unrestricted or not client.wants.allocations,
        )
        client.wants = structs.replace(client.wants, allocations=[*has, word], unrestricted=unrestricted)
        for node in self.registry.nodes.values():
            if named.allocation.own or named.matches(node.info):
                client.closed.discard(node.epoch)
        if named.is_place:
            self.out.effects.append(Look(client.epoch, number))
        if client is self.registry.active:
            self.leasing.offer_all(client, now)

    def looked(self, epoch: int, fault: str, now: float) -> None:
        """The client waits no longer for its places to be found; with a fault it is turned away."""
        client = self.registry.clients.get(epoch)
        if client is None:
            return
        self._stir(now)
        client.looking = False
        self._queue_changed = True
        if fault and client.state is ClientState.QUEUED:
            self.out.tell(client, Turned(fault))
            self._remove(client)
        elif fault:  # it named the place later
            self.out.warn(client, fault)

    def tell(self, epoch: int, text: str, now: float) -> None:
        """A warning for a client."""
        client = self.registry.clients.get(epoch)
        if client is not None:
            self._stir(now)
            self.out.warn(client, text)
