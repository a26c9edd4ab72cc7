"""The runtime of a program's event loop: made by dispycos.run or by the first Client, closed by the last who uses it."""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import sys
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from dispycos.config import Failure
from dispycos.living import refuse_in_server
from dispycos.runtime import Runtime
from dispycos.transport.folders import find_folders, make_private, sweep_sockets
from dispycos.transport.security import Keys, Secret

from .host.cell import Cell
from .host.cells import TaskHost
from .host.ends import Outcome, Raised
from .host.interrupts import Interrupts
from .host.relief import Relief
from .parcels import ClientParcels

log = logging.getLogger("dispycos")

GOODBYE_S = 1.0  # after Ctrl-C: clients have so long to give their servers back


class Stay(Protocol):
    """A client's stay at a scheduler."""

    async def leave(self, *, terminate: bool, await_io: bool, patience: float | None) -> None: ...


class Home:
    """A host for local tasks and clients on the running loop, with its relief thread."""

    def __init__(self, parcels: ClientParcels, secret_file: Path | None = None) -> None:
        keys = Keys.from_secret(Secret.load_or_make(secret_file))
        self.interrupts = Interrupts()
        self.runtime = Runtime("client", os.path.basename(sys.argv[0] or "python"), keys)
        self.host = TaskHost(self.runtime, parcels, self.interrupts)
        self.host.home = self
        self.runtime.in_child.append(self.interrupts.in_child)
        self._users: list[Stay | None] = []
        self._ipc = ""
        runtime = self.runtime
        self._relief = Relief(
            turn=runtime.turn_elsewhere,
            fds=runtime.descriptors,
            lock=runtime.lock,
            interrupts=self.interrupts,
            after=runtime.hand_back,
        )
        self._relief.start()
        if threading.current_thread() is threading.main_thread():
            self.interrupts.install()

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

    def enter(self, stay: Stay | None) -> None:
        """A client's stay, or the program itself, uses this host."""
        self._users.append(stay)

    async def end_stays(self) -> None:
        """The program ends: clusters that it did not give back are given back now."""
        for stay in list(self._users):
            if stay is not None:
                await stay.leave(terminate=True, await_io=False, patience=GOODBYE_S)

    async def leave(self, stay: Stay | None) -> None:
        """The last one out closes the sockets. In a forked child they are the parent's."""
        if self.runtime.is_parents:
            return
        if stay in self._users:
            self._users.remove(stay)
        if not self._users:
            self.host.close()
            self._relief.stop()
            self.interrupts.uninstall()
            await self.runtime.close()


def host_of_this_loop(parcels: ClientParcels, secret_file: Path | None) -> TaskHost:
    """The host on the running loop, made if there is none."""
    host = TaskHost.find(asyncio.get_running_loop())
    return host if host is not None else Home(parcels, secret_file).host


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
            return runner.run(_run_main(main, args, kwargs))
    except KeyboardInterrupt as interrupt:
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


async def _run_main(main: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    home = Home(ClientParcels())
    home.enter(None)
    try:
        function = (lambda: main) if inspect.iscoroutine(main) else main
        return await _outcome_of(home.host, function, args, kwargs)
    finally:
        await home.end_stays()
        await home.leave(None)


async def _outcome_of(
    host: TaskHost, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Start the task; a cancellation from outside (Ctrl-C) becomes its KeyboardInterrupt."""
    ended: asyncio.Future[Outcome] = host.loop.create_future()

    def on_end(cell: Cell, outcome: Outcome) -> None:
        if not ended.done():
            ended.set_result(outcome)

    def begin() -> None:
        try:
            host.begin(cell, function, args, kwargs)
        except BaseException as error:  # whatever it is, it is what run() ends with
            on_end(cell, Raised(error))

    cell = host.prepare(getattr(function, "__name__", "main"), on_end=on_end)
    host.loop.call_soon(begin)
    try:
        outcome = await asyncio.shield(ended)
    except asyncio.CancelledError:
        cell.terminate()
        await asyncio.wait([ended], timeout=GOODBYE_S)
        raise
    if isinstance(outcome, Raised):
        raise outcome.error
    return outcome.value


def _say_briefly(interrupt: KeyboardInterrupt) -> None:
    """If nobody catches it, Ctrl-C is one line, not a traceback through asyncio."""
    previous = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if error is interrupt:
            print("interrupted", file=sys.stderr)
        else:
            previous(kind, error, trace)

    sys.excepthook = hook
