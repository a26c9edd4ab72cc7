"""The runtime of a program's event loop: made by dispycos.run or by the first Client, closed by the last who uses it."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import os
import sys
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from dispycos.config import Failure
from dispycos.living import refuse_in_server
from dispycos.runtime import Runtime
from dispycos.transport.folders import find_folders, make_private, sweep_sockets
from dispycos.transport.secret import Secret
from dispycos.transport.security import Keys

from .host.cell import Cell
from .host.cells import TaskHost
from .host.ends import Outcome, Raised, Returned, without_our_frames
from .host.interrupts import Interrupts
from .host.relief import Relief
from .parcels import ClientParcels

log = logging.getLogger("dispycos")

GOODBYE_S = 1.0  # after Ctrl-C: clients have so long to give their servers back


class Stay(Protocol):
    """A client's stay at a scheduler, or in the line for it."""

    title: str  # for people: which of the program's clients it is
    is_forsaken: bool  # nobody refers to its client
    left: asyncio.Future[None]  # the next in line may go on

    @property
    def is_leaving(self) -> bool: ...
    def make_way(self) -> None: ...
    def leave(
        self, *, terminate: bool, await_io: bool = False, patience: float | None = None
    ) -> asyncio.Task[None]: ...
    def vanish(self) -> None: ...


class Home:
    """A host for local tasks and clients on the running loop, with its relief thread.

    It is closed when the last client has left, or with its loop; `kept` by dispycos.run.
    """

    def __init__(
        self, parcels: ClientParcels, secret_file: Path | None = None, *, kept: bool = False
    ) -> None:
        keys = Keys.from_secret(Secret.load_or_make(secret_file))
        loop = asyncio.get_running_loop()
        self.interrupts = Interrupts(loop=loop, is_ending=self._hurry)
        self._ending = False
        self._hurried: asyncio.Future[None] = loop.create_future()
        self.runtime = Runtime("client", os.path.basename(sys.argv[0] or "python"), keys)
        self.host = TaskHost(self.runtime, parcels, self.interrupts)
        self.host.home = self
        self.runtime.in_child += [self.interrupts.in_child, self._in_child]
        self._stays: list[Stay] = []  # the first has the cluster, the others wait in line
        self._kept = kept
        self._closed = False
        self._ipc = ""
        self._relief = Relief(self.runtime, self.interrupts)
        self._relief.start()
        if _is_main_thread():
            self.interrupts.install()
        self._sentinel: Any = self._end_with_loop()
        with contextlib.suppress(StopIteration):
            self._sentinel.__anext__().send(None)

    async def _end_with_loop(self) -> AsyncGenerator[None, None]:
        """asyncio.run, and whoever ends a loop in good order, closes all async generators: nobody else is told of the end."""
        try:
            yield
        finally:
            await self.end()

    @property
    def ipc(self) -> str:
        """The socket by which servers of this host reach us directly; made when first wanted. Without it there is the tree."""
        if not self._ipc:
            try:
                folder = make_private(find_folders().sockets)
                sweep_sockets(folder)
                self._ipc = self.runtime.listen_ipc(folder)
            except (Failure, OSError) as error:
                log.debug("no socket for servers of this host: %s", error)
        return self._ipc

    # --- who has the cluster ---

    def enter(self, stay: Stay) -> None:
        """At the end of the line."""
        self._stays.append(stay)

    def ahead_of(self, stay: Stay) -> list[Stay]:
        """Those that had the cluster or waited for it before."""
        return self._stays[: self._stays.index(stay)]

    def has_line(self) -> bool:
        """Whether somebody waits for the first one to leave."""
        return len(self._stays) > 1

    def leave(self, stay: Stay) -> None:
        """The last one out closes the sockets."""
        if stay in self._stays:
            self._stays.remove(stay)
        if not self._stays and not self._kept:
            self._close(loop_ends=False)

    # --- ends ---

    def _in_child(self) -> None:
        """In a forked child: it is the parent who gives clusters back and closes sockets."""
        self._stays.clear()
        self._closed = True

    async def end(self) -> None:
        """The loop ends: clusters that the program did not give back are given back now."""
        leaving = [stay.leave(terminate=True, patience=GOODBYE_S) for stay in self._stays]
        if leaving:
            await self.wait_in_end(asyncio.gather(*leaving, return_exceptions=True))
        self.end_late()

    async def wait_in_end(self, what: asyncio.Future[Any], timeout: float | None = None) -> None:
        """The program ends, by Ctrl-C perhaps: one more, and this is not waited for any longer."""
        self._ending = True
        await asyncio.wait([what, self._hurried], timeout=timeout, return_when=asyncio.FIRST_COMPLETED)

    def _hurry(self) -> bool:
        """Ctrl-C: whether the end is on its way already."""
        if self._ending and not self._hurried.done():
            self._hurried.set_result(None)
        return self._ending

    def end_late(self) -> None:
        """Of a loop that was closed without a word, or whose end is not waited for."""
        for stay in list(self._stays):
            stay.vanish()
        self._close(loop_ends=True)

    def _close(self, *, loop_ends: bool) -> None:
        if self._closed:
            return
        self._closed = True
        self.host.close()
        self._relief.stop()
        if _is_main_thread():
            self.interrupts.uninstall(loop_ends=loop_ends)
        self.runtime.close_now()
        if not self._sentinel.ag_running:
            with contextlib.suppress(StopIteration):
                self._sentinel.aclose().send(None)


def _is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def home_of_this_loop(parcels: ClientParcels, secret_file: Path | None) -> Home:
    """The one on the running loop, made if there is none."""
    host = TaskHost.find(asyncio.get_running_loop())
    if host is not None:
        home: Home = host.home
        return home
    for forgotten in TaskHost.of_closed_loops():
        forgotten.home.end_late()
    return Home(parcels, secret_file)


def run(main: Callable[..., Any] | Coroutine[Any, Any, Any], *args: Any, **kwargs: Any) -> Any:
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
        raise TypeError(f"run() needs a function or a coroutine, not {type(main).__name__}")
    try:
        _refuse_where_it_cannot()
    except Exception:
        if inspect.iscoroutine(main):
            main.close()
        raise
    try:
        with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:  # as in run_server.main
            outcome = runner.run(_run_main(main, args, kwargs))
        if isinstance(outcome, Returned):
            return outcome.value
        raise outcome.error
    except KeyboardInterrupt as interrupt:
        _say_briefly(interrupt)
        raise
    except BaseException as error:
        without_our_frames(error)
        raise  # alone it adds no line to the traceback


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
    home = Home(ClientParcels(), kept=True)
    try:
        function = (lambda: main) if inspect.iscoroutine(main) else main
        return await _outcome_of(home, function, args, kwargs)
    finally:
        await home.end()


async def _outcome_of(
    home: Home, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Outcome:
    """Start the task; a cancellation from outside (Ctrl-C) becomes its KeyboardInterrupt."""
    host = home.host
    ended: asyncio.Future[Outcome] = host.loop.create_future()

    def on_end(cell: Cell, outcome: Outcome) -> None:
        if not ended.done():
            ended.set_result(outcome)

    def begin() -> None:
        try:
            host.begin(cell, function, args, kwargs)
        except BaseException as error:  # whatever it is, it is what run() ends with
            on_end(cell, Raised(error))

    with host.shield, host.runtime.lock:
        cell = host.prepare(getattr(function, "__name__", "main"), on_end=on_end)
    host.loop.call_soon(begin)
    try:
        return await asyncio.shield(ended)
    except asyncio.CancelledError:
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
