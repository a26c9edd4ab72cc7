"""Messages of a process and their answers: who waits for which, and what becomes of them when the other end dies."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from functools import partial
from itertools import count
from typing import Any, NamedTuple, Protocol

import msgspec

from dispycos.notices import counted
from dispycos.protocol import messages
from dispycos.protocol.addresses import HOST, Address
from dispycos.protocol.envelope import Envelope, Payload, bytes_of
from dispycos.runtime import Runtime
from dispycos.values import wait_time

from .current import current_cell
from .loops import must_run_on
from .record import Record
from .waiting import complete, within
from .windows import Amount, Taken, Waiting, Windows

log = logging.getLogger("dispycos")


class Records(Protocol):
    """The tasks that a client asked for (its ledger), for their handles."""

    @property
    def client(self) -> Any:
        """In a server: who runs what tasks here submit."""

    @property
    def owner(self) -> int:
        """The epoch of those tasks' homes."""

    @property
    def files(self) -> Any:
        """Sends files (files/sender.py)."""

    def record(self, number: int) -> Record | None: ...
    def hold(self, envelope: Envelope) -> bool: ...
    # With what `record` gave:
    def terminate(self, record: Any) -> None: ...
    def looked_at(self, record: Any) -> None: ...
    def pass_on(self, record: Any, envelope: Envelope) -> None: ...


class Call(NamedTuple):
    """Something that was asked and waits for its answer; None is the answer of a runtime that is gone."""

    epoch: int
    then: Callable[[Envelope | None], None]
    at_once: bool  # under the lock, perhaps on the relief thread; else on the loop
    home: int  # it went to the home of this task of ours, which passes it on; or 0
    asker: int  # the process on whose behalf it was asked; or 0


class Correspondence:
    """The messages of one runtime's tasks. `records`: the tasks that it asked others to run, whose homes are here."""

    def __init__(self, runtime: Runtime, shield: AbstractContextManager[object]) -> None:
        self.runtime = runtime
        self.loop = runtime.loop
        self.shield = shield
        self.records: Records | None = None
        self._correlations = count(1)  # its next() is one step, on whichever thread
        self._calls: dict[int, Call] = {}  # by correlation
        self.windows = Windows()
        self.on_gone: list[Callable[[int], None]] = []  # who hears, under the lock, that a process has ended
        self.address = runtime.attach_inbox(HOST, self.on_word)
        runtime.fallback = self.forward

    def me(self) -> Address:
        """Whose message it is: the running task's, or this process's."""
        cell = current_cell()
        return cell.address if cell is not None and cell.host is self else self.address

    def post(self, envelope: Envelope) -> None:
        with self.shield:
            self.runtime.send(envelope, may_leave=True)

    def post_message(
        self, envelope: Envelope, mailbox: Address | None, waiting_max: int | None = None
    ) -> None:
        """As post, for this mailbox or, by another address, its home: what has no room there waits here.

        Raises Full if more than `waiting_max` bytes would.
        """
        with self.shield, self.runtime.lock:
            if self.windows.put(envelope, bytes_of(envelope.payload), waiting_max=waiting_max):
                self.runtime.send(envelope, may_leave=True)
            elif envelope.to != mailbox:
                self.windows.note_home(envelope.to)

    def pass_message(self, envelope: Envelope, *, direct: bool) -> None:
        """Within a turn: to this mailbox or, if not `direct`, its home, as soon as there is room."""
        if self.windows.put(envelope, bytes_of(envelope.payload)):
            self.runtime.send(envelope)
        elif not direct:
            self.windows.note_home(envelope.to)

    async def call(
        self,
        to: Address,
        word: Any,
        payload: Payload,
        timeout: float | None,
        post: Callable[[Envelope], None] | None = None,
        revoked_by: messages.Message | None = None,
    ) -> Envelope | None:
        """Send something that is answered by its correlation; None when the other end is gone. `post`: if it is for a mailbox.

        `revoked_by` is sent after it if nobody waits for the answer any more.
        """
        timeout, me = wait_time(timeout), self.me()
        future, correlation = self._ask_for(me, to, word, payload, post)
        try:
            return await within(future, timeout)
        finally:
            if self._calls.pop(correlation, None) is not None:
                if post is not None:
                    self._withdraw(to, correlation)
                if revoked_by is not None and self.runtime.is_open:  # else the asker ends, and is cancelled
                    self.post(Envelope(to, me, revoked_by, correlation))

    def request(self, to: Address, word: Any, payload: Payload = None) -> asyncio.Future[Envelope | None]:
        """As call, for who asks for more before the first answer has come."""
        future, correlation = self._ask_for(self.me(), to, word, payload)
        future.add_done_callback(lambda _: self._calls.pop(correlation, None))
        return future

    def _ask_for(
        self,
        me: Address,
        to: Address,
        word: Any,
        payload: Payload,
        post: Callable[[Envelope], None] | None = None,
    ) -> tuple[asyncio.Future[Envelope | None], int]:
        must_run_on(self.runtime)
        future: asyncio.Future[Envelope | None] = self.loop.create_future()
        with self.shield:
            home = to.actor if to.epoch == self.runtime.epoch else 0
            correlation = self.expect(to.epoch, lambda answer: complete(future, answer), home=home)
            (post or self.post)(Envelope(to, me, word, correlation, payload))
        return future, correlation

    def take_correlation(self) -> int:
        """A new one, for something that is answered in its own way."""
        return next(self._correlations)

    def expect(
        self,
        epoch: int,
        then: Callable[[Envelope | None], None],
        *,
        at_once: bool = False,
        home: int = 0,
        asker: int = 0,
    ) -> int:
        """A new correlation; `then` gets the answer, or None when nobody is left who could give it."""
        correlation = self.take_correlation()
        self._calls[correlation] = Call(epoch, then, at_once, home, asker)
        return correlation

    def expects(self, correlation: int) -> bool:
        return correlation in self._calls

    def answer(self, request: Envelope, word: messages.Message, payload: Payload = None) -> None:
        self.post(Envelope(request.sender, request.to, word, request.correlation, payload))

    def on_reply(self, envelope: Envelope) -> None:
        """Delivered, Reply, CodeGiven ...: under the lock, perhaps on the relief thread. A late one finds nobody."""
        call = self._calls.pop(envelope.correlation, None)
        if call is not None:
            self._give(call, envelope)

    def _give(self, call: Call, answer: Envelope | None) -> None:
        if call.at_once:
            call.then(answer)
        else:
            self.runtime.defer(lambda: call.then(answer))

    def peer_gone(self, epoch: int, unconfirmed: Iterable[Envelope]) -> None:
        """That process is dead: whoever waits for an answer from it waits no more, and what it had not confirmed is told."""
        unconfirmed = list(unconfirmed)
        for entry in unconfirmed:
            if entry.correlation in self._calls and entry.sender.epoch == self.runtime.epoch:
                self._give(self._calls.pop(entry.correlation), None)
        lost = sum(
            isinstance(entry.message, messages.Tell | messages.Publish) and not entry.correlation
            for entry in unconfirmed
        )
        if lost:
            log.warning("%s to tasks of a server that died: lost with it", counted(lost, "message"))
        for correlation in [number for number, call in self._calls.items() if call.epoch == epoch]:
            self._give(self._calls.pop(correlation), None)
        self._drop(self.windows.forget(epoch), "whose process is gone")
        for told in self.on_gone:
            told(epoch)

    def record_lost(self, number: int) -> None:
        """That task of ours is gone with its server: what went to its home will not be answered."""
        for correlation in [known for known, call in self._calls.items() if call.home == number]:
            self._give(self._calls.pop(correlation), None)

    def give_up(self) -> None:
        """This runtime ends: nothing will be answered any more."""
        for correlation in list(self._calls):
            self._give(self._calls.pop(correlation), None)

    # --- mailboxes: within a turn, perhaps on the relief thread, if nothing else is said ---

    def on_word(self, envelope: Envelope, now: float) -> None:
        word = envelope.message
        if type(word) is messages.Credit:
            for entry in self.windows.credit(envelope.sender, word.messages, word.size):
                self.runtime.put(entry.envelope)
                if entry.then is not None:
                    entry.then()
        elif type(word) is messages.NoMailbox:
            self.close_window(envelope.sender)
        else:
            self.on_reply(envelope)

    def give_credit(self, mailbox: Address, epoch: int, amount: Amount) -> None:
        """So much that this process had sent there was taken. Also by the task's own step, which may take on for long."""
        credit = messages.Credit(*amount)
        self.runtime.send(Envelope(Address(epoch, HOST), mailbox, credit), may_leave=True)

    def has_ended(self, record: Record) -> None:
        """A task of ours."""
        if self.windows:
            self.close_window(record.home)
            if record.address is not None:
                self.close_window(record.address)

    def close_window(self, mailbox: Address) -> None:
        """It is gone, and what waits for it goes nowhere. Also on the loop, under the lock."""
        self._drop(self.windows.close(mailbox), "that has ended")

    def _drop(self, entries: list[Waiting], what: str) -> None:
        for entry in entries:
            call = self._calls.pop(entry.envelope.correlation, None) if entry.envelope.correlation else None
            if call is not None:
                self._give(call, None)
            if entry.then is not None:
                entry.then()
        lost = sum(not entry.envelope.correlation for entry in entries)
        if lost:
            log.warning("%s for a task %s: dropped before they were sent", counted(lost, "message"), what)

    def _withdraw(self, to: Address, correlation: int) -> None:
        with self.shield, self.runtime.lock:
            entry = self.windows.withdraw(to, correlation)
            if entry is not None and entry.then is not None:
                entry.then()

    def relay(self, record: Record, envelope: Envelope) -> None:
        """A message that came to the home of this task of ours: on to where that is, through our window there."""
        word = envelope.message
        if not isinstance(word, messages.Tell | messages.Ask):
            self.runtime.put(envelope)
            return
        call = self._calls.get(envelope.correlation) if envelope.sender == self.address else None
        epoch = call.asker if call is not None and call.asker else envelope.sender.epoch
        size = bytes_of(envelope.payload)
        envelope = msgspec.structs.replace(
            envelope, message=msgspec.structs.replace(word, via=self.runtime.epoch)
        )
        has_left = partial(self.has_left_home, record, epoch, size)
        if self.windows.put(envelope, size, has_left):
            self.runtime.put(envelope)
            has_left()

    def has_left_home(self, record: Record, epoch: int, size: int) -> None:
        """A message of that process has, to the task or to nowhere."""
        if record.taken is None:
            record.taken = Taken()
        amount = record.taken.add(epoch, size)
        if amount is not None:
            self.give_credit(record.home, epoch, amount)

    # --- messages to a home ---

    def forward(self, envelope: Envelope) -> bool:
        """A message for the home of a task that we asked for: pass it on, or keep it until the task has started."""
        if self.records is None or self.records.owner != self.runtime.epoch:
            return False
        record = self.records.record(envelope.to.actor)
        if record is None:
            return self.records.hold(envelope)
        if record.ended:
            return False
        if isinstance(envelope.message, messages.TerminateActor):
            if envelope.message.cancelled and record.handle is not None:
                record.handle._cancelled_elsewhere()
            self.records.terminate(record)
            return True
        if isinstance(envelope.message, messages.Watch) and not envelope.message.brief:
            record.watch(envelope.sender, envelope.correlation)
            return True
        if envelope.correlation and envelope.sender.epoch != self.runtime.epoch:
            envelope = self._on_behalf(envelope)
        self.records.pass_on(record, envelope)
        return True

    def _on_behalf(self, asker: Envelope) -> Envelope:
        """The same, asked by us; the answer is passed back."""

        def pass_back(answer: Envelope | None) -> None:
            if answer is not None:
                self.answer(asker, answer.message, answer.payload)
            elif isinstance(asker.message, messages.Ask):
                self.answer(asker, messages.Reply(ok=False))
            else:
                self.answer(asker, messages.Delivered(0))

        correlation = self.expect(0, pass_back, home=asker.to.actor, asker=asker.sender.epoch)
        return Envelope(asker.to, self.address, asker.message, correlation, asker.payload)
