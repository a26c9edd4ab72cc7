"""Tells what belongs to a living process from what a dead one left: the living hold a lock on it.

The kernel takes the lock at the end of its holder, however that came, and knows of it in every container that shares the
folder; a pid says nothing there. What is claimed gets its real name only then, so that nobody takes it for a dead one's.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from .folders import FolderError, make_missing

NEW = ".new-"
UNBORN_S = 60.0


def claim(descriptor: int) -> None:
    """For this process, until the descriptor is closed. Where files cannot be locked nothing is swept either."""
    _lock(descriptor, exclusive=True)


def is_claimed(descriptor: int) -> bool:
    """Whether somebody else has it; if not, nobody gets it until the descriptor is closed."""
    return not _lock(descriptor, exclusive=False)


def _lock(descriptor: int, *, exclusive: bool) -> bool:
    try:
        import fcntl

        fcntl.flock(descriptor, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except (ImportError, OSError):  # Windows; it is held; a file system without locks
        return False
    return True


@functools.cache
def kernel_mark() -> str:
    """The same for all who have this kernel, whatever their namespaces: only they know of each other's locks for sure."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()
    except OSError:
        boot = ""
    return hashlib.sha256(boot.encode()).hexdigest()[:8]


def remove_tree(path: str | Path) -> None:
    shutil.rmtree(path, ignore_errors=True)


class WorkFolder:
    """A folder of this process alone, made below `parent`, until it is removed. Raises FolderError.

    `remove_tree` removes what lies in it, which others may have made.
    """

    def __init__(
        self, parent: Path, name: str, epoch: int, remove_tree: Callable[[str | Path], None] = remove_tree
    ) -> None:
        self.remove_tree = remove_tree
        self.path = parent / f"{name}-{kernel_mark()}-{epoch:016x}"
        try:
            make_missing(parent)
            new = tempfile.mkdtemp(prefix=NEW, dir=parent)
            self._descriptor = os.open(new, os.O_RDONLY)
            claim(self._descriptor)
            os.rename(new, self.path)
        except OSError as error:
            raise FolderError(f"{self.path} cannot be made: {error.strerror}") from error

    def remove(self) -> None:
        self.remove_tree(self.path)
        os.close(self._descriptor)


def sweep_work_folders(
    parent: Path, name: str = "", remove_tree: Callable[[str | Path], None] = remove_tree
) -> None:
    """Removes those of processes that were killed (see dead_work_folders). May take long: there may be much in them."""
    for path in dead_work_folders(parent, name):
        remove_tree(path)


def dead_work_folders(parent: Path, name: str = "") -> Iterator[Path]:
    """Those whose processes have ended: nobody takes one while it is looked at.

    `name`: also those of nodes of this name under other kernels, which an earlier start of this host has left. That they are of
    this host is the caller's word: of the locks of others we may know nothing.
    """
    mark, any_mark, epoch = kernel_mark(), "[0-9a-f]{8}", "[0-9a-f]{16}"
    known = re.compile(rf".+-{mark}-{epoch}" + (rf"|{re.escape(name)}-{any_mark}-{epoch}" if name else ""))
    try:
        with os.scandir(parent) as found:
            paths = [Path(entry.path) for entry in found if known.fullmatch(entry.name) or _is_unborn(entry)]
    except FileNotFoundError:
        return
    for path in paths:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError:  # another sweeper was first
            continue
        try:
            if os.fstat(descriptor).st_uid == os.geteuid() and not is_claimed(descriptor):
                yield path
        finally:
            os.close(descriptor)


def _is_unborn(entry: os.DirEntry[str]) -> bool:
    """Its process was killed before the folder had its name. A young one may be about to get it."""
    try:
        return (
            entry.name.startswith(NEW) and entry.stat(follow_symlinks=False).st_mtime < time.time() - UNBORN_S
        )
    except FileNotFoundError:
        return False
