"""The servers of a node's lease: has them started, killed and started again, and tells of those that died."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from msgspec import structs

from dispycos.protocol.addresses import Address
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
    Terminate,
)
from dispycos.protocol.texts import cut

from ..tasks.logs import readable
from ..tasks.step import Step
from .inquiries import Inquiries
from .lease import (
    LINES_KEPT,
    RESTARTS_MAX,
    ForgetPeer,
    NodeLease,
    NodeOutbox,
    Place,
    StartServer,
    StartZygote,
)
from .processes.words import KillServer

RETRY_AFTER: Final = 0.5  # seconds, when no process came up: often the zygote is gone, which is told soon
LINE_MAX: Final = 1000


def _indented(lines: Iterable[str]) -> str:
    """To follow the words about who wrote them."""
    return "".join(f"\n    {line}" for line in lines)


class Supervisor:
    """What a node does with the servers of the lease that it has, if any. Its body calls what is named after what happened."""

    step_of: Callable[[int], Step]  # which step runs on the server of this number, by its page: the body's

    def __init__(self, info: NodeInfo, address: Address) -> None:
        self.info = info
        self.address = address
        self.granted: NodeLease | None = None
        self._out = NodeOutbox(address)
        self._inquiries = Inquiries(self._out)

    def _living(self, number: int) -> Place | None:
        """The place of this number, if a process was asked for there and has not exited."""
        place = self.granted.place(number) if self.granted is not None else None
        return place if place is not None and place.alive else None

    def _supervise(self, granted: NodeLease, now: float) -> None:
        """At its deadline."""
        self._out.effects += granted.terminations.wake(now, self.step_of)
        if granted.retry_at is not None and granted.retry_at <= now:
            granted.retry_at = None
            for place in granted.places:
                if place.down is not None and place.down.restarting and not granted.is_ending:
                    self._start(place)

    # --- starting

    def zygote_ready(self, now: float) -> None:
        granted = self.granted
        if granted is not None and not granted.is_ending and not granted.zygote_ready:
            granted.zygote_ready = True
            for place in granted.places:
                self._start(place)

    def zygote_failed(self, text: str, now: float) -> None:
        """The zygote ended, and the servers that it had: their exits were told before."""
        granted = self.granted
        if granted is None:
            return
        granted.zygote_ready, granted.retry_at = False, None
        for place in granted.places:
            place.in_vain = 0  # what failed without a zygote was not the servers' fault
            if place.alive:
                self._out.effects.append(KillServer(place.number))
                self._bury(granted, place, f"lost its parent process: {text}", now)
        if granted.is_ending:
            return
        granted.zygotes_in_vain += 1
        if granted.zygotes_in_vain <= RESTARTS_MAX:
            self._out.effects.append(StartZygote(granted.lease))
            return
        self._tell_of_failures(granted, text)
        for place in granted.places:
            self._tell_down(granted, place, ServerDown(granted.lease, place.spot, text))

    def _on_server_ready(self, envelope: Envelope, ready: ServerReady, now: float) -> None:
        granted, place = self.granted, self._living(ready.number)
        if granted is None or place is None or place.is_ready:
            self._out.log(
                "warning", f"{envelope.sender} says it is server {ready.number}, which nobody waits for"
            )
            return
        place.spot, place.pid = place.spot._replace(epoch=envelope.sender.epoch), ready.pid
        place.in_vain = granted.zygotes_in_vain = 0  # what kills it later is no fault of its start
        if granted.closing is not None:
            self._out.send(place.address, Shutdown(granted.closing.reason))
        elif granted.draining:
            self._out.send(place.address, Shutdown(drain=True))
        else:
            self._out.to_scheduler(granted, ServerUp(granted.lease, place.spot, place.pid))

    def _start(self, place: Place) -> None:
        place.alive, place.down = True, None
        place.lines.clear()
        self._out.effects.append(StartServer(place.number))

    # --- killing

    def _on_terminate(self, envelope: Envelope, word: Terminate, now: float) -> None:
        """The client has asked the server for the task's end; what it does not end its process has to."""
        granted = self._granted_to(envelope)
        place = granted.place_of(word.server) if granted is not None else None
        if granted is None or place is None:
            return
        if granted.terminations.ask(place.number, word.position, word.function, now):
            self._out.send(place.address, word)  # the 5 s begin: it has its KeyboardInterrupt now

    def _on_kill(self, envelope: Envelope, word: Kill, now: float) -> None:
        if (granted := self._granted_to(envelope)) is not None:
            self._kill(granted, word.server)

    def _granted_to(self, envelope: Envelope) -> NodeLease | None:
        """Nobody but its client ends what belongs to a lease."""
        granted = self.granted
        if granted is not None and envelope.sender != granted.home:
            what = f"{type(envelope.message).__name__} from {envelope.sender}"
            self._out.log("warning", f"{what} is refused: the lease is that of {granted.home}")
            return None
        return granted

    def _kill(self, granted: NodeLease, epoch: int) -> None:
        """Its exit is told, and the next one started."""
        place = granted.place_of(epoch)
        if place is not None:
            self._out.effects.append(KillServer(place.number))

    # --- death

    def server_exited(
        self, number: int, death: str, marks: Marks, now: float, *, for_step: bool = False
    ) -> None:
        """A server's process ended, all it sent was received; `death` is like "killed by SIGKILL (9)".

        `marks` are the last tasks that it began, from its page. for_step: it was killed by EndStep.
        """
        granted, place = self.granted, self._living(number)
        if granted is not None and place is not None:
            if for_step and (culprit := granted.terminations.forget(number)):
                death = f"{death}: {culprit} did not end within 5 s of its KeyboardInterrupt"
            self._bury(granted, place, death, now, marks=marks)

    def server_failed_to_start(self, number: int, text: str, now: float) -> None:
        """There is no process: fork failed, or the zygote is gone."""
        granted, place = self.granted, self._living(number)
        if granted is not None and place is not None:
            self._bury(granted, place, f"did not start: {text}", now, unborn=True)

    def _bury(
        self,
        granted: NodeLease,
        place: Place,
        death: str,
        now: float,
        *,
        unborn: bool = False,
        marks: Marks | None = None,
    ) -> None:
        """Tells of a dead server, then starts the next one."""
        spot, place.spot, place.alive = place.spot, place.spot._replace(epoch=0), False
        granted.terminations.forget(place.number)
        closing = granted.closing is not None
        if spot.epoch:
            self._inquiries.forget(spot.epoch)
            text = f"server {spot.name} {'was ' if death.startswith('killed') else ''}{death}"
            self._out.to_client(granted, ServerLost(spot.epoch, text, marks, closing))
        again = self._may_restart(granted, place, death, was_ready=bool(spot.epoch))
        said = "" if closing or again else _indented(place.lines)
        self._tell_down(
            granted, place, ServerDown(granted.lease, spot, death, granted.is_ending, again, said)
        )
        if spot.epoch:
            self._out.effects.append(ForgetPeer(spot.epoch))
        if again and granted.zygote_ready:
            if unborn:
                granted.retry_at = now + RETRY_AFTER
            else:
                self._start(place)

    def _tell_down(self, granted: NodeLease, place: Place, down: ServerDown) -> None:
        place.down = down
        self._out.to_scheduler(granted, down)

    def _tell_again(self, granted: NodeLease) -> None:
        """To a scheduler that was started anew."""
        for place in granted.places:
            if place.is_ready:
                self._out.to_scheduler(granted, ServerUp(granted.lease, place.spot, place.pid))
            elif place.down is not None:
                self._out.to_scheduler(granted, structs.replace(place.down, lease=granted.lease))

    def _may_restart(self, granted: NodeLease, place: Place, death: str, *, was_ready: bool) -> bool:
        if granted.is_ending:
            return False
        if was_ready or not granted.zygote_ready:
            return True
        place.in_vain += 1
        if place.in_vain <= RESTARTS_MAX:
            return True
        self._tell_of_failures(granted, f"server {place.spot.name} {death}", place.lines)
        return False

    def _tell_of_failures(self, granted: NodeLease, text: str, lines: Iterable[str] = ()) -> None:
        """Servers die before they are ready: the person at the client hears why, once per lease."""
        notice = (
            f"node {self.info.name} does not try again to start what always fails: {text}{_indented(lines)}"
        )
        self._out.log("error", notice)
        if not granted.told_of_failures:
            granted.told_of_failures = True
            self._out.to_client(granted, Notice(notice, "error"))

    # --- output

    def output(self, number: int, stream: int, text: bytes, mark: int, now: float) -> None:
        """A server wrote this, and the mark, if not 0. Its last lines are kept: it may never get ready."""
        granted = self.granted
        place = granted.place(number) if granted is not None else None
        if granted is None or place is None:
            return
        for line in text.splitlines()[-LINES_KEPT:]:
            place.lines.append(cut(readable(line.decode("utf-8", "replace")), LINE_MAX))
        granted.has_printed = (
            granted.scheduler.epoch != self.address.epoch
        )  # else Released comes on the same way
        self._out.to_client(granted, Output(place.spot.name, stream, place.spot.epoch, mark), text)
