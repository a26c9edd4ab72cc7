"""The sync style of map: its values go to the thread that wants them, its iterables are read in a thread of their own."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from queue import SimpleQueue
from typing import Any, Final, Generic, TypeVar

from ..tasks.ends import without_our_frames
from ..tasks.map import Mapped
from ..tasks.mapping import Work
from ..tasks.styles import SyncOneByOne
from .loop_thread import LoopThread, take

ItemT = TypeVar("ItemT")
ValueT = TypeVar("ValueT")

AHEAD: Final = 2  # batches that lie here for a slow reader


class SyncMap(Mapped, SyncOneByOne[tuple[ItemT, ValueT]], Generic[ItemT, ValueT]):
    """The values of ``client.map``: ``for item, value in client.map(function, items)``.

    ``len()`` is the number of items where the iterables tell it. ``close()`` ends what has not ended, as leaving the loop does.
    ``failures`` are the items whose calls raised.
    """

    def __init__(self, thread: LoopThread, work: Work) -> None:
        self._work = work
        super().__init__(_give(thread, work), "client.map(...)", "x, value")

    def close(self) -> None:
        """There are no values after that; what has not ended is ended."""
        super().close()
        if not self._work.has_begun:  # nobody has asked for a value, who would have ended it
            self._work.close()


def _give(thread: LoopThread, work: Work) -> Generator[tuple[Any, Any], None, None]:
    """Whatever ends this ends the work, and so the tasks that are left; also that the SyncMap is dropped."""
    came: SimpleQueue[list[Any] | BaseException] = SimpleQueue()
    room = asyncio.Event()
    pumping: list[asyncio.Task[None]] = []

    async def pump() -> None:
        try:
            while batch := await work.batch():
                came.put(batch)
                if came.qsize() >= AHEAD:
                    room.clear()
                    await room.wait()
            came.put([])
        except BaseException as error:
            came.put(error)
            if isinstance(error, asyncio.CancelledError):
                raise
        finally:
            work.close()

    thread.call_soon(lambda: pumping.append(thread.loop.create_task(pump())))
    try:
        while True:
            thread.may_wait("map()")  # also if values are there: else it would work sometimes
            batch = take(came)
            thread.call_soon(room.set)
            if isinstance(batch, BaseException):
                raise batch
            if not batch:
                return
            yield from batch
    except BaseException as error:
        without_our_frames(error)
        raise  # alone it adds no line to the traceback
    finally:
        thread.call_soon(lambda: pumping[0].cancel())
