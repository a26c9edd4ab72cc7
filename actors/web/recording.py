"""Keeps what a monitor sees in a file, for who looks at it after the end, and reads such files again.

A recording is lines of JSON: a header, all tables, then what changed with each tick. It is bounded: at half its bound FILE becomes
FILE.1, and a new FILE begins with all tables. So each of the two can be read alone, and what is lost with the oldest is old.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Final, TypeVar

import msgspec

from dispycos.config import Failure, Misuse
from dispycos.version import RELEASE

from .desk import TABLES
from .tables import Row, Tables

FORMAT: Final = 1
BOUND: Final = 64 * 1024 * 1024  # bytes of both files
HEAD: Final = b'{"dispycos_recording":'
HIDDEN: Final = ("tasks", "servers")  # their arguments are not for files

log = logging.getLogger("dispycos")
encode = msgspec.json.Encoder().encode
Line = TypeVar("Line", "Header", "Moment")


class Header(msgspec.Struct):
    """The first line. `epoch`: of the tables, so that another run is known from what came before it."""

    dispycos_recording: int
    release: str
    epoch: str
    began: float


class Told(msgspec.Struct):
    """One table, as Tables tells of it."""

    set: dict[str, Row]
    total: int
    kept: int
    dropped_until: float | None
    gone: list[str] = msgspec.field(name="del", default_factory=list)


class Moment(msgspec.Struct):
    """A tick. `whole`: these tables are all that there is, not what is new in them."""

    now: float
    whole: bool
    tables: dict[str, Told]


class Recorder:
    """Called with the tables after each tick; it writes what is new in them.

    Parameters
    ----------
    path: FILE. One that is there already becomes FILE.1, if it is a recording. bound: bytes of both files.

    Raises
    ------
    Misuse: the file cannot be written, or is something else than a recording.
    """

    def __init__(self, path: str | os.PathLike[str], bound: int = BOUND) -> None:
        self.path = Path(path).absolute()  # the program may change its folder
        self.names = frozenset(TABLES)  # that are looked at while it records
        self._part = bound // 2
        self._version: int | None = None  # that was written last
        self._size = 0
        try:
            _make_way(self.path)
            self._file: IO[bytes] | None = self._open()
        except OSError as error:
            raise Misuse(
                f"the recording {self.path} cannot be written: {error.strerror}", "name another file"
            ) from error

    def _open(self) -> IO[bytes]:
        self._size = 0
        return open(self.path, "wb", opener=_open_private)

    def __call__(self, tables: Tables, now: float) -> None:
        if self._file is None or tables.version == self._version:
            return
        try:
            self._keep(tables, now)
        except OSError as error:
            self._give_up(error.strerror or str(error), now)
        self._version = tables.version

    def _keep(self, tables: Tables, now: float) -> None:
        told = tables.delta(self.names, self._version) if self._version is not None else None
        line = _line(now, False, told) if told is not None else b""
        if not line or self._size + len(line) > self._part:
            if self._size:
                self._turn_over()
            self._write(encode(Header(FORMAT, RELEASE, tables.epoch, now)) + b"\n")
            line = _whole(tables, self.names, now, self._part // 2)
        self._write(line)

    def _write(self, line: bytes) -> None:
        assert self._file is not None
        self._file.write(line)
        self._file.flush()
        self._size += len(line)

    def _turn_over(self) -> None:
        assert self._file is not None
        self._file.close()
        self.path.replace(older(self.path))
        self._file = self._open()

    def _give_up(self, why: str, now: float) -> None:
        """A recording that cannot go on is no reason for anything else to end."""
        clock = time.strftime("%H:%M:%S", time.localtime(now))
        log.error("the recording %s ends at %s: %s", self.path, clock, why)
        self.close()

    def close(self) -> None:
        """Nothing is looked at for it any more."""
        self.names = frozenset()
        file, self._file = self._file, None
        if file is not None:
            try:
                file.close()
            except OSError as error:
                log.debug("%s: %s", self.path, error)  # which was said


def older(path: Path) -> Path:
    """FILE.1 of FILE."""
    return path.with_name(path.name + ".1")


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)  # it holds what tasks wrote


def _make_way(path: Path) -> None:
    """What is there becomes FILE.1. Raises Misuse if somebody may miss it."""
    if not path.exists() or (path.is_file() and not path.stat().st_size):
        return
    with open(path, "rb") as file:
        is_recording = file.read(len(HEAD)) == HEAD
    if not is_recording:
        raise Misuse(f"{path} is there, and is no recording", "name another file, or remove it")
    path.replace(older(path))


def _line(now: float, whole: bool, told: dict[str, Any]) -> bytes:
    tables = {name: _bare(name, table) for name, table in told.items()}
    if not whole:
        tables = {name: table for name, table in tables.items() if _is_new(table)}
    return encode({"now": now, "whole": whole, "tables": tables}) + b"\n"


def _is_new(table: dict[str, Any]) -> bool:
    return bool(table["set"] or table["del"] or table["total"])


def _bare(name: str, table: dict[str, Any]) -> dict[str, Any]:
    if name not in HIDDEN:
        return table
    return {**table, "set": {key: {**row, "args": None} for key, row in table["set"].items()}}


def _whole(tables: Tables, names: frozenset[str], now: float, limit: int) -> bytes:
    """All tables; without the oldest lines of output, if these are too long."""
    told = tables.snapshot(names)
    line = _line(now, True, told)
    while len(line) > limit and told["log"]["set"]:
        rows = list(told["log"]["set"].items())
        told["log"]["set"] = dict(rows[len(rows) // 2 + 1 :])
        line = _line(now, True, told)
    if len(line) > limit:
        raise OSError(0, f"the cluster is too large for it: one look has {len(line):,} bytes")
    return line


# --- reading it again ---


class BadRecording(Failure):
    """It names the file and the line."""


def read_moments(path: Path) -> Iterator[tuple[Header, Moment]]:
    """What FILE.1, if it is there, and FILE tell, in the order of time. Raises BadRecording.

    A last line that is torn is left out, and said to be: who recorded was killed, or its disk was full.
    """
    files = [file for file in (older(path), path) if file.exists()]
    if path not in files:
        raise BadRecording(f"{path} is not there", "name a file that --record has made")
    for file in files:
        yield from _moments_in(file)


def _moments_in(path: Path) -> Iterator[tuple[Header, Moment]]:
    header: Header | None = None
    is_whole = False
    try:
        with open(path, "rb") as file:
            for number, line in enumerate(file, start=1):
                if not line.endswith(b"\n"):
                    log.warning("%s, line %d: it is torn, and left out", path, number)
                    return
                if header is None:
                    header = _header(path, line)
                    continue
                moment = _decoded(path, number, line, Moment)
                if not (is_whole or moment.whole):
                    raise BadRecording(f"{path}, line {number}: what it tells changes of has not been told")
                is_whole = True
                yield header, moment
    except OSError as error:
        raise BadRecording(f"{path} cannot be read: {error.strerror}") from error


def _header(path: Path, line: bytes) -> Header:
    if not line.startswith(HEAD):
        raise BadRecording(f"{path}, line 1: this is no recording", "name a file that --record has made")
    header = _decoded(path, 1, line, Header)
    if header.dispycos_recording != FORMAT:
        raise BadRecording(
            f"{path} was made by dispycos {header.release}, which this one does not understand",
            f"use that release, or a newer one than {RELEASE}",
        )
    return header


def _decoded(path: Path, number: int, line: bytes, kind: type[Line]) -> Line:
    try:
        return msgspec.json.decode(line, type=kind)
    except (msgspec.DecodeError, RecursionError) as error:
        raise BadRecording(f"{path}, line {number}: {error}") from error
