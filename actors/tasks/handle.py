"""A handle of a task here or anywhere: its messages, what is known of it, and what a running task calls on itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from html import escape
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal, NoReturn, Self

from dispycos.habits import HANDLE, hint
from dispycos.protocol.addresses import Address, Location

from .actor import Actor
from .current import current_cell, current_host
from .ends import brief, plain
from .keeping import MailboxState
from .record import Record, Usage
from .roles import Host, LocalTask
from .task_future import T, TaskFuture


class Handle(Actor, TaskFuture[T]):
    """All that a Task is, save for what it submits itself (submitting.py)."""

    __slots__ = (
        "_direct",
        "_home",
        "_is_value",
        "_place",
        "_watched",
        "_way",
    )

    def _bind(
        self,
        host: Host,
        home: Address | None,
        name: str,
        source: LocalTask | Record | None,
        direct: Address | None = None,
        place: Location | None = None,
        is_value: bool = False,
    ) -> Self:
        _begin(self, loop=host.loop)
        self._asked = None
        self._way: Any = None  # of the messages sent by it, if it is somebody else's
        self._watched = False  # its home was asked to tell its end, which nobody else tells
        self._host = host
        self._home = home  # None: as its source says, when somebody wants to know
        self.name = name
        self._source = source
        self._direct = direct
        self._place = place
        self._is_value = is_value  # of somebody else's task: it came from submit
        return self

    # --- messages ---

    @plain
    def send(self, message: Any) -> int:
        """Send a message; it arrives once and in order while both processes live. Returns 0 at once.

        Of what a task does not take 1,024 messages or 8 MiB of each process lie in its mailbox; more waits in the process that
        sends, and goes on when there is room.

        Raises
        ------
        NotPicklable: naming what in the message cannot be pickled.
        MailboxFull: 16 MiB (pickled) wait here for room in its mailbox; this message was not sent. ``deliver`` waits instead.
        """
        self._host.tell(self, message)
        return 0

    @brief
    async def deliver(self, message: Any, timeout: float | None = None) -> int:
        """Send, and wait until it is in the receiver's mailbox: 1; 0 if the task has ended or at the timeout (in seconds).

        A full mailbox is waited for, at most until the timeout; a message that had no room by then is not sent. One that was
        on its way at the timeout may still arrive. In the mailbox is not handled: for that, ask.
        """
        return await self._host.deliver(self, message, timeout)

    @brief
    async def ask(self, message: Any, timeout: float | None = None) -> Any:
        """Send a request and wait for the receiver's reply.

        Raises
        ------
        TimeoutError: no reply within `timeout` seconds; a late one is dropped.
        TaskLost: the task has ended, or its server died, without a reply.
        """
        return await self._host.ask(self, message, timeout)

    async def receive(self, timeout: float | None = None, alarm_value: Any = None) -> Any:
        """The oldest message in this task's mailbox; waits for one, at most `timeout` seconds, then gives `alarm_value`.

        Only for the running task itself.
        """
        return await self._own("receive").receive(timeout, alarm_value)

    recv = receive

    @plain
    def reply(self, value: Any) -> None:
        """Answer the request that this task received last.

        Raises
        ------
        RuntimeError: the last message was sent by send() or deliver(), which expect no answer, or was answered already.
        """
        self._own("reply").reply(value)

    @plain
    def mailbox(self, policy: Literal["wait", "drop_oldest", "newest"] | None = None) -> MailboxState:
        """What is in this task's mailbox, and what becomes of messages for which there is no room. Only for the running task.

        Parameters
        ----------
        policy: "wait" (the default): senders keep what has no room. "drop_oldest": the mailbox keeps the newest 1,024
            messages or 8 MiB. "newest": it keeps the newest one. Only what send() and deliver() sent is dropped, requests
            and monitors' words never are. It holds for what is there already, too. None: as it is.

        Returns
        -------
        MailboxState(policy, waiting, size, dropped): messages that wait here, their pickled bytes, and how many were dropped
        so far.

        Raises
        ------
        ValueError: no such policy.
        """
        state: MailboxState = self._own("mailbox").mailbox(policy)
        return state

    async def sleep(self, seconds: float, alarm_value: Any = None) -> Any:
        """Wait for so many seconds, in which others run: ``await task.sleep(0.5)``. Then returns `alarm_value`."""
        await asyncio.sleep(seconds)
        return alarm_value

    # --- ends ---

    @brief
    async def monitor(self, by: Handle[Any] | None = None) -> int:
        """Have a MonitorStatus sent to `by` (default: the running task) when this task ends. Returns 0.

        Raises
        ------
        TypeError: `by` is no task of this process, or is left out where no task runs.
        """
        await self._host.monitor(self, by)
        return 0

    # So ``yield rtask()`` waits for the value. It has no docstring: editors would show it for each variable that holds a handle.
    def __call__(self) -> Self:
        return self

    # --- files ---

    @brief
    async def send_file(
        self,
        where: Any,
        path: str | bytes | PathLike[Any],
        dir: str | bytes | PathLike[Any] | None = None,
        overwrite: bool = False,
        timeout: float | None = None,
        progress: Callable[[int, int], object] | None = None,
    ) -> int:
        """Send a file to the client, ``task.send_file(task.client, path)``: it lies in the client's dest_path. Returns 0.

        Only for the running task itself. `where` may be a node or server, too; see ``Client.send_file`` for it and the rest.
        """
        await self._files("send_file").send(where, path, dir, overwrite, timeout, progress)
        return 0

    @brief
    async def del_file(
        self,
        where: Any,
        name: str | bytes | PathLike[Any],
        dir: str | bytes | PathLike[Any] | None = None,
        timeout: float | None = None,
    ) -> int:
        """Delete a file where send_file(where, path, dir) puts it. Returns 0; see ``Client.del_file``."""
        await self._files("del_file").delete(where, name, dir, timeout)
        return 0

    def _files(self, method: str) -> Any:
        self._own(method)
        records = self._host.records
        if records is None:
            raise RuntimeError(
                f"task.{method}() needs the cluster: use it in a remote task, or beside a scheduled Client"
            )
        return records.files

    # --- what is known of it ---

    @property
    def location(self) -> Location | None:
        """Where it runs: the server's Location; None while that is not known, and for tasks of a client."""
        return self._source.location if isinstance(self._source, Record) else self._place

    @property
    def attempt(self) -> int:
        """Which of its starts this is, from 1: more if `retries` were allowed and its server was lost. For somebody else's: 1."""
        return self._source.attempt if self._source is not None else 1

    @property
    def resources(self) -> dict[str, list[int]]:
        """What it has of its node's resources while it runs, by name: the numbers of these, as ``{"gpu": [1]}``.

        Known to the task itself, and to the program that submitted it.
        """
        return dict(self._source.resources) if self._source is not None else {}

    @property
    def usage(self) -> Usage | None:
        """What it has used, known to the client that asked for it; None before its end, and if it was lost or never began."""
        state = self._source
        if not isinstance(state, Record) or not state.ended or state.seconds is None:
            return None
        return Usage(state.seconds, state.cpu_s, state.peak_bytes)

    # --- what it is not for ---

    if not TYPE_CHECKING:

        @plain
        def __getattr__(self, name: str) -> NoReturn:
            text = f"'Task' object has no attribute {name!r}{hint(HANDLE, name)}"
            raise AttributeError(text, name=name, obj=self)

    # --- identity ---

    @property
    def home(self) -> Address:
        """For dispycos itself: what tells this task from all others. Handles are equal when it is."""
        if self._home is None:
            assert self._source is not None
            self._home = self._source.home
        return self._home

    @property
    def direct(self) -> Address | None:
        """For dispycos itself: its own address, if that is known here."""
        return self._source.address if isinstance(self._source, Record) else self._direct

    @property
    def stands_for_value(self) -> bool:
        """Whether it stands for its value as an argument of submit(). Handles of submit do; those of actors arrive as handles."""
        source = self._source
        if source is None:
            return self._is_value
        return not (getattr(source, "alone", True) or getattr(source, "receives", True))  # local: an actor

    def __copy__(self) -> Self:
        return self  # it means the same task

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Handle) and self.home == other.home

    def __hash__(self) -> int:
        return hash(self.home)

    def __repr__(self) -> str:
        return f"<Task {self._in_words(': ')}>"

    def _repr_html_(self) -> str:
        """For a notebook."""
        rest = self._in_words(", ").removeprefix(self.name)
        return f"<span>Task <strong>{escape(self.name)}</strong>{escape(rest)}</span>"

    def _in_words(self, state: str) -> str:
        place, known = self.location, self._known_state()
        return f"{self.name}{f' at {place}' if place else ''}{known and state + known}"

    def __reduce__(self) -> tuple[Callable[..., Handle[Any]], tuple[Any, ...]]:
        direct = self.direct
        place = self.location
        return _rebuild, (
            tuple(self.home),
            self.name,
            tuple(direct) if direct else None,
            (place.addr, place.port) if place else None,
            *((True,) if self.stands_for_value else ()),
        )

    def _own(self, method: str) -> LocalTask:
        cell = current_cell()
        if cell is not None and cell is self._source:
            return cell
        raise RuntimeError(
            f"{self.name}.{method}() is for the task itself, while it runs; to reach it from outside use send or ask"
        )


_begin = asyncio.Future.__init__  # as super() has it, at half the cost: with each submit


def _rebuild(
    home: tuple[int, int],
    name: str,
    direct: tuple[int, int] | None,
    place: tuple[str, int] | None,
    is_value: bool = False,
) -> Handle[Any]:
    """Unpickle a handle: the same object's state where it is known, else a handle that works from here."""
    try:
        host = current_host()
    except RuntimeError as error:
        raise RuntimeError(
            f"the handle of {name} can be used in its program and its tasks, and this is another process, or a thread without "
            f"their event loop: pass on its value ({error})"
        ) from None
    handle: Handle[Any] = host.handle(
        Address(*home),
        name,
        Address(*direct) if direct else None,
        Location(*place) if place else None,
        is_value,
    )
    return handle
