"""The names of pycos.asyncfile: pipes and files that tasks wait for, on asyncio."""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
from subprocess import Popen
from typing import Any

from ..tasks.waiting import complete
from .small import Closing

READ_MAX = 1 << 16
pipe = os.pipe

__all__ = ["AsyncFile", "AsyncPipe", "Popen", "pipe"]


class AsyncFile(Closing):
    """``AsyncFile(file)``, or the number of a descriptor: ``line = yield f.readline()``. Everything is bytes."""

    def __init__(self, fd: Any, mode: str | None = None) -> None:
        self._file = fd
        self._fd: int | None = fd if isinstance(fd, int) else fd.fileno()
        if hasattr(fd, "flush"):
            fd.flush()
        self._buffer = bytearray()
        self._is_plain = stat.S_ISREG(os.fstat(self.fileno()).st_mode)  # its data are always there
        if not self._is_plain:
            os.set_blocking(self.fileno(), False)

    def fileno(self) -> int:
        """Raises ValueError: it is closed."""
        if self._fd is None:
            raise ValueError("this file is closed")
        return self._fd

    async def read(self, size: int = 0, full: bool = False, timeout: float | None = None) -> bytes:
        """At most so many bytes, all if `size` is not positive; with `full` not fewer, but at the end, or at the timeout.

        Raises
        ------
        TimeoutError, which is an IOError: nothing came within `timeout` seconds.
        """
        wanted = max(READ_MAX, size)
        with contextlib.suppress(TimeoutError) if full or size <= 0 else contextlib.nullcontext():
            async with asyncio.timeout(timeout):
                while size <= 0 or len(self._buffer) < (size if full else 1):
                    some = await self._some(wanted)
                    if not some:
                        return self._take(size)
                    self._buffer += some
        if not self._buffer:
            raise TimeoutError("timed out")
        return self._take(size)

    async def readline(self, size: int = 0, sizehint: int = 0, timeout: float | None = None) -> bytes:
        """A line with its end, or so many bytes of it; what is left at the end, and then nothing. Raises TimeoutError."""
        async with asyncio.timeout(timeout):
            looked = 0
            while (end := self._buffer.find(b"\n", looked)) < 0 and not 0 < size <= len(self._buffer):
                looked = len(self._buffer)
                some = await self._some(READ_MAX)
                if not some:
                    return self._take(size)
                self._buffer += some
            ends = [one for one in (end + 1, size) if one > 0]
            return self._take(min(ends))

    async def write(self, buf: Any, full: bool = False, timeout: float | None = None) -> int:
        """How many of these bytes were written; all with `full`, or what was by the timeout.

        Raises
        ------
        TimeoutError, which is an IOError: none were within `timeout` seconds.
        """
        left = memoryview(buf.encode() if isinstance(buf, str) else buf).cast("B")
        total = 0
        try:
            async with asyncio.timeout(timeout):
                while left:
                    try:
                        count = os.write(self.fileno(), left[:READ_MAX])
                    except BlockingIOError:
                        await self._ready(writing=True)
                        continue
                    total += count
                    left = left[count:]
                    if not full:
                        break
        except TimeoutError:
            if not total:
                raise
        return total

    def flush(self) -> None:
        """Nothing is kept back."""

    def seek(self, offset: int, whence: int = 0) -> int:
        """As of a file."""
        self._buffer.clear()
        return os.lseek(self.fileno(), offset, whence)

    def tell(self) -> int:
        """As of a file."""
        return os.lseek(self.fileno(), 0, os.SEEK_CUR) - len(self._buffer)

    def close(self) -> None:
        """It, and the file that it was made of."""
        fd, self._fd = self._fd, None
        if fd is None:
            return
        if isinstance(self._file, int):
            os.close(fd)
        else:
            self._file.close()

    def _take(self, size: int) -> bytes:
        """At most so many; all if it is not positive."""
        end = size if size > 0 else len(self._buffer)
        taken = bytes(self._buffer[:end])
        del self._buffer[:end]
        return taken

    async def _some(self, size: int) -> bytes:
        while True:
            try:
                return os.read(self.fileno(), size)
            except BlockingIOError:
                await self._ready(writing=False)

    async def _ready(self, *, writing: bool) -> None:
        loop, fd = asyncio.get_running_loop(), self.fileno()
        ready: asyncio.Future[None] = loop.create_future()
        add, remove = (
            (loop.add_writer, loop.remove_writer) if writing else (loop.add_reader, loop.remove_reader)
        )
        add(fd, complete, ready, None)
        try:
            await ready
        finally:
            remove(fd)


class AsyncPipe(Closing):
    """``AsyncPipe(process)``, or ``AsyncPipe(first, last)`` of a row: write() goes to the first, all else is of the last."""

    def __init__(self, first: Any, last: Any = None) -> None:
        self.first, self.last = first, last or first
        self.stdin = AsyncFile(first.stdin) if first.stdin is not None else None
        self.stdout = AsyncFile(self.last.stdout) if self.last.stdout is not None else None
        self.stderr = AsyncFile(self.last.stderr) if self.last.stderr is not None else None

    async def read(self, size: int = 0, timeout: float | None = None, full: bool = False) -> bytes:
        """From its output; as AsyncFile.read."""
        return await _of(self.stdout, "stdout").read(size, full, timeout)

    async def readline(self, size: int = 0, sizehint: int = 0, timeout: float | None = None) -> bytes:
        """A line of its output."""
        return await _of(self.stdout, "stdout").readline(size, sizehint, timeout)

    async def read_stderr(self, size: int = 0, timeout: float | None = None, full: bool = False) -> bytes:
        """From its standard error."""
        return await _of(self.stderr, "stderr").read(size, full, timeout)

    async def readline_stderr(self, size: int = 0, sizehint: int = 0, timeout: float | None = None) -> bytes:
        """A line of its standard error."""
        return await _of(self.stderr, "stderr").readline(size, sizehint, timeout)

    async def write(self, buf: Any, full: bool = False, timeout: float | None = None) -> int:
        """To its input; as AsyncFile.write."""
        return await _of(self.stdin, "stdin").write(buf, full, timeout)

    async def communicate(self, input: Any = None) -> tuple[bytes | None, bytes | None]:
        """Write all of `input` (bytes, or a file), close, and read all: (output, standard error), None of what is no pipe."""

        async def read(file: AsyncFile | None) -> bytes | None:
            return None if file is None else await file.read()

        results = await asyncio.gather(self._feed(input), read(self.stdout), read(self.stderr))
        while self.poll() is None:
            await asyncio.sleep(0.01)
        return results[1], results[2]

    async def _feed(self, source: Any) -> None:
        if self.stdin is None:
            return
        try:
            while source is not None:
                if isinstance(source, AsyncFile):
                    some: Any = await source.read(READ_MAX)
                elif hasattr(source, "read"):
                    some = source.read(READ_MAX)
                else:
                    some, source = source, None
                if not some:
                    break
                await self.stdin.write(some, full=True)
        except BrokenPipeError:
            pass  # it does not want more, as of subprocess
        finally:
            self.stdin.close()

    def poll(self) -> int | None:
        """The exit code of the last one; None while it runs."""
        code: int | None = self.last.poll()
        return code

    def __getattr__(self, name: str) -> Any:
        """wait(), returncode, pid ... of the last one."""
        return getattr(self.__dict__["last"], name)

    def terminate(self) -> None:
        """All of them."""
        for process in {id(one): one for one in (self.first, self.last)}.values():
            if process.poll() is None:
                process.terminate()

    def kill(self) -> None:
        """All of them."""
        for process in {id(one): one for one in (self.first, self.last)}.values():
            if process.poll() is None:
                process.kill()

    def close(self) -> None:
        """Its pipes."""
        for file in (self.stdin, self.stdout, self.stderr):
            if file is not None:
                file.close()


def _of(file: AsyncFile | None, what: str) -> AsyncFile:
    if file is None:
        raise ValueError(f"{what} of this process is no pipe: give Popen {what}=subprocess.PIPE")
    return file
