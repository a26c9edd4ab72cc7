"""The tasks of a client that wait for the values of others, their arguments: no server has them, and no queue."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from dispycos.notices import PATIENCE_S

from ..dispatching.facts import Entry
from ..tasks.record import Record


@dataclass(slots=True, eq=False)
class Needs:
    """What one task waits for."""

    record: Entry
    values: list[Record]  # of these, by the numbers of their marks in its call
    left: int  # that have not ended


def doubt(waiting: str, value: str, place: int) -> str:
    """For people: it may be an actor, whose handle was meant."""
    return (
        f"{waiting} waits for the value of {value}, handle {place} of its arguments; if {value} is an actor, which takes "
        f"messages, give its handle in a list: [handle]"
    )


class Waits:
    """Who waits for what."""

    def __init__(self) -> None:
        self.needs: dict[int, Needs] = {}  # by number of the task that waits
        self.ready: deque[Needs] = deque()  # all their values are there
        self._wanted: dict[Record, list[Needs]] = {}  # by the one that is waited for
        self._doubted: list[
            Record
        ] = []  # waited for since the last look, though they may be actors that never end
        self._doubts: deque[tuple[float, Record]] = deque()  # the same, by when it is said
        self.asked: dict[
            tuple[int, int], Record
        ] = {}  # what a server has to tell of tasks: by its epoch and their numbers

    def __len__(self) -> int:
        return len(self.needs)

    def add(self, record: Entry, values: list[Record]) -> None:
        """None of these has failed."""
        missing = [value for value in values if not value.ended]
        needs = self.needs[record.task.number] = Needs(record, values, len(missing))
        for value in missing:
            self._wanted.setdefault(value, []).append(needs)
            if value.may_receive:
                self._doubted.append(value)
                value.may_receive = False  # once is enough
        if not missing:
            self.ready.append(needs)

    def doubts(self, now: float) -> Iterator[str]:
        """Nobody waits in silence for the value of an actor, whose handle was meant."""
        if self._doubted:
            self._doubts.extend((now + PATIENCE_S, value) for value in self._doubted)
            self._doubted.clear()
        while self._doubts and self._doubts[0][0] <= now:
            _, value = self._doubts.popleft()
            needs = next(filter(self._is_there, self._wanted.get(value, ())), None)
            if needs is not None and value.address is None:  # it has not begun
                self._doubts.append((now + PATIENCE_S, value))
            elif needs is not None:
                yield doubt(needs.record.function, value.function, needs.values.index(value) + 1)

    @property
    def deadline(self) -> float | None:
        if self.ready:
            return 0.0
        return self._doubts[0][0] if self._doubts else None

    def has(self, record: Entry) -> bool:
        return record.task.number in self.needs

    def drop(self, record: Entry) -> None:
        """It does not wait any more."""
        self.needs.pop(record.task.number, None)

    def is_wanted(self, value: Record) -> bool:
        return value in self._wanted

    def take_wanting(self, value: Record) -> list[Needs]:
        """Those that wait for this task, which has ended."""
        return [needs for needs in self._wanted.pop(value, ()) if self._is_there(needs)]

    def came(self, needs: Needs) -> None:
        """One of its values."""
        needs.left -= 1
        if not needs.left:
            self.ready.append(needs)

    def take_ready(self) -> Needs | None:
        """The next that can run; it does not wait any more."""
        while self.ready:
            needs = self.ready.popleft()
            if self._is_there(needs):
                del self.needs[needs.record.task.number]
                return needs
        return None

    def take_all(self) -> list[Entry]:
        records = [needs.record for needs in self.needs.values()]
        self.needs.clear()
        self.ready.clear()
        self._wanted.clear()
        self.asked.clear()
        return records

    def _is_there(self, needs: Needs) -> bool:
        return self.needs.get(needs.record.task.number) is needs

    def check(self, records: dict[int, Entry]) -> None:
        for number, needs in self.needs.items():
            assert records.get(number) is needs.record and needs.record.at is None, "what has ended waits"
            missing = [value for value in needs.values if not value.ended]
            assert needs.left == len(missing), f"task {number} waits for {needs.left} of {len(missing)}"
            assert all(needs in self._wanted[value] for value in missing), "it waits unheard"
            assert needs.left or needs in self.ready, "it could run"
