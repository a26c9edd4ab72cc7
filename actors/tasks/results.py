"""How an outcome becomes bytes and back: a value, or an exception with its traceback; what cannot be rebuilt keeps its words."""

from __future__ import annotations

import io
import linecache
import re
import traceback
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from dispycos.errors import (
    ArgumentFailed,
    DispycosError,
    RemoteError,
    RemoteTraceback,
    TaskLost,
    TaskRefused,
    TaskTerminated,
    TaskTimeout,
)
from dispycos.protocol.envelope import Buffer, Envelope, Payload, buffers_of
from dispycos.protocol.status import OutcomeKind
from dispycos.protocol.texts import NAME_MAX, cut

from ..shipping.pickling import ErrorRebuilder, Travelling, Unfound
from ..shipping.words import MissingCode
from .ends import Outcome, Raised, Returned, add_note
from .reasons import Raising, encoded, failed_one, raising_of
from .record import Record

TEXT_MAX = 64 * 1024  # characters of an error's text, and of its traceback

T = TypeVar("T")


class Pickling(Protocol):
    def dumps(self, value: Any, what: str) -> Payload: ...
    def loads(self, payload: Payload) -> Any:
        """Raises MissingCode when `fetch` has to come first."""


class Payloads(Pickling, Protocol):
    """How values become bytes and back, and where code comes from; clients and servers differ in it."""

    def version(self) -> int:
        """main_version to be said with what is sent."""

    def is_behind(self, version: int) -> bool: ...
    async def catch_up(self, version: int) -> None: ...
    async def fetch(self, missing: MissingCode) -> None: ...


def pack_outcome(
    pickling: Pickling, outcome: Outcome, name: str, stopping: bool
) -> tuple[OutcomeKind, Payload]:
    """The kind and payload of Outcome; `stopping`: a KeyboardInterrupt is the answer to terminate()."""
    if isinstance(outcome, Raised):
        if stopping and isinstance(outcome.error, KeyboardInterrupt):
            return OutcomeKind.TERMINATED, None
        return OutcomeKind.RAISED, _pack_error(pickling, outcome.error, name)
    try:
        return OutcomeKind.RETURNED, pickling.dumps(outcome.value, f"the value of {name}")
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # the user's __reduce__ may raise anything, SystemExit included
        return OutcomeKind.RAISED, _pack_error(pickling, error, name)


def _pack_error(pickling: Pickling, error: BaseException, name: str) -> bytes:
    kind = type(error)
    trace = "".join(traceback.format_exception(kind, error, error.__traceback__))
    pickled = _pickled(pickling, Travelling(error), name)
    if pickled is None:  # then for one of its causes, parts or attributes, perhaps
        pickled = _pickled(
            pickling, _lightened(pickling, error, lambda part: _spare(pickling, part, name)), name
        )
    return encoded(Raising(_name_of(error), _text_of(error), cut(trace, TEXT_MAX, TEXT_MAX // 2), pickled))


def _lightened(
    pickling: Pickling, error: BaseException, spare: Callable[[BaseException], BaseException]
) -> Travelling:
    """Without what cannot be pickled of it."""
    return Travelling(error, spare, fit=lambda part: _pickled(pickling, part, "a task") is not None)


def _pickled(pickling: Pickling, error: Any, name: str) -> list[bytes] | None:
    try:
        payload = pickling.dumps(error, f"the exception of {name}")
        return [bytes(buffer) for buffer in buffers_of(payload)]
    except KeyboardInterrupt:
        raise
    except BaseException:  # any user's __reduce__ may fail in any way; its words still travel
        return None


def _spare(pickling: Pickling, error: BaseException, name: str) -> BaseException:
    """What travels for a cause or a part of a group: itself, if it can but for others that it holds."""
    words = RemoteError(f"{_name_of(error)}: {_text_of(error)} (it cannot be pickled)", _name_of(error))
    alone = _lightened(pickling, error, lambda _: words)
    return words if _pickled(pickling, alone, name) is None else error


def _name_of(error: BaseException) -> str:
    return cut(f"{type(error).__module__}.{type(error).__qualname__}", NAME_MAX)


def _text_of(error: BaseException) -> str:
    try:
        return cut(str(error), TEXT_MAX)
    except Exception as second:  # a user's __str__ that fails must not hide the first error
        return f"<its __str__ raised {type(second).__name__}>"


def trace_of(error: BaseException) -> str:
    """Where a task raised this, as text. What was lost, refused or ended has raised nothing."""
    if error.__cause__ is None and isinstance(error, DispycosError):
        return ""
    return "".join(traceback.format_exception(error.__cause__ or error)).strip()


def unpack_outcome(pickling: Pickling, end: Record) -> Any:
    """The value; raises what the task raised, or TaskTerminated, TaskLost, TaskRefused, RemoteError."""
    kind, name, where = end.outcome, end.function, end.location
    if kind == OutcomeKind.RETURNED:
        return _load_value(pickling, end.payload, name)
    if kind == OutcomeKind.RAISED:
        error = _load_error(pickling, end.payload, name)
        add_note(error, f"in the task {name}{f' on the server {where}' if where else ''}")
        raise error
    if kind in (OutcomeKind.TERMINATED, OutcomeKind.CANCELLED):
        if end.payload is not None:
            raise TaskTimeout(end.text)
        when = "" if end.started else " before it started"
        raise TaskTerminated(end.text or f"{name} was terminated{when}")
    if kind in (OutcomeKind.LOST, 0):  # 0: it ended before anybody here asked, so nobody knows how
        raise TaskLost(end.text or f"{name} was lost", end.started)
    if (failed := failed_one(end)) is not None:
        raise ArgumentFailed(end.text) from _error_of(pickling, failed)
    raise TaskRefused(end.text or f"{name} cannot be run")


def _error_of(pickling: Pickling, failed: Record) -> BaseException | None:
    """As those get it who await that one. Raises MissingCode."""
    try:
        unpack_outcome(pickling, failed)
    except MissingCode:
        raise
    except BaseException as error:  # the user's own, of whatever kind
        return error
    return None


def _load_value(pickling: Pickling, payload: Payload, name: str) -> Any:
    try:
        return pickling.loads(payload)
    except (MissingCode, KeyboardInterrupt):
        raise
    except BaseException as error:  # the user's __setstate__ may raise anything, SystemExit included
        raise RemoteError(
            f"{name} returned a value that cannot be rebuilt here: {type(error).__name__}: {error}",
            type(error).__qualname__,
        ) from error


def _load_error(pickling: Pickling, payload: Payload, name: str) -> BaseException:
    raising = raising_of(payload)
    error: BaseException | None = None
    why = ""
    if raising.pickled is not None:
        try:
            error = _rebuilt(pickling, [*raising.pickled])
        except Exception as failure:
            why = f" (it cannot be rebuilt here: {type(failure).__name__}: {failure})"
    if not isinstance(error, Exception) or isinstance(error, StopIteration):
        # What ends a loop or an asyncio.Task, and a StopIteration, which no future takes: whoever waits would wait for ever.
        text = f": {raising.text}{why}" if raising.text or why else ""
        error = RemoteError(f"{name} raised {raising.type_name}{text}", raising.type_name)
    _attach(error, RemoteTraceback(_FRAME.sub(_with_its_line, raising.trace)))
    return error


_FRAME = re.compile(r'^([ |]*)File "(.+)", line (\d+)(?:, in .+)?\n(?!\1  )', re.MULTILINE)


def _with_its_line(frame: re.Match[str]) -> str:
    """Of a function that travelled by value a server has no text; here it is at hand."""
    margin, file, number = frame.groups()
    line = linecache.getline(file, int(number)).strip()
    return f"{frame[0]}{margin}  {line}\n" if line else frame[0]


def _rebuilt(pickling: Pickling, buffers: list[Buffer]) -> Any:
    try:
        return pickling.loads(buffers if len(buffers) > 1 else buffers[0])
    except Exception:  # edge of user code, as above
        stream, *others = buffers
        error = ErrorRebuilder(io.BytesIO(stream), buffers=map(bytearray, others)).load()
        if not isinstance(error, Unfound):
            return error
        raise


def _attach(error: BaseException, trace: RemoteTraceback) -> None:
    """Under its causes, since it tells of all of them. Not by assignment: exceptions may be frozen dataclasses."""
    root, seen = error, {id(error)}
    while (cause := root.__cause__) is not None and id(cause) not in seen:
        if isinstance(cause, RemoteTraceback):  # of another way before: the new one tells of it, too
            break
        root = cause
        seen.add(id(root))
    object.__setattr__(root, "__cause__", trace)


# --- values whose code may have to be fetched first


async def open_value(payloads: Payloads, envelope: Envelope) -> Outcome:
    """Of a message: what it says, or what its unpickling raised."""
    code = envelope.message.code
    if payloads.is_behind(code):
        await payloads.catch_up(code)
    return await with_code(payloads, lambda: _opened(payloads, envelope.payload))


def _opened(payloads: Payloads, payload: Payload) -> Outcome:
    try:
        return Returned(payloads.loads(payload))
    except MissingCode:
        raise
    except Exception as error:  # the user's own __setstate__ or __init__ may raise anything
        return Raised(error)


async def with_code(payloads: Payloads, unpickle: Callable[[], T]) -> T:
    """What this gives, again and again until the code that it misses is there."""
    while True:
        try:
            return unpickle()
        except MissingCode as missing:
            await payloads.fetch(missing)
