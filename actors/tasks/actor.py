"""What a task is to others beside its messages and its end: a name to be found by, a link, a message that comes later."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Self

from dispycos.protocol.addresses import Location

from .current import current_host
from .ends import brief, plain
from .roles import Host, LocalTask


class Actor:
    """This half of a Task (handle.py)."""

    __slots__ = ()

    _host: Host

    @plain
    def register(self, name: str | None = None) -> int:
        """Give this task of this process a name, its own or another, by which all tasks find it. Returns 0.

        A name is given once in a process; ``locate(name, location)`` tells those of several servers apart. It is free again
        when the task ends, or its server dies.

        Raises
        ------
        NameTaken: another task of this process has it. TaskLost: the task has ended.
        TypeError: the task is not of this process. ValueError: no name.
        """
        self._host.sharing.names.register_task(self, name)
        return 0

    @plain
    def unregister(self, name: str | None = None) -> int:
        """Take this name away, or all names that the task has. Returns 0, also if it had none."""
        self._host.sharing.names.unregister_task(self, name)
        return 0

    @classmethod
    @brief
    async def locate(
        cls, name: str, location: str | Location | None = None, timeout: float | None = None
    ) -> Self:
        """The task that has this name: among those of this program and its servers, else of others with the same scheduler.

        Waits until somebody registers it. Of several the one who did so first is given.

        Parameters
        ----------
        location: where it has to be: the Location of a server or node, or a node by its name or address.
        timeout: seconds, also for those who are asked to answer; None: for ever, which is said after 3 s.

        Raises
        ------
        TimeoutError: nobody has it. TaskLost: the client, which is asked, is gone.
        """
        task: Self = await current_host().sharing.names.locate(name, location, timeout)
        return task

    @brief
    async def link(self, by: Any = None) -> int:
        """Have the failure of this task end `by` (default: the running task), and the other way round. Returns 0.

        As in Erlang: who raises, is terminated or is lost with its server ends the other, which gets its KeyboardInterrupt;
        who returns ends nobody. Has this task failed already, or ended and it is not known here how, it is that way, too.
        """
        self._host.link(self, by)
        return 0

    @plain
    def hot_swappable(self, flag: bool = True) -> int:
        """Whether hot_swap() may replace the function of this task, the running one, from now on. Returns 0."""
        self._own("hot_swappable").hot_swappable(flag)
        return 0

    @plain
    def hot_swap(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> int:
        """Have the function replaced that runs as this task, here or anywhere; the task keeps its messages. Returns 0 at once.

        As soon as the task is hot_swappable, HotSwapException is raised where it is suspended. If that leaves its function,
        `function` is called with the arguments, and its value becomes the task's. A plain function is never suspended.

        Raises
        ------
        TypeError: there is nothing to call. NotPicklable: naming what in the arguments cannot be pickled.
        """
        self._host.hot_swap(self, function, args, kwargs)
        return 0

    def _own(self, method: str) -> LocalTask:
        raise NotImplementedError

    @plain
    def send_after(self, seconds: float, message: Any) -> asyncio.TimerHandle:
        """Send the message, as it is now, in so many seconds, if this client or server is still there; cancel() takes it back.

        Raises
        ------
        NotPicklable: naming what in the message cannot be pickled. TypeError, ValueError: `seconds` is no time to wait.
        """
        return self._host.tell_after(self, seconds, message)
