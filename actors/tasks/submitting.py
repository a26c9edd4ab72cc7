"""A Task, as its users hold it, and how tasks are submitted: the same calls for a program's Client and for a task's own."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Generator, Iterable, Mapping
from dataclasses import dataclass
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Generic,
    Literal,
    ParamSpec,
    Protocol,
    TypeAlias,
    TypedDict,
    TypeVar,
    TypeVarTuple,
    Unpack,
    overload,
)

from dispycos.habits import KEYWORDS, hint, no_keyword
from dispycos.protocol.addresses import Location
from dispycos.protocol.status import OutcomeKind
from dispycos.values import flag, positive_seconds

from .calling import keywords_of, name_of
from .chunks import runs_alone
from .current import current_host
from .ends import brief, plain
from .handle import Handle, T
from .items import items_of, total_of
from .map import Map, Wanted
from .options import OF_OPTIONS, PLAIN, Options, count, merged
from .passing import has_handles
from .record import Record
from .roles import Host

TaskT = TypeVar("TaskT")
OptionedT = TypeVar("OptionedT")


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

    A = TypeVar("A")
    B = TypeVar("B")
    C = TypeVar("C")
    D = TypeVar("D")
    R = TypeVar("R")
    Y = TypeVar("Y")
    S = TypeVar("S")
    P = ParamSpec("P")
    Ts = TypeVarTuple("Ts")
    A_in = TypeVar("A_in", contravariant=True)
    B_in = TypeVar("B_in", contravariant=True)
    C_in = TypeVar("C_in", contravariant=True)
    D_in = TypeVar("D_in", contravariant=True)
    R_out = TypeVar("R_out", covariant=True)

    class Valued(Protocol[R_out]):
        """A handle."""

        def result(self) -> R_out: ...
        def terminate(self) -> int: ...

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

    At: TypeAlias = str | Location
    Begins1: TypeAlias = Callable[
        Concatenate[A, P], R
    ]  # for `...` mypy infers neither lambdas nor generic functions
    Begins2: TypeAlias = Callable[Concatenate[A, B, P], R]
    Begins3: TypeAlias = Callable[Concatenate[A, B, C, P], R]
    Co: TypeAlias = Coroutine[Any, Any, R]
    Gen: TypeAlias = Generator[Y, S, R]
    Starting: TypeAlias = Coroutine[Any, Any, Task[R]]

    class AnyMap(TypedDict, total=False):
        """Of map, but not `return_exceptions`, on which the type of its values depends."""

        ordered: bool
        chunksize: int | Literal["auto"]
        retries: int
        timeout: float | None
        progress: bool
        kwargs: Mapping[str, Any] | None

    class Opts(AnyMap, total=False):
        return_exceptions: Literal[False]

    class Kept(AnyMap):
        return_exceptions: bool

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

    class Method(Protocol[R_out]):
        def __get__(self, client: object, kind: type | None = None) -> R_out: ...

    def called_as_submit(method: Callable[..., Task[Any]]) -> Method[Submit]: ...
    def called_as_start(method: Callable[..., Starting[Any]]) -> Method[Start]: ...
    def called_as_start_at(method: Callable[..., Starting[Any]]) -> Method[StartAt]: ...
else:
    called_as_submit = plain

    def called_as_start(method):
        return method

    called_as_start_at = called_as_start


SAID_OF_TASKS = OF_OPTIONS.union(KEYWORDS)
OF_MAP = ("ordered", "return_exceptions", "chunksize", "retries", "timeout", "progress", "kwargs")


class Submitter(ABC, Generic[TaskT, OptionedT]):
    """What has functions run as tasks, in either style."""

    _options = PLAIN

    @abstractmethod
    def _run(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], options: Options
    ) -> TaskT: ...

    @abstractmethod
    def _with(self, options: Options) -> OptionedT: ...

    def _submit(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        retries: int = 0,
        **how: Any,
    ) -> TaskT:
        must_be_callable(function)
        if kwargs and not SAID_OF_TASKS.isdisjoint(kwargs):
            refuse_options(function, kwargs)
        return self._run(function, args, kwargs, self._options.of_call(retries, **how))

    @plain
    def options(
        self,
        *,
        timeout: float | None = None,
        retries: int | None = None,
        priority: int | None = None,
        gpus: int | None = None,
        resources: Mapping[str, int] | None = None,
    ) -> OptionedT:
        """An object with submit, io_submit, rtask, rtask_at, io_rtask, io_rtask_at and map, whose tasks run so.

        It may be kept, and used as often as the client itself; its own ``options()`` adds to what it says.

        Parameters
        ----------
        timeout: seconds that a task may run, from its start. Then it is ended as by ``terminate()``, and awaiting it raises
            TaskTimeout. Each start of one that has `retries` has them anew.
        retries: as for submit, where a call says none of its own.
        priority: an int; of the tasks that wait in this program those with more are given to servers first. 0 is usual.
            What a server has been given stays there.
        gpus: the same as ``resources={"gpu": gpus}``. A CPU task that has some sees only these, by CUDA_VISIBLE_DEVICES, from
            its start until it ends, or waits for tasks of its own.
        resources: how many of its node's resources a task has while it runs, by name, as ``{"licence": 1}``; it waits for a node
            that has so many free (``dispycos node --resource licence=1``). 0 is none. ``task.resources`` tells which they are.

        Raises
        ------
        TypeError, ValueError: a value is of no use; the text names it.
        """
        given = {"timeout": timeout, "retries": retries, "priority": priority}
        return self._with(merged(self._options, {**given, "gpus": gpus, "resources": resources}))


class Submits(Submitter["Task[Any]", "Optioned"]):
    """Has functions run as remote tasks: a Client, and what ``task.client``, ``current_client()``, ``client.options()`` give.

    A name for annotations, of a function that programs and tasks call: ``def start(client: dispycos.Submits) -> None``.
    """

    @abstractmethod
    def _here(self) -> object:
        """Raises NotScheduled if nothing can be submitted."""

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
        return await _until_started(self._submit(function, args, kwargs, alone=True, retries=retries))

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
        return await _until_started(
            self._submit(function, args, kwargs, where=where, alone=True, retries=retries)
        )

    @called_as_start
    @brief
    async def io_rtask(
        self, function: Callable[..., Any], /, *args: Any, retries: int = 0, **kwargs: Any
    ) -> Task[Any]:
        """As rtask, for a task that mostly waits: it shares its server, and close() does not wait for it."""
        return await _until_started(
            self._submit(function, args, kwargs, io=True, alone=True, retries=retries)
        )

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
        return await _until_started(
            self._submit(function, args, kwargs, io=True, where=where, alone=True, retries=retries)
        )

    def _with(self, options: Options) -> Optioned:
        return Optioned(self, options)

    # fmt: off
    @overload
    def map(self, f: Begins1[A, P, Co[R]], a: Iterable[A], /, **o: Unpack[Opts]) -> Map[A, R]: ...
    @overload
    def map(self, f: Begins1[A, P, Gen[Y, S, R]], a: Iterable[A], /, **o: Unpack[Opts]) -> Map[A, R]: ...
    @overload
    def map(self, f: Begins1[A, P, R], a: Iterable[A], /, **o: Unpack[Opts]) -> Map[A, R]: ...
    @overload
    def map(self, f: Begins2[A, B, P, Co[R]], a: Iterable[A], b: Iterable[B], /, **o: Unpack[Opts]) -> Map[tuple[A, B], R]: ...
    @overload
    def map(self, f: Begins2[A, B, P, Gen[Y, S, R]], a: Iterable[A], b: Iterable[B], /, **o: Unpack[Opts]) -> Map[tuple[A, B], R]: ...  # noqa: E501
    @overload
    def map(self, f: Begins2[A, B, P, R], a: Iterable[A], b: Iterable[B], /, **o: Unpack[Opts]) -> Map[tuple[A, B], R]: ...
    @overload
    def map(self, f: Begins3[A, B, C, P, Co[R]], a: Iterable[A], b: Iterable[B], c: Iterable[C], /, **o: Unpack[Opts]) -> Map[tuple[A, B, C], R]: ...  # noqa: E501
    @overload
    def map(self, f: Begins3[A, B, C, P, Gen[Y, S, R]], a: Iterable[A], b: Iterable[B], c: Iterable[C], /, **o: Unpack[Opts]) -> Map[tuple[A, B, C], R]: ...  # noqa: E501
    @overload
    def map(self, f: Begins3[A, B, C, P, R], a: Iterable[A], b: Iterable[B], c: Iterable[C], /, **o: Unpack[Opts]) -> Map[tuple[A, B, C], R]: ...  # noqa: E501
    @overload
    def map(self, f: Begins1[A, P, Co[R]], a: Iterable[A], /, **o: Unpack[Kept]) -> Map[A, R | Exception]: ...
    @overload
    def map(self, f: Begins1[A, P, Gen[Y, S, R]], a: Iterable[A], /, **o: Unpack[Kept]) -> Map[A, R | Exception]: ...
    @overload
    def map(self, f: Begins1[A, P, R], a: Iterable[A], /, **o: Unpack[Kept]) -> Map[A, R | Exception]: ...
    @overload
    def map(self, f: Begins2[A, B, P, Co[R]], a: Iterable[A], b: Iterable[B], /, **o: Unpack[Kept]) -> Map[tuple[A, B], R | Exception]: ...  # noqa: E501
    @overload
    def map(self, f: Begins2[A, B, P, Gen[Y, S, R]], a: Iterable[A], b: Iterable[B], /, **o: Unpack[Kept]) -> Map[tuple[A, B], R | Exception]: ...  # noqa: E501
    @overload
    def map(self, f: Begins2[A, B, P, R], a: Iterable[A], b: Iterable[B], /, **o: Unpack[Kept]) -> Map[tuple[A, B], R | Exception]: ...  # noqa: E501
    @overload
    def map(self, f: Begins3[A, B, C, P, Co[R]], a: Iterable[A], b: Iterable[B], c: Iterable[C], /, **o: Unpack[Kept]) -> Map[tuple[A, B, C], R | Exception]: ...  # noqa: E501
    @overload
    def map(self, f: Begins3[A, B, C, P, Gen[Y, S, R]], a: Iterable[A], b: Iterable[B], c: Iterable[C], /, **o: Unpack[Kept]) -> Map[tuple[A, B, C], R | Exception]: ...  # noqa: E501
    @overload
    def map(self, f: Begins3[A, B, C, P, R], a: Iterable[A], b: Iterable[B], c: Iterable[C], /, **o: Unpack[Kept]) -> Map[tuple[A, B, C], R | Exception]: ...  # noqa: E501
    @overload
    def map(self, f: Callable[..., Any], a: Iterable[Any], b: Iterable[Any], c: Iterable[Any], d: Iterable[Any], /, *e: Iterable[Any], **o: Any) -> Map[Any, Any]: ...  # noqa: E501
    # fmt: on
    @plain
    def map(
        self,
        function: Callable[..., Any],
        /,
        *iterables: Iterable[Any],
        ordered: bool = False,
        return_exceptions: bool = False,
        chunksize: int | str = "auto",
        retries: int = 0,
        timeout: float | None = None,
        progress: bool = False,
        kwargs: Mapping[str, Any] | None = None,
        **unknown: Any,
    ) -> Map[Any, Any]:
        """Run function(x) for every x of an iterable: ``async for x, value in client.map(function, xs)`` gets them as they end.

        With several iterables the function is called with an item of each, and x is a tuple of these.

        The iterables are read as the values are taken, at most 4,096 items ahead, or 32,768 short ones, so they may be endless.
        When the loop is left, what has not ended is terminated. Items of a plain function that take less than some
        milliseconds go to servers together, some 10 ms of them in one task, ``map(function)``. Each has a value or an error
        of its own; what was not begun by then is given back. They share a process with others of their task, and its
        fate: see `retries`. A function that suspends, or has a parameter `task`, runs in a task for each item.

        Parameters
        ----------
        ordered: give values in the order of the items, not as they end. One that takes long holds up those behind it.
        return_exceptions: an item that raises has the exception as its value. False: the first one is raised here, with a
            note that names the item, and ends the rest. In any case ``failures`` of what this returns has (item, error).
        chunksize: so many items at most go together, whatever they take. "auto": by their run time, which is measured.
        retries: how often an item may be run again that was lost with its server. Without, a lost server takes along all
            items of the task that it ran, also those that had ended there: each is a TaskLost.
        timeout: seconds, from when the first value is asked for, until the last; then TimeoutError, and the rest is ended.
        progress: show how far it is, on standard error: a bar in a terminal, a line under a notebook's cell, else a line
            each 10 s. The total is what ``len()`` of the iterables says.
        kwargs: keyword arguments of each call.

        Raises
        ------
        TypeError, ValueError: there is nothing to call, or nothing to call it with, or a parameter is of no use.
        While values are taken: what an item raised; NotPicklable, naming the argument; what an iterable raised, with a note
        that says so; TimeoutError.
        """
        self._here()
        must_be_callable(function)
        if unknown:
            first = next(iter(unknown))
            of_tasks = f"client.options({first}=...).map has that, and " if first in OF_OPTIONS else ""
            text = no_keyword(f"map() has no option {', '.join(unknown)}", first, OF_MAP)
            raise TypeError(
                f"{text}; {of_tasks}arguments of the function itself are given as kwargs={{{first!r}: ...}}"
            )
        if not iterables:
            raise TypeError("map() needs an iterable beside the function")
        if kwargs is not None and not (
            isinstance(kwargs, Mapping) and all(isinstance(name, str) for name in kwargs)
        ):
            raise TypeError(
                f"kwargs must be a dict of keyword arguments, as {{'name': value}}, not {kwargs!r}"
            )
        items, is_spread = items_of(iterables), len(iterables) > 1
        named = {} if kwargs is None else dict(kwargs)
        size = (
            1 if chunksize == "auto" and self._options.timeout else _chunksize(chunksize)
        )  # a timeout is for each item
        if has_handles((), named) or runs_alone(function, (None,) * len(iterables), named):
            if size not in (None, 1):
                raise ValueError(
                    f"chunksize={size}: {name_of(function)} suspends, or gets its task or a handle: each call is a task of its own"
                )
            size = 1
        wanted = Wanted(
            named,
            is_spread,
            total_of(iterables),
            flag(ordered, "ordered"),
            flag(return_exceptions, "return_exceptions"),
            size,
            count(retries) or self._options.retries,
            None if timeout is None else positive_seconds(timeout, "timeout"),
            flag(progress, "progress"),
        )
        return Map(self._submit, function, items, wanted)


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


async def _until_started(handle: Task[T]) -> Task[T]:
    if not await has_started(handle):
        await handle
    return handle


async def has_started(handle: Task[Any]) -> bool:
    """When that is known. False: it was refused, or lost before, as who asks for its value is told."""
    record = handle._source
    if not isinstance(record, Record):  # it runs in this process, as soon as the loop has its turn
        await asyncio.sleep(0)
        return True
    if record.address is None and not record.ended:
        record.when_started = asyncio.get_running_loop().create_future()
        try:
            await record.when_started
        except asyncio.CancelledError:
            handle.terminate()
            raise
    return record.started or record.outcome not in (OutcomeKind.REFUSED, OutcomeKind.LOST)


def client_of(host: Host | None, source: object, asked: str) -> Submits:
    """Who runs what the tasks of this host submit, or this one; `asked` is how that was asked for."""
    client: Submits | None = getattr(source, "client", None)
    if client is None and host is not None and host.records is not None:
        client = host.records.client
    if client is None:
        raise RuntimeError(f"{asked} is for remote tasks: elsewhere use the Client that your program made")
    return client


def must_be_callable(function: object) -> None:
    if not callable(function) or isinstance(function, Handle):
        raise TypeError(
            f"a task needs a function, not {type(function).__name__}: give it uncalled, and its arguments behind it"
        )


def refuse_options(function: Callable[..., Any], kwargs: Mapping[str, Any]) -> None:
    """Raises TypeError: what this function takes for no argument of its own is meant for options()."""
    if (taken := keywords_of(function)) is None:
        return
    meant = [name for name in kwargs if name in SAID_OF_TASKS and name not in taken]
    if meant:
        ours = ", ".join(f"{name}={kwargs[name]!r}" for name in meant if name in OF_OPTIONS)
        if ours:
            remedy = f"; if it is about the task: client.options({ours}).submit(...)"
        else:
            remedy = hint(KEYWORDS, meant[0])
        raise TypeError(f"{name_of(function)} has no parameter {meant[0]!r}{remedy}")


def _chunksize(chunksize: object) -> int | None:
    """None: by run time."""
    if chunksize == "auto":
        return None
    if not isinstance(chunksize, int) or isinstance(chunksize, bool):
        raise TypeError(f"chunksize must be a number of items (int), or 'auto', not {chunksize!r}")
    if chunksize < 1:
        raise ValueError(f"chunksize must be at least 1, not {chunksize}")
    return chunksize
