"""The runtimes of this process: what becomes of them in a forked child, and what is refused beside that of a server."""

from __future__ import annotations

import asyncio
import os
import selectors
import weakref
from typing import NoReturn, Protocol

from .errors import ScheduleError
from .session.links import SERVER_ROLE
from .values import parse_flag

LOCAL_VARIABLE = "DISPYCOS_LOCAL"


class Runtime(Protocol):
    role: str

    def die_in_child(self) -> None:
        """Called in a forked child, before any other code runs there."""


living: weakref.WeakSet[Runtime] = weakref.WeakSet()  # os.fork() knows processes only


def is_server() -> bool:
    """Whether this process runs remote tasks."""
    return any(runtime.role == SERVER_ROLE for runtime in living)


def wants_tasks_here() -> bool:
    """Whether the tasks of clients run in their own process, for a debugger: DISPYCOS_LOCAL=1. Raises ValueError."""
    text = os.environ.get(LOCAL_VARIABLE, "")
    try:
        return parse_flag(text)
    except ValueError as error:
        raise ValueError(f"{LOCAL_VARIABLE}: {error}") from None


def refuse_in_server(what: str) -> None:
    """Raise ScheduleError if this process runs remote tasks: their client has the cluster, and another would wait for its end."""
    if is_server():
        raise ScheduleError(
            f"{what} cannot be used inside a remote task, because the cluster belongs to the client that started the task: "
            f"submit by that one, which is task.client (of the parameter `task`) and dispycos.current_client()"
        )


class ParentsLock:
    """The lock of a runtime in a forked child: all ways to that runtime lead through it."""

    def __enter__(self) -> NoReturn:
        raise RuntimeError(
            f"this process ({os.getpid()}) was forked from one that uses dispycos: client, tasks and handles are the parent's "
            f"and cannot be used here"
        )

    def __exit__(self, *exc: object) -> None: ...


def let_go(loop: asyncio.AbstractEventLoop) -> None:
    """In a forked child: the loop gets a set of epoll of its own, with nothing in it.

    The one it has is the parent's too: what is taken out of it here, as when the loop is closed, is missed there. There
    is no public way to it. A loop without this attribute, as uvloop's, sees to forks itself.
    """
    selector = getattr(loop, "_selector", None)
    epoll = getattr(selectors, "EpollSelector", None)
    if epoll is not None and isinstance(selector, epoll) and not loop.is_closed():
        with epoll() as empty:
            os.dup2(empty.fileno(), selector.fileno(), inheritable=False)


def _tell_all() -> None:
    for runtime in list(living):
        runtime.die_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_tell_all)
