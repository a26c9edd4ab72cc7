"""The current event loop of a server's plain functions, which Python up to 3.13 makes for who asks for it and none is set.

In one process, one after another, they would find what those before them left: no loop, and an error for it, after asyncio.run();
a closed one after `loop.close()`. From Python 3.14 on there is none for anybody who sets none.
"""

from __future__ import annotations

import asyncio
import sys
import threading

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
