"""How a map is done: items are read and submitted some way ahead of who takes their values."""

from __future__ import annotations

import asyncio
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from copy import copy
from functools import partial
from itertools import chain
from reprlib import Repr
from time import monotonic
from typing import Any, NamedTuple

from dispycos.errors import NotPicklable, TaskLost
from dispycos.notices import counted
from dispycos.protocol.envelope import bytes_of
from dispycos.protocol.status import OutcomeKind

from .calling import name_of
from .chunks import Chunk, Ran
from .current import running_loop
from .ends import add_note, without_our_frames
from .handle import Handle
from .items import FromThread, Items
from .pacing import CHUNK_S, Pacing
from .progress import Count, Progress
from .record import Record
from .results import unpack_outcome, with_code
from .streams import say

SLICE_S = 0.005  # submitting, or giving values, goes on for so long before the loop has its turn
GIVEN_AT_ONCE = 512  # values, before it is looked for more to submit
LOOK_S = 0.005  # while it is not known how long a task runs, and no more may be submitted, it is looked again so often
FAILURES_MAX = 1000  # that are kept
ITEM_MAX = 200  # characters of an item that are told with its error


class Failure(NamedTuple):
    """An item of a map, and what its call raised."""

    item: Any
    error: Exception


class Wanted(NamedTuple):
    """How a map is to be done; see Submits.map."""

    kwargs: dict[str, Any]
    is_spread: bool  # each item is the arguments of a call, a tuple
    total: int | None = None  # items, by what len() says, which may be wrong
    ordered: bool = False
    return_exceptions: bool = False
    chunksize: int | None = None  # None: by run time
    retries: int = 0
    timeout: float | None = None
    progress: bool = False


class Piece(NamedTuple):
    """Items that one task has."""

    first: int  # the place of the first among all
    items: list[Any]
    retries: int


class Work:
    """What was read of the iterable, until its values are taken."""

    _began = 0.0  # when somebody first wanted a value; 0: nobody has
    _is_closed = False
    is_told: bool = True  # who used it was told that it is used otherwise, or that there is none

    def __init__(
        self,
        submit: Callable[..., Handle[Any]],
        function: Callable[..., Any],
        items: Iterator[Any],
        wanted: Wanted,
    ) -> None:
        self.name: str = name_of(function)
        if (loop := running_loop()) is None:
            raise RuntimeError(
                "no event loop runs in this thread, which the map of a Client needs: `async for` where it runs; without it: "
                "`with dispycos.Client() as client`"
            )
        self.is_told, self._loop = False, loop
        self.wanted = wanted
        self.failures: list[Failure] = []
        self.failed: int = 0
        self._submit = submit
        self._function = function
        self._items = Items(items)
        self._pacing = Pacing(wanted.chunksize)
        self._turn_at = 0.0  # when the loop last had its turn
        self._read = 0
        self._broken: Exception | None = None  # what the iterable raised: told behind the values before it
        self._unsent: list[Any] = []  # items that were read, fewer than go together
        self._again: deque[Piece] = deque()  # that a task gave back, or that are to be tried again
        self._pieces: dict[Handle[Any], Piece] = {}  # in flight
        self._ended: deque[Handle[Any]] = deque()
        self._waiter: asyncio.Future[None] | None = None  # of who wants a value
        self._held: dict[int, tuple[list[Any], list[Any], dict[int, Exception]]] = {}  # for those before them
        self._due = 0  # the place whose values are given next, if that is in order
        self._done = 0  # items that have ended ...
        self._passed = 0  # ... and whose values were ready to be taken
        self._ready: deque[tuple[Any, Any]] = deque()
        self._error: Exception | None = None  # to be raised behind what is ready
        self._progress: Progress | None = None

    def __del__(self) -> None:
        if not (self._began or self._is_closed or self.is_told):
            say(
                f"the values of a map({self.name}) were never taken, so nothing was called: `for x, value in client.map(...)`",
                "warning",
            )

    @property
    def has_begun(self) -> bool:
        """Somebody has wanted a value."""
        return bool(self._began)

    # --- for people ---

    def count(self) -> Count:
        in_flight = self._read - self._done
        total = self._read if self._items.is_exhausted else self.wanted.total
        return Count(
            self._done, self.failed, in_flight, total if total is None or total >= self._done else None
        )

    def in_words(self) -> str:
        if not self._began:
            return "not begun"
        return f"{self.count().in_words(is_over=self._is_closed)}{', ended' if self._is_closed else ''}"

    # --- values ---

    def read_in_thread(self) -> None:
        """Before the first value is wanted: have the iterables read in a thread of its own, where they may block."""
        here = weakref.ref(self)  # else one whose values nobody takes would not go when it is dropped

        def wake() -> None:
            if (work := here()) is not None:
                work._wake_from_thread()

        self._items = FromThread(self._items.iterator, wake)

    async def batch(self) -> list[tuple[Any, Any]]:
        """The next values, as many as are ready and may be given at once; none: there will be none any more."""
        try:
            if not await self._more():
                # Before they are told: the last of its progress is shown before what they print.
                self.close()
        except BaseException as error:
            self.close()
            raise without_our_frames(error)  # noqa: B904
        ready = self._ready
        return [ready.popleft() for _ in range(min(len(ready), GIVEN_AT_ONCE))]

    async def _more(self) -> bool:
        """Until a value is ready; False: there will be none."""
        if self._is_closed:
            return False
        self._begin()
        if monotonic() - self._turn_at >= SLICE_S:
            await self._let_others()
        while True:
            if not self._ready and self._error is not None:
                raise self._error
            self._must_be_in_time()
            if self._error is None:
                self._fill()
                while self._ended and self._error is None:
                    await self._hear(self._ended.popleft())
            if self._ready:
                return True
            if self._error is not None:
                continue
            is_empty = self._items.is_empty  # asked once: another thread may change it
            if self._again or (self._may_grow() and not is_empty):
                await self._let_others()  # what was submitted leaves, and what has ended is heard of
            elif self._pieces or is_empty:
                await self._wait()
            elif self._broken is not None:
                raise self._broken
            else:
                return False

    def _begin(self) -> None:
        if self._began:
            return
        self._began = self._turn_at = monotonic()
        if self.wanted.progress:
            self._progress = Progress(self.name, self.count)

    async def _let_others(self) -> None:
        await asyncio.sleep(0)
        self._turn_at = monotonic()

    async def _wait(self) -> None:
        """Until a task has ended, or it is time to look again."""
        waiter = self._waiter = self._loop.create_future()
        is_late_soon = self._items.is_empty and self._unsent
        is_probing = self._pacing.is_probing and not self._items.is_exhausted
        times = [LOOK_S] if is_late_soon or is_probing else []
        if self.wanted.timeout is not None:
            times.append(max(0.0, self._began + self.wanted.timeout - monotonic()))
        timer = self._loop.call_later(min(times), self._wake) if times else None
        try:
            await waiter
        finally:
            self._waiter = None
            if timer is not None:
                timer.cancel()
        self._turn_at = monotonic()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _wake_from_thread(self) -> None:
        with suppress(RuntimeError):  # the loop has ended, and who wanted a value with it
            self._loop.call_soon_threadsafe(self._wake)

    def _must_be_in_time(self) -> None:
        timeout = self.wanted.timeout
        if timeout is not None and monotonic() >= self._began + timeout:
            left = counted(self._read - self._done, "item")
            raise TimeoutError(
                f"map({self.name}): not within {timeout:g} s; {self._done:,} done, and {left} in flight are ended"
            )

    def close(self) -> None:
        """Nobody wants the rest any more. Those that have ended are left alone: their client may have left since."""
        if self._is_closed:
            return
        self._is_closed = True
        self._items.close()
        self._ready.clear()
        for handle in self._pieces:
            if handle.is_alive():
                handle.terminate()
        if self._progress is not None:
            self._progress.close()

    # --- reading and submitting ---

    def _may_grow(self) -> bool:
        return not self._items.is_exhausted and self._may_read() > 0

    def _may_read(self) -> int:
        """Items, now."""
        return self._pacing.ahead(monotonic() - self._began) - self._ahead()

    def _ahead(self) -> int:
        return self._read - self._passed + len(self._ready)

    def _fill(self) -> None:
        """Read and submit for a moment: a slow iterable must not hold up the values that are there."""
        while self._again and self._error is None:
            first, items, retries = self._again.popleft()
            size = self._pacing.chunk(len(items))
            self._send(Piece(first, items[:size], retries))
            if size < len(items):
                self._again.appendleft(Piece(first + size, items[size:], retries))
        self._read_some()

    def _read_some(self) -> None:
        now = monotonic()
        until, read, size = now + SLICE_S, self._read, 1
        while self._error is None and now < until and self._may_grow():
            size = self._pacing.chunk(self._left())
            self._read_up_to(size, until)
            if len(self._unsent) >= size:
                self._send_unsent(size)
            elif self._items.is_empty:
                break
            now = monotonic()
        # Fewer than go together: of a fast iterable the others will be there before these could run.
        is_slow = self._items.is_late or (now >= until and self._read - read < size)
        if self._unsent and (self._items.is_exhausted or is_slow or not self._pieces):
            self._send_unsent(len(self._unsent))

    def _left(self) -> int | None:
        """How many items were not sent, if that can be known."""
        if self._items.is_exhausted:
            return len(self._unsent)
        total = self.wanted.total
        return None if total is None or total <= self._read else total - self._read + len(self._unsent)

    def _read_up_to(self, size: int, until: float) -> None:
        before = len(self._unsent)
        try:
            self._items.read(self._unsent, size, until, self._may_read())
        except Exception as error:
            read = counted(self._read + len(self._unsent) - before, "item")
            add_note(error, f"raised by the iterable that was given to map({self.name}), after {read}")
            self._broken, self._items.is_exhausted = error, True
        finally:
            self._read += len(self._unsent) - before

    def _send_unsent(self, size: int) -> None:
        first = self._read - len(self._unsent)
        items, self._unsent = self._unsent[:size], self._unsent[size:]
        self._send(Piece(first, items, self.wanted.retries))

    def _send(self, piece: Piece) -> None:
        if len(piece.items) > 1 and not self._are_handles(piece.items):
            enough_s = 2 * CHUNK_S if self.wanted.chunksize is None else None
            chunk = Chunk(self._function, self.wanted.kwargs, self.wanted.is_spread, enough_s)
            try:
                self._enter(piece, self._submit(chunk, (piece.items,), {}))
                return
            except (NotPicklable, ValueError):  # ValueError: too large; which item it is comes out one by one
                pass
        for place, item in enumerate(piece.items, piece.first):
            if self._error is not None:
                return
            args = item if self.wanted.is_spread else (item,)
            try:
                handle = self._submit(self._function, args, self.wanted.kwargs, retries=piece.retries)
            except (NotPicklable, ValueError) as error:
                self._arrived(place, [item], [None], {0: error})
            else:
                self._enter(Piece(place, [item], piece.retries), handle)

    def _are_handles(self, items: list[Any]) -> bool:
        """Whether an argument is a handle, which only a task of its own waits for."""
        kinds = set(map(type, chain.from_iterable(items) if self.wanted.is_spread else items))
        return any(issubclass(kind, asyncio.Future) for kind in kinds)

    def _enter(self, piece: Piece, handle: Handle[Any]) -> None:
        self._pieces[handle] = piece
        handle.add_done_callback(self._on_end)

    def _on_end(self, handle: Handle[Any]) -> None:
        self._ended.append(handle)
        self._wake()

    # --- what has ended ---

    async def _hear(self, handle: Handle[Any]) -> None:
        piece = self._pieces.pop(handle)
        record = handle._source if isinstance(handle._source, Record) else None
        try:
            value = handle.result()
        except Exception as error:
            if len(piece.items) > 1:
                self._chunk_failed(piece, error, record)
            else:
                self._learn(record, 1)
                self._arrived(piece.first, piece.items, [None], {0: error})
            return
        if len(piece.items) > 1:
            self._learn(record, len(value.values))
            await self._open(piece, value, handle)
        else:
            self._learn(record, 1)
            self._arrived(piece.first, piece.items, [value], {})

    def _learn(self, record: Record | None, items: int) -> None:
        if record is not None and record.seconds is not None:
            size = max(record.size, bytes_of(record.payload))
            self._pacing.saw(items, record.seconds, size)

    async def _open(self, piece: Piece, ran: Ran, handle: Handle[Any]) -> None:
        """Each value, or error, as that of a task of its own."""
        if ran.suspends:
            self._pacing.chunksize = 1
        values, errors = ran.values, {}
        payloads = handle._host.payloads
        for place, (kind, payload) in ran.packed.items():
            end = Record(self.name, location=handle.location, started=True, outcome=kind, payload=payload)
            try:
                values[place] = await with_code(payloads, partial(unpack_outcome, payloads, end))
            except Exception as error:
                errors[place] = error
        count = len(values)
        if count < len(piece.items):
            self._again.append(Piece(piece.first + count, piece.items[count:], piece.retries))
        self._arrived(piece.first, piece.items[:count], values, errors)

    def _chunk_failed(self, piece: Piece, error: Exception, record: Record | None) -> None:
        """An item that raises is no failure of its chunk: this has raised before the first, or its server was lost ..."""
        retries = piece.retries
        if record is not None and record.outcome != OutcomeKind.RAISED:
            if not (isinstance(error, TaskLost) and retries):
                note = f"it was in a chunk of {len(piece.items)}, of which others may have ended"
                errors: dict[int, Exception] = {}
                for place in range(len(piece.items)):
                    errors[place] = copy(error)
                    add_note(errors[place], note)
                self._arrived(piece.first, piece.items, [None] * len(piece.items), errors)
                return
            retries -= 1
            say(f"{error}: its {len(piece.items)} items are tried again, one by one", "warning")
        self._again.extend(Piece(piece.first + n, [item], retries) for n, item in enumerate(piece.items))

    def _arrived(self, first: int, items: list[Any], values: list[Any], errors: dict[int, Exception]) -> None:
        self._done += len(items)
        self.failed += len(errors)
        if not self.wanted.ordered:
            self._pass_on(items, values, errors)
            return
        self._held[first] = (items, values, errors)
        while self._due in self._held and self._error is None:
            items, values, errors = self._held.pop(self._due)
            self._due += len(items)
            self._pass_on(items, values, errors)

    def _pass_on(self, items: list[Any], values: list[Any], errors: dict[int, Exception]) -> None:
        self._passed += len(items)
        for place, error in errors.items():
            add_note(error, f"for the item {_in_words(items[place])}")
            if len(self.failures) < FAILURES_MAX:
                self.failures.append(Failure(items[place], error))
            if not self.wanted.return_exceptions:
                self._error = error
                items = items[:place]
                break
            values[place] = error
        self._ready.extend(zip(items, values, strict=False))


def _in_words(item: Any) -> str:
    words = Repr()
    words.maxstring = words.maxother = words.maxlong = ITEM_MAX
    try:
        return words.repr(item)
    except Exception:  # it takes what is called as a builtin type for one
        return f"of type {type(item).__name__}"
