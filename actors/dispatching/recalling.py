"""Who is asked to give back what it has not begun: what waits behind a long step, and what waits while others idle."""

from __future__ import annotations

from .facts import READY, Entry, FleetServer
from .fleet import Fleet
from .placement import STALL_S, recallable, stalls_at


class Recalling:
    """The servers that have something which waits, and when to look at them."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self._watched: dict[FleetServer, None] = {}
        self._look_at: float | None = None
        self._even_out_at: float | None = None  # servers idle, and tasks wait at others, since STALL_S before

    @property
    def deadline(self) -> float | None:
        look, even_out = self._look_at, self._even_out_at
        if look is None or even_out is None:
            return look if even_out is None else even_out
        return min(look, even_out)

    def watch(self, server: FleetServer) -> None:
        """It was given something, or changed: may something wait there?"""
        if _has_waiting(server):
            self._watched[server] = None
            self._arm(stalls_at(server, True))

    def forget(self, server: FleetServer) -> None:
        self._watched.pop(server, None)

    def weigh(self, is_empty: bool, now: float) -> None:
        """After a pass: do servers idle while tasks wait at others? Then see whether that lasts."""
        if not (self._watched and is_empty and self.fleet.choice.nodes):
            self._even_out_at = None
        elif self._even_out_at is None:
            self._even_out_at = now + STALL_S

    def due(self, now: float) -> list[tuple[FleetServer, int]]:
        """Each is to be sent a Recall for what is behind this position."""
        asked: list[tuple[FleetServer, int]] = []
        if self._look_at is not None and self._look_at <= now:
            asked += self._look(now)
        if self._even_out_at is not None and self._even_out_at <= now:
            self._even_out_at = now + STALL_S
            asked += self._even_out({server for server, _ in asked})
        return asked

    def _look(self, now: float) -> list[tuple[FleetServer, int]]:
        stuck = []
        is_wanted = bool(self.fleet.choice.nodes)
        self._look_at = None
        for server in list(self._watched):
            if not _has_waiting(server):
                del self._watched[server]
            elif stalls_at(server, is_wanted) > now:
                self._arm(min(stalls_at(server, is_wanted), now + STALL_S))  # one may idle by then
            elif server.phase is READY and server.asked_of != server.cpu[0].position:
                behind = recallable(server)
                if behind and behind[0] is server.cpu[0] and not self._may_move(behind[0]):
                    del behind[0]  # it would come back
                if behind:
                    server.asked_of = server.cpu[0].position
                    stuck.append((server, behind[0].position - 1))
        return stuck

    def _arm(self, at: float) -> None:
        if self._look_at is None or at < self._look_at:
            self._look_at = at

    def _even_out(self, asked: set[FleetServer]) -> list[tuple[FleetServer, int]]:
        """Half of what waits at the fullest, one for each that idles; what is still uneven then is halved again."""
        idle = sum(len(node.free) for node in self.fleet.choice.nodes.level_of)
        waiting = [
            self._movable(server)
            for server in self._watched
            if server.phase is READY and server not in asked and server.cpu
        ]
        waiting.sort(key=len, reverse=True)
        halves = []
        for entries in waiting[:idle]:
            if entries:
                first = entries[-((len(entries) + 1) // 2)]
                assert first.at is not None
                halves.append((first.at, first.position - 1))
        return halves

    def _movable(self, server: FleetServer) -> list[Entry]:
        return [entry for entry in recallable(server) if self._may_move(entry)]

    def _may_move(self, entry: Entry) -> bool:
        """To a server that idles."""
        idle, pin = self.fleet.choice.nodes.level_of, entry.pin
        if pin is None or not idle:
            return bool(idle)
        here = entry.at.node if entry.at is not None else None  # where it would get what it has again
        return any(node in idle and (node is here or node.has(pin.needs)) for node in pin.nodes)


def _has_waiting(server: FleetServer) -> bool:
    """An io task may keep the thread from a CPU task, as another CPU task does."""
    return bool(server.cpu) and (len(server.cpu) > 1 or bool(server.io))
