"""The node agent's brain: grants its one lease, has servers started, feeds them, and speaks for dead ones.

The way of a task is short on purpose, for it is the hot path: `_on_run` puts it into the short queue, `drain`
gives it to a server, `_on_done` keeps a copy of its outcome and passes the fact on. Rare things come after:
leases, deaths, closing. The body calls the methods named after what happened in the world: peer_lost ...
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Container
from dataclasses import dataclass, field
from typing import Any, Final

from msgspec.structs import replace

from dispycos.machine import Log, Send
from dispycos.protocol.addresses import CLIENT, SCHEDULER, SERVER, Address
from dispycos.protocol.envelope import About, Envelope, Payload
from dispycos.protocol.messages import (
    Availability,
    Began,
    ClientInfo,
    Close,
    Closed,
    Declined,
    Done,
    Gone,
    Inventory,
    Lease,
    Message,
    NodeInfo,
    NodeReport,
    Notice,
    Open,
    Opened,
    Outcome,
    OutcomeAck,
    Output,
    Pulse,
    Recall,
    Recalled,
    Register,
    Run,
    ServerDown,
    ServerReady,
    ServerUp,
    Shutdown,
    Spot,
    TaskId,
    Terminate,
)

from .feeding import Feeding, NodeTask, Server, report
from .outcomes import KEPT_BYTES, KEPT_COUNT, Outcomes, cancelled, repeat, verdict

LEASE_GRACE: Final = 60.0  # seconds without client or scheduler until a lease ends
KILL_AFTER: Final = 5.0  # seconds that a task has after its KeyboardInterrupt
KILL_NOTICE: Final = 0.2  # seconds that the others on its server have, before it is killed
QUEUE_MAX: Final = 65_536  # tasks here; a scheduler sends far less
LINES_KEPT: Final = 20
LINE_MAX: Final = 1000
RESTARTS_MAX: Final = 5  # deaths before ServerReady within ...
RESTARTS_PERIOD: Final = 10.0  # ... so many seconds
RESTARTS_IN_ROW: Final = 20  # those that take longer to die must end, too
RETRY_AFTER: Final = 0.5  # seconds, when no process came up: often the zygote is gone, which is told soon


# --- what the body carries out ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StartZygote:
    """Fork the process that starts this lease's servers; answered by zygote_ready or zygote_failed."""

    lease: Lease


@dataclass(frozen=True, slots=True)
class StartServer:
    """Have the zygote fork a server; answered by ServerReady, server_failed_to_start or server_exited."""

    number: int
    name: str
    port: int
    lease: Lease
    client: int  # epoch


@dataclass(frozen=True, slots=True)
class KillServer:
    """SIGKILL to the server's process group; its exit is reported as any other. Void if it has exited."""

    number: int


@dataclass(frozen=True, slots=True)
class CloseZygote:
    """All servers are gone: end the zygote. Its end is not reported."""

    lease: Lease


@dataclass(frozen=True, slots=True)
class ForgetPeer:
    """This runtime will never speak again: its session can go."""

    epoch: int


# --- what a lease is here -----------------------------------------------------------------------------------


@dataclass(slots=True, eq=False)
class Place:
    """The k-th server of this lease: a name and a port, and one process after the other."""

    number: int
    name: str
    port: int
    alive: bool = False  # a process was asked for and has not exited
    server: Server | None = None  # it said ServerReady
    refused: int = 0  # how often in a row no process came up
    retrying: bool = False  # to be started again at its time in Tenancy.retries
    gone_pid: int = 0  # the process before it, whose exit may be told late
    condemned: NodeTask | None = None  # on whose account it will be killed
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=LINES_KEPT))  # its last output


@dataclass(slots=True)
class Restarts:
    """Deaths before ServerReady: beyond a rate, or too many in a row, starting again is pointless."""

    recent: deque[float] = field(default_factory=lambda: deque(maxlen=RESTARTS_MAX + 1))
    in_row: int = 0

    def too_many(self, now: float) -> bool:
        """Counts one more."""
        self.recent.append(now)
        self.in_row += 1
        rapid = len(self.recent) > RESTARTS_MAX and now < self.recent[0] + RESTARTS_PERIOD
        return rapid or self.in_row > RESTARTS_IN_ROW


@dataclass(slots=True)
class Closing:
    reason: str
    kill_at: float


@dataclass(slots=True, eq=False)
class Tenancy:
    """A lease granted by this node, from Open to Closed, with all that belongs to it."""

    lease: Lease
    client: ClientInfo
    since: float
    places: list[Place]
    outcomes: Outcomes
    scheduler: Address
    home: Address  # of the client
    pulse_interval: float
    pulse_at: float
    feeding: Feeding = field(default_factory=Feeding)
    zygote_ready: bool = False
    restarts: Restarts = field(default_factory=Restarts)
    zygote_restarts: Restarts = field(default_factory=Restarts)
    retries: deque[tuple[float, Place]] = field(default_factory=deque)  # by time
    told_of_failures: bool = False
    stranded: bool = False  # no server is left, and none will come
    setup_lines: deque[str] = field(default_factory=lambda: deque(maxlen=LINES_KEPT))  # what the zygote wrote
    silent: dict[int, float] = field(
        default_factory=dict
    )  # lost peers of the lease, and until when they may come back
    scheduler_gone: bool = False  # its process has ended; another may take the lease over
    client_gone: bool = False
    terminating: deque[tuple[float, NodeTask]] = field(default_factory=deque)  # by time
    condemned: deque[tuple[float, Place]] = field(default_factory=deque)  # by time
    closing: Closing | None = None

    def place_of(self, server: Server) -> Place:
        return self.places[server.number - 1]

    @property
    def holder(self) -> str:
        return f"{self.client.name} ({self.client.host}, pid {self.client.pid})"


def begun_by(server: Server, reached: TaskId | None) -> Container[TaskId]:
    """Those of a dead server's CPU tasks that had begun: it runs them one by one, in the order given.

    Several may have: short ones end without a word of their own, and the words of the last few die with the process.
    """
    given = list(server.cpu)
    if reached is None:
        return given[:1]
    return given[: given.index(reached) + 1] if reached in server.cpu else ()


class Node:
    """Machine of the node agent; every call is quick and leaves effects for drain()."""

    def __init__(
        self,
        info: NodeInfo,
        address: Address,
        ports: list[int],
        *,
        min_pulse_interval: float,
        max_pulse_interval: float,
        lease_grace: float = LEASE_GRACE,
        kept_bytes: int = KEPT_BYTES,
        kept_count: int = KEPT_COUNT,
        insecure: bool = False,
    ) -> None:
        """`ports` are the servers' entries of tcp_ports: one for each server that may ever run here."""
        self.info = info
        self.address = address
        self._ports = ports
        self._pulse_limits = (min_pulse_interval, max_pulse_interval)
        self._lease_grace = lease_grace
        self._kept = (kept_bytes, kept_count)
        self._insecure = insecure
        self._available = info.available
        self._schedulers: dict[int, None] = {}  # epochs of those connected
        self._declined: dict[int, None] = {}  # those to be told when the node is free again
        self.tenancy: Tenancy | None = None
        self._served = 0
        self._now = 0.0
        self._effects: list[object] = []
        self._handlers: dict[type, Callable[[Envelope, Any, float], None]] = {
            Run: self._on_run,
            Done: self._on_done,
            Began: self._on_began,
            OutcomeAck: self._on_ack,
            Terminate: self._on_terminate,
            Recall: self._on_recall,
            Recalled: self._on_recalled,
            Open: self._on_open,
            Close: self._on_close,
            ServerReady: self._on_server_ready,
            Inventory: self._on_inventory,
            Notice: self._on_notice,
            Gone: self._on_gone,
        }

    # --- machine

    def receive(self, envelope: Envelope, now: float) -> None:
        self._now = now
        handler = self._handlers.get(type(envelope.message))
        if handler is None:
            self._log("warning", f"{envelope.message!r} from {envelope.sender} is nothing for a node")
        else:
            handler(envelope, envelope.message, now)

    def wake(self, now: float) -> None:
        self._now = now
        tenancy = self.tenancy
        if tenancy is None:
            return
        for server in tenancy.feeding.stalls(now):
            self._send(server.address, Recall(len(server.cpu) - 1))
        self._escalate(tenancy, now)
        self._kill_condemned(tenancy, now)
        self._retry(tenancy, now)
        if tenancy.pulse_at <= now:
            self._pulse(tenancy, now)
        for epoch, until in list(tenancy.silent.items()):
            if until <= now:
                who = "client" if epoch == tenancy.lease.client else "scheduler"
                del tenancy.silent[epoch]
                self._close(tenancy, f"its {who} was silent for {self._lease_grace:.0f} s", now)
        if tenancy.closing is not None and tenancy.closing.kill_at <= now:
            self._kill_all(tenancy, tenancy.closing, now)

    def deadline(self) -> float | None:
        tenancy = self.tenancy
        if tenancy is None:
            return None
        due = [tenancy.pulse_at, *tenancy.silent.values()]
        if tenancy.feeding.deadline is not None:
            due.append(tenancy.feeding.deadline)
        if tenancy.terminating:
            due.append(tenancy.terminating[0][0])
        if tenancy.condemned:
            due.append(tenancy.condemned[0][0])
        if tenancy.retries:
            due.append(tenancy.retries[0][0])
        if tenancy.closing is not None:
            due.append(tenancy.closing.kill_at)
        return min(due)

    def drain(self) -> list[object]:
        tenancy = self.tenancy
        # A client that confirms nothing is given nothing more to confirm.
        if tenancy is not None and not tenancy.outcomes.is_full:
            sender, append = self.address, self._effects.append
            for task in tenancy.feeding.assign(self._now):
                assert task.server is not None
                append(Send(Envelope(task.server.address, sender, task.run, 0, task.payload)))
        effects, self._effects = self._effects, []
        return effects

    # --- the way of a task

    def _on_run(self, envelope: Envelope, run: Run, now: float) -> None:
        tenancy = self.tenancy
        if tenancy is None or tenancy.closing is not None or envelope.sender != tenancy.scheduler:
            self._refuse(envelope, run)
            return
        feeding = tenancy.feeding
        if run.task in feeding.tasks:
            self._log("warning", f"{run.task} was given to this node twice; the second is ignored")
        elif (
            (run.server and run.server not in feeding.servers)
            or tenancy.stranded
            or len(feeding.tasks) >= QUEUE_MAX
        ):
            # The scheduler has or gets the ServerDown, so it knows better than we what to do with it now.
            self._send(envelope.sender, Recalled([run.task]))
        else:
            feeding.put(NodeTask(run.task, run, envelope.payload, now))

    def _refuse(self, envelope: Envelope, run: Run) -> None:
        """Nothing runs without a lease; a replaced scheduler gets no answer, its successor owns the tasks."""
        tenancy = self.tenancy
        if tenancy is not None and envelope.sender != tenancy.scheduler:
            self._log("warning", f"{run.task} came from {envelope.sender}, which does not hold the lease")
        else:
            self._send(envelope.sender, Recalled([run.task]))

    def _on_began(self, envelope: Envelope, began: Began, now: float) -> None:
        task = self._running(envelope.sender.epoch, began.task)
        if task is None:
            return
        task.began = True
        task.since = now
        task.payload = None  # it will never be given again
        self._to_scheduler(replace(began, server=envelope.sender.epoch))

    def _on_done(self, envelope: Envelope, done: Done, now: float) -> None:
        epoch = envelope.sender[0]
        tenancy = self.tenancy
        task = self._running(epoch, done.task)
        if task is None or tenancy is None:
            return
        tenancy.feeding.ended(task, now)
        if done.server != epoch:
            done = replace(done, server=epoch)
        if not task.acked:
            tenancy.outcomes.keep(done, envelope.payload, epoch)
        if not tenancy.scheduler_gone:
            self._effects.append(Send(Envelope(tenancy.scheduler, self.address, done)))

    def _running(self, epoch: int, id: TaskId) -> NodeTask | None:
        """The task of which this server speaks, if it has it."""
        if self.tenancy is not None:
            task = self.tenancy.feeding.tasks.get(id)
            if task is not None and task.server is not None and task.server.address[0] == epoch:
                return task
        self._log("warning", f"runtime {epoch:x} speaks of {id}, which it does not have")
        return None

    def _on_ack(self, envelope: Envelope, ack: OutcomeAck, now: float) -> None:
        tenancy = self.tenancy
        if tenancy is None or envelope.sender.epoch != tenancy.lease.client:
            return  # late: the lease has ended, and with it all that was kept
        for id in ack.tasks:
            if not tenancy.outcomes.ack(id):
                task = tenancy.feeding.tasks.get(id)
                if task is not None and task.server is not None:
                    task.acked = True  # the outcome overtook our copy of it

    # --- tasks that come back or have to end

    def _on_recall(self, envelope: Envelope, recall: Recall, now: float) -> None:
        tenancy = self.tenancy
        if tenancy is None or envelope.sender != tenancy.scheduler:
            return
        back = tenancy.feeding.take_back(max(0, recall.count))
        self._send(envelope.sender, Recalled([task.id for task in back]))

    def _on_recalled(self, envelope: Envelope, recalled: Recalled, now: float) -> None:
        tenancy = self.tenancy
        server = None if tenancy is None else tenancy.feeding.servers.get(envelope.sender.epoch)
        if tenancy is None or server is None:
            self._log("warning", f"{envelope.sender} gives back tasks, but is no server of this lease")
            return
        for task in tenancy.feeding.given_back(server, recalled.tasks, now):
            if task.terminated or tenancy.closing is not None:
                self._cancel(tenancy, task)

    def _on_terminate(self, envelope: Envelope, terminate: Terminate, now: float) -> None:
        tenancy = self.tenancy
        if tenancy is None or envelope.sender.epoch not in (tenancy.scheduler.epoch, tenancy.lease.client):
            return
        task = tenancy.feeding.tasks.get(terminate.task)
        if task is None:
            return  # it has ended; its outcome is on the way
        if task.server is None:
            self._cancel(tenancy, task)
        elif not task.terminated:
            task.terminated = True
            tenancy.terminating.append((now + KILL_AFTER, task))
            self._send(task.server.address, Terminate(task.id))

    def _cancel(self, tenancy: Tenancy, task: NodeTask, text: str = "") -> None:
        tenancy.feeding.cancel(task)
        self._speak(tenancy, cancelled(task, text))

    def _escalate(self, tenancy: Tenancy, now: float) -> None:
        """Tasks that had their KeyboardInterrupt 5 s ago and are still there cost their server its life."""
        while tenancy.terminating and tenancy.terminating[0][0] <= now:
            _, task = tenancy.terminating.popleft()
            server = task.server
            if server is None or tenancy.feeding.tasks.get(task.id) is not task:
                continue
            place = tenancy.place_of(server)
            if place.condemned is not None:
                continue
            if not task.run.io and next(iter(server.cpu)) != task.id:
                tenancy.terminating.append(
                    (now + KILL_AFTER, task)
                )  # waits behind another, which must not die for it
                continue
            place.condemned = task
            tenancy.feeding.withdraw(server)
            tenancy.condemned.append((now + KILL_NOTICE, place))
            for other in server.io.values():
                if other is not task:
                    self._send(server.address, Terminate(other.id))

    def _kill_condemned(self, tenancy: Tenancy, now: float) -> None:
        while tenancy.condemned and tenancy.condemned[0][0] <= now:
            _, place = tenancy.condemned.popleft()
            task, server = place.condemned, place.server
            if task is None or server is None or task.server is not server:
                continue  # it exited meanwhile
            if tenancy.feeding.tasks.get(task.id) is task:
                self._effects.append(KillServer(place.number))
            else:
                place.condemned = None
                if tenancy.closing is None:
                    tenancy.feeding.restore(server)

    # --- the lease

    def add_scheduler(self, epoch: int, now: float) -> None:
        """A scheduler's runtime is connected."""
        self._now = now
        if epoch not in self._schedulers:
            self._schedulers[epoch] = None
            self._register(epoch)

    def _register(self, epoch: int) -> None:
        lease = None if self.tenancy is None else self.tenancy.lease
        self._send(Address(epoch, SCHEDULER), Register(self._described(), lease))

    def _described(self) -> NodeInfo:
        return self.info._replace(available=self._available)

    def _on_open(self, envelope: Envelope, message: Open, now: float) -> None:
        tenancy = self.tenancy
        reason = self._reason_to_decline(message, now)
        if reason:
            self._send(envelope.sender, Declined(message.lease, reason))
            self._log("info", f"declined {message.client.name}: {reason}")
        elif tenancy is None:
            self._grant(envelope.sender, message, now)
        else:
            self._take_over(tenancy, envelope.sender, message)

    def _reason_to_decline(self, message: Open, now: float) -> str:
        tenancy = self.tenancy
        if tenancy is not None:
            lease, wanted = tenancy.lease, message.lease
            same = (lease.client, lease.scheduler) == (wanted.client, wanted.scheduler)
            if not same or tenancy.closing is not None:
                self._declined[message.lease.scheduler_epoch] = None
                state = "held by" if tenancy.closing is None else "still being closed for"
                return f"{state} {tenancy.holder} for {now - tenancy.since:.0f} s"
        elif message.client.python != self.info.python:
            # Bytecode of another minor version crashes the interpreter; the scheduler should have known.
            theirs, ours = (".".join(map(str, v)) for v in (message.client.python, self.info.python))
            return f"the client runs Python {theirs}, this node {ours}: both need the same"
        elif min(message.cpus, len(self._ports)) < 1:
            return f"{message.cpus} servers asked for, {len(self._ports)} ports to give"
        return ""

    def _grant(self, scheduler: Address, message: Open, now: float) -> None:
        lowest, highest = self._pulse_limits
        interval = min(max(message.pulse_interval, lowest), highest)
        count = min(message.cpus, len(self._ports))
        places = [
            Place(k, f"{self.info.name}/server-{k}", port)
            for k, port in enumerate(self._ports[:count], start=1)
        ]
        self.tenancy = Tenancy(
            message.lease,
            message.client,
            now,
            places,
            Outcomes(*self._kept),
            scheduler,
            Address(message.lease.client, CLIENT),
            interval,
            now + interval,
        )
        self._effects.append(StartZygote(message.lease))
        self._send(scheduler, Opened(message.lease, count))

    def _take_over(self, tenancy: Tenancy, scheduler: Address, message: Open) -> None:
        """The holder's scheduler was started again: it gets its lease back with the servers as they are."""
        tenancy.silent.pop(tenancy.scheduler.epoch, None)
        tenancy.lease = message.lease
        tenancy.scheduler = scheduler
        tenancy.scheduler_gone = False
        self._send(scheduler, Opened(message.lease, len(tenancy.places)))
        for place in tenancy.places:
            if place.server is not None:
                self._send(scheduler, ServerUp(tenancy.lease, place.server.spot, place.server.pid))

    def peer_up(self, epoch: int, about: About, now: float) -> None:
        self._now = now
        if self.tenancy is not None:
            self.tenancy.silent.pop(epoch, None)

    def peer_lost(self, epoch: int, now: float) -> None:
        """No link to it, for now."""
        self._now = now
        tenancy = self.tenancy
        if tenancy is not None and epoch in (tenancy.lease.client, tenancy.scheduler.epoch):
            tenancy.silent.setdefault(epoch, now + self._lease_grace)

    def peer_reset(self, epoch: int, unconfirmed: list[Envelope], now: float) -> None:
        """This process is gone, and what it had not confirmed with it: for a server its exit says the rest, a
        client ends its lease, and a scheduler that comes back is told the state as it is then."""
        self._now = now
        self._schedulers.pop(epoch, None)
        self._declined.pop(epoch, None)
        tenancy = self.tenancy
        if tenancy is None:
            return
        if epoch == tenancy.lease.client:
            tenancy.client_gone = True
            self._close(tenancy, "its client has ended", now)
        elif epoch == tenancy.scheduler.epoch:
            tenancy.scheduler_gone = True
            tenancy.silent.setdefault(epoch, now + self._lease_grace)
        elif epoch in tenancy.feeding.servers:
            # A server that lost its session is of no use; if it lives, its exit is the way to a new one.
            self._effects.append(KillServer(tenancy.feeding.servers[epoch].number))

    # --- zygote and servers

    def zygote_ready(self, now: float) -> None:
        self._now = now
        tenancy = self.tenancy
        if tenancy is not None and tenancy.closing is None and not tenancy.zygote_ready:
            tenancy.zygote_ready = True
            tenancy.zygote_restarts.in_row = 0
            tenancy.stranded = False
            for place in tenancy.places:
                self._start(tenancy, place)

    def zygote_failed(self, text: str, now: float) -> None:
        """The zygote ended and its servers with it, all they sent was read; their exits may be told before."""
        self._now = now
        tenancy = self.tenancy
        if tenancy is None:
            return
        tenancy.zygote_ready = False
        tenancy.restarts = Restarts()  # what failed without a zygote was not the servers' fault
        tenancy.retries.clear()
        for place in tenancy.places:
            place.refused, place.retrying = 0, False
        for place in [place for place in tenancy.places if place.alive]:
            self._effects.append(KillServer(place.number))
            self._bury(tenancy, place, f"lost its parent process: {text}", now)
        if self.tenancy is not tenancy or tenancy.closing is not None:
            return
        if not tenancy.zygote_restarts.too_many(now):
            self._effects.append(StartZygote(tenancy.lease))
            return
        self._tell_of_failures(tenancy, text, tenancy.setup_lines)
        for place in tenancy.places:
            self._to_scheduler(ServerDown(tenancy.lease, self._spot(place, 0), text))
        self._hand_back_queue(tenancy)

    def _start(self, tenancy: Tenancy, place: Place) -> None:
        place.alive = True
        place.condemned = None
        place.lines.clear()
        lease = tenancy.lease
        self._effects.append(StartServer(place.number, place.name, place.port, lease, lease.client))

    def _on_server_ready(self, envelope: Envelope, ready: ServerReady, now: float) -> None:
        tenancy = self.tenancy
        place = self._alive(ready.number, ready.pid)
        if tenancy is None or place is None or place.server is not None:
            self._log(
                "warning", f"{envelope.sender} says it is server {ready.number}, which nobody waits for"
            )
            return
        epoch = envelope.sender.epoch
        server = Server(place.number, ready.pid, self._spot(place, epoch), Address(epoch, SERVER))
        place.server = server
        tenancy.restarts.in_row = place.refused = 0
        tenancy.feeding.add(server)
        if tenancy.closing is None:
            self._to_scheduler(ServerUp(tenancy.lease, server.spot, ready.pid))
        else:
            tenancy.feeding.withdraw(server)
            self._send(server.address, Shutdown(KILL_AFTER))

    def _spot(self, place: Place, epoch: int) -> Spot:
        return Spot(self.info.addr, place.port, epoch, place.name)

    def _alive(self, number: int, pid: int) -> Place | None:
        """The place of which this process speaks, unless it is a word about an earlier process there."""
        tenancy = self.tenancy
        if tenancy is None or not 1 <= number <= len(tenancy.places):
            return None
        place = tenancy.places[number - 1]
        known = place.server is None or place.server.pid == pid
        return place if place.alive and known and pid != place.gone_pid else None

    def server_exited(
        self, number: int, pid: int, death: str, oom: bool, now: float, reached: TaskId | None = None
    ) -> None:
        """A server's process ended, all it sent was received; `death` is like "killed by SIGKILL (9)".

        `reached` is the last CPU task that it began, by its own mark; None: not known, so the first of those given.
        """
        self._now = now
        place = self._alive(number, pid)
        if place is None or self.tenancy is None:
            self._log("info", f"process {pid}, once server {number}, {death}")
            return
        place.gone_pid = pid
        self._bury(self.tenancy, place, f"{death}, out of memory" if oom else death, now, reached=reached)

    def server_failed_to_start(self, number: int, text: str, now: float) -> None:
        """There is no process: fork failed, or the zygote is gone."""
        self._now = now
        place = self._alive(number, -1)
        if place is not None and self.tenancy is not None:
            self._bury(self.tenancy, place, f"did not start: {text}", now, unborn=True)

    def _retry(self, tenancy: Tenancy, now: float) -> None:
        while tenancy.retries and tenancy.retries[0][0] <= now:
            _, place = tenancy.retries.popleft()
            place.retrying = False
            if tenancy.closing is None:
                self._start(tenancy, place)

    def _bury(
        self,
        tenancy: Tenancy,
        place: Place,
        death: str,
        now: float,
        *,
        unborn: bool = False,
        reached: TaskId | None = None,
    ) -> None:
        """Speaks for all that a dead server had, then starts the next one."""
        server, place.server, place.alive = place.server, None, False
        if server is not None:
            place.gone_pid = server.pid
        if place.condemned is not None:
            death = f"{death}: {place.condemned.run.function} did not end within 5 s of its KeyboardInterrupt"
        back = []
        if server is not None:
            back = self._speak_for(tenancy, server, place.condemned, death, now, begun_by(server, reached))
        place.condemned = None
        again = self._may_restart(tenancy, place, server, unborn, death, now)
        spot = server.spot if server is not None else self._spot(place, 0)
        closing = tenancy.closing is not None
        self._to_scheduler(ServerDown(tenancy.lease, spot, death, closing, again))
        if back:
            self._to_scheduler(Recalled(back))
        if server is not None:
            self._effects.append(ForgetPeer(server.address.epoch))
        if again and tenancy.zygote_ready:
            if unborn:
                place.retrying = True
                tenancy.retries.append((now + RETRY_AFTER, place))
            else:
                self._start(tenancy, place)
        elif not again:
            self._hand_back_queue(tenancy)
        if closing:
            self._finish_if_empty(tenancy)

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
        said = "".join(f"\n    {line}" for line in lines)
        notice = f"node {self.info.name} does not try again to start what always fails: {text}{said}"
        self._log("error", notice)
        if not tenancy.told_of_failures:
            tenancy.told_of_failures = True
            self._to_client(tenancy, Notice(notice, "error"))

    def _hand_back_queue(self, tenancy: Tenancy) -> None:
        """Without any server, and none to come, what waits here would wait for ever."""
        if tenancy.closing is None and not any(place.alive or place.retrying for place in tenancy.places):
            tenancy.stranded = True
            tasks = tenancy.feeding.cancel_all()
            if tasks:
                self._to_scheduler(Recalled([task.id for task in tasks]))

    # --- speaking for the dead

    def _speak_for(
        self,
        tenancy: Tenancy,
        server: Server,
        cause: NodeTask | None,
        death: str,
        now: float,
        begun: Container[TaskId],
    ) -> list[TaskId]:
        """Says the outcome of each task that the server had or had ended; the rest goes back, not started."""
        sentence = f"server {server.spot.name} {'was ' if death.startswith('killed') else ''}{death}"
        for kept in tenancy.outcomes.take(server.address.epoch):
            outcome, payload = repeat(kept, server.spot, sentence)
            self._to_client(tenancy, outcome, payload)
        closing = tenancy.closing is not None
        back: list[TaskId] = []
        for task in tenancy.feeding.drop(server):
            started = task.server is server and (task.run.io or task.began or task.id in begun)
            word = verdict(task, started, closing or task is cause, server.spot, sentence, now)
            if word is None:
                back.append(task.id)
            else:
                self._speak(tenancy, word, task.acked)
        return back

    def _speak(self, tenancy: Tenancy, outcome: Outcome, heard: bool = False) -> None:
        """The node's own word for a task: to the client, and as a fact to the scheduler."""
        if not heard:
            self._to_client(tenancy, outcome)
        epoch = outcome.spot.epoch if outcome.spot is not None else 0
        self._to_scheduler(Done(outcome.task, outcome.outcome, outcome.seconds, epoch))

    # --- the end of a lease

    def _on_close(self, envelope: Envelope, message: Close, now: float) -> None:
        tenancy = self.tenancy
        if tenancy is None or tenancy.lease != message.lease:
            self._send(envelope.sender, Closed(message.lease, "this node does not hold it"))
        else:
            self._close(tenancy, "", now)

    def _close(self, tenancy: Tenancy, reason: str, now: float) -> None:
        """Tasks get their KeyboardInterrupt; whether to wait for them first was the scheduler's choice."""
        if tenancy.closing is not None:
            return
        tenancy.closing = Closing(reason, now + KILL_AFTER)
        if reason:
            self._log("info", f"the lease of {tenancy.holder} ends: {reason}")
        for task in tenancy.feeding.cancel_all():
            self._speak(tenancy, cancelled(task, reason))
        for place in tenancy.places:
            if place.server is not None:
                tenancy.feeding.withdraw(place.server)
                self._send(place.server.address, Shutdown(KILL_AFTER))
            elif place.alive:
                self._effects.append(KillServer(place.number))
        self._finish_if_empty(tenancy)

    def _kill_all(self, tenancy: Tenancy, closing: Closing, now: float) -> None:
        """Again every 5 s, should a process outlive SIGKILL for a while: a lease ends when all are gone."""
        closing.kill_at = now + KILL_AFTER
        for place in tenancy.places:
            if place.alive:
                self._effects.append(KillServer(place.number))

    def _finish_if_empty(self, tenancy: Tenancy) -> None:
        closing = tenancy.closing
        if closing is None or any(place.alive for place in tenancy.places):
            return
        self._effects.append(CloseZygote(tenancy.lease))
        self._to_scheduler(Closed(tenancy.lease, closing.reason))
        self.tenancy = None
        self._served += 1
        declined, self._declined = self._declined, {}
        for epoch in declined:
            if epoch in self._schedulers:
                self._register(epoch)

    def end_lease(self, reason: str, now: float, kill_after: float = KILL_AFTER) -> None:
        """The node's operator ends the lease, if there is one; its servers are killed `kill_after` seconds later."""
        self._now = now
        if self.tenancy is not None:
            self._close(self.tenancy, reason, now)
            if self.tenancy is not None and self.tenancy.closing is not None:
                self.tenancy.closing.kill_at = min(self.tenancy.closing.kill_at, now + kill_after)

    # --- what is told

    @property
    def served(self) -> int:
        """Leases that have ended."""
        return self._served

    def say_status(self) -> str:
        """For the operator: what each server does (spec 6.2, "status")."""
        tenancy = self.tenancy
        if tenancy is None:
            return f"free; {self._served} clients served"
        lines = [f"used by {tenancy.holder}; {self._served} clients served"]
        for place in tenancy.places:
            count = len(place.server.cpu) + len(place.server.io) if place.server is not None else 0
            lines.append(
                f"  {place.name}: {count} tasks" if place.server is not None else f"  {place.name}: not up"
            )
        return "\n".join(lines)

    def availability(self, available: Availability, now: float) -> None:
        self._now = now
        self._available = available

    def _pulse(self, tenancy: Tenancy, now: float) -> None:
        tenancy.pulse_at = now + tenancy.pulse_interval
        if self._available is not None:
            location = (self.info.addr, self.info.port)
            self._to_scheduler(Pulse(self.info.name, self._available, location))

    def output(self, number: int, stream: int, text: str, now: float) -> None:
        """A server wrote this (number 0: the zygote); its last lines are kept in case it never gets ready."""
        self._now = now
        tenancy = self.tenancy
        if tenancy is None or not 0 <= number <= len(tenancy.places):
            return
        name, lines = f"{self.info.name}/setup", tenancy.setup_lines
        if number:
            name, lines = tenancy.places[number - 1].name, tenancy.places[number - 1].lines
        lines.extend(line[:LINE_MAX] for line in text.splitlines()[-LINES_KEPT:])
        self._to_client(tenancy, Output(name, stream, text))

    def _on_gone(self, envelope: Envelope, gone: Gone, now: float) -> None:
        """Our servers may wait for an answer of the dead."""
        if self.tenancy is not None and envelope.sender == self.tenancy.scheduler:
            for server in self.tenancy.feeding.servers.values():
                self._send(server.address, gone)

    def _on_notice(self, envelope: Envelope, notice: Notice, now: float) -> None:
        self._log(notice.level if notice.level in ("info", "warning", "error") else "info", notice.text)

    def _on_inventory(self, envelope: Envelope, message: Inventory, now: float) -> None:
        tenancy = self.tenancy
        client, servers = "", []
        if tenancy is not None:
            client = tenancy.client.name
            servers = [report(place.server, now) for place in tenancy.places if place.server is not None]
        answer = NodeReport(self._described(), client, servers, self._served, self._insecure)
        self._effects.append(Send(Envelope(envelope.sender, self.address, answer, envelope.correlation)))

    def _send(self, to: Address, message: Message) -> None:
        self._effects.append(Send(Envelope(to, self.address, message)))

    def _to_scheduler(self, message: Message) -> None:
        tenancy = self.tenancy
        if tenancy is not None and not tenancy.scheduler_gone:
            self._send(tenancy.scheduler, message)

    def _to_client(self, tenancy: Tenancy, message: Message, payload: Payload = None) -> None:
        if not tenancy.client_gone:
            self._effects.append(Send(Envelope(tenancy.home, self.address, message, 0, payload)))

    def _log(self, level: str, text: str) -> None:
        self._effects.append(Log(level, text))

    # --- what must hold

    def check(self) -> None:
        """Asserts what must hold between two events."""
        tenancy = self.tenancy
        if tenancy is None:
            return
        tenancy.feeding.check()
        tenancy.outcomes.check()
        ready = {
            place.server.address.epoch: place.server for place in tenancy.places if place.server is not None
        }
        assert ready == tenancy.feeding.servers, "the servers that are fed are not those that are ready"
        for place in tenancy.places:
            assert not (place.alive and place.retrying), f"{place.name} lives and is to be started"
            assert place.alive or place.server is None, f"{place.name} is dead and has a server"
            doomed = place.condemned is not None or tenancy.closing is not None
            assert place.server is None or not doomed or place.server.withdrawn, (
                f"{place.name} ends and is fed"
            )
        if tenancy.closing is not None:
            assert any(place.alive for place in tenancy.places), "all servers are gone and nobody said Closed"
            assert not any(task.queue for task in tenancy.feeding.tasks.values()), (
                "tasks wait for a closing lease"
            )
        elif tenancy.stranded:
            assert not tenancy.feeding.tasks, "tasks wait for servers that will never come"
