"""Writing to sys.stdout and sys.stderr of a program, whatever it has made of them, and to its log."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import sys
from typing import Any

log = logging.getLogger("dispycos")

ROOM_S = 1.0  # for the reader of a pipe that does not block
PIECE = 1000  # characters, which such a pipe takes whole once it takes anything (PIPE_BUF)


def say(text: str, level: str = "info") -> None:
    """Warnings go to the terminal, the rest to the log."""
    with contextlib.suppress(
        Exception
    ):  # a handler of the program's own, and a closed sys.stderr, may raise anything
        getattr(log, level)(text)


class Stream:
    """sys.stdout or sys.stderr, whatever that is at the time: closed, full, None, or an object that has only write().

    What it does not take is lost, and that is said once for each reason.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._said: set[str] = set()
        self._is_stuck = False  # its pipe was full for ROOM_S

    def is_terminal(self) -> bool:
        try:
            return bool(getattr(sys, self._name).isatty())
        except Exception:  # it may be the program's own object, or closed, or None
            return False

    def write(self, text: str) -> None:
        stream: Any = getattr(sys, self._name)
        if stream is None:  # a program without a console: Python's own print is silent then, too
            return
        try:
            self._write(stream, text)
        except Exception as error:  # it may be the program's own object
            reason = f"{type(error).__name__}: {error}"[:200]
            if type(error).__name__ not in self._said:
                self._said.add(type(error).__name__)
                say(f"sys.{self._name} does not take what tasks print: {reason}", "warning")

    def _write(self, stream: Any, text: str) -> None:
        flush = getattr(stream, "flush", None)
        descriptor = _nonblocking(stream)
        if descriptor is None or flush is None:
            _write_encodable(stream, text)
            if flush is not None:
                flush()
            return
        for start in range(0, len(text), PIECE):
            self._await_room(descriptor)
            _write_encodable(stream, text[start : start + PIECE])
            flush()

    def _await_room(self, descriptor: int) -> None:
        poller = select.poll()
        poller.register(descriptor, select.POLLOUT)
        is_ready = poller.poll(0 if self._is_stuck else ROOM_S * 1000)
        self._is_stuck = not is_ready
        if not is_ready:
            raise BlockingIOError("its pipe is full")


def _nonblocking(stream: Any) -> int | None:
    """The descriptor behind it, if that does not wait for its reader."""
    try:
        descriptor: int = stream.fileno()
        return None if os.get_blocking(descriptor) else descriptor
    except (OSError, ValueError, TypeError, AttributeError):  # no file
        return None


def _write_encodable(stream: Any, text: str) -> None:
    try:
        stream.write(text)
    except UnicodeEncodeError:
        encoding = stream.encoding
        stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
