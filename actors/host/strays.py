"""Finds and ends what a lease left running when its zygote ended without doing so."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress

import psutil

from .children import BURIAL_PATIENCE_S, LOOK_AGAIN_S, reap
from .zygote import LEASE_VARIABLE, end_group, mark_of


def end_adopted(pid: int, adopts: bool) -> None:
    """End the group of a dead zygote's server, unless the zygote reaped it and the id may be a stranger's."""
    try:
        if adopts:
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        end_group(pid, signal.SIGKILL)
    except (ChildProcessError, ProcessLookupError):
        pass  # it has ended


def find_strays(tag: str, sessions: set[int]) -> list[psutil.Process]:
    """What a lease left: in its sessions, with its tag in the environment, or forked by it and now ours."""
    me, mark, found = os.getpid(), mark_of(tag), []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):  # it ended meanwhile, or is somebody else's
            if process.pid != me and (
                os.getsid(process.pid) in sessions
                or (process.ppid() == me and process.name() == mark)
                or process.environ().get(LEASE_VARIABLE) == tag
            ):
                found.append(process)
    return found


async def sweep_up(tag: str, sessions: set[int]) -> list[int]:
    """End the strays of a lease whose zygote could not; those that would not end."""
    loop = asyncio.get_running_loop()
    give_up = loop.time() + BURIAL_PATIENCE_S
    ended: set[int] = set()  # a zombie of ours has lost all by which it would be found again
    while True:
        found = find_strays(tag, sessions)
        for process in found:
            with suppress(psutil.Error):
                process.kill()  # psutil makes sure that the id is still its own
            ended.add(process.pid)
        ended = {pid for pid in ended if reap(pid) is None or psutil.pid_exists(pid)}
        if not found and not ended:
            return []
        if give_up <= loop.time():
            return sorted(ended)
        await asyncio.sleep(LOOK_AGAIN_S)
