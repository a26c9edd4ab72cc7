"""The loop on which the clients of Executors run, in a thread of its own: made when it is first wanted, ended with the program."""

from __future__ import annotations

import asyncio
import os
import threading

_loops: dict[int, asyncio.AbstractEventLoop] = {}  # by process: a forked child has no thread of its parent's


def background_loop() -> asyncio.AbstractEventLoop:
    """The same for all threads of this process."""
    with _lock:
        loop = _loops.get(os.getpid())
        if loop is None:
            loop = _loops[os.getpid()] = asyncio.new_event_loop()
            thread = threading.Thread(target=_run, args=(loop,), name="dispycos", daemon=True)
            thread.start()
            threading._register_atexit(_end, loop, thread)  # type: ignore[attr-defined]  # as concurrent.futures does
        return loop


def _run(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


def _end(loop: asyncio.AbstractEventLoop, thread: threading.Thread) -> None:
    if _loops.get(os.getpid()) is loop:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


_lock = threading.Lock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_lock._at_fork_reinit)  # type: ignore[attr-defined]  # as threading does
