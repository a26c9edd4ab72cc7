"""What a server writes: its agent passes on whole lines, as many as the rate allows, and counts the rest."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

from ...tasks.stdio import take_marks

RATE_MAX = 1 << 20  # bytes a second and server
READ_MAX = 64 << 10  # bytes at once
LINE_MAX = 1 << 20  # bytes


class OutputPipes:
    """The read ends of a server's output pipes, by stream. None of it blocks.

    `on_text` gets a stream, whole lines or what was there at its end or at a mark, and that mark, or 0.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        pipes: dict[int, int],
        on_text: Callable[[int, bytes, int], None],
    ) -> None:
        self._loop, self._pipes = loop, pipes
        self._on_text = on_text
        self._parts = dict.fromkeys(pipes, b"")  # of marks that were cut in reading
        self._lines = {stream: Lines() for stream in pipes}
        self._budget = RATE_MAX
        self._dropped = dict.fromkeys(pipes, 0)
        self._timer: asyncio.TimerHandle | None = None
        for stream, pipe in pipes.items():
            os.set_blocking(pipe, False)
            loop.add_reader(pipe, self._read, stream)

    def close(self) -> None:
        """Read what is there and no further: the server has ended, somebody else holds its pipes."""
        for stream in list(self._pipes):
            left = RATE_MAX
            while stream in self._pipes and left > 0 and self._read(stream):
                left -= READ_MAX
            self._close(stream)
        if self._timer is not None:
            self._timer.cancel()
        self._say_dropped()

    def _read(self, stream: int) -> bool:
        try:
            data = os.read(self._pipes[stream], READ_MAX)
        except BlockingIOError:
            return False
        if data:
            self._take(stream, data)
            return True
        self._close(stream)
        return False

    def _close(self, stream: int) -> None:
        pipe = self._pipes.pop(stream, None)
        if pipe is not None:
            self._loop.remove_reader(pipe)
            os.close(pipe)
            self._tell(stream, self._lines[stream].rest())

    def _take(self, stream: int, data: bytes) -> None:
        data, mark, self._parts[stream] = take_marks(self._parts[stream] + data)
        lines = self._lines[stream]
        text = lines.take(self._within_rate(stream, data))
        if mark:  # a task has ended, maybe with half a line
            text += lines.rest()
        self._tell(stream, text, mark)

    def _tell(self, stream: int, text: bytes, mark: int = 0) -> None:
        if text or mark:
            self._on_text(stream, text, mark)

    def _within_rate(self, stream: int, data: bytes) -> bytes:
        if self._timer is None:
            self._timer = self._loop.call_later(1.0, self._begin_second)
        passed = data
        if len(data) > self._budget:
            passed = data[: data.rfind(b"\n", 0, self._budget) + 1]
            self._dropped[stream] += len(data) - len(passed)
            self._budget = len(passed)
        self._budget -= len(passed)
        return passed

    def _begin_second(self) -> None:
        self._timer, self._budget = None, RATE_MAX
        self._say_dropped()

    def _say_dropped(self) -> None:
        for stream, count in self._dropped.items():
            if count:
                self._dropped[stream] = 0
                held = self._lines[stream].rest()
                text = b"[%d bytes of output dropped: over 1 MiB/s]\n" % count
                self._tell(stream, held + b"\n" + text if held else text)


class Lines:
    """Bytes of a stream as whole lines: a print from a server is not torn. A bar that is drawn over itself is many lines."""

    def __init__(self) -> None:
        self._held = bytearray()

    def take(self, data: bytes) -> bytes:
        end = data.rfind(b"\n") + 1 or data.rfind(b"\r", 0, -1) + 1  # one at the end may be half of "\r\n"
        self._held += data[:end] if end else data
        if not end and len(self._held) <= LINE_MAX:
            return b""
        if not end:
            self._held += b" ... (cut: a line of more than %d bytes goes on)\n" % LINE_MAX
        whole, self._held = bytes(self._held), bytearray(data[end:] if end else b"")
        return whole

    def rest(self) -> bytes:
        held, self._held = bytes(self._held), bytearray()
        return held
