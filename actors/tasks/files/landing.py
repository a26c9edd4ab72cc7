"""One file on its way onto the disk of its receiver: beneath a folder and nowhere else, whole or not at all.

The calls block, and are made on threads that do nothing else. Each name on the way is opened beneath the one before and never
through a link, so nothing that a task puts there leads out of the folder, also not while we look.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Callable, Sequence
from contextlib import suppress
from io import BufferedReader
from typing import Final

from dispycos.protocol.envelope import Buffer
from dispycos.protocol.status import FileState

from .receiving import Delivery, Verdict, refused

FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
NEW_FILE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
MODES: Final = 0o755  # what a file may keep of its mode; its owner reads and writes it in any case


Stamp = tuple[int, int]  # by which a file is known that was not written to since


def stamp_of(found: os.stat_result) -> Stamp:
    return found.st_ino, found.st_mtime_ns


class Refused(Exception):
    """In words."""


def digest_of(file: BufferedReader) -> bytes:
    """By which two files of one size are compared."""
    return hashlib.file_digest(file, "blake2b").digest()


def words_for(error: OSError) -> str:
    if error.errno in NO_ROOM:
        return f"there is no room for it ({error.strerror})"
    return error.strerror or str(error)


class Path:
    """The folders from a root to a name, all held open."""

    def __init__(self, root: str, folders: Sequence[bytes]) -> None:
        """Those of `folders` that are not there are made. Raises OSError, Refused."""
        self._made: list[tuple[int, bytes]] = []
        self._open = [os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)]
        try:
            for name in folders:
                self._enter(name)
        except BaseException:
            self.undo()
            raise

    @property
    def end(self) -> int:
        """The descriptor of the last one."""
        return self._open[-1]

    def _enter(self, name: bytes) -> None:
        try:
            with suppress(FileExistsError):
                os.mkdir(name, 0o700, dir_fd=self.end)
                self._made.append((self.end, name))
            found = os.open(name, FOLDER, dir_fd=self.end)
        except OSError as error:
            if error.errno not in (errno.ELOOP, errno.ENOTDIR):
                raise
            raise Refused(f"{os.fsdecode(name)} is a file or a link there, and no folder") from None
        give_to_owner(found, self.end)
        self._open.append(found)

    def undo(self) -> None:
        """Remove what was made and is empty."""
        for folder, name in reversed(self._made):
            with suppress(OSError):
                os.rmdir(name, dir_fd=folder)
        self.close()

    def close(self) -> None:
        while self._open:
            os.close(self._open.pop())


def give_to_owner(descriptor: int, folder: int) -> None:
    """What lies in a folder of another user is for that one: servers may run as another user than their agent."""
    owner = os.fstat(folder)
    if owner.st_uid != os.geteuid() and os.fstat(descriptor).st_uid == os.geteuid():
        os.fchown(descriptor, owner.st_uid, owner.st_gid)


class Landing:
    """Takes one file; after the last call of it, or a verdict that ends it, nothing is held open."""

    def __init__(self, delivery: Delivery, part: str) -> None:
        self._delivery = delivery
        *self._folders, self._name = delivery.path
        self._part = os.fsencode(part)
        self._path: Path | None = None
        self._file = -1  # the descriptor of the part
        self.written: Stamp | None = None  # of the whole file, if it has come

    def open(self) -> Verdict:
        return self._tried(self._open)

    def compare(self, digest: bytes) -> Verdict:
        return self._tried(lambda: self._compare(digest))

    def write(self, data: Buffer, *, last: bool) -> Verdict:
        return self._tried(lambda: self._write(data, last=last))

    def discard(self) -> None:
        """Nothing of it is left behind."""
        path, self._path = self._path, None
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
        if path is not None:
            with suppress(OSError):
                os.unlink(self._part, dir_fd=path.end)
            path.undo()

    def _tried(self, act: Callable[[], Verdict]) -> Verdict:
        try:
            verdict = act()
        except Refused as error:
            verdict = refused(str(error))
        except OSError as error:
            verdict = refused(words_for(error))
        if verdict.state == FileState.DONE and self._path is not None:
            self._path.close()
            self._path = None
        elif verdict.ends:
            self.discard()
        return verdict

    def _open(self) -> Verdict:
        delivery = self._delivery
        self._path = path = Path(delivery.root, [*map(os.fsencode, delivery.below), *self._folders])
        try:
            found = os.stat(self._name, dir_fd=path.end, follow_symlinks=False)
        except FileNotFoundError:
            return self._begin()
        if stat.S_ISDIR(found.st_mode):
            raise Refused("it is a folder there")
        if stat.S_ISREG(found.st_mode) and found.st_size == delivery.size:
            return Verdict(FileState.COMPARE) if delivery.size else Verdict(FileState.DONE)
        return self._begin() if delivery.overwrite else Verdict(FileState.EXISTS)

    def _compare(self, digest: bytes) -> Verdict:
        if self._same(digest):
            return Verdict(FileState.DONE)
        return self._begin() if self._delivery.overwrite else Verdict(FileState.EXISTS)

    def _same(self, digest: bytes) -> bool:
        """Whether what has its name is the same file."""
        path = self._path
        assert path is not None
        try:
            there = os.open(
                self._name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=path.end
            )
        except OSError:  # it is gone meanwhile, or a link
            return False
        with open(there, "rb") as file:
            return stat.S_ISREG(os.fstat(there).st_mode) and digest_of(file) == digest

    def _begin(self) -> Verdict:
        path, size = self._path, self._delivery.size
        assert path is not None
        space = os.fstatvfs(path.end)
        if space.f_frsize * space.f_bavail < size:
            raise Refused(
                f"there is no room for its {size:,} bytes: {space.f_frsize * space.f_bavail:,} are free"
            )
        self._file = os.open(self._part, NEW_FILE, 0o600, dir_fd=path.end)
        give_to_owner(self._file, path.end)
        return Verdict(FileState.GO) if size else self._finish()

    def _write(self, data: Buffer, *, last: bool) -> Verdict:
        rest = memoryview(data).cast("B")
        while rest:
            rest = rest[os.write(self._file, rest) :]
        return self._finish() if last else Verdict(FileState.GO)

    def _finish(self) -> Verdict:
        """No fsync: what crashes with the host crashes with the lease, and a name that is there has its whole file."""
        path = self._path
        assert path is not None
        os.fchmod(self._file, self._delivery.mode & MODES | 0o600)
        self.written = stamp_of(os.fstat(self._file))
        os.close(self._file)
        self._file = -1
        if self._delivery.overwrite:
            os.rename(self._part, self._name, src_dir_fd=path.end, dst_dir_fd=path.end)
            return Verdict(FileState.DONE)
        try:
            self._give_name(path)
        except FileExistsError:  # another one came under this name meanwhile
            with open(os.open(self._part, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=path.end), "rb") as file:
                is_same = self._same(digest_of(file))
            os.unlink(self._part, dir_fd=path.end)
            return Verdict(FileState.DONE) if is_same else Verdict(FileState.EXISTS)
        return Verdict(FileState.DONE)

    def _give_name(self, path: Path) -> None:
        """Raises FileExistsError, also where that one came a moment ago."""
        try:
            os.link(self._part, self._name, src_dir_fd=path.end, dst_dir_fd=path.end, follow_symlinks=False)
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK):
                raise
            self._rename_where_links_are_not(path)
        else:
            os.unlink(self._part, dir_fd=path.end)

    def _rename_where_links_are_not(self, path: Path) -> None:
        with suppress(FileNotFoundError):
            os.stat(self._name, dir_fd=path.end, follow_symlinks=False)
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        os.rename(self._part, self._name, src_dir_fd=path.end, dst_dir_fd=path.end)


def delete(root: str, below: Sequence[str], path: Sequence[bytes]) -> Verdict:
    """Remove a file beneath this folder; MISSING says that there is none."""
    folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for name in [*map(os.fsencode, below), *path[:-1]]:
            inner = os.open(name, FOLDER, dir_fd=folder)
            os.close(folder)
            folder = inner
        os.unlink(path[-1], dir_fd=folder)
    except FileNotFoundError:
        return Verdict(FileState.MISSING)
    except IsADirectoryError:
        return refused("it is a folder there")
    except OSError as error:
        return refused(words_for(error))
    finally:
        os.close(folder)
    return Verdict(FileState.DONE)
