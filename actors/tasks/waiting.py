"""How a coroutine waits: for a future and not for ever, and never in silence; and how a future that may be over is completed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar

from dispycos.notices import PATIENCE_S, next_pause

T = TypeVar("T")


async def within(future: asyncio.Future[T], timeout: float | None) -> T:
    """What this future gives. Raises TimeoutError after `timeout` seconds, and has cancelled it then; None: for ever."""
    if timeout is None:
        return await future
    try:
        async with asyncio.timeout(timeout):
            return await future
    except TimeoutError:
        if future.done() and not future.cancelled():  # it came in the turn of the loop in which time was up
            return future.result()
        raise TimeoutError("timed out") from None


@contextlib.contextmanager
def telling(loop: asyncio.AbstractEventLoop, tell: Callable[[], Awaitable[None] | None]) -> Iterator[None]:
    """Nobody waits in silence: while the block lasts `tell` is called after 3 s, then at growing intervals."""

    async def tell_again() -> None:
        pause = PATIENCE_S
        while True:
            await asyncio.sleep(pause)
            if (asking := tell()) is not None:
                await asking
            pause = next_pause(pause)

    teller = asyncio.Task(tell_again(), loop=loop)
    try:
        yield
    finally:
        teller.cancel()


def complete(future: asyncio.Future[Any], value: Any) -> None:
    """Unless it is over: who waited was cancelled, perhaps."""
    if not future.done():
        future.set_result(value)


def fail(future: asyncio.Future[Any], error: BaseException) -> None:
    """As complete(). If nobody waits any more, that is no news."""
    if not future.done():
        future.set_exception(error)
        future.exception()  # else asyncio tells of it
