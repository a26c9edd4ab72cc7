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
from collections.abc import Callable
from pathlib import Path

from .folders import FolderError, make_missing


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
            new = tempfile.mkdtemp(prefix=".new-", dir=parent)
            self._descriptor = os.open(new, os.O_RDONLY)
            claim(self._descriptor)
            os.rename(new, self.path)
        except OSError as error:
            raise FolderError(f"{self.path} cannot be made: {error.strerror}") from error

    def remove(self) -> None:
        self.remove_tree(self.path)
        os.close(self._descriptor)


def sweep_work_folders(parent: Path, remove_tree: Callable[[str | Path], None] = remove_tree) -> None:
    """Removes those of processes that were killed. May take long: there may be much in them."""
    name = re.compile(rf".+-{kernel_mark()}-[0-9a-f]{{16}}")
    with os.scandir(parent) as found:
        paths = [entry.path for entry in found if name.fullmatch(entry.name)]
    for path in paths:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError:  # another sweeper was first
            continue
        try:
            if os.fstat(descriptor).st_uid == os.geteuid() and not is_claimed(descriptor):
                remove_tree(path)
        finally:
            os.close(descriptor)
