"""How an outcome becomes bytes and back: a value, or an exception with its traceback; what cannot be rebuilt keeps its words."""

from __future__ import annotations

import traceback
from typing import Any, NamedTuple, Protocol

import msgspec

from dispycos.errors import RemoteError, RemoteTraceback, TaskLost, TaskRefused, TaskTerminated
from dispycos.protocol.envelope import Buffer, Payload, buffers_of
from dispycos.protocol.status import OutcomeKind
from dispycos.protocol.texts import NAME_MAX, cut

from ..shipping.words import MissingCode
from .ends import Outcome, Raised

TEXT_MAX = 64 * 1024  # characters of an error's text, and of its traceback


class Pickling(Protocol):
    def dumps(self, value: Any, what: str) -> Payload: ...
    def loads(self, payload: Payload) -> Any: ...


class Raising(NamedTuple):
    """An exception on its way: its words for the case that it cannot be rebuilt, and itself."""

    type_name: str
    text: str
    trace: str
    pickled: list[bytes] | None  # the stream, and buffers outside of it


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Raising)


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
    pickled: list[bytes] | None
    try:
        payload = pickling.dumps(error, f"the exception of {name}")
        pickled = [bytes(buffer) for buffer in buffers_of(payload)]
    except KeyboardInterrupt:
        raise
    except BaseException:  # any user's __reduce__ may fail in any way; the words below still travel
        pickled = None
    return _encoder.encode(
        Raising(
            cut(f"{kind.__module__}.{kind.__qualname__}", NAME_MAX),
            _text_of(error),
            cut(trace, TEXT_MAX, TEXT_MAX // 2),
            pickled,
        )
    )


def _text_of(error: BaseException) -> str:
    try:
        return cut(str(error), TEXT_MAX)
    except Exception as second:  # a user's __str__ that fails must not hide the first error
        return f"<its __str__ raised {type(second).__name__}>"


def unpack_outcome(
    pickling: Pickling, kind: int, text: str, started: bool, payload: Payload, name: str
) -> Any:
    """The value; raises what the task raised, or TaskTerminated, TaskLost, TaskRefused, RemoteError."""
    if kind == OutcomeKind.RETURNED:
        return _load_value(pickling, payload, name)
    if kind == OutcomeKind.RAISED:
        raise _load_error(pickling, payload, name)
    if kind in (OutcomeKind.TERMINATED, OutcomeKind.CANCELLED):
        raise TaskTerminated(text or f"{name} was terminated{'' if started else ' before it started'}")
    if kind in (OutcomeKind.LOST, 0):  # 0: it ended before anybody here asked, so nobody knows how
        raise TaskLost(text or f"{name} was lost", started)
    raise TaskRefused(text or f"{name} cannot be run")


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
    raising = _decoder.decode(b"" if payload is None or isinstance(payload, list) else payload)
    error: BaseException | None = None
    why = ""
    if raising.pickled is not None:
        try:
            buffers: list[Buffer] = [*raising.pickled]
            error = pickling.loads(buffers if len(buffers) > 1 else buffers[0])
        except Exception as failure:
            why = f" (it cannot be rebuilt here: {type(failure).__name__}: {failure})"
    if not isinstance(error, Exception) or isinstance(error, StopIteration):
        # What ends a loop or an asyncio.Task, and a StopIteration, which no future takes: whoever waits would wait for ever.
        error = RemoteError(f"{name} raised {raising.type_name}: {raising.text}{why}", raising.type_name)
    error.__cause__ = RemoteTraceback(raising.trace)
    return error
