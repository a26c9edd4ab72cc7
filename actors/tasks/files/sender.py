"""Sends files from this process, and has files deleted: to a node or server of the client, or to the client itself."""

from __future__ import annotations

import asyncio
import os
import stat
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from dispycos.errors import FileNotSent
from dispycos.protocol.addresses import Address
from dispycos.protocol.envelope import Envelope
from dispycos.protocol.messages import (
    FileAnswer,
    FileChunk,
    FileDelete,
    FileDigest,
    FileDrop,
    FileOffer,
    FilePlace,
)
from dispycos.protocol.status import FileState
from dispycos.values import wait_time

from ..correspondence import Correspondence
from ..waiting import telling
from .landing import digest_of
from .sending import Window, display, straight

StrPath = str | bytes | os.PathLike[str] | os.PathLike[bytes]
Progress = Callable[[int, int], object]


class Files:
    """What one process sends for its client.

    Parameters
    ----------
    client: epoch of the client. find: who takes files at a place that was named. tell: a line for the person at the terminal.
    size_max: what the scheduler allows, in bytes; 0: whatever the receiver takes.
    """

    def __init__(
        self,
        host: Correspondence,
        client: int,
        find: Callable[[Any], Awaitable[list[FilePlace]]],
        tell: Callable[[str], None],
        size_max: Callable[[], int] = lambda: 0,
    ) -> None:
        self._host = host
        self._client = client
        self._find = find
        self._tell = tell
        self._size_max = size_max

    async def send(
        self,
        where: Any,
        path: StrPath,
        dir: StrPath | None,
        overwrite: bool,
        timeout: float | None,
        progress: Progress | None,
    ) -> int:
        if not isinstance(overwrite, bool):
            raise TypeError(f"overwrite must be True or False, not {overwrite!r}")
        if progress is not None and not callable(progress):
            raise TypeError(f"progress must be callable, not {type(progress).__name__}")
        name = _below(dir, os.path.basename(os.fsencode(path)))
        source = await asyncio.to_thread(Source, path)
        try:
            async with _in_time(timeout, f"{source.title} was not sent: timeout"):
                places = await self._find(where)
                if 0 < self._size_max() < source.size:
                    raise FileNotSent(
                        f"{source.title} was not sent: it has {source.size:,} bytes, more than the {self._size_max():,} that "
                        f"the scheduler allows; start it with --max_file_size {source.size} or more"
                    )
                for place in places:
                    await _Transfer(self._host, self._client, place, source, name, overwrite).run(
                        progress, self._tell
                    )
        finally:
            source.close()
        return 0

    async def delete(self, where: Any, name: StrPath, dir: StrPath | None, timeout: float | None) -> int:
        path = _below(dir, os.fsencode(name))
        async with _in_time(timeout, f"{display(path)} was not deleted: timeout"):
            for place in await self._find(where):
                word = FileDelete(self._client, path, place.port)
                answer = await self._host.call(Address(place.epoch, place.actor), word, None, None)
                said = _said(answer, place)
                if said.state == FileState.MISSING:
                    raise FileNotFoundError(f"{place.title} has no {display(path)}")
        return 0


@asynccontextmanager
async def _in_time(timeout: float | None, text: str) -> AsyncIterator[None]:
    limit = asyncio.timeout(wait_time(timeout))
    try:
        async with limit:
            yield
    except TimeoutError:
        if limit.expired():
            raise TimeoutError(f"{text} of {timeout:g} s") from None
        raise


def _below(dir: StrPath | None, name: bytes) -> bytes:
    """The path at the receiver. Raises ValueError."""
    return b"/".join(straight(name if dir is None else os.path.join(os.fsencode(dir), name)))


def _said(answer: Envelope | None, place: FilePlace) -> FileAnswer:
    """Raises FileNotSent."""
    if answer is None:
        raise FileNotSent(f"{place.title} is gone")
    said: FileAnswer = answer.message
    if said.state == FileState.REFUSED:
        raise FileNotSent(said.text)
    return said


class Source:
    """The file that is sent; its calls block."""

    def __init__(self, path: StrPath) -> None:
        """Raises OSError, as open() does; and if it is no regular file."""
        self.title = display(os.fsencode(path))
        # Not blocking: of a pipe that nobody writes to, to open it would be to wait.
        self._file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        found = os.fstat(self._file)
        if not stat.S_ISREG(found.st_mode):
            self.close()
            if stat.S_ISDIR(found.st_mode):
                raise IsADirectoryError(f"{self.title} is a folder: send its files one by one")
            raise ValueError(f"{self.title} is no regular file, so its size is not known")
        self.size, self.mode = found.st_size, stat.S_IMODE(found.st_mode)
        self._changed_at = found.st_mtime_ns

    def read(self, offset: int, size: int) -> bytes:
        """Raises FileNotSent: it is not what it was when it was offered."""
        data = os.pread(self._file, size, offset)
        if len(data) != size or offset + size == self.size:
            found = os.fstat(self._file)
            if found.st_size != self.size:
                raise FileNotSent(
                    f"{self.title} was not sent: it had {self.size:,} bytes, and then {found.st_size:,}"
                )
            if found.st_mtime_ns != self._changed_at or len(data) != size:
                raise FileNotSent(f"{self.title} was not sent: it was changed meanwhile")
        return data

    def digest(self) -> bytes:
        with open(self._file, "rb", closefd=False) as file:
            file.seek(0)
            return digest_of(file)

    def close(self) -> None:
        os.close(self._file)


class _Transfer:
    """One file to one receiver."""

    def __init__(
        self,
        host: Correspondence,
        client: int,
        place: FilePlace,
        source: Source,
        name: bytes,
        overwrite: bool,
    ) -> None:
        self._host = host
        self._to = Address(place.epoch, place.actor)
        self._place = place
        self._source = source
        self._number = host.take_correlation()
        self._window = Window(source.size)
        self._offer = FileOffer(self._number, client, name, source.size, source.mode, place.port, overwrite)

    async def run(self, progress: Progress | None, tell: Callable[[str], None]) -> None:
        is_done = False
        try:
            with telling(self._host.loop, lambda: tell(self._state())):
                said = await self._ask(self._offer)
                if said.state == FileState.COMPARE:
                    digest = await asyncio.to_thread(self._source.digest)
                    said = await self._ask(FileDigest(self._number, digest))
                if said.state == FileState.GO:
                    await self._travel(progress)
                elif progress is not None:
                    progress(self._source.size, self._source.size)
            is_done = True
        finally:
            if not is_done:
                with suppress(RuntimeError):  # the runtime is closed
                    self._host.post(Envelope(self._to, self._host.me(), FileDrop(self._number)))

    def _state(self) -> str:
        percent = 100 * self._window.confirmed // max(1, self._source.size)
        return f"sending {self._source.title} to {self._place.title}: {percent} %"

    async def _ask(self, word: FileOffer | FileDigest) -> FileAnswer:
        return self._look(await self._host.call(self._to, word, None, None))

    def _look(self, answer: Envelope | None) -> FileAnswer:
        said = _said(answer, self._place)
        if said.state == FileState.EXISTS:
            raise FileExistsError(
                f"{self._source.title} was not sent: {self._place.title} has another {display(self._offer.path)}; "
                "overwrite=True replaces it"
            )
        return said

    async def _travel(self, progress: Progress | None) -> None:
        window, host = self._window, self._host
        under_way: deque[asyncio.Future[Envelope | None]] = deque()
        try:
            while not window.is_done:
                while (piece := window.take()) is not None:
                    data = await asyncio.to_thread(self._source.read, *piece)
                    under_way.append(host.request(self._to, FileChunk(self._number, piece[0]), data))
                self._look(await under_way.popleft())
                window.confirm()
                if progress is not None:
                    progress(window.confirmed, window.size)
        finally:
            for request in under_way:
                request.cancel()
