"""Has the servers of a lease started, killed and started again, and tells of those that died."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final

from msgspec import structs

from dispycos.protocol.addresses import Address
from dispycos.protocol.messages import (
    Marks,
    NodeInfo,
    Notice,
    ServerDown,
    ServerLost,
    ServerUp,
    Shutdown,
    Spot,
    Terminate,
)

from .tenancy import (
    RESTARTS_MAX,
    ForgetPeer,
    KillServer,
    Outbox,
    Place,
    Restarts,
    Server,
    StartServer,
    StartZygote,
    Tenancy,
)

RETRY_AFTER: Final = 0.5  # seconds, when no process came up: often the zygote is gone, which is told soon


def _indented(lines: Iterable[str]) -> str:
    """To follow the words about who wrote them."""
    return "".join(f"\n    {line}" for line in lines)


class Supervisor:
    """Decides about the servers of one lease after the other; all that it remembers is in the Tenancy."""

    def __init__(self, info: NodeInfo, out: Outbox) -> None:
        self._info = info
        self._out = out

    def wake(self, tenancy: Tenancy, now: float) -> None:
        tenancy.terminations.wake(now)
        self.end_steps(tenancy)
        self._retry(tenancy, now)

    # --- starting

    def on_zygote_ready(self, tenancy: Tenancy) -> None:
        if not tenancy.is_ending and not tenancy.zygote_ready:
            tenancy.zygote_ready = True
            tenancy.zygote_restarts.in_row = 0
            for place in tenancy.places:
                self._start(tenancy, place)

    def on_zygote_failed(self, tenancy: Tenancy, text: str, now: float) -> None:
        """Its servers have ended with it."""
        tenancy.zygote_ready = False
        tenancy.restarts = Restarts()  # what failed without a zygote was not the servers' fault
        tenancy.retries.clear()
        for place in tenancy.places:
            place.refused, place.retrying = 0, False
        for place in [place for place in tenancy.places if place.alive]:
            self._out.effects.append(KillServer(place.number))
            self.bury(tenancy, place, f"lost its parent process: {text}", now)
        if tenancy.is_ending:
            return
        if not tenancy.zygote_restarts.too_many(now):
            self._out.effects.append(StartZygote(tenancy.lease))
            return
        self._tell_of_failures(tenancy, text, tenancy.setup_lines)
        said = _indented(tenancy.setup_lines)
        for place in tenancy.places:
            self._tell_down(tenancy, place, ServerDown(tenancy.lease, self._spot(place, 0), text, lines=said))

    def on_server_ready(self, tenancy: Tenancy, place: Place, address: Address, pid: int) -> None:
        server = place.server = Server(place.number, pid, self._spot(place, address.epoch), address)
        tenancy.restarts.in_row = place.refused = 0
        tenancy.zygote_restarts = Restarts()  # this one serves: what kills it later is no fault of its setup
        if tenancy.closing is not None:
            self._out.send(address, Shutdown(tenancy.closing.reason))
        elif tenancy.draining:
            self._out.send(address, Shutdown(drain=True))
        else:
            self._out.to_scheduler(tenancy, ServerUp(tenancy.lease, server.spot, pid))

    def _start(self, tenancy: Tenancy, place: Place) -> None:
        place.alive, place.down = True, None
        place.lines.clear()
        lease = tenancy.lease
        self._out.effects.append(StartServer(place.number, place.name, place.port, lease, lease.client))

    def _retry(self, tenancy: Tenancy, now: float) -> None:
        while tenancy.retries and tenancy.retries[0][0] <= now:
            _, place = tenancy.retries.popleft()
            place.retrying = False
            if not tenancy.is_ending:
                self._start(tenancy, place)

    def _spot(self, place: Place, epoch: int) -> Spot:
        return Spot(self._info.addr, place.port, epoch, place.name)

    # --- killing

    def terminate(self, tenancy: Tenancy, word: Terminate, now: float) -> None:
        """The client has asked the server for the task's end; what it does not end its process has to."""
        place = tenancy.place_of(word.server)
        if place is None or place.server is None:
            return
        if tenancy.terminations.ask(place.number, word.position, word.function, now):
            self._out.send(place.server.address, word)  # the 5 s begin: it has its KeyboardInterrupt now

    def end_steps(self, tenancy: Tenancy) -> None:
        """Has looked at and killed what its terminations want."""
        self._out.effects += tenancy.terminations.effects
        tenancy.terminations.effects.clear()

    # --- death

    def bury(
        self,
        tenancy: Tenancy,
        place: Place,
        death: str,
        now: float,
        *,
        unborn: bool = False,
        marks: Marks | None = None,
    ) -> None:
        """Tells of a dead server, then starts the next one."""
        server, place.server, place.alive = place.server, None, False
        culprit = tenancy.terminations.forget(place.number)
        if culprit:
            death = f"{death}: {culprit} did not end within 5 s of its KeyboardInterrupt"
        closing = tenancy.closing is not None
        if server is not None:
            place.gone_pid = server.pid
            text = f"server {server.spot.name} {'was ' if death.startswith('killed') else ''}{death}"
            self._out.to_client(tenancy, ServerLost(server.address.epoch, text, marks, closing))
        again = self._may_restart(tenancy, place, server, unborn, death, now)
        spot = server.spot if server is not None else self._spot(place, 0)
        said = "" if closing or again else _indented(place.lines)
        self._tell_down(
            tenancy, place, ServerDown(tenancy.lease, spot, death, tenancy.is_ending, again, said)
        )
        if server is not None:
            self._out.effects.append(ForgetPeer(server.address.epoch))
        if again and tenancy.zygote_ready:
            if unborn:
                place.retrying = True
                tenancy.retries.append((now + RETRY_AFTER, place))
            else:
                self._start(tenancy, place)

    def _tell_down(self, tenancy: Tenancy, place: Place, down: ServerDown) -> None:
        place.down = down
        self._out.to_scheduler(tenancy, down)

    def tell_again(self, tenancy: Tenancy) -> None:
        """To a scheduler that was started anew."""
        for place in tenancy.places:
            if place.server is not None:
                up = ServerUp(tenancy.lease, place.server.spot, place.server.pid)
                self._out.to_scheduler(tenancy, up)
            elif place.down is not None:
                self._out.to_scheduler(tenancy, structs.replace(place.down, lease=tenancy.lease))

    def _may_restart(
        self, tenancy: Tenancy, place: Place, server: Server | None, unborn: bool, death: str, now: float
    ) -> bool:
        if tenancy.is_ending:
            return False
        if server is not None or not tenancy.zygote_ready:
            return True
        if unborn:
            place.refused += 1
            hopeless = place.refused > RESTARTS_MAX
        else:
            hopeless = tenancy.restarts.too_many(now)
        if not hopeless:
            return True
        self._tell_of_failures(tenancy, f"server {place.name} {death}", place.lines)
        return False

    def _tell_of_failures(self, tenancy: Tenancy, text: str, lines: deque[str]) -> None:
        """Servers die before they are ready: the person at the client hears why, once per lease."""
        notice = (
            f"node {self._info.name} does not try again to start what always fails: {text}{_indented(lines)}"
        )
        self._out.log("error", notice)
        if not tenancy.told_of_failures:
            tenancy.told_of_failures = True
            self._out.to_client(tenancy, Notice(notice, "error"))
