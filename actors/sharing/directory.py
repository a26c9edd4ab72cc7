"""The body of a client's book: it belongs to the program's loop, and knows the cluster while there is a lease."""

from __future__ import annotations

from functools import partial

from dispycos.protocol import messages
from dispycos.protocol.addresses import BOOK
from dispycos.protocol.envelope import Envelope
from dispycos.session.router import Event

from ..tasks.host import TaskHost
from ..tasks.streams import say
from .book import Book, Lose, Say, TellPeer


class Directory:
    """turns.Role of a Book."""

    def __init__(self, host: TaskHost) -> None:
        self._host = host
        self.machine = Book(host.runtime.address(BOOK), host.runtime.name)
        host.on_gone.append(self.machine.lose)
        host.runtime.attach(BOOK, self)

    def on_event(self, event: Event, now: float) -> None:
        """What ends is told by the host."""

    def carry_out(self, effect: object, now: float) -> None:
        if isinstance(effect, Say):
            self._host.runtime.defer(partial(say, effect.text, "warning"))
        elif isinstance(effect, Lose):
            router = self._host.runtime.router
            for epoch in effect.gone.epochs:
                self._host.peer_gone(epoch, router.bury(epoch, now))
            for epoch in effect.gone.left:
                self._host.peer_gone(epoch, router.forget(epoch, now))
        elif isinstance(effect, TellPeer):
            payload = self._host.payloads.dumps(effect.status, "a PeerStatus")
            tell = Envelope(effect.task, self.machine.address, messages.Tell(), 0, payload)
            self._host.runtime.send(tell)
        else:
            raise TypeError(f"no such effect: {effect!r}")
