"""What a client says to people: its servers' output, warnings, and errors that nobody awaited."""

from __future__ import annotations

import re
import traceback
from collections.abc import Sequence

from ..tasks.logs import MARK, decode_record, handle_record
from ..tasks.record import Record
from ..tasks.results import Pickling, unpack_outcome
from ..tasks.streams import Stream, say

UNREAD_TOLD = 10  # tracebacks that are printed at close()

_RECORD = re.compile(f"{MARK}([^\n{MARK}]*)\n?")
_LINE_END = re.compile("\r\n|\n|\r")


def print_output(stream: Stream, server: str, text: str) -> None:
    """What a server wrote, with its name before each line."""
    lines = _LINE_END.split(text)
    if len(lines) > 1 and not lines[-1]:
        lines.pop()
    stream.write("".join(f"[{server}] {line}\n" for line in lines))


def print_errors(stream: Stream, server: str, text: str) -> None:
    """What a server wrote to its standard error: lines for people, and log records for this program's handlers."""
    if MARK not in text:
        print_output(stream, server, text)
        return
    for number, part in enumerate(_RECORD.split(text)):
        is_record = number % 2 == 1  # the pattern's group
        words: str | None = part
        if is_record and (record := decode_record(part, server)) is not None:
            try:
                words = handle_record(record)
            except Exception:  # the handlers are the program's own
                words = f"{record.levelname} {record.name}: {record.msg}"
        if words or (is_record and words is not None):
            print_output(stream, server, words)


def tell_unread(stream: Stream, payloads: Pickling, unread: Sequence[Record]) -> None:
    """Errors of tasks that nobody awaited: they must not go unheard."""
    for record in unread[:UNREAD_TOLD]:
        try:
            unpack_outcome(payloads, record)
        except BaseException as error:  # what the user's task raised, of whatever kind
            trace = "".join(traceback.format_exception(error.__cause__ or error)).strip()
            place = f"{record.function} at {record.location}"
            print_output(stream, place, f"nobody awaited this error:\n{trace}")
    if len(unread) > UNREAD_TOLD:
        say(f"{len(unread) - UNREAD_TOLD} more tasks raised, and nobody awaited them", "warning")
