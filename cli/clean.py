"""What a node that was killed has left running: found by the folders of its leases, in which tasks and what they start run."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from pathlib import Path

import psutil

from dispycos.config import Failure
from dispycos.transport.claims import dead_work_folders

LAST_S = 2.0  # the kernel ends the servers of a node that was killed, which takes a moment
LOOK_S = 0.05
NAMED_MAX = 5

log = logging.getLogger("dispycos")


def see_to_leftovers(parent: Path, name: str, *, clean: bool) -> None:
    """Of earlier nodes: with `clean` they are killed; else this one refuses to start beside them, as their files will be removed.

    Raises Failure naming them.
    """
    until = time.monotonic() + LAST_S
    while left := leftovers(dead_work_folders(parent, name if clean else "")):
        if clean:
            log.warning("--clean: killing %s, left by a node that has ended", _in_words(left))
            for process in left:
                _kill(process)
        elif until < time.monotonic():
            raise Failure(
                f"a node that was killed has left {_in_words(left)} running",
                "--clean kills what is left; or end it yourself",
            )
        if clean and until < time.monotonic():
            raise Failure(f"--clean: {_in_words(left)} cannot be killed", "end it yourself")
        time.sleep(LOOK_S)


def leftovers(folders: Iterable[Path]) -> list[psutil.Process]:
    """The processes of this user that work in one of these folders, or in what was there and is removed."""
    places = [f"{folder.resolve()}/" for folder in folders]
    return [process for process in psutil.process_iter() if _works_in(process, places)] if places else []


def _works_in(process: psutil.Process, places: Iterable[str]) -> bool:
    """Nobody else comes to work there by chance: the names of the folders are random, and they are the user's alone."""
    try:
        folder = process.cwd() if process.status() != psutil.STATUS_ZOMBIE else ""
    except psutil.Error:  # it has ended, or is another user's
        return False
    return any(folder.startswith(place) for place in places)


def _kill(process: psutil.Process) -> None:
    """Not another one of its number: psutil compares the time at which it began."""
    try:
        process.kill()
    except psutil.NoSuchProcess:
        log.debug("process %d has ended", process.pid)
    except psutil.AccessDenied:
        log.warning("process %d may not be killed by this user", process.pid)


def _in_words(processes: list[psutil.Process]) -> str:
    named = [f"{process.pid} ({_name(process)})" for process in processes[:NAMED_MAX]]
    more = f" and {len(processes) - NAMED_MAX} more" if len(processes) > NAMED_MAX else ""
    return f"process{'es' * (len(processes) > 1)} {', '.join(named)}{more}"


def _name(process: psutil.Process) -> str:
    try:
        return str(process.name())
    except psutil.Error:
        return "ended"
