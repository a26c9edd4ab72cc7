"""Why a task has no value, in words that travel: what it raised, or which task failed whose value it needs.

Nothing of the user's is unpickled here, nor does anything of it run: who counts failures and passes them on needs none of it.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec

from dispycos.protocol.envelope import Buffer, Payload, buffers_of
from dispycos.protocol.status import OutcomeKind
from dispycos.protocol.texts import cut

from .record import Record

CHAIN_MAX: Final = 10  # tasks of a chain that are named
WHY_MAX: Final = 200  # characters
HOW: Final = {
    OutcomeKind.TERMINATED: "was terminated",
    OutcomeKind.CANCELLED: "was terminated before it started",
    OutcomeKind.LOST: "was lost",
    OutcomeKind.REFUSED: "was refused",
}


class Raising(NamedTuple):
    """An exception on its way: its words for the case that it cannot be rebuilt, and itself."""

    type_name: str
    text: str
    trace: str
    pickled: list[bytes] | None  # the stream, and buffers outside of it


_encoder = msgspec.msgpack.Encoder()
_raisings = msgspec.msgpack.Decoder(Raising)


def encoded(raising: Raising) -> bytes:
    """The payload of its Outcome."""
    return _encoder.encode(raising)


def raising_of(payload: Payload) -> Raising:
    """What an Outcome says of what its task raised. Nothing of the user's runs."""
    return _raisings.decode(b"" if payload is None or isinstance(payload, list) else payload)


class Failing(NamedTuple):
    """Which task failed, and by whom others wait for it: the payload of their outcome, before that of its own."""

    number: int
    name: str
    kind: int
    text: str
    started: bool
    chain: list[str]  # it, those that waited for its value, ...
    left_out: int  # ... of which so many are not named


_failings = msgspec.msgpack.Decoder(Failing)


def failing_of(outcome: int, payload: Payload) -> Failing | None:
    """What is said of the task whose value did not come; None: this one ended for another reason."""
    if outcome != OutcomeKind.REFUSED or not payload:
        return None
    return _failings.decode(buffers_of(payload)[0])


def passed_on(name: str, needed: Record) -> tuple[str, Payload]:
    """Text and payload of how a task of this name ends, since that one, whose value it needs, gave none."""
    failing, cause = failing_of(needed.outcome, needed.payload), buffers_of(needed.payload)
    if failing is None:
        number, failed = needed.task.number, needed.function
        failing = Failing(number, failed, needed.outcome, needed.text, needed.started, [failed], 0)
    else:
        cause = cause[1:]
    chain, left_out = [*failing.chain, name], failing.left_out
    if len(chain) > CHAIN_MAX:
        del chain[CHAIN_MAX // 2]
        left_out += 1
    failing = failing._replace(chain=chain, left_out=left_out)
    names = list(chain)
    if left_out:
        names.insert(CHAIN_MAX // 2, f"... {left_out:,} more ...")
    text = f"{name} did not run: {_why(failing, cause)} ({' -> '.join(names)})"
    return text, [_encoder.encode(failing), *cause]


def _why(failing: Failing, cause: list[Buffer]) -> str:
    if failing.kind in (OutcomeKind.TERMINATED, OutcomeKind.CANCELLED) and cause:  # by its timeout
        return failing.text
    if failing.kind != OutcomeKind.RAISED:
        how = HOW.get(OutcomeKind(failing.kind), "has ended")
        said = failing.text if failing.kind in (OutcomeKind.LOST, OutcomeKind.REFUSED) else ""
        return f"{failing.name} {how}{f': {said}' if said else ''}"
    try:
        raising = raising_of(cause[0] if cause else None)
    except msgspec.DecodeError:  # as who awaits that one is told
        return f"{failing.name} raised an exception"
    text = cut(raising.text.partition("\n")[0], WHY_MAX)
    return f"{failing.name} raised {raising.type_name.removeprefix('builtins.')}: {text}"


def failed_one(end: Record) -> Record | None:
    """How the task ended whose value this one needed, if this one did not run for that."""
    failing = failing_of(end.outcome, end.payload)
    if failing is None:
        return None
    cause = buffers_of(end.payload)[1:]
    payload: Payload = cause if len(cause) > 1 else (cause[0] if cause else None)
    return Record(
        failing.name, started=failing.started, outcome=failing.kind, text=failing.text, payload=payload
    )


def words_of(record: Record) -> tuple[str, str, str]:
    """Of one that failed: the name of the error that its value raises, its text, and the trace."""
    if failing_of(record.outcome, record.payload) is not None:
        return "ArgumentFailed", record.text, ""
    if record.outcome != OutcomeKind.RAISED:
        return ("TaskLost" if record.outcome == OutcomeKind.LOST else "TaskRefused"), record.text, ""
    try:
        raising = raising_of(record.payload)
    except msgspec.DecodeError:  # as who awaits it is told
        return "Exception", "its words cannot be read", ""
    return raising.type_name.removeprefix("builtins."), raising.text, raising.trace
