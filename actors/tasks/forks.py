"""A forked child of a task: with the step that forked it it ends, as its function said, and serves nobody."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from .ends import without_our_frames
from .stdio import flush_stdio

FAILED = 1
INTERRUPTED = 130


def leave_child(goes_on: bool) -> NoReturn:
    """Called at the end of that step, by Interrupts.end(), with what it raised as the exception that is handled.

    The loop beneath is the parent's: nothing is unwound. As with multiprocessing no atexit function is called.
    """
    status = FAILED
    try:
        status = _waits() if goes_on else _status_of(sys.exception())
        flush_stdio()
    finally:
        os._exit(status)


def _waits() -> int:
    text = "it waits in the event loop, which is its parent's"
    print(f"dispycos: the process {os.getpid()}, forked by a task, ends: {text}", file=sys.stderr)
    return FAILED


def _status_of(error: BaseException | None) -> int:
    """The exit status of an interpreter in which this was not caught; it is said on stderr as there."""
    if error is None or isinstance(error, StopIteration):  # a generator or coroutine that returned
        return 0
    if isinstance(error, SystemExit):
        if error.code is None or isinstance(error.code, int):
            return (error.code or 0) & 0xFF
        print(error.code, file=sys.stderr)
        return FAILED
    without_our_frames(error)
    sys.excepthook(type(error), error, error.__traceback__)
    return INTERRUPTED if isinstance(error, KeyboardInterrupt) else FAILED
