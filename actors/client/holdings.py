"""What a client has: its tasks that have not ended, the nodes and servers of its lease, and what it wants done.

Facts only. What changes them is in owned.py (tasks), members.py (nodes and servers) and standing.py (the lease); ledger.py
makes one machine of them.
"""

from __future__ import annotations

from dispycos.machine import Outbox
from dispycos.protocol.addresses import Address, Location
from dispycos.protocol.messages import Lease, NodeInfo, Spot
from dispycos.protocol.status import Status

from ..dispatching.dispatch import Dispatcher
from ..dispatching.facts import Entry
from .effects import News, Say
from .tally import Tally


class Holdings(Outbox):
    """`address` is where servers, nodes and the scheduler reach the client."""

    dispatcher: Dispatcher  # gives the tasks to servers

    def __init__(self, address: Address) -> None:
        super().__init__(address)
        self.address = address
        self.scheduler: Address | None = None
        self.lease: Lease | None = None
        self.nodes: dict[int, NodeInfo] = {}  # by epoch
        self.servers: dict[int, tuple[Spot, int]] = {}  # by epoch; with that of the node
        self.locations: dict[int, Location] = {}  # theirs, until they are lost
        self.records: dict[int, Entry] = {}  # tasks that have not ended, by number
        self.tally = Tally()  # of those that have
        self.wants_news = False
        self.over = ""  # why the lease ended, if this client did not ask for it
        self.is_releasing = False
        self.is_terminating = False  # ... and nobody cares what becomes of the tasks
        self.awaits_io = False  # close() waits for io tasks too
        self.is_released = False  # the word was sent
        self.is_freed = False  # the lease has ended
        self.had: set[int] = set()  # nodes and servers that the scheduler before this one told of: epochs
        self.now = 0.0  # of the last message or wake-up, in seconds
        self.is_changed = False  # since the last pass of the dispatcher

    def tell(self, status: Status, info: object) -> None:
        """To the status_task, if there is one."""
        if self.wants_news:
            self.effects.append(News(status, info))

    def say(self, text: str, level: str = "info") -> None:
        """To the person at the terminal; `level` is a method of logging.Logger."""
        self.effects.append(Say(text, level))
