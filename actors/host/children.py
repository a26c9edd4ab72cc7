"""What an agent holds of a child process: its line, its end, its output, and whether the kernel killed it for memory.

All of it runs on the agent's asyncio loop and never blocks.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, Generic

import msgspec

from .exits import Usage
from .lines import FrameReader, Heard, Word, encode_frame
from .stdio import take_marks
from .zygote import usage_of

BURIAL_PATIENCE_S = 2.0  # from SIGKILL to the kernel's word that it is gone
OUTPUT_RATE_MAX = 1 << 20  # bytes a second and server
OUTPUT_KEPT = 64 << 10
OUTPUT_READ = 64 << 10
QUEUE_MAX = 1024
LOOK_AGAIN_S = 0.005


class ProcessTreeError(RuntimeError):
    """A process of this node could not be started; nothing of it is left."""


class AgentLine(Generic[Heard]):
    """The agent's end of a line: never blocks, hands on each word as it comes."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        end: socket.socket,
        kind: Any,
        on_word: Callable[[Heard], None],
        on_lost: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._end = end
        self._reader: FrameReader[Heard] = FrameReader(kind)
        self._queue: deque[tuple[memoryview, tuple[int, ...]]] = deque()
        self._on_word, self._on_lost = on_word, on_lost
        self._is_open = True
        end.setblocking(False)
        loop.add_reader(end, self._read)

    def send(self, word: Word, descriptors: tuple[int, ...] = ()) -> None:
        """Queue a word. The descriptors beside it are the line's from now on: sent, then closed here."""
        if not self._is_open or len(self._queue) >= QUEUE_MAX:
            close_all(descriptors)
            if self._is_open:
                raise ProcessTreeError(f"a child process has not read its last {QUEUE_MAX} orders")
            return  # whoever waits for the answer is told by on_lost
        self._queue.append((memoryview(encode_frame(word)), descriptors))
        if len(self._queue) == 1:
            self._write()

    def read_rest(self) -> None:
        """Hand on what is still in the line of a child that has ended."""
        while self._is_open and self._read():
            pass

    def close(self) -> None:
        if not self._is_open:
            return
        self._is_open = False
        self._loop.remove_reader(self._end)
        self._loop.remove_writer(self._end)
        for _, descriptors in self._queue:
            close_all(descriptors)
        self._queue.clear()
        self._end.close()

    def _read(self) -> bool:
        words: list[Heard] = []
        try:
            goes_on = self._reader.read_from(self._end)
            words += self._reader.words()
        except BlockingIOError:
            return False
        except (ValueError, msgspec.MsgspecError):
            goes_on = False  # the user's setup wrote on our line: its owner ends the child, as after a close
        for word in words:
            self._on_word(word)
        if not goes_on:
            self.close()
            self._on_lost()
        return goes_on

    def _write(self) -> None:
        try:
            while self._queue:
                data, descriptors = self._queue[0]
                sent = (
                    socket.send_fds(self._end, [data], descriptors) if descriptors else self._end.send(data)
                )
                close_all(descriptors)
                if sent == len(data):
                    self._queue.popleft()
                else:
                    self._queue[0] = (data[sent:], ())
        except BlockingIOError:
            self._loop.add_writer(self._end, self._write)
        except (BrokenPipeError, ConnectionResetError):
            self._loop.remove_writer(self._end)  # reading the rest comes first, and tells its owner
        else:
            self._loop.remove_writer(self._end)


def close_all(descriptors: Iterable[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


class ChildEnd:
    """Waits for the end of a child of ours and reaps it, so that its id is its own until then."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        pid: int,
        on_end: Callable[[int | None, Usage | None], None],
    ) -> None:
        self._loop, self._pid, self._on_end = loop, pid, on_end
        self._has_ended = False
        self._timer: asyncio.TimerHandle | None = None
        self._kill_at: float | None = None
        self._pidfd = -1
        if hasattr(os, "pidfd_open"):  # elsewhere its closed line says so: look_soon()
            with suppress(OSError):
                self._pidfd = os.pidfd_open(pid)
                loop.add_reader(self._pidfd, self._look)

    def look_soon(self) -> None:
        """Its line is closed: it ends by itself soon, or is ended."""
        if not self._has_ended and self._kill_at is None:
            self._kill_at = self._loop.time() + BURIAL_PATIENCE_S
            self._look()

    def kill(self, signum: int) -> None:
        if not self._has_ended:
            with suppress(ProcessLookupError):  # not our child where there are no subreapers
                os.kill(self._pid, signum)

    def _look(self) -> None:
        if self._has_ended:
            return
        ended = reap(self._pid)
        if ended is not None:
            self._finish(*ended)
        elif self._kill_at is not None:
            if self._kill_at <= self._loop.time():
                self.kill(signal.SIGKILL)
            self._timer = self._loop.call_later(LOOK_AGAIN_S, self._look)

    def _finish(self, status: int | None, usage: Usage | None) -> None:
        self._has_ended = True
        if self._timer is not None:
            self._timer.cancel()
        if self._pidfd >= 0:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
        self._on_end(status, usage)


def reap(pid: int) -> tuple[int | None, Usage | None] | None:
    """(status, usage) of a child that has ended, (None, None) of one that is not ours, None while it runs."""
    try:
        found, status, used = os.wait4(pid, os.WNOHANG)
    except ChildProcessError:
        return None, None
    return (status, Usage(*usage_of(used))) if found else None


class OomCounter:
    """Tells whether the kernel's count of out-of-memory kills in a cgroup has risen."""

    FRESH_S = 1.0  # one rise may stand for several processes that end together

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._known = self._read()
        self._fresh_until = 0.0

    @classmethod
    def of_this_process(cls) -> OomCounter:
        root = Path("/sys/fs/cgroup")
        candidates = []
        with suppress(OSError):
            for line in Path("/proc/self/cgroup").read_text().splitlines():
                _, controllers, path = line.split(":", 2)
                if "memory" in controllers.split(","):  # cgroup v1
                    candidates += [
                        root / "memory" / path.strip("/") / "memory.oom_control",
                        root / "memory/memory.oom_control",
                    ]
                elif not controllers:
                    candidates += [root / path.strip("/") / "memory.events", root / "memory.events"]
        return cls(next((path for path in candidates if path.is_file()), None))

    def has_risen(self, now: float) -> bool | None:
        count = self._read()
        if count is None or self._known is None:
            return None
        if count > self._known:
            self._known, self._fresh_until = count, now + self.FRESH_S
        return now < self._fresh_until

    def _read(self) -> int | None:
        if self._path is None:
            return None
        with suppress(OSError, ValueError):
            for line in self._path.read_text().splitlines():
                if line.startswith("oom_kill "):
                    return int(line.split()[1])
        return None


class Output:
    """Drains the output pipes of a server: keeps the end, passes on what the rate allows, counts the rest."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        pipes: dict[int, int],
        on_data: Callable[[int, bytes, int], None],
        on_drained: Callable[[], None],
    ) -> None:
        self._loop, self._pipes = loop, pipes
        self._on_data, self._on_drained = on_data, on_drained
        self._kept = bytearray()
        self._parts = dict.fromkeys(pipes, b"")  # of marks that were cut in reading
        self._budget = OUTPUT_RATE_MAX
        self._window_ends = loop.time() + 1.0
        self._dropped = dict.fromkeys(pipes, 0)
        self._ends_in_line = dict.fromkeys(pipes, True)
        self._timer: asyncio.TimerHandle | None = None
        for stream, pipe in pipes.items():
            os.set_blocking(pipe, False)
            loop.add_reader(pipe, self._read, stream)

    @property
    def last_errors(self) -> bytes:
        return bytes(self._kept[-OUTPUT_KEPT:])

    @property
    def is_drained(self) -> bool:
        return not self._pipes

    def close(self) -> None:
        """Read what is there and no further: the server has ended, somebody else holds its pipes."""
        for stream in list(self._pipes):
            left = OUTPUT_RATE_MAX
            while stream in self._pipes and left > 0 and self._read(stream):
                left -= OUTPUT_READ
            self._close(stream)
        self._say_dropped()

    def _read(self, stream: int) -> bool:
        try:
            data = os.read(self._pipes[stream], OUTPUT_READ)
        except BlockingIOError:
            return False
        if data:
            self._take(stream, data)
            return True
        self._close(stream)
        if self.is_drained:
            self._say_dropped()
            self._on_drained()
        return False

    def _close(self, stream: int) -> None:
        pipe = self._pipes.pop(stream, None)
        if pipe is not None:
            self._loop.remove_reader(pipe)
            os.close(pipe)

    def _take(self, stream: int, data: bytes) -> None:
        data, mark, self._parts[stream] = take_marks(self._parts[stream] + data)
        if stream == 2:
            self._kept += data
            if len(self._kept) > 2 * OUTPUT_KEPT:
                del self._kept[:-OUTPUT_KEPT]
        if self._window_ends <= self._loop.time():
            self._say_dropped()
            self._budget, self._window_ends = OUTPUT_RATE_MAX, self._loop.time() + 1.0
        passed = data
        if len(data) > self._budget:
            passed = data[: data.rfind(b"\n", 0, self._budget) + 1]
            self._dropped[stream] += len(data) - len(passed)
            self._budget = len(passed)
            if self._timer is None:
                self._timer = self._loop.call_at(self._window_ends, self._say_dropped)
        self._budget -= len(passed)
        if passed:
            self._ends_in_line[stream] = passed.endswith(b"\n")
        if passed or mark:
            self._on_data(stream, passed, mark)

    def _say_dropped(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for stream, count in self._dropped.items():
            if count:
                self._dropped[stream] = 0
                before = b"" if self._ends_in_line[stream] else b"\n"
                self._ends_in_line[stream] = True
                self._on_data(stream, before + b"[%d bytes of output dropped: over 1 MiB/s]\n" % count, 0)
