"""The servers of a node's lease: has them started, killed and started again, and tells of those that died."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from msgspec import structs

from dispycos.protocol.addresses import SERVER, Address
from dispycos.protocol.envelope import Envelope
from dispycos.protocol.messages import (
    Kill,
    Marks,
    NodeInfo,
    Notice,
    Output,
    ServerDown,
    ServerLost,
    ServerReady,
    ServerUp,
    Shutdown,
    Spot,
    Terminate,
)
from dispycos.protocol.texts import cut

from .inquiries import Inquiries
from .logs import readable
from .tenancy import (
    LINES_KEPT,
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
from .terminations import Step

RETRY_AFTER: Final = 0.5  # seconds, when no process came up: often the zygote is gone, which is told soon
LINE_MAX: Final = 1000


def _indented(lines: Iterable[str]) -> str:
    """To follow the words about who wrote them."""
    return "".join(f"\n    {line}" for line in lines)


class Supervisor:
    """What a node does with the servers of the lease that it has, if any. Its body calls what is named after what happened."""

    def __init__(self, info: NodeInfo, address: Address) -> None:
        self.info = info
        self.address = address
        self.tenancy: Tenancy | None = None
        self._out = Outbox(address)
        self._inquiries = Inquiries(self._out)

    def _place(self, number: int) -> Place | None:
        """Of a server that lives, or is to."""
        return self.tenancy.living(number) if self.tenancy is not None else None

    def _supervise(self, tenancy: Tenancy, now: float) -> None:
        """At its deadline."""
        tenancy.terminations.wake(now)
        self._end_steps(tenancy)
        self._retry(tenancy, now)

    # --- starting

    def zygote_ready(self, now: float) -> None:
        tenancy = self.tenancy
        if tenancy is not None and not tenancy.is_ending and not tenancy.zygote_ready:
            tenancy.zygote_ready = True
            tenancy.zygote_restarts.in_row = 0
            for place in tenancy.places:
                self._start(tenancy, place)

    def zygote_failed(self, text: str, now: float) -> None:
        """The zygote ended, and the servers that it had: their exits were told before."""
        tenancy = self.tenancy
        if tenancy is None:
            return
        tenancy.zygote_ready = False
        tenancy.retries.clear()
        for place in tenancy.places:  # what failed without a zygote was not the servers' fault
            place.restarts, place.retrying = Restarts(), False
        for place in [place for place in tenancy.places if place.alive]:
            self._out.effects.append(KillServer(place.number))
            self._bury(tenancy, place, f"lost its parent process: {text}", now)
        if tenancy.is_ending:
            return
        if not tenancy.zygote_restarts.too_many(now):
            self._out.effects.append(StartZygote(tenancy.lease))
            return
        self._tell_of_failures(tenancy, text)
        for place in tenancy.places:
            self._tell_down(tenancy, place, ServerDown(tenancy.lease, self._spot(place, 0), text))

    def _on_server_ready(self, envelope: Envelope, ready: ServerReady, now: float) -> None:
        tenancy, place = self.tenancy, self._place(ready.number)
        if tenancy is None or place is None or place.server is not None:
            self._out.log(
                "warning", f"{envelope.sender} says it is server {ready.number}, which nobody waits for"
            )
            return
        address = Address(envelope.sender.epoch, SERVER)
        server = place.server = Server(place.number, ready.pid, self._spot(place, address.epoch), address)
        place.restarts.in_row = 0
        tenancy.zygote_restarts = Restarts()  # this one serves: what kills it later is no fault of its zygote
        if tenancy.closing is not None:
            self._out.send(address, Shutdown(tenancy.closing.reason))
        elif tenancy.draining:
            self._out.send(address, Shutdown(drain=True))
        else:
            self._out.to_scheduler(tenancy, ServerUp(tenancy.lease, server.spot, ready.pid))

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
        return Spot(self.info.addr, place.port, epoch, place.name)

    # --- killing

    def _on_terminate(self, envelope: Envelope, word: Terminate, now: float) -> None:
        """The client has asked the server for the task's end; what it does not end its process has to."""
        tenancy = self._tenancy_of(envelope)
        place = tenancy.place_of(word.server) if tenancy is not None else None
        if tenancy is None or place is None or place.server is None:
            return
        if tenancy.terminations.ask(place.number, word.position, word.function, now):
            self._out.send(place.server.address, word)  # the 5 s begin: it has its KeyboardInterrupt now

    def _on_kill(self, envelope: Envelope, word: Kill, now: float) -> None:
        if (tenancy := self._tenancy_of(envelope)) is not None:
            self._kill(tenancy, word.server)

    def _tenancy_of(self, envelope: Envelope) -> Tenancy | None:
        """Nobody but its client ends what belongs to a lease."""
        tenancy = self.tenancy
        if tenancy is not None and envelope.sender != tenancy.home:
            what = f"{type(envelope.message).__name__} from {envelope.sender}"
            self._out.log("warning", f"{what} is refused: the lease is that of {tenancy.home}")
            return None
        return tenancy

    def _kill(self, tenancy: Tenancy, epoch: int) -> None:
        """Its exit is told, and the next one started."""
        place = tenancy.place_of(epoch)
        if place is not None:
            self._out.effects.append(KillServer(place.number))

    def looked(self, number: int, step: Step, now: float) -> None:
        """Which step runs on this server: the answer to Look."""
        if self.tenancy is not None:
            self.tenancy.terminations.looked(number, step, now)
            self._end_steps(self.tenancy)
        self._inquiries.looked(number, step, now)

    def judged(self, number: int, killed: bool, now: float) -> None:
        """What came of an EndStep; if it was killed its exit follows."""
        if self.tenancy is not None:
            self.tenancy.terminations.judged(number, killed, now)

    def _end_steps(self, tenancy: Tenancy) -> None:
        """Has looked at and killed what its terminations want."""
        self._out.effects += tenancy.terminations.effects
        tenancy.terminations.effects.clear()

    # --- death

    def server_exited(self, number: int, death: str, marks: Marks, now: float) -> None:
        """A server's process ended, all it sent was received; `death` is like "killed by SIGKILL (9)".

        `marks` are the last tasks that it began, from its page.
        """
        tenancy, place = self.tenancy, self._place(number)
        if tenancy is not None and place is not None:
            self._bury(tenancy, place, death, now, marks=marks)

    def server_failed_to_start(self, number: int, text: str, now: float) -> None:
        """There is no process: fork failed, or the zygote is gone."""
        tenancy, place = self.tenancy, self._place(number)
        if tenancy is not None and place is not None:
            self._bury(tenancy, place, f"did not start: {text}", now, unborn=True)

    def _bury(
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
            self._inquiries.forget(server.address.epoch)
            text = f"server {server.spot.name} {'was ' if death.startswith('killed') else ''}{death}"
            self._out.to_client(tenancy, ServerLost(server.address.epoch, text, marks, closing))
        again = self._may_restart(tenancy, place, server, death, now)
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

    def _tell_again(self, tenancy: Tenancy) -> None:
        """To a scheduler that was started anew."""
        for place in tenancy.places:
            if place.server is not None:
                up = ServerUp(tenancy.lease, place.server.spot, place.server.pid)
                self._out.to_scheduler(tenancy, up)
            elif place.down is not None:
                self._out.to_scheduler(tenancy, structs.replace(place.down, lease=tenancy.lease))

    def _may_restart(
        self, tenancy: Tenancy, place: Place, server: Server | None, death: str, now: float
    ) -> bool:
        if tenancy.is_ending:
            return False
        if server is not None or not tenancy.zygote_ready or not place.restarts.too_many(now):
            return True
        self._tell_of_failures(tenancy, f"server {place.name} {death}", place.lines)
        return False

    def _tell_of_failures(self, tenancy: Tenancy, text: str, lines: Iterable[str] = ()) -> None:
        """Servers die before they are ready: the person at the client hears why, once per lease."""
        notice = (
            f"node {self.info.name} does not try again to start what always fails: {text}{_indented(lines)}"
        )
        self._out.log("error", notice)
        if not tenancy.told_of_failures:
            tenancy.told_of_failures = True
            self._out.to_client(tenancy, Notice(notice, "error"))

    # --- output

    def output(self, number: int, stream: int, text: bytes, mark: int, now: float) -> None:
        """A server wrote this, and the mark, if not 0. Its last lines are kept: it may never get ready."""
        tenancy = self.tenancy
        if tenancy is None or not 1 <= number <= len(tenancy.places):
            return
        place = tenancy.places[number - 1]
        epoch = place.server.address.epoch if place.server is not None else 0
        for line in text.splitlines()[-LINES_KEPT:]:
            place.lines.append(cut(readable(line.decode("utf-8", "replace")), LINE_MAX))
        tenancy.has_printed = (
            tenancy.scheduler.epoch != self.address.epoch
        )  # else Released comes on the same way
        self._out.to_client(tenancy, Output(place.name, stream, epoch, mark), text)
