"""A Task, as its users hold it, and what submits tasks: the same calls for a program's Client and for a task's own.

Each of the two gives the other, so they stand in one file.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, overload

from dispycos.protocol.addresses import Location

from .current import current_host
from .either_style import has_started
from .ends import brief, plain
from .handle import Handle
from .map import Maps
from .options import Options
from .roles import Host
from .task_future import T

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from .signatures import (
        A,
        A_in,
        At,
        B,
        B_in,
        Begins1,
        Begins2,
        Begins3,
        C,
        C_in,
        Co,
        D,
        D_in,
        Gen,
        Method,
        P,
        R,
        R_out,
        S,
        Ts,
        Valued,
        Y,
    )


@dataclass(frozen=True, slots=True)
class MonitorStatus:
    """How a task ended, as whoever monitors it gets it by ``receive()``.

    Attributes
    ----------
    info: its handle.
    type: StopIteration if it returned, else the class of what it raised; KeyboardInterrupt if it was terminated.
    value: what it returned, or the text of what it raised.
    traceback: where it raised, as text; empty where nothing was raised in it.
    """

    info: Task
    type: Any
    value: Any = None
    traceback: str = ""


class Task(Handle[T]):
    """A task: an actor with an address and a mailbox, here or in a server process anywhere.

    ``Task(function, *args, **kwargs)`` starts a *local* task on the running loop: a generator function that uses ``yield``,
    an ``async def``, or a plain function, for which no event loop runs. It gets the task itself as ``task`` if it has a
    parameter of that name and the caller gives nothing for it. Its value is no iterator: return a list.
    ``client.rtask`` and ``client.submit`` give handles of remote tasks. Handles can be sent in messages, arguments and
    results, at any depth; they are equal when they mean the same task.

    A handle is an asyncio.Future of the task's value, and behaves as an asyncio.Task does: ``gather``, ``wait``, ``wait_for``,
    ``timeout``, ``shield`` and ``as_completed`` take it. ``cancel()``, and the end of whoever awaits it, end the task as
    ``terminate()`` does, and everybody who waits for it then gets CancelledError, when the task has ended.

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

    __slots__ = ()

    # fmt: off
    @overload
    def __init__(self: Task[R], f: Callable[P, Co[R]], /, *args: P.args, **kwargs: P.kwargs) -> None: ...
    @overload
    def __init__(self: Task[R], f: Callable[P, Gen[Y, S, R]], /, *args: P.args, **kwargs: P.kwargs) -> None: ...
    @overload
    def __init__(self: Task[R], f: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> None: ...
    @overload
    def __init__(self: Task[R], f: Tasked[Co[R]], /, **more: Any) -> None: ...
    @overload
    def __init__(self: Task[R], f: Tasked[Gen[Y, S, R]], /, **more: Any) -> None: ...
    @overload
    def __init__(self: Task[R], f: Tasked[R], /, **more: Any) -> None: ...
    @overload
    def __init__(self: Task[R], f: Tasked1[A, Co[R]], a: A, /, **more: Any) -> None: ...
    @overload
    def __init__(self: Task[R], f: Tasked1[A, Gen[Y, S, R]], a: A, /, **more: Any) -> None: ...
    @overload
    def __init__(self: Task[R], f: Tasked1[A, R], a: A, /, **more: Any) -> None: ...
    @overload
    def __init__(self: Task[R], f: Tasked2[A, B, Co[R]], a: A, b: B, /, **more: Any) -> None: ...
    @overload
    def __init__(self: Task[R], f: Tasked2[A, B, Gen[Y, S, R]], a: A, b: B, /, **more: Any) -> None: ...
    @overload
    def __init__(self: Task[R], f: Tasked2[A, B, R], a: A, b: B, /, **more: Any) -> None: ...
    @overload
    def __init__(self: Task[R], f: Tasked3[A, B, C, Co[R]], a: A, b: B, c: C, /, **more: Any) -> None: ...
    @overload
    def __init__(self: Task[R], f: Tasked3[A, B, C, Gen[Y, S, R]], a: A, b: B, c: C, /, **more: Any) -> None: ...
    @overload
    def __init__(self: Task[R], f: Tasked3[A, B, C, R], a: A, b: B, c: C, /, **more: Any) -> None: ...
    @overload
    def __init__(self: Task[R], f: Tasked4[A, B, C, D, Co[R]], a: A, b: B, c: C, d: D, /, **more: Any) -> None: ...
    @overload
    def __init__(self: Task[R], f: Tasked4[A, B, C, D, Gen[Y, S, R]], a: A, b: B, c: C, d: D, /, **more: Any) -> None: ...
    @overload
    def __init__(self: Task[R], f: Tasked4[A, B, C, D, R], a: A, b: B, c: C, d: D, /, **more: Any) -> None: ...
    # fmt: on
    @plain
    def __init__(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> None:
        current_host().start(self, function, args, kwargs)

    @property
    def client(self) -> Submits:
        """In a remote task: its client, for tasks of its own, as ``task.client.submit(function, x)``.

        It has submit, io_submit, rtask, rtask_at, io_rtask, io_rtask_at, map and options, as a Client has. What is submitted
        there the program's Client places as any other task; see ``help(dispycos.current_client)``.

        Raises
        ------
        RuntimeError: this is no server; a program uses the Client that it made.
        """
        return client_of(self._host, self._source, "task.client")


if TYPE_CHECKING:
    # What type checkers know of a call, which is as the function itself would be called, save that
    # - a parameter `task` may be left open. Then up to four arguments are given by position; by name, unchecked, those that
    #   have defaults. A function that takes more asks current_task();
    # - `retries` may be given, the rest by position;
    # - one of the first three arguments may be a handle of the value. What is behind that is not checked.
    # The value is what the function returns, of an `async def` and a generator function, too: hence three lines for each.

    class Tasked(Protocol[R_out]):
        def __call__(self, /, *, task: Task[Any]) -> R_out: ...

    class Tasked1(Protocol[A_in, R_out]):
        def __call__(self, a: A_in, /, *, task: Task[Any]) -> R_out: ...

    class Tasked2(Protocol[A_in, B_in, R_out]):
        def __call__(self, a: A_in, b: B_in, /, *, task: Task[Any]) -> R_out: ...

    class Tasked3(Protocol[A_in, B_in, C_in, R_out]):
        def __call__(self, a: A_in, b: B_in, c: C_in, /, *, task: Task[Any]) -> R_out: ...

    class Tasked4(Protocol[A_in, B_in, C_in, D_in, R_out]):
        def __call__(self, a: A_in, b: B_in, c: C_in, d: D_in, /, *, task: Task[Any]) -> R_out: ...

    Starting: TypeAlias = Coroutine[Any, Any, Task[R]]

    # fmt: off
    class Submit(Protocol):
        """submit and io_submit."""

        @overload
        def __call__(self, f: Callable[P, Co[R]], /, *args: P.args, **kwargs: P.kwargs) -> Task[R]: ...
        @overload
        def __call__(self, f: Callable[P, Gen[Y, S, R]], /, *args: P.args, **kwargs: P.kwargs) -> Task[R]: ...
        @overload
        def __call__(self, f: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Task[R]: ...
        @overload
        def __call__(self, f: Tasked[Co[R]], /, **more: Any) -> Task[R]: ...
        @overload
        def __call__(self, f: Tasked[Gen[Y, S, R]], /, **more: Any) -> Task[R]: ...
        @overload
        def __call__(self, f: Tasked[R], /, **more: Any) -> Task[R]: ...
        @overload
        def __call__(self, f: Tasked1[A, Co[R]], a: A, /, **more: Any) -> Task[R]: ...
        @overload
        def __call__(self, f: Tasked1[A, Gen[Y, S, R]], a: A, /, **more: Any) -> Task[R]: ...
        @overload
        def __call__(self, f: Tasked1[A, R], a: A, /, **more: Any) -> Task[R]: ...
        @overload
        def __call__(self, f: Tasked2[A, B, Co[R]], a: A, b: B, /, **more: Any) -> Task[R]: ...
        @overload
        def __call__(self, f: Tasked2[A, B, Gen[Y, S, R]], a: A, b: B, /, **more: Any) -> Task[R]: ...
        @overload
        def __call__(self, f: Tasked2[A, B, R], a: A, b: B, /, **more: Any) -> Task[R]: ...
        @overload
        def __call__(self, f: Tasked3[A, B, C, Co[R]], a: A, b: B, c: C, /, **more: Any) -> Task[R]: ...
        @overload
        def __call__(self, f: Tasked3[A, B, C, Gen[Y, S, R]], a: A, b: B, c: C, /, **more: Any) -> Task[R]: ...
        @overload
        def __call__(self, f: Tasked3[A, B, C, R], a: A, b: B, c: C, /, **more: Any) -> Task[R]: ...
        @overload
        def __call__(self, f: Tasked4[A, B, C, D, Co[R]], a: A, b: B, c: C, d: D, /, **more: Any) -> Task[R]: ...
        @overload
        def __call__(self, f: Tasked4[A, B, C, D, Gen[Y, S, R]], a: A, b: B, c: C, d: D, /, **more: Any) -> Task[R]: ...
        @overload
        def __call__(self, f: Tasked4[A, B, C, D, R], a: A, b: B, c: C, d: D, /, **more: Any) -> Task[R]: ...
        @overload
        def __call__(self, f: Callable[[*Ts], Co[R]], /, *args: *Ts, retries: int, **more: Any) -> Task[R]: ...
        @overload
        def __call__(self, f: Callable[[*Ts], Gen[Y, S, R]], /, *args: *Ts, retries: int, **more: Any) -> Task[R]: ...
        @overload
        def __call__(self, f: Callable[[*Ts], R], /, *args: *Ts, retries: int, **more: Any) -> Task[R]: ...
        @overload
        def __call__(self, f: Begins1[A, P, Co[R]], a: Valued[A], /, *e: Any, **more: Any) -> Task[R]: ...
        @overload
        def __call__(self, f: Begins1[A, P, Gen[Y, S, R]], a: Valued[A], /, *e: Any, **more: Any) -> Task[R]: ...
        @overload
        def __call__(self, f: Begins1[A, P, R], a: Valued[A], /, *e: Any, **more: Any) -> Task[R]: ...
        @overload
        def __call__(self, f: Begins2[A, B, P, Co[R]], a: A, b: Valued[B], /, *e: Any, **more: Any) -> Task[R]: ...
        @overload
        def __call__(self, f: Begins2[A, B, P, Gen[Y, S, R]], a: A, b: Valued[B], /, *e: Any, **more: Any) -> Task[R]: ...
        @overload
        def __call__(self, f: Begins2[A, B, P, R], a: A, b: Valued[B], /, *e: Any, **more: Any) -> Task[R]: ...
        @overload
        def __call__(self, f: Begins3[A, B, C, P, Co[R]], a: A, b: B, c: Valued[C], /, *e: Any, **more: Any) -> Task[R]: ...
        @overload
        def __call__(self, f: Begins3[A, B, C, P, Gen[Y, S, R]], a: A, b: B, c: Valued[C], /, *e: Any, **more: Any) -> Task[R]: ...
        @overload
        def __call__(self, f: Begins3[A, B, C, P, R], a: A, b: B, c: Valued[C], /, *e: Any, **more: Any) -> Task[R]: ...

    class Start(Protocol):
        """rtask and io_rtask; for a handle's value `await` it first, which is the same."""

        @overload
        def __call__(self, f: Callable[P, Co[R]], /, *args: P.args, **kwargs: P.kwargs) -> Starting[R]: ...
        @overload
        def __call__(self, f: Callable[P, Gen[Y, S, R]], /, *args: P.args, **kwargs: P.kwargs) -> Starting[R]: ...
        @overload
        def __call__(self, f: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Starting[R]: ...
        @overload
        def __call__(self, f: Tasked[Co[R]], /, **more: Any) -> Starting[R]: ...
        @overload
        def __call__(self, f: Tasked[Gen[Y, S, R]], /, **more: Any) -> Starting[R]: ...
        @overload
        def __call__(self, f: Tasked[R], /, **more: Any) -> Starting[R]: ...
        @overload
        def __call__(self, f: Tasked1[A, Co[R]], a: A, /, **more: Any) -> Starting[R]: ...
        @overload
        def __call__(self, f: Tasked1[A, Gen[Y, S, R]], a: A, /, **more: Any) -> Starting[R]: ...
        @overload
        def __call__(self, f: Tasked1[A, R], a: A, /, **more: Any) -> Starting[R]: ...
        @overload
        def __call__(self, f: Tasked2[A, B, Co[R]], a: A, b: B, /, **more: Any) -> Starting[R]: ...
        @overload
        def __call__(self, f: Tasked2[A, B, Gen[Y, S, R]], a: A, b: B, /, **more: Any) -> Starting[R]: ...
        @overload
        def __call__(self, f: Tasked2[A, B, R], a: A, b: B, /, **more: Any) -> Starting[R]: ...
        @overload
        def __call__(self, f: Tasked3[A, B, C, Co[R]], a: A, b: B, c: C, /, **more: Any) -> Starting[R]: ...
        @overload
        def __call__(self, f: Tasked3[A, B, C, Gen[Y, S, R]], a: A, b: B, c: C, /, **more: Any) -> Starting[R]: ...
        @overload
        def __call__(self, f: Tasked3[A, B, C, R], a: A, b: B, c: C, /, **more: Any) -> Starting[R]: ...
        @overload
        def __call__(self, f: Tasked4[A, B, C, D, Co[R]], a: A, b: B, c: C, d: D, /, **more: Any) -> Starting[R]: ...
        @overload
        def __call__(self, f: Tasked4[A, B, C, D, Gen[Y, S, R]], a: A, b: B, c: C, d: D, /, **more: Any) -> Starting[R]: ...
        @overload
        def __call__(self, f: Tasked4[A, B, C, D, R], a: A, b: B, c: C, d: D, /, **more: Any) -> Starting[R]: ...
        @overload
        def __call__(self, f: Callable[[*Ts], Co[R]], /, *args: *Ts, retries: int, **more: Any) -> Starting[R]: ...
        @overload
        def __call__(self, f: Callable[[*Ts], Gen[Y, S, R]], /, *args: *Ts, retries: int, **more: Any) -> Starting[R]: ...
        @overload
        def __call__(self, f: Callable[[*Ts], R], /, *args: *Ts, retries: int, **more: Any) -> Starting[R]: ...

    class StartAt(Protocol):
        """rtask_at and io_rtask_at."""

        @overload
        def __call__(self, w: At, f: Callable[P, Co[R]], /, *args: P.args, **kwargs: P.kwargs) -> Starting[R]: ...
        @overload
        def __call__(self, w: At, f: Callable[P, Gen[Y, S, R]], /, *args: P.args, **kwargs: P.kwargs) -> Starting[R]: ...
        @overload
        def __call__(self, w: At, f: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Starting[R]: ...
        @overload
        def __call__(self, w: At, f: Tasked[Co[R]], /, **more: Any) -> Starting[R]: ...
        @overload
        def __call__(self, w: At, f: Tasked[Gen[Y, S, R]], /, **more: Any) -> Starting[R]: ...
        @overload
        def __call__(self, w: At, f: Tasked[R], /, **more: Any) -> Starting[R]: ...
        @overload
        def __call__(self, w: At, f: Tasked1[A, Co[R]], a: A, /, **more: Any) -> Starting[R]: ...
        @overload
        def __call__(self, w: At, f: Tasked1[A, Gen[Y, S, R]], a: A, /, **more: Any) -> Starting[R]: ...
        @overload
        def __call__(self, w: At, f: Tasked1[A, R], a: A, /, **more: Any) -> Starting[R]: ...
        @overload
        def __call__(self, w: At, f: Tasked2[A, B, Co[R]], a: A, b: B, /, **more: Any) -> Starting[R]: ...
        @overload
        def __call__(self, w: At, f: Tasked2[A, B, Gen[Y, S, R]], a: A, b: B, /, **more: Any) -> Starting[R]: ...
        @overload
        def __call__(self, w: At, f: Tasked2[A, B, R], a: A, b: B, /, **more: Any) -> Starting[R]: ...
        @overload
        def __call__(self, w: At, f: Tasked3[A, B, C, Co[R]], a: A, b: B, c: C, /, **more: Any) -> Starting[R]: ...
        @overload
        def __call__(self, w: At, f: Tasked3[A, B, C, Gen[Y, S, R]], a: A, b: B, c: C, /, **more: Any) -> Starting[R]: ...
        @overload
        def __call__(self, w: At, f: Tasked3[A, B, C, R], a: A, b: B, c: C, /, **more: Any) -> Starting[R]: ...
        @overload
        def __call__(self, w: At, f: Tasked4[A, B, C, D, Co[R]], a: A, b: B, c: C, d: D, /, **more: Any) -> Starting[R]: ...
        @overload
        def __call__(self, w: At, f: Tasked4[A, B, C, D, Gen[Y, S, R]], a: A, b: B, c: C, d: D, /, **more: Any) -> Starting[R]: ...
        @overload
        def __call__(self, w: At, f: Tasked4[A, B, C, D, R], a: A, b: B, c: C, d: D, /, **more: Any) -> Starting[R]: ...
        @overload
        def __call__(self, w: At, f: Callable[[*Ts], Co[R]], /, *args: *Ts, retries: int, **more: Any) -> Starting[R]: ...
        @overload
        def __call__(self, w: At, f: Callable[[*Ts], Gen[Y, S, R]], /, *args: *Ts, retries: int, **more: Any) -> Starting[R]: ...
        @overload
        def __call__(self, w: At, f: Callable[[*Ts], R], /, *args: *Ts, retries: int, **more: Any) -> Starting[R]: ...
    # fmt: on

    def called_as_submit(method: Callable[..., Task[Any]]) -> Method[Submit]: ...
    def called_as_start(method: Callable[..., Starting[Any]]) -> Method[Start]: ...
    def called_as_start_at(method: Callable[..., Starting[Any]]) -> Method[StartAt]: ...
else:
    called_as_submit = plain

    def called_as_start(method):
        return method

    called_as_start_at = called_as_start


class Submits(Maps["Task[Any]", "Optioned"]):
    """Has functions run as remote tasks: a Client, and what ``task.client``, ``current_client()``, ``client.options()`` give.

    A name for annotations, of a function that programs and tasks call: ``def start(client: dispycos.Submits) -> None``.
    """

    @called_as_submit
    def submit(
        self, function: Callable[..., Any], /, *args: Any, retries: int = 0, **kwargs: Any
    ) -> Task[Any]:
        """Have ``function(*args, **kwargs)`` run as a task on the least loaded node; returns its handle at once.

        ``await handle`` gives what the function returns, or raises what it raised. It may be a plain function, an ``async def``, or
        a generator function that has ``yield`` for ``await``. A parameter `task` that is left open gets the task itself. This is a
        CPU task: its server runs no other one meanwhile. It waits for a free server in this process.

        What it is called with is not to be changed before it has ended, as far as that is buffers (arrays) of more than 1 MiB
        altogether: they are not copied, unless `retries` asks for it.

        An argument that is a handle of ``submit`` or ``io_submit`` stands for its value: this task starts when that is there. If
        it does not come this one raises ArgumentFailed, which names the chain. Handles of actors (``rtask``, or the function
        receives messages), and those in lists and other values, arrive as handles.

        Parameters
        ----------
        retries: how often it may be started again when it was lost with its server or node; so it starts at most
            1 + `retries` times, and ``task.attempt`` tells which time this is. One that raised, or that was terminated, has
            ended. A parameter of the function that is called ``retries`` is given by its position.

        Raises
        ------
        NotPicklable: naming the argument that cannot be sent. TypeError, ValueError: `retries` is no count.
        TaskRefused: an argument is a handle whose value cannot be waited for here; the text says why.
        """
        return self._submit(function, args, kwargs, retries=retries)

    @called_as_submit
    def io_submit(
        self, function: Callable[..., Any], /, *args: Any, retries: int = 0, **kwargs: Any
    ) -> Task[Any]:
        """As submit, for a task that mostly waits: it shares its server with others of its kind, and with one CPU task."""
        return self._submit(function, args, kwargs, io=True, retries=retries)

    @called_as_start
    @brief
    async def rtask(
        self, function: Callable[..., Any], /, *args: Any, retries: int = 0, **kwargs: Any
    ) -> Task[Any]:
        """Run ``function(*args, **kwargs)`` as a CPU task on the least loaded node; returns its handle when it runs.

        For actors, which receive messages while they run, and for whoever has to know that it has begun. It has its server
        for itself, save for io tasks. Functions, arguments and `retries` are as for submit; ``await`` the handle for the value.

        Raises
        ------
        NotPicklable: naming the argument that cannot be sent. TypeError, ValueError: `retries` is no count.
        TaskRefused, TaskLost: it cannot be run, or its server died before it started.
        """
        return await until_started(self._submit(function, args, kwargs, alone=True, retries=retries))

    @called_as_start_at
    @brief
    async def rtask_at(
        self,
        where: str | Location,
        function: Callable[..., Any],
        /,
        *args: Any,
        retries: int = 0,
        **kwargs: Any,
    ) -> Task[Any]:
        """As rtask, at a place: ``await client.rtask_at("host", function, x)``.

        Parameters
        ----------
        where: a node, by its address, name or Location; or one server, by its Location (``await client.servers()``). A task that
            was lost with the one server where it had to run is not started again.

        Raises
        ------
        TaskRefused: there is no such place; the text says which there are. Others as rtask.
        """
        return await until_started(
            self._submit(function, args, kwargs, where=where, alone=True, retries=retries)
        )

    @called_as_start
    @brief
    async def io_rtask(
        self, function: Callable[..., Any], /, *args: Any, retries: int = 0, **kwargs: Any
    ) -> Task[Any]:
        """As rtask, for a task that mostly waits: it shares its server, and close() does not wait for it."""
        return await until_started(self._submit(function, args, kwargs, io=True, alone=True, retries=retries))

    @called_as_start_at
    @brief
    async def io_rtask_at(
        self,
        where: str | Location,
        function: Callable[..., Any],
        /,
        *args: Any,
        retries: int = 0,
        **kwargs: Any,
    ) -> Task[Any]:
        """As io_rtask, on a node (its address, name or Location) or on one server (its Location)."""
        return await until_started(
            self._submit(function, args, kwargs, io=True, where=where, alone=True, retries=retries)
        )

    def _with(self, options: Options) -> Optioned:
        return Optioned(self, options)


class Optioned(Submits):
    """What ``client.options(...)`` gives: it has the client's submit, rtask, map and the like, for tasks that run so."""

    def __init__(self, client: Submits, options: Options) -> None:
        self._client = client
        self._options = options

    def _with(self, options: Options) -> Optioned:
        return Optioned(self._client, options)

    def _here(self) -> object:
        return self._client._here()

    def _run(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], options: Options
    ) -> Task[Any]:
        return self._client._run(function, args, kwargs, options)

    def __repr__(self) -> str:
        said = [f"{name}={value!r}" for name, value in self._options._asdict().items() if value]
        return f"{self._client!r}.options({', '.join(said)})"


async def until_started(handle: Task[T]) -> Task[T]:
    if not await has_started(handle):
        await handle
    return handle


def client_of(host: Host | None, source: object, asked: str) -> Submits:
    """Who runs what the tasks of this host submit, or this one; `asked` is how that was asked for."""
    client: Submits | None = getattr(source, "client", None)
    if client is None and host is not None and host.records is not None:
        client = host.records.client
    if client is None:
        raise RuntimeError(f"{asked} is for remote tasks: elsewhere use the Client that your program made")
    return client
