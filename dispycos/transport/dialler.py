"""Keeps one link to one peer: tries all its endpoints at once, keeps the first that answers, and tries again with back-off.

It connects to all at once, and greets one after the other. A socket of this host (ipc) goes first, alone;
when nobody listens there (any more), the addresses are what remains.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

from ..config import Failure, Refused

log = logging.getLogger("dispycos")

BACKOFF_FIRST = 0.05  # seconds
BACKOFF_MAX = 1.5
BACKOFF_SOON = 0.35  # at most, in the first time after a loss: a scheduler that was killed is mostly started again at once
SOON_S = 60.0
JITTER = 0.3  # of each pause, a part of it
PAUSE_MAX = (1 + JITTER) * BACKOFF_MAX
BACKOFF_HOPELESS = 60.0  # of one that never answered, perhaps behind a firewall, and is reached otherwise
SILENCE_MAX = 3.0  # seconds until it is said what is missing


class LinkOwner(Protocol):
    """The runtime that wants the link (runtime.py)."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop: ...
    @property
    def clock(self) -> Callable[[], float]: ...
    def is_linked(self, epoch: int) -> bool: ...
    def open_link(self, endpoint: str, dialler: Any) -> int: ...
    def greet(self, link: int) -> None: ...
    def drop_link(self, link: int, reason: str) -> None: ...
    def dialler_stopped(self, dialler: Any) -> None: ...


class Dialler:
    """One wanted link. `ready` gives the peer's epoch once, or raises Refused; `keep` goes on after a loss.

    Parameters
    ----------
    endpoints: all addresses of one process, as libzmq takes them.
    uplink: what we know no other way to goes there.
    expected: the epoch that was found there; later it may have been started anew.
    wanted: the only epoch that is meant, now and later. Others that answer are refused, and that is no news of it.
    resolve: gives all endpoints of one that has a name, each time anew; None: there are no names.
    """

    def __init__(
        self,
        runtime: LinkOwner,
        endpoints: Sequence[str],
        *,
        uplink: bool,
        keep: bool,
        foreign_key: bytes | None = None,
        expected: int = 0,
        wanted: int = 0,
        resolve: Callable[[str], Awaitable[Sequence[str]]] | None = None,
    ) -> None:
        self.uplink = uplink
        self.expected = expected  # an address like docker0's may be our own as well
        self.wanted = wanted
        self.foreign_key = foreign_key  # of a listener that will refuse us, and shall say so
        self.endpoints = list(dict.fromkeys(endpoints))
        self.link = 0  # the one in use
        self.is_proven = False  # who answered has the cluster's secret
        self.epoch = 0
        self.refusal = ""
        self.on_silence: Callable[[str], None] = log.warning
        self.on_lost: Callable[[str], None] = log.info
        self.on_gone: Callable[[], None] = lambda: None  # what was found is not there any more
        self._runtime = runtime
        self._keep = keep
        self._resolve = resolve
        self._resolving: asyncio.Task[None] | None = None
        self._tried: dict[int, str] = {}
        self._connected: deque[int] = deque()  # of those that were tried; one after the other is greeted
        self._greeted = 0
        self._first = [endpoint for endpoint in self.endpoints if endpoint.startswith("ipc://")]
        self._backoff = BACKOFF_FIRST
        self._lost_at: float | None = None
        self._retry: asyncio.TimerHandle | None = None
        self._silence: asyncio.TimerHandle | None = None
        self._stopped = False
        self._last_reason = "no answer"
        self.ready: asyncio.Future[int] = runtime.loop.create_future()

    def start(self) -> None:
        self._silence = self._runtime.loop.call_later(SILENCE_MAX, self._say_silence)
        self._try()

    def stop(self) -> None:
        """Close the link and try no more."""
        self._stopped = True
        self._runtime.dialler_stopped(self)
        for waiting in (self._retry, self._silence, self._resolving):
            if waiting is not None:
                waiting.cancel()
        for link in [*self._tried, *([self.link] if self.link else [])]:
            self._runtime.drop_link(link, "not wanted any more")
        self._tried.clear()
        self.link = 0
        if not self.ready.done() and not self.ready.get_loop().is_closed():
            self.ready.cancel()

    # --- told by the runtime, on the loop's thread ---

    def connected(self, link: int) -> None:
        """The address answers. Of two links that greet it the other end would keep the later, and we the first."""
        self._connected.append(link)
        self._greet_next()

    def _greet_next(self) -> None:
        while self._connected and self._greeted not in self._tried:
            link = self._connected.popleft()
            if link in self._tried:
                self._greeted = link
                self._runtime.greet(link)

    def link_ready(self, link: int, epoch: int) -> None:
        if self._stopped or (self.link and self.link != link):
            self._runtime.drop_link(link, "another address answered first")
            self._tried.pop(link, None)
            return
        if self.expected and epoch != self.expected:
            if self.epoch:  # it was there before, and was started anew
                self.expected = epoch
            else:
                self._on_stranger(link)
                return
        self._tried.pop(link, None)
        for other in list(self._tried):
            self._runtime.drop_link(other, "another address answered first")
        self._tried.clear()
        self.link, self.epoch = link, epoch
        self.refusal = ""
        self._backoff = BACKOFF_FIRST
        if self._silence is not None:
            self._silence.cancel()
        if not self.ready.done():
            self.ready.set_result(epoch)

    def _on_stranger(self, link: int) -> None:
        """An address that is somebody else's here; if there is no other, it is not what was found."""
        self._tried.pop(link, None)
        self._runtime.drop_link(link, "another process answers there")
        if not self._tried:
            self.stop()
            self.on_gone()
        self._greet_next()

    def link_down(self, link: int, reason: str, *, refused: bool) -> None:
        endpoint = self._tried.pop(link, "the link")
        self._last_reason = f"{endpoint}: {reason}"
        if self._stopped:
            return
        if refused and not (
            self.epoch or self.wanted
        ):  # one that had us before may have ended in a handshake
            self.refusal = reason
        if link == self.link:
            self.link, self._lost_at = 0, self._runtime.clock()
            if self._runtime.is_linked(self.epoch):
                log.debug("the link that was dialled ended: %s", reason)  # of two the lesser one
            else:
                self.on_lost(reason)
        if self.link or self._tried:
            self._greet_next()  # another address may answer
            return
        if endpoint in self._first and len(self._first) < len(self.endpoints):
            self._first = []
            self._try()
            return
        if self.refusal and not self.ready.done():
            self.ready.set_exception(Refused(self.refusal))
            self.ready.exception()  # looked at: whoever awaits it still gets it
        self._try_later()

    def _try_later(self) -> None:
        if self._keep and not self.refusal:
            pause = self._backoff * random.uniform(1 - JITTER, 1 + JITTER)
            self._retry = self._runtime.loop.call_later(pause, self._try)
            self._backoff = min(2 * self._backoff, self._longest())

    def _longest(self) -> float:
        """Of its pauses, in seconds."""
        if self.wanted and not self.epoch:
            return BACKOFF_HOPELESS
        is_soon = self._lost_at is not None and self._runtime.clock() < self._lost_at + SOON_S
        return BACKOFF_SOON if is_soon else BACKOFF_MAX

    def _try(self) -> None:
        self._retry = None
        if self._stopped or self.link:
            return
        if self.epoch and self._runtime.is_linked(self.epoch):  # it dialled us
            self._retry = self._runtime.loop.call_later(BACKOFF_MAX, self._try)
            return
        if self._resolve is None or self._first:
            self._open(self._first or self.endpoints)
        else:
            self._resolving = asyncio.ensure_future(self._open_named(self._resolve))

    async def _open_named(self, resolve: Callable[[str], Awaitable[Sequence[str]]]) -> None:
        found: list[str] = []
        for endpoint in self.endpoints:
            try:
                found += await resolve(endpoint)
            except Failure as failure:
                self._last_reason = f"{endpoint}: {failure}"
        self._resolving = None
        if not self._stopped and not self.link:
            self._open(found)

    def _open(self, endpoints: Sequence[str]) -> None:
        for endpoint in endpoints:
            try:
                self._tried[self._runtime.open_link(endpoint, self)] = endpoint
            except OSError as error:
                self._last_reason = f"{endpoint}: {error.strerror}"
        if not self._tried:
            self._try_later()

    def _say_silence(self) -> None:
        if not self.link and not self._stopped:
            where = ", ".join(self.endpoints)
            going_on = "; still trying" if self._keep else ""
            self.on_silence(f"no answer from {where} for {SILENCE_MAX:g} s ({self._last_reason}){going_on}")
