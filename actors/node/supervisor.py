"""The servers of a node's lease: has them started, killed and started again, and tells of those that died."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Final

from msgspec import structs

from dispycos.protocol.addresses import Address
from dispycos.protocol.envelope import Envelope, buffers_of
from dispycos.protocol.messages import (
    CloseServer,
    CodeGiven,
    CodeWanted,
    Kill,
    Marks,
    NodeInfo,
    Notice,
    Output,
    RestartNode,
    Served,
    ServerDown,
    ServerLost,
    ServerReady,
    ServerUp,
    SetupDone,
    SetupGiven,
    SetupWanted,
    Shutdown,
    Terminate,
)
from dispycos.protocol.texts import cut

from ..tasks.logs import readable
from ..tasks.step import KILL_AFTER, NO_STEP, Step
from .inquiries import Inquiries
from .lease import (
    LINES_KEPT,
    RESTARTS_MAX,
    AnswerCode,
    ForgetPeer,
    Leaving,
    NodeLease,
    NodeOutbox,
    Place,
    PrepareZygote,
    StartServer,
    StartZygote,
)
from .processes.words import EndStep, KillServer
from .terminations import LOOK_AGAIN

RETRY_AFTER: Final = 0.5  # seconds, when no process came up: often the zygote is gone, which is told soon
LINE_MAX: Final = 1000
LEAVES_FOR: Final = 60.0  # seconds: what has not ended by then without a step of a task is killed


def _indented(lines: Iterable[str]) -> str:
    """To follow the words about who wrote them."""
    return "".join(f"\n    {line}" for line in lines)


class Supervisor(ABC):
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
        self._watch_leaving(granted, now)
        if granted.retry_at is not None and granted.retry_at <= now:
            granted.retry_at = None
            for place in granted.places:
                if place.down is not None and place.down.restarting and not granted.is_ending:
                    self._start(place)

    # --- what comes before the first server

    def _start_zygote(self, granted: NodeLease) -> None:
        """The client is asked meanwhile what belongs there; it may take its time."""
        granted.generation += 1
        granted.zygote_born, granted.setup, granted.renewing = False, None, False
        self._out.effects.append(StartZygote(granted.lease))
        self._ask_setup(granted)

    def _ask_setup(self, granted: NodeLease) -> None:
        granted.asks_setup = True
        self._out.to_client(granted, SetupWanted(), correlation=granted.generation)

    def zygote_born(self, now: float) -> None:
        if self.granted is not None:
            self.granted.zygote_born = True
            self._prepare(self.granted)

    def _on_setup_given(self, envelope: Envelope, word: SetupGiven, now: float) -> None:
        granted = self._granted_to(envelope)
        if granted is None or envelope.correlation != granted.generation:
            return
        granted.asks_setup = False
        if word.error:
            self.setup_failed(word.error, now)
        else:
            granted.setup, granted.keeps_files = buffers_of(envelope.payload), word.keep
            self._prepare(granted)

    def _prepare(self, granted: NodeLease) -> None:
        if granted.zygote_born and granted.setup is not None and not granted.is_ending:
            self._out.effects.append(PrepareZygote(granted.setup))
            granted.setup = None

    @abstractmethod
    def setup_failed(self, text: str, now: float) -> None:
        """This node is of no use to this client."""

    def code_asked(self, request: bytes, now: float) -> None:
        """By the zygote: its node_setup lacks something."""
        if self.granted is not None:
            self._out.to_client(self.granted, CodeWanted(), request, self.granted.generation)

    def _on_code_given(self, envelope: Envelope, word: CodeGiven, now: float) -> None:
        granted = self._granted_to(envelope)
        if granted is not None and envelope.correlation == granted.generation:
            self._out.effects.append(AnswerCode(word.error, buffers_of(envelope.payload)))

    # --- starting

    def zygote_ready(self, now: float) -> None:
        granted = self.granted
        if granted is not None and not granted.is_ending and not granted.zygote_ready:
            granted.zygote_ready, granted.asks_setup = True, False
            self._out.to_client(granted, SetupDone())
            for place in granted.places:
                if not (place.closed or granted.renewing):
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
            self._start_zygote(granted)
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

    def _on_setup_done(self, envelope: Envelope, word: SetupDone, now: float) -> None:
        """A server's: it has failed, and ends."""
        place = self._living(word.number)
        if place is not None and not place.is_ready:
            place.failed = word.error

    def _start(self, place: Place) -> None:
        place.alive, place.down = True, None
        place.lines.clear()
        self._out.effects.append(StartServer(place.number))

    # --- what the client closes and starts anew

    def _on_close_server(self, envelope: Envelope, word: CloseServer, now: float) -> None:
        granted = self._granted_to(envelope)
        if granted is None or granted.is_ending or granted.renewing:
            return
        for place in granted.places:
            if place.spot.port == word.port:
                self._close_place(granted, place, now, again=word.again)

    def _close_place(self, granted: NodeLease, place: Place, now: float, *, again: bool) -> None:
        if place.alive:
            self._end_server(granted, place, f"server {place.spot.name} was closed", now, again=again)
        elif not again:
            place.closed = True
        elif place.closed or place.down is None or not place.down.restarting:  # else it is about to be
            place.closed, place.failed, place.in_vain = False, "", 0
            if granted.zygote_ready:
                self._start(place)

    def _end_server(self, granted: NodeLease, place: Place, why: str, now: float, *, again: bool) -> None:
        """Its tasks get their KeyboardInterrupt; the last word about `again` counts."""
        if (leaving := granted.leaving.get(place.number)) is not None:
            leaving.again = again
            return
        granted.leaving[place.number] = Leaving(again, now, now + KILL_AFTER)
        if place.is_ready:
            self._out.send(place.address, Shutdown(why))
        else:
            self._out.effects.append(KillServer(place.number))

    def _watch_leaving(self, granted: NodeLease, now: float) -> None:
        """A server whose step has had its time is killed for it. Tasks that wait it drops itself."""
        for number, leaving in granted.leaving.items():
            if leaving.look_at <= now:
                leaving.look_at = now + LOOK_AGAIN
                if now >= leaving.since + LEAVES_FOR:
                    self._out.effects.append(KillServer(number))
                else:
                    self._end_steps([number], now)

    def _end_steps(self, servers: Iterable[int], now: float) -> None:
        """Those of tasks that had their KeyboardInterrupt 5 s ago, by the rule of terminations.py."""
        for number in servers:
            step = self.step_of(number)
            if step != NO_STEP and step.since / 1e9 + KILL_AFTER <= now:
                self._out.effects.append(EndStep(number, step))

    def _on_restart_node(self, envelope: Envelope, word: RestartNode, now: float) -> None:
        granted = self._granted_to(envelope)
        if granted is None or granted.is_ending or granted.renewing:
            return
        granted.renewing = True
        for place in granted.places:
            if place.alive:
                self._end_server(granted, place, f"node {self.info.name} is started anew", now, again=False)

    def _renew_if_empty(self, granted: NodeLease) -> None:
        if granted.renewing and granted.zygote_ready and not (granted.is_inhabited or granted.is_ending):
            granted.zygote_ready, granted.zygotes_in_vain, granted.retry_at = False, 0, None
            for place in granted.places:
                place.closed, place.failed, place.in_vain = False, "", 0
            self._start_zygote(granted)

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

    def _on_served(self, envelope: Envelope, word: Served, now: float) -> None:
        granted = self.granted
        place = granted.place_of(envelope.sender.epoch) if granted is not None else None
        if granted is not None and place is not None and not place.has_told:
            place.has_told = True
            granted.tally.add(word)

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
        death = place.failed or death
        granted.terminations.forget(place.number)
        leaving = granted.leaving.pop(place.number, None)
        closing = granted.closing is not None or leaving is not None
        granted.changed_at = now
        if spot.epoch:
            granted.tally.unknown += not place.has_told
            place.has_told = False
            self._inquiries.forget(spot.epoch)
            text = f"server {spot.name} {'was ' if death.startswith('killed') else ''}{death}"
            self._out.to_client(granted, ServerLost(spot.epoch, text, marks, closing))
        if leaving is None:
            again = self._may_restart(granted, place, death, was_ready=bool(spot.epoch))
        else:
            again = leaving.again and not (granted.is_ending or granted.renewing)
            place.closed = not (leaving.again or granted.renewing)
        said = "" if closing or again or place.failed else _indented(place.lines)
        self._tell_down(
            granted,
            place,
            ServerDown(granted.lease, spot, death, granted.is_ending or leaving is not None, again, said),
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
        if granted.is_ending or granted.renewing or place.failed:
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
        """A server wrote this, and the mark, if not 0. Its last lines are kept: it may never get ready. 0: what is
        prepared before servers are there."""
        granted = self.granted
        if granted is not None and number == 0:
            self._out.to_client(granted, Output(f"{self.info.name}/setup", stream, 0, mark), text)
            return
        place = granted.place(number) if granted is not None else None
        if granted is None or place is None:
            return
        for line in text.splitlines()[-LINES_KEPT:]:
            place.lines.append(cut(readable(line.decode("utf-8", "replace")), LINE_MAX))
        # Else Released comes on the same way.
        granted.has_printed = granted.scheduler.epoch != self.address.epoch
        self._out.to_client(granted, Output(place.spot.name, stream, place.spot.epoch, mark), text)
