"""Knows which links there are, who is at their other ends, and which link leads to whom."""

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from ..protocol.codec import Packet
from ..protocol.errors import ProtocolError
from .liveness import Liveness

ROUTES_MAX: Final = 16384
FLOWS_MAX: Final = 4096
NODE_ROLE: Final = "node"
SCHEDULER_ROLE: Final = "scheduler"
SERVER_ROLE: Final = "server"
CLIENT_ROLE: Final = "client"
VIEWER_ROLE: Final = "viewer"
ROLES: Final = frozenset((NODE_ROLE, SCHEDULER_ROLE, SERVER_ROLE, CLIENT_ROLE, VIEWER_ROLE))
RELAYS: Final = frozenset((NODE_ROLE, SCHEDULER_ROLE))


class LinkReady(NamedTuple):
    """The other end has told who it is, and both may talk."""

    link: int
    epoch: int
    role: str
    pid: int = 0  # its process, if the kernel told it and the other end says the same


class LinkLost(NamedTuple):
    """There is no direct link to this runtime any more."""

    link: int
    epoch: int


class CloseLink(NamedTuple):
    """The body shall close this link, after what is outgoing on it; the reason is for people to read."""

    link: int
    reason: str
    refused: bool = False  # the two ends cannot work together, or may not


class Link:
    """One connection, from link_up to link_down."""

    def __init__(
        self,
        number: int,
        busy: "list[Link]",
        *,
        dialled: bool,
        uplink: bool = False,
        proven: str | None = None,
        is_witnessed: bool = False,
        pid: int = 0,
        wanted: int = 0,
    ) -> None:
        self._busy = busy
        self.number = number
        self.dialled = dialled
        self.wanted = wanted
        self.uplink = uplink
        self.proven = proven
        self.epoch = 0
        self.role = ""
        self.is_witnessed = is_witnessed  # the end of the process at the other end is told by the kernel
        self.pid = (
            pid  # the process at the other end of the connection: it may only pass on what another one says
        )
        self.is_ready = False
        self.is_closing = False
        self.is_closed = False
        self.sources: set[int] = set()
        self.outbox: list[Packet] = []
        self.flows: dict[tuple[int, int], None] = {}
        self.liveness: Liveness | None = None
        self.due: float | None = None

    @property
    def is_trusted(self) -> bool:
        """True if blocks of any source may come by this link."""
        return self.uplink or self.role == SCHEDULER_ROLE

    def put(self, packet: Packet) -> None:
        if not self.outbox:
            self._busy.append(self)
        self.outbox.append(packet)

    def note_flow(self, source: int, target: int) -> None:
        """Remembers whom to tell when this link breaks; beyond the bound their timers have to do."""
        if len(self.flows) < FLOWS_MAX:
            self.flows[source, target] = None


class Topology:
    """Routes: a direct link, else a link behind which the runtime was announced, else an uplink."""

    def __init__(self) -> None:
        self._links: dict[int, Link] = {}
        self._direct: dict[int, Link] = {}
        self._behind: dict[int, list[Link]] = {}
        self._uplinks: list[Link] = []
        self.preferred = 0  # the epoch at the end of the uplink to use, where there are several
        self.advertised: dict[int, None] = {}  # the runtimes behind us, as the neighbours were told
        self.busy: list[Link] = []

    def __iter__(self) -> Iterator[Link]:
        return iter(list(self._links.values()))

    def add(self, link: Link) -> None:
        self._links[link.number] = link

    def get(self, number: int) -> Link | None:
        return self._links.get(number)

    def remove(self, link: Link) -> None:
        del self._links[link.number]

    def direct(self, epoch: int) -> Link | None:
        return self._direct.get(epoch)

    def route(self, epoch: int) -> Link | None:
        link = self._direct.get(epoch)
        if link is not None:
            return link
        links = self._behind.get(epoch)
        if links:
            return links[0]
        return self._direct.get(self.preferred) or (self._uplinks[0] if self._uplinks else None)

    def leads_to(self, link: Link, epoch: int) -> bool:
        """True while a session may stay on this link, though a better one may exist."""
        return self._direct.get(epoch) is link or link in self._behind.get(epoch, ()) or link in self._uplinks

    def connect(self, link: Link) -> None:
        """The link may be used from now on."""
        self._direct[link.epoch] = link
        link.sources.add(link.epoch)
        if link.uplink:
            self._uplinks.append(link)

    def disconnect(self, link: Link) -> None:
        """The link may not be used any more; what still comes by it is heard."""
        if self._direct.get(link.epoch) is link:
            del self._direct[link.epoch]
        if link in self._uplinks:
            self._uplinks.remove(link)
        for epoch in link.sources:
            self._detach(link, epoch)

    def learn(self, link: Link, epochs: Iterable[int]) -> None:
        for epoch in epochs:
            if epoch not in link.sources:
                link.sources.add(epoch)
                self._behind.setdefault(epoch, []).append(link)
        if len(link.sources) > ROUTES_MAX:
            raise ProtocolError(f"more than {ROUTES_MAX} routes by one link")

    def unlearn(self, link: Link, epochs: Iterable[int]) -> None:
        for epoch in epochs:
            if epoch != link.epoch:
                link.sources.discard(epoch)
                self._detach(link, epoch)

    def _detach(self, link: Link, epoch: int) -> None:
        links = self._behind.get(epoch)
        if links and link in links:
            links.remove(link)
            if not links:
                del self._behind[epoch]
