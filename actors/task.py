"""A task as its users hold it: one handle for a task here or anywhere, and what a running task calls on itself."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from dispycos.errors import TaskTerminated
from dispycos.protocol.addresses import Address

if TYPE_CHECKING:
    from .host.cell import Cell
    from .host.handles import Handles
    from .ledger import Record


class Location(NamedTuple):
    """Where a node or a server is (spec 6.4); equal, hashable, shown as addr:port."""

    addr: str
    port: int

    def __str__(self) -> str:
        return f"{self.addr}:{self.port}"


class MonitorStatus(NamedTuple):
    """How a task ended, as its monitor gets it: type is StopIteration with its value, or an exception class with the text."""

    info: Task
    type: Any
    value: Any


class Task:
    """A task: an actor with an address and a mailbox, here or in a server process anywhere.

    ``Task(function, *args, **kwargs)`` starts a *local* task on the running loop: a generator function that uses ``yield``,
    an ``async def``, or a plain function, for which no event loop runs. It gets the task itself as ``task`` if it has a
    parameter of that name and the caller gives nothing for it. Its value is no iterator: return a list.
    ``client.rtask`` and ``client.submit`` give handles of remote tasks. Handles can be sent in messages, arguments and
    results, at any depth; they are equal when they mean the same task.

    asyncio Tasks that a task makes in a server (``create_task``, ``TaskGroup``, ``gather`` ...) are part of it. ``terminate()``
    interrupts whichever of their steps runs. A KeyboardInterrupt or SystemExit that leaves one of them cancels that one and
    is raised in the function where it waits. Those that are left when the function ends are cancelled, as by
    ``asyncio.run``, and the task ends when they have, 3 seconds later at most: what refuses to end is dropped. To leave
    something behind on purpose, for later tasks of that server, make it with ``context=contextvars.Context()``: then
    nobody interrupts it, and its SystemExit ends the server.

    Raises
    ------
    TypeError: the first argument is not callable.
    RuntimeError: no event loop runs here; use ``dispycos.run``.
    """

    __slots__ = (
        "__weakref__",
        "_afar",
        "_asyncio_future_blocking",
        "_callbacks",
        "_cancelled",
        "_direct",
        "_host",
        "_place",
        "_state",
        "home",
        "name",
    )

    home: Address
    name: str

    def __init__(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> None:
        from .host.cells import TaskHost  # the host makes tasks, tasks ask for the host

        TaskHost.of_running_loop().start(function, args, kwargs, handle=self)

    def _bind(
        self,
        host: Handles,
        home: Address,
        name: str,
        state: Cell | Record | None,
        direct: Address | None = None,
        place: Location | None = None,
    ) -> Task:
        self._asyncio_future_blocking = False
        self._callbacks: list[tuple[Any, Any]] | None = None
        self._cancelled = False  # cancel() was called, so a termination is a cancellation
        self._afar: asyncio.Future[Any] | None = None  # waits for a task that somebody else asked for
        self._host = host
        self.home = home
        self.name = name
        self._state = state
        self._direct = direct
        self._place = place
        return self

    @classmethod
    def _make(cls, host: Handles, home: Address, name: str, state: Cell | Record | None, **more: Any) -> Task:
        return cls.__new__(cls)._bind(host, home, name, state, **more)

    # --- messages ---

    def send(self, message: Any) -> int:
        """Send a message; it arrives once and in order while both processes live. Returns 0 at once.

        Raises
        ------
        NotPicklable: naming what in the message cannot be pickled.
        """
        self._host.tell(self, message)
        return 0

    async def deliver(self, message: Any, timeout: float | None = None) -> int:
        """Send, and wait until it is in the receiver's mailbox: 1; 0 if the task has ended or at the timeout (in seconds).

        After a timeout the message may still arrive. In the mailbox is not handled: for that, ask.
        """
        return await self._host.deliver(self, message, timeout)

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

    def reply(self, value: Any) -> None:
        """Answer the request that this task received last.

        Raises
        ------
        RuntimeError: the last message was sent by send() or deliver(), which expect no answer, or was answered already.
        """
        self._own("reply").reply(value)

    async def sleep(self, seconds: float, alarm_value: Any = None) -> Any:
        """Let others run for so many seconds."""
        await asyncio.sleep(seconds)
        return alarm_value

    # --- ends ---

    async def monitor(self, by: Task | None = None) -> int:
        """Have a MonitorStatus sent to `by` (default: the running task) when this task ends. Returns 0 (spec 6.4)."""
        await self._host.monitor(self, by)
        return 0

    def terminate(self) -> int:
        """End the task: it gets KeyboardInterrupt, and is killed about 5 s later. One that has not started is dropped."""
        self._host.terminate(self)
        return 0

    def __await__(self) -> Generator[Any, None, Any]:
        """The task's value; raises what it raised, or TaskTerminated, TaskLost, TaskRefused, RemoteError."""
        return self._host.value_of(self).__await__()

    def __call__(self) -> Awaitable[Any]:
        """``yield rtask()`` waits for the value, as ``await rtask`` does."""
        return self._host.value_of(self)

    async def finish(self, timeout: float | None = None) -> Any:
        """The task's value. Raises TimeoutError after `timeout` seconds; the task goes on."""
        async with asyncio.timeout(timeout):
            return await asyncio.shield(self._host.future_of(self))

    # --- what is known of it ---

    @property
    def location(self) -> Location | None:
        """Where it runs: the server's Location; None while that is not known, and for tasks of a client."""
        return self._host.location_of(self)

    def is_alive(self) -> bool:
        """False when it is known here that it has ended."""
        if self._state is None:
            return self._afar is None or not self._afar.done()
        return not self._state.ended

    # --- as a future, so that gather, wait, wait_for, as_completed and shield take handles ---

    def done(self) -> bool:
        return not self.is_alive()

    def add_done_callback(self, callback: Callable[[Any], object], *, context: Any = None) -> None:
        """Call `callback(future)` on the loop when the task ends."""
        call = partial(_call_with, callback, self)
        self._callbacks = [*(self._callbacks or ()), (callback, call)]
        self._host.future_of(self).add_done_callback(call, context=context)

    def remove_done_callback(self, callback: Callable[[Any], object]) -> int:
        removed = [call for known, call in self._callbacks or () if known == callback]
        self._callbacks = [pair for pair in self._callbacks or () if pair[0] != callback]
        return sum(self._host.future_of(self).remove_done_callback(call) for call in removed)

    def result(self) -> Any:
        """The value, without waiting. Raises asyncio.InvalidStateError if it has not ended."""
        self._raise_if_cancelled()
        return self._host.future_of(self).result()

    def exception(self) -> BaseException | None:
        self._raise_if_cancelled()
        return self._host.future_of(self).exception()

    def cancel(self, msg: Any = None) -> bool:
        """terminate(), as asyncio says it: wait_for, and a cancelled `await handle`, end the task, as with asyncio's own."""
        if self.done():
            return False
        self._cancelled = True
        self.terminate()
        return True

    def cancelled(self) -> bool:
        """True when cancel() ended it."""
        if not self._cancelled or not self.done():
            return False
        return isinstance(self._host.future_of(self).exception(), TaskTerminated)

    def _raise_if_cancelled(self) -> None:
        if self.cancelled():
            raise asyncio.CancelledError

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return self._host.loop

    # --- identity ---

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Task) and self.home == other.home

    def __hash__(self) -> int:
        return hash(self.home)

    def __repr__(self) -> str:
        place = self.location
        return f"<Task {self.name}{f' at {place}' if place else ''}>"

    def __reduce__(self) -> tuple[Callable[..., Task], tuple[Any, ...]]:
        direct = self._host.direct_address(self)
        place = self.location
        return _rebuild, (
            tuple(self.home),
            self.name,
            tuple(direct) if direct else None,
            tuple(place) if place else None,
        )

    def _own(self, method: str) -> Cell:
        from .host.cell import Cell

        state = self._state
        if isinstance(state, Cell) and state.runs_here():
            return state
        raise RuntimeError(
            f"{self.name}.{method}() is for the task itself, while it runs; to reach it from outside use send or ask"
        )


def _call_with(callback: Callable[[Any], object], handle: Task, _: object) -> None:
    callback(handle)


def _rebuild(
    home: tuple[int, int], name: str, direct: tuple[int, int] | None, place: tuple[str, int] | None
) -> Task:
    """Unpickle a handle: the same object's state where it is known, else a handle that works from here."""
    from .host.cells import TaskHost

    return TaskHost.loading().handle(
        Address(*home), name, Address(*direct) if direct else None, Location(*place) if place else None
    )
