"""Messages of a process and their answers: who waits for which, and what becomes of them when the other end dies."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from itertools import count
from typing import Any, NamedTuple, Protocol

from dispycos.notices import counted
from dispycos.protocol import messages
from dispycos.protocol.addresses import Address
from dispycos.protocol.envelope import Envelope, Payload
from dispycos.runtime import Runtime

from .current import current_cell
from .loops import must_run_on
from .record import Record

log = logging.getLogger("dispycos")

HOST_ACTOR = 5  # replies to calls made outside of any task come here


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


class Correspondence:
    """The messages of one runtime's tasks. `records`: the tasks that it asked others to run, whose homes are here."""

    def __init__(self, runtime: Runtime, shield: AbstractContextManager[object]) -> None:
        self.runtime = runtime
        self.loop = runtime.loop
        self.shield = shield
        self.records: Records | None = None
        self._correlations = count(1)  # its next() is one step, on whichever thread
        self._calls: dict[int, Call] = {}  # by correlation
        self.address = runtime.attach_inbox(HOST_ACTOR, lambda envelope, now: self.on_reply(envelope))
        runtime.fallback = self.forward

    def me(self) -> Address:
        """Whose message it is: the running task's, or this process's."""
        cell = current_cell()
        return cell.address if cell is not None and cell.host is self else self.address

    def post(self, envelope: Envelope) -> None:
        with self.shield:
            self.runtime.send(envelope, may_leave=True)

    async def call(self, to: Address, word: Any, payload: Payload, timeout: float | None) -> Envelope | None:
        """Send something that is answered by its correlation; None when the other end is gone."""
        future, correlation = self._ask_for(to, word, payload)
        try:
            if timeout is None:
                return await future
            async with asyncio.timeout(timeout):
                return await future
        finally:
            self._calls.pop(correlation, None)

    def request(self, to: Address, word: Any, payload: Payload = None) -> asyncio.Future[Envelope | None]:
        """As call, for who asks for more before the first answer has come."""
        future, correlation = self._ask_for(to, word, payload)
        future.add_done_callback(lambda _: self._calls.pop(correlation, None))
        return future

    def _ask_for(
        self, to: Address, word: Any, payload: Payload
    ) -> tuple[asyncio.Future[Envelope | None], int]:
        must_run_on(self.runtime)
        future: asyncio.Future[Envelope | None] = self.loop.create_future()
        with self.shield:
            home = to.actor if to.epoch == self.runtime.epoch else 0
            correlation = self.expect(to.epoch, lambda answer: _complete(future, answer), home=home)
            self.runtime.send(Envelope(to, self.me(), word, correlation, payload), may_leave=True)
        return future, correlation

    def take_correlation(self) -> int:
        """A new one, for something that is answered in its own way."""
        return next(self._correlations)

    def expect(
        self, epoch: int, then: Callable[[Envelope | None], None], *, at_once: bool = False, home: int = 0
    ) -> int:
        """A new correlation; `then` gets the answer, or None when nobody is left who could give it."""
        correlation = self.take_correlation()
        self._calls[correlation] = Call(epoch, then, at_once, home)
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
            isinstance(entry.message, messages.Tell) and not entry.correlation for entry in unconfirmed
        )
        if lost:
            log.warning("%s to tasks of a server that died: lost with it", counted(lost, "message"))
        for correlation in [number for number, call in self._calls.items() if call.epoch == epoch]:
            self._give(self._calls.pop(correlation), None)

    def record_lost(self, number: int) -> None:
        """That task of ours is gone with its server: what went to its home will not be answered."""
        for correlation in [known for known, call in self._calls.items() if call.home == number]:
            self._give(self._calls.pop(correlation), None)

    def give_up(self) -> None:
        """This runtime ends: nothing will be answered any more."""
        for correlation in list(self._calls):
            self._give(self._calls.pop(correlation), None)

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
        if isinstance(envelope.message, messages.Watch):
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

        correlation = self.expect(0, pass_back, home=asker.to.actor)
        return Envelope(asker.to, self.address, asker.message, correlation, asker.payload)


def _complete(future: asyncio.Future[Envelope | None], answer: Envelope | None) -> None:
    if not future.done():
        future.set_result(answer)
