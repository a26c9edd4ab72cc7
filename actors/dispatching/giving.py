"""One pass that gives out what can be given: facts were recorded before, the rules are in `placement`.

What waits is taken by turn: of the queue for any server and those of the names that a server bears, the earliest. What waits
for a name or for resources holds up nobody who may run elsewhere. A task that has to wait for a free server keeps its turn:
none goes ahead past it, or the server that it waits for would never be free.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from .facts import Entry, FleetServer, Pin, Queue
from .fleet import Fleet
from .placement import UNKNOWN_S, goes_along, is_full, stalls_at

PASS_MAX: Final = 512  # tasks in one pass, so that the client's loop stays responsive


class Giving:
    """The queues, and what a pass gives to whom."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.cpu = Queue()  # for any server
        self.io = Queue()
        self.waiting = 0  # tasks in all queues
        self.pinned = 0  # ... and in those of names
        self.held = 0  # tasks that servers have
        self.given: dict[FleetServer, list[Entry]] = {}  # in this pass
        self.touched: dict[Pin, None] = {}  # somebody waits there anew
        self._now = 0.0
        self._lag = 0.0
        self._room = 0  # for so many more in this pass

    # --- queues

    def put(self, entry: Entry) -> None:
        self._queue_of(entry).put(entry)

    def put_back(self, entries: Iterable[Entry]) -> None:
        """Each to its turn."""
        backs: dict[Queue, list[Entry]] = {}
        for entry in entries:
            backs.setdefault(self._queue_of(entry), []).append(entry)
        for queue, back in backs.items():
            queue.put_back(back)

    def _queue_of(self, entry: Entry) -> Queue:
        self.waiting += 1
        pin = entry.pin
        if pin is None:
            return self.io if entry.io else self.cpu
        self.pinned += 1
        self.touched[pin] = None
        return pin.io if entry.io else pin.cpu

    def take_out(self, entry: Entry) -> None:
        entry.over = True
        self.waiting -= 1
        if entry.pin is not None:
            self.pinned -= 1

    def left(self, entry: Entry) -> None:
        """The server that had it does not have it any more."""
        server = entry.at
        assert server is not None
        entry.at = None
        self.held -= 1
        if entry.units is not None:
            server.node.take_back(entry.units)
            entry.units = None
            others = [pin for other in server.node.servers.values() for pin in other.asking.values()]
            self.touched.update(dict.fromkeys([*server.node.pins, *others]))

    def waiting_at(self, pin: Pin) -> list[Entry]:
        return [*pin.cpu.take_all(), *pin.io.take_all()]

    def all_waiting(self) -> list[Entry]:
        return [
            *self.cpu.take_all(),
            *self.io.take_all(),
            *(entry for pin in self.pins() for entry in self.waiting_at(pin)),
        ]

    def pins(self) -> list[Pin]:
        return [
            *self.fleet.pins.values(),
            *(pin for server in self.fleet.servers.values() for pin in server.pins),
        ]

    def queue_for(self, server: FleetServer, *, io: bool) -> Queue:
        """The one whose first task has waited longest, of those whose needs its node has free."""
        best = self.io if io else self.cpu
        head = best.head()
        for pin in self.fleet.pins_of(server):
            if pin.needs and not server.node.has(pin.needs):
                continue
            queue = pin.io if io else pin.cpu
            first = queue.head()
            if first is not None and (head is None or first.turn < head.turn):
                best, head = queue, first
        return best

    # --- the pass

    def run(self, changed: Iterable[FleetServer], lag: float, now: float) -> bool:
        """True if there was more to give than fits in one pass."""
        self._now, self._lag, self._room = now, lag, PASS_MAX
        pins = self._pins_at(changed) if self.pinned else ()
        self._on_free()
        for pin in pins:
            self._on_free(pin)
        self._ahead()
        for pin in pins:
            self._ahead_at(pin)
            self._beside(pin)
        self._beside()
        if self._room > 0:
            return False
        self.touched.update(dict.fromkeys(pins))  # the next one looks again
        return True

    def _pins_at(self, changed: Iterable[FleetServer]) -> list[Pin]:
        """Names for which something may have changed."""
        pins, self.touched = self.touched, {}
        for server in changed:
            pins.update(dict.fromkeys(self.fleet.pins_of(server)))
        return [pin for pin in pins if pin.cpu.head() is not None or pin.io.head() is not None]

    def _on_free(self, pin: Pin | None = None) -> None:
        queue = self.cpu if pin is None else pin.cpu
        while self._room > 0 and queue.head() is not None:
            server = self.fleet.free_at(pin)
            if server is None:
                return
            self._wake(server)

    def _wake(self, server: FleetServer) -> None:
        """This free server gets the first of its tasks, and with it those for which nobody else is worth waking."""
        queue = self.queue_for(server, io=False) if self.pinned else self.cpu
        entry = queue.head()
        while entry is not None:
            queue.entries.popleft()
            self._give(entry, server)
            if self._room <= 0:
                break
            if self.pinned:
                queue = self.queue_for(server, io=False)
            entry = queue.head()
            if entry is None or not goes_along(server, entry):
                break
        self.fleet.choice.update(server, self._lag)

    def _ahead(self) -> None:
        ahead, queue = self.fleet.choice.ahead, self.cpu
        while self._room > 0:
            head = queue.head()
            server = ahead.first()
            if head is None or head.alone or server is None:
                return
            # An even share at once: never more than it should have in the end.
            share = min(len(queue.entries), self._room) // len(ahead) or 1
            self._feed(server, share)

    def _ahead_at(self, pin: Pin) -> None:
        if pin.needs:
            return
        servers = [
            server for server in self.fleet.servers_of(pin) if server in self.fleet.choice.ahead.level_of
        ]
        servers.sort(key=lambda server: len(server.cpu))
        for server in servers:
            if self._room > 0 and pin.cpu.head() is not None:
                self._feed(server, len(pin.cpu.entries) // len(servers) or 1)

    def _beside(self, pin: Pin | None = None) -> None:
        """Io tasks."""
        queue = self.io if pin is None else pin.io
        if queue.head() is not None:
            self.fleet.choice.keep_io(self.fleet.servers.values())
        while self._room > 0 and queue.head() is not None:
            server = self.fleet.io_at(pin)
            if server is None:
                return
            first = self.queue_for(server, io=True) if self.pinned else queue
            self._give(first.entries.popleft(), server)
            self.fleet.choice.update(server, self._lag)

    def _feed(self, server: FleetServer, count: int) -> None:
        """Up to so many behind what it has."""
        lag, queue, fed = self._lag, self.cpu, 0
        if stalls_at(server, True) <= self._now:
            count = -1
        while fed < count:
            if self.pinned:
                queue = self.queue_for(server, io=False)
            entry = queue.head()
            if entry is None or entry.alone or entry.needs or is_full(server, lag, entry.size):
                break
            queue.entries.popleft()
            self._give(entry, server)
            fed += 1
        ahead = self.fleet.choice.ahead
        if fed != count or is_full(server, lag):
            ahead.remove(server)  # until it changes
        else:
            ahead.put(server, len(server.cpu))

    def _give(self, entry: Entry, server: FleetServer) -> None:
        position = server.given = server.given + 1
        entry.at, entry.position, entry.placed = server, position, False
        if entry.needs:
            entry.units = server.node.lend(entry.needs)
        if entry.io:
            server.io[position] = entry
        else:
            learner = entry.learner
            assert learner is not None
            entry.cost = cost = learner.mean if learner.runs else UNKNOWN_S
            if not server.cpu:
                server.since = self._now
            server.cpu.append(entry)
            server.work_s += cost
            server.calls += entry.size
        self.waiting -= 1
        self.held += 1
        self._room -= 1
        if entry.pin is not None:
            self.pinned -= 1
        given = self.given.get(server)
        if given is None:
            self.given[server] = [entry]
        else:
            given.append(entry)

    def check(self) -> None:
        """Each task that waits has no server, and is counted."""
        waiting = pinned = 0
        for queue in (self.cpu, self.io, *(queue for pin in self.pins() for queue in (pin.cpu, pin.io))):
            entries = list(queue)
            turns = [entry.turn for entry in entries]
            assert turns == sorted(set(turns)), "what waits is out of order"
            assert all(entry.at is None for entry in entries), "what waits is at a server"
            waiting += len(entries)
            pinned += sum(entry.pin is not None for entry in entries)
        assert (waiting, pinned) == (self.waiting, self.pinned), "what waits is counted wrong"
        assert not self.given, "what was given was not said"
