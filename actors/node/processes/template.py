"""The process that zygotes are forked from, as its agent makes it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import NamedTuple, Self

from .lines import make_line
from .user import TaskUser
from .zygote import become_template, fork_quietly


class Template(NamedTuple):
    pid: int
    end: socket.socket
    modules: tuple[str, ...]
    user: TaskUser | None = None  # whom tasks run as, if not as the agent

    @classmethod
    def fork(cls, modules: Sequence[str] = (), user: TaskUser | None = None) -> Self:
        """The agent's first act after its imports, which are shared; it imports `modules` besides."""
        names = [thread.name for thread in threading.enumerate()]
        if len(names) > 1:
            raise RuntimeError(f"the template must be forked before there are threads; there are {names}")
        open_standard()
        ours, theirs = make_line()
        agent = os.getpid()
        pid = fork_quietly()
        if pid == 0:
            become_template(theirs, agent, tuple(modules), user)
        theirs.close()
        return cls(pid, ours, tuple(modules), user)

    @classmethod
    def spawn(cls, modules: Sequence[str] = (), user: TaskUser | None = None) -> Self:
        """The same from a new interpreter: safe at any time, at the price of all imports."""
        ours, theirs = make_line()
        program = (
            f"import sys, socket; sys.path[:] = {sys.path!r}; from {become_template.__module__} import *; "
            f"become_template(socket.socket(fileno={theirs.fileno()}), {os.getpid()}, {tuple(modules)!r}, {user!r})"
        )
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-c", program],
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        process.returncode = 0  # it is reaped by its id, with the others; subprocess must not try
        return cls(process.pid, ours, tuple(modules), user)

    def fork_zygote(self, folder: str, end: socket.socket) -> None:
        """Have one forked, for a lease of this folder, with this end of its line. Raises OSError when the template has ended."""
        socket.send_fds(self.end, [os.fsencode(folder)], [end.fileno()])


def open_standard() -> None:
    """Make 0, 1 and 2 exist, so that no socket of ours ever gets one of these numbers."""
    while (opened := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(opened)
