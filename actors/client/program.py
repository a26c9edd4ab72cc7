"""dispycos.run: a program's `main` as the first local task of a loop of its own."""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import TYPE_CHECKING, Any, overload

from dispycos.brokers.private import Waiting
from dispycos.living import refuse_in_server

from ..tasks.ends import Outcome, Raised, Returned, plain
from ..tasks.waiting import complete

if TYPE_CHECKING:
    from ..tasks.cell import Cell
    from ..tasks.signatures import A, B, C, Co, D, Gen, P, R, S, Y
    from ..tasks.submitting import Tasked, Tasked1, Tasked2, Tasked3, Tasked4
    from .local import Home


# fmt: off
@overload
def run(main: Co[R], /) -> R: ...
@overload
def run(main: Callable[P, Co[R]], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
@overload
def run(main: Callable[P, Gen[Y, S, R]], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
@overload
def run(main: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
@overload
def run(main: Tasked[Co[R]], /, **more: Any) -> R: ...
@overload
def run(main: Tasked[Gen[Y, S, R]], /, **more: Any) -> R: ...
@overload
def run(main: Tasked[R], /, **more: Any) -> R: ...
@overload
def run(main: Tasked1[A, Co[R]], a: A, /, **more: Any) -> R: ...
@overload
def run(main: Tasked1[A, Gen[Y, S, R]], a: A, /, **more: Any) -> R: ...
@overload
def run(main: Tasked1[A, R], a: A, /, **more: Any) -> R: ...
@overload
def run(main: Tasked2[A, B, Co[R]], a: A, b: B, /, **more: Any) -> R: ...
@overload
def run(main: Tasked2[A, B, Gen[Y, S, R]], a: A, b: B, /, **more: Any) -> R: ...
@overload
def run(main: Tasked2[A, B, R], a: A, b: B, /, **more: Any) -> R: ...
@overload
def run(main: Tasked3[A, B, C, Co[R]], a: A, b: B, c: C, /, **more: Any) -> R: ...
@overload
def run(main: Tasked3[A, B, C, Gen[Y, S, R]], a: A, b: B, c: C, /, **more: Any) -> R: ...
@overload
def run(main: Tasked3[A, B, C, R], a: A, b: B, c: C, /, **more: Any) -> R: ...
@overload
def run(main: Tasked4[A, B, C, D, Co[R]], a: A, b: B, c: C, d: D, /, **more: Any) -> R: ...
@overload
def run(main: Tasked4[A, B, C, D, Gen[Y, S, R]], a: A, b: B, c: C, d: D, /, **more: Any) -> R: ...
@overload
def run(main: Tasked4[A, B, C, D, R], a: A, b: B, c: C, d: D, /, **more: Any) -> R: ...
# fmt: on
@plain
def run(main: Callable[..., Any] | Coroutine[Any, Any, Any], /, *args: Any, **kwargs: Any) -> Any:
    """Run `main` as the first local task and return its value.

    Parameters
    ----------
    main: a generator function, an ``async def`` or a plain function, called with the arguments (and with ``task`` if it has
        a parameter of that name that they leave open); or a coroutine object, as asyncio.run takes it.

    Raises
    ------
    RuntimeError: an event loop runs already (a notebook, for example): ``await main()`` there.
    ScheduleError: this is a remote task.
    KeyboardInterrupt: Ctrl-C; tasks were ended and servers given back before.
    """
    if not callable(main) and not inspect.iscoroutine(main):
        hint = ": pass the function itself, run(main), not run(main())" if inspect.isgenerator(main) else ""
        raise TypeError(f"run() needs a function or a coroutine, not {type(main).__name__}{hint}")
    try:
        _refuse_where_it_cannot()
    except Exception:
        if inspect.iscoroutine(main):
            main.close()
        raise
    try:
        Waiting.start_ahead()
        from . import local  # noqa: F401  # late, as in Client, but not in the loop: there Ctrl-C would wait for its end

        with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:  # as in body.main of a server
            outcome = runner.run(_run_main(main, args, kwargs))
        if isinstance(outcome, Returned):
            return outcome.value
        raise outcome.error
    except KeyboardInterrupt as interrupt:
        if inspect.iscoroutine(main):
            main.close()  # it may not have begun
        _say_briefly(interrupt)
        raise


def _refuse_where_it_cannot() -> None:
    refuse_in_server("dispycos.run()")
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise RuntimeError(
        "dispycos.run() cannot be called while an event loop runs (as in a notebook): await your main() instead"
    )


async def _run_main(main: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Outcome:
    from .code import ClientPayloads
    from .local import Home

    home = Home(ClientPayloads(), kept=True)
    try:
        function = (lambda: main) if inspect.iscoroutine(main) else main
        return await _outcome_of(home, function, args, kwargs)
    finally:
        Waiting.end_ahead()
        await home.end()


async def _outcome_of(
    home: Home, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Outcome:
    """Start the task; a cancellation from outside (Ctrl-C) becomes its KeyboardInterrupt."""
    host = home.host
    ended: asyncio.Future[Outcome] = host.loop.create_future()

    def on_end(cell: Cell, outcome: Outcome) -> None:
        complete(ended, outcome)

    def begin() -> None:
        try:
            cell.begin(function, args, kwargs)
        except BaseException as error:  # whatever it is, it is what run() ends with
            on_end(cell, Raised(error))

    with host.shield, host.runtime.lock:
        cell = host.prepare(getattr(function, "__name__", "main"), on_end=on_end)
    host.loop.call_soon(begin)
    try:
        return await asyncio.shield(ended)
    except asyncio.CancelledError:
        from .local import GOODBYE_S

        cell.terminate()
        await home.wait_in_end(ended, GOODBYE_S)
        raise


def _say_briefly(interrupt: KeyboardInterrupt) -> None:
    """If nobody catches it, Ctrl-C is one line, not a traceback through asyncio."""
    previous = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if error is interrupt:
            print("interrupted", file=sys.stderr)
        else:
            previous(kind, error, trace)

    sys.excepthook = hook
