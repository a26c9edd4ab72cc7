"""The jobs that have ended, in a file of their program's: what recover_jobs() gives when it was killed.

The file begins with a line that says what it is. Each record in it is the number of its frames and their sizes, then the frames:
what was submitted, or the words of a job that has ended and its Report, pickled as it came from the server.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import re
import stat
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import msgspec

from dispycos.protocol.envelope import Payload, buffers_of

from ...shipping.pickling import loads
from .jobs import DispyJob

log = logging.getLogger("dispycos")

MAGIC = b"dispycos: jobs of dispy that have ended, 1\n"
NAME = re.compile(r"_dispy_\d{14}")  # YYYYMMDDHHMMSS, as dispy names it
TRIES = 60  # seconds whose names may be taken
COUNT, SIZE = struct.Struct("<I"), struct.Struct("<Q")
FRAMES_MAX = 1 << 16
TOGETHER_MAX = 1 << 20  # bytes that are copied to be written at once


class _Submitted(msgspec.Struct, tag=1, array_like=True):
    count: int


class _Ended(msgspec.Struct, tag=2, array_like=True):
    status: int
    ip_addr: str | None
    submit_time: float
    start_time: float | None
    end_time: float | None
    exception: str | None  # of a job without a Report


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Submitted | _Ended).decode


class Journal:
    """A file that clusters of this program share. It is made with the first job, removed when the last of them is closed, and
    left behind by a program that is killed. Used on the loop.

    Parameters
    ----------
    path: None: `_dispy_YYYYMMDDHHMMSS` in the working directory. One that is there, from a program that was killed, is kept.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._file: int | None = None  # its descriptor
        self._is_tried = False
        self.users = 0

    def submitted(self, count: int) -> None:
        self._add([_encode(_Submitted(count))])

    def ended(self, job: DispyJob, report: Payload) -> None:
        """To be told before the script is: what it knows is kept."""
        text = job.exception if report is None else None
        words = _Ended(job.status, job.ip_addr, job.submit_time, job.start_time, job.end_time, text)
        self._add([_encode(words), *(buffers_of(report) if report is not None else ())])

    def leave(self) -> None:
        """A cluster is closed."""
        self.users -= 1
        if self.users == 0 and self._file is not None:
            self._close(self._file)
            assert self.path is not None
            try:
                self.path.unlink(missing_ok=True)
            except OSError as error:
                log.warning("%s cannot be removed: %s", self.path, error)

    def _add(self, frames: list[Any]) -> None:
        if not self._is_tried:
            self._is_tried = True
            self._open()
        if self._file is None:
            return
        sizes = [memoryview(frame).nbytes for frame in frames]
        parts = [COUNT.pack(len(frames)), *map(SIZE.pack, sizes), *frames]
        try:
            for part in parts if sum(sizes) > TOGETHER_MAX else [b"".join(parts)]:
                _write(self._file, part)
        except OSError as error:
            log.warning("what jobs give is no longer kept for recover_jobs(), in %s: %s", self.path, error)
            self._close(self._file)

    def _open(self) -> None:
        try:
            if self.path is None:
                self.path, self._file = _new_file()
            else:
                self._file = _old_or_new_file(self.path)
        except (OSError, ValueError) as error:
            log.warning(
                "what jobs give is not kept for recover_jobs(): %s; JobCluster(recover_file=...) names a file, False none",
                error,
            )

    def _close(self, file: int) -> None:
        self._file = None
        os.close(file)


def _write(file: int, data: Any) -> None:
    view = memoryview(data).cast("B")
    while view:
        view = view[os.write(file, view) :]


def _new_file() -> tuple[Path, int]:
    now = time.time()
    for later in range(TRIES):  # another program may have begun here in this second
        path = Path.cwd() / time.strftime("_dispy_%Y%m%d%H%M%S", time.localtime(now + later))
        with contextlib.suppress(FileExistsError):
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _write(file, MAGIC)
            return path, file
    raise FileExistsError(f"{path}, and all names of the minute before, are taken")


def _old_or_new_file(path: Path) -> int:
    """Behind the last whole record of what is there."""
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(file).st_size == 0:
            _write(file, MAGIC)
        with _trusted(path) as there:
            end = max((end for _, _, end in _records(there)), default=len(MAGIC))
        os.ftruncate(file, end)
        os.lseek(file, end, os.SEEK_SET)
    except BlockingIOError:
        os.close(file)
        raise BlockingIOError(f"another program writes {path}") from None
    except BaseException:
        os.close(file)
        raise
    return file


# --- reading ---


def recover_jobs(
    recover_file: str | os.PathLike[str] | None = None,
    timeout: float | None = None,
    terminate_pending: bool = False,
) -> list[DispyJob]:
    """The jobs that had ended when their program was killed, with what they gave; their arguments and ids are not known any more.

    Jobs that ran then ended with it, so there is nothing to wait for, or to terminate: a warning says how many. The file stays.

    Parameters
    ----------
    recover_file: as JobCluster was given. None: the newest `_dispy_YYYYMMDDHHMMSS` of the working directory that no program
        writes. Without such a file there are no jobs.

    Raises
    ------
    PermissionError: the file could be another user's; what is in it could run anything.
    ValueError: it is another file.
    """
    if recover_file is not None:
        return _recovered(Path(recover_file)) if Path(recover_file).exists() else []
    for path in sorted((path for path in Path.cwd().iterdir() if NAME.fullmatch(path.name)), reverse=True):
        try:
            if not _is_written(path):
                return _recovered(path)
            log.warning(
                "recover_jobs(): %s is left out: a program that runs, or was forked from it, writes it", path
            )
        except (OSError, ValueError) as error:
            log.warning("recover_jobs(): %s", error)
    return []


def _recovered(path: Path) -> list[DispyJob]:
    jobs, submitted = [], 0
    with _trusted(path) as file:
        for words, report, _ in _records(file):
            if isinstance(words, _Submitted):
                submitted += words.count
            else:
                jobs.append(_job_of(words, report))
    log.info("%s has %d jobs that have ended; it is not removed", path, len(jobs))
    if submitted > len(jobs):
        end = "have not ended: its program still runs" if _is_written(path) else "ended with their program"
        log.warning("recover_jobs(): %d other jobs %s", submitted - len(jobs), end)
    return jobs


def _job_of(words: _Ended, frames: list[bytearray]) -> DispyJob:
    job = DispyJob((), {})
    job.status, job.ip_addr, job.exception = words.status, words.ip_addr, words.exception
    job.submit_time, job.start_time, job.end_time = words.submit_time, words.start_time, words.end_time
    try:
        report: Any = loads([bytes(frames[0]), *frames[1:]]) if frames else None
    except Exception as error:  # edge of user code: its class may not be here
        job.exception = f"the result cannot be opened here: {type(error).__name__}: {error}"
    else:
        if report is not None:
            job.result, job.exception = report.result, report.exception
            job.stdout, job.stderr = report.stdout, report.stderr
    job.finish.set()
    return job


def _records(file: IO[bytes]) -> Iterator[tuple[_Submitted | _Ended, list[bytearray], int]]:
    """Each, with the place where it ends in the file. One that is not whole is the last that its program wrote."""
    if file.read(len(MAGIC)) != MAGIC:
        raise ValueError(f"{file.name} is no file of recover_jobs()")
    end = len(MAGIC)
    left = os.fstat(file.fileno()).st_size - end
    while True:
        head = file.read(COUNT.size)
        count = COUNT.unpack(head)[0] if len(head) == COUNT.size else 0
        if not 0 < count <= FRAMES_MAX:
            return
        packed = file.read(count * SIZE.size)
        if len(packed) < count * SIZE.size:
            return
        sizes = [size for (size,) in SIZE.iter_unpack(packed)]
        whole = len(head) + len(packed) + sum(sizes)
        if whole > left:
            return
        frames = [bytearray(file.read(size)) for size in sizes]
        left -= whole
        end += whole
        yield _decode(frames[0]), frames[1:], end


@contextlib.contextmanager
def _trusted(path: Path) -> Iterator[IO[bytes]]:
    """To be read. Raises PermissionError."""
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        found = os.fstat(file.fileno())
        why = ""
        if not stat.S_ISREG(found.st_mode):
            why = "it is no file"
        elif found.st_uid != os.geteuid():
            why = "it belongs to another user"
        elif found.st_mode & 0o022:
            why = f"others may write it; if nobody has: chmod 600 {path}"
        if why:
            raise PermissionError(f"{path} is not opened, as what is in it could run anything: {why}")
        yield file


def _is_written(path: Path) -> bool:
    """By a program that runs."""
    with _trusted(path) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False
