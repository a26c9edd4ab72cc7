"""Touches SIGINT: raises an exception inside the user's step that was asked for, and nowhere else.

Python runs a signal handler between any two bytecodes of the main thread, so a handler that simply raises
hits a lock just taken, a counter half moved, a `finally` half done. Three facts decide whether it may
raise, all read at that moment:

* **Which step runs.** Each stretch of user code between `begin()` and `end()` has a number that never comes
  again. A request names the number, so it is void when that step is over, however late its signal arrives.
* **The shield.** An entry of the runtime that a step calls counts `_depth` up and down. Above 0 nothing is
  raised; the exit that reaches 0 raises what came meanwhile. All code between the two, of whatever module,
  is covered.
* **The interrupted frame.** At depth 0 the frame must be the user's: between `begin()` and the first line
  of the user's code, in the shield and in `end` themselves, and in a coroutine of the runtime that the
  user awaits, the innermost frame is the runtime's. asyncio and logging are spared likewise: their tables
  and locks are shared with the other tasks. A frame of another module of the standard library belongs to
  whoever called it. A loop that a plain function runs (asyncio.run) is asyncio too: there a callback that was
  just taken from the queue would be lost. Where it waits nothing is, and in its callbacks the frame is the user's.

A handler that the user has put in our place gets the signal once, as of a Ctrl-C, and what it does is the user's.

What could not be raised stays asked for. It is raised when the next shield ends, by `nudge()` (the relief thread
calls it every 20 ms while a step runs), or is given back by `end()`, and then thrown in where the function
is suspended.

The handler takes no lock and `_asks` is a dict whose single operations are atomic: whoever pops a request
owns it, so a request is delivered once or reported as not delivered. One instance per loop, made and used in
its thread, mostly the main one; only `request` and `nudge` may be called from other threads, and a shield does
nothing there.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from threading import get_ident
from time import monotonic_ns
from types import FrameType, FunctionType
from typing import Any, Protocol

from ..forks import leave_child
from ..page import SINCE, STEP

if sys.version_info < (3, 12):  # there the public one looks for an enum first, for 2 us, with each task
    from _signal import getsignal  # type: ignore[import-not-found]
else:
    from signal import getsignal

SIGINT = int(signal.SIGINT)

PROTECTED_PACKAGES = frozenset({"dispycos", "asyncio", "logging"})
# Of a loop that waits; of one that waits in C, as uvloop's does.
WAITING_MODULES = ("selectors", "asyncio.runners")
REQUEST_ATTEMPTS_MAX = 16

_STDLIB = os.path.dirname(os.__file__) + os.sep


def enter_user_code(function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Call a user's function; the one frame here that may be interrupted, so that a C function can be."""
    return function(*args, **kwargs)


class Owner(Protocol):
    """Whose steps they are; in a server with a page it is known there by its position."""

    position: int


class Interrupts:
    """The running step of this process, its shield, and the SIGINT handler while installed.

    A SIGINT that nobody asked for while no step runs is a Ctrl-C at a client, and for the handler that was there before.
    Most of them raise, and what the loop had just taken from its queue would be lost: so with the `loop` that this process runs
    they are called in a callback of their own, unless the user's code was interrupted; and not at all if `is_ending()`.
    Any signal wakes that loop: a handler of another library, as ipykernel's, may call_soon() and count on that.
    `page`: the words of a server's page, where its agent reads which step runs.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop | None = None,
        is_ending: Callable[[], bool] = lambda: False,
        page: memoryview | None = None,
    ) -> None:
        self.steps = 0  # how many have begun, and so the number of the latest
        self.running = 0  # its number while it runs, else 0
        self.on_begin: Callable[[], None] | None = None  # called once by the next begin(), then forgotten
        self.on_end: Callable[[bool], None] | None = (
            None  # called once by the next end(), with what that is told, then forgotten
        )
        self.shielded = Shield(self)
        self._page = page
        self._loop = loop
        self._is_ending = is_ending
        self._main = get_ident()  # the thread whose loop it is
        self._owner: object = None
        self._depth = 0
        self._asks: dict[
            int, type[BaseException]
        ] = {}  # step number -> what to raise in it: KeyboardInterrupt
        self._raised = 0  # the step in which that was raised last
        self._interrupted = 0  # the step that had a Ctrl-C last
        self._rearmed = 0  # the step that was armed again after the exception was swallowed
        self._asking = threading.Lock()  # between requesting threads; the handler never takes it
        self._kicked = False  # a signal of ours is under way
        self._installed = False
        self._wake: tuple[socket.socket, socket.socket] | None = (
            None  # what the loop reads; what signals write to
        )
        self._previous: Any = None
        self._previous_hook: Callable[[sys.UnraisableHookArgs], Any] = sys.unraisablehook
        self._own_handler = _Handler(self._on_signal)
        self._own_hook: Callable[[sys.UnraisableHookArgs], Any] = self._on_unraisable

    # -- the handler's place

    def install(self) -> None:
        """Take over SIGINT and sys.unraisablehook; main thread only."""
        if self._installed:
            raise RuntimeError("interrupts are installed already")
        self._previous = signal.signal(signal.SIGINT, self._own_handler)
        self._previous_hook, sys.unraisablehook = sys.unraisablehook, self._own_hook
        self._kicked = False
        self._installed = True
        self._wake_loop()

    def uninstall(self, *, loop_ends: bool = False) -> None:
        """Give both back, unless somebody else has replaced them since; main thread only.

        With `loop_ends` not to the asyncio.Runner of that loop: the next one takes over from the default handler alone.
        """
        if not self._installed:
            return
        if self.running:
            raise RuntimeError("a step is still running")
        with self._asking:
            self._installed = False
        # A signal of ours that is under way is handled before that: signal.signal() looks for it first.
        if self._stands():
            is_runners = isinstance(_owner_of(self._previous), asyncio.Runner)
            previous = signal.default_int_handler if loop_ends and is_runners else self._previous
            signal.signal(signal.SIGINT, signal.SIG_DFL if previous is None else previous)
        if sys.unraisablehook is self._own_hook:
            sys.unraisablehook = self._previous_hook
        self._let_loop_sleep()

    def _wake_loop(self) -> None:
        if self._loop is None:
            return
        if (
            there := signal.set_wakeup_fd(-1)
        ) != -1:  # asyncio's own, since somebody has used add_signal_handler
            signal.set_wakeup_fd(there)
            return
        ours, signals = self._wake = socket.socketpair()
        ours.setblocking(False)
        signals.setblocking(False)
        signal.set_wakeup_fd(signals.fileno(), warn_on_full_buffer=False)
        self._loop.add_reader(ours, _empty, ours)

    def _let_loop_sleep(self) -> None:
        if self._wake is None:
            return
        (ours, signals), self._wake = self._wake, None
        if (there := signal.set_wakeup_fd(-1)) != signals.fileno():
            signal.set_wakeup_fd(there)
        if self._loop is not None and not self._loop.is_closed():
            self._loop.remove_reader(ours)
        ours.close()
        signals.close()

    def reinstall(self, *, over_users: bool) -> None:
        """A task has ended: SIGINT is ours again. A loop of its own that listened to SIGINT leaves Python's default there, which
        would raise in the midst of the runtime. `over_users`: a handler of the user's does not outlast its task either.
        """
        if not self._installed or self._stands():
            return
        if over_users or getsignal(SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, self._own_handler)
            self._kicked = False

    def _stands(self) -> bool:
        return getsignal(SIGINT) is self._own_handler

    def in_child(self) -> None:
        """In a forked child: signals are handled as in any program, and the step that forked it ends it."""
        self._page = None  # the child does not have that memory
        self.on_begin = None
        self.on_end = leave_child if self.running else None
        self._asks.clear()
        self._depth = 0
        if self._installed:
            self._installed = False
            if self._wake is not None:
                signal.set_wakeup_fd(-1)  # it wakes the parent
            if self._stands():
                signal.signal(signal.SIGINT, signal.default_int_handler)
            if sys.unraisablehook is self._own_hook:
                sys.unraisablehook = self._previous_hook

    # -- steps

    def begin(self, owner: Owner) -> None:
        """User code of `owner` runs from here on."""
        if self.running:
            raise RuntimeError("a step inside a step")
        self._owner = owner
        if (page := self._page) is not None:
            page[SINCE] = monotonic_ns()
            page[STEP] = owner.position
        self.running = self.steps = self.steps + 1
        if (ring := self.on_begin) is not None:  # another thread may take it back at any moment
            self.on_begin = None
            ring()

    def end(self, goes_on: bool = False) -> type[BaseException] | None:
        """The step is over; returns what was asked for and came too late to be raised in it.

        `goes_on`: the function waits for its next step. Else it has returned, or what it raised is being handled.
        """
        number = self.running
        self.running = 0
        self._owner = None
        if (page := self._page) is not None:
            page[STEP] = 0
        if (tell := self.on_end) is not None:  # another thread may take it back at any moment
            self.on_end = None
            tell(goes_on)
        depth, self._depth = self._depth, 0
        assert depth == 0, "a shield was held beyond the end of a step"
        return self._asks.pop(number, None) if self._asks else None

    # -- requests, from any thread

    def is_running(self, owner: object) -> bool:
        return self.running != 0 and self._owner is owner

    def request(self, owner: object) -> bool:
        """Raise KeyboardInterrupt in the step of `owner` that runs.

        True: it is raised there, or given back by that step's end(). False: no such step runs.
        """
        with self._asking:
            for _ in range(REQUEST_ATTEMPTS_MAX):  # a generator may begin step upon step meanwhile
                number = self.running
                if not self._installed or not number:
                    return False
                mine = self._owner is owner
                if self.running != number:
                    continue
                if not mine:
                    return False
                if self._ask(number):
                    return True
            return False

    def nudge(self) -> None:
        """Try again to raise what is asked for in the running step: it may have left the runtime's code.

        A signal of the last look that was not handled meanwhile is repeated: it came between the last bytecode before
        a system call, a sleep for example, and that call, which it did not wake.
        """
        if self._asks and self._depth == 0:
            with self._asking:
                if self._installed and self.running in self._asks and self._stands():
                    self._kicked = False
                    self._kick()

    def _ask(self, number: int) -> bool:
        self._asks[number] = KeyboardInterrupt
        if self.running != number:  # it ended; unless its end() took the request, withdraw it
            return self._asks.pop(number, None) is None
        self._kick()
        return True

    def _kick(self) -> None:
        # To the main thread itself: it wakes from sleep, select and C code that looks for signals. When that
        # thread is the caller it is the runtime under its shield, whose end raises.
        if not self._kicked and get_ident() != self._main:
            self._kicked = True  # first: the handler tells a signal of ours from a Ctrl-C by it
            signal.pthread_kill(self._main, signal.SIGINT)

    # -- in the main thread, between any two bytecodes

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:
        ours, self._kicked = self._kicked, False
        number = self.running
        if not ours:
            if not number:
                self._on_nobodys(signum, frame)
                return
            self._asks.setdefault(number, KeyboardInterrupt)  # Ctrl-C is for the step that keeps the program
            self._interrupted = number
        if number in self._asks and self._depth == 0 and is_users(frame):
            self._raise_asked()

    def _raise_asked(self) -> None:
        exception = self._asks.pop(self.running, None)
        if exception is not None:
            self._raised = self.running
            raise exception

    def was_ctrl_c(self) -> bool:
        """Whether the latest step had one."""
        return self.steps == self._interrupted

    def pass_on(self) -> None:
        """A Ctrl-C that a step had is the program's, too: as soon as the loop has its turn."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._pass_on_unless_ending, SIGINT, None)

    def _on_nobodys(self, signum: int, frame: FrameType | None) -> None:
        if self._loop is None or self._loop.is_closed() or is_users(frame):
            self._pass_on(signum, frame)
        else:
            self._loop.call_soon_threadsafe(self._pass_on_unless_ending, signum, frame)

    def _pass_on_unless_ending(self, signum: int, frame: FrameType | None) -> None:
        if not self._is_ending():
            self._pass_on(signum, frame)

    def _pass_on(self, signum: int, frame: FrameType | None) -> None:
        if callable(self._previous):
            self._previous(signum, frame)
        elif self._previous == signal.SIG_DFL:
            signal.signal(signum, signal.SIG_DFL)
            signal.raise_signal(signum)

    def _on_unraisable(self, unraisable: sys.UnraisableHookArgs) -> None:
        # Raised inside a __del__ or a weakref callback Python drops it. Once per step it is asked for again.
        swallowed = get_ident() == self._main and isinstance(unraisable.exc_value, KeyboardInterrupt)
        if swallowed and self.running and self.running == self._raised != self._rearmed:
            self._rearmed = self.running
            self._asks[self.running] = KeyboardInterrupt
        else:
            self._previous_hook(unraisable)


class _Handler(partial[None]):
    """Ours, equal to Python's own, since it does the same for users.

    trio looks whether the handler equals that one, and then puts one in its place that its loop can bear; what ours raises
    while that loop waits would leave it unusable. asyncio looks whether it *is* that one, and leaves ours, which
    raises in a coroutine that computes too.
    """

    def __eq__(self, other: object) -> bool:
        return other is self or other is signal.default_int_handler

    __hash__ = partial.__hash__


class Shield:
    """`with interrupts.shielded:` around the body of every runtime entry that a step may call, nested as deep as you like."""

    __slots__ = ("_interrupts",)

    def __init__(self, interrupts: Interrupts) -> None:
        self._interrupts = interrupts

    def __enter__(self) -> None:
        interrupts = self._interrupts
        if get_ident() == interrupts._main:
            interrupts._depth += 1

    def __exit__(self, *exc: object) -> None:
        interrupts = self._interrupts
        if get_ident() == interrupts._main:
            interrupts._depth -= 1
            if interrupts._asks and interrupts._depth == 0:
                interrupts._raise_asked()


def _empty(woken: socket.socket) -> None:
    """A KeyboardInterrupt that ends the loop's turn leaves this in its queue: in the next turn it may be there twice."""
    with suppress(BlockingIOError):
        woken.recv(4096)


def _owner_of(handler: Any) -> object:
    """Of a bound method, with arguments or without."""
    return getattr(getattr(handler, "func", handler), "__self__", None)


def is_users(frame: FrameType | None) -> bool:
    """Whether an exception raised in this frame lands in the user's code."""
    if frame is not None and frame.f_code is enter_user_code.__code__:
        # A C function, which has no frame. A Python function is about to begin or has returned: what it returned,
        # a coroutine perhaps, must not be lost.
        return not isinstance(frame.f_locals["function"], FunctionType)
    waits = frame is not None and frame.f_globals.get("__name__") in WAITING_MODULES
    while frame is not None:
        code = frame.f_code
        if code is enter_user_code.__code__:
            return True
        name = frame.f_globals.get("__name__")
        package = name.partition(".")[0] if isinstance(name, str) else ""
        if package in PROTECTED_PACKAGES and not (waits and package == "asyncio"):
            return False
        if not _is_standard_library(code.co_filename):
            return True
        frame = frame.f_back
    return False


def _is_standard_library(filename: str) -> bool:
    if filename.startswith("<frozen "):
        return True
    return filename.startswith(_STDLIB) and "-packages" + os.sep not in filename
