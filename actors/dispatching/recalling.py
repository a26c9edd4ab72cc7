"""Who is asked to give back what it has not begun: what waits behind a long step, and what waits while others idle."""

from __future__ import annotations

from .facts import READY, Server
from .fleet import Fleet
from .placement import STALL_S, recallable, stalls_at


class Recalling:
    """The servers that have something which waits, and when to look at them."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self._watched: dict[Server, None] = {}
        self._look_at: float | None = None
        self._even_out_at: float | None = None  # servers idle, and tasks wait at others, since STALL_S before

    @property
    def deadline(self) -> float | None:
        times = [at for at in (self._look_at, self._even_out_at) if at is not None]
        return min(times, default=None)

    def watch(self, server: Server) -> None:
        """It was given something, or changed: may something wait there?"""
        if _has_waiting(server):
            self._watched[server] = None
            self._arm(stalls_at(server, True))

    def forget(self, server: Server) -> None:
        """It is gone."""
        self._watched.pop(server, None)

    def weigh(self, is_empty: bool, now: float) -> None:
        """After a pass: do servers idle while tasks wait at others? Then see whether that lasts."""
        if not (self._watched and is_empty and self.fleet.choice.nodes):
            self._even_out_at = None
        elif self._even_out_at is None:
            self._even_out_at = now + STALL_S

    def due(self, now: float) -> list[tuple[Server, int]]:
        """Each is to be sent a Recall for what is behind this position."""
        asked: list[tuple[Server, int]] = []
        if self._look_at is not None and self._look_at <= now:
            asked += self._look(now)
        if self._even_out_at is not None and self._even_out_at <= now:
            self._even_out_at = now + STALL_S
            asked += self._even_out({server for server, _ in asked})
        return asked

    def _look(self, now: float) -> list[tuple[Server, int]]:
        """Behind long steps."""
        stuck = []
        is_wanted = bool(self.fleet.choice.nodes)
        self._look_at = None
        for server in list(self._watched):
            if not _has_waiting(server):
                del self._watched[server]
            elif stalls_at(server, is_wanted) > now:
                self._arm(min(stalls_at(server, is_wanted), now + STALL_S))  # one may idle by then
            elif server.phase is READY and server.asked_of != server.cpu[0].position and recallable(server):
                server.asked_of = server.cpu[0].position
                stuck.append((server, _last_to_keep(server)))
        return stuck

    def _arm(self, at: float) -> None:
        if self._look_at is None or at < self._look_at:
            self._look_at = at

    def _even_out(self, asked: set[Server]) -> list[tuple[Server, int]]:
        """Half of what waits at the fullest, one for each that idles; what is still uneven then is halved again."""
        idle = sum(len(node.free) for node in self.fleet.choice.nodes.level_of)
        counts = [
            (recallable(server), server)
            for server in self._watched
            if server.phase is READY and server not in asked and server.cpu
        ]
        counts.sort(key=lambda pair: -pair[0])
        halves = []
        for count, server in counts[:idle]:
            if count:
                halves.append((server, server.cpu[-((count + 1) // 2)].position - 1))
        return halves


def _has_waiting(server: Server) -> bool:
    """An io task may keep the thread from a CPU task, as another CPU task does."""
    return bool(server.cpu) and (len(server.cpu) > 1 or bool(server.io))


def _last_to_keep(server: Server) -> int:
    """All is asked back but the first, which has begun; unless an io task may keep the thread."""
    head = server.cpu[0]
    return head.position - 1 if server.io and not head.placed else head.position
