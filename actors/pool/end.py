"""How Executors end with their program: what was submitted is waited for, and by Ctrl-C it is ended."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import weakref

from dispycos.notices import PATIENCE_S, next_pause

from ..client.loop_thread import wait_until
from ..tasks.streams import say
from .calls import AFTER_EXIT, Calls

_living: weakref.WeakSet[Calls] = weakref.WeakSet()


def end_with_program(calls: Calls) -> None:
    if not _living:
        try:
            threading._register_atexit(_end_all)  # type: ignore[attr-defined]  # the loop's end comes later, by atexit
        except RuntimeError:  # the main thread has ended; another one goes on
            raise RuntimeError(AFTER_EXIT) from None
    _living.add(calls)


def _leave_to_parent() -> None:
    """In a forked child, which has none of the threads: its end waits for nothing of its parent's."""
    for calls in list(_living):
        calls.leave_to_parent()
    _living.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_parent)


def _end_all() -> None:
    """The program ends: what was submitted is waited for, as with the standard library's executors; after Ctrl-C it is ended."""
    living = list(_living)
    for calls in living:
        calls.shut(text=AFTER_EXIT)
    is_interrupted = _ends_by_interrupt()
    while True:
        if is_interrupted:
            for calls in living:
                calls.terminate(kill=False)
        try:
            for calls in living:
                wait_for_end(calls, "warning")
            return
        except KeyboardInterrupt:
            if is_interrupted:
                return  # once more: nodes see that this process dies
            is_interrupted = True
            _end_by_interrupt()


def _ends_by_interrupt() -> bool:
    """At a prompt what was last raised is an old story."""
    return isinstance(getattr(sys, "last_value", None), KeyboardInterrupt) and not hasattr(sys, "ps1")


def _end_by_interrupt() -> None:
    """The program's exit code tells of it, as of any Ctrl-C, though Python drops one that comes so late.

    Python kills itself by SIGINT, when all else is done, if the text of code that it ran last ended by KeyboardInterrupt.
    """
    print("interrupted", file=sys.stderr, flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        exec("raise KeyboardInterrupt")


def wait_for_end(calls: Calls, level: str) -> None:
    """Of all of them; it is said what for, once there are servers: their start is told of by its client."""
    pause = PATIENCE_S
    while not wait_until(calls.ended.wait, pause):
        if calls.count_servers():
            say(calls.what_is_left(), level)
            pause = next_pause(pause)
