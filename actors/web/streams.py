"""The streams of server-sent events: to each reader what it does not know yet.

Readers have no queue. One that reads slowly is told of several ticks at once; one that has stopped reading holds up nobody else,
and what waits for it is no more than the parts of one event (its connection is ended by connections.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, Final

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from .answers import Refusal, encode
from .desk import Desk

STREAMS_MAX: Final = 100
SILENCE_S: Final = 10.0
PART_BYTES: Final = 65536  # so much of an event is handed over at once
HEADERS: Final = {"x-accel-buffering": "no"}  # nginx shall not keep it back


class Streams:
    """All that are open at one desk."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.farewell: str | None = None
        self.ends = asyncio.Event()
        self._open = 0
        self._parts: dict[tuple[str, int], bytes] = {}  # of the present version: (table, since)
        self._parts_of = 0

    def end(self, text: str) -> None:
        """Each reader gets the present state and is told that it is the last."""
        self.farewell = text
        self.ends.set()

    def stream(self, names: Iterable[str], since: str) -> Stream:
        """Raises Refusal if there are too many. `since`: the id of the last event that the reader has, or empty."""
        if self._open >= STREAMS_MAX:
            raise Refusal(503, f"{STREAMS_MAX} pages are open already, which is the most", "close some")
        self._open += 1
        return Stream(self, frozenset(names), self._version_in(since))

    def closed(self) -> None:
        self._open -= 1

    def _version_in(self, since: str) -> int:
        """-1: nothing is known."""
        epoch, _, version = since.rpartition(".")
        is_ours = epoch == self.desk.tables.epoch and version.isascii() and version.isdecimal()
        return int(version) if is_ours and len(version) < 16 else -1

    def event(self, names: Iterable[str], since: int) -> bytes:
        """What is new since then, or the whole if that is not known. Empty: nothing is."""
        tables = self.desk.tables
        is_delta = tables.is_known(names, since)
        parts = b",".join(filter(None, (self._part(name, since if is_delta else -1) for name in names)))
        if is_delta and not parts:
            return b""
        head = f"id: {tables.epoch}.{tables.version}\nevent: {'delta' if is_delta else 'snapshot'}\ndata: "
        facts = f'{{"version":{tables.version},"now":{tables.now},"tables":{{'
        return b"%s%s%s}}\n\n" % (head.encode(), facts.encode(), parts)

    def _part(self, name: str, since: int) -> bytes:
        """Most readers know the last version: what is new since is encoded once, whatever else they read."""
        tables = self.desk.tables
        if self._parts_of != tables.version:
            self._parts.clear()
            self._parts_of = tables.version
        part = self._parts.get((name, since))
        if part is None:
            told = tables.part(name, since)
            part = b'"%s":%s' % (name.encode(), encode(told)) if told is not None else b""
            self._parts[name, since] = part
        return part


class Stream(Response):
    """The answer to one reader."""

    media_type = "text/event-stream"

    def __init__(self, streams: Streams, names: frozenset[str], since: int) -> None:
        super().__init__(headers=HEADERS)
        del self.headers["content-length"]
        self._streams = streams
        self._names = names
        self._since = since

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._send = send
        left = asyncio.ensure_future(_left(receive))
        try:
            await send(
                {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
            )
            if scope["method"] != "HEAD":
                await self._tell(left)
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            left.cancel()
            self._streams.closed()

    async def _tell(self, left: asyncio.Future[None]) -> None:
        streams, desk = self._streams, self._streams.desk
        await self._write(b"retry: 1000\n\n")
        with desk.reading(self._names):
            if self._since < 0:
                await desk.fresh(self._names)
            while not left.done():
                ends = streams.ends.is_set()
                if self._since != desk.tables.version:
                    version, event = desk.tables.version, streams.event(self._names, self._since)
                    await self._write(event)
                    self._since = version
                if ends:
                    await self._write(b"event: gone\ndata: %s\n\n" % encode({"text": streams.farewell}))
                    return
                if not await self._has_changed(left):
                    await self._write(b": still here\n\n")

    async def _has_changed(self, left: asyncio.Future[None]) -> bool:
        """When there is something to do; False: nothing was said for a while."""
        ends = asyncio.ensure_future(self._streams.ends.wait())
        try:
            async with asyncio.timeout_at(self._told_at + SILENCE_S):
                while await self._waits(ends, left):
                    pass
            return True
        except TimeoutError:
            return False
        finally:
            ends.cancel()

    async def _waits(self, ends: asyncio.Future[Any], left: asyncio.Future[None]) -> bool:
        """False: there is something to do. True: there may be after this tick."""
        desk = self._streams.desk
        ticked = asyncio.ensure_future(desk.ticked())
        try:
            await asyncio.sleep(0)  # from here on no tick is missed
            if self._since != desk.tables.version or left.done() or ends.done():
                return False
            await asyncio.wait((ticked, ends, left), return_when=asyncio.FIRST_COMPLETED)
            if ticked.done():
                ticked.result()
            return True
        finally:
            ticked.cancel()

    async def _write(self, event: bytes) -> None:
        for at in range(0, len(event), PART_BYTES):
            part = event[at : at + PART_BYTES]
            await self._send({"type": "http.response.body", "body": part, "more_body": True})
            self._told_at = asyncio.get_running_loop().time()


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
