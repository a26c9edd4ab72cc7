"""Has the servers of a lease started, killed and started again, and speaks for what died with them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final

from dispycos.protocol.addresses import Address
from dispycos.protocol.messages import (
    UNKNOWN_MARKS,
    Marks,
    NodeInfo,
    Notice,
    Run,
    ServerDown,
    ServerLost,
    ServerUp,
    Shutdown,
    Spot,
    TaskId,
    Terminate,
)

from .feeding import DIRECT, NodeTask, Server
from .outcomes import repeat, verdict
from .tenancy import (
    RESTARTS_MAX,
    ForgetPeer,
    KillServer,
    Outbox,
    Place,
    Restarts,
    StartServer,
    StartZygote,
    Tenancy,
    recalled,
)
from .terminations import KILL_AFTER, Hangs

RETRY_AFTER: Final = 0.5  # seconds, when no process came up: often the zygote is gone, which is told soon


def has_begun(task: NodeTask, marks: Marks) -> bool:
    """Whether a dead server had begun this one: it took what it was given in order, of each kind."""
    return task.position <= (marks.io if task.run.io else marks.cpu) or task.position > DIRECT


def _sentence(spot: Spot, death: str) -> str:
    return f"server {spot.name} {'was ' if death.startswith('killed') else ''}{death}"


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
        if tenancy.closing is None and not tenancy.zygote_ready:
            tenancy.zygote_ready = True
            tenancy.zygote_restarts.in_row = 0
            tenancy.stranded = False
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
        if tenancy.closing is not None:
            return
        if not tenancy.zygote_restarts.too_many(now):
            self._out.effects.append(StartZygote(tenancy.lease))
            return
        self._tell_of_failures(tenancy, text, tenancy.setup_lines)
        said = _indented(tenancy.setup_lines)
        for place in tenancy.places:
            down = ServerDown(tenancy.lease, self._spot(place, 0), text, lines=said)
            self._out.to_scheduler(tenancy, down)
        self._hand_back_queue(tenancy)

    def on_server_ready(self, tenancy: Tenancy, place: Place, address: Address, pid: int) -> None:
        server = Server(place.number, pid, self._spot(place, address.epoch), address)
        place.server = server
        tenancy.restarts.in_row = place.refused = 0
        tenancy.feeding.add(server)
        if tenancy.closing is None:
            self._out.to_scheduler(tenancy, ServerUp(tenancy.lease, server.spot, pid))
        else:
            tenancy.feeding.withdraw(server)
            self._out.send(server.address, Shutdown(KILL_AFTER, tenancy.closing.reason))

    def _start(self, tenancy: Tenancy, place: Place) -> None:
        place.alive = True
        place.condemned = None
        place.lines.clear()
        lease = tenancy.lease
        self._out.effects.append(StartServer(place.number, place.name, place.port, lease, lease.client))

    def _retry(self, tenancy: Tenancy, now: float) -> None:
        while tenancy.retries and tenancy.retries[0][0] <= now:
            _, place = tenancy.retries.popleft()
            place.retrying = False
            if tenancy.closing is None:
                self._start(tenancy, place)

    def _spot(self, place: Place, epoch: int) -> Spot:
        return Spot(self._info.addr, place.port, epoch, place.name)

    # --- killing

    def end_steps(self, tenancy: Tenancy) -> None:
        """Has looked at and killed what its terminations want."""
        effects, tenancy.terminations.effects = tenancy.terminations.effects, []
        for effect in effects:
            if isinstance(effect, Hangs):
                self._condemn(tenancy, tenancy.places[effect.server - 1], effect.position)
            else:
                self._out.effects.append(effect)

    def _condemn(self, tenancy: Tenancy, place: Place, position: int) -> None:
        """A step does not end: its server gets nothing more, and the others there their KeyboardInterrupt."""
        server = place.server
        assert server is not None
        tenancy.feeding.withdraw(server)
        # Of one that the client gave directly, and that hangs in C code with the GIL, nobody has told its function.
        direct = TaskId(tenancy.lease.client, position - DIRECT)
        place.condemned = NodeTask(direct, Run(direct, "its task"), None, 0.0, server=server)
        for task in [*server.cpu.values(), *server.io.values()]:
            if task.position == position:
                place.condemned = task
            elif task.run.io:
                self._out.send(server.address, Terminate(task.id))

    def judged(self, tenancy: Tenancy, place: Place, killed: bool, now: float) -> None:
        """The step that was to be ended was, or it had ended: then the server goes on."""
        tenancy.terminations.judged(place.number, killed, now)
        if not killed and place.server is not None:
            place.condemned = None
            if tenancy.closing is None:
                tenancy.feeding.restore(place.server)

    # --- death

    def bury(
        self,
        tenancy: Tenancy,
        place: Place,
        death: str,
        now: float,
        *,
        unborn: bool = False,
        marks: Marks = UNKNOWN_MARKS,
    ) -> None:
        """Speaks for all that a dead server had, then starts the next one."""
        server, place.server, place.alive = place.server, None, False
        tenancy.terminations.forget(place.number)
        if server is not None:
            place.gone_pid = server.pid
        if place.condemned is not None:
            death = f"{death}: {place.condemned.run.function} did not end within 5 s of its KeyboardInterrupt"
        back = []
        closing = tenancy.closing is not None
        if server is not None:
            back = self._speak_for(tenancy, server, place.condemned, death, now, marks)
            if server.was_lent:
                word = ServerLost(server.address.epoch, _sentence(server.spot, death), marks, closing)
                self._out.to_client(tenancy, word)
        place.condemned = None
        again = self._may_restart(tenancy, place, server, unborn, death, now)
        spot = server.spot if server is not None else self._spot(place, 0)
        said = "" if closing or again else _indented(place.lines)
        self._out.to_scheduler(tenancy, ServerDown(tenancy.lease, spot, death, closing, again, said))
        for came_back in recalled(back) if back else ():
            self._out.to_scheduler(tenancy, came_back)
        if server is not None:
            self._out.effects.append(ForgetPeer(server.address.epoch))
        if again and tenancy.zygote_ready:
            if unborn:
                place.retrying = True
                tenancy.retries.append((now + RETRY_AFTER, place))
            else:
                self._start(tenancy, place)
        elif not again:
            self._hand_back_queue(tenancy)

    def _may_restart(
        self, tenancy: Tenancy, place: Place, server: Server | None, unborn: bool, death: str, now: float
    ) -> bool:
        if tenancy.closing is not None:
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

    def _hand_back_queue(self, tenancy: Tenancy) -> None:
        """Without any server, and none to come, what waits here would wait for ever."""
        if tenancy.closing is None and not any(place.alive or place.retrying for place in tenancy.places):
            tenancy.stranded = True
            back = [task.id for task in tenancy.feeding.cancel_all()]
            for word in recalled(back) if back else ():
                self._out.to_scheduler(tenancy, word)

    def _speak_for(
        self,
        tenancy: Tenancy,
        server: Server,
        cause: NodeTask | None,
        death: str,
        now: float,
        marks: Marks,
    ) -> list[TaskId]:
        """Says the outcome of each task that the server had or had ended; the rest goes back, not started."""
        sentence = _sentence(server.spot, death)
        for kept in tenancy.outcomes.take(server.address.epoch):
            outcome, payload = repeat(kept, server.spot, sentence)
            self._out.to_client(tenancy, outcome, payload)
        closing = tenancy.closing is not None
        back: list[TaskId] = []
        for task in tenancy.feeding.drop(server):
            started = task.server is server and has_begun(task, marks)
            word = verdict(task, started, closing or task is cause, server.spot, sentence, now)
            if word is None:
                back.append(task.id)
            else:
                self._out.speak(tenancy, word, task.acked)
        return back
