"""One task in this process: its mailbox, its steps, and its end. A plain function is called at once.

Mailboxes keep bytes; a message is unpickled when its receiver takes it, in the receiver's own step, so that a message whose
code is not there yet waits for its code together with all later ones of that receiver, and nobody else's.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from dispycos.protocol import messages
from dispycos.protocol.addresses import HOST, Address
from dispycos.protocol.envelope import Envelope, Payload, bytes_of
from dispycos.protocol.messages import TaskId
from dispycos.values import wait_time

from .calling import COMMON, can_suspend, no_iterator, with_task
from .current import context_of
from .ends import Outcome, Raised, Returned, raised
from .handles import Handles
from .keeping import WAIT, Keeping, MailboxState, is_counted, must_be_policy
from .loops import must_run_on
from .results import pack_outcome
from .running.execution import Execution, call_plainly, is_coroutine
from .running.subtasks import Subtasks
from .step import KILL_AFTER
from .submitting import Task
from .swap import Swap
from .windows import Taken, sender_of, senders

log = logging.getLogger("dispycos")


class Cell:
    """One task in this process. It has an address, and can be reached, from when somebody asks for it: few short ones are."""

    # Not set by most, so by none at first: each server makes one for every task.
    _address: Address | None = None
    _handle: Task | None = None
    waiter: asyncio.Future[bool] | None = None
    execution: Execution | None = None
    asked: Envelope | None = None  # the request taken last, not answered yet
    taken: Taken | None = None  # of the inbox, and not told yet to the senders
    taken_count = 0  # messages, since it began
    names: tuple[str, ...] = ()  # by which others find it
    keeping: Keeping | None = None  # what the inbox keeps, if the task has chosen
    watchers: tuple[tuple[Address, int], ...] = ()  # who is told of the end, with what they know it by
    followers: tuple[Envelope, ...] = ()  # who is only told that it has ended
    outcome: Outcome | None = None
    future: Task | None = None  # the handle, when somebody waits for the end
    on_end: Callable[[Cell, Outcome], None] | None = None
    leaves: tuple[Callable[[], None], ...] = ()  # what others have of it is given up at its end, by these
    run: Any = None  # in a server: the Run that it came by ...
    position = 0  # ... its place in the order in which the server was given them ...
    call: tuple[Any, Any, Any] | None = None  # ... and, for who looks, its call while `begin` is under way
    swap: Swap | None = None  # another function is to take its place, or may
    subtasks: Subtasks | None = None  # made with the first of them
    stopping = False  # terminate() was called
    dropping: asyncio.TimerHandle | None = None  # ... and in a server it has so much time
    ended = False

    def __init__(self, host: Handles, name: str, task: TaskId | None = None) -> None:
        self.host = host
        self.name = name
        self.task = task  # None: nobody else asked for it
        self.inbox: deque[Envelope] = deque()

    @property
    def address(self) -> Address:
        return self._address or self.take_address()

    def take_address(self) -> Address:
        """From any thread. Who asks for that of a task that has ended gets one where nobody is."""
        host = self.host
        with host.shield, host.runtime.lock:
            if self._address is None:
                actor = host.take_number()
                self._address = host.runtime.address(actor)
                if not self.ended:
                    host.cells[actor] = self
                    host.runtime.attach_inbox(actor, self.on_envelope)
            return self._address

    @property
    def actor(self) -> int:
        """Of its address, if it has one; else 0."""
        return self._address.actor if self._address is not None else 0

    @property
    def home(self) -> Address:
        return self.address if self.task is None else Address(self.task.owner, self.task.number)

    @property
    def handle(self) -> Task:
        """Made when somebody wants it: most tasks do not know themselves."""
        return self._handle or self.bind(self.host.new_handle())

    @property
    def own_handle(self) -> Task | None:
        """If it was made."""
        return self._handle

    def bind(self, handle: Task) -> Task:
        """This is the task's own handle."""
        self._handle = handle._bind(
            self.host, self.home, self.name, self, direct=self.address, place=self.host.place
        )
        return handle

    @property
    def attempt(self) -> int:
        return 1 if self.task is None else self.task.attempt

    @property
    def resources(self) -> dict[str, list[int]]:
        return (self.run.units if self.run is not None else None) or {}

    def watch(self, watcher: Address, correlation: int) -> None:
        self.watchers += ((watcher, correlation),)

    def at_end(self, call: Callable[[], None]) -> None:
        """Have this called on the loop when it has ended, before anybody is told."""
        self.leaves += (call,)

    # --- told by the runtime, under the lock, perhaps by the relief thread: no user code, no future here ---

    def on_envelope(self, envelope: Envelope, now: float) -> None:
        message = envelope.message
        if isinstance(message, messages.Ended) and self.host.expects(envelope.correlation):
            self.host.on_reply(envelope)  # `await handle` watches; monitor() wants a message
        elif isinstance(message, messages.Tell | messages.Ask | messages.Ended):
            self.inbox.append(envelope)
            if self.keeping is not None and self.keeping.came(envelope):
                self._pay(envelope)
            if isinstance(message, messages.Tell) and envelope.correlation:
                self.host.answer(envelope, messages.Delivered(1))
            if self.waiter is not None:
                self.host.runtime.defer(self.wake)
        elif isinstance(message, messages.Watch) and message.brief:
            self.followers += (envelope,)
        elif isinstance(message, messages.Watch):
            self.watch(envelope.sender, envelope.correlation)
        elif isinstance(message, messages.TerminateActor):
            if message.cancelled:
                self.handle._cancelled_elsewhere()
            self.terminate()
        elif isinstance(message, messages.Link):
            self.host.end_with(self, message.home, message.name)
        elif isinstance(message, messages.HotSwap):
            self.host.runtime.defer(lambda: self.host.in_background(self._take_swap(envelope)))
        elif isinstance(message, messages.AwaitsMessage):
            self.host.answer(envelope, messages.Delivered(int(self.waiter is not None)))
        else:
            self.host.on_reply(envelope)

    def wake(self) -> None:
        waiter = self.waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(True)

    # --- called by the task itself ---

    async def receive(self, timeout: float | None, alarm_value: Any) -> Any:
        seconds = wait_time(timeout)
        if not self.inbox and not await self._wait(seconds):
            return alarm_value
        envelope = self.inbox[0]
        outcome = await self.host.open_message(envelope)
        with self.host.shield:
            self._take(envelope)
        if isinstance(outcome, Raised):
            raise outcome.error
        return outcome.value

    async def receive_pickled(self) -> Envelope:
        """The oldest message as it came."""
        if not self.inbox:
            await self._wait(None)
        envelope = self.inbox[0]
        self._take(envelope)
        return envelope

    def _take(self, envelope: Envelope) -> None:
        """It is the oldest, if it was not dropped meanwhile."""
        self.asked = envelope if isinstance(envelope.message, messages.Ask) else None
        self.taken_count += 1
        if self.keeping is None:  # then nobody else takes anything away
            if self.inbox and self.inbox[0] is envelope:
                self.inbox.popleft()
                if type(envelope.message) is not messages.Ended:
                    self._pay(envelope)
            return
        with self.host.runtime.lock:
            if self.inbox and self.inbox[0] is envelope:
                self.inbox.popleft()
                if is_counted(envelope) and self.keeping.took(envelope):
                    self._pay(envelope)

    def _pay(self, envelope: Envelope) -> None:
        """Its sender may send another one."""
        if self.taken is None:
            self.taken = Taken()
        amount = self.taken.take(envelope)
        if amount is not None:
            self.host.give_credit(self.address, sender_of(envelope), amount)

    def mailbox(self, policy: str | None) -> MailboxState:
        """Its state, when this policy holds."""
        if policy is not None:
            must_be_policy(policy)
        with self.host.shield, self.host.runtime.lock:
            if policy is not None and (self.keeping is not None or policy != WAIT):
                self.keeping = self.keeping or Keeping(self.inbox)
                for envelope in self.keeping.choose(policy):
                    self._pay(envelope)
            size = sum(bytes_of(envelope.payload) for envelope in self.inbox)
            if self.keeping is None:
                return MailboxState(WAIT, len(self.inbox), size, 0)
            return MailboxState(self.keeping.policy, len(self.inbox), size, self.keeping.dropped)

    async def _wait(self, seconds: float | None) -> bool:
        """Until a message is there; False after so many seconds."""
        must_run_on(self.host.runtime)
        deadline = None if seconds is None else self.host.loop.time() + seconds
        while not self.inbox:
            with self.host.shield:
                waiter: asyncio.Future[bool] = self.host.loop.create_future()
                self.waiter = waiter
                if self.inbox:  # looked at last: the relief thread appends first and then looks for a waiter
                    self.waiter = None
                    return True
            try:
                if deadline is None:
                    await waiter
                else:
                    async with asyncio.timeout_at(deadline):
                        await waiter
            except TimeoutError:
                # It may have come in the same turn of the loop: what was sent before a poll is there.
                return bool(self.inbox)
            finally:
                self.waiter = None
        return True

    def adopt(self) -> Subtasks:
        """The asyncio Tasks that it makes."""
        if self.subtasks is not None:
            return self.subtasks
        subtasks = Subtasks(self, self.name, self.host.loop, self.host.interrupts, self.execution)
        if not self.ended:  # else they are late, and nobody waits for them
            self.subtasks = subtasks
        return subtasks

    def hot_swappable(self, flag: bool) -> None:
        self._swap().allow(flag)
        self.host.loop.call_soon(self._swap().offer)  # when this step is over

    def reply(self, value: Any) -> None:
        self.reply_pickled(self.host.payloads.dumps(value, f"the reply of {self.name}"))

    def reply_pickled(self, payload: Payload) -> None:
        request = self.asked
        if request is None:
            raise RuntimeError(
                "nothing to reply to: the last message was not sent by ask(), or was answered already"
            )
        with self.host.shield:
            self.asked = None
            self.host.answer(request, messages.Reply(code=self.host.payloads.version()), payload)

    # --- its steps ---

    def begin(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        context: contextvars.Context | None = None,
    ) -> None:
        """Take the first step now, in this context, its own, or in a copy of the present one; not to be called inside a step."""
        if self.stopping:
            self.finished(Raised(KeyboardInterrupt()))
            return
        try:
            args, kwargs = with_task(function, args, kwargs, self)
        except TypeError as error:
            self.finished(Raised(error))
            return
        context = context_of(self, context)
        if can_suspend(function):
            self._execute(context).start(function, args, kwargs)
        else:
            self._call(context, function, args, kwargs)

    def _call(
        self,
        context: contextvars.Context,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> None:
        """A plain function is one step, and needs nothing that waits; but it may return a coroutine to go on with."""
        interrupts = self.host.interrupts
        interrupts.begin(self)
        try:
            if self.stopping:  # again: terminate() in another thread looks for the step after it has said so
                raise KeyboardInterrupt
            value = call_plainly(self.host.loop, context, function, args, kwargs)
        except BaseException as error:  # the edge of user code
            interrupts.end()
            self.finished(raised(error))
            return
        due = interrupts.end()
        if is_coroutine(value):
            self._execute(context).go_on(value, due)
        else:
            self.finished(Returned(value))

    def _execute(self, context: contextvars.Context) -> Execution:
        self.execution = Execution(self, self.host.loop, self.host.interrupts, context, self.finished)
        return self.execution

    # --- another function in its place ---

    def _swap(self) -> Swap:
        if self.swap is None:
            self.swap = Swap(self._throw_in)
        return self.swap

    async def _take_swap(self, envelope: Envelope) -> None:
        call = await self.host.open_message(envelope)
        if isinstance(call, Raised):
            self.host.sharing.warn(
                f"{self.name}: the function to take its place cannot be had: {call.error!r}"
            )
        elif not self.ended:
            self._swap().want(call.value)

    def _throw_in(self, error: BaseException) -> None:
        if self.execution is not None and not self.stopping:
            self.execution.throw_in(error)

    def _begin_anew(self, function: Callable[..., Any], args: Any, kwargs: Any) -> None:
        """Not here, inside the asyncio.Task that ends."""
        assert self.execution is not None
        context = self.execution.context.copy()
        self.execution = self.subtasks = None
        self.host.loop.call_soon(self.begin, function, args, kwargs, context, context=contextvars.Context())

    # --- end ---

    def terminate(self) -> None:
        """KeyboardInterrupt at its next chance; from any thread. In a server what waits on after 5 s is dropped."""
        if not self.stopping and self.host.place is not None:
            self.host.runtime.defer(partial(self._drop_at, self.host.loop.time() + KILL_AFTER))
        self.stopping = True
        if self.execution is not None and not self.execution.is_done:
            self.execution.interrupt()
        else:  # its call is being unpickled, or its outcome pickled
            self.host.interrupts.request(self)

    def _drop_at(self, when: float) -> None:
        if not self.ended:
            self.dropping = self.host.loop.call_at(when, self._drop, context=contextvars.Context())

    def _drop(self) -> None:
        """A step that does not end costs the server its life, but a task that merely waits costs nobody anything."""
        log.warning("%s waits on %g s after its KeyboardInterrupt: it is dropped", self.name, KILL_AFTER)
        if self.execution is None:  # its call is being fetched
            self.finished(Raised(KeyboardInterrupt()))
        else:
            self.host.refused.extend(self.execution.drop())
        if self.subtasks is not None:
            self.subtasks.drop()

    def finished(self, outcome: Outcome) -> None:
        """Told by the execution, once, on the loop. The task has ended when its asyncio Tasks have, too."""
        if type(outcome) is Returned and type(outcome.value) not in COMMON:
            outcome = no_iterator(outcome, self.name)
        then = partial(self._finish, outcome)
        if self.swap is not None and (call := self.swap.accepted_by(outcome)) is not None:
            then = partial(self._begin_anew, *call)
        if self.subtasks is None or not self.subtasks.end(then):
            then()

    def _finish(self, outcome: Outcome) -> None:
        self.outcome = outcome
        self.ended = True
        if self.dropping is not None:
            self.dropping.cancel()
        self._tell(outcome)
        self.execution = self._handle = self.on_end = self.run = self.subtasks = self.swap = (
            None  # they point here: no work for the garbage collector
        )
        self.leaves = ()

    def _tell(self, outcome: Outcome) -> None:
        """Who wants to know of the end."""
        host = self.host
        host.interrupts.reinstall(over_users=host.place is not None)  # in a client it may be the program's
        for leave in self.leaves if host.runtime.is_open else ():
            leave()
        if self.on_end is not None:
            self.on_end(self, outcome)
        if host.runtime.is_parents:  # a forked child whose loop runs out
            return
        if not self.actor:  # nobody could reach it
            return
        is_awaited = bool(self.future or self.watchers or self.on_end or self.run)
        if host.runtime.is_open:
            self._tell_others(outcome)
        if self.future is not None:
            host.settle(self)
        elif not (is_awaited or self.stopping) and isinstance(outcome, Raised) and self._handle is not None:
            self._handle._failed_unheard(outcome.error)

    def _tell_others(self, outcome: Outcome) -> None:
        host = self.host
        with host.runtime.lock:
            host.cells.pop(self.actor, None)
            host.runtime.detach(self.actor)
            watchers, self.watchers = self.watchers, ()
            followers, self.followers = self.followers, ()
            told = senders(filter(is_counted, self.inbox)) if self.inbox else ()
            unanswered = self._take_unanswered() if self.inbox or self.asked is not None else ()
        for request in unanswered:
            host.answer(request, messages.Reply(ok=False))
        for epoch in told:  # more may wait there
            host.post(Envelope(Address(epoch, HOST), self.address, messages.NoMailbox()))
        for request in followers:
            host.answer(request, messages.Ended(0))
        if watchers:
            kind, payload = pack_outcome(host.payloads, outcome, self.name, self.stopping)
            for watcher, correlation in watchers:
                host.post(Envelope(watcher, self.address, messages.Ended(kind), correlation, payload))

    def _take_unanswered(self) -> list[Envelope]:
        """The requests that nobody answers any more."""
        unanswered = [entry for entry in self.inbox if isinstance(entry.message, messages.Ask)]
        if self.asked is not None:
            unanswered.append(self.asked)
        self.inbox.clear()
        self.asked = None
        return unanswered
