"""Event loops of the user's: what a plain function finds as the current one, and what waits on none but its task's.

Python up to 3.13 makes a current loop for who asks for it and none is set. In one process, one after another, plain functions
would find what those before them left: no loop, and an error for it, after asyncio.run(); a closed one after `loop.close()`.
From Python 3.14 on there is none for anybody who sets none.
"""

from __future__ import annotations

import asyncio
import sys
import threading

from dispycos.runtime import Runtime

if sys.version_info < (3, 14):

    class FreshLoops(asyncio.DefaultEventLoopPolicy):
        def get_event_loop(self) -> asyncio.AbstractEventLoop:
            """That of this thread; a new one, as in a new program, where an earlier task has used it up."""
            try:
                loop = super().get_event_loop()
            except RuntimeError:
                if threading.current_thread() is not threading.main_thread():
                    raise
            else:
                if not loop.is_closed():
                    return loop
            loop = self.new_event_loop()
            self.set_event_loop(loop)
            return loop


def use_fresh_loops() -> None:
    if sys.version_info < (3, 14):
        asyncio.set_event_loop_policy(FreshLoops())


def must_run_on(runtime: Runtime) -> None:
    """Raise RuntimeError where a loop of the user's runs: what is to be waited for comes by the runtime's, which it holds up."""
    if asyncio.get_running_loop() is runtime.loop:
        return
    with runtime.lock:  # in a forked child the words are others
        raise RuntimeError(
            "messages, replies and ends of tasks cannot be waited for in another event loop than the task's own: instead of "
            "asyncio.run(...) in it make the function an `async def`, and await there"
        )
