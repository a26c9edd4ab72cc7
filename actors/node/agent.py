"""The node agent's brain: grants its one lease, has its servers started, watched and ended, and tells what happens.

No task passes here: a client gives its tasks to the servers itself. The node keeps the 5 s that a task has to end, for its
page says whose step runs; the life and death of servers is the supervisor's. The body calls the methods named after what
happened in the world: peer_lost ...
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Any, Final

from dispycos.hours import Hours, Phase, TimeOfDay
from dispycos.protocol.addresses import CLIENT, SCHEDULER, Address
from dispycos.protocol.envelope import Envelope
from dispycos.protocol.messages import (
    Close,
    Closed,
    CloseServer,
    CodeGiven,
    Declined,
    Gone,
    Inventory,
    Kill,
    Lease,
    NodeInfo,
    Notice,
    Open,
    Opened,
    Pulse,
    Register,
    Release,
    RestartNode,
    Served,
    ServerReady,
    ServerTasks,
    SetupDone,
    SetupGiven,
    Shutdown,
    Spot,
    Terminate,
)
from dispycos.protocol.watching import Look, StackGiven, StackWanted, Wish

from ..tasks.step import KILL_AFTER
from .answering import Answering
from .lease import (
    AwaitClient,
    CloseZygote,
    Closing,
    End,
    ForgetPeer,
    NodeLease,
    Place,
    UseScheduler,
)
from .processes.words import KillServer
from .terminations import LOOK_AGAIN

LAST_S: Final = 2.5  # seconds after the 5 s: what was dropped then is told, and confirmed
LEASE_GRACE: Final = 60.0  # seconds without client or scheduler until a lease ends


class Node(Answering):
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
        insecure: bool = False,
        serve: int = 0,
        zombie_period: float = 0.0,
        hours: Hours | None = None,
    ) -> None:
        """`ports` are the servers' entries of tcp_ports: one for each server that may ever run here.

        After `serve` leases the node ends; 0 is no limit. A lease under which nothing runs for `zombie_period` seconds ends; 0: it
        does not. Outside of `hours` it takes nothing.
        """
        super().__init__(info, address, insecure=insecure)
        self._ports = ports
        self._pulse_limits = (min_pulse_interval, max_pulse_interval)
        self._lease_grace = lease_grace
        self._schedulers: dict[int, None] = {}  # epochs of those connected
        self._serve = serve
        self._zombie_period = zombie_period
        self._hours, self._phase = hours, Phase.OPEN
        self._has_ended = False
        self._handlers: dict[type, Callable[[Envelope, Any, float], None]] = {
            Terminate: self._on_terminate,
            Kill: self._on_kill,
            Open: self._on_open,
            Close: self._on_close,
            Release: self._on_release,
            ServerReady: self._on_server_ready,
            Inventory: self._on_inventory,
            Look: self._on_look,
            StackWanted: self._on_stack_wanted,
            StackGiven: self._inquiries.on_stack,
            Wish: self._on_wish,
            ServerTasks: self._inquiries.on_answer,
            Served: self._on_served,
            Notice: self._on_notice,
            Gone: self._on_gone,
            SetupGiven: self._on_setup_given,
            SetupDone: self._on_setup_done,
            CodeGiven: self._on_code_given,
            CloseServer: self._on_close_server,
            RestartNode: self._on_restart_node,
        }

    # --- machine

    def receive(self, envelope: Envelope, now: float) -> None:
        handler = self._handlers.get(type(envelope.message))
        if handler is None:
            self._out.log("warning", f"{envelope.message!r} from {envelope.sender} is nothing for a node")
        else:
            handler(envelope, envelope.message, now)

    def wake(self, now: float) -> None:
        self._inquiries.wake(now, self.step_of)
        granted = self.granted
        if granted is None:
            return
        self._supervise(granted, now)
        if granted.pulse_at <= now:
            self._pulse(granted, now)
        if granted.alone_until is not None and granted.alone_until <= now:
            granted.alone_until = None
            self._close(granted, f"its client and scheduler were silent for {self._lease_grace:.0f} s", now)
        if granted.closing is not None and granted.closing.kill_at <= now:
            self._kill_all(granted, granted.closing, now)
        if granted.closing is not None and granted.closing.look_at <= now:
            granted.closing.look_at = now + LOOK_AGAIN
            self._end_steps((place.number for place in granted.places if place.alive), now)

    def deadline(self) -> float | None:
        asked = self._inquiries.deadline
        if self.granted is None:
            return asked
        due = self.granted.deadline()
        return due if asked is None else min(due, asked)

    def drain(self) -> list[object]:
        if self.granted is not None:
            self._close_if_uninhabited(self.granted)
            self._renew_if_empty(self.granted)
            self._finish_if_empty(self.granted)
        if self.ending and self.granted is None and not self._has_ended:
            self._has_ended = True
            self._out.effects.append(End())
        return self._out.drain()

    # --- the lease

    def add_scheduler(self, epoch: int, now: float) -> None:
        """A scheduler's runtime is connected."""
        self._schedulers[epoch] = None
        self._register(epoch)

    def _register(self, epoch: int) -> None:
        """Said with each link: a scheduler uses a node that was away when it knows which lease it has still."""
        granted = self.granted
        if granted is None and self.ending:
            return  # it is not for use
        word = Register(self.info)
        if granted is not None:
            word = Register(self.info, granted.lease, granted.is_ending, granted.client)
        self._out.send(Address(epoch, SCHEDULER), word)

    def _on_open(self, envelope: Envelope, message: Open, now: float) -> None:
        granted = self.granted
        reason = self._reason_to_decline(message, now)
        if reason:
            self._out.send(envelope.sender, Declined(message.lease, reason))
            level = "debug" if reason == self._resting else "info"  # it is asked again and again
            self._out.log(level, f"declined {message.client.name}: {reason}")
        elif granted is None:
            self._grant(envelope.sender, message, now)
        else:
            self._take_over(granted, envelope.sender, message)

    def _reason_to_decline(self, message: Open, now: float) -> str:
        granted = self.granted
        if granted is not None:
            lease, wanted = granted.lease, message.lease
            if (lease.number, lease.scheduler) != (wanted.number, wanted.scheduler):
                state = "held by" if granted.closing is None else "still being closed for"
                return f"{state} {granted.holder} for {now - granted.since:.0f} s"
        elif self.ending or self._resting:
            return self.ending or self._resting
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
            Place(k, Spot(self.info.addr, port, 0, f"{self.info.name}/server-{k}"))
            for k, port in enumerate(self._ports[:count], start=1)
        ]
        self.granted = NodeLease(
            message.lease,
            message.client,
            now,
            places,
            scheduler,
            Address(message.lease.client, CLIENT),
            interval,
            now + interval,
            now,
            message.max_file_size,
            present={scheduler.epoch},
            changed_at=now,
        )
        self._out.send(scheduler, Opened(message.lease, count, interval))
        self._start_zygote(self.granted)

    def _take_over(self, granted: NodeLease, scheduler: Address, message: Open) -> None:
        """The holder's scheduler was started again: it gets its lease back with the servers as they are."""
        self._follow(granted, scheduler)
        granted.lease = message.lease
        self._out.send(scheduler, Opened(message.lease, len(granted.places), granted.pulse_interval))
        self._tell_again(granted)
        if granted.is_ending:
            self._register(scheduler.epoch)  # that it ends is news

    def _follow(self, granted: NodeLease, scheduler: Address) -> None:
        """This process is the lease's scheduler now."""
        if scheduler != granted.scheduler:
            granted.present.discard(granted.scheduler.epoch)
            granted.scheduler = scheduler
            self._out.effects.append(UseScheduler(scheduler.epoch))
        granted.scheduler_gone = False
        granted.came(scheduler.epoch)

    def peer_up(self, epoch: int, now: float) -> None:
        if self.granted is not None:
            self.granted.came(epoch)

    def peer_lost(self, epoch: int, now: float, *, lives: bool = False) -> None:
        """No link to it, for now. A scheduler that lives is waited for: its death will be told. A client may have left."""
        granted = self.granted
        if granted is not None and not (lives and epoch == granted.scheduler.epoch):
            granted.went(epoch, now, self._lease_grace)

    def peer_reset(self, epoch: int, now: float, *, is_dead: bool = False) -> None:
        """This process is gone, and what it had not confirmed with it: for a server its exit says the rest, a
        client ends its lease, and a scheduler that comes back is told the state as it is then."""
        if epoch in self._schedulers:  # if only its session is gone it has forgotten us, and what we said
            del self._schedulers[epoch]
            self._register(epoch)
        granted = self.granted
        if granted is None:
            return
        if epoch == granted.lease.client and granted.asks_setup and not is_dead:
            self._ask_setup(granted)  # the session was that of a lease before
        elif epoch == granted.lease.client:
            self._client_gone(granted, now)
        elif epoch == granted.scheduler.epoch:
            granted.scheduler_gone = True
            granted.went(epoch, now, self._lease_grace)
        else:  # a server that lost its session is of no use; if it lives, its exit is the way to a new one
            self._kill(granted, epoch)

    def setup_failed(self, text: str, now: float) -> None:
        granted = self.granted
        if granted is not None and granted.closing is None:
            self._close(granted, text, now)
            if granted.closing is not None:
                granted.closing.failed = True

    def _client_gone(self, granted: NodeLease, now: float) -> None:
        granted.client_gone = True
        self._close(granted, "its client has ended", now)

    # --- the end of a lease

    def _on_close(self, envelope: Envelope, message: Close, now: float) -> None:
        granted = self.granted
        if granted is None or granted.lease != message.lease:
            self._out.send(envelope.sender, Closed(message.lease, "this node does not hold it"))
        else:
            self._follow(granted, envelope.sender)  # Closed has to reach this one
            granted.has_printed = granted.has_printed or message.goes_on
            self._close(granted, "", now)

    def _on_release(self, envelope: Envelope, message: Release, now: float) -> None:
        if self.granted is not None and envelope.sender == self.granted.home:
            self._close(self.granted, "its client has left, and its scheduler is away", now)

    def _close(self, granted: NodeLease, reason: str, now: float) -> None:
        """Tasks get their KeyboardInterrupt: to wait for them first was the client's choice."""
        if granted.closing is not None:
            return
        granted.closing = Closing(reason, now + KILL_AFTER, now + KILL_AFTER + LAST_S)
        granted.changed_at = now if now < inf else granted.changed_at
        if reason:
            self._out.log("info", f"the lease of {granted.holder} ends: {reason}")
        for place in granted.places:
            if place.is_ready:
                self._out.send(place.address, Shutdown(reason))
            elif place.alive:
                self._out.effects.append(KillServer(place.number))

    def _kill_all(self, granted: NodeLease, closing: Closing, now: float) -> None:
        """Again every 5 s, should a process outlive SIGKILL for a while: a lease ends when all are gone."""
        closing.kill_at = now + KILL_AFTER
        for place in granted.places:
            if place.alive:
                self._out.effects.append(KillServer(place.number))

    def _finish_if_empty(self, granted: NodeLease) -> None:
        closing = granted.closing
        if closing is None or granted.awaits_client or granted.is_inhabited:
            return
        if granted.has_printed and not granted.client_gone:
            granted.has_printed, granted.awaits_client = False, True
            self._out.effects.append(AwaitClient(granted.lease))
            return
        self.granted = None
        self._summaries.add(granted.client, granted.since, granted.changed_at, granted.tally, closing.reason)
        self._served += 1
        if self._served == self._serve:
            self.ending = f"it was started for {self._serve} clients"
        self._out.effects.append(CloseZygote(granted.lease, granted.keeps_files))
        self._out.to_scheduler(
            granted,
            Closed(
                granted.lease,
                closing.reason,
                bool(self.ending),
                dismissed=granted.dismissed,
                failed=closing.failed,
            ),
        )
        for epoch in self._schedulers:
            if epoch != granted.scheduler.epoch:  # it was declined, or was about to take the lease over
                self._register(epoch)

    def client_has_all(self, lease: Lease, now: float) -> None:
        """Of what this node said to it before the end of this lease: the scheduler's Released may take a shorter way."""
        granted = self.granted
        # Its scheduler may have been started anew meanwhile, and have another lease of the same number.
        if granted is not None and granted.lease.number == lease.number:
            granted.awaits_client = False

    def end_lease(self, reason: str, now: float, kill_after: float = inf) -> None:
        """The node's operator ends the lease, if there is one; its servers are killed `kill_after` seconds later at the latest."""
        if self.granted is not None:
            self._close(self.granted, reason, now)
            if self.granted is not None and self.granted.closing is not None:
                self.granted.closing.kill_at = min(self.granted.closing.kill_at, now + kill_after)

    def dismiss(self, reason: str, now: float) -> None:
        """As end_lease; a client that has no other node loses the cluster, and the next one gets it."""
        if self.granted is not None:
            self.granted.dismissed = True
            self.end_lease(reason, now)

    # --- the end of the node

    def finish(self, now: float, *, terminate: bool = False) -> None:
        """The operator's wish: it takes nothing new, and ends when all tasks that it has are done, or with them."""
        self.ending = f"the operator of node {self.info.name} ends it"
        if terminate:
            self.end_lease(self.ending, now)
        if self.granted is not None:
            self.granted.dismissed = True
            self._drain(self.granted, self.ending, now)

    def _drain(self, granted: NodeLease, why: str, now: float) -> None:
        """Of a lease that is ending already its scheduler hears all the same."""
        if not granted.is_ending:
            granted.draining, granted.changed_at = why, now
            for server in granted.ready():
                self._out.send(server.address, Shutdown(drain=True))
        if granted.scheduler.epoch in self._schedulers:
            self._register(granted.scheduler.epoch)

    def _close_if_uninhabited(self, granted: NodeLease) -> None:
        """It drains: first its servers end, then its lease does, and if it ends, itself."""
        if granted.draining and granted.closing is None and not granted.is_inhabited:
            self._close(granted, granted.draining, inf)  # nobody is to be killed

    # --- service hours

    def tell_time(self, clock: TimeOfDay, now: float) -> None:
        """By the wall clock, every few seconds."""
        hours = self._hours
        if hours is None or (phase := hours.phase(clock)) is self._phase:
            return
        self._phase = phase
        self._resting = "" if phase is Phase.OPEN else f"its service hours are {hours}"
        if phase is Phase.OPEN:
            self._out.log("info", f"in service: {hours}")
            for epoch in self._schedulers:
                self._register(epoch)
            return
        self._out.log("info", f"out of service: {self._resting}")
        granted = self.granted
        if granted is None:
            return
        if phase is Phase.CLOSED:
            self.end_lease(self._resting, now)
        elif not granted.is_ending:
            until = f" until {hours.end} at the latest" if hours.end is not None else ""
            text = (
                f"node {self.info.name} takes no new tasks, {self._resting}; what runs there goes on{until}"
            )
            self._out.to_client(granted, Notice(text, "warning"))
            self._drain(granted, self._resting, now)

    # --- what is told

    def _pulse(self, granted: NodeLease, now: float) -> None:
        granted.pulse_at = now + granted.pulse_interval
        if self.info.available is not None:
            hears_client = granted.lease.client in granted.present
            idle_s = granted.told_idle_s = granted.idle_s(now)
            pulse = Pulse(self.info.epoch, self.info.available, hears_client=hears_client, idle_s=idle_s)
            self._out.to_scheduler(granted, pulse)

    def saw(self, running: int, activity: object, now: float) -> None:
        """What the pages say of the servers' tasks: how many run, and something that changes when one begins.

        The servers alone know it: tasks do not pass here, nor do all pass the scheduler.
        """
        granted = self.granted
        if granted is None or granted.is_ending:
            return
        if running or activity != granted.activity or granted.is_starting:
            granted.activity, granted.idle_since = activity, now
            was_said_to_idle = granted.told_idle_s >= granted.pulse_interval
            if was_said_to_idle:  # its scheduler must not go on taking it for idle
                self._pulse(granted, now)
        elif self._zombie_period and granted.idle_since + self._zombie_period <= now:
            reason = f"nothing ran on it for {self._zombie_period:g} s, the --zombie_period of node {self.info.name}"
            self.dismiss(reason, now)

    def _on_gone(self, envelope: Envelope, gone: Gone, now: float) -> None:
        """Our servers may wait for an answer of the dead. Without its client the lease is over."""
        granted = self.granted
        if granted is None or envelope.sender not in (granted.home, granted.scheduler):
            return
        for server in granted.ready():
            self._out.send(server.address, gone)
        self._out.effects += [ForgetPeer(epoch) for epoch in gone.epochs]
        if granted.lease.client in gone.epochs:
            self._client_gone(granted, now)

    def _on_notice(self, envelope: Envelope, notice: Notice, now: float) -> None:
        self._out.log(notice.level if notice.level in ("info", "warning", "error") else "info", notice.text)

    def check(self) -> None:
        """Asserts what must hold between two events."""
        if self.granted is not None:
            self.granted.check()
