"""What runs here now: the task whose step it is, the tasks of the running event loop, and a notebook."""

from __future__ import annotations

import asyncio
import contextvars
import sys
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

from .roles import LocalTask

T = TypeVar("T")

running_loop = asyncio._get_running_loop  # None where none runs; documented for those who make loops

_current: contextvars.ContextVar[LocalTask | None] = contextvars.ContextVar("dispycos_task", default=None)
_opening: contextvars.ContextVar[Any] = contextvars.ContextVar("dispycos_opening", default=None)
_hosts: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Any] = weakref.WeakKeyDictionary()


def current_cell() -> LocalTask | None:
    """The task whose step runs now, if any."""
    return _current.get()


def cell_of(context: contextvars.Context) -> LocalTask | None:
    """The task in whose context this is, if any."""
    return context.get(_current)


def context_of(cell: LocalTask, context: contextvars.Context | None) -> contextvars.Context:
    """The context, else a copy of the present one, in which this is the current task from now on."""
    if context is None:
        context = contextvars.copy_context()
    context.run(_current.set, cell)
    return context


def current_host() -> Any:
    """The TaskHost that `Task(...)` uses: of the running loop, or of the task that is called here.

    Raises
    ------
    RuntimeError: no event loop runs here, or one without dispycos.
    """
    if (opening := _opening.get()) is not None:
        return opening
    try:
        host = _hosts.get(asyncio.get_running_loop())
    except RuntimeError:  # a plain function of a task has no running loop, and yet a host
        cell = current_cell()
        if cell is None or not cell.host.runtime.is_own_thread():
            raise RuntimeError(
                "no running event loop in this thread: local tasks, channels and locks are for tasks and for programs with "
                "dispycos.run(main) or `async with Client(...)`"
            ) from None
        return cell.host
    if host is None:
        raise RuntimeError(
            "no dispycos runtime on this event loop: start it with dispycos.run(main) or `async with Client(...)`"
        )
    return host


def open_for(host: Any, unpickle: Callable[[], T]) -> T:
    """In a thread that has no loop, or another one: what comes out of this is this host's."""
    before = _opening.set(host)
    try:
        return unpickle()
    finally:
        _opening.reset(before)


def host_of(loop: asyncio.AbstractEventLoop) -> Any:
    """Its TaskHost; None: it has none."""
    return _hosts.get(loop)


def open_host() -> Any:
    """That of this process, for a thread without a loop; None: there is none."""
    return next((host for loop, host in list(_hosts.items()) if not loop.is_closed()), None)


def hosts_of_closed_loops() -> list[Any]:
    """Those of programs that nobody closed before."""
    return [host for loop, host in _hosts.items() if loop.is_closed() and host.home is not None]


def ipython() -> Any:
    """The shell of a notebook, or of IPython in a terminal; None: this program has none."""
    return getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()


def register(loop: asyncio.AbstractEventLoop, host: Any) -> None:
    """Tasks that are made on this loop are this host's from now on; None: nobody's."""
    if host is None:
        _hosts.pop(loop, None)
    else:
        _hosts[loop] = host
