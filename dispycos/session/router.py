"""Decides by which link each block leaves: of the sessions of this runtime, and of those it only passes on.

One per runtime, without socket, clock or thread. Its owner feeds it the frames that arrive, calls `flush`
once per turn and `wake` at the deadline, and carries out what the `take_` calls bring. A link is closed only
after its last word was taken.
"""

import itertools
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from ..protocol.codec import RECORD, Codec, Packet, decode_control, decode_message, encode_message, group
from ..protocol.control import Hello, PathUp, Reset, Unreachable
from ..protocol.envelope import About, Buffer, Envelope
from ..protocol.errors import ProtocolError
from ..protocol.watching import Peer
from .alarms import Alarms
from .channel import Local
from .links import CloseLink, Link, LinkLost, LinkReady, Topology
from .neighbours import NEIGHBOUR, Neighbours
from .packing import Known
from .relay import Relay
from .session import PeerDistance, PeerReset, Session, reset_block

SESSIONS_MAX: Final = 16384
BURIED_MAX: Final = 4096


class Unsent(NamedTuple):
    """A message of ours that cannot be sent, because of what is in it: said to its owner, since nobody else is to suffer."""

    envelope: Envelope
    reason: str


Event = LinkReady | LinkLost | CloseLink | PeerReset | PeerDistance | Unsent


class _Peer:
    """A session and the link that it uses."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.link: Link | None = None
        self.moving_to: Link | None = None
        self.is_reachable = True
        self.scheduled: float | None = None


class Router:
    def __init__(
        self,
        codec: Codec[Any],
        epoch: int,
        about: About,
        role: str,
        *,
        token: int = 0,
    ) -> None:
        self.epoch = epoch
        self.role = role
        self._now = 0.0
        self._addresses = Known(epoch)
        self._deliveries: list[Envelope] = []
        self._events: list[Event] = []
        self._local = Local(
            codec,
            epoch,
            itertools.count(1),
            self._addresses,
            self._deliveries,
            self._events,
        )
        self._alarms = Alarms()
        self._topology = Topology()
        self._relay = Relay(self._topology, epoch, role)
        self._neighbours = Neighbours(
            epoch, about, role, self._topology, self._relay, self._alarms, self._events, token
        )
        self._farewells = self._neighbours.farewells
        self._peers: dict[int, _Peer] = {}
        self._dirty: dict[int, _Peer] = {}
        self._fresh: dict[int, _Peer] = {}
        self._buried: dict[int, None] = {}

    # Links

    def link_up(
        self,
        link: int,
        now: float,
        *,
        dialled: bool,
        uplink: bool = False,
        role: str | None = None,
        witnessed: bool = False,
        pid: int = 0,
        wanted: int = 0,
    ) -> None:
        """A connection exists; `role` is what authentication proved, None where the peer's word is enough.

        `witnessed`: the kernel tells when the process at the other end has ended, so its silence means nothing; `pid`: which one.
        `wanted`: the only epoch that may be at the other end.
        """
        self._now = now
        new = Link(
            link,
            self._topology.busy,
            dialled=dialled,
            uplink=uplink,
            proven=role,
            is_witnessed=witnessed,
            pid=pid,
            wanted=wanted,
        )
        self._neighbours.link_up(new, now)

    def link_down(self, link: int, now: float) -> None:
        """A connection is gone, with whatever was on its way."""
        self._now = now
        if self._neighbours.link_down(link):
            self._reroute_all(now)

    def say_farewell(self, reason: str, link: int | None = None) -> None:
        """The last word on this link, or on all: the other end need not find out by our silence, nor take for lost what is here."""
        for peer in self._peers.values() if link is None else ():
            if peer.session.hurry_acks():
                self._pump(peer, self._now)
        self._neighbours.say_farewell(reason, link)

    def prefer(self, epoch: int) -> None:
        """Of several uplinks use the one to this runtime: a node reaches its client by the lease's scheduler."""
        self._topology.preferred = epoch
        self._reroute_all(self._now)

    def learn_way(self, epoch: int, by: int, now: float) -> None:
        """That runtime can be reached by this neighbour, the layer above was told; a link of its own goes before that."""
        link = self._topology.direct(by)
        if link is not None and epoch != self.epoch and epoch not in link.sources:
            self._topology.learn(link, [epoch])
            self._reroute_all(now)

    # Arriving

    def receive(self, link: int, frames: Sequence[Buffer], now: float) -> None:
        """One ZeroMQ message; what is not allowed closes the link and nothing else."""
        self._now = now
        source = self._topology.get(link)
        if source is None or source.is_closed:
            return  # it was on its way when the link was given up
        if source.liveness is not None:
            source.liveness.heard(now)
        try:
            for packet in decode_message(frames):
                if not source.is_closed:
                    self._accept(source, packet, now)
        except ProtocolError as error:
            if self._neighbours.expel(source, str(error)):
                self._reroute_all(now)

    def _accept(self, link: Link, packet: Packet, now: float) -> None:
        block = packet.block
        if block.to_epoch == NEIGHBOUR:
            if self._neighbours.hear(link, decode_control(block.body), now):
                self._reroute_all(now)
            return
        if not link.is_trusted and block.from_epoch not in link.sources:
            raise ProtocolError(f"a block of {block.from_epoch:x} by a link that is not its own")
        if not link.epoch or block.from_epoch == self.epoch:
            raise ProtocolError("a block before the greeting, or one of our own")
        if block.to_epoch != self.epoch:
            self._relay.forward(link, packet)
            return
        try:
            self._on_own(link, packet, now)
        except ProtocolError as error:
            self._abandon(packet, str(error), now)
            if block.from_epoch == link.epoch:
                raise

    def _on_own(self, link: Link, packet: Packet, now: float) -> None:
        block = packet.block
        record = decode_control(block.body) if block.flags & RECORD else None
        if isinstance(record, Unreachable):
            self._on_unreachable(link, record, now)
            return
        if isinstance(record, PathUp):
            self._on_path_up(record, now)
            return
        peer = self._peers.get(block.from_epoch)
        if peer is None:
            if block.from_epoch in self._buried:
                return  # its last words were late
            if isinstance(record, Hello):
                peer = self._meet(block.from_epoch)
            else:
                if record is None:
                    self._answer(link, reset_block(packet, self.epoch))
                return
        if not peer.is_reachable:  # a word from the peer: there is a way
            self._choose(peer, self._topology.route(block.from_epoch), now)
        if record is None:
            peer.session.receive(packet, now)
            self._fresh[block.from_epoch] = peer  # take_deliveries does the rest
            return
        if isinstance(record, Hello):
            peer.session.on_hello(record, now)
        elif isinstance(record, Reset):
            peer.session.on_reset(record, now)
        else:
            raise ProtocolError(f"{type(record).__name__} is not said to a peer")
        self._collect(peer, now)
        self._dirty[block.from_epoch] = peer

    def _answer(self, link: Link, packet: Packet) -> None:
        (self._topology.route(packet.block.to_epoch) or link).put(packet)

    def _abandon(self, packet: Packet, fault: str, now: float) -> None:
        """The peer broke the rules inside its session: it ends, or the same would come again for ever."""
        peer = self._peers.get(packet.block.from_epoch)
        if peer is not None:
            link = peer.link
            unconfirmed = self.forget(packet.block.from_epoch, now)
            self._events.append(PeerReset(packet.block.from_epoch, unconfirmed, fault))
            if link is not None:
                link.put(reset_block(packet, self.epoch))

    # Sessions

    def send(self, envelope: Envelope, now: float) -> bool:
        """Takes a message; it leaves with the next flush. True if a block is full: `take_outgoing` has it now."""
        epoch = envelope.to.epoch
        peer = self._peers.get(epoch)
        if peer is None:
            if epoch == self.epoch:
                self._deliveries.append(envelope)
                return False
            if epoch in self._buried:
                self._events.append(PeerReset(epoch, [envelope]))
                return False
            peer = self._meet(epoch)
            self._choose(peer, self._topology.route(epoch), now)
        try:
            is_full: bool = peer.session.puts[envelope.message.way](envelope)
        except Exception as error:  # msgspec's are of many kinds
            self._events.append(
                Unsent(envelope, f"{type(envelope.message).__name__} cannot be sent: {error}")
            )
            return False
        if is_full:
            self._pump(peer, now)
        self._dirty[epoch] = peer
        return is_full

    def flush(self, now: float) -> None:
        """Sends all that may be sent; call it once per turn, after the deliveries were taken."""
        self._now = now
        dirty, self._dirty = self._dirty, {}
        for peer in dirty.values():
            self._pump(peer, now)

    def forget(self, epoch: int, now: float) -> list[Envelope]:
        """The peer is dead, says the layer above: what it had not confirmed, in order."""
        peer = self._peers.pop(epoch, None)
        if peer is None:
            return []
        self._dirty.pop(epoch, None)
        self._fresh.pop(epoch, None)
        if not self.is_linked(epoch):
            self._neighbours.forget(epoch)
        peer.scheduled = None
        return peer.session.end()

    def bury(self, epoch: int, now: float) -> list[Envelope]:
        """As forget, for a process that will never speak again: what is sent to it later is handed back at once."""
        link = self._topology.direct(epoch)
        # A listener gets no word when a peer is killed.
        if link is not None and self._neighbours.close(link, "its process is dead"):
            self._reroute_all(now)
        self._buried[epoch] = None
        while len(self._buried) > BURIED_MAX:
            del self._buried[next(iter(self._buried))]
        return self.forget(epoch, now)

    def is_buried(self, epoch: int) -> bool:
        """True for one that is dead, as the layer above has said."""
        return epoch in self._buried

    def is_linked(self, epoch: int) -> bool:
        """True while there is a direct link to this runtime."""
        return self._topology.direct(epoch) is not None

    def check(self) -> None:
        """What must hold between two calls, in every session."""
        for peer in self._peers.values():
            peer.session.check()

    @property
    def has_news(self) -> bool:
        """True while deliveries or events wait to be taken."""
        return bool(self._deliveries or self._events)

    @property
    def is_dirty(self) -> bool:
        """True while a flush may have something to send."""
        return bool(self._dirty)

    @property
    def is_quiet(self) -> bool:
        """True when everything sent to anybody who can be reached is confirmed."""
        return not any(
            peer.is_reachable and peer.link is not None and peer.session.is_busy()
            for peer in self._peers.values()
        )

    def is_busy(self, epoch: int) -> bool:
        """True while something for this peer is unconfirmed, unsent or unanswered."""
        peer = self._peers.get(epoch)
        return peer is not None and peer.session.is_busy()

    def can_reach(self, epoch: int) -> bool:
        """Whether there is a way to this peer, as far as is known."""
        peer = self._peers.get(epoch)
        return peer is not None and peer.link is not None and peer.is_reachable

    def busy_peers(self) -> list[int]:
        """Those with whom something is unconfirmed, unsent or unanswered."""
        return [epoch for epoch, peer in self._peers.items() if peer.session.is_busy()]

    def neighbours(self, role: str = "") -> list[int]:
        """Those to whom a direct link is ready: of this role, or all."""
        return [link.epoch for link in self._topology if link.is_ready and role in ("", link.role)]

    def peers(self) -> list[Peer]:
        """All that there is a session with, and the way of it."""
        told = []
        for epoch, peer in self._peers.items():
            link = peer.link
            if link is None:
                way, role = "no way", ""
            elif link.epoch == epoch:
                way, role = "direct", link.role
            else:
                way, role = f"relayed by the {link.role}", ""
            told.append(Peer(epoch, role, way, *peer.session.traffic()))
        return told

    def _meet(self, epoch: int) -> _Peer:
        if len(self._peers) >= SESSIONS_MAX:
            raise ProtocolError(f"more than {SESSIONS_MAX} peers")
        peer = self._peers[epoch] = _Peer(Session(self._local, epoch))
        peer.link = self._topology.route(epoch)
        return peer

    def _choose(self, peer: _Peer, link: Link | None, now: float) -> None:
        """The session uses this link from now on, and asks what was lost on the other."""
        peer.link, peer.moving_to = link, None
        peer.is_reachable = True
        if link is not None:
            peer.session.resync(now)
            self._collect(peer, now)

    def _reroute_all(self, now: float) -> None:
        for peer in self._peers.values():
            self._reroute(peer, now)
        self._relay.tell_path_up()

    def _reroute(self, peer: _Peer, now: float, *, patient: bool = True) -> None:
        """A living route is left only when all that went by it is confirmed; so order costs nothing."""
        epoch = peer.session.peer
        best = self._topology.route(epoch)
        old = peer.link
        if best is old:
            peer.moving_to = None
            return
        is_usable = old is not None and old.is_ready and self._topology.leads_to(old, epoch)
        if not is_usable or not peer.is_reachable or not patient:
            self._choose(peer, best, now)
        elif not peer.session.is_in_flight():
            peer.link, peer.moving_to = best, None
        elif peer.moving_to is not best:
            peer.moving_to = best
            peer.session.resync(now)
            self._collect(peer, now)
        self._dirty[epoch] = peer

    def _on_unreachable(self, link: Link, record: Unreachable, now: float) -> None:
        peer = self._peers.get(record.epoch)
        if peer is not None and peer.link is link and peer.is_reachable:
            peer.is_reachable = False
            peer.session.doubt(now)
            self._collect(peer, now)

    def _on_path_up(self, record: PathUp, now: float) -> None:
        peer = self._peers.get(record.epoch)
        if peer is not None:
            self._choose(peer, self._topology.route(record.epoch), now)
            self._dirty[record.epoch] = peer

    def _pump(self, peer: _Peer, now: float) -> None:
        session = peer.session
        link = self._topology.route(session.peer)
        if peer.link is not link:
            self._reroute(peer, now)
            link = peer.link
        if link is None or peer.moving_to is not None or not peer.is_reachable:
            return
        session.pump(now)
        self._collect(peer, now)

    def _collect(self, peer: _Peer, now: float) -> None:
        """What the session wants to send goes to its link, if there is one."""
        session = peer.session
        if session.outbox:
            if peer.link is not None:
                for packet in session.outbox:
                    peer.link.put(packet)
            session.outbox.clear()
        deadline = session.deadline()
        if deadline is not None and (peer.scheduled is None or deadline < peer.scheduled):
            peer.scheduled = deadline
            self._alarms.set(deadline, peer)

    # Time

    def deadline(self) -> float | None:
        if self._events or self._farewells:
            return self._now
        return self._alarms[0][0] if self._alarms else None

    def wake(self, now: float) -> None:
        self._now = now
        alarms = self._alarms
        while alarms and alarms[0][0] <= now:
            when, sleeper = alarms.pop_first()
            if isinstance(sleeper, Link):
                if self._neighbours.wake(sleeper, now):
                    self._reroute_all(now)
            elif isinstance(sleeper, _Peer) and sleeper.scheduled == when:
                sleeper.scheduled = None
                self._wake_peer(sleeper, now)

    def _wake_peer(self, peer: _Peer, now: float) -> None:
        session = peer.session
        if session.wake(now) and peer.link is not self._topology.route(session.peer):
            self._reroute(peer, now, patient=False)
        self._collect(peer, now)

    # What the body fetches

    def take_deliveries(self) -> list[Envelope]:
        """The messages for actors of this runtime; taking them is what gives their senders new credit."""
        if self._fresh:
            for epoch, peer in self._fresh.items():
                session = peer.session
                session.consume(self._now)
                self._collect(peer, self._now)
                if session.wants_pump():
                    self._dirty[epoch] = peer
            self._fresh.clear()
        taken = self._deliveries[:]
        self._deliveries.clear()
        return taken

    def take_outgoing(self) -> list[tuple[int, list[Buffer]]]:
        """ZeroMQ messages to send: link, frames. What is closed after them becomes an event only now."""
        outgoing: list[tuple[int, list[Buffer]]] = []
        for link in self._topology.busy:
            outgoing += [(link.number, encode_message(packets)) for packets in group(link.outbox)]
            link.outbox.clear()
        self._topology.busy.clear()
        if self._farewells:
            self._events += self._farewells
            self._farewells.clear()
        return outgoing

    def take_events(self) -> list[Event]:
        taken = self._events[:]
        self._events.clear()
        return taken
