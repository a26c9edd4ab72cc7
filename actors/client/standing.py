"""How a client stands with its scheduler: in the queue, with a lease, leaving; and what it does while that is away.

Tasks go on without a scheduler by the links to servers and nodes; it is told all when it is back.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from msgspec import structs

from dispycos.notices import PATIENCE_S, counted, next_pause
from dispycos.protocol import messages
from dispycos.protocol.addresses import NODE, SCHEDULER, Address
from dispycos.protocol.envelope import Envelope
from dispycos.protocol.status import OutcomeKind, Status

from ..dispatching.dispatch import Dispatcher
from .effects import Failed, Freed
from .holdings import Holdings
from .members import Members
from .owned import Tasks

LEFT_NAMED: Final = 5  # files that went with their folders
LEAVE_S: Final = 10.0  # a client that has done waits so long for a scheduler that is away


class Standing:
    def __init__(self, holdings: Holdings, tasks: Tasks, members: Members) -> None:
        self._has = holdings
        self._tasks = tasks
        self._members = members
        self.since = 0.0  # it waits in the queue, or has the cluster, since
        self.queued: messages.Queued | None = None
        self.wishes: messages.Enlist | None = None
        self._origin = ""  # how the scheduler calls clients of this process, after their name
        self._patience: float | None = None  # in the queue of clients
        self._is_unknown = False  # to the scheduler, which was started anew or has forgotten this client
        self._away_since: float | None = None  # no link to the scheduler
        self._away_at = self._away_pause = 0.0  # when that is said, and how long after the last time
        self._want_at: float | None = None  # tasks wait, and no server may take them: when that is said
        self._pause = PATIENCE_S
        self._lacks = 0  # kinds of tasks that lacked something when that was said
        self._left: list[messages.Left] = []  # files that are removed with the lease, by node
        self.handlers: dict[type, Callable[[Envelope, float], None]] = {
            messages.Queued: self._on_queued,
            messages.Granted: self._on_granted,
            messages.Turned: self._on_turned,
            messages.Released: self._on_released,
            messages.Notice: lambda envelope, now: holdings.say(
                envelope.message.text, envelope.message.level
            ),
            messages.Left: lambda envelope, now: self._left.append(envelope.message),
        }

    max_file_size = 0  # bytes of a file that this client may send; 0: as the receivers say

    def deadline(self) -> float | None:
        away = self._away_at if self._away_since is not None else None
        return min((due for due in (self._patience, self._want_at, away) if due is not None), default=None)

    def wake(self, now: float) -> None:
        if self._patience is not None and self._patience <= now:
            self._patience = None
            if self.queued is not None and self._has.lease is None:
                self._say_queued(self.queued)
        if self._want_at is not None and self._want_at <= now:
            self._pause = next_pause(self._pause)
            self._want_at = now + self._pause
            self._lacks = self._has.dispatcher.lacks
            self._say_wants()
        if self._away_since is not None and self._away_at <= now:
            self._tell_away(now)

    def watch(self, now: float) -> None:
        """After each pass of the dispatcher."""
        self._watch_wants(now)
        if self._has.is_releasing and not self._has.is_released and self._tasks.has_done_all():
            self._send_release(now)

    # --- the queue and the lease ---

    def enlist(self, scheduler: Address, word: messages.Enlist, now: float) -> None:
        self._has.scheduler, self.wishes = scheduler, word
        self._origin = f" on {word.client.host} (pid {word.client.pid})"
        self._patience = now + PATIENCE_S
        self.since = now
        self._to_scheduler(word)

    def allocate(self, allocation: messages.Allocation) -> None:
        """One more, also for a scheduler that comes later."""
        assert self.wishes is not None
        has, unrestricted = self.wishes.allocations, self.wishes.unrestricted or not self.wishes.allocations
        self.wishes = structs.replace(self.wishes, allocations=[*has, allocation], unrestricted=unrestricted)
        self._to_scheduler(messages.Allocate(allocation))

    def accept(self, offer: messages.Offer, count: int) -> None:
        if not self._has.is_freed:
            self._to_scheduler(messages.Accept(offer.node.epoch, offer.entry, count))

    def _on_queued(self, envelope: Envelope, now: float) -> None:
        self.queued = word = envelope.message
        assert self.wishes is not None
        self.wishes = structs.replace(self.wishes, ticket=word.ticket)
        if self._patience is None:
            self._say_queued(envelope.message)

    def _say_queued(self, queued: messages.Queued) -> None:
        own = " (another Client of this very program)" if queued.holder.endswith(self._origin) else ""
        has_it = f"{queued.holder} has it{own}" if queued.holder else "the scheduler was just started anew"
        self._has.say(f"waiting for the cluster: {has_it}; place {queued.position} in the queue", "warning")

    def _on_granted(self, envelope: Envelope, now: float) -> None:
        if self._has.lease is None:
            self.since = now
        self._has.lease = envelope.message.lease
        self.max_file_size = envelope.message.max_file_size
        self.queued = None

    def _on_turned(self, envelope: Envelope, now: float) -> None:
        if self._has.lease is not None:
            self.scheduler_lost(envelope.message.reason)
        else:
            self._has.effects.append(Failed(envelope.message.reason))

    def _watch_wants(self, now: float) -> None:
        """Nobody waits in silence: the scheduler is asked what is missing when no server may take what waits."""
        dispatcher = self._has.dispatcher
        lacks = dispatcher.lacks
        is_given = dispatcher.has_servers and not dispatcher.is_held_up and not lacks
        if not dispatcher.waiting or is_given:
            self._want_at, self._pause, self._lacks = None, PATIENCE_S, 0
        elif self._want_at is None:
            self._want_at = now + self._pause
        elif lacks > self._lacks and self._pause > PATIENCE_S:  # something else is missing, too
            self._want_at, self._pause = now + PATIENCE_S, PATIENCE_S

    def _say_wants(self) -> None:
        """What the program itself keeps from taking tasks it hears at once; of the rest the scheduler knows."""
        waiting, why = self._has.dispatcher.waiting, self._members.setups.why_waiting()
        held_up, why_not = self._members.control.held_up()
        if held_up:
            waiting, why = held_up, "; ".join(filter(None, (why, why_not)))
        lacking, what = self._has.dispatcher.lacking()
        if not why and lacking and self._has.dispatcher.has_servers:
            waiting, why = lacking, what
        if why:
            self._has.say(f"{counted(waiting, 'task')} cannot run: {why}; still waiting", "warning")
        else:
            self._to_scheduler(messages.Wanting(waiting))

    def _to_scheduler(self, word: messages.Message) -> None:
        """Nothing, if that does not know us any more: it is told all when it is back."""
        assert self._has.scheduler is not None
        if not self._is_unknown:
            self._has.send(self._has.scheduler, word)

    # --- a scheduler that is away ---

    def _await_scheduler(self, now: float) -> None:
        if not self._has.is_freed:
            self._away_since, self._away_pause = now, PATIENCE_S
            self._away_at = now + PATIENCE_S

    def scheduler_back(self, scheduler: Address, now: float) -> None:
        """There is a link to a scheduler: the same process as before, or another in its place."""
        if self._has.scheduler is None:
            return  # this client has not enlisted yet
        self._has.is_changed = True
        if self._away_since is not None and self._away_pause > PATIENCE_S:
            self._has.say("the scheduler is back")
        self._away_since = None
        if scheduler == self._has.scheduler and not self._is_unknown:
            return
        assert self.wishes is not None
        self._has.scheduler, self._is_unknown = scheduler, False
        self._has.had = {*self._has.nodes, *self._has.servers}
        word = structs.replace(
            self.wishes,
            lease=self._has.lease,
            releasing=self._has.is_released,
            nodes=list(self._has.nodes.values()),
        )
        self._to_scheduler(word)
        self._members.control.scheduler_back()

    def _tell_away(self, now: float) -> None:
        assert self._away_since is not None
        silence = now - self._away_since
        if self._has.is_released and silence >= LEAVE_S:
            for node in self._has.nodes:  # else they would wait for it, as long as this process lives
                self._has.send(Address(node, NODE), messages.Release())
            self._leave("the scheduler is away")
            return
        self._away_pause = next_pause(self._away_pause)
        self._away_at = now + self._away_pause
        if self._has.is_released:
            self._away_at = self._away_since + LEAVE_S
            goes_on = "nothing is left to do but to tell it so"
        elif self._has.lease is None:
            goes_on = "this client keeps its place in the queue"
        else:
            goes_on = f"this client goes on ({counted(len(self._has.records), 'task')} left), but servers that die are not replaced"
        self._has.say(f"no link to the scheduler for {silence:.0f} s; still trying. {goes_on}", "warning")

    def link_lost(self, epoch: int, now: float) -> None:
        if self._has.scheduler is not None and epoch == self._has.scheduler.epoch:
            self._await_scheduler(now)

    def session_lost(self, epoch: int, now: float) -> None:
        """With this process; what was on its way is lost with it."""
        if self._has.scheduler is not None and epoch == self._has.scheduler.epoch and not self._is_unknown:
            self._is_unknown = True
            self._await_scheduler(now)

    # --- the end ---

    def release(self, *, terminate: bool, await_io: bool) -> None:
        """Give the cluster back: after all that was submitted, or, to terminate, at once."""
        self._has.is_changed = True
        self._has.is_releasing = True
        self._has.is_terminating = self._has.is_terminating or terminate
        self._has.awaits_io = await_io
        if terminate:
            self._tasks.close("the client closed")
            self._send_release(self._has.now)

    def _send_release(self, now: float) -> None:
        self._has.is_released = True
        self._to_scheduler(messages.Release())
        if self._away_since is not None:
            self._await_scheduler(now)

    def scheduler_lost(self, reason: str) -> None:
        """Nobody speaks for our tasks any more."""
        self._has.is_changed = True
        self._tasks.end_all(OutcomeKind.LOST, reason)
        self._has.over = reason
        self._end_lease(reason)

    def _on_released(self, envelope: Envelope, now: float) -> None:
        reason = envelope.message.reason
        if reason or self._has.lease is not None or self._has.is_releasing:
            self._leave(reason)  # else it is what an earlier client of this process has awaited in vain

    def _leave(self, reason: str) -> None:
        for word in self._left:
            if word.kept:
                text = f"the files of this client stay in {word.kept}: remove them when they are not needed"
                self._has.say(text, "warning")
        removed = [word for word in self._left if not word.kept]
        if removed:
            self._has.say(_left_behind(removed), "warning")
        self._left.clear()
        if not self._has.is_releasing:
            self._has.over = reason or "the scheduler ended the lease"
            self._has.say(f"the lease has ended: {self._has.over}", "warning")
        kind = OutcomeKind.TERMINATED if self._has.is_releasing else OutcomeKind.LOST
        self._tasks.end_all(kind, reason or "the client closed")
        self._end_lease(reason)
        self._has.tell(Status.ClientClosed, None)

    def _end_lease(self, reason: str) -> None:
        self._has.lease = self._away_since = None
        self._has.is_released = self._has.is_freed = True
        self._members.lease_ended()
        done = self._has.dispatcher.fleet.counts()
        self._has.dispatcher = Dispatcher(self._tasks)
        self._has.dispatcher.fleet.past = done
        self._has.effects.append(Freed(reason))


def _left_behind(left: list[messages.Left]) -> str:
    count = sum(word.count for word in left)
    names = [name for word in left for name in word.names][:LEFT_NAMED]
    more = f" and {count - len(names)} more" if count > len(names) else ""
    return (
        f"{count} file{'s' if count > 1 else ''} of tasks ({sum(word.size for word in left):,} bytes) went with their working "
        f"folders: {', '.join(names)}{more}. What is to stay needs an absolute path or Client(cwd=...), or is returned"
    )


def scheduler_of(epoch: int) -> Address:
    return Address(epoch, SCHEDULER)
