"""The last of what tasks printed: kept as it came, since lines are only made of it when somebody asks."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, takewhile
from typing import Final

from dispycos.protocol.envelope import Payload, buffers_of
from dispycos.protocol.messages import Output
from dispycos.protocol.watching import OutputLine

from ..tasks.logs import MARK, decode_record

LINES_MAX: Final = 10_000  # that are kept ...
SIZE_MAX: Final = 1 << 20  # ... if these are no more bytes
TEXT_MAX: Final = 4_000  # characters of a line that are told ...
RECORD_MAX: Final = 32_000  # ... and of a log record, with its traceback


@dataclass(slots=True)
class Chunk:
    """Lines that came together, without the last line end."""

    last: int  # its last line, counted from 1
    lines: int
    at: float
    server: str
    stream: int
    data: bytes


class LastOutput:
    def __init__(self) -> None:
        self.count = 0  # of all lines that ever came
        self._chunks: deque[Chunk] = deque()
        self._lines = 0
        self._size = 0

    def add(self, word: Output, payload: Payload, now: float) -> None:
        """Whole lines of a server, or what there was of one when its task ended."""
        data = b"".join(buffers_of(payload)).removesuffix(b"\n")
        self.count += data.count(b"\n") + 1
        data = _newest(data)
        chunk = Chunk(self.count, data.count(b"\n") + 1, now, word.server, word.stream, data)
        self._chunks.append(chunk)
        self._lines += chunk.lines
        self._size += len(data)
        while self._lines > LINES_MAX or self._size > SIZE_MAX:
            oldest = self._chunks.popleft()
            self._lines -= oldest.lines
            self._size -= len(oldest.data)

    def after(self, line: int, limit: int, now: float) -> list[OutputLine]:
        """The newest that came after this one."""
        new = takewhile(lambda one: one[0] > line, self._newest_first())
        return [_told(*one, now) for one in islice(new, max(0, limit))][::-1]

    def of(self, server: str, until: float, limit: int) -> list[str]:
        """The last lines of this server."""
        its = (
            _told(*one, until).text
            for one in self._newest_first()
            if one[1].server == server and one[1].at <= until
        )
        return list(islice(its, limit))[::-1]

    def _newest_first(self) -> Iterator[tuple[int, Chunk, bytes]]:
        for chunk in reversed(self._chunks):
            for back, line in enumerate(reversed(chunk.data.split(b"\n"))):
                yield chunk.last - back, chunk, line


def _newest(data: bytes) -> bytes:
    """As much as is kept at all."""
    if len(data) > SIZE_MAX:
        data = data[-SIZE_MAX:]
        data = data.partition(b"\n")[2] or data  # but for half a line
    return b"\n".join(data.split(b"\n")[-LINES_MAX:])


def _told(n: int, chunk: Chunk, line: bytes, now: float) -> OutputLine:
    text = line.decode("utf-8", "replace")
    record = decode_record(text[1:], chunk.server) if text.startswith(MARK) else None
    if record is None:
        return OutputLine(n, now - chunk.at, chunk.server, chunk.stream, "", "", text[:TEXT_MAX])
    trace = f"\n{record.exc_text}" if record.exc_text else ""
    text = f"{record.msg}{trace}"[:RECORD_MAX]
    return OutputLine(n, now - chunk.at, chunk.server, 0, record.levelname.lower(), record.name, text)
