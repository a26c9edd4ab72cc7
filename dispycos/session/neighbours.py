"""Talks with the runtime at the other end of each link: who it is, whether we can work with it, and that it lives.

It keeps the topology true, and tells its owner with each answer whether routes changed by what was said; which
way a session then goes is nothing that it knows. A link is closed only after its last word was taken: what is
said of that waits in `farewells`.
"""

from collections.abc import Iterable
from typing import Any, Final

from ..protocol.codec import control_packet, encode_control
from ..protocol.control import ROUTES_PER_RECORD, Bye, Control, LinkHello, Ping, Pong, Routes
from ..protocol.envelope import About
from ..protocol.errors import ProtocolError
from .alarms import Alarms
from .links import (
    CLIENT_ROLE,
    NODE_ROLE,
    RELAYS,
    ROLES,
    SCHEDULER_ROLE,
    SERVER_ROLE,
    CloseLink,
    Link,
    LinkLost,
    LinkReady,
    Topology,
)
from .liveness import Liveness, patience_for
from .relay import Relay

GREETING_PATIENCE: Final = 5.0
CLOSING_PATIENCE: Final = 3.0
NEIGHBOUR: Final = 0  # stands for the epoch of whoever is at the other end
TOKENS_MAX: Final = 16384  # of peers that are remembered


class Neighbours:
    """Each call that returns a bool says True when routes changed."""

    def __init__(
        self,
        epoch: int,
        about: About,
        role: str,
        topology: Topology,
        relay: Relay,
        alarms: Alarms,
        events: list[Any],
        token: int,
    ) -> None:
        self._token = token
        self._tokens: dict[int, int] = {}  # of those that have had a link
        self._epoch = epoch
        self._about = about
        self._role = role
        self._topology = topology
        self._advertised = topology.advertised
        self._relay = relay
        self._alarms = alarms
        self._events = events
        self.farewells: list[CloseLink] = []

    # A link comes and goes

    def link_up(self, new: Link, now: float) -> None:
        new.due = now + GREETING_PATIENCE
        self._topology.add(new)
        routes = [] if new.proven == SERVER_ROLE else list(self._advertised)
        first = routes[:ROUTES_PER_RECORD]
        self._tell(new, LinkHello(self._about, self._epoch, self._role, first, new.wanted, self._token))
        for start in range(ROUTES_PER_RECORD, len(routes), ROUTES_PER_RECORD):
            self._tell(new, Routes(routes[start : start + ROUTES_PER_RECORD], []))
        self._schedule(new)

    def link_down(self, link: int) -> bool:
        gone = self._topology.get(link)
        if gone is None:
            return False
        changed = self._retire(gone)
        self._topology.remove(gone)
        gone.due = None
        return changed

    def say_farewell(self, reason: str, link: int | None) -> None:
        for known in self._topology:
            if known.is_ready and link in (None, known.number):
                self._tell(known, Bye(reason))

    def expel(self, link: Link, reason: str) -> bool:
        """It did what is not allowed, or we cannot work with it: it hears why, and the link ends."""
        self._tell(link, Bye(reason))
        return self.close(link, reason)

    def close(self, link: Link, reason: str) -> bool:
        if link.is_closed:
            return False
        changed = self._retire(link)
        self.farewells.append(CloseLink(link.number, reason, refused=not (changed or link.is_closing)))
        link.is_closing = link.is_closed = True
        link.due = None
        return changed

    def _retire(self, link: Link) -> bool:
        """No more of ours leaves by this link."""
        if not link.is_ready:
            return False
        link.is_ready = False
        was_direct = self._topology.direct(link.epoch) is link
        self._topology.disconnect(link)
        if was_direct:
            self._events.append(LinkLost(link.number, link.epoch))
            self.advertise(remove=[link.epoch])
        self._relay.tell_flows(link)
        return True

    def _dismiss(self, link: Link, now: float) -> None:
        """The lesser of two links: we say our last word on it and wait for the peer's."""
        self._tell(link, Bye("there is another link"))
        link.is_closing = True
        link.due = now + CLOSING_PATIENCE
        self._schedule(link)

    def _tell(self, link: Link, record: Control) -> None:
        link.put(control_packet(self._epoch, NEIGHBOUR, encode_control(record)))

    # What is said on it

    def hear(self, link: Link, record: Control, now: float) -> bool:
        if isinstance(record, LinkHello):
            if link.epoch:
                raise ProtocolError("a second greeting")
            return self._greet(link, record, now)
        if isinstance(record, Bye):
            return self.close(link, f"the peer said: {record.reason}")
        if not link.epoch:
            raise ProtocolError("a word before the greeting")
        if isinstance(record, Routes):
            return self._on_routes(link, record)
        if isinstance(record, Ping):
            self._tell(link, Pong())
        elif not isinstance(record, Pong):
            raise ProtocolError(f"{type(record).__name__} is not said to a neighbour")
        return False

    def _greet(self, link: Link, hello: LinkHello, now: float) -> bool:
        reason = self._objection(link, hello)
        if reason:
            return self.expel(link, reason)
        link.epoch, link.role = hello.epoch, hello.role
        self._remember(hello)
        link.uplink |= self._role == NODE_ROLE and link.role == SCHEDULER_ROLE
        if hello.about.pid not in (0, link.pid):  # the kernel sees who passes it on: ssh, a proxy
            link.is_witnessed, link.pid = link.is_witnessed and not link.pid, 0
        patience = None if link.is_witnessed else patience_for(self._role, link.role)
        link.liveness = Liveness(patience, now) if patience else None
        link.due = link.liveness.deadline() if link.liveness else None
        older = self._topology.direct(link.epoch)
        if older is not None and not self._is_better(link, older):
            link.sources = {link.epoch, *hello.routes}
            self._dismiss(link, now)
            return False
        link.is_ready = True
        self._topology.connect(link)
        self._topology.learn(link, hello.routes)
        if older is not None:
            self._topology.disconnect(older)
            older.is_ready = False
            self._dismiss(older, now)
            self._relay.tell_flows(older)
        self._schedule(link)
        self._events.append(LinkReady(link.number, link.epoch, link.role, link.pid))
        if self._role == NODE_ROLE and link.role == SERVER_ROLE:
            self.advertise(add=[link.epoch])
        return True

    def _objection(self, link: Link, hello: LinkHello) -> str:
        """Why we cannot work with this peer, in words; nothing if we can."""
        low, high = hello.about.protocol
        own_low, own_high = self._about.protocol
        older = self._topology.direct(hello.epoch)
        if low > own_high or high < own_low:
            return f"{_describe(hello.about, 'the peer')}, {_describe(self._about, 'we')}"
        if hello.role not in ROLES or link.proven not in (None, hello.role):
            return f"it calls itself {hello.role!r}, but is known as {link.proven!r}"
        if hello.epoch in (NEIGHBOUR, self._epoch) or (older is not None and older.role != hello.role):
            return "it calls itself what another runtime is"
        if hello.wanted not in (0, self._epoch) or link.wanted not in (0, hello.epoch):
            return "another process than the one that was meant answers there"
        if self._tokens.get(hello.epoch, hello.token) != hello.token:
            return "it calls itself what another runtime is, without its token"
        if self._role == CLIENT_ROLE and not link.dialled and hello.role not in (SERVER_ROLE, CLIENT_ROLE):
            return f"only servers and other programs connect to a client, and it is a {hello.role}"
        if hello.routes and hello.role not in RELAYS:
            return f"a {hello.role} announced routes"
        return ""

    def _remember(self, hello: LinkHello) -> None:
        """The first word of a runtime counts: whoever says later that it is the same must know its token."""
        self._tokens[hello.epoch] = hello.token
        if len(self._tokens) > TOKENS_MAX:
            del self._tokens[next(iter(self._tokens))]

    def forget(self, epoch: int) -> None:
        """The session with that runtime is over."""
        self._tokens.pop(epoch, None)

    def _is_better(self, link: Link, older: Link) -> bool:
        """Both ends keep what the smaller epoch dialled, and the newer of two dialled by the same."""
        if link.dialled == older.dialled:
            return True
        return link.dialled == (self._epoch < link.epoch)

    # Routes

    def advertise(self, add: Iterable[int] = (), remove: Iterable[int] = ()) -> None:
        """Tells the neighbours which runtimes are behind us now; of an agent's servers they hear anyway."""
        new = [epoch for epoch in add if epoch not in self._advertised]
        old = [epoch for epoch in remove if epoch in self._advertised]
        self._advertised.update(dict.fromkeys(new))
        for epoch in old:
            del self._advertised[epoch]
        for start in range(0, max(len(new), len(old)), ROUTES_PER_RECORD):
            stop = start + ROUTES_PER_RECORD
            for link in self._topology:
                if link.proven != SERVER_ROLE and link.role != SERVER_ROLE and not link.is_closing:
                    self._tell(link, Routes(new[start:stop], old[start:stop]))

    def _on_routes(self, link: Link, routes: Routes) -> bool:
        if link.role not in RELAYS:
            raise ProtocolError(f"a {link.role} announced routes")
        if not link.is_ready:
            return False
        self._topology.learn(link, routes.add)
        self._topology.unlearn(link, routes.remove)
        return True

    # Time

    def _schedule(self, link: Link) -> None:
        if link.due is not None:
            self._alarms.set(link.due, link)

    def wake(self, link: Link, now: float) -> bool:
        if link.due is None or link.due > now:
            return False
        if link.is_closing or link.liveness is None:
            return self.close(link, "it did not answer in time")
        advice = link.liveness.wake(now)
        if advice == "down":
            return self.close(link, "it has been silent for too long")
        if advice == "ping":
            self._tell(link, Ping())
        link.due = link.liveness.deadline()
        self._schedule(link)
        return False


def _describe(about: About, default: str) -> str:
    low, high = about.protocol
    return f"{about.name or default} (dispycos {about.version}) speaks protocol {low} to {high}"
