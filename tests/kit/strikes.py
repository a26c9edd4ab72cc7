"""Signals where they hurt: at a chosen bytecode of the runtime; and a runtime that would show it."""

from __future__ import annotations

import signal
import sys
import threading
from collections import deque
from types import FrameType, ModuleType
from typing import Any

from dispycos.actors.tasks.running import interrupts as interrupts_module
from dispycos.actors.tasks.running.interrupts import Interrupts


class FakeRuntime:
    """What an exception at any bytecode would break; every entry is shielded."""

    def __init__(self, interrupts: Interrupts) -> None:
        self.interrupts = interrupts
        self.lock = threading.Lock()
        self.sent = self.booked = 0
        self.queue: deque[int] = deque(maxlen=64)

    def send(self) -> None:
        with self.interrupts.shielded, self.lock:
            self.sent += 1
            self.queue.append(self.sent)
            self.booked += 1

    def check(self) -> None:
        assert not self.lock.locked()
        assert self.sent == self.booked
        assert not self.queue or self.queue[-1] == self.sent


class OpcodeSignal:
    """A trace function that sends one signal, with a request, at the n-th bytecode of those modules or FakeRuntime.

    Without modules: of all that are dispycos's own.
    """

    def __init__(self, interrupts: Interrupts, position: int, *modules: ModuleType) -> None:
        self.interrupts = interrupts
        self.position = position
        self.modules = {module.__name__ for module in (interrupts_module, *modules)} if modules else None
        self.count = 0

    def _is_looked_at(self, name: str) -> bool:
        return name.startswith("dispycos.") if self.modules is None else name in self.modules

    def __call__(self, frame: FrameType, event: str, _: Any) -> Any:
        runtime = self._is_looked_at(frame.f_globals.get("__name__", ""))
        if not runtime and frame.f_code is not FakeRuntime.send.__code__:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            self.count += 1
            if self.count == self.position:
                self.strike(frame)
        return self

    def strike(self, frame: FrameType) -> None:
        interrupts = self.interrupts
        sys.settrace(None)
        interrupts._kicked = True  # the signal is ours: outside of a step it is void
        if interrupts.running:
            interrupts._asks[interrupts.running] = KeyboardInterrupt
        interrupts._on_signal(signal.SIGINT, frame)
