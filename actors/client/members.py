"""The nodes and servers of a client's lease, as they come, fall silent and go."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Final

from dispycos.errors import TaskRefused
from dispycos.notices import listing
from dispycos.protocol import messages
from dispycos.protocol.addresses import NODE, Address, Location
from dispycos.protocol.envelope import Envelope
from dispycos.protocol.messages import FilePlace, Marks, NodeInfo
from dispycos.protocol.status import OutcomeKind, Status
from dispycos.protocol.watching import Death

from ..dispatching.facts import Entry
from .control import Control
from .effects import Bury, Choose, Dial, HangUp, Pulsed, Scheduled
from .holdings import Holdings
from .owned import Tasks
from .places import file_places
from .setups import Setups

DEATH_TASKS_MAX: Final = 20  # that are named of a server that died
DEATH_S: Final = 1.0  # a server of this host that lives on so long after its node is gone is not waited for
SAID_AGAIN: Final = frozenset({Status.NodeDiscovered, Status.ServerInitialized})


class Members:
    def __init__(self, holdings: Holdings, tasks: Tasks) -> None:
        self._has = holdings
        self._tasks = tasks
        self._linked: set[int] = set()  # nodes to which there is a link of our own: epochs ...
        self._disconnected: set[int] = set()  # ... and those to which the scheduler has none
        self._distances: dict[int, float] = {}  # of servers on other hosts: seconds to them and back
        self._lost_early: set[int] = set()  # servers whose end was told before they were known
        self._nearby: set[int] = set()  # servers whose end is seen here ...
        self._ended_nearby: dict[int, Marks] = {}  # ... and was: what they had begun
        self._gone: dict[int, tuple[str, float]] = {}  # nodes: why, and until when servers' ends are awaited
        self._ends = ""  # why all nodes are gone, while the last servers are waited for
        self.setups = Setups(holdings)
        self.control = Control(holdings)
        self._initialized: set[int] = set()  # nodes of which that was said
        self.handlers: dict[type, Callable[[Envelope, float], None]] = {
            messages.NodeNews: self._on_node_news,
            messages.ServerNews: self._on_server_news,
            messages.ServerLost: self._on_server_lost,
            messages.Pulse: self._on_pulse,
            messages.Settled: self._on_settled,
            messages.Hopeless: self._on_hopeless,
            messages.SetupWanted: self._on_setup_wanted,
            messages.SetupDone: self._on_setup_done,
            messages.Offer: lambda envelope, now: holdings.effects.append(Choose(envelope.message)),
            messages.CloseWanted: self.control.on_close_wanted,
            messages.PlaceWanted: self._on_place_wanted,
        }

    def file_places(self, where: str | Location) -> list[FilePlace]:
        """Who takes files there. Raises TaskRefused."""
        return file_places(where, self._has.nodes, self._has.servers, self.setups.places())

    def _on_place_wanted(self, envelope: Envelope, now: float) -> None:
        word: messages.PlaceWanted = envelope.message
        where = Location(word.addr, word.port) if word.port else word.addr
        try:
            answer = messages.PlaceGiven(self.file_places(where))
        except TaskRefused as error:
            answer = messages.PlaceGiven([], str(error))
        self._has.send(envelope.sender, answer, envelope.correlation)

    def deadline(self) -> float | None:
        due = [until for _, until in self._gone.values()]
        if (say_at := self.setups.deadline()) is not None:
            due.append(say_at)
        return min(due, default=None)

    def wake(self, now: float) -> None:
        self.setups.wake(now)
        self.lose_gone(now)

    @property
    def all_gone(self) -> str:
        """Why nobody is there any more and nobody will come, once that is so."""
        return self._ends if not self._gone else ""

    # --- nodes ---

    def _on_node_news(self, envelope: Envelope, now: float) -> None:
        word: messages.NodeNews = envelope.message
        node, dispatcher, text = word.node, self._has.dispatcher, word.text
        if word.status in (Status.NodeDiscovered, Status.NodeInitialized, Status.NodeResumed):
            if node.epoch in self._gone:
                self.lose_gone(math.inf)  # it is another lease
            self._has.nodes[node.epoch] = node
            names = (node.name, node.addr, f"{node.addr}:{node.port}")
            dispatcher.node_up(node.epoch, node.name, names, node.resources)
            self._disconnected.discard(node.epoch)
            dispatcher.node_heard(node.epoch)
            if word.status != Status.NodeDiscovered:  # before it has granted the lease it knows nothing of us
                self._has.effects.append(Dial(node))
        elif word.status == Status.NodeDisconnected:
            self._disconnected.add(node.epoch)
            if node.epoch in self._linked:
                text += "; it has one to this program, and goes on"
            else:
                dispatcher.node_silent(node.epoch, now)
                text += _what_goes_on(dispatcher.had_by_node(node.epoch))
        elif word.status in (Status.NodeClosed, Status.NodeAbandoned):
            self._lose_node(node, now)
        if word.text and not self._has.is_releasing:
            self._has.say(f"node {node.name}: {text}", "warning")
        if word.status != Status.NodeInitialized and not self._is_old(node.epoch, word.status):
            self._has.tell(Status(word.status), node)  # that it is initialized it says itself ...
            if word.status == Status.NodeDiscovered and node.epoch in self._initialized:
                self._has.tell(Status.NodeInitialized, node)  # ... and has already

    def _is_old(self, epoch: int, status: int) -> bool:
        """A scheduler that was started anew says again what there is."""
        return epoch in self._has.had and status in SAID_AGAIN

    # --- what comes before the first task ---

    def _on_setup_wanted(self, envelope: Envelope, now: float) -> None:
        word: messages.SetupWanted = envelope.message
        if word.spot is not None:
            self._initialize(word.node)
            self._has.tell(Status.ServerDiscovered, Location(word.spot.addr, word.spot.port))
        else:
            self.control.node_renewed(envelope.sender.epoch)
        self.setups.asked(envelope, now)

    def _on_setup_done(self, envelope: Envelope, now: float) -> None:
        self.setups.done(envelope.sender.epoch)
        self._initialize(envelope.sender.epoch)

    def _initialize(self, epoch: int) -> None:
        """Its servers are started; of a node that is started anew that is no news."""
        if epoch not in self._initialized:
            self._initialized.add(epoch)
            if epoch in self._has.nodes:  # else its scheduler has not told of it yet
                self._has.tell(Status.NodeInitialized, self._has.nodes[epoch])

    # --- links ---

    def link_ready(self, epoch: int) -> None:
        """To this process: a node that the scheduler does not hear gets tasks all the same."""
        self._linked.add(epoch)
        if epoch in self._disconnected:
            self._has.is_changed = True
            self._has.dispatcher.node_heard(epoch)

    def link_lost(self, epoch: int, now: float) -> None:
        self._linked.discard(epoch)
        if epoch in self._disconnected and epoch in self._has.nodes:
            self._has.dispatcher.node_silent(epoch, now)
            goes_on = _what_goes_on(self._has.dispatcher.had_by_node(epoch))
            self._has.say(
                f"node {self._has.nodes[epoch].name}: nor is there a link to this program any more{goes_on}",
                "warning",
            )

    def private_died(self, now: float) -> None:
        """The process of a private scheduler, and with it the node that is an actor of the same process."""
        assert self._has.scheduler is not None
        self._has.is_changed = True
        node = self._has.nodes.get(self._has.scheduler.epoch)
        if node is not None:
            self._lose_node(node, now)

    def all_lost(self, reason: str, now: float) -> None:
        """The private scheduler has ended, and its node with it: what servers had begun is told from what waited."""
        self._ends = reason
        for epoch in self._has.dispatcher.fleet.nodes:
            self._has.dispatcher.node_silent(epoch, now)
            self._gone[epoch] = (reason, now + DEATH_S)
        self._has.is_changed = True
        self.lose_gone(now)

    def _lose_node(self, node: NodeInfo, now: float) -> None:
        self._has.nodes.pop(node.epoch, None)
        self._initialized.discard(node.epoch)
        self.setups.done(node.epoch)
        self.control.node_lost(node.epoch)
        self._disconnected.discard(node.epoch)
        self._has.effects.append(HangUp(node.epoch))
        self._has.dispatcher.node_silent(node.epoch, now)
        self._gone[node.epoch] = (f"node {node.name} is gone", now + DEATH_S)
        self.lose_gone(now)

    def _on_pulse(self, envelope: Envelope, now: float) -> None:
        word: messages.Pulse = envelope.message
        node = self._has.nodes.get(word.node)
        if node is not None:
            self._has.nodes[word.node] = node = node._replace(available=word.available)
            if self._has.wants_news:
                self._has.effects.append(Pulsed(node))

    def _on_settled(self, envelope: Envelope, now: float) -> None:
        self._has.effects.append(Scheduled())

    def _on_hopeless(self, envelope: Envelope, now: float) -> None:
        word: messages.Hopeless = envelope.message
        if word.node:
            self._has.dispatcher.node_failed(word.node, word.reason)
        else:
            self._has.dispatcher.end_waiting(OutcomeKind.REFUSED, word.reason)

    def session_lost(self, epoch: int, unconfirmed: Iterable[Envelope]) -> None:
        """What was on its way is lost with it. What a node was asked for it is asked for again."""
        self._has.dispatcher.session_reset(epoch)
        for envelope in unconfirmed:
            if envelope.to.actor == NODE and epoch in self._has.nodes:
                self._has.send(envelope.to, envelope.message)

    def distance_is(self, epoch: int, seconds: float) -> None:
        """A word to this process and its answer travel for so long."""
        self._distances[epoch] = seconds  # a server may ask for code before it is known to be one
        self._has.dispatcher.session_is(epoch, seconds)

    # --- servers ---

    def _on_server_news(self, envelope: Envelope, now: float) -> None:
        word: messages.ServerNews = envelope.message
        epoch = word.spot.epoch
        if word.status in (Status.ServerClosed, Status.ServerAbandoned):
            self._has.servers.pop(epoch, None)  # what becomes of its tasks its node says
        elif word.status == Status.ServerInitialized and epoch not in self._lost_early:
            self.setups.server_done(word.spot)
            self._has.servers[epoch] = (word.spot, word.node)
            self._has.locations[epoch] = Location(word.spot.addr, word.spot.port)
            if word.node in self._has.dispatcher.fleet.nodes:
                distance = self._distances.get(epoch, 0.0)
                self._has.dispatcher.server_up(epoch, word.spot.name, word.node, distance)
                self.control.server_up(word.spot, word.node)
        if word.text and not self._has.is_releasing:
            self._has.say(f"server {word.spot.name} {word.text}", "warning")
        if not self._is_old(epoch, word.status):
            self._has.tell(Status(word.status), Location(word.spot.addr, word.spot.port))

    def _on_server_lost(self, envelope: Envelope, now: float) -> None:
        """Its node speaks for it: what had begun is lost, the rest is given to others."""
        word: messages.ServerLost = envelope.message
        if word.server not in self._has.dispatcher.fleet.servers:
            self._lost_early.add(word.server)
        self._note_death(word.server, word.text, now, expected=word.closing)
        self._lose_servers([word.server])
        cpu, io = word.marks or (None, None)
        self._has.dispatcher.server_lost(word.server, word.text, cpu, io, closing=word.closing)

    def server_nearby(self, epoch: int) -> None:
        """A server of this host: its end will be told here, whatever becomes of its node."""
        self._nearby.add(epoch)

    def server_ended(self, epoch: int, marks: Marks, now: float) -> None:
        """One of these, after all that it had sent. What becomes of its tasks its node says, if that is not gone with it."""
        self._has.is_changed = True
        self._ended_nearby[epoch] = marks
        self.lose_gone(now)

    def lose_gone(self, now: float) -> None:
        """Nodes that are gone, and their servers with them. Of those whose end is not seen here nobody knows what had begun."""
        awaited = self._nearby - self._ended_nearby.keys()
        for epoch, (text, until) in list(self._gone.items()):
            known = self._has.dispatcher.fleet.nodes.get(epoch)
            servers = list(known.servers) if known is not None else []
            dead = [server for server in servers if server not in awaited or now >= until]
            for server in dead:
                self._note_death(server, text, now, expected=self._has.is_releasing)
            marks = {server: self._ended_nearby.get(server, (None, None)) for server in dead}
            self._lose_servers(dead)
            for server, (cpu, io) in marks.items():
                self._has.dispatcher.server_lost(server, text, cpu, io)
            if dead == servers:
                del self._gone[epoch]
                self._has.dispatcher.node_lost(epoch, text)

    def _note_death(self, epoch: int, text: str, now: float, *, expected: bool) -> None:
        """For who looks later."""
        server, where = self._has.dispatcher.fleet.servers.get(epoch), self._has.locations.get(epoch)
        if server is not None and where is not None:
            had = [*islice(server.cpu, 1), *server.io.values()][:DEATH_TASKS_MAX]
            tasks = [(entry.task.number, entry.function) for entry in had]
            node = server.node.title
            death = Death(0, 0.0, epoch, server.name, where.addr, where.port, node, text, expected, tasks)
            self._has.tally.died(death, now)

    def _lose_servers(self, epochs: list[int]) -> None:
        """The others may wait for an answer of theirs, unless they all end."""
        for epoch in epochs:
            self._tasks.server_gone(epoch)
            self._has.servers.pop(epoch, None)
            self._has.locations.pop(epoch, None)
            self._distances.pop(epoch, None)
            self._nearby.discard(epoch)
            self._ended_nearby.pop(epoch, None)
            self._has.effects.append(Bury(epoch))
        for node in self._has.nodes if epochs and not self._has.is_released else ():
            self._has.send(Address(node, NODE), messages.Gone(epochs))

    def lease_ended(self) -> None:
        """The servers end with it, and nobody will tell us of each."""
        self._has.effects.extend(Bury(epoch) for epoch in self._has.dispatcher.fleet.servers)
        self._has.servers.clear()
        self._nearby.clear()
        self._ended_nearby.clear()
        self._gone.clear()
        self._ends = ""


def _what_goes_on(entries: list[Entry]) -> str:
    """On a node that is silent, for people."""
    if not entries:
        return ""
    return f"; {listing(entry.function for entry in entries)} may still run there"
