"""What a client says to people: its servers' output, warnings, and errors that nobody awaited."""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Sequence

from dispycos.protocol.messages import Output

from .host.results import Pickling, unpack_outcome
from .ledger import Record

log = logging.getLogger("dispycos")

UNREAD_TOLD = 10  # tracebacks that are printed at close()


def say(text: str, level: str = "info") -> None:
    """Warnings go to the terminal, the rest to the log."""
    getattr(log, level)(text)


def print_output(output: Output) -> None:
    """What a server wrote, with its name before each line."""
    stream = sys.stdout if output.stream == 1 else sys.stderr
    lines = output.text.splitlines() or [""]
    stream.write("".join(f"[{output.server}] {line}\n" for line in lines))
    stream.flush()


def tell_unread(parcels: Pickling, unread: Sequence[Record]) -> None:
    """Errors of tasks that nobody awaited: they must not go unheard."""
    for record in unread[:UNREAD_TOLD]:
        try:
            unpack_outcome(parcels, record.outcome, record.text, True, record.payload, record.function)
        except BaseException as error:  # what the user's task raised, of whatever kind
            trace = "".join(traceback.format_exception(error.__cause__ or error)).strip()
            place = f"{record.function} at {record.location}"
            print_output(Output(place, 2, f"nobody awaited this error:\n{trace}"))
    if len(unread) > UNREAD_TOLD:
        say(f"{len(unread) - UNREAD_TOLD} more tasks raised, and nobody awaited them", "warning")
