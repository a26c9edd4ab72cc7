"""The event loop of plain Python: one thread for the whole program, made when it is first wanted, ended with the program.

Callers' threads have no loop. They hand it coroutines and wait, and the main thread's wait ends by Ctrl-C.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import copy_context
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from dispycos.notices import PATIENCE_S

from ..tasks.current import ipython, running_loop
from ..tasks.ends import without_our_frames
from ..tasks.streams import say

log = logging.getLogger("dispycos")

END_S = 15.0  # the end of the program waits so long for clients to give their servers back
LOOK_S = 1.0  # the main thread looks so often whether a Ctrl-C has come that did not wake it

T = TypeVar("T")


class LoopThread:
    """An event loop in a thread of its own, for callers from any other thread.

    loop: for what runs in it; callers' threads use `call` and `call_soon`.
    """

    def __init__(self) -> None:
        self.loop: asyncio.AbstractEventLoop = asyncio.new_event_loop()
        self.before_end: list[Callable[[], None]] = []  # called when the program ends, while the loop runs
        self.has_ended: bool = False  # with the program; it has closed all clients then
        self.opened: Any = None  # the lease of the client that a notebook's cell opened last
        self._pid = os.getpid()
        self._calls: deque[Callable[[], object]] = deque()
        self._is_woken = False
        self._ended = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="dispycos-loop", daemon=True)
        self._thread.start()
        atexit.register(self.end)  # when other threads have ended, unless they are daemons

    def call(self, coroutine: Coroutine[Any, Any, T], what: str = "") -> T:
        """Run it there, in a copy of the caller's context; its value, or what it raises. `what` the caller called is for errors.

        Whatever ends the waiting, Ctrl-C for one, cancels the coroutine, and nothing else.

        Raises
        ------
        RuntimeError: a loop runs in the caller's thread, or this one has ended.
        """
        try:
            self.may_wait(what)
        except RuntimeError:
            coroutine.close()
            raise
        ended = threading.Lock()
        ended.acquire()
        tasks: list[asyncio.Task[T]] = []
        context = copy_context()

        def begin() -> None:
            task = self.loop.create_task(coroutine, context=context)
            task.add_done_callback(lambda _: ended.release())
            tasks.append(task)

        def cancel() -> None:
            if tasks:
                tasks[0].cancel()
            else:
                coroutine.close()

        try:
            self.call_soon(begin)
            self.wait(ended, None, what)
        except BaseException:
            self.call_soon(cancel)
            raise
        return tasks[0].result()

    def do(self, function: Callable[[], T], what: str) -> T:
        """Call it there, as call() runs a coroutine."""

        async def run() -> T:
            return function()

        return self.call(run(), what)

    def wait(self, ended: threading.Lock, timeout: float | None, what: str) -> bool:
        """Whether it was released in time. Not in silence, if it is the loop that does not go on."""

        def wait(seconds: float) -> bool:
            return ended.acquire(timeout=seconds)

        if timeout is not None and timeout <= PATIENCE_S:
            return wait_until(wait, timeout)
        if wait_until(wait, PATIENCE_S - 1):
            return True
        self.call_soon(int)  # which is called at once, if the loop turns
        if wait_until(wait, 1):
            return True
        if self._is_woken:
            frame = sys._current_frames().get(self._thread.ident or 0)
            place = f", at {frame.f_code.co_filename}:{frame.f_lineno}" if frame is not None else ""
            say(
                f"{what} waits for dispycos's own thread, which a function keeps until it returns{place}: a task of "
                f"Client(local=True), or a callback",
                "warning",
            )
        return wait_until(wait, None if timeout is None else timeout - PATIENCE_S)

    def call_soon(self, function: Callable[[], object]) -> None:
        """Have the loop call this, in the order of calls; many calls wake it once. From any thread."""
        self._calls.append(function)
        try:
            if not self._is_woken:
                self._is_woken = True
                self.loop.call_soon_threadsafe(self._run_calls)
        except KeyboardInterrupt:  # in here it must not lose the wake-up of all later calls
            self.loop.call_soon_threadsafe(self._run_calls)
            raise

    @property
    def is_here(self) -> bool:
        """Whether this is its thread. A plain function that is a task here sees no running loop."""
        return threading.get_ident() == self._thread.ident

    def report(self, what: str, error: BaseException) -> None:
        """That the user's own code in this thread has raised it: where nobody waits for that."""
        context = {"message": f"{what} raised {type(error).__name__}", "exception": without_our_frames(error)}
        self.loop.call_exception_handler(context)

    def may_wait(self, what: str = "") -> None:
        """Raise RuntimeError where the caller's thread cannot wait for this loop; `what` it called is named."""
        what = what or "a call that waits"
        self.must_be_elsewhere(what)
        here = running_loop()
        if here is not None and not is_cell():
            raise RuntimeError(
                f"{what} would stop the event loop that runs in this thread (as in an async def): use "
                f"`async with dispycos.Client(...)` and await here, or call it in a thread: `await asyncio.to_thread(...)`"
            )
        if os.getpid() != self._pid:
            raise _is_parents(what)
        if self.has_ended:
            raise RuntimeError(f"{what}: dispycos's loop has ended, as the program ends")

    def must_be_elsewhere(self, what: str) -> None:
        """Raise RuntimeError in its own thread, for which `what` was called would wait."""
        if self.is_here:
            raise RuntimeError(
                f"{what} would wait for ever: this is a callback, or a task of Client(local=True), on dispycos's own loop, which "
                f"has to go on meanwhile; hand over to another thread (queue.Queue), or use what the callback is given; a "
                f"task is an `async def` and awaits"
            )

    def end(self) -> None:
        """End it in good order: clients that were left open are told of, and give their servers back. For the program's end."""
        if os.getpid() != self._pid or not self._thread.is_alive():
            return
        for call in self.before_end:
            self.call_soon(call)
        self.call_soon(self._ended.set)
        try:
            self._thread.join(END_S)
        except KeyboardInterrupt:
            return  # nodes see that this process dies
        finally:
            self.has_ended = True
        if self._thread.is_alive():
            log.warning("dispycos's loop has not ended within %g s; the program ends without it", END_S)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self.loop) as runner:
            until_end = runner.get_loop().create_task(self._until_end())
            while not until_end.done():
                try:
                    self.loop.run_until_complete(until_end)
                except (KeyboardInterrupt, SystemExit) as error:
                    # Of a user's callback: the others need the loop.
                    self.report("a callback", error)

    async def _until_end(self) -> None:
        await self._ended.wait()

    def _run_calls(self) -> None:
        self._is_woken = False  # first: what is appended from now on wakes it again
        calls = self._calls
        try:
            for _ in range(len(calls)):
                calls.popleft()()
        finally:  # one that fails is the loop's to report; the others have their turn
            if calls and not self._is_woken:
                self._is_woken = True
                self.loop.call_soon(self._run_calls)


def wait_until(done: Callable[[float], bool], timeout: float | None = None) -> bool:
    """Wait by `done(seconds)`, which tells whether it is; False after `timeout` seconds. Ctrl-C ends it within a second.

    Python's own waits lose one that comes between its last look for signals and the system call: that is not woken. A thread may
    stand there for long on a busy machine, since it has just let another one have the interpreter.
    """
    until = None if timeout is None else time.monotonic() + timeout
    slice_s = LOOK_S if threading.current_thread() is threading.main_thread() else 3600.0
    while True:
        left = slice_s if until is None else until - time.monotonic()
        if done(max(0.0, min(left, slice_s))):
            return True
        if until is not None and left <= slice_s:
            return False


def take(queue: SimpleQueue[T], timeout: float | None = None) -> T:
    """The next of the queue, waited for as by wait_until(). Raises queue.Empty after `timeout` seconds."""
    taken: list[T] = []

    def done(seconds: float) -> bool:
        try:
            taken.append(queue.get(timeout=seconds))
        except Empty:
            return False
        return True

    if not wait_until(done, timeout):
        raise Empty
    return taken[0]


def is_cell() -> bool:
    """Whether this is a notebook's cell, or called by one: the kernel's loop runs in its thread, and stops for each plain cell."""
    kernel_loop = getattr(getattr(ipython(), "kernel", None), "io_loop", None)
    return kernel_loop is not None and getattr(kernel_loop, "asyncio_loop", None) is running_loop()


_making = threading.Lock()
_shared: LoopThread | None = None


def loop_thread() -> LoopThread:
    """The one of this program, made if there is none."""
    global _shared
    with _making:
        if _shared is None:
            _shared = LoopThread()
        return _shared


def thread_of(loop: asyncio.AbstractEventLoop) -> LoopThread:
    """That of this loop. Raises RuntimeError in a forked child."""
    thread = loop_thread()
    if thread.loop is not loop:
        raise _is_parents("this handle")
    return thread


def _is_parents(what: str) -> RuntimeError:
    return RuntimeError(
        f"{what}: this process ({os.getpid()}) was forked from the one that has the client; its handles cannot be used here: "
        f"make a Client in this process, or return values to the parent"
    )


def _forget_parents() -> None:
    """In a forked child: threads do not come along."""
    global _making, _shared
    _making, _shared = threading.Lock(), None


os.register_at_fork(after_in_child=_forget_parents)
