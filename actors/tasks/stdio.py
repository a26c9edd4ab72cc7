"""Standard output and error of template, zygote and servers; and the marks by which a task's output comes before its value.

A value goes to the client directly, what was printed goes by a pipe to the agent, and from there to the client: it would come
later. So a server whose task wrote something writes a mark behind it, and names the mark in the outcome; the agent
takes the marks out of the stream and passes their numbers on with the output; the client ends the task when it has both.
"""

from __future__ import annotations

import io
import os
import re
import resource
import sys
from contextlib import suppress

CHILD_S = 0.0003  # no process that a task starts ends sooner

_MARK = re.compile(b"\x1e([0-9]{1,19})\x1e")
_PART = re.compile(b"\x1e[0-9]{0,19}\\Z")
_writes = {0: 0, 1: 0, 2: 0}  # by descriptor; 0: texts that may not have got there yet


class _Raw(io.FileIO):
    def write(self, data: object) -> int:
        _writes[self.fileno()] += 1
        return super().write(data)  # type: ignore[arg-type]


class _Text(io.TextIOWrapper):
    """Tells when it has something to be flushed, or was closed."""

    def write(self, text: str) -> int:
        _writes[0] += 1
        return super().write(text)

    def close(self) -> None:
        _writes[0] += 1
        super().close()


def renew_stdio() -> None:
    """Python's streams over the 0, 1 and 2 of now, with none of the buffers of the process that forked us."""
    sys.stdin = sys.__stdin__ = open(0, closefd=False)  # type: ignore[misc]  # noqa: SIM115
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        raw = io.BufferedWriter(_Raw(descriptor, "w", closefd=False))
        stream = _Text(raw, encoding="utf-8", errors="backslashreplace", line_buffering=True)
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def flush_stdio() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            with suppress(OSError, ValueError):  # nobody reads it any more, or a user's code closed it
                stream.flush()


class OutputMarks:
    """A server's, for the pipes that are its output: a task may close its streams, or put files in their place."""

    def __init__(self) -> None:
        self._pipes = {descriptor: os.dup(descriptor) for descriptor in (1, 2)}
        self._streams = sys.stdout, sys.stderr
        self._seen = dict(_writes)
        self._faults = 0  # of the processes that tasks started, so far; each has some
        self._number = 0

    def write(self, record: bytes) -> None:
        """To standard error, as a whole."""
        _writes[2] += 1
        rest = memoryview(record)
        while rest:
            rest = rest[os.write(self._pipes[2], rest) :]

    def after_task(self, seconds: float, *, others: bool = False) -> tuple[int, int] | None:
        """What was printed leaves, and a mark behind it: its number for each of the two streams, 0 where nothing is new.

        `seconds` is how long the task took; `others`: more tasks run here.
        """
        had_child = seconds >= CHILD_S and self._had_child()
        if self._seen == _writes and not had_child and (sys.stdout, sys.stderr) == self._streams:
            return None
        self._flush(others)
        new = [
            descriptor
            for descriptor in self._pipes
            if had_child or self._seen[descriptor] != _writes[descriptor]
        ]
        self._seen.update(_writes)
        if not new:
            return None
        self._number += 1
        for descriptor in new:
            os.write(self._pipes[descriptor], b"\x1e%d\x1e" % self._number)
        return self._number if 1 in new else 0, self._number if 2 in new else 0

    def _flush(self, others: bool) -> None:
        """A task that closed sys.stdout has not closed it for the next one."""
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        except Exception:  # closed, None, or an object of the user's
            if not others:  # else it may be what another one wants
                renew_stdio()
                self._streams = sys.stdout, sys.stderr

    def _had_child(self) -> bool:
        """Whether a process of a task has ended, which may have written to our streams."""
        before = self._faults
        self._faults = resource.getrusage(resource.RUSAGE_CHILDREN).ru_minflt
        return self._faults != before


def take_marks(data: bytes) -> tuple[bytes, int, bytes]:
    """(what was written, the last mark in it or 0, the beginning of another at its end)."""
    if b"\x1e" not in data:
        return data, 0, b""
    last = 0
    for found in _MARK.finditer(data):
        last = int(found[1])
    data = _MARK.sub(b"", data)
    part = _PART.search(data)
    return (data, last, b"") if part is None else (data[: part.start()], last, part[0])
