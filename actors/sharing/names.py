"""Named tasks and channels, as one process gives and finds names; the client's book has those of all (book.py)."""

from __future__ import annotations

from functools import partial
from typing import Any

from dispycos.errors import NameTaken, TaskLost
from dispycos.protocol import messages
from dispycos.protocol.addresses import Address, Location
from dispycos.protocol.envelope import Envelope
from dispycos.protocol.texts import NAME_MAX

from ..tasks.cell import Cell
from ..tasks.host import TaskHost
from ..tasks.submitting import Task


class Names:
    """Those of one process. `book`: where its client's is."""

    def __init__(self, host: TaskHost, book: Address) -> None:
        self._host = host
        self.book = book
        self._given: dict[tuple[str, bool], Any] = {}  # handles, by name and whether it is a channel's

    def register(self, handle: Any, name: str, *, channel: bool = False) -> None:
        """Raises NameTaken."""
        key = (must_be_name(name), channel)
        holder = self._given.get(key)
        if holder is not None and holder != handle:
            kind = "channel" if channel else "task"
            raise NameTaken(
                f"{name!r} is the name of {holder!r} already: give another name, or unregister that {kind} first"
            )
        self._given[key] = handle
        payload = self._host.payloads.dumps(handle, f"the handle of {name}")
        self._post(messages.Named(name, channel), payload)

    def unregister(self, handle: Any, name: str | None = None, *, channel: bool = False) -> None:
        """That name, or all names of it."""
        given = [key for key, holder in self._given.items() if holder == handle and key[1] == channel]
        for key in given:
            if name is None or key[0] == name:
                del self._given[key]
                self._post(messages.Named(key[0], channel, over=True))

    def register_task(self, task: Task, name: str | None) -> None:
        cell = self._cell_of(task, "register")
        is_first = task not in self._given.values()
        name = task.name if name is None else name
        self.register(task, name)
        if name not in cell.names:
            cell.names += (name,)
        if is_first:
            cell.at_end(partial(self.unregister, task))

    def unregister_task(self, task: Task, name: str | None) -> None:
        cell = self._cell_of(task, "unregister")
        self.unregister(task, name)
        cell.names = tuple(one for one in cell.names if name is not None and one != name)

    def _cell_of(self, task: Task, what: str) -> Cell:
        cell = task._source
        if not isinstance(cell, Cell) or cell.host is not self._host:
            raise TypeError(f"{what}() is for a task of this process: have {task.name} do it itself")
        if cell.ended:
            raise TaskLost(f"{task.name} has ended")
        return cell

    def given(self, name: str) -> Any:
        """The task of this process that has it, or None."""
        return self._given.get((name, False))

    async def locate(
        self, name: str, location: str | Location | None, timeout: float | None, *, channel: bool = False
    ) -> Any:
        addr, port = place_of(location)
        word = messages.Locate(must_be_name(name), channel, addr, port, is_patient=timeout is None)
        over = messages.Locate(name, channel, over=True)
        kind = "channel" if channel else "task"
        try:
            answer = await self._host.call(self.book, word, None, timeout, revoked_by=over)
        except TimeoutError:
            where = f" at {location}" if location is not None else ""
            raise TimeoutError(
                f"no {kind} named {name!r} was registered{where} within {timeout:g} s"
            ) from None
        if answer is None:
            raise TaskLost(f"the {kind} named {name!r} cannot be found: the client is gone")
        return self._host.payloads.loads(answer.payload)

    def watch_peers(self, task: Task, *, on: bool) -> None:
        cell = self._cell_of(task, "peer_status")
        address = cell.address

        def tell_book(*, over: bool) -> None:
            self._host.post(Envelope(self.book, address, messages.WatchPeers(over)))

        tell_book(over=not on)
        if on:
            cell.at_end(partial(tell_book, over=True))

    def _post(self, word: messages.Named, payload: Any = None) -> None:
        host = self._host
        host.post(Envelope(self.book, host.address, word, 0, payload))


def must_be_name(name: object) -> str:
    if not isinstance(name, str):
        raise TypeError(f"a name must be a str, not {type(name).__name__}")
    if not name or len(name) > NAME_MAX:
        raise ValueError(f"a name must have 1 to {NAME_MAX} characters, this one has {len(name)}")
    return name


def place_of(location: object) -> tuple[str, int]:
    """(a node's name or address, 0), (addr, port) of a Location, or ("", 0) for anywhere."""
    if location is None:
        return "", 0
    if isinstance(location, Location):
        return location.addr, location.port
    if isinstance(location, str) and location:
        return location, 0
    raise TypeError(f"location must be a str (a node) or a Location, not {type(location).__name__}")
